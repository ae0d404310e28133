"""Training on the played GPU: what is learned, and what stays in the GPU's memory meanwhile."""

from types import SimpleNamespace

import numpy as np
import pytest

import rgraph as C
from rgraph.engines.cuda.collective import Collective
from rgraph.runtime.workers import Sum, Workers
from rgraph.train.distributed import Communicator, DistributedLearner
from tests.engines.played_gpu import at_address
from tests.engines.strict_arrays import LIBRARY, Array, State
from tests.train.training import (
    LENGTHS,
    SPECS,
    UPDATES,
    made,
    minibatch,
    ragged_lstm,
    train_on_a_ragged_film,
)

CPU, GPU = C.cpu(), C.gpu(0)


def gradients_there(parameters, i):
    return {
        p: Array(UPDATES[name][i].astype(np.float32))
        for p, name in zip(parameters, ("grad_a", "grad_b"))
    }


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_six_updates_on_the_gpu_are_cntks(number, compiled):
    """Nothing is copied to the CPU for them."""
    spec = SPECS[number]
    parameters = [C.parameter(init=UPDATES["a"]), C.parameter(init=UPDATES["b"])]
    options = {k: made(v) for k, v in spec.items() if k != "learner"}
    learner = getattr(C, spec["learner"])(parameters, **options)
    for i, count in enumerate(UPDATES["counts"]):
        before = len(State.copied_out)
        assert learner.update(gradients_there(parameters, i), count, UPDATES["ends"][i])
        assert len(State.copied_out) == before
        got = np.concatenate([p.value.ravel() for p in parameters])
        np.testing.assert_allclose(got, UPDATES["values"][number, i], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["momentum", "adam_batch", "rmsprop"])
def test_training_a_convolutional_gru_is_cntks(name, played):
    train_on_a_ragged_film(name)


ADAM, SGD = (lambda ps: C.adam(ps, 0.1, 0.9)), (lambda ps: C.sgd(ps, 0.1))
WAITS = [("ignore", 0), ("raise", 0), ("skip", 1)]


@pytest.mark.parametrize(
    "make, on_nan, most, scale",
    [*((m, *w, None) for m in (ADAM, SGD) for w in WAITS), (SGD, "raise", 0, "dynamic")],
)
def test_nobody_waits_between_minibatches(make, on_nan, most, scale, compiled):
    """Neither parameters nor the loss come back before they are asked for. One number does, that
    says whether all is finite, where that is asked: `skip` waits for it, `raise` only before there
    is what a learner keeps."""
    x, t, model, loss = ragged_lstm()
    criterion = loss, C.classification_error(model, t)
    learner = make(model.parameters)
    trainer = C.Trainer(model, criterion, learner, on_nan=on_nan, loss_scale=scale)
    rng = np.random.default_rng(0)
    sizes = {p.value.nbytes for p in model.parameters}
    for i, lengths in enumerate(LENGTHS):
        State.copied_in.clear()
        State.copied_out.clear()
        waits = State.waits
        trainer.train_minibatch(minibatch(rng, x, t, lengths))
        if i or on_nan != "raise":
            assert State.copied_out == ([4] if on_nan == "raise" else [])
        assert State.waits == waits + most
        assert trainer.previous_minibatch_sample_count == len(lengths)
        if i:
            assert not sizes & set(State.copied_in), "a parameter was copied to the GPU again"
    assert 0 < trainer.previous_minibatch_loss_average < 10
    assert State.waits == waits + most + 1
    for p in model.parameters:
        assert p.node.elsewhere is not None
    (plan,) = trainer._program._runner.plans
    assert not plan.hindrance
    assert [c.graph.launches for c in plan._shapes.values() if c] == [2]


