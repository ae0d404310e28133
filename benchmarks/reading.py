"""Training from files beside training from arrays: reading must not starve the step."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import rgraph as C

SLOWER = 1.05  # times as long as from arrays that training from a text file may take
PARSED = 100  # MB a second that one core must parse

Rows = list[dict[str, Any]]


def reading(rounds: int, quick: bool = False) -> Rows:
    """A convolutional network on images of 28x28 with ten classes, a few steps at a time, in pairs;
    and how fast the file is parsed alone."""
    count, size, steps = (256, 64, 2) if quick else (60_000, 64, 25)
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (count, 784)) * (random.random((count, 784)) < 0.25)
    labels = random.integers(0, 10, count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "digits.txt")
        with path.open("w") as file:
            for row, label in zip(x.tolist(), np.eye(10, dtype=int)[labels].tolist(), strict=True):
                file.write(f"|y {' '.join(map(str, label))} |x {' '.join(map(str, row))}\n")
        from_file = _from_file(path, size, steps)
        arrays = x.astype(np.float32), np.eye(10, dtype=np.float32)[labels]
        from_arrays = _from_arrays(*arrays, size, steps)
        from_file()
        from_arrays()
        pairs = [_pair(from_file, from_arrays, i % 2 == 1) for i in range(rounds)]
        megabytes = path.stat().st_size / 1e6
        parsing = min(_parsing(path) for _ in range(3))
    ratio = median(a / b for a, b in pairs)
    found = [
        {"what": "ms of steps from a text file", "measured": 1e3 * min(a for a, _ in pairs)},
        {"what": "ms of steps from arrays", "measured": 1e3 * min(b for _, b in pairs)},
        {"what": "the first over the second", "measured": ratio, "at most": SLOWER},
        {"what": "MB/s parsed by a core", "measured": megabytes / parsing, "at least": PARSED},
    ]
    return [{"part": "reading", **row} for row in found]


def _pair(one: Callable[[], None], other: Callable[[], None], other_first: bool) -> Any:
    if other_first:
        return _pair(other, one, False)[::-1]
    return _seconds(one), _seconds(other)


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _trainer() -> tuple[Any, Any, Any]:
    x, y = C.input_variable((1, 28, 28)), C.input_variable(10)
    with C.layers.default_options(activation=C.relu, pad=True):
        model = C.layers.Sequential(
            [
                C.layers.Convolution((5, 5), 16),
                C.layers.MaxPooling((3, 3), (2, 2)),
                C.layers.Convolution((3, 3), 32),
                C.layers.MaxPooling((3, 3), (2, 2)),
                C.layers.Dense(96),
                C.layers.Dense(10, activation=None),
            ]
        )
    z = model(x / 256)
    loss = C.cross_entropy_with_softmax(z, y)
    trainer = C.Trainer(z, (loss, C.classification_error(z, y)), C.sgd(z.parameters, 0.01))
    return trainer, x, y


def _source(path: Path) -> Any:
    streams = C.io.StreamDefs(x=C.io.StreamDef("x", (1, 28, 28)), y=C.io.StreamDef("y", 10))
    return C.io.MinibatchSource(C.io.CTFDeserializer(str(path), streams))


def _from_file(path: Path, size: int, steps: int) -> Callable[[], None]:
    trainer, x, y = _trainer()
    source = _source(path)
    inputs = {x: source.streams.x, y: source.streams.y}

    def run() -> None:
        for _ in range(steps):
            trainer.train_minibatch(source.next_minibatch(size, input_map=inputs))

    return run


def _from_arrays(
    images: np.ndarray, labels: np.ndarray, size: int, steps: int
) -> Callable[[], None]:
    trainer, x, y = _trainer()
    images = images.reshape(-1, 1, 28, 28)
    order = np.random.default_rng(0)

    def run() -> None:
        for _ in range(steps):
            some = order.integers(0, len(images), size)
            trainer.train_minibatch({x: images[some], y: labels[some]})

    return run


def _parsing(path: Path) -> float:
    """Seconds of one core's time to find the lines of a file and to parse them."""
    streams = C.io.StreamDefs(x=C.io.StreamDef("x", 784), y=C.io.StreamDef("y", 10))
    start = time.process_time()
    reader = C.io.CTFDeserializer(str(path), streams)
    for chunk in range(len(reader.chunk_infos())):
        reader.get_chunk(chunk)
    return time.process_time() - start
