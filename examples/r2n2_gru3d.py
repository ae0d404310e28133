"""Reconstructs a solid from several views, with a GRU whose memory is a volume.

    python examples/r2n2_gru3d.py             # trains on solids; three minutes
    python examples/r2n2_gru3d.py --shapes    # the unit at its full size, without training
    python examples/r2n2_gru3d.py --quick     # a few seconds, to see that it works

The unit is the 3-D convolutional GRU of 3D-R2N2 (Choy and others, 2016, arXiv:1604.00449). It
takes a vector x of 1024 features per view. Its memory h is a grid of 4x4x4 cells with 128
channels, in which a cell sees its neighbours (*, a 3x3x3 convolution) and the whole view (fc,
fully connected with a leaky ReLU), each with weights of its own:

    u = sigmoid(fc(x) + U * h)                       update gate
    r = sigmoid(fc(x) + U * h)                       reset gate
    h = (1 - u) h + u tanh(fc(x) + U * (r h))

`GRU3D` below implements it as a step function. `Fold` runs it over the views and returns the last
h; the products with the features, which do not depend on the memory, are computed once for all
views.

The task: a solid is two or three boxes, balls and cylinders in 16x16x16 voxels. The net is given
silhouettes and the direction each is seen from: 13 directions, through opposite faces, edges and
corners of a cube. A convnet computes the features, the GRU (with 16 channels here) takes in view
after view, and transposed convolutions produce the voxels. It is trained on 1 to 8 views in any
order: each minibatch contains sequences of all these lengths.

The program prints how well it reconstructs held-out solids from 1, 2, 4 and 8 views, as
intersection over union, next to what carving leaves: all voxels that lie within every silhouette.
`--out` (default: r2n2_gru3d/) receives solids.png, which needs Matplotlib:
pip install '.[examples]'.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import rgraph as C

SIZE = 16  # voxels along an edge, and pixels
BATCH, MOST = 32, 8  # solids in a minibatch, views of each
VIEWS = (1, 2, 4, 8)
THRESHOLD = 0.4  # the probability from which on a voxel counts as filled, as in the paper

# ---------------------------------------------------------------------------------------- the unit


def leaky(x: Any) -> Any:
    return C.leaky_relu(x, 0.1)


def GRU3D(channels: int = 128, grid: int = 4) -> Callable[[Any, Any], Any]:
    """A step function: a volume (channels, grid, grid, grid) and a vector to the next volume."""

    def fcconv3d() -> Callable[[Any, Any], Any]:
        fc = C.layers.Dense((channels, grid, grid, grid), activation=leaky)
        conv = C.layers.Convolution3D(3, channels, pad=True, bias=False)
        return lambda h, x: fc(x) + conv(h)

    update, reset, candidate = fcconv3d(), fcconv3d(), fcconv3d()

    def step(h: Any, x: Any) -> Any:
        u = C.sigmoid(update(h, x))
        r = C.sigmoid(reset(h, x))
        return (1 - u) * h + u * C.tanh(candidate(r * h, x))

    return step


def show_shapes() -> None:
    """The unit at its full size on two minibatches: (sequences, views, 1024)."""
    x = C.sequence.input_variable(1024)
    h = C.layers.Fold(GRU3D())(x)
    count = sum(w.value.size for w in h.parameters)
    print(f"the unit at its full size: {count:,} parameters")
    for shape in (16, 5, 1024), (200, 24, 1024):
        start = time.monotonic()
        result = h.eval({x: np.ones(shape, np.float32)})
        print(f"  {shape} -> {result.shape}  {time.monotonic() - start:.1f} s", flush=True)


# --------------------------------------------------------------------------------------- the model


def make_model(x: Any, channels: int) -> Any:
    """Views (4, 16, 16) to the log odds (16, 16, 16) that a voxel is filled."""
    twice = {"pad": True, "strides": 2}  # half the size, or twice
    with C.default_options(init=C.he_normal()):
        layers = [
            C.layers.Convolution2D(3, 16, activation=leaky, **twice),
            C.layers.Convolution2D(3, 32, activation=leaky, **twice),
            C.layers.Dense(1024, activation=leaky),
            C.layers.Fold(GRU3D(channels)),
            C.layers.ConvolutionTranspose3D(4, 16, activation=leaky, output_shape=8, **twice),
            C.layers.ConvolutionTranspose3D(4, 1, init_bias=-2, output_shape=16, **twice),
            lambda y: C.reshape(y, (SIZE, SIZE, SIZE)),
        ]
    return C.layers.Sequential(layers)(x)


# ---------------------------------------------------------------------------------------- the data

# Where the voxels are, from the middle of the grid.
VOXELS = np.stack(np.indices((SIZE,) * 3), axis=-1).reshape(-1, 3) - (SIZE - 1) / 2
# The lines through opposite faces, edges and corners of a cube.
WAYS = np.array(list(itertools.product((1, 0, -1), repeat=3))[:13], float)
WAYS /= np.linalg.norm(WAYS, axis=1, keepdims=True)


def solids(count: int, rng: np.random.Generator) -> np.ndarray:
    """Two or three boxes, balls and cylinders put together: (count, 4096) of True and False.

    All lies within a ball, so that no view cuts anything off.
    """
    result = np.zeros((count, SIZE**3), bool)
    for solid in result:
        for _ in range(rng.integers(2, 4)):
            apart = np.abs(VOXELS - rng.uniform(-4, 4, 3)) / rng.uniform(1.5, 5, 3)
            x, y, z = apart[:, rng.permutation(3)].T
            flat = [np.maximum(x, y), np.hypot(x, y)][rng.integers(2)]
            solid |= [np.maximum(flat, z), np.hypot(flat, z)][rng.integers(2)] < 1
        solid &= np.linalg.norm(VOXELS, axis=1) < SIZE / 2
    return result


def pixels() -> np.ndarray:
    """For each of the 13 ways to look, the pixel that each voxel falls on: (13, 4096)."""
    found = []
    for way in WAYS:
        aside = np.eye(3)[np.argmin(np.abs(way))]
        right = np.cross(way, aside) / np.linalg.norm(np.cross(way, aside))
        seen = VOXELS @ np.stack([np.cross(right, way), right], axis=1)
        row, column = np.clip(np.rint(seen + (SIZE - 1) / 2), 0, SIZE - 1).astype(int).T
        found.append(row * SIZE + column)
    return np.array(found)


def silhouettes(filled: np.ndarray, where: np.ndarray) -> np.ndarray:
    """What is seen of solids (N, 4096) in all ways to look: (N, 13, 256) of True and False."""
    seen = np.zeros((len(filled), len(where), SIZE**2), bool)
    solid, voxel = np.nonzero(filled)
    for view, pixel in enumerate(where):
        seen[solid, view, pixel[voxel]] = True
    return seen


def carved(seen: np.ndarray, views: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The voxels (4096,) that lie within these silhouettes of a solid."""
    return np.all([seen[v, where[v]] for v in views], axis=0)


