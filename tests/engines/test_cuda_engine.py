"""The cuda engine on a GPU that the CPU plays: its calls, its copies, what it captures."""

import gc
import types
import warnings

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.engines.cpu import reference_run
from rgraph.engines.cuda import options
from rgraph.engines.cuda import random as cuda_random
from rgraph.ops.records import TABLE
from rgraph.plan import Run
from tests.engines import played_gpu
from tests.engines.compiling import cubin
from tests.engines.strict_arrays import LIBRARY, Array, ExternalStream, MemoryPool, State

needs_compiler = pytest.mark.skipif(
    played_gpu.COMPILER is None, reason="there is no C++ compiler here"
)


@pytest.fixture
def engine(played):
    return played


def conv_gru(size=4):
    """A ConvolutionalGRU written out, summed over all frames."""
    x = C.sequence.input_variable((2, 5, 6), name="x")
    shapes = [(size, n, 3, 3) for n in (2, size) * 3]
    w = [C.Parameter(s, init=C.glorot_uniform(seed=i)) for i, s in enumerate(shapes)]
    b = C.Parameter((size, 1, 1), init=0.1)

    def step(h, v):
        def both(i, state):
            return C.convolution(w[i], v) + C.convolution(w[i + 1], state) + b

        z, r = C.sigmoid(both(0, h)), C.sigmoid(both(2, h))
        return z * h + (1 - z) * C.tanh(both(4, r * h))

    return C.layers.Recurrence(step, initial_state=0.1)(x), x


def on_cpu(f, *args, **options_):
    return f(*args, device=C.cpu(), **options_)


def test_a_recurrence_forward_and_backward_captured(compiled):
    engine = compiled
    f, x = conv_gru()
    loss = C.reduce_sum(C.square(f))
    rng = np.random.default_rng(0)
    for i in range(3):
        data = [rng.normal(size=(n, 2, 5, 6)).astype(np.float32) for n in (3, 2, 3)]
        wrt = list(f.parameters)
        found = loss.grad({x: data}, wrt=wrt)
        truth = on_cpu(loss.grad, {x: data}, wrt=wrt)
        for p in wrt:
            np.testing.assert_allclose(found[p], truth[p], rtol=2e-4, atol=1e-3)
        for a, b in zip(f.eval({x: data}), on_cpu(f.eval, {x: data})):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        for p in wrt:
            p.value = p.value * 0.9
        (plan,) = (p for p in f._runner.plans if p.engine is engine)
        (captured,) = plan._shapes.values()
        assert not plan.hindrance
        assert (captured is not None) == (i > 0)
    assert captured.graph.launches == 1


def test_the_kernels_of_a_recurrence_compile_for_gpus(engine, monkeypatch):
    """All that its training generates, for sm_80 and sm_90."""
    codes = set()
    make, interpreted = LIBRARY.RawKernel, engine.pointwise.launch
    _, generated = engine.generated

    def noted(*args):
        monkeypatch.setattr(LIBRARY, "RawKernel", lambda code, name: codes.add(code) or _Nothing())
        generated(*args)
        monkeypatch.setattr(LIBRARY, "RawKernel", make)
        interpreted(*args)

    engine.kernels["fused"], engine.pointwise.launch = engine.pointwise, noted
    f, x = conv_gru()
    loss = C.reduce_sum(C.square(f))
    trainer = C.Trainer(f, loss, C.adam(f.parameters, 0.1, 0.9))
    trainer.train_minibatch({x: [np.ones((n, 2, 5, 6), np.float32) for n in (3, 2)]})
    assert len(codes) > 5
    monkeypatch.undo()  # the compiler is CuPy's own
    for code in codes:
        for architecture in (80, 90):
            assert b"pointwise" in cubin(code, architecture)


class _Nothing:
    def __call__(self, *arguments):
        pass


def test_shapes_that_come_back_are_captured_others_are_not(engine):
    x = C.input_variable(3)
    f = C.tanh(x) * 2
    rng = np.random.default_rng(0)
    for rows in (2, 5, 2, 7, 2, 2):
        a = rng.normal(size=(rows, 3)).astype(np.float32)
        np.testing.assert_allclose(f.eval({x: a}), np.tanh(a) * 2, rtol=1e-6)
    (plan,) = f._runner.plans
    captured = {key[2]: value for key, value in plan._shapes.items()}
    assert {rows for rows, value in captured.items() if value} == {2}
    assert captured[2].graph.launches == 2


def test_graphs_that_do_not_come_back_are_let_go(engine, monkeypatch):
    monkeypatch.setattr("rgraph.engines.cuda.plan.MOST_GRAPHS", 2)
    monkeypatch.setattr("rgraph.engines.cuda.plan.MOST_SHAPES", 6)
    x = C.input_variable(1)
    f = x * 2
    gc.collect()
    before = State.pools
    for rows in (1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8):
        f.eval({x: np.ones((rows, 1), np.float32)})
    (plan,) = f._runner.plans
    assert [key[2] for key in plan._shapes] == [3, 4, 5, 6, 7, 8]
    assert [key[2] for key, graph in plan._shapes.items() if graph] == [3]
    assert State.pools == before + 1
    del f, plan
    gc.collect()
    assert State.pools == before, "a captured graph that is let go gives its memory back"


