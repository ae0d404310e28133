"""The model of what training by many machines costs."""

import json

import pytest

from benchmarks import scaling
from benchmarks.scaling import Network, Work, efficiency, most, seconds_of_sum


def test_a_sum_worked_by_hand():
    """8 workers, 8 MB, 1 ms and 1 GB/s: 2 * 3 ms, and 2 * 7/8 * 8 ms."""
    work, network = Work(0.1, 8e6), Network(1e-3, 1e9)
    assert seconds_of_sum(work, 1, network) == 0
    assert seconds_of_sum(work, 8, network) == pytest.approx(0.020)
    assert efficiency(work, 8, network) == pytest.approx(0.1 / 0.12)
    assert efficiency(work, 8, network, overlap=True) == 1  # back-propagation takes 67 ms
    assert efficiency(work, 8, network, shared=True) == pytest.approx(0.0125 / 0.0325)
    assert most(work, network) == 16  # 23 ms beside 100; of 32 it is 25.5, above a fifth


def test_the_table_and_the_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    measured = {
        "ms of a worker's step": 100,
        "KB of gradients": 40,
        "us of a sum of one number": 20,
        "GB/s of a large sum": 2,
    }
    rows = [{"part": "ranks", "what": k, "measured": v} for k, v in measured.items()]
    record, picture = tmp_path / "record.json", tmp_path / "picture.png"
    record.write_text(json.dumps({"rows": rows}))
    found = scaling.main([str(record), "--plot", str(picture)])
    assert len(found) == 9 and found[0]["network"] == "this machine"
    assert found[0]["ms of a sum of 64"] == pytest.approx(2 * 6 * 0.01 + 2 * 63 / 64 * 0.02)
    assert "one shared" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
