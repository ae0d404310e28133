"""Reads minibatches from a source, or from arrays, until a number of samples is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..graph import GraphError, Node
from ..graph.node import describe
from ..io import INFINITELY_REPEAT, MinibatchSourceFromData
from ..io.base import Source
from ..runtime.workers import Workers

Streams = Mapping[Any, Any]


def is_source(data: object) -> bool:
    return hasattr(data, "next_minibatch")


def as_source(
    data: Any, inputs: Sequence[Any], max_sweeps: float = INFINITELY_REPEAT
) -> tuple[MinibatchSourceFromData, Streams]:
    """A source of arrays for these inputs, and its streams.

    Args:
        data: a dict from inputs or their names to arrays; or a tuple of arrays in their order,
            or an array if there is one input.
    """
    named = _by_input(data, inputs) if isinstance(data, Mapping) else data
    several = isinstance(named, tuple) or (isinstance(named, list) and len(inputs) > 1)
    arrays = tuple(named) if several else (named,)
    if len(inputs) != len(arrays):
        raise ValueError(
            f"the criterion has {_count(len(inputs), 'input')} "
            f"({', '.join(describe(v.node) for v in inputs)}), but the data has "
            f"{_count(len(arrays), 'array')}"
        )
    names = [f"stream_{i}" for i in range(len(inputs))]
    pairs = {n: (a, v) for n, a, v in zip(names, arrays, inputs, strict=True)}
    source = MinibatchSourceFromData(pairs, max_sweeps=max_sweeps)
    return source, {v: source[n] for n, v in zip(names, inputs, strict=True)}


def _by_input(data: Mapping[Any, Any], inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The value of each input in a dict, in the order of the inputs."""
    given = {k if isinstance(k, str) else getattr(k, "node", k): v for k, v in data.items()}
    found: list[Any] = []
    for variable in inputs:
        node = variable.node
        key = node if node in given else node.name
        if key not in given:
            raise ValueError(f"there is no data for {describe(node)}")
        found.append(given.pop(key))
    for key in given:
        name = describe(key) if isinstance(key, Node) else key
        raise ValueError(f"the criterion has no input {name}")
    return tuple(found)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class Reader:
    """Reads minibatches until a function has processed a number of samples.

    There are two units, as in CNTK. The minibatch size counts the samples of the source, which are
    the frames of its longest stream. Everything else counts the samples of the function: a loss
    with one value per sequence counts sequences. So a minibatch of 500 frames may have 10 samples;
    CNTK confuses the two near the end of the data, where its minibatches get smaller and smaller.

    Args:
        sizes: a schedule of minibatch sizes.
        limit: the number of the function's samples to read. A user-written source of sequences
            with one sample each is asked for whole minibatches, and may exceed it.
        in_sequences: whether a sequence counts as one sample.
        workers: the workers that share the data; sizes and limits are for all together.
        is_dealt: whether each worker reads its own part yet; before, all read the same.

    Attributes:
        seen: the number of the function's samples so far.
    """

    def __init__(
        self,
        source: Source,
        streams: Streams,
        sizes: Any,
        limit: int | None,
        in_sequences: bool,
        workers: Workers | None = None,
        is_dealt: Callable[[], bool] = lambda: True,
    ) -> None:
        self.source, self._streams, self._sizes = source, streams, sizes
        self._limit = INFINITELY_REPEAT if limit is None else limit
        self._in_sequences = in_sequences
        self._workers, self._is_dealt = workers or Workers(), is_dealt
        self.seen = 0

    def next(self) -> dict[Any, Any]:
        """The next minibatch, as a dict from inputs; empty at the end."""
        size, left = int(self._sizes[self.seen]), self._limit - self.seen
        options: dict[str, Any] = {}
        if not self._in_sequences:
            size = min(size, left)
        elif isinstance(self.source, MinibatchSourceFromData):
            options["num_sequences"] = left
        if left <= 0 or size <= 0:
            return {}
        count, rank = self._workers.size, self._workers.rank
        part = (count, rank) if count > 1 and self._is_dealt() else (1, 0)
        ours = getattr(
            self.source, "takes_input_map", False
        )  # user-written sources take other arguments
        data = self.source.next_minibatch(
            size, *((None, None) if ours else ()), *part, *(() if ours else (None,)), **options
        )
        if not data:
            return {}
        named = {
            s.name: s for s in data
        }  # test images may have another size than those in training
        missing = [s for s in self._streams.values() if s not in data and s.name not in named]
        if missing:
            raise GraphError(
                f"the source gave no stream {missing[0].name!r}, only "
                f"{', '.join(repr(s.name) for s in data)}"
            )
        return {v: data[s if s in data else named[s.name]] for v, s in self._streams.items()}

    def count(self, minibatch: Mapping[Any, Any], samples: int) -> None:
        """Counts the function's samples in a minibatch; if it has none, those of the data, so that
        reading ends."""
        if not samples:
            own = max((data.num_samples for data in minibatch.values()), default=0)
            samples = sum(self._workers.gather(own)) or 1
        self.seen += samples

    @property
    def left(self) -> int | None:
        """The number of samples left, if known."""
        if self._limit < INFINITELY_REPEAT:
            return self._limit - self.seen
        if isinstance(self.source, MinibatchSourceFromData):
            return self.source.left(self._in_sequences)
        return None
