"""Functions out of ONNX models: nets of other programs, and what rgraph exported."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import ops
from ..graph import BATCH, FREE, SEQUENCE, Axis, Constant, GraphError, Input, Node, Parameter, order
from ..graph.types import ArrayLike
from ..ops.records import hold

if TYPE_CHECKING:
    from types import ModuleType

    from ..model.function import Function
    from .onnx_graph import Proto

_MOST = 1 << 28  # elements of an array that is made of constants, of 2 GB at most
_GROWING = "ConstantOfShape", "Expand", "Tile", "Range"
_UNKNOWN = -(1 << 40)  # numbers below stand for sizes that only data says


class Value(NamedTuple):
    """A value that is computed.

    Attributes:
        node: what it is here.
        lead: how many axes it has in the file that are none of a sample's.
    """

    node: Node
    lead: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.node.shape or ())


class Frames(NamedTuple):
    """Frames beside a sequence along its time axis, before they are cut off again."""

    before: list[Node]
    sequence: Node
    after: list[Node]


Known = Value | Frames | np.ndarray


@dataclass
class At:
    """An operation of the file.

    Attributes:
        kind: its name in ONNX.
        values: its operands; None for those left out.
        attributes: what it is made with.
        version: of the operators.
        model: what reads the file.
        title: for messages.
    """

    kind: str
    values: list[Known | None]
    attributes: Mapping[str, Any]
    version: int
    model: Reader
    title: str

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def has(self, operand: int) -> bool:
        return operand < len(self.values) and self.values[operand] is not None

    def value(self, operand: int = 0) -> Value:
        """An operand as a computed value."""
        found = self.values[operand]
        if isinstance(found, Frames) or found is None:
            raise self.refused("of frames that stand beside a sequence")
        if isinstance(found, np.ndarray):
            return Value(self.model.constant(found), 0)
        return found

    def node(self, operand: int = 0) -> Node:
        return self.value(operand).node

    def array(self, operand: int, default: ArrayLike | None = None) -> np.ndarray:
        """An operand that must be known beforehand: axes, sizes."""
        found = self.values[operand] if self.has(operand) else None
        if found is None:
            return np.asarray(default)
        if not isinstance(found, np.ndarray):
            raise self.refused("with sizes or axes that are computed from data")
        return found

    def numbers(
        self, name: str, operand: int, default: list[int] | None = None
    ) -> list[int] | None:
        """Whole numbers, an attribute in older versions and an operand in newer ones."""
        if name in self.attributes:
            return [int(n) for n in np.ravel(self.attributes[name])]
        if not self.has(operand):
            return default
        return [int(n) for n in np.ravel(self.array(operand))]

    def axis(self, axis: int, rank: int | None = None, lead: int | None = None) -> int:
        """A static axis, counted from the first; refused where it is none of a sample's."""
        value = self.value() if rank is None or lead is None else None
        lead = value.lead if value is not None and lead is None else lead or 0
        rank = len(value.shape) if value is not None and rank is None else rank or 0
        axis = axis + rank + lead if axis < 0 else axis
        if not lead <= axis < rank + lead:
            raise self.refused(f"along axis {axis}, which is none of a sample's")
        return axis - lead

    def refused(self, why: str) -> GraphError:
        return GraphError(f"{self.title} can't be read: {self.kind} {why}")


def load(content: bytes) -> tuple[list[Node], list[Input]]:
    """The outputs and the inputs of a model.

    The first axis of an input is the batch; of models that rgraph exported frames may come before
    it. Float arrays that the file has become parameters.

    Raises `GraphError` for what is no model, or can't be read; the operation is named.
    """
    try:
        import onnx
    except ImportError:
        raise GraphError("the package onnx is missing", hint="pip install onnx") from None
    try:
        model = onnx.load_from_string(content)
        return Reader(onnx, model).read()
    except GraphError:
        raise
    except Exception as error:  # protobuf's and ONNX's own kinds among them
        told = str(error)[:200] or type(error).__name__
        raise GraphError(f"this is no ONNX model, or a broken one: {told}") from None