def test_all_graphs_together_keep_within_a_limit(engine):
    """Those go first that were not run for the longest time, of whatever plan."""
    engine.most_graph_bytes = 5 * MemoryPool.SIZE // 2
    x = C.input_variable(1)
    functions = [x * n for n in (2, 3, 4)]

    def run(*order):
        for n in order:
            np.testing.assert_array_equal(functions[n].eval({x: [[5]]}), [[5 * (n + 2)]])
        plans = [f._runner.plans for f in functions]
        return [any(c for p in own for c in p._shapes.values()) for own in plans]

    assert run(0, 0, 1, 1) == [True, True, False]
    assert run(0, 2, 2) == [True, False, True]
    assert run(1) == [False, True, True], "it comes back, and is captured anew"
    engine.most_graph_bytes = 10
    assert run(0) == [True, False, False], "the latest stays"


def test_what_is_copied_for_a_run_is_let_go_after_it(engine):
    x = C.input_variable(3)
    f = x * 2
    for _ in range(6):
        f.eval({x: np.ones((2, 3), np.float32)})
    assert not engine.transfers._fresh


def test_other_options_mean_other_graphs(engine):
    x = C.input_variable((2, 5, 5))
    f = C.convolution(C.Parameter((3, 2, 3, 3), init=0.1), x)
    for _ in range(3):
        f.eval({x: np.ones((2, 2, 5, 5), np.float32)})
    options.choose(precision="float32")
    f.eval({x: np.ones((2, 2, 5, 5), np.float32)})
    assert {key[3].precision for key in engine.cudnn.plans} == {"tf32", "float32"}


def test_what_the_cpu_must_look_at_is_not_captured(engine):
    x = C.sequence.input_variable(1)
    f = C.sequence.gather(x, C.greater(x, 0))
    for _ in range(3):
        (found,) = f.eval({x: [np.array([[1], [-1], [2]], np.float32)]})
        np.testing.assert_array_equal(found, [[1], [2]])
    (plan,) = (p for p in f._runner.plans if p.hindrance)
    assert not any(plan._shapes.values())


def test_what_turns_out_to_wait_is_run_without_a_graph(engine):
    """An operation that is not on the list: found while capturing, and left to plain runs."""
    x = C.input_variable(2)
    f = C.reduce_sum(x * 3)
    kernel = engine.kernels["fused"]

    def waiting(run, *arrays, program, out=None):
        result = kernel(run, *arrays, program=program, out=out)
        float(result[0, 0])
        return result

    engine.kernels["fused"] = waiting
    for _ in range(4):
        np.testing.assert_allclose(f.eval({x: [[1, 2]]}), 9)
    (plan,) = f._runner.plans
    assert "float()" in plan.hindrance
    assert State.tape is None and not engine.stream.is_capturing()
    assert not any(plan._shapes.values())


