"""Classifies motions in short clips, with an LSTM after a convnet or with a convolutional GRU.

    python examples/clip_classification.py            # a minute on two cores
    python examples/clip_classification.py --quick    # a few seconds, to see that it works

A clip is a sequence of 4 to 8 noisy frames (1, 20, 20) of a star, and its class is what the star
does: it moves right, left, down or up, grows, shrinks, rotates either way, stands still or jumps
about. Its position, size and angle in the last frame have the same distribution for all ten
classes, so that frame alone tells nothing. What leaves the image on one side returns on the other.

The simple way to combine convolutions and a recurrence is an LSTM on the output of a convnet:

    Sequential([convnet, Recurrence(LSTM(100)), Dense(10)])

The other is a recurrence among the convolutions, a GRU whose memory is an image:

    Sequential([convnet, Recurrence(ConvolutionalGRU((3, 3), 16)), GlobalMaxPooling(), Dense(10)])

Both give an answer after every frame, and both are trained on the answer after the last one:
`sequence.last(z)`. The program prints the numbers of parameters, the time per epoch, and the
accuracy on held-out clips, for whole clips and for their last frame alone, where guessing is right
in 10 %. `--out` (default: clip_classification/) receives clips.png: a clip of each class with the
answers, and the accuracy by the number of frames seen. It needs Matplotlib:
pip install '.[examples]'.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import rgraph as C

# What the star does in a frame: pixels to the right and down, growth, turn in radians.
MOTIONS = {
    "right": (1.5, 0, 0, 0),
    "left": (-1.5, 0, 0, 0),
    "down": (0, 1.5, 0, 0),
    "up": (0, -1.5, 0, 0),
    "grows": (0, 0, 0.1, 0),
    "shrinks": (0, 0, -0.1, 0),
    "turns right": (0, 0, 0, 0.3),
    "turns left": (0, 0, 0, -0.3),
    "stands": (0, 0, 0, 0),
    "jumps": (0, 0, 0, 0),
}
SIZE, SHORTEST, LONGEST, NOISE = 20, 4, 8, 0.1
BATCH = 16

Clips = list[np.ndarray]

# --------------------------------------------------------------------------------------- the data


def make_clip(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A clip of a class: (frames, 1, SIZE, SIZE), of 0..1 but for the noise."""
    frames = rng.integers(SHORTEST, LONGEST + 1)
    times = np.arange(1 - frames, 1) * rng.uniform(0.8, 1.3)  # 0 is the last frame
    last = rng.uniform((0, 0, np.log(3.5), 0), (SIZE, SIZE, np.log(5), 2 * np.pi))
    x, y, growth, turn = last[:, None] + np.outer(MOTIONS[kind], times)
    if kind == "jumps":
        x, y = rng.uniform(0, SIZE, (2, frames))
    down, right = np.mgrid[:SIZE, :SIZE]
    right, down = (
        (pixels - place[:, None, None]) % SIZE - SIZE / 2
        for pixels, place in ((right, x), (down, y))
    )
    rays = np.cos(rng.integers(2, 4) * (np.arctan2(down, right) - turn[:, None, None]))
    inside = np.exp(growth)[:, None, None] * (0.7 + 0.3 * rays) - np.hypot(right, down)
    star = 1 / (1 + np.exp(-2 * inside))
    return np.float32(star + NOISE * rng.standard_normal(star.shape))[:, None]


def make_clips(count: int, rng: np.random.Generator) -> tuple[Clips, np.ndarray]:
    """Clips of all classes in turn, and their classes."""
    labels = np.arange(count) % len(MOTIONS)
    kinds = list(MOTIONS)
    return [make_clip(kinds[i], rng) for i in labels], labels


# ------------------------------------------------------------------------------------- the models


def lstm() -> Any:
    convolution, pool = C.layers.Convolution2D, C.layers.MaxPooling
    convnet = C.layers.Sequential(
        [
            convolution((3, 3), 16, C.relu, pad=True),
            pool((2, 2), strides=2),
            convolution((3, 3), 32, C.relu, pad=True),
            pool((2, 2), strides=2),
            lambda x: C.reshape(x, (-1,)),  # an LSTM takes vectors
        ]
    )
    return C.layers.Sequential(
        [convnet, C.layers.Recurrence(C.layers.LSTM(100)), C.layers.Dense(10)]
    )


def convolutional_gru() -> Any:
    convnet = C.layers.Sequential(
        [
            C.layers.Convolution2D((3, 3), 16, C.relu, pad=True),
            C.layers.MaxPooling((2, 2), strides=2),
        ]
    )
    return C.layers.Sequential(
        [
            convnet,
            C.layers.Recurrence(ConvolutionalGRU((3, 3), 16)),
            C.layers.GlobalMaxPooling(),
            C.layers.Dense(10),
        ]
    )


def ConvolutionalGRU(kernel_shape: tuple[int, int], outputs: int) -> Any:
    """The step function of a GRU with convolutions in the place of products."""
    kernels, biases = (outputs, C.InferredDimension, *kernel_shape), (outputs, 1, 1)
    init = C.glorot_uniform()
    Wz, Wr, Wh = (C.Parameter(kernels, init=init, name=n) for n in ("Wz", "Wr", "Wh"))  # input
    Uz, Ur, Uh = (C.Parameter(kernels, init=init, name=n) for n in ("Uz", "Ur", "Uh"))  # memory
    bz, br, bh = (C.Parameter(biases, init=0, name=n) for n in ("bz", "br", "bh"))

    def conv_gru(h: Any, x: Any) -> Any:
        z = C.sigmoid(bz + C.convolution(Wz, x) + C.convolution(Uz, h))  # update gate
        r = C.sigmoid(br + C.convolution(Wr, x) + C.convolution(Ur, h))  # reset gate
        return z * h + (1 - z) * C.tanh(bh + C.convolution(Wh, x) + C.convolution(Uh, h * r))

    return conv_gru


