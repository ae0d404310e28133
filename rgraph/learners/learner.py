"""What all learners share: schedules, clipping, regularization, noise, checkpoints."""

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
    """Changes parameters by their gradients. `C.sgd(…)`, `C.adam(…)` and so on make learners.

    Args:
        parameters: what it learns.
        lr: the learning rate, a number or a schedule.
        step: how a gradient becomes a change.
        options: see `Options`.
        momentum, variance_momentum: for steps that smooth the gradient, or its square.
        unit_gain: whether the gradient is smoothed with gain 1.

    Attributes:
        parameters: what it learns, in order.
        as_numpy: whether a trainer is to give it gradients in the CPU's memory always.

    Raises:
        ValueError: no parameters, one of them twice, or one whose shape is not known yet.

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
            context().random.next_seed()  # CNTK's learners, but for users' own, have one each
        self._size = size
        self._samples = self._minibatches = self._sweeps = 0
        self._kept = [_stored(step, p) for p in self.parameters]
        self._count = Stored((), self.parameters[0].dtype, _zeros, "count")  # as the step counts
        self._begun = False  # whether there was an update, at a rate that is not 0
        self._noise: tuple[int, int] | None = None  # the seed, and how often it was used
        if any(options.noise.values):
            self._noise = int(context().random.next_generator().integers(1 << 62)), 0
        self._reported: dict[str, float] = {}
        self.tell: Callable[[str, float], None] | None = None  # set by a trainer

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle has of it; the trainer that it tells things is not its own."""
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
        """The minibatch size that its numbers are meant for; `IGNORE` if that was not said."""
        return self._size or IGNORE

    @minibatch_size.setter
    def minibatch_size(self, size: int) -> None:
        self._size = size
        for made in ("_updates", "_rules"):  # they are for a sum or a mean of gradients
            vars(self).pop(made, None)

    def is_compatible_mode(self) -> bool:
        """Whether it applies its numbers as they are, to the mean gradient of a minibatch."""
        return self._size == IGNORE

    @property
    def rule(self) -> Rule | None:
        """What it does as a graph, which a trainer computes along with the gradients.

        None: it is given the gradients. So it is at a rate of 0, which changes nothing.
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
        """Whether `update` is somebody's own, which a trainer must call."""
        return "update" in vars(self) or type(self).update is not type(self)._rules_update

    @property
    def is_by_step(self) -> bool:
        """Whether its step is one of ours: what that gives is finite if the gradients are."""
        return self._step is not None

    # Schedules

    def learning_rate(self) -> float:
        """The rate that is in force now."""
        return self._now(self._rate)

    def reset_learning_rate(self, learning_rate: Schedule) -> None:
        """Sets another rate, a schedule that begins now.

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
        """The part that is left of what was before a minibatch of so many samples."""
        value = self._now(schedule)
        return value ** (samples / schedule.minibatch_size) if schedule.minibatch_size else value

    # What it has seen, as CNTK asks for it

    def total_number_of_samples_seen(self) -> int:
        """How many samples (frames) it was updated with."""
        return self._samples

    def total_number_of_minibatches_seen(self) -> int:
        """How many updates there were."""
        return self._minibatches

    def total_number_of_sweeps_seen(self) -> int:
        """How many sweeps over the data ended with an update."""
        return self._sweeps

    # Updates

    def update(
        self,
        gradient_values: Mapping[Any, Any],
        training_sample_count: int,
        is_sweep_end: bool = False,
    ) -> bool:
        """Changes the parameters.

        Args:
            gradient_values: for each parameter its gradient, summed over the minibatch. Where the
                gradient is, on the CPU or on a GPU, the parameter is changed.
            training_sample_count: how many samples that were.
            is_sweep_end: whether a sweep over the data ends with this minibatch.

        At a rate of 0 the parameters and all that the learner keeps stay as they are; samples and
        sweeps are counted, so that a schedule which begins with 0 goes on. (CNTK's stays there.)

        Returns:
            True: there is more to learn. A learner of one's own may say that there is not.

        Raises:
            GraphError: a parameter has no gradient, or one of another size; none is changed then.
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

    _rules_update = update  # does what `rule` says

    def feed(self, samples: int) -> dict[Input, Array]:
        """What its rule is fed with for a minibatch of so many samples, besides the gradients."""
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
        """Notes an update with so many samples; whether there is more to learn."""
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
        """The gradient of each parameter; an error before any is changed."""
        found = [given.get(p) for p in self.parameters]
        for parameter, gradient in zip(self.parameters, found, strict=True):
            if gradient is None:
                raise GraphError(f"the update has no gradient for {parameter!r}")
        return [as_gradient(p.node, g) for p, g in zip(self.parameters, found, strict=True)]

    def _report(self, name: str, schedule: Schedule) -> None:
        """Reports a schedule's value when it changes."""
        value = self._now(schedule)
        if self.tell is not None and self._reported.get(name) != value:
            self._reported[name] = value
            size = schedule.minibatch_size
            self.tell(f"{name} per {f'{size} samples' if size else 'minibatch'}", value)

    def reset_smoothed_gradients(self) -> None:
        """Sets all arrays that it keeps from update to update to 0."""
        if self._begun:
            for kept in self._kept:
                for stored in kept.values():
                    stored.value = 0

    def position(self) -> Callable[[], None]:
        """What goes back to where it is now, but for arrays."""
        names = "_samples", "_minibatches", "_sweeps", "_noise", "_begun"
        own = {k: vars(self)[k] for k in names}
        return lambda: vars(self).update(own)

    # Checkpoints

    def create_checkpoint(self) -> dict[str, Any]:
        """All that it must know to go on: numbers, lists, dicts and arrays."""
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
        """Goes back to where `create_checkpoint` was called.

        Raises `ValueError` if that was for other parameters or another rule, or if something is
        missing; the learner stays as it is then.
        """
        missing = self.create_checkpoint().keys() - checkpoint.keys()
        if missing:
            raise ValueError(f"the learner's checkpoint lacks {', '.join(sorted(missing))}")
        if checkpoint["rule"] != self._name:
            raise ValueError(
                f"the checkpoint is of a learner by {checkpoint['rule']}, this one's rule is "
                f"{self._name}"
            )
        states = checkpoint["state"]
        shapes = [[np.shape(v) for v in s.values() if np.ndim(v)] for s in states]
        own = [p.node.shape for p in self.parameters]
        if len(states) != len(own) or any(set(s) - {o} for s, o in zip(shapes, own, strict=True)):
            raise ValueError("the checkpoint is of a learner of other parameters")
        self._rate = Schedule.restored(checkpoint["rate"])
        self._samples, self._sweeps = checkpoint["samples"], checkpoint["sweeps"]
        self._minibatches = checkpoint["minibatches"]
        self._noise = tuple(checkpoint["noise"]) or None
        self._set_state(states)

    def _state(self) -> list[State]:
        """What is kept of each parameter, in the CPU's memory; nothing before the first update."""
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
        """What a checkpoint must be of, to be restored: the name of how it learns."""
        return type(self).__name__ if self._step is None else self._step.name


def _stored(step: Step | None, parameter: Any) -> dict[str, Stored]:
    """What a step keeps of a parameter."""
    node = parameter.node
    names = () if step is None else step.kept
    return {name: Stored(node.shape, node.dtype, _zeros, name) for name in names}


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return np.zeros(shape, dtype)


def _check(parameters: tuple[Any, ...]) -> None:
    if not parameters:
        raise ValueError("a learner needs parameters to learn: it was given none")
    for p in parameters:
        if not isinstance(p, Parameter):
            raise ValueError(f"a learner learns parameters, it was given {p!r:.60}")
        _ = p.node.value  # type: ignore[attr-defined]  # raises if its shape is not known yet
        if p.dtype == np.float16:  # the square of a gradient of 1e-4 is 0 there
            raise GraphError(
                f"a learner needs more digits than float16 has, got {p!r}",
                hint="keep the parameter in float32 and use C.cast(parameter, np.float16)",
            )
    if len(set(parameters)) < len(parameters):
        raise ValueError("a learner was given a parameter twice")
