"""The classic mistakes: each gives one message that names the user's line and the hint."""

import inspect
import os
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError

PACKAGE = os.path.dirname(C.__file__) + os.sep


@pytest.fixture
def told():
    """`with told("words", …) as message:` holds the mistake; the message must have the words."""

    class Told:
        def __init__(self, *words, hint):
            self.words, self.hint = words, hint

        def __enter__(self):
            self.begin = inspect.currentframe().f_back.f_lineno
            return self

        def __exit__(self, kind, error, _):
            assert kind is not None and issubclass(kind, GraphError), "no GraphError was raised"
            message = str(error)
            for word in self.words:
                assert word in message, f"{word!r} not in:\n{message}"
            assert self.hint in error.hint, f"{self.hint!r} not in the hint of:\n{message}"
            end = inspect.currentframe().f_back.f_lineno
            lines = [f"{__file__}, line {n}" for n in range(self.begin, end + 9)]
            assert any(line in message for line in lines), f"not the user's line:\n{message}"
            assert PACKAGE not in message, f"a line of the library's own:\n{message}"
            return True

    return Told


class TestConvolutions:
    def test_an_image_without_a_channel_axis(self, told):
        digits = C.input_variable((28, 28), name="digits")
        with told(
            "'digits' (28, 28)", "in layer Convolution", hint="reshape the operand to (1, 28, 28)"
        ):
            C.layers.Convolution((3, 3), 32)(digits)

    def test_a_time_axis_in_the_shape(self, told):
        """Seed 002: `input_shape=[4, 1, 56, 14]`."""
        quadrants = C.input_variable((4, 1, 56, 14), name="quadrants")
        with told("'quadrants' (4, 1, 56, 14)", hint="sequence.input_variable((1, 56, 14))"):
            C.layers.Convolution((3, 3), 32)(quadrants)

    def test_channels_last(self, told):
        image = C.input_variable((224, 224, 3), name="image")
        with told("(224, 224, 3)", hint="channels first"):
            C.convolution(C.Parameter((32, 3, 3, 3)), image)
        with told("(28, 28, 1)", hint="an image is (1, 28, 28)"):
            C.layers.Convolution((3, 3), 32)(C.input_variable((28, 28, 1)))

    def test_a_vector(self, told):
        with told("needs an operand with 3 axes", "(784,)", hint="reshape it to (channels, …)"):
            C.layers.Convolution((3, 3), 32)(C.input_variable(784))

    def test_a_volume_into_filters_for_slices(self, told):
        """Seed 000: `Input((1, 40, 40, 40))`, to be segmented slice by slice."""
        volume = C.input_variable((1, 40, 40, 40), name="volume")
        with told(
            "in layer Convolution",
            "'volume' (1, 40, 40, 40) per sample",
            hint="to_sequence(reshape(x, (40, 1, 40, 40)))",
        ):
            C.layers.Convolution((3, 3), 64, pad=True)(volume)

    def test_a_fully_connected_layers_vector(self, told):
        """Seed 001: a 3-D convolution of what a Dense layer gives."""
        dense = C.layers.Dense(8192)(C.sequence.input_variable(1024))
        with told(
            "in layer Convolution",
            "needs an operand with 4 axes (channels, depth, height, width), got (8192,)",
            "operand: (8192,) per frame of a sequence (layer Dense)",
            hint="Dense((channels, …))",
        ):
            C.layers.Convolution3D(3, 128, pad=True)(dense)

    def test_filters_of_one_channel(self, told):
        """Seed 004: one set of filters for each of the channels by itself."""
        image, w = C.input_variable((3, 200, 200), name="image"), C.Parameter((20, 1, 5, 5))
        hint = "the channels frames, sequence.input_variable((1, 200, 200)), or slices of a "
        hint += "volume: reshape the operand to (1, 3, 200, 200) and the kernel to (20, 1, 1, 5, 5)"
        with told("for 1 input channels, the operand has 3", "'image' (3, 200, 200)", hint=hint):
            C.convolution(w, image)

    def test_channels_as_the_depth_of_a_volume_without_a_channel(self, told):
        """Seed 004: `Convolution3D` with a (1, 5, 5) kernel."""
        image = C.input_variable((3, 200, 200), name="image")
        with told(
            "in layer Convolution", "got (3, 200, 200)", hint="reshape the operand to (1, 3, 200"
        ):
            C.layers.Convolution3D((1, 5, 5), 20)(image)

    def test_a_kernel_as_keras_has_it(self, told):
        """Seed 004: `np.random.rand(kernelsize, kernelsize, 1, nfilter)`."""
        w, x = C.Parameter((5, 5, 1, 20), name="W"), C.sequence.input_variable((1, 200, 200))
        hint = "a kernel is (filters, channels, height, width): (20, 1, 5, 5), not (5, 5, 1, 20)"
        with told("'W' (5, 5, 1, 20)", hint=hint):
            C.convolution(w, x)

    def test_one_bias_per_channel(self, told):
        x = C.input_variable((16, 28, 28), name="x")
        bias = C.Parameter(16, name="bias")
        with told("plus", "'x' (16, 28, 28)", "'bias' (16,)", hint="(16, 1, 1), not (16,)"):
            x + bias


