"""How other people's programs are run: what is read of them, and what is compared."""

import json
import sys

import numpy as np
import pytest

from conformance.programs import __main__ as programs

CELLS = [
    "%matplotlib inline\nimport matplotlib.pyplot as plt\nimport numpy as np\nimport cntk as C",
    "x, t = C.input_variable(2), C.input_variable(1)\n"
    "z = C.layers.Sequential([C.layers.Dropout(0.5), C.layers.Dense(1, init=0.5)])(x)\n"
    "loss = C.squared_error(z, t)\n"
    "if loss:\n"
    "    trainer = C.Trainer(z, loss, C.sgd(z.parameters, C.learning_parameter_schedule(0.1)))",
    "for i in range(1000):\n"
    "    trainer.train_minibatch({x: np.ones((4, 2), np.float32), t: np.zeros((4, 1))})\n"
    "plt.plot(trainer.previous_minibatch_loss_average)",
    "z.eval({x: np.ones((1, 2), np.float32)})",
]


def test_a_notebook(tmp_path):
    cells = [{"cell_type": "code", "source": text.splitlines(True)} for text in CELLS]
    (tmp_path / "program.ipynb").write_text(json.dumps({"cells": cells}))
    plan = {
        "program": str(tmp_path / "program.ipynb"),
        "arguments": [],
        "served": str(tmp_path),
        "minibatches": 5,
        "start": str(tmp_path / "start"),
        "result": str(tmp_path / "result.json"),
    }
    found = programs.run([sys.executable], "rgraph", plan, 120)
    assert found.error is None
    losses = [numbers[0] for kind, _, numbers in found.values if kind == "loss"]
    weight, bias, expected = 0.5, 0.0, []  # by hand: two equal weights, a bias
    for _ in range(5):
        y = 2 * weight + bias
        expected.append(y * y)
        weight, bias = weight - 0.1 * 2 * y, bias - 0.1 * 2 * y
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-7)
    assert found.values[-1][0] == "value"
    np.testing.assert_allclose(found.values[-1][2], [2 * weight + bias], atol=1e-6)


def test_which_files_are_programs(tmp_path):
    files = {
        "Tutorials/a.ipynb": "import cntk as C",
        "Tutorials/other.ipynb": "import numpy",
        "Examples/x/main.py": "from cntk.ops import *\nif __name__ == '__main__': pass",
        "Examples/x/model.py": "import cntk",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert programs.programs_in(tmp_path, []) == ["Tutorials/a.ipynb", "Examples/x/main.py"]
    assert programs.programs_in(tmp_path, ["main"]) == ["Examples/x/main.py"]


@pytest.mark.parametrize(
    "found, agrees",
    [
        ([["loss", [], [1.0005]], ["metric", [], [0.26]]], True),
        ([["loss", [], [1.002]], ["metric", [], [0.25]]], False),
        ([["loss", [], [1.0]]], False),
        ([["loss", [1], [1.0]], ["metric", [], [0.25]]], False),
        ([["loss", [], [float("nan")]], ["metric", [], [0.25]]], False),
    ],
)
def test_what_agrees(found, agrees):
    cntk = programs.Run(None, [["loss", [], [1.0]], ["metric", [], [0.25]]])
    assert programs.Row("p", cntk, programs.Run(None, found)).agrees == agrees
