"""Gradients of long films in windows of frames: time and memory beside whole sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import rgraph as C

from .measure import interleaved
from .memory import cost_of, peak_of
from .programs.convgru import conv_gru, shapes, torch_step
from .sides import torch_version

Row = dict[str, Any]
MEMORY, TIME = 0.12, 1.5  # of the whole film's, that gradients in windows may take


def _film(frames: int, image: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, frames, *image)).astype(np.float32)


def _weights(image: Sequence[int], outputs: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    own = shapes(image[0], outputs).values()
    return [0.1 * rng.normal(size=s).astype(np.float32) for s in own]


def ours(frames: int, image: Sequence[int], outputs: int, **options: Any) -> Callable[[], Any]:
    """The gradients of a convolutional GRU over one film, with the options of `Function.grad`."""
    x = C.sequence.input_variable(tuple(image))
    state = C.constant(0, (outputs, *image[1:]))
    h = C.layers.Recurrence(conv_gru(image[0], outputs), initial_state=state)(x)
    loss = C.reduce_sum(C.square(h))
    named = {p.name: p for p in loss.parameters}
    for name, value in zip(shapes(image[0], outputs), _weights(image, outputs), strict=True):
        named[name].value = value
    return partial(loss.grad, {x: _film(frames, image)}, wrt=loss.parameters, **options)


def theirs(frames: int, image: Sequence[int], outputs: int, window: int = 0) -> Callable[[], Any]:
    """The same in PyTorch; in windows by its `torch.utils.checkpoint`."""
    import torch
    from torch.utils.checkpoint import checkpoint

    film = torch.from_numpy(_film(frames, image)[0])
    w = [torch.from_numpy(a).requires_grad_() for a in _weights(image, outputs)]

    def part(h: Any, images: Any) -> Any:
        total = torch.zeros(())
        for x in images:
            h = torch_step(w, x[None], h)
            total = total + (h * h).sum()
        return h, total

    def run() -> Any:
        h, total = film.new_zeros(1, outputs, *image[1:]), torch.zeros(())
        for start in range(0, frames, window or frames):
            images = film[start : start + (window or frames)]
            if window:
                h, loss = checkpoint(part, h, images, use_reentrant=False)
            else:
                h, loss = part(h, images)
            total = total + loss
        return torch.autograd.grad(total, w)

    return run


def measure(quick: bool, repeat: int, least: float) -> list[Row]:
    """Seconds and bytes: W3's step over 2,048 frames, and a film that does not fit whole."""
    if quick:
        return [*_beside_whole(64, (1, 8, 8), 4, 1, 0.0), *_large(32, (1, 24, 24), 4, 10**6, 8)]
    return [
        *_beside_whole(2048, (1, 16, 16), 16, repeat, least),
        *_large(2000, (3, 96, 96), 32, 1_200_000_000, 32),
    ]


def _beside_whole(
    frames: int, image: Sequence[int], outputs: int, repeat: int, least: float
) -> list[Row]:
    ways: dict[str, Row] = {"whole": {}}
    ways |= {f"windows of {frames // n}": {"window": frames // n} for n in (8, 16, 32)}
    runs = {name: ours(frames, image, outputs, **o) for name, o in ways.items()}
    times = {name: min(found) for name, found in interleaved(runs, repeat, least).items()}
    rows = []
    for name, options in ways.items():
        peak = peak_of(
            partial(ours, 4, image, outputs, **options),
            partial(ours, frames, image, outputs, **options),
        )
        rows.append({"what": f"{frames} frames, {name}", "s": times[name], "MB": peak / 1e6})
    for row in rows:
        row["of the time"] = row["s"] / rows[0]["s"]
        row["of the memory"] = row["MB"] / rows[0]["MB"]
    within = [row for row in rows if row["of the memory"] <= MEMORY]
    for row in within:
        row |= {"measured": row["of the time"], "at most": TIME}
    return [_rounded(row) for row in rows]


def _large(frames: int, image: Sequence[int], outputs: int, limit: int, window: int) -> list[Row]:
    """A film under a limit of memory, once; and from shorter films, since time and memory grow with
    their frames, what it takes whole, and what it takes PyTorch."""
    checkpoints = {"window": window}
    estimates: dict[str, tuple[Callable[..., Any], Row, tuple[int, int]]] = {
        "rgraph, whole": (ours, {}, (window // 2, window))
    }
    if torch_version():
        estimates["PyTorch, whole"] = (theirs, {}, (window // 2, window))
        way = f"PyTorch, checkpoints of {window}"
        estimates[way] = (theirs, checkpoints, (2 * window, 4 * window))
    cost = cost_of(
        partial(ours, 2, image, outputs, memory_limit=limit),
        partial(ours, frames, image, outputs, memory_limit=limit),
        once=True,
    )
    what = f"{frames} frames, rgraph, memory_limit of {limit / 1e6:.3g} MB"
    rows: list[Row] = [{"what": what, "s": cost.seconds, "MB": cost.bytes / 1e6}]
    for name, (side, options, lengths) in estimates.items():
        short, long = (
            cost_of(
                partial(side, 2, image, outputs, **options),
                partial(side, n, image, outputs, **options),
                once=True,
            )
            for n in lengths
        )
        more = (frames - lengths[1]) / (lengths[1] - lengths[0])
        row = {"what": f"{frames} frames, {name}, estimated from {lengths[0]} and {lengths[1]}"}
        row["s"] = long.seconds + more * (long.seconds - short.seconds)
        row["MB"] = (long.bytes + more * (long.bytes - short.bytes)) / 1e6
        rows.append(row)
    for row in rows:
        row["of the time"] = row["s"] / rows[0]["s"]
        row["of the memory"] = row["MB"] / rows[0]["MB"]
    rows[0] |= {"measured": rows[0]["MB"], "at most": 1500.0}
    return [_rounded(row) for row in rows]


def _rounded(row: Row) -> Row:
    row["part"] = "windows"
    return {k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in row.items()}
