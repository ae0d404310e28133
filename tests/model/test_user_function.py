"""Functions whose forward and backward a user writes."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.testing import check_gradients


class Cube(C.UserFunction):
    """x cubed; keeps x for the way back."""

    def __init__(self, x, name="cube"):
        super().__init__([x], name=name)
        self.calls = [0, 0]

    def infer_outputs(self):
        x = self.inputs[0]
        return [C.output_variable(x.shape, x.dtype, x.dynamic_axes)]

    def forward(self, x, device=None, outputs_to_retain=None):
        self.calls[0] += 1
        if isinstance(x, list):
            return x, [s**3 for s in x]
        return x, x**3

    def backward(self, state, g):
        self.calls[1] += 1
        if isinstance(state, list):
            return [3 * s**2 * h for s, h in zip(state, g)]
        return 3 * state**2 * g

    def serialize(self):
        return {"calls": self.calls}

    @staticmethod
    def deserialize(inputs, name, state):
        new = Cube(inputs[0], name)
        new.calls = state["calls"]
        return new


class SumAndProduct(C.UserFunction):
    def __init__(self, a, b, name=""):
        super().__init__([a, b], name=name)

    def infer_outputs(self):
        a = self.inputs[0]
        return [C.output_variable(a.shape, a.dtype, a.dynamic_axes, name=n) for n in ("s", "p")]

    def forward(self, arguments, outputs, device=None, outputs_to_retain=None):
        a, b = arguments
        outputs[self.outputs[0]] = a + b
        outputs[self.outputs[1]] = a * b
        return a, b

    def backward(self, state, root_gradients, variables):
        a, b = state
        s, p = (root_gradients[o] for o in self.outputs)
        for variable, other in zip(self.inputs, (b, a)):
            if variable in variables:
                variables[variable] = s + p * other


def test_value_and_gradient_of_a_batch():
    x = C.input_variable(2, np.float64, needs_gradient=True)
    f = C.user_function(Cube(2 * x)) + 1
    at = np.array([[1.0, 2], [-1, 0.5], [3, 0]])
    np.testing.assert_allclose(f.eval({x: at}), (2 * at) ** 3 + 1, rtol=1e-12)
    np.testing.assert_allclose(f.grad({x: at}), 24 * at**2, rtol=1e-12)


class Determinant(C.UserFunction):
    def __init__(self, matrix, name="determinant"):
        super().__init__([matrix], name=name)

    def forward(self, matrix, device=None, outputs_to_retain=None):
        return matrix, np.linalg.det(matrix)

    def backward(self, matrix, g):
        return g.reshape(*g.shape, 1, 1) * np.linalg.det(matrix) * np.linalg.inv(matrix).T

    def infer_outputs(self):
        return [C.output_variable((), self.inputs[0].dtype, self.inputs[0].dynamic_axes)]


def test_a_number_of_a_parameter_alone():
    """The gradient is CNTK 2.7's."""
    w = C.Parameter(init=np.array([[1, 2], [3, 5]]))
    square = C.square(C.user_function(Determinant(w))) * 2
    np.testing.assert_allclose(square.grad({}, [w]), [[-20, 12], [8, -4]], rtol=1e-5)


def test_ragged_sequences_in_the_order_they_were_fed():
    x = C.sequence.input_variable(1, np.float64, needs_gradient=True)
    data = [np.array([[1.0], [2]]), np.array([[3.0], [4], [5]]), np.array([[6.0]])]
    f = C.sequence.reduce_sum(C.user_function(Cube(x)))
    np.testing.assert_allclose(f.eval({x: data}), [[9], [216], [216]])
    for g, frames in zip(f.grad({x: data}), data):
        np.testing.assert_allclose(g, 3 * frames**2)


def test_batches_beside_ragged_sequences_keep_their_order():
    x = C.sequence.input_variable(1, np.float64)
    y = C.input_variable(1, np.float64, needs_gradient=True)
    data = [np.ones((1, 1)), np.ones((3, 1)), np.ones((2, 1))]
    f = C.sequence.last(x) * C.user_function(Cube(y))
    at = np.array([[1.0], [2], [3]])
    np.testing.assert_allclose(f.eval({x: data, y: at}), at**3)
    np.testing.assert_allclose(f.grad({x: data, y: at}), 3 * at**2)


