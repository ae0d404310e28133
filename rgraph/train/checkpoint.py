"""A state of numbers, strings and arrays in a file: NumPy's own format, without pickled objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..files import archives

_ARRAY, _TUPLE = "__array__", "__tuple__"


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    """`value` as JSON has it, its arrays set aside."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufcSU":
            raise ValueError(f"an array of type {value.dtype} can't be saved")
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return {_TUPLE: [_packed(v, arrays) for v in value]}
    if isinstance(value, list):
        return [_packed(v, arrays) for v in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key in (_ARRAY, _TUPLE):
                raise ValueError(f"a key of a saved dict must be a string of its own, got {key!r}")
        return {k: _packed(v, arrays) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"a checkpoint holds numbers, strings, arrays, and lists and dicts of these; "
        f"{value!r:.60} is none of them"
    )


def _unpacked(value: Any, arrays: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(v, arrays) for v in value]
    if isinstance(value, dict):
        if _ARRAY in value:
            return arrays[f"array{value[_ARRAY]}"]
        if _TUPLE in value:
            return tuple(_unpacked(v, arrays) for v in value[_TUPLE])
        return {k: _unpacked(v, arrays) for k, v in value.items()}
    return value


def save_state(filename: str, state: Any) -> None:
    """Writes a state to a file, which is replaced only when the new one is complete.

    Args:
        state: numbers, strings, None, arrays, and lists, tuples and dicts of these.

    Raises `ValueError` for anything else.
    """
    arrays: list[np.ndarray] = []
    content = _packed(state, arrays)
    archives.write(filename, "state", content, arrays)


def load_state(filename: str) -> Any:
    """What `save_state` wrote. Raises `ValueError` if the file is something else."""
    with archives.read(filename, "state", "is no checkpoint") as (content, arrays):
        return _unpacked(content, arrays)


def set_state(trainer: Any, state: Mapping[str, Any]) -> None:
    """Has a trainer be in a state, as its `_state` gives it.

    Raises:
        ValueError: it is of another model, or of other learners.
    """
    kept, learners = trainer._kept(), trainer.parameter_learners
    for what, own, given in (
        ("parameters and statistics", kept, state["parameters"]),
        ("learners", learners, state["learners"]),
    ):
        if len(own) != len(given):
            raise ValueError(f"it has {len(given)} {what}, another model's; here are {len(own)}")
    for holder, value in zip(kept, state["parameters"], strict=True):
        if (holder.shape, holder.dtype) != (value.shape, value.dtype):
            there = f"shape {value.shape} and type {value.dtype}"
            raise ValueError(f"it is of another model: {holder!r} has {there} there")
        holder.value = value
    for learner, learned in zip(learners, state["learners"], strict=True):
        learner.restore_from_checkpoint(learned)
    trainer.total_number_of_samples_seen = int(state["samples"])
    if "random" in state:  # older checkpoints have none
        trainer._program.set_random_state(state["random"])
    trainer._program.set_carried(state.get("carried"))
