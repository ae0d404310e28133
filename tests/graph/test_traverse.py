"""Walks over graphs: order, loops, copies."""

import numpy as np
import pytest

import rgraph as C
from rgraph import graph
from rgraph.graph import GraphError, components, copy, order


@pytest.fixture
def x():
    return C.sequence.input_variable(2, np.float64, name="x")


def running_sum(x):
    """A cycle of two nodes: total = x + past_value(total)."""
    state = C.placeholder(name="state")
    total = x + C.sequence.past_value(state)
    return total.replace_placeholders({state: total})


def names(nodes):
    return [n.op.name if n.op else n.name or n.kind for n in nodes]


def test_operands_come_first(x):
    f = C.exp(x * x) + x
    found = order([f.node])
    place = {n: i for i, n in enumerate(found)}
    assert len(place) == len(found) == 4
    assert all(place[i] < place[n] for n in found for i in n.inputs)


def test_what_a_delay_delays_comes_somewhere(x):
    total = running_sum(x)
    assert sorted(names(order([total.node]))) == ["Constant", "delay", "plus", "x"]


def test_a_deep_graph_needs_no_deep_stack(x):
    f = x
    for _ in range(5000):
        f = C.negate(f)
    assert len(order([f.node])) == 5001
    assert len(components([f.node])) == 5001
    y = C.sequence.input_variable(2, np.float64)
    (copied,) = copy([f.node], {x.node: y.node})
    assert len(order([copied])) == 5001


def test_loops_are_strongly_connected(x):
    total = running_sum(x)
    after = C.exp(total)
    groups = [names(g) for g in components([after.node])]
    assert sorted(map(len, groups)) == [1, 1, 1, 2]
    assert sorted(groups[-2]) == ["delay", "plus"]
    assert groups[-1] == ["exp"]


def test_two_states_that_feed_each_other_are_one_loop(x):
    a, b = C.placeholder(), C.placeholder()
    new_a = x + C.sequence.past_value(b)
    new_b = x * C.sequence.past_value(a)
    both = C.combine(new_a, new_b)
    both.replace_placeholders({a: new_a, b: new_b})
    loops = [g for g in components(o.node for o in both.outputs) if len(g) > 1]
    assert [sorted(names(g)) for g in loops] == [["delay", "delay", "element_times", "plus"]]


def test_a_loop_that_reads_another_is_another_loop(x):
    first = running_sum(x)
    second = running_sum(first)
    loops = [g for g in components([second.node]) if len(g) > 1]
    assert len(loops) == 2
    assert first.node in loops[0]
    assert second.node in loops[1]


def test_a_delay_outside_a_cycle_is_no_loop(x):
    assert all(len(g) == 1 for g in components([C.sequence.past_value(x).node]))


def test_a_cycle_without_a_delay_names_what_is_in_it(x):
    p = C.placeholder()
    f = C.exp(p, name="growth") + x
    with pytest.raises(GraphError) as caught:
        f.replace_placeholders({p: f})
    message = str(caught.value)
    assert "no delay in it" in message
    assert "exp" in message
    assert "'growth'" in message
    assert "plus" in message
    assert __file__ in message
    assert "past_value" in message.split("hint:")[1]
    # and the function is as before
    y = C.sequence.input_variable(2, np.float64)
    assert f.replace_placeholders({p: y}).eval({x: [[0, 0]], y: [[0, 0]]})[0].tolist() == [[1, 1]]


class TestCopy:
    def test_what_does_not_depend_on_the_replaced_is_shared(self, x):
        y = C.sequence.input_variable(2, np.float64)
        w = C.Parameter(2, init=1, dtype=np.float64)
        kept = C.exp(w)
        f = kept * x
        (copied,) = copy([f.node], {x.node: y.node})
        assert copied.inputs == (kept.node, y.node)
        assert f.node.inputs == (kept.node, x.node)

    def test_nothing_to_replace_is_no_copy(self, x):
        f = running_sum(x)
        assert copy([f.node], {}) == [f.node]

    def test_of_a_cycle(self, x):
        y = C.sequence.input_variable(2, np.float64)
        f = running_sum(x)
        (copied,) = copy([f.node], {x.node: y.node})
        assert not set(order([copied])) & {x.node, f.node}
        values = np.arange(6.0).reshape(3, 2)
        found = C.Function([copied]).eval({y: values})[0]
        np.testing.assert_array_equal(found, np.cumsum(values, 0))
        np.testing.assert_array_equal(f.eval({x: values})[0], np.cumsum(values, 0))

    def test_of_a_cycle_whose_initial_state_is_replaced(self, x):
        start = C.Parameter(2, init=5, dtype=np.float64)
        state = C.placeholder()
        total = x + C.sequence.past_value(state, start)
        total.replace_placeholders({state: total})
        zero = C.constant(np.zeros(2), dtype=np.float64)
        (copied,) = copy([total.node], {start.node: zero.node})
        assert start.node not in order([copied])
        assert C.Function([copied]).eval({x: [[1, 2]]})[0].tolist() == [[1, 2]]
        assert total.eval({x: [[1, 2]]})[0].tolist() == [[6, 7]]

    def test_of_an_inner_value(self, x):
        inner = C.exp(x)
        f = inner + inner * x
        (copied,) = copy([f.node], {inner.node: C.constant(2).node})
        assert C.Function([copied]).eval({x: [[1, 3]]})[0].tolist() == [[4, 8]]

    def test_of_a_root(self, x):
        f = C.exp(x)
        assert copy([f.node], {f.node: x.node}) == [x.node]

    def test_leaves_can_be_changed(self, x):
        w = C.Parameter(2, init=3, dtype=np.float64)
        f = running_sum(x * w)
        (copied,) = copy(
            [f.node],
            {},
            lambda leaf: graph.Constant(2.0) if isinstance(leaf, graph.Parameter) else None,
        )
        assert C.Function([copied]).eval({x: [[[1, 1], [1, 1]]]})[0].tolist() == [[2, 2], [4, 4]]

    def test_types_follow_what_was_put_in(self):
        x, y = C.input_variable((2, 4, 4)), C.input_variable((2, 7, 9), np.float64)
        f = C.reduce_sum(C.exp(x), axis=1)
        (copied,) = copy([f.node], {x.node: y.node})
        assert (copied.shape, copied.dtype) == ((2, 1, 9), np.float64)

    def test_of_chosen_frames_has_a_time_axis_of_its_own(self, x):
        y = C.sequence.input_variable(2, np.float64)
        chosen = C.sequence.gather(x, C.reduce_sum(x) > 0)
        (copied,) = copy([chosen.node], {x.node: y.node})
        assert copied.axes[1] != chosen.node.axes[1]
        assert copied.axes[1].source in order([copied])