class TestRecurrences:
    @pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNNStep"])
    def test_images_into_a_cell_for_vectors(self, told, cell):
        clip = C.sequence.input_variable((32, 26, 5), name="clip")
        step = getattr(C.layers, cell)(5)
        with told(
            f"{cell} expects a vector per frame, got (32, 26, 5)",
            "'clip'",
            hint="reshape to (4160,)",
        ):
            C.layers.Recurrence(step)(clip)

    def test_an_axis_of_free_size_before_the_vectors(self, told):
        """The mistake shows where it is made, not at a second cell above."""
        texts = C.sequence.input_variable((C.FreeDimension, 3), name="texts")
        with told(
            "LSTM expects a vector per frame, got (free, 3)",
            "'texts' (free, 3)",
            hint="put a reduction over the axes of free size before it",
        ):
            C.layers.Recurrence(C.layers.LSTM(2), initial_state=0.1)(texts)

    def test_a_batch_of_vectors_is_no_sequence(self, told):
        """Seed 002: "expected ndim=3, found ndim=2"."""
        flat = C.input_variable(4160, name="flat")
        with told("no sequence flows into it", hint="sequence.input_variable"):
            C.layers.Recurrence(C.layers.LSTM(5))(flat)

    def test_a_state_of_another_shape_than_it_begins_with(self, told):
        """Seed 000: "Shapes (?, ?, 40, 40) and (40, ?, 40) are not compatible"."""
        slices = C.sequence.input_variable((3, 40, 40), name="slices")
        w = C.Parameter((1, 3, 3, 3))

        def step(h, x):
            return C.relu(C.convolution(w, x)) + 0 * C.reduce_sum(h)

        with told(
            "initial state of shape (40, 1, 40)",
            "(1, 40, 40)",
            hint="give it shape (1, 40, 40), or a number",
        ):
            C.layers.Recurrence(step, initial_state=np.zeros((40, 1, 40)))(slices)

    def test_a_time_axis_in_the_initial_state(self, told):
        slices = C.sequence.input_variable((3, 40, 40), name="slices")
        w, u = C.Parameter((1, 3, 3, 3)), C.Parameter((1, 1, 3, 3))

        def step(h, x):
            return C.relu(C.convolution(w, x) + C.convolution(u, h))

        with told("(40, 1, 40, 40)", hint="do not include batch or time"):
            C.layers.Recurrence(step, initial_state=np.zeros((40, 1, 40, 40)))(slices)

    def test_a_fully_connected_layer_plus_a_convolution_of_the_state(self, told):
        """Seed 001: "shape incompatibility issues" of `fc_output + conv3d(h)`."""
        fc, conv = C.layers.Dense(8192), C.layers.Convolution3D(3, 128, pad=True)

        def step(h, x):
            return C.tanh(fc(x) + conv(h))

        x = C.sequence.input_variable(1024)
        with told(
            "plus",
            "in step",
            "left: (8192,) per frame of a sequence (layer Dense)",
            "right: (128, 4, 4, 4) (layer Convolution)",
            hint="reshape (8192,) to (128, 4, 4, 4)",
        ):
            C.layers.Recurrence(step, initial_state=np.zeros((128, 4, 4, 4)))(x)

    def test_a_grid_with_channels_last(self, told):
        """Seed 001: states of shape (4, 4, 4, 128)."""
        fc, conv = C.layers.Dense((4, 4, 4, 128)), C.layers.Convolution3D(3, 128, pad=True)
        x = C.sequence.input_variable(1024)
        with told("layer Dense", hint="come first: (128, 4, 4, 4), not (4, 4, 4, 128)"):
            C.layers.Recurrence(lambda h, x: C.tanh(fc(x) + conv(h)))(x)

    @pytest.mark.parametrize("shape", [(16, 128, 4, 4, 4), (1024,)], ids=["batch", "units"])
    def test_an_initial_state_that_is_no_grid(self, told, shape):
        """Seed 001: the batch in the state's shape; `state_size = units`."""
        fc, conv = C.layers.Dense((128, 4, 4, 4)), C.layers.Convolution3D(3, 128, pad=True)
        x = C.sequence.input_variable(1024)
        hint = "do not include batch or time" if shape[1:] else "a vector has no spatial axes"
        with told("in layer Convolution", f"operand: {shape} (the previous state)", hint=hint):
            C.layers.Recurrence(
                lambda h, x: C.tanh(fc(x) + conv(h)), initial_state=np.zeros(shape)
            )(x)

    def test_time_as_an_axis_of_the_sample(self, told):
        """Seed 001: features of shape (batch, 24, 1024) as samples of shape (24, 1024)."""
        x = C.input_variable((24, 1024), name="features")
        with told(
            "LSTM expects a vector per frame",
            "'features' (24, 1024) per sample",
            hint="sequence.input_variable((1024,))",
        ):
            C.layers.Recurrence(C.layers.LSTM(5))(x)

    def test_a_video_that_is_no_sequence(self, told):
        """Seed 003: `input_variable` for `sequence.input_variable`."""
        video, b = C.input_variable((3, 24, 24)), C.Parameter((32, 3, 3, 3))
        u = C.Parameter((32, 32, 3, 3))
        with told(
            "no sequence flows into it",
            "in layer Recurrence",
            hint="sequence.input_variable(shape of one frame)",
        ):
            C.layers.Recurrence(lambda h, x: C.convolution(b, x) + C.convolution(u, h))(video)

    @pytest.mark.parametrize("shape", [(3, 24, 24), (32, 22, 22)])
    def test_an_initial_state_of_the_inputs_shape(self, told, shape):
        """Seed 003: "pay special attention to how the initial state is defined"."""
        video, b = C.sequence.input_variable((3, 24, 24)), C.Parameter((32, 3, 3, 3))
        with told(f"initial state of shape {shape}", "(32, 24, 24)", hint="or a number"):
            C.layers.Recurrence(
                lambda h, x: C.convolution(b, x) + C.reduce_sum(h), initial_state=np.zeros(shape)
            )(video)

    def test_a_convolution_for_a_step_function(self, told):
        """Seed 003, the question itself: "Recurrence() seems to assume a regular network layer"."""
        with told("takes its previous state and 1 input", hint="C.tanh(f(x) + g(previous_state))"):
            C.layers.Recurrence(C.layers.Convolution((3, 3), 32, pad=True))

    def test_a_convolution_of_the_state_without_padding(self, told):
        of_x, of_h = C.layers.Convolution((3, 3), 32, pad=True), C.layers.Convolution((3, 3), 32)
        video = C.sequence.input_variable((3, 24, 24))
        with told("(32, 24, 24) and (32, 22, 22)", "right: (32, 22, 22)", hint="pad=True"):
            C.layers.Recurrence(lambda h, x: C.tanh(of_x(x) + of_h(h)))(video)

    def test_an_lstm_among_layers_for_frames(self, told):
        """Seed 002: `model.add(LSTM(5))` after the convolutions."""
        frames = C.sequence.input_variable(4160)
        with told("LSTM takes 3 arguments (dh, dc, x)", hint="Recurrence(LSTM(…))"):
            C.layers.Sequential([C.layers.Dropout(0.25), C.layers.LSTM(5)])(frames)

    def test_a_step_function_that_returns_nothing(self, told):
        def step(h, x):
            C.tanh(h + x)

        with told("step returns None", hint="return"):
            C.layers.Recurrence(step)

    def test_a_state_that_grows(self, told):
        x = C.sequence.input_variable((3, 40, 40))
        first = np.zeros((1, 40, 40))
        with told(
            "changes in every step: (1, 40, 40), then (4, 40, 40)", hint="of the previous one"
        ):
            C.layers.Recurrence(lambda h, v: C.splice(h, v, axis=0), initial_state=first)(x)

    def test_a_step_function_without_a_state(self, told):
        with told("takes its previous state and 1 input", hint="def step(previous_state, x)"):
            C.layers.Recurrence(lambda x: x)

    def test_a_step_function_that_forgets_a_state(self, told):
        with told("takes 2 states, but returns 1", hint="return the new states"):
            C.layers.Recurrence(lambda h, c, x: h + x)

    def test_a_cycle_without_a_delay(self, told):
        x = C.sequence.input_variable(2, name="x")
        state = C.placeholder(name="state")
        h = C.tanh(x + state, name="h")
        with told("no delay in it", "tanh 'h'", "plus", hint="sequence.past_value"):
            h.replace_placeholders({state: h})

    def test_a_cycle_in_both_directions(self, told):
        x = C.sequence.input_variable(2, name="x")
        state = C.placeholder()
        h = C.sequence.past_value(state) + C.sequence.future_value(state) + x
        h.replace_placeholders({state: h})
        with told(
            "depends on both past and future frames",
            "past_value at",
            "future_value at",
            hint="one per direction",
        ):
            h.eval({x: np.zeros((2, 2))})

    def test_a_step_that_needs_all_frames(self, told):
        x = C.sequence.input_variable(2, name="x")
        with told("needs all frames", hint="out of the step function"):
            C.layers.Recurrence(lambda h, v: v + C.sequence.softmax(h))(x)

    def test_an_initial_state_that_is_a_sequence(self, told):
        x = C.sequence.input_variable(2, name="x")
        before_last = C.Function(lambda v, s: C.sequence.past_value(v, s, 2))
        with told("2 steps can't be a sequence", hint="sequence.first or sequence.last"):
            before_last(x, x)


