"""Segments a body in a volume, slice by slice, with convolutional GRUs in both directions.

    python examples/bidirectional_segmentation.py            # a minute on two cores
    python examples/bidirectional_segmentation.py --quick    # a few seconds, to see that it works

A volume (1, 40, 40, 40) is read as a sequence of 40 slices. A convolutional net runs on every
slice; no TimeDistributed is needed, because layers apply to all frames of a sequence. Two
convolutional GRUs with one channel each run over the slices, one upwards and one downwards. A last
convolution turns both states into a probability for every pixel, and the slices form a volume
again.

The volumes are made so that no slice can be understood by itself. Each contains one body: a few
overlapping balls, under noise. In 60 % of the slices there is also a ghost: a section through some
other body, which looks like any other section but appears in this slice only. And every fifth slice
is missing and replaced by noise. Only the slices above and below show what is body and what is not.

The net is trained on whole volumes, and again on single slices: the same program, but with volumes
of depth 1, so that the GRUs have nothing to remember. The program prints Dice scores on held-out
volumes before and after training: 2 |A & B| / (|A| + |B|), which is 1 for a perfect segmentation.
`--out` (default: bidirectional_segmentation/) receives segmentation.png, which shows slices, the
truth, and the results of both nets. It needs Matplotlib: pip install '.[examples]'.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import rgraph as C

BALLS = 3  # that a body is made of
STRETCH = 2.5  # along z
GHOSTS, MISSING, NOISE = 0.6, 0.2, 0.3  # parts of the slices; standard deviation
TESTED = 12  # volumes that are kept for the test

# --------------------------------------------------------------------------------------- the data


def balls(shape: tuple[int, ...], size: int, rng: np.random.Generator) -> np.ndarray:
    """How far the balls of bodies, (*bodies, BALLS), reach along z, y, x: (3, *shape, size)."""
    middles = rng.uniform(0.3, 0.7, (3, *shape[:-1], 1, 1))
    centers = size * (middles + rng.uniform(-0.12, 0.12, (3, *shape, 1)))
    radii = size * rng.uniform(0.15, 0.22, (3, *shape, 1))
    radii[0] *= STRETCH
    return np.exp(-(((np.arange(size) - centers) / radii) ** 2))


def volume(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What is seen, and the body that it shows: two arrays (size, size, size), of 0..1."""
    body = np.einsum("kz,ky,kx->zyx", *balls((BALLS,), size, rng)) > 0.5
    ghosts = np.einsum("zkz,zky,zkx->zyx", *balls((size, BALLS), size, rng)) > 0.5
    seen = body | ghosts & (rng.random((size, 1, 1)) < GHOSTS)
    seen &= rng.random((size, 1, 1)) >= MISSING
    return seen + NOISE * rng.standard_normal(seen.shape), body