@needs_compiler
def test_dropout_is_captured_and_draws_anew(engine):
    x = C.input_variable(1000)
    f = C.dropout(x, 0.5)
    ones = np.ones((1, 1000), np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(f.eval({x: ones}), ones)

    def draws():
        C.set_seed(3)
        return [f.forward({x: ones}, [f.output], {f.output})[1][f.output] for _ in range(4)]

    first, again = draws(), draws()  # two plain runs, two captured ones, four captured ones
    assert all((a != b).any() for a, b in zip(first, first[1:]))
    np.testing.assert_array_equal(first, again)
    assert 450 < np.mean([(a > 0).sum() for a in first]) < 550
    graphs = [c.graph for p in f._runner.plans for c in p._shapes.values() if c]
    assert sorted(g.launches for g in graphs) == [1, 6]


@needs_compiler
def test_a_seed_that_is_the_run_s_turn_by_chance_is_a_seed(engine):
    """What an operation with a seed of its own draws depends on that and on the turn, no matter
    whether they are the same number."""
    draws = {}
    for seed in (1, 2):
        C.set_seed(3)
        f = C.random.normal((50,), seed=seed)
        draws[seed] = [f.eval({}) for _ in range(4)]
    for a in draws[1]:
        for b in draws[2]:
            assert (a != b).all(), "each seed and turn has a stream of its own"
    engine.random.begin(7, 5)
    for seed, varies in (((5, 5, 0), 1), ((7, 7, 0), 0), ((7, 5, 0), 1)):
        once = engine.generator(seed, varies).random(9, np.float32).memory
        engine.random.begin(7, 5)
        again = engine.generator(seed, varies)
        assert again._seed == (varies, *seed[:varies], *seed[varies + 1 :])
        np.testing.assert_array_equal(again.random(9, np.float32).memory, once)


# Philox4x32-10 by its authors' known answers: counter, key, result
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@needs_compiler
def test_philox_gives_the_known_answers():
    code = cuda_random.PHILOX + (
        'extern "C" __global__ void known(const unsigned int* given, unsigned int* out) {\n'
        "philox(given[0], given[1], given[2], given[3], given[4], given[5], out);\n}\n"
    )
    kernel = played_gpu.RawKernel(code, "known")
    for counter, key, answer in KNOWN:
        out = Array(np.zeros(4, np.uint32))
        kernel((1,), (1,), (Array(np.array(counter + key, np.uint32)), out))
        assert out.memory.tolist() == answer


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_numbers_have_their_distributions(engine, dtype):
    scipy = pytest.importorskip("scipy.stats")
    made = engine.generator((1, 2, 3))
    uniform, normal = made.random((101, 101), dtype), made.standard_normal(10_001, dtype)
    assert uniform.dtype == normal.dtype == dtype
    assert scipy.kstest(uniform.memory.ravel(), "uniform").pvalue > 1e-3
    assert scipy.kstest(normal.memory, "norm").pvalue > 1e-3
    assert (made.random(5, dtype).memory != made.random(5, dtype).memory).all()
    again = engine.generator((1, 2, 3)).random((101, 101), dtype)
    np.testing.assert_array_equal(uniform.memory, again.memory)
    assert (engine.generator((1, 2, 4)).random((5,), dtype).memory != again.memory[0, :5]).all()


# Arrays stay where they are


def test_arrays_on_the_gpu_go_in_and_come_out(engine):
    x = C.input_variable((2, 3, 4))
    f = x * 2
    a = np.random.default_rng(0).normal(size=(5, 2, 3, 4)).astype(np.float32)
    waits = State.waits
    value = f.eval({x: Array(a)}, as_numpy=False)
    again = f.eval({x: value}, as_numpy=False)
    assert State.waits == waits, "the CPU waited"
    assert isinstance(again.content, Array)
    assert again.device == C.gpu(0)
    assert again.shape == (5, 2, 3, 4)
    for taken in (np.from_dlpack(_AsCPU(again)), np.from_dlpack(_AsCPU(again.data))):
        np.testing.assert_allclose(taken, a * 4, rtol=1e-6)
        assert np.shares_memory(taken, again.content.memory)
    for brought in (again.asarray(), np.asarray(again), np.stack(again.as_sequences())):
        assert type(brought) is np.ndarray
        np.testing.assert_allclose(brought, a * 4, rtol=1e-6)
    kept = value.asarray()
    for _ in range(3):  # captured by now: the same memory is written again
        f.eval({x: Array(a + 1)}, as_numpy=False)
    np.testing.assert_array_equal(value.asarray(), kept)


def test_values_are_known_to_libraries_without_dlpack(engine):
    x = C.input_variable(2)
    value = (x + 1).eval({x: np.ones((3, 2), np.float32)}, as_numpy=False)
    about = value.__cuda_array_interface__
    assert about["shape"] == (3, 2) and about["data"][0] == value.content.data.ptr
    assert not hasattr(C.Value(np.ones(2)), "__cuda_array_interface__")


def test_arrays_on_the_gpu_are_values_of_parameters_without_a_copy_to_the_cpu(engine):
    w, k = C.Parameter((2, 3), init=0), C.Constant(Array(np.array([1, 2, 3])), dtype=np.float32)
    made = C.parameter(init=Array(np.full((2, 3), 5, np.float32)))
    np.testing.assert_array_equal(made.value, np.full((2, 3), 5))
    x = C.input_variable(())
    f = x * w + k
    for i in range(4):
        copies = len(State.copied_out)
        w.value = Array(np.full((2, 3), i, np.float64))
        value = f.eval({x: [1]}, as_numpy=False)
        assert len(State.copied_out) == copies
        np.testing.assert_array_equal(value.asarray()[0], [[1 + i, 2 + i, 3 + i]] * 2)
        np.testing.assert_array_equal(w.value, np.full((2, 3), i))
    with pytest.raises(C.GraphError, match=r"value of shape \(3, 2\) can't be set"):
        w.value = Array(np.ones((3, 2), np.float32))
    k.value = Array(np.array(7, np.float32))
    np.testing.assert_array_equal(k.value, [7, 7, 7])


@pytest.mark.parametrize(
    "stream",
    [
        types.SimpleNamespace(__cuda_stream__=lambda: (0, 99)),
        types.SimpleNamespace(cuda_stream=99),
        types.SimpleNamespace(ptr=99),
        99,
    ],
    ids=["protocol", "PyTorch", "CuPy", "address"],
)
def test_runs_are_in_order_with_a_stream_of_others(engine, stream):
    x = C.input_variable(2)
    f, ones = C.tanh(x) * 2, {x: np.ones((3, 2), np.float32)}
    for _ in range(4):  # plain, captured, replayed
        with C.device.gpu_stream(stream, C.gpu(0)):
            f.eval(ones, as_numpy=False)
        asked = ExternalStream.made[-1]
        count = len(asked.asked)
        assert asked.ptr == 99 and count and asked.asked == ["record", "wait"] * (count // 2)
    f.eval(ones)
    assert len(asked.asked) == count


class _AsCPU:
    """What says that it lies in the CPU's memory, as it does."""

    def __init__(self, value):
        self.value = value

    def __dlpack__(self, **options_):
        return self.value.__dlpack__(**options_)

    def __dlpack_device__(self):
        return (1, 0)


def test_sequences_on_the_gpu(engine):
    x = C.sequence.input_variable(2)
    f = C.sequence.past_value(x) + x
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(n, 2)).astype(np.float32) for n in (2, 3)]
    value = f.eval({x: list(map(Array, data))}, as_numpy=False)
    assert all(isinstance(s, Array) for s in value.content)
    for found, truth in zip(value.as_sequences(), on_cpu(f.eval, {x: data})):
        np.testing.assert_allclose(found, truth, rtol=1e-6)
    assert value.shape == (2, 3, 2) and value.dtype == np.float32
    assert value.data.array.shape == (2, 3, 2)


