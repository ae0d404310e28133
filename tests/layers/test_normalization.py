"""Normalizing layers: batch normalization against the numbers of Microsoft CNTK 2.7.

tests/reference/batch_normalization.npz holds, for an image and a vector per frame: `x/M/I`,
sequence I of minibatch M; `gin`, `gscale`, `gbias`, the gradients in training of the sum of
sigmoid(output) * `G`; the running statistics after each minibatch; `out/I`, the last minibatch
evaluated.
"""

from pathlib import Path

import numpy as np
import pytest

import rgraph as C
from rgraph.testing import check_gradients

REFERENCE = np.load(Path(__file__).parent.parent / "reference" / "batch_normalization.npz")
KINDS = pytest.mark.parametrize("kind, shape", [("image", (2, 2, 3)), ("vector", (3,))])


def close(ours, cntks):
    np.testing.assert_allclose(ours, cntks, rtol=0, atol=2e-5 * abs(cntks).max())


def model(kind, shape):
    x = C.sequence.input_variable(shape)
    layer = C.layers.BatchNormalization(
        map_rank=1 if kind == "image" else None, normalization_time_constant=20, epsilon=1e-3
    )
    y = layer(x)
    layer.scale.value = REFERENCE[f"{kind}/scale"]
    layer.bias.value = REFERENCE[f"{kind}/bias"]
    return x, layer, y, C.reduce_sum(C.sigmoid(y) * C.constant(REFERENCE[f"{kind}/G"]))


def minibatch(kind, m):
    return [REFERENCE[f"{kind}/x/{m}/{i}"] for i in range(3)]


@KINDS
def test_training_and_evaluation_agree_with_cntk(kind, shape):
    x, layer, y, loss = model(kind, shape)
    trainer = C.Trainer(y, loss, C.sgd(y.parameters, 0.0))
    for m in range(3):
        trainer.train_minibatch({x: minibatch(kind, m)})
        close(layer.aggregate_mean.value, REFERENCE[f"{kind}/mean/{m}"])
        close(layer.aggregate_variance.value, REFERENCE[f"{kind}/variance/{m}"])
        assert layer.aggregate_count.value == REFERENCE[f"{kind}/count/{m}"]
    for i, out in enumerate(y.eval({x: minibatch(kind, 2)})):
        close(out, REFERENCE[f"{kind}/out/{i}"])


@KINDS
def test_gradients_in_training_agree_with_cntk(kind, shape):
    x, layer, _, loss = model(kind, shape)
    for m in range(3):
        feed = minibatch(kind, m)
        state, _ = loss.forward({x: feed}, None, {loss.output})
        ones = [np.ones(len(s)) for s in feed]
        found = loss.backward(state, {loss.output: ones}, [x, layer.scale, layer.bias])
        for i, g in enumerate(found[x]):
            close(g, REFERENCE[f"{kind}/gin/{m}/{i}"])
        close(found[layer.scale], REFERENCE[f"{kind}/gscale/{m}"])
        close(found[layer.bias], REFERENCE[f"{kind}/gbias/{m}"])


@KINDS
def test_evaluation_changes_nothing_and_sees_only_its_own_sample(kind, shape):
    x, layer, y, loss = model(kind, shape)
    C.Trainer(y, loss, C.sgd(y.parameters, 0.0)).train_minibatch({x: minibatch(kind, 0)})
    together = y.eval({x: minibatch(kind, 1)})
    for alone, sequence in zip(together, minibatch(kind, 1), strict=True):
        np.testing.assert_allclose(y.eval({x: [sequence]})[0], alone, rtol=1e-6)
    assert layer.aggregate_count.value == 6


@KINDS
@pytest.mark.parametrize("training", [True, False])
def test_gradients(kind, shape, training):
    _, layer, y, _ = model(kind, shape)
    layer.aggregate_variance.value = 2
    check_gradients(y, order=2, training=training)


def test_a_negative_time_constant_gives_the_statistics_of_all_samples():
    x = C.input_variable(4)
    layer = C.layers.BatchNormalization(normalization_time_constant=-1)
    y = layer(x)
    trainer = C.Trainer(y, C.reduce_sum(y), C.sgd(y.parameters, 0.0))
    data = np.random.default_rng(0).normal(size=(9, 4))
    for part in (data[:2], data[2:5], data[5:]):
        trainer.train_minibatch({x: part})
    np.testing.assert_allclose(layer.aggregate_mean.value, data.mean(0), atol=1e-6)


@pytest.mark.parametrize(
    "combined, expected",
    [
        (lambda a, b: a + 2 * b, [(6.2858396, 17.824638, 4), (8.211592, 24.935106, 8)]),
        (lambda a, b: C.splice(b, a), [(10.71416, 34.17536, 4), (8.788408, 27.064892, 8)]),
    ],
)
@pytest.mark.parametrize("way", ["trainer", "grad", "forward"])
def test_used_twice_the_statistics_are_carried_on_twice(combined, expected, way):
    """By CNTK one use after the other, as they come in the graph; its numbers after two steps."""
    x, z = C.input_variable(1), C.input_variable(1)
    layer = C.layers.BatchNormalization(normalization_time_constant=5)
    applied = layer(x)
    again = applied.clone("share", {x: z}) if way == "trainer" else layer(z)
    loss = C.reduce_sum(C.square(combined(applied, again) - 1))
    data = {x: [[1], [3]], z: [[10], [20]]}
    trainer = C.Trainer(None, loss, C.sgd(loss.parameters, 0.0))
    for mean, variance, count in expected:
        if way == "trainer":
            trainer.train_minibatch(data)
        elif way == "grad":
            loss.grad(data, wrt=loss.parameters)
        else:  # going back changes nothing more
            state, _ = loss.forward(data, keep_for_backward=loss.outputs)
            loss.backward(state, np.ones(2), loss.parameters)
        np.testing.assert_allclose(layer.aggregate_mean.value, [mean], rtol=1e-5)
        np.testing.assert_allclose(layer.aggregate_variance.value, [variance], rtol=1e-5)
        assert layer.aggregate_count.value == count


