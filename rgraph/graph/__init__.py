"""Nodes, axes, layouts: what a program is before anything runs it."""

from .axis import BATCH, SEQUENCE, Axis
from .errors import GraphError
from .free import FREE
from .layout import Layout
from .node import (
    INFERRED,
    Constant,
    Input,
    Node,
    Op,
    Parameter,
    Placeholder,
    State,
    Stored,
    apply,
    bind,
    complete,
)
from .traverse import components, copy, order, updates

__all__ = [
    "BATCH",
    "FREE",
    "INFERRED",
    "SEQUENCE",
    "Axis",
    "Constant",
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
    "bind",
    "complete",
    "components",
    "copy",
    "order",
    "updates",
]
