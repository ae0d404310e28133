"""What functions say of themselves, and searching through them."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.logging import graph


@pytest.fixture
def model():
    x = C.input_variable((2, 3), name="x")
    w, b = C.Parameter((3, 2), name="w"), C.Parameter(2, name="b")
    return C.plus(C.times(x, w, name="product"), b, name="sum")


def names(items):
    return [v.name for v in items]


def test_inputs_are_leaves_and_a_root_functions_operands(model):
    assert names(model.inputs) == ["x", "w", "b"]
    assert names(model.root_function.inputs) == ["product", "b"]
    assert model.op_name == "Plus" and model.root_function.is_primitive


def test_depth_first_from_the_root(model):
    found = graph.depth_first_search(model, lambda v: True)
    assert names(found) == ["sum", "product", "x", "w", "b"]
    assert graph.find_by_name(model, "w").shape == (3, 2)
    assert graph.find_by_name(model, "none") is None
    assert graph.find_by_uid(model, model.x.uid) == model.x


def test_a_name_twice_is_ambiguous(model):
    twice = C.plus(model, 1, name="sum")
    assert len(graph.find_all_with_name(twice, "sum")) == 2
    with pytest.raises(GraphError, match="2 functions"):
        graph.find_by_name(twice, "sum")


def test_layers_are_closed_unless_looked_into():
    x = C.input_variable(2, name="x")
    f = C.layers.Dense(3, activation=C.relu, name="dense")(x)
    outside = graph.depth_first_search(f, lambda v: True)
    assert names(outside) == ["dense", "W", "b", "x"]
    assert outside[0].op_name == "Dense"
    inside = {v.op_name for v in graph.depth_first_search(f, lambda v: hasattr(v, "op_name"), -1)}
    assert {"Dense", "ReLU", "Plus", "Times"} <= inside


def test_plot_names_operations_in_order(model, tmp_path):
    text = graph.plot(model, tmp_path / "model.dot")
    assert text.splitlines()[0].startswith("Times(") and text.splitlines()[1].startswith("Plus(")
    drawing = (tmp_path / "model.dot").read_text()
    assert drawing.startswith("digraph") and drawing.count("->") == 4
    with pytest.raises(ValueError, match=r"\.dot"):
        graph.plot(model, "model.txt")


def test_a_block_is_applied_and_named():
    p, x = C.placeholder(), C.input_variable(1)
    f = C.as_block(C.square(p) + p, [(p, x)], "Polynomial", "poly")
    np.testing.assert_array_equal(f.eval({x: [[3]]}), [[12]])
    block = (f * 2).find_by_name("poly")
    assert block.is_block and block.op_name == "Polynomial"
    np.testing.assert_array_equal(f.clone("share").eval([[3]]), [[12]])


W = C.Parameter((4, 2, 3, 3), init=1)
# As real CNTK 2.7 prints them (of a pooling, paddings and strides as they were given)
ATTRIBUTES = {
    "convolution": (
        lambda x: C.convolution(W, x, strides=(2, 1), auto_padding=[False, True, False]),
        {
            "strides": (2, 2, 1), "autoPadding": [False, True, False], "dilation": (1, 1, 1),
            "kernelShape": (2, 3, 3), "outputShape": (0,), "groups": 1, "transpose": False,
            "sharing": [True] * 3, "lowerPad": (0, 0, 0), "upperPad": (0, 0, 0),
            "sequential": False, "maxTempMemSizeInSamples": 0,
        },
    ),
    "pooling": (
        lambda x: C.pooling(x, C.AVG_POOLING, (2, 2), (2, 2), [True, True], True, True),
        {
            "poolingType": 1, "poolingWindowShape": (2, 2), "strides": (2, 2),
            "autoPadding": [True, True], "ceilOutDim": True, "includePad": True,
            "lowerPad": (0,), "upperPad": (0,),
        },
    ),
    "slice": (
        lambda x: C.slice(x, -1, 1, -1, 2),
        {"axis": ("ordered", "static", 0), "beginIndex": 1, "endIndex": -1, "sliceStrides": 2},
    ),
    "slices": (
        lambda x: C.slice(x, [0, 1], [0, 1], [1, 3]),
        {
            "axisVec": [("ordered", "static", 2), ("ordered", "static", 1)],
            "beginIndexVec": [0, 1], "endIndexVec": [1, 3], "sliceStridesVec": [1, 1],
        },
    ),
    "dropout": (
        lambda x: C.dropout(x, 0.5, 42), {"dropoutRate": 0.5, "rngSeed": 42, "rngOffset": 0}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_are_cntks(name):
    make, expected = ATTRIBUTES[name]
    assert make(C.input_variable((2, 6, 6))).root_function.attributes == expected


def test_kinds_of_operations_are_cntks():
    """Real CNTK 2.7's names, by which programs look for operations."""
    v, s, x = C.input_variable(3), C.sequence.input_variable(3), C.input_variable((2, 4, 4))
    found = {
        "Pooling": C.pooling(x, C.MAX_POOLING, (2, 2)),
        "Convolution": C.convolution(W, x),
        "ReLU": C.relu(v),
        "ReduceElements": C.reduce_max(v),
        "TransposeAxes": C.transpose(x, (1, 0, 2)),
        "PastValue": C.sequence.past_value(s),
        "FutureValue": C.sequence.future_value(s),
        "Sequence::IsLast": C.sequence.is_last(s),
        "Sequence::Slice": C.sequence.first(s),
        "OneHotOp": C.one_hot(v, 4),
        "Select": C.element_select(v, v, v),
        "LogPlus": C.log_add_exp(v, v),
        "NoOp": C.alias(v),
        "ElementTimes": v * 2,
        "Times": C.times(v, np.ones((3, 2))),
    }
    assert {name: f.root_function.op_name for name, f in found.items()} == {n: n for n in found}


