"""Learns to predict the next frame of a film with a convolutional GRU.

    python examples/convgru_video.py                   # the clip in examples/data, two minutes
    python examples/convgru_video.py --video my.mp4    # any video: pip install 'rgraph[video]'
    python examples/convgru_video.py --quick           # a few seconds, to see that it works

The step function below is written as one writes it for one frame: convolutions where a GRU has
matrix products. `Recurrence` runs it over whole sequences to learn; then the very same function
is applied to one frame after the other, and from some frame on to its own predictions.

It learns from the first 70 % of the frames and prints its error on the others, next to the error
of who just repeats the last frame. `--out` (default: convgru_video/) gets

    model.npz         the parameters, to go on from with --load (Ctrl-C leaves them too)
    prediction.png    frames that were given, what followed, and what the model made of it
    prediction.gif    the same as a film, slowly

The pictures need Pillow: pip install 'rgraph[examples]'. All the rest is NumPy.

The clip is a shot of Big Buck Bunny, (c) copyright 2008, Blender Foundation,
www.bigbuckbunny.org, licensed under Creative Commons Attribution 3.0. By default the first 56
frames are used, in which the bunny gets up; afterwards it stands still for a long time.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rgraph as C

CLIP = Path(__file__).parent / "data" / "big_buck_bunny_96x54.npz"
SEQUENCES, LENGTH, CROP = 8, 8, 24  # a minibatch: so many, of so many frames of CROP x CROP pixels

# ---------------------------------------------------------------------------------- the model


def ConvolutionalGRU(kernel_shape: tuple[int, int], outputs: int, init: Any) -> Any:
    """The step function of a GRU with convolutions in the place of products."""
    filter_shape, bias_shape = (outputs, C.InferredDimension, *kernel_shape), (outputs, 1, 1)
    Wz, Wr, Wh = (C.Parameter(filter_shape, init=init, name=n) for n in ("Wz", "Wr", "Wh"))
    Uz, Ur, Uh = (C.Parameter(filter_shape, init=init, name=n) for n in ("Uz", "Ur", "Uh"))
    bz, br, bh = (C.Parameter(bias_shape, init=0, name=n) for n in ("bz", "br", "bh"))

    def conv_gru(h: Any, x: Any) -> Any:
        z = C.sigmoid(bz + C.convolution(Wz, x) + C.convolution(Uz, h))  # update gate
        r = C.sigmoid(br + C.convolution(Wr, x) + C.convolution(Ur, h))  # reset gate
        new = C.tanh(bh + C.convolution(Wh, x) + C.convolution(Uh, h * r))
        return z * h + (1 - z) * new

    return conv_gru


class NextFrame:
    """What is predicted is how the next frame differs from the present one.

    `step` takes one frame and its two states, the GRU's memory and the frame before;
    `predict` makes the next frame of the new memory.
    """

    def __init__(self, hidden: int) -> None:
        gru = ConvolutionalGRU((3, 3), hidden, init=C.glorot_uniform())
        W = C.Parameter((3, hidden, 3, 3), init=C.glorot_uniform(0.1), name="W")

        def step(memory: Any, before: Any, frame: Any) -> Any:
            x = C.splice(frame - 0.5, 4 * (frame - before), axis=0)
            return gru(memory, x), frame

        self.step, self.hidden = step, hidden
        self.predict = lambda memory, frame: frame + C.convolution(W, memory)

    def over_sequences(self, x: Any) -> Any:
        """The prediction after each frame of a sequence."""
        start = (0, C.sequence.first(x))
        return self.predict(C.layers.Recurrence(self.step, initial_state=start)(x), x)

    def frame_by_frame(self, height: int, width: int) -> Any:
        """A Python function: states and a frame in, new memory and prediction out."""
        memory = C.input_variable((self.hidden, height, width))
        before, frame = (C.input_variable((3, height, width)) for _ in range(2))
        new, _ = self.step(memory, before, frame)
        both = C.combine(new, self.predict(new, frame))
        return lambda *now: both.eval(dict(zip((memory, before, frame), now))).values()


# ------------------------------------------------------------------------------------ the film


def raw_frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a file, (height, width, 3) of 0..255: of an .npz with `frames`, or a video."""
    if path.suffix == ".npz":
        yield from np.load(path)["frames"]
        return
    try:
        import imageio.v3 as imageio
    except ImportError:
        sys.exit("reading a video needs imageio: pip install 'rgraph[video]'")
    yield from imageio.imiter(path)


def read_film(path: Path, count: int, width: int) -> np.ndarray:
    """The first `count` frames, (count, 3, height, width) of 0..1, scaled down to a width.

    Frames that repeat the one before are left out: films that were converted from another frame
    rate have them.
    """
    film: list[np.ndarray] = []
    for raw in raw_frames(path):
        height = round(raw.shape[0] * width / raw.shape[1])
        rows, columns = averaging(raw.shape[0], height), averaging(raw.shape[1], width)
        frame = rows @ (raw[..., :3].astype(np.float32) / 255).transpose(2, 0, 1) @ columns.T
        if not film or np.mean((frame - film[-1]) ** 2) > (0.5 / 255) ** 2:
            film.append(frame)
        if len(film) == count:
            break
    return np.array(film)


