"""Minibatches from deserializers: ordered or shuffled, truncated, packed, and read ahead."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..graph import GraphError
from ..graph.types import Saved
from .background import Chunks, Work
from .base import MinibatchData, Source, refuse_size
from .chunks import Bundle, Deserializer, SingleFrames
from .order import AsTheyStand, Order, Partition, Rolling, Tumbling
from .packing import packed
from .streams import (
    DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS,
    FULL_DATA_SWEEP,
    INFINITELY_REPEAT,
    StreamInformation,
)
from .timeline import SEQUENCE, SWEEP, Place, Timeline
from .truncation import Rows, Slots
from .user_deserializer import Adapted, UserDeserializer

if TYPE_CHECKING:
    from ..device import DeviceDescriptor


_WORTH = 1e-3  # seconds of work from which a thread pays off; chunks are always read ahead


# A minibatch, the place of its end, and whether it is the last
_Found = tuple[dict[StreamInformation, MinibatchData], Place | Rows | None, bool]


class MinibatchSource(Source):
    """Minibatches from one or several deserializers.

    Args:
        deserializers: a deserializer or a list; sequences of several files are matched by key.
        max_samples: the total number of samples; `C.io.FULL_DATA_SWEEP`: all data once. By
            default the data is repeated without end.
        max_sweeps: the number of passes over the data; not together with `max_samples`.
        randomization_window_in_chunks: the number of chunks to shuffle sequences in. A chunk is
            the part of the data that is read at once, 32 MB of a text file; the chunks of a window
            are kept in memory.
        randomization_window_in_samples: the same in samples; requires
            `randomization_window_in_chunks=0`.
        randomization_seed: determines the order, which is CNTK's for the same seed.
        frame_mode: whether all sequences are single frames; sequences of speech are split.
        truncation_length: cuts sequences into pieces of this many frames, which continue in the
            next minibatch; a minibatch has minibatch_size // truncation_length sequences. 0: no
            truncation.
        randomize: False reads the data in the order of the file.
        trace_level, multithreaded_deserializer: accepted for compatibility with CNTK, without
            effect. Files are always read in the background.
        max_errors: must be 0; errors in a file are always raised.

    Raises:
        GraphError: options contradict each other, or a file can't be read.

    Source: CNTK's `MinibatchSource`.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "data.txt")
    >>> _ = path.write_text("|x 1 2 |y 3\\n|x 4 5 |y 6\\n")
    >>> streams = C.io.StreamDefs(x=C.io.StreamDef("x", 2), y=C.io.StreamDef("y", 1))
    >>> source = C.io.MinibatchSource(C.io.CTFDeserializer(path, streams), randomize=False)
    >>> minibatch = source.next_minibatch(2)
    >>> minibatch[source.streams.x].asarray()
    array([[[1., 2.]],
    <BLANKLINE>
           [[4., 5.]]], dtype=float32)
    """

    takes_input_map = True  # as the second argument of next_minibatch

    def __init__(
        self,
        deserializers: Deserializer | UserDeserializer | Sequence[Deserializer | UserDeserializer],
        max_samples: int = INFINITELY_REPEAT,
        max_sweeps: int = INFINITELY_REPEAT,
        randomization_window_in_chunks: int = DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS,
        randomization_window_in_samples: int = 0,
        randomization_seed: int = 0,
        trace_level: object = None,
        multithreaded_deserializer: bool | None = None,
        frame_mode: bool = False,
        truncation_length: int = 0,
        randomize: bool = True,
        max_errors: int = 0,
    ) -> None:
        if frame_mode and truncation_length:
            raise GraphError("frame_mode and truncation_length can't be combined")
        if max_errors:
            raise GraphError("errors in a file are always raised; leave out max_errors")
        if max_sweeps != INFINITELY_REPEAT and max_samples != INFINITELY_REPEAT:
            raise GraphError("give max_samples or max_sweeps, not both")
        if max_samples == FULL_DATA_SWEEP:
            max_samples, max_sweeps = INFINITELY_REPEAT, 1
        chunks, samples = randomization_window_in_chunks, randomization_window_in_samples
        if not randomize:
            chunks = samples = 0
        if chunks and samples:
            raise GraphError(
                "give the randomization window in chunks or in samples, not both",
                hint="randomization_window_in_samples=n, randomization_window_in_chunks=0",
            )
        self._data = _joined(deserializers)
        if frame_mode and self._data.is_speech:
            self._data = SingleFrames(self._data)
        self._streams, self._count = self._data.stream_infos(), len(self._data.chunk_infos())
        self._order = _order(self._data, chunks or samples, bool(samples), randomization_seed)
        self._setting = chunks, samples, randomization_seed
        self._max_samples, self._max_sweeps = max_samples, max_sweeps
        self._frame_mode, self._truncation = frame_mode, truncation_length
        self._chunks = Chunks(self._data.get_chunk)
        self._partition: Partition | None = None
        self._state: dict[str, object] = {}
        self._place: Place | Rows | None = None
        self._seconds = 0.0  # the options of the last minibatch
        self._ahead: tuple[int, Work[_Found]] | None = None  # size, next minibatch

    def stream_infos(self) -> list[StreamInformation]:
        return list(self._streams)

    def is_infinite(self) -> bool:
        return self._max_samples == self._max_sweeps == INFINITELY_REPEAT

    def next_minibatch(
        self,
        minibatch_size_in_samples: int,
        input_map: Mapping[Any, StreamInformation] | None = None,
        device: DeviceDescriptor | None = None,
        num_data_partitions: int | None = None,
        partition_index: int | None = None,
    ) -> dict[Any, MinibatchData]:
        """The next samples or sequences; an empty dict when there are no more.

        A minibatch may cross the end of a sweep. A sequence that is longer than the minibatch size
        is a minibatch by itself.

        Args:
            minibatch_size_in_samples: the number of samples, which are the frames of the longest
                stream of each sequence.
            input_map: a dict from inputs to streams; the keys of the result are these inputs.
            device: accepted for compatibility with CNTK, without effect.
            num_data_partitions, partition_index: read one part of this many. The size is that of
                all parts together.
        """
        size = int(minibatch_size_in_samples)
        refuse_size(size)
        if num_data_partitions is not None and partition_index is None:
            raise GraphError("partition_index and num_data_partitions must be given together")
        partition = Partition(num_data_partitions or 1, partition_index or 0)
        if not 0 <= partition.index < partition.count:
            raise GraphError(
                f"partition_index must be from 0 to {partition.count - 1}, got {partition.index}"
            )
        self._begin(partition)
        try:
            minibatch, self._place, ends = self._taken(size)
        except BaseException:  # the next call tries again
            self.restore_from_checkpoint(self.get_checkpoint_state())
            raise
        if not ends and self._seconds > _WORTH:
            self._ahead = size, Work(lambda: self._read(self._place, size))
        if input_map is None:
            return dict(minibatch)
        return {key: minibatch[s] for key, s in input_map.items()} if minibatch else {}

    def _begin(self, partition: Partition) -> None:
        """Moves to the restored state, unless that was done for this part of the data."""
        if self._place is not None and partition == self._partition:
            return
        self._state = self.get_checkpoint_state()
        self._forget()
        limit: float = self._max_samples
        if self._data.unread and limit != INFINITELY_REPEAT:  # each part counts its own samples
            limit = limit // partition.count + (limit % partition.count > partition.index)
        self._timeline = Timeline(self._order, partition, limit, self._max_sweeps)
        self._partition = partition
        self._slots = None
        if self._truncation:
            self._slots = Slots(self._timeline, self._truncation, partition)
        self._place = (self._slots or self._timeline).place(self._state)

    def _taken(self, size: int) -> _Found:
        if self._ahead is not None and self._ahead[0] == size:
            ahead, self._ahead = self._ahead[1], None
            return ahead.result()
        self._forget()
        return self._read(self._place, size)

    def _read(self, place: Any, size: int) -> _Found:
        """The next minibatch from a place, the place of its end, and whether it is the last."""
        begin = time.thread_time()
        found = self._minibatch(place, size)
        self._seconds = time.thread_time() - begin
        return found

    def _minibatch(self, place: Any, size: int) -> _Found:
        if self._slots is not None:
            return self._slots.read(place, size, self._chunks, self._streams)
        assert self._partition is not None
        own = size // self._partition.count
        own += size % self._partition.count > self._partition.index
        cut, after = self._timeline.cut(place, max(own, 1))
        chunks = self._chunks.get(cut.chunks, cut.window)
        self._expect(after)
        if not len(cut.chunks):
            self._chunks.get((), frozenset())  # release the data at the end
            return {}, after, True
        if self._frame_mode and cut.lengths.max() > 1:
            raise GraphError(
                f"frame_mode is for single frames, but a sequence of {cut.lengths.max()} frames "
                "was "
                "read"
            )
        return packed(cut, chunks, self._streams), after, cut.ends

    def _expect(self, place: Place) -> None:
        """Starts to read the chunk that is needed next."""
        if self._data.unread or self._count == 1 or self._timeline.ended(place):
            return
        self._chunks.expect(place.link.block.window)
        if len(place.link.block.window) < self._count:
            self._chunks.expect(place.link.following().block.window)

    def _forget(self) -> None:
        """Discards what was read ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead[1].wait()

    def get_checkpoint_state(self) -> dict[str, object]:
        """The position in the data, for `restore_from_checkpoint`."""
        return dict(self._state if self._place is None else self._place.state)

    def restore_from_checkpoint(self, checkpoint: Saved) -> None:
        """Moves to the position of a source that had the same arguments."""
        self._forget()
        self._state, self._place = dict(checkpoint), None

    def checksum(self) -> int:
        chunks = [(c.num_sequences, c.num_samples) for c in self._data.chunk_infos()]
        told = chunks, self._streams, self._setting, self._max_samples, self._max_sweeps
        return zlib.crc32(repr((*told, self._truncation, self._frame_mode)).encode())

    def joined_state(self, states: Sequence[Saved]) -> Saved:
        if self._truncation or isinstance(self._order, Tumbling):
            return super().joined_state(states)
        places = []
        for index, state in enumerate(states):
            part = Partition(len(states), index)
            timeline = Timeline(self._order, part, self._max_samples, self._max_sweeps)
            places.append(timeline.next_own(timeline.place(state)))
        found = [place.state for place in places if place is not None]
        return min(found, key=lambda s: (s[SWEEP], s[SEQUENCE])) if found else states[0]

    @property
    def current_position(self) -> dict[str, object]:
        """Same as `get_checkpoint_state`; setting it restores the position."""
        return self.get_checkpoint_state()

    @current_position.setter
    def current_position(self, position: Saved) -> None:
        self.restore_from_checkpoint(position)