class TestSequences:
    def test_of_different_lengths_on_one_axis(self, told):
        x = C.sequence.input_variable(2, name="x")
        y = C.sequence.input_variable(2, name="y")
        f = x + y
        with told(
            "'x'", "'y'", "sequences 1 have 2 and 4 frames", hint="new_unique_dynamic_axis"
        ) as mistake:
            f.eval(
                {x: [np.zeros((3, 2)), np.zeros((2, 2))], y: [np.zeros((3, 2)), np.zeros((4, 2))]}
            )
        assert mistake

    def test_along_different_axes(self, told):
        x = C.sequence.input_variable(2, name="x")
        y = C.sequence.input_variable(
            2, name="y", sequence_axis=C.Axis.new_unique_dynamic_axis("words")
        )
        with told("different axes", "'x'", "along words", hint="reconcile_dynamic_axes"):
            x + y

    def test_reconciled_with_others_of_different_lengths(self, told):
        x = C.sequence.input_variable(2, name="x")
        y = C.sequence.input_variable(
            2, name="y", sequence_axis=C.Axis.new_unique_dynamic_axis("words")
        )
        with told("[4] frames", "[3]", "'y'", hint=""):
            C.reconcile_dynamic_axes(y, x).eval({x: [np.zeros((3, 2))], y: [np.zeros((4, 2))]})

    def test_a_sequence_operation_on_samples(self, told):
        flat = C.input_variable(3, name="flat")
        with told("needs a sequence", "'flat'", hint="sequence.input_variable"):
            C.sequence.last(flat)

    def test_lengths_that_nothing_gives(self, told):
        x = C.sequence.input_variable(2, name="x")
        with told("'x'", hint="give it one"):
            C.sequence.broadcast_as(C.constant(1), x).eval()


