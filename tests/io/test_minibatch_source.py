"""Minibatches: their order, sizes and ends, all as real CNTK 2.7 gave them."""

import os
import weakref

import numpy as np
import pytest

import rgraph as C
from rgraph.io import (
    FULL_DATA_SWEEP,
    CTFDeserializer,
    MinibatchSource,
    StreamDef,
    StreamDefs,
    StreamInformation,
    UserDeserializer,
)
from rgraph.io import ctf as reader
from rgraph.io.mersenne import Mersenne64


@pytest.fixture
def ten(tmp_path):
    """Ten samples, 0 to 9."""
    path = tmp_path / "ten.txt"
    path.write_text("".join(f"|S0 {i}\n" for i in range(10)))
    return lambda **options: of_file(path, **options)


@pytest.fixture
def threes(tmp_path):
    """Ten sequences of three frames, 0 to 29."""
    path = tmp_path / "threes.txt"
    path.write_text("".join(f"{i // 3} |S0 {i}\n" for i in range(30)))
    return lambda **options: of_file(path, **options)


def of_file(path, **options):
    streams = StreamDefs(f=StreamDef("S0", 1))
    return MinibatchSource(CTFDeserializer(str(path), streams), **options)


def read(source, size, count=1000, **options):
    """The minibatches' numbers as text, with a bar where a sweep ends."""
    found = []
    while len(found) < count and (minibatch := source.next_minibatch(size, **options)):
        data = minibatch[source.streams.f]
        numbers = " ".join(str(int(v)) for s in data.as_sequences() for v in np.ravel(s))
        found.append(numbers + "|" * data.end_of_sweep)
    return found


def test_the_twister_is_cpps():
    """The 10,000th number is in the C++ standard, for mt19937_64 with its default seed."""
    assert Mersenne64(5489).draw(10_000)[-1] == 9981545732273789042


ORDERS = {
    0: "4 7 3, 9 1 2, 8 6 5, 0 1 2|, 8 6 5, 7 0 9, 3 4 8|, 5 7 3",
    1: "1 2 8, 6 5 7, 0 9 3, 4 8 5|, 7 3 6, 4 9 1, 0 2 7|, 4 5 9",
    2: "8 5 7, 3 6 4, 9 1 0, 2 7 4|, 5 9 0, 8 3 6, 1 2 1|, 8 5 4",
    123: "9 2 1, 6 3 8, 7 5 4, 0 3 5|, 7 2 8, 1 0 9, 4 6 4|, 8 0 2",
}


@pytest.mark.parametrize("seed", ORDERS)
def test_cntks_order_of_the_same_seed(ten, seed):
    assert read(ten(randomization_seed=seed), 3, 8) == ORDERS[seed].split(", ")


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"max_samples": 7}, "4 7 3 9, 1 2 8"),
        ({"max_samples": 7, "randomize": False}, "0 1 2 3, 4 5 6"),
        ({"max_sweeps": 2}, "4 7 3 9, 1 2 8 6, 5 0 1 2|, 8 6 5 7, 0 9 3 4|"),
        ({"max_sweeps": 2, "randomize": False}, "0 1 2 3, 4 5 6 7, 8 9 0 1|, 2 3 4 5, 6 7 8 9|"),
        ({"max_samples": FULL_DATA_SWEEP}, "4 7 3 9, 1 2 8 6, 5 0|"),
        ({"max_samples": FULL_DATA_SWEEP, "randomize": False}, "0 1 2 3, 4 5 6 7, 8 9|"),
    ],
)
def test_where_it_ends(ten, options, expected):
    source = ten(**options)
    assert read(source, 4) == expected.split(", ") and source.next_minibatch(4) == {}
    assert not source.is_infinite() and ten().is_infinite()


@pytest.mark.parametrize(
    "options, rank, expected",
    [
        ({}, 0, "4 7, 3 9, 1 2, 8 6, 5 0|"),
        ({}, 1, ""),  # shuffled data is parted by chunks, of which there is one
        ({"randomize": False}, 0, "0 2, 4 6, 8|"),
        ({"randomize": False}, 1, "1 3, 5 7, 9|"),
    ],
)
def test_parts_for_several_processes(ten, options, rank, expected):
    parts = {"num_data_partitions": 2, "partition_index": rank}
    assert read(ten(max_sweeps=1, **options), 4, **parts) == [e for e in expected.split(", ") if e]


