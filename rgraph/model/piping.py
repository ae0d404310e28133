"""Composition of layers, for `f >> g` and `Sequential`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..graph import GraphError

Values = tuple[Any, ...]


def piped(values: Values, layer: object) -> Values:
    """Applies a layer to values; returns the arguments of the next one.

    A list of layers is applied in sequence. In a tuple of layers each gets the same value, or its
    own if there are as many values as layers.
    """
    if isinstance(layer, list):
        for part in layer:
            values = piped(values, part)
        return values
    if isinstance(layer, tuple):
        shares = list(_shares(values, len(layer)))
        return tuple(v for f, own in zip(layer, shares, strict=True) for v in piped(own, f))
    if not callable(layer):
        raise GraphError(
            f"expected a layer or function, got {layer!r:.60}",
            hint="compose layers, functions, and lists and tuples of these",
        )
    _refuse_step(layer, len(values))
    result = layer(*values)
    if len(getattr(result, "outputs", ())) > 1:
        return result.outputs
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _shares(values: Values, layers: int) -> Iterator[Values]:
    if len(values) not in (1, layers):
        raise GraphError(
            f"a tuple of {layers} layers can't take {len(values)} values",
            hint="give one value for all layers of a tuple, or one for each",
        )
    for i in range(layers):
        yield values[i : i + 1] if len(values) > 1 else values


def _refuse_step(layer: Any, values: int) -> None:
    """Refuses a step function, which would take the input for a state."""
    own = getattr(layer, "signature", ())
    open_ = [a for a in own if a.is_placeholder]
    if len(open_) > values == 1:
        kind = layer.outputs[0].node.attrs.get("block") or layer.name or "a function"
        names = ", ".join(a.name or "?" for a in open_)
        raise GraphError(
            f"{kind} takes {len(open_)} arguments ({names}), but gets 1 from the layer before",
            hint="wrap a step function such as LSTM(…): Recurrence(LSTM(…)) or Fold(LSTM(…))",
        )
