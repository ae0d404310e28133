"""Random values, new in every run: CNTK's `random` module."""

from .ops.random import (
    bernoulli,
    bernoulli_like,
    gumbel,
    gumbel_like,
    normal,
    normal_like,
    uniform,
    uniform_like,
)

__all__ = [
    "bernoulli",
    "bernoulli_like",
    "gumbel",
    "gumbel_like",
    "normal",
    "normal_like",
    "uniform",
    "uniform_like",
]
