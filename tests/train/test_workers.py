"""Training by several workers, which are threads here: what needs no MPI."""

import json
from pathlib import Path

import numpy as np
import pytest

import rgraph as C
from rgraph.train import exchange

from .workers import block_momentum, data_parallel, films, together

# What the real CNTK 2.7 gave, of one and of two processes under Open MPI.
CNTK = json.loads((Path(__file__).parents[1] / "reference" / "train" / "workers.json").read_text())
RATE = C.learning_parameter_schedule(0.1, minibatch_size=4)


def momentum(parameters):
    return C.momentum_sgd(parameters, RATE, C.momentum_schedule(0.9))


def adam(parameters):
    return C.adam(parameters, RATE, C.momentum_schedule(0.9))


def least_squares(workers, learner, deal, steps=6):
    """What CNTK was asked: after each step the samples, the loss and the weights."""
    w = C.parameter(init=(np.arange(3).reshape(3, 1) / 10).astype(np.float32))
    x, t = C.input_variable(3), C.input_variable(1)
    y = C.times(x, w)
    trainer = C.Trainer(y, (C.squared_error(y, t), C.abs(y - t)), learner([w], workers))
    found = []
    for step in range(steps):
        random = np.random.RandomState(step)
        rows, targets = random.normal(size=(6, 3)), random.normal(size=(6, 1))
        own = deal(step)[workers.rank]
        data = {} if own is None else {x: rows[own], t: targets[own]}
        assert trainer.train_minibatch(data)
        found.append(
            {
                "samples": trainer.previous_minibatch_sample_count,
                "seen": trainer.total_number_of_samples_seen,
                "loss": trainer.previous_minibatch_loss_average,
                "w": w.value.ravel().tolist(),
            }
        )
    return found


def unevenly(step):
    return slice(0, 4), slice(4, 6)


def at_times_to_one(step):
    return (slice(0, 6), None) if step in (1, 3) else unevenly(step)


def evenly(step):
    return slice(0, 3), slice(3, 6)


@pytest.mark.parametrize(
    "name, rule, deal", [("dp", adam, unevenly), ("dp empty", momentum, at_times_to_one)]
)
def test_steps_together_are_cntks(name, rule, deal):
    def run(workers):
        return least_squares(workers, lambda p, w: data_parallel(rule(p), w), deal)

    for found in together(2, run):
        for step, expected in zip(found, CNTK[f"{name}, 2"], strict=True):
            for what, value in expected.items():
                np.testing.assert_allclose(step[what], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    "name, options",
    [("bm", {}), ("bm tc", {"constant": 20, "nesterov": False, "resets": False, "rate": 1.5})],
)
def test_block_momentum_is_cntks(name, options, size):
    def run(workers):
        return least_squares(
            workers, lambda p, w: block_momentum(momentum(p), w, 12, **options), evenly
        )

    found = together(size, run)
    for step, (mine, expected) in enumerate(zip(found[0], CNTK[f"{name}, {size}"], strict=True)):
        np.testing.assert_allclose(mine["w"], expected["w"], rtol=1e-5, atol=1e-6)
        if size == 2 and step % 2:  # after a block all have the same
            assert found[1][step]["w"] == mine["w"]


class Film:
    """A convolutional recurrence over ragged films, trained on the same ones in all ways."""

    def __init__(self, learner=adam, dtype=np.float64, dropout=0.0, statistics=False):
        C.set_seed(3)
        with C.default_options(dtype=dtype):
            self.x, self.t = C.sequence.input_variable((1, 4, 4)), C.input_variable(2)
            w = C.Parameter((3, 1, 3, 3), init=C.glorot_uniform(), name="W")
            u = C.Parameter((3, 3, 3, 3), init=C.glorot_uniform(), name="U")
            h = C.layers.Recurrence(
                lambda h, x: C.tanh(C.convolution(w, x) + C.convolution(u, h)),
                initial_state=C.constant(0, (3, 4, 4)),
            )(self.x)
            h = C.dropout(C.sequence.last(h), dropout)
            if statistics:
                h = C.layers.BatchNormalization(normalization_time_constant=4)(h)
            self.y = C.layers.Dense(2, name="out")(h)
        self.loss = C.cross_entropy_with_softmax(self.y, self.t)
        self.error = C.classification_error(self.y, self.t)
        self.learner = learner(self.y.parameters)
        rng = np.random.default_rng(5)
        self.films, self.labels = films(40), np.eye(2)[rng.integers(0, 2, 40)]

    def trainer(self, workers=None, writers=None, after=0, **options):
        learner = self.learner if workers is None else data_parallel(self.learner, workers, after)
        return C.Trainer(self.y, (self.loss, self.error), learner, writers, **options)

    def part(self, rows):
        return {self.x: [self.films[i] for i in rows], self.t: self.labels[list(rows)]}

    @property
    def values(self):
        return {p.name or i: p.value.copy() for i, p in enumerate(self.y.parameters)}


