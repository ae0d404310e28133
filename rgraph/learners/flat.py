"""A loss as a function of one vector, for general-purpose optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..graph import Axis, GraphError
from ..operands.variables import Parameter


class FlatObjective:
    """A loss, summed over a minibatch, as a function of all its parameters in one vector.

    Called with a vector it returns the loss and its gradient, as `scipy.optimize.minimize` expects
    with `jac=True`. Calls set the parameters to the vector; so does `assign`.

    Args:
        loss: a function with one output.
        data: the values of its inputs, as for `eval`.
        parameters: the parameters to optimize; by default all of the loss.

    >>> from scipy.optimize import minimize
    >>> x, t = C.input_variable(1, np.float64), C.input_variable(1, np.float64)
    >>> w, b = C.Parameter(1, dtype=np.float64), C.Parameter(1, dtype=np.float64)
    >>> data = {x: [[0], [1], [2]], t: [[1], [3], [5]]}
    >>> f = C.learners.FlatObjective(C.squared_error(w * x + b, t), data, [w, b])
    >>> f.assign(minimize(f, f.start, jac=True).x)
    >>> w.value.round(4), b.value.round(4)
    (array([2.]), array([1.]))
    """

    def __init__(self, loss: Any, data: Any, parameters: Sequence[Parameter] | None = None) -> None:
        self.loss = ops.reduce_sum(loss, axis=Axis.all_axes())
        self.data = data
        self.parameters = list(self.loss.parameters if parameters is None else parameters)
        if not self.parameters:
            raise GraphError("the loss has no parameters to optimize")

    @property
    def start(self) -> np.ndarray:
        """The current values of the parameters, as one vector of float64."""
        return np.concatenate([np.ravel(p.value) for p in self.parameters]).astype(np.float64)

    def assign(self, vector: np.ndarray) -> None:
        """Sets the parameters to a vector, in the order of `start`."""
        sizes = [p.value.size for p in self.parameters]
        if np.shape(vector) != (sum(sizes),):
            raise GraphError(
                f"the parameters form a vector of size {sum(sizes)}, got shape {np.shape(vector)}"
            )
        parts = np.split(np.asarray(vector), np.cumsum(sizes)[:-1])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.value = part.reshape(parameter.shape)

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss and its gradient at `vector`."""
        self.assign(vector)
        found, value = self.loss.grad(self.data, wrt=self.parameters, outputs=[self.loss])
        gradients = found.values() if len(self.parameters) > 1 else [found]
        flat = np.concatenate([np.ravel(g) for g in gradients]).astype(np.float64)
        return float(value), flat