def test_a_placeholder_can_be_used_again_after_it_was_bound():
    p, a, b = C.placeholder(), C.constant(3), C.constant(5)
    first, second = p + 1, p + 10
    first.replace_placeholders({p: a})
    assert first.eval() == 4
    third = p + 100
    third.replace_placeholders({p: b})
    assert third.eval() == 105 and first.eval() == 4
    assert second.eval() == 13  # it was built on the same placeholder as the first


def test_copies_have_inputs_of_their_own(model):
    copy = model.clone("share")
    assert names(copy.arguments) == ["x"] and copy.x != model.x
    assert copy.parameters == model.parameters
    data = np.ones((1, 2, 3))
    np.testing.assert_array_equal(copy.eval({copy.x: data}), model.eval({model.x: data}))


def test_inputs_of_what_one_puts_in_stay(model):
    y = C.input_variable((2, 2), name="y")
    scaled = model.x * C.reduce_sum(y)
    copy = model.clone("share", {graph.find_by_name(model, "product"): y * C.reduce_sum(model.x)})
    assert set(copy.arguments) == {model.x, y}
    assert scaled.clone("share").x != model.x


def test_substitutions_are_values(model):
    with pytest.raises(TypeError, match="variable or a function"):
        model.clone("share", {model.x: 5})
    with pytest.raises(AttributeError, match="None"):
        model.clone("share", {model.x: graph.find_by_name(model, "none")})


def test_outputs_to_compute(model):
    data = np.ones((1, 2, 3))
    product = graph.find_by_name(model, "product")
    np.testing.assert_array_equal(model.eval({model.x: data}, product), np.zeros((1, 2, 2)))
    with pytest.raises(GraphError, match="not part of"):
        model.eval({model.x: data}, [C.square(model)])
    with pytest.raises(TypeError):
        model.eval({model.x: data}, [product.outputs])


def test_a_name_is_given_once():
    f = C.input_variable(1) + 1
    f.name = "f"
    assert f.output.name == "f"
    with pytest.raises(GraphError, match="renamed"):
        f.name = "g"