def test_the_cpu_does_not_take_arrays_of_a_gpu(engine):
    x = C.input_variable(2)
    with pytest.raises(C.GraphError, match=r"(?s)array on a GPU.*device=C.gpu\(0\)"):
        (x + 1).eval({x: Array(np.zeros((1, 2), np.float32))}, device=C.cpu())


# Convolutions

GEOMETRIES = [
    # operand, kernel, strides, padding, dilation, groups
    ((3, 9), (4, 3, 3), (1,), ((1, 1),), (1,), 1),
    ((3, 9), (4, 3, 2), (2,), ((0, 1),), (1,), 1),
    ((3, 9, 8), (4, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 9, 8), (16, 1, 2, 3), (2, 1), ((0, 1), (1, 1)), (1, 1), 1),
    ((4, 9, 8), (6, 2, 3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 2),
    ((2, 5, 6, 4), (3, 2, 3, 3, 3), (1, 1, 1), ((1, 1),) * 3, (1, 1, 1), 1),
    ((1, 6, 9), (2, 1, 1, 3), (3, 4), ((0, -2), (0, 0)), (1, 1), 1),  # edges that strides skip
]


@pytest.fixture(params=GEOMETRIES, ids=str)
def case(request, engine):
    operand, kernel, strides, padding, dilation, groups = request.param
    at = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(11, *operand)).astype(np.float32)
    w = rng.normal(size=kernel).astype(np.float32)
    run = reference_run()
    y = TABLE["convolution"].kernel(run, w, x, **at)
    g = rng.normal(size=y.shape).astype(np.float32)
    back = TABLE["convolution_transpose"].kernel(run, w, g, spatial=x.shape[2:], **at)
    weights = TABLE["convolution_weights"].kernel(run, x, g, kernel=w.shape[2:], **at)
    return x, w, g, at, {"forward": y, "data": back, "weights": weights}


def all_three(engine, case, out=False):
    x, w, g, at, truth = case
    x, w, g = map(Array, (x, w, g))
    run = Run(engine, {}, 11)
    kernels = engine.kernels
    outs = {k: {"out": engine.empty(v.shape, v.dtype)} if out else {} for k, v in truth.items()}
    return {
        "forward": kernels["convolution"](run, w, x, **at, **outs["forward"]),
        "data": kernels["convolution_transpose"](
            run, w, g, spatial=x.shape[2:], **at, **outs["data"]
        ),
        "weights": kernels["convolution_weights"](
            run, x, g, kernel=w.shape[2:], **at, **outs["weights"]
        ),
    }


