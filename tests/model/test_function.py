"""Functions: composing, naming, copying."""

import functools
import operator

import numpy as np
import pytest
import scipy.sparse

import rgraph as C
from rgraph.graph import GraphError
from rgraph.runtime import cache
from rgraph.testing import check_gradients

VALUES = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)


@pytest.fixture
def x():
    return C.input_variable(2, name="x")


def scaled(init=2.0, name="scale"):
    """A layer with one parameter."""
    w = C.Parameter(2, init=init, name=name)
    return C.Function(lambda v: v * w)


class TestCalls:
    def test_of_a_function_on_a_function(self, x):
        f = scaled(3)
        np.testing.assert_allclose(f(C.exp(x)).eval({x: VALUES}), 3 * np.exp(VALUES), rtol=1e-6)

    def test_on_a_constant(self):
        assert scaled(3)(C.constant([1, 2])).eval().tolist() == [3, 6]

    def test_on_data(self, x):
        np.testing.assert_allclose((x * 2)(VALUES), 2 * VALUES)

    def test_by_name_and_in_order(self):
        f = C.Function(lambda a, b: a - b)
        x, y = C.input_variable(2), C.input_variable(2)
        at = {x: [[5, 5]], y: [[1, 2]]}
        for g in (f(x, y), f(b=y, a=x), f(x, b=y)):
            assert g.eval(at).tolist() == [[4, 3]]
        assert f(y, x).eval(at).tolist() == [[-4, -3]]

    def test_what_is_left_out_stays_open(self):
        f = C.Function(lambda a, b: a - b)
        x, y = C.input_variable(2), C.input_variable(2)
        half = f(b=y)
        assert [a.name for a in half.arguments][:1] == ["a"]
        assert half(x).eval({x: [[5, 5]], y: [[1, 2]]}).tolist() == [[4, 3]]

    def test_an_argument_that_is_not_used(self, x):
        f = C.Function(lambda a, b: a * 2)
        assert [a.name for a in f.arguments] == ["a", "b"]
        np.testing.assert_allclose(f(x, C.constant(1)).eval({x: VALUES}), 2 * VALUES)

    def test_of_an_applied_function_replaces_its_inputs(self, x):
        y = C.input_variable(2)
        g = (x * 3)(y)
        assert g.arguments == (y,)
        np.testing.assert_allclose(g.eval({y: VALUES}), 3 * VALUES)

    def test_swapping_arguments(self):
        x, y = C.input_variable(2, name="x"), C.input_variable(2, name="y")
        f = x - y
        swapped = f.clone("share", {x: y, y: x})
        assert swapped.eval({x: [[5, 5]], y: [[1, 2]]}).tolist() == [[-4, -3]]

    def test_decorator(self, x):
        @C.Function
        def twice(v):
            return v + v

        assert twice.arguments[0].name == "v"
        np.testing.assert_allclose(twice(x).eval({x: VALUES}), 2 * VALUES)

    def test_several_results(self, x):
        f = C.Function(lambda v: (v + 1, v * 2))
        assert len(f.outputs) == 2
        g = f(x)
        found = g.eval({x: VALUES})
        np.testing.assert_allclose(found[g.outputs[0]], VALUES + 1)
        np.testing.assert_allclose(found[g.outputs[1]], VALUES * 2)

    def test_arguments_without_a_default_by_position_or_by_name(self, x):
        def f(a, b=5, *rest, c, d=7):
            return a * b - c

        g = C.Function(f)
        assert [v.name for v in g.arguments] == ["a", "c"]
        np.testing.assert_allclose(g(x, c=x).eval({x: VALUES}), 4 * VALUES)
        partial = C.Function(functools.partial(f, c=1))
        assert [v.name for v in partial.arguments] == ["a"]

    @pytest.mark.parametrize("f", [lambda *values: values[0], C.splice, max])
    def test_of_any_number_of_arguments(self, f):
        with pytest.raises(C.GraphError, match="does not say how many arguments it takes"):
            C.Function(f)

    def test_arguments_of_what_is_put_in(self):
        """The order is that of the arguments that they stand for."""
        f, g = C.Function(lambda a, b: b / a), C.Function(lambda c, d: d - c)
        assert [v.name for v in f(g).arguments] == ["c", "d", "b"]
        assert [v.name for v in f(b=g).arguments] == ["a", "c", "d"]
        assert f(b=g)(C.constant(2), C.constant(3), C.constant(7)).eval() == 2

    def test_a_function_is_its_own_function(self, x):
        f = x * 2
        assert C.Function(f) is f


