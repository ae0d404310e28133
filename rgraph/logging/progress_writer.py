"""The base class of progress writers, to which trainers report."""

from __future__ import annotations

import sys
import time
from typing import Any

Pair = tuple[float, float]

_MOST_PENDING = 256  # the largest number of minibatches with pending losses


class _Totals:
    """Sums since the last summary, and since the last report."""

    def __init__(self, frequency: int, first: int) -> None:
        self.frequency, self.first = frequency, first
        self.summaries = self.all_updates = 0
        self.start()

    def start(self) -> None:
        self.samples = self.updates = 0
        self._settled = 0.0, 0.0  # the sums of loss and metric
        self._pending: list[tuple[Any, Any]] = []  # values that a GPU may still be computing
        self.since = time.perf_counter()
        self.reported = (0, 0, 0.0, 0.0)

    def add(self, samples: int, loss: Any, metric: Any) -> None:
        self.samples += samples
        self.updates += 1
        self.all_updates += 1
        self._pending.append((loss, metric))
        if len(self._pending) == _MOST_PENDING:
            self.settle()

    @property
    def loss(self) -> float:
        return self.settle()[0]

    @property
    def metric(self) -> float:
        return self.settle()[1]

    def settle(self) -> Pair:
        """The sums of loss and metric; waits for pending values."""
        for loss, metric in self._pending:
            self._settled = self._settled[0] + float(loss), self._settled[1] + float(metric)
        self._pending.clear()
        return self._settled

    def is_due(self) -> bool:
        n = self.updates
        if self.frequency == 0:
            return (n + 1) & n == 0
        return n % self.frequency == 0 or n <= self.first

    def report(self) -> list[Pair]:
        """Samples, updates, loss and metric, each at the last report and now."""
        found = self.unreported()
        self.reported = (self.samples, self.updates, *self.settle())
        return found

    def unreported(self) -> list[Pair]:
        """The result of `report`, without reporting."""
        now = (self.samples, self.updates, *self.settle())
        return list(zip(self.reported, now, strict=True))


class ProgressWriter:
    """The base class of progress writers: derive from it and define the methods of interest.

    Args:
        freq: the number of training updates between calls of `on_write_training_update`; 0 for
            calls after 1, 3, 7, 15, … updates; None for no calls.
        first: the number of first updates that get a call each.
        test_freq, test_first: the same for `on_write_test_update`.

    Attributes:
        has_metric: whether there is a metric; otherwise metrics are 0 in training, and the loss in
            tests.

    Source: CNTK's `ProgressWriter`.

    >>> class Losses(C.logging.ProgressWriter):
    ...     def on_write_training_update(self, samples, updates, loss, metric):
    ...         print((loss[1] - loss[0]) / (samples[1] - samples[0]))
    >>> writer = Losses(freq=1)
    >>> writer.update_training(samples=4, loss=2.0, metric=None)
    0.5
    """

    has_metric = True

    def __init__(
        self,
        freq: int | None = None,
        first: int = 0,
        test_freq: int | None = None,
        test_first: int = 0,
        distributed_freq: int | None = None,
        distributed_first: int = 0,
    ) -> None:
        self._training = _Totals(sys.maxsize if freq is None else freq, first)
        self._test = _Totals(sys.maxsize if test_freq is None else test_freq, test_first)

    # Methods to override

    def on_write_training_update(
        self, samples: Pair, updates: Pair, aggregate_loss: Pair, aggregate_metric: Pair
    ) -> None:
        """Called every `freq` updates, with totals since the last summary: pairs of the total at
        the previous call and now."""

    def on_write_test_update(self, samples: Pair, updates: Pair, aggregate_metric: Pair) -> None:
        """Same as `on_write_training_update`, for tests."""

    def on_write_training_summary(
        self,
        samples: int,
        updates: int,
        summaries: int,
        aggregate_loss: float,
        aggregate_metric: float,
        elapsed_milliseconds: float,
    ) -> None:
        """Called at the end of an epoch with its totals; `summaries` counts the epochs."""

    def on_write_test_summary(
        self,
        samples: int,
        updates: int,
        summaries: int,
        aggregate_metric: float,
        elapsed_milliseconds: float,
    ) -> None:
        """Called at the end of a test with its totals."""

    def on_training_update_end(self) -> None:
        """Called after each update of training."""

    def on_training_start(self, max_samples: int | None) -> None:
        """Called at the start of a training session, with the number of samples to train on."""

    def on_training_end(self) -> None:
        """Called at the end of a training session, also after an error."""

    def write(self, key: str, value: float) -> None:
        """Called with a named number, for example when a learning rate changes."""

    # Called by trainers

    def resume(self, updates: int, summaries: int) -> None:
        """Resumes counting after this many minibatches and epochs."""
        self._training.all_updates, self._training.summaries = updates, summaries

    def total_training_updates(self) -> int:
        """The number of minibatches in training."""
        return self._training.all_updates

    def total_test_updates(self) -> int:
        """The number of minibatches in tests."""
        return self._test.all_updates

    def update_training(self, samples: int, loss: float, metric: float | None) -> None:
        """Adds a minibatch: its number of samples, and the sums of loss and metric, which a GPU may
        still be computing."""
        self.has_metric = metric is not None
        self._training.add(samples, loss, 0.0 if metric is None else metric)
        if self._training.is_due():
            self.on_write_training_update(*self._training.report())
        self.on_training_update_end()

    def update_test(self, samples: int, metric: float) -> None:
        """Adds a minibatch of a test."""
        self._test.add(samples, 0.0, metric)
        if self._test.is_due():
            seen, updates, _, metrics = self._test.report()
            self.on_write_test_update(seen, updates, metrics)

    def write_training_summary(self) -> None:
        """Ends an epoch."""
        t = self._training
        t.summaries += 1
        loss, metric = t.settle()
        spent = (time.perf_counter() - t.since) * 1000
        self.on_write_training_summary(t.samples, t.updates, t.summaries, loss, metric, spent)
        t.start()

    def write_test_summary(self) -> None:
        """Ends a test."""
        t = self._test
        t.summaries += 1
        metric = t.metric
        spent = (time.perf_counter() - t.since) * 1000
        self.on_write_test_summary(t.samples, t.updates, t.summaries, metric, spent)
        t.start()


def mean(total: Any, count: Any) -> float:
    """The mean; for pairs of totals, the mean between the two."""
    if isinstance(total, tuple):
        total, count = total[1] - total[0], count[1] - count[0]
    return total / count if count else 0.0