MODELS = {"LSTM": lstm, "convolutional GRU": convolutional_gru}


def train(x: Any, z: Any, clips: Clips, labels: np.ndarray, epochs: int, rng: Any) -> float:
    """Adam on the cross entropy of the last answer. Returns the seconds that an epoch took."""
    t = C.input_variable(10)
    answer = C.sequence.last(z)
    loss, error = C.cross_entropy_with_softmax(answer, t), C.classification_error(answer, t)
    # The rate falls from epoch to epoch.
    rates = [0.006 * (1 - epoch / epochs) for epoch in range(epochs)]
    schedule = C.learning_parameter_schedule(rates, C.learners.IGNORE, epoch_size=len(clips))
    learner = C.adam(z.parameters, schedule, momentum=0.9, variance_momentum=0.999)
    bar = C.logging.ProgressBar(total=epochs * len(clips))
    trainer = C.Trainer(answer, (loss, error), [learner], [bar])
    one_hot = np.eye(10, dtype=np.float32)
    start = time.monotonic()
    for epoch in range(1, epochs + 1):
        totals = np.zeros(2)
        order = rng.permutation(len(clips))
        for i in range(0, len(order), BATCH):
            chosen = order[i : i + BATCH]
            trainer.train_minibatch({x: [clips[k] for k in chosen], t: one_hot[labels[chosen]]})
            average = (
                trainer.previous_minibatch_loss_average,
                trainer.previous_minibatch_evaluation_average,
            )
            totals += np.array(average) * len(chosen) / len(clips)
        bar.close()
        told = f"epoch {epoch:2}/{epochs}  loss {totals[0]:.4f}  right {1 - totals[1]:6.1%}"
        spent = (time.monotonic() - start) / epoch
        print(f"  {told}  {spent:.1f} s an epoch", flush=True)
    return spent


def answers(x: Any, z: Any, clips: Clips) -> list[np.ndarray]:
    """The class that is told after every frame of each clip."""
    told = []
    for i in range(0, len(clips), 100):
        told += [frames.argmax(axis=1) for frames in z.eval({x: clips[i : i + 100]})]
    return told


# ---------------------------------------------------------------------------------------- results


def accuracy_so_far(told: list[np.ndarray], labels: np.ndarray) -> list[float]:
    """The part of the clips that are told right after one frame, after two, and so on.

    A clip that is over by then counts with its last answer.
    """
    return [
        float(np.mean([t[min(k, len(t) - 1)] == label for t, label in zip(told, labels)]))
        for k in range(LONGEST)
    ]


def draw(path: Path, clips: Clips, labels: np.ndarray, told: dict[str, list[np.ndarray]]) -> None:
    """A clip of each class with what is made of it, and how the accuracy grows."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: it needs Matplotlib, pip install '.[examples]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(MOTIONS)
    figure = pyplot.figure(figsize=(10, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(4, 5))
    for i, panel in enumerate(left.subplots(len(names), 1)):
        film = np.ones((SIZE, LONGEST * (SIZE + 2)))  # white where there is no frame
        for k, frame in enumerate(clips[i]):
            film[:, k * (SIZE + 2) : k * (SIZE + 2) + SIZE] = frame[0]
        panel.imshow(film, cmap="gray", vmin=0, vmax=1)
        panel.axis("off")
        said = ", ".join(f"{model}: {names[t[i][-1]]}" for model, t in told.items())
        panel.set_title(f"{names[labels[i]]}  ({said})", fontsize=8, loc="left", pad=2)
    panel = right.subplots()
    for model, every in told.items():
        panel.plot(range(1, LONGEST + 1), accuracy_so_far(every, labels), "o-", label=model)
    panel.axhline(1 / len(names), color="gray", linestyle=":", label="a guess")
    panel.set(xlabel="frames seen", ylabel="right, of clips not learned from", ylim=(0, 1))
    panel.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--clips", type=int, default=1600, help="for training (%(default)s)")
    p.add_argument("--epochs", type=int, default=10, help="passes over the clips (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="random seed (%(default)s)")
    p.add_argument("--out", type=Path, default=Path("clip_classification"), help="folder")
    p.add_argument("--quick", action="store_true", help="few and short, to see that it works")
    if p.parse_args(argv).quick:
        p.set_defaults(clips=400, epochs=2)
    args = p.parse_args(argv)
    if min(args.clips, args.epochs) < 1:
        p.error("--clips and --epochs must be at least 1")

    clips, labels = make_clips(args.clips, np.random.default_rng([args.seed, 0]))
    tests, true = make_clips(500, np.random.default_rng([args.seed, 1]))
    told, table = {}, []
    for name, make_model in MODELS.items():
        C.set_seed(args.seed)
        x = C.sequence.input_variable((1, SIZE, SIZE), name="clip")
        z = make_model()(x)
        count = sum(w.value.size for w in z.parameters)
        print(f"{name}, {count:,} parameters, {len(clips):,} clips")
        spent = train(x, z, clips, labels, args.epochs, np.random.default_rng(args.seed))
        told[name] = answers(x, z, tests)
        whole = np.mean([t[-1] for t in told[name]] == true)
        alone = np.mean(np.concatenate(answers(x, z, [c[-1:] for c in tests])) == true)
        table.append(f"{name:18}{count:12,}{spent:15.1f} s{whole:11.1%}{alone:17.1%}")
    print("\nmodel               parameters   time an epoch   accuracy  last frame alone")
    print(*table, sep="\n")
    args.out.mkdir(parents=True, exist_ok=True)
    draw(args.out / "clips.png", tests, true, told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
