"""Trainers, sessions and progress; expected lines and numbers are CNTK 2.7's of this program."""

import io as text_io
import re
import struct

import numpy as np
import pytest

import rgraph as C
from rgraph.graph.context import context
from rgraph.train.checkpoint import load_state, save_state, state_of
from rgraph.train.reading import Reader

N = 20
rng = np.random.RandomState(0)
CLASSES = rng.randint(size=N, low=0, high=2)
X = ((rng.randn(N, 2) + 3) * (CLASSES[:, None] + 1)).astype(np.float32)
T = np.eye(2, dtype=np.float32)[CLASSES]
START = np.array([[0.1, -0.2], [0.3, 0.1]], np.float32)


class Program:
    """Logistic regression in minibatches of 4."""

    def __init__(self, writers=None, metric=True):
        self.x, self.t = C.input_variable(2, name="x"), C.input_variable(2, name="t")
        self.w = C.parameter(init=START)
        self.z = C.times(self.x, self.w)
        self.loss = C.cross_entropy_with_softmax(self.z, self.t)
        self.error = C.classification_error(self.z, self.t)
        rate = C.learning_parameter_schedule([0.1, 0.05], epoch_size=8)
        learner = C.momentum_sgd([self.w], rate, 0.9)
        criterion = (self.loss, self.error if metric else None)
        self.trainer = C.Trainer(self.z, criterion, [learner], writers)

    def batch(self, i):
        return {self.x: X[i * 4 : i * 4 + 4], self.t: T[i * 4 : i * 4 + 4]}

    def run(self, tests=True):
        for _ in range(2):
            for i in range(5):
                self.trainer.train_minibatch(self.batch(i))
            self.trainer.summarize_training_progress()
        if tests:
            for i in range(5):
                self.trainer.test_minibatch(self.batch(i))
            self.trainer.summarize_test_progress()


# Steps


def test_what_a_step_leaves_behind():
    p = Program()
    assert p.trainer.train_minibatch(p.batch(0)) is True
    assert p.trainer.previous_minibatch_sample_count == 4
    assert p.trainer.previous_minibatch_loss_average == pytest.approx(7.254180431365967 / 4)
    assert p.trainer.previous_minibatch_evaluation_average == 0.5
    p.trainer.train_minibatch(p.batch(1))
    assert p.trainer.total_number_of_samples_seen == 8


def test_outputs_are_those_before_the_update():
    p = Program()
    goes_on, values = p.trainer.train_minibatch(p.batch(0), outputs=[p.z.output])
    assert goes_on
    np.testing.assert_allclose(values[p.z.output], X[:4] @ START, rtol=1e-6)


def test_a_model_of_several_outputs():
    x = C.input_variable(2)
    a, b = C.layers.Dense(2, init=1)(x), C.layers.Dense(3, init=1)(x)
    loss = C.reduce_sum(a) + C.reduce_sum(b)
    trainer = C.Trainer(C.combine([a, b]), loss, C.sgd(loss.parameters, 0.1))
    assert [o.shape for o in trainer.model.outputs] == [(2,), (3,)]
    _, values = trainer.train_minibatch({x: np.ones((2, 2))}, outputs=[a, b])
    assert [v.shape for v in values.values()] == [(2, 2), (2, 3)]


def test_a_criterion_of_its_own_for_cross_validation():
    p = Program()
    criterion = C.combine([p.loss, p.error])
    heard = []
    validation = C.CrossValidationConfig(
        (X, T), minibatch_size=4, criterion=criterion, callback=lambda *said: heard.append(said[1])
    )
    learner = C.sgd([p.w], 0.1)
    criterion.train((X, T), 4, parameter_learners=[learner], callbacks=[validation])
    assert heard == [pytest.approx(p.error.eval({p.x: X, p.t: T}).mean())]


def test_an_empty_minibatch_is_the_end():
    p = Program()
    assert p.trainer.train_minibatch({}) is False
    np.testing.assert_array_equal(p.w.value, START)


def test_test_minibatch_learns_nothing():
    p = Program()
    assert p.trainer.test_minibatch(p.batch(0)) == 0.5
    np.testing.assert_array_equal(p.w.value, START)
    loss_only = Program(metric=False)
    mean = loss_only.trainer.test_minibatch(loss_only.batch(0))
    assert mean == pytest.approx(7.254180431365967 / 4)


@pytest.mark.parametrize(
    "make, mean, after",
    [
        (lambda y, t: C.square(y - t), 2.9166667, [-0.0333333, -0.1333333]),
        (
            lambda y, t: C.reduce_sum(C.square(y - t), axis=C.Axis.all_axes()),
            2.9166667,
            [-0.0333333, -0.1333333],
        ),
        (
            lambda y, t: C.reduce_mean(C.square(y - t), axis=C.Axis.all_axes()),
            0.9722222,
            [0.3222222, 0.2888889],
        ),
    ],
)
def test_losses_per_sample_and_for_the_minibatch(make, mean, after):
    x, t, w = C.input_variable(2), C.input_variable(1), C.Parameter((2, 1), init=0.5)
    y = C.times(x, w)
    trainer = C.Trainer(y, make(y, t), C.sgd([w], 0.1))
    trainer.train_minibatch({x: [[1, 2], [3, 4], [0, 1]], t: [[1], [1], [2]]})
    assert trainer.previous_minibatch_sample_count == 3
    assert trainer.previous_minibatch_loss_average == pytest.approx(mean)
    np.testing.assert_allclose(w.value.ravel(), after, rtol=1e-5)


def test_frames_are_samples_and_a_metric_is_divided_by_the_losss():
    x, w = C.sequence.input_variable(2), C.Parameter((2, 1), init=0.5)
    y = C.times(x, w)
    trainer = C.Trainer(y, (C.square(y), C.sequence.last(y)), C.sgd([w], 0.1))
    trainer.train_minibatch({x: [np.ones((3, 2)), np.ones((1, 2))]})
    assert trainer.previous_minibatch_sample_count == 4
    assert trainer.previous_minibatch_loss_average == 1
    assert trainer.previous_minibatch_evaluation_average == 0.5


def test_parameters_that_no_learner_has_stay():
    x = C.input_variable(2)
    w, b = C.Parameter((2, 2), init=1), C.Parameter(2, init=1)
    loss = C.reduce_sum(C.square(C.times(x, w) + b))
    trainer = C.Trainer(None, loss, C.sgd([w], 0.1))
    trainer.train_minibatch({x: [[1, 2]]})
    np.testing.assert_array_equal(b.value, [1, 1])
    assert (w.value != 1).all()


def test_each_of_two_learners_has_its_own_rate():
    x, a, b = C.input_variable(1), C.Parameter(1), C.Parameter(1)
    trainer = C.Trainer(None, x + a + b, [C.sgd([a], 1.0), C.sgd([b], 0.5)])
    trainer.train_minibatch({x: [[0], [0]]})
    assert (a.value, b.value) == (-1, -0.5)


def test_parameters_that_are_each_others_gradient():
    """Each is updated by the other's value before the update."""
    x, a, b = C.input_variable(()), C.Parameter((), init=2), C.Parameter((), init=3)
    trainer = C.Trainer(None, a * b + 0 * x, C.sgd([a, b], 0.1))
    trainer.train_minibatch({x: [0]})
    np.testing.assert_allclose([a.value, b.value], [1.7, 2.8], rtol=1e-6)


