"""Classifies digits quadrant by quadrant, with convolutions and an LSTM.

    python examples/mnist_quadrants.py                  # scikit-learn's digits, a minute
    python examples/mnist_quadrants.py --mnist FOLDER   # MNIST's four files: 60,000 images, hours
    python examples/mnist_quadrants.py --quick          # a few seconds, to see that it works

An image is cut into four quadrants, which are read in four orders at once:

    1 | 2
    -----  ->  1 2 3 4,  4 3 2 1,  1 3 2 4,  4 2 3 1
    3 | 4

The four readings are placed side by side along the width, so an image becomes a sequence of four
frames. For MNIST they have shape (1, 56, 14): one channel, width, height. Convolutions and pooling
reduce each to (32, 26, 5), an LSTM with just 5 cells reads these one after the other, and its final
state determines the digit. No layer needs to know about time: convolutions apply to every frame of
a sequence, and the LSTM, which takes vectors, needs the reshape before it.

The digits of scikit-learn come with its package: pip install '.[examples]'. They are 8x8 and are
enlarged to twice the size. MNIST's files may be gzipped (.gz) or not.

The program prints the accuracy on held-out images. `--out` (default: mnist_quadrants/) receives
confusion.png: an image, its frames, and the confusion matrix.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import rgraph as C

ORDERS = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [1, 3, 2, 4], [4, 2, 3, 1]]) - 1
BATCH = 32

# --------------------------------------------------------------------------------------- the data


def scikit_digits(rng: np.random.Generator) -> list[np.ndarray]:
    """Images (N, height, width) of 0..255 and labels to learn from, then those of the test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("the digits need scikit-learn (pip install '.[examples]'), or give --mnist")
    data = load_digits()
    images = np.kron(data.images * (255 / 16), np.ones((1, 2, 2)))
    parts = np.split(rng.permutation(len(images)), [len(images) * 4 // 5])
    return [values[part] for part in parts for values in (images, data.target)]


def mnist_digits(folder: Path) -> list[np.ndarray]:
    """The same of MNIST's files."""
    kinds = "images-idx3", "labels-idx1"
    return [read_idx(folder / f"{p}-{kind}-ubyte") for p in ("train", "t10k") for kind in kinds]


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, which has 0, 0, 8 for bytes, the number of axes, their lengths as
    big-endian integers of four bytes, and the elements."""
    zipped = path.with_name(path.name + ".gz")
    if not path.is_file() and not zipped.is_file():
        sys.exit(f"there is neither {path} nor {zipped.name}")
    data = path.read_bytes() if path.is_file() else gzip.decompress(zipped.read_bytes())
    try:
        start = 4 + 4 * data[3]
        shape = np.frombuffer(data[4:start], ">u4")
        if data[:3] == b"\0\0\x08":
            return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
    except (IndexError, ValueError):
        pass
    sys.exit(f"{path} is no whole IDX file of bytes")


def as_frames(images: np.ndarray) -> np.ndarray:
    """Images (N, height, width) to sequences (N, 4, 1, 2 * width, height / 2) of 0..1.

    Frame t has the quadrants that the four orders read t-th, side by side along the width.
    """
    n, height, width = images.shape
    pieces = images.reshape(n, 2, height // 2, 2, width // 2).transpose(0, 1, 3, 4, 2)
    pieces = pieces.reshape(n, 4, width // 2, height // 2)
    frames = pieces[:, ORDERS.T].reshape(n, 4, 1, 2 * width, height // 2)
    return frames.astype(np.float32) / 255


# -------------------------------------------------------------------------------------- the model


def make_model() -> Any:
    """A function of a sequence of frames; its ten results become probabilities by a softmax."""
    return C.layers.Sequential(
        [
            C.layers.Convolution2D((3, 3), 32, activation=C.relu),
            C.layers.Convolution2D((3, 3), 32, activation=C.relu),
            C.layers.MaxPooling((2, 2), strides=2),
            lambda x: C.reshape(x, (-1,)),
            C.layers.Dropout(0.25),
            C.layers.Fold(C.layers.LSTM(5)),
            C.layers.Dense(50),
            C.layers.Dense(10),
        ]
    )


def train(x: Any, z: Any, images: Any, labels: Any, epochs: int, rng: Any) -> None:
    """Adam with a constant rate on the cross entropy, the images in a new order each epoch."""
    t = C.input_variable(10)
    loss, error = C.cross_entropy_with_softmax(z, t), C.classification_error(z, t)
    rate = C.learning_parameter_schedule_per_sample(0.002)
    learner = C.adam(z.parameters, rate, momentum=0.9, variance_momentum=0.999)
    bar = C.logging.ProgressBar(total=epochs * len(images))
    trainer = C.Trainer(z, (loss, error), [learner], [bar])
    one_hot = np.eye(10, dtype=np.float32)[labels]
    for epoch in range(1, epochs + 1):
        start, totals = time.monotonic(), np.zeros(2)
        order = rng.permutation(len(images))
        for i in range(0, len(order), BATCH):
            chosen = order[i : i + BATCH]
            trainer.train_minibatch({x: as_frames(images[chosen]), t: one_hot[chosen]})
            part = len(chosen) / len(images)
            totals[0] += part * trainer.previous_minibatch_loss_average
            totals[1] += part * trainer.previous_minibatch_evaluation_average
        bar.close()
        told = f"epoch {epoch:2}/{epochs}  loss {totals[0]:.4f}  right {1 - totals[1]:6.1%}"
        print(f"{told}  {time.monotonic() - start:.1f} s", flush=True)


def predict(x: Any, z: Any, images: np.ndarray) -> np.ndarray:
    """The probabilities of the ten digits: (N, 10)."""
    p = C.softmax(z)
    parts = [images[i : i + 250] for i in range(0, len(images), 250)]
    return np.concatenate([p.eval({x: as_frames(part)}) for part in parts])


# -------------------------------------------------------------------------------------- results


def draw(path: Path, image: np.ndarray, confusion: np.ndarray) -> None:
    """An image, its frames, and the counts of (true digit, predicted digit)."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: it needs Matplotlib, pip install '.[examples]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    panels = left.subplots(5, 1, height_ratios=(2.5, 1, 1, 1, 1))
    frames = as_frames(image[None])[0, :, 0].swapaxes(1, 2)
    for t, (panel, picture) in enumerate(zip(panels, [image, *frames], strict=True)):
        panel.imshow(picture, cmap="gray_r")
        panel.set_title(f"frame {t}: four readings" if t else "an image", fontsize=9)
        panel.set(xticks=[], yticks=[])
        for i in range(1, 4) if t else ():
            panel.axvline(i * image.shape[1] // 2 - 0.5, color="tab:blue")
    panel = right.subplots()
    shades = np.log1p(confusion)
    panel.imshow(shades, cmap="Blues")
    for (true, told), count in np.ndenumerate(confusion):
        color = "white" if shades[true, told] > shades.max() / 2 else "black"
        panel.text(told, true, count or "", ha="center", va="center", color=color)
    panel.set(xticks=range(10), yticks=range(10), xlabel="predicted", ylabel="true")
    panel.set_title(f"{confusion.trace():,} of {confusion.sum():,} are right")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--mnist", type=Path, metavar="FOLDER", help="where MNIST's four files are")
    p.add_argument("--images", type=int, help="training images (default: all)")
    p.add_argument(
        "--epochs", type=int, default=15, help="passes over the images (15; with --mnist 3)"
    )
    p.add_argument("--seed", type=int, default=1, help="random seed (%(default)s)")
    p.add_argument("--out", type=Path, default=Path("mnist_quadrants"), help="folder for results")
    p.add_argument("--quick", action="store_true", help="a few images and epochs")
    given = p.parse_args(argv)
    if given.quick:
        p.set_defaults(images=320, epochs=1)
    elif given.mnist:
        p.set_defaults(epochs=3)
    args = p.parse_args(argv)
    if args.epochs < 0 or args.images is not None and args.images < 1:
        p.error("--images must be at least 1, and --epochs not below 0")

    C.set_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    data = mnist_digits(args.mnist) if args.mnist else scikit_digits(rng)
    images, labels = data[0][: args.images], data[1][: args.images]
    test_images, test_labels = data[2:]
    x = C.sequence.input_variable(as_frames(images[:1]).shape[2:], name="frames")
    z = make_model()(x)
    print(f"{len(images):,} images to learn from, as sequences of 4 frames {x.shape}")
    print(f"model: {sum(w.value.size for w in z.parameters):,} parameters")
    train(x, z, images, labels, args.epochs, rng)
    told = predict(x, z, test_images).argmax(axis=1)
    right = np.mean(told == test_labels)
    print(f"test accuracy: {right:.1%} of {len(told):,} images it did not learn from")
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (test_labels, told), 1)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(args.out / "confusion.png", test_images[0], confusion)
    return 0


if __name__ == "__main__":
    sys.exit(main())