def test_several_operands_and_outputs():
    a = C.input_variable(2, np.float64, needs_gradient=True)
    b = C.input_variable(2, np.float64, needs_gradient=True)
    both = C.user_function(SumAndProduct(a, b))
    at = {a: np.array([[1.0, 2]]), b: np.array([[3.0, 4]])}
    s, p = both.eval(at).values()
    np.testing.assert_allclose(s, [[4, 6]])
    np.testing.assert_allclose(p, [[3, 8]])
    f = C.square(both.outputs[0]) * both.outputs[1]
    check_gradients(f, at, wrt=[a, b])


def test_forward_and_backward_run_once_for_a_step_of_training():
    w = C.Parameter(2, init=1.0)
    x = C.input_variable(2)
    cube = Cube(w * x)
    loss = C.reduce_sum(C.user_function(cube))
    learner = C.sgd([w], C.learning_parameter_schedule(0.1))
    C.Trainer(None, loss, [learner]).train_minibatch({x: [[1, 2]]})
    assert cube.calls == [1, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_a_constant(dtype):
    f = C.user_function(Cube(C.constant(np.array([2, 3], dtype)))) + 1
    assert (f.shape, f.dtype, f.dynamic_axes) == ((2,), dtype, ())
    assert f.eval().tolist() == [9, 28]


def test_applied_to_what_is_bound_later():
    p, x = C.placeholder(), C.input_variable(1)
    f = C.user_function(Cube(p)) * 2
    f.replace_placeholders({p: x})
    np.testing.assert_allclose(f.eval({x: [[2]]}), [[16]])
    np.testing.assert_allclose(f.clone("share").eval([[2]]), [[16]])


def test_saved_and_loaded_with_its_state(tmp_path):
    x = C.input_variable(1, name="x")
    cube = Cube(x, "my cube")
    f = C.user_function(cube) + 1
    f.eval({x: [[2]]})
    f.save(tmp_path / "f")
    loaded = C.load_model(tmp_path / "f")
    assert loaded.find_by_name("my cube").calls == [1, 0]
    cube.calls = np.arange(4).reshape(2, 2)  # CNTK's dictionaries hold arrays, too
    f.save(tmp_path / "f")
    kept = C.load_model(tmp_path / "f").find_by_name("my cube").calls
    np.testing.assert_array_equal(kept, cube.calls)
    np.testing.assert_allclose(loaded.eval({"x": [[2]]}), [[9]])


def test_a_file_can_only_name_what_the_program_has(tmp_path):
    class Hidden(Cube):
        pass

    x = C.input_variable(1)
    Hidden.known_as = classmethod(lambda cls: "elsewhere.Hidden")
    C.user_function(Hidden(x)).save(tmp_path / "f")
    Hidden.known_as = classmethod(lambda cls: "gone")
    with pytest.raises(GraphError, match=r"elsewhere\.Hidden.*not defined"):
        C.load_model(tmp_path / "f")
    C.Function.register_udf_deserialize_callback("elsewhere.Hidden", lambda i, n, s: Cube(i[0]))
    np.testing.assert_allclose(C.load_model(tmp_path / "f").eval([[3]]), [[27]])


def test_an_operation_name_of_its_own(tmp_path):
    class Named(Cube):
        op_name = "cube"

    C.user_function(Named(C.input_variable(1))).save(tmp_path / "f")
    C.Function.register_udf_deserialize_callback("cube", lambda i, n, s: Named(i[0]))
    np.testing.assert_allclose(C.load_model(tmp_path / "f").eval([[3]]), [[27]])


def test_training_goes_back_to_inputs_that_need_a_gradient():
    """As in CNTK: for who looks on, though nothing is learned from it."""

    class Seen(C.UserFunction):
        found = ()

        def __init__(self, x):
            super().__init__([x])

        def infer_outputs(self):
            x = self.inputs[0]
            return [C.output_variable(x.shape, x.dtype, x.dynamic_axes)]

        def forward(self, x, device=None, outputs_to_retain=None):
            return None, x

        def backward(self, state, g):
            self.found = (*self.found, g.tolist())
            return g

    for needed in (True, False):
        x, w = C.input_variable(2, needs_gradient=needed), C.Parameter(2, init=[3, 5])
        seen = Seen(x)
        loss = C.reduce_sum(C.user_function(seen) * w)
        trainer = C.Trainer(None, loss, C.sgd([w], C.learning_parameter_schedule(0.0)))
        for _ in range(2):
            trainer.train_minibatch({x: [[1, 1]]})
        assert seen.found == ([[3, 5]], [[3, 5]]) * needed


def test_a_forward_that_takes_other_arguments():
    class Two(Cube):
        def infer_outputs(self):
            return super().infer_outputs() * 2

    f = C.user_function(Two(C.input_variable(1)))  # whose forward is for one output
    for kind in (ValueError, RuntimeError):  # CNTK's is a RuntimeError
        with pytest.raises(kind, match=r"forward of .*Two: too many positional arguments"):
            f.eval([[1]])


def test_without_a_backward_there_is_no_gradient():
    class OneWay(C.UserFunction):
        def __init__(self, x):
            super().__init__([x])

        def infer_outputs(self):
            x = self.inputs[0]
            return [C.output_variable(x.shape, x.dtype, x.dynamic_axes)]

        def forward(self, x, device=None, outputs_to_retain=None):
            return None, x

    x = C.input_variable(1, needs_gradient=True)
    with pytest.raises(GraphError, match="no backward"):
        C.user_function(OneWay(x)).grad({x: [[1]]})


RAGGED = [np.array([[0.3], [-0.2]]), np.array([[0.5], [0.1], [-0.4]]), np.array([[0.7]])]


def _step(cube):
    return lambda h, x: cube(0.9 * h + x) + 0.1 * h


@pytest.mark.parametrize("go_backwards", [False, True])
def test_in_a_recurrence_it_is_what_its_formula_is(go_backwards):
    x = C.sequence.input_variable(1, np.float64, needs_gradient=True)

    def recurrent(cube):
        layer = C.layers.Recurrence(_step(cube), go_backwards=go_backwards, initial_state=0.5)
        return layer(x)

    written = recurrent(lambda v: C.user_function(Cube(v)))
    formula = recurrent(lambda v: v * v * v)
    for ours, wanted in zip(written.eval({x: RAGGED}), formula.eval({x: RAGGED})):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12)
    for ours, wanted in zip(written.grad({x: RAGGED}), formula.grad({x: RAGGED})):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12)


