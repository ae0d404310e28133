"""What is read out of scores, how far it is from the truth, and the example run for real."""

import re

import numpy as np
import pytest

import rgraph as C


def test_edits_are_counted_as_by_hand(example):
    cases = ["", "1"], ["12", "12"], ["12", "21"], ["1234", "24"], ["15", "1335"], ["9", "123"]
    counts = [example.edits(*(np.array([*map(int, word)], int) for word in pair)) for pair in cases]
    assert counts == [1, 0, 2, 2, 2, 3]


def test_runs_are_read_once_and_blanks_separate(example):
    classes = [10, 3, 3, 10, 3, 5, 5, 10, 10, 0]
    assert example.read(np.eye(11)[classes]).tolist() == [3, 3, 5, 0]


def test_rows_and_marks_go_together(example):
    rng = np.random.default_rng(0)
    images, digits = rng.uniform(size=(10, 8, 8)).astype(np.float32), np.arange(10)
    rows, written = example.make_rows(images, digits, 5, rng)
    for row, of in zip(rows, written):
        assert row.shape[1] == 8 and 8 * len(of) - 2 * (len(of) - 1) <= len(row) <= 8 * len(of)
        np.testing.assert_array_equal(row[:6], images[of[0]].T[:6])
        marks = example.marked(row, of)
        assert marks.shape == (len(row), 11) and marks.sum() == 2 * len(of)
        assert marks.argmax(1)[: len(of)].tolist() == of.tolist()


def test_the_model_learns_a_row(example):
    C.set_seed(0)
    rng = np.random.default_rng(0)
    images, digits = rng.uniform(size=(4, 8, 8)).astype(np.float32), np.array([7, 1, 1, 4])
    rows, written = example.make_rows(images, digits, 1, rng)
    x, t = C.sequence.input_variable(8), C.sequence.input_variable(11)
    z = example.make_model(16)(x)
    loss = C.forward_backward(C.labels_to_graph(t), z, example.BLANK)
    rate = C.learning_parameter_schedule_per_sample(0.02)
    trainer = C.Trainer(z, loss, [C.adam(z.parameters, rate, 0.9)])
    for _ in range(200):
        trainer.train_minibatch({x: rows, t: [example.marked(rows[0], written[0])]})
    assert example.read(z.eval({x: rows})[0]).tolist() == written[0].tolist()


def test_it_runs(run):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    printed = run("--quick")
    assert re.search(r"epoch  2/2  loss +[\d.]+ per row", printed)
    assert re.search(r"written: [\d ]+read:[\d ]*\n[\d.]+% edits per digit in 200", printed)
