"""A function as a picture in SVG, which any browser shows.

Boxes are operations and layers, with the inputs at the top. Operations that run in each step of a
recurrence are in a frame; the others run once, over all frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from ..graph import Constant, Input, Node, Placeholder, Stored
from ..graph.node import resolve
from ..operands.search import is_block, layer, operands
from .layout import Key, Layout, Point, placed

MOST = 400  # the largest number of boxes in a notebook
_LETTER, _LINE, _EDGE = 6.7, 15.0, 9.0
_PORT = "port"
_COLOURS = {
    "input": ("#e3f2e1", "#4c8a46"), "layer": ("#e1ecf7", "#3f6f9f"),
    "operation": ("#f4f4f4", "#7a7a7a"), "delay": ("#fbeed5", "#b8862b"),
}  # fmt: skip


class Box(NamedTuple):
    """The box of a node.

    Attributes:
        lines: its text: the operation, its name, its parameters.
        kind: a key of `_COLOURS`.
        shape: the shape of its value, as text.
        reads: the nodes with an edge to this box.
        back: for a delay, the node that it delays.
    """

    lines: list[str]
    kind: str
    shape: str
    reads: list[Node]
    back: Node | None


def picture(outputs: Sequence[Node], depth: int = 0, most: int | None = MOST) -> str | None:
    """The graph of `outputs` as SVG; None if it has more than `most` boxes.

    Args:
        depth: the number of levels of nested layers to open. Recurrences are always opened.
    """
    boxes, ends = _boxes(outputs, depth, most)
    if most is not None and len(boxes) > most:
        return None
    return _Drawing(boxes, ends).svg()


def _loops_inside(node: Node) -> bool:
    """Whether a layer is a recurrence."""
    body, *arguments = node.inputs
    pending, seen = [body], {resolve(a) for a in arguments}
    while pending:
        one = resolve(pending.pop())
        if one in seen:
            continue
        seen.add(one)
        if one.is_delay:
            return True
        pending += one.inputs
    return False


def _boxes(
    outputs: Sequence[Node], depth: int, most: int | None
) -> tuple[dict[Node, Box], list[Node]]:
    boxes: dict[Node, Box] = {}
    opened: dict[Node, bool] = {}
    layers: dict[object, Node] = {}  # one output of each layer represents all

    def shown(node: Node, left: int) -> tuple[Node, int]:
        """The node that represents `node`: for an opened layer, its result."""
        node = resolve(node)
        while is_block(node):
            if node not in opened:
                opened[node] = left > 0 or _loops_inside(node)
            if not opened[node]:
                return layers.setdefault(layer(node), node), left
            node, left = resolve(node.inputs[0]), left - 1
        return node, left

    pending = [shown(o, depth) for o in outputs]
    ends = [n for n, _ in pending]
    while pending and (most is None or len(boxes) <= most):
        node, left = pending.pop()
        if node in boxes:
            continue
        own = [resolve(n) for n in (() if node.op is None else operands(node))]
        held = [n for n in own if isinstance(n, (Constant, Stored))]
        read = [shown(n, left) for n in own if n not in held]
        back = read[0][0] if node.is_delay and read else None
        feeds = [n for n, _ in (read[1:] if node.is_delay else read)]
        boxes[node] = Box(_lines(node, held), _kind(node), _shape(node), feeds, back)
        pending += read
    return boxes, ends


def _kind(node: Node) -> str:
    if node.op is None:
        return "input"
    if node.is_delay:
        return "delay"
    return "layer" if is_block(node) else "operation"


def _lines(node: Node, held: Iterable[Node]) -> list[str]:
    if isinstance(node, (Input, Placeholder)):
        return [node.name or node.kind.lower()]
    title = str(node.attrs["block"]) if is_block(node) else node.title
    lines = [title, *([node.name] if node.name and node.name != title else [])]
    for leaf in held:
        if isinstance(leaf, Constant) and leaf.value.size == 1 and not leaf.name:
            lines.append(f"{float(leaf.value.reshape(-1)[0]):g}")
        else:
            lines.append(f"{leaf.name or leaf.kind.lower()} {_shape(leaf)}".strip())
    return lines


def _shape(node: Node) -> str:
    return "×".join("?" if n < 0 else str(n) for n in node.shape or ())


class _Frame(NamedTuple):
    """A loop: its boxes, and their layout inside its frame."""

    nodes: list[Node]
    title: str
    layout: Layout
    size: Point


class _Drawing:
    def __init__(self, boxes: dict[Node, Box], ends: Sequence[Node]) -> None:
        self.boxes, self.ends = boxes, set(ends)
        self.order = list(reversed(boxes))  # inputs come last in a walk from the outputs
        self.sizes = {n: _size(b) for n, b in boxes.items()}
        self.frames = [self._frame(nodes) for nodes in self._loops()]
        self.home = {n: i for i, f in enumerate(self.frames) for n in f.nodes}
        self.parts: list[str] = []

    def _loops(self) -> list[list[Node]]:
        """The nodes of each cycle."""
        reads = {
            n: [*b.reads, *([b.back] if b.back is not None else [])] for n, b in self.boxes.items()
        }
        feeds: dict[Node, list[Node]] = {n: [] for n in self.boxes}
        for node, sources in reads.items():
            for source in sources:
                feeds[source].append(node)
        loops: list[list[Node]] = []
        known: set[Node] = set()
        for node, box in self.boxes.items():
            if box.back is None or node in known:
                continue
            cycle = _reached(feeds[node], feeds) & _reached(reads[node], reads)
            if node in cycle:
                loops.append([n for n in self.order if n in cycle])
                known |= cycle
        return loops

    def _frame(self, nodes: list[Node]) -> _Frame:
        """Lays out a loop; values from outside enter by ports at the top of the frame."""
        inside = set(nodes)
        edges = [(r if r in inside else (_PORT, r), n) for n in nodes for r in self.boxes[n].reads]
        ports = dict.fromkeys(start for start, _ in edges if isinstance(start, tuple))
        sizes: dict[Key, Point] = dict.fromkeys(ports, (_EDGE, 2.0))
        sizes.update((n, self.sizes[n]) for n in nodes)
        layout = placed(sizes, edges)
        lanes = sum(self.boxes[n].back in inside for n in nodes)
        width = layout.width + 36 + 10 * lanes
        title = _title(nodes)
        least = len(title) * _LETTER + 24
        return _Frame(nodes, title, layout, (max(width, least), layout.height + 52))

    def svg(self) -> str:
        keys = list(dict.fromkeys(self.home.get(n, n) for n in self.order))
        sizes: dict[Key, Point] = {
            k: self.frames[k].size if isinstance(k, int) else self.sizes[k] for k in keys
        }
        edges = [
            (self.home.get(r, r), self.home.get(n, n)) for n in self.order for r in self._sources(n)
        ]
        outer = placed(sizes, [(a, b) for a, b in edges if a != b])
        self.place: dict[Key, Point] = {}
        for key in keys:
            x, y = outer.centre[key]
            if not isinstance(key, int):
                self.place[key] = x, y
                continue
            frame = self.frames[key]
            left, top = x - frame.size[0] / 2, y - frame.size[1] / 2
            self._draw_frame(frame, left, top)
            for node, (a, b) in frame.layout.centre.items():
                self.place[(key, node) if isinstance(node, tuple) else node] = (
                    left + 14 + a, top + 30 + b
                )  # fmt: skip
        self._draw_edges(outer)
        for node in self.order:
            self._draw_box(node)
        width, height = outer.width + 24, outer.height + 40
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="-12 -12 {width:.0f} {height:.0f}" '
            'font-family="Helvetica, Arial, sans-serif" font-size="12">'
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#666"/></marker>'
            f'</defs><rect x="-12" y="-12" width="{width:.0f}" height="{height:.0f}" fill="#fff"/>'
            + "".join(self.parts)
            + "</svg>"
        )

    def _sources(self, node: Node) -> list[Node]:
        """The operands of a box, including those of delays outside of loops."""
        box = self.boxes[node]
        inside = box.back is not None and self.home.get(box.back) == self.home.get(node)
        looped = inside and node in self.home
        return [*box.reads, *([box.back] if box.back is not None and not looped else [])]

    def _draw_frame(self, frame: _Frame, left: float, top: float) -> None:
        width, height = frame.size
        self.parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8" '
            'fill="#fcfaf4" stroke="#b8862b" stroke-dasharray="5 3"/>'
            f'<text x="{left + 10:.1f}" y="{top + 16:.1f}" fill="#8a6416">{frame.title}</text>'
        )

    def _draw_edges(self, outer: Layout) -> None:
        labelled: set[Node] = set()
        for number, frame in enumerate(self.frames):
            lane = 0
            for node in frame.nodes:
                back = self.boxes[node].back
                if back is not None and self.home.get(back) == number:
                    lane += 1
                    self._draw_back(frame, number, outer, back, node, lane)
        for node in self.order:
            for source in self._sources(node):
                points = self._way(outer, source, node)
                self.parts.append(_curve(points))
                if source not in labelled and self.boxes[source].shape:
                    labelled.add(source)
                    x, y = points[0]
                    self.parts.append(
                        f'<text x="{x + 5:.1f}" y="{y + 13:.1f}" font-size="10" fill="#666">'
                        f"{self.boxes[source].shape}</text>"
                    )

    def _way(self, outer: Layout, source: Node, node: Node) -> list[Point]:
        """The points of an edge, from the bottom of one box to the top of the other."""
        (x, y), (a, b) = self.place[source], self.place[node]
        start, end = (x, y + self.sizes[source][1] / 2), (a, b - self.sizes[node][1] / 2)
        one, other = self.home.get(source, source), self.home.get(node, node)
        if one == other:
            return [start, *self._inner(one, outer, (source, node)), end]
        via = list(outer.via.get((one, other), []))
        if isinstance(other, int):
            port = (_PORT, source)
            via += [self.place[other, port], *self._inner(other, outer, (port, node))]
        return [start, *via, end]

    def _inner(self, number: Key, outer: Layout, edge: tuple[Key, Key]) -> list[Point]:
        """The points of an edge inside of a frame."""
        if not isinstance(number, int):
            return []
        frame = self.frames[number]
        cx, cy = outer.centre[number]
        left, top = cx - frame.size[0] / 2 + 14, cy - frame.size[1] / 2 + 30
        return [(left + u, top + v) for u, v in frame.layout.via.get(edge, [])]

    def _draw_back(
        self, frame: _Frame, number: int, outer: Layout, source: Node, delay: Node, lane: int
    ) -> None:
        """Draws the edge back to a delay, up along the side of the frame."""
        cx, _ = outer.centre[number]
        side = cx - frame.size[0] / 2 + 14 + frame.layout.width + 8 + 10 * lane
        (x, y), (a, b) = self.place[source], self.place[delay]
        x, a = x + self.sizes[source][0] / 2, a + self.sizes[delay][0] / 2
        self.parts.append(
            f'<path d="M{x:.1f} {y:.1f} H{side - 6:.1f} Q{side:.1f} {y:.1f} {side:.1f} {y - 6:.1f} '
            f'V{b + 6:.1f} Q{side:.1f} {b:.1f} {side - 6:.1f} {b:.1f} H{a + 2:.1f}" fill="none" '
            'stroke="#b8862b" stroke-width="1.3" stroke-dasharray="4 3" marker-end="url(#tip)"/>'
        )

    def _draw_box(self, node: Node) -> None:
        box, (x, y), (width, height) = self.boxes[node], self.place[node], self.sizes[node]
        fill, line = _COLOURS[box.kind]
        thick = 2.4 if node in self.ends else 1.0
        radius = height / 2 if box.kind == "input" else 4
        left, top = x - width / 2, y - height / 2
        self.parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{radius:.1f}" fill="{fill}" stroke="{line}" stroke-width="{thick}"/>'
        )
        for i, text in enumerate(box.lines):
            style = ' font-weight="bold"' if i == 0 else ' font-size="10" fill="#444"'
            self.parts.append(
                f'<text x="{x:.1f}" y="{top + _EDGE + 8 + i * _LINE:.1f}" text-anchor="middle"'
                f"{style}>{escape(text)}</text>"
            )


def _title(nodes: Sequence[Node]) -> str:
    delay = next(n for n in nodes if n.is_delay)
    backwards = ", from the last" if delay.attrs["offset"] < 0 else ""
    return f"each frame, one after the other{backwards}"


def _size(box: Box) -> Point:
    longest = max(len(line) * (_LETTER if i == 0 else 5.6) for i, line in enumerate(box.lines))
    return max(longest + 20, 44.0), len(box.lines) * _LINE + _EDGE


def _reached(start: Iterable[Node], ways: dict[Node, list[Node]]) -> set[Node]:
    found: set[Node] = set()
    pending = list(start)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += ways.get(node, [])
    return found


def _curve(points: Sequence[Point]) -> str:
    """A smooth curve through points, vertical at both ends."""
    (x, y), *rest = points
    path = [f"M{x:.1f} {y:.1f}"]
    for a, b in rest:
        middle = (y + b) / 2
        path.append(f"C{x:.1f} {middle:.1f} {a:.1f} {middle:.1f} {a:.1f} {b:.1f}")
        x, y = a, b
    return (
        f'<path d="{" ".join(path)}" fill="none" stroke="#666" stroke-width="1.1" '
        'marker-end="url(#tip)"/>'
    )
