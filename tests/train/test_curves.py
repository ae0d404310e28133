"""Training curves: what is drawn is what was measured."""

import sys

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.train.functions import Progress, Summary

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

FIRST = Progress([Summary(4, 0.5, 10), Summary(2, 0.25, 20)], [Summary(3, 0.4, 10)] * 2)


def drawn(panel):
    return [line.get_xydata().tolist() for line in panel.lines]


def test_groups_of_minibatches_and_epochs():
    figure = C.logging.plot_training(FIRST, title="a run")
    loss, metric = figure.axes
    assert drawn(loss) == [[[10, 4], [30, 2]], [[10, 3], [20, 3]]]
    assert drawn(metric) == [[[10, 0.5], [30, 0.25]], [[10, 0.4], [20, 0.4]]]
    assert (loss.get_title(), loss.get_ylabel(), metric.get_xlabel()) == (
        "a run",
        "loss",
        "samples",
    )


def test_runs_are_told_apart():
    second = Progress([Summary(5, 0, 10)], [])
    figure = C.logging.plot_training({"one": FIRST, "two": second})
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["one", "two"]
    colours = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
    assert colours["one"] != colours["two"]


@pytest.mark.parametrize("ending, begin", [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_files(tmp_path, ending, begin):
    x, t = C.input_variable(1), C.input_variable(1)
    loss = C.squared_error(C.layers.Dense(1)(x), t)
    data = np.ones((8, 1)), np.zeros((8, 1))
    learner = C.sgd(loss.parameters, 0.1)
    progress = loss.train(data, parameter_learners=learner, minibatch_size=4, max_epochs=2)
    C.logging.plot_training(progress, tmp_path / f"curves.{ending}")
    assert (tmp_path / f"curves.{ending}").read_bytes().startswith(begin)


def test_what_cannot_be_drawn(monkeypatch):
    with pytest.raises(GraphError, match="nothing to draw"):
        C.logging.plot_training(Progress([], []))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(GraphError, match="pip install matplotlib"):
        C.logging.plot_training(FIRST)
