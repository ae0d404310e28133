"""Describes the plan of a function, with its costs."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Layout, Node, Stored
from ..graph.free import elements
from ..plan import Call, Loop, Plan
from ..runtime.windowed import WindowedPlan
from ..runtime.windows import of_rows


def _size(node: Node) -> int:
    return elements(node.shape or ())


def shown(node: Node) -> str:
    return "×".join("free" if n < 0 else str(n) for n in node.shape or ()) or "scalar"


def operations(node: Node) -> int:
    """The floating-point operations of a node per row (or in all, if it has no rows)."""
    if node.op is None:
        return 0
    if node.op.work is not None:
        return node.op.work(node)
    return _size(node) if node.op.pointwise else 0


def traffic(node: Node) -> int:
    """The bytes that a node reads and writes per row."""
    item = node.dtype.itemsize if node.dtype else 4
    return item * (_size(node) + sum(map(_size, node.inputs)))


def title(node: Node) -> str:
    """The operations of a call and the parameters that it reads."""
    read = [i.name or i.kind for i in node.inputs if isinstance(i, Stored)]
    return node.title + (f" ({', '.join(read)})" if read else "")


def place(node: Node) -> str:
    """The layers that contain a node, innermost first; "" if there are none."""
    return " of ".join(reversed(node.origin.layers))


def explain(plan: Plan) -> str:
    """The plan as a table: calls that run once over all rows, and calls in each step of a loop.

    Operations and bytes are per row: one sample, or one frame of a sequence. The column "by" is the
    provider of the kernel, which may leave small work to another. A line that begins with "and" is
    computed in one pass with the line above. The steps of a loop run in C if all its calls can; for
    a minibatch with unsuitable arrays they run in Python.
    """
    lines = []
    for step in plan.steps:
        if not isinstance(step, Loop):
            lines += [_row("and" if n else "once", call) for n, call in enumerate(step.calls)]
            continue
        way = "forward" if step.forward else "backward"
        kept = len(step.whole)
        lines.append(
            f"loop {way} along {step.axis.name}: {len(step.calls)} calls a step, "
            f"{kept} of its values kept for all frames"
            + (", steps run in C" if step.compiled else "")
        )
        lines += [_row("  step", call) for call in step.calls]
    nodes = [n for step in plan.steps for n in step.nodes]
    total = sum(map(operations, nodes))
    head = f"{'':8}{'result':>18}{'MFLOP':>10}{'MB':>9}  {'by':8}what\n"
    lines += _by_layer(nodes)
    lines.append(f"in all {total / 1e6:.3g} MFLOP a row, on the {plan.engine.name} engine")
    if plan.hindrance:
        lines.append(f"no run of it is one CUDA graph: {plan.hindrance}")
    return head + "\n".join(lines)


def explain_windows(plan: WindowedPlan, frames: int) -> str:
    """The memory of a run for one sequence, whole and in increasing numbers of windows."""
    layout = Layout([frames])
    lines = [
        f"a sequence of {frames} frames: results on the way take",
        f"{_mb(plan.bytes(layout, [0]))}  whole",
    ]
    count = 2
    while count <= frames:
        begins = of_rows(layout, -(-frames // count))
        borders = _mb(plan.border_total(begins, layout)).strip()
        lines.append(
            f"{_mb(plan.bytes(layout, begins))}  in {len(begins)} windows of "
            f"{-(-frames // count)} frames, {borders} of it for states at their borders"
        )
        count *= 2
    return "\n".join(lines)


def _mb(number: int) -> str:
    return f"{number / 1e6:10.3f} MB"


def _by_layer(nodes: Sequence[Node]) -> list[str]:
    """The costs of each layer without its inner layers; nothing if there are no layers."""
    work: dict[str, int] = {}
    for node in nodes:
        if n := operations(node):
            work[place(node)] = work.get(place(node), 0) + n
    if not any(work):
        return []
    return [f"{n / 1e6:36.3g}  {layer or 'outside of layers'}" for layer, n in work.items()]


def _row(when: str, call: Call) -> str:
    node = call.node
    rows = shown(node)
    if node.axes:
        rows = "rows×" + rows
    work, moved = operations(node) / 1e6, traffic(node) / 1e6
    layer = f", in {place(node)}" if place(node) else ""
    return f"{when:8}{rows:>18}{work:10.3g}{moved:9.3g}  {call.provider:8}{title(node)}{layer}"
