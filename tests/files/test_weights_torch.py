"""Weights from and to PyTorch, against what PyTorch's own modules compute."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError

torch = pytest.importorskip("torch")
nn = torch.nn
L, S = C.layers, C.sequence.input_variable


@pytest.fixture(autouse=True)
def seeds():
    torch.manual_seed(5)
    C.set_seed(5)


def randomized(module):
    """A module all of whose weights differ from what they start with; running in evaluation."""
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                value.copy_(torch.rand_like(value) + (0.5 if "var" in key else -0.4))
    return module.eval()


IMAGES = {
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), lambda: L.Convolution2D(3, 6, pad=True)),
    "no bias": (lambda: nn.Conv2d(4, 6, (3, 2), bias=False), lambda: L.Convolution((3, 2), 6)),
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), lambda: L.Convolution2D(3, 6, groups=2)),
    "transposed": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2),
        lambda: L.ConvolutionTranspose2D(3, 6, strides=2),
    ),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), lambda: L.BatchNormalization(map_rank=1)),
    "not affine": (
        lambda: nn.BatchNorm2d(4, affine=False),
        lambda: L.BatchNormalization(map_rank=1),
    ),
    "Linear": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 5 * 6, 3)),
        lambda: L.Dense(3, name="1"),
    ),
}


@pytest.mark.parametrize("theirs, ours", IMAGES.values(), ids=IMAGES)
def test_layers_of_images(theirs, ours):
    module, x = randomized(theirs()), C.input_variable((4, 5, 6))
    f = ours()(x)
    C.weights.from_torch(f, module)
    data = torch.randn(2, 4, 5, 6)
    expected = module(data).detach().numpy()
    np.testing.assert_allclose(f.eval({x: data}), expected, rtol=1e-4, atol=1e-5)


def test_embedding():
    module, x = randomized(nn.Embedding(5, 3)), C.input_variable(5)
    f = L.Embedding(3)(x)
    C.weights.from_torch(f, module.state_dict())
    found = f.eval({x: np.eye(5, dtype="f")[[4, 1]]})
    np.testing.assert_array_equal(found, module(torch.tensor([4, 1])).detach().numpy())


RECURRENT = {
    "LSTM": (nn.LSTM, lambda n: L.LSTM(4, name=n)),
    "LSTM, projected": (
        lambda *a, **k: nn.LSTM(*a, proj_size=3, **k),
        lambda n: L.LSTM(3, cell_shape=4, name=n),
    ),
    "GRU": (nn.GRU, lambda n: L.GRU(4, reset_after=True, name=n)),
    "RNN": (nn.RNN, lambda n: L.RNNStep(4, activation=C.tanh, name=n)),
    "RNN, relu": (
        lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
        lambda n: L.RNNStep(4, activation=C.relu, name=n),
    ),
}


def stacked(step, x, layers, directions):
    for i in range(layers):
        ways = [L.Recurrence(step(f"rnn_l{i}"))(x)]
        if directions == 2:
            ways.append(L.Recurrence(step(f"rnn_l{i}_reverse"), go_backwards=True)(x))
        x = C.splice(*ways)
    return x


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no bias"])
@pytest.mark.parametrize("layers, directions", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("theirs, ours", RECURRENT.values(), ids=RECURRENT)
def test_recurrent_layers_both_ways(theirs, ours, layers, directions, bias):
    both = directions == 2
    options = {"num_layers": layers, "bidirectional": both, "bias": bias, "batch_first": True}
    module = nn.ModuleDict({"rnn": theirs(3, 4, **options)})
    randomized(module)
    x = C.sequence.input_variable(3)
    f = stacked(ours, x, layers, directions)
    C.weights.from_torch(f, module.state_dict())
    data = torch.randn(2, 5, 3)
    expected = module["rnn"](data)[0].detach().numpy()
    found = f.eval({x: data})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    again = nn.ModuleDict({"rnn": theirs(3, 4, **options)})
    C.weights.to_torch(f, again)
    there = again["rnn"](data)[0].detach().numpy()
    np.testing.assert_allclose(there, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "cell, ours",
    [
        (nn.LSTMCell, L.LSTM(4)),
        (nn.GRUCell, L.GRU(4, reset_after=True)),
        (nn.RNNCell, L.RNNStep(4, activation=C.tanh)),
    ],
    ids=["LSTM", "GRU", "RNN"],
)
def test_cells(cell, ours):
    module, x = randomized(cell(3, 4)), C.sequence.input_variable(3)
    f = L.Recurrence(ours)(x)
    C.weights.from_torch(f, module)
    data, state = torch.randn(3, 3), None
    for frame, found in zip(data, f.eval({x: [data]})[0], strict=True):
        state = module(frame[None], state)
        expected = state[0] if isinstance(state, tuple) else state
        np.testing.assert_allclose(found, expected.detach().numpy()[0], rtol=1e-4, atol=1e-5)


STACKS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnnTanh": nn.RNN,
    "rnnReLU": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
}


@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no bias"])
@pytest.mark.parametrize("layers, directions", [(1, 1), (1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("op", STACKS)
def test_stacks_both_ways(op, layers, directions, bias):
    options = {"num_layers": layers, "bidirectional": directions == 2, "bias": bias}
    module = randomized(nn.ModuleDict({"rnn": STACKS[op](4, 4, batch_first=True, **options)}))
    x = C.sequence.input_variable(4)
    w = C.Parameter((C.InferredDimension, 2), init=0)
    f = C.optimized_rnnstack(x, w, 4, layers, directions == 2, op, name="rnn")
    C.weights.from_torch(f, module)
    data = torch.randn(2, 5, 4)
    expected = module["rnn"](data)[0].detach().numpy()
    np.testing.assert_allclose(f.eval({x: data}), expected, rtol=1e-4, atol=1e-5)
    again = nn.ModuleDict({"rnn": STACKS[op](4, 4, batch_first=True, **options)})
    C.weights.to_torch(f, again)
    there = again["rnn"](data)[0].detach().numpy()
    np.testing.assert_allclose(there, expected, rtol=1e-4, atol=1e-5)


def stack(layers=1, bidirectional=False, op="lstm"):
    w = C.Parameter((C.InferredDimension, 1), init=0)
    return C.optimized_rnnstack(S(4), w, 4, layers, bidirectional, op)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4 * 3 * 3, 5)
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, x):
        return self.head(self.features(x).flatten(1)) * self.scale


def net(x):
    scale = C.Parameter(5, init=1, name="scale")
    y = L.Convolution2D(3, 4, name="features.0")(x)
    y = C.relu(L.BatchNormalization(map_rank=1, name="features.1")(y))
    return L.Dense(5, name="head")(y) * scale


def test_a_model_both_ways_then_trained_the_same():
    module, x = randomized(Net()), C.input_variable((2, 5, 5))
    f = net(x)
    C.weights.from_torch(f, module.state_dict())
    data = torch.randn(6, 2, 5, 5)
    np.testing.assert_allclose(f.eval({x: data}), module(data).detach(), rtol=1e-4, atol=1e-5)
    y = C.input_variable(5)
    learner = C.sgd(f.parameters, C.learning_parameter_schedule(0.1, minibatch_size=6))
    trainer = C.Trainer(f, C.reduce_mean(C.square(f - y)), learner)
    trainer.train_minibatch({x: data, y: torch.zeros(6, 5)})
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module(data).square().mean().backward()
    optimizer.step()
    found = Net()
    C.weights.to_torch(f, found)
    for key, value in module.named_parameters():
        np.testing.assert_allclose(
            found.state_dict()[key], value.detach(), rtol=1e-3, atol=1e-5, err_msg=key
        )


def test_names_say_which_layer_is_which():
    module = randomized(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3)))
    x = C.input_variable(2)
    first, second = L.Dense(3, activation=C.relu), L.Dense(3, name="second")
    f = second(first(x))
    C.weights.from_torch(f, module, names={"0": first, "2": "second"})
    data = torch.randn(4, 2)
    np.testing.assert_allclose(f.eval({x: data}), module(data).detach(), rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_used_twice_is_one():
    module, x = randomized(nn.Linear(3, 3)), C.input_variable(3)
    layer = L.Dense(3)
    f = layer(layer(x))
    C.weights.from_torch(f, module)
    data = torch.randn(4, 3)
    expected = module(module(data)).detach()
    np.testing.assert_allclose(f.eval({x: data}), expected, rtol=1e-5, atol=1e-6)


class ConvLSTMCell(nn.Module):
    """As in ndrplz/ConvLSTM_pytorch: one convolution of frame and state, gates i, f, o, g."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.conv = nn.Conv2d(inputs + hidden, 4 * hidden, 3, padding=1)

    def forward(self, x, h, c):
        i, f, o, g = self.conv(torch.cat([x, h], 1)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class ApartConvLSTMCell(nn.Module):
    """As in automan000/Convolutional_LSTM_PyTorch: a convolution for each gate, no peepholes."""

    def __init__(self, inputs, hidden):
        super().__init__()
        for gate in "ifco":
            setattr(self, "Wx" + gate, nn.Conv2d(inputs, hidden, 3, padding=1))
            setattr(self, "Wh" + gate, nn.Conv2d(hidden, hidden, 3, padding=1, bias=False))

    def forward(self, x, h, c):
        i, f, g, o = (getattr(self, "Wx" + n)(x) + getattr(self, "Wh" + n)(h) for n in "ifco")
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


@pytest.mark.parametrize("cell", [ConvLSTMCell, ApartConvLSTMCell], ids=["one", "apart"])
def test_conv_lstms_both_ways(cell):
    module = randomized(nn.ModuleDict({"cell": cell(2, 3)}))
    x = C.sequence.input_variable((2, 4, 5))
    f = L.Recurrence(L.ConvolutionalLSTM((3, 3), 3), name="cell")(x)
    C.weights.from_torch(f, module)
    data = torch.randn(3, 2, 4, 5)
    again = nn.ModuleDict({"cell": cell(2, 3)})
    C.weights.to_torch(f, again)
    for model in (module, again):
        h = c = torch.zeros(1, 3, 4, 5)
        for frame, found in zip(data, f.eval({x: [data]})[0], strict=True):
            h, c = model["cell"](frame[None], h, c)
            np.testing.assert_allclose(found, h.detach()[0], rtol=1e-4, atol=1e-5)


REFUSED = {
    "a GRU whose reset gate acts before": (
        lambda: L.Recurrence(L.GRU(4))(S(3)),
        lambda: nn.GRU(3, 4),
        "reset_after=True",
    ),
    "such a GRU without biases": (
        lambda: L.Recurrence(L.GRU(4))(S(3)),
        lambda: nn.GRU(3, 4, bias=False),
        "reset_after=True",
    ),
    "another activation": (
        lambda: L.Recurrence(L.LSTM(4, activation=C.relu))(S(3)),
        lambda: nn.LSTM(3, 4),
        "another activation than tanh",
    ),
    "CNTK's activation of a plain recurrence": (
        lambda: L.Recurrence(L.RNNStep(4))(S(3)),
        lambda: nn.RNN(3, 4).state_dict(),
        "another activation than tanh or relu",
    ),
    "the other activation": (
        lambda: L.Recurrence(L.RNNStep(4, activation=C.relu))(S(3)),
        lambda: nn.RNN(3, 4),
        "another activation than tanh,",
    ),
    "a stack in both directions for one of two layers": (
        lambda: stack(2),
        lambda: nn.LSTM(4, 4, bidirectional=True),
        "_l0_reverse: not among",
    ),
    "a stack of other cells": (lambda: stack(op="gru"), lambda: nn.LSTM(4, 4), r"\(16, 4\) there"),
    "a stack of another activation": (
        lambda: stack(op="rnnReLU"),
        lambda: nn.RNN(4, 4),
        "another activation than tanh",
    ),
    "two layers of one name": (
        lambda: L.Dense(4, name="a")(L.Dense(4, name="a")(C.input_variable(4))),
        lambda: nn.ModuleDict({"a": nn.Linear(4, 4)}),
        "'a' is Dense 'a' and Dense 'a' here",
    ),
    "peepholes": (
        lambda: L.Recurrence(L.LSTM(4, use_peepholes=True))(S(3)),
        lambda: nn.LSTM(3, 4),
        "Cf, Ci, Co",
    ),
    "stabilizers": (
        lambda: L.Recurrence(L.LSTM(4, enable_self_stabilization=True))(S(3)),
        lambda: nn.LSTM(3, 4),
        "alpha",
    ),
    "several layers": (
        lambda: L.Recurrence(L.LSTM(4))(S(3)),
        lambda: nn.LSTM(3, 4, num_layers=2),
        "_l0_reverse",
    ),
    "both directions": (
        lambda: L.Recurrence(L.LSTM(4))(S(3)),
        lambda: nn.LSTM(3, 4, bidirectional=True),
        "several layers or directions",
    ),
    "another size": (
        lambda: L.Dense(4)(C.input_variable(3)),
        lambda: nn.Linear(5, 4),
        r"W has shape .*got an array of shape \(5, 4\)",
    ),
    "a GRU for an LSTM": (
        lambda: L.Recurrence(L.LSTM(4))(S(3)),
        lambda: nn.GRU(3, 4),
        "got an array of|not one of",
    ),
    "a bias that has no place": (
        lambda: L.Dense(4, bias=False)(C.input_variable(3)),
        lambda: nn.Linear(3, 4),
        "no parameter",
    ),
    "another epsilon": (
        lambda: L.BatchNormalization()(C.input_variable(3)),
        lambda: nn.BatchNorm1d(3, eps=1e-3),
        "epsilon=0.001",
    ),
    "no statistics": (
        lambda: L.BatchNormalization()(C.input_variable(3)),
        lambda: nn.BatchNorm1d(3, track_running_stats=False),
        "aggregate_mean",
    ),
    "another name": (
        lambda: L.Dense(4, name="a")(L.Dense(4, name="b")(C.input_variable(4))),
        lambda: nn.ModuleDict({"b": nn.Linear(4, 4), "c": nn.Linear(4, 4)}),
        "only there: c.bias, c.weight\n  only here: Dense 'a': W",
    ),
    "a shape to be inferred": (lambda: L.Dense(4), lambda: nn.Linear(3, 4), "apply the model"),
}


@pytest.mark.parametrize("ours, theirs, why", REFUSED.values(), ids=REFUSED)
def test_what_has_no_counterpart_is_refused(ours, theirs, why):
    f, module = ours(), theirs()
    inferred = why == "apply the model"
    before = None if inferred else [p.value for p in f.parameters]
    with pytest.raises(GraphError, match=why):
        C.weights.from_torch(f, module)
    if not inferred:
        for p, value in zip(f.parameters, before, strict=True):
            np.testing.assert_array_equal(p.value, value)


def test_what_has_no_place_there_is_refused_and_nothing_is_written():
    f = L.Dense(2, init_bias=1)(C.input_variable(3))
    module = nn.Linear(3, 2, bias=False)
    before = module.weight.detach().clone()
    with pytest.raises(GraphError, match="no place for b"):
        C.weights.to_torch(f, module)
    assert torch.equal(module.weight, before)


def test_not_strict_takes_over_what_corresponds():
    x = C.input_variable(3)
    f = L.Dense(2, name="new_head")(L.Dense(4, name="body")(x))
    module = randomized(nn.ModuleDict({"body": nn.Linear(3, 4), "head": nn.Linear(4, 9)}))
    C.weights.from_torch(f, module, strict=False)
    np.testing.assert_array_equal(f.body.W.value, module["body"].weight.detach().T)


LIN = {"weight": np.ones((2, 3)), "bias": np.ones(2)}
BROKEN = {
    "a path": ("net.pt", "state_dict"),
    "ragged": ({"weight": [[1, 2, 3], [4, 5]], "bias": [1, 2]}, "'weight' is no array"),
    "no numbers": ({**LIN, "bias": np.array(["a", "b"])}, "'bias' is no array of numbers"),
    "a checkpoint": ({"epoch": 3, "state_dict": LIN}, "'state_dict' is no array"),
    "too few axes": ({**LIN, "weight": np.ones(3)}, r"W has shape .*got .*\(3,\)"),
}


@pytest.mark.parametrize("given, why", BROKEN.values(), ids=BROKEN)
def test_what_is_no_state_is_one_error(given, why):
    f = L.Dense(2, init=0)(C.input_variable(3))
    with pytest.raises(GraphError, match=why):
        C.weights.from_torch(f, given)
    np.testing.assert_array_equal(f.W.value, np.zeros((3, 2)))


def test_scalars_for_matrices():
    with pytest.raises(GraphError, match="other axes"):
        C.weights.from_torch(
            L.Recurrence(L.LSTM(4))(S(3)),
            {"weight_ih_l0": np.ones(()), "weight_hh_l0": np.ones((16, 4))},
        )


READ_ONLY = np.zeros((2, 3))
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "weight",
    [[[0.0] * 3] * 2, np.zeros((2, 3), int), READ_ONLY],
    ids=["a list", "whole numbers", "read-only"],
)
def test_what_can_not_be_written_to_is_refused(weight):
    f = L.Dense(2, init=1, init_bias=1)(C.input_variable(3))
    bias = np.zeros(2)
    with pytest.raises(GraphError, match="'weight' can't be written to"):
        C.weights.to_torch(f, {"bias": bias, "weight": weight})
    with pytest.raises(GraphError, match="can't be written to"):
        C.weights.to_keras(f, {"a": {"bias": bias, "kernel": weight}})
    np.testing.assert_array_equal(bias, [0, 0])


def test_arguments_in_the_wrong_order():
    with pytest.raises(GraphError, match="what is set comes first"):
        C.weights.from_torch(nn.Linear(3, 2), LIN)
