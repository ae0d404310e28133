"""The latest of what was made for a key, kept to be used again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

MOST = 32  # that are kept

_Key = TypeVar("_Key", bound=Hashable)
_Made = TypeVar("_Made")


class Latest(Generic[_Key, _Made]):
    """The latest of what was made, by key. Threads may share it; they may make a thing twice."""

    def __init__(self) -> None:
        self._found: dict[_Key, _Made] = {}

    def get(self, key: _Key, make: Callable[[_Key], _Made]) -> _Made:
        """What `make(key)` gave when it was first asked for."""
        found = self._found.get(key)
        if found is None:
            found = self._found.setdefault(key, make(key))
            for old in list(self._found)[:-MOST]:
                self._found.pop(old, None)
        return found

    def discard(self, is_stale: Callable[[_Key], bool]) -> None:
        """Forgets what was made for some keys."""
        for key in [k for k in list(self._found) if is_stale(k)]:
            self._found.pop(key, None)

    def all(self) -> list[_Made]:
        """Everything that is kept."""
        return list(self._found.values())