def test_a_recurrence_calls_it_once_for_each_step():
    x = C.sequence.input_variable(1, needs_gradient=True)
    made = []

    def cube(v):
        made.append(Cube(v))
        return C.user_function(made[-1])

    C.layers.Recurrence(_step(cube))(x).grad({x: RAGGED})
    assert made[-1].calls == [3, 3]


def test_its_backward_runs_outside_a_loop_that_its_forward_is_in():
    x = C.sequence.input_variable(1, np.float64, needs_gradient=True)

    def recurrent(cube):
        return C.layers.Recurrence(lambda h, v: cube(C.stop_gradient(h) + v))(x)

    written = recurrent(lambda v: C.user_function(Cube(v)))
    formula = recurrent(lambda v: v * v * v)
    for ours, wanted in zip(written.grad({x: RAGGED}), formula.grad({x: RAGGED})):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12)


def test_two_outputs_and_a_value_per_sequence_in_a_recurrence():
    x = C.sequence.input_variable(1, np.float64, needs_gradient=True)
    w = C.input_variable(1, np.float64)
    at = {x: RAGGED, w: [[2.0], [3], [5]]}

    class Weighted(SumAndProduct):
        """As that, but gets h frame by frame and w per sequence."""

        def forward(self, arguments, outputs, device=None, outputs_to_retain=None):
            frames, weights = arguments
            outputs[self.outputs[0]] = [f + a for f, a in zip(frames, weights)]
            outputs[self.outputs[1]] = [f * a for f, a in zip(frames, weights)]

    p = C.placeholder()
    delayed = C.sequence.past_value(p)
    total, product = C.user_function(Weighted(delayed, w)).outputs
    f = 0.5 * x + 0.1 * total + 0.2 * product
    f.replace_placeholders({p: f.output})
    for frames, a, result in zip(RAGGED, (2, 3, 5), f.eval(at)):
        h = 0.0
        for v, r in zip(frames, result):
            h = 0.5 * v + 0.1 * (h + a) + 0.2 * h * a
            np.testing.assert_allclose(r, h, rtol=1e-12)


