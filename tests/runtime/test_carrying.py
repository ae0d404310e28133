"""Sequences that go on from minibatch to minibatch: truncated back-propagation.

Numbers marked so are real CNTK 2.7's.
"""

import numpy as np
import pytest

import rgraph as C
from rgraph.io import CTFDeserializer, MinibatchSource, StreamDef, StreamDefs

RNG = np.random.default_rng(0)


def pieces(x, sequences, starts):
    return C.Value.create(x, [np.array(s, np.float32).reshape(-1, 1) for s in sequences], starts)


def running(x, f):
    def run(sequences, starts):
        return [a.ravel().tolist() for a in f.eval({x: pieces(x, sequences, starts)})]

    return run


@pytest.fixture
def total():
    x = C.sequence.input_variable(1)
    return running(x, C.layers.Recurrence(lambda h, x: h + x)(x))


def test_delays_hold_what_they_held(total):
    """Real CNTK's numbers."""
    two = [[1, 1], [10, 10]]
    assert total(two, [True, True]) == [[1, 2], [10, 20]]
    assert total(two, [False, False]) == [[3, 4], [30, 40]]
    assert total(two, [True, False]) == [[1, 2], [50, 60]]
    assert total([[1, 1, 1], [10, 10]], [True, True]) == [[1, 2, 3], [10, 20]]


def test_shorter_sequences_go_on_from_their_own_end(total):
    total([[1], [10, 10], [5]], [True] * 3)
    assert total([[1, 1], [10], [5, 5, 5]], [False] * 3) == [[2, 3], [30], [10, 15, 20]]
    assert total([[1]], [False]) == [[4]]


def test_a_delay_by_several_frames_takes_them_from_several_minibatches():
    x = C.sequence.input_variable(1)
    run = running(x, C.sequence.past_value(x, 7, 3))
    found = [run([s], [i == 0])[0] for i, s in enumerate(([1, 2], [3], [4, 5, 6]))]
    assert found == [[7, 7], [7], [1, 2, 3]]