def test_dropout_drops_in_training_only():
    x, w = C.input_variable(100), C.Parameter(100, init=1)
    y = C.dropout(x * w, 0.5)
    trainer = C.Trainer(y, C.reduce_sum(y), C.sgd([w], 0.0))
    _, values = trainer.train_minibatch({x: np.ones((1, 100))}, outputs=[y])
    assert set(np.unique(values[y])) == {0, 2}
    assert trainer.test_minibatch({x: np.ones((1, 100))}) == 100


def test_mistakes_of_trainers():
    p = Program()
    with pytest.raises(ValueError, match="the loss does not depend on"):
        C.Trainer(p.z, p.loss, C.sgd([C.Parameter(2)], 0.1))
    with pytest.raises(ValueError, match="two learners"):
        C.Trainer(p.z, p.loss, [C.sgd([p.w], 0.1), C.sgd([p.w], 0.1)])
    with pytest.raises(ValueError, match="a loss, or a pair"):
        C.Trainer(p.z, (p.loss, p.error, p.error), C.sgd([p.w], 0.1))
    with pytest.raises(C.GraphError, match="was given no value"):
        p.trainer.train_minibatch({p.x: X[:4]})
    with pytest.raises(C.GraphError, match="the function has 2 inputs"):
        p.trainer.train_minibatch(X[:4])
    with pytest.raises(ValueError, match="needs at least one learner"):
        C.Trainer(p.z, p.loss, [])
    with pytest.raises(ValueError, match="expected a learner"):
        C.Trainer(p.z, p.loss, "sgd")
    with pytest.raises(ValueError, match="expected a progress writer"):
        C.Trainer(p.z, p.loss, C.sgd([p.w], 0.1), [print])


def test_a_learner_of_ones_own():
    class Plain(C.UserLearner):
        def update(self, gradient_values, training_sample_count, sweep_end):
            for p, g in gradient_values.items():
                p.value = p.value - self.learning_rate() * g / training_sample_count
            return True

    p, q = Program(), Program()
    own = C.Trainer(p.z, p.loss, Plain([p.w], C.learning_parameter_schedule(0.1)))
    builtin = C.Trainer(q.z, q.loss, C.sgd([q.w], 0.1))
    for i in range(3):
        own.train_minibatch(p.batch(i))
        builtin.train_minibatch(q.batch(i))
    np.testing.assert_allclose(p.w.value, q.w.value, rtol=1e-6)


def test_times_of_operations_are_printed_once(capsys):
    p = Program()
    C.debugging.set_node_timing(True)
    for i in range(3):
        p.trainer.train_minibatch(p.batch(i))
    C.debugging.set_node_timing(False)
    p.trainer.print_node_timing()
    printed = lines(capsys)
    assert [s.split()[-1] for s in printed if s.strip().startswith("times")] == ["3", "3"]
    for timed in (p.trainer, p.z, C.eval.Evaluator(p.error)):
        timed.print_node_timing()
        assert lines(capsys)[0].startswith("no run was timed")


# What is not finite, and what is empty


def normalized():
    """A model with running statistics, and all that a step changes in it."""
    x = C.input_variable(2, name="x")
    w = C.Parameter((2, 2), init=np.array([[1, 2], [0.5, -1]], np.float32), name="w")
    y = C.layers.BatchNormalization(init_scale=1)(C.times(x, w))
    loss = C.reduce_sum(C.sqrt(C.square(y) + C.square(x)))
    learner = C.momentum_sgd(loss.parameters, 0.1, 0.9)
    return x, loss, learner


def everything(trainer):
    return str([state_of(trainer)["parameters"], trainer.parameter_learners[0].create_checkpoint()])


def test_the_operation_that_made_nan_is_named():
    """A state is infinite in the third frame, 1e60 in float32, and is taken from itself."""
    x = C.sequence.input_variable(1, name="film")
    grown = C.layers.Recurrence(lambda h, v: h * 1e30 + v)(x)
    y = C.sequence.last(grown - grown) * C.Parameter(1)
    trainer = C.Trainer(None, y, C.sgd(y.parameters, 0.1))
    places = (
        r"(?s)the loss is NaN.*minus: .*first at \(0,\) of frame 2 of sequence 1.*test_train.py"
    )
    with pytest.raises(C.GraphError, match=places):
        one_step(trainer, {x: [np.zeros((4, 1)), np.ones((3, 1))]})
    assert not y.parameters[0].value.any()


def one_step(trainer, minibatch):
    """And then the end of the data: on a GPU what was wrong is heard of then."""
    trainer.train_minibatch(minibatch)
    trainer.train_minibatch({})


GOOD, BAD = [[1, 2], [3, 5]], [[1, 2], [np.nan, 1]]


def test_a_step_that_meets_nan_is_not_made():
    x, loss, learner = normalized()
    trainer = C.Trainer(None, loss, learner)
    trainer.train_minibatch({x: GOOD})
    before = everything(trainer)
    with pytest.raises(
        C.GraphError, match=r"(?s)the loss is NaN.*'x' .*first at \(0,\) of sample 1"
    ):
        one_step(trainer, {x: BAD})
    assert everything(trainer) == before
    trainer.train_minibatch({x: GOOD})
    assert everything(trainer) != before


def test_what_the_loss_assigns_is_not_assigned_with_nan():
    x, w, count = C.input_variable(1), C.Parameter(1), C.Parameter(())
    loss = C.layers.BatchNormalization()(x * w) + C.assign(count, count + 1)
    trainer = C.Trainer(None, loss, C.sgd([w], 0.1))
    trainer.train_minibatch({x: [[1], [2]]})
    with pytest.raises(C.GraphError, match="the loss is NaN"):
        one_step(trainer, {x: [[1], [np.nan]]})
    trainer.train_minibatch({x: [[1], [2]]})
    assert count.value == 2


def test_minibatches_with_nan_can_be_left_out():
    class Told(Recorder):
        def write(self, key, value):
            self.calls.append((key, value))

    def after(minibatches, **options):
        x, loss, learner = normalized()
        trainer = C.Trainer(None, loss, learner, writer, **options)
        assert all(trainer.train_minibatch({x: m}) for m in minibatches)
        return everything(trainer), trainer.total_number_of_samples_seen

    writer = Told(1)
    skipped, seen = after([GOOD, BAD, GOOD, BAD], on_nan="skip")
    assert [c[1] for c in writer.calls if "skipped" in c[0]] == [1, 2]
    assert [c[1:3] for c in writer.calls if c[0] == "update"] == [
        ((0, 2), (0, 1)),
        ((2, 4), (1, 2)),
    ]
    assert (skipped, seen) == (after([GOOD, GOOD])[0], 8)
    assert "nan" in after([GOOD, BAD], on_nan="ignore")[0]
    with pytest.raises(ValueError, match="on_nan must be"):
        after([], on_nan="stop")


def test_what_nan_does_can_be_said_for_all_trainers(monkeypatch):
    monkeypatch.setattr(context(), "options", {})
    C.set_global_option("on_nan", "ignore")
    x, loss, learner = normalized()
    trainer = C.Trainer(None, loss, learner)
    assert trainer.train_minibatch({x: BAD}) and "nan" in everything(trainer)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda w, x: C.reduce_sum(x) / C.reduce_sum(w) * 1e30 * x * 1e30, "gradient of .*'w'"),
        (lambda w, x: C.reduce_sum(w * x) + C.stop_gradient(C.reciprocal(x) * np.inf), "loss"),
    ],
)
def test_what_is_not_finite_is_named(make, name):
    x, w = C.input_variable(2), C.Parameter(2, init=1, name="w")
    trainer = C.Trainer(None, C.reduce_sum(make(w, x)), C.sgd([w], 0.1))
    with pytest.raises(C.GraphError, match=name):
        one_step(trainer, {x: [[1, 0]]})
    np.testing.assert_array_equal(w.value, [1, 1])


