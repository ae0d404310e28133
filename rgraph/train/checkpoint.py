"""Checkpoints: numbers, strings and arrays in NumPy's file format, without pickled objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..files import archives, cntk_checkpoint
from ..graph import GraphError, Node, Parameter, order, updates
from ..graph.node import describe
from ..learners import Learner
from ..ops.records import hold

_ARRAY, _TUPLE = "__array__", "__tuple__"


def _packed(value: object, arrays: list[np.ndarray]) -> Any:
    """`value` for JSON, with its arrays moved to `arrays`."""
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
                raise ValueError(
                    f"the keys of a dict in a checkpoint must be distinct strings, got {key!r}"
                )
        return {k: _packed(v, arrays) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"a checkpoint can hold numbers, strings, arrays, and lists and dicts of these; got "
        f"{value!r:.60}"
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


def save_state(filename: str, state: object) -> None:
    """Writes a state to a file, which is replaced only when the new one is complete.

    Args:
        state: numbers, strings, None, arrays, and lists, tuples and dicts of these.

    Raises `ValueError` for anything else.
    """
    arrays: list[np.ndarray] = []
    content = _packed(state, arrays)
    archives.write(filename, "state", content, arrays)


def load_state(filename: str) -> Any:
    """Reads a file that `save_state` wrote. Raises `ValueError` if it is something else."""
    with archives.read(filename, "state", "is not a checkpoint") as (content, arrays):
        return _unpacked(content, arrays)


def _in_order(
    learned: Mapping[str, Any], here: Sequence[int], there: Sequence[int]
) -> Mapping[str, Any]:
    """A learner's checkpoint, with the state of the parameters in this learner's order."""
    if here == there or "state" not in learned:
        return learned
    if sorted(here) != sorted(there):
        raise ValueError("it belongs to a learner with other parameters")
    kept = dict(zip(there, learned["state"], strict=True))
    return {**learned, "state": [kept[i] for i in here]}


def state_for(trainer: object, filename: str) -> dict[str, Any]:
    """Reads the state of a trainer from a checkpoint of rgraph or CNTK 2.

    Raises:
        ValueError: it is not a checkpoint, or CNTK's of another model or other learners.
    """
    try:
        found = cntk_checkpoint.load(filename)
        if found is not None:
            return _of_cntk(trainer, found)
    except GraphError as error:
        problem = f"{filename} is not a checkpoint of this trainer: {error.problem}"
        raise GraphError(problem, hint=error.hint) from None
    except (AttributeError, KeyError, TypeError) as error:
        raise GraphError(f"{filename} is not a checkpoint, or is damaged: {error!r:.200}") from None
    return load_state(filename)


def _of_cntk(trainer: Any, found: cntk_checkpoint.Checkpoint) -> dict[str, Any]:
    own = state_of(trainer)
    values = _by_place(trainer._roots(), found.model._current())
    learners = trainer.parameter_learners
    if len(found.learners) != len(learners):
        raise GraphError(f"it has {len(found.learners)} learners, this trainer has {len(learners)}")
    states = [
        cntk_checkpoint.learner_state(there, here, [p.shape for p in learner.parameters])
        for learner, here, there in zip(learners, own["learners"], found.learners, strict=True)
    ]
    return {
        **own,
        "parameters": [values.get(v.node, v.value) for v in _kept(trainer)],
        "learners": states,
        "samples": states[0]["samples"],
        "external": found.external,
    }


def of_session(external: dict[str, Any], learner: Learner) -> dict[str, Any]:
    """The state of a session in a checkpoint; CNTK's only has the position in the data."""
    if cntk_checkpoint.SOURCE not in external:
        return external
    return {
        "source": external[cntk_checkpoint.SOURCE],
        "seen": learner.total_number_of_samples_seen(),
        "minibatches": learner.total_number_of_minibatches_seen(),
        "sweeps": learner.total_number_of_sweeps_seen(),
    }


def _by_place(own: Sequence[Node], others: Sequence[Node]) -> dict[Node, Any]:
    """The values of parameters and statistics from another graph of the same structure."""
    here, there = _stored(own), _stored(others)
    if len(here) != len(there):
        raise GraphError(
            f"it belongs to another model: it has {len(there)} arrays, this model has {len(here)}"
        )
    for mine, other in zip(here, there, strict=True):
        names = {mine.name, other.name} - {""}
        if mine.shape != other.shape or len(names) > 1:
            raise GraphError(
                f"it belongs to another model: it has {describe(other)} in place of "
                f"{describe(mine)}",
                hint="parameters are matched in the order of the graph, by shape and name",
            )
    return {mine: other.value for mine, other in zip(here, there, strict=True)}