def nan_in_between(where, make, bad, number, on_nan="raise"):
    """Losses, and what is learned, of five minibatches, of which the one of that number is bad;
    and how many were begun when that was said."""
    C.set_seed(1)
    x, t, model, loss = ragged_lstm()
    trainer = C.Trainer(model, loss, make(model.parameters), on_nan=on_nan)
    rng, said, losses = np.random.default_rng(0), [], []
    for i, lengths in enumerate(LENGTHS[:5]):
        batch = minibatch(rng, x, t, lengths)
        if i == number:
            batch[x][0][-1, 0] = bad
        try:
            trainer.train_minibatch(batch, device=where)
        except C.GraphError as error:
            said.append((i, str(error)))
            if i != number:  # the good one has to come again
                trainer.train_minibatch(batch, device=where)
        losses.append(trainer.previous_minibatch_loss_average)
    states = [h for h in model.constants if h.shape]
    values = [p.value for p in (*model.parameters, *states)]
    learner = trainer.parameter_learners[0].create_checkpoint()
    seen = learner["samples"], trainer.total_number_of_samples_seen
    ((when, error),) = said
    assert "no parameter was changed" in error
    return [*values, np.array(losses[number + 1 :])], seen, when


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda ps: C.adam(ps, 0.1, 0.9),
        lambda ps: C.rmsprop(ps, 0.01, 0.9, 1.2, 0.7, 10, 1e-2),
        lambda ps: C.sgd(ps, C.learning_parameter_schedule([0.1, 0.01], epoch_size=6)),
    ],
    ids=["adam", "rmsprop", "sgd"],
)
def test_a_minibatch_with_nan_changes_nothing(make, number, bad, compiled):
    """Though it is heard of later on a GPU: all that is learned, kept and counted is what it is
    where the minibatch did not come at all."""
    truth, seen, said = nan_in_between(CPU, make, bad, number)
    assert said == number
    found, seen_there, said_there = nan_in_between(GPU, make, bad, number)
    assert said_there == number + 1
    assert seen_there == seen
    for a, b in zip(found, truth, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_last_minibatch_is_heard_of_too(played, tmp_path):
    w = C.Parameter(1, init=1)
    x = C.input_variable(1)
    trainer = C.Trainer(None, C.reduce_sum(w * x), C.sgd([w], 0.1))
    ends = [
        lambda: trainer.train_minibatch({}),
        lambda: trainer.save_checkpoint(str(tmp_path / "c")),
        trainer.summarize_training_progress,
        lambda: trainer.test_minibatch({x: [[1]]}),
        lambda: trainer.train_minibatch({x: [[1]]}, device=CPU),
    ]
    for end in ends:
        trainer.train_minibatch({x: [[np.nan]]})
        with pytest.raises(C.GraphError, match="the loss is NaN"):
            end()
        np.testing.assert_array_equal(w.value, [1])


@pytest.mark.parametrize("summaries", [0, 2])
def test_a_session_hears_of_its_last_minibatch(played, summaries):
    w = C.Parameter(1, init=1)
    x = C.input_variable(1)
    loss = C.reduce_sum(w * x)
    data = (np.array([[1], [2], [np.nan]], np.float32),)
    with pytest.raises(C.GraphError, match="the loss is NaN"):
        loss.train(
            data, 1, parameter_learners=C.sgd([w], 0.1), max_epochs=1, progress_frequency=summaries
        )
    np.testing.assert_allclose(w.value, [0.7], rtol=1e-6)


def test_what_overflows_only_when_squared_is_no_fault(played):
    w = C.Parameter(1, init=1)
    x = C.input_variable(1)
    trainer = C.Trainer(None, C.reduce_sum(w * x), C.sgd([w], 1e-30))
    for _ in range(3):
        trainer.train_minibatch({x: [[1e30]]})
    np.testing.assert_allclose(w.value, [-2], rtol=1e-5)


def trained(devices, checkpoint=None):
    """The parameters, and the running statistics, after a minibatch on each of the devices."""
    C.set_seed(1)
    x, t, model, loss = ragged_lstm()
    trainer = C.Trainer(model, loss, C.adam(model.parameters, 0.1, 0.9))
    rng = np.random.default_rng(0)
    values = []
    for i, (where, lengths) in enumerate(zip(devices, LENGTHS)):
        if i == 3 and checkpoint is not None:
            trainer.save_checkpoint(str(checkpoint))
            for p in model.parameters:
                p.value = 7
            trainer.restore_from_checkpoint(str(checkpoint))
        batch = minibatch(rng, x, t, lengths)
        trainer.train_minibatch(batch, device=where)
        values.append(model.eval({x: batch[x]}, device=devices[-1 - i]))
    states = [h for h in model.constants if h.shape]
    return [*(p.value for p in (*model.parameters, *states)), *values]


@pytest.mark.parametrize(
    "devices", [[GPU] * 6, [CPU, GPU] * 3, [GPU, GPU, GPU, CPU, CPU, GPU]], ids=str
)
def test_training_goes_from_device_to_device(devices, played, tmp_path):
    truth = trained([CPU] * 6)
    for checkpoint in (None, tmp_path / "checkpoint"):
        for found, expected in zip(trained(devices, checkpoint), truth, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_model_saved_after_training_on_the_gpu(played, tmp_path):
    x, t, model, loss = ragged_lstm()
    trainer = C.Trainer(model, loss, C.sgd(model.parameters, 0.1))
    batch = minibatch(np.random.default_rng(0), x, t, (3, 1))
    trainer.train_minibatch(batch)
    model.save(str(tmp_path / "model"))
    again = C.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(
        again.eval({"x": batch[x]}, device=CPU), model.eval({x: batch[x]}, device=CPU)
    )


def test_a_value_that_is_set_is_what_the_gpu_computes_with(played):
    w = C.Parameter(2, init=1)
    x = C.input_variable(2)
    f = w * x
    ones = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(f.eval({x: ones}), [[1, 1]])
    w.value = [2, 3]
    np.testing.assert_array_equal(f.eval({x: ones}), [[2, 3]])
    C.sgd([w], 1.0).update({w: Array(np.ones(2, np.float32))}, 1)
    np.testing.assert_array_equal(w.value, [1, 2])
    w.value = [5, 6]
    np.testing.assert_array_equal(w.value, [5, 6])
    np.testing.assert_array_equal(f.eval({x: ones}), [[5, 6]])


def test_assignments_stay_on_the_gpu_and_see_what_was_before(played):
    """Two values swap: neither sees the other's new one."""
    a, b = C.Parameter(2, init=1), C.Parameter(2, init=2)
    swap = C.combine([C.assign(a, b), C.assign(b, a)])
    before = len(State.copied_out)
    swap.eval({}, as_numpy=False)
    assert len(State.copied_out) == before
    np.testing.assert_array_equal(a.value, [2, 2])
    np.testing.assert_array_equal(b.value, [1, 1])


def test_a_gradient_that_is_a_parameter_s_own_array(played):
    """d(a·b)/da is b: both are changed by what the other was."""
    for where in (CPU, GPU):
        a, b = C.Parameter(2, init=1), C.Parameter(2, init=3)
        x = C.input_variable(1)
        loss = C.reduce_sum(a * b) + 0 * C.reduce_sum(x)
        learner = C.sgd([a, b], C.learning_parameter_schedule_per_sample(1))
        C.Trainer(None, loss, learner).train_minibatch({x: [[0]]}, device=where)
        np.testing.assert_array_equal(a.value, [-2, -2])
        np.testing.assert_array_equal(b.value, [2, 2])


def test_people_s_learners_get_numpy_s_arrays(played):
    seen = []

    class Plain(C.UserLearner):
        def update(self, gradient_values, training_sample_count, sweep_end):
            for p, g in gradient_values.items():
                seen.append(type(g))
                p.value = p.value - 0.1 * g
            return True

    x = C.input_variable(2)
    w = C.Parameter(2, init=1)
    loss = C.reduce_sum(w * x)
    learner = Plain([w], C.learning_parameter_schedule(1))
    C.Trainer(None, loss, learner).train_minibatch({x: np.ones((3, 2))})
    assert seen == [np.ndarray]
    np.testing.assert_allclose(w.value, [0.7, 0.7], rtol=1e-6)


def test_a_rule_as_a_graph_stays_on_the_gpu(played):
    def descend(parameters, gradients):
        return C.combine([C.assign(p, p - 0.1 * g) for p, g in zip(parameters, gradients)])

    w = C.Parameter(2, init=1)
    learner = C.universal(descend, [w])
    before = len(State.copied_out)
    learner.update({w: LIBRARY.asarray(np.array([1, 2], np.float32))}, 1)
    assert len(State.copied_out) == before
    np.testing.assert_allclose(w.value, [0.9, 0.8], rtol=1e-6)


def test_what_a_learner_keeps_lies_beside_its_parameters(played):
    w = C.Parameter(2, init=1)
    learner = C.momentum_sgd([w], 0.1, 0.9)
    for where, there in ((Array, True), (np.asarray, False), (Array, True)):
        learner.update({w: where(np.ones(2, np.float32))}, 1)
        assert (learner._kept[0]["v"].elsewhere is not None) == there
    assert isinstance(learner.create_checkpoint()["state"][0]["v"], np.ndarray)


def test_progress_is_added_up_when_it_is_written(played):
    """Every second minibatch; in between nobody waits."""
    written = []

    class Losses(C.logging.ProgressWriter):
        def on_write_training_update(self, samples, updates, loss, metric):
            written.append((samples[1], loss[1], metric[1]))

    x, t, model, loss = ragged_lstm()
    learner = C.sgd(model.parameters, 0.1)
    criterion = loss, C.classification_error(model, t)
    trainer = C.Trainer(model, criterion, learner, Losses(freq=2), on_nan="ignore")
    rng, sums = np.random.default_rng(0), np.zeros(2)
    for i, lengths in enumerate(LENGTHS[:4]):
        waits = State.waits
        trainer.train_minibatch(minibatch(rng, x, t, lengths))
        assert State.waits - waits == (4 if i % 2 else 0)
        n = len(lengths)
        sums += n * trainer.previous_minibatch_loss_average, 0
        sums += 0, n * trainer.previous_minibatch_evaluation_average
    samples = sum(map(len, LENGTHS[:4]))
    assert written[-1] == (samples, pytest.approx(sums[0]), pytest.approx(sums[1]))


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (2, 3, 3, 3), (5, 4, 3)])
def test_a_step_on_parameters_of_any_shape(shape, compiled):
    """Kernels of images lie channels-last there; a gradient may lie in any order."""
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=shape), rng.normal(size=(3, *shape)).astype(np.float32)

    def learned(there):
        w = C.Parameter(shape, init=1)
        w.value = start
        learner = C.adam([w], 0.1, 0.9, l2_regularization_weight=0.1)
        for g in gradients:
            learner.update({w: there(np.array(g, order="F"))}, 2)
            again = C.adam([w], 0.1, 0.9, l2_regularization_weight=0.1)
            again.restore_from_checkpoint(learner.create_checkpoint())
            assert all(again._kept[0][k].elsewhere is None for k in ("s", "v"))
            learner = again
        return w.value

    np.testing.assert_allclose(learned(Array), learned(np.asarray), rtol=1e-5, atol=1e-6)


