"""The layers of a function that have parameters, and which layer elsewhere each is, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ..graph import INFERRED, Constant, GraphError, Node, Stored, order
from ..operands import search
from ..operands.operand import Operand
from ..ops.records import as_node
from ..ops.shaping import RESHAPE
from ..ops.slicing import SLICE
from . import weight_layouts as layouts
from .weight_layouts import Arrays

if TYPE_CHECKING:
    from ..model.function import Function

Names: TypeAlias = "Mapping[str, str | Function] | None"


class Layer(NamedTuple):
    """A layer with parameters: its kind, what it may be called, and what is in it."""

    kind: str
    names: list[str]
    leaves: dict[str, Stored]
    constants: list[Constant]
    operations: set[str]
    parts: dict[str, tuple[int, ...]]  # of a stack: what PyTorch calls them, and their shapes

    def __str__(self) -> str:
        return f"{self.kind} '{self.names[0]}'" if self.names else f"a {self.kind} without a name"

    def values(self) -> Arrays:
        return {name: leaf.value for name, leaf in self.leaves.items()}


def layers_of(function: Function) -> list[Layer]:
    if not isinstance(function, Operand):
        raise GraphError(
            f"weights are those of a function of rgraph, got a {type(function).__name__}",
            hint="from_torch(function, module): what is set comes first",
        )
    found: list[Layer] = []
    by_leaf: dict[Node, Layer] = {}
    for node, outer in _blocks([o.node for o in function.outputs], ()):
        own = [n for n in search.operands(node) if n not in node.inputs[1:]]
        stored = [n for n in own if isinstance(n, Stored)]
        if not stored:
            continue
        layer = next((by_leaf[n] for n in stored if n in by_leaf), None)
        if layer is None:
            names = [n for n in (node.name, *reversed(outer)) if n]
            layer = Layer(node.attrs["block"], names, {}, [], set(), _parts(node))
            found.append(layer)
        layer.operations.update(n.op.name for n in _inside(node) if n.op)
        layer.constants.extend(n for n in own if isinstance(n, Constant))
        for n in stored:
            by_leaf[n] = layer
            name = "weights" if layer.kind == layouts.STACK else n.name
            if layer.leaves.setdefault(name, n) is not n:
                raise GraphError(f"{layer} has two parameters named '{n.name}'")
    return found


def _parts(block: Node) -> dict[str, tuple[int, ...]]:
    """The parts of the block of weights of an `optimized_rnnstack`, in their order."""
    if block.attrs["block"] != layouts.STACK:
        return {}
    taken = [n for n in _inside(block) if n.op is RESHAPE and n.inputs[0].op is SLICE]
    weights = [n for n in taken if not n.axes]
    weights.sort(key=lambda n: n.inputs[0].attrs["cuts"][0][1])
    shapes = [n.shape for n in weights]
    directions = block.shape[0] // shapes[1][1]  # (gates * size, size) are those of the state
    layers = len(shapes) // (4 * directions)
    ways = [f"_l{i}{'_reverse' * j}" for i in range(layers) for j in range(directions)]
    kinds = (("weight_ih", "weight_hh"), ("bias_ih", "bias_hh"))
    names = [kind + way for pair in kinds for way in ways for kind in pair]
    return dict(zip(names, shapes, strict=True))


def _inside(block: Node) -> list[Node]:
    body, *arguments = block.inputs
    return order([body], enter=lambda n: n not in arguments)


def _blocks(roots: Iterable[Node], outer: tuple[str, ...]) -> Iterator[tuple[Node, tuple]]:
    """The blocks of known kinds below, and the names of the blocks that they stand in."""
    seen: set[Node] = set()

    def below(
        roots: Iterable[Node], ends: Iterable[Node], outer: tuple[str, ...]
    ) -> Iterator[tuple[Node, tuple[str, ...]]]:
        for node in search.walk(roots, 0, ends):
            if not search.is_block(node) or node in seen:
                continue
            seen.add(node)
            if node.attrs["block"] in layouts.PARAMETERS:
                yield node, outer
            else:
                body, *arguments = node.inputs
                yield from below([body], arguments, (*outer, node.name))

    yield from below(roots, (), outer)


def _checked(layer: Layer) -> Layer:
    needed, allowed = layouts.parameters(layer.kind)
    others, missing = set(layer.leaves) - allowed, needed - set(layer.leaves)
    if others or missing:
        raise GraphError(
            f"{layer} has {', '.join(sorted(others))}, which has no counterpart there"
            if others
            else f"{layer} has no {', '.join(sorted(missing))}",
            hint="alpha belongs to a stabilizer, Ci, Cf and Co are peepholes" if others else "",
        )
    for leaf in layer.leaves.values():
        if INFERRED in leaf.shape:
            raise GraphError(
                f"the shape of {layer}'s {leaf.name} follows from what it is applied to",
                hint="apply the model to its input first",
            )
    return layer


class Pair(NamedTuple):
    layer: Layer
    prefix: str
    keys: dict[str, str]  # what a weight is called in its layer, to what it is called in all


def pairs_of(
    framework: str, layers: list[Layer], keys: Iterable[str], names: Names
) -> Iterator[Pair]:
    renamed = _renamed(layers, names)
    alone = {k.rpartition(".")[0] if framework == "keras" else "" for k in keys}
    taken: dict[str, Layer] = {}
    for i, layer in enumerate(layers):
        prefixes = [renamed[i]] if i in renamed else list(layer.names)
        if len(layers) == 1 and len(alone) == 1 and i not in renamed:
            prefixes += alone
        for prefix in prefixes:
            own = _keys_of(framework, layer, prefix, keys)
            if own:
                other = next((taken[k] for k in own.values() if k in taken), None)
                if other is not None:
                    raise GraphError(
                        f"'{prefix}' is {other} and {layer} here",
                        hint="give them names of their own, or say which it is by names={…}",
                    )
                taken.update(dict.fromkeys(own.values(), layer))
                yield Pair(_checked(layer), prefix, own)
                break


def _renamed(layers: list[Layer], names: Names) -> dict[int, str]:
    """By the number of a layer here its name there, where that is given."""
    found: dict[int, str] = {}
    if not isinstance(names or {}, Mapping):
        raise GraphError("names are a dict from names there to layers here")
    for there, here in (names or {}).items():
        if isinstance(here, str):
            fits = [i for i, layer in enumerate(layers) if here in layer.names]
        else:
            own = {as_node(p) for p in here.parameters}
            fits = [i for i, layer in enumerate(layers) if own & set(layer.leaves.values())]
        if len(fits) != 1 or fits[0] in found:
            raise GraphError(
                f"names: {here!r:.60} stands for {len(fits)} layers"
                if len(fits) != 1
                else f"names: {layers[fits[0]]} is given two names",
                hint=f"the layers are {', '.join(map(str, layers))}",
            )
        found[fits[0]] = there
    return found


def _keys_of(framework: str, layer: Layer, prefix: str, keys: Iterable[str]) -> dict[str, str]:
    """The weights of the layer there of this name: short names, to whole ones."""
    lead = prefix and prefix + "."
    own = {k[len(lead) :]: k for k in keys if k.startswith(lead)}
    if framework != "torch" or layer.kind not in ("LSTM", "GRU", "RNNStep"):
        return own
    part = re.fullmatch(r"(.*?)[._]?(l\d+(?:_reverse)?)", prefix)
    suffix = "_l0"
    if not own and part:
        lead, suffix = part[1] and part[1] + ".", "_" + part[2]
        own = {k[len(lead) :]: k for k in keys if k.startswith(lead) and k.endswith(suffix)}
    if any(re.search(r"_l\d+(_reverse)?$", k) and not k.endswith(suffix) for k in own):
        raise GraphError(
            f"PyTorch's '{prefix}' has several layers or directions, {layer} is one",
            hint=f"have a layer here for each, and call them {prefix}_l0, {prefix}_l0_reverse, "
            f"{prefix}_l1, …",
        )
    return {k.removesuffix(suffix): whole for k, whole in own.items()}
