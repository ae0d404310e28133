"""What objects of PyTorch and Keras say of their weights, without importing either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..graph import GraphError
from ..graph.types import Data, Saved
from ..runtime.arrays import as_array, is_foreign, on_cpu, on_gpu
from .weight_layers import Layer, Pair
from .weight_layouts import Arrays

Source: TypeAlias = Any  # a module of PyTorch's, a model or layer of Keras', or a dict of arrays
Check = Callable[[Pair], None]  # refuses what two layers don't have in common


def torch_arrays(source: Source) -> Arrays:
    return {key: _numbers(key, value) for key, value in _state(source).items()}


def torch_targets(target: Source) -> Arrays:
    """The memory of a module's tensors, as arrays to write to."""
    return {key: _memory(key, value) for key, value in _state(target).items()}


def _state(source: Source) -> Mapping[str, Data]:
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        raise GraphError(
            f"weights are a module's state_dict(), got a {type(source).__name__}",
            hint="torch.load(path) gives one, or a dict that holds one",
        )
    return state


def _numbers(key: str, value: Data) -> np.ndarray:
    """A tensor, wherever it is, or an array, in the CPU's memory."""
    for step in ("detach", "cpu"):
        value = getattr(value, step)() if hasattr(value, step) else value
    try:
        array = np.asarray(on_cpu(value))
    except ValueError as error:
        raise GraphError(f"'{key}' is no array: {getattr(error, 'problem', error)}") from None
    if array.dtype.kind not in "fiub":
        raise GraphError(f"'{key}' is no array of numbers, got a {type(value).__name__}")
    return array


def _memory(key: str, value: Data) -> np.ndarray:
    known = isinstance(value, np.ndarray) or is_foreign(value) and on_gpu(value) is None
    array = as_array(value) if known else np.empty(())
    if not known or not array.flags.writeable or array.dtype.kind != "f" and array.ndim:
        raise GraphError(
            f"'{key}' can't be written to: it takes a tensor or an array of floating-point "
            "numbers, in the CPU's memory",
            hint="a module on a GPU: module.cpu(), then to_torch, then module.cuda()",
        )
    return array


def write_into(arrays: Arrays, values: Arrays) -> None:
    for key, value in values.items():
        arrays[key][...] = value


def torch_check(source: Source) -> Check:
    modules = dict(source.named_modules()) if hasattr(source, "named_modules") else {}

    def check(pair: Pair) -> None:
        kind, module = pair.layer.kind, modules.get(pair.prefix)
        if kind == "BatchNormalization" and module is not None:
            _refuse_other_epsilon(pair.layer, module.eps)
        elif kind in _WITH_GATES:
            _refuse_other_activation(pair.layer, "tanh")
        elif kind == "RNNStep" or hasattr(module, "nonlinearity"):
            known = getattr(module, "nonlinearity", None)  # a module's own, or one of both
            _refuse_other_activation(pair.layer, *([known] if known else ["tanh", "relu"]))

    return check


_WITH_GATES = ("LSTM", "GRU")
_COMPARED = {"tanh", "relu", "sigmoid"}  # activations that are operations by these names


def _refuse_other_activation(layer: Layer, *expected: str) -> None:
    gates = {"sigmoid"} if layer.kind in _WITH_GATES else set()
    if all(layer.operations & _COMPARED != gates | ({e} & _COMPARED) for e in expected):
        raise GraphError(
            f"{layer} has another activation than {' or '.join(expected)}, which it has there",
            hint=f"C.layers.{layer.kind}(…, activation=C.{expected[0]})",
        )


def _refuse_other_epsilon(layer: Layer, epsilon: float) -> None:
    if not any(c.value.size == 1 and np.isclose(c.value, epsilon, 1e-4) for c in layer.constants):
        raise GraphError(
            f"{layer} has another epsilon than {epsilon}, which is what it has there",
            hint=f"C.layers.BatchNormalization(…, epsilon={epsilon})",
        )


class KerasLayer(NamedTuple):
    weights: Arrays
    write: Callable[[list[np.ndarray]], None]
    kind: str | None  # of layer there, if it is known
    config: Saved


