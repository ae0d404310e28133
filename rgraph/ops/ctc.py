"""Connectionist temporal classification: the loss for labels without an alignment to frames.

A sequence labelled a b has the states _ a _ b _, where _ is blank. A path assigns a state to each
frame: that of the previous frame or a later one. It may skip only a blank between two different
labels; it starts in one of the first two states and ends in one of the last two. The loss is minus
the logarithm of the sum of the probabilities of all paths. Its derivative with respect to the
log-probability of a class at a frame is minus the share of the paths that go through that class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..graph import Axis, GraphError, Layout, Node, apply, whole
from ..graph.node import Shape
from ..graph.types import Array, OperandLike
from .arithmetic import element_times
from .pointwise import pointwise
from .records import as_node, define, operation
from .softmax import log_softmax

if TYPE_CHECKING:
    from ..plan import Run

Axes = tuple[Axis, ...]

_LOG_ZERO = -1e30  # log(0), but finite, so that differences are not NaN

labels_to_graph = pointwise(
    "labels_to_graph",
    "labels",
    operands="labels",
    constant=True,
    doc="""Converts labels for `forward_backward`. No gradient flows through it.

    Source: CNTK's `labels_to_graph`.

    >>> labels = C.sequence.input_variable(3)
    >>> C.labels_to_graph(labels).shape
    (3,)
    """,
)


def _states(
    labels: np.ndarray, layout: Layout, blank: int, delay: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The states of each sequence, longest first.

    Returns:
        the number of states of each sequence; and, for each state, its class and the last frame at
        which it is allowed. Rows are padded with blanks.
    """
    begins = np.flatnonzero(labels.max(-1) == 2)
    begins = begins[np.argsort(layout.sequence_of_row[begins], kind="stable")]
    sequence, step = layout.sequence_of_row[begins], layout.step_of_row[begins]
    count = np.bincount(sequence, minlength=len(layout))
    state = 1 + 2 * (np.arange(len(begins)) - np.repeat(np.cumsum(count) - count, count))

    if not len(begins) and (labels.max(-1)[labels.argmax(-1) != blank] > 0).any():
        raise GraphError(
            "no frame marks the beginning of a label",
            hint="2 marks the first frame of a label, as in [0, 2, 0]; 1 marks its further frames",
        )
    classes = np.full((len(layout), 1 + 2 * count.max(initial=0)), blank)
    classes[sequence, state] = found = labels[begins].argmax(-1)
    if (found == blank).any():
        raise GraphError(
            f"a label has class {blank}, which is the blank",
            hint="blankTokenId must be a class that no label has",
        )
    until = np.full(classes.shape, layout.steps)
    if delay >= 0:
        later = state > 1
        sequence, state, end = sequence[later], state[later], step[later] + delay
        until[sequence, state - 2] = end  # the label before
        until[sequence, state - 3] = end - 1  # and the blank before that one
    return 1 + 2 * count, classes, until


