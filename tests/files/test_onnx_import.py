"""ONNX models as functions: what onnxruntime gives for them, and what was exported from here."""

import contextlib
import io
import warnings

import numpy as np
import pytest

import rgraph as C
from rgraph.ops.records import TABLE
from tests.files import test_onnx_export as exported
from tests.recurrences import conv_gru

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper, F = onnx.helper, onnx.TensorProto.FLOAT

RNG = np.random.default_rng(0)


def near(found, expected, tolerance=1e-5):
    for one, other in zip(_each(found), _each(expected), strict=True):
        assert one.shape == other.shape
        scale = max(1.0, np.abs(other).max(initial=0))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale)


def _each(values):
    values = values.values() if isinstance(values, dict) else [values]
    return [a for v in values for a in (v if isinstance(v, list) else [v])]


def there_and_back(f, feed, path):
    f.save(path, format=C.ModelFormat.ONNX)
    again = C.load_model(path)
    named = {v.name: value for v, value in feed.items()}
    near(again.eval({a: named[a.name] for a in again.arguments}), f.eval(feed))
    return again


# ------------------------------------------------------------------ what was exported from here


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("name", exported.RECURRENT)
def test_recurrences_come_back_and_take_ragged_sequences(name, path):
    x = C.sequence.input_variable(4, name="x")
    feed = {x: [RNG.normal(size=(n, 4)).astype("f") for n in (5, 2, 1)]}
    there_and_back(exported.RECURRENT[name](x), feed, path)


def test_a_convolutional_recurrence_comes_back_and_learns(path):
    x = C.sequence.input_variable((2, 5, 4), name="x")
    films = [RNG.normal(size=(n, 2, 5, 4)).astype("f") for n in (4, 2)]
    f = conv_gru(x)
    again = there_and_back(f, {x: films}, path)
    own, back = (sorted((p.name, p.shape) for p in g.parameters) for g in (f, again))
    assert own == back
    target = C.sequence.input_variable(f.shape)
    loss = C.reduce_mean(C.square(again - target))
    trainer = C.Trainer(again, loss, C.sgd(again.parameters, 0.5))
    feed = {again.arguments[0]: films, target: [np.zeros((len(v), *f.shape)) for v in films]}
    losses = []
    for _ in range(4):
        trainer.train_minibatch(feed)
        losses.append(trainer.previous_minibatch_loss_average)
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("name", exported.IMAGES)
def test_images_come_back(name, path):
    x = C.input_variable((8, 9, 10), name="x")
    there_and_back(exported.IMAGES[name](x), {x: exported.values(2, 8, 9, 10)}, path)


@pytest.mark.parametrize("name", [n for n, op in TABLE.items() if op.pointwise and hasattr(C, n)])
def test_pointwise_operations_come_back(name, path):
    # a logarithm is CNTK's, which gives numbers below 0, too
    low, high = {"log1p": (-0.9, 2)}.get(name, exported.DOMAINS.get(name, (-2, 2)))
    inputs = [C.input_variable((2, 3), name=f"x{i}") for i in range(len(TABLE[name].operands))]
    feed = {x: exported.values(4, 2, 3, low=low, high=high) for x in inputs}
    there_and_back(getattr(C, name)(*inputs), feed, path)


# -------------------------------------------------------------------------- PyTorch's networks


def networks():
    torch = pytest.importorskip("torch")
    nn, f = torch.nn, torch.nn.functional

    class Residual(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.a = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.b = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(3))
            self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

        def forward(self, x):
            y = self.norms[1](self.b(f.relu(self.norms[0](self.a(x)))))
            return f.relu(y + self.norms[2](self.short(x)))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.begin = nn.Conv2d(3, 8, 7, 2, 3)
            self.blocks = nn.Sequential(Residual(8, 8, 1), Residual(8, 16, 2))
            self.end = nn.Linear(16, 5)

        def forward(self, x):
            x = self.blocks(f.max_pool2d(f.relu(self.begin(x)), 3, 2, 1))
            return self.end(torch.flatten(f.adaptive_avg_pool2d(x, 1), 1))

    class VGG(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
            self.end = nn.Sequential(nn.Linear(8 * 16, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 4))

        def forward(self, x):
            x = f.max_pool2d(f.relu(self.b(f.max_pool2d(f.relu(self.a(x)), 2))), 2)
            return f.log_softmax(self.end(x.view(x.size(0), -1)), dim=1)

    class MobileNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.apart = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8)
            self.across, self.end = nn.Conv2d(8, 12, 1), nn.Linear(12, 4)

        def forward(self, x):
            x = f.relu6(self.apart(f.hardswish(self.a(x))))
            return self.end(f.hardsigmoid(self.across(x)).mean([2, 3]))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
            self.up, self.out = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 2, 3, padding=1)
            self.more = nn.ConvTranspose2d(2, 4, 3, 2, 1, output_padding=1, groups=2)
            self.slope = nn.PReLU(2)

        def forward(self, x):
            a = f.relu(self.a(x))
            b = f.leaky_relu(self.b(f.max_pool2d(a, 2)))
            y = self.slope(self.out(torch.cat([self.up(b), a], 1)))
            return torch.sigmoid(self.more(f.interpolate(y, scale_factor=2)))

    class Various(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 6, (4, 2), (2, 1), (1, 0))
            self.norm, self.layer = nn.InstanceNorm2d(6, affine=True), nn.LayerNorm(10)

        def forward(self, x):
            x = f.avg_pool2d(f.pad(self.norm(self.a(x)), (1, 2, 0, 1)), 3, 2, 1)
            a, b = x.chunk(2, 1)
            x = (a * torch.tanh(b) + a.abs().clamp(0.1, 2)).permute(0, 2, 3, 1)
            x = x.reshape(x.size(0), -1, 3)
            x = f.elu((x * x.softmax(-1)).sum(2))[:, :10]
            return torch.where(x > 0.5, self.layer(x), x * 2) - x.max(1, keepdim=True)[0]

    return {"ResNet": ResNet, "VGG": VGG, "MobileNet": MobileNet, "UNet": UNet, "various": Various}


