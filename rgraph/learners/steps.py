"""How each learner turns a gradient into a step, written with operations: see `Step`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..operands.operand import Operand
from ..ops import (
    abs,
    element_max,
    element_min,
    element_select,
    greater,
    reduce_mean,
    sign,
    sqrt,
    square,
)

Kept = Mapping[str, Operand]
New = tuple[Operand, dict[str, Operand]]


def rest(dtype: Any, x: float) -> float:
    """1 - x in a type's precision, as CNTK has it: of 1 - 0.99999 a float32 keeps two digits."""
    return float(dtype(1) - dtype(x))


@dataclass
class Now:
    """The numbers that are in force for one minibatch.

    Attributes:
        rate: the factor of the gradient as the step gets it: the sum over the minibatch, or its
            mean for a learner of `minibatch_size=IGNORE`.
        samples: in the minibatch.
        momentum: the part of the smoothed gradient that stays.
        gain: the factor with which the gradient comes into the smoothed one.
        decay: the part of the smoothed squared gradient that stays.
        count: of samples, or of updates, this one included, as the step counts them.
        first: whether nothing is kept from an update before.
    """

    rate: float
    samples: int
    momentum: float = 0.0
    gain: float = 1.0
    decay: float = 0.0
    count: float = 0
    first: bool = False


class Step:
    """How a gradient becomes a change.

    What changes from minibatch to minibatch (`numbers`) is fed, so that it makes no new plan.

    Attributes:
        kept: what is kept of each parameter from update to update: arrays of its shape, 0 at
            first.
        counts: whether it counts updates, or samples.
    """

    kept: ClassVar[tuple[str, ...]] = ()
    counts: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """As checkpoints call it."""
        return type(self).__name__.lower()

    def count(self, before: float, now: Now) -> float:
        """Its count after an update."""
        return before + 1

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        """The numbers that it reads.

        Args:
            rest: gives 1 - x in the parameters' precision; see `rest`.
        """
        return {"rate": now.rate}

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        """The new values of a parameter and of what is kept.

        Args:
            g: the gradient.
            now: `numbers`.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Sgd(Step):
    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        return p - now["rate"] * g, {}


@dataclass(frozen=True)
class Momentum(Step):
    kept = ("v",)

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        return {"momentum": now.momentum, "gain": now.gain * now.rate}

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        v = now["momentum"] * kept["v"] + now["gain"] * g
        return p - v, {"v": v}


@dataclass(frozen=True)
class Nesterov(Momentum):
    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        v = now["momentum"] * kept["v"] + now["gain"] * g
        return p - now["gain"] * g - now["momentum"] * v, {"v": v}


@dataclass(frozen=True)
class Adagrad(Step):
    average: bool
    kept = ("s",)

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        s = kept["s"] + square(g)
        root = sqrt(s + 1e-16)
        mean = reduce_mean(1 / root) if self.average else 1.0
        return p - now["rate"] / mean * (g / root), {"s": s}


@dataclass(frozen=True)
class Adadelta(Step):
    rho: float
    epsilon: float
    kept = ("s", "moved")

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        gain = rest(p.dtype, self.rho)
        s = self.rho * kept["s"] + gain * square(g)
        move = g * sqrt((kept["moved"] + self.epsilon) / (s + self.epsilon))
        moved = self.rho * kept["moved"] + gain * square(move)
        return p - now["rate"] * move, {"s": s, "moved": moved}


@dataclass(frozen=True)
class RmsProp(Step):
    gamma: float
    inc: float
    dec: float
    most: float
    least: float
    average: bool
    kept = ("s", "sign", "scale")

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        return {"rate": now.rate, "first": float(now.first)}

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        most = min(self.most, 1e18)  # far beyond use, and what a float32 holds of sums of it
        before = element_select(now["first"], square(g), kept["s"])
        s = self.gamma * before + rest(p.dtype, self.gamma) * square(g)
        signs, scale = sign(g), element_select(now["first"], 0.02, kept["scale"])
        scale = element_select(
            greater(kept["sign"] * signs, 0),
            element_min(scale * self.inc, most),
            element_max(scale * self.dec, self.least),
        )
        factor = scale / sqrt(s + 1e-6)
        mean = reduce_mean(factor) if self.average else 1.0
        return p - now["rate"] / mean * (g * factor), {"s": s, "sign": signs, "scale": scale}


@dataclass(frozen=True)
class FsAdagrad(Step):
    kept = ("s", "v")
    counts = True

    def count(self, before: float, now: Now) -> float:
        return now.decay * before + (1 - now.decay) * now.samples  # of samples in s

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        return {
            "rate": now.rate,
            "decay": now.decay,
            "decay gain": rest(now.decay),
            "root": math.sqrt(now.count),
            "smooths": float(now.momentum > 0),
            "momentum": now.momentum,
            "gain": now.gain,
        }

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        s = now["decay"] * kept["s"] + now["decay gain"] * square(g)
        move = g * element_min(now["root"] / sqrt(s), 10)
        smoothed = now["momentum"] * kept["v"] + now["gain"] * move
        v = element_select(now["smooths"], smoothed, kept["v"])
        return p - now["rate"] * element_select(now["smooths"], smoothed, move), {"s": s, "v": v}


@dataclass(frozen=True)
class Adam(Step):
    epsilon: float
    kept = ("s", "v")
    counts = True

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        unbiased = math.sqrt(1 - now.decay**now.count) / (1 - now.momentum**now.count)
        return {
            "rate": now.rate * unbiased,
            "decay": now.decay,
            "decay gain": rest(now.decay),
            "momentum": now.momentum,
            "gain": now.gain,
        }

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        s = now["decay"] * kept["s"] + now["decay gain"] * square(g)
        v = now["momentum"] * kept["v"] + now["gain"] * g
        return p - now["rate"] * (v / (sqrt(s) + self.epsilon)), {"s": s, "v": v}


@dataclass(frozen=True)
class Adamax(Step):
    epsilon: float
    kept = ("s", "v")
    counts = True

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        rate = now.rate / (1 - now.momentum**now.count)
        return {"rate": rate, "decay": now.decay, "momentum": now.momentum, "gain": now.gain}

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        s = element_max(now["decay"] * kept["s"], abs(g))
        v = now["momentum"] * kept["v"] + now["gain"] * g
        return p - now["rate"] * (v / (s + self.epsilon)), {"s": s, "v": v}
