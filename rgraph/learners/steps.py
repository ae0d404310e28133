"""The algorithms of the learners, written with operations: see `Step`."""

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
    equal,
    expm1,
    greater,
    reduce_mean,
    sign,
    sqrt,
    square,
)

Kept = Mapping[str, Operand]
New = tuple[Operand, dict[str, Operand]]


def rest(dtype: Any, x: float) -> float:
    """1 - x rounded as in CNTK: in float32, 1 - 0.99999 has two correct digits."""
    return float(dtype(1) - dtype(x))


@dataclass
class Now:
    """The hyperparameters for one minibatch.

    Attributes:
        rate: the learning rate for the gradient: the sum over the minibatch, or the mean for a
            learner with `minibatch_size=IGNORE`.
        samples: the number of samples in the minibatch.
        momentum: the decay factor of the smoothed gradient.
        gain: the factor of the new gradient in the smoothed one.
        decay: the decay factor of the mean square of the gradient.
    """

    rate: float
    samples: int
    momentum: float = 0.0
    gain: float = 1.0
    decay: float = 0.0


class Step:
    """The algorithm of a learner: computes new values from a gradient.

    Scalars that change between minibatches (`numbers`) are inputs, so that one plan serves all.

    Attributes:
        kept: the names of arrays kept for each parameter, of its shape and initially 0.
        counts: whether it counts updates, or samples. The count is a value in the graph, since a
            plan may skip an update by itself.
    """

    kept: ClassVar[tuple[str, ...]] = ()
    counts: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name in checkpoints."""
        return type(self).__name__.lower()

    def count(self, before: Operand, now: Kept) -> Operand:
        """The count after an update."""
        return before + 1

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        """The scalar inputs that it needs.

        Args:
            rest: computes 1 - x in the precision of the parameters; see `rest`.
        """
        return {"rate": now.rate}

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        """The new values of a parameter and of the kept arrays.

        Args:
            g: the gradient.
            now: `numbers`, and "count", including this update, if it counts.
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

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        most = min(self.most, 1e18)  # far beyond use, and what a float32 holds of sums of it
        first = equal(kept["scale"], 0)
        before = element_select(first, square(g), kept["s"])
        s = self.gamma * before + rest(p.dtype, self.gamma) * square(g)
        signs, scale = sign(g), element_select(first, 0.02, kept["scale"])
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

    def count(self, before: Operand, now: Kept) -> Operand:
        return now["decay"] * before + now["new samples"]  # of samples in s

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        return {
            "rate": now.rate,
            "decay": now.decay,
            "decay gain": rest(now.decay),
            "new samples": (1 - now.decay) * now.samples,
            "smooths": float(now.momentum > 0),
            "momentum": now.momentum,
            "gain": now.gain,
        }

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        s = now["decay"] * kept["s"] + now["decay gain"] * square(g)
        move = g * element_min(sqrt(now["count"]) / sqrt(s), 10)
        smoothed = now["momentum"] * kept["v"] + now["gain"] * move
        v = element_select(now["smooths"], smoothed, kept["v"])
        return p - now["rate"] * element_select(now["smooths"], smoothed, move), {"s": s, "v": v}


@dataclass(frozen=True)
class Adam(Step):
    epsilon: float
    kept = ("s", "v")
    counts = True

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        return {
            "rate": now.rate,
            "decay": now.decay,
            "decay gain": rest(now.decay),
            "momentum": now.momentum,
            "gain": now.gain,
            "log decay": _log(now.decay),
            "log momentum": _log(now.momentum),
        }

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        s = now["decay"] * kept["s"] + now["decay gain"] * square(g)
        v = now["momentum"] * kept["v"] + now["gain"] * g
        unbiased = sqrt(_begun(now, "log decay")) / _begun(now, "log momentum")
        return p - now["rate"] * unbiased * (v / (sqrt(s) + self.epsilon)), {"s": s, "v": v}


@dataclass(frozen=True)
class Adamax(Step):
    epsilon: float
    kept = ("s", "v")
    counts = True

    def numbers(self, now: Now, rest: Callable[[float], float]) -> dict[str, float]:
        return {
            "rate": now.rate,
            "decay": now.decay,
            "momentum": now.momentum,
            "gain": now.gain,
            "log momentum": _log(now.momentum),
        }

    def step(self, p: Operand, g: Operand, kept: Kept, now: Kept) -> New:
        s = element_max(now["decay"] * kept["s"], abs(g))
        v = now["momentum"] * kept["v"] + now["gain"] * g
        rate = now["rate"] / _begun(now, "log momentum")
        return p - rate * (v / (s + self.epsilon)), {"s": s, "v": v}


def _log(part: float) -> float:
    """The logarithm; for 0 a number so negative that its exponential is negligible next to 1."""
    return math.log(max(part, 1e-30))


def _begun(now: Kept, log: str) -> Operand:
    """1 - decay**count, accurately, from the decay factor's logarithm: the sum of the weights in an
    exponential moving average."""
    return -expm1(now[log] * now["count"])
