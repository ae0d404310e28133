"""Learns to predict the next frame of a film with a convolutional GRU.

    python examples/convgru_video.py                    # the clip in examples/data; a minute or two
    python examples/convgru_video.py --video film.mp4   # any video: pip install '.[video]'
    python examples/convgru_video.py --quick            # a few seconds, to see that it works
    python examples/convgru_video.py --live film.mp4    # then predict a film frame by frame

The model is a step function, written for a single frame: a GRU with convolutions in place of matrix
products. For training, `Recurrence` runs it over whole sequences. Afterwards `stream()` runs the
same model frame by frame and, where the film ends, on its own predictions.

It is trained on the first 70 % of the frames. The program prints its error on the others next to
the error of simply repeating the last frame. `--out` (default: convgru_video/) receives

    model.npz         the parameters; --load continues from them (saved on Ctrl-C, too)
    prediction.png    the frames it was given, what followed, and its own continuation
    prediction.gif    the same as a slow film

Pictures need Pillow: pip install '.[examples]'. Everything else needs only NumPy and SciPy.

The clip is a shot of Big Buck Bunny, (c) copyright 2008, Blender Foundation,
www.bigbuckbunny.org, licensed under Creative Commons Attribution 3.0, scaled down. By default its
first 56 frames are used, in which the bunny gets up; after that it stands still for a long time.
(With --frames 132 the frames to predict show a sudden gesture, unlike anything before, and the
model does worse than repeating the last frame.)
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import rgraph as C

CLIP = Path(__file__).parent / "data" / "big_buck_bunny_96x54.npz"
SEQUENCES, LENGTH, CROP = 8, 8, 24  # a minibatch: sequences, their frames, pixels along an edge
LEAST, AHEAD = 2, 6  # frames that are given of each sequence; frames to run on for at the end


# ---------------------------------------------------------------------------------- the model


def ConvolutionalGRU(kernel_shape: tuple[int, int], outputs: int, init: Any) -> Any:
    """The step function of a GRU with convolutions in the place of products."""
    kernels, biases = (outputs, C.InferredDimension, *kernel_shape), (outputs, 1, 1)
    Wz, Wr, Wh = (C.Parameter(kernels, init=init, name=n) for n in ("Wz", "Wr", "Wh"))  # input
    Uz, Ur, Uh = (C.Parameter(kernels, init=init, name=n) for n in ("Uz", "Ur", "Uh"))  # memory
    bz, br, bh = (C.Parameter(biases, init=0, name=n) for n in ("bz", "br", "bh"))

    def conv_gru(h: Any, x: Any) -> Any:
        z = C.sigmoid(bz + C.convolution(Wz, x) + C.convolution(Uz, h))  # update gate
        r = C.sigmoid(br + C.convolution(Wr, x) + C.convolution(Ur, h))  # reset gate
        return z * h + (1 - z) * C.tanh(bh + C.convolution(Wh, x) + C.convolution(Uh, h * r))

    return conv_gru


class NextFrame:
    """Predicts by how much the next frame differs from the present one.

    Its input has four channels: red, green and blue, and one that is 1 where the film is given
    and 0 where the model is to go on with what it predicted itself.
    """

    def __init__(self, hidden: int) -> None:
        gru = ConvolutionalGRU((3, 3), hidden, init=C.glorot_uniform())
        W = C.Parameter((3, hidden, 3, 3), init=C.glorot_uniform(0.1), name="W")

        def step(predicted: Any, before: Any, memory: Any, x: Any) -> Any:
            frame = x[3:] * x[:3] + (1 - x[3:]) * predicted
            memory = gru(memory, C.splice(frame - 0.5, 4 * (frame - before), axis=0))
            return frame + C.convolution(W, memory), frame, memory

        self.step, self.hidden = step, hidden

    def over_sequences(self, x: Any) -> Any:
        """The prediction that follows each frame of a sequence."""
        start = (0, C.sequence.first(x)[:3], 0)
        return C.layers.Recurrence(self.step, initial_state=start)(x)

    def run_on(self, film: np.ndarray, count: int) -> np.ndarray:
        """The `count` frames that it expects after a film, computed frame by frame."""
        live = self.over_sequences(C.sequence.input_variable((4, *film.shape[2:]))).stream()
        nothing = np.zeros((count - 1, 4, *film.shape[2:]))
        return np.array([live(x) for x in [*given(film, len(film)), *nothing]][-count:])


def given(film: np.ndarray, count: int) -> np.ndarray:
    """The model's input if it is to see only the first `count` frames."""
    mask = np.zeros_like(film[:, :1])
    mask[:count] = 1
    return np.concatenate([film * mask, mask], axis=1)


