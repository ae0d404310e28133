"""What `explain` says a plan costs, counted by hand."""

import numpy as np
import pytest

import rgraph as C


@pytest.mark.parametrize("tail", [C.relu, lambda y: C.tanh(y + np.ones(4, np.float32))])
def test_the_operations_of_a_product_and_what_follows_it(tail):
    x = C.input_variable(3)
    product = C.times(x, C.Parameter((3, 4), init=1))
    assert "in all 2.4e-05 MFLOP a row" in product.explain()  # 3 * 4 products, as many sums
    after = 4 if tail is C.relu else 8
    assert f"in all {(24 + after) / 1e6:.3g} MFLOP a row" in tail(product).explain()


def test_the_operations_of_a_convolution_and_what_follows_it():
    x = C.input_variable((2, 5, 5))
    y = C.convolution(C.Parameter((3, 2, 3, 3), init=1), x)
    work = 2 * 3 * 2 * 9 * 25
    assert f"in all {work / 1e6:.3g} MFLOP a row" in y.explain()
    assert f"in all {(work + 75) / 1e6:.3g} MFLOP a row" in C.relu(y).explain()


def test_layers_and_parameters_are_named():
    x = C.sequence.input_variable(3)
    hidden = C.layers.Dense(4, name="hidden")(x)
    y = C.layers.Recurrence(C.layers.RNNStep(5))(hidden)
    dense, step = 2 * 3 * 4 + 4, 2 * 4 * 5 + 2 * 5 * 5  # a product and a bias; two products
    lines = y.explain().splitlines()
    (product,) = [line for line in lines if line.endswith(", in Dense 'hidden'")]
    assert "times" in product and "(W, b)" in product
    assert any(line.endswith("  Dense 'hidden'") and f"{dense / 1e6:.3g}" in line for line in lines)
    assert any("(H" in line and line.endswith(", in RNNStep") for line in lines)
    (work,) = [float(line.split()[0]) for line in lines if line.endswith("  RNNStep")]
    assert step <= 1e6 * work <= step + 4 * 5  # and some sums and a function of each state


@pytest.mark.skipif("native" not in C.device.cpu_engines(), reason="there is no C")
def test_whether_the_steps_of_a_loop_run_in_c():
    x = C.sequence.input_variable(3)
    in_c, in_python = (C.layers.Recurrence(lambda h, x, f=f: f(h + x))(x) for f in (C.tanh, C.sin))
    before = C.device.engine(C.cpu()).name
    for engine, function, expected in (
        ("native", in_c, True), ("native", in_python, False), ("numpy", in_c, False)
    ):  # fmt: skip
        C.device.use_cpu_engine(engine)
        (loop,) = [n for n in function.explain().splitlines() if n.startswith("loop")]
        assert loop.endswith(", steps run in C") == expected
    C.device.use_cpu_engine(before)


def test_what_gradients_cost_is_said_of_their_layer():
    x = C.input_variable(3)
    y = C.layers.Dense(4, name="only", bias=False)(x)
    (to_weights,) = [n for n in y.gradients([y.W])[0].explain().splitlines() if "times" in n]
    assert to_weights.endswith(", in Dense 'only'")


def test_a_profile_groups_calls_by_layer():
    x = C.input_variable(3)
    y = C.layers.Sequential([C.layers.Dense(4, name="one"), C.layers.Dense(2, name="two")])(x)
    profile = y.profile(np.ones((2, 3)))
    cells = [line.strip().split("  ")[0] for line in str(profile).splitlines()]
    for name, size in (("one", 4), ("two", 2)):
        at = cells.index(f"Dense '{name}'")
        assert cells[at + 1].startswith("times") and cells[at + 1].endswith(f"(W, b) -> {size}")
    assert "<td" in profile._repr_html_() and "Dense &#x27;one&#x27;" in profile._repr_html_()


def test_messages_and_tables_have_public_names():
    x = C.sequence.input_variable(3)
    text = (C.sequence.last(C.layers.Recurrence(C.plus)(x)) + C.sequence.first(x)).explain()
    assert "sequence.last" in text and "sequence.first" in text and "ends" not in text
    assert "past_value" in str(C.layers.Recurrence(C.plus)(x).summary())


def test_free_sizes_count_once():
    x = C.input_variable((C.FreeDimension, 3))
    text = C.layers.Dense(4, map_rank=1)(x).explain()
    work = (2 * 3 + 1) * 4  # a product and a sum
    assert "free×4" in text and f"in all {work / 1e6:.3g} MFLOP" in text
