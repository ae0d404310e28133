"""Forward passes of long films take little memory, and give what frames give one by one."""

import tracemalloc

import numpy as np
import pytest

import rgraph as C
from rgraph.runtime import forward

LENGTHS, WIDE = (400, 900, 650), 512  # all frames outside of loops: 4 MB


def films(shape=(16,), lengths=LENGTHS):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, *shape)).astype("f") for n in lengths]


def recurrence(x):
    wide = C.layers.Dense(WIDE, activation=C.tanh)(x)
    return C.layers.Recurrence(C.layers.GRU(16))(wide)


def most_memory(run, first=None):
    (first or run)()  # plans are made
    tracemalloc.start()
    result = run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, most


@pytest.mark.cpu
def test_a_long_film_takes_less_memory_than_the_work_outside_of_its_loop():
    x = C.sequence.input_variable(16)
    h, data = recurrence(x), films()
    found, most = most_memory(lambda: h.eval({x: data}))
    fed = sum(a.nbytes for a in data)
    assert most < 2 * fed + 2 * forward.CACHE < 4 * WIDE * sum(LENGTHS)
    live = h.stream()
    one_by_one = [live(frame) for frame in data[0]]
    np.testing.assert_allclose(found[0], one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.cpu
def test_films_of_different_lengths_are_not_copied_once_more_when_they_are_given_back():
    x = C.sequence.input_variable(16)
    wide = C.layers.Recurrence(C.layers.GRU(256))(x)
    data = films(lengths=tuple(5 * n for n in LENGTHS))
    few = [film[:5] for film in data]  # whose memory is too little to be used again
    found, most = most_memory(lambda: wide.eval({x: data}), lambda: wide.eval({x: few}))
    assert most < 1.7 * sum(a.nbytes for a in found)
    for values, film in zip(found, data, strict=True):
        live = wide.stream()
        one_by_one = [live(frame) for frame in film[:400]]
        np.testing.assert_allclose(values[:400], one_by_one, rtol=1e-4, atol=1e-5)


def test_images_of_each_frame_and_of_each_film_are_those_of_each_film_alone():
    x = C.sequence.input_variable((1, 8, 8))
    image = C.layers.Convolution2D((3, 3), 16, pad=True)(x)
    y = C.combine(image, C.sequence.last(image), C.reduce_sum(image))
    data = films((1, 8, 8), (150, 40, 200, 40))
    together = y.eval({x: data})
    for i, film in enumerate(data):
        alone = y.eval({x: [film]})
        for output in y.outputs:
            np.testing.assert_allclose(together[output][i], alone[output][0], rtol=1e-4, atol=1e-5)


def test_sums_and_last_frames_come_together_over_windows():
    x = C.sequence.input_variable(16)
    wide, data = C.layers.Dense(WIDE, init=0.1)(x), films()
    narrow = C.reduce_mean(wide)
    ends = C.sequence.last(narrow), C.sequence.first(narrow), C.sequence.reduce_sum(narrow)
    last, first, total = C.combine(*ends).eval({x: data}).values()
    means = [0.1 * film.sum(1, dtype="d") for film in data]
    np.testing.assert_allclose(last.ravel(), [m[-1] for m in means], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first.ravel(), [m[0] for m in means], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(total.ravel(), [m.sum() for m in means], rtol=1e-4, atol=1e-4)


def test_what_looks_ahead_is_run_whole():
    x = C.sequence.input_variable(16)
    both = C.splice(recurrence(x), C.sequence.future_value(x))
    found = both.eval({x: films()})
    for value, film in zip(found, films(), strict=True):
        np.testing.assert_array_equal(value[:-1, 16:], film[1:])


def test_an_empty_sequence_among_long_ones_is_refused_as_among_short_ones():
    x = C.sequence.input_variable(16)
    last = C.sequence.last(C.layers.Dense(WIDE)(x))
    with pytest.raises(C.GraphError, match="an empty sequence has no first and no last frame"):
        last.eval({x: films(lengths=(*LENGTHS, 0))})
