"""Writes TensorBoard's event files: records of protocol buffers with checksums."""

from __future__ import annotations

import io
import os
import platform
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..graph import GraphError
from ..runtime.workers import another_prints
from .progress_writer import Pair, ProgressWriter, mean


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # Castagnoli's polynomial
        table.append(value)
    return table


_TABLE = _table()


def checksum(data: bytes) -> int:
    """CRC-32C, masked as in TensorFlow's record files."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    value ^= 0xFFFFFFFF
    return (value >> 15 | value << 17) + 0xA282EAD8 & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """One record of a file."""
    length = struct.pack("<Q", len(data))
    return b"".join(
        [length, struct.pack("<I", checksum(length)), data, struct.pack("<I", checksum(data))]
    )


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def event(seconds: float, content: bytes, step: int = 0) -> bytes:
    """An event: time, step and content."""
    numbered = b"\x10" + _varint(step) if step else b""
    return b"\x09" + struct.pack("<d", seconds) + numbered + content


def scalar(name: str, value: float) -> bytes:
    """The content of an event with a named number."""
    pair = _field(1, name.encode()) + b"\x15" + struct.pack("<f", value)
    return _field(5, _field(1, pair))


def images(name: str, batch: np.ndarray) -> bytes:
    """The content of an event with named images (n, channels, height, width)."""
    _, channels, height, width = batch.shape
    size = b"\x08" + _varint(height) + b"\x10" + _varint(width) + b"\x18" + _varint(channels)
    values = [
        _field(1, f"{name}/image/{i}".encode()) + _field(4, size + _field(4, _png(picture)))
        for i, picture in enumerate(batch)
    ]
    return _field(5, b"".join(_field(1, value) for value in values))


def _png(picture: np.ndarray) -> bytes:
    """An image (channels, height, width), blue first, from 0 to 255, as PNG."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("writing images needs the package Pillow: pip install Pillow") from None
    levels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    if len(levels) == 1:
        Image.fromarray(levels[0]).save(file, "png")
    else:
        red_first = levels[[2, 1, 0, 3][: len(levels)]]
        Image.fromarray(np.ascontiguousarray(np.moveaxis(red_first, 0, -1))).save(file, "png")
    return file.getvalue()


class TensorBoardProgressWriter(ProgressWriter):
    """Writes losses and metrics to a file that TensorBoard shows.

    Args:
        freq: the number of minibatches between numbers; None for those of epochs only.
        log_dir: the folder of the file, which is created if missing.
        rank: the rank of this worker; only rank 0 writes.
        model: accepted for compatibility with CNTK; its graph is not written.

    The numbers are `minibatch/avg_loss` and `minibatch/avg_metric` over minibatches,
    `summary/avg_loss` and `summary/avg_metric` over epochs, and `minibatch/test_avg_metric`.

    Source: CNTK's `TensorBoardProgressWriter`.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     writer = C.logging.TensorBoardProgressWriter(freq=1, log_dir=folder)
    ...     writer.update_training(samples=4, loss=2.0, metric=1.0)
    ...     writer.close()
    ...     os.listdir(folder)[0].startswith("events.out.tfevents.")
    True
    """

    def __init__(
        self,
        freq: int | None = None,
        log_dir: str = ".",
        rank: int | None = None,
        model: Any = None,
    ) -> None:
        super().__init__(freq)
        self.closed = False
        self._file = None
        if not rank and not another_prints():
            os.makedirs(log_dir, exist_ok=True)
            name = f"events.out.tfevents.{int(time.time())}.{platform.node()}"
            self._file = open(os.path.join(log_dir, name), "ab")  # noqa: SIM115  # close() closes
            self._file.write(record(event(time.time(), _field(3, b"brain.Event:2"))))

    def write_value(self, name: str, value: float, step: int) -> None:
        """Writes a number under a name, at a step of training."""
        if self.closed:
            raise RuntimeError("this TensorBoardProgressWriter is closed")
        if self._file is not None:
            content = scalar(str(name), float(value))
            self._file.write(record(event(time.time(), content, int(step))))

    def write_image(self, name: str, data: Mapping[Any, Any], step: int) -> None:
        """Writes a minibatch's images, as `NAME/image/0` and so on, at a step of training.

        Args:
            data: a dict from variables to images (n, channels, height, width) with values from 0
                to 255; one channel is grayscale, three or four have blue first, as the image
                reader returns them.

        Requires Pillow.

        Source: CNTK's `write_image`, which mixes up height, width and channels.
        """
        if self.closed:
            raise RuntimeError("this TensorBoardProgressWriter is closed")
        for batch in data.values():
            batch = np.asarray(batch)
            if batch.ndim != 4 or batch.shape[1] not in (1, 3, 4):
                raise GraphError(
                    f"images need shape (n, channels, height, width) with 1, 3 or 4 channels, "
                    f"got {batch.shape}"
                )
            if self._file is not None:
                self._file.write(record(event(time.time(), images(str(name), batch), int(step))))

    def flush(self) -> None:
        """Writes all buffered data to the file."""
        if self._file is not None and not self.closed:
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
        self.closed = True

    def on_write_training_update(
        self, samples: Pair, updates: Pair, aggregate_loss: Pair, aggregate_metric: Pair
    ) -> None:
        step = self.total_training_updates()
        self.write_value("minibatch/avg_loss", mean(aggregate_loss, samples), step)
        self.write_value("minibatch/avg_metric", mean(aggregate_metric, samples), step)

    def on_write_training_summary(
        self,
        samples: int,
        updates: int,
        summaries: int,
        aggregate_loss: float,
        aggregate_metric: float,
        elapsed_milliseconds: float,
    ) -> None:
        self.write_value("summary/avg_loss", mean(aggregate_loss, samples), summaries)
        self.write_value("summary/avg_metric", mean(aggregate_metric, samples), summaries)
        self.flush()

    def on_write_test_summary(
        self,
        samples: int,
        updates: int,
        summaries: int,
        aggregate_metric: float,
        elapsed_milliseconds: float,
    ) -> None:
        trained = self.total_training_updates()
        name = "minibatch/test_avg_metric" if trained else "summary/test_avg_metric"
        self.write_value(name, mean(aggregate_metric, samples), trained or summaries)
        self.flush()