def close(a, b, tolerance=1e-4):
    np.testing.assert_allclose(a.memory, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("out", [False, True])
def test_convolutions(engine, case, exact, out):
    engine.cudnn.exact = exact
    for name, found in all_three(engine, case, out).items():
        close(found, case[-1][name])


def test_without_engines_for_padding_on_one_side(engine, case, monkeypatch):
    equal = lambda name, padding: all(low == high for low, high in padding)  # noqa: E731
    monkeypatch.setattr(played_gpu.Cudnn, "supports", staticmethod(equal))
    for name, found in all_three(engine, case).items():
        close(found, case[-1][name])


def test_what_a_run_suffers_is_not_taken_for_a_lack_of_engines(engine, monkeypatch):
    def execute(self, *args, **kwargs):
        raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(played_gpu.Graph, "execute", execute)
    x = C.input_variable((2, 5, 5))
    f = C.convolution(C.Parameter((3, 2, 3, 3), init=0.1), x)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
            f.eval({x: np.ones((2, 2, 5, 5), np.float32)})
    assert all(engine.cudnn.plans.values()) and not engine.cudnn.refusals


def test_without_any_engine_the_records_own_kernels_run(engine, case, monkeypatch):
    """Which is said, once of each."""
    monkeypatch.setattr(played_gpu.Cudnn, "supports", staticmethod(lambda name, padding: False))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            for name, found in all_three(engine, case).items():
                close(found, case[-1][name])
    texts = [str(w.message) for w in said if "cuDNN has no engine" in str(w.message)]
    assert len(texts) == len(set(texts)) == 3


@needs_compiler
def test_bfloat16(engine, case):
    options.choose(precision="bfloat16")
    engine.cudnn.exact = True
    for name, found in all_three(engine, case).items():
        close(found, case[-1][name], 3e-2)
    assert {key[2] for key in engine.cudnn.plans} <= {"bfloat16"}
    assert all(engine.cudnn.plans.values()), "cuDNN has engines for results of bfloat16 only"


def test_plans_of_shapes_that_come_back_are_timed(engine, case):
    for own in ({}, {"timed": False}, {"deterministic": True, "timed": True}):
        options.choose(**own)
        for engine.cudnn.exact in (False, True):
            for name, found in all_three(engine, case).items():
                close(found, case[-1][name])
    for (_, at, _, chosen, _), plan in engine.cudnn.plans.items():
        timed = chosen.timed and not chosen.deterministic and at.result[0] == 11
        assert plan.choice in ((1, 2) if timed else (None,))


def test_what_is_far_slower_is_not_tried_further(engine, monkeypatch):
    tries = []
    monkeypatch.setattr(engine.cudnn, "_elapsed", lambda work: (work(), 5e-3)[1])
    assert engine.cudnn.seconds(lambda: tries.append(1)) == 5e-3 and len(tries) == 4
    assert engine.cudnn.seconds(lambda: tries.append(1), 1e-3) == 5e-3 and len(tries) == 4 + 2
    assert engine.cudnn.seconds(lambda: tries.append(1), 4e-3) == 5e-3 and len(tries) == 6 + 4


def test_what_is_short_is_timed_without_the_launches(engine, monkeypatch):
    """The CPU begins a run in 20 us, some kernels take 5: ten runs in one graph are timed."""
    took = iter([2e-5, 8e-5, 6e-5, 7e-5])
    monkeypatch.setattr(engine.cudnn, "_elapsed", lambda work: (work(), next(took))[1])
    assert engine.cudnn.seconds(lambda: None) == 6e-6


def test_nothing_overlaps_with_a_convolution_with_a_tail(engine, monkeypatch):
    """A kernel of no effect is launched before each; see `Cudnn`."""
    launched = []
    monkeypatch.setattr(engine.cudnn, "_nothing", lambda *args: launched.append(1))
    x = C.input_variable((8, 12, 12))
    w = C.Parameter((16, 8, 3, 3), init=C.glorot_uniform(seed=1))
    f = C.tanh(C.convolution(w, x))
    a = np.ones((2, 8, 12, 12), np.float32)
    for _ in range(2):
        f.eval({x: a})
    assert launched


def test_tensors_are_where_cudnn_is_told_they_are(engine):
    """A frame whose bytes are no multiple of 16: in a loop every second one is copied."""
    x = C.sequence.input_variable((1, 3, 3))
    w = C.Parameter((1, 1, 3, 3), init=0.2)
    f = C.layers.Recurrence(lambda h, v: C.convolution(w, v + h))(x)
    data = [np.random.default_rng(0).normal(size=(4, 1, 3, 3)).astype(np.float32)]
    for _ in range(3):
        (found,) = f.eval({x: data})
        np.testing.assert_allclose(found, on_cpu(f.eval, {x: data})[0], rtol=1e-5, atol=1e-6)


def test_options_choose_engines(engine):
    from rgraph.engines.cuda.cudnn import left_out

    note = played_gpu.Cudnn.numerical_note
    names = lambda *args: {n.name for n in left_out(played_gpu.Cudnn, *args)}  # noqa: E731
    assert names("float32", options.Options()) == {"DOWN_CONVERT_INPUTS"}
    assert "TENSOR_CORE" in names("float32", options.Options("float32"))
    assert "TENSOR_CORE" not in names("float64", options.Options("float32"))
    assert "NONDETERMINISTIC" in names("float32", options.Options(deterministic=True))
    assert note.TENSOR_CORE.name == "TENSOR_CORE"
    with pytest.raises(ValueError, match="precision is one of"):
        device.gpu_convolutions("float16")


def test_rows_come_in_few_sizes_until_a_shape_comes_back(engine):
    x = C.input_variable((2, 5, 5))
    w = C.Parameter((3, 2, 3, 3), init=0.1)
    f = C.convolution(w, x)
    for rows in range(1, 60):
        f.eval({x: np.ones((rows, 2, 5, 5), np.float32)})
    few = engine.cudnn.made
    assert few < 20
    for _ in range(3):
        f.eval({x: np.ones((59, 2, 5, 5), np.float32)})
    assert engine.cudnn.made == few + 1


# Products


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_any_memory_order(engine, dtype):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(dtype)

    pairs = [
        (draw(3, 4), draw(4, 5)),
        (draw(4, 3).T, draw(5, 4).T),
        (draw(3, 8)[:, ::2], draw(4, 5)),
        (draw(3, 8)[:, :4], draw(9, 5)[:4]),
        (draw(1, 4), draw(4, 1)),
        (draw(3, 1), draw(1, 5)),
        (draw(2, 3, 4), draw(2, 4, 5)),
        (draw(2, 3, 4).swapaxes(0, 1), draw(3, 4, 5)),
        (draw(6, 3, 4), np.broadcast_to(draw(4, 5), (6, 4, 5))),
        (draw(2, 2, 3, 4), draw(4, 5)),
        (draw(3, 0), draw(0, 5)),
        (draw(0, 4), draw(4, 5)),
    ]
    for a, b in pairs:
        close(engine.xp.matmul(Array(a), Array(b)), a @ b) if (a @ b).size else None


def test_products_over_any_axes(engine):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(5, 3, 6))
    for axes in (((1,), (1,)), ((3, 1), (0, 1)), ((), ())):
        close(engine.xp.tensordot(Array(a), Array(b), axes), np.tensordot(a, b, axes), 1e-12)


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_over_what_is_outermost_are_sums_of_strips(engine, dtype):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(7, 40, 21, 12)).astype(dtype)
    cases = [  # an array, the axes, whether by strips
        (np.moveaxis(a, -1, 1), (0, 2, 3), True),  # channels-last
        (np.moveaxis(np.repeat(a, 2, 2), -1, 1), (2, 3), True),
        (np.moveaxis(a, -1, 1), (0, 2), False),
        (np.moveaxis(a, -1, 1), (0, 1, 2, 3), False),
        (a, (0, 1, 2), True),
        (a, (0, 1), False),  # few are added
        (np.repeat(a, 4, 0), (0, 1), True),
        (a, (2, 3), False),
        (a.reshape(-1, 12), 0, True),
        (a.reshape(-1, 24)[:, ::2], 0, False),  # gaps
        (a.reshape(-1, 4), 0, True),
        (a.reshape(-1, 1), 0, False),
        (a[:0], (0, 1, 2), False),
        (np.broadcast_to(a[:1, :1, :1], (2000, 1, 1, 12)), 0, False),
        (rng.normal(size=(2000, 1, 3, 5)).astype(dtype)[:, :, :, :], 0, True),
    ]
    sums, launches = engine.xp.add, []
    for name, kernel in sums._kernels.items():
        sums._kernels[name] = lambda *args, kernel=kernel: launches.append(1) or kernel(*args)
    for array, axis, by_strips in cases:
        for keepdims in (False, True):
            launches.clear()
            found = sums.reduce(Array(array), axis=axis, keepdims=keepdims)
            truth = np.add.reduce(array.astype(np.float64), axis=axis, keepdims=keepdims)
            assert found.shape == truth.shape and bool(launches) == by_strips
            np.testing.assert_allclose(found.memory, truth, rtol=1e-4, atol=1e-4)
    many = np.full((1 << 20, 8), 0.1, dtype)  # one after the other, float32 would lose 4 digits
    found = sums.reduce(Array(many), axis=0).memory
    np.testing.assert_allclose(found, (1 << 20) * float(dtype(0.1)), rtol=1e-6)


