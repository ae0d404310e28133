import numpy as np
import pytest

import rgraph as C
from rgraph.layers.typing import (
    ParameterTensor,
    Sequence,
    SequenceOver,
    Signature,
    SparseTensor,
    Tensor,
    tensor,
)

TIME = C.Axis("time")


@pytest.mark.parametrize(
    "kind, text, axes",
    [
        (Tensor[13, 42], "Tensor[13,42]", 1),
        (Tensor[()], "Tensor[()]", 1),
        (Tensor[np.float64, 3], "Tensor[np.float64,3]", 1),
        (SparseTensor[9000], "SparseTensor[9000]", 1),
        (ParameterTensor[3, 2], "ParameterTensor[3,2]", 0),
        (Sequence[Tensor[3]], "Sequence[Tensor[3]]", 2),
        (Sequence[SparseTensor[3]], "Sequence[SparseTensor[3]]", 2),
        (SequenceOver[TIME][Tensor[3]], "SequenceOver[time][Tensor[3]]", 2),
        (tensor, "tensor", 1),
        (Sequence[tensor], "Sequence[tensor]", 2),
    ],
)
def test_types_print_as_they_are_written(kind, text, axes):
    assert str(kind) == repr(kind) == text
    assert len(kind.dynamic_axes) == axes


def test_a_type_makes_an_input():
    x = C.input_variable(**SequenceOver[TIME][Tensor[np.float64, 3, 2]], name="x")
    assert (x.shape, x.dtype, x.name) == ((3, 2), np.float64, "x")
    assert x.dynamic_axes[1] == TIME


def test_what_is_no_type():
    with pytest.raises(TypeError, match=r"write input_variable\(\*\*Tensor\[32\]\)"):
        Tensor[32]()
    with pytest.raises(TypeError, match="sequences of sequences"):
        Sequence[Sequence[Tensor[32]]]
    with pytest.raises(C.GraphError, match=r"Tensor\[32\]"):
        C.sigmoid(Tensor[32])


def signed(decorated):
    assert decorated.shape == (3, 2)
    data = np.arange(6.0).reshape(1, 3, 2)
    np.testing.assert_array_equal(decorated(data), data**2)


def test_three_ways_to_say_a_functions_types():
    @C.Function
    def annotated(x: Tensor[3, 2]):
        return x * x

    @C.Function
    @Signature(Tensor[3, 2])
    def decorated(x):
        return x * x

    @C.Function.with_signature(x=Tensor[3, 2])
    def both(x):
        return x * x

    for f in (annotated, decorated, both):
        signed(f)
    assert annotated(C.constant(np.full((3, 2), 3.0))).eval().tolist() == [[9, 9]] * 3


def test_annotations_that_are_no_types_mean_nothing_here():
    @C.Function
    def f(x: "something else", y: int = 3):  # noqa: F722
        return x * y

    assert f(C.constant([2.0])).eval() == 6


def test_types_must_be_for_the_arguments():
    with pytest.raises(TypeError, match="takes the arguments x, y"):
        Signature(Tensor[3])(lambda x, y: x)
    with pytest.raises(ValueError, match="already has annotations"):

        @Signature(Tensor[3])
        def f(x: Tensor[3]):
            return x


@pytest.mark.parametrize("kind", [3, (3,), Tensor[3], C.input_variable(3)])
def test_update_signature(kind):
    f = C.layers.Dense(2)
    f.update_signature(kind)
    assert f.W.shape == (3, 2)
    assert f(np.ones((1, 3))).shape == (1, 2)


def test_update_signature_of_some_arguments():
    @C.Function
    def f(x, y):
        return x + y

    f.update_signature(y=Sequence[Tensor[3]])
    f.update_signature(None)
    assert len(f.placeholders) == 1
    f.update_signature(Sequence[Tensor[3]])
    assert f.shape == (3,)


def test_a_type_that_does_not_fit_leaves_the_function_open():
    f = C.layers.Convolution((3, 3), 1)
    with pytest.raises(C.GraphError, match="needs an operand with 3 axes"):
        f.update_signature(5)
    f.update_signature((2, 5, 5))
    assert f.shape == (1, 3, 3)
