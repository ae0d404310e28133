"""Shapes, axes and dtypes: found when the graph is built, through cycles too."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import BATCH, GraphError
from rgraph.graph.node import Type


def type_of(f):
    return f.node.shape, f.node.axes, f.node.dtype


def convolutional_step(channels, taps=3):
    w = C.Parameter((channels, C.InferredDimension, taps, taps), init=C.glorot_uniform(seed=1))
    u = C.Parameter((channels, C.InferredDimension, taps, taps), init=C.glorot_uniform(seed=2))

    def step(h, x):
        return C.tanh(C.convolution(w, x) + C.convolution(u, h))

    return step, w, u


@pytest.mark.parametrize("initial", ["left out", "number", "constant", "array", "parameter"])
def test_a_convolutional_states_shape_is_found(initial):
    x = C.sequence.input_variable((2, 6, 5))
    step, w, u = convolutional_step(4)
    state = {
        "left out": {},
        "number": {"initial_state": 0.1},
        "constant": {"initial_state": C.constant(0.1)},
        "array": {"initial_state": np.full((4, 6, 5), 0.1, "f")},
        "parameter": {"initial_state": C.Parameter((4, 1, 1), init=0.1)},
    }[initial]
    f = C.layers.Recurrence(step, **state)(x)
    assert type_of(f) == ((4, 6, 5), x.dynamic_axes, np.float32)
    assert (w.shape, u.shape) == ((4, 2, 3, 3), (4, 4, 3, 3))
    assert [v.shape for v in f.eval({x: np.zeros((3, 2, 6, 5))})] == [(3, 4, 6, 5)]


def test_two_states_of_different_ranks():
    x = C.sequence.input_variable((2, 4, 4))
    u = C.Parameter((3, C.InferredDimension, 3, 3), init=C.glorot_uniform(seed=1))

    def step(h, s, x):
        h = C.tanh(C.convolution(u, C.splice(h, x, axis=0)) + s)
        return h, 0.5 * s + C.reduce_mean(h)

    f = C.layers.Recurrence(step, return_full_state=True)(x)
    assert [o.shape for o in f.outputs] == [(3, 4, 4), ()]
    assert u.shape == (3, 5, 3, 3)


def test_volumes():
    x = C.sequence.input_variable(7)
    w = C.Parameter((C.InferredDimension, 2, 3, 3, 3), init=C.glorot_uniform(seed=1))
    u = C.Parameter((2, 2, 3, 3, 3), init=C.glorot_uniform(seed=2))
    f = C.layers.Recurrence(
        lambda h, v: C.tanh(C.times(v, w, output_rank=4) + C.convolution(u, h))
    )(x)
    assert f.shape == (2, 3, 3, 3)
    assert w.shape == (7, 2, 3, 3, 3)


@pytest.mark.parametrize("initial", [0, 1.0, None])
def test_a_state_that_is_a_number(initial):
    x = C.sequence.input_variable(())
    f = C.layers.Recurrence(lambda h, v: h + v, initial_state=initial)(x)
    assert f.shape == ()
    assert f.eval({x: np.ones(3)})[0].tolist() == [initial + t if initial else t for t in (1, 2, 3)]


def test_state_and_input_spliced():
    """As people write a convolutional LSTM; also with a Dense of both."""
    x = C.sequence.input_variable((2, 6, 5))
    w = C.Parameter((4, C.InferredDimension, 3, 3), init=C.glorot_uniform(seed=1))
    f = C.layers.Recurrence(lambda h, v: C.tanh(C.convolution(w, C.splice(v, h, axis=0))))(x)
    assert (f.shape, w.shape) == ((4, 6, 5), (4, 6, 3, 3))
    y = C.sequence.input_variable(3)
    d = C.Parameter((C.InferredDimension, 4), init=C.glorot_uniform(seed=1))
    f = C.layers.Recurrence(lambda h, v: C.tanh(C.times(C.splice(v, h), d)))(y)
    assert (f.shape, d.shape) == ((4,), (7, 4))


def test_parts_of_state_and_input_spliced():
    """What is cut out of something of unknown size has the size of the cut."""
    x = C.sequence.input_variable((2, 6, 5))
    w = C.Parameter((4, C.InferredDimension, 3, 3), init=C.glorot_uniform(seed=1))

    def step(h, v):
        both = C.splice(h, v, axis=0)
        return C.tanh(C.convolution(w, C.slice(both, 0, 0, 4) + C.reduce_sum(both)))

    f = C.layers.Recurrence(step)(x)
    assert (f.shape, w.shape) == ((4, 6, 5), (4, 4, 3, 3))
    pooled = C.layers.Recurrence(
        lambda h, v: C.convolution(
            w,
            C.slice(
                C.pooling(C.splice(h, v, axis=0), C.MAX_POOLING, (3, 3), auto_padding=[True]),
                0,
                0,
                4,
            ),
        )
    )(x)
    assert pooled.shape == (4, 6, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_type_of_unknown_dtype_is_not_one_of_float64(dtype):
    """For NumPy dtype("float64") == None."""
    kind = Type((), (), np.dtype(dtype))
    assert kind == Type((), (), np.dtype(dtype)) != Type((), (), None)


def test_a_cycle_without_a_sequence():
    state = C.placeholder()
    with pytest.raises(GraphError, match="nothing says how many frames") as caught:
        (C.sequence.past_value(state) + 1).replace_placeholders(
            {state: C.sequence.past_value(state) + 1}
        )
    assert "reconcile_dynamic_axes(state, x)" in caught.value.hint
    x = C.input_variable(2)
    with pytest.raises(GraphError, match=r"sequence\.input_variable"):
        C.layers.Recurrence(lambda h, v: h + v)(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loops_dtype_is_its_inputs(dtype):
    x = C.sequence.input_variable(2, dtype)
    f = C.layers.Recurrence(lambda h, v: 0.5 * h + v, initial_state=1)(x)
    assert type_of(f) == ((2,), x.dynamic_axes, dtype)
    assert f.eval({x: [[1, 2]]})[0].dtype == dtype


def test_the_wider_of_state_and_input_wins():
    x = C.sequence.input_variable((3, 1))
    b = C.Parameter(4, init=0)
    f = C.layers.Recurrence(lambda h, v: h + v + b)(x)
    assert f.shape == (3, 4)


def test_a_state_that_a_narrow_operand_does_not_tell_the_shape_of():
    """Before the input is met, state times gain might have the shape of the gain."""
    x = C.sequence.input_variable((2, 3))
    gain = C.Parameter((2, 1), init=0.5)
    W = C.Parameter((2, 3, 2, 3), init=np.eye(6, dtype=np.float32).reshape(2, 3, 2, 3))
    f = C.layers.Recurrence(lambda h, x: C.times(h * gain, W, output_rank=2) + x)(x)
    assert f.shape == (2, 3)
    np.testing.assert_allclose(f.eval({x: np.ones((3, 2, 3))[None]})[0][-1], np.full((2, 3), 1.75))


def test_a_shape_that_changes_in_a_step():
    x = C.sequence.input_variable(2)
    with pytest.raises(GraphError, match=r"\(2,\).*\(4,\)|\(4,\).*\(2,\)") as caught:
        C.layers.Recurrence(lambda h, v: C.splice(h, v), initial_state=np.zeros(2))(x)
    assert __file__ in str(caught.value)


def test_a_shape_that_grows_in_every_step():
    x = C.sequence.input_variable(2)
    with pytest.raises(GraphError, match="depends on itself alone") as caught:
        C.layers.Recurrence(lambda h, v: C.splice(h, v))(x)
    assert __file__ in str(caught.value)
    assert "initial_state" in caught.value.hint


def test_axes_are_the_union():
    s, b, p = C.sequence.input_variable(2), C.input_variable(2), C.Parameter(2)
    assert (p + p).dynamic_axes == ()
    assert (b + p).dynamic_axes == (BATCH,)
    assert (p + b + s).dynamic_axes == s.dynamic_axes
    assert C.sequence.last(s + b).dynamic_axes == (BATCH,)


def test_inferred_dimensions():
    x = C.input_variable((3, 8, 9))
    w = C.Parameter((C.InferredDimension, 5), init=C.glorot_uniform())
    k = C.Parameter((4, C.InferredDimension, 3, 3), init=C.glorot_uniform())
    b = C.Parameter((C.InferredDimension, 1, 1))
    with pytest.raises(GraphError, match="no value yet"):
        k.value  # noqa: B018
    f = C.times(C.convolution(k, x) + b, w)
    assert f.shape == (4, 8, 5)
    assert (w.shape, k.shape, b.shape) == ((9, 5), (4, 3, 3, 3), (4, 1, 1))
    assert k.value.shape == k.shape


def test_a_layer_applied_twice_to_other_shapes():
    """Its parameters are inferred by the first; the second must fit."""
    k = C.Parameter((4, C.InferredDimension, 3, 3), init=C.glorot_uniform())
    layer = C.Function(lambda x: C.convolution(k, x))
    assert layer(C.input_variable((3, 8, 9))).shape == (4, 8, 9)
    assert layer(C.input_variable((3, 5, 5))).shape == (4, 5, 5)
    with pytest.raises(GraphError, match="3 input channels, the operand has 2"):
        layer(C.input_variable((2, 8, 9)))


def test_a_layer_can_be_used_after_a_mistake():
    """What a mistake inferred is forgotten: people try again in the same notebook."""
    layer = C.layers.Sequential(
        [C.layers.Convolution((3, 3), 4), C.layers.Dense(5), lambda x: C.reshape(x, (5,))]
    )
    before = [p.shape for p in layer.parameters]
    with pytest.raises(GraphError, match="needs an operand with 3 axes"):
        layer(C.input_variable(7))
    with pytest.raises(GraphError, match="float32 and float64"):
        layer(C.input_variable((3, 8, 8), np.float64))
    assert [p.shape for p in layer.parameters] == before
    assert layer(C.input_variable((2, 6, 6))).shape == (5,)


def test_a_placeholder_can_be_bound_after_a_mistake():
    p = C.placeholder()
    w = C.Parameter((C.InferredDimension, 5), init=C.glorot_uniform())
    inner = C.exp(p)
    f = C.reshape(C.times(inner, w), (5,))
    with pytest.raises(GraphError, match="has 10 elements"):
        f.replace_placeholders({p: C.input_variable((2, 3))})
    assert inner.node.shape is None
    assert w.shape == (C.InferredDimension, 5)
    f.replace_placeholders({p: C.input_variable(4)})
    assert (inner.shape, f.shape, w.shape) == ((4,), (5,), (4, 5))


def test_types_stay_open_while_a_placeholder_is():
    p = C.placeholder()
    f = C.exp(p) + 1
    assert f.node.shape is None
    assert f.shape == (-2,)
    g = f(C.input_variable((2, 3)))
    assert g.shape == (2, 3)
    assert f.node.shape is None


@pytest.mark.parametrize(
    "given, result, weights",
    [((1, 2), (1, 3), (2, 3)), ((2, 2), (2, 3), (2, 3)), ((4, 5, 2), (4, 5, 3), (2, 3))],
)
def test_a_placeholders_shape_settles_weights(given, result, weights):
    """CNTK's shapes: what is given may have more axes in front, and these stay."""
    x = C.input_variable(given)
    by_call = C.layers.Dense(3)(C.placeholder(2))(x)
    p = C.placeholder(2)
    bound = C.layers.Dense(3)(p).replace_placeholders({p: x})
    for f in (by_call, bound):
        assert (f.shape, f.parameters[0].shape) == (result, weights)
        assert f.eval({x: np.ones((1, *given))}).shape == (1, *result)


