"""A pass that breaks a graph is found out."""

import pytest

import rgraph as C
from rgraph import passes
from rgraph.graph import Constant, apply, order
from rgraph.graph.node import Type, twin
from rgraph.ops.delays import DELAY
from rgraph.ops.records import TABLE
from rgraph.passes.verify import BrokenPass, verify


@pytest.fixture
def graph():
    x = C.sequence.input_variable(3)
    (root,) = passes.optimize([(C.tanh(x) + 1).node], without=list(passes.PASSES))
    return root


def test_a_graph_that_is_right(graph):
    verify("nothing", [Type.of(graph)], [graph])


def test_an_output_of_another_type(graph):
    with pytest.raises(BrokenPass, match="what the outputs are"):
        verify("it", [Type((4,), graph.axes, graph.dtype)], [graph])


def test_a_node_of_another_type_than_its_operation_gives(graph):
    tanh = graph.inputs[0]
    tanh.inputs = [Constant([[1.0, 2.0, 3.0]] * 5)]
    with pytest.raises(BrokenPass, match=r"it: tanh .*\(5, 3\).*, not \(3,\)"):
        verify("it", [Type.of(graph)], [graph])


def test_a_cycle_without_a_delay(graph):
    tanh = graph.inputs[0]
    tanh.inputs = [graph]
    with pytest.raises(C.GraphError, match="no delay"):
        verify("it", [Type.of(graph)], [graph])


def test_every_pass_is_looked_at(graph, monkeypatch):
    def breaks(outputs):
        for node in order(outputs):
            if node.op is TABLE["tanh"]:
                node.inputs = [twin(node, DELAY, [node, Constant(0.0)], {"offset": 1})]
        return [apply(TABLE["reduce_sum"], *outputs, axis=None, keepdims=False)]

    monkeypatch.setitem(passes.PASSES, "sharing", breaks)
    with pytest.raises(BrokenPass, match="sharing"):
        passes.optimize([graph])
