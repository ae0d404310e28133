"""Where minibatches come from: CNTK's `io` module, for data in memory and sources of one's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .arrays import NDArrayView, is_sparse
from .samples import frames_of
from .values import Value, dense

INFINITELY_REPEAT = sys.maxsize  # as max_samples: start again at the end of the data, for ever
FULL_DATA_SWEEP = sys.maxsize - 1  # as max_samples: stop at the end of the data


@dataclass(frozen=True)
class StreamInformation:
    """One of the things that a source gives: features, labels and so on.

    Attributes:
        name: by which `source.streams.name` finds it.
        stream_id: its number.
        storage_format: "dense" or "sparse".
        dtype: of its numbers.
        shape: one sample's or frame's.
        defines_mb_size: kept for CNTK's sake.

    >>> C.io.StreamInformation("x", 0, "dense", np.float32, (3,)).shape
    (3,)
    """

    name: str
    stream_id: int = 0
    storage_format: str = "dense"
    dtype: Any = np.float32
    shape: tuple[int, ...] = ()
    defines_mb_size: bool = False


@dataclass
class MinibatchData:
    """A stream's part of a minibatch.

    Attributes:
        data: a batch or a list of sequences, as `Function.eval` takes it.
        num_sequences: how many samples or sequences.
        num_samples: how many samples or frames.
        end_of_sweep: whether a pass over the data ends with it.

    >>> len(C.io.MinibatchData(np.zeros((4, 2)), num_sequences=4, num_samples=4))
    4
    """

    data: Any
    num_sequences: int
    num_samples: int
    end_of_sweep: bool = False

    @property
    def value(self) -> Any:
        """As `data`."""
        return self.data

    def __len__(self) -> int:
        return self.num_sequences


class MinibatchSource:
    """The base of sources of minibatches. Define `stream_infos` and `next_minibatch`.

    >>> class Ones(C.io.MinibatchSource):
    ...     def stream_infos(self):
    ...         return [C.io.StreamInformation("x", shape=(2,))]
    ...     def next_minibatch(self, num_samples, *_, **__):
    ...         data = np.ones((num_samples, 2))
    ...         return {self.streams.x: C.io.MinibatchData(data, num_samples, num_samples)}
    >>> source = Ones()
    >>> source.next_minibatch(3)[source.streams.x].data.shape
    (3, 2)
    """

    def stream_infos(self) -> list[StreamInformation]:
        """The streams that it gives."""
        raise NotImplementedError

    def next_minibatch(
        self,
        num_samples: int,
        number_of_workers: int = 1,
        worker_rank: int = 0,
        device: Any = None,
    ) -> Mapping[StreamInformation, MinibatchData]:
        """About `num_samples` samples or frames of each stream; empty when there is no more."""
        raise NotImplementedError

    @property
    def streams(self) -> Any:
        """The streams as attributes."""
        return SimpleNamespace(**{s.name: s for s in self.stream_infos()})

    def stream_info(self, name: str) -> StreamInformation:
        """The stream of this name."""
        found = [s for s in self.stream_infos() if s.name == name]
        if not found:
            raise KeyError(f"no stream '{name}'; there are {[s.name for s in self.stream_infos()]}")
        return found[0]

    def __getitem__(self, name: str) -> StreamInformation:
        return self.stream_info(name)

    def is_infinite(self) -> bool:
        """Whether it never comes to an end."""
        return False

    def get_checkpoint_state(self) -> dict[str, Any]:
        """All that it must know to go on: numbers, strings, lists, dicts and arrays."""
        return {}

    def restore_from_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Goes back to where `get_checkpoint_state` was called."""
        if state:
            raise NotImplementedError(
                f"{type(self).__name__} must define restore_from_checkpoint, for training that "
                "is taken up again"
            )