def test_whole_numbers_of_any_type_are_sizes():
    """As in CNTK, for Python 2's `n / 2`."""
    assert C.input_variable(4 / 2).shape == C.parameter(np.float32(2)).shape == (2,)
    assert C.layers.Dense(6 / 2)(C.input_variable((2.0, 4))).shape == (3,)


def test_text_in_the_place_of_a_placeholders_shape_is_its_name():
    p = C.placeholder("state")
    assert p.name == "state" and (p + 1)(C.input_variable(4)).shape == (4,)


def test_a_placeholders_shape_says_what_follows_until_it_is_bound():
    """As in CNTK 2.7: what it is bound to may have another shape."""
    p = C.placeholder(3, name="p")
    f = C.exp(p)
    assert f.shape == (3,)
    assert f(C.input_variable((2, 2))).shape == (2, 2)
    with pytest.raises(GraphError, match="bound to itself"):
        f.replace_placeholders({p: p})
    f.replace_placeholders({p: C.input_variable(4)})
    assert f.shape == (4,)


def test_shapes_ahead_of_a_placeholders_binding():
    """All of these are what CNTK 2.7 says."""
    axes = (C.Axis.default_batch_axis(), C.Axis.default_dynamic_axis())
    p = C.placeholder(4, axes)
    frames = C.sequence.unpack(C.layers.Dense(3)(p), 0, True)
    scores = C.softmax(C.times_transpose(frames, frames))
    weighted = C.to_sequence_like(C.times(scores, frames), p)
    assert frames.shape == (-3, 3) and scores.shape == (-3, -3) and weighted.shape == (3,)
    assert weighted.dynamic_axes == axes
    assert (p + C.layers.Dense(4)(C.splice(weighted, weighted))).shape == (4,)
    counted = C.layers.Recurrence(C.plus)(C.ones_like(p))
    assert counted.shape == (4,) and C.sequence.unpack(counted, 0, True).shape == (-3, 4)