def function(content: bytes) -> Function:
    """The function of a model, its inputs in the file's order; see `load`."""
    outputs, inputs = load(content)
    below = set(order(outputs))
    return hold(outputs, [i for i in inputs if i in below])


class Reader:
    """A model that is being read."""

    def __init__(self, onnx: ModuleType, model: Proto) -> None:
        self.onnx, self.model = onnx, model
        own = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
        self.version = own[0] if own else 1
        self.is_ours = model.producer_name == "rgraph"
        self.known: dict[str, Known] = {}
        self.sizes: dict[int, tuple[Axis, ...]] = {}  # what stands for them, by the axes
        self.constants: dict[int, Node] = {}
        self.names: dict[int, str] = {}  # of the file's arrays

    def read(self) -> tuple[list[Node], list[Input]]:
        graph = self.model.graph
        for tensor in graph.initializer:
            self.known[tensor.name] = array = self._array(tensor)
            self.names[id(array)] = tensor.name
        axes: dict[str, Axis] = {}
        inputs = [self._input(i, axes) for i in graph.input if i.name not in self.known]
        self.run(graph.node, self.known)
        outputs = []
        for output in graph.output:
            if output.name not in self.known:
                raise GraphError(f"output {output.name} of the file is made by nothing")
            found = self.known[output.name]
            if isinstance(found, Frames):
                raise GraphError(f"output {output.name} can't be read: frames beside a sequence")
            node = found.node if isinstance(found, Value) else self.constant(found)
            if not node.name:
                node.name = output.name
            elif node.name != output.name:
                node = ops.alias(node, name=output.name)
            outputs.append(node)
        return outputs, inputs

    def _array(self, tensor: Proto) -> np.ndarray:
        if math.prod(tensor.dims) > _MOST or tensor.data_location == 1:
            raise GraphError(f"array {tensor.name} of the file is too large, or in another file")
        return np.array(self.onnx.numpy_helper.to_array(tensor))

    def _input(self, info: Proto, axes: dict[str, Axis]) -> Input:
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type"):
            raise GraphError(f"input {info.name} is no tensor")
        dims = [
            d.dim_param or (d.dim_value if d.HasField("dim_value") else -1) for d in kind.shape.dim
        ]
        lead = 1 if dims else 0
        if self.is_ours:
            words = [str(d) for d in dims[:2]]
            lead = 2 if words[0:1] and words[0].startswith("frames") else int("batch" in words[:1])
        own: tuple[Axis, ...] = (BATCH,)[:lead]
        if lead == 2:
            name = str(dims[0])
            if name not in axes:
                plain = name.removeprefix("frames_of_")
                default = plain == SEQUENCE.name
                axes[name] = SEQUENCE if default else Axis.new_unique_dynamic_axis(plain)
            own = (BATCH, axes[name])
        shape = tuple(n if isinstance(n, int) and n > 0 else FREE for n in dims[lead:])
        types = {11: np.float64, 1: np.float32}
        node = Input(shape, own, types.get(kind.elem_type, np.float32), info.name)
        self.known[info.name] = Value(node, lead)
        return node

    @contextmanager
    def inside(self, known: dict[str, Known]) -> Iterator[None]:
        """Values of a loop's step are found while it is read."""
        outer, self.known = self.known, known
        try:
            yield
        finally:
            self.known = outer

    def run(self, nodes: Sequence[Proto], known: dict[str, Known]) -> None:
        """Reads operations, and enters their results."""
        from .onnx_reading import read_operation

        for node in nodes:
            title = f"operation {node.name or node.output[0]} of the file"
            missing = [i for i in node.input if i and i not in known]
            if missing:
                raise GraphError(f"{title} reads {missing[0]}, which nothing makes")
            helper = self.onnx.helper
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            values = [known[i] if i else None for i in node.input]
            at = At(node.op_type, values, attributes, self.version, self, title)
            if node.domain not in ("", "ai.onnx"):
                raise at.refused(f"of {node.domain} is none of ONNX's own")
            try:
                results = self._folded(node, at) or read_operation(at, len(node.output))
            except GraphError as error:
                problem = error.problem
                told = problem if problem.startswith(title) else f"{title} ({at.kind}): {problem}"
                raise GraphError(told) from None
            known.update((o, r) for o, r in zip(node.output, results, strict=False) if o)

    def _folded(self, node: Proto, at: At) -> list[Known] | None:
        """The results of what is computed from known arrays alone, by ONNX's own evaluator."""
        if not all(isinstance(v, np.ndarray) for v in at.values if v is not None):
            return None
        if at.kind in ("Shape", "Constant", "Dropout") or not node.output:
            return None
        if any(a.type in (5, 10) for a in node.attribute):  # it has graphs of its own
            return None
        given = [v for v in at.values if isinstance(v, np.ndarray)]
        if any(id(v) in self.names and v.dtype.kind == "f" and v.ndim for v in given):
            return None  # of parameters, which may learn
        from onnx.reference import ReferenceEvaluator

        helper = self.onnx.helper
        named = {i: v for i, v in zip(node.input, given, strict=False) if i}
        kinds = [
            helper.make_tensor_value_info(i, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for i, v in named.items()
        ]
        outputs = [helper.make_empty_tensor_value_info(o) for o in node.output if o]
        graph = helper.make_graph([node], "one", kinds, outputs)
        opset = [helper.make_opsetid("", self.version)]
        if at.kind in _GROWING and _size(at.kind, given) > _MOST:
            return None
        try:
            with np.errstate(all="ignore"):
                one = ReferenceEvaluator(helper.make_model(graph, opset_imports=opset))
                found = one.run(None, named)
        except Exception as error:
            raise at.refused(f"of constants fails: {str(error)[:120]}") from None
        return [np.asarray(f) for f in found]

    def constant(self, array: np.ndarray) -> Node:
        """The node of an array: a parameter if the file has it under a name."""
        found = self.constants.get(id(array))
        if found is not None:
            return found
        name = self.names.get(id(array), "")
        learned = name and array.dtype.kind == "f" and array.ndim
        if learned and not (self.is_ours and name.startswith("constant_")):
            dtype = array.dtype if array.dtype == np.float64 else np.dtype(np.float32)
            name = name.rpartition("_")[0] if self.is_ours else name  # a number makes it unique
            node: Node = Parameter(array.shape, dtype, lambda shape, dtype: array, name)
        else:
            node = fixed(array)
        self.constants[id(array)] = node
        return node

    def size_of(self, axes: tuple[Axis, ...]) -> int:
        """The number that stands for the rows along the last of these axes."""
        for number, known in self.sizes.items():
            if known == axes:
                return number
        number = _UNKNOWN - 7919 * (len(self.sizes) + 1)
        self.sizes[number] = axes
        return number

    def rows(self, sizes: Sequence[int]) -> tuple[Axis, ...]:
        """The axes that sizes at the front of a shape stand for."""
        found: tuple[Axis, ...] = ()
        for size in sizes:
            if size not in self.sizes:
                break
            found = max(found, self.sizes[size], key=len)
        return found


def fixed(array: np.ndarray) -> Constant:
    """An array of the file that does not learn; whole numbers and scalars take any type."""
    weak = array.dtype.kind in "iub" or not array.ndim
    return Constant(array.astype(np.float64).tolist() if weak else array)


def _size(kind: str, given: Sequence[np.ndarray]) -> float:
    """How many elements a result of `_GROWING` would have."""
    if kind == "Range":
        begin, end, step = (float(v) for v in given)
        return abs((end - begin) / step) if step else math.inf
    return float(np.prod(np.abs(given[-1]), dtype=float)) * (given[0].size if kind == "Tile" else 1)


def is_size(number: Any) -> bool:
    """Whether a number stands for a size that only data says, or was computed from one."""
    return bool(abs(int(number)) > 1 << 30)
