"""Copies the weights of layers, by name, from and to PyTorch and Keras.

Layers correspond by name: `C.layers.Dense(10, name="fc")` takes `fc.weight` and `fc.bias`. The
order of gates and axes is converted, and two biases are added up. Weights without an exact
counterpart raise an error that names them. Neither library is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ..graph import GraphError, Stored
from ..ops.records import as_node
from . import weight_layouts as layouts
from .weight_layers import Layer, Names, layers_of, pairs_of
from .weight_layouts import Arrays
from .weight_sources import (
    Check,
    Source,
    flat,
    keras_check,
    keras_layers,
    torch_arrays,
    torch_check,
    torch_targets,
    write_into,
)

if TYPE_CHECKING:
    from ..graph.node import Node
    from ..model.function import Function


def from_torch(
    function: Function, source: Source, names: Names = None, strict: bool = True
) -> None:
    """Sets a function's parameters to the weights of a PyTorch module.

    The layers are `Dense` (Linear), `Convolution`, `ConvolutionTranspose`, `Embedding`,
    `BatchNormalization`, `LSTM`, `GRU(…, reset_after=True)`, `RNNStep` and `ConvolutionalLSTM`.
    For `torch.nn.LSTM` and the like with several layers or directions there is one layer each:
    "rnn_l0", "rnn_l0_reverse", "rnn_l1", … `optimized_rnnstack` takes all of them at once. A
    parameter outside of layers takes the array with the same name and shape.

    Args:
        function: a function with known shapes, so it must have been applied to an input.
        source: a module, its `state_dict()`, or a dict of arrays with the same keys.
        names: a dict from PyTorch's names to layers of the function (or their names), where they
            differ. A model of a single layer needs no name.
        strict: whether all weights must be used, and all parameters set.

    Raises:
        GraphError: a layer or an array has no counterpart, or shapes differ. No parameter is
            changed then.

    >>> x = C.input_variable(3)
    >>> f = C.layers.Dense(2, name="fc")(x)
    >>> C.weights.from_torch(f, {"fc.weight": [[1, 2, 3], [4, 5, 6]], "fc.bias": [10, 20]})
    >>> f.eval({x: [[1, 1, 1]]})
    array([[16., 35.]], dtype=float32)
    """
    _read("torch", function, torch_arrays(source), names, strict, torch_check(source))


def to_torch(function: Function, target: Source, names: Names = None, strict: bool = True) -> None:
    """Writes a function's parameters into a PyTorch module: the inverse of `from_torch`.

    Args:
        target: the module to write to, in the CPU's memory, its `state_dict()`, or a dict of NumPy
            arrays with the same keys.
        names, strict: as for `from_torch`.

    >>> f = C.layers.Dense(2, init_bias=3, name="fc")(C.input_variable(3))
    >>> state = {"fc.weight": np.zeros((2, 3)), "fc.bias": np.zeros(2)}
    >>> C.weights.to_torch(f, state)
    >>> state["fc.bias"]
    array([3., 3.])
    """
    arrays = torch_targets(target)
    found = _written("torch", function, arrays, names, strict, torch_check(target))
    write_into(arrays, found)


def from_keras(
    function: Function, source: Source, names: Names = None, strict: bool = True
) -> None:
    """Sets a function's parameters to the weights of a Keras model or layer; see `from_torch`.

    The layers are `Dense`, `Convolution` (Conv1D to Conv3D), `ConvolutionTranspose`, `Embedding`,
    `BatchNormalization` (with Keras's epsilon), `LSTM`, `GRU` (with the same reset_after),
    `RNNStep` (SimpleRNN), and blocks of the kind "ConvolutionalLSTM" (ConvLSTM1D to ConvLSTM3D).
    For `Bidirectional` there are two layers, with the names of Keras. Images are channels-first; a
    `Dense` applied to images corresponds to `Flatten` and `Dense` in Keras.

    Args:
        source: a model or a layer, or a dict from names of layers to dicts from names of weights
            to arrays, such as an open HDF5 file.
        names, strict: as for `from_torch`.

    >>> x = C.input_variable(2)
    >>> f = C.layers.Dense(1, name="out")(x)
    >>> C.weights.from_keras(f, {"out": {"kernel": [[1], [2]], "bias": [3]}})
    >>> f.eval({x: [[1, 1]]})
    array([[6.]], dtype=float32)
    """
    layers = {name: layer.weights for name, layer in keras_layers(source).items()}
    _read("keras", function, flat(layers), names, strict, keras_check(source))


def to_keras(function: Function, target: Source, names: Names = None, strict: bool = True) -> None:
    """Writes a function's parameters into a Keras model or layer: the inverse of `from_keras`.

    Args:
        target: the model or layer to write to, which must be built, or a dict of dicts of NumPy
            arrays.
        names, strict: as for `from_torch`.

    >>> f = C.layers.Dense(2, init_bias=3, name="out")(C.input_variable(1))
    >>> there = {"out": {"kernel": np.zeros((1, 2)), "bias": np.zeros(2)}}
    >>> C.weights.to_keras(f, there)
    >>> there["out"]["bias"]
    array([3., 3.])
    """
    layers = keras_layers(target, to_write=True)
    arrays = flat({name: layer.weights for name, layer in layers.items()})
    found = _written("keras", function, arrays, names, strict, keras_check(target))
    for name, layer in layers.items():
        layer.write([found.get(f"{name}.{key}", array) for key, array in layer.weights.items()])


# Reading and writing


def _read(
    framework: str, function: Function, theirs: Arrays, names: Names, strict: bool, check: Check
) -> None:
    layers = layers_of(function)
    found: dict[Stored, np.ndarray] = {}
    used: set[str] = set()
    for pair in pairs_of(framework, layers, theirs, names):
        check(pair)
        layer = pair.layer
        own = {short: theirs[k] for short, k in pair.keys.items()}
        shapes = {name: leaf.shape for name, leaf in layer.leaves.items()}
        with _blamed(layer, pair.prefix):
            arrays = layouts.to_ours(framework, layer.kind, own, shapes, layer.parts)
            missing = sorted(set(layer.leaves) - set(arrays))
            if missing:
                raise GraphError(f"there is no counterpart of its {', '.join(missing)}")
            for name, array in arrays.items():
                if name in layer.leaves:
                    found[layer.leaves[name]] = _fitted(array, shapes[name], layer.kind, name)
                elif name != "aggregate_count" and array.any():
                    raise GraphError(f"it has no parameter for {name}, which is not 0")
        used |= set(pair.keys.values())
    for key, leaf in _by_own_name(function, theirs, used, found).items():
        found[leaf] = _fitted(theirs[key], leaf.shape, "", key)
        used.add(key)
    if strict:
        _refuse_rest(function, layers, set(theirs) - used, set(found))
    for leaf, array in found.items():
        leaf.value = array


def _written(
    framework: str, function: Function, theirs: Arrays, names: Names, strict: bool, check: Check
) -> Arrays:
    layers = layers_of(function)
    found: Arrays = {}
    done: set[Stored] = set()
    for pair in pairs_of(framework, layers, theirs, names):
        check(pair)
        layer = pair.layer
        shapes = {short: theirs[k].shape for short, k in pair.keys.items()}
        with _blamed(layer, pair.prefix):
            arrays = layouts.from_ours(framework, layer.kind, layer.values(), shapes, layer.parts)
            for short, array in arrays.items():
                found[pair.keys[short]] = _fitted(array, shapes[short], "", short)
        found.update((k, theirs[k]) for k in pair.keys.values() if k not in found)
        done |= set(layer.leaves.values())
    for key, leaf in _by_own_name(function, theirs, set(found), done).items():
        found[key] = _fitted(leaf.value, theirs[key].shape, "", key)
        done.add(leaf)
    if strict:
        _refuse_rest(function, layers, set(theirs) - set(found), done)
    return found


@contextmanager
def _blamed(layer: Layer, prefix: str) -> Iterator[None]:
    """Says of errors inside which layer they are about."""
    try:
        yield
    except (ValueError, IndexError) as error:
        there = f", which is '{prefix}' there" if prefix else ""
        problem, hint = f"the weights there have other axes ({error})", ""
        if isinstance(error, GraphError):
            problem, hint = error.problem, error.hint
        raise GraphError(f"{layer}{there}: {problem}", hint=hint) from None


def _fitted(array: np.ndarray, shape: tuple[int, ...], kind: str, name: str) -> np.ndarray:
    """The array in this shape: axes of one may be missing, those of a flattened input be one."""
    own = [n for n in array.shape if n != 1]
    flat = kind == "Dense" and name == "W" and array.shape[-1:] == shape[-1:]
    if array.size == np.prod(shape) and (flat or own == [n for n in shape if n != 1]):
        return array.reshape(shape)
    raise GraphError(f"{name} has shape {shape}, got an array of shape {array.shape}")


def _by_own_name(
    function: Function, theirs: Arrays, used: set[str], done: Iterable[Stored]
) -> dict[str, Stored]:
    """Parameters of no layer, by their name there."""
    found: dict[str, list[Stored]] = {}
    for leaf in map(as_node, (*function.parameters, *function.constants)):
        if isinstance(leaf, Stored) and leaf not in done and leaf.name in theirs:
            found.setdefault(leaf.name, []).append(leaf)
    return {k: v[0] for k, v in found.items() if len(v) == 1 and k not in used}


def _refuse_rest(
    function: Function, layers: list[Layer], unused: set[str], done: set[Stored]
) -> None:
    in_layer: dict[Node, str] = {
        leaf: f"{layer}: {name}" for layer in layers for name, leaf in layer.leaves.items()
    }
    leaves = [as_node(p) for p in function.parameters]
    unset = [in_layer.get(p, f"'{p.name}'") for p in leaves if p not in done]
    if unused or unset:
        raise GraphError(
            "not all weights have a counterpart\n"
            f"  only there: {', '.join(sorted(unused)[:10]) or 'nothing'}\n"
            f"  only here: {', '.join(unset[:10]) or 'nothing'}",
            hint="layers correspond by name, C.layers.Dense(3, name='fc'), or by names={"
            "other name: layer}; strict=False ignores weights without a counterpart",
        )


__all__ = ["from_keras", "from_torch", "to_keras", "to_torch"]