class TestShift:
    def test_into_a_function(self, x):
        f = C.alias(x) >> scaled(3) >> C.exp
        np.testing.assert_allclose(f.eval({x: VALUES}), np.exp(3 * VALUES), rtol=1e-5)

    def test_layers(self, x):
        f = scaled(2) >> C.exp >> scaled(5)
        np.testing.assert_allclose(f(x).eval({x: VALUES}), 5 * np.exp(2 * VALUES), rtol=1e-5)
        assert len(f.parameters) == 2

    def test_two_results_into_two_arguments(self, x):
        f = C.Function(lambda v: (v + 1, v * 2)) >> C.Function(lambda a, b: a - b)
        np.testing.assert_allclose(f(x).eval({x: VALUES}), 1 - VALUES, rtol=1e-5)

    def test_sequential_and_for(self, x):
        model = C.layers.Sequential(
            [scaled(2), C.layers.For(range(3), lambda: lambda v: v + 1), C.exp]
        )
        np.testing.assert_allclose(model(x).eval({x: VALUES}), np.exp(2 * VALUES + 3), rtol=1e-5)


class TestParameters:
    def test_are_shared_where_a_layer_is_applied_twice(self, x):
        layer = scaled(3)
        y = C.input_variable(2)
        f = layer(x) + layer(y)
        assert len(f.parameters) == 1
        assert f.parameters[0] is layer.parameters[0]
        layer.parameters[0].value = [10, 100]
        assert f.eval({x: [[1, 1]], y: [[1, 1]]}).tolist() == [[20, 200]]

    def test_of_a_layer_made_twice_are_two(self, x):
        f = scaled()(x) + scaled()(x)
        assert len(f.parameters) == 2

    def test_are_found_by_attribute(self, x):
        f = scaled(3, name="W")(x)
        assert f.W.value.tolist() == [3, 3]
        f.W.value = 5
        assert f.eval({x: [[1, 2]]}).tolist() == [[5, 10]]
        with pytest.raises(AttributeError, match="'Q'"):
            f.Q  # noqa: B018

    def test_setting_a_value_counts_from_the_next_run_on(self, x):
        f = scaled(1)(x)
        before = f.eval({x: [[1, 2]]})
        f.scale.value = 2
        assert f.eval({x: [[1, 2]]}).tolist() == [[2, 4]]
        assert before.tolist() == [[1, 2]]


class TestCallsOnData:
    """As CNTK: data in, values out."""

    def test_several_outputs_are_a_tuple(self):
        tensor = C.layers.Tensor[2]
        f = C.Function.with_signature(tensor, tensor)(lambda a, b: (a + b, a * b))
        total, product = f([[1, 2]], [[3, 4]])
        assert (total.tolist(), product.tolist()) == ([[4, 6]], [[3, 8]])

    def test_an_output_twice(self, x):
        """A call gives both; what is by output, as in CNTK, has it once."""
        f = x * 2
        both = C.combine([f, f])
        first, second = both(VALUES)
        np.testing.assert_array_equal(first, 2 * VALUES)
        np.testing.assert_array_equal(second, 2 * VALUES)
        np.testing.assert_array_equal(both.eval({x: VALUES}), 2 * VALUES)
        twice = C.Function(lambda v: (v, v))(f)
        assert [len(v) for v in twice(VALUES)] == [len(VALUES)] * 2
        y = C.layers.Recurrence(lambda a, b, x: (a + x, a + x), return_full_state=True)
        first, second = y(C.sequence.input_variable(1))([[[1], [2]]])
        assert first[0].tolist() == second[0].tolist() == [[1], [3]]

    def test_a_value(self):
        table = C.layers.Embedding(weights=[[1, 2], [3, 4]])
        table.update_signature(2)
        found = table(C.Value.one_hot([[1], [0], [1]], num_classes=2))
        assert np.reshape(found, (3, 2)).tolist() == [[3, 4], [1, 2], [3, 4]]

    def test_data_beside_a_variable_is_a_constant(self, x):
        f = C.Function(lambda a, b: a - b)
        assert f(np.array([5, 7]), x).eval({x: [[1, 2]]}).tolist() == [[4, 5]]