def averaging(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) that makes `new` pixels of `old`, each the average of what it covers."""
    edges = np.linspace(0, old, new + 1)[:, None]
    covered = np.minimum(edges[1:], np.arange(old) + 1) - np.maximum(edges[:-1], np.arange(old))
    return (np.maximum(covered, 0) * new / old).astype(np.float32)


# ------------------------------------------------------------------------------------ learning


def minibatch(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random cuts of the film, half of them mirrored: (sequences, LENGTH + 1, 3, h, w)."""
    frames, _, height, width = film.shape
    h, w = min(CROP, height), min(CROP, width)
    cuts = []
    for _ in range(SEQUENCES):
        t, i, j = (rng.integers(n + 1) for n in (frames - LENGTH - 1, height - h, width - w))
        cut = film[t : t + LENGTH + 1, :, i : i + h, j : j + w]
        cuts.append(cut[..., ::-1] if rng.random() < 0.5 else cut)
    return np.array(cuts)


def train(model: NextFrame, film: np.ndarray, steps: int, rng: np.random.Generator) -> int:
    """Adam, its rate falling to 0 along a cosine. Returns how many steps were done."""
    shape = minibatch(film, rng).shape[2:]
    x, t = C.sequence.input_variable(shape), C.sequence.input_variable(shape)
    y = model.over_sequences(x)
    loss = C.reduce_mean(C.square(y - t))
    rates = [0.005 * (1 + math.cos(math.pi * i / steps)) for i in range(steps)] or [0.0]
    schedule = C.learning_parameter_schedule_per_sample(rates, epoch_size=SEQUENCES * LENGTH)
    learner = C.adam(loss.parameters, schedule, momentum=0.9, variance_momentum=0.99)
    trainer = C.Trainer(y, loss, [learner])
    bar = ProgressBar(steps)
    for i in range(steps):
        try:
            batch = minibatch(film, rng)
            trainer.train_minibatch({x: batch[:, :-1], t: batch[:, 1:]})
        except KeyboardInterrupt:
            return i
        bar.show(i + 1, trainer.previous_minibatch_loss_average)
    return steps


