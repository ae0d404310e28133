"""Reads what CNTK 2 saved of a `Trainer`: a model, and beside it what learners keep."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..graph import GraphError
from ..graph.types import Saved
from .cntk_dictionary import of_cntk, read

if TYPE_CHECKING:
    from ..model.function import Function

# What a learner keeps of each parameter here, by its rule, in the order in which CNTK's has it.
_KEPT: dict[str, tuple[str, ...]] = {
    "sgd": (), "momentum": ("v",), "nesterov": ("v",), "adagrad": ("s",),
    "adadelta": ("s", "moved"), "rmsprop": ("s", "sign", "scale"), "fsadagrad": ("s", "v"),
    "adam": ("s", "v"), "adamax": ("s", "v"),
}  # fmt: skip
SOURCE = "TrainingMinibatchSource"  # what a session calls the place in its data
_COUNTED = {"fsadagrad": float, "adam": int, "adamax": int}


class Checkpoint(NamedTuple):
    """What the two files hold.

    Attributes:
        model: the model, the loss and the metric, and sums of the latter two.
        learners: of each what its file says.
        external: what the program kept with it.
    """

    model: Function
    learners: list[Saved]
    external: Saved


def load(filename: str | os.PathLike[str]) -> Checkpoint | None:
    """What the files hold; None if CNTK did not write the first.

    Raises `GraphError` for files that are broken, and where the second is missing.
    """
    model, second = of_cntk(filename), f"{os.fspath(filename)}.ckp"
    if model is None:
        return None
    if not os.path.isfile(second):
        raise GraphError(
            f"{second}, the second file of CNTK's checkpoint {os.fspath(filename)}, is missing",
            hint="copy both files of a checkpoint; C.load_model reads only the model in the first",
        )
    from . import cntk  # it imports SciPy, which only these files need

    with open(second, "rb") as file:
        found = read(file.read())
    if not isinstance(found.get("Learners"), list):
        raise GraphError(f"{second} contains no learners of CNTK")
    return Checkpoint(cntk.load(model), found["Learners"], found.get("ExternalState") or {})


def learner_state(found: Saved, own: Saved, shapes: Sequence[tuple[int, ...]]) -> dict[str, object]:
    """A learner's checkpoint as ours are.

    Args:
        found: of CNTK's learner.
        own: what `Learner.create_checkpoint` gives for the learner that is to go on.
        shapes: of its parameters, in their order.

    Raises:
        GraphError: it is of another learner, or of other parameters.
    """
    rule = own["rule"]
    if rule not in _KEPT:
        raise GraphError(f"CNTK's checkpoints have nothing for a learner by {rule}")
    arrays = found["smoothed_gradients"]
    if len(arrays) != len(shapes):
        raise GraphError(
            f"the learner has {len(shapes)} parameters, but the file has {len(arrays)}"
        )
    fresh = not found["minibatchCount"]
    states = [{} if fresh else _state(rule, a, s) for a, s in zip(arrays, shapes, strict=True)]
    if rule in _COUNTED and not fresh:
        count = _COUNTED[rule](found["smoothed_count"])
        states = [{**state, "count": count} for state in states]
    return {
        **own,
        "samples": int(found["sample_count"]),
        "minibatches": int(found["minibatchCount"]),
        "sweeps": int(found.get("sweepCount", 0)),
        "rate": _schedule(found["learnig_rate_schedule"]),  # CNTK's spelling
        "state": states,
    }


def _state(rule: str, array: np.ndarray, shape: tuple[int, ...]) -> dict[str, object]:
    """What is kept of a parameter: CNTK has it as one array, one part behind the other."""
    names = _KEPT[rule]
    size = int(np.prod(shape))
    if names and array.size != len(names) * size:
        raise GraphError(
            f"the file holds {array.size} numbers for a parameter of shape {shape}, a learner by "
            f"{rule} keeps {len(names) * size}",
            hint="check that the learner and the model are those of the checkpoint",
        )
    parts = array.reshape(len(names), *shape) if names else ()
    return dict(zip(names, parts, strict=True))


def _schedule(found: Saved) -> dict[str, object]:
    """As `Schedule.state` gives it. Versions before 2.2 say a unit in place of a minibatch size."""
    size = found.get("ref_mb_size", 0 if found.get("unit") else 1)
    steps = sorted((int(end), value) for end, value in found["schedule"].items())
    return {
        "is_minibatch_size_explicitly_specified": True,
        "minibatch_size": int(size),
        "epoch_size": int(found["epoch_size"]) or None,
        "values": [value for _, value in steps],
        "ends": [end for end, _ in steps],
    }