def _stored(roots: Sequence[Node]) -> list[Any]:
    """The values that training changes, in the order of the graph."""
    changed = updates(roots)
    return [n for n in order(roots) if isinstance(n, Parameter) or n in changed]


def _kept(trainer: Any) -> list[Any]:
    """The values of a trainer that checkpoints contain, in order."""
    steps = trainer._steps
    nodes = [n for n in order(steps.program.nodes) if isinstance(n, Parameter)]
    return [*map(hold, nodes), *map(hold, steps.states)]


def _learned(trainer: Any) -> list[list[int]]:
    """For each learner the indices of its parameters in `_kept`."""
    places = {v.node: i for i, v in enumerate(_kept(trainer))}
    return [[places[p.node] for p in k.parameters] for k in trainer.parameter_learners]


def state_of(trainer: Any) -> dict[str, Any]:
    """The state that a trainer resumes from."""
    program = trainer._steps.program
    return {
        "parameters": [v.value for v in _kept(trainer)],
        "learners": [learner.create_checkpoint() for learner in trainer.parameter_learners],
        "learned": _learned(trainer),
        "samples": trainer.total_number_of_samples_seen,
        "random": program.random_state(),
        "carried": program.carried(),
        "loss scale": trainer._scaling.state,
    }


def set_state(trainer: Any, state: Mapping[str, Any]) -> None:
    """Sets the state of a trainer, as `state_of` returns it.

    Raises:
        ValueError: it belongs to another model, or to other learners.
    """
    kept, learners = _kept(trainer), trainer.parameter_learners
    for what, own, given in (
        ("parameters and statistics", kept, state["parameters"]),
        ("learners", learners, state["learners"]),
    ):
        if len(own) != len(given):
            raise ValueError(
                f"it belongs to another model: it has {len(given)} {what}, this one has {len(own)}"
            )
    for holder, value in zip(kept, state["parameters"], strict=True):
        if (holder.shape, holder.dtype) != (value.shape, value.dtype):
            there = f"shape {value.shape} and type {value.dtype}"
            raise ValueError(f"it belongs to another model: {holder!r} has {there} there")
        holder.value = value
    own = _learned(trainer)
    before = state.get("learned", list(map(sorted, own)))  # the format of older checkpoints
    for learner, learned, here, there in zip(learners, state["learners"], own, before, strict=True):
        learner.restore_from_checkpoint(_in_order(learned, here, there))
    trainer.total_number_of_samples_seen = int(state["samples"])
    program = trainer._steps.program
    if "random" in state:  # missing in older checkpoints
        program.set_random_state(state["random"])
    program.set_carried(state.get("carried"))
    trainer._scaling.state = state.get("loss scale", [])


def restore(trainer: object, filename: str) -> Any:
    """Restores a trainer from a file; returns the external state saved with it.

    Raises:
        ValueError: the file is not a checkpoint, or belongs to another model or other learners.
            Nothing is changed then.
    """
    state, before = load_all(trainer, filename), state_of(trainer)
    try:
        set_state(trainer, state)
        return state["external"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        set_state(trainer, before)
        problem = error if isinstance(error, ValueError) else f"{error!r} in its content"
        raise ValueError(f"{filename} is not a checkpoint of this trainer: {problem}") from None


# Of several workers

_OWN = "random", "carried", "external"  # state that differs between workers


def save_all(trainer: Any, filename: str, external: object) -> None:
    """Rank 0 saves the trainer's state, with the separate state of each worker."""
    state = {**state_of(trainer), "external": external}
    workers = trainer.workers
    if workers.size > 1:
        state["workers"] = workers.gather({name: state[name] for name in _OWN})
    problem: Exception | None = None
    if workers.is_main:
        try:
            save_state(filename, state)
        except (OSError, ValueError) as error:
            problem = error
    problem = workers.of_main(problem)
    if problem is not None:
        raise problem


def load_all(trainer: Any, filename: str) -> Any:
    """The state for this worker; rank 0 reads the file.

    Raises:
        ValueError: as for `state_for`; or the number of workers has changed, and the checkpoint
            has states of delays.
    """
    workers = trainer.workers
    found: Any = None
    if workers.is_main:
        try:
            found = state_for(trainer, filename)
        except (OSError, ValueError) as error:
            found = error
    found = workers.of_main(found)
    if isinstance(found, Exception):
        raise found
    own = found.pop("workers", [])
    if len(own) == workers.size:
        found.update(own[workers.rank])
    elif any(one["carried"] is not None for one in own):
        raise GraphError(
            f"{filename} was saved by {len(own)} workers in the middle of truncated sequences; it "
            f"can't be resumed by {workers.size}",
            hint=f"resume with {len(own)} workers",
        )
    return found
