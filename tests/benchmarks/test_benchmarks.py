"""The benchmarks measure what they say, on shapes of a few pixels."""

import json
import re

import numpy as np
import pytest

from benchmarks import measure, overhead, sides
from benchmarks.__main__ import COLUMNS, main, table
from benchmarks.programs import PROGRAMS, RAGGED, Program, quick

SMALL = Program("small", (3, 1, 2), (2, 5, 4), 3)


@pytest.mark.parametrize("name, gflop", [("W1", 48.6), ("W2", 45.3), ("W3", 0.6)])
def test_work_is_counted_from_the_shapes(name, gflop):
    assert PROGRAMS[name].flops(train=False) / 1e9 == pytest.approx(gflop, abs=0.05)


def test_training_needs_no_gradient_to_the_input():
    # one frame of one pixel, 9 multiplications and 9 additions per pair of channels and gate
    program = Program("pixel", (1,), (2, 1, 1), 5)
    of_input, of_state = 18 * 3 * 2 * 5, 18 * 3 * 5 * 5
    assert program.flops(train=False) == of_input + of_state
    assert program.flops(train=True) == 2 * of_input + 3 * of_state


def test_rounds_take_turns_after_one_that_is_not_measured():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = measure.interleaved(runs, 3, least=0.0)
    assert "".join(calls) == "ab" * 4
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3}


def test_memory_holds_at_least_the_states():
    program = Program("film", (16,), (1, 64, 64), 8)
    states = 16 * 8 * 64 * 64 * 4
    assert measure.peak_memory(program, "rgraph", train=False) > states


def test_neighbours_take_a_part_of_the_machine():
    share = measure.Neighbours().share()
    assert np.isnan(share) or 0 <= share <= 1


@pytest.mark.parametrize("kind", sides.NAMES[1:3])
def test_pytorch_computes_the_same(kind):
    pytest.importorskip("torch")
    sides.check_same([sides.make(SMALL, "rgraph"), sides.make(SMALL, kind)])


@pytest.mark.parametrize("what", ["forward", "train"])
def test_a_side_that_computes_something_else_is_found(what):
    ours, other = sides.make(SMALL, "rgraph"), sides.make(SMALL, "rgraph")
    if what == "forward":
        states = [s + 0.01 for s in other.forward()]
        other.forward = lambda: states
    else:
        other.train = lambda: {name: 1.01 * g for name, g in ours.train().items()}
    with pytest.raises(AssertionError, match=r"small.*differ by"):
        sides.check_same([ours, other])


def test_quick_run_of_all_parts(tmp_path, capsys):
    file = tmp_path / "numbers.json"
    peers = ["--peers", *(["eager"] if sides.torch_version() else [])]
    rows = main(["--quick", "--forward", "--programs", "w3", "--record", str(file), *peers])
    printed = capsys.readouterr().out
    assert json.loads(file.read_text())["rows"] == rows
    by_part = {}
    for row in rows:
        by_part.setdefault(row["part"], []).append(row)
    assert list(by_part) == ["programs", "frames", "ragged", "overhead"]
    for row in by_part["programs"] + by_part["frames"] + by_part["ragged"]:
        assert set(row) == {"part", *COLUMNS}
        assert row["ms"] > 0
        assert row["MB"] > 0
        assert row["side"] in printed
    names = [row["side"] for row in by_part["programs"]]
    assert names == (["rgraph", "PyTorch eager"] if len(peers) > 1 else ["rgraph"])
    first, *rest = by_part["ragged"]
    assert first["ratio"] == 1
    for row in rest:
        assert row["ratio"] == pytest.approx(first["ms"] / row["ms"])


def test_training_and_forward_are_measured_by_default():
    rows = main(["--quick", "--programs", "W3", "--parts", "programs", "--peers"])
    assert [(row["side"], row["run"]) for row in rows] == [
        ("rgraph", "forward"),
        ("rgraph", "train"),
    ]


def test_quick_keeps_lengths_different():
    assert quick(RAGGED).lengths == (4, 2, 2, 2)


def test_overhead_names_what_it_measured():
    assert list(overhead.build(8)) == ["build", "first run", "first gradient"]
    assert "rgraph" in overhead.lstm(2, 3, 1, 0.0)


def test_table_is_markdown():
    text = table(
        [{"side": "a", "ms": 1234.5, "of peak": 0.256}, {"side": "bb", "ms": 0.5, "of peak": 1.0}]
    )
    assert re.sub(" +", " ", text).splitlines() == [
        "| side | ms | of peak |",
        "| ---- | ---: | ------: |",
        "| a | 1234 | 25.6% |",
        "| bb | 0.5 | 100.0% |",
    ]
