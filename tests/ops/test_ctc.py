"""Connectionist temporal classification: against CNTK 2.7's numbers, PyTorch and all paths."""

import itertools

import numpy as np
import pytest

import rgraph as C
from rgraph.testing import check_gradients

CLASSES, BLANK = 4, 3


def scores(*shape):
    return np.sin(np.arange(np.prod(shape)) * 1.7).reshape(shape).astype(np.float32) * 2


def marks(frames, *begins):
    """The labels of a sequence, which begin on these (frame, class)."""
    marked = np.zeros((frames, CLASSES), np.float32)
    for frame, label in begins:
        marked[frame, label] = 2
    return marked


FRAMES = [scores(6, CLASSES), scores(3, CLASSES) + 1, scores(4, CLASSES)]
LABELS = [marks(6, (0, 0), (1, 1), (2, 1)), marks(3, (0, 2)), marks(4)]


def made(blank=BLANK, delay=-1, dtype=np.float32, classes=CLASSES):
    x = C.sequence.input_variable(classes, dtype, needs_gradient=True)
    t = C.sequence.input_variable(classes, dtype)
    return C.forward_backward(C.labels_to_graph(t), x, blank, delay), x, t


def test_a_ragged_minibatch_is_cntks():
    f, x, t = made()
    assert f.shape == () and f.dynamic_axes == ()
    np.testing.assert_allclose(f.eval({x: FRAMES, t: LABELS}), 27.115867614746094, rtol=1e-6)
    alone = [f.eval({x: [a], t: [b]}) for a, b in zip(FRAMES, LABELS)]
    expected = 7.990549087524414, 7.65749979019165, 11.467818260192871
    np.testing.assert_allclose(alone, expected, rtol=1e-6)
    first, second, third = f.grad({x: FRAMES, t: LABELS}, [x])
    np.testing.assert_allclose(
        first[::2],
        [
            [-0.8586398, 0.8053102, 0.0664743, -0.0131447],
            [0.6024019, -0.216667, 0.0168532, -0.402588],
            [0.5255953, -0.3826964, 0.0210998, -0.1639986],
        ],
        atol=5e-7,
    )
    np.testing.assert_allclose(
        [second[0], third[0]],
        [
            [0.110819, 0.8053103, -0.7974721, -0.1186571],
            [0.110819, 0.8053102, 0.0664743, -0.9826035],
        ],
        atol=5e-7,
    )


def test_another_blank_and_a_place_of_each_label_that_does_not_matter():
    f, x, t = made(blank=0)
    for places in ((0, 3), (2, 1)), ((1, 3), (5, 1)):
        value = f.eval({x: [FRAMES[0]], t: [marks(6, *places)]})
        np.testing.assert_allclose(value, 6.363842010498047, rtol=1e-6)


def test_frames_without_a_time_axis_are_sequences_of_one():
    x, t = C.input_variable(5, needs_gradient=True), C.input_variable(5)
    f = C.forward_backward(C.labels_to_graph(t), x, 4)
    at = {x: np.array([[1, 2, 3, 4, 5]] * 2), t: np.array([[2, 0, 0, 0, 0], [0] * 5])}
    softmax = np.exp(np.arange(1, 6)) / np.exp(np.arange(1, 6)).sum()
    np.testing.assert_allclose(f.eval(at), -np.log(softmax[[0, 4]]).sum(), rtol=1e-6)
    np.testing.assert_allclose(f.grad(at), softmax - np.eye(5)[[0, 4]], atol=1e-6)


@pytest.mark.parametrize("delay, expected", [(-1, 8.009826), (0, 8.222773), (1, 8.012072)])
def test_the_delay_is_cntks_where_the_last_blank_is_of_no_account(delay, expected):
    """CNTK reads behind its array for the last blank, which here the last frame excludes."""
    f, x, t = made(delay=delay)
    late = scores(10, CLASSES)
    late[-1, BLANK] = -60
    at = {x: [late], t: [marks(10, (0, 0), (3, 1), (5, 1), (7, 2))]}
    np.testing.assert_allclose(f.eval(at), expected, rtol=1e-6)
    slopes = {
        -1: [0.5050573, -0.2548434, 0.0210263, -0.2712401],
        0: [0.5255953, -0.2922285, 0.0210089, -0.2543757],
        1: [0.5072587, -0.2554795, 0.0210262, -0.2728053],
    }
    np.testing.assert_allclose(f.grad(at)[0][4], slopes[delay], atol=5e-7)


