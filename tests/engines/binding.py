"""Kernels as an engine or a provider binds them, called with their arguments."""

from functools import partial

from rgraph.graph.node import Type
from rgraph.ops.fused import FUSED, TAILED
from rgraph.ops.records import TABLE

RECORDS = TABLE | {"fused": FUSED, "tailed": TAILED}


class Kernels:
    """`Kernels(engine)["times"](run, a, b, recipe=recipe)`.

    Args:
        binder: an engine; or a provider, whose kernels leave to `rest` what does not suit.
    """

    def __init__(self, binder, rest=None):
        self.binder, self.rest = binder, rest

    def __getitem__(self, name):
        return partial(self._call, RECORDS[name])

    def _call(self, op, run, *arrays, **given):
        room = {"out": given.pop("out")} if "out" in given else {}
        types = [Type(a.shape, (), a.dtype) for a in arrays]
        if self.rest is None:
            kernel = self.binder.bind(op, given, types).kernel
        else:
            kernel = self.binder.bind(op, given, types, self.rest) or self.rest
        return kernel(run, *arrays, **room)
