"""ONNX's loops over frames, and frames beside sequences: here they are delays."""

from __future__ import annotations

from collections.abc import Sequence

from .. import ops
from ..graph import Node, Placeholder, bind
from ..graph.inference import complete
from ..graph.node import resolve
from .onnx_import import At, Frames, Known, Value

sequence = ops.sequence


def beside(at: At) -> Known:
    """Frames of initial states before or behind a sequence: a delay, once they are cut off."""
    before: list[Node] = []
    after: list[Node] = []
    whole: Node | None = None
    for v in at.values:
        if isinstance(v, Frames):
            (after if whole is not None else before).extend(v.before)
        elif isinstance(v, Value) and v.lead == 2 and whole is None:
            whole = v.node
        else:
            raise at.refused("joins sequences")
    return Frames(before, whole, after) if whole is not None else Frames(before, before[0], [])


def delayed(at: At, x: Frames, begin: int, axes: Sequence[int]) -> Known:
    if list(axes) != [0] or x.before and x.after:
        raise at.refused("of frames that stand beside a sequence")
    if x.before and begin == 0:
        return Value(sequence.past_value(x.sequence, x.before[0], len(x.before)), 2)
    if x.after and begin == len(x.after):
        return Value(sequence.future_value(x.sequence, x.after[0], len(x.after)), 2)
    raise at.refused("of frames that stand beside a sequence")


def scan(at: At) -> Sequence[Known]:
    """A loop over frames: each state is a delay of what it is after the step."""
    body, count = at.get("body"), int(at.get("num_scan_inputs"))
    directions = set(at.get("scan_input_directions", [0]))
    back = set(at.get("scan_output_directions", [])) or directions
    axes = {*at.get("scan_input_axes", []), *at.get("scan_output_axes", [])}
    if len(directions | back) != 1 or axes - {0} or at.version < 9:
        raise at.refused("in several directions, or along another axis than the first")
    forward = directions == {0}
    held = len(at.values) - count
    frames = [at.value(i) for i in range(held, held + count)]
    if not frames or any(v.lead != 2 for v in frames):
        raise at.refused("over what are no sequences")
    known: dict[str, Known] = dict(at.model.known)
    for tensor in body.initializer:
        known[tensor.name] = at.model._array(tensor)
    later, delay = [], sequence.past_value if forward else sequence.future_value
    axes_of_frames = frames[0].node.axes
    for i, state in enumerate(body.input[:held]):
        initial = at.value(i)
        placeholder = Placeholder(
            initial.shape, axes_of_frames, initial.node.dtype, name=state.name
        )
        later.append(placeholder)
        known[state.name] = Value(delay(placeholder, initial.node), 1)
    for frame, info in zip(frames, body.input[held:], strict=True):
        known[info.name] = Value(frame.node, 1)
    with at.model.inside(known):
        at.model.run(body.node, known)
    after = []
    for output in body.output:
        found = known[output.name]
        if not isinstance(found, Value):
            raise at.refused("whose step gives what is no frame")
        after.append(found.node)
    bind(dict(zip(later, after[:held], strict=True)))
    complete(after)
    after = [resolve(n) for n in after]
    end = sequence.last if forward else sequence.first
    return [*(Value(end(n), 1) for n in after[:held]), *(Value(n, 2) for n in after[held:])]
