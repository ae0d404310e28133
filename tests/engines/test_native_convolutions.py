"""Convolutions in C, by minimal filtering and by products, against SciPy's, and their gradients
against the records' kernels in float64.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.signal import correlate

import rgraph as C
from rgraph.engines import cpu
from rgraph.engines.native import Native, convolutions
from rgraph.engines.native.library import load
from rgraph.engines.numpy.threads import number
from rgraph.ops.records import TABLE
from rgraph.plan import Run
from tests.engines.binding import Kernels
from tests.engines.tail_programs import TAILS, program

ENGINE = cpu.made("native")
if ENGINE is None:
    pytest.skip(cpu.WHY_NOT["native"], allow_module_level=True)
OF_THE_ENGINE = Kernels(ENGINE)
ENGINE_LIBRARY = load()


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch):
    """What is right is so at sizes too at which products are faster than filtering."""
    monkeypatch.setattr(convolutions, "_LEAST_TILES", 1)
    monkeypatch.setattr(convolutions, "_LEAST_IN_LOOP", 1)


RNG = np.random.default_rng(0)
SAME = ((1, 1), (1, 1))
CASES = [
    # images, channels, results, size, padding
    (2, 16, 32, (9, 13), SAME),
    (3, 32, 16, (10, 10), ((0, 0), (0, 0))),
    (1, 16, 16, (6, 30), ((2, 1), (0, 2))),
    (2, 48, 80, (20, 17), SAME),
    (1, 32, 32, (130, 70), SAME),
    (20, 16, 16, (4, 4), SAME),
    (1, 128, 96, (16, 16), SAME),
]


def refused(*_, **__):
    raise AssertionError("it suits, but went to the engine's other kernel")


KERNELS = Kernels(Native(np.empty), refused)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def at(padding=SAME):
    return {"strides": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}


def run():
    return Run(ENGINE, {}, 1)


def by_scipy(w, x, padding, strides=None, dilation=None):
    axes = x.ndim - 2
    strides, dilation = strides or (1,) * axes, dilation or (1,) * axes
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
    wide = np.zeros((*w.shape[:2], *reach))  # the kernels with zeros in between
    wide[(..., *(slice(None, None, d) for d in dilation))] = w
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), *padding))
    every = tuple(slice(None, None, s) for s in strides)
    return np.array([[correlate(image, k, "valid")[0][every] for k in wide] for image in padded])


def close(found, expected):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize("images, channels, results, size, padding", CASES)
def test_convolutions_and_their_gradients(images, channels, results, size, padding):
    x, w = numbers(images, channels, *size), numbers(results, channels, 3, 3)
    expected = by_scipy(w, x, padding)
    g = numbers(*expected.shape)
    close(KERNELS["convolution"](run(), w, x, **at(padding)), expected)
    for name, a, b, more in (
        ("convolution_transpose", w, g, {"spatial": size}),
        ("convolution_weights", x, g, {"kernel": (3, 3)}),
    ):
        truth = TABLE[name].kernel(run(), a.astype(float), b.astype(float), **more, **at(padding))
        close(KERNELS[name](run(), a, b, **more, **at(padding)), truth)


@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last, lambda a: a[:, :, ::-1]])
def test_memory_orders(order):
    x, w, out = order(numbers(2, 16, 12, 12)), numbers(16, 16, 3, 3), order(numbers(2, 16, 12, 12))
    assert KERNELS["convolution"](run(), w, x, out=out, **at()) is out
    close(out, by_scipy(w, x, SAME))
    kernels = np.asfortranarray(w)
    close(KERNELS["convolution"](run(), kernels, x, **at()), by_scipy(w, x, SAME))


UNSUITED = {
    "five": {"w": (16, 16, 5, 5), "x": (1, 16, 9, 9), "padding": ((2, 2), (2, 2))},
    "few channels": {"w": (16, 3, 3, 3), "x": (1, 3, 9, 9)},
    "strides": {"w": (16, 16, 3, 3), "x": (1, 16, 9, 9), "strides": (2, 1)},
    "dilation": {"w": (16, 16, 3, 3), "x": (1, 16, 9, 9), "dilation": (2, 2)},
    "groups": {"w": (32, 16, 3, 3), "x": (1, 32, 9, 9), "groups": 2},
    "a volume": {
        "w": (16, 16, 3, 3, 3), "x": (1, 16, 5, 5, 5), "strides": (1,) * 3, "dilation": (1,) * 3,
        "padding": ((1, 1),) * 3,
    },
    "no rows": {"w": (16, 16, 3, 3), "x": (0, 16, 9, 9)},
    "many channels": {"w": (256, 128, 3, 3), "x": (1, 128, 16, 16)},
    "no channels": {"w": (0, 0, 3, 3), "x": (1, 0, 9, 9)},
    "too small": {"w": (16, 16, 3, 3), "x": (4, 16, 2, 2)},
    "double": {"w": (16, 16, 3, 3), "x": (1, 16, 9, 9), "dtype": float},
}  # fmt: skip


@pytest.mark.parametrize("case", UNSUITED)
def test_what_does_not_suit_goes_to_the_other_kernel(case):
    given = {"dtype": np.float32} | UNSUITED[case]
    w, x = (numbers(*given.pop(name)).astype(given["dtype"]) for name in "wx")
    dtype = given.pop("dtype")
    arguments = at() | given
    found = OF_THE_ENGINE["convolution"](run(), w, x, **arguments)
    truth = TABLE["convolution"].kernel(run(), w.astype(float), x.astype(float), **arguments)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5 * np.abs(truth).max(initial=1))


@pytest.mark.parametrize("in_a_loop, size", [(False, 24), (True, 8)])
def test_few_tiles_are_not_worth_filtering(monkeypatch, in_a_loop, size):
    """In a loop a kernel is brought to the points once for all frames, so that fewer are."""
    monkeypatch.undo()
    for more, how in ((0, "in panels"), (8, "at points")):
        context, w = run(), numbers(16, 16, 3, 3)
        context.step = in_a_loop or None
        x = numbers(1, 16, size + more, size + more)
        close(KERNELS["convolution"](context, w, x, **at()), by_scipy(w, x, SAME))
        assert [key[-1] for key in context.memo if isinstance(key, tuple)] == [how]


def products_of(case):
    """A convolution that filtering does not suit, drawn from all that there are."""
    rng = np.random.default_rng(case)
    axes = rng.integers(1, 4)
    draw = lambda low, high: tuple(rng.integers(low, high, axes).tolist())  # noqa: E731
    kernel, strides, dilation, more = (
        draw(1, 5),
        draw(1, 4),
        draw(1, 3),
        draw(0, 9 if axes > 2 else 20),
    )
    size = tuple(d * (k - 1) + 1 + m for d, k, m in zip(dilation, kernel, more, strict=True))
    padding = tuple(zip(draw(0, 3), draw(0, 3), strict=True))
    channels = [1, 2, 3, 4, 5, 8, 16, 33]
    images, inner, outer = rng.integers(1, 5), *rng.choice(channels, 2)
    x = rng.normal(size=(images, inner, *size)).astype("f")
    w = rng.normal(size=(outer, inner, *kernel)).astype("f")
    at = {"strides": strides, "padding": padding, "dilation": dilation, "groups": 1}
    return channels_last(x) if case % 2 else x, w, at


@pytest.mark.parametrize("case", range(60))
def test_products_with_patches_and_their_gradients(case):
    x, w, at = products_of(case)
    expected = by_scipy(w, x, at["padding"], at["strides"], at["dilation"])
    close(KERNELS["convolution"](run(), w, x, **at), expected)
    g = numbers(*expected.shape)
    exact = TABLE["convolution_weights"].kernel(
        run(), x.astype(float), g.astype(float), kernel=w.shape[2:], **at
    )
    close(KERNELS["convolution_weights"](run(), x, g, kernel=w.shape[2:], **at), exact)
    if set(at["strides"]) == {1}:
        more = {"spatial": x.shape[2:], **at}
        exact = TABLE["convolution_transpose"].kernel(
            run(), w.astype(float), g.astype(float), **more
        )
        close(KERNELS["convolution_transpose"](run(), w, g, **more), exact)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "channels, size", [((3, 20), (40, 40)), ((32, 48), (5, 5, 5)), ((64, 3), (70,))]
)
def test_patches_are_shared_among_threads(threads, channels, size):
    ENGINE_LIBRARY.set_threads(threads)
    try:
        x, w = numbers(6, channels[0], *size), numbers(channels[1], channels[0], *[5] * len(size))
        padding = ((2, 2),) * len(size)
        ones = (1,) * len(size)
        more = {"strides": ones, "padding": padding, "dilation": ones, "groups": 1}
        close(KERNELS["convolution"](run(), w, x, **more), by_scipy(w, x, padding))
        g = numbers(6, channels[1], *size)
        exact = TABLE["convolution_weights"].kernel(
            run(), x.astype(float), g.astype(float), kernel=w.shape[2:], **more
        )
        close(KERNELS["convolution_weights"](run(), x, g, kernel=w.shape[2:], **more), exact)
    finally:
        ENGINE_LIBRARY.set_threads(number())


@pytest.mark.parametrize("results", [1, 16, 20, 32, 40])
@pytest.mark.parametrize("deep", [2, 70])
def test_tails_of_products_with_patches(results, deep):
    """A tail of any number of results, of patches of few numbers and of many."""
    x, w = numbers(2, deep, 9, 30), numbers(results, deep, 3, 3)
    bias, other = numbers(results, 1, 1), channels_last(numbers(2, results, 9, 30))
    chain, constants = program(lambda y, a, b: C.tanh(0.1 * (y + a)) * b, 3)
    out = channels_last(np.empty_like(other))
    found = KERNELS["tailed"](
        run(), w, x, bias, other, *constants, head=TABLE["convolution"], arguments=at(),
        program=chain, out=out,
    )  # fmt: skip
    assert found is out
    close(out, np.tanh(0.1 * (by_scipy(w, x, SAME) + bias)) * other)


@pytest.mark.parametrize("position", [(0, 0, 0), (1, 8, 29)])
def test_nan_in_an_image_reaches_only_the_windows_that_see_it(position):
    x, w = numbers(2, 3, 9, 30), numbers(20, 3, 3, 3)
    expected = by_scipy(w, x, SAME)
    image, row, column = position
    x[image, 0, row, column] = np.nan
    found = KERNELS["convolution"](run(), w, x, **at())
    seen = np.zeros(expected.shape, bool)
    seen[image, :, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    np.testing.assert_array_equal(np.isnan(found), seen)
    close(found[~seen], expected[~seen])


OPERANDS = {
    "whole": ((3, 16, 10, 21), (3, 16, 10, 21)),
    "per channel": ((16, 1, 1), (3, 16, 10, 21)),
    "per image": ((3, 1, 1, 1), (3, 16, 10, 21)),
    "per column": ((1, 1, 1, 21), (16, 1, 1)),
}


def with_tail(kernels, tail, w, x, a, b, out):
    chain, constants = program(TAILS[tail][0], 3)
    return kernels["tailed"](
        run(), w, x, a, b, *constants, head=TABLE["convolution"], arguments=at(), program=chain,
        out=out,
    )  # fmt: skip


def truth_with_tail(tail, w, x, a, b):
    return TAILS[tail][1](by_scipy(w, x, SAME), a.astype(float), b.astype(float))


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("tail", TAILS)
def test_tails(tail, operands):
    x, w = numbers(3, 16, 10, 21), numbers(16, 16, 3, 3) / 12
    a, b = (channels_last(numbers(*s)) if len(s) == 4 else numbers(*s) for s in OPERANDS[operands])
    out = channels_last(np.empty((3, 16, 10, 21), np.float32))
    strips = operands in ("whole", "per channel")  # what is repeated otherwise comes afterwards
    found = with_tail(KERNELS if strips else OF_THE_ENGINE, tail, w, x, a, b, out)
    assert found is out
    close(found, truth_with_tail(tail, w, x, a, b))


def test_a_tail_in_the_place_of_its_operand():
    x, w = numbers(3, 16, 10, 21), numbers(16, 16, 3, 3) / 12
    a, b = channels_last(numbers(3, 16, 10, 21)), channels_last(numbers(3, 16, 10, 21))
    expected = truth_with_tail("blend", w, x, a, b)
    close(with_tail(KERNELS, "blend", w, x, a, b, a), expected)


def test_threads_do_not_change_a_result():
    x, w = channels_last(numbers(4, 32, 40, 40)), numbers(32, 32, 3, 3)
    alone = KERNELS["convolution"](run(), w, x, **at())
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(KERNELS["convolution"], run(), w, x, **at()) for _ in range(40)]
    assert all(np.array_equal(f.result(), alone) for f in work)


def test_nan_stays_among_its_neighbours():
    x, w = numbers(1, 16, 24, 24), numbers(16, 16, 3, 3)
    expected = by_scipy(w, x, SAME)
    x[0, 3, 10, 10] = np.nan
    found = KERNELS["convolution"](run(), w, x, **at())
    assert np.isnan(found[0, :, 9:12, 9:12]).all()
    far = np.ones((24, 24), bool)
    far[8:12, 8:12] = False  # the tile it is in; here no other window sees it
    close(found[..., far], expected[..., far])


@pytest.mark.parametrize("size", [1, 1e3, 1e6, 1e10])
def test_how_exact_it_is_beside_a_huge_value(size):
    """docs/ACCURACY.md: the largest value in a tile's window decides."""
    x, w = numbers(2, 16, 16, 16), numbers(16, 16, 3, 3)
    x[:, :, 5, 6] *= size
    found = KERNELS["convolution"](run(), w, x, **at())
    weights = np.abs(w).sum((1, 2, 3))
    windows = np.pad(np.abs(x).max(1), ((0, 0), (1, 5), (1, 5)))
    largest = [
        [windows[:, i // 4 * 4 :][:, :6, j // 4 * 4 :][..., :6].max((1, 2)) for j in range(16)]
        for i in range(16)
    ]
    bound = 5e-7 * weights[:, None, None] * np.moveaxis(largest, -1, 0)[:, None]
    assert (np.abs(found - by_scipy(w, x, SAME)) <= bound).all()