def test_what_cudnn_has_no_engine_for_is_captured_too(engine, monkeypatch):
    monkeypatch.setattr(played_gpu.Cudnn, "supports", staticmethod(lambda name, padding: False))
    monkeypatch.setattr("warnings.warn", lambda *args, **more: None)
    x = C.input_variable((2, 5, 5))
    f = C.convolution(C.Parameter((3, 2, 3, 3), init=0.1), x)
    for i in range(4):
        a = np.full((2, 2, 5, 5), i, np.float32)
        np.testing.assert_allclose(f.eval({x: a}), on_cpu(f.eval, {x: a}), rtol=1e-5)
    (plan,) = (p for p in f._runner.plans if p.engine is engine)
    assert all(plan._shapes.values()), plan.hindrance


# Numbers of 16 bits


def test_values_of_float16_with_parameters_of_float32(compiled):
    """A convolution with a tail, a product and their gradients, plain and captured: cuDNN, cuBLAS
    and generated kernels get numbers of 16 bits; parameters and their gradients have 32."""
    half = np.float16
    x = C.input_variable((2, 5, 5), dtype=half)
    w = C.Parameter((3, 2, 3, 3), init=C.glorot_uniform(seed=1))
    v = C.Parameter((75, 2), init=C.glorot_uniform(seed=2))
    h = C.tanh(C.convolution(C.cast(w, half), x, auto_padding=[False, True, True]))
    y = C.times(C.reshape(h, 75), C.cast(v, half))
    loss = C.reduce_sum(C.square(C.cast(y, np.float32)))
    data = {x: np.random.default_rng(0).normal(size=(3, 2, 5, 5)).astype(half)}
    truth = on_cpu(loss.grad, data, wrt=[w, v])
    for _ in range(4):
        found = y.eval(data)
        assert found.dtype == half
        close(Array(found), on_cpu(y.eval, data), 5e-3)
        for p, g in loss.grad(data, wrt=[w, v]).items():
            assert g.dtype == np.float32
            close(Array(g), truth[p], 5e-3)
    assert {key[2] for key in compiled.cudnn.plans} == {"float16"}
    assert all(compiled.cudnn.plans.values())
    plans = [p for f in (y, loss) for p in f._runner.plans if p.engine is compiled]
    assert all(all(p._shapes.values()) for p in plans)


