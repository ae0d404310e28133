"""Random programs: passes, plans and engines change nothing of what they compute.

The truth is each operation's own kernel, called for one operation after the other, without passes.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

import rgraph as C
from rgraph import autodiff, device, graph, passes
from rgraph.engines.numpy import NumpyEngine, pointwise
from rgraph.minibatch import Minibatch
from rgraph.plan import Plan, call
from tests.ops.test_table import Plain

SEEDS = range(90, 130)  # wrong splices and tails, as there once were, show in some of these
LENGTHS = [(3, 1, 2), (2, 2), (1, 4, 4, 2, 1)]


class Value(NamedTuple):
    """The shape is kept, since in a step function nothing knows it yet."""

    f: Any
    shape: tuple[int, ...]
    axes: int  # 2 for a sequence, 1 for a value per sequence


SINGLE = [
    C.tanh,
    C.sigmoid,
    C.negate,
    lambda x: C.exp(C.tanh(x)),
    lambda x: 1 - x * 0.5,
    lambda x: C.tanh(x) * C.sigmoid(x),
]
PAIR = [
    C.plus,
    C.minus,
    lambda a, b: C.tanh(a) * b,
    lambda a, b: a / (C.square(b) + 1),
    lambda a, b: C.sigmoid(a) * b + (1 - C.sigmoid(a)) * a,
    lambda a, b: a * C.tanh(b) + -(a * 0.5),
]


class Program:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.inputs, self.parameters = [], []
        images = (self.number(1, 4), *self.rng.integers(1, 7, self.number(1, 3)).tolist())
        start = [self.input(images, 2), self.input((4,), 2), self.input((3, 4), 1)]
        self.values = self.grown(start, 9)[3:]

    def number(self, low, high):
        return int(self.rng.integers(low, high))

    def pick(self, choices):
        return choices[self.number(0, len(choices))]

    def input(self, shape, axes):
        new = C.sequence.input_variable if axes == 2 else C.input_variable
        self.inputs.append(Value(new(shape), shape, axes))
        return self.inputs[-1]

    def parameter(self, shape, inner=1):
        values = self.rng.normal(size=shape).astype(np.float32) / math.sqrt(inner)
        self.parameters.append(C.Parameter(shape, init=values))
        return self.parameters[-1]

    def grown(self, values, steps, inside=False):
        """These values and more, each made of some before it."""
        ways = [self.single, self.pair, self.repeated, self.moved, self.part, self.joined]
        ways += [self.summed, self.product, self.convolved, self.tailed]
        ways += [] if inside else [self.recurrent, self.recurrent, self.delayed, self.ends]
        while steps:
            new = self.pick(ways)(self.pick(values[-4:]), values)
            steps -= new is not None
            values = values if new is None else [*values, new]
        return values

    # Ways to make a value of `v` and perhaps others; None where they do not fit

    def single(self, v, others):
        return v._replace(f=self.pick(SINGLE)(v.f))

    def pair(self, v, others):
        other = self.pick([o for o in others if o.shape == v.shape])
        return Value(self.pick(PAIR)(other.f, v.f), v.shape, max(v.axes, other.axes))

    def repeated(self, v, others):
        """With an operand that has fewer elements: a number per channel, say."""
        shape = tuple(self.pick([1, n]) for n in v.shape)[self.number(0, 2) :]
        shape = self.pick([shape, (*v.shape[:1], *(1,) * (len(v.shape) - 1))])
        operand = self.parameter(shape)
        if shape and self.number(0, 2):  # that do not lie next to one another
            operand = C.slice(self.parameter((2 * shape[0], *shape[1:])), 0, 0, 2 * shape[0], 2)
        operands = [v.f, operand]
        return v._replace(f=self.pick(PAIR)(*operands[:: self.pick([1, -1])]))

    def moved(self, v, others):
        order = self.rng.permutation(len(v.shape)).tolist()
        if self.number(0, 3):
            return v._replace(f=C.transpose(v.f, order), shape=tuple(v.shape[i] for i in order))
        factor = math.gcd(math.prod(v.shape), 12)
        shape = (factor, math.prod(v.shape) // factor)
        return v._replace(f=C.reshape(v.f, shape), shape=shape)

    def part(self, v, others):
        axis = self.number(0, len(v.shape))
        start, step = self.number(0, v.shape[axis]), self.pick([1, -1, 2])
        shape = list(v.shape)
        shape[axis] = len(range(start, shape[axis], abs(step)))
        f = C.slice(v.f, axis, start, v.shape[axis], step)
        return v._replace(f=f, shape=tuple(shape))

    def joined(self, v, others):
        axis = self.number(0, len(v.shape))
        rest = [o for o in others if o.axes == v.axes and len(o.shape) == len(v.shape)]
        rest = [
            o
            for o in rest
            if np.delete(o.shape, axis).tolist() == np.delete(v.shape, axis).tolist()
        ]
        parts = [o._replace(f=self.pick(SINGLE)(o.f)) for o in (v, self.pick(rest))]
        shape = list(v.shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        f = C.splice(*(p.f for p in parts), axis=axis)
        if shape[axis] == 2 * v.shape[axis]:  # and once more, the other way round
            f = f - 0.5 * C.splice(*(p.f for p in parts[::-1]), axis=axis)
        return v._replace(f=f, shape=tuple(shape)) if math.prod(shape) < 500 else None

    def summed(self, v, others):
        axis, how = self.number(0, len(v.shape)), self.pick([C.reduce_mean, C.reduce_log_sum_exp])
        shape = tuple(1 if i == axis else n for i, n in enumerate(v.shape))
        return self.pick(
            [v._replace(f=how(v.f, axis), shape=shape), v._replace(f=C.softmax(v.f, axis))]
        )

    def product(self, v, others):
        inner, columns = self.number(1, len(v.shape) + 1), self.number(1, 6)
        kept, summed = v.shape[:-inner], v.shape[-inner:]
        W = self.parameter((*summed, columns), math.prod(summed))
        return v._replace(f=C.times(v.f, W), shape=(*kept, columns))

    def convolved(self, v, others):
        if not 1 < len(v.shape) < 5:
            return None
        channels, *size = v.shape
        kernel = self.rng.integers(1, 4, len(size)).tolist()
        groups = self.pick([1, channels])
        W = self.parameter((2 * groups, channels // groups, *kernel), math.prod(kernel) * channels)
        f = C.convolution(W, v.f, groups=groups)
        return v._replace(f=f, shape=(2 * groups, *size)) if math.prod(v.shape) < 500 else None

    def tailed(self, v, others):
        value = self.pick([self.product, self.convolved])(v, others)
        for _ in range(3 if value else 0):
            value = self.pick([self.single, self.repeated, self.pair])(value, [*others, value])
        return value

    def recurrent(self, v, others):
        if v.axes < 2:
            return None
        shapes = [v.shape, (self.number(1, 5),)][: self.number(1, 3)]

        def step(*arguments):
            sizes = [*shapes, v.shape]
            given = [Value(f, shape, 2) for f, shape in zip(arguments, sizes, strict=True)]
            values = self.grown(given, self.number(2, 7), inside=True)[::-1]
            return tuple(
                self.fitted(n, shape, given[-1]) for n, shape in zip(values, shapes, strict=False)
            )

        step_function = [lambda h, x: step(h, x)[0], lambda h, c, x: step(h, c, x)][len(shapes) - 1]
        start = tuple(self.pick([np.zeros(s, np.float32), self.parameter(s)]) for s in shapes)
        kind, backwards = self.pick([C.layers.Recurrence, C.layers.Fold]), self.pick([True, False])
        layer = kind(step_function, go_backwards=backwards, initial_state=start)
        return Value(layer(v.f), v.shape, 1 if kind is C.layers.Fold else 2)

    def fitted(self, v, shape, x):
        """A state of this shape, which x has a part in."""
        sizes = math.prod(v.shape), math.prod(shape)
        flat = C.times(C.reshape(v.f, sizes[:1]), self.parameter(sizes, sizes[0]))
        return C.tanh(
            C.reshape(flat, shape) + C.reduce_mean(C.reshape(x.f, (-1,)), axis=0, keepdims=False)
        )

    def delayed(self, v, others):
        how = self.pick([C.sequence.past_value, C.sequence.future_value])
        start = self.pick([0, self.parameter(v.shape)])
        return v._replace(f=how(v.f, start, self.number(1, 4))) if v.axes == 2 else None

    def ends(self, v, others):
        how = self.pick([C.sequence.first, C.sequence.last])
        return v._replace(f=how(v.f), axes=1) if v.axes == 2 else None

    def nodes(self):
        """Some values, and the gradients of the last of them."""
        root = C.element_times(self.values[-1].f, self.rng.normal(size=self.values[-1].shape)).node
        below = set(graph.order([root]))
        wrt = [v.f.node for v in self.inputs] + [p.node for p in self.parameters]
        found = autodiff.gradients(root, [n for n in wrt if n in below])
        return [self.values[-1].f.node, self.pick(self.values).f.node, *found]

    def feed(self, lengths):
        def drawn(*shape):
            return self.rng.normal(size=shape).astype(np.float32)

        feed = {v.f.node: drawn(len(lengths), *v.shape) for v in self.inputs if v.axes == 1}
        sequences = (v for v in self.inputs if v.axes == 2)
        return feed | {v.f.node: [drawn(n, *v.shape) for n in lengths] for v in sequences}


def engines():
    before = device.engine(C.cpu()).name
    for name in device.cpu_engines():
        device.use_cpu_engine(name)
        yield device.engine(C.cpu())
    device.use_cpu_engine(before)


def values(plan, nodes, feed):
    batch = Minibatch([n for n in feed if n in plan.inputs or len(n.axes) == 2], feed, plan.engine)
    rows = plan.run(batch.arrays, batch.layouts, batch.size)
    found = [batch.read(n, r) for n, r in zip(nodes, rows, strict=True)]
    return [np.concatenate(v) if isinstance(v, list) else v for v in found]


@pytest.mark.parametrize("small", [False, True], ids=["", "in pieces"])
@pytest.mark.parametrize("seed", SEEDS)
def test_values_and_gradients(seed, small, monkeypatch):
    if small:  # then small arrays go the ways of large ones
        monkeypatch.setattr(pointwise, "PIECE", 32)
        monkeypatch.setattr(call, "_SMALL", 0)
        monkeypatch.setattr(NumpyEngine, "few", 16)
    program = Program(seed)
    nodes = program.nodes()
    plain = Plan(passes.optimize(nodes, without=list(passes.PASSES)), Plain())
    plans = [Plan(passes.optimize(nodes), engine) for engine in engines()]
    for lengths in LENGTHS:
        feed = program.feed(lengths)
        truth = values(plain, nodes, feed)
        for plan in plans:
            for a, b in zip(values(plan, nodes, feed), truth, strict=True):
                np.testing.assert_allclose(
                    a, b, rtol=1e-3, atol=1e-4 * (1 + np.abs(b).max(initial=0))
                )