def test_gradients_that_a_learner_cuts_off_may_be_infinite():
    """1e30 * 1e30 is infinite in float32; each element is held at 0.5 per sample."""
    x, w = C.input_variable(2), C.Parameter(2, init=1)
    learner = C.sgd(
        [w], C.learning_parameter_schedule_per_sample(1), gradient_clipping_threshold_per_sample=0.5
    )
    trainer = C.Trainer(None, C.reduce_sum(w * x * 1e30), learner)
    trainer.train_minibatch({x: [[1e30, 2e30]]})
    np.testing.assert_array_equal(w.value, [0.5, 0.5])


def test_gradients_whose_squares_overflow_are_finite():
    x, w = C.input_variable(1), C.Parameter(1)
    trainer = C.Trainer(None, w * x, C.sgd([w], 1e-30))
    trainer.train_minibatch({x: [[1e30]]})
    np.testing.assert_allclose(w.value, [-1])


def test_a_minibatch_of_no_samples_changes_nothing():
    x, loss, learner = normalized()
    trainer = C.Trainer(None, loss, learner)
    trainer.train_minibatch({x: GOOD})
    before = everything(trainer)
    assert trainer.train_minibatch({x: np.zeros((0, 2))}) is True
    assert everything(trainer) == before
    assert trainer.total_number_of_samples_seen == 2


# Progress


def lines(capsys):
    """What was printed, times and speeds left out."""
    return [re.sub(r" \d+\.\d+s \(.*\)", "", s) for s in capsys.readouterr().out.splitlines()]


RATES = ["Learning rate per minibatch: 0.1", "Momentum per minibatch: 0.9"]
LATER = "Learning rate per minibatch: 0.05"
TABLE = [
    " average      since    average      since      examples",
    "    loss       last     metric       last              ",
    " ------------------------------------------------------",
    *RATES,
    "     1.81       1.81        0.5        0.5             4",
    LATER,
    "     1.67        1.6       0.75      0.875            12",
    "     1.51       1.51        0.5        0.5             4",
    "    0.669       0.25       0.25      0.125            12",
]
PRINTED = [
    ({"freq": 0}, [*TABLE, "Finished Evaluation [1]: Minibatch[1-5]: metric = 45.00% * 20;"]),
    (
        {"freq": 0, "test_freq": 0},
        [
            *TABLE,
            "                            0.5        0.5             4",
            "                           0.25      0.125            12",
            "Finished Evaluation [1]: Minibatch[1-5]: metric = 45.00% * 20;",
        ],
    ),
    (
        {"freq": 2, "first": 2, "tag": "T"},
        [
            *RATES,
            " Minibatch[   1-   1]: loss = 1.813545 * 4, metric = 50.00% * 4;",
            " Minibatch[   2-   2]: loss = 2.323501 * 4, metric = 100.00% * 4;",
            LATER,
            " Minibatch[   3-   4]: loss = 0.857676 * 8, metric = 75.00% * 8;",
            "Finished Epoch[1]: [T] loss = 1.438988 * 20, metric = 75.00% * 20;",
            " Minibatch[   1-   1]: loss = 1.505772 * 4, metric = 50.00% * 4;",
            " Minibatch[   2-   2]: loss = 0.008558 * 4, metric = 0.00% * 4;",
            " Minibatch[   3-   4]: loss = 1.404497 * 8, metric = 50.00% * 8;",
            "Finished Epoch[2]: [T] loss = 1.401271 * 20, metric = 45.00% * 20;",
            "Finished Evaluation [1]: Minibatch[1-5]: metric = 45.00% * 20;",
        ],
    ),
    (
        {"test_freq": 2, "test_first": 1, "metric_is_pct": False, "num_epochs": 2},
        [
            *RATES,
            LATER,
            "Finished Epoch[1 of 2]: loss = 1.438988 * 20, metric = 0.750000 * 20;",
            "Finished Epoch[2 of 2]: loss = 1.401271 * 20, metric = 0.450000 * 20;",
            " Evaluation Minibatch[   1-   1]: metric = 0.500000 * 4;",
            " Evaluation Minibatch[   2-   2]: metric = 0.000000 * 4;",
            " Evaluation Minibatch[   3-   4]: metric = 0.500000 * 8;",
            "Finished Evaluation [1]: Minibatch[1-5]: metric = 0.450000 * 20;",
        ],
    ),
]


@pytest.mark.parametrize("options, expected", PRINTED)
def test_printed_lines_are_cntks(options, expected, capsys):
    Program([C.logging.ProgressPrinter(**options)]).run()
    printed = lines(capsys)
    assert [re.sub(r"\d", "#", s) for s in printed] == [re.sub(r"\d", "#", s) for s in expected]
    for numbers in zip(*(re.findall(r"[\d.]*\d", " ".join(p)) for p in (printed, expected))):
        assert float(numbers[0]) == pytest.approx(float(numbers[1]), abs=1.5e-6)


def test_without_a_metric_the_loss_is_printed(capsys):
    """1.0232579 is the mean loss of the weights that are trained last in `TRAININGS`."""
    p = Program(C.logging.ProgressPrinter(freq=2, test_freq=5), metric=False)
    p.run(tests=False)
    assert " Minibatch[   1-   2]: loss = 2.068523 * 8;" in lines(capsys)
    p.w.value = np.array([[-0.03074782, -0.06925209], [0.27936304, 0.12063698]])
    config = C.CrossValidationConfig((X, T), (1, C.train.DataUnit.sweep), 4)
    tested = [
        " Evaluation Minibatch[   1-   5]: loss = 1.023258 * 20;",
        "Finished Evaluation [1]: Minibatch[1-5]: loss = 1.023258 * 20;",
    ]
    p.loss.test((X, T), 4, callbacks=C.logging.ProgressPrinter(test_freq=5))
    assert lines(capsys) == tested
    printer = C.logging.ProgressPrinter(test_freq=5)
    trainer = C.Trainer(p.z, p.loss, C.sgd([p.w], 0.0), printer)
    C.training_session(trainer, (X, T), 20, max_samples=20, cv_config=config).train()
    assert lines(capsys)[1:3] == tested


def test_a_log_in_a_file(tmp_path, capsys):
    path = tmp_path / "log"
    Program(C.logging.ProgressPrinter(freq=2, log_to_file=str(path))).run(tests=False)
    assert lines(capsys) == []
    assert "Minibatch[   3-   4]: loss = 0.857676 * 8" in path.read_text()


