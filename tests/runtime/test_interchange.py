"""Arrays of other libraries go in, and results go out to them, without copies (DLPack, NumPy)."""

import re
from pathlib import Path

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError

torch = pytest.importorskip("torch")


class OnlyDLPack:
    """An array of a library that has nothing but DLPack."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


FORMS = {"torch": lambda t: t, "DLPack": OnlyDLPack}
TENSOR = torch.tensor([[1.0, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("list_of", [False, True], ids=["one", "list"])
def test_tensors_are_fed(form, list_of):
    given = [form(row) for row in TENSOR] if list_of else form(TENSOR)
    x = C.input_variable(2)
    np.testing.assert_array_equal((x * 2).eval({x: given}), TENSOR.numpy() * 2)
    np.testing.assert_array_equal(np.array(C.asvalue(x, given)).reshape(3, 2), TENSOR)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_tensors_are_sequences(form):
    s = C.sequence.input_variable(2)
    long, short = C.sequence.past_value(s).eval({s: [form(TENSOR), form(TENSOR[:1])]})
    np.testing.assert_array_equal(long, [[0, 0], [1, 2], [3, 4]])
    np.testing.assert_array_equal(short, [[0, 0]])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_tensors_are_values_of_parameters_and_constants(form):
    p = C.Parameter((3, 2), init=0)
    p.value = form(TENSOR)
    made = [p, C.parameter(init=form(TENSOR)), C.Constant(form(TENSOR))]
    for leaf in made:
        np.testing.assert_array_equal(leaf.value, TENSOR.numpy())
    assert made[1].dtype == np.float32


def test_a_parameter_does_not_follow_the_tensor_it_was_set_to():
    tensor = TENSOR.clone()
    p, made, c = C.Parameter((3, 2)), C.parameter(init=tensor), C.Constant(tensor)
    p.value = tensor
    tensor.zero_()
    for leaf in (p, made, c):
        np.testing.assert_array_equal(leaf.value, TENSOR.numpy())


def test_a_value_of_a_tensor_is_its_memory():
    value = C.Value(OnlyDLPack(TENSOR))
    assert value.content.ctypes.data == TENSOR.data_ptr()
    assert C.NDArrayView.from_dense(TENSOR, borrow=True).array.ctypes.data == TENSOR.data_ptr()
    assert C.NDArrayView.from_dense(TENSOR).array.ctypes.data != TENSOR.data_ptr()


@pytest.mark.parametrize(
    "tensor, why",
    [
        (torch.ones(2, 2, requires_grad=True), "grad"),
        (torch.ones(2, 2).bfloat16(), "BFloat16"),
        (torch.ones(2, 2).to_sparse(), "Sparse"),
        (torch.ones(2, 2, device="meta"), "meta"),
    ],
    ids=["gradient", "bfloat16", "sparse", "meta"],
)
def test_what_gives_no_array_is_refused(tensor, why):
    x, p = C.input_variable(2), C.Parameter((2, 2), init=0)
    for use in (
        lambda: x.eval({x: tensor}),
        lambda: C.parameter(init=tensor),
        lambda: setattr(p, "value", tensor),
    ):
        with pytest.raises(GraphError, match=f"(?s){why}.*hint"):
            use()
    np.testing.assert_array_equal(p.value, np.zeros((2, 2)))


def test_results_go_out_without_a_copy():
    x = C.input_variable(2)
    value = (x * 2).eval({x: TENSOR}, device=C.cpu(), as_numpy=False)
    tensor = torch.from_dlpack(value)
    assert torch.equal(tensor, TENSOR * 2)
    assert tensor.data_ptr() == value.content.ctypes.data == np.asarray(value).ctypes.data
    again = (x * 2).eval({x: TENSOR + 1})  # a later run leaves it alone
    assert torch.equal(tensor, TENSOR * 2)
    assert torch.equal(torch.from_numpy(again), TENSOR * 2 + 2)


def test_a_single_sequence_goes_out_without_a_copy():
    s = C.sequence.input_variable(2)
    value = (s + 1).eval({s: [TENSOR.numpy()]}, device=C.cpu(), as_numpy=False)
    tensor = torch.from_dlpack(value)
    assert torch.equal(tensor, TENSOR[None] + 1)
    assert tensor.data_ptr() == value.content[0].ctypes.data


def test_several_sequences_are_padded_in_a_copy():
    s = C.sequence.input_variable(2)
    value = s.eval({s: [TENSOR.numpy(), TENSOR.numpy()[:1]]}, device=C.cpu(), as_numpy=False)
    assert torch.equal(torch.from_dlpack(value)[1], torch.tensor([[1.0, 2], [0, 0], [0, 0]]))
    with pytest.raises(ValueError, match="copy"):
        np.array(value, copy=False)
    with pytest.raises(BufferError, match="copy"):
        np.from_dlpack(value, copy=False)


@pytest.mark.parametrize(
    "wrap", [C.Value, lambda a: C.NDArrayView.from_dense(a, borrow=True)], ids=["Value", "view"]
)
def test_what_is_read_only_is_not_written_through(wrap):
    """PyTorch takes memory that DLPack calls read-only for its own, and would write to it."""
    array = TENSOR.numpy().copy()
    array.flags.writeable = False
    torch.from_dlpack(wrap(array)).zero_()
    np.testing.assert_array_equal(array, TENSOR.numpy())
    assert not np.from_dlpack(wrap(array), copy=False).flags.writeable
    assert np.asarray(wrap(array)) is array


def test_a_stream_goes_on_whatever_is_written_to_its_results():
    s = C.sequence.input_variable(2)
    live = C.layers.Recurrence(lambda h, x: 0.5 * h + x)(s).stream()
    for expected in (1, 1.5, 1.75):
        frame = live([1, 1])
        np.testing.assert_array_equal(frame, [expected] * 2)
        torch.from_dlpack(frame).zero_()


@pytest.mark.parametrize(
    "leaf", [C.Parameter((2, 2), init=3), C.Constant(3, (2, 2)), C.State((2, 2), 3)], ids=repr
)
def test_leaves_give_out_copies(leaf):
    for copy in (torch.from_dlpack(leaf), np.asarray(leaf), np.from_dlpack(leaf)):
        copy[:] = 0
    np.testing.assert_array_equal(leaf.value, [[3, 3], [3, 3]])
    with pytest.raises(ValueError, match="copy"):
        np.array(leaf, copy=False)
    with pytest.raises(BufferError, match="copy"):
        np.from_dlpack(leaf, copy=False)


def test_types_that_are_asked_for():
    value = C.Value(TENSOR.numpy())
    assert np.asarray(value, np.float64).dtype == np.float64
    own = np.array(value, copy=True)
    own[:] = 0
    assert value.content[0, 0] == 1
    with pytest.raises(ValueError, match="copy"):
        np.array(value, np.float64, copy=False)


@pytest.mark.cpu
def test_the_programs_of_the_page_run():
    page = Path(C.__file__).parents[1] / "docs" / "interchange.md"
    names = {"np": np, "C": C}
    for code in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        exec(code, names)
    assert names["y"].shape == (3, 2)
