"""Progress as a bar at the bottom of a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO
from weakref import WeakSet

from ..runtime.workers import another_prints
from .progress_writer import ProgressWriter, mean

_on_screen: WeakSet[ProgressBar] = WeakSet()  # the process has one terminal


@contextmanager
def bars_aside() -> Iterator[None]:
    """Hides progress bars while something is printed, which then appears above them."""
    bars = list(_on_screen)
    for bar in bars:
        bar._show("")
    yield
    sys.stdout.flush()
    for bar in bars:
        bar._show(bar._line)


class ProgressBar(ProgressWriter):
    """A progress bar at the bottom of a terminal, with the loss.

    Args:
        total: the total number of samples (frames); by default that of the training session.
        file: the stream to draw to, by default standard error. Nothing is drawn if it is not a
            terminal, or by workers other than that of rank 0.
        width: the width of the bar in characters.

    Pass it to a trainer as a progress writer, or to `Function.train` as a callback. The loss is
    averaged over the last minibatches.

    >>> bar = C.logging.ProgressBar(total=100)
    >>> bar.update_training(samples=50, loss=25.0, metric=None)
    >>> bar.text()
    ' 50% [############            ]  50/100  loss 0.5'
    """

    def __init__(
        self, total: int | None = None, file: TextIO | None = None, width: int = 24
    ) -> None:
        super().__init__()
        self.total, self.width = total, width
        self._file = file or sys.stderr
        self._live = self._file.isatty() and not another_prints()
        self._seen = 0
        self._recent: tuple[float, float] | None = None  # loss and metric, smoothed
        self._began = self._drawn = time.perf_counter()
        self._line = ""  # what is on the screen

    def on_training_start(self, max_samples: int | None) -> None:
        self.total = max_samples if self.total is None else self.total

    def update_training(self, samples: int, loss: float, metric: float | None) -> None:
        now = (mean(loss, samples), mean(0.0 if metric is None else metric, samples))
        old = self._recent or now
        self._recent = (0.9 * old[0] + 0.1 * now[0], 0.9 * old[1] + 0.1 * now[1])
        self._seen += samples
        super().update_training(samples, loss, metric)

    def on_training_update_end(self) -> None:
        now = time.perf_counter()
        if self._live and now - self._drawn > 0.1:
            self._drawn = now
            spent = now - self._began
            speed = self._seen / spent
            text = f"{self.text()}  {speed:,.0f}/s"
            if self.total and self._seen < self.total:
                minutes, seconds = divmod(round((self.total - self._seen) / speed), 60)
                text += f"  {minutes}:{seconds:02} left"
            self._line = text
            self._show(text)
            _on_screen.add(self)

    def _show(self, text: str) -> None:
        self._file.write(f"\r{text}\x1b[K")
        self._file.flush()

    def text(self) -> str:
        """The text of the bar: progress, loss and metric."""
        if self.total:
            part = min(self._seen / self.total, 1.0)
            bar = ("#" * int(part * self.width)).ljust(self.width)
            text = f"{part:4.0%} [{bar}]  {self._seen:,}/{self.total:,}"
        else:
            text = f"{self._seen:,} samples"
        if self._recent:
            text += f"  loss {float(self._recent[0]):.4g}"
            text += f"  metric {float(self._recent[1]):.4g}" if self.has_metric else ""
        return text

    def on_training_end(self) -> None:
        """Keeps the bar on the screen; further output goes below."""
        if self in _on_screen:
            self._file.write("\n")
            _on_screen.discard(self)

    close = on_training_end

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
