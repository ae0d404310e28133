"""How PyTorch and Keras lay out the weights of layers, as tables.

Between their arrays and ours stands one form: `W` for the input, `H` for the state, `P` for a
projection, `b` and `rb` for the two biases, with the axes as ours and the gates in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..graph import GraphError

Arrays = dict[str, np.ndarray]

# The gates' order: i, f, o input, forget, output; c the new value of an LSTM. z, r update, reset;
# n the new value of a GRU.
OURS = {"LSTM": "icfo", "GRU": "zrn", "RNNStep": "n", "ConvolutionalLSTM": "icfo"}
GATES = {
    "torch": {"LSTM": "ifco", "GRU": "rzn", "RNNStep": "n", "ConvolutionalLSTM": "ifoc"},
    "keras": {"LSTM": "ifco", "GRU": "zrn", "RNNStep": "n", "ConvolutionalLSTM": "ifco"},
}

# What a layer's parameters may be called; those in brackets it may lack.
PARAMETERS = {
    "Dense": "W [b]",
    "Convolution": "W [b]",
    "ConvolutionTranspose": "W [b]",
    "Embedding": "E",
    "BatchNormalization": "scale bias aggregate_mean aggregate_variance aggregate_count",
    "LSTM": "b W H [P]",
    "GRU": "b W H H1 [b1]",
    "RNNStep": "b W H",
    "ConvolutionalLSTM": "W H [b]",
    "OptimizedRNNStack": "weights",
}
STACK = "OptimizedRNNStack"  # all weights in one parameter, as cuDNN and PyTorch order them


class Axes(NamedTuple):
    """How an array of theirs is turned into one of ours, and back."""

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


SAME = Axes(lambda a: a, lambda a: a)
TRANSPOSED = Axes(lambda a: a.T, lambda a: a.T)
# (*size, in, out) there, (out, in, *size) here; of a transposed convolution (*size, out, in) and
# (in, out, *size)
CHANNELS_LAST = Axes(
    lambda a: np.moveaxis(a, (-1, -2), (0, 1)), lambda a: np.moveaxis(a, (0, 1), (-1, -2))
)

# By kind of layer: what is called so there, what it is here.
Table = Mapping[str, Mapping[str, tuple[str, Axes]]]
_BOTH = {"weight": ("W", SAME), "bias": ("b", SAME)}
_CELL = {
    "weight_ih": ("W", TRANSPOSED),
    "weight_hh": ("H", TRANSPOSED),
    "bias_ih": ("b", SAME),
    "bias_hh": ("rb", SAME),
}
_KERNEL = {"kernel": ("W", SAME), "bias": ("b", SAME)}
_KERNELS = {"kernel": ("W", CHANNELS_LAST), "bias": ("b", SAME)}
_RECURRENT = {**_KERNEL, "recurrent_kernel": ("H", SAME)}
TABLES: dict[str, Table] = {
    "torch": {
        "Dense": {"weight": ("W", TRANSPOSED), "bias": ("b", SAME)},
        "Convolution": _BOTH,
        "ConvolutionTranspose": _BOTH,
        "Embedding": {"weight": ("E", SAME)},
        "BatchNormalization": {
            "weight": ("scale", SAME),
            "bias": ("bias", SAME),
            "running_mean": ("aggregate_mean", SAME),
            "running_var": ("aggregate_variance", SAME),
            "num_batches_tracked": ("aggregate_count", SAME),
        },
        "LSTM": {**_CELL, "weight_hr": ("P", TRANSPOSED)},
        "GRU": _CELL,
        "RNNStep": _CELL,
        "ConvolutionalLSTM": {"conv.weight": ("WH", SAME), "conv.bias": ("b", SAME)},
    },
    "keras": {
        "Dense": _KERNEL,
        "Convolution": _KERNELS,
        "ConvolutionTranspose": _KERNELS,
        "Embedding": {"embeddings": ("E", SAME)},
        "BatchNormalization": {
            "gamma": ("scale", SAME),
            "beta": ("bias", SAME),
            "moving_mean": ("aggregate_mean", SAME),
            "moving_variance": ("aggregate_variance", SAME),
        },
        "LSTM": _RECURRENT,
        "GRU": _RECURRENT,
        "RNNStep": _RECURRENT,
        "ConvolutionalLSTM": {**_KERNELS, "recurrent_kernel": ("H", CHANNELS_LAST)},
    },
}


def parameters(kind: str) -> tuple[set[str], set[str]]:
    """What a layer of this kind has, and what it may have."""
    names = PARAMETERS[kind].split()
    needed = {n for n in names if n[0] != "["}
    return needed, needed | {n.strip("[]") for n in names}


def regated(array: np.ndarray, order: str, wanted: str, axis: int = -1) -> np.ndarray:
    """The parts of an array, one for each gate along an axis, in another order.

    Raises:
        GraphError: the axis can't be divided, or the orders name different gates.
    """
    if sorted(order) != sorted(wanted):
        raise GraphError(f"{order!r} and {wanted!r} are not the same gates in two orders")
    if array.shape[axis] % len(order):
        raise GraphError(f"an axis of {array.shape[axis]} is not one of {len(order)} gates")
    parts = np.split(array, len(order), axis)
    return np.concatenate([parts[order.index(g)] for g in wanted], axis)


def to_ours(
    framework: str,
    kind: str,
    theirs: Arrays,
    shapes: Mapping[str, tuple],
    parts: Mapping[str, tuple] = MappingProxyType({}),
) -> Arrays:
    """A layer's own arrays, from another framework's; `parts` are a stack's."""
    _refuse_unknown(framework, kind)
    if kind == STACK:
        return {"weights": _stacked(theirs, parts).reshape(shapes["weights"])}
    theirs = _gates_joined(theirs) if kind == "ConvolutionalLSTM" else theirs
    table = TABLES[framework][kind]
    _refuse_others(theirs, table, f"{framework}'s weights of a {kind}")
    found = {table[k][0]: table[k][1].ours(np.asarray(v)) for k, v in theirs.items()}
    if kind not in OURS:
        return _plain_to_ours(framework, kind, found, shapes)
    if "WH" in found:  # PyTorch's convolutions of frame and state together
        inputs = shapes["W"][1]
        found["W"], found["H"] = np.split(found.pop("WH"), [inputs], 1)
    if found.get("b", np.empty(0)).ndim == 2:  # Keras's GRU with reset_after
        found["b"], found["rb"] = found["b"]
    for missing in {"W", "H"} - set(found):
        raise GraphError(f"{framework}'s weights of a {kind} lack what is {missing} here")
    axis = 0 if kind == "ConvolutionalLSTM" else -1
    order = GATES[framework][kind]
    found = {k: v if k == "P" else regated(v, order, OURS[kind], axis) for k, v in found.items()}
    size = found["W"].shape[axis]
    own, before = found.pop("b", np.zeros(size)), found.pop("rb", None)
    if kind == "GRU":
        known = framework == "torch" or "bias" in theirs
        there = framework == "torch" or before is not None
        _refuse_other_reset(there if known else None, "b1" in shapes)
        return _gru_to_ours(found, own, before, "b1" in shapes)
    found["b"] = own if before is None else own + before
    return found


