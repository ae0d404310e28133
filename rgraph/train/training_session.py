"""The training loop: minibatches from a source, checkpoints, cross validation, progress."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..io.base import Source
from .checkpoint import of_session
from .configurations import (
    CheckpointConfig,
    CrossValidationConfig,
    DataUnit,
    Frequency,
    TestConfig,
    minibatch_size_schedule,
    period_of,
)
from .reading import Reader, Streams, as_source, is_source
from .trainer import Trainer

__all__ = [
    "CheckpointConfig",
    "CrossValidationConfig",
    "DataUnit",
    "TestConfig",
    "TrainingSession",
    "minibatch_size_schedule",
    "training_session",
]


@dataclass
class _Action:
    """Something to do periodically."""

    frequency: Frequency
    do: Callable[[int], Any]

    def __post_init__(self) -> None:
        self.period, self.unit = period_of(self.frequency)
        self.index = 0
        self.last = -1  # the number of samples at the last time


class TrainingSession:
    """A training loop over a minibatch source.

    Args:
        trainer: the trainer.
        mb_source: a minibatch source, or data as for `Function.train`.
        mb_size: the number of samples in a minibatch (frames of the longest stream, for
            sequences), or `minibatch_size_schedule(…)`.
        model_inputs_to_streams: a dict from inputs to the source's streams.
        max_samples: the number of samples to train on; None: until the source ends. Here and
            below, samples are counted by the loss: whole sequences, if each has one loss.
        progress_frequency: the number of samples between summaries, or a pair of a number and a
            `DataUnit`; None for one summary at the end, 0 for none.
        checkpoint_config: a `CheckpointConfig`.
        cv_config: a `CrossValidationConfig`.
        test_config: a `TestConfig`.

    Source: CNTK's `TrainingSession`. See `training_session` for an example.
    """

    def __init__(
        self,
        trainer: Trainer,
        mb_source: Any,
        mb_size: object,
        model_inputs_to_streams: Streams | None = None,
        max_samples: int | None = None,
        progress_frequency: Frequency = None,
        checkpoint_config: CheckpointConfig | None = None,
        cv_config: CrossValidationConfig | None = None,
        test_config: TestConfig | None = None,
    ) -> None:
        if max_samples is not None and max_samples < 1:
            raise ValueError(f"max_samples must be positive, got {max_samples}")
        if not is_source(mb_source):
            if model_inputs_to_streams is not None:
                raise ValueError("arrays have no streams: leave out model_inputs_to_streams")
            mb_source, model_inputs_to_streams = as_source(mb_source, trainer.arguments)
        if not model_inputs_to_streams:
            raise ValueError(
                "a minibatch source needs model_inputs_to_streams={…}, from inputs to streams"
            )
        self.trainer, self.source, self.streams = trainer, mb_source, model_inputs_to_streams
        self._reader = Reader(
            mb_source,
            model_inputs_to_streams,
            minibatch_size_schedule(mb_size),
            max_samples,
            trainer.counts_sequences,
            trainer.workers,
            trainer.is_dealt,
        )
        self.checkpoint = checkpoint_config or CheckpointConfig(None)
        self.validation, self.test = cv_config, test_config
        self._minibatches = self._sweeps = 0
        self._best = math.inf  # the smallest mean metric of cross validation
        self._saving = _Action(self.checkpoint.frequency, self._save)
        self._validation = _Action(cv_config.frequency if cv_config else 0, self._validate)
        self._summary = _Action(progress_frequency, self._summarize)
        if not self.checkpoint.filename:
            self._saving.period = 0
        if self.checkpoint.keep_best and (cv_config is None or cv_config.minibatch_source is None):
            raise ValueError("keep_best needs cross validation: give cv_config a source")
        if cv_config and cv_config.minibatch_source is None and not cv_config.callback:
            self._validation.period = 0
        actions = self._saving, self._validation, self._summary
        self._actions = [action for action in actions if action.period]
        if max_samples is None:
            _refuse_infinite(mb_source, "Train")
        _refuse_infinite(getattr(cv_config, "minibatch_source", None), "Cross validation")
        _refuse_infinite(getattr(test_config, "minibatch_source", None), "Test")

    def train(self, device: Any = None) -> None:
        """Trains until `max_samples`, the source's end, or a learner or callback ends it."""
        trainer, reader = self.trainer, self._reader
        reader.seen = trainer.total_number_of_samples_seen
        newest = self.checkpoint.newest() if self.checkpoint.restore else None
        newest = trainer.workers.of_main(newest)
        if newest is not None:
            self._restore(newest)
        trainer.check_data(self.source)
        began_at = reader.seen
        for writer in trainer.progress_writers:
            writer.on_training_start(reader.left)
        try:
            self._loop(device)
            trainer.train_minibatch({})  # the end: raises what was wrong with the last minibatch
        finally:
            for writer in trainer.progress_writers:
                writer.on_training_end()
        if reader.seen != began_at:
            for action in self._actions:  # for the rest since the last time
                if reader.seen != action.last:
                    action.do(action.index)
            if self._saving.period and self.checkpoint.is_numbered:
                self._write(self.checkpoint.filename)
        if self.test is not None and self.test.minibatch_source is not None:
            self._measure(self.test, self.test.minibatch_size, None)

    def _loop(self, device: Any) -> None:
        trainer, reader = self.trainer, self._reader
        for action in self._actions:
            action.index = self._index(action)
        goes_on = True
        while goes_on:
            minibatch = reader.next()  # empty at the end, or if this worker's part has ended
            if not trainer.train_minibatch(minibatch, device=device):
                return
            reader.count(minibatch, trainer.previous_minibatch_sample_count)
            self._minibatches += 1
            self._sweeps += trainer.ended_sweep
            for action in self._actions:
                index = self._index(action)
                if index != action.index:
                    goes_on &= action.do(action.index) is not False
                    action.index = index
                    action.last = reader.seen

    def _index(self, action: _Action) -> int:
        """The number of an action's periods that have passed."""
        position = {
            DataUnit.sample: self._reader.seen,
            DataUnit.minibatch: self._minibatches,
            DataUnit.sweep: self._sweeps,
        }
        return position[action.unit] // action.period

    def _save(self, index: int) -> None:
        name = self.checkpoint.filename or ""
        self._write(f"{name}{index}" if self.checkpoint.is_numbered else name)
        keeps_some = self.checkpoint.keep is not None and not self.checkpoint.preserve_all
        if keeps_some and self.trainer.workers.is_main:
            for old in self.checkpoint.numbered()[: -(self.checkpoint.keep or 0)]:
                os.remove(old)

    def _write(self, filename: str) -> None:
        places = self.trainer.workers.gather(self.source.get_checkpoint_state())
        state = {
            "source": places[0],
            "sources": places,
            "seen": self._reader.seen,
            "minibatches": self._minibatches,
            "sweeps": self._sweeps,
            "best": self._best,
        }
        self.trainer.save_checkpoint(filename, state)

    def _restore(self, filename: str) -> None:
        external = self.trainer.restore_from_checkpoint(filename)
        state = of_session(external, self.trainer.parameter_learners[0])
        missing = {"source", "seen", "minibatches", "sweeps"} - set(state)
        if missing:
            raise ValueError(
                f"{filename} is the checkpoint of a trainer, not of a session: it lacks "
                f"{', '.join(sorted(missing))}"
            )
        places = state.get("sources", [state["source"]])  # present in older checkpoints
        workers = self.trainer.workers
        joined = len(places) != workers.size
        place = self.source.joined_state(places) if joined else places[workers.rank]
        self.source.restore_from_checkpoint(place)
        self._reader.seen = state["seen"]
        self._minibatches, self._sweeps = state["minibatches"], state["sweeps"]
        self._best = state.get("best", math.inf)  # missing in older checkpoints
        epochs = self._index(self._summary) if self._summary.period else 0
        for writer in self.trainer.progress_writers:
            writer.resume(self._minibatches, epochs)

    def _validate(self, index: int) -> bool:
        config = self.validation
        assert config is not None
        found: tuple[float, int, int] = 0.0, 0, 0
        if config.minibatch_source is not None:
            found = self._measure(config, config.minibatch_size, config.max_samples)
            if found[1] and found[0] < self._best:
                self._best = found[0]
                if self.checkpoint.keep_best and self.checkpoint.filename:
                    self._write(f"{self.checkpoint.filename}.best")
        answer = None if config.callback is None else config.callback(index, *found)
        return self.trainer.workers.of_main(answer is None or bool(answer))

    def _measure(self, config: Any, size: Any, limit: int | None) -> tuple[float, int, int]:
        """The mean metric from the source's current position, which is then restored; and the
        numbers of samples and minibatches."""
        evaluator = self.trainer.evaluator
        source, streams = config.minibatch_source, config.model_inputs_to_streams
        if not is_source(source):
            own = config.criterion
            inputs = list(self.streams) if own is None else own.arguments
            source, streams = as_source(source, inputs, max_sweeps=1)
        start = source.get_checkpoint_state()
        sizes, in_sequences = minibatch_size_schedule(size), evaluator.counts_sequences
        workers = self.trainer.workers
        reader = Reader(source, streams or self.streams, sizes, limit, in_sequences, workers)
        total, samples, minibatches = 0.0, 0, 0
        while any(workers.gather(bool(minibatch := reader.next()))):
            metric, count = evaluator.measure(minibatch, workers=workers)
            reader.count(minibatch, count)
            total, samples, minibatches = total + metric, samples + count, minibatches + 1
        source.restore_from_checkpoint(start)
        self.trainer.summarize_test_progress()
        return total / (samples or 1), samples, minibatches

    def _summarize(self, index: int) -> None:
        self.trainer.summarize_training_progress()