def assert_same(found, expected, tolerance):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance)


DEALS = {
    "evenly": lambda step, rank, size: range(step * 8, step * 8 + 8)[rank::size],
    "unevenly": lambda step, rank, size: range(step * 8, step * 8 + 8)[
        slice(0, 5) if rank == 0 else slice(5 + rank - 1, 8 if rank == size - 1 else 5 + rank)
    ],
    "to the last alone": lambda step, rank, size: range(step * 8, step * 8 + 8)[
        slice(0, 8 if rank == size - 1 else 0)
    ],
}


@pytest.mark.parametrize("size, deal", [(2, "evenly"), (2, "unevenly"), (3, "unevenly"),
                                        (2, "to the last alone")])  # fmt: skip
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-6)])
@pytest.mark.parametrize("rule", [adam, lambda p: C.sgd(p, 0.1), momentum])
def test_films_dealt_to_several_are_learned_as_by_one(size, deal, dtype, tolerance, rule):
    alone = Film(rule, dtype)
    trainer = alone.trainer()
    losses = []
    for step in range(5):
        trainer.train_minibatch(alone.part(range(step * 8, step * 8 + 8)))
        losses.append(trainer.previous_minibatch_loss_average)
        losses.append(trainer.previous_minibatch_evaluation_average)

    def run(workers):
        film = Film(rule, dtype)
        trainer, found = film.trainer(workers), []
        for step in range(5):
            rows = DEALS[deal](step, workers.rank, workers.size)
            assert trainer.train_minibatch(film.part(rows) if len(rows) else {})
            assert trainer.previous_minibatch_sample_count == 8
            found.append(trainer.previous_minibatch_loss_average)
            found.append(trainer.previous_minibatch_evaluation_average)
        assert trainer.train_minibatch({}) is False
        return film.values, found

    results = together(size, run)
    for values, found in results:
        np.testing.assert_allclose(found, losses, rtol=tolerance, atol=tolerance)
        assert_same(values, alone.values, tolerance)
        assert_same(values, results[0][0], 0)  # to the last bit


def test_running_statistics_are_the_mean_of_all_workers():
    def run(workers):
        film = Film(statistics=True)
        trainer = film.trainer(workers)
        for step in range(3):
            rows = DEALS["unevenly"](step, workers.rank, workers.size)
            trainer.train_minibatch(film.part(rows) if step != 1 or workers.is_main else {})
        return [np.array(s.value) for s in map(C.ops.records.hold, trainer._steps.states)]

    first, second = together(2, run)
    assert len(first) >= 2
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_running_statistics_are_each_workers_by_its_samples():
    data = np.random.default_rng(0).normal(size=(10, 3))

    def run(part, wrap):
        x = C.input_variable(3, dtype=np.float64)
        with C.default_options(dtype=np.float64):
            y = C.layers.BatchNormalization(normalization_time_constant=4)(x)
        loss = C.reduce_sum(C.square(y))
        C.Trainer(y, loss, wrap(C.sgd(y.parameters, 0.1))).train_minibatch({x: part})
        return {c.name: np.array(c.value) for c in y.constants if c.name}

    parts = [data[:7], data[7:]]
    alone = [run(part, lambda learner: learner) for part in parts]
    for found in together(2, lambda w: run(parts[w.rank], lambda k: data_parallel(k, w))):
        assert set(found) == {"aggregate_mean", "aggregate_variance", "aggregate_count"}
        for name, value in found.items():
            expected = (7 * alone[0][name] + 3 * alone[1][name]) / 10
            np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_workers_drop_different_elements():
    """Both see the same films; the gradient's sum is not twice one worker's."""

    def run(workers):
        film = Film(lambda p: C.sgd(p, C.learning_parameter_schedule_per_sample(1.0)), dropout=0.5)
        before = film.values
        trainer = film.trainer(workers)
        trainer.train_minibatch(film.part(range(8)))
        return {name: v - before[name] for name, v in film.values.items()}

    alone = Film(lambda p: C.sgd(p, C.learning_parameter_schedule_per_sample(1.0)), dropout=0.5)
    before = alone.values
    alone.trainer().train_minibatch(alone.part(range(8)))
    twice = {name: 2 * (v - before[name]) for name, v in alone.values.items()}
    changes, _ = together(2, run)
    assert not np.allclose(changes["W"], twice["W"])


