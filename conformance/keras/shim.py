"""pytest as a program, with what Python and others took away since Keras 2.2.4 and its tests.

Nothing here is of Keras, and nothing concerns CNTK. Processes that a test starts anew import this
file, too, as their parent's program.
"""

import collections
import collections.abc
import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

GONE_FROM_NUMPY = {
    "Inf": np.inf,
    "float": float,
    "float_": np.float64,
    "int": int,
    "string_": np.bytes_,
    "unicode_": np.str_,
}


def restore_python() -> None:
    """The abstract classes where they were until 3.10, `getargspec` until 3.11."""
    for name in collections.abc.__all__:
        setattr(collections, name, getattr(collections.abc, name))
    inspect.getargspec = inspect.getfullargspec


def restore_h5py() -> None:
    """As in h5py 2: attributes of bytes stay bytes, an empty one has a truth value, and a file is
    opened to be written to and has an `fid`."""
    get, put = h5py.AttributeManager.__getitem__, h5py.AttributeManager.__setitem__

    def as_they_were(attributes: Any, name: str) -> Any:
        value = get(attributes, name)
        if isinstance(value, np.ndarray) and not value.size:
            return []
        if isinstance(value, str):
            kind = attributes.get_id(name).get_type()
            return value.encode() if kind.get_cset() == h5py.h5t.CSET_ASCII else value
        return value

    def as_one_array(attributes: Any, name: str, value: Any) -> None:
        several = isinstance(value, list) and all(isinstance(v, bytes) for v in value)
        put(attributes, name, np.array(value) if several else value)

    class File(h5py.File):
        def __init__(self, name: Any, mode: str = "a", **options: Any) -> None:
            super().__init__(name, mode, **options)

        fid = property(lambda self: self.id)

    h5py.AttributeManager.__getitem__ = as_they_were
    h5py.AttributeManager.__setitem__ = as_one_array
    h5py.File = File


def restore_yaml() -> None:
    """A loader need not be named, and loads any object."""
    load = yaml.load
    yaml.load = lambda stream, Loader=yaml.UnsafeLoader: load(stream, Loader)


def restore_pytest() -> None:
    """`warns(None)` collects whatever there is."""
    warns: Callable[..., Any] = pytest.warns

    def collecting(expected: Any = Warning, *args: Any, **kwargs: Any) -> Any:
        if expected is None:
            return warnings.catch_warnings(record=True)
        return warns(expected, *args, **kwargs)

    pytest.warns = collecting


for name, value in GONE_FROM_NUMPY.items():
    setattr(np, name, value)
for restore in (restore_python, restore_h5py, restore_yaml, restore_pytest):
    restore()

if __name__ == "__main__":
    sys.exit(pytest.main())