class ProgressBar:
    """One line that is written over, or, where it goes into a file, ten lines."""

    def __init__(self, steps: int) -> None:
        self.steps, self.start, self.loss = steps, time.monotonic(), 0.0

    def show(self, step: int, loss: float) -> None:
        self.loss = loss if step == 1 else self.loss + max(0.05, 1 / step) * (loss - self.loss)
        left = (time.monotonic() - self.start) * (self.steps / step - 1)
        bar = "#" * (20 * step // self.steps)
        line = f"[{bar:20}] {step}/{self.steps}  loss {self.loss:.6f}  {left:3.0f} s left"
        if sys.stdout.isatty():
            print(f"\r{line} ", end="\n" if step == self.steps else "", flush=True)
        elif step * 10 // self.steps > (step - 1) * 10 // self.steps:
            print(line, flush=True)


# ------------------------------------------------------------------------------------ results


def run_on(model: NextFrame, given: np.ndarray, count: int) -> np.ndarray:
    """The `count` frames that the model thinks come after those given: each is fed back to it."""
    once = model.frame_by_frame(*given.shape[2:])
    memory = np.zeros((model.hidden, *given.shape[2:]), np.float32)
    before = given[0]
    for frame in given:
        (memory, following), before = once(memory, before, frame), frame
    frames = [following]
    while len(frames) < count:
        frame = np.clip(frames[-1], 0, 1)
        (memory, following), before = once(memory, before, frame), frame
        frames.append(following)
    return np.concatenate(frames)


def report(what: str, error: float, baseline: float) -> None:
    decibels = -10 * math.log10(max(error, 1e-12))
    print(f"  {what:24} {error:.6f}  {decibels:5.1f} dB  {error / max(baseline, 1e-12):5.0%}")


def save(path: Path, parameters: Any) -> None:
    """Writes all or nothing: what is at `path` is never half a file."""
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.savez(file, **{p.name: p.value for p in parameters})
    os.replace(partial, path)


def draw(out: Path, given: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> None:
    """Writes the picture and the GIF. Each array is (frames, 3, height, width) of 0..1."""
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        print("no pictures: they need Pillow, pip install 'rgraph[examples]'")
        return
    scale = max(1, round(192 / given.shape[3]))
    wide, high, line = scale * given.shape[3] + 4, scale * given.shape[2] + 4, 16

    def sheet(rows: list[tuple[str, np.ndarray]]) -> Image.Image:
        columns = max(len(frames) for _, frames in rows)
        image = Image.new("RGB", (columns * wide, len(rows) * (high + line)), "white")
        for i, (caption, frames) in enumerate(rows):
            top = i * (high + line)
            ImageDraw.Draw(image).text((4, top + 2), caption, "black")
            for j, frame in enumerate(frames):
                pixels = (frame.transpose(1, 2, 0).clip(0, 1) * 255).round().astype(np.uint8)
                size = (wide - 4, high - 4)
                picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
                image.paste(picture, (j * wide + 2, top + line))
        return image

    n = len(true)
    shown = given[-n:]
    sheet(
        [
            (f"given: the last {len(shown)} frames that the model was shown", shown),
            (f"true: the {n} frames that follow; it never saw them", true),
            ("predicted: what the model makes of it, fed with its own predictions", predicted),
        ]
    ).save(out / "prediction.png")
    film = [("given", f, f) for f in shown]
    film += [(f"predicted, {i} ahead", *fs) for i, fs in enumerate(zip(true, predicted), 1)]
    pages = [
        sheet([(f"left: true    right: {caption}", np.array([left, right]))])
        for caption, left, right in film
    ]
    options = {"save_all": True, "duration": 200, "loop": 0}
    pages[0].save(out / "prediction.gif", append_images=pages[1:], **options)
    print(f"pictures: {out / 'prediction.png'}, {out / 'prediction.gif'}")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--video", type=Path, default=CLIP, help="a video file (default: the clip)")
    p.add_argument("--frames", type=int, default=56, help="frames to use (%(default)s)")
    p.add_argument("--size", type=int, default=96, help="their width in pixels (%(default)s)")
    p.add_argument("--hidden", type=int, default=16, help="maps in the memory (%(default)s)")
    p.add_argument("--steps", type=int, default=400, help="minibatches to learn (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="of all that is random (%(default)s)")
    p.add_argument("--device", default="", help="cpu, or gpu[0] and so on (default: the best)")
    p.add_argument("--out", type=Path, default=Path("convgru_video"), help="folder for results")
    p.add_argument("--load", type=Path, help="a model.npz to go on from; --steps 0 just uses it")
    p.add_argument("--quick", action="store_true", help="small and short, to see that it works")
    if p.parse_args(argv).quick:
        p.set_defaults(frames=30, size=32, hidden=8, steps=30)
    args = p.parse_args(argv)
    for name, least in ("frames", 2 * LENGTH), ("size", 8), ("hidden", 1), ("steps", 0):
        if getattr(args, name) < least:
            p.error(f"--{name} must be at least {least}")
    for file in args.video, args.load:
        if file is not None and not file.is_file():
            p.error(f"there is no file {file}")
    devices = [d for d in C.device.all_devices() if repr(d).lower().startswith(args.device.lower())]
    if not devices:
        p.error(f"no device {args.device!r} here; there is {C.device.all_devices()}")
    C.device.try_set_default_device(devices[0] if args.device else C.device.use_default_device())
    return args


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    C.set_seed(args.seed)
    film = read_film(args.video, args.frames, args.size)
    if len(film) < 2 * LENGTH:
        sys.exit(f"{args.video} has only {len(film)} different frames, it takes {2 * LENGTH}")
    seen = round(0.7 * len(film))
    _, _, height, width = film.shape
    print(f"{args.video.name}: {len(film)} frames of {width}x{height}, learning from {seen}")

    start = dict(np.load(args.load)) if args.load else {}
    model = NextFrame(len(start["bz"]) if start else args.hidden)
    x = C.sequence.input_variable(film.shape[1:])
    y = model.over_sequences(x)
    for p in y.parameters:
        p.value = start.get(p.name, p.value)
    print(f"model: {model.hidden} maps, {sum(p.value.size for p in y.parameters):,} parameters")

    done = train(model, film[:seen], args.steps, np.random.default_rng(args.seed))
    args.out.mkdir(parents=True, exist_ok=True)
    save(args.out / "model.npz", y.parameters)
    if done < args.steps:
        print(
            f"\nstopped after {done} steps; the model is in {args.out / 'model.npz'}\n"
            f"go on with --load {args.out / 'model.npz'}, or add --steps 0 just to use it"
        )
        return 130
    print(f"the model is in {args.out / 'model.npz'}")

    true, last = film[seen:], film[seen - 1 : -1]
    ahead = y.eval({x: film[:-1]})[0][seen - 1 :]
    baseline = float(np.mean((last - true) ** 2))
    print(f"one frame ahead, mean squared error on the {len(true)} frames it did not learn from:")
    report("repeating the last frame", baseline, baseline)
    report("the model", float(np.mean((ahead - true) ** 2)), baseline)

    true = true[: min(LENGTH, len(true))]
    predicted = run_on(model, film[:seen], len(true))
    baseline = float(np.mean((film[seen - 1] - true) ** 2))
    print(f"running on by itself for {len(true)} frames:")
    report("repeating the last frame", baseline, baseline)
    report("the model", float(np.mean((predicted - true) ** 2)), baseline)
    draw(args.out, film[:seen], true, predicted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
