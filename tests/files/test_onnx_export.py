"""What is exported passes ONNX's checker and gives the same numbers in onnxruntime."""

import numpy as np
import pytest

import rgraph as C
from rgraph.ops.records import TABLE
from tests.recurrences import by_hand, conv_gru

reference = pytest.importorskip("onnx.reference")
runtime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)


def run(f, feed, path):
    """What onnxruntime gives: sequences are arrays (frames, batch, *shape)."""
    f.save(path, format=C.ModelFormat.ONNX)
    options = runtime.SessionOptions()
    options.log_severity_level = 2
    given = {v.name: np.stack(a, 1) if isinstance(a, list) else a for v, a in feed.items()}
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has not all operators in 64 bits; ONNX's own evaluator has
        if "NOT_IMPLEMENTED" not in str(error):
            raise
        session = reference.ReferenceEvaluator(str(path))
    return session.run(None, given)


def check(f, feed, path, tolerance=1e-5):
    found = run(f, feed, path)
    values = f.eval(feed)
    expected = list(values.values()) if isinstance(values, dict) else [values]
    for a, b in zip(found, expected, strict=True):
        b = np.stack(b, 1) if isinstance(b, list) else b
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def values(*shape, dtype=np.float32, low=-2, high=2):
    return RNG.uniform(low, high, shape).astype(dtype)


def sequences(frames, *shape, dtype=np.float32, count=3):
    return [values(frames, *shape, dtype=dtype) for _ in range(count)]


DOMAINS = {"pow": (0.1, 2), "asin": (-1, 1), "acos": (-1, 1), "atanh": (-0.9, 0.9)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [n for n, op in TABLE.items() if op.pointwise and hasattr(C, n)])
def test_pointwise(name, dtype, path):
    op = TABLE[name]
    low, high = DOMAINS.get(name, (-2, 2))
    inputs = [C.input_variable((2, 3), dtype, name=f"x{i}") for i in range(len(op.operands))]
    feed = {x: values(4, 2, 3, dtype=dtype, low=low, high=high) for x in inputs}
    for a in feed.values():
        a[0, 0, 0] = low if name in DOMAINS else 0  # and where one is divided by 0
    check(getattr(C, name)(*inputs), feed, path)


RECURRENT = {
    "GRU": lambda x: C.layers.Recurrence(C.layers.GRU(3))(x),
    "backwards": lambda x: C.layers.Recurrence(C.layers.LSTM(3), go_backwards=True)(x),
    "both ways, their ends": lambda x: C.splice(
        C.sequence.last(C.layers.Recurrence(C.layers.LSTM(3, use_peepholes=True))(x)),
        C.sequence.first(C.layers.Recurrence(C.layers.GRU(2), go_backwards=True)(x)),
    ),
    "a classifier": lambda x: C.layers.Sequential(
        [C.layers.Fold(C.layers.LSTM(3)), C.layers.Dense(2, activation=C.softmax)]
    )(x),
    "stacked": lambda x: C.layers.Sequential(
        [C.layers.Recurrence(C.layers.GRU(3)), C.layers.Recurrence(C.layers.LSTM(2)), C.relu]
    )(x),
    "two steps back": by_hand,
    "delays outside of loops": lambda x: (
        C.sequence.past_value(x, 2.0, 7) + C.sequence.future_value(x) - C.sequence.past_value(x)
    ),
    "a learned start": lambda x: C.layers.Recurrence(
        C.layers.GRU(4), initial_state=C.Parameter(4, init=0.3)
    )(x),
    "a start from the sequence": lambda x: C.layers.Recurrence(
        lambda h, x: C.tanh(h + x), initial_state=C.sequence.last(x)
    )(x),
    "over time": lambda x: C.sequence.reduce_sum(x) * C.sequence.reduce_max(x),
    "spread": lambda x: x - C.sequence.broadcast_as(C.sequence.last(x), x),
    "turned": lambda x: C.splice(C.sequence.reverse(x), x),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrences(name, dtype, path):
    with C.default_options(dtype=dtype):
        x = C.sequence.input_variable(4, dtype, name="x")
        f = RECURRENT[name](x)
    check(f, {x: sequences(5, 4, dtype=dtype)}, path)


def test_a_convolutional_recurrence_on_ragged_sequences_one_by_one(path):
    x = C.sequence.input_variable((2, 5, 4), name="x")
    f = conv_gru(x)
    ragged = [values(n, 2, 5, 4) for n in (3, 1, 6)]
    f.save(path, format=C.ModelFormat.ONNX)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for one, expected in zip(ragged, f.eval({x: ragged}), strict=True):
        (found,) = session.run(None, {"x": one[:, None]})
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-5)


def trained_batch_normalization(x):
    f = C.layers.BatchNormalization(map_rank=1)(x)
    for c in f.constants:
        if c.shape == (8,):
            c.value = values(8, low=0.5)
    return f