class TestNames:
    def test_find_by_name(self, x):
        inner = C.exp(x, name="inner")
        f = C.alias(inner * 2, name="outer")
        assert f.name == "outer"
        found = f.find_by_name("inner")
        np.testing.assert_allclose(found.eval({x: VALUES}), np.exp(VALUES), rtol=1e-6)
        assert f.find_by_name("x") == x
        assert f.find_by_name("nobody") is None

    def test_names_survive_calls(self, x):
        layer = C.Function(lambda v: C.exp(v, name="inner") * 2)
        assert layer(x).find_by_name("inner") is not None

    def test_find_all_with_name(self, x):
        f = C.exp(C.exp(x, name="e") + 1, name="e")
        assert len(f.find_all_with_name("e")) == 2
        assert f.find_all_with_name("nobody") == []

    def test_a_second_name_is_another_value(self, x):
        first = C.exp(x, name="first")
        second = C.alias(first, name="second")
        assert (first.name, second.name) == ("first", "second")
        assert second.find_by_name("first") is not None


class TestClone:
    @pytest.fixture
    def f(self, x):
        return scaled(3, name="W")(x)

    def test_what_is_captured_stays(self, x):
        f = C.Function(lambda v: v * x).clone("clone")
        assert [a.name for a in f.arguments] == ["v", "x"] and f.arguments[1] == x
        np.testing.assert_allclose(f(C.constant(2)).eval({x: VALUES}), 2 * VALUES)

    def test_inputs_are_its_own_unless_they_are_substituted(self, f, x):
        """As in CNTK."""
        (own,) = f.clone("share").arguments
        assert own != x
        assert (own.name, own.shape, own.dynamic_axes) == (x.name, x.shape, x.dynamic_axes)

    def test_shared_parameters(self, f, x):
        g = f.clone("share")
        assert g.parameters == f.parameters
        f.W.value = 7
        assert g.eval([[1, 1]]).tolist() == [[7, 7]]

    def test_parameters_of_its_own(self, f, x):
        g = f.clone("clone")
        assert g.W.name == "W"
        assert g.W != f.W
        f.W.value = 7
        assert g.eval([[1, 1]]).tolist() == [[3, 3]]
        g.W.value = 8
        assert f.eval({x: [[1, 1]]}).tolist() == [[7, 7]]

    def test_frozen_parameters(self, f, x):
        g = f.clone("freeze")
        assert g.parameters == ()
        f.W.value = 7
        assert g.eval([[1, 1]]).tolist() == [[3, 3]]

    def test_constants_of_its_own(self, x):
        """As in CNTK: a constant may be set."""
        c = C.constant([1.0, 2.0])
        f = x + c
        copies = {method: f.clone(method) for method in ("share", "clone", "freeze")}
        assert copies["share"].constants == (c,)
        c.value = [10, 20]
        found = {method: g.eval([[0, 0]]).tolist() for method, g in copies.items()}
        assert found == {"share": [[10, 20]], "clone": [[1, 2]], "freeze": [[1, 2]]}

    def test_a_copied_number_still_takes_the_type_of_what_it_meets(self):
        y = C.input_variable(1, np.float64)
        p = C.placeholder()
        g = (p * 0.1).clone("clone", {p: y})
        assert g.eval({y: [[1]]}) == 0.1

    def test_with_substitutions(self, f, x):
        y = C.input_variable(2)
        g = f.clone("share", {x: C.exp(y)})
        np.testing.assert_allclose(g.eval({y: VALUES}), 3 * np.exp(VALUES), rtol=1e-6)
        np.testing.assert_allclose(f.eval({x: VALUES}), 3 * VALUES)

    def test_of_an_inner_value(self, x):
        inner = C.exp(x)
        f = inner * 2
        g = f.clone("share", {inner: x})
        np.testing.assert_allclose(g.eval({x: VALUES}), 2 * VALUES)

    def test_of_a_recurrence(self):
        s = C.sequence.input_variable(2)
        w = C.Parameter(2, init=0.5)
        f = C.layers.Recurrence(lambda h, v: h * w + v)(s)
        values = np.ones((3, 2))
        for method in ("share", "clone", "freeze"):
            g = f.clone(method)
            assert g.eval(values)[0][:, 0].tolist() == [1, 1.5, 1.75]
        t = C.sequence.input_variable(2)
        g = f.clone("clone", {s: t * 2})
        assert g.eval({t: values})[0][:, 0].tolist() == [2, 3, 3.5]
        check_gradients(g)

    def test_another_method(self, f):
        with pytest.raises(ValueError, match="share, clone, freeze"):
            f.clone("copy")

    def test_parameters_that_are_used_twice_stay_one(self, x):
        layer = scaled(3)
        g = (layer(x) + layer(C.exp(x))).clone("clone")
        assert len(g.parameters) == 1


