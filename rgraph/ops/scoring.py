"""Operations of losses and metrics that can't be composed of others: ranking, edit distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import BATCH, Axis, GraphError, Node, apply, one_batch
from ..graph.node import Shape
from ..graph.types import Array
from .arithmetic import element_times
from .pointwise import broadcast
from .records import carried, define
from .repetition import broadcast_to
from .shaping import joined, rank_of

if TYPE_CHECKING:
    from ..plan import Run

Axes = tuple[Axis, ...]


def _class_sum(run: Run, x: Array, *, shape: Shape, rank: int) -> Array:
    rows = x.shape[: x.ndim - rank]
    return joined(x, len(rows) + len(shape[:1])).sum(-1).reshape(rows + shape)


CLASS_SUM = define(
    "class_sum",
    title="fmeasure",
    shape=lambda s: (s[0], 1, 1) if len(s) == 3 else (),
    kernel=_class_sum,
    arguments=lambda node: {"shape": node.shape, "rank": rank_of(node)},
    gradient=lambda node, g: [broadcast_to(g, node.inputs[0].shape or ())],
    cases=(
        lambda rng: ([rng.normal(size=(2, 3, 4, 2))], {}),
        lambda rng: ([rng.normal(size=(2, 5))], {}),
    ),
)


def class_sum(x: Node) -> Node:
    """The sum over the pixels of each class, (classes, height, width) to (classes, 1, 1); for
    other shapes the sum over all elements."""
    return apply(CLASS_SUM, x)


# Rolling samples


def _roll(run: Run, x: Array, *, by: int, axes: Axes) -> Array:
    order = run.order(axes[0]) if len(axes) == 1 else None
    rows = np.arange(len(x)) if order is None else order
    place = np.argsort(rows)
    return x[run.engine.from_numpy(place[(rows + by) % max(len(x), 1)])]


ROLL = define(
    "roll_rows",
    title="cosine_distance_with_negative_samples",
    shape=lambda s, by: s,
    kernel=_roll,
    arguments=lambda node: {"by": node.attrs["by"], "axes": node.axes},
    gradient=lambda node, g: [apply(ROLL, g, by=-node.attrs["by"])],
    framewise=False,
)


def roll_rows(x: Node, by: int) -> Node:
    """Replace each sample (or frame) by the one `by` positions after it, cyclically.

    Frames are in packed order: step by step, the longest sequence first.
    """
    return apply(ROLL, x, by=by)


# Ranking


def _per_row(shapes: Sequence[Shape], what: str) -> None:
    for shape in shapes:
        if int(np.prod(shape)) != 1:
            raise GraphError(f"{what} needs one number per sample, got shape {shape}")


def _groups(
    run: Run, score: Array, gain: Array, group: Array, axis: Axis
) -> Iterator[tuple[np.ndarray, ...]]:
    """For each group of adjacent samples: (rows, scores, gains, ranks by score)."""
    order = run.order(axis)
    rows = np.arange(len(score)) if order is None else np.argsort(order)
    columns = [run.engine.to_numpy(a).reshape(-1)[rows] for a in (score, gain, group)]
    scores, gains, ids = columns
    starts = np.flatnonzero(np.diff(ids.astype(np.int64))) + 1
    for at in np.split(np.arange(len(rows)), starts):
        s, g = scores[at].astype(float), gains[at].astype(float)
        rank = np.empty(len(at), int)
        rank[np.lexsort((g, -s))] = np.arange(len(at))  # for equal scores the lower gain first
        yield rows[at], s, g, rank


def _ideal(gains: np.ndarray) -> float:
    return float(np.sum(-np.sort(-gains) / np.log(2 + np.arange(len(gains)))))


def _lambda_rank(run: Run, score: Array, gain: Array, group: Array, axis: Axis) -> Array:
    total, count = 0.0, 0
    for _, _, g, rank in _groups(run, score, gain, group, axis):
        ideal = _ideal(g)
        total += float(np.sum(g / np.log(2 + rank))) / ideal if ideal else 0.0
        count += 1
    return run.xp.asarray((1 - total / count) * 100 * len(score), score.dtype)


def _lambda_rank_slope(run: Run, score: Array, gain: Array, group: Array, axis: Axis) -> Array:
    result = np.zeros(len(score))
    for rows, s, g, rank in _groups(run, score, gain, group, axis):
        ideal, weight = _ideal(g), 1 / np.log(2 + rank)
        if not ideal:
            continue
        better = g[:, None] > g
        swap = np.abs((g[:, None] - g) * (weight[:, None] - weight) / ideal)
        pull = np.where(better, swap / (1 + np.exp(s[:, None] - s)), 0)
        result[rows] = pull.sum(0) - pull.sum(1)
    return run.engine.from_numpy(result.astype(score.dtype).reshape(score.shape))


def _ndcg_at_1(run: Run, score: Array, gain: Array, group: Array, axis: Axis) -> Array:
    parts = [
        g[rank.argmin()] / g.max() if len(g) and g.max() else 0.0
        for _, _, g, rank in _groups(run, score, gain, group, axis)
    ]
    return run.xp.asarray(np.mean(parts) * 100 * len(score), score.dtype)


def _ranked_shape(score: Shape, gain: Shape, group: Shape) -> Shape:
    _per_row([score, gain, group], "ranking")
    return ()


def _on_one_batch(inputs: Sequence[Node], axes: Axes, /, **_: object) -> list[Node]:
    return [carried(i, inputs[0]) for i in inputs]


def _for_all(axes: Sequence[Axes | None], **_: object) -> Axes:
    """One value for the whole minibatch."""
    one_batch(axes)
    return ()


_RANKED = ("score", "gain", "group")


def _batch_of_scores(node: Node) -> dict[str, object]:
    return {"axis": next(iter(node.inputs[0].axes or ()), BATCH)}


SLOPE = define(
    "lambda_rank_slope",
    title="lambda_rank",
    shape=lambda score, gain, group: score,
    kernel=_lambda_rank_slope,
    arguments=_batch_of_scores,
    operands=_RANKED,
    framewise=False,
    waits=True,
)
LAMBDA_RANK = define(
    "lambda_rank",
    shape=_ranked_shape,
    axes=_for_all,
    align=_on_one_batch,
    kernel=_lambda_rank,
    arguments=_batch_of_scores,
    gradient=lambda node, g: [element_times(apply(SLOPE, *node.inputs), g), None, None],
    operands=_RANKED,
    framewise=False,
    waits=True,
)
NDCG = define(
    "ndcg_at_1",
    shape=_ranked_shape,
    axes=_for_all,
    align=_on_one_batch,
    kernel=_ndcg_at_1,
    arguments=_batch_of_scores,
    operands=_RANKED,
    framewise=False,
    waits=True,
)


# Edits


def _labels(
    run: Run, x: Array, axes: Axes, squash: bool, ignore: tuple[int, ...]
) -> list[np.ndarray]:
    """For each sequence, in the minibatch's order: the classes (largest elements) of its frames."""
    best = joined(run.engine.to_numpy(x), 1).argmax(-1)
    if len(axes) == 2:
        sequences = run.layouts[axes[1]].unpack(best)
    else:
        order = run.order(axes[0])
        sequences = list(best[:, None] if order is None else best[np.argsort(order), None])
    if squash:
        sequences = [s[np.diff(s, prepend=-1) != 0] for s in sequences]
    return [s[~np.isin(s, ignore)] for s in sequences]