def test_classes_have_the_default_dtype_and_functions_an_arrays():
    """As CNTK 2.7: `C.Parameter(init=double)` learns in float32, `C.parameter(init=double)` not."""
    double = np.eye(2)
    made = [C.Parameter(init=double), C.Constant(double), C.Parameter((2, 2), init=double)]
    assert {m.dtype for m in made} == {np.float32}
    made = [C.parameter(init=double), C.constant(double), C.Parameter(init=double, dtype=float)]
    assert {m.dtype for m in made} == {np.float64}
    with C.default_options(dtype=np.float64):
        assert C.Parameter(init=np.ones(2, np.float32)).dtype == np.float64
    x = C.input_variable(2)
    assert C.times(x, C.Parameter(init=double)).eval({x: [[1, 2]]}).dtype == np.float32


def test_parameters_and_inputs_of_different_dtypes():
    x, w = C.input_variable(2), C.Parameter(2, dtype=np.float64, name="w")
    with pytest.raises(GraphError, match="float32 and float64") as caught:
        x * w
    assert "'w' (2,) float64" in str(caught.value)
    assert "dtype" in caught.value.hint


def test_p_value_to_read_and_to_set():
    p = C.Parameter((2, 3), init=1)
    assert p.value.dtype == np.float32
    p.value = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(p.value, [[0, 1, 2], [3, 4, 5]])
    given = np.ones((2, 3))
    p.value = given
    given[...] = 7
    np.testing.assert_array_equal(p.value, np.ones((2, 3)))
    p.value = 4
    np.testing.assert_array_equal(p.value, np.full((2, 3), 4))
    with pytest.raises(GraphError, match=r"shape \(3,\) can't be set"):
        p.value = np.zeros(3)
    q = C.Parameter((C.InferredDimension, 2))
    q.value = np.ones((5, 2))
    assert q.shape == (5, 2)