class Recorder(C.logging.ProgressWriter):
    def __init__(self, *args):
        super().__init__(*args)
        self.calls = []

    def on_write_training_update(self, samples, updates, loss, metric):
        self.calls.append(("update", samples, updates, metric))

    def on_write_test_update(self, samples, updates, metric):
        self.calls.append(("test update", samples, updates, metric))

    def on_write_training_summary(self, samples, updates, summaries, loss, metric, milliseconds):
        self.calls.append(("summary", samples, updates, summaries, round(loss, 4), metric))

    def on_write_test_summary(self, samples, updates, summaries, metric, milliseconds):
        self.calls.append(("test", samples, updates, summaries, metric))


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (
            (2, 0, 2, 0),
            [
                ("update", (0, 8), (0, 2), (0.0, 6.0)),
                ("update", (8, 16), (2, 4), (6.0, 12.0)),
                ("summary", 20, 5, 1, 28.7798, 15.0),
                ("update", (0, 8), (0, 2), (0.0, 2.0)),
                ("update", (8, 16), (2, 4), (2.0, 6.0)),
                ("summary", 20, 5, 2, 28.0254, 9.0),
                ("test update", (0, 8), (0, 2), (0.0, 2.0)),
                ("test update", (8, 16), (2, 4), (2.0, 6.0)),
                ("test", 20, 5, 1, 9.0),
            ],
        ),
        (
            (0, 0, 3, 2),
            [
                ("update", (0, 4), (0, 1), (0.0, 2.0)),
                ("update", (4, 12), (1, 3), (2.0, 9.0)),
                ("summary", 20, 5, 1, 28.7798, 15.0),
                ("update", (0, 4), (0, 1), (0.0, 2.0)),
                ("update", (4, 12), (1, 3), (2.0, 3.0)),
                ("summary", 20, 5, 2, 28.0254, 9.0),
                ("test update", (0, 4), (0, 1), (0.0, 2.0)),
                ("test update", (4, 8), (1, 2), (2.0, 2.0)),
                ("test update", (8, 12), (2, 3), (2.0, 3.0)),
                ("test", 20, 5, 1, 9.0),
            ],
        ),
    ],
)
def test_writers_are_called_as_cntks(arguments, expected):
    writer = Recorder(*arguments)
    Program([writer]).run()
    assert writer.calls == expected
    assert writer.total_training_updates() == 10


# What CNTK 2.7 wrote: the file's version; a loss and a metric of 0.85 after two minibatches of 2
# samples; 3.5 as "mine" at step 7
CNTKS_RECORDS = [
    "1800000000000000a37f4b2209000040faffc1da411a0d627261696e2e4576656e743a32c702c521",
    "2800000000000000ff70164a09000040faffc1da4110022a1b0a190a126d696e6962617463682f6176675f6c6f737315"
    "9a99593f85ae6c7f",
    "2a00000000000000ae8d91f509000040faffc1da4110022a1d0a1b0a146d696e6962617463682f6176675f6d65747269"
    "63159a99593f30ce20b2",
    "1a00000000000000129bd82d09000040faffc1da4110072a0d0a0b0a046d696e6515000060408464b44f",
]


def test_tensorboards_file_is_cntks(tmp_path, monkeypatch):
    (then,) = struct.unpack("<d", bytes.fromhex("000040faffc1da41"))
    monkeypatch.setattr("time.time", lambda: then)
    writer = C.logging.TensorBoardProgressWriter(freq=2, log_dir=str(tmp_path / "new" / "folder"))
    for _ in range(2):
        writer.update_training(samples=2, loss=1.7, metric=1.7)
    writer.write_value("mine", 3.5, 7)
    writer.close()
    (path,) = (tmp_path / "new" / "folder").iterdir()
    assert path.name.startswith("events.out.tfevents.1795686377.")
    assert path.read_bytes() == bytes.fromhex("".join(CNTKS_RECORDS))
    with pytest.raises(RuntimeError, match="closed"):
        writer.write_value("mine", 1, 8)


def test_images_as_tensorboard_reads_them(tmp_path):
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_file_loader", reason="TensorBoard is missing"
    )
    image = pytest.importorskip("PIL.Image", reason="Pillow is missing")
    gray, colored = C.input_variable((1, 2, 4)), C.input_variable((3, 2, 4))
    grays = np.arange(16).reshape(2, 1, 2, 4) * 20.0 - 10.4
    colors = np.arange(24).reshape(1, 3, 2, 4) * 10
    writer = C.logging.TensorBoardProgressWriter(log_dir=str(tmp_path))
    writer.write_image("seen", {gray: grays, colored: colors}, 7)
    with pytest.raises(C.GraphError, match=r"\(n, channels, height, width\)"):
        writer.write_image("flat", {gray: grays[:, 0]}, 8)
    writer.close()
    (path,) = tmp_path.iterdir()
    _, *events = loader.EventFileLoader(str(path)).Load()
    assert [e.step for e in events] == [7, 7]
    values = [v for e in events for v in e.summary.value]
    assert [v.tag for v in values] == ["seen/image/0", "seen/image/1", "seen/image/0"]
    found = [
        np.array(image.open(text_io.BytesIO(v.tensor.string_val[2])))  # after width and height
        for v in values
    ]
    assert [v.tensor.string_val[:2] for v in values] == [[b"4", b"2"]] * 3
    np.testing.assert_array_equal(found[:2], np.clip(np.rint(grays[:, 0]), 0, 255))
    np.testing.assert_array_equal(found[2], np.moveaxis(colors[0, ::-1], 0, -1))


def test_a_printer_that_is_told_by_hand(capsys):
    told = C.logging.ProgressPrinter(freq=2)
    seen = []
    for loss in (2.0, 4.0, 6.0):
        told.update(loss, 4, 0.5)
        seen.append((told.avg_loss_since_start(), told.avg_loss_since_last()))
    assert seen == [(2, 2), (3, 0), (4, 6)]  # CNTK's
    assert told.avg_metric_since_start() == told.avg_metric_since_last() == 0.5
    capsys.readouterr()
    p, printer = Program(), C.logging.ProgressPrinter(freq=2)
    for i in range(2):
        p.trainer.train_minibatch(p.batch(i))
        printer.update_with_trainer(p.trainer, with_metric=True)
    loss, metric, samples = printer.epoch_summary(with_metric=True)
    assert lines(capsys)[0] == " Minibatch[   1-   2]: loss = 2.068523 * 8, metric = 75.00% * 8;"
    assert (round(loss, 6), metric, samples) == (2.068523, 0.75, 8)


