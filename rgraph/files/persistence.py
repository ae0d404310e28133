"""Saves and loads functions: a safetensors file with the arrays, and the graph as JSON."""

from __future__ import annotations

import enum
import io
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..graph import GraphError
from ..graph.context import context
from ..graph.node import describe
from ..ops.user import UserOperation
from . import archives
from .cntk_dictionary import of_cntk
from .graph_format import Reader, Writer, described

if TYPE_CHECKING:
    from ..device import DeviceDescriptor
    from ..model.function import Function


class ModelFormat(enum.Enum):
    """The format of a saved model: rgraph's own, under the name of CNTK's own, or ONNX.

    >>> C.ModelFormat.CNTKv2.value
    0
    """

    CNTKv2 = 0
    ONNX = 1


def _own_format(model_format: ModelFormat | None) -> None:
    if model_format not in (None, ModelFormat.CNTKv2):
        raise GraphError(
            f"the format {getattr(model_format, 'name', model_format)} is not supported",
            hint="leave out format to use rgraph's own format",
        )


def save(
    function: Function,
    filename: str | os.PathLike[str],
    format: ModelFormat | None = ModelFormat.CNTKv2,
) -> None:
    """Saves a function: see `Function.save`."""
    if format is ModelFormat.ONNX:
        from .onnx_export import export  # imported only to write ONNX

        outputs = [o.node for o in function.outputs]
        names = [n.name or f"output{i}" for i, n in enumerate(outputs)]
        export(outputs, [n + "_" * names[:i].count(n) for i, n in enumerate(names)], filename)
        return
    _own_format(format)
    writer = Writer([*function._current(), *function._declared()])
    archives.write(filename, "graph", described(function, writer), writer.arrays, writer.names)


def register_udf_deserialize_callback(
    op_name: str, callback: Callable[[Sequence[Any], str, Any], UserOperation]
) -> None:
    """Registers `callback(inputs, name, state)`, which makes a saved `UserFunction` when loaded.

    Args:
        op_name: the `op_name` of the function in the file.

    Source: CNTK's `Function.register_udf_deserialize_callback`.

    >>> C.register_udf_deserialize_callback("gone.Twice", lambda inputs, name, state: inputs[0] * 2)
    """
    context().user_loaders[op_name] = callback


def load_model(
    model: str | os.PathLike[str] | bytes,
    device: DeviceDescriptor | None = None,
    format: ModelFormat | None = ModelFormat.CNTKv2,
) -> Function:
    """Loads a function that `Function.save` saved in rgraph or in CNTK 2 (requires protobuf), or an
    ONNX model (requires onnx).

    In an ONNX model, the first axis of each input is the batch, and arrays are parameters.

    Args:
        model: the name of a file, or its content as bytes.
        device: accepted for compatibility with CNTK, without effect.
        format: as for `Function.save`; files with the extension .onnx are read as ONNX.

    Raises:
        GraphError: the file has another format, or contains an unknown operation.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model")
    ...     C.layers.Dense(3)(C.input_variable(2)).save(path)
    ...     C.load_model(path).shape
    (3,)
    """
    if format is ModelFormat.ONNX or _is_onnx(model):
        from . import onnx_import  # imported only to read ONNX

        return onnx_import.function(_content(model))
    _own_format(format)
    source = io.BytesIO(model) if isinstance(model, (bytes, bytearray)) else model
    content = of_cntk(model)
    if content is not None:
        from . import cntk  # imported only to read CNTK's models

        return cntk.load(content)
    with archives.read(source, "graph", "holds no saved function") as (graph, arrays):
        reader = Reader(graph, arrays)
    return reader.function()


def _is_onnx(model: str | os.PathLike[str] | bytes) -> bool:
    return not isinstance(model, (bytes, bytearray)) and str(os.fspath(model)).endswith(".onnx")


def _content(model: str | os.PathLike[str] | bytes) -> bytes:
    if isinstance(model, (bytes, bytearray)):
        return bytes(model)
    with open(model, "rb") as file:
        return file.read()


def restore(function: Function, filename: str | os.PathLike[str]) -> None:
    """Restores the values of a function from a saved copy: see `Function.restore`."""
    other = load_model(filename)
    own = [*function.parameters, *function.constants]
    saved = [*other.parameters, *other.constants]
    if [v.shape for v in own] != [v.shape for v in saved]:
        raise GraphError(
            f"{filename} contains a different function:\n"
            + "\n".join(f"  here {describe(v.node)}" for v in own)
            + "\n".join(f"  there {describe(v.node)}" for v in saved)
        )
    for mine, its in zip(own, saved, strict=True):
        mine.value = its.value


__all__ = ["load_model", "register_udf_deserialize_callback", "restore", "save"]