def as_frames(seen: np.ndarray, views: np.ndarray) -> np.ndarray:
    """A solid's views as a sequence (views, 4, 16, 16): the silhouette, and whence in x, y, z."""
    frames = np.empty((len(views), 4, SIZE, SIZE), np.float32)
    frames[:, 0] = seen[views].reshape(-1, SIZE, SIZE)
    frames[:, 1:] = WAYS[views][:, :, None, None]
    return frames


# ---------------------------------------------------------------------------------------- learning


def train(x: Any, z: Any, filled: Any, seen: Any, steps: int, rng: np.random.Generator) -> None:
    """Adam on the cross entropy of the voxels; the rate falls to 0 along half a cosine."""
    t = C.input_variable((SIZE, SIZE, SIZE))
    loss = C.reduce_mean(C.log_add_exp(z, 0) - z * t)
    rates = [0.001 * (1 + math.cos(math.pi * i / steps)) for i in range(steps)]
    schedule = C.learning_parameter_schedule_per_sample(rates, epoch_size=BATCH)
    learner = C.adam(z.parameters, schedule, momentum=0.9, variance_momentum=0.99)
    bar = C.logging.ProgressBar(total=steps * BATCH)
    trainer = C.Trainer(z, loss, [learner], [bar])
    start, recent = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        chosen = rng.integers(len(filled), size=BATCH)
        views = [rng.permutation(len(WAYS))[: rng.integers(1, MOST + 1)] for _ in chosen]
        frames = [as_frames(seen[i], v) for i, v in zip(chosen, views)]
        truth = filled[chosen].reshape(-1, SIZE, SIZE, SIZE)
        trainer.train_minibatch({x: frames, t: truth.astype(np.float32)})
        recent += max(0.05, 1 / step) * (trainer.previous_minibatch_loss_average - recent)
        if step * 10 // steps > (step - 1) * 10 // steps:
            bar.close()
            told = f"step {step}/{steps}  loss {recent:.4f}  {time.monotonic() - start:.0f} s"
            print(told, flush=True)


