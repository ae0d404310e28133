"""The base classes of minibatch sources, and the data of a minibatch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import GraphError
from ..graph.types import Data, Saved
from ..internal import Record
from ..runtime.values import Value
from .streams import (
    DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS,
    FULL_DATA_SWEEP,
    INFINITELY_REPEAT,
    StreamInformation,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ..device import DeviceDescriptor


class MinibatchData:
    """The data of one stream in a minibatch.

    Args:
        value: an array (N, *shape) or a list of N arrays (frames, *shape), as `Function.eval`
            takes it.
        num_sequences: the number of samples or sequences, N.
        num_samples: the number of samples, or of frames in all sequences.
        sweep_end: whether a pass over the data ends in this minibatch.

    >>> len(C.io.MinibatchData(np.zeros((4, 2)), num_sequences=4, num_samples=4))
    4
    """

    def __init__(
        self, value: Data, num_sequences: int, num_samples: int, sweep_end: bool = False
    ) -> None:
        self.value = value
        self.num_sequences, self.num_samples = num_sequences, num_samples
        self.end_of_sweep = sweep_end

    @property
    def data(self) -> Value:
        """The data as a `Value`."""
        return self.value if isinstance(self.value, Value) else Value(self.value)

    @property
    def number_of_sequences(self) -> int:
        """Same as `num_sequences`."""
        return self.num_sequences

    @property
    def number_of_samples(self) -> int:
        """Same as `num_samples`."""
        return self.num_samples

    @property
    def sweep_end(self) -> bool:
        """Same as `end_of_sweep`."""
        return self.end_of_sweep

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *shape); for sequences (N, frames of the longest sequence, *shape)."""
        return self.data.shape

    @property
    def mask(self) -> np.ndarray | None:
        """Same as `Value.mask`."""
        return self.data.mask

    @property
    def is_sparse(self) -> bool:
        """Whether it was read as sparse vectors."""
        return self.data.is_sparse

    def as_sequences(self, variable: object = None) -> list[np.ndarray] | list[csr_matrix]:
        """Same as `Value.as_sequences`."""
        return self.data.as_sequences(variable)

    def asarray(self) -> np.ndarray:
        """Same as `Value.asarray`."""
        return self.data.asarray()

    def __len__(self) -> int:
        return self.num_sequences

    def __repr__(self) -> str:
        return f"MinibatchData({self.num_sequences} sequences, {self.num_samples} samples)"


class Source:
    """The base class of all minibatch sources.

    >>> source = C.io.MinibatchSourceFromData({"x": np.zeros((4, 2))})
    >>> isinstance(source, C.cntk_py.MinibatchSource)
    True
    """

    infinitely_repeat = INFINITELY_REPEAT
    full_data_sweep = FULL_DATA_SWEEP
    default_randomization_window_in_chunks = DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS

    def stream_infos(self) -> list[StreamInformation]:
        """Name, shape and type of each stream."""
        raise NotImplementedError

    def next_minibatch(
        self, num_samples: int, *args: Any, **options: Any
    ) -> Mapping[Any, MinibatchData]:
        """About `num_samples` samples or frames of each stream; empty at the end of the data."""
        raise NotImplementedError

    def get_next_minibatch(self, *args: Any) -> Mapping[Any, MinibatchData]:
        """Same as `next_minibatch`."""
        return self.next_minibatch(*args)

    @property
    def streams(self) -> Record:
        """The streams by name, as `streams.x` or `streams["x"]`."""
        return Record(**{s.name: s for s in self.stream_infos()})

    def stream_info(self, name: str) -> StreamInformation:
        """The stream of this name."""
        found = [s for s in self.stream_infos() if s.name == name]
        if not found:
            raise KeyError(f"no stream '{name}'; there are {[s.name for s in self.stream_infos()]}")
        return found[0]

    def __getitem__(self, name: str) -> StreamInformation:
        return self.stream_info(name)

    def is_infinite(self) -> bool:
        """Whether the source repeats the data without end."""
        return False

    def get_checkpoint_state(self) -> dict[str, object]:
        """The state to resume from, made of numbers, strings, lists, dicts and arrays."""
        return {}

    def restore_from_checkpoint(self, state: Saved) -> None:
        """Resumes from a state that `get_checkpoint_state` returned."""
        if state:
            raise NotImplementedError(
                f"{type(self).__name__} must define restore_from_checkpoint to resume training"
            )

    def checksum(self) -> int:
        """A checksum of the data and its order, from what is known without reading the data.

        All workers must have the same checksum.
        """
        return 0

    def joined_state(self, states: Sequence[Saved]) -> Saved:
        """The state to resume from with a different number of workers.

        Args:
            states: the state of each of the workers that wrote the checkpoint.

        No data is skipped. Data that only some of the workers had read is read again.

        Raises:
            GraphError: this source can't change the number of workers within a sweep.
        """
        if any(state != states[0] for state in states):
            raise GraphError(
                f"{type(self).__name__} can't change the number of workers within a sweep: "
                f"the checkpoint has {len(states)} workers",
                hint=f"resume with {len(states)} workers, or start again",
            )
        return states[0]


class UserMinibatchSource(Source):
    """The base class of user-written sources: define `stream_infos` and `next_minibatch`.

    >>> class Noise(C.io.UserMinibatchSource):
    ...     def stream_infos(self):
    ...         return [C.io.StreamInformation("x", 0, "dense", np.float32, (3,))]
    ...     def next_minibatch(self, num_samples, number_of_workers, worker_rank, device=None):
    ...         data = np.random.randn(num_samples, 3).astype(np.float32)
    ...         return {self["x"]: C.io.MinibatchData(data, num_samples, num_samples)}
    >>> Noise().streams.x.shape
    (3,)
    """

    def next_minibatch(
        self,
        num_samples: int,
        number_of_workers: int = 1,
        worker_rank: int = 0,
        device: DeviceDescriptor | None = None,
    ) -> Mapping[StreamInformation, MinibatchData]:
        """About `num_samples` samples or frames of each stream; empty at the end of the data."""
        raise NotImplementedError


def refuse_size(size: int) -> None:
    """Raises `GraphError` if a minibatch would have no sample."""
    if size < 1:
        raise GraphError(f"the minibatch size must be at least 1, got {size}")
