"""Who looks on while plans run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..graph.context import context
from ..plan.observe import Observer

_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """All runs inside are looked at by an observer."""
    before = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(before)


def set_observer(observer: Observer, looks: bool) -> None:
    """Has an observer look at all runs from here on, or look no more."""
    own = context()
    others = tuple(o for o in own.observers if o is not observer)
    own.observers = (*others, observer) if looks else others


def watching() -> tuple[Observer, ...]:
    return context().observers + _observers.get()


def is_observed() -> bool:
    """Whether somebody looks on at what runs now."""
    return bool(watching())
