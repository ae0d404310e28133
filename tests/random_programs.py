"""Random programs, and what must hold for each of them.

    python -m tests.random_programs --seconds 60        # from a seed of the day; --seed 7 from 7 on
    python -m tests.random_programs --only 123          # one program, described

A program is made from its seed alone: inputs, parameters, and values made of earlier ones by all
kinds of operations, in and outside of recurrences. Its truth is each operation's own kernel in
float64, called for one operation after the other. Held to it are

- every engine, with all passes, in float32 and in float64, on ragged and on empty minibatches;
- each sequence alone against all together;
- gradients of the first and second order, along a random direction, by finite differences.

Where a function jumps, rounding alone can tell two right results apart: only what fails on two
minibatches of three is a fault.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import rgraph as C
from rgraph import device, graph, passes
from rgraph.engines.cpu import CpuEngine
from rgraph.passes import autodiff
from rgraph.plan import Plan
from rgraph.runtime.evaluation import Runner
from rgraph.runtime.minibatch import Minibatch

MINIBATCHES = [(3, 1, 2), (2, 2), (1, 4, 4, 2, 1)]
EMPTY: list[tuple[int, ...]] = [(2, 0, 1), (0,), ()]
MOST = 300  # elements of a value


class Value(NamedTuple):
    """The shape is kept, since in a step function nothing knows it yet.

    Attributes:
        axes: 2 for a sequence, 1 for a value per sequence, 0 for what is the same for all.
        time: which time axis a sequence has, of those that the program made.
    """

    f: Any
    shape: tuple[int, ...]
    axes: int
    time: int = 0


SINGLE = [
    C.tanh,
    C.sigmoid,
    C.negate,
    C.softplus,
    C.softsign,
    C.sin,
    C.cos,
    C.erf,
    C.relu,
    C.elu,
    C.selu,
    C.leaky_relu,
    C.abs,
    C.square,
    lambda x: C.exp(C.tanh(x)),
    lambda x: C.expm1(C.sin(x)),
    lambda x: C.log(C.square(x) + 0.5),
    lambda x: C.log1p(C.square(x)),
    lambda x: C.sqrt(C.square(x) + 0.1),
    lambda x: C.reciprocal(C.square(x) + 0.5),
    lambda x: C.atan(x) + C.asinh(x),
    lambda x: C.clip(x, -0.7, 0.9),
    lambda x: C.hard_sigmoid(x, 0.3, 0.4),
    lambda x: C.pow(C.square(x) + 0.5, 1.3),
    lambda x: 1 - x * 0.5,
    lambda x: C.tanh(x) * C.sigmoid(x),
]
PAIR = [
    C.plus,
    C.minus,
    C.element_max,
    C.element_min,
    C.log_add_exp,
    lambda a, b: C.tanh(a) * b,
    lambda a, b: a / (C.square(b) + 1),
    lambda a, b: C.sigmoid(a) * b + (1 - C.sigmoid(a)) * a,
    lambda a, b: a * C.tanh(b) + -(a * 0.5),
    lambda a, b: C.element_select(C.greater(a, 0.2), a, b),
    lambda a, b: a * C.less(b, 0.1),
    lambda a, b: C.pow(C.sigmoid(a), C.tanh(b)),
]
REDUCTIONS = [
    C.reduce_sum,
    C.reduce_mean,
    C.reduce_max,
    C.reduce_min,
    C.reduce_log_sum_exp,
    C.reduce_sum_square,
    C.reduce_l1,
    lambda x, *a, **k: C.reduce_l2(x, *a, **k),
    lambda x, *a, **k: C.reduce_prod(C.tanh(x), *a, **k),
]


class Program:
    """A program made from a seed.

    Attributes:
        inputs, parameters: those that it made.
        values: all that it computes, in the order in which it was made.
        steps: what was done, for people.
    """

    def __init__(self, seed: int, dtype: Any = np.float32, steps: int = 7) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.inputs: list[Value] = []
        self.parameters: list[Any] = []
        self.steps: list[str] = []
        self.times = 0
        images = (self.number(1, 4), *self.rng.integers(1, 6, self.number(1, 3)).tolist())
        start = [
            self.input(images, 2),
            self.input((4,), 2),
            self.input(self.pick([(3, 4), (), (1, 3)]), 1),
            Value(self.parameter(self.pick([(4,), (2, 3), images])), (), 0),
        ]
        start[-1] = start[-1]._replace(shape=self.parameters[-1].shape)
        self.values = self.grown(start, steps)[len(start) :]

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.number(0, len(choices))]

    def input(self, shape: tuple[int, ...], axes: int) -> Value:
        new = C.sequence.input_variable if axes == 2 else C.input_variable
        self.inputs.append(Value(new(shape, self.dtype), shape, axes))
        return self.inputs[-1]

    def parameter(self, shape: Sequence[int], inner: int = 1) -> Any:
        values = self.rng.normal(size=shape).astype(np.float32) / math.sqrt(inner)
        self.parameters.append(
            C.Parameter(tuple(shape), init=values.astype(self.dtype), dtype=self.dtype)
        )
        return self.parameters[-1]

    def new_time(self) -> int:
        self.times += 1
        return self.times

    def grown(self, values: list[Value], steps: int, inside: bool = False) -> list[Value]:
        """These values and more, each made of some before it."""
        ways = [self.single, self.pair, self.repeated, self.moved, self.part, self.joined]
        ways += [self.summed, self.product, self.convolved, self.tailed, self.pooled, self.reshaped]
        ways += [self.along, self.chosen, self.einsum, self.normalized, self.scored]
        if not inside:
            ways += [self.recurrent, self.recurrent, self.nested, self.delayed, self.ends]
            ways += [self.edited, self.spread, self.unpacked]
        tries = 0
        while steps and tries < 100:
            tries += 1
            way = self.pick(ways)
            new = way(self.pick(values[-5:]), values)
            if new is None or math.prod(new.shape) > MOST:
                continue
            self.steps.append(f"{'  ' * inside}{way.__name__} -> {new.shape} axes {new.axes}")
            steps -= 1
            values = [*values, new]
        return values

    # Ways to make a value of `v` and perhaps others; None where they do not fit

    def single(self, v: Value, others: list[Value]) -> Value | None:
        return v._replace(f=self.pick(SINGLE)(v.f))

    def pair(self, v: Value, others: list[Value]) -> Value | None:
        fits = [o for o in others if o.shape == v.shape and self.together(o, v)]
        other = self.pick(fits)
        wider = max(other, v, key=lambda o: o.axes)
        return wider._replace(f=self.pick(PAIR)(other.f, v.f))

    @staticmethod
    def together(a: Value, b: Value) -> bool:
        return min(a.axes, b.axes) < 2 or a.time == b.time

    def repeated(self, v: Value, others: list[Value]) -> Value | None:
        """With an operand that has fewer elements: a number per channel, say."""
        shape = tuple(self.pick([1, n]) for n in v.shape)[self.number(0, 2) :]
        shape = self.pick([shape, (*v.shape[:1], *(1,) * (len(v.shape) - 1))])
        operand = self.parameter(shape)
        if shape and self.number(0, 2):  # that do not lie next to one another
            operand = C.slice(self.parameter((2 * shape[0], *shape[1:])), 0, 0, 2 * shape[0], 2)
        operands = [v.f, operand]
        return v._replace(f=self.pick(PAIR)(*operands[:: self.pick([1, -1])]))

    def moved(self, v: Value, others: list[Value]) -> Value | None:
        order = self.rng.permutation(len(v.shape)).tolist()
        if self.number(0, 3) and order:
            return v._replace(f=C.transpose(v.f, order), shape=tuple(v.shape[i] for i in order))
        factor = math.gcd(math.prod(v.shape), 12)
        shape = (factor, math.prod(v.shape) // factor)
        return v._replace(f=C.reshape(v.f, shape), shape=shape)

    def reshaped(self, v: Value, others: list[Value]) -> Value | None:
        if not v.shape:
            return None
        axis = self.number(0, len(v.shape))
        pads = [(self.number(0, 2), self.number(0, 2)) for _ in v.shape]
        padded = tuple(n + a + b for n, (a, b) in zip(v.shape, pads))
        ways: list[Any] = [
            lambda: (C.pad(v.f, pads), padded),
            lambda: (C.flatten(v.f, axis), None),
            lambda: (C.swapaxes(v.f, 0, axis), None),
            lambda: (C.squeeze(v.f), None),
            lambda: (C.stack(v.f, C.tanh(v.f), axis=axis), None),
        ]
        f, shape = self.pick(ways)()
        shape = f.shape if shape is None else shape
        return v._replace(f=f, shape=shape) if -2 not in shape else None

    def part(self, v: Value, others: list[Value]) -> Value | None:
        if not v.shape:
            return None
        axis = self.number(0, len(v.shape))
        start, step = self.number(0, v.shape[axis]), self.pick([1, -1, 2])
        shape = list(v.shape)
        shape[axis] = len(range(start, shape[axis], abs(step)))
        f = C.slice(v.f, axis, start, v.shape[axis], step)
        return v._replace(f=f, shape=tuple(shape))

    def joined(self, v: Value, others: list[Value]) -> Value | None:
        if not v.shape:
            return None
        axis = self.number(0, len(v.shape))
        rest = [
            o
            for o in others
            if len(o.shape) == len(v.shape)
            and self.together(o, v)
            and np.delete(o.shape, axis).tolist() == np.delete(v.shape, axis).tolist()
        ]
        parts = [o._replace(f=self.pick(SINGLE)(o.f)) for o in (v, self.pick(rest))]
        shape = list(v.shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        f = C.splice(*(p.f for p in parts), axis=axis)
        if shape[axis] == 2 * v.shape[axis]:  # and once more, the other way round
            f = f - 0.5 * C.splice(*(p.f for p in parts[::-1]), axis=axis)
        wider = max(parts, key=lambda o: o.axes)
        return wider._replace(f=f, shape=tuple(shape))

    def summed(self, v: Value, others: list[Value]) -> Value | None:
        how = self.pick(REDUCTIONS)
        if not v.shape or not self.number(0, 4):
            return v._replace(f=how(v.f), shape=())
        axis = self.number(0, len(v.shape))
        kept = tuple(1 if i == axis else n for i, n in enumerate(v.shape))
        dropped = v.shape[:axis] + v.shape[axis + 1 :]
        ways: list[Any] = [
            lambda: (how(v.f, axis), kept),
            lambda: (how(v.f, axis, keepdims=False), dropped),
            lambda: (C.softmax(v.f, axis), v.shape),
            lambda: (C.log_softmax(v.f, axis), v.shape),
            lambda: (C.softmax(v.f) * v.f, v.shape),
        ]
        f, shape = self.pick(ways)()
        return v._replace(f=f, shape=shape)

    def product(self, v: Value, others: list[Value]) -> Value | None:
        if not v.shape:
            return None
        inner, columns = self.number(1, len(v.shape) + 1), self.number(1, 6)
        kept, summed = v.shape[: len(v.shape) - inner], v.shape[len(v.shape) - inner :]
        W = self.parameter((*summed, columns), math.prod(summed))
        return v._replace(f=C.times(v.f, W), shape=(*kept, columns))

    def einsum(self, v: Value, others: list[Value]) -> Value | None:
        fits = [o for o in others if len(o.shape) == len(v.shape) == 2 and self.together(o, v)]
        fits = [o for o in fits if o.shape[1] == v.shape[1]]
        if not fits:
            return None
        other = self.pick(fits)
        wider = max(other, v, key=lambda o: o.axes)
        f = C.einsum("ij,kj->ki", v.f, C.tanh(other.f))
        return wider._replace(f=f, shape=(other.shape[0], v.shape[0]))

    def convolved(self, v: Value, others: list[Value]) -> Value | None:
        if not 1 < len(v.shape) < 5 or 0 in v.shape:
            return None
        channels, *size = v.shape
        kernel = self.rng.integers(1, 4, len(size)).tolist()
        groups = self.pick([1, channels])
        W = self.parameter((2 * groups, channels // groups, *kernel), math.prod(kernel) * channels)
        if self.number(0, 3):
            f = C.convolution(W, v.f, groups=groups)
            return v._replace(f=f, shape=(2 * groups, *size))
        strides = self.rng.integers(1, 3, len(size)).tolist()
        out = [-(-n // s) for n, s in zip(size, strides)]
        f = C.convolution(W, v.f, strides=(1, *strides), groups=groups)
        return v._replace(f=f, shape=(2 * groups, *out))

    def pooled(self, v: Value, others: list[Value]) -> Value | None:
        if not 1 < len(v.shape) < 5 or 0 in v.shape:
            return None
        channels, *size = v.shape
        window = [self.number(1, n + 1) for n in size]
        strides = [self.number(1, 3) for _ in size]
        out = [(n - w) // s + 1 for n, w, s in zip(size, window, strides)]
        kind = self.pick([C.MAX_POOLING, C.AVG_POOLING])
        f = C.pooling(v.f, kind, tuple(window), tuple(strides))
        return v._replace(f=f, shape=(channels, *out))

    def tailed(self, v: Value, others: list[Value]) -> Value | None:
        value = self.pick([self.product, self.convolved])(v, others)
        if value is None or math.prod(value.shape) > MOST:
            return None
        for _ in range(3):
            value = self.pick([self.single, self.repeated, self.pair])(value, [*others, value])
        return value

    def along(self, v: Value, others: list[Value]) -> Value | None:
        if not v.shape or 0 in v.shape:
            return None
        axis = self.number(0, len(v.shape))
        k = self.number(1, v.shape[axis] + 1)
        shape = tuple(k if i == axis else n for i, n in enumerate(v.shape))
        ways: list[Any] = [
            lambda: (C.cumsum(v.f, axis, self.pick([False, True])), v.shape),
            lambda: (C.sort(v.f, axis), v.shape),
            lambda: (C.top_k(v.f, k, axis).outputs[0], shape),
        ]
        f, shape = self.pick(ways)()
        return v._replace(f=f, shape=shape)

    def chosen(self, v: Value, others: list[Value]) -> Value | None:
        if not v.shape or 0 in v.shape:
            return None
        indices = self.rng.integers(0, v.shape[0], self.number(1, 4)).astype(self.dtype)
        if self.number(0, 2):
            f = C.gather(v.f, C.constant(indices))
            return v._replace(f=f, shape=(len(indices), *v.shape[1:]))
        table = self.parameter((v.shape[0], 2))
        # Where elements are equal by the program's structure, rounding would choose one of them.
        apart = C.constant(self.rng.normal(size=v.shape).astype(self.dtype))
        largest = C.reshape(C.argmax(v.f + apart, 0), v.shape[1:])
        f = C.times(C.one_hot(largest, v.shape[0]), table)
        return v._replace(f=f, shape=(*v.shape[1:], 2))

    def normalized(self, v: Value, others: list[Value]) -> Value | None:
        if not v.shape or math.prod(v.shape) < 2:
            return None
        axes = tuple(range(len(v.shape)))
        mean = C.reduce_mean(v.f, axes)
        spread = C.reduce_mean(C.square(v.f - mean), axes)
        scale = self.parameter((v.shape[0], *(1,) * (len(v.shape) - 1)))
        return v._replace(f=scale * (v.f - mean) / C.sqrt(spread + 0.1))

    def scored(self, v: Value, others: list[Value]) -> Value | None:
        fits = [o for o in others if o.shape == v.shape and self.together(o, v)]
        if not v.shape or 0 in v.shape:
            return None
        other = self.pick(fits)
        wider = max(other, v, key=lambda o: o.axes)
        if len(v.shape) == 1 and self.number(0, 2):
            f = C.cross_entropy_with_softmax(v.f, C.softmax(other.f))
            return wider._replace(f=f, shape=f.shape) if -2 not in f.shape else None
        f = C.squared_error(v.f, other.f)
        return wider._replace(f=f, shape=f.shape) if -2 not in f.shape else None

    # With time

    def recurrent(self, v: Value, others: list[Value]) -> Value | None:
        if v.axes < 2:
            return None
        shapes = [v.shape, (self.number(1, 5),)][: self.number(1, 3)]
        outer = [o for o in others[-4:] if o.axes < 2 or o.time == v.time]
        captured = self.pick(outer) if outer and self.number(0, 3) == 0 else None
        return self._loop(v, shapes, captured)

    def _loop(self, v: Value, shapes: list[tuple[int, ...]], captured: Value | None) -> Value:
        def step(*arguments: Any) -> tuple[Any, ...]:
            sizes = [*shapes, v.shape]
            given = [Value(f, shape, 2, v.time) for f, shape in zip(arguments, sizes, strict=True)]
            if captured is not None:
                given.insert(0, captured)
            values = self.grown(given, self.number(2, 6), inside=True)[::-1]
            return tuple(
                self.fitted(n, shape, given[-1]) for n, shape in zip(values, shapes, strict=False)
            )

        step_function = [lambda h, x: step(h, x)[0], lambda h, c, x: step(h, c, x)][len(shapes) - 1]
        start = tuple(self.pick([np.zeros(s, self.dtype), self.parameter(s)]) for s in shapes)
        kind, backwards = self.pick([C.layers.Recurrence, C.layers.Fold]), self.pick([True, False])
        layer = kind(step_function, go_backwards=backwards, initial_state=start)
        axes = 1 if kind is C.layers.Fold else 2
        return Value(layer(v.f), v.shape, axes, v.time)

    def nested(self, v: Value, others: list[Value]) -> Value | None:
        """A recurrence made inside of a traced function, which closes over its arguments."""
        if v.axes < 2 or math.prod(v.shape) > 40:
            return None
        per_sequence = [o for o in others if o.axes == 1]
        if not per_sequence:
            return None
        weight = C.reduce_mean(C.tanh(self.pick(per_sequence).f))

        @C.Function
        def model(sequence: Any, scale: Any) -> Any:
            return C.layers.Recurrence(lambda h, x: C.tanh(h * 0.5 * scale + x))(sequence)

        return v._replace(f=model(v.f, weight))

    def fitted(self, v: Value, shape: tuple[int, ...], x: Value) -> Any:
        """A state of this shape, which x has a part in."""
        sizes = math.prod(v.shape), math.prod(shape)
        flat = C.times(C.reshape(v.f, sizes[:1]), self.parameter(sizes, max(sizes[0], 1)))
        return C.tanh(
            C.reshape(flat, shape) + C.reduce_mean(C.reshape(x.f, (-1,)), axis=0, keepdims=False)
        )

    def delayed(self, v: Value, others: list[Value]) -> Value | None:
        how = self.pick([C.sequence.past_value, C.sequence.future_value])
        start = self.pick([0, self.parameter(v.shape)])
        return v._replace(f=how(v.f, start, self.number(1, 4))) if v.axes == 2 else None

    def ends(self, v: Value, others: list[Value]) -> Value | None:
        S = C.sequence
        how = self.pick([S.first, S.last, S.reduce_sum, S.reduce_mean, S.reduce_max])
        return v._replace(f=how(v.f), axes=1) if v.axes == 2 else None

    def spread(self, v: Value, others: list[Value]) -> Value | None:
        like = [o for o in others if o.axes == 2]
        if v.axes == 2 or not like:
            return None
        chosen = self.pick(like)
        return Value(C.sequence.broadcast_as(v.f, chosen.f), v.shape, 2, chosen.time)

    def edited(self, v: Value, others: list[Value]) -> Value | None:
        if v.axes < 2:
            return None
        S = C.sequence
        size = self.number(1, 3)
        ways: list[Any] = [
            lambda: v._replace(f=S.reverse(v.f)),
            lambda: v._replace(f=S.softmax(v.f)),
            lambda: v._replace(f=S.pad(v.f, self.number(0, 3), 1, 0.5), time=self.new_time()),
            lambda: v._replace(f=S.join(v.f, C.tanh(v.f)), time=self.new_time()),
            lambda: v._replace(f=S.stride(v.f, 2), time=self.new_time()),
            lambda: v._replace(f=S.window(v.f, size), shape=(size, *v.shape), time=self.new_time()),
        ]
        if v.shape and math.prod(v.shape):
            first = C.reshape(C.reshape(v.f, (-1,))[:1], ())
            ways.append(
                lambda: v._replace(f=S.gather(v.f, C.greater(first, -0.3)), time=self.new_time())
            )
        return self.pick(ways)()

    def unpacked(self, v: Value, others: list[Value]) -> Value | None:
        """Out of time and back: the same frames, on a time axis of their own."""
        if v.axes < 2:
            return self.distributed(v)
        lengths = C.sequence.length(v.f)
        padded = C.sequence.unpack(v.f, 0, no_mask_output=True)
        return v._replace(f=C.to_sequence(C.tanh(padded), lengths), time=self.new_time())

    def distributed(self, v: Value) -> Value | None:
        """Parts of samples as rows of their own, and put back."""
        if v.axes != 1 or not v.shape or not math.prod(v.shape):
            return None
        rows = C.to_batch(C.reshape(C.unpack_batch(v.f), (-1, *v.shape[1:])))
        own = self.parameter(v.shape[1:])
        there = self.pick(SINGLE)(rows) * own + self.pick(SINGLE)(rows)
        return v._replace(f=C.to_batch(C.reshape(C.unpack_batch(there), (-1, *v.shape))))

    # What is computed of it

    def wrt(self) -> list[Any]:
        return [*(v.f for v in self.inputs), *self.parameters]

    def feed(self, lengths: Sequence[int]) -> dict[Any, Any]:
        """Drawn in float32, so that programs in float64 are given the very same."""

        def drawn(*shape: int) -> Any:
            return self.rng.normal(size=shape).astype(np.float32)

        feed = {v.f: drawn(len(lengths), *v.shape) for v in self.inputs if v.axes == 1}
        sequences = (v for v in self.inputs if v.axes == 2)
        return feed | {v.f: [drawn(n, *v.shape) for n in lengths] for v in sequences}


class Fault(Exception):
    """Something that does not hold."""


def flat(value: Any) -> np.ndarray:
    """All elements of a value, in an order that does not depend on how it is given."""
    parts = value if isinstance(value, list) else [value]
    return np.concatenate([np.ravel(p) for p in parts] or [np.empty(0)]).astype(np.float64)


class Checked:
    """A program in one precision, and what it computes: values, a loss, its gradients."""

    def __init__(self, seed: int, dtype: Any) -> None:
        self.program = program = Program(seed, dtype)
        self.rng = np.random.default_rng(seed + 1)
        chosen = [program.values[-1], program.pick(program.values)]
        last = program.values[-1]
        self.weights = self.rng.normal(size=last.shape)
        root = C.reduce_sum(C.element_times(last.f, self.weights.astype(dtype)), axis=None)
        self.roots = [*(v.f.node for v in chosen), root.node]
        below = set(graph.order(self.roots[-1:]))
        self.wrt = [v for v in program.wrt() if v.node in below]
        self.outputs = [*self.roots, *(v.node for v in self.wrt)]  # what the results look like
        self.flexible = [n for n in graph.order(self.roots) if graph.follows_data(n)]
        self.runner = Runner()
        self.made: dict[Any, Any] = {}

    def sized(self, nodes: dict[Any, Any]) -> tuple[Any, list[Any]]:
        """Values, loss and gradients, of the sizes of a minibatch if the program leaves some free;
        and a key for these sizes."""
        key: Any = None
        roots = self.roots
        if self.flexible:
            inputs = [v.f.node for v in self.program.inputs]
            sizes = self.runner.sizes(self.flexible, self.runner.feed(nodes), inputs)
            key = tuple(sizes.items())
        if key not in self.made:
            if self.flexible:
                fitted = graph.fit(roots, self.flexible, sizes)
                roots = [fitted.get(r, r) for r in roots]
            gradients = autodiff.gradients(roots[-1], [v.node for v in self.wrt])
            self.made[key] = [*roots, *gradients]
        return key, self.made[key]

    def run(self, engine: Any, feed: dict[Any, Any], plain: bool = False) -> list[np.ndarray]:
        nodes = {v.node: np.asarray(a) if not isinstance(a, list) else a for v, a in feed.items()}
        size, outputs = self.sized(nodes)
        key = engine.name, plain, size
        if key not in self.made:
            without = list(passes.PASSES) if plain else []
            self.made[key] = Plan(passes.optimize(outputs, without=without), engine)
        plan = self.made[key]
        needed = [n for n in nodes if n in plan.inputs or len(n.axes) == 2]
        batch = Minibatch(needed, nodes, engine, plan.inputs)
        rows = plan.run(batch.arrays, batch.layouts, batch.size)
        results = [*outputs[:3], *self.outputs[3:]]
        return [batch.read(n, r) for n, r in zip(results, rows, strict=True)]


def close(found: Any, truth: Any, tolerance: float) -> bool:
    a, b = flat(found), flat(truth)
    if a.shape != b.shape:
        return False
    finite = b[np.isfinite(b)]
    scale = 1 + np.abs(finite).max(initial=0)
    return bool(np.allclose(a, b, rtol=10 * tolerance, atol=tolerance * scale, equal_nan=True))


def engines() -> list[Any]:
    before = device.engine(C.cpu()).name
    found = []
    for name in device.cpu_engines():
        device.use_cpu_engine(name)
        found.append(device.engine(C.cpu()))
    device.use_cpu_engine(before)
    return found


def compare(
    what: str, found: list[Any], truth: list[Any], names: list[str], tolerance: float
) -> None:
    for name, a, b in zip(names, found, truth, strict=True):
        if not close(a, b, tolerance):
            error = f"shapes {flat(a).shape} and {flat(b).shape}"
            if flat(a).shape == flat(b).shape:
                error = f"{np.nanmax(np.abs(flat(a) - flat(b)), initial=0):.3g}"
            raise Fault(f"{what}: {name} is off by {error}")


def check(seed: int, all_engines: list[Any]) -> None:
    """Raises `Fault` for a program that computes something wrong, or whatever else it raises."""
    exact, single = Checked(seed, np.float64), Checked(seed, np.float32)
    names = ["value", "other value", "loss", *(f"gradient {i}" for i in range(len(exact.wrt)))]
    for lengths in (MINIBATCHES[seed % 3], EMPTY[seed % 3]):
        faults = []
        for _ in range(3 if sum(lengths) else 1):
            try:
                one_minibatch(exact, single, lengths, names, all_engines)
                break
            except Fault as fault:
                faults.append(fault)
        if len(faults) > 1 or (faults and not sum(lengths)):
            raise Fault(f"minibatch {lengths}: {faults[0]}")


def one_minibatch(
    exact: Checked,
    single: Checked,
    lengths: Sequence[int],
    names: list[str],
    all_engines: list[Any],
) -> None:
    feed = exact.program.feed(lengths)
    inputs = zip(single.program.inputs, exact.program.inputs, strict=True)
    same = {a.f: feed[b.f] for a, b in inputs}
    try:
        truth = exact.run(CpuEngine("plain", []), feed, plain=True)
    except C.GraphError as refused:
        must_refuse(refused, single, same, all_engines)
        return
    for engine in all_engines:
        compare(f"{engine.name} float64", exact.run(engine, feed), truth, names, 1e-8)
        compare(f"{engine.name} float32", single.run(engine, same), truth, names, 3e-4)
    if lengths:
        compare("one by one", one_by_one(exact, feed, len(lengths), truth), truth, names, 1e-8)
        if sum(lengths) and all(np.isfinite(flat(t)).all() for t in truth):
            along_a_direction(exact, feed, truth)


def must_refuse(refused: Exception, single: Checked, feed: Any, all_engines: list[Any]) -> None:
    """What the truth refuses (the last frame of an empty sequence) every engine refuses."""
    for engine in all_engines:
        try:
            single.run(engine, feed)
        except C.GraphError:
            continue
        raise Fault(f"{engine.name} computes what is refused elsewhere: {refused}")


def one_by_one(exact: Checked, feed: Any, count: int, together: list[Any]) -> list[Any]:
    """The results of each sequence alone, put together: values as lists, sums as sums."""
    alone = []
    for i in range(count):
        part = {v: [a[i]] if isinstance(a, list) else a[i : i + 1] for v, a in feed.items()}
        alone.append(exact.run(CpuEngine("plain", []), part, plain=True))
    result = []
    for node, values, whole in zip(exact.outputs, zip(*alone, strict=True), together, strict=True):
        if not node.axes and node in exact.outputs[3:] and exact.outputs[0].axes:
            result.append(sum(values))
        elif not node.axes:
            result.append(whole)
        else:
            result.append(np.concatenate([flat(v) for v in values]))
    return result


def along_a_direction(exact: Checked, feed: Any, truth: list[Any]) -> None:
    """The derivative along a random direction, and that of the gradients, by differences."""
    rng = exact.rng
    moved = {
        v: [rng.normal(size=a.shape) for a in feed[v]]
        if isinstance(feed.get(v), list)
        else rng.normal(size=np.shape(feed.get(v, getattr(v, "value", None))))
        for v in exact.wrt
    }
    start = {p: p.value.copy() for p in exact.program.parameters if p in moved}

    def at(distance: float) -> list[Any]:
        there = dict(feed)
        for v, d in moved.items():
            if v in start:
                v.value = start[v] + distance * d
            elif isinstance(d, list):
                there[v] = [a + distance * b for a, b in zip(feed[v], d)]
            else:
                there[v] = feed[v] + distance * d
        return exact.run(CpuEngine("plain", []), there, plain=True)

    def differences(step: float) -> None:
        try:
            up, down = at(step), at(-step)
        finally:
            for p, value in start.items():
                p.value = value
        first_order(exact, truth, moved, up, down, step)
        second_order(exact, feed, moved, up, down, step)

    try:
        differences(1e-5)
    except Fault:  # a kink between the two ends is not there at a shorter step
        differences(1e-6)


def first_order(exact: Checked, truth: Any, moved: Any, up: Any, down: Any, step: float) -> None:
    """The gradients along the direction, against the difference of the losses."""
    slope = sum(flat(g) @ flat(moved[v]) for v, g in zip(exact.wrt, truth[3:], strict=True))
    found = (flat(up[2]).sum() - flat(down[2]).sum()) / (2 * step)
    size = 1 + abs(slope) + sum(np.abs(flat(g)).sum() for g in truth[3:])
    if not abs(found - slope) <= 1e-4 * size:
        raise Fault(f"the derivative along a direction is {found:.8g}, by the gradient {slope:.8g}")


def second_order(exact: Checked, feed: Any, moved: Any, up: Any, down: Any, step: float) -> None:
    """The gradient of the gradients' sum, against the difference of the gradients."""
    given = {v.node: a for v, a in feed.items()}
    gradients = exact.sized(given)[1][3:]
    sums = [C.reduce_sum(C.Function([g]), axis=C.Axis.all_axes()).node for g in gradients]
    total = sums[0]
    for s in sums[1:]:
        total = C.plus(total, s)
    nodes = [v.node for v in exact.wrt]
    again = autodiff.gradients(total, nodes)
    plan = Plan(passes.optimize(again), CpuEngine("plain", []))
    needed = [n for n in given if n in plan.inputs or len(n.axes) == 2]
    batch = Minibatch(needed, given, plan.engine, plan.inputs)
    rows = plan.run(batch.arrays, batch.layouts, batch.size)
    curved = [batch.read(n, r) for n, r in zip(again, rows, strict=True)]
    expected = sum((flat(a) - flat(b)).sum() for a, b in zip(up[3:], down[3:])) / (2 * step)
    found = sum(flat(c) @ flat(moved[v]) for v, c in zip(exact.wrt, curved, strict=True))
    size = 1 + abs(expected) + sum(np.abs(flat(c)).sum() for c in curved)
    if not abs(found - expected) <= 1e-4 * size:
        raise Fault(f"the second derivative is {expected:.8g}, its gradient {found:.8g}")