def test_a_parameter_of_one_in_a_recurrence_must_be_spread():
    x = C.sequence.input_variable(1, needs_gradient=True)
    b = C.Parameter(1, init=0.5)

    def recurrent(operand):
        p = C.placeholder()
        delayed = C.sequence.past_value(p)
        s, _ = C.user_function(Spread(delayed, operand)).outputs
        f = x + 0.5 * s
        return f.replace_placeholders({p: f.output})

    class Spread(SumAndProduct):
        def forward(self, arguments, outputs, device=None, outputs_to_retain=None):
            a, b = arguments
            for o in self.outputs:
                outputs[o] = [u + v for u, v in zip(a, b if isinstance(b, list) else [b] * len(a))]

        def backward(self, state, root_gradients, variables):
            for v in variables:
                variables[v] = root_gradients[self.outputs[0]]

    with pytest.raises(GraphError, match=r"same for all frames(.|\n)*broadcast_as"):
        recurrent(b).grad({x: RAGGED}, wrt=[b])
    f = recurrent(C.sequence.broadcast_as(b, x))
    wanted = 0.0
    for frames in RAGGED:  # h = x + (h + b) / 2, its frames summed
        slope = 0.0
        for _ in frames:
            slope = 0.5 * slope + 0.5
            wanted += slope
    np.testing.assert_allclose(f.grad({x: RAGGED}, wrt=[b]), [wanted], rtol=1e-6)


@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize(
    "give, message",
    [
        (lambda frames: frames[:1], "returned 1 sequences, expected 2"),
        (lambda frames: frames * 2, "returned 4 sequences, expected 2"),
        (lambda frames: None, "returned 0 sequences, expected 2"),
        (
            lambda frames: [f[:, :1] for f in frames],
            "an array of shape|frames of a sequence, expected",
        ),
        (lambda frames: [np.repeat(f, 2, 0) for f in frames], "frames of a sequence, expected"),
        (lambda frames: [["one"]] * 2, "is a number or an array of numbers"),
    ],
)
def test_what_does_not_fit_is_refused(give, message, looped):
    class Wrong(C.UserFunction):
        def forward(self, frames, device=None, outputs_to_retain=None):
            return None, give(frames)

        def backward(self, state, g):
            return g

        def infer_outputs(self):
            (v,) = self.inputs
            return [C.output_variable(v.shape, v.dtype, v.dynamic_axes)]

    x = C.sequence.input_variable(2)
    call = lambda v: C.user_function(Wrong([v]))  # noqa: E731
    f = C.layers.Recurrence(lambda h, v: call(h + v))(x) if looped else call(x)
    with pytest.raises(GraphError, match=f"user_function: .*({message})(.|\n)*test_user_function"):
        f.eval({x: [np.ones((3, 2)), np.ones((2, 2))]})


def test_what_a_user_function_keeps_of_its_argument():
    """With as_numpy=False it is a `Value`, with CNTK's methods."""

    class Scaled(C.ops.functions.UserFunction):
        def __init__(self, x):
            super().__init__([x], as_numpy=False)
            self.x = C.input_variable(x.shape)
            self.scaled = self.x * 3

        def infer_outputs(self):
            (x,) = self.inputs
            return [C.output_variable(x.shape, x.dtype, x.dynamic_axes)]

        def forward(self, x, device=None, outputs_to_retain=None):
            _, values = self.scaled.forward(
                {self.x: x}, [self.scaled.output], device=x.device(), as_numpy=False
            )
            return x.deep_clone(), values[self.scaled.output]

        def backward(self, state, root_gradients):
            assert state.asarray().tolist() == [[1, 2]]
            return root_gradients

    x = C.input_variable(2, needs_gradient=True)
    y = C.user_function(Scaled(x))
    assert y.eval({x: [[1, 2]]}).tolist() == [[3, 6]]
    assert y.grad({x: np.array([[1, 2]], np.float32)}).tolist() == [[1, 1]]
