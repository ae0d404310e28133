"""Minibatches of data in memory, in the given order."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph.types import Data, Saved
from ..runtime.arrays import NDArrayView, is_sparse
from ..runtime.samples import frames_of
from ..runtime.values import Value, dense
from .base import MinibatchData, UserMinibatchSource
from .streams import FULL_DATA_SWEEP, INFINITELY_REPEAT, StreamInformation

if TYPE_CHECKING:
    from ..device import DeviceDescriptor
    from .chunks import Frames


LOOKED_AT = 100  # samples or sequences that go into the checksum


class MinibatchSourceFromData(UserMinibatchSource):
    """Minibatches of data in memory, in the given order.

    Args:
        data_streams: a dict from names to data: an array (N, *shape), a `Value` or a SciPy sparse
            matrix of that shape, a list of sequences of shape (frames, *shape); or pairs of data
            and a type (`C.layers.typing.Sequence[...]`, or the input that it is for). If the type
            has a known shape, a list's item may be a single frame, as in `Function.eval`.
        max_samples: the total number of samples (frames of the longest stream); by default the
            data is repeated without end. `C.io.FULL_DATA_SWEEP`: all data once.
        max_sweeps: the number of passes over the data, which may be fractional; by default
            unlimited.

    The data is not copied and not shuffled.

    Attributes:
        sweep_size: the number of samples in the data (frames of the longest stream).

    Raises:
        GraphError: the streams are empty or have different numbers of samples or sequences.

    Source: CNTK's `MinibatchSourceFromData`.

    >>> source = C.io.MinibatchSourceFromData({"x": np.arange(6).reshape(3, 2)}, max_samples=3)
    >>> source.next_minibatch(2)[source.streams.x].asarray()
    array([[0, 1],
           [2, 3]])
    >>> minibatch = source.next_minibatch(2)[source.streams.x]
    >>> len(minibatch), minibatch.end_of_sweep
    (1, True)
    >>> source.next_minibatch(2)
    {}
    """

    def __init__(
        self,
        data_streams: Mapping[str, Data],
        max_samples: int = INFINITELY_REPEAT,
        max_sweeps: float = INFINITELY_REPEAT,
    ) -> None:
        if not data_streams:
            raise ValueError("a source needs at least one stream: {'name': data}")
        self._data: dict[str, Data] = {}
        self._lengths: dict[str, Sequence[int]] = {}
        self._sequences: dict[str, bool] = {}
        self._untyped: dict[
            str, bool
        ] = {}  # streams known to be sequences only because they are lists
        for name, given in data_streams.items():
            data, kind = given if isinstance(given, tuple) else (given, None)
            data = dense(data) if isinstance(data, (Value, NDArrayView)) else data
            axes = getattr(kind, "dynamic_axes", None)
            sequences = isinstance(data, list) if axes is None else len(axes) == 2
            if not hasattr(data[0] if isinstance(data, list) and data else data, "shape"):
                raise TypeError(f"stream '{name}' must be an array or a list of arrays")
            if sequences and isinstance(data, list):
                data = _sequences(name, data, getattr(kind, "shape", None))
            self._data[name] = data
            self._lengths[name] = [d.shape[0] for d in data] if sequences else [1] * _count(data)
            self._sequences[name], self._untyped[name] = sequences, sequences and axes is None
        counts = {name: len(lengths) for name, lengths in self._lengths.items()}
        self._count = next(iter(counts.values()))
        if len(set(counts.values())) > 1:
            raise TypeError(f"the streams have different numbers of samples or sequences: {counts}")
        if not self._count:
            raise ValueError("the data is empty")
        self.sweep_size = sum(map(max, zip(*self._lengths.values(), strict=True)))
        if max_samples == FULL_DATA_SWEEP:
            max_samples, max_sweeps = INFINITELY_REPEAT, 1
        self._max = int(min(max_samples, max_sweeps * self.sweep_size))
        self._cursor = self._given = 0

    def stream_infos(self) -> list[StreamInformation]:
        infos = []
        for i, (name, data) in enumerate(self._data.items()):
            one = data[0] if isinstance(data, list) else data
            storage = "sparse" if hasattr(one, "tocsr") else "dense"
            shape = one.shape[1:] if one is data or self._sequences[name] else one.shape
            infos.append(StreamInformation(name, i, storage, one.dtype.type, shape))
        return infos

    def is_infinite(self) -> bool:
        return self._max == INFINITELY_REPEAT

    def next_minibatch(
        self,
        num_samples: int,
        number_of_workers: int = 1,
        worker_rank: int = 0,
        device: DeviceDescriptor | None = None,
        num_sequences: int = sys.maxsize,
    ) -> dict[StreamInformation, MinibatchData]:
        """The next samples, or the next sequences with up to `num_samples` frames in all.

        There is at least one sample or sequence, and at most `num_sequences`. Each of several
        workers gets its share, which may be empty. The last minibatch of a sweep may be smaller: a
        minibatch doesn't cross the end of a sweep.
        """
        room = min(num_samples, self._max - self._given)
        totals = dict.fromkeys(self._data, 0)
        begin = end = self._cursor
        last = min(self._count, begin + num_sequences)
        while end < last:
            more = {n: total + self._lengths[n][end] for n, total in totals.items()}
            if max(more.values()) > room and (end > begin or self._max - self._given <= 0):
                break
            totals, end = more, end + 1
        if end == begin:
            return {}
        self._given += max(totals.values())
        self._cursor = 0 if end == self._count else end
        ends = end == self._count or self._given >= self._max
        part = slice(begin + worker_rank, end, number_of_workers)
        parts = {name: data[part] for name, data in self._data.items()}
        lengths = {name: self._lengths[name][part] for name in parts}
        for name in (name for name, so in self._untyped.items() if so and lengths[name]):
            parts[name] = Value(parts[name])
        return {
            s: MinibatchData(parts[s.name], len(lengths[s.name]), sum(lengths[s.name]), ends)
            for s in self.stream_infos()
        }

    def left(self, in_sequences: bool) -> int | None:
        """The number of samples, or sequences, that are left; None: unlimited."""
        if self.is_infinite():
            return None
        samples = max(self._max - self._given, 0)
        return round(samples / self.sweep_size * self._count) if in_sequences else samples

    def checksum(self) -> int:
        found = 0
        for name, data in self._data.items():
            seen = range(0, self._count, max(self._count // LOOKED_AT, 1))
            some = [data[i].toarray() if is_sparse(data[i]) else np.asarray(data[i]) for i in seen]
            for part in (name.encode(), repr(self._lengths[name]).encode(), *map(_bytes, some)):
                found = zlib.crc32(part, found)
        return found

    def get_checkpoint_state(self) -> dict[str, object]:
        return {"cursor": self._cursor, "total_num_samples": self._given}

    def restore_from_checkpoint(self, checkpoint: Saved) -> None:
        self._cursor = checkpoint["cursor"]
        self._given = checkpoint["total_num_samples"]


def _bytes(array: np.ndarray) -> bytes:
    return repr((array.dtype, array.shape)).encode() + array.tobytes()


def _sequences(name: str, items: list[Frames], shape: tuple[int, ...] | None) -> list[Frames]:
    """The items, each with an axis of frames, if the shape of a frame is known."""
    if shape is not None:
        items = [item if is_sparse(item) else frames_of(item, shape) for item in items]
    if any(not item.shape for item in items):
        raise TypeError(f"stream '{name}': expected a sequence of frames, got a number")
    return items


def _count(data: Data) -> int:
    return len(data) if isinstance(data, list) else data.shape[0]