def _edits(a: np.ndarray, b: np.ndarray, sub: float, delete: float, insert: float) -> int:
    """The number of edits on the cheapest path from a to b (Wagner and Fischer, 1974)."""
    row = [(j * insert, j) for j in range(len(b) + 1)]
    for i, label in enumerate(a, 1):
        before, row = row, [(i * delete, i)]
        for j, other in enumerate(b, 1):
            (diagonal, n), (above, m), (left, k) = before[j - 1], before[j], row[-1]
            if label == other:
                row.append((diagonal, n))
                continue
            ways = [(diagonal + sub, n + 1), (left + insert, k + 1), (above + delete, m + 1)]
            row.append(min(ways, key=lambda way: way[0]))  # the first of several with equal cost
    return row[-1][1]


def _edit_distance(
    run: Run,
    a: Array,
    b: Array,
    *,
    axes: Sequence[Axes],
    penalties: tuple[float, float, float],
    squash: bool,
    ignore: tuple[int, ...],
) -> Array:
    first, second = (
        _labels(run, x, ax, squash, ignore) for x, ax in zip((a, b), axes, strict=True)
    )
    edits = sum(_edits(x, y, *penalties) for x, y in zip(first, second, strict=True))
    labels = sum(map(len, second))
    # Edits per label, times the number of frames, since a trainer divides by the number of frames.
    return run.xp.asarray(edits * len(a) / labels if labels else float(edits), a.dtype)


def _same_classes(a: Shape, b: Shape, **_: object) -> Shape:
    broadcast(a, b)
    return ()


EDIT_DISTANCE = define(
    "edit_distance_error",
    shape=_same_classes,
    axes=_for_all,
    align=_on_one_batch,
    kernel=_edit_distance,
    arguments=lambda node: {**node.attrs, "axes": [i.axes for i in node.inputs]},
    operands=("first sequence", "second sequence"),
    framewise=False,
    waits=True,
)
