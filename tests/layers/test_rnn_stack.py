"""Stacks of recurrences with their weights in one block, against PyTorch's, which are cuDNN's."""

import numpy as np
import pytest

import rgraph as C
from rgraph.testing import check_gradients

KINDS = {"lstm": "LSTM", "gru": "GRU", "rnnTanh": "RNN", "rnnReLU": "RNN"}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("op", KINDS)
def test_pytorchs_weights_give_pytorchs_results(op, bidirectional):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    options = {"nonlinearity": "relu"} if op == "rnnReLU" else {}
    net = getattr(torch.nn, KINDS[op])(3, 5, 2, bidirectional=bidirectional, **options).double()
    ends = [f"l{i}{way}" for i in (0, 1) for way in ["", "_reverse"][: 1 + bidirectional]]
    names = [
        f"{kind}_{of}_{end}" for kind in ("weight", "bias") for end in ends for of in ("ih", "hh")
    ]
    flat = np.concatenate([getattr(net, name).detach().numpy().ravel() for name in names])

    x = C.sequence.input_variable(3, np.float64)
    w = C.Parameter((C.InferredDimension, 5), init=0.0, dtype=np.float64)
    f = C.optimized_rnnstack(x, w, 5, 2, bidirectional, op, "stack")
    assert (f.name, f.shape, w.shape) == ("stack", (5 + 5 * bidirectional,), (len(flat) // 5, 5))
    w.value = flat.reshape(w.shape)
    data = [np.random.default_rng(i).normal(size=(n, 3)) for i, n in enumerate((6, 2))]
    for found, sequence in zip(f.eval({x: data}), data):
        expected = net(torch.tensor(sequence)[:, None])[0][:, 0].detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-12)
    check_gradients(f, {x: data}, [x, w], elements=10)


@pytest.mark.parametrize(
    "wrong",
    [
        *(("mgu", 5, 1, (-1, 1)), ("lstm", 0, 1, (-1, 1)), ("lstm", 5, 0, (-1, 1))),
        *(("lstm", 4, 1, (1, 4)), ("lstm", 4, 1, (-1, 5)), ("lstm", 4, 1, (37, 4))),  # not (36, 4)
    ],
)
def test_what_is_no_stack_is_refused(wrong):
    op, size, layers, shape = wrong
    w = C.Parameter(shape)
    with pytest.raises(C.GraphError):
        C.optimized_rnnstack(C.sequence.input_variable(3), w, size, layers, recurrent_op=op)
