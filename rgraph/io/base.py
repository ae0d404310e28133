"""What a source of minibatches is, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..graph import GraphError
from ..internal import Record
from ..runtime.values import Value
from .streams import (
    DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS,
    FULL_DATA_SWEEP,
    INFINITELY_REPEAT,
    StreamInformation,
)


class MinibatchData:
    """A stream's part of a minibatch.

    Args:
        value: a batch or a list of sequences, as `Function.eval` takes it.
        num_sequences: how many samples or sequences.
        num_samples: how many samples or frames.
        sweep_end: whether a pass over the data ends with it, or within it.

    >>> len(C.io.MinibatchData(np.zeros((4, 2)), num_sequences=4, num_samples=4))
    4
    """

    def __init__(
        self, value: Any, num_sequences: int, num_samples: int, sweep_end: bool = False
    ) -> None:
        self.value = value
        self.num_sequences, self.num_samples = num_sequences, num_samples
        self.end_of_sweep = sweep_end

    @property
    def data(self) -> Value:
        """What it holds, as a `Value`."""
        return self.value if isinstance(self.value, Value) else Value(self.value)

    @property
    def number_of_sequences(self) -> int:
        """As `num_sequences`."""
        return self.num_sequences

    @property
    def number_of_samples(self) -> int:
        """As `num_samples`."""
        return self.num_samples

    @property
    def sweep_end(self) -> bool:
        """As `end_of_sweep`."""
        return self.end_of_sweep

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …), for sequences (N, frames of the longest, …)."""
        return self.data.shape

    @property
    def mask(self) -> Any:
        """As `Value.mask`."""
        return self.data.mask

    @property
    def is_sparse(self) -> bool:
        """Whether it was read as sparse vectors."""
        return self.data.is_sparse

    def as_sequences(self, variable: Any = None) -> list[Any]:
        """As `Value.as_sequences`."""
        return self.data.as_sequences(variable)

    def asarray(self) -> Any:
        """As `Value.asarray`."""
        return self.data.asarray()

    def __len__(self) -> int:
        return self.num_sequences

    def __repr__(self) -> str:
        return f"MinibatchData({self.num_sequences} sequences, {self.num_samples} samples)"


class Source:
    """What all sources of minibatches have in common.

    >>> source = C.io.MinibatchSourceFromData({"x": np.zeros((4, 2))})
    >>> isinstance(source, C.cntk_py.MinibatchSource)
    True
    """

    infinitely_repeat = INFINITELY_REPEAT
    full_data_sweep = FULL_DATA_SWEEP
    default_randomization_window_in_chunks = DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS

    def stream_infos(self) -> list[StreamInformation]:
        """The streams that it gives."""
        raise NotImplementedError

    def next_minibatch(self, num_samples: int, *args: Any, **options: Any) -> Mapping[Any, Any]:
        """About `num_samples` samples or frames of each stream; empty when there is no more."""
        raise NotImplementedError

    def get_next_minibatch(self, *args: Any) -> Mapping[Any, Any]:
        """As `next_minibatch`."""
        return self.next_minibatch(*args)

    @property
    def streams(self) -> Any:
        """The streams by name: `streams.x` or `streams["x"]`."""
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

    def checksum(self) -> int:
        """A number that is the same where the same data is read in the same order, as far as that
        can be told at once; of several workers all must have the same."""
        return 0

    def joined_state(self, states: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Where the parts of all data go on, dealt in another way, by where each part stood.

        Nothing is left out; what some parts were ahead is given again.

        Raises:
            GraphError: the data can't be dealt in another way from there.
        """
        if any(state != states[0] for state in states):
            raise GraphError(
                f"{type(self).__name__} can't deal its data to another number of workers in the "
                f"middle: the checkpoint is of {len(states)}",
                hint=f"go on with {len(states)} workers, or begin anew",
            )
        return states[0]


class UserMinibatchSource(Source):
    """The base of sources that people write. Define `stream_infos` and `next_minibatch`.

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
        device: Any = None,
    ) -> Mapping[StreamInformation, MinibatchData]:
        """About `num_samples` samples or frames of each stream; empty when there is no more."""
        raise NotImplementedError


def refuse_size(size: int) -> None:
    """A minibatch has a sample at least."""
    if size < 1:
        raise GraphError(f"a minibatch has 1 sample at least, got a size of {size}")