def described(seed: int) -> str:
    """What a program does: how it was made, and its operations."""
    checked = Checked(seed, np.float32)
    nodes = graph.order([checked.roots[-1]])
    number = {node: i for i, node in enumerate(nodes)}
    lines = [*checked.program.steps, ""]
    for node, i in number.items():
        operands = ", ".join(str(number[operand]) for operand in node.inputs)
        attributes = {k: v for k, v in node.attrs.items() if k != "layer"}
        axes = len(node.axes or ())
        lines.append(f"{i}: {node.title}({operands}) {attributes or ''} -> {node.shape}, {axes}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Checks random programs.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--programs", type=int, default=sys.maxsize, help="how many at the most")
    parser.add_argument("--seed", type=int, default=int(time.time()) // 86400 * 1_000_000)
    parser.add_argument("--only", type=int, help="one program, and how it is made")
    options = parser.parse_args(arguments)
    warnings.simplefilter("error")
    passes.verifying.set(True)
    all_engines = engines()
    if options.only is not None:
        print(described(options.only))
        check(options.only, all_engines)
        return 0
    end, seed, faults = time.monotonic() + options.seconds, options.seed, 0
    while time.monotonic() < end and seed - options.seed < options.programs:
        try:
            check(seed, all_engines)
        except Exception as error:
            faults += 1
            text = str(error).replace("\n", " | ")
            print(f"seed {seed}: {type(error).__name__}: {text[:400]}", flush=True)
        seed += 1
    count = seed - options.seed
    print(f"{count} random programs from seed {options.seed}, {faults} with a fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
