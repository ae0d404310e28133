"""Sequences made of sequences, against the same done to lists of arrays."""

import numpy as np
import pytest

import rgraph as C

LENGTHS = (3, 1, 5, 2)
rng = np.random.default_rng(0)
CLIPS = [rng.normal(size=(n, 2)) for n in LENGTHS]


def windows(clip, size, stride):
    starts = range(0, len(clip) - size + 1, stride)
    return np.array([clip[i : i + size] for i in starts]).reshape(-1, size, 2)


S = C.sequence
EDITS = {
    "reverse": (S.reverse, lambda c: c[::-1]),
    "stride": (lambda x: S.stride(x, 2), lambda c: c[::2]),
    "stride from 1": (lambda x: S.stride(x, 3, 1), lambda c: c[1::3]),
    "pad": (lambda x: S.pad(x, 2, 1), lambda c: np.pad(c, ((2, 1), (0, 0)))),
    "pad with 7": (
        lambda x: S.pad(x, 0, 2, 7),
        lambda c: np.pad(c, ((0, 2), (0, 0)), constant_values=7),
    ),
    "join": (
        lambda x: S.join(x, S.stride(x, 2), x * 3),
        lambda c: np.concatenate([c, c[::2], 3 * c]),
    ),
    "window": (lambda x: S.window(x, 2), lambda c: windows(c, 2, 1)),
    "window of 3, stride 2": (lambda x: S.window(x, 3, 2), lambda c: windows(c, 3, 2)),
    "length": (S.length, len),
    "mean": (S.reduce_mean, lambda c: c.mean(axis=0)),
}
every_edit = pytest.mark.parametrize("edit, truth", EDITS.values(), ids=EDITS)


@every_edit
def test_values(edit, truth):
    x = S.input_variable(2, np.float64)
    found = edit(x).eval({x: CLIPS})
    for clip, got in zip(CLIPS, found, strict=True):
        np.testing.assert_allclose(got, truth(clip), rtol=1e-12)


@every_edit
def test_gradients(edit, truth):
    x = S.input_variable(2, np.float64)
    if edit is S.length:
        assert not np.concatenate(edit(x).grad({x: CLIPS}, wrt=x)).any()
        return
    C.testing.check_gradients(C.square(edit(x)), {x: CLIPS}, [x], order=2)


def test_a_reversed_sequence_is_on_the_same_axis():
    x = S.input_variable(2, np.float64)
    found = (x + S.reverse(x)).eval({x: CLIPS})
    for clip, got in zip(CLIPS, found, strict=True):
        np.testing.assert_allclose(got, clip + clip[::-1])


def test_sequences_of_no_frames():
    x = S.input_variable(2, np.float64)
    clips = [np.ones((2, 2)), np.zeros((0, 2))]
    assert [len(c) for c in S.pad(x, 1).eval({x: clips})] == [3, 1]
    assert [len(c) for c in S.join(x, x).eval({x: clips})] == [4, 0]
    assert [len(c) for c in S.reverse(x).eval({x: clips})] == [2, 0]
    np.testing.assert_array_equal(S.length(x).eval({x: clips}), [2, 0])


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda x: S.stride(x, 0), "at least 1"),
        (lambda x: S.pad(x, -1), "0 or more"),
        (lambda x: S.window(x, 0), "at least 1"),
        (lambda x: S.join(), "given none"),
        (lambda x: S.length(S.last(x)), "needs a sequence"),
    ],
)
def test_mistakes(build, words):
    with pytest.raises(C.GraphError, match=words):
        build(S.input_variable(2))
