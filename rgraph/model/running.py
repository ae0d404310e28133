"""What a function is worth at given inputs: its values, its gradients, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .. import graph
from ..graph import GraphError, Node
from ..graph.node import describe, resolve
from ..ops import records
from ..runtime import evaluation
from ..runtime.evaluation import Feed, Request
from ..runtime.streams import Stream
from ..runtime.windows import Window, window_of
from .operand import Operand
from .structure import Structure


def _by_key(keys: Sequence[Any], values: Sequence[Any]) -> Any:
    """The value, or a dict if there are several; what was asked for twice is one."""
    if len(keys) == 1:
        return values[0]
    found = dict(zip(keys, values, strict=True))
    return values[0] if len(found) == 1 else found


class Runnable(Structure):
    """The part of `Function` that runs it: forward, backward, and looking at how it runs."""

    def stream(self, device: Any = None) -> Stream:
        """The function frame by frame: live, or for sequences that have no end.

        It gives what `eval` gives for whole sequences, in constant memory. All that it remembers
        is what its delays hold; see `Stream` for many sequences at once, and for taking what is
        held out and putting it back.

        Args:
            device: `C.device.cpu()`, `C.device.gpu(0)`; by default `use_default_device()`.

        Raises:
            GraphError: something in it looks ahead, or needs all frames at once; it is named.

        >>> x = C.sequence.input_variable(2)
        >>> y = C.layers.Recurrence(C.layers.GRU(3))(x)
        >>> frames = np.arange(8.0).reshape(4, 2)
        >>> live = y.stream()
        >>> found = [live(frame) for frame in frames]
        >>> np.allclose(found, y.eval({x: [frames]})[0])
        True
        """
        inputs = [a.node for a in self.arguments if isinstance(a.node, graph.Input)]
        return Stream(self._current(), inputs, device)

    def eval(
        self,
        arguments: Any = None,
        outputs: Sequence[Any] | None = None,
        device: Any = None,
        as_numpy: bool = True,
        window: int | None = None,
        memory_limit: int | None = None,
    ) -> Any:
        """The function's value.

        Args:
            arguments: a dict from inputs (or their names) to values, or just the value if there
                is one input. A batch is an array (N, *shape) or a list of samples; sequences
                are a list of arrays (frames, *shape), one such array for a single sequence, or
                an array (N, frames, *shape) for equally long ones. In a list of sequences a
                single frame, an array (*shape), is a sequence of one, as in CNTK.
            outputs: which values to compute; by default the function's outputs.
            device: `C.device.cpu()`, `C.device.gpu(0)`; by default `use_default_device()`.
            as_numpy: whether to give NumPy's arrays. Otherwise each value is a `C.Value`, which
                stays on the device that computed it, for other evaluations and libraries.
            window: how many frames of each sequence are computed at once: less memory for what is
                computed on the way.
            memory_limit: instead of `window`, how many bytes that may take.

        Returns:
            for a sequence a list of arrays (frames, *shape); for a batch an array (N, *shape);
            else one array. A dict from outputs to these if there are several.

        Raises:
            GraphError: an input is missing or does not fit.

        >>> x, s = C.input_variable(2, name="x"), C.sequence.input_variable(1)
        >>> C.square(x).eval({"x": [[1, 2], [3, 4]]})
        array([[ 1.,  4.],
               [ 9., 16.]], dtype=float32)
        >>> C.sequence.past_value(s).eval([np.array([[5], [6]]), np.array([[7]])])
        [array([[0.],
               [5.]], dtype=float32), array([[0.]], dtype=float32)]
        """
        keys, nodes = self._chosen(outputs)
        among = window_of(window, memory_limit)
        values = self._run(nodes, arguments, device, as_numpy=as_numpy, window=among)
        return _by_key(keys, values)

    def grad(
        self,
        at: Any = None,
        wrt: Sequence[Any] | Any = None,
        outputs: Sequence[Any] | None = None,
        device: Any = None,
        as_numpy: bool = True,
        grad_root: Any = None,
        window: int | None = None,
        memory_limit: int | None = None,
    ) -> Any:
        """The gradient of the sum of all elements of the output.

        Args:
            at: the inputs' values, as for `eval`.
            wrt: inputs and parameters, or one; by default the inputs with `needs_gradient`.
            outputs: values to compute along with it.
            grad_root: the value to differentiate, by default the function's output.
            window: how many frames of each sequence are computed at once. What delays hold is
                kept between windows, and each is computed anew on the way back: the same gradients
                in less memory, for one more forward pass.
            memory_limit: instead of `window`, how many bytes results on the way may take.

        It is a step of training: dropout drops, and as in CNTK running statistics are carried on.

        Returns:
            an array for a parameter, a batch or list for an input, each in the form that `eval`
            gives; a dict from `wrt` to these if there are several. With `outputs`, the pair of
            that and a dict of their values.

        >>> x = C.input_variable(2, needs_gradient=True)
        >>> C.square(x).grad({x: [[1, 2]]})
        array([[2., 4.]], dtype=float32)
        """
        if wrt is None:
            wrt = [a for a in self.arguments if a.needs_gradient]
        single = not isinstance(wrt, (list, tuple, set, frozenset))
        chosen = [wrt] if single else list(wrt)
        if not chosen:
            raise GraphError(
                "no input of the function needs a gradient",
                hint="say which: grad(at, wrt=[…]), or declare the input with needs_gradient=True",
            )
        root = self.node if grad_root is None else records.as_node(grad_root)
        keys, nodes = ([], []) if outputs is None else self._chosen(outputs)
        inner = list(map(_variable, chosen))
        values = self._run(
            nodes, at, device, True, root, inner, as_numpy, window_of(window, memory_limit)
        )
        result = _by_key(chosen, values[len(nodes) :])
        return result if outputs is None else (result, _by_key(keys, values[: len(nodes)]))

    def forward(
        self,
        arguments: Any = None,
        outputs: Any = None,
        keep_for_backward: Any = None,
        device: Any = None,
        as_numpy: bool = True,
    ) -> tuple[Feed | None, dict[Any, Any]]:
        """The values of `outputs`, and what `backward` needs to go back from them.

        Args:
            arguments: the inputs' values, as for `eval`.
            outputs: which values to compute; by default the function's outputs.
            keep_for_backward: the outputs that gradients will be given for. If there are any,
                the run is one of training: dropout drops, running statistics are carried on.

        Returns:
            a state (None without `keep_for_backward`), and a dict from `outputs` to their values
            in the form that `eval` gives.

        >>> x = C.input_variable(2)
        >>> f = C.square(x)
        >>> state, values = f.forward({x: [[1, 2]]}, [f.output], {f.output})
        >>> values[f.output]
        array([[1., 4.]], dtype=float32)
        >>> f.backward(state, {f.output: [[1, 10]]}, [x])[x]
        array([[ 2., 40.]], dtype=float32)
        """
        keys, nodes = self._chosen(outputs)
        given = self._runner.feed(self._feed(arguments), device, bool(keep_for_backward))
        updates = self._runner.updates(*nodes) if given.training else ()
        request = Request(tuple(nodes), updates=updates)
        values = self._runner.run(request, given, self._inputs(), as_numpy=as_numpy)
        return (given if given.training else None), dict(zip(keys, values, strict=True))

    def backward(
        self,
        state: Feed | None,
        root_gradients: Any,
        variables: Iterable[Any],
        as_numpy: bool = True,
    ) -> dict[Any, Any]:
        """The gradients of a loss, from its gradients with respect to outputs.

        Args:
            state: what `forward` gave.
            root_gradients: a dict from outputs to gradients, each of its output's form; just the
                gradient if there is one output.
            variables: the inputs and parameters that gradients are wanted for.

        Returns:
            a dict from `variables` to gradients.

        >>> w = C.Parameter(2, init=3)
        >>> f = w * C.input_variable(2)
        >>> state, _ = f.forward([[1, 2]], keep_for_backward=f.outputs)
        >>> f.backward(state, np.array([[1, 10]]), [w])[w]
        array([ 1., 20.], dtype=float32)
        """
        if state is None:
            raise GraphError(
                "there is nothing to go back from",
                hint="name the outputs in forward(…, keep_for_backward={f.output})",
            )
        if not isinstance(root_gradients, Mapping):
            root_gradients = {self: root_gradients}
        chosen = list(variables)
        roots = tuple(records.as_node(r) for r in root_gradients)
        wrt = tuple(map(_variable, chosen))
        request = Request((), roots, wrt, weighted=True)
        weights = list(root_gradients.values())
        found = self._runner.run(request, state, self._inputs(), weights, as_numpy)
        return dict(zip(chosen, found, strict=True))

    def _chosen(self, outputs: Any) -> tuple[list[Any], list[Node]]:
        """The outputs that are asked for, as they were named and as nodes."""
        nodes = self._current()
        if outputs is None:
            return list(self.outputs), nodes
        if isinstance(outputs, Structure):
            outputs = outputs.outputs
        keys = [outputs] if isinstance(outputs, Operand) else list(outputs)
        if not all(isinstance(k, (Operand, Node)) for k in keys):
            raise TypeError("outputs must be variables or functions, or a list of them")
        wanted = [resolve(records.as_node(k)) for k in keys]
        below = set(graph.order(nodes))
        for node in wanted:
            if node not in below:
                raise GraphError(f"{describe(node)} is not computed by {self!r}")
        return keys, wanted

    def _inputs(self) -> list[graph.Input]:
        return [a.node for a in self.arguments if isinstance(a.node, graph.Input)]

    def _feed(self, arguments: Any) -> dict[Node, Any]:
        return evaluation.as_feed(arguments, self.arguments)

    def summary(self) -> Any:
        """A table of its layers: output shapes, parameters, operations, connections.

        Prints as text; in a notebook it is a table. The step function of a recurrence is shown
        inside it.

        >>> model = C.layers.Sequential([C.layers.Dense(4), C.layers.Dense(2)])
        >>> model(C.input_variable(3)).summary().total
        26
        """
        from ..inspect.summary import Summary

        return Summary(self._current())

    def explain(self, wrt: Sequence[Any] = (), frames: int | None = None) -> str:
        """What its plan does: once over all frames, per step of a loop, fused; with its costs.

        Args:
            wrt: inputs and parameters whose gradients are to be planned along.
            frames: the length of a sequence: shows instead what its run takes in memory, whole
                and in windows.

        >>> x = C.sequence.input_variable(2)
        >>> print(C.layers.Recurrence(lambda h, x: C.tanh(h + x))(x).explain())
                            result     MFLOP       MB  what
        loop forward along defaultDynamicAxis: 1 calls a step, 1 of its values kept for all frames
          step              rows×2     4e-06  2.4e-05  plus tanh
        in all 4e-06 MFLOP a row, on the ... engine
        >>> h = C.layers.Recurrence(C.layers.LSTM(64))(C.sequence.input_variable(32))
        >>> print(h.explain(h.parameters, frames=1000))
        a sequence of 1000 frames: results on the way take
             ... MB  whole
             ... MB  in 2 windows of 500 frames, 0.001 MB of it for states at their borders
        ...
        """
        from ..inspect.explain import explain, explain_windows

        request = self._request(self._current(), wrt)
        if frames is None:
            return explain(evaluation.plan(request))
        plan = evaluation.windowed_plan(request._replace(window=window_of(frames, None)))
        return explain_windows(plan, frames)

    def profile(self, arguments: Any = None, wrt: Sequence[Any] = ()) -> Any:
        """How long each part of a run takes: a table, which can be saved for a trace viewer.

        Args:
            arguments: the inputs' values, as for `eval`.
            wrt: inputs and parameters whose gradients are to be computed along.

        >>> table = C.exp(C.input_variable(2)).profile(np.ones((3, 2)))
        >>> "exp" in str(table)
        True
        """
        from ..inspect.explain import profile

        request = self._request(self._current(), wrt)
        return profile(request, self._runner.feed(self._feed(arguments)), self._inputs())

    def print_node_timing(self) -> None:
        """Prints how long operations took since the last time; see `debugging.set_node_timing`.

        >>> C.exp(C.input_variable(2)).print_node_timing()
        no run was timed: debugging.set_node_timing(True) has them timed
        """
        from ..debugging import print_node_timing

        print_node_timing()

    def _request(self, nodes: Sequence[Node], wrt: Sequence[Any]) -> Request:
        roots = (self.node,) if wrt else ()
        return Request(tuple(nodes), roots, tuple(map(_variable, wrt)))

    def _run(
        self,
        nodes: Sequence[Node],
        arguments: Any,
        device: Any = None,
        training: bool = False,
        root: Node | None = None,
        wrt: Sequence[Node] = (),
        as_numpy: bool = True,
        window: Window | None = None,
    ) -> list[Any]:
        """The values of nodes, then the gradients of the sum of `root`."""
        roots = () if root is None else (root,)
        updates = self._runner.updates(*nodes, root) if root is not None else ()
        request = Request(tuple(nodes), roots, tuple(wrt), updates=updates, window=window)
        own = self.arguments
        given = self._runner.feed(evaluation.as_feed(arguments, own), device, training)
        # What nothing depends on has a gradient, too: zeros, as many as it has frames.
        nodes = (*(a.node for a in own), *wrt)
        inputs = dict.fromkeys(n for n in nodes if isinstance(n, graph.Input))
        return self._runner.run(request, given, list(inputs), as_numpy=as_numpy)


def _variable(wrt: Any) -> Node:
    """The node that a gradient is asked for."""
    if not isinstance(getattr(wrt, "node", wrt), Node):
        raise GraphError(
            f"a gradient is with respect to an input, a parameter or another value of the graph, "
            f"got {wrt!r:.60}"
        )
    return records.as_node(wrt)