class Terminal(text_io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal_alone(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    for file, drawn in ((Terminal(), True), (text_io.StringIO(), False)):
        with C.logging.ProgressBar(total=40, file=file) as bar:
            Program([bar]).run(tests=False)
        assert ("100% [####" in file.getvalue()) == drawn
        assert file.getvalue().endswith("\n") == drawn


def screen(text):
    """What a terminal shows of it."""
    rows, at = [""], 0
    for part in re.findall(r"\r|\n|\x1b\[K|[^\r\n\x1b]+", text):
        if part == "\n":
            rows.append("")
        elif part == "\x1b[K":
            rows[-1] = rows[-1][:at]
        elif part != "\r":
            rows[-1] = rows[-1][:at] + part + rows[-1][at + len(part) :]
        at = 0 if part in "\r\n" else at + len(part) * (part[0] != "\x1b")
    return rows


def test_lines_are_printed_above_a_bar(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    bar = C.logging.ProgressBar(total=40, file=terminal)
    Program([bar, C.logging.ProgressPrinter(freq=2)]).run(tests=False)
    bar.close()
    *printed, drawn, last = screen(terminal.getvalue())
    assert [s.split("[")[0] for s in printed] == [
        *RATES,
        *(" Minibatch", LATER, " Minibatch", "Finished Epoch"),
        *(" Minibatch", " Minibatch", "Finished Epoch"),
    ]
    assert drawn.startswith("100% [####") and not last
    print("after")
    assert screen(terminal.getvalue())[-2:] == ["after", ""]


def test_a_bar_without_a_total_counts():
    bar = C.logging.ProgressBar(file=text_io.StringIO())
    bar.update_training(1000, 500.0, 250.0)
    assert bar.text() == "1,000 samples  loss 0.5  metric 0.25"


# Function.train and sessions


def criterion(metric=True):
    p = Program()
    f = C.combine([p.loss, p.error]) if metric else p.loss
    return f, p


@pytest.mark.parametrize(
    "options, epochs, updates, after",
    [
        (
            {"max_epochs": 2},
            [(0.858099, 0.45, 20), (0.695177, 0.45, 20)],
            [(0.858099, 0.45, 20), (0.695177, 0.45, 20)],
            [-0.03074782, -0.06925209, 0.27936304, 0.12063698],
        ),
        (
            {"max_epochs": 2, "epoch_size": 8},
            [(0.917461, 0.25, 8), (0.859119, 0.5, 8)],
            [(0.917461, 0.25, 8), (0.859119, 0.5, 8)],
            [-0.04530709, -0.05469288, 0.17146285, 0.22853716],
        ),
        (
            {"max_samples": 30},
            [(0.718910, 0.366667, 30)],
            [],
            [-0.2571875, 0.15718763, 0.02979226, 0.37020782],
        ),
        (
            {"max_samples": 30, "epoch_size": 10},
            [(0.733882, 0.25, 12), (1.044423, 0.75, 8), (0.440534, 0.2, 10)],
            [(0.917461, 0.25, 8), (1.044423, 0.75, 8), (0.548880, 0.25, 8)],
            [-0.2571875, 0.15718763, 0.02979226, 0.37020782],
        ),
        (
            {"max_epochs": 2, "progress_frequency": 16},
            [(0.888290, 0.375, 16), (0.551370, 0.375, 16), (1.003869, 0.75, 8)],
            [(0.888290, 0.375, 16), (0.551370, 0.375, 16)],
            [-0.03074782, -0.06925209, 0.27936304, 0.12063698],
        ),
    ],
)
def test_training_in_one_call_is_cntks(options, epochs, updates, after):
    f, p = criterion()
    progress = f.train((X, T), minibatch_size=4, parameter_learners=[C.sgd([p.w], 0.1)], **options)
    np.testing.assert_allclose(progress.epoch_summaries, epochs, atol=1e-6)
    by_key = [[e["loss"], e["metric"], e["samples"]] for e in progress["epoch_summaries"]]
    np.testing.assert_array_equal(by_key, progress.epoch_summaries)
    np.testing.assert_allclose(
        np.reshape(progress.updates, (-1, 3)), np.reshape(updates, (-1, 3)), atol=1e-6
    )
    np.testing.assert_allclose(p.w.value.ravel(), after, atol=1e-6)


@pytest.mark.parametrize(
    "data", [[X, T], (C.Value(X), C.Value(T)), [X, C.NDArrayView.from_dense(T)]]
)
def test_data_in_a_list_or_as_values(data):
    f, p = criterion()
    progress = f.train(data, 4, parameter_learners=C.sgd([p.w], 0.1), max_epochs=2)
    np.testing.assert_allclose(
        progress.epoch_summaries, [(0.858099, 0.45, 20), (0.695177, 0.45, 20)], atol=1e-6
    )


def test_testing_in_one_call(capsys):
    f, p = criterion()
    p.w.value = np.array([[-0.03074782, -0.06925209], [0.27936304, 0.12063698]])
    summary = f.test((X, T), minibatch_size=8, callbacks=[C.logging.ProgressPrinter()])
    assert summary == (0.55, 20)
    assert lines(capsys) == ["Finished Evaluation [1]: Minibatch[1-3]: metric = 55.00% * 20;"]
    loss, _ = p.loss.test((X, T))
    assert loss == pytest.approx(1.0232579)


def test_training_on_ragged_sequences_from_lists():
    x, t = C.sequence.input_variable(1), C.sequence.input_variable(1)
    loss = C.squared_error(x * C.Parameter(1), t)
    xs = [np.ones((n, 1), np.float32) for n in (3, 1, 2, 4)]
    progress = loss.train(
        (xs, [3 * v for v in xs]),
        minibatch_size=5,
        parameter_learners=C.sgd(loss.parameters, 0.2),
        max_samples=300,
        progress_frequency=100,
    )
    assert progress.epoch_summaries[-1].loss < 1e-6
    assert loss.parameters[0].value == pytest.approx(3, abs=1e-4)


# Counts. CNTK 2.7 counts minibatches in frames, all else in the loss's samples, as is asked for
# here; but it asks a source for as many frames as the loss has samples left, so that of clips with
# a label each the minibatches become smaller and smaller (2, 1, 1, 1, …) or fail.

LENGTHS = (1, 2, 3, 4, 5, 6)
CLIPS = [np.full((n, 1), n, np.float32) for n in LENGTHS]
ZEROS = np.zeros((6, 1), np.float32)


def labelled_clips():
    """Each clip's loss is the square of its length, as long as w is 1; a rate of 0 keeps it so."""
    x, t = C.sequence.input_variable(1), C.input_variable(1)
    y = C.Parameter(1, init=1) * C.sequence.last(x)
    loss = C.squared_error(y, t)
    return C.combine([loss, C.squared_error(y, t)]), C.sgd(loss.parameters, 0.0)


@pytest.mark.parametrize(
    "options, minibatches, epochs",
    [
        ({}, [3, 1, 1, 1], [6]),
        ({"max_epochs": 2}, [3, 1, 1, 1] * 2, [6, 6]),
        ({"max_epochs": 0.5}, [3, 1], [4]),  # 11 of 21 frames, and the clip that is begun
        ({"max_epochs": 2, "epoch_size": 4}, [3, 1, 1, 1, 2], [4, 4]),
        ({"max_samples": 7, "progress_frequency": 3}, [3, 1, 1, 1, 1], [3, 3, 1]),
        ({"minibatch_size": 100}, [6], [6]),
        ({"minibatch_size": 100, "max_samples": 4}, [4], [4]),
    ],
)
def test_clips_with_a_label_each_are_counted_by_labels(options, minibatches, epochs):
    loss, learner = labelled_clips()
    options = {"minibatch_size": 6, **options}
    writer = Recorder(1)
    progress = loss.train((CLIPS, ZEROS), parameter_learners=learner, callbacks=writer, **options)
    assert [u.samples for u in progress.updates] == minibatches
    assert [e.samples for e in progress.epoch_summaries] == epochs
    assert [c[1] for c in writer.calls if c[0] == "summary"] == epochs
    squares = np.array(LENGTHS * 2) ** 2.0
    for i, epoch in enumerate(progress.epoch_summaries):
        begin = sum(epochs[:i])
        assert epoch.loss == epoch.metric == pytest.approx(squares[begin:][: epoch.samples].mean())


@pytest.mark.parametrize("most, samples, minibatches", [(None, 6, 4), (4, 4, 2), (5, 5, 3)])
def test_validation_on_clips_is_by_labels_too(most, samples, minibatches, capsys):
    """CNTK's callback gets 4.6667, 3, 1 of the first three clips."""
    loss, learner = labelled_clips()
    found = []
    config = C.CrossValidationConfig(
        (CLIPS, ZEROS), (1, C.train.DataUnit.sweep), 6, lambda *a: found.append(a), most
    )
    printer = C.logging.ProgressPrinter(metric_is_pct=False)
    progress = loss.train(
        (CLIPS, ZEROS),
        parameter_learners=learner,
        callbacks=[config, printer, C.TestConfig((CLIPS, ZEROS), 6)],
    )
    error = np.mean(np.square(LENGTHS[:samples]))
    assert found == [(0, pytest.approx(error), samples, minibatches)]
    assert f"metric = {error:0.6f} * {samples};" in lines(capsys)[1]
    assert progress.test_summary == loss.test((CLIPS, ZEROS), 6) == (pytest.approx(91 / 6), 6)


def test_frames_with_a_loss_each_are_counted_by_frames():
    """By default once over all of them; CNTK takes as many frames as there are sequences."""
    x, t = C.sequence.input_variable(1), C.sequence.input_variable(1)
    loss = C.squared_error(C.Parameter(1) * x, t)
    for options, minibatches in (
        ({}, [6, 4, 5, 6]),
        ({"max_samples": 21}, [6, 4, 5, 6]),
        ({"max_samples": 12}, [6, 4, 5]),  # a sequence at least, which is not cut
    ):
        learner = C.sgd(loss.parameters, 0.0)
        progress = loss.train(
            (CLIPS, CLIPS), 6, parameter_learners=learner, callbacks=Recorder(1), **options
        )
        assert [u.samples for u in progress.updates] == minibatches


def test_minibatches_without_a_sample_of_the_loss_do_not_end_training():
    """Of 20 sequences of 4 frames `gather` leaves out one; the others are all trained on."""
    x, mask = C.sequence.input_variable(1), C.sequence.input_variable(())
    y = C.sequence.gather(C.Parameter(1) * x, mask)
    loss, frames = C.square(y - 1), [np.ones((4, 1), np.float32)] * 20
    masks = [np.full(4, i != 3, np.float32) for i in range(20)]
    progress = loss.train(
        (frames, masks),
        4,
        parameter_learners=C.sgd(loss.parameters, 0.1),
        max_epochs=2,
        epoch_size=80,
    )
    assert [e.samples for e in progress.epoch_summaries] == [76, 76]
    nothing = [np.zeros(4, np.float32)] * 20
    progress = loss.train((frames, nothing), 4, parameter_learners=C.sgd(loss.parameters, 0.1))
    assert [e.samples for e in progress.epoch_summaries] == [0]


def test_a_source_of_clips_of_ones_own_gives_whole_minibatches():
    class Clips(C.io.UserMinibatchSource):
        def stream_infos(self):
            return [C.io.StreamInformation(n, i, "dense", np.float32, (1,)) for i, n in names]

        def next_minibatch(self, num_samples, number_of_workers, worker_rank, device=None):
            asked.append(num_samples)
            n = num_samples // 50
            data = [[np.ones((50, 1), np.float32)] * n, np.zeros((n, 1), np.float32)]
            return {self[name]: C.io.MinibatchData(data[i], n, (n * 50, n)[i]) for i, name in names}

    names, asked, source = list(enumerate("xt")), [], Clips()
    loss, learner = labelled_clips()
    other = C.io.StreamInformation("y", 2, "dense", np.float32, (1,))
    with pytest.raises(C.GraphError, match="no stream 'y', only 'x', 't'"):
        loss.train(source, 50, [source["x"], other], epoch_size=50, parameter_learners=learner)
    asked.clear()
    options = {"streams": [source["x"], source["t"]], "parameter_learners": learner}
    progress = loss.train(source, 500, max_epochs=2, epoch_size=100, **options)
    assert asked == [500] * 20
    assert [e.samples for e in progress.epoch_summaries] == [100, 100]


def test_data_by_input_is_data_in_the_order_of_the_arguments():
    """The targets of a binary cross entropy come first among its arguments."""
    rng = np.random.default_rng(0)
    values, targets = rng.random((8, 2), np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 4]
    found = []
    for data in (
        (targets, values),
        lambda x, t: {x: values, t: targets},
        {"x": values, "t": targets},
    ):
        x, t = C.input_variable(2, name="x"), C.input_variable(2, name="t")
        y = C.sigmoid(x * C.Parameter(2, init=1))
        loss = C.binary_cross_entropy(y, t)
        assert loss.arguments == (t, x)
        data = data(x, t) if callable(data) else data
        loss.train(data, minibatch_size=4, parameter_learners=C.sgd(y.parameters, 0.5))
        found.append((y.parameters[0].value, loss.test(data).metric))
    for value, error in found[1:]:
        np.testing.assert_array_equal(value, found[0][0])
        assert error == found[0][1]


def test_mistakes_of_training_in_one_call():
    f, p = criterion()
    learner = C.sgd([p.w], 0.1)
    with pytest.raises(ValueError, match="the data has 1 array"):
        f.train((X,), parameter_learners=learner)
    x, t = f.arguments
    with pytest.raises(ValueError, match="there is no data for 't'"):
        f.train({x: X}, parameter_learners=learner)
    with pytest.raises(ValueError, match="the criterion has no input y"):
        f.train({x: X, t: T, "y": T}, parameter_learners=learner)
    with pytest.raises(ValueError, match="not both"):
        f.train((X, T), parameter_learners=learner, max_epochs=1, max_samples=3)
    for nothing in ({"max_epochs": 0}, {"max_samples": 0}, {"epoch_size": -1}):
        with pytest.raises(ValueError, match="must be positive"):
            f.train((X, T), parameter_learners=learner, **nothing)
    with pytest.raises(ValueError, match="a callback must be"):
        f.train((X, T), parameter_learners=learner, callbacks=[print])
    with pytest.raises(TypeError, match="different numbers"):
        f.train((X, T[1:]), parameter_learners=learner)
    source = C.io.MinibatchSourceFromData({"x": X})
    with pytest.raises(ValueError, match="epoch_size"):
        f.train(source, streams=[source["x"]] * 2, parameter_learners=learner)
    with pytest.raises(ValueError, match="without end"):
        f.test(source, streams=[source["x"]] * 2)


def session(p, **options):
    source = C.io.MinibatchSourceFromData({"x": X, "t": T})
    streams = {p.x: source.streams.x, p.t: source.streams.t}
    options.setdefault("mb_size", 4)
    return C.training_session(p.trainer, source, model_inputs_to_streams=streams, **options)


def test_a_session_trains_until_max_samples_and_counts_sweeps():
    p = Program()
    learner = C.sgd([p.w], C.learning_parameter_schedule([0.1, 0.05, 0.025]))
    p.trainer = C.Trainer(p.z, p.loss, learner)
    session(p, max_samples=44).train()
    assert p.trainer.total_number_of_samples_seen == 44
    assert learner.learning_rate() == 0.025


def test_minibatches_that_grow():
    writer = Recorder(1)
    sizes = C.minibatch_size_schedule([2, 5], 10)
    session(Program([writer]), mb_size=sizes, max_samples=20).train()
    assert [b - a for _, (a, b), *_ in writer.calls[:-1]] == [2, 2, 2, 2, 2, 5, 5]


@pytest.mark.parametrize(
    "frequency, times",
    [
        (20, 3),
        ((5, C.train.DataUnit.minibatch), 3),
        ((1, C.train.DataUnit.sweep), 3),
        (None, 1),
        (25, 3),
    ],
)
def test_cross_validation_every_so_often(frequency, times):
    writer, found = Recorder(), []
    p = Program([writer])
    config = C.CrossValidationConfig(
        (X[:10], T[:10]), frequency, minibatch_size=4, callback=lambda *a: found.append(a)
    )
    session(p, max_samples=60, cv_config=config).train()
    assert [(i, n, m) for i, _, n, m in found] == [(i, 10, 3) for i in range(times)]
    assert [c for c in writer.calls if c[0] == "test"] == [
        ("test", 10, 3, i + 1, pytest.approx(error * 10)) for i, error, *_ in found
    ]


def test_a_frequency_of_0_is_never(tmp_path):
    """CNTK's, too; one below is an error there."""
    writer = Recorder()
    p = Program([writer])
    p.run(tests=False)
    writer.calls.clear()
    session(
        p,
        max_samples=80,
        progress_frequency=0,
        checkpoint_config=C.CheckpointConfig(str(tmp_path / "c"), 0, preserve_all=True),
        cv_config=C.CrossValidationConfig((X, T), 0),
    ).train()
    assert p.trainer.total_number_of_samples_seen == 80
    assert not writer.calls and not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="got -1"):
        session(p, progress_frequency=-1)


@pytest.mark.parametrize("sizes", [0, -3, [2, 0], [2.5]])
def test_minibatch_sizes_that_are_none(sizes):
    f, p = criterion()
    with pytest.raises(ValueError, match="a minibatch size must be"):
        f.train((X, T), C.minibatch_size_schedule(sizes), parameter_learners=C.sgd([p.w], 0.1))


def test_numbers_of_numpy_s_as_sizes_and_rates():
    f, p = criterion()
    learner = C.sgd([p.w], np.float32(0.5))
    progress = f.train(
        (X, T), np.int64(10), parameter_learners=learner, progress_frequency=np.int64(10)
    )
    assert [e.samples for e in progress.updates] == [10, 10]
    assert learner.learning_rate() == 0.5
    with pytest.raises(ValueError, match="NaN"):
        C.sgd([p.w], np.nan)


def test_a_callback_ends_training():
    p = Program()
    config = C.CrossValidationConfig((X, T), 8, callback=lambda i, *_: np.bool_(i < 1))
    session(p, max_samples=400, cv_config=config).train()
    assert p.trainer.total_number_of_samples_seen == 16


def test_a_test_at_the_end():
    f, p = criterion()
    progress = f.train(
        (X, T),
        minibatch_size=4,
        parameter_learners=C.sgd([p.w], 0.1),
        max_epochs=2,
        callbacks=[C.TestConfig((X, T))],
    )
    assert progress.test_summary == f.test((X, T)) == (0.55, 20)


# Checkpoints


def test_states_in_files(tmp_path):
    path = str(tmp_path / "state")
    state = {
        "number": 1.5,
        "none": None,
        "nested": {"list": [1, "two", (3, 4)], "infinite": np.inf},
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
    }
    save_state(path, state)
    loaded = load_state(path)
    np.testing.assert_array_equal(loaded.pop("array"), state.pop("array"))
    assert loaded == state
    assert [f.name for f in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("value", [print, {1: 2}, np.array([object()]), {"__array__": 0}])
def test_what_can_not_be_saved_leaves_the_old_file(tmp_path, value):
    path = str(tmp_path / "state")
    save_state(path, "old")
    with pytest.raises(ValueError, match=r"saved|checkpoint can hold|keys of a dict"):
        save_state(path, {"value": value})
    assert load_state(path) == "old"


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "file"
    path.write_text("something else")
    with pytest.raises(ValueError, match="not a checkpoint"):
        Program().trainer.restore_from_checkpoint(str(path))
    np.savez(path.with_suffix(".npz"), state=np.array([print], object))
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_state(str(path.with_suffix(".npz")))


def test_training_goes_on_from_a_checkpoint(tmp_path):
    path, p = str(tmp_path / "checkpoint"), Program()
    for i in range(3):
        p.trainer.train_minibatch(p.batch(i))
    external = {"pi": np.pi, "nested": {"a": "b"}, "list": [1, 2, 3]}
    p.trainer.save_checkpoint(path, external)
    for i in (3, 4):
        p.trainer.train_minibatch(p.batch(i))
    after, seen = p.w.value, p.trainer.total_number_of_samples_seen
    assert p.trainer.restore_from_checkpoint(path) == external
    for i in (3, 4):
        p.trainer.train_minibatch(p.batch(i))
    np.testing.assert_array_equal(p.w.value, after)
    assert p.trainer.total_number_of_samples_seen == seen


@pytest.mark.parametrize("seed", [None, 3])
def test_a_resumed_training_drops_what_it_would_have_dropped(seed, tmp_path):
    path, x = str(tmp_path / "checkpoint"), C.input_variable(20)
    losses: dict[bool, list[float]] = {}
    for resumes in (False, True):
        C.set_seed(8 if resumes else 1)
        y = C.times(C.dropout(x, 0.5, seed=seed), C.Parameter((20, 1), init=1.0))
        trainer = C.Trainer(y, C.reduce_sum(C.square(y)), C.sgd(y.parameters, 0.001))
        if resumes:
            trainer.restore_from_checkpoint(path)
        losses[resumes] = []
        for i in range(3 if resumes else 6):
            trainer.train_minibatch({x: np.ones((2, 20))})
            losses[resumes].append(trainer.previous_minibatch_loss_average)
            if i == 2 and not resumes:
                trainer.save_checkpoint(path)
    assert losses[False][3:] == losses[True]
    assert len(set(losses[False])) > 1


def test_a_checkpoint_of_another_model(tmp_path):
    path, p = str(tmp_path / "checkpoint"), Program()
    p.trainer.save_checkpoint(path)
    x, w, b = C.input_variable(3), C.Parameter(3, name="w"), C.Parameter(3)
    for loss, problem in (
        (x * w, r"'w'.* has shape \(2, 2\) and type float32 there"),
        (x * w + b, "it has 1 "),
    ):
        other = C.Trainer(None, loss, C.momentum_sgd(loss.parameters, 0.1, 0.9))
        with pytest.raises(ValueError, match=problem) as raised:
            other.restore_from_checkpoint(path)
        assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "harm",
    [
        lambda s: s.pop("samples"),
        lambda s: s["learners"][0].pop("rate"),
        lambda s: s["learners"][0].update(state=None),
        lambda s: s["learners"].append({}),
        lambda s: s.update(parameters=7),
    ],
)
def test_a_checkpoint_that_can_not_be_restored_changes_nothing(harm, tmp_path):
    path, p = str(tmp_path / "checkpoint"), Program()
    p.trainer.train_minibatch(p.batch(0))
    p.trainer.save_checkpoint(path)
    state = load_state(path)
    harm(state)
    save_state(path, state)
    p.trainer.train_minibatch(p.batch(1))
    before = everything(p.trainer)
    with pytest.raises(ValueError, match="not a checkpoint of this trainer"):
        p.trainer.restore_from_checkpoint(path)
    assert everything(p.trainer) == before


def test_a_session_that_is_broken_off_goes_on_where_it_was(tmp_path):
    config = C.CheckpointConfig(str(tmp_path / "checkpoint"), 12)
    whole, first, second = Program(), Program(), Program()
    session(whole, max_samples=36).train()
    session(first, max_samples=12, checkpoint_config=config).train()
    session(second, max_samples=36, checkpoint_config=config).train()
    np.testing.assert_array_equal(second.w.value, whole.w.value)
    assert second.trainer.total_number_of_samples_seen == 36


def test_a_session_that_is_taken_up_goes_on_numbering_epochs(tmp_path, capsys):
    config = C.CheckpointConfig(str(tmp_path / "checkpoint"), 20)
    finished = []
    for most in (40, 60, 100):
        writer = Recorder()
        p = Program([C.logging.ProgressPrinter(num_epochs=5), writer])
        session(p, max_samples=most, progress_frequency=20, checkpoint_config=config).train()
        finished.append([s.split(":")[0] for s in lines(capsys) if s.startswith("Finished")])
        assert writer.total_training_updates() == most / 4
    epochs = [f"Finished Epoch[{i} of 5]" for i in range(1, 6)]
    assert finished == [epochs[:2], epochs[2:3], epochs[3:]]


def test_a_trainer_s_checkpoint_is_none_of_a_session(tmp_path):
    path, p = str(tmp_path / "checkpoint"), Program()
    p.trainer.save_checkpoint(path)
    with pytest.raises(ValueError, match="of a trainer, not of a session"):
        session(p, max_samples=20, checkpoint_config=C.CheckpointConfig(path)).train()


def test_all_checkpoints_kept(tmp_path):
    config = C.CheckpointConfig(str(tmp_path / "c"), 8, preserve_all=True)
    session(Program(), max_samples=20, checkpoint_config=config).train()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["c", "c0", "c1", "c2"]


# Sources


def test_a_source_s_stream_is_found_by_its_name():
    """A test's images may be cut otherwise than training's, whose streams the session names."""
    source = C.io.MinibatchSourceFromData({"x": np.ones((4, 2), np.float32)}, max_samples=4)
    training, x = C.io.StreamInformation("x", 5, shape=(3, 8, 8)), C.input_variable(2)
    reader = Reader(source, {x: training}, C.minibatch_size_schedule(4), 4, False)
    assert reader.next()[x].num_samples == 4


def test_minibatches_of_sequences_have_at_most_so_many_frames():
    frames = [np.zeros((n, 2)) for n in (3, 2, 4)]
    source = C.io.MinibatchSourceFromData({"x": frames}, max_samples=14)
    found = []
    while data := source.next_minibatch(5):
        (part,) = data.values()
        found.append((part.num_sequences, part.num_samples, part.end_of_sweep))
    assert found == [(2, 5, False), (1, 4, True), (2, 5, True)]


def test_a_source_of_ones_own():
    class Ones(C.io.UserMinibatchSource):
        left = 3

        def stream_infos(self):
            return [C.io.StreamInformation("x", 0, "dense", np.float32, (1,))]

        def next_minibatch(self, num_samples, number_of_workers, worker_rank, device=None):
            self.left -= 1
            if self.left < 0:
                return {}
            data = np.ones((num_samples, 1), np.float32)
            return {self["x"]: C.io.MinibatchData(data, num_samples, num_samples, False)}

    x, w = C.input_variable(1), C.Parameter(1, init=1)
    trainer = C.Trainer(None, x * w, C.sgd([w], 0.1))
    source = Ones()
    C.training_session(trainer, source, 7, {x: source.streams.x}).train()
    assert trainer.total_number_of_samples_seen == 21
    assert w.value == pytest.approx(0.7)


def test_a_source_without_an_end_is_refused():
    """With CNTK's words, which its own tests look for."""
    x = C.input_variable(1)
    loss = C.squared_error(x * C.Parameter(1), 0)
    trainer = C.Trainer(None, (loss, loss), C.sgd(loss.parameters, 0.1))

    def session(**options):
        options = {"mb_source": finite, "model_inputs_to_streams": {x: finite.streams.x}} | options
        C.training_session(trainer=trainer, mb_size=2, **options)

    finite = C.io.MinibatchSourceFromData({"x": np.ones((4, 1))}, max_samples=4)
    endless = C.io.MinibatchSourceFromData({"x": np.ones((4, 1))})
    with pytest.raises(ValueError, match="Train minibatch source must have a limited number"):
        session(mb_source=endless)
    with pytest.raises(ValueError, match="Test minibatch source must have a limited number"):
        session(test_config=C.TestConfig(endless))
    with pytest.raises(ValueError, match="Cross validation minibatch source must have"):
        session(cv_config=C.CrossValidationConfig(endless, frequency=2))
    session(mb_source=endless, max_samples=4)


class TestRotation:
    """Checkpoints that are kept: the latest, and the best."""

    @staticmethod
    def session(folder, steps, **options):
        """Learns y = 3 x by steps of 4 samples; checked on data of which the mean is 2 x."""
        x, t = C.input_variable(1), C.input_variable(1)
        w = C.Parameter(1, init=0.0)
        loss = C.squared_error(x * w, t)
        trainer = C.Trainer(None, loss, C.sgd([w], 0.2))
        data = np.ones((400, 1)), np.full((400, 1), 3.0)
        other = np.ones((2, 1)), np.array([[1.9], [2.1]])
        seen = []
        config = C.CheckpointConfig(str(folder / "model"), 4, **options)
        validation = C.CrossValidationConfig(
            other, frequency=4, callback=lambda index, error, *_: seen.append(error)
        )
        C.training_session(
            trainer, data, 4, checkpoint_config=config, cv_config=validation, max_samples=4 * steps
        ).train()
        return w, trainer, seen

    def test_the_latest_are_kept(self, tmp_path):
        w, trainer, _ = self.session(tmp_path, 7, keep=2)
        names = sorted(p.name for p in tmp_path.iterdir())
        assert names == ["model", "model5", "model6"]
        learned = w.value.copy()
        trainer.restore_from_checkpoint(str(tmp_path / "model6"))
        assert w.value == learned

    def test_training_goes_on_from_the_newest(self, tmp_path):
        whole, *_ = self.session(tmp_path / "whole", 9)
        self.session(tmp_path, 5, keep=2)
        (tmp_path / "model").unlink()  # as if it had been killed before the end
        again, trainer, _ = self.session(tmp_path, 9, keep=2)
        assert trainer.total_number_of_samples_seen == 36
        assert again.value == whole.value

    def test_the_best_is_kept(self, tmp_path):
        w, trainer, errors = self.session(tmp_path, 9, keep=1, keep_best=True)
        assert min(errors) not in (errors[0], errors[-1])
        trainer.restore_from_checkpoint(str(tmp_path / "model.best"))
        expected = np.mean((w.value - [1.9, 2.1]) ** 2)  # what it is checked on, by hand
        assert min(errors) == pytest.approx(expected, rel=1e-5)
        # Taken up again, a worse one does not take its place.
        kept = (tmp_path / "model.best").read_bytes()
        self.session(tmp_path, 12, keep=1, keep_best=True)
        assert (tmp_path / "model.best").read_bytes() == kept

    def test_what_can_not_be_kept_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            C.CheckpointConfig("model", keep=0)
        x = C.input_variable(1)
        loss = C.squared_error(x * C.Parameter(1), 0)
        trainer = C.Trainer(None, loss, C.sgd(loss.parameters, 0.1))
        config = C.CheckpointConfig(str(tmp_path / "model"), keep_best=True)
        with pytest.raises(ValueError, match="give cv_config a source"):
            C.training_session(trainer, np.ones((4, 1)), 4, checkpoint_config=config)