def test_a_part_without_data(ten):
    """CNTK gives such a process empty minibatches, without end."""
    source = ten(randomize=True)
    for _ in range(3):
        assert not source.next_minibatch(4, num_data_partitions=2, partition_index=1)


def test_sequences(threes):
    """Of 7 samples only two whole sequences are taken."""
    assert read(threes(randomize=False, max_sweeps=1), 7)[::2] == [
        "0 1 2 3 4 5", "12 13 14 15 16 17", "24 25 26 27 28 29|",
    ]  # fmt: skip
    assert read(threes(), 7, 6) == [
        "12 13 14 21 22 23", "9 10 11 27 28 29", "3 4 5 6 7 8", "24 25 26 18 19 20",
        "15 16 17 0 1 2|", "3 4 5 6 7 8",
    ]  # fmt: skip
    assert read(threes(randomize=False), 1, 2) == ["0 1 2", "3 4 5"]  # one at least
    with pytest.raises(C.GraphError, match="a sequence of 3 frames"):
        threes(frame_mode=True).next_minibatch(7)


def test_a_window_in_samples(ten, tmp_path):
    (tmp_path / "ten.txt").write_text("".join(f"|S0 {i}\n" for i in range(8)))
    source = ten(randomization_window_in_samples=6, randomization_window_in_chunks=0)
    assert read(source, 10, 2) == ["5 2 3 0 4 1 7 6 4 7|", "2 1 3 6 0 5 4 6 5 7|"]


def test_pieces_of_sequences(tmp_path):
    """Lengths 3, 5, 2, 4, 1, 3: real CNTK's numbers of pieces and frames, and where sweeps end."""
    path, lengths = tmp_path / "pieces.txt", [3, 5, 2, 4, 1, 3]
    path.write_text("".join(f"{i} |S0 {i}\n" for i, n in enumerate(lengths) for _ in range(n)))
    source = of_file(path, truncation_length=2, randomize=False, max_sweeps=2)
    found, starts, total = [], [], {}
    while minibatch := source.next_minibatch(4):
        data = minibatch[source.streams.f]
        found.append((data.num_sequences, data.num_samples, data.end_of_sweep))
        starts.append(data.data.starts)
        for piece in data.as_sequences():
            total[int(piece[0, 0])] = total.get(int(piece[0, 0]), 0) + len(piece)
    assert found == [
        (2, 4, False), (3, 4, False), (4, 4, False), (2, 4, False), (4, 4, True),
        (2, 4, False), (2, 4, False), (3, 4, False), (2, 4, True),
    ]  # fmt: skip
    assert starts[:2] == [[True, True], [False, True, False]]
    assert [total[i] for i in range(6)] == [2 * n for n in lengths]


@pytest.mark.parametrize("options", [{}, {"randomize": False}, {"truncation_length": 2}])
def test_a_state_brings_it_back(threes, options, monkeypatch):
    monkeypatch.setattr(reader, "_CHUNK", 40)  # several chunks
    source = threes(max_sweeps=3, randomization_window_in_chunks=3, **options)
    if "randomize" in options:
        source = threes(max_sweeps=3, **options)
    states, all_of_it = [], []
    while True:
        states.append(source.get_checkpoint_state())
        more = read(source, 7, 1)
        if not more:
            break
        all_of_it += more
    for i in (0, 1, 4, len(states) - 1):
        source.restore_from_checkpoint(states[i])
        assert source.current_position == states[i]
        assert read(source, 7) == all_of_it[i:]


