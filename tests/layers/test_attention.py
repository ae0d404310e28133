import numpy as np
import pytest

import rgraph as C
from rgraph.layers import GRU, LSTM, AttentionModel, Recurrence
from rgraph.testing import check_gradients

RNG = np.random.default_rng(0)
ENCODED = [RNG.normal(size=(n, 3)) for n in (4, 1, 2)]
DECODED = [RNG.normal(size=(n, 2)) for n in (1, 3, 2)]


def inputs():
    encoder = C.sequence.input_variable(3, sequence_axis=C.Axis("encoder"))
    return encoder, C.sequence.input_variable(2, sequence_axis=C.Axis("decoder"))


def by_hand(y, span=None, first=False):
    W = {p.shape: p.value for p in y.parameters if p.name == "W"}
    for states, frames in zip(ENCODED, DECODED, strict=True):
        states = states if span is None else states[:span] if first else states[-span:]
        fit = np.tanh(frames[:, None] @ W[2, 5] + states @ W[3, 5]) @ W[5, 1]
        weights = np.exp(fit) / np.exp(fit).sum(1, keepdims=True)
        yield (weights * states).sum(1)


@pytest.mark.parametrize("span, first", [(None, False), (3, False), (3, True), (9, False)])
def test_attention(span, first):
    e, d = inputs()
    axis = None if span is None else -3
    model = AttentionModel(5, span, axis, go_backwards=first, name="attention")
    y = model(e, d)
    ones = () if span is None else (1, 1)  # as in CNTK
    assert (y.shape, y.name) == ((*ones, 3), "attention")
    values = y.eval({e: ENCODED, d: DECODED})
    for ours, expected in zip(values, by_hand(y, span, first), strict=True):
        np.testing.assert_allclose(ours.reshape(-1, 3), expected, atol=1e-6)


def test_weights_along_an_axis():
    e, d = inputs()
    attention = AttentionModel(5, 4, -3)(e, d)
    assert attention.find_by_name("attention_weights").shape == (4, 1, 1)


def test_gradients():
    e, d = inputs()
    windowed = AttentionModel(5, 4, -2)(e, d)
    check_gradients(windowed, {e: ENCODED, d: DECODED}, elements=20)
    whole = AttentionModel(5)(e, d)  # sees as much, so must agree
    assert len(whole.parameters) == 7
    pairs = list(zip(whole.parameters, windowed.parameters, strict=True))
    for own, other in pairs:
        assert own.shape == other.shape
        own.value = other.value
    feed = {e: ENCODED, d: DECODED}
    a = whole.grad(feed, wrt=[own for own, _ in pairs])
    b = windowed.grad(feed, wrt=[other for _, other in pairs])
    for own, other in pairs:
        np.testing.assert_allclose(a[own], b[other], rtol=1e-4, atol=1e-5)


def test_attention_within_a_recurrence():
    e, d = inputs()
    attend, step = AttentionModel(5, 4, -2), GRU(2)
    y = Recurrence(lambda h, x: step(h, C.splice(x, attend(e, h))))(d)
    assert y.shape == (1, 2)
    check_gradients(y, {e: ENCODED, d: DECODED}, elements=20)


def test_the_weights_can_be_read():
    e, d = inputs()
    y = AttentionModel(5)(e, d)
    weights = C.combine([y.find_by_name("attention_weights")]).eval({e: ENCODED, d: DECODED})
    for w in weights:
        np.testing.assert_allclose(w.sum(1), 1, rtol=1e-5)
    assert not weights[1][:, 1:].any()  # an encoder sequence of one frame


@pytest.mark.parametrize("options", [{"attention_span": 3}, {"attention_axis": -2},
                                     {"attention_span": 0, "attention_axis": -2}])  # fmt: skip
def test_a_span_needs_an_axis(options):
    with pytest.raises(ValueError, match="attention_span"):
        AttentionModel(5, **options)


def test_a_decoder_that_closes_over_the_encoder():
    """As CNTK's tutorial on translation has it; CNTK's values and gradients."""
    rng = np.random.RandomState(0)
    We, Ue = (np.round(rng.randn(n, 3) * 0.5, 2).astype("f") for n in (2, 3))
    attend, cell = AttentionModel(4), LSTM(3)

    @C.Function
    def model(source, target):
        step = C.Function(lambda h, x: C.tanh(C.times(x, We) + C.times(h, Ue)))
        encoded = Recurrence(step, go_backwards=True)(source)

        @C.Function
        def step_with_attention(h, c, x):
            return cell(h, c, C.splice(x, attend(encoded, h)))

        return Recurrence(step_with_attention)(target)

    source, target = (C.sequence.input_variable(2, sequence_axis=C.Axis(n)) for n in "st")
    z = model(source, target)
    for p in z.parameters:
        seed = sum(map(ord, p.name)) + sum(p.shape)
        p.value = np.round(np.random.RandomState(seed).randn(*p.shape) * 0.5, 2)
    feed = {
        source: [[[-0.67, 0.6], [0.32, -0.44], [-0.46, 0.16]], [[0.8, -0.7], [0.3, 0.1]]],
        target: [[[0.1, -0.2]], [[0.5, 0.4], [-0.9, 1.1]]],
    }
    values = [
        [[-0.158325, 0.064778, 0.120735]],
        [[-0.111382, 0.076597, 0.087647], [-0.23345, 0.03206, 0.206966]],
    ]
    gradient = [
        [[0.023627, 0.014484], [0.036576, 0.020856], [0.047052, 0.035825]],
        [[0.058009, 0.008567], [0.11093, 0.033224]],
    ]
    for ours, expected in zip(z.eval(feed), values, strict=True):
        np.testing.assert_allclose(ours, expected, atol=2e-6)
    for ours, expected in zip(z.grad(feed, wrt=[source]), gradient, strict=True):
        np.testing.assert_allclose(ours, expected, atol=2e-6)
