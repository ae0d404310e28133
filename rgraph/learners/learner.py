"""What all learners share: schedules, clipping, regularization, noise, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import graph
from ..graph import GraphError, Input, Node
from ..graph.context import context
from ..operands.variables import Parameter
from ..runtime.arrays import on_cpu
from .memory import as_gradient, change_in_place
from .options import Options
from .schedules import IGNORE, Schedule, as_schedule

Array = np.ndarray
_NUMBERS = (bool, int, float, np.generic)
State = dict[str, Any]


@dataclass
class Now:
    """The numbers that are in force for one minibatch.

    Attributes:
        rate: the factor of the gradient as the step gets it: the sum over the minibatch, or its
            mean for a learner of `minibatch_size=IGNORE`.
        samples: in the minibatch.
        momentum: the part of the smoothed gradient that stays.
        gain: the factor with which the gradient comes into the smoothed one.
        decay: the part of the smoothed squared gradient that stays.
    """

    rate: float
    samples: int
    momentum: float = 0.0
    gain: float = 1.0
    decay: float = 0.0


class Rule(NamedTuple):
    """What a learner does, as a graph.

    Attributes:
        gradients: an input for each parameter, in their order.
        updates: what is set, each with the node of its new value.
    """

    gradients: tuple[Input, ...]
    updates: tuple[tuple[Node, Node], ...]

    @property
    def reads(self) -> set[Node]:
        """What its new values are computed from."""
        return set(graph.order([value for _, value in self.updates]))


# Changes a parameter's array (first) by its gradient (second), which may be written over. What it
# keeps from update to update is in the dict. All arrays are in one memory, the CPU's or a GPU's:
# steps are written with NumPy's functions, which take both.
Step = Callable[[Array, Array, State, Now], None]


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
        self._size = size
        self._samples = self._minibatches = self._sweeps = 0
        self._state: list[State] = [{} for _ in self.parameters]
        self._noise: tuple[int, int] | None = None  # the seed, and how often it was used
        if any(options.noise.values):
            self._noise = int(context().random.next_generator().integers(1 << 62)), 0
        self._reported: dict[str, float] = {}
        self.tell: Callable[[str, float], None] | None = None  # set by a trainer

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle has of it; the trainer that it tells things is not its own."""
        return {**vars(self), "tell": None, "_state": list(map(_copied, self._state))}

    @property
    def minibatch_size(self) -> int:
        """The minibatch size that its numbers are meant for; `IGNORE` if that was not said."""
        return self._size or IGNORE

    @minibatch_size.setter
    def minibatch_size(self, size: int) -> None:
        self._size = size

    def is_compatible_mode(self) -> bool:
        """Whether it applies its numbers as they are, to the mean gradient of a minibatch."""
        return self._size == IGNORE

    @property
    def rule(self) -> Rule | None:
        """What it does as a graph, which a trainer computes along with the gradients.

        None: it is given the gradients.
        """
        return None

    @property
    def is_by_step(self) -> bool:
        """Whether it changes each parameter by a step of ours, which a GPU's engine can watch."""
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
        self._report("Learning rate", self._rate)
        now = self._numbers(samples)
        if now.rate != 0:
            if self._momentum is not None:
                self._report("Momentum", self._momentum)
            self._change(self._step, gradients, now)
        return self.count(samples, is_sweep_end)

    def count(self, samples: int, is_sweep_end: bool) -> bool:
        """Notes an update with so many samples; whether there is more to learn."""
        self._samples += samples
        self._minibatches += 1
        self._sweeps += bool(is_sweep_end)
        return True

    def _gradients(self, given: Mapping[Any, Any]) -> list[Array]:
        """The gradient of each parameter; an error before any is changed."""
        found = [given.get(p) for p in self.parameters]
        for parameter, gradient in zip(self.parameters, found, strict=True):
            if gradient is None:
                raise GraphError(f"the update has no gradient for {parameter!r}")
        return [as_gradient(p.node, g) for p, g in zip(self.parameters, found, strict=True)]

    def _change(self, step: Step, gradients: Sequence[Array], now: Now) -> None:
        deviation = self._now(self.options.noise)
        finishes = deviation > 0 or self.options.l1_regularization_weight > 0

        def change(p: Array, g: Array, state: State) -> None:
            step(p, self._prepared(p, g, now.samples), state, now)
            if finishes:
                self._finish(p, now, deviation)

        memo: dict[Any, Any] = {}
        for parameter, g, state in zip(self.parameters, gradients, self._state, strict=True):
            change_in_place(parameter.node, g, state, change, memo)

    def _prepared(self, p: Array, g: Array, samples: int) -> Array:
        """The gradient as the options want it, in an array that may be written over."""
        options = self.options
        mean = self.is_compatible_mode()
        g = g * g.dtype.type(1 / samples) if mean else g.copy()
        size = 1 if mean else samples
        limit = options.gradient_clipping_threshold_per_sample * size
        if limit < math.inf:
            if options.gradient_clipping_with_truncation:
                np.clip(g, -limit, limit, out=g)
            else:  # fmax: a norm that is NaN changes nothing
                g *= limit / np.fmax(np.sqrt(np.vdot(g, g)), limit)
        if options.l2_regularization_weight > 0:
            g += options.l2_regularization_weight * size * p
        return g

    def _finish(self, p: Array, now: Now, deviation: float) -> None:
        if deviation > 0 and self._noise is not None:
            seed, count = self._noise
            noise = np.random.default_rng((seed, count)).normal(0, deviation, p.shape)
            p += np.asarray(noise.astype(p.dtype), like=p)
            self._noise = seed, count + 1
        if self.options.l1_regularization_weight > 0:
            size = 1 if self.is_compatible_mode() else now.samples
            threshold = now.rate * self.options.l1_regularization_weight * size
            p -= np.clip(p, -threshold, threshold)

    def _report(self, name: str, schedule: Schedule) -> None:
        """Reports a schedule's value when it changes."""
        value = self._now(schedule)
        if self.tell is not None and self._reported.get(name) != value:
            self._reported[name] = value
            size = schedule.minibatch_size
            self.tell(f"{name} per {f'{size} samples' if size else 'minibatch'}", value)

    def reset_smoothed_gradients(self) -> None:
        """Sets all arrays that it keeps from update to update to 0."""
        for state in self._state:
            for value in state.values():
                if np.ndim(value):
                    value[...] = 0

    def position(self) -> Callable[[], None]:
        """What goes back to where it is now, but for arrays on a GPU, which stay as they are."""
        own = {k: getattr(self, k) for k in ("_samples", "_minibatches", "_sweeps", "_noise")}
        states = [dict(state) for state in self._state]

        def go_back() -> None:
            vars(self).update(own)
            for state, before in zip(self._state, states, strict=True):
                state.clear()
                state.update(before)

        return go_back

    # Checkpoints

    def create_checkpoint(self) -> dict[str, Any]:
        """All that it must know to go on: numbers, lists, dicts and arrays."""
        return {
            "rule": self._rule,
            "samples": self._samples,
            "minibatches": self._minibatches,
            "sweeps": self._sweeps,
            "rate": self._rate.state(),
            "noise": list(self._noise or ()),
            "state": list(map(_copied, self._state)),
        }

    def restore_from_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Goes back to where `create_checkpoint` was called.

        Raises `ValueError` if that was for other parameters or another rule, or if something is
        missing; the learner stays as it is then.
        """
        missing = self.create_checkpoint().keys() - checkpoint.keys()
        if missing:
            raise ValueError(f"the learner's checkpoint lacks {', '.join(sorted(missing))}")
        if checkpoint["rule"] != self._rule:
            raise ValueError(
                f"the checkpoint is of a learner by {checkpoint['rule']}, this one's rule is "
                f"{self._rule}"
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
        self._state = list(map(_copied, states))

    @property
    def _rule(self) -> str:
        """What a checkpoint must be of, to be restored: the name of how it learns."""
        if self._step is None:
            return type(self).__name__
        return self._step.__qualname__.partition("_step")[0]


def _copied(state: Mapping[str, Any]) -> State:
    return {k: v if isinstance(v, _NUMBERS) else np.array(on_cpu(v)) for k, v in state.items()}


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


class _Parameters(tuple):
    """A user's own learner calls its parameters, as in CNTK; a trainer reads them."""

    def __call__(self) -> _Parameters:
        return self


class UserLearner(Learner):
    """The base of learners that people write: derive from it and define `update`.

    Args:
        parameters: what it learns.
        lr_schedule: its learning rate; `self.learning_rate()` gives the present value.
        as_numpy: whether gradients come as NumPy's arrays wherever they were computed.

    Source: CNTK's `UserLearner`.

    >>> class Plain(C.UserLearner):
    ...     def update(self, gradient_values, training_sample_count, sweep_end):
    ...         rate = self.learning_rate() / training_sample_count
    ...         for p, g in gradient_values.items():
    ...             p.value = p.value - rate * g
    ...         return True
    >>> w = C.Parameter(1, init=1)
    >>> learner = Plain([w], C.learning_parameter_schedule(0.5))
    >>> learner.update({w: np.array([2.0])}, 4, False), learner.parameters() == (w,)
    (True, True)
    >>> w.value
    array([0.75], dtype=float32)
    """

    def __init__(self, parameters: Iterable[Any], lr_schedule: Any, as_numpy: bool = True) -> None:
        super().__init__(parameters, lr_schedule)
        self.parameters = _Parameters(self.parameters)
        self.as_numpy = as_numpy