def test_windows_roll_over_chunks(tmp_path, monkeypatch):
    """Each sequence comes once a sweep, from no farther than the window; sizes may change."""
    monkeypatch.setattr(reader, "_CHUNK", 70)  # ten lines
    path = tmp_path / "rolling.txt"
    path.write_text("".join(f"|S0 {i:02}\n" for i in range(100)))
    source = of_file(path, randomization_window_in_chunks=3, max_sweeps=2)
    found = [
        int(float(v))
        for size in (7, 13, 80, 5, 95)
        for v in read(source, size, 1)[0].strip("|").split()
    ]
    assert sorted(found[:100]) == sorted(found[100:]) == list(range(100))
    assert found[:100] != found[100:] and found[:10] != sorted(found[:10])
    chunks = [v // 10 for v in found[:30]]
    assert len(set(chunks)) <= 5


class Gen(UserDeserializer):
    """Chunks of sequences whose numbers are their chunk's."""

    def __init__(self, chunks, sequences, longest=1, fails=()):
        self.chunks, self.sequences, self.longest, self.fails = chunks, sequences, longest, fails

    def stream_infos(self):
        return [
            StreamInformation("x", 0, "dense", np.float32, (2, 3)),
            StreamInformation("y", 1, "sparse", np.float32, (3,)),
        ]

    def num_chunks(self):
        return self.chunks

    def get_chunk(self, chunk_id):
        import scipy.sparse as sp

        if chunk_id in self.fails:
            raise OSError(f"chunk {chunk_id} is lost")
        rng = np.random.default_rng(chunk_id)
        lengths = rng.integers(1, self.longest + 1, self.sequences)
        x = [np.full((n, 2, 3), chunk_id, np.float32) for n in lengths]
        y = [sp.csr_matrix(np.full((n, 3), chunk_id, np.float32)) for n in lengths]
        if self.longest == 1:
            return {"x": np.concatenate(x), "y": sp.vstack(y).tocsr()}
        return {"x": x, "y": y}


@pytest.mark.parametrize("longest", [1, 10])
@pytest.mark.parametrize("options", [{"randomize": False}, {"randomization_window_in_chunks": 5}])
@pytest.mark.parametrize("sequences", [1, 30])
def test_a_deserializer_of_ones_own(longest, options, sequences):
    source = MinibatchSource(Gen(12, sequences, longest), max_sweeps=2, **options)
    counts, again = {"x": np.zeros(12), "y": np.zeros(12)}, 0
    while True:
        state = source.get_checkpoint_state()
        minibatch = source.next_minibatch(20)
        if not minibatch:
            break
        if again % 3 == 0:
            first = source.get_checkpoint_state()
            source.next_minibatch(7)
            source.restore_from_checkpoint(state)
            minibatch = source.next_minibatch(20)
            assert source.get_checkpoint_state() == first
        again += 1
        for x in minibatch[source.streams.x].as_sequences():
            counts["x"][int(x[0, 0, 0])] += 1
        for y in minibatch[source.streams.y].as_sequences():
            counts["y"][int(y.toarray()[0, 0])] += 1
    assert (counts["x"] == 2 * sequences).all() and (counts["y"] == 2 * sequences).all()


def test_errors_come_to_the_caller_and_reading_can_go_on():
    deserializer = Gen(3, 4, fails={1})
    source = MinibatchSource(deserializer, randomize=False, max_sweeps=1)
    assert source.next_minibatch(4)  # and the next is being read
    for _ in range(2):
        with pytest.raises(OSError, match="chunk 1 is lost"):
            source.next_minibatch(4)
    deserializer.fails = ()
    assert source.next_minibatch(4)[source.streams.x].asarray()[0, 0, 0, 0] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_reads_on(ten):
    source = ten(max_sweeps=1)
    assert read(source, 4, 1) == ["4 7 3 9"]
    child = os.fork()
    if child == 0:
        os._exit(read(source, 4) != ["1 2 8 6", "5 0|"])
    assert os.waitpid(child, 0)[1] == 0
    assert read(source, 4) == ["1 2 8 6", "5 0|"]


def test_what_a_minibatch_is(ten):
    source = ten(randomize=False)
    minibatch = source.next_minibatch(4)[source["f"]]
    assert minibatch.asarray().tolist() == [[[0]], [[1]], [[2]], [[3]]]
    assert minibatch.shape == (4, 1, 1) and len(minibatch) == 4 and not minibatch.is_sparse
    assert isinstance(minibatch.data, C.Value)
    assert source.next_minibatch(2, {"f": source["f"]})["f"].num_samples == 2
    x, stream = C.input_variable(1), source.streams["f"]
    data = source.next_minibatch(3, {x: stream})
    assert (x * 2).eval(data).tolist() == [[12], [14], [16]]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_samples": 3, "max_sweeps": 2}, "max_samples or max_sweeps"),
        ({"randomization_window_in_samples": 5}, "in chunks or in samples"),
        ({"frame_mode": True, "truncation_length": 2}, "frame_mode and truncation_length"),
        ({"max_errors": 1}, "always raised"),
    ],
)
def test_what_does_not_go_together(ten, options, message):
    with pytest.raises(C.GraphError, match=message):
        ten(**options)