class TestPlaceholders:
    def test_are_bound_wherever_they_are_used(self, x):
        p = C.placeholder()
        f, g = C.exp(p), p * 2
        both = C.combine(f, g)
        both.replace_placeholders({p: x})
        assert g.eval({x: [[1, 2]]}).tolist() == [[2, 4]]
        assert both.arguments == (x,)

    def test_only_placeholders_can_be(self, x):
        with pytest.raises(GraphError, match="is not an unbound placeholder"):
            (x * 2).replace_placeholders({x: x})

    def test_the_only_one(self, x):
        f = (C.placeholder() * 2).replace_placeholder(x)
        assert f.eval({x: [[1, 2]]}).tolist() == [[2, 4]]

    def test_calls_leave_them_open(self, x):
        p = C.placeholder()
        f = p * 2
        assert f(x).eval({x: [[1, 2]]}).tolist() == [[2, 4]]
        assert f(C.constant(4)).eval().tolist() == 8
        assert f.placeholders == (p,)


def test_what_a_function_is_made_of(x):
    w = C.Parameter(2, name="w")
    f = C.exp(x * w + 1)
    assert f.parameters == (w,)
    assert f.arguments == (x,)
    assert [c.value.tolist() for c in f.constants] == [1]
    assert f.outputs == (f.output,)
    assert (f.shape, f.dtype, f.is_sequence()) == ((2,), np.float32, False)
    assert f.output.is_output
    assert x.is_input
    assert w.is_parameter
    # what a variable tells, a function of one output tells of that
    assert f.is_output and not (f.is_parameter or f.is_constant or f.is_input or f.is_placeholder)
    assert not (f.is_sparse or f.needs_gradient)


class TestSparseGradients:
    """What real CNTK 2.7 says of the same; of the sum, of which every row has one, it says True."""

    USES = (
        (lambda x, w: C.times(x, w), True),
        (lambda x, w: C.tanh(C.times(x, w)) + C.times(x, w), True),
        (lambda x, w: C.times(x, w) + C.reduce_sum(w), False),
        (lambda x, w: C.times(C.one_hot(C.argmax(x), 3, sparse_output=True), w), True),
        (lambda x, w: C.times(C.one_hot(C.argmax(x), 3), w), False),
    )

    @pytest.mark.parametrize(("use", "sparse"), USES)
    def test_rows_that_are_chosen(self, use, sparse):
        x, w = C.input_variable(3, is_sparse=True), C.Parameter((3, 2), init=1)
        at = {x: scipy.sparse.csr_matrix(np.eye(3, dtype="f")[[2, 2]])}
        found = use(x, w).grad(at, wrt=[w], as_numpy=False)
        assert found.is_sparse == scipy.sparse.issparse(found.data.asarray()) == sparse
        expected = use(x, w).grad(at, wrt=[w])
        np.testing.assert_array_equal(found.asarray(), expected)

    def test_a_dense_input(self):
        x, w = C.input_variable(3), C.Parameter((3, 2), init=1)
        assert not C.times(x, w).grad({x: np.eye(3)}, wrt=[w], as_numpy=False).is_sparse