def test_cntks_delay_of_0():
    """For which CNTK's index behind the array happens to exclude nothing."""
    f, x, t = made(delay=0)
    at = {x: [scores(10, CLASSES)], t: [marks(10, (0, 0), (3, 1), (5, 1), (7, 2))]}
    np.testing.assert_allclose(f.eval(at), 8.21216106414795, rtol=1e-6)


def all_paths(probabilities, labels, starts, delay):
    """The sum over every way to give each frame a class that reads as the labels, with the states
    counted as Graves' paper has them."""
    frames = len(probabilities)
    states = [BLANK, *itertools.chain(*((label, BLANK) for label in labels))]
    ends = [*starts[1:], *[frames] * 2]
    total = 0.0
    for path in itertools.combinations_with_replacement(range(len(states)), frames):
        steps = list(zip(path, path[1:]))
        whole = path[0] in (0, 1) and path[-1] >= len(states) - 2
        for a, b in steps:
            between = b - a == 2 and states[b] != BLANK and states[b] != states[a]
            whole = whole and (b - a < 2 or between)
        if delay >= 0:
            for t, s in enumerate(path):
                last = ends[s // 2] + delay - (1 if s % 2 == 0 else 0)
                whole = whole and (t <= last or s == len(states) - 1)
        if whole:
            total += np.prod([probabilities[t, states[s]] for t, s in enumerate(path)])
    return -np.log(total)


@pytest.mark.parametrize("delay", [-1, 0, 1, 2, 4])
def test_every_path_counts_once(delay):
    f, x, t = made(delay=delay, dtype=np.float64)
    frames = scores(7, CLASSES).astype(float)
    softmax = np.exp(frames) / np.exp(frames).sum(1, keepdims=True)
    starts, labels = (0, 2, 3), (2, 0, 0)
    at = {x: [frames], t: [marks(7, *zip(starts, labels))]}
    np.testing.assert_allclose(f.eval(at), all_paths(softmax, labels, starts, delay), rtol=1e-12)
    check_gradients(f, at, [x])


def test_ragged_minibatches_agree_with_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(3)
    classes, lengths, counts = 7, (30, 12, 25, 12), (9, 3, 0, 6)
    frames = [rng.normal(size=(n, classes)) * 3 for n in lengths]
    labels = [rng.integers(1, 4, n) for n in counts]
    targets = []
    for n, of in zip(lengths, labels):
        begins = np.sort(rng.choice(n, len(of), replace=False))
        targets.append(np.zeros((n, classes)))
        targets[-1][begins, of] = 2
    f, x, t = made(blank=0, dtype=np.float64, classes=classes)
    at = {x: frames, t: targets}
    theirs = [torch.tensor(a, requires_grad=True) for a in frames]
    padded = torch.nn.utils.rnn.pad_sequence([a.log_softmax(-1) for a in theirs])
    given = torch.tensor(np.concatenate(labels)), torch.tensor(lengths), torch.tensor(counts)
    loss = torch.nn.functional.ctc_loss(padded, *given, blank=0, reduction="sum")
    loss.backward()
    np.testing.assert_allclose(f.eval(at), loss.item(), rtol=1e-10)
    for ours, other in zip(f.grad(at), theirs):
        np.testing.assert_allclose(ours, other.grad.numpy(), atol=1e-10)
    check_gradients(f, at, [x], elements=20)


def test_long_sequences_in_float32():
    """3,000 frames have a probability of e**-4000; float32's own sums would be off by 1e-4."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(5)
    frames = rng.normal(size=(3000, 20)).astype(np.float32) * 2
    labels = rng.integers(0, 19, 700)
    target = np.zeros((3000, 20), np.float32)
    target[np.sort(rng.choice(3000, 700, replace=False)), labels] = 2
    f, x, t = made(blank=19, classes=20)
    theirs = torch.tensor(frames.astype(float), requires_grad=True)
    given = torch.tensor(labels)[None], torch.tensor([3000]), torch.tensor([700])
    log = theirs.log_softmax(-1)[:, None]
    loss = torch.nn.functional.ctc_loss(log, *given, blank=19, reduction="sum")
    loss.backward()
    at = {x: [frames], t: [target]}
    np.testing.assert_allclose(f.eval(at), loss.item(), rtol=1e-6)
    np.testing.assert_allclose(f.grad(at)[0], theirs.grad.numpy(), atol=1e-5)


def test_training_is_cntks():
    """The loss counts per frame; weights and losses of three steps on CNTK 2.7."""
    x, t = C.sequence.input_variable(CLASSES), C.sequence.input_variable(CLASSES)
    w = C.Parameter((CLASSES, CLASSES), init=np.eye(CLASSES, dtype=np.float32))
    y = C.times(x, w)
    loss = C.forward_backward(C.labels_to_graph(t), y, BLANK)
    trainer = C.Trainer(y, loss, [C.sgd([w], C.learning_parameter_schedule(0.1))])
    losses = []
    for _ in range(3):
        trainer.train_minibatch({x: FRAMES, t: LABELS})
        losses.append(trainer.previous_minibatch_loss_average)
    np.testing.assert_allclose(losses, [2.0858360, 1.8182332, 1.5863325], rtol=1e-6)
    np.testing.assert_allclose(
        w.value[:2],
        [
            [0.8098933, -0.0377224, 0.0364348, 0.1913943],
            [-0.0287951, 0.7967849, 0.075478, 0.1565323],
        ],
        atol=1e-6,
    )


def test_a_sequence_without_frames_makes_no_difference():
    f, x, t = made()
    none = np.zeros((0, CLASSES), np.float32)
    at = {x: [FRAMES[0], none, FRAMES[1]], t: [LABELS[0], none, LABELS[1]]}
    np.testing.assert_allclose(f.eval(at), 7.9905491 + 7.6574998, rtol=1e-6)
    assert [len(g) for g in f.grad(at)] == [6, 0, 3]


def test_too_few_frames_are_refused():
    f, x, t = made()
    labels = [LABELS[0], marks(3, (0, 0), (1, 0), (2, 1))]
    with pytest.raises(C.GraphError, match=r"sequence 1 .* has 3 frames.* 3 labels need 4 frames"):
        f.eval({x: [FRAMES[0], FRAMES[1]], t: labels})


def test_labels_that_are_not_marked_are_refused():
    f, x, t = made()
    with pytest.raises(C.GraphError, match="no frame marks the beginning of a label") as error:
        f.eval({x: [FRAMES[0]], t: [LABELS[0] / 2]})
    assert "2 marks the first frame" in str(error.value)
    silent = np.zeros((6, CLASSES), np.float32)
    silent[:, BLANK] = 1
    assert f.eval({x: [FRAMES[0]], t: [silent]}) == f.eval({x: [FRAMES[0]], t: [marks(6)]})


def test_a_label_that_is_the_blank_is_refused():
    f, x, t = made()
    with pytest.raises(C.GraphError, match="a label has class 3, which is the blank"):
        f.eval({x: [FRAMES[0]], t: [marks(6, (0, 3))]})


@pytest.mark.parametrize(
    "blank, delay, why",
    [
        (4, -1, "blankTokenId must be from 0 to 3, got 4"),
        (-1, -1, "blankTokenId must be from 0 to 3, got -1"),
        (0.5, -1, "blankTokenId"),
        (3, -2, "delayConstraint must be a number of frames"),
    ],
)
def test_arguments_of_no_meaning_are_refused(blank, delay, why):
    with pytest.raises(C.GraphError, match=why):
        made(blank, delay)


def test_labels_and_features_must_go_together():
    x, t = C.sequence.input_variable(4), C.sequence.input_variable(5)
    with pytest.raises(C.GraphError, match="vectors of the same size"):
        C.forward_backward(C.labels_to_graph(t), x, 3)
    other = C.sequence.input_variable(4, sequence_axis=C.Axis("other"))
    with pytest.raises(C.GraphError, match="same dynamic axes"):
        C.forward_backward(C.labels_to_graph(other), x, 3)


def test_there_is_no_second_derivative():
    f, x, t = made()
    at = {x: [FRAMES[0]], t: [LABELS[0]]}
    with pytest.raises(C.GraphError, match="no second derivative"):
        C.reduce_sum(f.gradients([x])[0]).grad(at, [x])
