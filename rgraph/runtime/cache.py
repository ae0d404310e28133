"""A bounded cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

MAX_ENTRIES = 32  # that are kept

_Key = TypeVar("_Key", bound=Hashable)
_Made = TypeVar("_Made")


class Cache(Generic[_Key, _Made]):
    """The latest values made for each key. Threads may share it; a value may be made twice."""

    def __init__(self) -> None:
        self._found: dict[_Key, _Made] = {}

    def get(self, key: _Key, make: Callable[[_Key], _Made]) -> _Made:
        """The value that `make(key)` returned when it was first needed."""
        found = self._found.get(key)
        if found is None:
            found = self._found.setdefault(key, make(key))
            for old in list(self._found)[:-MAX_ENTRIES]:
                self._found.pop(old, None)
        return found

    def discard(self, is_stale: Callable[[_Key], bool]) -> None:
        """Drop the values of stale keys."""
        for key in [k for k in list(self._found) if is_stale(k)]:
            self._found.pop(key, None)

    def all(self) -> list[_Made]:
        """All cached values."""
        return list(self._found.values())