def test_renaming_where_it_is_allowed():
    f = C.plus(C.input_variable(1), 1, name="sum")
    C.allow_renaming_functions()
    try:
        f.name = "total"
    finally:
        C.allow_renaming_functions(False)
    assert (f * 2).total.op_name == "Plus"
    with pytest.raises(GraphError, match="renamed"):
        f.name = "sum"


def test_leaves_follow_what_is_bound_later():
    x, p = C.sequence.input_variable(1, name="x"), C.placeholder(name="p")
    shared = C.sequence.past_value(p) + x
    f, g = shared * 2, shared * 3
    assert names(f.arguments) == ["x", "p"]
    f.replace_placeholders({p: C.sequence.first(x) + shared})
    assert names(f.arguments) == names(g.arguments) == ["x"]
    sums = np.array([[1], [2 + 1 + 1], [3 + 1 + 4]])  # what came before, and the first again
    np.testing.assert_array_equal(f.eval(np.array([[1], [2], [3]]))[0], 2 * sums)
    np.testing.assert_array_equal(g.eval(np.array([[1], [2], [3]]))[0], 3 * sums)


def test_two_layers_alike_on_one_input_are_two():
    x = C.input_variable(3)
    f = C.layers.Dense(4, name="d")(x) + C.layers.Dense(4, name="d")(x)
    assert len(f.find_all_with_name("d")) == 2
    rows = [row for row in f.summary().rows if row.count]
    assert [row.count for row in rows] == [16, 16]


def test_the_outputs_of_a_layer_are_one_layer():
    x = C.sequence.input_variable(3)
    f = C.layers.Recurrence(C.layers.LSTM(2, name="cell"), return_full_state=True, name="both")(x)
    assert len(f.outputs) == 2
    assert len(f.find_all_with_name("both")) == len(f.find_all_with_name("cell")) == 1
    assert [row.count for row in f.summary().rows if row.depth == 0 and row.count] == [48]


def test_the_states_of_a_recurrence_are_summed_up_together():
    x = C.sequence.input_variable(3)
    one, two = C.layers.GRU(4, name="one"), C.layers.GRU(5, name="two")

    def step(a, b, x):
        a = one(a, x)
        return a, two(b, a)

    table = C.splice(*C.layers.Fold(step, return_full_state=True)(x).outputs).summary()
    counts = {row.title: row.count for row in table.rows if row.count}
    # 3 n (n + m + 1) for a GRU of n over m
    assert counts == {"Fold 1": 96 + 150, "one (GRU)": 96, "two (GRU)": 150}
    assert table.total == sum(p.value.size for p in [*one.parameters, *two.parameters]) == 246
    assert [row.shape for row in table.rows if row.title == "Fold 1"] == ["(4,), (5,)"]


def test_what_is_of_free_size_costs_what_is_not_known():
    e, d = (C.sequence.input_variable(3, sequence_axis=C.Axis(n)) for n in "ed")
    table = C.layers.AttentionModel(2)(e, d).summary()
    assert all(row.operations >= 0 for row in table.rows)