class _Paths:
    """Sums of the probabilities of paths, for each frame and state of a minibatch's sequences.

    Sums are logarithms in float64, since the rounding errors of float32 would add up over the
    frames.

    Args:
        labels, scores: packed rows of shape (classes,); scores are log-probabilities.
    """

    def __init__(
        self, run: Run, labels: Array, scores: Array, *, axes: Axes, blank: int, delay: int
    ) -> None:
        xp, on_device = run.xp, run.engine.from_numpy
        layout = run.layouts[axes[1]] if len(axes) == 2 else Layout([1] * len(scores))
        number, classes, until = _states(run.engine.to_numpy(labels), layout, blank, delay)
        over = until[layout.sequence_of_row] < layout.step_of_row[:, None]
        skips = (classes[:, 2:] != blank) & (classes[:, 2:] != classes[:, :-2])
        left = number[:, None] - np.arange(classes.shape[1])
        self.run, self.xp, self.size, self.layout, self.number = (
            run,
            xp,
            scores.shape,
            layout,
            number,
        )
        self.skips = on_device(skips)  # whether state i + 2 can be reached from state i
        self.ends = on_device((left == 1) | (left == 2))
        self.classes = on_device(classes[layout.sequence_of_row])
        scores = xp.take_along_axis(scores.astype(np.float64), self.classes, 1)
        self.scores = xp.where(on_device(over), _LOG_ZERO, xp.maximum(scores, _LOG_ZERO))
        self.before = self._before()
        self.total = self._total()

    def _rows(self, t: int) -> slice:
        return slice(self.layout.offsets[t], self.layout.offsets[t + 1])

    def _moved(self, sums: Array, skips: Array) -> Array:
        """The sums one frame later: paths stay in their state or advance by one or two states."""
        xp, moved = self.xp, sums.copy()
        moved[:, 1:] = xp.logaddexp(moved[:, 1:], sums[:, :-1])
        moved[:, 2:] = xp.logaddexp(moved[:, 2:], xp.where(skips, sums[:, :-2], _LOG_ZERO))
        return moved

    def _before(self) -> Array:
        """Sums over the paths that lead to each state, including the frame's own score."""
        sums = self.scores.copy()
        for t, n in enumerate(self.layout.counts):
            if t == 0:
                sums[:n, 2:] = _LOG_ZERO
            else:
                sums[self._rows(t)] += self._moved(sums[self._rows(t - 1)][:n], self.skips[:n])
        return sums

    def _after(self) -> Array:
        """Sums over the paths that continue from each state, without the frame's own score."""
        xp, n = self.xp, 0
        sums = xp.empty(self.scores.shape)
        for t in reversed(range(self.layout.steps)):
            ended = xp.where(self.ends[n : self.layout.counts[t]], 0.0, _LOG_ZERO)
            sums[self._rows(t)][n:] = ended
            if n:
                later = sums[self._rows(t + 1)] + self.scores[self._rows(t + 1)]
                moved = self._moved(later[:, ::-1], self.skips[:n, ::-1])
                sums[self._rows(t)][:n] = moved[:, ::-1]
            n = self.layout.counts[t]
        return sums

    def _total(self) -> Array:
        """The sum over all paths, for each sequence that has frames."""
        xp, n = self.xp, self.layout.counts[0] if self.layout.steps else 0
        rows = self.run.engine.from_numpy(self.layout.last_row[:n])
        sums = xp.where(self.ends[:n], self.before[rows], _LOG_ZERO)
        top = sums.max(1, keepdims=True)
        total = top[:, 0] + xp.log(xp.exp(sums - top).sum(1))
        for i in np.flatnonzero(self.run.engine.to_numpy(total) < _LOG_ZERO / 2)[:1]:
            self._no_path(int(i))
        return total

    def _no_path(self, i: int) -> NoReturn:
        labels = int(self.number[i]) // 2
        different = int(self.run.engine.to_numpy(self.skips)[i].sum())
        needed = labels + max(labels - 1 - different, 0)
        frames, sequence = int(self.layout.lengths[i]), int(self.layout.order[i])
        raise GraphError(
            f"sequence {sequence} of the minibatch has {frames} frames, and no path through them "
            f"with a probability above 0 gives its labels: {labels} labels need {needed} frames, "
            "one each and one between two equal labels",
            hint="leave the sequence out, use less subsampling in time, or allow a "
            "longer delayConstraint",
        )

    def shares(self) -> Array:
        """For each frame and class: the share of the paths that go through it."""
        xp, (rows, classes) = self.xp, self.size
        total = self.total[self.run.index(self.layout, "sequence_of_row")]
        shares = xp.exp(self.before + self._after() - total[:, None])
        places = xp.arange(rows)[:, None] * classes + self.classes
        summed = xp.bincount(places.ravel(), shares.ravel(), rows * classes)
        return summed.reshape(rows, classes)


def _loss(run: Run, labels: Array, scores: Array, **options: Any) -> Array:
    return run.xp.asarray(-_Paths(run, labels, scores, **options).total.sum(), scores.dtype)


def _slope(run: Run, labels: Array, scores: Array, **options: Any) -> Array:
    return (-_Paths(run, labels, scores, **options).shares()).astype(scores.dtype)


def _classes(labels: Shape, scores: Shape, *, blank: int, delay: int) -> Shape:
    if len(scores) != 1 or labels != scores:
        raise GraphError(
            f"labels and features need vectors of the same size, got {labels} and {scores}"
        )
    if not 0 <= blank < scores[0]:
        raise GraphError(f"blankTokenId must be from 0 to {scores[0] - 1}, got {blank}")
    if delay < -1:
        raise GraphError(
            f"delayConstraint must be a number of frames, or -1 for no limit, got {delay}"
        )
    return scores