def test_what_is_not_finite_of_float16_is_seen(compiled):
    guard = compiled.make_guard()
    for value, infinite_too, seen in ((65504, True, 0), (np.inf, False, 0), (np.inf, True, 1)):
        guard.look(Array(np.array([1, value], np.float16)), infinite_too)
        assert guard.found.memory == seen


# Copies


def test_copies_keep_the_order_of_memory(engine):
    rng = np.random.default_rng(0)
    a = np.moveaxis(rng.normal(size=(3, 4, 5, 2)), -1, 1)
    on_gpu = engine.from_numpy(a)
    assert on_gpu.strides == a.strides
    back = engine.to_numpy(on_gpu)
    assert back.strides == a.strides
    np.testing.assert_array_equal(back, a)
    assert engine.from_numpy(on_gpu) is on_gpu
    for special in (np.zeros((0, 3)), np.array(2.5), np.broadcast_to(np.float32(3), (4, 2))):
        np.testing.assert_array_equal(engine.to_numpy(engine.from_numpy(special)), special)


def test_what_is_staged_is_copied_once(engine):
    staged = engine.staging((3, 4), np.float32)
    staged[...] = 5
    assert (engine.from_numpy(staged).memory == 5).all()
    assert engine.staging((0, 4), np.float32).shape == (0, 4)


@pytest.mark.parametrize("count, waits", [(1 << 10, 0), (1 << 20, 1)])
def test_what_is_large_is_copied_beside_the_work(engine, monkeypatch, count, waits):
    waited = []
    monkeypatch.setattr(engine.stream, "wait_event", waited.append)
    x = C.input_variable(count)
    f = C.tanh(x)
    for _ in range(3):
        waited.clear()
        value = f.eval({x: np.ones((1, count), np.float32)})
        assert len(waited) == waits
        np.testing.assert_allclose(value, np.tanh(1), rtol=1e-6)


def test_what_is_small_is_copied_at_once(engine):
    """Inputs of several shapes, types and orders of memory, in one copy; ragged sequences too."""
    x = C.sequence.input_variable((2, 3, 4))
    y, z = C.input_variable(5, dtype=np.float64), C.input_variable((2, 3, 4))
    f = C.sequence.last(x) * 2 + z
    both = C.combine(f, C.reduce_sum(y, axis=0))
    rng = np.random.default_rng(0)
    for i in range(5):
        data = {
            x: [rng.normal(size=(n, 2, 3, 4)).astype(np.float32) for n in (2, 3)],
            y: rng.normal(size=(2, 5)),
            z: np.moveaxis(rng.normal(size=(2, 3, 4, 2)).astype(np.float32), -1, 1),
        }
        copies = len(State.copied_in)
        found = both.eval(data)
        if i > 1:  # captured: the layout's indices are in the graph
            assert len(State.copied_in) == copies + 1
        for a, b in zip(found.values(), on_cpu(both.eval, data).values()):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    there = {**data, z: Array(data[z])}
    for given in (there, data):  # some on the GPU: the graph is the same
        for a, b in zip(both.eval(given).values(), found.values()):
            np.testing.assert_array_equal(a, b)
    (plan,) = (p for p in both._runner.plans if p.engine is engine)
    (captured,) = plan._shapes.values()
    assert captured.graph.launches == 5


# Errors


