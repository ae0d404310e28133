"""Products against np.tensordot and np.einsum."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.testing import check_gradients

# left, right, output_rank
PRODUCTS = [
    ((4,), (4, 3), 1),
    ((2, 4), (4, 3), 1),
    ((5, 2, 4), (4, 3), 1),
    ((2, 4), (4, 3, 5), 2),
    ((2, 3, 4), (3, 4, 5), 1),
    ((2, 3, 4), (3, 4, 5, 6), 2),
    ((2, 3), (2, 3), 0),
    ((2,), (3,), 1),
    ((2, 4), (4,), 0),
]


def product(left, right, output_rank):
    return np.tensordot(left, right, right.ndim - output_rank)


@pytest.mark.parametrize("with_rows", ["left", "right", "both", "none"])
@pytest.mark.parametrize("left, right, output_rank", PRODUCTS)
def test_times(left, right, output_rank, with_rows):
    rng = np.random.default_rng(1)
    inputs, arrays = [], []
    for side, shape in (("left", left), ("right", right)):
        rows = with_rows in (side, "both")
        arrays.append(rng.normal(size=(3, *shape) if rows else shape))
        inputs.append(
            C.input_variable(shape, np.float64)
            if rows
            else C.Parameter(shape, arrays[-1], np.float64)
        )
    f = C.times(*inputs, output_rank=output_rank)
    at = {i: a for i, a in zip(inputs, arrays) if i.is_input}
    every = [[a[n] if i.is_input else a for i, a in zip(inputs, arrays)] for n in range(3)]
    expected = np.stack([product(a, b, output_rank) for a, b in every])
    if with_rows == "none":
        expected = expected[0]
    result = f.eval(at)
    assert f.shape == product(*every[0], output_rank).shape
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    check_gradients(f, at or None, order=2, elements=10, directions=2)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_vector_times_matrices_at_every_frame(transposed):
    rng = np.random.default_rng(2)
    x = C.sequence.input_variable(4, np.float64)
    w = rng.normal(size=(3, 4) if transposed else (4, 3))
    f = (C.times_transpose if transposed else C.times)(x, C.Parameter(w.shape, w, np.float64))
    sequences = [rng.normal(size=(n, 4)) for n in (2, 5, 1)]
    for result, s in zip(f.eval({x: sequences}), sequences):
        np.testing.assert_allclose(result, s @ (w.T if transposed else w), rtol=1e-12)


def test_times_transpose_of_matrices_and_of_a_vector():
    rng = np.random.default_rng(3)
    a, b, v = rng.normal(size=(2, 4)), rng.normal(size=(3, 4)), rng.normal(size=4)
    np.testing.assert_allclose(C.times_transpose(a, b).eval(), a @ b.T)
    np.testing.assert_allclose(C.times_transpose(a, v).eval(), (a @ v)[:, None])


@pytest.mark.parametrize(
    "shape, map_rank, filled, result",
    [
        ((2, 3, 4), None, (4, 5), (2, 3, 5)),
        ((2, 3, 4), 0, (2, 3, 4, 5), (5,)),
        ((2, 3, 4), 1, (3, 4, 5), (2, 5)),
        ((2, 3, 4), -1, (4, 5), (2, 3, 5)),
    ],
)
def test_inferred_inner_dimensions(shape, map_rank, filled, result):
    x = C.input_variable(shape)
    w = C.Parameter((C.InferredDimension, 5), init=C.glorot_uniform())
    options = {} if map_rank is None else {"infer_input_rank_to_map": map_rank}
    f = C.times(x, w, **options)
    assert (w.shape, f.shape) == (filled, result)
    assert w.value.shape == filled
    check_gradients(f, elements=30)


def test_an_inferred_row_count_of_a_left_parameter():
    w = C.Parameter((3, C.InferredDimension))
    x = C.input_variable(4)
    assert C.times(w, x, output_rank=0).shape == (3,)
    assert w.shape == (3, 4)


def test_rows_that_one_factor_lacks_are_summed():
    from rgraph.ops.contractions import contract

    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(5, 4, 2))
    x = C.input_variable((4, 2), np.float64)
    node = contract(C.constant(a).node, x.node, (0, 1), (1, 2), (2, 0), over_rows=True)
    expected = np.einsum("ij,njk->ki", a, b)
    np.testing.assert_allclose(C.Function([node]).eval({x: b}), expected)


def test_a_product_lies_in_memory_in_order():
    """A weight gradient, a transposed product, would be slow to copy and to learn from."""
    from rgraph.ops.contractions import contract

    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(5, 4, 2))
    x = C.input_variable((4, 2), np.float64)
    node = contract(C.constant(a).node, x.node, (0, 1), (1, 2), (2, 0))
    result = C.Function([node]).eval({x: b})
    np.testing.assert_allclose(result, np.einsum("ij,njk->nki", a, b))
    assert result.flags.c_contiguous


@pytest.mark.parametrize(
    "left, right, output_rank, words",
    [
        ((4,), (3, 5), 1, r"last 1 axes of the left operand, \(4,\), must equal"),
        ((4,), (5,), 2, "too few for output_rank=2"),
        ((4,), (4, 3, 5), 1, "it needs 2 axes to sum over, but has 1"),
    ],
)
def test_what_does_not_fit(left, right, output_rank, words):
    x, w = C.input_variable(left), C.Parameter(right)
    with pytest.raises(GraphError, match=words):
        C.times(x, w, output_rank=output_rank)
