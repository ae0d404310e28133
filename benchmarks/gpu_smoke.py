"""`python -m benchmarks.gpu_smoke`: the least that must work on a GPU, in a few seconds.

A convolutional GRU forward and backward, a learner's steps, and a replayed graph, against the CPU's
numbers. Fails if anything is wrong, if cuDNN refused something or if a run was not captured.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import rgraph as C
from rgraph import device
from rgraph.engines.cuda import options

from .programs.convgru import ConvGRU

PROGRAM = ConvGRU("smoke", (5, 5, 5, 5), (16, 32, 32), 16, {})
TOLERANCE = {"tf32": 1e-2, "float32": 1e-4, "bfloat16": 1e-1}  # of the largest value


def outcome(precision: str) -> dict[str, Any]:
    """How a precision does: the largest differences from the CPU's, what was refused, times."""
    options.choose(precision=precision)
    engine = device.engine(C.gpu(0))
    engine.cudnn.refusals.clear()
    made = PROGRAM.in_rgraph()
    for name, value in PROGRAM.weights().items():
        made.parameters[name].value = value
    (x,) = made.inputs.values()
    data, wrt = {x: PROGRAM.data()["x"]}, list(made.parameters.values())
    said: dict[str, Any] = {"precision": precision, "seconds": []}

    def both(where: Any) -> list[Any]:
        states = made.result.eval(data, device=where)
        gradients = made.loss.grad(data, wrt=wrt, device=where)
        return [*states, *(gradients[p] for p in wrt)]

    truth = both(C.cpu())
    for _ in range(4):
        start = time.perf_counter()
        found = both(C.gpu(0))
        said["seconds"].append(round(time.perf_counter() - start, 3))
        pairs = zip(found, truth, strict=True)
        worst = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
        said.setdefault("differences", []).append(worst)
    plans = [p for f in (made.result, made.loss) for p in f._runner.plans if p.engine is engine]
    said["captured"] = [any(p._shapes.values()) for p in plans]
    said["hindrances"] = [p.hindrance for p in plans if p.hindrance]
    said["refusals"] = [f"{k[:3]} {k[4]}: {why[:300]}" for k, why in engine.cudnn.refusals.items()]
    asked = [(k, p) for k, p in engine.cudnn.plans.items() if k[3].precision == precision]
    said["plans"] = [f"{k[0]} {k[1].result} {k[4][:1]}: {p and p.choice}" for k, p in asked]
    trainer = C.Trainer(made.result, made.loss, C.adam(wrt, 1e-3, 0.9))
    for _ in range(3):
        trainer.train_minibatch(data, device=C.gpu(0))
    said["loss"] = trainer.previous_minibatch_loss_average
    good = max(said["differences"]) < TOLERANCE[precision] and np.isfinite(said["loss"])
    said["passed"] = bool(good and all(said["captured"]) and not said["refusals"])
    return said


def main() -> None:
    """Tries all precisions; prints and writes each as it comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--record", help="a file to write to, as JSON")
    parser.add_argument("--played", action="store_true", help="on the GPU that the tests play")
    given = parser.parse_args()
    if given.played:
        from tests.engines import played_gpu

        played_gpu.play()
    found = []
    for precision in options.PRECISIONS:
        try:
            found.append(outcome(precision))
        except Exception:  # the other precisions may work
            error = traceback.format_exc()
            found.append({"precision": precision, "passed": False, "error": error})
        print(json.dumps(found[-1], indent=1), flush=True)
        if given.record:
            Path(given.record).write_text(json.dumps(found, indent=1) + "\n")
    raise SystemExit(0 if all(f["passed"] for f in found) else 1)


if __name__ == "__main__":
    main()