def from_ours(
    framework: str,
    kind: str,
    ours: Arrays,
    theirs: Mapping[str, tuple],
    parts: Mapping[str, tuple] = MappingProxyType({}),
) -> Arrays:
    """Another framework's arrays of these names and shapes, from a layer's own."""
    _refuse_unknown(framework, kind)
    if kind == STACK:
        return _unstacked(ours["weights"], theirs, parts)
    found = dict(ours)
    theirs = {k: v for k, v in theirs.items() if k != "num_batches_tracked"}  # no samples
    apart = kind == "ConvolutionalLSTM" and _are_gates_apart(theirs)
    table = TABLES[framework][kind]
    if kind in OURS:
        found = _recurrent_from_ours(framework, kind, found, theirs)
    else:
        _plain_from_ours(framework, kind, found, theirs)
    if apart:
        return _gates_parted(found, theirs)
    _refuse_others(theirs, table, f"{framework}'s weights of a {kind}")
    for name, array in found.items():
        there = [k for k in theirs if table[k][0] == name]
        neutral = 1 if name in ("scale", "aggregate_variance") else 0
        if not there and name != "aggregate_count" and (array != neutral).any():
            raise GraphError(
                f"{framework}'s {kind} has no place for {name}, which is not {neutral}"
            )
    return {k: table[k][1].theirs(found[table[k][0]]) for k in theirs}


