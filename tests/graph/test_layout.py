"""Layouts, worked out by hand.

Sequences a (2 frames), b (4), c (1), d (2) lie longest first, b a d c, one step after the other:

    row    0  1  2  3 | 4  5  6 | 7 | 8
    frame  b0 a0 d0 c0| b1 a1 d1| b2| b3
"""

import numpy as np
import pytest

from rgraph.graph import Layout

LENGTHS = [2, 4, 1, 2]
FRAMES = ["b0", "a0", "d0", "c0", "b1", "a1", "d1", "b2", "b3"]
SEQUENCES = [["a0", "a1"], ["b0", "b1", "b2", "b3"], ["c0"], ["d0", "d1"]]


@pytest.fixture
def layout():
    return Layout(LENGTHS)


def test_where_the_steps_lie(layout):
    assert len(layout) == 4
    assert layout.order.tolist() == [1, 0, 3, 2]
    assert layout.lengths.tolist() == [4, 2, 2, 1]
    assert (layout.steps, layout.rows) == (4, 9)
    assert layout.counts == [4, 3, 1, 1]
    assert layout.offsets == [0, 4, 7, 8, 9]


def test_pack_and_unpack(layout):
    rows = layout.pack([np.array(s) for s in SEQUENCES], np.empty(9, "U2"))
    assert rows.tolist() == FRAMES
    assert [s.tolist() for s in layout.unpack(rows)] == SEQUENCES


def test_what_each_row_is(layout):
    assert ["badc"[i] for i in layout.sequence_of_row] == [f[0] for f in FRAMES]
    assert layout.step_of_row.tolist() == [int(f[1]) for f in FRAMES]
    assert layout.length_of_row.tolist() == [LENGTHS["abcd".index(f[0])] for f in FRAMES]
    assert [FRAMES[i] for i in layout.last_row] == ["b3", "a1", "d1", "c0"]
    assert [[FRAMES[i] for i in rows] for rows in layout.rows_of_sequences] == SEQUENCES
    picked = layout.row(np.array([0, 0, 2]), np.array([0, 3, 1]))
    assert [FRAMES[i] for i in picked] == ["b0", "b3", "d1"]


def test_values_per_sequence_are_in_the_first_layouts_order(layout):
    assert layout.sorted_as_batch
    assert layout.batch_rows.tolist() == [0, 1, 2, 3]
    assert layout.batch_row_of_row.tolist() == layout.sequence_of_row.tolist()


def test_a_second_layout_follows_the_first_ones_order(layout):
    """The same four sequences on another axis, with 3, 1, 1 and 4 frames: longest first d a b c."""
    second = Layout([3, 1, 1, 4], layout.batch_order)
    assert ["abcd"[i] for i in second.order] == list("dabc")
    per_sequence = ["abcd"[i] for i in second.batch_order]
    assert per_sequence == list("badc")
    assert not second.sorted_as_batch
    assert [per_sequence[i] for i in second.batch_rows] == list("dabc")
    assert ["dabc"[i] for i in second.sorted_rows] == per_sequence
    first_frames = second.batch_row_of_row[:4]
    assert [per_sequence[i] for i in first_frames] == list("dabc")


def test_sequences_of_equal_lengths_keep_their_order():
    layout = Layout([3, 3, 3])
    assert layout.order.tolist() == [0, 1, 2]
    frames = np.arange(9).reshape(3, 3)
    rows = layout.pack(list(frames), np.empty(9, int))
    assert rows.tolist() == [0, 3, 6, 1, 4, 7, 2, 5, 8]


@pytest.mark.parametrize("lengths", [[], [0], [0, 2, 0], [1], [5]])
def test_empty_sequences_and_no_sequences(lengths):
    layout = Layout(lengths)
    assert (layout.rows, layout.steps) == (sum(lengths), max(lengths, default=0))
    frames = [np.arange(n) + 10 * i for i, n in enumerate(lengths)]
    rows = layout.pack(frames, np.empty(sum(lengths), int))
    for found, expected in zip(layout.unpack(rows), frames, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert len(layout.sequence_of_row) == len(layout.step_of_row) == layout.rows


def test_random_lengths_there_and_back():
    rng = np.random.default_rng(1)
    for _ in range(20):
        lengths = rng.integers(0, 6, rng.integers(1, 8))
        layout = Layout(lengths)
        frames = [rng.normal(size=(n, 2)) for n in lengths]
        rows = layout.pack(frames, np.full((layout.rows, 2), np.nan))
        assert not np.isnan(rows).any()
        for found, expected in zip(layout.unpack(rows), frames, strict=True):
            np.testing.assert_array_equal(found, expected)
