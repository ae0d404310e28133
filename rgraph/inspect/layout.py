"""Places the boxes of an acyclic graph in rows, with operands above their users.

Source: Sugiyama, Tagawa and Toda, 1981, "Methods for visual understanding of hierarchical system
structures": assigns rows, then an order with few crossings, then positions.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

Key = Hashable
Point = tuple[float, float]

GAP, ROW_GAP, SWEEPS = 22.0, 34.0, 8
_VIA = 6.0  # the width reserved for an edge that passes a row


@dataclass
class Layout:
    """The positions of boxes.

    Attributes:
        centre: the centre of each box.
        width, height: the size of the whole picture, from (0, 0).
        via: the points of each edge between rows.
    """

    centre: dict[Key, Point] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0
    via: dict[tuple[Key, Key], list[Point]] = field(default_factory=dict)


def placed(sizes: Mapping[Key, Point], edges: Sequence[tuple[Key, Key]]) -> Layout:
    """The layout of boxes of these sizes (width, height).

    Args:
        sizes: by box; boxes next to each other keep this order.
        edges: pairs of boxes, from the upper one to the lower one.
    """
    edges = list(dict.fromkeys(edges))
    row = _rows(list(sizes), edges)
    above: dict[Key, list[Key]] = {k: [] for k in sizes}
    below: dict[Key, list[Key]] = {k: [] for k in sizes}
    widths = {k: w for k, (w, _) in sizes.items()}
    rows: list[list[Key]] = [[] for _ in range(max(row.values(), default=-1) + 1)]
    for key in sizes:
        rows[row[key]].append(key)
    chains: dict[tuple[Key, Key], list[Key]] = {}
    for edge in edges:
        start, end = edge
        chain: list[Key] = [start]
        for level in range(row[start] + 1, row[end]):  # it passes these rows
            via = (edge, level)
            rows[level].append(via)
            widths[via], above[via], below[via] = _VIA, [], []
            chain.append(via)
        chain.append(end)
        for one, other in zip(chain, chain[1:], strict=False):
            below[one].append(other)
            above[other].append(one)
        chains[edge] = chain[1:-1]
    _order(rows, above, below)
    x = _across(rows, widths, above, below)
    return _finished(rows, sizes, widths, x, chains)


def _rows(keys: Sequence[Key], edges: Sequence[tuple[Key, Key]]) -> dict[Key, int]:
    """The row of each box: below all its operands, and close to its users."""
    feeds: dict[Key, list[Key]] = {k: [] for k in keys}
    fed: dict[Key, list[Key]] = {k: [] for k in keys}
    for start, end in edges:
        feeds[start].append(end)
        fed[end].append(start)
    left = {k: len(fed[k]) for k in keys}
    ready = [k for k in keys if not left[k]]
    row: dict[Key, int] = {}
    order: list[Key] = []
    while ready:
        key = ready.pop(0)
        order.append(key)
        row[key] = max((row[f] + 1 for f in fed[key]), default=0)
        for other in feeds[key]:
            left[other] -= 1
            if not left[other]:
                ready.append(other)
    for key in reversed(order):  # boxes without operands are close to their users
        if feeds[key] and not fed[key]:
            row[key] = min(row[o] for o in feeds[key]) - 1
    return row


def _order(
    rows: Sequence[list[Key]], above: Mapping[Key, list[Key]], below: Mapping[Key, list[Key]]
) -> None:
    """Sorts each row by the positions of neighbours, in passes down and up."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for level in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            other = rows[level - 1] if down else rows[level + 1]
            place = {k: i for i, k in enumerate(other)}
            neighbours = above if down else below
            own = {k: i for i, k in enumerate(rows[level])}

            def mean(key: Key) -> float:
                found = [place[n] for n in neighbours[key] if n in place]  # noqa: B023
                return sum(found) / len(found) if found else own[key]  # noqa: B023

            rows[level].sort(key=mean)


def _across(
    rows: Sequence[Sequence[Key]],
    widths: Mapping[Key, float],
    above: Mapping[Key, list[Key]],
    below: Mapping[Key, list[Key]],
) -> dict[Key, float]:
    """The centre of each box along its row, aligned with its neighbours as far as possible."""
    x: dict[Key, float] = {}
    for keys in rows:
        at = 0.0
        for key in keys:
            x[key] = at + widths[key] / 2
            at += widths[key] + GAP
    for sweep in range(SWEEPS):
        for keys in rows if sweep % 2 == 0 else list(reversed(rows)):
            wanted = []
            for key in keys:
                near = above[key] if sweep % 2 == 0 else below[key]
                near = near or above[key] or below[key]
                wanted.append(sum(x[n] for n in near) / len(near) if near else x[key])
            for key, place in zip(keys, _apart(keys, wanted, widths), strict=True):
                x[key] = place
    return x


def _apart(
    keys: Sequence[Key], wanted: Sequence[float], widths: Mapping[Key, float]
) -> list[float]:
    """Positions as close as possible to the desired ones, in this order and without overlap.

    Groups of boxes that touch are moved together to the mean of their desired positions.
    """
    groups: list[tuple[float, int, list[float]]] = []  # sum of desired positions, count, offsets
    half = [widths[k] / 2 for k in keys]
    for i, wish in enumerate(wanted):
        groups.append((wish, 1, [0.0]))
        while len(groups) > 1:
            (a, n, own), (b, m, others) = groups[-2:]
            first = i + 1 - m
            room = half[first - 1] + half[first] + GAP
            shift = own[-1] + room
            if a / n + own[-1] + room <= b / m + others[0]:
                break
            groups[-2:] = [(a + b - m * shift, n + m, [*own, *(shift + o for o in others)])]
    return [total / count + o for total, count, offsets in groups for o in offsets]


def _finished(
    rows: Sequence[Sequence[Key]],
    sizes: Mapping[Key, Point],
    widths: Mapping[Key, float],
    x: Mapping[Key, float],
    chains: Mapping[tuple[Key, Key], Sequence[Key]],
) -> Layout:
    left = min((x[k] - widths[k] / 2 for keys in rows for k in keys), default=0.0)
    layout, top, heights = Layout(), 0.0, {}
    for keys in rows:
        height = max((sizes[k][1] for k in keys if k in sizes), default=0.0)
        for key in keys:
            heights[key] = top + height / 2
            if key in sizes:
                layout.centre[key] = x[key] - left, top + height / 2
        top += height + ROW_GAP
    layout.width = max((x[k] + widths[k] / 2 - left for keys in rows for k in keys), default=0.0)
    layout.height = max(top - ROW_GAP, 0.0)
    for edge, chain in chains.items():
        layout.via[edge] = [(x[k] - left, heights[k]) for k in chain]
    return layout
