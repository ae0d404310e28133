"""Pointwise programs in C against NumPy: the operations' own kernels, and formulas written here."""

import threading

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.engines import cpu
from rgraph.engines.cpu import reference_run
from rgraph.engines.native.library import NativeError
from rgraph.engines.native.programs import Programs
from rgraph.ops.fused import Program
from rgraph.ops.records import TABLE

pytestmark = pytest.mark.cpu

try:
    PROGRAMS = Programs()
except NativeError as error:
    pytest.skip(str(error), allow_module_level=True)

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 80.0, -80.0, 1e30]
RNG = np.random.default_rng(0)


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def done(steps, operands, *results):
    """The values of the steps with these numbers (counted from the operands)."""
    runner = PROGRAMS.compiled(Program(tuple(steps), len(operands), tuple(results)))
    shape = np.broadcast_shapes(*(a.shape for a in operands))
    found = [np.full(shape, np.nan, np.float32) for _ in results]
    assert not runner.run(*operands, *found)
    return found


@pytest.mark.parametrize("name", PROGRAMS.operations)
def test_operations(name):
    """On ordinary numbers and on what there is at the edges, each with each."""
    op = TABLE[name]
    values = np.array([*SPECIAL, *RNG.uniform(-9, 9, 40)], np.float32)
    grid = np.meshgrid(*[values] * len(op.operands), indexing="ij")
    operands = [np.ascontiguousarray(a, np.float32) for a in grid]
    with np.errstate(all="ignore"):
        expected = op.kernel(reference_run(), *operands)
    (found,) = done([(name, tuple(range(len(operands))))], operands, len(operands))
    np.testing.assert_allclose(found, expected, rtol=4e-6, atol=3e-7)


ORDERS = {
    "channels first": np.ascontiguousarray,
    "channels last": channels_last,
    "a slice": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "backwards": lambda a: a[::-1, :, ::-1],
    "repeated": lambda a: np.broadcast_to(a[:, :1, :1], a.shape),
}
STEPS = [("element_times", (0, 1)), ("plus", (3, 2)), ("tanh", (4,)), ("minus", (5, 0))]


@pytest.mark.parametrize("shape", [(3, 5, 70, 80), (2, 3, 4, 5), (1, 1, 1, 1), (4, 70, 1, 3)])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("target", [np.ascontiguousarray, channels_last])
def test_memory_orders(shape, order, target):
    x, y = ORDERS[order](numbers(*shape)), channels_last(numbers(*shape))
    bias = numbers(shape[1], 1, 1)
    first, last = target(np.empty(shape, np.float32)), channels_last(np.empty(shape, np.float32))
    runner = PROGRAMS.compiled(Program(tuple(STEPS), 3, (4, 6)))
    assert not runner.run(x, y, bias, first, last)
    np.testing.assert_allclose(first, x * y + bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, np.tanh(x * y + bias) - x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 15, 1023, 1025, 1 << 15, (1 << 18) + 7])
def test_sizes_beyond_a_block_and_worth_several_threads(size):
    a, b = numbers(size), numbers(1)
    (found,) = done([("plus", (0, 1)), ("square", (2,))], [a, b], 3)
    np.testing.assert_allclose(found, (a + b) ** 2, rtol=1e-6)


def test_rows_of_a_wider_array_and_no_rows():
    whole = numbers(7, 512)
    gates = [whole[:, i : i + 128] for i in range(0, 512, 128)]
    steps = [("sigmoid", (0,)), ("tanh", (1,)), ("element_times", (4, 5)), ("plus", (6, 2))]
    product, total = done(steps, gates, 6, 7)
    expected = np.tanh(gates[1]) / (1 + np.exp(-gates[0]))
    np.testing.assert_allclose(product, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total, expected + gates[2], rtol=1e-5, atol=1e-6)
    assert done(steps, [g[:0] for g in gates], 7)[0].shape == (0, 128)


def test_a_result_may_take_the_place_of_an_operand():
    """Also while later operations still read the operand."""
    a, b = numbers(40, 100), numbers(40, 100)
    expected = a + b, (a + b) * a
    product = np.empty_like(a)
    runner = PROGRAMS.compiled(Program((("plus", (0, 1)), ("element_times", (2, 0))), 2, (2, 3)))
    assert not runner.run(a, b, a, product)
    np.testing.assert_allclose((a, product), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "operands",
    [
        [np.zeros((2, 3))],
        [np.float32(1)],
        [np.zeros((2, 4), np.float32)],
        [np.zeros((1, 2, 3), np.float32)],
    ],
    ids=["float64", "a number", "another shape", "more axes"],
)
def test_what_it_refuses_is_left_as_it_was(operands):
    runner = PROGRAMS.compiled(Program((("exp", (0,)),), 1, (1,)))
    out = np.full((2, 3), 5, np.float32)
    assert runner.run(*operands, out)
    assert (out == 5).all()
    assert PROGRAMS.compiled(Program((("sin", (0,)),), 1, (1,))) is None
    many = [("plus", (i, i + 1)) for i in range(0, 100, 2)]
    assert PROGRAMS.compiled(Program(tuple(many), 101, (101,))) is None


def test_threads_with_small_stacks():
    """As the C library musl's are: what a block needs is not on the stack."""
    engine = cpu.made("native")
    x = C.sequence.input_variable(64)
    y = C.layers.Recurrence(C.layers.GRU(64))(x)
    frames = [np.ones((20, 64), np.float32)] * 9
    before = device.engine(C.cpu()).name
    device.use_cpu_engine(engine.name)
    stack = threading.stack_size(128 * 1024)
    try:
        expected = y.eval({x: frames})
        found = []
        thread = threading.Thread(target=lambda: found.append(y.eval({x: frames})))
        thread.start()
        thread.join()
        np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    finally:
        threading.stack_size(stack)
        device.use_cpu_engine(before)


def test_threads_that_come_late_to_a_work_of_fewer():
    x = RNG.normal(size=(3, 16, 40, 40)).astype(np.float32)
    image, kernel = C.input_variable((16, 40, 40)), C.Parameter((16, 16, 3, 3), init=0.1)
    y = C.tanh(C.convolution(kernel, image) + image)
    before, engine = C.device.get_num_threads(), device.engine(C.cpu()).name
    device.use_cpu_engine("native")
    try:
        expected = y.eval({image: x})
        for number in [8, 2, 5, 3, 1] * 20:
            C.device.set_num_threads(number)
            np.testing.assert_array_equal(y.eval({image: x}), expected)
    finally:
        C.device.set_num_threads(before)
        device.use_cpu_engine(engine)
