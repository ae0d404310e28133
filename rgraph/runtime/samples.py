"""User data for an input, as arrays, by CNTK's rules.

A list has one item for each sample or sequence. A sequence is an array (or a list) of frames, or a
single frame. An array is interpreted by its number of axes: as one frame, one sequence, or a batch
of sequences of equal length.
"""

from __future__ import annotations

import numpy as np

from ..graph import FREE, GraphError, Node
from ..graph.node import describe
from ..graph.types import Array, Data
from .arrays import as_array


def samples_of(node: Node, data: Data) -> Array | list[Array]:
    """The value for `node` as one array, an array with a batch axis, or a list of sequences.

    Args:
        data: an array, a number, or lists of these.
    """
    rank, axes = len(node.shape or ()), node.axes or ()
    if not axes:
        return _array(node, data, 0)
    if len(axes) == 1:
        array = _array(node, data, 2)
        if array.ndim == rank + 2:  # as CNTK gives batches: sequences of one frame
            if array.shape[1] != 1:
                raise _misfit(node, array)
            array = array[:, 0]
        return array[None] if array.ndim == rank else array
    if isinstance(data, list):
        _refuse_numbers(node, data)
        return [frames_of(_array(node, item, 1), node.shape or ()) for item in data]
    array = _array(node, data, 2)
    return list(array) if array.ndim == rank + 2 else [frames_of(array, node.shape or ())]


def sequences_of(node: Node, sequences: list[Data]) -> Array | list[Array]:
    """Like `samples_of`, for data known to be sequences: each item's first axis is time."""
    ranks = {len(node.shape or ()) + 1} | ({1} if node.shape == (1,) else set())
    for item in sequences:
        shape = np.shape(item)
        if len(shape) not in ranks and shape != (0,):
            raise GraphError(
                f"input {describe(node)} was given a list whose items are sequences of values of "
                f"shape {shape[1:]}\n  made at {node.origin}",
                hint="C.Value.create(input, list) takes the items for what the input needs; for a "
                "stream of a minibatch source, (list, input) does",
            )
    return samples_of(node, sequences)


def frames_of(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One sequence of frames of this shape; a single frame is a sequence of length one."""
    array = _with_last_axis(array, shape)
    return array if array.ndim > len(shape) else array[None]


def _with_last_axis(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers as vectors of one element, if that is needed."""
    return array[..., None] if shape == (1,) and array.shape[-1:] != (1,) else array


def _array(node: Node, data: Data, most: int) -> np.ndarray:
    """`data` as an array of the input's type, with up to `most` axes before the sample's."""
    try:
        array = as_array(data)
    except GraphError:
        raise
    except ValueError:  # samples of different shapes
        array = np.empty((), object)
    shape = node.shape or ()
    if array.shape == (0,) and most:  # none, whatever their shape
        array = np.zeros((0, *(max(n, 1) for n in shape)))
    if array.dtype.kind not in "biuf":
        raise GraphError(
            f"input {describe(node)} was given values of type {array.dtype}, it needs numbers\n"
            f"  made at {node.origin}",
            hint="pass an array of numbers; samples of different shapes can't be one batch",
        )
    if array.dtype is not node.dtype:
        if array.dtype != node.dtype:
            with np.errstate(over="ignore"):  # infinities are values; a warning names no line
                array = array.astype(node.dtype)
        elif isinstance(array, np.ndarray):
            array = array.view(node.dtype)  # C knows the type itself, not one that equals it
    array = _with_last_axis(array, shape)
    lead = array.ndim - len(shape)
    own = array.shape[lead:]
    if not 0 <= lead <= most or own != shape and not _matches(own, shape):
        raise _misfit(node, array)
    return array


def _refuse_numbers(node: Node, items: list[Data]) -> None:
    if any(np.ndim(item) == 0 for item in items):
        raise GraphError(
            f"input {describe(node)} was given a list of numbers, which can be one sequence or "
            f"many\n  made at {node.origin}",
            hint="a list has an item for each sequence: [[1, 2, 3]] is one of three frames, "
            "[[1], [2], [3]] are three of one",
        )


def _misfit(node: Node, array: np.ndarray) -> GraphError:
    return GraphError(
        f"input {describe(node)} was given an array of shape {array.shape}\n"
        f"  made at {node.origin}",
        hint=_shape_hint(array.shape, node.shape or (), len(node.axes or ())),
    )


def _matches(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return all(n == m or n < 0 for m, n in zip(own, shape, strict=True))


def _shape_hint(got: tuple[int, ...], shape: tuple[int, ...], most: int) -> str:
    rank = len(shape)
    if rank > 1 and got[-rank:] == (*shape[1:], shape[0]):
        return "channels come first here: np.moveaxis(array, -1, -%d)" % rank
    if rank > 1 and shape[0] == 1 and got[1 - rank :] == shape[1:] and len(got) < rank + most:
        whole = (*got[: 1 - rank], *shape)
        return f"the axis of the one channel is missing: array.reshape({whole})"
    wanted = {
        0: f"an array of shape {shape}",
        1: f"samples of shape {shape}, in a batch of shape {('N', *shape)}",
        2: f"a list of sequences of shape {('frames', *shape)} each",
    }[most]
    hint = "it takes " + wanted.replace("'", "").replace(str(FREE), "free")
    if most == 1 and len(got) == rank + 2:
        hint += f"; for sequences declare it with sequence.input_variable({shape})"
    return hint