def _refuse_unknown(framework: str, kind: str) -> None:
    if kind != STACK and kind not in TABLES[framework] or kind == STACK and framework != "torch":
        raise GraphError(f"{framework} has no counterpart of a {kind}")


def _stacked(theirs: Arrays, parts: Mapping[str, tuple]) -> np.ndarray:
    _refuse_others(theirs, parts, "the weights of this stack")
    _refuse_others(_needed(theirs, parts), theirs, "what there is of this stack's weights")
    for name, array in theirs.items():
        if array.shape != parts[name]:
            raise GraphError(f"{name} has shape {array.shape} there, {parts[name]} here")
    every = [np.ravel(theirs.get(name, np.zeros(shape))) for name, shape in parts.items()]
    return np.concatenate(every)


def _unstacked(weights: np.ndarray, theirs: Mapping[str, tuple], parts: Mapping) -> Arrays:
    _refuse_others(theirs, parts, "the weights of this stack")
    _refuse_others(_needed(theirs, parts), theirs, "what there is of this stack's weights")
    ends = np.cumsum([int(np.prod(shape)) for shape in parts.values()])
    cut = np.split(weights.ravel(), ends[:-1])
    found = {k: a.reshape(shape) for a, (k, shape) in zip(cut, parts.items(), strict=True)}
    if any(array.any() for name, array in found.items() if name not in theirs):
        raise GraphError("there is no place for biases there, and here they are not 0")
    return {name: found[name] for name in theirs}


def _needed(theirs: Iterable[str], parts: Iterable[str]) -> list[str]:
    """The names of a stack's weights; without biases if there are none."""
    biases = any(name.startswith("bias") for name in theirs)
    return [name for name in parts if biases or not name.startswith("bias")]


def _refuse_others(names: Iterable[str], known: Iterable[str], whose: str) -> None:
    others = sorted(set(names) - set(known))
    if others:
        raise GraphError(
            f"{', '.join(others[:5])}: not among {whose}", hint=f"they are {', '.join(known)}"
        )


def _plain_to_ours(framework: str, kind: str, found: Arrays, shapes: Mapping[str, tuple]) -> Arrays:
    if kind == "BatchNormalization":
        tracked = found.pop("aggregate_count", np.ones(()))
        found["aggregate_count"] = np.maximum(tracked, 1)  # 0 says that nothing is known yet
        size = shapes["aggregate_mean"]
        found.setdefault("scale", np.ones(size))
        found.setdefault("bias", np.zeros(size))
    elif kind == "Dense" and len(shapes["W"]) > 2 and framework == "keras":
        channels, size, out = (
            shapes["W"][0],
            shapes["W"][1:-1],
            shapes["W"][-1],
        )  # Keras flattens images with their channels last
        # Keras flattens images with their channels last
        if found["W"].shape == (channels * int(np.prod(size)), out):
            found["W"] = np.moveaxis(found["W"].reshape(*size, channels, out), -2, 0)
    if "b" in shapes and "W" in found:
        found.setdefault("b", np.zeros(shapes["b"]))
    return found


def _plain_from_ours(framework: str, kind: str, found: Arrays, theirs: Mapping[str, tuple]) -> None:
    if kind == "Dense":
        W = found["W"]
        if W.ndim > 2:
            W = np.moveaxis(W, 0, -2) if framework == "keras" else W
            found["W"] = W.reshape(-1, W.shape[-1])
    if "W" in found and "bias" in theirs:
        found.setdefault("b", np.zeros(theirs["bias"]))