class TestLookup:
    @pytest.fixture
    def layers(self):
        return C.layers.Sequential(
            [
                C.layers.Dense(3, init=1, name="first"),
                C.layers.Dense(2, init=2, activation=C.relu, name="second"),
            ]
        )

    def test_a_layers_parameters_by_its_name(self, layers):
        layers.update_signature(2)
        np.testing.assert_array_equal(layers.first.W.value, np.ones((2, 3)))
        np.testing.assert_array_equal(layers.second.W.value, np.full((3, 2), 2))
        assert layers.second.b.shape == (2,)

    def test_a_layer_found_has_a_value_and_gradients(self, layers):
        x = C.input_variable(2)
        f = layers(x)
        np.testing.assert_array_equal(f.first.eval({x: [[3, 4]]}), [[7, 7, 7]])
        np.testing.assert_array_equal(f.second.grad({x: [[3, 4]]}, wrt=f.second.b), [1, 1])

    def test_only_what_is_in_the_layer(self, layers):
        assert not hasattr(layers.second, "first")
        assert not hasattr(layers, "third")

    def test_a_name_that_several_have_is_none(self, layers):
        assert not hasattr(layers, "W")
        with pytest.raises(AttributeError, match="2 values named 'W'"):
            layers.W  # noqa: B018
        assert layers.parameters[0] in layers.find_all_with_name("W")

    def test_layers_within_layers(self):
        @C.BlockFunction("Outer", "outer")
        def outer(x):
            return C.layers.Dense(4, name="inner")(x) + 1

        f = C.layers.Dense(1)(outer(C.input_variable(3)))
        assert f.outer.inner.W.shape == f.outer.W.shape == (3, 4)
        assert f.inner.W is f.outer.W  # as long as there is only one
        copy = f.clone("clone")
        assert copy.outer.inner.W.shape == (3, 4) and copy.outer.W is not f.outer.W

    def test_a_cell_of_several_states_in_a_recurrence(self):
        x = C.sequence.input_variable(3)
        f = C.layers.Recurrence(C.layers.LSTM(5, name="cell"), name="encoder")(x)
        assert f.encoder.cell.H.shape == f.cell.H.shape == f.H.shape == (5, 20)

    def test_a_value_named_inside_a_layer(self):
        e, d = C.sequence.input_variable(5), C.input_variable(4)
        f = C.layers.AttentionModel(8, name="attention")(e, d)
        weights = f.attention.attention_weights.eval({e: np.ones((3, 5)), d: [[0] * 4]})
        np.testing.assert_allclose(weights.ravel(), np.full(3, 1 / 3), rtol=1e-6)

    def test_how_deep_to_look(self):
        @C.BlockFunction("Outer")
        def outer(x):
            return C.exp(C.layers.Activation(C.abs, name="a")(x), name="e")

        f = C.exp(outer(C.input_variable(3)), name="e")
        assert len(f.find_all_with_name("e")) == 1
        assert len(f.find_all_with_name("e", depth=1)) == 2
        assert f.find_by_name("a") is not None  # there is none outside
        assert graph.find_by_name(f, "a") is None
        assert graph.find_by_name(f, "a", depth=1).op_name == "Activation"
        inside = graph.depth_first_search(f, lambda v: getattr(v, "op_name", "") == "Abs", -1)
        assert len(inside) == 1


class TestTheOrderOfParameters:
    """Expected: what real CNTK 2.7 prints for the same programs."""

    @staticmethod
    def names(function):
        return [p.name for p in function.parameters]

    def test_of_operations(self):
        x = C.input_variable(3)
        shapes = {"a": (3, 4), "b": (4,), "c": (4, 2), "d": (2,), "e": (4,)}
        a, b, c, d, e = (C.Parameter(shape, name=name) for name, shape in shapes.items())
        assert self.names(C.times(x, a) + b) == ["a", "b"]
        assert self.names(b + C.times(x, a)) == ["b", "a"]
        assert self.names(C.times(C.tanh(C.times(x, a) + b), c) + d) == ["c", "a", "b", "d"]
        assert self.names(C.element_select(b, C.times(x, a), e)) == ["b", "a", "e"]

    def test_of_layers(self):
        layers = C.layers
        model = [layers.Dense(3), layers.BatchNormalization(), layers.Dense(2)]
        found = self.names(layers.Sequential(model)(C.input_variable(3)))
        assert found == ["W", "b", "scale", "bias", "W", "b"]
        lstm = layers.LSTM(4, use_peepholes=True, enable_self_stabilization=True)
        model = layers.Sequential([layers.Recurrence(lstm), layers.Dense(2)])
        found = self.names(model(C.sequence.input_variable(3)))
        own = ["b", "W", "H", "alpha", "Co", "alpha", "Cf", "alpha", "Ci"]
        assert found == ["W", "b", *own]
        found = layers.Sequential([layers.Dense(3), layers.Dense(4)])(C.input_variable(5))
        assert [p.shape for p in found.parameters] == [(3, 4), (4,), (5, 3), (3,)]