@pytest.mark.parametrize("init", [[1, 3], np.ones((2, 2)), 5])
def test_an_array_says_a_parameters_shape(init):
    assert C.parameter(shape=(), init=init).shape == np.shape(init)  # as CNTK


def test_arguments_come_in_the_order_of_the_function_not_of_use():
    f = C.Function(lambda a, b, c: c - b * a)
    assert [v.name for v in f.arguments] == ["a", "b", "c"]


class TestTruth:
    """`==` is CNTK's; a truth value, which CNTK takes for true, is known only in a run."""

    def test_equal_is_what_is_the_same_value(self, x):
        f, g = C.exp(x), C.exp(x)
        assert f == f.output == f.owner and f != g and f.output != g.output and f != x
        assert len({f, f.output, f.owner, g, x}) == 3
        assert f in [x, f] and f not in [x, g] and [x, g, f].index(f) == 2
        assert {f: 1}[f.output] == 1
        both = C.combine(f, g)
        assert both == C.combine(f, g) and both != f and f in both and x not in both
        assert f not in (None, "f") and f != "f"
        assert f != None  # noqa: E711
        assert not f == [] and f != [] and not f == () and f not in [[], ()]  # noqa: SIM201

    @pytest.mark.parametrize("other", [0, 1.5, True, np.float32(1), np.ones(2), [1, 2], (1, 2)])
    def test_comparing_with_numbers_is_refused(self, x, other):
        for compare in (operator.eq, operator.ne):
            for pair in ((x, other), (other, x), (x * 2, other)):
                with pytest.raises(GraphError, match=r"hint: C\.equal and C\.not_equal"):
                    compare(*pair)

    @pytest.mark.parametrize("compare", [operator.eq, operator.ne])
    def test_what_equal_gives_is_no_operand(self, x, compare):
        with pytest.raises(GraphError, match=r"hint: use C\.equal and C\.not_equal"):
            C.element_select(compare(x, x * 2), x, 0)

    @pytest.mark.parametrize(
        "decide",
        [
            lambda x, h: x if x > 0 else h,
            lambda x, h: max(x, h),
            lambda x, h: min(x, 3),
            lambda x, h: x > 0 and h,
            lambda x, h: x or h,
            lambda x, h: not h,
            lambda x, h: 0 < x < 1,
            lambda x, h: bool(C.Parameter(2)),
            lambda x, h: [v for v in (x * 2, h) if v],
        ],
    )
    def test_no_value_is_true_or_false(self, x, decide):
        for step in (lambda: decide(x, x * 2), lambda: C.layers.Recurrence(decide)):
            with pytest.raises(GraphError, match="is neither true nor false") as caught:
                step()
            assert "C.element_select(c, a, b)" in str(caught.value)
            assert "test_function.py" in str(caught.value)

    def test_programs_written_for_cntk_ask_whether_there_is_one(self, x):
        C.set_global_option("values_are_true", True)
        try:
            assert x * 2
            assert C.Parameter(2)
        finally:
            C.set_global_option("values_are_true", False)

    def test_a_shape_that_is_known_before_the_rest(self):
        p = C.placeholder((3, 4))
        assert C.reshape(p * 2, (-1,)).shape == (12,)
        assert (C.placeholder() + 1).shape == (-2,)

    @pytest.mark.parametrize("item", [1, "x"])
    def test_what_is_in_a_value(self, x, item):
        for value in (x, x * 2):
            with pytest.raises(GraphError, match="is not known before the graph runs"):
                item in value  # noqa: B015


def test_combine(x):
    f, g = C.exp(x), x * 2
    both = C.combine(f, g)
    assert both.outputs == (f.output, g.output)
    assert C.combine([f, g]).outputs == both.outputs
    assert C.combine(both, x).outputs == (f.output, g.output, x)


def test_several_graphs_do_not_disturb_each_other(x):
    """A layer's plan, made before another use of it, stays right."""
    layer = scaled(2)
    f = layer(x)
    np.testing.assert_allclose(f.eval({x: VALUES}), 2 * VALUES)
    g = C.exp(layer(f))
    np.testing.assert_allclose(g.eval({x: VALUES}), np.exp(4 * VALUES), rtol=1e-5)
    np.testing.assert_allclose(f.eval({x: VALUES}), 2 * VALUES)
    g.grad({x: VALUES}, wrt=x)
    np.testing.assert_allclose(f.eval({x: VALUES}), 2 * VALUES)