def volumes(count: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """What is seen and the truth: (count, 1, size, size, size) each."""
    made = [volume(size, rng) for _ in range(count)]
    return [np.array(part, np.float32)[:, None] for part in zip(*made)]


def cut(v: np.ndarray, depth: int) -> np.ndarray:
    """Volumes as more volumes of fewer slices: (count, 1, depth, size, size)."""
    return v.reshape(-1, 1, depth, *v.shape[-2:])


# -------------------------------------------------------------------------------------- the model


def ConvolutionalGRU(kernel_shape: tuple[int, int], outputs: int) -> Any:
    """The step function of a GRU with convolutions in the place of products."""
    kernels, biases = (outputs, C.InferredDimension, *kernel_shape), (outputs, 1, 1)
    init = C.glorot_uniform()
    Wz, Wr, Wh = (C.Parameter(kernels, init=init, name=n) for n in ("Wz", "Wr", "Wh"))  # input
    Uz, Ur, Uh = (C.Parameter(kernels, init=init, name=n) for n in ("Uz", "Ur", "Uh"))  # memory
    bz, br, bh = (C.Parameter(biases, init=0, name=n) for n in ("bz", "br", "bh"))

    @C.BlockFunction("ConvolutionalGRU")
    def conv_gru(h: Any, x: Any) -> Any:
        z = C.sigmoid(bz + C.convolution(Wz, x) + C.convolution(Uz, h))  # update gate
        r = C.sigmoid(br + C.convolution(Wr, x) + C.convolution(Ur, h))  # reset gate
        return z * h + (1 - z) * C.tanh(bh + C.convolution(Wh, x) + C.convolution(Uh, h * r))

    return conv_gru


def make_model(depth: int, size: int) -> tuple[Any, Any]:
    """The input, a volume (1, depth, size, size), and for each of its pixels a probability."""
    conv, recurrence = C.layers.Convolution2D, C.layers.Recurrence
    volume = C.input_variable((1, depth, size, size), name="volume")
    slices = C.to_sequence(C.reshape(volume, (depth, 1, size, size)))
    maps = C.layers.Sequential([conv((3, 3), n, C.relu, pad=True) for n in (64, 32, 3)])(slices)
    up = recurrence(ConvolutionalGRU((3, 3), 1), name="up")(maps)
    down = recurrence(ConvolutionalGRU((3, 3), 1), go_backwards=True, name="down")(maps)
    # Most of a volume is empty: the net knows from the start, and learns what is not.
    last = conv((3, 3), 1, C.sigmoid, pad=True, init=C.glorot_uniform(2), init_bias=-2)
    found = last(C.splice(up, down, axis=0))
    stack = C.sequence.unpack(found, 0, no_mask_output=True)
    return volume, C.reshape(stack, (1, depth, size, size), name="probability")


def train(x: Any, y: Any, steps: int, rng: np.random.Generator) -> None:
    """Adam on the cross entropy, a new volume each step; the rate falls to 0 in half a cosine."""
    depth, size = x.shape[1:3]
    t = C.input_variable(y.shape)
    loss = C.reduce_mean(C.binary_cross_entropy(y, t))
    rates = [0.005 * (1 + math.cos(math.pi * i / steps)) for i in range(steps)]
    schedule = C.learning_parameter_schedule(rates, C.learners.IGNORE, epoch_size=size // depth)
    learner = C.adam(loss.parameters, schedule, momentum=0.9, variance_momentum=0.99)
    bar = C.logging.ProgressBar(total=steps * size // depth)
    trainer = C.Trainer(y, loss, [learner], [bar])
    start, losses = time.monotonic(), []
    for step in range(1, steps + 1):
        seen, truth = (cut(v, depth) for v in volumes(1, size, rng))
        trainer.train_minibatch({x: seen, t: truth})
        losses.append(trainer.previous_minibatch_loss_average)
        if len(losses) == max(1, steps // 6) or step == steps:
            bar.close()
            spent = time.monotonic() - start
            print(f"  {step}/{steps}  loss {np.mean(losses):.4f}  {spent:.0f} s", flush=True)
            losses = []


def find(x: Any, y: Any, seen: np.ndarray) -> np.ndarray:
    """Where the net takes the body to be: True and False for each pixel of each volume."""
    parts = [y.eval({x: cut(v, x.shape[1])}) for v in seen]
    return np.reshape(parts, seen.shape) > 0.5


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * float(np.sum(found * truth)) / max(1.0, float(found.sum() + truth.sum()))


# ---------------------------------------------------------------------------------------- results


def draw(path: Path, seen: np.ndarray, truth: np.ndarray, found: dict[str, np.ndarray]) -> None:
    """Every other slice of a volume, seen, true, and as each net finds it with its errors."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: it needs Matplotlib, pip install '.[examples]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {"what is seen": (seen + 0.5) / 2, "the body": truth}
    for title, body in found.items():
        colors = np.stack([body, truth * body, truth * body], axis=-1).astype(float)
        colors[(truth > 0) & ~body] = 0.2, 0.35, 0.9
        rows[f"found {title} (red: too much, blue: missed)"] = colors
    slices = np.flatnonzero(truth.any((1, 2)))
    slices = np.unique(
        np.linspace(slices[0] - 1, min(slices[-1] + 1, len(truth) - 1), 12, dtype=int)
    )
    figure = pyplot.figure(figsize=(10, 4.1), layout="constrained")
    for part, (title, pictures) in zip(figure.subfigures(len(rows), 1), rows.items()):
        part.suptitle(title, fontsize=9, x=0.01, ha="left")
        for panel, i in zip(part.subplots(1, len(slices)), slices):
            panel.imshow(pictures[i], cmap="gray", vmin=0, vmax=1)
            panel.axis("off")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--size", type=int, default=40, help="of a volume, in pixels (%(default)s)")
    p.add_argument("--steps", type=int, default=160, help="training volumes (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="random seed (%(default)s)")
    p.add_argument("--out", type=Path, default=Path("bidirectional_segmentation"), help="folder")
    p.add_argument("--quick", action="store_true", help="small and short, to see that it works")
    if p.parse_args(argv).quick:
        p.set_defaults(size=14, steps=100)
    args = p.parse_args(argv)
    if args.size < 8 or args.steps < 1:
        p.error("--size must be at least 8, and --steps at least 1")

    seen, truth = volumes(TESTED, args.size, np.random.default_rng([args.seed, 1]))
    found = {}
    for title, depth in ("with the recurrence", args.size), ("slice by slice", 1):
        C.set_seed(args.seed)
        x, y = make_model(depth, args.size)
        if depth > 1:
            print(y.summary(), end="\n\n")
        before = dice(find(x, y, seen), truth)
        print(f"{title}: volumes {x.shape}")
        train(x, y, args.steps, np.random.default_rng([args.seed, 0]))
        found[title] = find(x, y, seen)
        after = dice(found[title], truth)
        print(f"{title}: Dice's score {before:.3f} before, {after:.3f} after learning\n")
    args.out.mkdir(parents=True, exist_ok=True)
    first = {title: bodies[0, 0] for title, bodies in found.items()}
    draw(args.out / "segmentation.png", seen[0, 0], truth[0, 0], first)
    return 0


if __name__ == "__main__":
    sys.exit(main())
