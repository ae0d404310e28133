"""Single small calls, and whole steps of training with a learner, which are mostly Python."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import rgraph as C

from .measure import Neighbours, interleaved
from .sides import CORES, TOLERANCE, torch_version

AT_ONCE = 100  # calls of a round
ROWS, SIZE, LAYERS, CLASSES = 32, 64, 5, 10

Call = Callable[[], Any]


class Case(NamedTuple):
    """What is called.

    Attributes:
        target: PyTorch's best time over ours that it is held to.
        ours: gives a result to compare, from NumPy's arrays to NumPy's.
        peers: PyTorch's ways, by name, which give the same.
    """

    program: str
    run: str
    target: float
    ours: Call
    peers: dict[str, Call]


def small(
    repeat: int, least: float, quick: bool = False, alone: bool = False
) -> list[dict[str, Any]]:
    """A row for each case.

    Args:
        repeat, least: as for `measure.interleaved`.
        quick: whether a round is a single call.
        alone: whether PyTorch is left out.
    """
    cases = [_tanh(), *_dense()]
    if alone:
        cases = [case._replace(peers={}) for case in cases]
    return [_row(case, repeat, least, 1 if quick else AT_ONCE) for case in cases]


def _row(case: Case, repeat: int, least: float, at_once: int) -> dict[str, Any]:
    def often(call: Call) -> Call:
        return lambda: [call() for _ in range(at_once)]

    for name, peer in case.peers.items():
        if not np.allclose(case.ours(), peer(), rtol=TOLERANCE, atol=TOLERANCE):
            raise AssertionError(f"{case.program}, {case.run}: rgraph and {name} differ")
    neighbours = Neighbours()
    runs = {"rgraph": case.ours, **case.peers}
    times = interleaved({name: often(call) for name, call in runs.items()}, repeat, least)
    share, ours = neighbours.share(), times["rgraph"]
    row = {"program": case.program, "run": case.run, "ms": 1e3 * min(ours) / at_once}
    row["others"] = share
    if case.peers:
        best = min(case.peers, key=lambda name: min(times[name]))
        its = times[best]
        ratios = [b / a for a, b in zip(ours, its, strict=True)]
        row |= {"PyTorch": best, "its ms": 1e3 * min(its) / at_once, "ratio": min(its) / min(ours)}
        row |= {"ratios": ratios, "of rounds": statistics.median(ratios), "target": case.target}
    return row


def _tanh() -> Case:
    x = C.input_variable(4)
    f, data = C.tanh(2 * x + 1), np.ones((1, 4), np.float32)
    peers: dict[str, Call] = {}
    if torch_version():
        import torch

        def eager() -> Any:
            with torch.no_grad():
                return torch.tanh(2 * tensor + 1).numpy()

        tensor, peers = torch.from_numpy(data), {"eager": eager}
    return Case("tanh(2x + 1) of four numbers", "forward", 1.0, lambda: f.eval({x: data}), peers)


def _dense() -> list[Case]:
    """The forward pass of some dense layers, and a step of training with Adam."""
    x, t = C.input_variable(SIZE), C.input_variable(CLASSES)
    hidden = [C.layers.Dense(SIZE, activation=C.relu) for _ in range(LAYERS - 1)]
    y = C.layers.Sequential([*hidden, C.layers.Dense(CLASSES)])(x)
    random = np.random.default_rng(0)
    data = random.normal(size=(ROWS, SIZE)).astype(np.float32)
    classes = random.integers(0, CLASSES, ROWS)
    targets = np.eye(CLASSES, dtype=np.float32)[classes]
    forwards = _forward_in_pytorch(y.parameters, data)
    steps = _steps_in_pytorch(data, classes)
    trainer = C.Trainer(y, C.cross_entropy_with_softmax(y, t), C.adam(y.parameters, 1e-3, 0.9))

    def step() -> int:
        trainer.train_minibatch({x: data, t: targets})
        return trainer.previous_minibatch_sample_count

    net = f"{LAYERS} dense layers of {SIZE}, {ROWS} rows"
    return [
        Case(net, "forward", 1.0, lambda: y.eval({x: data}), forwards),
        Case(net, "step with Adam", 1.3, step, steps),
    ]


def _net() -> Any:
    from torch import nn

    hidden = [m for _ in range(LAYERS - 1) for m in (nn.Linear(SIZE, SIZE), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(SIZE, CLASSES))


def _forward_in_pytorch(parameters: Any, data: np.ndarray) -> dict[str, Call]:
    """With the same parameters; ours are given from the output to the input."""
    if not torch_version():
        return {}
    import torch

    torch.set_num_threads(CORES)
    net, tensor = _net(), torch.from_numpy(data)
    values: dict[Any, list[np.ndarray]] = {}
    for p in parameters:
        values.setdefault(p.shape, []).append(p.value)
    with torch.no_grad():
        for own in net.parameters():
            own.copy_(torch.from_numpy(values[tuple(own.shape[::-1])].pop().T.copy()))

    def forward() -> Any:
        with torch.no_grad():
            return net(tensor).numpy()

    return {"eager": forward}


def _steps_in_pytorch(data: np.ndarray, classes: np.ndarray) -> dict[str, Call]:
    if not torch_version():
        return {}
    import torch

    tensor, target = torch.from_numpy(data), torch.from_numpy(classes)
    loss = torch.nn.CrossEntropyLoss()

    def made(**options: bool) -> Call:
        net = _net()
        adam = torch.optim.Adam(net.parameters(), 1e-3, **options)

        def step() -> int:
            adam.zero_grad()
            loss(net(tensor), target).backward()
            adam.step()
            return len(tensor)

        return step

    return {"eager": made(), "foreach": made(foreach=True), "fused": made(fused=True)}
