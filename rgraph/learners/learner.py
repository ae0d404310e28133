"""The base class of learners: schedules, clipping, regularization, noise, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..graph import GraphError, Input, Node, Stored
from ..graph.context import context
from ..operands.variables import Parameter
from ..runtime.evaluation import Request, Runner
from ..runtime.values import device_of
from .options import Options
from .rule import Rule, Updates, as_gradient
from .schedules import IGNORE, Schedule, as_schedule
from .steps import Now, Step, rest

Array = np.ndarray
State = dict[str, Any]


class Learner:
    """Updates parameters from their gradients. `C.sgd(…)`, `C.adam(…)` and others make learners.

    Args:
        parameters: the parameters to learn.
        lr: the learning rate, a number or a schedule.
        step: the algorithm: computes new values from gradients.
        options: see `Options`.
        momentum, variance_momentum: for algorithms that smooth the gradient, or its square.
        unit_gain: whether the gradient is smoothed with gain 1.

    Attributes:
        parameters: the parameters to learn, in order.
        as_numpy: whether a trainer must pass gradients as arrays in the CPU's memory.

    Raises:
        ValueError: there are no parameters, one occurs twice, or one has an unknown shape.

    >>> learner = C.sgd([C.Parameter(1)], C.learning_parameter_schedule(0.1, minibatch_size=32))
    >>> learner.learning_rate(), len(learner.parameters)
    (0.1, 1)
    """

    as_numpy = False

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: Any,
        step: Step | None = None,
        options: Options | None = None,
        momentum: Any = None,
        unit_gain: bool = True,
        variance_momentum: Any = None,
    ) -> None:
        self.parameters = tuple(parameters)
        _check(self.parameters)
        self.options = options = options or Options()
        size, epoch = options.minibatch_size, options.epoch_size
        self._rate = as_schedule(lr, size, epoch, bool(options.use_mean_gradient))
        self._momentum = None if momentum is None else as_schedule(momentum, size, epoch)
        self._decay = (
            None if variance_momentum is None else as_schedule(variance_momentum, size, epoch)
        )
        self._unit_gain = unit_gain
        self._step = step
        if step is not None:
            context().random.next_seed()  # as in CNTK, except for user-written learners
        self._size = size
        self._samples = self._minibatches = self._sweeps = 0
        self._kept = [_stored(step, p) for p in self.parameters]
        self._count = Stored(
            (), self.parameters[0].dtype, _zeros, "count"
        )  # the number of updates or samples, see `Step.counts`
        self._begun = False  # whether there was an update with a nonzero rate
        self._noise: tuple[int, int] | None = None  # the seed, and the number of draws
        if any(options.noise.values):
            self._noise = int(context().random.next_generator().integers(1 << 62)), 0
        self._reported: dict[str, float] = {}
        self.tell: Callable[[str, float], None] | None = None  # set by a trainer

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle, without the reference to a trainer."""
        made = {"_kept", "_count", "_updates", "_rules", "_runner"}
        own = {k: v for k, v in vars(self).items() if k not in made}
        return {**own, "tell": None, "state": self._state()}

    def __setstate__(self, pickled: Mapping[str, Any]) -> None:
        own = dict(pickled)
        states = own.pop("state")
        vars(self).update(own)
        self._kept = [_stored(self._step, p) for p in self.parameters]
        self._count = Stored((), self.parameters[0].dtype, _zeros, "count")
        self._set_state(states)

    @property
    def minibatch_size(self) -> int:
        """The minibatch size that rates and momenta are meant for; `IGNORE` if none was given."""
        return self._size or IGNORE

    @minibatch_size.setter
    def minibatch_size(self, size: int) -> None:
        self._size = size
        for made in ("_updates", "_rules"):  # rates are for the sum, or for the mean, of gradients
            vars(self).pop(made, None)

    def is_compatible_mode(self) -> bool:
        """Whether rates and momenta apply to the mean gradient of a minibatch, unscaled."""
        return self._size == IGNORE

    @property
    def rule(self) -> Rule | None:
        """The update as a graph, which a trainer computes along with the gradients.

        None: the trainer calls `update` with the gradients. This is also so at a rate of 0, which
        changes nothing.
        """
        if self._step is None or self.learning_rate() == 0:
            return None
        return self._rule_now()

    def _rule_now(self) -> Rule:
        has_noise = self._now(self.options.noise) > 0
        if has_noise not in self._rules:
            self._rules[has_noise] = self._updates.rule(has_noise)
        return self._rules[has_noise]

    @cached_property
    def _updates(self) -> Updates:
        assert self._step is not None
        mean = self.is_compatible_mode()
        kept = self._kept, self._count
        return Updates(self._step, self.options, self.parameters, *kept, mean)

    @cached_property
    def _rules(self) -> dict[bool, Rule]:
        return {}

    @cached_property
    def _runner(self) -> Runner:
        return Runner()

    @property
    def has_own_update(self) -> bool:
        """Whether a subclass overrides `update`, so that a trainer must call it."""
        return "update" in vars(self) or type(self).update is not type(self)._rules_update

    @property
    def is_by_step(self) -> bool:
        """Whether it is a built-in algorithm: its results are finite if the gradients are."""
        return self._step is not None

    # Schedules

    def learning_rate(self) -> float:
        """The current learning rate."""
        return self._now(self._rate)

    def reset_learning_rate(self, learning_rate: Schedule) -> None:
        """Sets a new learning rate: a schedule that starts now.

        >>> learner = C.sgd([C.Parameter(1)], 0.1)
        >>> learner.reset_learning_rate(C.learning_parameter_schedule(0.2))
        >>> learner.learning_rate()
        0.2
        """
        schedule = as_schedule(learning_rate, self._size or None, None)
        self._rate = schedule.after(self._sweeps if schedule.is_sweep_based else self._samples)

    @property
    def _learning_rate_schedule(self) -> Schedule:
        return self._rate

    def _now(self, schedule: Schedule) -> float:
        return schedule[self._sweeps if schedule.is_sweep_based else self._samples]

    def _numbers(self, samples: int) -> Now:
        mean = self.is_compatible_mode()
        meant_for = self._rate.minibatch_size or samples
        now = Now(self.learning_rate() * (samples if mean else 1) / meant_for, samples)
        if self._momentum is not None:
            now.momentum = self._left(self._momentum, samples)
            now.gain = 1 - now.momentum if self._unit_gain else 1.0
        if self._decay is not None:
            now.decay = self._left(self._decay, samples)
        return now

    def _left(self, schedule: Schedule, samples: int) -> float:
        """The decay factor for a minibatch of this many samples."""
        value = self._now(schedule)
        return value ** (samples / schedule.minibatch_size) if schedule.minibatch_size else value

    # Counts, as in CNTK

    def total_number_of_samples_seen(self) -> int:
        """The number of samples (frames) in all updates."""
        return self._samples

    def total_number_of_minibatches_seen(self) -> int:
        """The number of updates."""
        return self._minibatches

    def total_number_of_sweeps_seen(self) -> int:
        """The number of sweeps over the data that have ended."""
        return self._sweeps

    # Updates

    def update(
        self,
        gradient_values: Mapping[Any, Any],
        training_sample_count: int,
        is_sweep_end: bool = False,
    ) -> bool:
        """Updates the parameters.

        Args:
            gradient_values: a dict from parameters to gradients, summed over the minibatch. The
                update runs on the device, CPU or GPU, that holds the gradient.
            training_sample_count: the number of samples in the minibatch.
            is_sweep_end: whether a sweep over the data ends with this minibatch.

        At a rate of 0 neither the parameters nor the learner's state change; samples and sweeps
        are counted, so that a schedule which starts with 0 advances. (In CNTK it does not.)

        Returns:
            True. A user-written learner may return False to stop training.

        Raises:
            GraphError: a parameter has no gradient, or one of the wrong size; no parameter is
                changed then.
        """
        if self._step is None:
            raise NotImplementedError(f"{type(self).__name__} must define update")
        samples = int(training_sample_count)
        if samples < 1:
            raise ValueError("a learner can't learn from an empty minibatch")
        gradients = self._gradients(gradient_values)
        rule = self.rule
        if rule is not None:
            fed = zip(rule.gradients, gradients, strict=True)
            data = dict[Node, Array]((*fed, *self.feed(samples).items()))
            given = self._runner.feed(data, device_of(gradients[0]))
            self._runner.run(Request(updates=rule.updates), given, [])
        return self.count(samples, is_sweep_end)

    _rules_update = update  # computes `rule`

    def feed(self, samples: int) -> dict[Input, Array]:
        """The inputs of its rule besides the gradients, for a minibatch of this many samples."""
        if self._step is None:
            return {}
        rule, now = self._rule_now(), self._numbers(samples)
        by_type: dict[Any, dict[str, float]] = {}
        fed: dict[Input, Array] = {}
        for node in rule.numbers:
            if node.dtype not in by_type:
                own = self._step.numbers(now, partial(rest, node.dtype.type))
                by_type[node.dtype] = {**self._updates.numbers(now.rate, samples), **own}
            fed[node] = np.array(by_type[node.dtype][node.name], node.dtype)
        if rule.noise and self._noise is not None:
            seed, count = self._noise
            deviation = self._now(self.options.noise)
            for i, node in enumerate(rule.noise):
                noise = np.random.default_rng((seed, count + i)).normal(0, deviation, node.shape)
                fed[node] = np.asarray(noise, node.dtype)
        return fed

    def count(self, samples: int, is_sweep_end: bool) -> bool:
        """Counts an update with this many samples; returns whether to go on training."""
        if self._step is not None:
            self._note()
        self._samples += samples
        self._minibatches += 1
        self._sweeps += bool(is_sweep_end)
        return True

    def _note(self) -> None:
        """Notes that a step was made, and reports its rate and momentum."""
        self._report("Learning rate", self._rate)
        if self.learning_rate() == 0:
            return
        if self._momentum is not None:
            self._report("Momentum", self._momentum)
        self._begun = True
        if self._noise is not None and self._now(self.options.noise) > 0:
            self._noise = self._noise[0], self._noise[1] + len(self.parameters)

    def _gradients(self, given: Mapping[Any, Any]) -> list[Array]:
        """The gradient of each parameter; errors are raised before any parameter is changed."""
        found = [given.get(p) for p in self.parameters]
        for parameter, gradient in zip(self.parameters, found, strict=True):
            if gradient is None:
                raise GraphError(f"the update has no gradient for {parameter!r}")
        return [as_gradient(p.node, g) for p, g in zip(self.parameters, found, strict=True)]

    def _report(self, name: str, schedule: Schedule) -> None:
        """Reports the value of a schedule when it changes."""
        value = self._now(schedule)
        if self.tell is not None and self._reported.get(name) != value:
            self._reported[name] = value
            size = schedule.minibatch_size
            self.tell(f"{name} per {f'{size} samples' if size else 'minibatch'}", value)

    def reset_smoothed_gradients(self) -> None:
        """Sets all arrays of the learner's state to 0."""
        if self._begun:
            for kept in self._kept:
                for stored in kept.values():
                    stored.value = 0

    def position(self) -> Callable[[], None]:
        """A function that restores the current state, except for arrays."""
        names = "_samples", "_minibatches", "_sweeps", "_noise", "_begun"
        own = {k: vars(self)[k] for k in names}
        return lambda: vars(self).update(own)

    # Checkpoints

    def create_checkpoint(self) -> dict[str, Any]:
        """The state to resume from, made of numbers, lists, dicts and arrays."""
        return {
            "rule": self._name,
            "samples": self._samples,
            "minibatches": self._minibatches,
            "sweeps": self._sweeps,
            "rate": self._rate.state(),
            "noise": list(self._noise or ()),
            "state": self._state(),
        }

    def restore_from_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Restores the state that `create_checkpoint` returned.

        Raises:
            ValueError: the checkpoint is incomplete, or belongs to other parameters or another
                kind of learner; nothing is changed then.
        """
        missing = self.create_checkpoint().keys() - checkpoint.keys()
        if missing:
            raise ValueError(f"the learner's checkpoint lacks {', '.join(sorted(missing))}")
        if checkpoint["rule"] != self._name:
            raise ValueError(
                f"the checkpoint belongs to a learner by {checkpoint['rule']}, this one's rule is "
                f"{self._name}"
            )
        states = checkpoint["state"]
        shapes = [[np.shape(v) for v in s.values() if np.ndim(v)] for s in states]
        own = [p.node.shape for p in self.parameters]
        if len(states) != len(own) or any(set(s) - {o} for s, o in zip(shapes, own, strict=True)):
            raise ValueError("the checkpoint belongs to a learner with other parameters")
        self._rate = Schedule.restored(checkpoint["rate"])
        self._samples, self._sweeps = checkpoint["samples"], checkpoint["sweeps"]
        self._minibatches = checkpoint["minibatches"]
        self._noise = tuple(checkpoint["noise"]) or None
        self._set_state(states)

    def _state(self) -> list[State]:
        """The state of each parameter, in the CPU's memory; empty before the first update."""
        if not self._begun:
            return [{} for _ in self.parameters]
        counts = self._step is not None and self._step.counts
        counted = {"count": float(self._count.value)} if counts else {}
        return [{k: v.value.copy() for k, v in kept.items()} | counted for kept in self._kept]

    def _set_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        self._begun = any(map(len, states))
        self._count.value = states[0].get("count", 0)
        for kept, state in zip(self._kept, states, strict=True):
            for name, stored in kept.items():
                stored.value = np.array(state.get(name, 0))

    @property
    def _name(self) -> str:
        """The name of the algorithm; a checkpoint must have the same."""
        return type(self).__name__ if self._step is None else self._step.name


def _stored(step: Step | None, parameter: Any) -> dict[str, Stored]:
    """The arrays that a step keeps for a parameter."""
    node = parameter.node
    names = () if step is None else step.kept
    return {name: Stored(node.shape, node.dtype, _zeros, name) for name in names}


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return np.zeros(shape, dtype)


def _check(parameters: tuple[Any, ...]) -> None:
    if not parameters:
        raise ValueError("a learner needs at least one parameter")
    for p in parameters:
        if not isinstance(p, Parameter):
            raise ValueError(f"a learner takes parameters, got {p!r:.60}")
        _ = p.node.value  # type: ignore[attr-defined]  # raises if its shape is not known yet
        if p.dtype == np.float16:  # the square of a gradient of 1e-4 underflows
            raise GraphError(
                f"learning in float16 is too inaccurate, got {p!r}",
                hint="keep the parameter in float32 and use C.cast(parameter, np.float16)",
            )
    if len(set(parameters)) < len(parameters):
        raise ValueError("a learner can't have the same parameter twice")