def test_rows_that_are_no_samples(played):
    """On a batch axis of their own, beside ragged sequences; replayed in later runs."""
    x, s = C.input_variable((2, 3)), C.sequence.input_variable(3)
    rows = C.tanh(C.to_batch(C.reshape(C.unpack_batch(x), (-1, 3))))
    back = C.to_batch(C.reshape(C.unpack_batch(rows), (-1, 2, 3)))
    f = back + C.sequence.last(s) + C.to_batch(C.constant(np.eye(3, dtype=np.float32)))
    generator = np.random.default_rng(0)
    for _ in range(4):
        values = generator.normal(size=(3, 2, 3)).astype(np.float32)
        frames = [generator.normal(size=(n, 3)).astype(np.float32) for n in (1, 3, 2)]
        ends = np.array([v[-1] for v in frames]) + np.eye(3)
        found = f.eval({x: values, s: frames})
        np.testing.assert_allclose(found, np.tanh(values) + ends[:, None], rtol=1e-5, atol=1e-6)


class Echo(Workers):
    """The worker of rank 0 of two, of which the other never has data."""

    size = 2

    def gather(self, value):
        return [value, value]


class Nccl:
    """NCCL between two processes that have the same arrays: their sum is twice one's own."""

    NCCL_FLOAT32, NCCL_FLOAT64, NCCL_SUM = 7, 8, 0  # nccl.h

    def __init__(self):
        self.calls = []

    def get_unique_id(self):
        return (1, 2, 3)

    def NcclCommunicator(self, size, unique, rank):
        assert (size, unique, rank) == (2, (1, 2, 3), 0)
        return self

    def allReduce(self, sent, received, count, kind, operation, stream):
        assert (sent, operation) == (received, 0)
        dtype = {7: np.float32, 8: np.float64}[kind]
        at_address(sent, (count,), (1,), dtype)[:] *= 2
        self.calls.append(count)