def test_initial_values_are_drawn_alike_after_the_same_seed():
    def draw():
        C.set_seed(3)
        return [C.Parameter((2, 2), init=C.glorot_uniform()).value for _ in range(2)]

    (a, b), (c, d) = draw(), draw()
    np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(b, d)
    assert (a != b).any()


F = C.FreeDimension
FREE_SHAPES = {  # of x (F, 3), m (2, F), q (F, F), z (4, 3), an image (3, F, F); CNTK's
    "x + 1": (lambda x, m, q, z, i: x + 1, (F, 3)),
    "x * x": (lambda x, m, q, z, i: x * C.tanh(x), (F, 3)),
    "x * z": (lambda x, m, q, z, i: x * z, (4, 3)),
    "z * x": (lambda x, m, q, z, i: z * x, (4, 3)),
    "the larger": (lambda x, m, q, z, i: C.element_max(x, z), (4, 3)),
    "two free sizes": (lambda x, m, q, z, i: q * z, (4, 3)),
    "one of two free sizes": (lambda x, m, q, z, i: q + C.Parameter((4, 1)), (4, F)),
    "by a vector": (lambda x, m, q, z, i: x * C.constant([1, 2, 3]), (F, 3)),
    "by one row": (lambda x, m, q, z, i: x * C.constant(np.ones((1, 3))), (F, 3)),
    "x times W": (lambda x, m, q, z, i: C.times(x, np.ones((3, 2))), (F, 2)),
    "m times x": (lambda x, m, q, z, i: C.times(m, x), (2, 3)),
    "m times z": (lambda x, m, q, z, i: C.times(m, z), (2, 3)),
    "x times itself": (lambda x, m, q, z, i: C.times_transpose(x, x), (F, F)),
    "summed": (lambda x, m, q, z, i: C.reduce_sum(x, axis=0), (1, 3)),
    "summed, without": (lambda x, m, q, z, i: C.reduce_sum(x, axis=1, keepdims=False), (F,)),
    "summed over all": (lambda x, m, q, z, i: C.reduce_sum(x), ()),
    "in a row": (lambda x, m, q, z, i: C.reshape(x, (-1,)), (F,)),
    "in pairs": (lambda x, m, q, z, i: C.reshape(x, (2, -1, 3)), (2, F, 3)),
    "to a known shape": (lambda x, m, q, z, i: C.reshape(x, (6, 2)), (6, 2)),
    "and a layer": (lambda x, m, q, z, i: C.layers.Dense(5)(C.reshape(x, (6, 2))), (5,)),
    "joined": (lambda x, m, q, z, i: C.splice(x, z, axis=0), (F, 3)),
    "joined along": (lambda x, m, q, z, i: C.splice(x, x, axis=1), (F, 6)),
    "cut": (lambda x, m, q, z, i: C.slice(x, 0, 0, 2), (2, 3)),
    "chosen by a mask": (lambda x, m, q, z, i: C.element_select(q, z, q), (4, 3)),
    "four that meet four": (
        lambda x, m, q, z, i: C.input_variable((F, F, F, F)) - C.input_variable((4, 5, 6, 1)),
        (4, 5, 6, F),
    ),
    "padded": (lambda x, m, q, z, i: C.pad(x, [(1, 2), (1, 1)]), (F, 5)),
    "pooled": (lambda x, m, q, z, i: C.pooling(i, C.MAX_POOLING, (2, 2), (2, 2)), (3, F, F)),
    "by a layer": (lambda x, m, q, z, i: C.layers.Dense(4, map_rank=1)(x), (F, 4)),
    "the batch": (lambda x, m, q, z, i: C.unpack_batch(z), (F, 4, 3)),
    "the batch and time": (
        lambda x, m, q, z, i: C.sequence.unpack(C.sequence.input_variable(3), 0, True) + z,
        (4, 3),
    ),
}


