"""Values and gradients of functions: implements `eval`, `grad`, `forward` and `backward`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import graph
from ..device import DeviceDescriptor
from ..graph import FREE, GraphError, Input, Node
from ..graph.node import describe, resolve
from ..operands.operand import Operand
from ..operands.variables import Variable
from ..ops.records import as_node
from ..passes import autodiff
from ..runtime.evaluation import Feed, Request
from ..runtime.feeding import as_feed
from ..runtime.repeats import Repeat
from ..runtime.windows import Window, window_of

if TYPE_CHECKING:
    from .function import Function


def run(
    function: Function,
    nodes: Sequence[Node],
    arguments: Any,
    device: DeviceDescriptor | None = None,
    training: bool = False,
    root: Node | None = None,
    wrt: Sequence[Node] = (),
    as_numpy: bool = True,
    window: Window | None = None,
) -> list[Any]:
    """The values of nodes, then the gradients of the sum of `root`."""
    runner, own = function._runner, function.arguments
    roots = () if root is None else (root,)
    updates = runner.updates(*nodes, root) if root is not None else ()
    request = Request(tuple(nodes), roots, tuple(wrt), updates=updates, window=window)
    given = runner.feed(as_feed(arguments, own), device, training)
    inputs = inputs_of(function)
    if wrt:  # what nothing depends on has a gradient, too: zeros, as many as it has frames
        inputs = list(dict.fromkeys([*inputs, *(n for n in wrt if isinstance(n, Input))]))
    return runner.run(request, given, inputs, as_numpy=as_numpy)


def evaluate(
    function: Function,
    arguments: object,
    outputs: object,
    device: DeviceDescriptor | None,
    as_numpy: bool,
    window: int | None,
    memory_limit: int | None,
) -> Any:
    """See `Function.eval`."""
    among = None if window is memory_limit is None else window_of(window, memory_limit)
    nodes = function._current()
    runner = function._runner
    is_plain = as_numpy and len(nodes) == 1 and outputs is device is among is None
    if is_plain and runner.repeat is not None and isinstance(arguments, dict):
        found = runner.repeat.value(runner, nodes[0], arguments)
        if found is not None:
            return found
    if outputs is not None or len(nodes) > 1:
        keys, nodes = _chosen(function, outputs)
    values = run(function, nodes, arguments, device, as_numpy=as_numpy, window=among)
    if is_plain and runner.decided is not None and isinstance(arguments, dict):
        runner.repeat = Repeat.of(runner.decided, arguments, function.arguments)
    return values[0] if len(nodes) == 1 else _by_key(keys, values)


def gradient(
    function: Function,
    at: Any,
    wrt: Any,
    outputs: Any,
    device: DeviceDescriptor | None,
    as_numpy: bool,
    grad_root: Any,
    window: int | None,
    memory_limit: int | None,
) -> Any:
    """See `Function.grad`."""
    if wrt is None:
        wrt = [a for a in function.arguments if a.needs_gradient]
    several = isinstance(wrt, Iterable) and not isinstance(wrt, (Operand, Node))
    chosen = list(wrt) if several else [wrt]
    if not chosen:
        raise GraphError(
            "no input of the function needs a gradient",
            hint="use grad(at, wrt=[…]), or declare the input with needs_gradient=True",
        )
    root = function.node if grad_root is None else as_node(grad_root)
    keys, nodes = ([], []) if outputs is None else _chosen(function, outputs)
    among = window_of(window, memory_limit)
    inner = list(map(_wrt, chosen))
    values = run(function, nodes, at, device, True, root, inner, as_numpy, among)
    found = values[len(nodes) :]
    if not as_numpy:
        for node, value in zip(inner, found, strict=True):
            value.is_sparse = value.is_sparse or autodiff.is_sparse(root, node)
    result = _by_key(chosen, found)
    return result if outputs is None else (result, _by_key(keys, values[: len(nodes)]))


def forward(
    function: Function,
    arguments: object,
    outputs: object,
    kept: object,
    device: DeviceDescriptor | None,
    as_numpy: bool,
) -> tuple[Feed | None, dict[Any, Any]]:
    """See `Function.forward`."""
    keys, nodes = _chosen(function, outputs)
    runner = function._runner
    given = runner.feed(as_feed(arguments, function.arguments), device, bool(kept))
    updates = runner.updates(*nodes) if given.training else ()
    request = Request(tuple(nodes), updates=updates)
    values = runner.run(request, given, inputs_of(function), as_numpy=as_numpy)
    return (given if given.training else None), dict(zip(keys, values, strict=True))


def backward(
    function: Function,
    state: Feed | None,
    root_gradients: object,
    variables: Iterable[object],
    as_numpy: bool,
) -> dict[Any, Any]:
    """See `Function.backward`."""
    if state is None:
        raise GraphError(
            "backward needs the state of a forward pass, got None",
            hint="give the outputs to forward(…, keep_for_backward={f.output})",
        )
    if not isinstance(root_gradients, Mapping):
        root_gradients = {function: root_gradients}
    chosen = list(variables)
    roots = tuple(as_node(r) for r in root_gradients)
    request = Request((), roots, tuple(map(_wrt, chosen)), weighted=True)
    weights = list(root_gradients.values())
    found = function._runner.run(request, state, inputs_of(function), weights, as_numpy)
    return dict(zip(chosen, found, strict=True))


def gradients(function: Function, wrt: Sequence[Any]) -> list[Node]:
    """See `Function.gradients`."""
    free = [n for n in graph.order([function.node]) if FREE in (n.shape or ())]
    if free:  # gradient rules need the number of elements
        raise GraphError(
            f"gradients as functions need all sizes, but {describe(free[-1])} has a free dimension"
            f"\n  made at {free[-1].origin}",
            hint="use grad(at, wrt=[…]), which knows the sizes from the data",
        )
    return autodiff.gradients(function.node, [as_node(w) for w in wrt])


def request(function: Function, wrt: Sequence[object]) -> Request:
    """The request for the outputs of a function and for gradients."""
    roots = (function.node,) if wrt else ()
    return Request(tuple(function._current()), roots, tuple(map(_wrt, wrt)))


def inputs_of(function: Function) -> list[Input]:
    """The nodes of the function's inputs."""
    return [n for a in function.arguments if isinstance(n := a.node, Input)]


def _chosen(function: Function, outputs: Any) -> tuple[list[Any], list[Node]]:
    """The requested outputs, as given and as nodes."""
    nodes = function._current()
    if outputs is None:
        return list(function.outputs), nodes
    several = () if isinstance(outputs, Variable) else getattr(outputs, "outputs", outputs)
    keys = list(several) or [outputs]
    if not all(isinstance(k, (Operand, Node)) for k in keys):
        raise TypeError("outputs must be variables or functions, or a list of them")
    wanted = [resolve(as_node(k)) for k in keys]
    below = set(graph.order(nodes))
    for node in wanted:
        if node not in below:
            raise GraphError(f"{describe(node)} is not part of {function!r}")
    return keys, wanted


def _wrt(value: Any) -> Node:
    """The node of a value in `wrt`."""
    if not isinstance(getattr(value, "node", value), Node):
        raise GraphError(
            f"wrt must be inputs, parameters or other values of the graph, got {value!r:.60}"
        )
    return as_node(value)


def _by_key(keys: Sequence[object], values: Sequence[object]) -> Any:
    """The value, or a dict if there are several distinct keys."""
    if len(keys) == 1:
        return values[0]
    found = dict(zip(keys, values, strict=True))
    return values[0] if len(found) == 1 else found