def test_an_empty_minibatch_leaves_the_statistics():
    x = C.input_variable(2)
    layer = C.layers.BatchNormalization()
    loss = C.reduce_sum(C.square(layer(x)))
    layer.aggregate_mean.value, layer.aggregate_variance.value = [5, 6], [7, 8]
    loss.grad({x: np.zeros((0, 2))}, wrt=loss.parameters)
    assert layer.aggregate_mean.value.tolist() == [5, 6]
    assert layer.aggregate_variance.value.tolist() == [7, 8]
    assert layer.aggregate_count.value == 0


def test_a_count_that_two_layers_share_counts_for_both():
    """CNTK's numbers: the second finds what the first has counted."""
    x, count = C.input_variable(1), C.constant(0.0, ())
    means = [C.constant(0.0, (1,)) for _ in range(2)]
    z = x
    for mean in means:
        scale, bias, variance = C.Parameter(1, init=1), C.Parameter(1), C.constant(0.0, (1,))
        z = C.batch_normalization(
            *(z + 10, scale, bias, mean, variance, False, 5), running_count=count
        )
    C.reduce_sum(C.square(z)).grad({x: [[1], [3]]}, wrt=z.parameters)
    np.testing.assert_allclose([m.value.item() for m in means], [12, 3.2967997], rtol=1e-5)
    assert count.value == 4


def test_states_are_no_parameters():
    x = C.input_variable(2)
    layer = C.layers.BatchNormalization()
    y = layer(x)
    assert {p.name for p in y.parameters} == {"scale", "bias"}
    names = {c.name for c in y.constants if c.name}
    assert names == {"aggregate_mean", "aggregate_variance", "aggregate_count"}


def test_a_clone_has_statistics_of_its_own():
    x = C.input_variable(2)
    y = C.layers.BatchNormalization()(x)
    copy = y.clone("clone")
    C.Trainer(y, C.reduce_sum(y), C.sgd(y.parameters, 0.0)).train_minibatch({x: [[1, 2], [3, 5]]})
    assert y.aggregate_count.value == 2
    assert copy.aggregate_count.value == 0


def test_batch_normalization_needs_a_batch():
    with pytest.raises(C.GraphError, match="with a batch axis"):
        C.layers.BatchNormalization()(C.constant([1, 2])).eval()


def test_layer_normalization():
    x = C.input_variable((2, 5))
    f = C.layers.LayerNormalization(initial_scale=2, initial_bias=1)
    data = np.random.default_rng(1).normal(size=(3, 2, 5))
    centered = data - data.mean((1, 2), keepdims=True)
    expected = centered / (data.std((1, 2), keepdims=True) + 1e-5) * 2 + 1
    y = f(x)
    np.testing.assert_allclose(y.eval({x: data}), expected, atol=1e-5)
    assert f.scale.shape == f.bias.shape == (5,)
    check_gradients(y, order=2)


def test_not_over_a_state():
    """CNTK refuses it in the first run, and takes what does not depend on the state."""
    x, layer = C.sequence.input_variable(2), C.layers.BatchNormalization()
    with pytest.raises(C.GraphError, match="batch_normalization: it needs all frames") as caught:
        C.layers.Recurrence(lambda h, x: C.tanh(layer(h + x)))(x)
    assert "in layer BatchNormalization" in str(caught.value)
    assert "LayerNormalization" in caught.value.hint
    data = np.array([[1, 2], [2, 3], [6, 1]])
    inside = C.layers.Recurrence(lambda h, x: h + layer(x))(x)
    layer.find_by_name("aggregate_variance").value = 4
    np.testing.assert_allclose(inside.eval({x: [data]})[0], np.cumsum(data / 2, 0), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_may_be_constants_whose_shape_follows(dtype):
    """As in CNTK's own test: (x - 3) / sqrt(4 + 0) * 2 + 1."""
    x = C.input_variable((2, 3), dtype)
    inferred = C.InferredDimension
    scale, bias, mean, variance = (
        C.constant(value, shape=(inferred,), dtype=dtype) for value in (2, 1, 3, 4)
    )
    count = C.constant(0, shape=(), dtype=dtype)
    f = C.batch_normalization(
        x, scale, bias, mean, variance, spatial=True, epsilon=0, running_count=count
    )
    data = np.arange(12, dtype=dtype).reshape(2, 2, 3)
    np.testing.assert_allclose(f.eval({x: data}), data - 2)
    assert (mean.shape, variance.shape) == ((2,), (2,))


def test_the_constants_of_batch_normalization_are_its_statistics(tmp_path):
    """As in CNTK: a program that sets them all leaves epsilon alone, in a loaded model, too."""
    f = C.layers.BatchNormalization()(C.input_variable(3))
    f.save(tmp_path / "f")
    for g in (f, f.clone("clone"), C.load_model(tmp_path / "f")):
        names = sorted(c.name for c in g.constants)
        assert names == ["aggregate_count", "aggregate_mean", "aggregate_variance"]