def test_nan_on_one_worker_is_an_error_of_all_that_names_it():
    def run(workers):
        film = Film()
        before = film.values
        part = film.part(range(4))
        if workers.rank == 1:
            part[film.x][2] = part[film.x][2] * np.nan
        with pytest.raises(C.GraphError, match="NaN") as caught:
            film.trainer(workers).train_minibatch(part)
        assert_same(film.values, before, 0)
        return str(caught.value)

    first, second = together(2, run)
    assert "on worker 1" in first and "on worker 0" not in first
    assert first.split("\n")[0] == second.split("\n")[0]


def test_nan_on_one_worker_can_be_left_out_by_all():
    def run(workers):
        film = Film()
        trainer = film.trainer(workers, on_nan="skip")
        for step in range(3):
            part = film.part(DEALS["evenly"](step, workers.rank, 2))
            if (workers.rank, step) == (0, 1):
                part[film.x][0] = part[film.x][0] + np.inf
            trainer.train_minibatch(part)
        return film.values

    first, second = together(2, run)
    assert_same(first, second, 0)
    alone = Film()
    trainer = alone.trainer()
    for step in (0, 2):
        trainer.train_minibatch(alone.part(range(step * 8, step * 8 + 8)))
    assert_same(first, alone.values, 1e-12)


def test_parameters_that_drift_apart_are_not_trained_on(monkeypatch):
    monkeypatch.setattr("rgraph.train.exchange.CHECK_EVERY", 3)

    def run(workers):
        film = Film()
        trainer = film.trainer(workers)
        trainer.train_minibatch(film.part(range(4)))
        if workers.rank == 1:  # in its last bit
            (u,) = [p for p in film.y.parameters if p.name == "U"]
            u.value = np.nextafter(u.value, 1)
        trainer.train_minibatch(film.part(range(4)))
        with pytest.raises(C.GraphError, match=r"drifted apart.*'U'.*of rank 1 is not rank 0's"):
            trainer.train_minibatch(film.part(range(4)))

    together(2, run)


def test_workers_begin_with_what_rank_0_has():
    def run(workers):
        film = Film()
        for p in film.y.parameters:
            p.value = p.value + workers.rank
        trainer = film.trainer(workers)
        trainer.train_minibatch(film.part(DEALS["evenly"](0, workers.rank, 2)))
        return film.values

    alone = Film()
    alone.trainer().train_minibatch(alone.part(range(8)))
    for values in together(2, run):
        assert_same(values, alone.values, 1e-12)


def test_until_distributed_after_all_do_the_same():
    def run(workers):
        film = Film()
        trainer = film.trainer(workers, after=16)
        for step in range(5):
            whole = step < 2
            rows = range(step * 8, step * 8 + 8)
            trainer.train_minibatch(film.part(rows if whole else rows[workers.rank :: 2]))
            assert trainer.previous_minibatch_sample_count == 8
        return film.values

    alone = Film()
    trainer = alone.trainer()
    for step in range(5):
        trainer.train_minibatch(alone.part(range(step * 8, step * 8 + 8)))
    for values in together(2, run):
        assert_same(values, alone.values, 1e-12)


def test_the_gradients_of_all_parameters_are_summed_in_one_call():
    def run(workers):
        film = Film()
        trainer = film.trainer(workers)
        trainer.train_minibatch(film.part(range(4)))
        before = workers.sums
        trainer.train_minibatch(film.part(range(4)))
        return workers.sums - before

    assert together(2, run) == [2, 2]  # one buffer of gradients, and one of numbers


@pytest.mark.parametrize("deal", DEALS)
@pytest.mark.parametrize("limit", [1, 1000])
def test_sums_that_start_during_back_propagation_are_the_same(monkeypatch, deal, limit):
    """A sum for each gradient, or for two at a time, in one order on all workers."""
    monkeypatch.setattr(exchange, "BUCKET", limit)
    alone = Film()
    trainer = alone.trainer()
    for step in range(4):
        trainer.train_minibatch(alone.part(range(step * 8, step * 8 + 8)))

    def run(workers):
        film = Film()
        trainer = film.trainer(workers)
        for step in range(4):
            rows = DEALS[deal](step, workers.rank, workers.size)
            trainer.train_minibatch(film.part(rows) if len(rows) else {})
        return film.values, workers.sizes

    results = together(2, run)
    for values, sizes in results:
        assert_same(values, alone.values, 1e-12)
        assert_same(values, results[0][0], 0)
        assert sizes == results[0][1]
    assert len(results[0][1]) == 4 * (5 if limit == 1 else 3)  # and one of numbers in each step