def training_session(
    trainer: Trainer,
    mb_source: object,
    mb_size: object,
    model_inputs_to_streams: Streams | None = None,
    progress_frequency: Frequency = None,
    max_samples: int | None = None,
    checkpoint_config: CheckpointConfig | None = None,
    cv_config: CrossValidationConfig | None = None,
    test_config: TestConfig | None = None,
) -> TrainingSession:
    """A training loop: call its `train()`. Arguments as for `TrainingSession`.

    >>> x, t = C.input_variable(1), C.input_variable(1)
    >>> y = x * C.Parameter(1)
    >>> trainer = C.Trainer(y, C.squared_error(y, t), C.sgd(y.parameters, 0.25))
    >>> data = np.ones((8, 1)), 3 * np.ones((8, 1))
    >>> C.training_session(trainer, data, mb_size=4, max_samples=80).train()
    >>> y.parameters[0].value.round(2)
    array([3.], dtype=float32)
    """
    return TrainingSession(
        trainer,
        mb_source,
        mb_size,
        model_inputs_to_streams,
        max_samples,
        progress_frequency,
        checkpoint_config,
        cv_config,
        test_config,
    )


def _refuse_infinite(source: object, what: str) -> None:
    """Raises an error if a source that is read to its end is infinite."""
    if isinstance(source, Source) and source.is_infinite():
        raise ValueError(
            f"{what} minibatch source must have a limited number of samples or sweeps: give "
            "max_samples=… or max_sweeps=…"
        )