IMAGES = {
    "convolution": lambda x: C.layers.Convolution((3, 3), 6, pad=True, activation=C.relu)(x),
    "strides": lambda x: C.layers.Convolution((5, 3), 6, strides=(2, 3))(x),
    "padding and strides": lambda x: C.layers.Convolution((4, 4), 6, strides=3, pad=True)(x),
    "dilation and groups": lambda x: C.layers.Convolution((3, 3), 8, groups=4, dilation=2)(x),
    "transposed": lambda x: C.layers.ConvolutionTranspose((3, 3), 5, strides=2)(x),
    "transposed, padded": lambda x: C.layers.ConvolutionTranspose(
        (4, 4), 5, strides=2, pad=True, output_shape=(18, 20)
    )(x),
    "max pooling": lambda x: C.layers.MaxPooling((3, 2), strides=2)(x),
    "padded max pooling": lambda x: C.layers.MaxPooling((3, 3), strides=2, pad=True)(x),
    "average pooling": lambda x: C.layers.AveragePooling((2, 2), strides=(2, 1))(x),
    "padded average pooling": lambda x: C.layers.AveragePooling((3, 3), strides=2, pad=True)(x),
    "global pooling": lambda x: C.layers.GlobalAveragePooling()(x),
    "batch normalization": trained_batch_normalization,
    "layer normalization": lambda x: C.layers.LayerNormalization()(x),
    "dropout": lambda x: C.layers.Dropout(0.5)(x) * 2,
    "a net": lambda x: C.layers.Sequential(
        [
            C.layers.Convolution((3, 3), 4, pad=True, activation=C.relu),
            C.layers.MaxPooling((2, 2), strides=2),
            C.layers.BatchNormalization(map_rank=1),
            C.layers.Dense(5, activation=C.log_softmax),
        ]
    )(x),
    "softmax along an axis": lambda x: C.softmax(x, 0) + C.hardmax(C.reshape(x, (-1,)))[0],
    "reductions": lambda x: (
        C.reduce_mean(x, (1, 2)) + C.reduce_log_sum_exp(x, 0) - C.reduce_max(x) * C.reduce_min(x, 1)
    ),
    "the largest": lambda x: C.argmax(x, 0) + C.argmin(x, 2),
    "shapes": lambda x: C.transpose(C.reshape(x, (4, 2, 9, 10))[1:3, ::-1, 0:8:3], (2, 0, 3, 1)),
    "joined": lambda x: C.splice(x, C.constant(np.ones((8, 9, 10), np.float32)), x * 2, axis=1),
    "products": lambda x: C.times(x, C.Parameter((10, 3), init=0.5)) @ C.Parameter((3, 2), init=2),
    "padding": lambda x: C.pad(x, [(0, 0), (1, 2), (3, 0)], constant_value=2),
    "reflected": lambda x: C.pad(x, [(0, 0), (1, 2), (3, 0)], mode=C.ops.REFLECT_PAD),
    "the best": lambda x: C.combine([C.top_k(x, 3).outputs[0]]),
    "classes": lambda x: C.one_hot(C.argmax(x, 0), 8),
    "filled": lambda x: C.ones_like(x) * 3 - C.zeros_like(x),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(name, path):
    x = C.input_variable((8, 9, 10), name="x")
    check(IMAGES[name](x), {x: values(2, 8, 9, 10)}, path)


def test_several_inputs_and_outputs_have_their_names(path):
    x, y = C.input_variable(3, name="x"), C.input_variable(3, name="y")
    f = C.combine([C.plus(x, y, name="sum"), C.element_times(x, y, name="product")])
    check(f, {x: values(2, 3), y: values(2, 3)}, path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["sum", "product"]
    assert [i.shape for i in session.get_inputs()] == [["batch", 3], ["batch", 3]]


def test_what_can_not_be_exported_is_named(path):
    x = C.sequence.input_variable(3, name="x")
    f = C.sequence.gather(x, x[0] > 0)
    with pytest.raises(C.GraphError, match=r"(?s)ONNX.*test_onnx_export.py"):
        f.save(path, format=C.ModelFormat.ONNX)
    assert not path.exists()


def test_parameters_of_one_shape_keep_their_own_values(path):
    x = C.input_variable(16, name="x")
    layers = [C.layers.Dense(16, init=C.uniform(0.5, seed=i), activation=C.tanh) for i in range(8)]
    shifts = [C.constant(RNG.normal(size=(16, 16)).astype("f")) for _ in range(8)]
    f = C.layers.Sequential(layers)(x)
    for shift in shifts:
        f = C.times(f, shift)
    check(f, {x: values(3, 16)}, path)
    loaded = pytest.importorskip("onnx").load(str(path))
    kept = [a for a in loaded.graph.initializer if list(a.dims) == [16, 16]]
    assert len({a.SerializeToString() for a in kept}) == 16
