"""Files of saved models and checkpoints: JSON and arrays as safetensors, no code."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shutil
import socket
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from ..graph import GraphError
from ..graph.types import Saved
from . import safetensors

_ORDER = "order of arrays"
_TAKEN = re.compile(r"|array\d+|__metadata__")  # names that mean something else in a file

_BROKEN = (
    *(AttributeError, EOFError, IndexError, KeyError, NotImplementedError, OverflowError),
    *(RecursionError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error),
)


def write(
    filename: str | os.PathLike[str],
    key: str,
    content: object,
    arrays: Sequence[np.ndarray],
    names: Sequence[str] = (),
) -> None:
    """Writes a file that holds `content`, as JSON under the name `key`, and arrays.

    Args:
        names: of the arrays, for other programs. Those without one, and those whose names are
            not theirs alone, are `array0` and so on.
    """
    counts = Counter(names)
    given = [*names, *[""] * (len(arrays) - len(names))]
    own = [
        name if counts[name] == 1 and not _TAKEN.fullmatch(name) else f"array{i}"
        for i, name in enumerate(given)
    ]
    texts = {key: json.dumps(content), _ORDER: json.dumps(own)}
    with replacing(filename) as file:
        safetensors.write(file, texts, dict(zip(own, arrays, strict=True)))


@contextmanager
def read(source: Any, key: str, what: str) -> Iterator[tuple[Saved, Mapping[str, np.ndarray]]]:
    """The content and the arrays of a file that `write` wrote, `array0` and so on.

    Args:
        source: the file's name, or an open file, at its start.
        what: what the file is to hold, for the error.

    Raises:
        GraphError: it is no such file, or what is done with it inside finds it broken.
    """
    named = isinstance(source, (str, os.PathLike))
    try:
        with open(source, "rb") if named else source as file:
            older = file.read(2) == b"PK"  # NumPy's archives, of before version 0.2
            file.seek(0)
            if older:
                with np.load(file, allow_pickle=False) as arrays:
                    yield json.loads(arrays[key].tobytes()), arrays
            else:
                found = safetensors.Contents(file)
                yield json.loads(found.texts[key]), _Numbered(found)
    except GraphError:
        raise
    except _BROKEN as error:
        name = f"{source}" if named else "what was given"
        raise GraphError(f"{name} {what}: {str(error)[:200] or type(error).__name__}") from None


class _Numbered(Mapping[str, np.ndarray]):
    """The arrays of a file by their numbers: `array0` and so on."""

    def __init__(self, contents: safetensors.Contents) -> None:
        self.contents = contents
        order = json.loads(contents.texts[_ORDER])
        self.names = {f"array{i}": name for i, name in enumerate(order)}

    def __getitem__(self, number: str) -> np.ndarray:
        return self.contents[self.names[number]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@contextmanager
def replacing(filename: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that takes the place of `filename` at once, when it is complete and on the disk.

    Whatever ends the process before leaves the old file. Folders are made as needed.
    """
    path = os.path.realpath(filename)  # a link stays a link
    if os.path.exists(path) and not os.path.isfile(path):
        raise GraphError(f"{os.fspath(filename)!r} is there and no file")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _remove_old_parts(path)
    part = f"{path}.{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}.part"
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            shutil.copymode(path, part)
        os.replace(part, path)
        _sync_folder(os.path.dirname(path))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)


def _remove_old_parts(path: str) -> None:
    """Removes what processes of this machine left that ended while they wrote."""
    name = re.compile(re.escape(f"{path}.{socket.gethostname()}-") + r"(\d+)-\d+\.part")
    for part in glob.glob(f"{glob.escape(path)}.*.part"):
        found = name.fullmatch(part)
        if found and not _is_running(int(found[1])):
            with contextlib.suppress(OSError):
                os.remove(part)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # there a signal of 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync_folder(folder: str) -> None:
    if os.name != "posix":  # a folder can't be opened elsewhere
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