def predict(x: Any, z: Any, seen: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Which voxels are filled (N, 4096), of solids each seen in some of the ways (N, n)."""
    least = math.log(THRESHOLD / (1 - THRESHOLD))
    parts = []
    for i in range(0, len(seen), BATCH):
        some = slice(i, i + BATCH)
        odds = z.eval({x: [as_frames(s, v) for s, v in zip(seen[some], views[some])]})
        parts.append(odds.reshape(len(odds), -1) > least)
    return np.concatenate(parts)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The mean over the solids of intersection over union."""
    return float(np.mean((a & b).sum(axis=1) / np.maximum((a | b).sum(axis=1), 1)))


# ----------------------------------------------------------------------------------------- results


def cubes(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three sides of each voxel that one sees from (1, 1, 1), and how bright each is.

    As polygons (sides, 4, 2) on the page, the farthest voxels first.
    """
    voxels = np.argwhere(volume.reshape(SIZE, SIZE, SIZE))
    voxels = voxels[np.argsort(voxels.sum(axis=1), kind="stable")]
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    sides = np.array([[np.insert(corner, axis, 1) for corner in square] for axis in range(3)])
    on_page = np.array([[-0.87, -0.5], [0.87, -0.5], [0, 1]])
    polygons = (voxels[:, None, None] + sides) @ on_page
    return polygons.reshape(-1, 4, 2), np.tile([0.75, 0.5, 1], len(voxels))


def draw(path: Path, rows: list[tuple[np.ndarray, list[np.ndarray]]]) -> None:
    """Each row: the silhouettes (8, 256), then voxels: true, and built from more and more views."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: it needs Matplotlib, pip install '.[examples]'")
        return
    matplotlib.use("Agg")
    from matplotlib import collections, colors, pyplot

    titles = [f"its {MOST} views", "the solid", *(f"built from {n}" for n in VIEWS)]
    figure, panels = pyplot.subplots(
        len(rows), len(titles), figsize=(11, 1.9 * len(rows)), layout="constrained", squeeze=False
    )
    for line, (seen, volumes) in zip(panels, rows):
        framed = np.pad(seen.reshape(2, -1, SIZE, SIZE), ((0, 0), (0, 0), (1, 1), (1, 1)))
        line[0].imshow(np.hstack(np.hstack(framed)), cmap="gray_r")
        line[0].set(xticks=[], yticks=[])
        for j, (panel, volume) in enumerate(zip(line[1:], volumes)):
            polygons, bright = cubes(volume)
            color = np.array(colors.to_rgb("tab:orange" if j else "tab:blue"))
            shown = collections.PolyCollection(
                polygons, facecolors=bright[:, None] * color, edgecolors="black", linewidths=0.1
            )
            panel.add_collection(shown)
            panel.set(xlim=(-11, 11), ylim=(-11, 11), aspect="equal")
            panel.set_axis_off()
    for panel, title in zip(panels[0], titles):
        panel.set_title(title, fontsize=10)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--channels", type=int, default=16, help="channels of the state (%(default)s)")
    p.add_argument("--solids", type=int, default=3000, help="for training (%(default)s)")
    p.add_argument("--steps", type=int, default=800, help="training minibatches (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="random seed (%(default)s)")
    p.add_argument("--out", type=Path, default=Path("r2n2_gru3d"), help="folder for the picture")
    p.add_argument("--shapes", action="store_true", help="run the unit at its full size, then exit")
    p.add_argument("--quick", action="store_true", help="small and short, to see that it works")
    if p.parse_args(argv).quick:
        p.set_defaults(channels=8, solids=600, steps=20)
    args = p.parse_args(argv)
    if min(args.channels, args.solids, args.steps) < 1:
        p.error("--channels, --solids and --steps must be at least 1")
    C.set_seed(args.seed)
    if args.shapes:
        show_shapes()
        return 0

    rng = np.random.default_rng(args.seed)
    where = pixels()
    filled = solids(args.solids + max(4, args.solids // 15), rng)
    seen = silhouettes(filled, where)
    new, new_seen = filled[args.solids :], seen[args.solids :]  # never learned from
    x = C.sequence.input_variable((4, SIZE, SIZE), name="views")
    z = make_model(x, args.channels)
    print(f"model: {sum(w.value.size for w in z.parameters):,} parameters")
    train(x, z, filled[: args.solids], seen[: args.solids], args.steps, rng)

    order = np.array([rng.permutation(len(WAYS))[:MOST] for _ in new])
    print(f"intersection over union on {len(new)} solids that it never saw:")
    print("  views  built  carved")
    volumes = [new]
    for n in VIEWS:
        volumes.append(predict(x, z, new_seen, order[:, :n]))
        hulls = np.array([carved(s, views[:n], where) for s, views in zip(new_seen, order)])
        print(f"  {n:5}  {overlap(volumes[-1], new):.3f}  {overlap(hulls, new):6.3f}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = [(new_seen[i, order[i]], [v[i] for v in volumes]) for i in range(4)]
    draw(args.out / "solids.png", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