# ----------------------------------------------------------------------------------- the film


def raw_frames(path: Path) -> Iterator[np.ndarray]:
    """The frames (height, width, 3) of 0..255 of a video, or of an .npz that has `frames`."""
    if path.suffix == ".npz":
        yield from np.load(path)["frames"]
        return
    try:
        import imageio.v3 as imageio

        yield from imageio.imiter(path)
    except (ImportError, OSError) as error:
        sys.exit(f"{path} can't be read; for videos: pip install '.[video]'\n{error}")


def averaging(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) that makes of `old` pixels `new` ones, averages of what they cover."""
    edges = np.linspace(0, old, new + 1)[:, None]
    covered = np.minimum(edges[1:], np.arange(old) + 1) - np.maximum(edges[:-1], np.arange(old))
    return (covered.clip(0) * new / old).astype(np.float32)


def scaled(source: Path, width: int) -> Iterator[np.ndarray]:
    """The frames (3, height, width) of 0..1, scaled to a width.

    Repeated frames are left out: films that were made for another frame rate have them.
    """
    before: np.ndarray | None = None
    for raw in raw_frames(source):
        height = max(1, round(raw.shape[0] * width / raw.shape[1]))
        rows, columns = averaging(raw.shape[0], height), averaging(raw.shape[1], width)
        frame = rows @ (raw[..., :3].astype(np.float32) / 255).transpose(2, 0, 1) @ columns.T
        if before is None or np.mean((frame - before) ** 2) > (0.5 / 255) ** 2:
            yield frame
            before = frame


def read_film(path: Path, count: int, width: int) -> np.ndarray:
    """The first `count` frames, (count, 3, height, width)."""
    return np.array(list(islice(scaled(path, width), count)))


# ----------------------------------------------------------------------------------- learning


def minibatch(film: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random cuts of the film, half of them mirrored: inputs and the frames that follow.

    Half of the inputs are given whole; of the others the model sees the beginning.
    """
    frames, _, height, width = film.shape
    h, w = min(CROP, height), min(CROP, width)
    x, t = [], []
    for _ in range(SEQUENCES):
        start, i, j = (rng.integers(n + 1) for n in (frames - LENGTH - 1, height - h, width - w))
        cut = film[start : start + LENGTH + 1, :, i : i + h, j : j + w]
        cut = cut[..., ::-1] if rng.random() < 0.5 else cut
        x.append(given(cut[:-1], LENGTH if rng.random() < 0.5 else rng.integers(LEAST, LENGTH)))
        t.append(cut[1:])
    return np.array(x), np.array(t)


def train(
    model: NextFrame,
    film: np.ndarray,
    steps: int,
    rng: np.random.Generator,
    checkpoint: Path,
    resume: bool,
) -> int:
    """Adam; the rate falls to 0 along half a cosine. Returns how many steps were done.

    Each step is followed by a checkpoint, of everything that the next one needs.
    """
    shape = minibatch(film, rng)[1].shape[2:]
    x, t = C.sequence.input_variable((4, *shape[1:])), C.sequence.input_variable(shape)
    y = model.over_sequences(x)
    loss = C.reduce_mean(C.square(y - t))
    rates = [0.0025 * (1 + math.cos(math.pi * i / steps)) for i in range(steps)] or [0.0]
    schedule = C.learning_parameter_schedule_per_sample(rates, epoch_size=SEQUENCES * LENGTH)
    learner = C.adam(loss.parameters, schedule, momentum=0.9, variance_momentum=0.99)
    trainer = C.Trainer(y, loss, [learner])
    bar = ProgressBar(steps)
    done, setting = 0, [*film.shape, model.hidden, steps]
    if resume:
        state = trainer.restore_from_checkpoint(str(checkpoint))
        if state["setting"] != setting:
            sys.exit(f"{checkpoint} is of a run with other options; give those again")
        done, bar.loss, rng.bit_generator.state = state["done"], state["loss"], state["rng"]
        bar.begin(done)
        print(f"going on after {done} steps")
    try:
        while done < steps:
            xs, ts = minibatch(film, rng)
            trainer.train_minibatch({x: xs, t: ts})
            done += 1
            bar.show(done, trainer.previous_minibatch_loss_average)
            state = {"done": done, "loss": bar.loss, "rng": rng.bit_generator.state}
            trainer.save_checkpoint(str(checkpoint), {**state, "setting": setting})
    except KeyboardInterrupt:
        print()
    return done