def _refuse_other_reset(there: bool | None, here: bool) -> None:
    """A GRU whose reset gate acts otherwise; None: it was looked at before, in the layer itself."""
    if there is not None and there != here:
        acts = ["on the state itself", "on the state's product"]
        raise GraphError(
            f"the reset gate acts {acts[there]} there, {acts[here]} here",
            hint=f"make the layer with C.layers.GRU(…, reset_after={there})",
        )


def _gru_to_ours(found: Arrays, own: np.ndarray, before: np.ndarray | None, after: bool) -> Arrays:
    size = own.size // 3
    H = found.pop("H")
    found["H"], found["H1"] = H[:, : 2 * size], H[:, 2 * size :]
    if after:
        before = np.zeros_like(own) if before is None else before
        own = own + np.concatenate([before[: 2 * size], np.zeros(size)])
        found["b1"] = before[2 * size :]
    found["b"] = own
    return found


def _recurrent_from_ours(
    framework: str, kind: str, found: Arrays, theirs: Mapping[str, tuple]
) -> Arrays:
    if kind == "GRU":
        known = framework == "torch" or "bias" in theirs
        there = framework == "torch" or len(theirs.get("bias", ())) == 2
        _refuse_other_reset(there if known else None, "b1" in found)
        found["H"] = np.concatenate([found["H"], found.pop("H1")], -1)
        b1 = found.pop("b1", None)
        if b1 is not None:
            found["rb"] = np.concatenate([np.zeros(2 * b1.size), b1])
    size = found["W"].shape[0 if kind == "ConvolutionalLSTM" else -1]
    found["b"] = np.zeros(size) if "b" not in found else found["b"].reshape(-1)
    if framework == "torch" and kind != "ConvolutionalLSTM":
        found.setdefault("rb", np.zeros(size))
    axis = 0 if kind == "ConvolutionalLSTM" else -1
    order = GATES[framework][kind]
    found = {k: v if k == "P" else regated(v, OURS[kind], order, axis) for k, v in found.items()}
    if framework == "keras" and "rb" in found:  # a GRU's, with reset_after
        found["b"] = np.stack([found["b"], found.pop("rb")])
    if "conv.weight" in theirs:
        found["WH"] = np.concatenate([found.pop("W"), found.pop("H")], 1)
    return found


def _are_gates_apart(names: Iterable[str]) -> bool:
    """Whether each gate has convolutions of its own: Wxi.weight, Whi.weight, Wxf.weight, …"""
    return any(n.startswith("Wx") for n in names)


def _gates_joined(theirs: Arrays) -> Arrays:
    if not _are_gates_apart(theirs):
        return theirs
    expected = {f"Wx{g}.{p}" for g in "ifoc" for p in ("weight", "bias")}
    expected |= {f"Wh{g}.weight" for g in "ifoc"}
    _refuse_others(theirs, expected, "the convolutions of a ConvLSTM's gates")
    _refuse_others(expected, theirs, "what was given of a ConvLSTM's gates")
    joined = {
        part: np.concatenate([np.asarray(theirs[f"W{part[0]}{g}.{part[1:]}"]) for g in "ifoc"])
        for part in ("xweight", "hweight", "xbias")
    }
    return {
        "conv.weight": np.concatenate([joined["xweight"], joined["hweight"]], 1),
        "conv.bias": joined["xbias"],
    }


def _gates_parted(found: Arrays, theirs: Mapping[str, tuple]) -> Arrays:
    whole = {"x.weight": found["W"], "h.weight": found["H"], "x.bias": found["b"]}
    parts = {
        f"W{k[0]}{g}{k[1:]}": part
        for k, array in whole.items()
        for g, part in zip("ifoc", np.split(array, 4), strict=True)
    }
    _refuse_others(theirs, parts, "the convolutions of a ConvLSTM's gates")
    return {k: parts[k] for k in theirs}