class TestShapes:
    @pytest.mark.parametrize("size", [-1, 0])
    @pytest.mark.parametrize(
        "layer, arguments",
        [
            (C.layers.Dense, lambda size: ((2, size),)),
            (C.layers.Embedding, lambda size: (size - 1,)),
            (C.layers.LSTM, lambda size: (size,)),
            (C.layers.GRU, lambda size: (size,)),
            (C.layers.RNNStep, lambda size: (3, size)),
            (C.layers.Convolution2D, lambda size: (3, size)),
            (C.layers.Convolution2D, lambda size: ((3, size), 4)),
            (C.layers.ConvolutionTranspose2D, lambda size: (3, size)),
        ],
    )
    def test_a_layer_of_no_size(self, told, layer, arguments, size):
        with told("must be at least", hint=""):
            layer(*arguments(size))

    def test_a_reshape_of_the_wrong_total(self, told):
        """Seed 002: `Reshape((56*14,))` after convolutions and pooling."""
        convnet = C.layers.Sequential(
            [
                C.layers.Convolution((3, 3), 32, activation=C.relu),
                C.layers.Convolution((3, 3), 32, activation=C.relu),
                C.layers.MaxPooling((2, 2), strides=(2, 2)),
            ]
        )
        digits = C.sequence.input_variable((1, 56, 14))
        with told("(32, 26, 5) has 4160 elements", "(784,) has 784", hint="reshape to (4160,)"):
            C.reshape(convnet(digits), (56 * 14,))

    def test_a_reshape_with_the_time_axis_in_it(self, told):
        """Seed 002: `Reshape((4, 56*14))`."""
        x = C.sequence.input_variable((1, 56, 14), name="x")
        with told(
            "the new shape (4, 784) has 3136", hint="a sample or frame, without batch or time"
        ):
            C.reshape(x, (4, 56 * 14))

    def test_frames_reshaped_to_a_volume(self, told):
        """Seed 000: `Reshape((1, 40, 40, 40))` of a sequence of slices."""
        slices = C.sequence.input_variable((1, 40, 40), name="slices")
        with told("'slices' (1, 40, 40) per frame", hint="leave out the axis of 40"):
            C.reshape(slices, (1, 40, 40, 40))
        with told("(40, 2, 40, 40) has 128000", hint="without batch or time"):
            C.reshape(C.splice(slices, slices, axis=0), (40, 2, 40, 40))

    def test_a_reshape_with_the_batch_in_it(self, told):
        """Seed 001: `tf.reshape(fc_output, out_shape)`, `out_shape` with the batch of 16."""
        fc = C.layers.Dense(8192)(C.sequence.input_variable(1024))
        with told("(8192,)", "layer Dense", hint="leave out the axis of 16"):
            C.reshape(fc, (16, 128, 4, 4, 4))

    def test_joining_along_another_axis_than_the_channels(self, told):
        """Seed 000: `concat_axis=2`, where batch and time count as axes."""
        up = C.sequence.input_variable((1, 40, 40), name="up")
        down = C.sequence.input_variable((1, 40, 40), name="down")
        joined, w = C.splice(up, down, axis=2), C.Parameter((1, 2, 3, 3))
        with told("(1, 40, 80) per frame of a sequence (splice)", hint="joins them along axis=0"):
            C.convolution(w, joined)
        with told("3 static axes, 0 to 2", "'up' (1, 40, 40)", hint=""):
            C.splice(up, down, axis=3)

    def test_shapes_that_do_not_broadcast(self, told):
        a, b = C.input_variable((3, 4), name="a"), C.input_variable((3, 5), name="b")
        with told("left: 'a' (3, 4)", "right: 'b' (3, 5)", "4 and 5", hint=""):
            a * b

    def test_joining_what_does_not_fit(self, told):
        """Seed 000: the two directions' outputs, one of them with its axes in another order."""
        up = C.sequence.input_variable((1, 40, 40), name="up")
        down = C.sequence.input_variable((40, 1, 40), name="down")
        with told("'up' (1, 40, 40)", "'down' (40, 1, 40)", "axis 0", hint=""):
            C.splice(up, down, axis=0)

    def test_a_product(self, told):
        x, w = C.input_variable((3, 4), name="x"), C.Parameter((5, 2), name="W")
        with told("times", "(4,)", "(5,)", "'W' (5, 2)", hint=""):
            C.times(x, w)

    def test_a_constant_of_another_shape_than_its_array(self, told):
        with told("(4,) can't be repeated", "(4, 1, 1)", hint="np.reshape(value, (4, 1, 1))"):
            C.constant(np.arange(4), (4, 1, 1))
        with told("(4,) can't be repeated", "(2, 3)", hint="leave the shape out"):
            C.constant(np.arange(4), (2, 3))
        with told("(4,) can't be repeated", "(2,)", hint="leave the shape out"):
            C.constant([1, 2]).value = np.arange(4)

    def test_a_parameter_of_another_shape_than_its_array(self, told):
        with told("(4,) can't be set on parameter 'b'", hint="np.reshape(value, (4, 1, 1))"):
            C.Parameter((4, 1, 1), init=np.arange(4), name="b")

    def test_a_name_in_the_place_of_a_shape(self, told):
        with told("a shape must be a whole number or a tuple", "got 'state'", hint="name='state'"):
            C.input_variable("state")
        with told("got None", hint=""):
            C.input_variable(None)

    def test_sizes_and_places_that_are_not_whole(self, told):
        x = C.input_variable((1, 5, 5))
        s = C.sequence.input_variable(2)
        wrong = {
            "a shape must be a whole number": lambda: C.pooling(x, C.MAX_POOLING, (2.5, 2)),
            "a shape": lambda: C.layers.Convolution((3.5, 3), 2)(x),
            "an axis must be a whole number, got 1.5": lambda: C.reduce_sum(x, axis=1.5),
            "k must be": lambda: C.top_k(x, 1.5),
            "output_rank must be": lambda: C.times(x, C.Parameter((5, 2)), output_rank=1.5),
            "begin_index must be": lambda: C.slice(x, 0, 0.5, 1),
            "end_index: there are 1 for 2 axes": lambda: C.slice(x, [0, 1], [0, 0], [1]),
            "got 0.5": lambda: C.sequence.slice(s, 0.5, 2),
            "no axis to slide along": lambda: C.pooling(x, C.MAX_POOLING, ()),
        }
        for words, program in wrong.items():
            with pytest.raises(GraphError, match=words):
                program()
        assert C.reshape(x, (5.0, np.int8(5))).shape == (5, 5)

    def test_what_is_taken_apart(self, told):
        """Without an end, Python would ask for slices for ever."""
        first, second = C.constant([[1, 2], [3, 4]])
        assert second.eval().tolist() == [[3, 4]] and len(list(C.combine([first, second]))) == 2
        for value in (C.input_variable((C.FreeDimension, 2)), C.placeholder(), C.constant(1)):
            with told("has no first axis to iterate over", hint=""):
                list(value)

    def test_float16_has_too_few_digits_for_a_learner(self, told):
        with told("float16", hint="C.cast"):
            C.sgd([C.Parameter(2, dtype=np.float16)], 0.1)

    def test_an_axis_that_is_not_there(self, told):
        x = C.input_variable((3, 4), name="x")
        with told("axis 2 does not exist", "2 static axes, 0 to 1", hint=""):
            C.reduce_sum(x, axis=2)


