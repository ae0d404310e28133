"""Fused groups in pieces: the same as NumPy on whole arrays, whatever the memory order."""

import numpy as np
import pytest

import rgraph as C
from rgraph import passes
from rgraph.engines.cpu import reference_run
from rgraph.engines.numpy import pointwise
from rgraph.ops.fused import Program


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


ORDERS = {
    "channels first": np.ascontiguousarray,
    "channels last": channels_last,
    "a slice": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "repeated": lambda a: np.broadcast_to(a[:, :1, :1], a.shape),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("target", [np.ascontiguousarray, channels_last])
def test_in_pieces(order, target):
    rng = np.random.default_rng(0)
    shape = (3, 5, 70, 80)  # larger than a piece, and worth two threads
    x, y = C.input_variable(shape[1:]), C.input_variable(shape[1:])
    b = C.Parameter((5, 1, 1), init=rng.normal(size=(5, 1, 1)).astype(np.float32))
    f = C.tanh(x * y + b) * x - 2
    (node,) = passes.optimize([f.node])
    values = {x.node: rng.normal(size=shape), y.node: rng.normal(size=shape)}
    values = {n: ORDERS[order](v.astype(np.float32)) for n, v in values.items()}
    operands = [values.get(i, getattr(i, "value", None)) for i in node.inputs]
    out = target(np.empty(shape, np.float32))
    program = node.attrs["program"]
    pointwise.kernel(program)(reference_run(), *operands, out=out)
    a, c = values[x.node], values[y.node]
    np.testing.assert_allclose(out, np.tanh(a * c + b.value) * a - 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 130, 90)])
def test_several_results(shape):
    """The second is written over the operand that it is the last to read."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    steps = ("element_times", (0, 2)), ("tanh", (3,)), ("minus", (4, 1))
    two, sums, last = np.array(2, np.float32), np.empty_like(x), y.copy()
    pointwise.together(Program(steps, 3, (3, 5)))(x, last, two, sums, last)
    np.testing.assert_allclose(sums, 2 * x, rtol=1e-6)
    np.testing.assert_allclose(last, np.tanh(2 * x) - y, rtol=1e-5, atol=1e-6)


def test_pieces_cover_an_array_once():
    for shape in [(7,), (100_000,), (3, 40_000), (50_000, 3), (2, 3, 5), (300, 1, 128)]:
        seen = np.zeros(shape, int)
        for piece in pointwise._pieces(shape):
            seen[piece] += 1
        assert (seen == 1).all()
