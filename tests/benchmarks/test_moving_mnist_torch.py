"""The net of Moving MNIST in PyTorch is the example's: the benchmark checks it before it times."""

import argparse

import numpy as np
import pytest

torch = pytest.importorskip("torch")
benchmark = pytest.importorskip("benchmarks.moving_mnist_torch")


@pytest.fixture
def sides():
    program = benchmark.example.Program([3, 2], 3)
    rng = np.random.default_rng(0)
    for p in program.loss.parameters:
        p.value = 0.3 * rng.normal(size=p.value.shape)
    digits = rng.uniform(size=(4, 28, 28)).astype(np.float32)
    return program, benchmark.Net(program), benchmark.example.minibatch(digits, 2, rng, False)


def test_loss_gradients_and_forecasts_agree(sides):
    program, net, films = sides
    benchmark.check(program, net, films)
    theirs = net.forecasts(*films)
    np.testing.assert_allclose(program.forecasts(*films), theirs, atol=1e-5)


def test_another_net_is_noticed(sides):
    program, net, films = sides
    with torch.no_grad():
        net.encoder[0]["Cf"] += 1
    with pytest.raises(AssertionError):
        benchmark.check(program, net, films)


def test_both_learn_alike_step_by_step(sides, monkeypatch, tmp_path):
    """The same films, the same rates of Adam: so are the losses."""
    program, net, _ = sides
    monkeypatch.setattr(benchmark.example, "EVERY", 1)
    digits = np.random.default_rng(1).uniform(size=(4, 28, 28)).astype(np.float32)
    args = argparse.Namespace(
        maps=[3, 2],
        kernel=3,
        batch=2,
        steps=5,
        rate=0.02,
        ragged=False,
        seed=1,
        resume=False,
        test=1,
    )
    theirs = benchmark.learn(net, digits, digits, 5, args)["curve"]
    ours = benchmark.example.train(program, digits, args, tmp_path / "checkpoint")["curve"]
    assert theirs[0][1] > theirs[-1][1] + 100
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