class TestTypes:
    def test_a_float64_input_and_float32_parameters(self, told):
        x = C.input_variable(3, np.float64, name="x")
        with told(
            "float32 and float64",
            "'x' (3,) per sample float64",
            "in layer Dense",
            hint="default_options",
        ):
            C.layers.Dense(2)(x)

    def test_bfloat16_has_hints_of_its_own(self, told):
        named = type("bfloat16", (), {})  # PyTorch's and that of ml_dtypes are no types of NumPy's
        for dtype in ("bfloat16", named):
            with told("does not compute with numbers of type bfloat16", hint="loss_scale"):
                C.input_variable(2, dtype=dtype)

    @pytest.mark.parametrize("dtype", [np.int32, bool, np.longdouble, complex, object, "U5"])
    def test_a_type_that_a_graph_does_not_compute_with(self, told, dtype):
        for make in (C.input_variable, C.sequence.input_variable, C.Parameter, C.random.normal):
            with told("does not compute with numbers of type", hint="float32"):
                make(2, dtype=dtype)
        with told("does not compute with numbers of type", hint="float32"):
            C.cast(C.input_variable(2), dtype)

    @pytest.mark.parametrize(
        "dtype, kind",
        [(int, np.float32), ("float", np.float32), (float, np.float64), (">f8", np.float64)],
    )
    def test_types_as_cntk_reads_them(self, dtype, kind):
        x = C.input_variable(3, dtype=dtype)
        assert x.dtype == C.Parameter(2, dtype=dtype).dtype == C.cast(1, dtype).dtype == kind
        assert (x * 2.5).eval({x: [[5, -7, 0]]}).tolist() == [[12.5, -17.5, 0]]

    @pytest.mark.parametrize("value", [None, 1j, "2", [1j, 2], {1}])
    def test_a_value_that_is_no_number(self, told, value):
        p = C.Parameter(2, init=5)
        with told("of parameter (2,) is a number or an array of numbers", hint=""):
            p.value = value
        assert p.value.tolist() == [5, 5]
        if value is not None:
            with told("of a parameter is a number", hint=""):
                C.parameter(2, init=value)
            with told("of a constant is a number", hint=""):
                C.constant(value)

    def test_a_ragged_list_as_a_value(self, told):
        with told("a ragged list", hint=""):
            C.constant([[1], [2, 3]])
        with told("a ragged list", hint=""):
            C.parameter(init=[[1], [2, 3]])

    def test_a_gradient_with_respect_to_a_number(self, told):
        x = C.input_variable(2)
        with told("wrt must be inputs", "got 5", hint=""):
            (x + 1).grad({x: [[1, 2]]}, wrt=5)

    def test_words(self, told):
        x = C.input_variable(2, name="x")
        with told("'x'", "needs numbers", hint="array of numbers"):
            (x + 1).eval({x: [["one", "two"]]})

    def test_an_operand_that_is_no_number(self, told):
        x = C.input_variable(2, name="x")
        with told("got str 'one'", hint=""):
            x + "one"


