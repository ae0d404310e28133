"""What only a GPU can show. The whole suite runs on one with `pytest --engine cuda`."""

import gc

import numpy as np
import pytest

import rgraph as C
from benchmarks.programs.convgru import ConvGRU
from rgraph import device
from rgraph.engines.cpu import reference_run
from rgraph.engines.cuda import options
from rgraph.graph.context import context
from rgraph.ops.records import TABLE
from rgraph.plan import Run
from tests.train.training import LENGTHS, minibatch, ragged_lstm

pytestmark = pytest.mark.gpu

POINTWISE = [name for name, op in TABLE.items() if op.pointwise]
GEOMETRIES = [
    # operand, kernel, strides, padding, dilation, groups
    ((3, 9), (4, 3, 3), (1,), ((1, 1),), (1,), 1),
    ((3, 9), (4, 3, 2), (2,), ((0, 1),), (1,), 1),
    ((16, 9, 8), (16, 16, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 9, 8), (16, 1, 2, 3), (2, 1), ((0, 1), (1, 1)), (1, 1), 1),
    ((4, 9, 8), (6, 2, 3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 2),
    ((2, 5, 6, 4), (3, 2, 3, 3, 3), (1, 1, 1), ((1, 1),) * 3, (1, 1, 1), 1),
    ((32, 14, 14), (32, 32, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
]
TOLERANCES = {"float32": 1e-5, "tf32": 3e-3, "bfloat16": 3e-2}


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setattr(context(), "gpu_options", None)
    return device.engine(C.gpu(0))


def close(found, truth, tolerance):
    np.testing.assert_allclose(found, truth, rtol=tolerance, atol=tolerance * np.abs(truth).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", POINTWISE)
def test_a_generated_kernel_means_what_the_record_means(name, dtype, engine):
    op = TABLE[name]
    arrays = [a.astype(dtype) for a in op.cases[0](np.random.default_rng(0))[0]]
    steps = ((name, tuple(range(len(arrays)))),)
    run = Run(engine, {}, len(arrays[0]))
    with engine.active():
        operands = [engine.from_numpy(a) for a in arrays]
        out = engine.pointwise.apply(run, steps, operands, dtype, None)
    truth = op.kernel(reference_run(), *arrays)
    close(engine.to_numpy(out), truth, 1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_convolutions(geometry, precision, deterministic, engine):
    options.choose(precision=precision, deterministic=deterministic)
    operand, kernel, strides, padding, dilation, groups = geometry
    at = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(11, *operand))
    w = rng.normal(size=kernel)
    reference = reference_run()
    y = TABLE["convolution"].kernel(reference, w, x, **at)
    g = rng.normal(size=y.shape)
    extra = {"spatial": x.shape[2:]}, {"kernel": w.shape[2:]}
    truth = [
        y,
        TABLE["convolution_transpose"].kernel(reference, w, g, **extra[0], **at),
        TABLE["convolution_weights"].kernel(reference, x, g, **extra[1], **at),
    ]
    with engine.active():
        xs, ws, gs = (engine.from_numpy(a.astype(np.float32)) for a in (x, w, g))
        run = Run(engine, {}, 11)
        found = [
            engine.kernels["convolution"](run, ws, xs, **at),
            engine.kernels["convolution_transpose"](run, ws, gs, **extra[0], **at),
            engine.kernels["convolution_weights"](run, xs, gs, **extra[1], **at),
        ]
    for a, b in zip(found, truth):
        close(engine.to_numpy(a), b, TOLERANCES[precision])
    assert not engine.cudnn.refusals, "cuDNN has engines for all of these"


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_sums_over_what_is_outermost(dtype, tolerance, engine):
    a = np.random.default_rng(0).normal(size=(9, 50, 70, 16)).astype(dtype) + 1
    with engine.active():
        rows = engine.from_numpy(np.moveaxis(a, -1, 1))
        found = engine.to_numpy(engine.xp.add.reduce(rows, axis=(0, 2, 3)))
    close(found, a.astype(np.float64).sum((0, 1, 2)), tolerance)


def test_frames_that_are_not_aligned(engine):
    options.choose(precision="float32")
    x = C.sequence.input_variable((1, 3, 3))
    w = C.Parameter((1, 1, 3, 3), init=0.2)
    f = C.layers.Recurrence(lambda h, v: C.convolution(w, v + h))(x)
    data = [np.random.default_rng(0).normal(size=(4, 1, 3, 3)).astype(np.float32)]
    for _ in range(4):
        close(f.eval({x: data}, device=C.gpu(0))[0], f.eval({x: data}, device=C.cpu())[0], 1e-5)


def test_cudnn_has_engines_for_what_models_do(engine):
    """None of these falls back on the records' own kernels."""
    for precision in ("tf32", "float32"):
        options.choose(precision=precision)
        x = C.input_variable((16, 32, 32))
        w = C.Parameter((32, 16, 3, 3), init=C.glorot_uniform(seed=1))
        f = C.reduce_sum(C.convolution(w, x))
        f.grad({x: np.ones((8, 16, 32, 32), np.float32)}, wrt=[w, x], device=C.gpu(0))
    missing = [key for key, plan in engine.cudnn.plans.items() if plan is None and not key[4]]
    assert not [k for k in missing if k[1].kernel == (32, 16, 3, 3)]


def test_captured_runs_give_what_plain_ones_give(engine):
    options.choose(precision="float32", deterministic=True)
    x = C.sequence.input_variable((3, 12, 12))
    kernels = [C.Parameter((8, n, 3, 3), init=C.glorot_uniform(seed=n)) for n in (3, 8)]

    def step(h, v):
        return C.tanh(C.convolution(kernels[0], v) + C.convolution(kernels[1], h)) * 0.5 + h

    f = C.layers.Recurrence(step)(x)
    loss = C.reduce_sum(C.square(f))
    wrt = [x, *f.parameters]
    rng = np.random.default_rng(0)
    for _ in range(5):
        data = [rng.normal(size=(n, 3, 12, 12)).astype(np.float32) for n in (4, 2, 3)]
        found = loss.grad({x: data}, wrt=wrt, device=C.gpu(0))
        truth = loss.grad({x: data}, wrt=wrt, device=C.cpu())
        for a, b in zip(found[x], truth[x]):
            close(a, b, 1e-4)
        for p in wrt[1:]:
            close(found[p], truth[p], 1e-4)
    plans = [p for p in loss._runner.plans if p.engine is engine]
    assert any(c is not None for p in plans for c in p._shapes.values()), [
        p.hindrance for p in plans
    ]


def test_kernels_that_follow_one_another_at_once(engine):
    """The wide convolutions of a replayed run overlap on newer GPUs; see `Cudnn`."""
    gru = ConvGRU("wide", (4,) * 4, (16, 64, 64), 64, {}).in_rgraph()
    (x,) = gru.inputs.values()
    rng = np.random.default_rng(0)
    for _ in range(4):
        data = {x: [rng.normal(size=(4, 16, 64, 64)).astype(np.float32) for _ in range(4)]}
        found = gru.result.eval(data, device=C.gpu(0))
        for a, b in zip(found, gru.result.eval(data, device=C.cpu()), strict=True):
            close(a, b, 1e-2)


def test_values_of_float16(engine):
    """A convolution with a tail, a product and their gradients; parameters are of float32."""
    x = C.input_variable((8, 12, 12), dtype=np.float16)
    w = C.Parameter((16, 8, 3, 3), init=C.glorot_uniform(seed=1))
    v = C.Parameter((16 * 144, 10), init=C.glorot_uniform(seed=2))
    h = C.tanh(C.convolution(C.cast(w, np.float16), x, auto_padding=[False, True, True]))
    y = C.times(C.reshape(h, 16 * 144), C.cast(v, np.float16))
    loss = C.reduce_sum(C.square(C.cast(y, np.float32)))
    data = {x: np.random.default_rng(0).normal(size=(6, 8, 12, 12)).astype(np.float16)}
    truth = loss.grad(data, wrt=[w, v], device=C.cpu())
    for _ in range(4):
        close(y.eval(data, device=C.gpu(0)), y.eval(data, device=C.cpu()), 1e-2)
        for p, g in loss.grad(data, wrt=[w, v], device=C.gpu(0)).items():
            close(g, truth[p], 1e-2)
    assert any(k[2] == "float16" and p for k, p in engine.cudnn.plans.items())


def test_products_are_captured(engine):
    x = C.input_variable(20)
    f = C.layers.Dense(30, activation=C.tanh)(x)
    for i in range(4):
        a = np.full((7, 20), 0.1 * i, np.float32)
        close(f.eval({x: a}, device=C.gpu(0)), f.eval({x: a}, device=C.cpu()), 1e-5)
    (plan,) = (p for p in f._runner.plans if p.engine is engine)
    assert all(plan._shapes.values()), plan.hindrance


def test_gradients_on_the_device_against_finite_differences(engine):
    before = device.use_default_device()
    assert C.try_set_default_device(C.gpu(0))
    try:
        x = C.input_variable((2, 6, 5))
        w = C.Parameter((3, 2, 3, 3), init=C.glorot_uniform(seed=1))
        C.testing.check_gradients(C.tanh(C.convolution(w, x)), order=2)
    finally:
        C.try_set_default_device(before)


def test_pytorch_s_arrays_go_in_and_come_out(engine, torch):
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA here")
    x = C.input_variable((2, 3))
    tensor = torch.randn(4, 2, 3, device="cuda")
    torch.cuda.synchronize()
    value = (x * 2).eval({x: tensor}, device=C.gpu(0), as_numpy=False)
    assert torch.equal(torch.from_dlpack(value), tensor * 2)


def models():
    """A ragged LSTM with running statistics, and a ConvolutionalGRU: model, loss, minibatches."""
    rng = np.random.default_rng(0)
    x, t, lstm, loss = ragged_lstm()
    yield "lstm", lstm, loss, [minibatch(rng, x, t, lengths) for lengths in LENGTHS]
    film = C.sequence.input_variable((2, 6, 5))
    kernels = [
        C.Parameter((4, n, 3, 3), init=C.glorot_uniform(seed=i)) for i, n in enumerate((2, 4) * 3)
    ]
    bias = C.Parameter((4, 1, 1), init=0.1)

    def step(h, v):
        def both(i, state):
            return C.convolution(kernels[i], v) + C.convolution(kernels[i + 1], state) + bias

        z, r = C.sigmoid(both(0, h)), C.sigmoid(both(2, h))
        return z * h + (1 - z) * C.tanh(both(4, r * h))

    gru = C.layers.Recurrence(step)(film)
    batches = [
        {film: [rng.normal(size=(n, 2, 6, 5)).astype(np.float32) for n in own]} for own in LENGTHS
    ]
    yield "conv gru", gru, C.reduce_sum(C.square(gru - 0.3)), batches


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize(
    "make",
    [
        lambda ps: C.adam(ps, 0.05, 0.9),
        lambda ps: C.momentum_sgd(ps, 0.05, 0.9, l2_regularization_weight=0.01),
        lambda ps: C.rmsprop(ps, 0.01, 0.9, 1.2, 0.7, 10, 1e-2),  # not pointwise: it has a mean
        lambda ps: C.sgd(
            ps, 0.05, gradient_clipping_threshold_per_sample=0.1,
            gradient_clipping_with_truncation=False,
        ),
    ],
    ids=["adam", "momentum", "rmsprop", "clipped"],
)  # fmt: skip
def test_training_gives_what_it_gives_on_the_cpu(make, number, engine):
    options.choose(precision="float32", deterministic=True)

    def trained(where):
        C.set_seed(1)
        _, model, loss, batches = list(models())[number]
        trainer = C.Trainer(model, loss, make(model.parameters))
        losses = []
        for batch in batches:
            trainer.train_minibatch(batch, device=where)
            losses.append(trainer.previous_minibatch_loss_average)
        states = [h.value for h in model.constants if h.shape]
        return losses, [p.value for p in model.parameters], states

    for found, truth in zip(trained(C.gpu(0)), trained(C.cpu())):
        for a, b in zip(found, truth, strict=True):
            close(a, b, 2e-4)


def test_a_minibatch_with_nan_changes_nothing(engine):
    """Though it is heard of one minibatch later."""

    def twice(trainer, batch, where):
        for _ in range(2):
            trainer.train_minibatch(batch, device=where)

    def trained(where, number):
        C.set_seed(1)
        _, model, loss, batches = next(models())
        trainer = C.Trainer(model, loss, C.adam(model.parameters, 0.05, 0.9))
        for i, batch in enumerate(batches[:4]):
            if i == number:
                (first, *_) = batch
                wrong = {k: [np.array(s) for s in v] for k, v in batch.items() if k is first}
                wrong[first][0][:] = np.nan
                with pytest.raises(C.GraphError, match="no parameter was changed"):
                    twice(trainer, {**batch, **wrong}, where)
            trainer.train_minibatch(batch, device=where)
        return [p.value for p in model.parameters]

    options.choose(precision="float32", deterministic=True)
    truth = trained(C.cpu(), None)
    for number in (0, 2):
        for a, b in zip(trained(C.gpu(0), number), truth, strict=True):
            close(a, b, 2e-4)


def test_runs_are_in_order_with_a_stream_of_pytorch_s(engine, torch):
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA here")
    x = C.input_variable(1 << 20)
    f = x * 2 + 1
    side = torch.cuda.Stream()
    with torch.cuda.stream(side), C.device.gpu_stream(side, C.gpu(0)):
        for i in range(6):
            tensor = torch.zeros(64, 1 << 20, device="cuda")
            for _ in range(20):
                tensor += i
            value = f.eval({x: tensor}, device=C.gpu(0), as_numpy=False)
            found = torch.from_dlpack(value) * 1
            assert (found == 40 * i + 1).all()


def test_parameters_stay_on_the_gpu_until_they_are_read(engine):
    _, model, loss, batches = next(models())
    trainer = C.Trainer(model, loss, C.sgd(model.parameters, 0.05))
    for batch in batches:
        trainer.train_minibatch(batch, device=C.gpu(0))
    w = model.parameters[0]
    assert w.node.elsewhere is not None
    before = w.value
    assert w.node.elsewhere is None
    trainer.train_minibatch(batches[0], device=C.cpu())
    assert (w.value != before).any()


def test_values_lie_on_the_gpu(engine):
    x = C.sequence.input_variable(2)
    data = [np.full((n, 2), n, np.float32) for n in (3, 1, 2)]
    value = (x + 1).eval({x: data}, device=C.gpu(0), as_numpy=False)
    assert all(isinstance(s, engine.cupy.ndarray) for s in value.content)
    for found, given in zip(value.as_sequences(), data):
        np.testing.assert_array_equal(found, given + 1)


def test_captured_graphs_give_their_memory_back(engine):
    """By what this process holds: others may use the GPU too."""

    def run():
        x = C.input_variable((1 << 20,))
        f = C.tanh(x) * x + 1
        for _ in range(4):
            f.eval({x: np.ones((8, 1 << 20), np.float32)}, device=C.gpu(0))
        (plan,) = f._runner.plans
        assert all(plan._shapes.values()), plan.hindrance
        (captured,) = plan._shapes.values()
        assert captured.pool.total_bytes() >= 32 << 20
        return captured.pool

    pool = run()
    gc.collect()
    engine.synchronize()
    assert pool.total_bytes() == 0


def test_a_number_per_channel_that_does_not_lie_in_order(engine):
    """Behind a convolution."""
    options.choose(precision="float32")
    x = C.input_variable((2, 6, 5))
    w = C.Parameter((4, 2, 3, 3), init=C.glorot_uniform(seed=1))
    b = C.slice(C.parameter(init=np.arange(8, dtype=np.float32).reshape(8, 1, 1)), 0, 0, 8, 2)
    f = C.sigmoid(C.convolution(w, x) - b)
    a = np.random.default_rng(0).normal(size=(3, 2, 6, 5)).astype(np.float32)
    for _ in range(3):
        close(f.eval({x: a}, device=C.gpu(0)), f.eval({x: a}, device=C.cpu()), 1e-5)


def test_random_numbers_repeat_with_the_seed(engine):
    x = C.input_variable(1000)
    f = C.dropout(x, 0.5)
    ones = np.ones((1, 1000), np.float32)

    def draw():
        C.set_seed(3)
        return f.forward({x: ones}, [f.output], {f.output}, device=C.gpu(0))[1][f.output]

    a, b = draw(), draw()
    np.testing.assert_array_equal(a, b)
    assert 400 < (a > 0).sum() < 600