def test_what_came_before_is_counted():
    x = C.sequence.input_variable(1)
    run = running(x, C.sequence.is_first(x))
    found = [run([[1, 1]], [start])[0] for start in (True, False, True)]
    assert found == [[1, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize("options", [{}, {"window": 2}])
def test_pieces_give_what_whole_sequences_give(options):
    x = C.sequence.input_variable(3)
    layers = [C.layers.Recurrence(C.layers.LSTM(4)), C.layers.Recurrence(C.layers.GRU(2))]
    f = C.layers.Sequential(layers)(x)
    films = [RNG.normal(size=(n, 3)).astype(np.float32) for n in (12, 9, 12)]
    expected = f.eval({x: films})
    for begin in (0, 4, 8):
        given = C.Value.create(x, [s[begin : begin + 4] for s in films], [begin == 0] * 3)
        for one, other in zip(f.eval({x: given}, **options), expected, strict=True):
            np.testing.assert_allclose(one, other[begin : begin + 4], rtol=1e-5, atol=1e-6)


def test_gradients_end_where_the_minibatch_begins():
    """w h + x of [1, 2], then of [3]: by hand, with the state 2.5 taken as it is."""
    x, w = C.sequence.input_variable(1), C.Parameter((), init=0.5)
    start = C.Parameter((), init=4.0)
    h = C.layers.Recurrence(lambda h, x: w * h + x, initial_state=start)(x)
    first = h.grad({x: pieces(x, [[1, 2]], [True])}, wrt=[w, start])
    # h1 = 1 + .5 * 4 = 3, h2 = 2 + .5 * 3 = 3.5
    assert (first[w], first[start]) == (4 + 3 + 0.5 * 4, 0.5 + 0.25)
    second = h.grad({x: pieces(x, [[3]], [False])}, wrt=[w, start])
    assert (second[w], second[start]) == (3.5, 0)


TRUNCATED = {  # by truncation_length and minibatch size: real CNTK's losses
    (2, 4): [
        0.882724, 3.637335, 1.363866, 0.515975, 0.843397, 0.566555, 0.807344, 0.875741,
        1.305634, 0.993237, 0.498504, 0.640296, 0.509418, 0.143815, 0.219120, 0.023835,
    ],
    (3, 6): [
        1.235656, 1.380953, 1.839493, 0.311264, 0.807662, 1.243771, 1.220631, 0.479320,
        0.462541, 0.259532,
    ],
    (3, 9): [1.455758, 1.337286, 1.284267, 1.046053, 0.360154, 0.416269, 0.297721, 0.012026],
    (4, 8): [1.055379, 2.794823, 0.484402, 0.803561, 1.193594, 0.517221, 0.399142, 0.095980],
}  # fmt: skip


class Training:
    """A small recurrent model on sequences of 3, 5, 2, 4, 1, 3, 8 and 2 frames of a file."""

    def __init__(self, folder, truncation, max_sweeps=2):
        path = folder / "sequences.txt"
        rng = np.random.RandomState(0)
        lengths = enumerate((3, 5, 2, 4, 1, 3, 8, 2))
        numbers = [(i, *rng.normal(size=3)) for i, n in lengths for _ in range(n)]
        path.write_text("".join("{} |a {:.4f} {:.4f} |b {:.4f}\n".format(*n) for n in numbers))
        streams = StreamDefs(f=StreamDef("a", shape=2), g=StreamDef("b", shape=1))
        self.source = MinibatchSource(
            CTFDeserializer(str(path), streams),
            randomize=False,
            max_sweeps=max_sweeps,
            truncation_length=truncation,
        )
        self.x, self.t = C.sequence.input_variable(2), C.sequence.input_variable(1)
        w, r, b, v = (C.Parameter(s) for s in ((2, 3), (3, 3), (3,), (3, 1)))
        rng = np.random.RandomState(1)
        for p in (w, r, b, v):
            p.value = rng.normal(size=p.shape).astype("f") * 0.7
        h = C.layers.Recurrence(lambda h, x: C.tanh(C.times(x, w) + C.times(h, r) + b))(self.x)
        self.loss = C.squared_error(C.times(h, v), self.t)
        rate = C.learning_parameter_schedule_per_sample(0.03)
        self.trainer = C.Trainer(None, (self.loss, self.loss), C.sgd(self.loss.parameters, rate))

    def step(self, size):
        """The loss of the next minibatch; None at the end."""
        streams = self.source.streams
        minibatch = self.source.next_minibatch(size, {self.x: streams.f, self.t: streams.g})
        if not minibatch:
            return None
        self.trainer.train_minibatch(minibatch)
        return self.trainer.previous_minibatch_loss_average


@pytest.mark.parametrize("truncation, size", TRUNCATED)
def test_training_on_truncated_sequences(truncation, size, tmp_path):
    training = Training(tmp_path, truncation)
    found = list(iter(lambda: training.step(size), None))
    np.testing.assert_allclose(found, TRUNCATED[truncation, size], rtol=2e-6, atol=2e-6)


def test_a_checkpoint_holds_the_states(tmp_path):
    first = Training(tmp_path, 3)
    for _ in range(4):
        first.step(6)
    place = first.source.get_checkpoint_state()
    first.trainer.save_checkpoint(str(tmp_path / "checkpoint"))
    expected = [first.step(6) for _ in range(5)]
    again = Training(tmp_path, 3)
    again.trainer.restore_from_checkpoint(str(tmp_path / "checkpoint"))
    again.source.restore_from_checkpoint(place)
    assert [again.step(6) for _ in range(5)] == expected


def test_evaluation_between_steps_has_states_of_its_own(tmp_path):
    training = Training(tmp_path, 3)
    other = {training.x: [np.ones((4, 2))], training.t: [np.ones((4, 1))]}
    found = []
    while (loss := training.step(6)) is not None:
        found.append(loss)
        training.trainer.test_minibatch(other)
    np.testing.assert_allclose(found, TRUNCATED[3, 6], rtol=2e-6, atol=2e-6)


def refused(f, x, sequences, starts, *parts):
    with pytest.raises(C.GraphError) as caught:
        f.eval({x: pieces(x, sequences, starts)})
    for part in parts:
        assert part in str(caught.value)


def test_what_can_not_go_on_is_refused():
    x = C.sequence.input_variable(1)
    f = C.sequence.past_value(x)
    refused(f, x, [[1]], [False], "the run before kept no states")
    f.eval({x: pieces(x, [[1], [2]], [True, True])})
    refused(f, x, [[1]] * 3, [False] * 3, "sequence 2 goes on from", "which had 2")
    f.eval({x: [[[1.0]]]})  # says nothing of what starts, and keeps nothing
    refused(f, x, [[1]], [False], "kept no states")
    ahead = C.sequence.future_value(x)
    ahead.eval({x: pieces(x, [[1]], [True])})
    refused(ahead, x, [[1]], [False], "looks 1 frame ahead")
    y = C.sequence.input_variable(1)
    both = {x: pieces(x, [[1]], [True]), y: pieces(y, [[1]], [False])}
    with pytest.raises(C.GraphError, match="disagree on which sequences go on"):
        (x + C.sequence.past_value(y)).eval(both)
