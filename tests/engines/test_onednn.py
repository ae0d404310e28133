"""oneDNN's kernels against the records' own, which say what is meant."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.engines import cpu
from rgraph.graph.node import Type
from rgraph.ops.records import TABLE
from rgraph.plan import Run
from tests.engines.binding import Kernels

if "onednn" not in device.cpu_engines():
    pytest.skip("oneDNN is not installed: pip install onednn-cpu-gomp", allow_module_level=True)


from rgraph.engines.onednn import patience, primitives
from rgraph.engines.onednn.chains import Post
from rgraph.engines.onednn.library import Library
from rgraph.engines.onednn.primitives import ConvolutionPrimitives, Geometry
from rgraph.engines.sizes import Sizes, row_blocks

ENGINE = cpu.made("onednn")
KERNELS = Kernels(ENGINE)
GEOMETRIES = [
    # operand, kernel, strides, padding, dilation, groups
    ((3, 9), (4, 3, 3), (1,), ((1, 1),), (1,), 1),
    ((3, 9, 8), (4, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 9, 8), (16, 1, 2, 3), (2, 1), ((0, 1), (1, 1)), (1, 1), 1),
    ((4, 9, 8), (6, 2, 3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 2),
    ((16, 5, 6, 4), (16, 16, 3, 3, 3), (1, 1, 1), ((1, 1),) * 3, (1, 1, 1), 1),
    ((32, 14, 14), (32, 32, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
]


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


@pytest.fixture(params=GEOMETRIES, ids=str)
def case(request):
    operand, kernel, strides, padding, dilation, groups = request.param
    at = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(11, *operand)).astype(np.float32)
    w = rng.normal(size=kernel).astype(np.float32)
    run = Run(ENGINE, {}, 11)
    y = TABLE["convolution"].kernel(run, w, x, **at)
    g = rng.normal(size=y.shape).astype(np.float32)
    return run, x, w, y, g, at


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last])
def test_convolution(case, order):
    run, x, w, y, _, at = case
    close(KERNELS["convolution"](run, w, order(x), **at), y)
    out = order(np.empty_like(y))
    assert KERNELS["convolution"](run, w, x, out=out, **at) is out
    close(out, y)


def test_gradient_to_the_operand(case):
    run, x, w, _, g, at = case
    at = {**at, "spatial": x.shape[2:]}
    truth = TABLE["convolution_transpose"].kernel(run, w, g, **at)
    close(KERNELS["convolution_transpose"](run, w, g, **at), truth)


def test_gradient_to_the_kernels(case):
    run, x, w, _, g, at = case
    at = {**at, "kernel": w.shape[2:]}
    truth = TABLE["convolution_weights"].kernel(run, x, g, **at)
    close(KERNELS["convolution_weights"](run, x, channels_last(g), **at), truth)


def test_float64_is_the_numpy_engine_s(case):
    run, x, w, _, _, at = case
    x, w = x.astype(np.float64), w.astype(np.float64)
    y = KERNELS["convolution"](run, w, x, **at)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, TABLE["convolution"].kernel(run, w, x, **at), rtol=1e-10)


def test_rows_come_in_few_sizes():
    sizes = set()
    for rows in range(1, 400):
        blocks = list(row_blocks(rows))
        assert [b.start for b in blocks] == [0, *[b.stop for b in blocks[:-1]]]
        assert blocks[-1].stop == rows
        sizes |= {b.stop - b.start for b in blocks}
    assert len(sizes) < 25


@pytest.mark.parametrize("shape", [(5, 3, 4), (64, 96, 80), (300, 70, 90), (1, 700, 500)], ids=str)
def test_products(shape):
    rows, inner, columns = shape
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(rows, inner)), rng.normal(size=(inner, columns))
    a, b = a.astype(np.float32), b.astype(np.float32)
    matmul = ENGINE.matmul
    wide = np.zeros((rows, inner + 3), np.float32)
    wide[:, :inner] = a
    for left in (a, np.asfortranarray(a), wide[:, :inner], np.repeat(a, 2, 1)[:, ::2]):
        for right in (b, np.asfortranarray(b)):
            close(matmul(left, right), a.astype(np.float64) @ b)
    assert matmul(a.astype(np.float64), b.astype(np.float64)).dtype == np.float64


def test_products_of_ever_other_sizes():
    rng = np.random.default_rng(0)
    matmul = ENGINE.matmul
    for rows in range(400, 440):  # more than get primitives of their own
        a, b = (rng.normal(size=(rows, n)).astype(np.float32) for n in (70, 60))
        close(matmul(a.T, b), a.T.astype(np.float64) @ b)  # as a weight gradient, summed over rows
        close(matmul(a, b[:70]), a.astype(np.float64) @ b[:70])


def test_sizes_are_their_own_until_there_are_many():
    sizes = Sizes()
    for rows in range(100, 132):
        assert list(sizes.blocks("kind", rows)) == [slice(0, rows)]
    assert list(sizes.blocks("kind", 41)) == [slice(0, 32), slice(32, 40), slice(40, 41)]
    assert list(sizes.blocks("kind", 131)) == [slice(0, 131)]
    assert list(sizes.blocks("another", 41)) == [slice(0, 41)]


def every_other():
    return C.slice(
        C.Parameter((8, 1, 1), init=np.arange(8, dtype="f").reshape(8, 1, 1)), 0, 0, 8, 2
    )


TAILS = {
    "gate": lambda y, a, b: C.sigmoid(y + a) * b,
    "turned": lambda y, a, b: 1 - C.tanh(b - y / a),
    "compared": lambda y, a, b: C.greater(a, C.relu(y)) + C.element_max(b, y),
    "per channel": lambda y, a, b: C.tanh(y * np.arange(4, dtype="f").reshape(4, 1, 1) + a),
    "read twice": lambda y, a, b: (lambda z: z * z - b)(y + a),
    "by itself": lambda y, a, b: y * y + a,
    "not oneDNN's": lambda y, a, b: C.sin(y + a) * b,
    "every other of a parameter": lambda y, a, b: (y + every_other()) * a,
}


@pytest.mark.parametrize("rows", [1, 11])
@pytest.mark.parametrize("name", TAILS)
def test_a_whole_function_with_tails(name, rows, engines):
    x, a, b = C.input_variable((3, 9, 8)), C.input_variable((4, 9, 8)), C.input_variable((4, 9, 8))
    W = C.Parameter((4, 3, 3, 3), init=C.glorot_uniform())
    y = TAILS[name](C.convolution(W, x), a, b)
    rng = np.random.default_rng(0)
    given = {v: rng.uniform(0.5, 1.5, (rows, *v.shape)).astype(np.float32) for v in y.arguments}
    values = {}
    for engine in ("numpy", "onednn"):
        engines(engine)
        values[engine] = [y.eval(given), *y.grad(given, wrt=[W, a]).values()]
    for ours, truth in zip(values["onednn"], values["numpy"], strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-5 * np.abs(truth).max())


def test_an_operand_that_lies_between_other_things(engines):
    """The fields of packed records are not a whole number of elements apart."""
    engines("onednn")
    rng = np.random.default_rng(0)
    a = np.zeros((200, 300), np.dtype([("kind", "i1"), ("value", "f4")]))["value"]
    a[...] = rng.normal(size=a.shape)
    W = rng.normal(size=(300, 200)).astype(np.float32)
    x = C.input_variable(a.shape, dynamic_axes=[])
    np.testing.assert_allclose(C.times(x, W).eval({x: a}), a @ W, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 32, 70])
def test_products_of_a_loop_with_a_matrix_that_stays(batch, engines):
    """The matrix's own order is made once; ragged sequences come in many numbers."""
    rng = np.random.default_rng(batch)
    x = C.sequence.input_variable(40)
    y = C.layers.Recurrence(C.layers.LSTM(100))(x)
    lengths = rng.integers(1, 6, batch)
    sequences = [rng.normal(size=(n, 40)).astype(np.float32) for n in lengths]
    found = []
    for name in ("numpy", "onednn"):
        engines(name)
        by_input = y.grad({x: sequences}, wrt=[x, *y.parameters])
        found.append([*y.eval({x: sequences}), *by_input.pop(x), *by_input.values()])
    for expected, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-5 * abs(expected).max())