class UserMinibatchSource(MinibatchSource):
    """The base of sources that people write, as CNTK's: as `MinibatchSource`.

    >>> class Noise(C.io.UserMinibatchSource):
    ...     def stream_infos(self):
    ...         return [C.io.StreamInformation("x", 0, "dense", np.float32, (3,))]
    ...     def next_minibatch(self, num_samples, number_of_workers, worker_rank, device=None):
    ...         data = np.random.randn(num_samples, 3).astype(np.float32)
    ...         return {self["x"]: C.io.MinibatchData(data, num_samples, num_samples)}
    >>> Noise().streams.x.shape
    (3,)
    """


class MinibatchSourceFromData(MinibatchSource):
    """Data in memory, given in its order, minibatch by minibatch.

    Args:
        data_streams: a dict from names to data: an array (N, *shape), a `Value` or a SciPy sparse
            matrix of that shape, a list of sequences of shape (frames, *shape); or pairs of data
            and a type (`C.layers.typing.Sequence[...]`, or the input that it is for). Of a type
            whose shape is known a list's item may be a single frame, as in `Function.eval`.
        max_samples: how many samples (frames of the longest stream) to give in all; by default it
            starts again at the end, for ever. `C.io.FULL_DATA_SWEEP`: all of the data once.
        max_sweeps: how many times to give all data, which need not be whole; by default for ever.

    The data is not copied and not shuffled.

    Attributes:
        sweep_size: how many samples (frames of the longest stream) the data has.

    Source: CNTK's `MinibatchSourceFromData`.

    >>> source = C.io.MinibatchSourceFromData({"x": np.arange(6).reshape(3, 2)}, max_samples=3)
    >>> source.next_minibatch(2)[source.streams.x].data
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
        data_streams: Mapping[str, Any],
        max_samples: int = INFINITELY_REPEAT,
        max_sweeps: float = INFINITELY_REPEAT,
    ) -> None:
        if not data_streams:
            raise ValueError("a source needs at least one stream: {'name': data}")
        self._data: dict[str, Any] = {}
        self._lengths: dict[str, Sequence[int]] = {}
        self._sequences: dict[str, bool] = {}
        self._untyped: dict[str, bool] = {}  # whether only its being a list says so
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
        device: Any = None,
        num_sequences: int = sys.maxsize,
    ) -> dict[StreamInformation, MinibatchData]:
        """The next samples or sequences whose frames are at most `num_samples`, but at least one;
        and at most `num_sequences` of them.

        Fewer at the end of the data, so that a sweep ends with a minibatch.
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
        parts |= {name: Value(parts[name]) for name, so in self._untyped.items() if so}
        return {
            info: MinibatchData(parts[info.name], end - begin, totals[info.name], ends)
            for info in self.stream_infos()
        }

    def left(self, in_sequences: bool) -> int | None:
        """How many samples, or sequences, it will give yet; None: for ever."""
        if self.is_infinite():
            return None
        samples = max(self._max - self._given, 0)
        return round(samples / self.sweep_size * self._count) if in_sequences else samples

    def get_checkpoint_state(self) -> dict[str, Any]:
        return {"cursor": self._cursor, "total_num_samples": self._given}

    def restore_from_checkpoint(self, state: Mapping[str, Any]) -> None:
        self._cursor, self._given = state["cursor"], state["total_num_samples"]


def _sequences(name: str, items: list[Any], shape: tuple[int, ...] | None) -> list[Any]:
    """The items with an axis of frames each, so far as their shape is known."""
    if shape is not None:
        items = [item if is_sparse(item) else frames_of(item, shape) for item in items]
    if any(not item.shape for item in items):
        raise TypeError(f"stream '{name}': a number is no sequence of frames")
    return items


def _count(data: Any) -> int:
    return len(data) if isinstance(data, list) else data.shape[0]


__all__ = [
    "FULL_DATA_SWEEP",
    "INFINITELY_REPEAT",
    "MinibatchData",
    "MinibatchSource",
    "MinibatchSourceFromData",
    "StreamInformation",
    "UserMinibatchSource",
]