@pytest.mark.parametrize("name", ["ResNet", "VGG", "MobileNet", "UNet", "various"])
def test_networks_of_pytorch(name):
    made = networks()[name]
    import torch

    torch.manual_seed(0)
    net = made()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    net.eval()
    size = {"VGG": (16, 16), "various": (11, 9)}.get(name, (32, 24))
    file, example = io.BytesIO(), torch.zeros(2, 3, *size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that it has another exporter, too
        try:
            torch.onnx.export(net, (example,), file, dynamo=False, dynamic_axes={"x": {0: "n"}},
                              input_names=["x"])  # fmt: skip
        except ImportError as error:
            pytest.skip(f"PyTorch's exporter: {error}")
    images = RNG.normal(size=(3, 3, *size)).astype(np.float32)
    f = C.load_model(file.getvalue(), format=C.ModelFormat.ONNX)
    near(f.eval({f.arguments[0]: images}), net(torch.from_numpy(images)).detach().numpy())
    assert f.parameters and C.testing.check_gradients(f, order=1, wrt=f.parameters[-1:]) is not None


# ------------------------------------------------------------------------------ single operations


def model(nodes, inputs, outputs=("y",), arrays=None, opset=18):
    """A file's content: `inputs` by name their shapes; "n" stands for the batch."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(n, F, ["n", *s]) for n, s in inputs.items()],
        [helper.make_tensor_value_info(o, F, None) for o in outputs],
        [onnx.numpy_helper.from_array(a, n) for n, a in (arrays or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return made.SerializeToString()


def check(content, tolerance=1e-5, **feed):
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected = session.run(None, feed)
    f = C.load_model(content, format=C.ModelFormat.ONNX)
    found = f.eval({a: feed[a.name] for a in f.arguments})
    near(list(found.values()) if isinstance(found, dict) else [found], expected, tolerance)
    return f


def node(kind, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(kind, list(inputs), list(outputs), **attributes)


def array(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "options",
    [
        {"pads": [0, 2, 1, 0]}, {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "VALID", "dilations": [2, 1]},
        {"pads": [1, 1, 1, 1], "strides": [2, 2]}, {"pads": [3, 3, 3, 3]}, {"group": 2},
    ],
    ids=str,
)  # fmt: skip
def test_convolutions_and_their_padding(options):
    kernel = array(4, 4 // options.get("group", 1), 3, 4)
    content = model(
        [node("Conv", ("x", "w", "b"), **options)], {"x": (4, 10, 9)},
        arrays={"w": kernel, "b": array(4)},
    )  # fmt: skip
    f = check(content, x=array(3, 4, 10, 9))
    assert {p.name for p in f.parameters} == {"w", "b"}


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"pads": [1, 0, 0, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"},
        {"pads": [1, 1, 1, 1], "count_include_pad": 1}, {"pads": [0, 1, 2, 1]},
    ],
    ids=str,
)  # fmt: skip
def test_poolings_and_their_padding(kind, options):
    if kind == "MaxPool":
        options = {k: v for k, v in options.items() if k != "count_include_pad"}
    pooled = node(kind, kernel_shape=[3, 2], strides=[2, 1], **options)
    check(model([pooled], {"x": (2, 7, 6)}), x=array(2, 2, 7, 6))


def test_a_network_of_keras():
    """As tf2onnx writes one: channels last outside, turned round for each convolution."""
    last, first = [0, 2, 3, 1], [0, 3, 1, 2]
    nodes = [
        node("Transpose", ("x",), ("a",), perm=first),
        node("Conv", ("a", "w"), ("b",), auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Add", ("b", "shift"), ("c",)),
        node("Relu", ("c",), ("d",)),
        node("MaxPool", ("d",), ("e",), kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID"),
        node("Transpose", ("e",), ("f",), perm=last),
        node("Reshape", ("f", "flat"), ("g",)),
        node("MatMul", ("g", "v"), ("h",)),
        node("Add", ("h", "bias"), ("i",)),
        node("Softmax", ("i",), ("y",), axis=-1),
    ]
    arrays = {
        "w": array(6, 3, 3, 3), "shift": array(1, 6, 1, 1), "v": array(6 * 3 * 2, 5),
        "bias": array(5), "flat": np.array([-1, 36]),
    }  # fmt: skip
    check(model(nodes, {"x": (12, 8, 3)}, arrays=arrays), x=array(4, 12, 8, 3))


def test_shapes_that_are_computed():
    """As PyTorch writes `x.view(x.size(0), 2, -1)`."""
    nodes = [
        node("Shape", ("x",), ("s",)),
        node("Gather", ("s", "zero"), ("n",), axis=0),
        node("Unsqueeze", ("n", "zeros"), ("one",)),
        node("Concat", ("one", "two", "rest"), ("shape",), axis=0),
        node("Reshape", ("x", "shape"), ("a",)),
        node("Split", ("a",), ("b", "c"), axis=1, num_outputs=2),
        node("Mul", ("b", "c"), ("y",)),
    ]
    arrays = {
        "zero": np.array(0), "zeros": np.array([0]), "two": np.array([2]), "rest": np.array([-1])
    }  # fmt: skip
    check(model(nodes, {"x": (3, 4)}, arrays=arrays), x=array(5, 3, 4))


OLD = {
    "softmax over all axes": (node("Softmax", axis=1), {"x": (2, 3)}, 9),
    "squeeze by attribute": (node("Squeeze", axes=[2]), {"x": (3, 1)}, 9),
    "slice by attribute": (node("Slice", starts=[1], ends=[3], axes=[2]), {"x": (2, 5)}, 9),
    "clip by attribute": (node("Clip", min=-0.5, max=0.5), {"x": (3,)}, 6),
    "sum by attribute": (node("ReduceSum", axes=[1], keepdims=0), {"x": (2, 3)}, 11),
}


@pytest.mark.parametrize("name", OLD)
def test_older_versions_of_operators(name):
    one, inputs, opset = OLD[name]
    check(model([one], inputs, opset=opset), x=array(2, *inputs["x"]))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate):
    content = model([node("Gelu", approximate=approximate)], {"x": (4,)}, opset=20)
    check(content, x=array(3, 4))


# ---------------------------------------------------------------------------- what can't be read


def refused(content, *parts):
    with pytest.raises(C.GraphError) as caught:
        C.load_model(content, format=C.ModelFormat.ONNX)
    for part in parts:
        assert part in str(caught.value)


def test_what_can_not_be_read_is_named():
    refused(b"no model", "this is no ONNX model")
    refused(model([], {"x": (3,)}), "output y of the file is made by nothing")
    unique = node("NonZero", name="odd")
    refused(model([unique], {"x": (3,)}), "operation odd", "NonZero of version 18")
    refused(model([node("Transpose", perm=[1, 0])], {"x": (3,)}), "moves the axes of rows")
    many = {"shape": np.array([-1, 6])}
    refused(
        model([node("Reshape", ("x", "shape"))], {"x": (4,)}, arrays=many), "takes samples apart"
    )
    refused(model([node("ReduceSum", keepdims=0)], {"x": (4,)}), "over all samples")
    bad = model([node("Conv", ("x", "w"))], {"x": (3, 2, 2)}, arrays={"w": array(2, 3, 5, 5)})
    refused(bad, "(Conv)", "spans 5 elements")


def test_files_that_are_cut_off_or_changed(path):
    """An error of one kind, or else a function: never another error."""
    x = C.sequence.input_variable(4, name="x")
    C.layers.Recurrence(C.layers.GRU(3))(x).save(path, format=C.ModelFormat.ONNX)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(150):
        changed = bytearray(content[: rng.integers(len(content) // 2, len(content) + 1)])
        for _ in range(rng.integers(1, 6)):
            changed[rng.integers(len(changed))] = rng.integers(256)
        with contextlib.suppress(C.GraphError):
            C.load_model(bytes(changed), format=C.ModelFormat.ONNX)


def test_a_logarithm_is_onnx_s():
    """Ours is at least -85.1; theirs is -inf at 0, NaN below, and goes on among the smallest."""
    at = np.array([[0, 1, 1e-40, 1e-37, 3e-31, 5, -1, np.inf]], np.float32)
    if C.use_default_device() != C.cpu():
        at[0, 2] = 2e-38  # CuPy has numbers smaller than normal ones taken as 0
    check(model([node("Log")], {"x": (8,)}), x=at)


def test_our_own_logarithm_comes_back(path):
    x = C.input_variable(4, name="x")
    there_and_back(C.log(x), {x: np.array([[0, 1e-40, 1, 7]], np.float32)}, path)
