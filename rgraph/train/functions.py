"""`Function.train` and `Function.test`: a training loop in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ..eval import Evaluator, as_writers
from ..logging import ProgressWriter
from .reading import Reader, as_source, is_source
from .scaling import LossScale
from .trainer import Trainer
from .training_session import (
    CheckpointConfig,
    CrossValidationConfig,
    DataUnit,
    TestConfig,
    TrainingSession,
    minibatch_size_schedule,
)

T = TypeVar("T")


def _read_by_key(summary: type[T]) -> type[T]:
    """Lets the items of a named tuple be read by name as keys, as in CNTK."""

    def get(self: Any, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)

    setattr(summary, "__getitem__", get)  # noqa: B010
    return summary


@_read_by_key
class Summary(NamedTuple):
    """The mean loss and metric over a number of samples."""

    loss: float
    metric: float
    samples: int


@_read_by_key
class TestSummary(NamedTuple):
    """The mean of a metric over a number of samples."""

    metric: float
    samples: int


TestSummary.__test__ = False  # type: ignore[attr-defined]  # not a test class for pytest


@_read_by_key
class Progress(NamedTuple):
    """The summaries of a training: minibatches, epochs, and the final test if there was one.

    `C.logging.plot_training` draws it.
    """

    updates: list[Summary]
    epoch_summaries: list[Summary]
    test_summary: TestSummary | None = None


class _Collector(ProgressWriter):
    def __init__(self, freq: int | None = None) -> None:
        super().__init__(freq)
        self.updates: list[Summary] = []
        self.epochs: list[Summary] = []
        self.tests: list[TestSummary] = []

    def on_write_training_update(
        self, samples: Any, updates: object, loss: Any, metric: Any
    ) -> None:
        count = samples[1] - samples[0]
        means = [(total[1] - total[0]) / (count or 1) for total in (loss, metric)]
        self.updates.append(Summary(means[0], means[1], count))

    def on_write_training_summary(
        self, samples: int, updates: int, summaries: int, loss: float, metric: float, spent: float
    ) -> None:
        self.epochs.append(Summary(loss / (samples or 1), metric / (samples or 1), samples))

    def on_write_test_summary(
        self, samples: int, updates: int, summaries: int, metric: float, spent: float
    ) -> None:
        self.tests.append(TestSummary(metric / (samples or 1), samples))


def _streams(criterion: Any, streams: Any, by_input: Any) -> Any:
    if streams and by_input:
        raise ValueError("give streams or model_inputs_to_streams, not both")
    return dict(zip(criterion.arguments, streams, strict=True)) if streams else by_input


def train(
    self: Any,
    minibatch_source: Any,
    minibatch_size: Any = 32,
    streams: Sequence[Any] | None = None,
    model_inputs_to_streams: Mapping[Any, Any] | None = None,
    parameter_learners: Any = (),
    callbacks: Any = (),
    progress_frequency: Any = None,
    max_epochs: float | None = None,
    epoch_size: int | None = None,
    max_samples: int | None = None,
    on_nan: str | None = None,
    window: int | None = None,
    memory_limit: int | None = None,
    loss_scale: LossScale = None,
) -> Progress:
    """See `Function.train`."""
    sizes = minibatch_size_schedule(minibatch_size)
    source, inputs = minibatch_source, _streams(self, streams, model_inputs_to_streams)
    period: int | None = None  # of the updates that are given back, in minibatches
    if max_samples is not None and max_epochs is not None:
        raise ValueError("give max_epochs or max_samples, not both")
    epochs = 1 if max_epochs is None else max_epochs
    if epochs <= 0:
        raise ValueError(f"max_epochs must be positive, got {max_epochs}")
    if max_samples is None and epoch_size is not None:
        max_samples = int(epochs * epoch_size)
    elif max_samples is None:
        if is_source(source):
            raise ValueError(
                "a minibatch source needs epoch_size=…, the number of samples in an epoch"
            )
        source, inputs = as_source(source, self.arguments, max_sweeps=epochs)
        if progress_frequency is None:
            progress_frequency = 1, DataUnit.sweep
            period = max(source.sweep_size // int(sizes[0]), 1)
    if progress_frequency is None:
        progress_frequency = epoch_size
    if progress_frequency is not None and not isinstance(progress_frequency, tuple):
        period = max(progress_frequency // int(sizes[0]), 1)
    configs: dict[type, Any] = {}
    writers: list[ProgressWriter] = []
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        if isinstance(callback, ProgressWriter):
            writers.append(callback)
            continue
        if not isinstance(callback, (CheckpointConfig, CrossValidationConfig, TestConfig)):
            raise ValueError(
                "a callback must be a progress writer, a CheckpointConfig, "
                "CrossValidationConfig or "
                f"TestConfig, got {callback!r:.60}"
            )
        if type(callback) in configs:
            raise ValueError(f"there can be only one {type(callback).__name__}")
        configs[type(callback)] = callback
    if writers:
        period = writers[0]._training.frequency
    collector = _Collector(period)
    writers.append(collector)
    how = on_nan, window, memory_limit, loss_scale
    trainer = Trainer(None, self, parameter_learners, writers, *how)
    TrainingSession(
        trainer,
        source,
        sizes,
        inputs,
        max_samples,
        progress_frequency,
        configs.get(CheckpointConfig),
        configs.get(CrossValidationConfig),
        configs.get(TestConfig),
    ).train()
    tested = collector.tests[-1] if TestConfig in configs else None
    return Progress(collector.updates, collector.epochs, tested)


def measure(
    self: Any,
    minibatch_source: Any,
    minibatch_size: Any = 32,
    streams: Sequence[Any] | None = None,
    model_inputs_to_streams: Mapping[Any, Any] | None = None,
    callbacks: Any = None,
) -> TestSummary:
    """See `Function.test`."""
    inputs = _streams(self, streams, model_inputs_to_streams)
    source = minibatch_source
    if not is_source(source):
        source, inputs = as_source(source, self.arguments, max_sweeps=1)
    if source.is_infinite():
        raise ValueError("the source repeats its data without end; give it max_samples")
    collector = _Collector()
    writers = [*as_writers(callbacks), collector]
    evaluator = Evaluator(self, writers, is_loss=len(self.outputs) == 1)
    sizes = minibatch_size_schedule(minibatch_size)
    reader = Reader(source, inputs, sizes, None, evaluator.counts_sequences)
    while minibatch := reader.next():
        reader.count(minibatch, evaluator.measure(minibatch)[1])
    evaluator.summarize_test_progress()
    return collector.tests[-1]