WITH_BUS_IDS = SimpleNamespace(
    cuda=SimpleNamespace(runtime=SimpleNamespace(deviceGetPCIBusId=lambda number: "0000:01:00.0"))
)


class Twin(Workers):
    """The worker of rank 0 of two that have the same data, each with a GPU of its own."""

    size = 2

    def start_sum(self, buffer):
        buffer *= 2
        return Sum()

    def gather(self, value):
        is_gpu = isinstance(value, tuple) and value[1:] == ("0000:01:00.0",)
        return [value, ("", "0000:02:00.0") if is_gpu else value]


def test_what_several_workers_sum_stays_on_their_gpus_where_nccl_is(played, monkeypatch):
    """Of two with the same data, gradients are those of a minibatch that has everything twice."""
    nccl = Nccl()
    monkeypatch.setattr(
        played, "collective", lambda: Collective(WITH_BUS_IDS, nccl, 0, played.stream)
    )
    random = np.random.default_rng(0)
    films = [random.normal(size=(n, 3)).astype(np.float32) for n in (4, 2, 3)]
    labels, found = np.eye(2, dtype=np.float32)[[0, 1, 1]], []
    for workers in (None, Twin()):
        x, t, y, loss = classifier()
        learner = C.adam(y.parameters, 0.1, 0.9)
        times = 2
        if workers is not None:
            learner, times = DistributedLearner(learner, Communicator(workers)), 1
        trainer = C.Trainer(y, (loss, loss), [learner])
        fed = {x: films * times, t: np.concatenate([labels] * times)}
        for _ in range(3):
            trainer.train_minibatch(fed, device=GPU)
        average = trainer.previous_minibatch_loss_average
        found.append([average, *(np.array(p.value) for p in y.parameters)])
    assert nccl.calls == [sum(p.value.size for p in y.parameters)] * 3
    for mine, expected in zip(*found, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)


