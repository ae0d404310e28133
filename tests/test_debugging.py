"""Looking on while a model runs."""

import io
import json

import numpy as np

import rgraph as C


def session(model, commands, run):
    out = io.StringIO()
    run(C.debugging.debug_model(model, io.StringIO(commands), out))
    return out.getvalue()


def test_stops_forward_and_backward():
    x = C.input_variable(2, needs_gradient=True, name="features")
    y = C.times(x, C.Parameter((2, 1), init=10, name="p"), name="z")
    text = session(y, "n\n" * 3 + "c\n", lambda f: f.grad({x: [[1, 2]]}))
    forward, backward = text.split(" backward ")
    assert " forward " in forward
    assert "'features'" in forward and "'p'" in forward and "'z'" in forward
    assert backward.index("z: Times") < backward.index("Input('features'")


def test_values_are_those_of_the_model():
    x = C.sequence.input_variable(2, np.float64)
    with C.default_options(dtype=np.float64):
        y = C.layers.Recurrence(C.layers.GRU(3))(x)
    clips = [np.ones((3, 2)), -np.ones((1, 2))]
    found = []
    session(y, "c\n", lambda f: found.append((f.eval({x: clips}), f.grad({x: clips}, wrt=x))))
    (values, gradients) = found[0]
    for a, b in zip([*values, *gradients], [*y.eval({x: clips}), *y.grad({x: clips}, wrt=x)]):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_what_one_types():
    x = C.input_variable(1, name="x")
    y = C.exp(C.square(x, name="squared"), name="last")
    run = lambda f: f.eval({x: [[3]]})  # noqa: E731
    assert "9." in session(y, "u squared\np\nc\n", run)
    assert "8103" in session(y, "u lambda value, node: np.max(value) > 100\np\nc\n", run)
    assert "go on to the end" in session(y, "help\nc\n", run)


def test_leaving():
    codes = []
    x = C.input_variable(1)
    out = io.StringIO()
    f = C.debugging.debug_model(C.exp(x), io.StringIO("q\nc\n"), out, codes.append)
    f.eval([[0]])
    assert codes == [0]


def test_the_profiler_counts_calls_while_it_is_enabled(tmp_path):
    x = C.input_variable(2)
    y = C.layers.Dense(2, name="layer")(x)
    C.debugging.start_profiler(str(tmp_path))
    y.eval([[1, 2]])
    C.debugging.disable_profiler()
    y.eval([[1, 2]])
    C.debugging.enable_profiler()
    y.eval([[1, 2]])
    C.debugging.stop_profiler()
    y.eval([[1, 2]])
    assert "Dense 'layer'" in (tmp_path / "summary.txt").read_text()
    assert len(json.loads((tmp_path / "trace.json").read_text())["traceEvents"]) == 2


def test_without_a_profiler_nothing_is_done():
    """As CNTK, whose examples stop what they only start where they are asked to."""
    C.debugging.enable_profiler()
    C.debugging.disable_profiler()
    C.debugging.stop_profiler()