@pytest.mark.parametrize("order", [list, lambda parameters: list(reversed(parameters))])
def test_the_first_sums_start_before_the_last_gradients_are_computed(monkeypatch, order):
    """Whatever order the learner has its parameters in."""
    monkeypatch.setattr(exchange, "BUCKET", 1)

    def run(workers):
        x, t = C.input_variable(4), C.input_variable(2)
        seen = []

        class Looks(C.UserFunction):
            """Between the layers: notes how many sums had started when it is gone back through."""

            def __init__(self, arg):
                super().__init__([arg])

            def infer_outputs(self):
                return [
                    C.output_variable(
                        self.inputs[0].shape, np.float32, [C.Axis.default_batch_axis()]
                    )
                ]

            def forward(self, value, device=None, outputs_to_retain=None):
                return None, value

            def backward(self, state, gradient):
                seen.append(workers.sums)
                return gradient

        y = C.layers.Dense(2)(C.user_function(Looks(C.layers.Dense(3, activation=C.tanh)(x))))
        learner = data_parallel(C.sgd(order(y.parameters), 0.1), workers, 0)
        trainer = C.Trainer(y, C.squared_error(y, t), learner)
        for _ in range(2):
            before = workers.sums
            trainer.train_minibatch({x: np.ones((3, 4)), t: np.ones((3, 2))})
        return seen[-1] - before, workers.sums - before

    assert together(2, run) == [(2, 5)] * 2


def test_a_worker_that_fails_between_two_sums_is_an_error_of_all(monkeypatch):
    monkeypatch.setattr(exchange, "BUCKET", 1)

    def run(workers):
        film, found = Film(), []
        trainer = film.trainer(workers)
        trainer.train_minibatch(film.part(range(4)))
        before = film.values
        early = trainer._exchange.early

        def fails(*given):
            ready, told = early(*given), []

            def tell(number, gradient):
                ready(number, gradient)
                told.append(number)
                if len(told) == 4:
                    raise RuntimeError("no more")

            return tell

        if workers.rank == 1:
            trainer._exchange.early = fails
        try:
            trainer.train_minibatch(film.part(range(4)))
        except (RuntimeError, C.GraphError) as error:
            found.append(str(error))
        assert_same(film.values, before, 0)
        trainer._exchange.early = early
        assert trainer.train_minibatch(film.part(range(4)))
        return found[0], film.values

    (told, first), (own, second) = together(2, run)
    assert own == "no more" and told.startswith("another worker has failed in the middle")
    assert_same(first, second, 0)


def test_different_models_are_refused():
    def run(workers):
        w = C.Parameter((2, 1 + workers.rank), init=1, name="w")
        x = C.input_variable(2)
        loss = C.reduce_sum(C.times(x, w))
        trainer = C.Trainer(None, loss, data_parallel(C.sgd([w], 0.1), workers))
        with pytest.raises(C.GraphError, match=r"the shape or type of.*'w'.*is not rank 0's"):
            trainer.train_minibatch({x: np.ones((3, 2))})

    together(2, run)


def test_mistakes_of_learners():
    def run(workers):
        w, v = C.Parameter(2, init=1), C.Parameter(2, init=1)
        loss = C.reduce_sum(C.input_variable(2) * w * v)
        one, two = data_parallel(C.sgd([w], 0.1), workers), C.sgd([v], 0.1)
        with pytest.raises(C.GraphError, match="some of the learners are distributed"):
            C.Trainer(None, loss, [one, two])
        two = data_parallel(C.sgd([v], 0.1), workers, after=5)
        with pytest.raises(C.GraphError, match="the same distributed_after"):
            C.Trainer(None, loss, [one, two])
        with pytest.raises(C.GraphError, match="expected a learner"):
            data_parallel(one, workers)
        with pytest.raises(C.GraphError, match="too small for 2 workers"):
            block_momentum(C.sgd([w], 0.1), workers, 1)

    together(2, run)


def test_a_loss_that_assigns_is_refused():
    def run(workers):
        w, count = C.Parameter(2, init=1), C.Constant(0.0)
        loss = C.reduce_sum(C.input_variable(2) * w) + C.assign(count, count + 1)
        with pytest.raises(C.GraphError, match="the loss assigns values"):
            C.Trainer(None, loss, data_parallel(C.sgd([w], 0.1), workers))

    together(2, run)


def test_a_learner_that_is_told_gradients_by_hand_sums_them():
    def run(workers):
        w = C.Parameter(1, init=1)
        learner = data_parallel(C.sgd([w], 0.5), workers)
        learner.update({w: np.array([1.0 + workers.rank])}, 1)
        return w.value.tolist()

    assert together(2, run) == [[0.25], [0.25]]  # 1 - 0.5 * (1 + 2) / 2


def test_several_are_started_and_mpi4py_is_not_there(monkeypatch):
    from rgraph.runtime import workers

    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(__import__("sys").modules, "mpi4py", None)
    workers.all_workers.cache_clear()
    with pytest.raises(C.GraphError, match=r"pip install 'rgraph-cntk\[mpi\]'"):
        C.distributed.Communicator.rank()
    workers.all_workers.cache_clear()