@pytest.mark.parametrize("channels", [1, 17, 51])
def test_one_thread_runs_what_another_has_made(channels):
    """The memory that the library works in is not that of the thread that made a primitive."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 1, 4, 5)).astype(np.float32)
    w = rng.normal(size=(channels, 1, 3, 3)).astype(np.float32)
    at = {"strides": (1, 1), "padding": ((2, 2), (2, 2)), "dilation": (2, 2), "groups": 1}
    run = Run(ENGINE, {}, 7)

    def work():
        y = KERNELS["convolution"](run, w, x, **at)
        dw = KERNELS["convolution_weights"](run, x, y, kernel=(3, 3), **at)
        return y, dw, KERNELS["convolution_transpose"](run, w, y, spatial=(4, 5), **at)

    first = work()
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(work).result()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


EDGES = np.array([np.nan, np.inf, -np.inf, 100, -100, 88.5, -88.5, 0, -0.0, 1, -1, 1e30, -1e30])
AFTER = {
    **{n: getattr(C, n) for n in ("relu", "exp", "sigmoid", "tanh", "elu", "square", "abs")},
    "max": lambda y: C.element_max(y, C.Parameter((1, 1, 1), init=0.5)),
    "min": lambda y: C.element_min(y, C.Parameter((1, 1, 1), init=0.5)),
    "max pooling": lambda y: C.pooling(y, C.MAX_POOLING, (2, 2), (2, 2)),
    "mean pooling": lambda y: C.pooling(y, C.AVG_POOLING, (2, 2), (2, 2)),
    "softmax": lambda y: C.softmax(C.reshape(y, (40, 40)), axis=-1),
    "log_softmax": lambda y: C.log_softmax(C.reshape(y, (40, 40)), axis=-1),
}


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize("head", ["convolution", "operand"])
def test_nan_and_infinities_go_on(name, head, engines):
    """A NaN that becomes a number on its way would never be seen."""
    x = C.input_variable((1, 40, 40))
    kernel = C.Parameter((1, 1, 1, 1), init=1.0)
    y = AFTER[name](C.convolution(kernel, x) if head == "convolution" else x)
    value = np.resize(EDGES.astype(np.float32), (20, 1, 40, 40))
    value[10:] = 1.0
    value[12, 0, 3, 3] = np.nan
    found = []
    for engine in ("numpy", "onednn"):
        engines(engine)
        found.append(y.eval({x: value}))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-30)


def test_what_is_no_longer_kept_is_destroyed():
    library, destroyed = Library(), []
    names = "primitive", "primitive_desc", "memory", "memory_desc", "primitive_attr", "post_ops"
    for name in (f"dnnl_{n}_destroy" for n in names):

        def destroy(handle, name=name, really=getattr(library._library, name)):
            destroyed.append(name)
            assert really(handle) == 0

        setattr(library._library, name, destroy)
    at = Geometry((32, 8, 9), (32, 8, 9), (5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1)
    own = ConvolutionPrimitives(library)
    own.forward(1, at, ((Post("tanh"), None),))
    kept = len(destroyed)
    assert "dnnl_primitive_destroy" not in destroyed and "dnnl_memory_destroy" not in destroyed
    own.forward.cache_clear()
    gone = destroyed[kept:]
    # the convolution and what orders its kernels: two arrays of the one, three of the other
    assert gone.count("dnnl_primitive_destroy") == 2
    assert gone.count("dnnl_memory_destroy") >= 5


def test_images_of_ever_new_sizes(monkeypatch):
    """The library would keep the code for each for ever."""
    x, w = np.ones((1, 32, 9, 9), np.float32), np.full((32, 32, 5, 5), 0.5, np.float32)
    at = {"strides": (1, 1), "padding": ((2, 2), (2, 2)), "dilation": (1, 1), "groups": 1}
    monkeypatch.setattr(primitives, "_MOST_STAYING", 0)
    engine = cpu.CpuEngine("onednn", ["onednn", "numpy"])
    run = Run(engine, {}, 1)
    y = TABLE["convolution"].kernel(run, w, x, **at)
    close(Kernels(engine)["convolution"](run, w, x, **at), y)
    back = TABLE["convolution_transpose"].kernel(run, w, y, spatial=(9, 9), **at)
    close(Kernels(engine)["convolution_transpose"](run, w, y, spatial=(9, 9), **at), back)


def test_a_primitive_that_is_held_up_is_followed_by_others_in_one_thread(monkeypatch):
    now = {"took": 0.0, "worked": 0.0}
    monkeypatch.setattr(patience, "perf_counter", lambda: now["took"])
    monkeypatch.setattr(patience, "thread_time", lambda: now["worked"])
    all_ = patience.Patience()
    watch = patience.Watch(all_)

    def run(took, worked):
        watch.start()
        now["took"] += took
        now["worked"] += worked
        watch.stop()
        return all_.is_gone()

    assert not run(0.005, 0.001)  # it never took less
    assert not run(0.001, 0.001)
    assert not run(0.004, 0.004)  # slow, but not for having waited
    assert not run(0.0014, 0.0004)  # for others, but hardly any longer than it can
    assert run(0.0045, 0.001)  # 3 ms more than expected
    now["took"] += 0.023
    assert all_.is_gone()
    now["took"] += 0.002
    assert not all_.is_gone()


@pytest.mark.parametrize("name", ["convolution", "convolution_transpose", "pool_mean"])
def test_threads_do_not_change_a_result(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 32, 21, 20)).astype(np.float32)
    w = rng.normal(size=(32, 32, 5, 5)).astype(np.float32)
    at = {"strides": (1, 1), "padding": ((2, 2), (2, 2)), "dilation": (1, 1), "groups": 1}
    arrays = [w, x]
    if name == "convolution_transpose":
        at["spatial"] = (21, 20)
    elif name == "pool_mean":
        arrays = [x]
        at = {"window": (3, 3), "strides": (1, 1), "padding": ((1, 1), (1, 1)), "counts": (21, 20)}
        at["include_pad"] = True
    (onednn,) = [p for p in ENGINE.providers if p.name == "onednn"]
    types = [Type(a.shape, (), a.dtype) for a in arrays]
    made = [onednn._parts(n).makers[name](None, types, **at) for n in (1, 2, 3)]
    found = [kernel(Run(ENGINE, {}, 3), *arrays) for kernel in made]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