class TestFeeding:
    def test_a_missing_input(self, told):
        x, y = C.input_variable(2, name="x"), C.input_variable(2, name="y")
        f = x + y
        with told("'y' (2,)", "was given no value", hint="given were 'x'"):
            f.eval({x: [[1, 2]]})

    def test_no_inputs_at_all(self, told):
        x = C.input_variable(2, name="x")
        with told("'x'", "was given no value", hint="{x: array"):
            (x + 1).eval()

    def test_another_functions_input(self, told):
        x, y = C.input_variable(2, name="x"), C.input_variable(2, name="y")
        with told("'x'", "was given no value", hint="given were 'y'"):
            (x + 1).eval({y: [[1, 2]]})

    def test_a_name_that_no_input_has(self, told):
        x = C.input_variable(2, name="x")
        with told("no input named 'features'", "'x'", hint=""):
            (x + 1).eval({"features": [[1, 2]]})

    def test_one_value_for_two_inputs(self, told):
        x, y = C.input_variable(2, name="x"), C.input_variable(2, name="y")
        with told("has 2 inputs ('x' (2,) per sample, 'y' (2,) per sample)", hint="{x: …"):
            (x + y).eval([[1, 2]])

    def test_images_with_channels_last(self, told):
        x = C.input_variable((3, 8, 8), name="x")
        with told(
            "'x' (3, 8, 8)", "array of shape (5, 8, 8, 3)", hint="np.moveaxis(array, -1, -3)"
        ):
            (x + 1).eval({x: np.zeros((5, 8, 8, 3))})

    def test_sequences_for_samples(self, told):
        x = C.input_variable(3, name="x")
        with told("array of shape (5, 4, 3)", hint="a batch of shape (N, 3)"):
            (x + 1).eval({x: np.zeros((5, 4, 3))})
        features = C.input_variable(1024, name="features")
        with told("'features'", hint="sequence.input_variable((1024,))"):
            (features + 1).eval({features: np.ones((16, 5, 1024))})

    def test_images_without_the_axis_of_their_channel(self, told):
        """Seeds 002 and 004: quadrants, or channels as frames, as they lie in an array."""
        x = C.sequence.input_variable((1, 14, 14), name="x")
        with told("array of shape (5, 4, 14, 14)", hint="array.reshape((5, 4, 1, 14, 14))"):
            (x + 1).eval({x: np.zeros((5, 4, 14, 14))})

    def test_sequences_that_go_on_from_the_minibatch_before(self, told):
        x = C.sequence.input_variable(1, name="x")
        with told("go on from the minibatch before", hint="the first one too"):
            (x + 1).eval({x: ([[[1.0]], [[2.0]]], [True, False])})

    def test_numbers_of_samples_that_disagree(self, told):
        x, y = C.input_variable(1, name="x"), C.input_variable(1, name="y")
        with told("'x' (1,) per sample: 2", "'y' (1,) per sample: 3", hint=""):
            (x + y).eval({x: [1, 2], y: [1, 2, 3]})

    def test_nan_on_request(self, told):
        x = C.input_variable(2, name="x")
        values = [[1, 2], [np.nan, 3]]
        assert np.isnan((x + 1).eval({x: values})[1, 0])
        C.debugging.set_checked_mode(True)
        with told("'x'", "has NaN, first at (0,) of sample 1", hint="the source of these values"):
            (x + 1).eval({x: values})
        C.debugging.set_checked_mode(False)
        assert np.isnan((x + 1).eval({x: values})[1, 0])

    def test_nan_in_a_ragged_sequence(self, told):
        x = C.sequence.input_variable(2, name="x")
        values = [np.zeros((1, 2)), np.zeros((3, 2))]
        values[1][2, 1] = np.nan
        C.debugging.set_checked_mode(True)
        with told("first at (1,) of frame 2 of sequence 1", hint="NaN"):
            C.square(x).grad({x: values}, wrt=x)

    @pytest.mark.parametrize("engine", C.device.cpu_engines())
    def test_the_operation_that_makes_nan(self, told, engine, request):
        """A state goes to infinity in the third frame of a sequence, and 0 times it is NaN."""
        before = C.device.engine(C.cpu()).name
        request.addfinalizer(partial(C.device.use_cpu_engine, before))
        C.device.use_cpu_engine(engine)
        x = C.sequence.input_variable(2)
        big = C.layers.Recurrence(lambda h, v: h * 1e30 + v)(x)
        place = "first at (1,) of frame 2 of sequence 1"
        with told("element_times: the result is NaN", place, hint=""):
            y = 0 * big
            C.debugging.set_checked_mode(True)
            (y + 1).eval({x: [np.zeros((4, 2)), [[0, 1], [0, 1], [0, 1]]]})

    def test_a_parameter_that_is_nan(self, told):
        w = C.parameter(2, init=np.array([1, np.nan], np.float32), name="w")
        C.debugging.set_checked_mode(True)
        with told("parameter 'w' (2,) has NaN, first at (1,)", hint="NaN"):
            (w * C.input_variable(2)).eval([[1, 2]])

    def test_nan_in_a_gradient_is_placed_at_its_operation(self, told):
        x = C.input_variable(2, name="x")
        with told("the result is NaN", "at (0,) of sample 0", hint=""):
            y = C.atan(x * np.inf) * 2
            C.debugging.set_checked_mode(True)
            y.grad({x: [[2, 1]]}, wrt=x)


