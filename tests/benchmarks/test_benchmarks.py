"""The benchmarks measure what they say, on shapes of a few pixels."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import benchmarks
import rgraph as C
from benchmarks import measure, memory, overhead, ranks, report, sides
from benchmarks.__main__ import main
from benchmarks.compare import COLUMNS
from benchmarks.programs import PARTS, PROGRAMS, ConvGRU, lstm
from benchmarks.programs.base import EAGER

pytestmark = pytest.mark.cpu

SMALL = ConvGRU("small", (3, 1, 2), (2, 5, 4), 3)


# ------------------------------------------------------------------------------- the programs


@pytest.mark.parametrize("name, gflop", [("W1", 48.6), ("W2", 45.3), ("W3", 0.6)])
def test_work_is_counted_from_the_shapes(name, gflop):
    assert PROGRAMS[name].flops(train=False) / 1e9 == pytest.approx(gflop, abs=0.05)


def test_training_needs_no_gradient_to_the_input():
    # one frame of one pixel, 9 multiplications and 9 additions per pair of channels and gate
    program = ConvGRU("pixel", (1,), (2, 1, 1), 5)
    of_input, of_state = 18 * 3 * 2 * 5, 18 * 3 * 5 * 5
    assert program.flops(train=False) == of_input + of_state
    assert program.flops(train=True) == 2 * of_input + 3 * of_state


def test_the_keras_networks_have_as_many_weights_as_their_authors_say():
    shapes = PROGRAMS["slices"].shapes()
    convnet = [shapes[f"{kind}{i}"] for kind in "Kb" for i in range(3)]
    assert sum(map(np.prod, convnet)) == 19971
    assert np.prod(shapes["K"]) + np.prod(shapes["b"]) == 19
    assert PROGRAMS["quadrants"].pooled == 32 * 26 * 5


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_weight_has_a_value_and_no_other(name):
    program = PROGRAMS[name].quick()
    ours = program.in_rgraph()
    assert {w: p.shape for w, p in ours.parameters.items()} == dict(program.shapes())
    assert set(ours.loss.parameters) == set(ours.parameters.values())
    assert ours.inputs.keys() == program.data().keys()


@pytest.mark.parametrize("name", PROGRAMS)
def test_pytorch_computes_the_same(name):
    pytest.importorskip("torch")
    program = PROGRAMS[name].quick()
    ways = [way for way in program.ways if not way.compiled]
    found = [sides.make(program, ""), *(sides.make(program, way) for way in ways)]
    assert sides.check_same(found) < 1e-5


def test_lstm_gates_there_and_back():
    """PyTorch: input, forget, new, output, one below the other."""
    ours = np.arange(16.0).reshape(2, 8)
    program = PROGRAMS["LSTM"]
    theirs = program.in_torch_layout("W", ours)
    np.testing.assert_array_equal(theirs[:, 0], [0, 1, 4, 5, 2, 3, 6, 7])
    np.testing.assert_array_equal(program.from_torch_layout("W", theirs), ours)
    np.testing.assert_array_equal(lstm.regated(ours[0]), theirs[:, 0])


def test_ragged_lengths_are_as_told():
    for program in PARTS["ragged"]:
        assert len(program.lengths) == 16
        assert 4 <= min(program.lengths) < max(program.lengths) <= 64
        assert len(set(program.quick().lengths)) > 1


@pytest.mark.parametrize("what", ["forward", "train"])
def test_a_side_that_computes_something_else_is_found(what):
    ours, other = sides.make(SMALL, ""), sides.make(SMALL, "")
    if what == "forward":
        states = [s + 0.01 for s in other.forward()]
        other.forward = lambda: states
    else:
        other.train = lambda: {name: 1.01 * g for name, g in ours.train().items()}
    with pytest.raises(AssertionError, match=r"small.*differ by"):
        sides.check_same([ours, other])


def test_each_engine_runs_its_side():
    before = C.device.engine().name
    try:
        engines = C.device.cpu_engines()
        assert sides.check_same([sides.make(SMALL, name) for name in engines]) < 1e-5
        assert C.device.engine().name == engines[-1]
    finally:
        C.device.use_cpu_engine(before)


# ---------------------------------------------------------------------------------- measuring


def test_rounds_take_turns_after_one_that_is_not_measured():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = measure.interleaved(runs, 3, least=0.0)
    assert "".join(calls) == "ab" * 4
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize("way", ["", EAGER], ids=["rgraph", "PyTorch"])
def test_memory_holds_at_least_the_states(way):
    if way:
        pytest.importorskip("torch")
    program = ConvGRU("film", (16,), (1, 64, 64), 8)
    states = 16 * 8 * 64 * 64 * 4
    assert states < memory.peak_memory(program, way, train=False) < 100 * states


def test_neighbours_take_a_part_of_the_machine():
    share = measure.Neighbours().share()
    assert np.isnan(share) or 0 <= share <= 1


def test_overhead_names_what_it_measured():
    assert list(overhead.build(8)) == ["build", "first run", "first gradient"]
    assert "rgraph" in overhead.lstm(2, 3, 1, 0.0)
    assert list(overhead.planning(SMALL, 1, 0.0)) == ["forward", "train"]


# -------------------------------------------------------------------------------- the command


def test_quick_run_of_all_parts(tmp_path, capsys):
    record, picture = tmp_path / "numbers.json", tmp_path / "ratios.png"
    there = bool(sides.torch_version())
    peers = ["--peers", *(["eager", "channels-last"] if there else [])]
    names = ["--programs", "W1", "LSTM", "ragged-convgru", "t128"]
    arguments = ["--quick", *names, "--record", str(record), *peers]
    if there:
        pytest.importorskip("matplotlib")
        arguments += ["--plot", str(picture)]
    rows = main(arguments)
    printed = capsys.readouterr().out
    written = json.loads(record.read_text())
    assert written["rows"] == rows
    by_part = {}
    for row in rows:
        by_part.setdefault(row["part"], []).append(row)
    own = ["small", "overhead", "neighbours", "reading", "memory", "windows"]
    own += ["ranks"] if ranks.mpirun() else []
    assert list(by_part) == ["programs", "ragged", "long", *own]
    for row in rows:
        assert row.get("ms", row.get("measured", row.get("MB"))) > 0
        assert str(row.get("program", row.get("what"))) in printed
    assert "planning W1, train, ms" in [line["what"] for line in written["held to"]]
    runs = [(row["program"][:2], row["run"]) for row in by_part["programs"]]
    numpy = [("W1", "forward on numpy")] if C.device.engine().name != "numpy" else []
    train = [("W1", "train"), ("LS", "forward"), ("LS", "train")]
    assert runs == [("W1", "forward"), *numpy, *train]
    if there:
        assert picture.read_bytes().startswith(b"\x89PNG")
        for row in by_part["programs"] + by_part["ragged"] + by_part["long"]:
            best = min(row["all, ms"][f"PyTorch {row['PyTorch']}"])
            assert row["ratio"] == pytest.approx(best / row["ms"])
            others = [v for name, v in row["all, ms"].items() if name.startswith("PyTorch")]
            assert best == min(map(min, others))
        assert "rgraph padded" in by_part["ragged"][0]["all, ms"]


def test_one_run_of_one_program_without_pytorch(capsys):
    rows = main(["--quick", "--train", "--programs", "w3", "--parts", "programs", "--peers"])
    assert [(row["program"][:2], row["run"], "ratio" in row) for row in rows] == [
        ("W3", "train", False)
    ]
    assert "Held to" not in capsys.readouterr().out


def test_a_program_that_fails_does_not_end_the_run(monkeypatch, capsys):
    def differ(found):
        if found[0].program.name == "W2":
            raise AssertionError("W2: they differ")

    monkeypatch.setattr(sides, "check_same", differ)
    with pytest.raises(SystemExit, match="W2: they differ"):
        main(["--quick", "--train", "--programs", "W2", "W3", "--parts", "programs", "--peers"])
    assert "| W3" in capsys.readouterr().out


def test_what_is_held_to_is_judged():
    row = {"program": "W1: film", "run": "train", "target": 1.1, "ratio": 1.2, "of rounds": 1.0}
    row |= {"memory target": 0.8, "MB": 90.0, "its MB": 100.0}
    planning = {"what": "planning W1", "side": "train", "ms": 200.0, "at most, ms": 300.0}
    free = {"program": "views: 3-D", "run": "train", "target": None, "ratio": 0.5}
    found = [(line["target"], line["measured"], line["met"]) for line in report.held([row, free])]
    assert found == [("at least 1.1", 1.2, "yes"), ("at most 0.8", 0.9, "no")]
    assert [line["met"] for line in report.held([planning])] == ["yes"]


def test_table_is_markdown():
    rows = [{"side": "a", "ms": 1234.5, "of peak": 0.256}, {"side": "bb", "ms": 0.5}]
    columns = ["side", "ms", "of peak", "MB"]
    assert re.sub(" +", " ", report.table(rows, columns)).splitlines() == [
        "| side | ms | of peak |",
        "| ---- | ---: | ------: |",
        "| a | 1234 | 25.6% |",
        "| bb | 0.5 | |",
    ]


def test_columns_are_explained():
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        cwd=Path(benchmarks.__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert all(text in shown for text in COLUMNS.values())


def test_no_modules_import_each_other():
    """At their tops, or inside: a circle is a circle."""
    root = Path(benchmarks.__file__).parent
    needs = {}
    for path in root.rglob("*.py"):
        name = ".".join(("benchmarks", *path.relative_to(root).with_suffix("").parts))
        package = name.split(".")[:-1]
        found = needs.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
                names = [".".join(filter(None, [*base, a.name])) for a in node.names]
                found |= {".".join(filter(None, base)), *names}
    found = dict(needs)
    while found:  # what needs nothing that is left is no part of a circle
        free = [n for n in found if not (found[n] - {n}) & set(found)]
        assert free, f"a circle among {sorted(found)}"
        for name in free:
            del found[name]
