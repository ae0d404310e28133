"""Reads rows of handwritten digits without being told where each digit is.

    python examples/ctc_digits.py           # a minute or two
    python examples/ctc_digits.py --quick   # a few seconds, to see that it works

Three to six digits from scikit-learn stand side by side, overlapping by up to two columns of
pixels. A frame is a column, 8 numbers from top to bottom; two GRUs read the columns from left to
right and from right to left. Connectionist temporal classification (`C.forward_backward`) learns
from the rows and the sequence of digits alone: for each column the model outputs one of ten digits
or a blank, and repeated outputs count once. So it learns at which columns it sees which digit,
although it was never told.

The digits come with scikit-learn: pip install '.[examples]'. The program prints the edit distance
between the output and the true digits, per digit.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

import rgraph as C

BLANK = 10
BATCH = 32

# --------------------------------------------------------------------------------------- the data


def scikit_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 8, 8) of 0..1 and their digits, in the order of scikit-learn's."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("the digits need scikit-learn: pip install '.[examples]'")
    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target


def make_rows(
    images: np.ndarray, digits: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sequences of columns (frames, 8), and the digits in each."""
    rows, written = [], []
    for _ in range(count):
        chosen = rng.integers(len(images), size=rng.integers(3, 7))
        row = np.zeros((8, 0), np.float32)
        for image in images[chosen]:
            overlap = min(int(rng.integers(3)), row.shape[1])
            wider = np.pad(row, [(0, 0), (0, 8 - overlap)])
            wider[:, -8:] = np.maximum(wider[:, -8:], image)
            row = wider
        rows.append(np.ascontiguousarray(row.T))
        written.append(digits[chosen])
    return rows, written


def marked(row: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """The digits as `forward_backward` takes them: a 2 for each, on frames in their order.

    On which frames does not matter without a delayConstraint; here they are the first ones.
    """
    marks = np.zeros((len(row), BLANK + 1), np.float32)
    marks[np.arange(len(digits)), digits] = 2
    return marks


# -------------------------------------------------------------------------------------- the model


def make_model(cells: int) -> Any:
    """A function of a sequence of columns: eleven scores for each."""
    forward, backward = (
        C.layers.Recurrence(C.layers.GRU(cells), go_backwards=back) for back in (False, True)
    )
    return C.layers.Sequential([(forward, backward), C.splice, C.layers.Dense(BLANK + 1)])


def read(scores: np.ndarray) -> np.ndarray:
    """What the best class of each frame says: runs of it once, blanks not at all."""
    best = scores.argmax(1)
    return best[(np.diff(best, prepend=BLANK) != 0) & (best != BLANK)]


def edits(a: np.ndarray, b: np.ndarray) -> int:
    """How many digits are to be changed, left out or put in to make one of the other."""
    costs = np.arange(len(b) + 1)
    for i, x in enumerate(a):
        kept = costs[:-1] + (b != x)
        costs = np.concatenate([[i + 1], np.minimum(kept, costs[1:] + 1)])
        costs = np.minimum.accumulate(costs - np.arange(len(costs))) + np.arange(len(costs))
    return int(costs[-1])


# -------------------------------------------------------------------------------------- training


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--epochs", type=int, default=30, help="of 1,000 new rows each (%(default)s)")
    p.add_argument("--rows", type=int, default=1000, help="rows in an epoch (%(default)s)")
    p.add_argument("--cells", type=int, default=48, help="of each GRU (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="random seed (%(default)s)")
    p.add_argument("--quick", action="store_true", help="a few rows and epochs")
    if p.parse_args(argv).quick:
        p.set_defaults(epochs=2, rows=64, cells=8)
    args = p.parse_args(argv)

    C.set_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    images, digits = scikit_digits()
    last = len(images) * 4 // 5  # others wrote what comes after
    test_rows, test_written = make_rows(images[last:], digits[last:], 200, rng)

    x = C.sequence.input_variable(8, name="columns")
    labels = C.sequence.input_variable(BLANK + 1, name="labels")
    z = make_model(args.cells)(x)
    loss = C.forward_backward(C.labels_to_graph(labels), z, blankTokenId=BLANK)
    rate = C.learning_parameter_schedule_per_sample(0.003)
    trainer = C.Trainer(z, loss, [C.adam(z.parameters, rate, momentum=0.9)])
    for epoch in range(1, args.epochs + 1):
        start, total, frames = time.monotonic(), 0.0, 0
        rows, written = make_rows(images[:last], digits[:last], args.rows, rng)
        for i in range(0, len(rows), BATCH):
            part = rows[i : i + BATCH], written[i : i + BATCH]
            trainer.train_minibatch({x: part[0], labels: list(map(marked, *part))})
            count = trainer.previous_minibatch_sample_count
            total += trainer.previous_minibatch_loss_average * count
            frames += count
        told = f"epoch {epoch:2}/{args.epochs}  loss {total / len(rows):7.3f} per row"
        print(f"{told}  {time.monotonic() - start:.1f} s", flush=True)

    found = [read(scores) for scores in z.eval({x: test_rows})]
    wrong = sum(map(edits, found, test_written))
    print("written:", *test_written[0], " read:", *found[0])
    print(f"{wrong / sum(map(len, test_written)):.1%} edits per digit in {len(found)} other rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
