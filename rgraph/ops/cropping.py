"""Cropping images to the size of others, at a given offset or at one computed from the graph."""

from __future__ import annotations

import math

import numpy as np

from ..graph import GraphError, Node, apply, order
from ..graph.node import Shape
from ..graph.types import OperandLike
from .records import as_node, define, operation
from .slicing import PLACE


def _cuts(like: Shape, at: Shape) -> tuple[tuple[int, int, int, int], ...]:
    return tuple((i - 2, o, o + n, 1) for i, (o, n) in enumerate(zip(at, like[-2:], strict=True)))


def _cropped(shape: Shape, like: Shape, *, at: Shape) -> Shape:
    if min(len(shape), len(like)) < 2:
        raise GraphError(f"images have two last axes to crop, got shapes {shape} and {like}")
    for n, offset, m in zip(shape[-2:], at, like[-2:], strict=True):
        if offset < 0 or offset + m > n:
            raise GraphError(f"{like[-2:]} elements from {at} on do not lie within {shape[-2:]}")
    return (*shape[:-2], *like[-2:])


CROP = define(
    "crop",
    title="crop",
    shape=_cropped,
    axes=lambda axes, **_: axes[0],
    align=None,
    dtype=lambda dtypes, **_: dtypes[0],
    kernel=lambda run, x, like, where: x[where],
    arguments=lambda node: {
        "where": (
            Ellipsis,
            *(slice(a, b) for _, a, b, _ in _cuts(node.shape or (), node.attrs["at"])),
        )
    },
    gradient=lambda node, g: [
        apply(
            PLACE,
            g,
            cuts=_cuts(node.shape or (), node.attrs["at"]),
            shape=node.inputs[0].shape,
        ),
        None,
    ],
    operands=("operand", "like"),
    cases=(lambda rng: ([rng.normal(size=(2, 1, 4, 5)), np.zeros((2, 1, 2, 3))], {"at": (1, 2)}),),
)


@operation
def crop_manual(
    node_input: OperandLike, node_referent: OperandLike, offset_x: int, offset_y: int
) -> Node:
    """Crops images to the size of others, starting at (`offset_x`, `offset_y`).

    Args:
        node_input: shape (…, height, width).
        node_referent: only the sizes of its last two axes are used.

    >>> C.crop_manual([[1, 2, 3], [4, 5, 6]], [[0, 0]], 1, 0).eval()
    array([[2., 3.]], dtype=float32)
    """
    return apply(
        CROP, as_node(node_input), as_node(node_referent), at=(int(offset_y), int(offset_x))
    )


@operation
def crop_automatic(node_input: OperandLike, node_referent: OperandLike) -> Node:
    """Crops images to the part that corresponds to other images computed from the same source.

    Args:
        node_input: shape (…, height, width), computed by convolutions, pooling and so on.
        node_referent: computed in the same way, or the source of `node_input` itself.

    The offset follows from the strides, kernels and padding on both paths from their common source.

    >>> x = C.input_variable((1, 6, 6))
    >>> large = C.pad(x, [(0, 0), (1, 1), (1, 1)])
    >>> C.crop_automatic(large, x).shape
    (1, 6, 6)
    """
    x, like = as_node(node_input), as_node(node_referent)
    below = dict.fromkeys(order([like]))
    common = [n for n in reversed(order([x])) if n in below]
    if not common:
        raise GraphError(
            "crop_automatic needs two values computed from the same images", hint="use crop_manual"
        )
    return _crop_between(x, like, common[0], common[0])


@operation
def crop_automatic_with_ancestors(
    node_input: OperandLike,
    node_referent: OperandLike,
    ancestor_input: OperandLike,
    ancestor_referent: OperandLike,
) -> Node:
    """Like `crop_automatic`, for values computed by two separate networks.

    Args:
        ancestor_input: the value that `node_input` is computed from.
        ancestor_referent: the value that `node_referent` is computed from; its pixels correspond to
            those of `ancestor_input`.

    >>> x, y = C.input_variable((1, 6, 6)), C.input_variable((1, 6, 6))
    >>> large = C.pad(x, [(0, 0), (1, 1), (1, 1)])
    >>> C.crop_automatic_with_ancestors(large, y, x, y).shape
    (1, 6, 6)
    """
    return _crop_between(
        *map(as_node, (node_input, node_referent, ancestor_input, ancestor_referent))
    )


def _crop_between(x: Node, like: Node, from_x: Node, from_like: Node) -> Node:
    own, other = _placement(x, from_x), _placement(like, from_like)
    at = []
    for (scale, shift), (others_scale, others_shift) in zip(own, other, strict=True):
        if scale != others_scale:
            raise GraphError(
                f"can't crop: pixels are {scale} and {others_scale} apart, they do not correspond"
            )
        at.append(math.floor((others_shift - shift) / scale + 1e-6))
    return apply(CROP, x, like, at=tuple(at))


def _placement(node: Node, ancestor: Node) -> list[tuple[float, float]]:
    """(scale, shift) for each image axis: pixel i is at scale * i + shift in `ancestor`."""
    if node is ancestor:
        return [(1.0, 0.0)] * 2
    way = next((i for i in node.inputs if ancestor in order([i])), None)
    if way is None:
        raise GraphError("the image is not computed from the given ancestor")
    steps = _steps(node)
    return [
        (scale * step, shift + scale * start)
        for (scale, shift), (step, start) in zip(_placement(way, ancestor), steps, strict=True)
    ]


def _steps(node: Node) -> list[tuple[float, float]]:
    """Same as `_placement`, for one operation: from its result to its operand."""
    assert node.op is not None
    attrs = node.op.arguments(node)
    if node.op.name == "pad":
        return [(1.0, float(-low)) for low, _ in attrs["pattern"][-2:]]
    if "strides" not in attrs:
        return [(1.0, 0.0)] * 2
    strides, padding = attrs["strides"][-2:], [low for low, _ in attrs["padding"][-2:]]
    window = attrs.get("window") or (node.inputs[0].shape or ())[2:]
    middle = [(k - 1) / 2 - low for k, low in zip(window[-2:], padding, strict=True)]
    if node.op.name == "convolution_transpose":
        return [(1 / s, -m / s) for s, m in zip(strides, middle, strict=True)]
    return [(float(s), m) for s, m in zip(strides, middle, strict=True)]
