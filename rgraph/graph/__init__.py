"""The graph: nodes, axes, layouts. Everything that a program is before it runs."""

from .axis import BATCH, SEQUENCE, Axis, batch_of, one_batch
from .copying import copy
from .errors import GraphError
from .fitting import fit, follows_data
from .free import FREE, Free, trials_of
from .inference import apply, bind, complete, stands_for
from .layout import Layout
from .leaves import INFERRED, Constant, Input, Parameter, Placeholder, State, Stored
from .node import Node, Op
from .numbers import as_numbers, number_type, whole
from .traverse import components, order, updates

__all__ = [
    "BATCH",
    "FREE",
    "INFERRED",
    "SEQUENCE",
    "Axis",
    "Constant",
    "Free",
    "GraphError",
    "Input",
    "Layout",
    "Node",
    "Op",
    "Parameter",
    "Placeholder",
    "State",
    "Stored",
    "apply",
    "as_numbers",
    "batch_of",
    "bind",
    "complete",
    "components",
    "copy",
    "fit",
    "follows_data",
    "number_type",
    "one_batch",
    "order",
    "stands_for",
    "trials_of",
    "updates",
    "whole",
]