def classifier(between=C.layers.identity):
    C.set_seed(1)
    x, t = C.sequence.input_variable(3), C.input_variable(2)
    h = C.sequence.last(C.layers.Recurrence(C.layers.LSTM(4))(x))
    y = C.layers.Dense(2)(between(h))
    return x, t, y, C.cross_entropy_with_softmax(y, t)


def test_what_several_workers_sum_goes_to_the_cpu_and_back(played):
    """A step beside a worker that has nothing is one's own; and one may have nothing oneself."""
    random = np.random.default_rng(0)
    films = [random.normal(size=(n, 3)).astype(np.float32) for n in (4, 2, 3)]
    labels, found = np.eye(2, dtype=np.float32)[[0, 1, 1]], []
    for workers in (None, Echo()):
        x, t, y, loss = classifier(C.layers.BatchNormalization(normalization_time_constant=8))
        learner = C.adam(y.parameters, 0.1, 0.9)
        if workers is not None:
            learner = DistributedLearner(learner, Communicator(workers))
        trainer = C.Trainer(y, (loss, loss), [learner])
        for _ in range(3):
            trainer.train_minibatch({x: films, t: labels}, device=GPU)
        if workers is not None:
            assert trainer.train_minibatch({}, device=GPU) is False
        kept = [*y.parameters, *(c for c in y.constants if c.name)]
        average = trainer.previous_minibatch_loss_average
        found.append([average, *(np.array(v.value) for v in kept)])
    assert len(found[0]) > 8
    for mine, expected in zip(*found, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)