class TestFunctions:
    def test_too_many_arguments(self, told):
        x, y = C.input_variable(2), C.input_variable(2)
        with told("takes 1 argument", "got 2", hint=""):
            C.layers.Dense(3)(x, y)

    def test_an_argument_that_is_not_there(self, told):
        with told("no free argument 'y'", hint=""):
            C.layers.Dense(3)(y=C.input_variable(2))

    @pytest.mark.parametrize("shape", [42, (13, 1), ()])
    def test_an_argument_of_another_shape_than_is_declared(self, told, shape):
        """As CNTK, which also refuses other dynamic axes and types."""

        @C.Function
        def f(x: C.layers.typing.Tensor[13]):
            return x + 1

        with told(
            "argument x has shape (13,)", f"of shape {C.input_variable(shape).shape}", hint=""
        ):
            f(C.input_variable(shape))
        for fits in (C.constant(np.ones(13)), C.sequence.input_variable(13), C.placeholder()):
            assert f(fits).arguments == (() if isinstance(fits, C.Constant) else (fits,))
        assert f(C.input_variable(C.FreeDimension)).shape == (C.FreeDimension,)

    def test_a_placeholder_that_nothing_is_bound_to(self, told):
        f = C.exp(C.placeholder(name="open"))
        with told("'open'", "has no value", hint="replace_placeholders"):
            f.eval()

    def test_several_outputs_where_one_is_needed(self, told):
        x = C.input_variable(2)
        with told("2 outputs, but one value is expected", hint="f.outputs[0]"):
            C.combine(x + 1, x + 2) * 2

    def test_the_value_of_a_parameter_whose_shape_is_open(self, told):
        with told("no value yet", "inferred", hint="apply the model to its input"):
            np.sum(C.Parameter((C.InferredDimension, 2), name="W").value)

    def test_two_values_of_one_name(self, told):
        x = C.input_variable(2)
        f = C.exp(C.exp(x, name="e"), name="e")
        with told("2 values named 'e'", hint=""):
            f.find_by_name("e")


