"""How each learner turns a gradient into a step: see `learner.Step`. In place, on whole arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .learner import Array, Now, State, Step


def _kept(state: State, name: str, p: Array) -> Array:
    """An array like `p` that is kept from update to update, 0 at first."""
    if name not in state:
        state[name] = np.zeros_like(p)
    return state[name]


def _smooth(v: Array, x: Array, part: float, gain: float | None = None) -> None:
    """v becomes part * v + gain * x; x is lost.

    The gain is by default 1 - part, in the arrays' precision as CNTK has it: of 1 - 0.99999
    a float32 keeps two digits.
    """
    one = v.dtype.type(1)
    v *= part
    x *= one - v.dtype.type(part) if gain is None else gain
    v += x


class _MadeStep:
    """A step with numbers of its own. It is pickled as what makes it, and these."""

    def __init__(self, make: Callable[..., Step], numbers: tuple[float, ...]) -> None:
        self._made_by, self._step = (make, numbers), make(*numbers)
        self.__qualname__ = self._step.__qualname__

    def __call__(self, p: Array, g: Array, state: State, now: Now) -> None:
        self._step(p, g, state, now)

    def __reduce__(self) -> Any:
        make, numbers = self._made_by
        return _again, (make.__name__, numbers)


def _again(name: str, numbers: tuple[float, ...]) -> Step:
    return globals()[name](*numbers)


def _made(make: Callable[..., Step]) -> Callable[..., Step]:
    return wraps(make)(lambda *numbers: _MadeStep(make, numbers))


def sgd_step(p: Array, g: Array, state: State, now: Now) -> None:
    g *= now.rate
    p -= g


def momentum_step(p: Array, g: Array, state: State, now: Now) -> None:
    v = _kept(state, "v", p)
    _smooth(v, g, now.momentum, now.gain * now.rate)
    p -= v


def nesterov_step(p: Array, g: Array, state: State, now: Now) -> None:
    v = _kept(state, "v", p)
    g *= now.rate * now.gain
    p -= g
    _smooth(v, g, now.momentum, 1.0)
    np.multiply(v, now.momentum, out=g)
    p -= g


@_made
def adagrad_step(average: bool) -> Step:
    def step(p: Array, g: Array, state: State, now: Now) -> None:
        s = _kept(state, "s", p)
        s += g * g
        root = np.sqrt(s + 1e-16)
        g /= root
        g *= now.rate / (np.mean(1 / root) if average else 1.0)
        p -= g

    return step


@_made
def adadelta_step(rho: float, epsilon: float) -> Step:
    def step(p: Array, g: Array, state: State, now: Now) -> None:
        s, moved = _kept(state, "s", p), _kept(state, "moved", p)
        _smooth(s, g * g, rho)
        g *= np.sqrt((moved + epsilon) / (s + epsilon))
        _smooth(moved, g * g, rho)
        g *= now.rate
        p -= g

    return step


@_made
def rmsprop_step(
    gamma: float, inc: float, dec: float, most: float, least: float, average: bool
) -> Step:
    most = min(most, 1e18)  # far beyond use, and what a float32 holds of sums of it

    def step(p: Array, g: Array, state: State, now: Now) -> None:
        if "s" not in state:
            state.update(s=g * g, sign=np.zeros_like(p), scale=np.full_like(p, 0.02))
        s, scale = state["s"], state["scale"]
        _smooth(s, g * g, gamma)
        sign = np.sign(g)
        grow = state["sign"] * sign > 0
        scale *= np.where(grow, p.dtype.type(inc), p.dtype.type(dec))
        np.copyto(scale, np.where(grow, np.minimum(scale, most), np.maximum(scale, least)))
        state["sign"] = sign
        factor = scale / np.sqrt(s + 1e-6)
        g *= factor
        g *= now.rate / (np.mean(factor) if average else 1.0)
        p -= g

    return step


def fsadagrad_step(p: Array, g: Array, state: State, now: Now) -> None:
    s, v = _kept(state, "s", p), _kept(state, "v", p)
    count = now.decay * state.get("count", 0.0) + (1 - now.decay) * now.samples
    state["count"] = count  # of samples in s
    _smooth(s, g * g, now.decay)
    with np.errstate(divide="ignore"):
        g *= np.minimum(math.sqrt(count) / np.sqrt(s), 10)
    if now.momentum > 0:
        _smooth(v, g, now.momentum, now.gain)
        g[...] = v
    g *= now.rate
    p -= g


@_made
def adam_step(epsilon: float) -> Step:
    def step(p: Array, g: Array, state: State, now: Now) -> None:
        s, v = _kept(state, "s", p), _kept(state, "v", p)
        state["count"] = count = state.get("count", 0) + 1
        correction = math.sqrt(1 - now.decay**count) / (1 - now.momentum**count)
        scale = np.multiply(g, g, out=np.empty_like(g))
        _smooth(s, scale, now.decay)
        np.sqrt(s, out=scale)
        scale += epsilon
        _smooth(v, g, now.momentum, now.gain)
        np.divide(v, scale, out=g)
        g *= now.rate * correction
        p -= g

    return step


@_made
def adamax_step(epsilon: float) -> Step:
    def step(p: Array, g: Array, state: State, now: Now) -> None:
        s, v = _kept(state, "s", p), _kept(state, "v", p)
        state["count"] = count = state.get("count", 0) + 1
        s *= now.decay
        np.maximum(s, np.abs(g), out=s)
        _smooth(v, g, now.momentum, now.gain)
        np.divide(v, s + epsilon, out=g)
        g *= now.rate / (1 - now.momentum**count)
        p -= g

    return step
