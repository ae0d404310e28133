"""The observers of running plans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..graph.context import context
from ..plan.observe import Observer

_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Attach an observer to all runs in a `with` block."""
    before = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(before)


def set_observer(observer: Observer, looks: bool) -> None:
    """Attach an observer to all runs from now on, or detach it."""
    own = context()
    others = tuple(o for o in own.observers if o is not observer)
    own.observers = (*others, observer) if looks else others


def watching() -> tuple[Observer, ...]:
    return context().observers + _observers.get()


def is_observed() -> bool:
    """Whether runs are observed now."""
    return bool(watching())
