"""One layer after another: what `f >> g` and `Sequential` have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..graph import GraphError

Values = tuple[Any, ...]


def piped(values: Values, layer: Any) -> Values:
    """What a layer makes of values: the arguments of the next one.

    A list of layers is a chain. Of a tuple of layers each gets the value if there is one; of as
    many values as layers, each its own.
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
            f"a chain of layers has {layer!r:.60} in it, which is no function",
            hint="its parts are layers, functions, and lists and tuples of these",
        )
    _refuse_step(layer, len(values))
    result = layer(*values)
    if len(getattr(result, "outputs", ())) > 1:
        return result.outputs
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _shares(values: Values, layers: int) -> Iterator[Values]:
    if len(values) not in (1, layers):
        raise GraphError(
            f"{len(values)} values can't be given to a tuple of {layers} layers",
            hint="a tuple has a layer for each value, or one value for all of its layers",
        )
    for i in range(layers):
        yield values[i : i + 1] if len(values) > 1 else values


def _refuse_step(layer: Any, values: int) -> None:
    """A step function takes its states first; given a frame for one of them it goes astray."""
    own = getattr(layer, "signature", ())
    open_ = [a for a in own if a.is_placeholder]
    if len(open_) > values == 1:
        kind = layer.outputs[0].node.attrs.get("block") or layer.name or "a function"
        names = ", ".join(a.name or "?" for a in open_)
        raise GraphError(
            f"{kind} takes {len(open_)} arguments ({names}), in a chain of layers it gets 1",
            hint="a step function such as LSTM(…) stands in Recurrence(…) or in Fold(…)",
        )