def test_a_full_memory_is_said_in_one_error(engine):
    x = C.input_variable(2)
    f = C.reduce_sum(x * 3)
    calls = []

    def full(run, *arrays, program, out=None):
        calls.append(1)
        raise engine.cupy.cuda.memory.OutOfMemoryError("Out of memory allocating 8 bytes")

    engine.kernels["fused"] = full
    with pytest.raises(C.GraphError, match=r"(?s)memory of GPU\[0\] is full.*smaller minibatches"):
        f.eval({x: [[1, 2]]})
    assert len(calls) == 2, "it is tried again once memory has been given back"


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("supported, faster", [(True, True), (True, False), (False, False)])
def test_a_tail_is_hung_on_a_convolution(engine, monkeypatch, supported, faster, in_order):
    """sigmoid(b - w * x) y: one graph of cuDNN's, or two kernels where it has no engine for it, or
    one that is slower, or where b, one number per channel, does not lie in memory in order."""
    from rgraph.passes import tails
    from rgraph.passes.rewriting import private

    x, y = C.input_variable((2, 5, 6)), C.input_variable((3, 5, 6))
    w = C.Parameter((3, 2, 3, 3), init=0.1)
    if in_order:
        b = C.Parameter((3, 1, 1), init=0.2)
    else:
        b = C.slice(C.parameter(init=np.arange(6, dtype=np.float32).reshape(6, 1, 1)), 0, 0, 6, 2)
    f = C.sigmoid(b - C.convolution(w, x)) * y
    nodes = tails.hang(private([f.node]))
    assert nodes[0].op.name == "tailed"
    assert nodes[0].attrs["program"].names == ("minus", "sigmoid", "element_times")
    tailed = []
    run_of = engine.cudnn.run

    def run(*args, **tail):
        tailed.append(bool(tail))
        return (supported or not tail) and run_of(*args, **tail)

    def seconds(work, rival=0):
        """Whatever has a tail takes one or three, else two."""
        count = len(tailed)
        work()
        return (1 if faster else 3) if any(tailed[count:]) else 2

    monkeypatch.setattr(engine.cudnn, "run", run)
    monkeypatch.setattr(engine.cudnn, "seconds", seconds)
    rng = np.random.default_rng(0)
    data = {v.node: rng.normal(size=(4, 5, 6, v.shape[0])).astype(np.float32) for v in (x, y)}
    data = {n: np.moveaxis(a, -1, 1) for n, a in data.items()}  # channels-last, as within a model
    engine.cudnn.exact = engine.cudnn.tails = True
    from rgraph.plan import Plan

    feed = {n: engine.from_numpy(a) for n, a in data.items()}
    (found,) = Plan(nodes, engine).run(feed, {}, 4)
    truth = on_cpu(f.eval, {x: data[x.node], y: data[y.node]})
    close(found, truth)
    assert any(tailed) == in_order
    assert tailed[-1] == (in_order and faster), "what is used in the end"
    count = len(tailed)
    close(Plan(nodes, engine).run(feed, {}, 4)[0], truth)
    assert tailed[count:] == [in_order and faster]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_capture_without_room_is_tried_again_and_given_up_for_its_shape(
    engine, monkeypatch, times
):
    x = C.input_variable(2)
    f = C.reduce_sum(x * 3)
    kernel, left = engine.kernels["fused"], [times]

    def full(run, *arrays, program, out=None):
        if State.tape is not None and left[0]:
            left[0] -= 1
            raise engine.cupy.cuda.memory.OutOfMemoryError("Out of memory allocating 8 bytes")
        return kernel(run, *arrays, program=program, out=out)

    engine.kernels["fused"] = full
    for rows in (1, 1, 1, 1, 2, 2, 2):
        np.testing.assert_allclose(f.eval({x: [[1, 2]] * rows}), [9] * rows)
    (plan,) = f._runner.plans
    assert not plan.hindrance
    captured = {key[2] for key, graph in plan._shapes.items() if graph}
    assert captured == ({1, 2} if times == 1 else {2})


# What is said of a run


def test_profilers_see_ranges(engine):
    x = C.input_variable(2)
    f = C.reduce_sum(x * 3, name="total")
    State.ranges.clear()
    for _ in range(3):
        f.eval({x: [[1, 2]]})
    names = [name.partition(": ")[2].split(" of ")[0] for name in State.ranges if name]
    assert names == ["run", "run", "capture", "replay"]
    assert all("total" in name for name in State.ranges if name)
    assert State.ranges.count("") == 4


def test_an_explanation_says_why_runs_are_not_captured(engine):
    x = C.sequence.input_variable(1)
    assert "one CUDA graph: the CPU waits for values in sequence_gather, sequence_where" in (
        C.sequence.gather(x, C.greater(x, 0)).explain()
    )
    assert "CUDA graph" not in C.tanh(x).explain()


def test_a_profile_waits_for_each_call(engine, monkeypatch):
    """A call is begun in a second, and is done after five more."""
    clock, under_way = [0.0], [0.0]
    kernel = engine.kernels["fused"]

    def begin(*args, **options_):
        clock[0] += 1
        under_way[0] += 5
        return kernel(*args, **options_)

    def synchronize():
        clock[0] += under_way[0]
        under_way[0] = 0

    engine.kernels["fused"] = begin
    monkeypatch.setattr(engine, "synchronize", synchronize)
    clocks = types.SimpleNamespace(perf_counter=lambda: clock[0])
    monkeypatch.setattr("rgraph.inspect.profile.time", clocks)
    x = C.input_variable(3)
    profile = C.reduce_sum(C.tanh(x) * 2).profile(np.ones((2, 3), np.float32))
    assert [e.seconds for e in profile.events if e.nodes[0].op.name == "fused"] == [6]
