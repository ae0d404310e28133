"""Prints progress in CNTK's format."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..runtime.workers import another_prints
from .progress_bar import bars_aside
from .progress_writer import Pair, ProgressWriter, mean


class ProgressPrinter(ProgressWriter):
    """Prints the progress of training in CNTK's format.

    Args:
        freq: the number of minibatches between lines; 0 for a table with lines after 1, 3, 7, 15, …
            minibatches; None for summaries only.
        first: the number of first minibatches that get a line each.
        tag: a prefix of the summaries.
        log_to_file: a file to write to; by default standard output.
        rank: the rank of this worker, which is appended to the file's name. By default only the
            worker of rank 0 prints.
        num_epochs: the total number of epochs, shown in the summaries.
        test_freq, test_first: the same as `freq` and `first`, for tests.
        metric_is_pct: whether to print the metric as a percentage. Without a metric the loss is
            printed instead, not as a percentage.

    Source: CNTK's `ProgressPrinter`.

    >>> printer = C.logging.ProgressPrinter(freq=2)
    >>> for loss in (3.0, 1.0):
    ...     printer.update_training(samples=4, loss=loss, metric=1)
     Minibatch[   1-   2]: loss = 0.500000 * 8, metric = 25.00% * 8;
    """

    def __init__(
        self,
        freq: int | None = None,
        first: int = 0,
        tag: str = "",
        log_to_file: str | None = None,
        rank: int | None = None,
        gen_heartbeat: bool = False,
        num_epochs: int | None = None,
        test_freq: int | None = None,
        test_first: int = 0,
        metric_is_pct: bool = True,
        distributed_freq: int | None = None,
        distributed_first: int = 0,
    ) -> None:
        super().__init__(freq, first, test_freq, test_first)
        self.freq, self.test_freq = self._training.frequency, self._test.frequency
        self.tag = f"[{tag}] " if tag else ""
        self.num_epochs, self.metric_is_pct = num_epochs, metric_is_pct
        self._is_for_all = rank is None
        self.logfilename = None
        if log_to_file is not None:
            self.logfilename = log_to_file + (f"rank{rank}" if rank is not None else "")
            if not self._is_silent:
                with open(self.logfilename, "w", encoding="utf-8"):
                    pass
        if freq == 0:
            self.log(" average      since    average      since      examples")
            self.log("    loss       last     metric       last              ")
            self.log(" ------------------------------------------------------")

    @property
    def _is_silent(self) -> bool:
        return self._is_for_all and another_prints()

    def log(self, message: str) -> None:
        """Prints a line, above a progress bar if there is one."""
        if self._is_silent:
            return
        if self.logfilename is None:
            with bars_aside():
                print(message)
            return
        with open(self.logfilename, "a", encoding="utf-8") as file:
            file.write(message + "\n")

    def write(self, key: str, value: float) -> None:
        self.log(f"{key}: {value}")

    def _measured(self, metric: Any, samples: Any) -> str:
        value = mean(metric, samples)
        if not self.has_metric:
            return f"loss = {value:0.6f}"
        return f"metric = {value * 100:0.2f}%" if self.metric_is_pct else f"metric = {value:0.6f}"

    def on_write_training_update(
        self, samples: Pair, updates: Pair, aggregate_loss: Pair, aggregate_metric: Pair
    ) -> None:
        metric = aggregate_metric if self.has_metric else None
        self._update(samples, updates, aggregate_loss, metric, self.freq, "")

    def on_write_test_update(self, samples: Pair, updates: Pair, aggregate_metric: Pair) -> None:
        self._update(samples, updates, None, aggregate_metric, self.test_freq, "Evaluation ")

    def _update(
        self,
        samples: Pair,
        updates: Pair,
        loss: Pair | None,
        metric: Pair | None,
        frequency: int,
        name: str,
    ) -> None:
        if frequency == 0:
            columns = ""
            for total in (loss, metric):
                if total is None:
                    columns += " " * 22
                else:
                    all_of_it = mean(total[1], samples[1])
                    columns += f"{all_of_it:8.3g}   {mean(total, samples):8.3g}   "
            self.log(f" {columns} {samples[1]:10d}")
            return
        count = samples[1] - samples[0]
        parts = [] if loss is None else [f"loss = {mean(loss, samples):0.6f} * {count}"]
        if metric is not None:
            parts.append(f"{self._measured(metric, samples)} * {count}")
        span = f"{updates[0] + 1:4d}-{updates[1]:4d}"
        self.log(f" {name}Minibatch[{span}]: {', '.join(parts)};")

    def on_write_training_summary(
        self,
        samples: int,
        updates: int,
        summaries: int,
        aggregate_loss: float,
        aggregate_metric: float,
        elapsed_milliseconds: float,
    ) -> None:
        if self.freq == 0:
            return
        seconds = elapsed_milliseconds / 1000
        epoch = str(summaries) if self.num_epochs is None else f"{summaries} of {self.num_epochs}"
        line = f"loss = {mean(aggregate_loss, samples):0.6f} * {samples}"
        if self.has_metric:
            line += f", {self._measured(aggregate_metric, samples)} * {samples}"
        speed = f"{seconds:0.3f}s ({mean(samples, seconds):5.1f} samples/s)"
        self.log(f"Finished Epoch[{epoch}]: {self.tag}{line} {speed};")

    def on_write_test_summary(
        self,
        samples: int,
        updates: int,
        summaries: int,
        aggregate_metric: float,
        elapsed_milliseconds: float,
    ) -> None:
        shown = self._measured(aggregate_metric, samples)
        self.log(f"Finished Evaluation [{summaries}]: Minibatch[1-{updates}]: {shown} * {samples};")

    # CNTK's former interface: updates by hand

    def update_with_trainer(self, trainer: Any, with_metric: bool = False) -> None:
        """Adds the last minibatch of a trainer."""
        samples = trainer.previous_minibatch_sample_count
        if samples:
            metric = trainer.previous_minibatch_evaluation_average if with_metric else None
            self.update(trainer.previous_minibatch_loss_average, samples, metric)

    def update(self, loss: float, minibatch_size: int, metric: float | None = None) -> None:
        """Adds a minibatch, by its mean loss and metric."""
        total = None if metric is None else metric * minibatch_size
        self.update_training(minibatch_size, loss * minibatch_size, total)

    def avg_loss_since_start(self) -> float:
        """The mean loss of this epoch so far."""
        return mean(self._training.loss, self._training.samples)

    def avg_metric_since_start(self) -> float:
        """The mean metric of this epoch so far."""
        return mean(self._training.metric, self._training.samples)

    def avg_loss_since_last(self) -> float:
        """The mean loss since the last line."""
        samples, _, loss, _ = self._training.unreported()
        return mean(loss, samples)

    def avg_metric_since_last(self) -> float:
        """The mean metric since the last line."""
        samples, _, _, metric = self._training.unreported()
        return mean(metric, samples)

    def epoch_summary(self, with_metric: bool = False) -> tuple[float, float, int]:
        """Ends an epoch; returns its mean loss and metric, and its number of samples."""
        t = self._training
        result = (mean(t.loss, t.samples), mean(t.metric, t.samples), t.samples)
        self.write_training_summary()
        return result


class TrainingSummaryProgressCallback(ProgressWriter):
    """Calls a function at the end of every epoch.

    Args:
        epoch_size: accepted for compatibility with CNTK; see the session's progress frequency.
        callback: `callback(epoch index, loss, metric, samples)`, with totals over the samples.

    >>> def show(epoch, loss, metric, samples):
    ...     print(epoch, loss / samples)
    >>> writer = C.logging.TrainingSummaryProgressCallback(100, show)
    >>> writer.update_training(samples=4, loss=2.0, metric=None)
    >>> writer.write_training_summary()
    0 0.5
    """

    def __init__(self, epoch_size: int, callback: Callable[[int, float, float, int], Any]) -> None:
        super().__init__()
        self._callback = callback

    def on_write_training_summary(
        self,
        samples: int,
        updates: int,
        summaries: int,
        aggregate_loss: float,
        aggregate_metric: float,
        elapsed_milliseconds: float,
    ) -> None:
        self._callback(summaries - 1, aggregate_loss, aggregate_metric, samples)


def log_number_of_parameters(model: Any, trace_level: int = 0) -> None:
    """Prints the number of parameters of a model; with a positive `trace_level` also their shapes.

    >>> C.logging.log_number_of_parameters(C.Parameter((3, 2)) * C.Parameter(2))
    Training 8 parameters in 2 parameter tensors.
    """
    shapes = [p.shape for p in model.parameters]
    known = all(n >= 0 for shape in shapes for n in shape)
    count = sum(map(math.prod, shapes)) if known else "so far unspecified number of"
    print(f"Training {count} parameters in {len(shapes)} parameter tensors.")
    if trace_level > 0:
        print()
        for shape in shapes:
            print(f"\t{shape}")