def test_a_layer_says_where_it_was_made_and_where_it_is_used():
    made = inspect.currentframe().f_lineno + 1
    layer = C.layers.LSTM(5)
    clip = C.sequence.input_variable((3, 4))
    used = inspect.currentframe().f_lineno + 2
    with pytest.raises(GraphError) as caught:
        C.layers.Recurrence(layer)(clip)
    assert f"at {__file__}, line {made}" in str(caught.value)
    assert f"used at {__file__}, line {used}" in str(caught.value)


def test_a_message_quotes_the_line():
    with pytest.raises(GraphError) as caught:
        C.reshape(C.input_variable(2), (3,))  # of the wrong total
    assert "C.reshape(C.input_variable(2), (3,))  # of the wrong total" in str(caught.value)


def test_a_mistake_in_a_step_function_names_the_line_in_it():
    x = C.sequence.input_variable(2)
    line = inspect.currentframe().f_lineno + 3

    def step(h, v):
        return h + C.reshape(v, (3,))

    with pytest.raises(GraphError, match="has 2 elements") as caught:
        C.layers.Recurrence(step)(x)
    assert f"{__file__}, line {line}, in step" in str(caught.value)


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda x, e: C.reduce_max(e), "without elements"),
        (lambda x, e: C.argmin(e, axis=1), "without elements"),
        (lambda x, e: C.splice(), "given none"),
        (lambda x, e: C.to_sequence_like(x, x), "needs a sequence"),
        (lambda x, e: C.to_sequence_like([[1], [2]], C.sequence.input_variable(1)), "no batch"),
        (lambda x, e: C.to_sequence([[1], [2]]), "no batch"),
        (lambda x, e: C.layers.Recurrence(x), "a Python function of variables"),
        (lambda x, e: C.layers.Fold(3), "a Python function of variables"),
    ],
)
def test_what_makes_no_sense(build, words):
    with pytest.raises(GraphError, match=words):
        build(C.input_variable((3, 4)), C.input_variable((3, 0)))


PROGRAM = """
import rgraph as C
x = C.sequence.input_variable((3, 8, 8), name="film")

def step(h, x):
    return h + C.times(x, C.Parameter((5, 4)))

def model():
    return C.layers.Recurrence(step)(x)
"""


class TestTracebacks:
    """Only the user's own frames are shown, the one of the mistake last."""

    def test_in_a_script(self, tmp_path):
        script = tmp_path / "model.py"
        script.write_text(textwrap.dedent(PROGRAM) + "model()\n")
        paths = os.pathsep.join([os.path.dirname(os.path.dirname(PACKAGE)), *sys.path])
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert done.returncode == 1
        frames = [line.split(", in ")[1] for line in done.stderr.splitlines() if "  File " in line]
        assert frames == ["<module>", "model"]
        assert "rgraph.graph.errors.GraphError: times" in done.stderr
        assert PACKAGE not in done.stderr

    def test_in_a_notebook(self):
        """IPython shows what an exception's `_render_traceback_` gives."""
        space = {}
        exec(compile(PROGRAM, "cell", "exec"), space)
        with pytest.raises(GraphError) as caught:
            space["model"]()
        shown = "\n".join(caught.value._render_traceback_())
        frames = [line for line in shown.splitlines() if line.startswith('  File "')]
        assert frames[-1] == '  File "cell", line 9, in model'
        assert PACKAGE not in shown
        assert shown.endswith(str(caught.value))


def test_the_line_that_saves_is_the_users(tmp_path):
    with pytest.raises(C.GraphError) as raised:
        C.exp(1).save(tmp_path)
    assert "test_errors.py" in str(raised.value) and "contextlib" not in str(raised.value)


@pytest.mark.parametrize("shape", [(3, -5), -2])
def test_a_size_below_zero(shape):
    with pytest.raises(C.GraphError, match="can't be negative"):
        C.input_variable(shape)


def test_inputs_without_names_are_told_by_their_types():
    f = C.times(C.input_variable(2), C.input_variable((2, 3)))
    with pytest.raises(C.GraphError, match=r"2 inputs \(\(2,\) per sample, \(2, 3\) per sample\)"):
        f.eval([1, 2])