class TestStoredValues:
    """What parameters and constants give is a copy; what is set is seen by the next run."""

    @pytest.mark.parametrize("make", [C.Parameter, C.State, C.Constant])
    def test_what_is_given_out_is_a_copy_to_write_to(self, make):
        """As CNTK's programs do that set a part of a parameter: w = p.value; w[0] = 5."""
        stored = make((2,), 1) if make is not C.Constant else make(1, (2,))
        for value in (stored.value, stored.asarray()):
            value[0] = 100
            assert stored.value.tolist() == [1, 1] and value.tolist() == [100, 1]
        before = stored.value
        stored.value = np.array([3, 4])
        assert before.tolist() == [1, 1]
        assert stored.value.tolist() == [3, 4]

    def test_an_initializer_may_keep_its_array(self, x):
        kept = np.ones(2, np.float32)
        a, b = (C.Parameter(2, init=lambda *_: kept) for _ in "ab")
        loss = C.reduce_sum(x * a + 2 * x * b)
        C.Trainer(None, loss, C.sgd([a, b], 0.1)).train_minibatch({x: [[1, 1]]})
        assert kept.tolist() == [1, 1]
        np.testing.assert_allclose([a.value, b.value], [[0.9, 0.9], [0.8, 0.8]], rtol=1e-6)
        with pytest.raises(GraphError, match="can't be repeated"):
            _ = C.Parameter(2, init=lambda *_: np.ones(3)).value

    @pytest.mark.parametrize("kind", [np.float32, np.float64])
    def test_a_constant_that_is_set(self, kind):
        """Whatever was computed from it once and for all before, and in whichever type."""
        x = C.input_variable(2, dtype=kind)
        k, other = C.constant(1.0), C.constant(1.0)
        functions = {
            x * k: lambda v, k: v * k,
            x * C.cast(C.exp(C.log(k) * 2), kind): lambda v, k: v * k**2,
            (x - k) * other + k: lambda v, k: v,
            x + C.cast(k + [0, 0], kind): lambda v, k: v + k,
        }
        v = np.array([[3, 4]], kind)
        for f, expected in functions.items():
            np.testing.assert_allclose(f.eval({x: v}), expected(v, 1), rtol=1e-6)
        for value in (2.0, 0.1, 0.0, 1.0):
            k.value = value
            for f, expected in functions.items():
                np.testing.assert_allclose(f.eval({x: v}), expected(v, value), rtol=1e-6, atol=1e-9)
        with pytest.raises(GraphError, match="can't be repeated"):
            k.value = [1, 2]
        assert other.value == 1

    def test_setting_a_constant_again_makes_no_plan(self, x):
        k = C.constant(1.0)
        f = x * k
        f.eval({x: VALUES})
        k.value = 2
        f.eval({x: VALUES})
        (plan,) = f._runner.plans
        for value in (3, 4):
            k.value = value
            np.testing.assert_allclose(f.eval({x: VALUES}), value * VALUES, rtol=1e-6)
            assert f._runner.plans == [plan]

    def test_only_the_latest_plans_are_kept(self):
        x = C.input_variable(C.FreeDimension)
        y = C.reduce_sum(x)
        for n in range(1, 60):
            assert y.eval({x: np.ones((1, n))}) == n
        assert len(y._runner.plans) == cache.MAX_ENTRIES
        for n in range(60):
            y.grad({x: np.ones((1, 2))}, wrt=[x], grad_root=y, outputs=[y] * (n % 40 + 1))
        assert len(y._runner.plans) == cache.MAX_ENTRIES


def test_numpy_takes_what_has_a_value():
    p, k = C.Parameter((2, 2), init=3), C.constant([1, 2])
    np.testing.assert_array_equal(np.asarray(p), np.full((2, 2), 3, np.float32))
    np.testing.assert_array_equal(np.asarray(k, np.float64), [1.0, 2.0])
    assert np.mean(p) == 3
    with pytest.raises(C.GraphError, match="computed when the graph runs"):
        np.asarray(C.exp(C.input_variable(2)))


