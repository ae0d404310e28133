"""Progress as TensorBoard's event files: records of protocol buffers, each with its checksums."""

from __future__ import annotations

import os
import platform
import struct
import time
from typing import Any

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
    """CRC-32C, masked as TensorFlow's record files have it."""
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
    """An event: its time, its step, and what happened."""
    numbered = b"\x10" + _varint(step) if step else b""
    return b"\x09" + struct.pack("<d", seconds) + numbered + content


def scalar(name: str, value: float) -> bytes:
    """A number under a name, as an event's content."""
    pair = _field(1, name.encode()) + b"\x15" + struct.pack("<f", value)
    return _field(5, _field(1, pair))


class TensorBoardProgressWriter(ProgressWriter):
    """Writes losses and metrics to a file that TensorBoard shows.

    Args:
        freq: minibatches between numbers; None for those of epochs alone.
        log_dir: the folder of the file; it is made where it is missing.
        rank: of several workers, the number of this one; only 0 writes.
        model: accepted for CNTK's sake; its graph is not written.

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
        if not rank:
            os.makedirs(log_dir, exist_ok=True)
            name = f"events.out.tfevents.{int(time.time())}.{platform.node()}"
            self._file = open(os.path.join(log_dir, name), "ab")  # noqa: SIM115  # close() closes
            self._file.write(record(event(time.time(), _field(3, b"brain.Event:2"))))

    def write_value(self, name: str, value: float, step: int) -> None:
        """Writes a number under a name, at a step of training."""
        if self.closed:
            raise RuntimeError("this TensorBoardProgressWriter was closed")
        if self._file is not None:
            content = scalar(str(name), float(value))
            self._file.write(record(event(time.time(), content, int(step))))

    def flush(self) -> None:
        """Has all that was written reach the file."""
        if self._file is not None and not self.closed:
            self._file.flush()

    def close(self) -> None:
        """Ends the file; nothing can be written after that."""
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