def _one_number(labels: Shape, scores: Shape, **options: int) -> Shape:
    _classes(labels, scores, **options)
    return ()


def _same_frames(axes: Sequence[Axes | None], **_: object) -> Axes:
    labels, scores = axes
    if not labels or labels != scores:
        raise GraphError(
            "labels and features need the same dynamic axes",
            hint="declare both inputs with the same sequence_axis, or move one to the axes of "
            "the other with C.reconcile_dynamic_axes",
        )
    return labels


def _arguments(node: Node) -> dict[str, object]:
    return {**node.attrs, "axes": node.inputs[1].axes}


def _no_second_derivative(node: Node, g: Node) -> NoReturn:
    raise GraphError("forward_backward has no second derivative")


SLOPE = define(
    "forward_backward_slope",
    title="forward_backward",
    shape=_classes,
    axes=_same_frames,
    kernel=_slope,
    arguments=_arguments,
    gradient=_no_second_derivative,
    operands=("graph", "features"),
    framewise=False,
    waits=True,
)
LOSS = define(
    "forward_backward",
    shape=_one_number,
    axes=lambda axes, **_: _same_frames(axes) and (),
    kernel=_loss,
    arguments=_arguments,
    align=None,
    gradient=lambda node, g: [
        None,
        element_times(apply(SLOPE, *node.inputs, **node.attrs), g),
    ],
    operands=("graph", "features"),
    framewise=False,
    waits=True,
)


@operation
def forward_backward(
    graph: OperandLike, features: OperandLike, blankTokenId: int, delayConstraint: int = -1
) -> Node:
    """The loss of connectionist temporal classification (CTC), summed over the minibatch.

    The loss is minus the log-probability that the frames of each sequence spell its labels, where
    adjacent frames of the same class are merged, and blanks are dropped.

    Args:
        graph: `labels_to_graph` of the labels, a sequence of the same length as the features: for
            each frame a vector (classes,) with 2 at the class of a label on the label's first
            frame. Other frames are ignored (in CNTK they have 1 at the class of the current
            label). Without `delayConstraint` only the order of the labels matters, not their
            frames.
        features: the output of the network, (classes,) for each frame: scores before a softmax.
        blankTokenId: the class of the blank.
        delayConstraint: the number of frames for which a label may continue after the first frame
            of the next one in `graph`; -1: no limit.

    Returns:
        one number for all sequences, of shape (). Its gradient with respect to the features is
        their softmax minus the share of paths through each class. No gradient flows to the labels.

    Raises:
        GraphError: a sequence has too few frames for its labels (CNTK's loss is then 1e11, with a
            meaningless gradient). (In CNTK delayConstraint also limits the blank after the last
            label, counted from the first frame; here the last blank is not limited.)

    Source: Graves, Fernández, Gomez and Schmidhuber, 2006; CNTK's `forward_backward`.

    A recurrent model learns when to say 0 and 1 (2 is the blank):

    >>> x, labels = C.sequence.input_variable(2), C.sequence.input_variable(3)
    >>> scores = C.layers.Sequential([
    ...     C.layers.Recurrence(C.layers.GRU(8)), C.layers.Dense(3),
    ... ])(x)
    >>> loss = C.forward_backward(C.labels_to_graph(labels), scores, blankTokenId=2)
    >>> learner = C.adam(scores.parameters, C.learning_parameter_schedule_per_sample(0.02), 0.9)
    >>> trainer = C.Trainer(scores, loss, [learner])
    >>> frames = np.array([[1, 0], [1, 0], [0, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    >>> said = np.array([[2, 0, 0], [0, 2, 0], *[[0, 1, 0]] * 4], np.float32)  # 0, then 1
    >>> for i in range(60):
    ...     _ = trainer.train_minibatch({x: [frames], labels: [said]})
    >>> best = scores.eval({x: [frames]})[0].argmax(1)
    >>> [int(c) for c, last in zip(best, [2, *best]) if c != last and c != 2]
    [0, 1]
    """
    blank, delay = whole(blankTokenId, "blankTokenId"), whole(delayConstraint, "delayConstraint")
    scores = log_softmax(as_node(features))
    return apply(LOSS, as_node(graph), scores, blank=blank, delay=delay)