def _joined(
    deserializers: Deserializer | UserDeserializer | Sequence[Deserializer | UserDeserializer],
) -> Deserializer:
    several = deserializers if isinstance(deserializers, (list, tuple)) else [deserializers]
    flat: list[Deserializer] = []
    for one in several:
        if isinstance(one, UserDeserializer):
            one = Adapted(one)
        if not isinstance(one, Deserializer):
            raise GraphError(
                f"expected a deserializer, got {one!r:.60}",
                hint="MinibatchSource(CTFDeserializer(file, streams)); a list for several",
            )
        flat += one.members if hasattr(one, "members") else [one]
    if not flat:
        raise GraphError("a source needs a deserializer to read")
    if flat[0].is_secondary or flat[0].is_repeated:
        raise GraphError(
            "labels of utterances, and streams with broadcast=True, can't be read first or alone",
            hint="MinibatchSource([HTKFeatureDeserializer(…), HTKMLFDeserializer(…)])",
        )
    if len(flat) == 1:
        return flat[0]
    if any(one.reads_alone for one in flat):
        raise GraphError(
            "a UserDeserializer can't be combined with others: let it provide all streams"
        )
    return Bundle(flat)


def _order(data: Deserializer, window: int, in_samples: bool, seed: int) -> Order:
    if not window:
        return AsTheyStand(data)
    kind: Sequence[Any] = (Tumbling,) if data.unread else (Rolling,)
    order: Order = kind[0](data, window, in_samples, seed)
    return order