@pytest.mark.parametrize("name", FREE_SHAPES)
def test_shapes_of_what_free_dimensions_meet(name):
    made, shape = FREE_SHAPES[name]
    operands = [C.input_variable(s) for s in ((F, 3), (2, F), (F, F), (4, 3), (3, F, F))]
    assert made(*operands).shape == shape


def test_an_input_takes_values_of_its_shape():
    x = C.input_variable(2)
    f = C.reduce_sum(x, axis=0)
    with pytest.raises(GraphError, match=r"has shape \(2,\), but got a value of shape \(3, 2\)"):
        f(C.input_variable((3, 2)))


def test_the_shape_of_what_a_placeholder_may_widen_is_not_known():
    """(1,) and (3, 1) may be repeated for what is bound, and a vector for a matrix."""
    for shape in ((1,), (3, 1), (4,)):
        widened = C.parameter(shape, init=1.0) * C.placeholder()
        assert widened.shape == (widened + 1).shape == (-2,)

    def step(h, x):
        z = C.parameter((1,), init=2.0) * x
        assert z.shape == (-2,)
        return h + C.reduce_mean(z)

    x = C.sequence.input_variable(4)
    found = C.layers.Recurrence(step)(x).eval({x: np.ones((2, 4), np.float32)})
    np.testing.assert_array_equal(np.ravel(found[0]), [2, 4])