def test_gradients_as_functions_where_a_run_decides_a_size():
    s, w = C.sequence.input_variable(2), C.Parameter(2, init=2.0)
    y = C.reduce_mean(C.square(C.sequence.unpack(s * w, 0, no_mask_output=True)))
    with pytest.raises(GraphError, match=r"grad\(at"):
        y.gradients([w])
    data = {s: [np.ones((3, 2))]}
    np.testing.assert_allclose(y.grad(data, wrt=[w]), [2, 2], rtol=1e-6)  # of (3 w² + 3 w²) / 6


class TestNumPysFunctions:
    """What people write out of habit: `np.tanh(h)`, and arrays as left operands."""

    @pytest.mark.parametrize("name", ["tanh", "exp", "sqrt", "arctan", "negative", "sign", "floor"])
    def test_of_one(self, name):
        x = C.input_variable(3)
        data = np.array([[0.5, 1.5, 0.2]], np.float32)
        function = getattr(np, name)
        np.testing.assert_allclose(function(x).eval({x: data}), function(data), rtol=1e-6)

    @pytest.mark.parametrize("name", ["add", "subtract", "divide", "maximum", "power"])
    def test_of_two(self, name):
        x = C.input_variable(3)
        data, other = np.array([[0.5, 1.5, 0.2]], np.float32), np.array([2, 3, 4], np.float32)
        function = getattr(np, name)
        for a, b in ((x, other), (other, x), (x, x)):
            found = function(a, b).eval({x: data})
            own = [data if v is x else v for v in (a, b)]
            np.testing.assert_allclose(found, function(*own), rtol=1e-6)

    def test_others_are_refused(self):
        x = C.input_variable(3)
        for call in (lambda: np.cbrt(x), lambda: np.add.reduce(x), lambda: np.exp(x, out=x)):
            with pytest.raises(GraphError, match=r"NumPy's \w+ can't be applied"):
                call()


def test_iterating_ends_with_the_first_axis():
    x = C.input_variable((2, 3))
    first, second = x
    data = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.testing.assert_array_equal(second.eval({x: data}), data[:, 1:])
    assert len(list(C.combine([first, second]))) == 2
    with pytest.raises(GraphError, match="no first axis"):
        iter(C.input_variable(()))


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: C.layers.Dense(3, activaton=C.relu), "Dense"),
        (lambda: C.sgd([C.Parameter(1)]), "sgd"),
        (lambda: C.layers.Convolution2D(3, 4, stride=2), "Convolution2D"),
    ],
)
def test_arguments_that_are_wrong_name_the_function(call, name):
    with pytest.raises(TypeError, match=rf"{name}\(\): .*it takes \("):
        call()


def test_a_missing_argument_is_named_without_defaults_and_annotations():
    with pytest.raises(TypeError) as caught:
        C.layers.Stabilizer(1, 2, 3, 4)
    assert "it takes (steepness=…, enable_self_stabilization=…, name=…)" in str(caught.value)
    with pytest.raises(
        TypeError, match=r"LSTM\(\): missing a required argument: 'shape'; .{,150}$"
    ):
        C.layers.LSTM()


def test_a_constant_given_for_a_running_statistic_stands_for_it():
    """Who holds it sees what training makes of it, sets it, and has it in earlier graphs, too."""
    x = C.input_variable(2)
    mean, variance, count = C.Constant(0, (2,)), C.Constant(1, (2,)), C.Constant(0, ())
    before = mean + 1
    f = C.batch_normalization(x, C.Constant(1, (2,)), C.Constant(0, (2,)), mean, variance,
                              spatial=False, running_count=count, normalization_time_constant=0,
                              blend_time_constant=0)  # fmt: skip
    f.grad({x: np.array([[1, 4], [3, 8]], np.float32)}, wrt=[x])
    np.testing.assert_allclose(mean.value, [2, 6], rtol=1e-6)
    np.testing.assert_allclose(before.eval(), [3, 7], rtol=1e-6)
    mean.value = np.array([5, 6])
    assert mean in f.constants and mean.is_constant
    np.testing.assert_allclose(mean.value, [5, 6])