_KERAS_KINDS = {
    "Conv1D": "Convolution",
    "Conv2D": "Convolution",
    "Conv3D": "Convolution",
    "Conv1DTranspose": "ConvolutionTranspose",
    "Conv2DTranspose": "ConvolutionTranspose",
    "Conv3DTranspose": "ConvolutionTranspose",
    "SimpleRNN": "RNNStep",
    "ConvLSTM1D": "ConvolutionalLSTM",
    "ConvLSTM2D": "ConvolutionalLSTM",
    "ConvLSTM3D": "ConvolutionalLSTM",
    **{k: k for k in ("Dense", "Embedding", "BatchNormalization", "LSTM", "GRU")},
}


def flat(layers: Mapping[str, Arrays]) -> Arrays:
    return {f"{name}.{key}": a for name, own in layers.items() for key, a in own.items()}


def keras_layers(source: Source, to_write: bool = False) -> dict[str, KerasLayer]:
    found: dict[str, KerasLayer] = {}
    if isinstance(source, Mapping):
        for name, own in source.items():
            if not isinstance(own, Mapping):
                raise GraphError(
                    f"the weights of layer '{name}' are a dict by name, got a {type(own).__name__}"
                )
            read = _memory if to_write else _numbers
            arrays = {k: read(f"{name}/{k}", v) for k, v in own.items()}
            found[name] = KerasLayer(arrays, _writer(arrays), None, {})
        return found
    for layer in dict.fromkeys(_leaf_layers(source)):
        if not layer.weights:
            continue
        short = [w.name.rpartition("/")[2].partition(":")[0] for w in layer.weights]
        if layer.name in found or len(set(short)) < len(short):
            raise GraphError(f"Keras has several layers or weights named '{layer.name}'")
        arrays = dict(zip(short, layer.get_weights(), strict=True))
        kind = type(layer).__name__
        found[layer.name] = KerasLayer(arrays, layer.set_weights, kind, layer.get_config())
    return found


def _writer(arrays: Arrays) -> Callable[[list[np.ndarray]], None]:
    return lambda values: write_into(arrays, dict(zip(arrays, values, strict=True)))


def _leaf_layers(layer: Source) -> Iterator[Source]:
    """The layers of a model that have weights of their own."""
    if not hasattr(layer, "get_weights"):
        raise GraphError(f"this takes a model or a layer of Keras, got a {type(layer).__name__}")
    inner = list(getattr(layer, "layers", ()))
    for wrapped in ("forward_layer", "backward_layer", "layer"):
        inner += [getattr(layer, wrapped)] if hasattr(layer, wrapped) else []
    if not inner:
        yield layer
    for part in inner:
        yield from _leaf_layers(part)


def keras_check(source: Source) -> Check:
    layers = {} if isinstance(source, Mapping) else keras_layers(source)

    def check(pair: Pair) -> None:
        if pair.prefix not in layers:
            if pair.layer.kind == "GRU" and "bias" not in pair.keys:
                raise GraphError(
                    f"'{pair.prefix}' has no bias, which would say how its reset gate acts",
                    hint="give a bias of zeros, (3 n,) or with reset_after (2, 3 n)",
                )
            return
        kind, config = layers[pair.prefix].kind, layers[pair.prefix].config
        if _KERAS_KINDS.get(kind or "") != pair.layer.kind:
            raise GraphError(f"Keras's {kind} '{pair.prefix}' is no {pair.layer.kind}")
        gate = config.get("recurrent_activation", "sigmoid")
        if gate != "sigmoid" and "sigmoid" in pair.layer.operations:
            raise GraphError(
                f"Keras's {kind} '{pair.prefix}' has {gate} for its gates, {pair.layer} sigmoid",
                hint="a layer of Keras that was trained with recurrent_activation='sigmoid' can "
                "be taken over; for others write the step function, and set its parameters",
            )
        if pair.layer.kind in (*_WITH_GATES, "RNNStep"):
            _refuse_other_activation(pair.layer, str(config["activation"]))
        if kind == "GRU" and config.get("reset_after", False) != ("b1" in pair.layer.leaves):
            after = config.get("reset_after", False)
            raise GraphError(
                f"Keras's GRU '{pair.prefix}' has reset_after={after}, {pair.layer} has not",
                hint=f"make the layer with C.layers.GRU(…, reset_after={after})",
            )
        if kind == "BatchNormalization":
            _refuse_other_epsilon(pair.layer, config["epsilon"])

    return check
