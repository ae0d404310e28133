"""The run that kernels are part of, as they see it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Axis, Layout
from ..graph.node import AUTO_SEED
from ..graph.types import Array

if TYPE_CHECKING:
    from ..engines.base import Engine
    from ..graph.types import Generator


class Run:
    """One run of a plan, as kernels see it.

    Attributes:
        xp: the array library.
        matmul: the product of two arrays, like the library's function of that name.
        layouts: the layout of each time axis.
        batch: the number of samples (or sequences) in the minibatch.
        first_row: how many rows precede those of this run, if it is a window of frames.
        training: whether operations such as dropout are active.
        memo: values that an engine caches until the run ends.
        step: the current step of a loop as (axis, rows); None outside loops.
        places: arrays that loops write results to, by slot.
    """

    def __init__(
        self,
        engine: Engine,
        layouts: dict[Axis, Layout],
        batch: int,
        training: bool = False,
        seed: int = 0,
        turn: int = 0,
        first_row: int = 0,
    ) -> None:
        self.engine, self.layouts, self.batch = engine, layouts, batch
        self.training, self.seed, self.turn = training, seed, turn
        self.first_row = first_row
        self.xp = engine.xp
        self.empty = engine.empty
        self.matmul = engine.matmul
        self.step: tuple[Axis, slice] | None = None
        self.places: Mapping[int, Array] = {}
        self.memo: dict[Hashable, Any] = {}

    def rows(self, axes: tuple[Axis, ...]) -> int:
        if len(axes) < 2:
            return self.batch if not axes or axes[0].size is None else axes[0].size
        if self.step and self.step[0] == axes[1]:
            return self.step[1].stop - self.step[1].start
        return self.layouts[axes[1]].rows

    def order(self, axis: Axis) -> np.ndarray | None:
        """The sample in each row of a value with only this batch axis; None if row i is sample i.

        Samples are in the order of the first sequences that were fed, longest first.
        """
        if axis.is_made:
            return None
        fed = (layout for axis, layout in self.layouts.items() if axis.source is None)
        return next((layout.batch_order for layout in fed), None)

    def block(self, axis: Axis) -> slice:
        """The rows being computed: those of one step in a loop, all of them outside."""
        return self.step[1] if self.step and self.step[0] == axis else slice(None)

    def index(self, layout: Layout, which: str) -> Array:
        return self.engine.from_numpy(getattr(layout, which))

    def random(self, seed: int | None, key: int) -> Generator:
        """A generator of random numbers for one operation in this run."""
        row = self.first_row + (self.step[1].start if self.step else 0)  # steps draw differently
        if seed is None or seed == AUTO_SEED:
            return self.engine.generator((self.seed, key, row), varies=0)
        return self.engine.generator((int(seed), self.turn, row), varies=1)

    def series(self, seed: int) -> Generator:
        """Like `random`, for operations that draw equally many numbers in each run: each run
        continues the stream of the previous one, if the engine can do that."""
        if self.step or self.first_row:
            return self.random(seed, 0)
        return self.engine.series(int(seed), self.turn)