def test_wrong_calls(ten):
    with pytest.raises(C.GraphError, match="at least 1, got 0"):
        ten().next_minibatch(0)
    with pytest.raises(C.GraphError, match="from 0 to 1, got 2"):
        ten().next_minibatch(1, num_data_partitions=2, partition_index=2)
    with pytest.raises(C.GraphError, match="expected a deserializer"):
        MinibatchSource("file.txt")
    with pytest.raises(C.GraphError, match="can't be combined"):
        MinibatchSource([Gen(1, 1), Gen(1, 1)])


def test_a_session_that_is_taken_up_again_reads_on(tmp_path):
    """The same weights as in one go, through a checkpoint in the middle of a sweep."""
    path = tmp_path / "data.txt"
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 3))
    path.write_text("".join(f"|x {a} {b} |y {c}\n" for a, b, c in rows.tolist()))

    def train(samples, checkpoint):
        x, y = C.input_variable(2), C.input_variable(1)
        w = C.Parameter((2, 1), init=0)
        z = C.times(x, w)
        trainer = C.Trainer(z, C.squared_error(z, y), C.momentum_sgd([w], 0.1, 0.9))
        streams = StreamDefs(x=StreamDef("x", 2), y=StreamDef("y", 1))
        source = MinibatchSource(CTFDeserializer(str(path), streams))
        map_ = {x: source.streams.x, y: source.streams.y}
        config = C.CheckpointConfig(str(checkpoint))
        C.training_session(
            trainer, source, 4, map_, max_samples=samples, checkpoint_config=config
        ).train()
        return w.value, trainer.test_minibatch(source.next_minibatch(4, map_))

    whole = train(72, tmp_path / "whole")
    train(28, tmp_path / "half")
    half = train(72, tmp_path / "half")
    np.testing.assert_array_equal(whole[0], half[0])
    assert whole[1] == half[1] and np.abs(whole[0]).max() > 0


def test_a_list_of_single_samples():
    """CNTK's own test: sequences of three frames beside one label each."""

    class Labelled(UserDeserializer):
        def stream_infos(self):
            frames = StreamInformation("x", 0, "dense", np.float32, (3,))
            return [frames, StreamInformation("y", 1, "dense", np.float32, (1,), True)]

        def num_chunks(self):
            return 1

        def get_chunk(self, chunk_id):
            frames = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
            return {"x": list(frames), "y": list(np.array([[5.0], [6.0]], np.float32))}

    source = MinibatchSource(Labelled(), randomize=False)
    minibatch = source.next_minibatch(2)
    frames, labels = minibatch[source.streams.x], minibatch[source.streams.y]
    assert (frames.num_sequences, frames.num_samples) == (2, 6)
    assert [a.tolist() for a in labels.as_sequences()] == [[[5]], [[6]]]

    class Twice(Labelled):
        def stream_infos(self):
            return [
                StreamInformation(n, i, "dense", np.float32, (3,), True) for i, n in enumerate("xy")
            ]

    with pytest.raises(C.GraphError, match="only one stream"):
        MinibatchSource(Twice(), randomize=False)


def test_nothing_is_held_once_there_is_no_more():
    made = []

    class Fresh(UserDeserializer):
        def stream_infos(self):
            return [StreamInformation("x", 0, "dense", np.float32, (2,))]

        def num_chunks(self):
            return 3

        def get_chunk(self, chunk_id):
            array = np.ones((4, 2), np.float32)
            made.append(weakref.ref(array))
            return {"x": array}

    source = MinibatchSource(Fresh(), randomize=False, max_sweeps=1)
    while source.next_minibatch(3):
        pass
    assert len(made) == 3 and not any(array() is not None for array in made)
