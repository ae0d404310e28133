"""The graphs that cuDNN is given: its frontend finds them valid. That needs no GPU."""

import itertools

import pytest

from rgraph.engines.cuda.cudnn import TYPES, Geometry, Unsupported, graph
from rgraph.engines.strides import channels_last

cudnn = pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")

GEOMETRIES = [
    # operand, kernel, result, strides, padding, dilation
    Geometry((7, 3, 9), (4, 3, 3), (7, 4, 9), (1,), ((1, 1),), (1,)),
    Geometry((7, 3, 9), (4, 3, 2), (7, 4, 5), (2,), ((0, 1),), (1,)),
    Geometry((2, 16, 8, 8), (32, 16, 3, 3), (2, 32, 8, 8), (1, 1), ((1, 1),) * 2, (1, 1)),
    Geometry((2, 4, 9, 8), (6, 2, 3, 3), (2, 6, 9, 8), (1, 1), ((2, 2),) * 2, (2, 2)),  # groups
    Geometry((2, 1, 9, 8), (16, 1, 2, 3), (2, 16, 5, 8), (2, 1), ((0, 1), (1, 1)), (1, 1)),
    Geometry((3, 2, 5, 6, 4), (3, 2, 3, 3, 3), (3, 3, 5, 6, 4), (1,) * 3, ((1, 1),) * 3, (1,) * 3),
]
TAIL = (("plus", (0, 1)), ("sigmoid", (3,)), ("element_times", (4, 2)))


@pytest.mark.parametrize("what", ["forward", "data", "weights"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("at", GEOMETRIES, ids=str)
def test_graphs_are_valid(what, kind, at):
    _, tensors = graph(cudnn, what, at, kind)
    plane = at.in_planes()
    target = {"forward": plane.result, "data": plane.operand, "weights": plane.kernel}[what]
    assert tuple(tensors[-1].get_dim()) == target
    assert tuple(tensors[-1].get_stride()) == channels_last(target)
    assert {t.get_data_type().name for t in tensors} == {TYPES[kind]}
    assert len({t.get_uid() for t in tensors}) == 3


@pytest.mark.parametrize("what, at", list(itertools.product(["forward", "data"], GEOMETRIES)))
def test_tails_are_valid(what, at):
    shape = at.result if what == "forward" else at.operand
    others = ((1, shape[1], *(1 for _ in shape[2:])), shape)
    for kind in ("float32", "bfloat16"):
        _, tensors = graph(cudnn, what, at, kind, tail=TAIL, others=others)
        assert len(tensors) == 5
        low = [t.get_data_type() == cudnn.data_type.BFLOAT16 for t in tensors]
        assert low == [kind == "bfloat16"] * 2 + [False] * 3
    assert tensors[-1].get_dim()[:2] == list(shape[:2])


def test_the_frontend_infers_the_results_that_we_expect():
    """Left to itself it gives the result that the geometry names: padding on one side included."""
    at = GEOMETRIES[4]
    made = cudnn.pygraph(
        io_data_type=cudnn.data_type.FLOAT,
        intermediate_data_type=cudnn.data_type.FLOAT,
        compute_data_type=cudnn.data_type.FLOAT,
    )
    x, w = (
        made.tensor(name=n, dim=list(s), stride=list(channels_last(s)))
        for n, s in (("x", at.operand), ("w", at.kernel))
    )
    y = made.conv_fprop(
        image=x, weight=w, pre_padding=[0, 1], post_padding=[1, 1], stride=[2, 1], dilation=[1, 1]
    )
    y.set_output(True)
    made.validate()
    assert tuple(y.get_dim()) == at.result


def test_a_tail_that_cudnn_has_not():
    with pytest.raises(Unsupported, match="no atanh"):
        graph(cudnn, "forward", GEOMETRIES[2], "float32", tail=(("atanh", (0,)),))
