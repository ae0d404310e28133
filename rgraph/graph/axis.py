"""Axes. A dynamic axis (the batch, or a time axis) has a name; a static axis has an index."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import GraphError
from .free import SAMPLES, Trials

if TYPE_CHECKING:
    from .node import Node


_fresh = itertools.count(1)


class Axis:
    """An axis of a variable, as CNTK's `Axis`.

    Args:
        which: an index for a static axis, a name for a dynamic one.
        is_ordered: whether frames along the axis have an order (a time axis) or not (the batch).

    Two axes are the same axis when their names (or indices) are equal.

    >>> C.Axis(1).static_axis_index()
    1
    >>> C.Axis("time").is_sequence_axis
    True
    """

    __slots__ = ("index", "is_ordered", "name", "rows", "size", "source")

    def __init__(
        self, which: int | str, is_ordered: bool = True, source: Node | None = None
    ) -> None:
        self.index = which if isinstance(which, int) else None
        self.name = which if isinstance(which, str) else f"staticAxisIdx={which}"
        self.is_ordered = is_ordered
        # The node whose run decides the lengths along this axis; None if the minibatch does.
        self.source = source
        # Of a batch axis: the trial sizes of the number of its rows, and that number if it is
        # known, see `free` and `batch_of`.
        self.rows: Trials | None = None
        self.size: int | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Axis) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[object, ...]:
        if self.index is not None:
            return Axis, (self.index, self.is_ordered)
        if self.rows is not None:
            return batch_of, (self.rows, self.size)
        return Axis.known_as, (self.name, self.is_ordered)

    def __repr__(self) -> str:
        return f"Axis('{self.name}')"

    @property
    def is_static_axis(self) -> bool:
        """Whether it is one of a sample's own axes."""
        return self.index is not None

    def is_dynamic_axis(self) -> bool:
        """Whether it is the batch axis or a time axis."""
        return self.index is None

    @property
    def is_sequence_axis(self) -> bool:
        """Whether it is a time axis."""
        return self.is_dynamic_axis() and self.is_ordered

    @property
    def is_batch_axis(self) -> bool:
        """Whether it is the batch axis."""
        return self.is_dynamic_axis() and not self.is_ordered

    @property
    def is_made(self) -> bool:
        """Whether it is a batch axis that `to_batch` made, with rows other than the samples."""
        return self.rows is not None and self.rows != SAMPLES

    def static_axis_index(self, checked: bool = True) -> int:
        """Its index. Raises `GraphError` for a dynamic axis."""
        if self.index is None:
            raise GraphError(f"{self!r} is a dynamic axis, it has no index")
        return self.index

    @staticmethod
    def default_batch_axis() -> Axis:
        """The axis along which the samples of a minibatch lie."""
        return BATCH

    @staticmethod
    def default_dynamic_axis() -> Axis:
        """The default time axis of sequences."""
        return SEQUENCE

    @staticmethod
    def all_static_axes() -> Axis:
        """For a reduction: over all static axes."""
        return Axis("AllStaticAxes")

    @staticmethod
    def all_axes() -> Axis:
        """For a reduction: over all static axes, the batch and time."""
        return Axis("AllAxes")

    @staticmethod
    def new_leading_axis() -> Axis:
        """For a splice: along a new static axis in front of all others."""
        return Axis(END)

    @staticmethod
    def end_static_axis() -> Axis:
        """Just in front of the first static axis of an operand, whatever its rank."""
        return Axis(END)

    @staticmethod
    def unknown_dynamic_axes() -> tuple[Axis, ...]:
        """For a placeholder that may or may not be a sequence."""
        return UNKNOWN

    @staticmethod
    def default_input_variable_dynamic_axes() -> tuple[Axis, ...]:
        """The batch axis, and the default time axis of sequences."""
        return (BATCH, SEQUENCE)

    @staticmethod
    def new_unique_dynamic_axis(name: str) -> Axis:
        """A new time axis: sequences along it may differ in length from all others."""
        return Axis(f"{name}#{next(_fresh)}")

    @staticmethod
    def known_as(name: str, is_ordered: bool = True) -> Axis:
        """The axis of this name in a saved graph; an axis that was unique there gets a new unique
        axis.

        A number assigned by another process has no meaning here.
        """
        own, mark, number = name.rpartition("#")
        unique = mark and number.isdigit()
        return Axis.new_unique_dynamic_axis(own) if unique else Axis(name, is_ordered)


BATCH = Axis("defaultBatchAxis", is_ordered=False)
BATCH.rows = SAMPLES
SEQUENCE = Axis("defaultDynamicAxis")
UNKNOWN = (Axis("UnknownAxes"),)
END = 2**31 - 4  # CNTK's index of the axis that comes next to all that an operand has


def batch_of(rows: Trials, size: int | None = None) -> Axis:
    """The batch axis whose number of rows has these trial sizes: the samples' axis, or another one.

    Axes with the same number of rows are the same axis.

    Args:
        size: the number of rows, if it is known.
    """
    if rows == SAMPLES:
        return BATCH
    axis = Axis(f"batch {_count_of(rows)}", is_ordered=False)
    axis.rows, axis.size = rows, size
    return axis


def _count_of(rows: Trials) -> str:
    (one, other), (a, b) = rows, SAMPLES
    if one == other:
        return f"of {one}"
    if one * b == other * a and one % a == 0:
        return f"of {one // a} × samples"
    if one * b == other * a and a % one == 0:
        return f"of samples / {a // one}"
    return f"#{one}:{other}"  # what can't be told in words


def union(operands: Sequence[tuple[Axis, ...] | None]) -> tuple[Axis, ...] | None:
    """The dynamic axes of a result whose operands have these axes; unknown if one of them is."""
    if None in operands:
        return None
    known = [axes for axes in operands if axes]
    if not any(axes is not known[0] for axes in known):  # as nearly always
        return known[0] if known else ()
    longest = max(known, key=lambda axes: (len(axes), not is_fixed(axes)))
    one_batch(known)
    for axes in known:
        if len(axes) == len(longest) == 2 and axes != longest:
            raise GraphError(
                f"the operands are sequences along different axes, {longest[1].name} and "
                f"{axes[1].name}; their frames do not correspond",
                hint="declare both inputs with the same sequence axis, or carry one over to the "
                "other's axis with sequence.broadcast_as or reconcile_dynamic_axes",
            )
    return longest


def is_fixed(axes: tuple[Axis, ...]) -> bool:
    """Whether this is a single batch axis whose number of rows is the same for every minibatch.

    A run may happen to have as many samples, so it may meet other batch axes: `carry_rows` checks.
    """
    return len(axes) == 1 and axes[0].is_made and len(set(axes[0].rows or ())) == 1


def one_batch(operands: Sequence[tuple[Axis, ...] | None]) -> None:
    """Raise `GraphError` if operands have different batch axes that are not fixed. Unknown axes are
    accepted.
    """
    known = [axes for axes in operands if axes]
    chosen = [axes[0] for axes in known if not is_fixed(axes)] or [axes[0] for axes in known]
    for first, other in itertools.pairwise(chosen):
        if first != other:
            raise GraphError(
                f"the operands have different batch axes, {first.name} and {other.name}; their "
                "rows do not correspond",
                hint="if they are as many all the same, carry one over to the other's axis with "
                "reconcile_dynamic_axes, which counts them",
            )
        if None not in (first.size, other.size) and first.size != other.size:
            raise GraphError(
                f"the operands have {first.size} and {other.size} rows, made of axes that each "
                "run may choose anew"
            )