class ProgressBar:
    """A line that is written over; ten lines where the output goes into a file."""

    def __init__(self, steps: int) -> None:
        self.steps, self.loss = steps, 0.0
        self.begin(0)

    def begin(self, step: int) -> None:
        """The time counts from here, after so many steps."""
        self.start, self.first = time.monotonic(), step

    def show(self, step: int, loss: float) -> None:
        self.loss += max(0.05, 1 / step) * (loss - self.loss)  # smoothed
        left = (time.monotonic() - self.start) / (step - self.first) * (self.steps - step)
        bar = "#" * (20 * step // self.steps)
        line = f"[{bar:20}] {step}/{self.steps}  loss {self.loss:.6f}  {left:3.0f} s left"
        if sys.stdout.isatty():
            print(f"\r{line} ", end="\n" if step == self.steps else "", flush=True)
        elif step * 10 // self.steps > (step - 1) * 10 // self.steps:
            print(line, flush=True)


def save(path: Path, parameters: Any) -> None:
    """Writes the whole file or leaves the old one: never half of it."""
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.savez(file, **{p.name: p.value for p in parameters})
    os.replace(partial, path)


# ------------------------------------------------------------------------------------ results


def compare(title: str, true: np.ndarray, repeated: np.ndarray, predicted: np.ndarray) -> None:
    """Prints the mean squared errors, with the signal-to-noise ratios that they are."""
    print(title)
    baseline = float(np.mean((repeated - true) ** 2))
    for what, frames in ("repeating the last frame", repeated), ("the model", predicted):
        error = float(np.mean((frames - true) ** 2))
        decibels = -10 * math.log10(error or 1e-12)
        print(f"  {what:25}{error:.6f}  {decibels:5.1f} dB  {error / (baseline or 1e-12):5.0%}")


def draw(out: Path, shown: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> None:
    """The picture and the GIF of three films, each (frames, 3, height, width) of 0..1."""
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        print("no pictures: they need Pillow, pip install '.[examples]'")
        return
    scale = max(1, round(192 / shown.shape[3]))
    width, height, line = scale * shown.shape[3], scale * shown.shape[2], 18

    def sheet(rows: list[tuple[list[str], Any]]) -> Image.Image:
        columns = max(len(frames) for _, frames in rows)
        image = Image.new("RGB", (columns * (width + 4), len(rows) * (height + line)), "white")
        for i, (captions, frames) in enumerate(rows):
            top = i * (height + line)
            for j, caption in enumerate(captions):
                ImageDraw.Draw(image).text((j * (width + 4) + 4, top + 3), caption, "black")
            for j, frame in enumerate(frames):
                pixels = np.uint8(frame.transpose(1, 2, 0).clip(0, 1) * 255 + 0.5)
                tile = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
                image.paste(tile, (j * (width + 4) + 2, top + line))
        return image

    three = [
        ([f"given: the last {len(shown)} frames that the model was shown"], shown),
        ([f"true: the {len(true)} frames that follow in the film"], true),
        (["predicted: what the model expects, going on from its own predictions"], predicted),
    ]
    sheet(three).save(out / "prediction.png")
    pages = [sheet([(["the film", "given"], [f, f])]) for f in shown]
    for i, pair in enumerate(zip(true, predicted, strict=True), 1):
        pages.append(sheet([(["the film", f"predicted, {i} ahead"], pair)]))
    pages[0].save(
        out / "prediction.gif", save_all=True, append_images=pages[1:], duration=200, loop=0
    )
    print(f"pictures: {out / 'prediction.png'} and {out / 'prediction.gif'}")


def watch(model: NextFrame, source: Path, width: int) -> None:
    """Predicts each next frame of a film or of a camera while it comes."""
    live, expected, before, took = None, None, None, 0.0
    print("  frame  mean squared error  repeating the last frame  ms")
    for number, frame in enumerate(scaled(source, width)):
        if live is None:
            x = C.sequence.input_variable((4, *frame.shape[1:]))
            live = model.over_sequences(x).stream()
        else:
            error, repeated = np.mean((frame - expected) ** 2), np.mean((frame - before) ** 2)
            print(f"{number:7} {error:19.6f} {repeated:25.6f} {1000 * took:3.0f}")
        start = time.perf_counter()
        expected = live(np.concatenate([frame, np.ones_like(frame[:1])]))
        took = time.perf_counter() - start
        before = frame


# --------------------------------------------------------------------------------- the command


def arguments(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--video", type=Path, default=CLIP, help="a video file (default: the clip)")
    p.add_argument("--frames", type=int, default=56, help="frames to use (%(default)s)")
    p.add_argument("--size", type=int, default=96, help="their width in pixels (%(default)s)")
    p.add_argument("--hidden", type=int, default=16, help="channels of the state (%(default)s)")
    p.add_argument("--steps", type=int, default=400, help="training minibatches (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="random seed (%(default)s)")
    p.add_argument("--device", default="", help="cpu, or gpu[0] and so on (default: the best)")
    p.add_argument("--out", type=Path, default=Path("convgru_video"), help="folder for results")
    p.add_argument("--load", type=Path, help="a model.npz to start from; --steps 0 just uses it")
    p.add_argument("--resume", action="store_true", help="continue where the last run ended")
    p.add_argument("--live", type=Path, help="then predict this film, or a camera: '<video0>'")
    p.add_argument("--quick", action="store_true", help="small and short, to see that it works")
    if p.parse_args(argv).quick:
        p.set_defaults(size=32, hidden=8, steps=60)
    args = p.parse_args(argv)
    for name, least in ("frames", 2 * LENGTH), ("size", 8), ("hidden", 1), ("steps", 0):
        if getattr(args, name) < least:
            p.error(f"--{name} must be at least {least}")
    args.checkpoint = args.out / "training.checkpoint"
    for file in args.video, args.load, args.checkpoint if args.resume else None:
        if file is not None and not file.is_file():
            p.error(f"there is no file {file}")
    devices = [d for d in C.device.all_devices() if repr(d).lower().startswith(args.device.lower())]
    if not devices:
        p.error(f"there is no device {args.device!r} here, there is {C.device.all_devices()}")
    if args.device:
        C.device.try_set_default_device(devices[0])
    return args


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    C.set_seed(args.seed)
    film = read_film(args.video, args.frames, args.size)
    if len(film) < 2 * LENGTH:
        sys.exit(f"{args.video} has {len(film)} different frames, at least {2 * LENGTH} are needed")
    seen = round(0.7 * len(film))
    past, future = film[:seen], film[seen:]
    height, width = film.shape[2:]
    print(
        f"{args.video.name}: {len(film)} frames of {width}x{height}, the first {seen} to learn from"
    )

    start = dict(np.load(args.load)) if args.load else {}
    model = NextFrame(len(start["bz"]) if start else args.hidden)
    x = C.sequence.input_variable((4, height, width))
    y = model.over_sequences(x)
    for p in y.parameters:
        p.value = start.get(p.name, p.value)
    print(f"model: {model.hidden} maps, {sum(p.value.size for p in y.parameters):,} parameters")

    rng = np.random.default_rng(args.seed)
    done = train(model, past, args.steps, rng, args.checkpoint, args.resume)
    args.out.mkdir(parents=True, exist_ok=True)
    saved = args.out / "model.npz"
    save(saved, y.parameters)
    print(f"the model is in {saved}")
    if done < args.steps:
        print(f"stopped after {done} steps; go on with --resume")
        print(f"or use the model as it is: --load {saved} --steps 0")
        return 130

    ahead = y.eval({x: given(film[:-1], len(film))})[0][seen - 1 :]
    title = f"one frame ahead, mean squared error on the {len(future)} frames that it never saw:"
    compare(title, future, film[seen - 1 : -1], ahead)
    future = future[:AHEAD]
    alone = model.run_on(past, len(future))
    title = f"running on by itself for {len(future)} frames:"
    compare(title, future, np.repeat(past[-1:], len(future), axis=0), alone)
    draw(args.out, past[-len(future) :], future, alone)
    if args.live:
        watch(model, args.live, args.size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
