"""The programs that are measured, each in rgraph and in PyTorch."""

from __future__ import annotations

import numpy as np

from .base import Program
from .convgru import ConvGRU
from .filters import Filters
from .lstm import LSTM
from .quadrants import Quadrants
from .slices import Slices
from .views import Views

LENGTHS = tuple(map(int, np.random.default_rng(0).integers(4, 65, 16)))  # of ragged sequences

# By the part of the benchmarks that they belong to, with what they are held to.
W1 = {"forward": 1.15, "train": 1.1, "forward on numpy": 1 / 2.2, "memory": 0.8}
PARTS: dict[str, list[Program]] = {
    "programs": [
        ConvGRU("W1", (16,), (3, 224, 224), 32, W1),
        ConvGRU("W2", (10,) * 4, (16, 64, 64), 64, {"forward": 1.0, "train": 1.05}),
        ConvGRU("W3", (20,) * 8, (1, 16, 16), 16, {"forward": 1.7, "train": 1.7}),
        LSTM("LSTM", (100,) * 32, 64, 128, targets={"train": 1.0}),
        Slices("slices", volumes=4, slices=40, size=40),
        Views("views", objects=16, views=5, features=1024, channels=128, size=4),
        Quadrants("quadrants", digits=64),
        Filters("filters-frames", "frames", images=1, channels=30, size=200),
        Filters("filters-volume", "volume", images=1, channels=30, size=200),
        Filters("filters-loop", "loop", images=1, channels=30, size=200),
    ],
    "ragged": [
        ConvGRU("ragged-convGRU", LENGTHS, (1, 32, 32), 16, {"train": 1.5}),
        LSTM("ragged-LSTM", LENGTHS, 64, 128, targets={"train": 1.5}),
    ],
    "long": [ConvGRU(f"T{n}", (n,) * 8, (1, 16, 16), 16) for n in (16, 128, 512)],
}
PROGRAMS = {p.name: p for programs in PARTS.values() for p in programs}
