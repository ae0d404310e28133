"""Devices under CNTK's names."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.engines import cpu
from rgraph.graph.context import context


def test_the_cpu_is_there_and_can_be_chosen_but_not_locked():
    cpu = C.device.cpu()
    assert cpu in C.device.all_devices() and cpu != C.device.gpu(0)
    assert cpu.type() == C.device.DeviceKind.CPU and cpu.id() == 0
    assert C.device.gpu(1).type() == C.device.DeviceKind.GPU
    assert C.try_set_default_device(cpu) and C.use_default_device() == cpu
    assert not C.try_set_default_device(cpu, True) and not cpu.is_locked()


@pytest.fixture
def environment(monkeypatch):
    """The environment of a program in which nothing has been computed yet."""
    monkeypatch.setattr(context(), "cpu_engine", "")
    monkeypatch.delenv("RGRAPH_CPU_ENGINE", raising=False)
    return monkeypatch


def test_the_number_of_threads():
    before, engine_before = C.device.get_num_threads(), C.device.engine(C.cpu()).name
    x = np.random.default_rng(0).normal(size=(3, 16, 70, 70)).astype(np.float32)
    image, kernel = C.input_variable((16, 70, 70)), C.Parameter((16, 16, 3, 3), init=0.1)
    y = C.tanh(C.convolution(kernel, image) + image)
    try:
        for engine in C.device.cpu_engines():
            C.device.use_cpu_engine(engine)
            found = []
            for number in (1, 3, np.int64(2)):
                C.device.set_num_threads(number)
                assert C.device.get_num_threads() == number
                found.append([y.eval({image: x}), y.grad({image: x}, wrt=[kernel])])
            for other in found[1:]:
                for a, b in zip(found[0], other, strict=True):
                    np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * np.abs(a).max())
        with pytest.raises(C.GraphError, match="at least 1, got 0"):
            C.device.set_num_threads(0)
    finally:
        C.device.set_num_threads(before)
        C.device.use_cpu_engine(engine_before)


def test_the_environment_chooses_the_number_of_threads():
    program = "import rgraph as C; print(C.device.get_num_threads())"
    told = {**os.environ, "OMP_NUM_THREADS": "3,2"}
    found = subprocess.run(
        [sys.executable, "-c", program], env=told, capture_output=True, text=True
    )
    assert found.stdout == "3\n"


def test_the_environment_chooses_the_engine_of_the_cpu(environment):
    assert device.engine(C.cpu()).name == C.device.cpu_engines()[0]
    environment.setattr(context(), "cpu_engine", "")
    environment.setenv("RGRAPH_CPU_ENGINE", "numpy")
    assert device.engine(C.cpu()).name == "numpy"


def test_an_engine_that_does_not_exist(environment):
    environment.setenv("RGRAPH_CPU_ENGINE", "abacus")
    with pytest.raises(C.GraphError, match="'abacus'; there are onednn, native, numpy") as raised:
        (C.Parameter(2, init=1) * 2).eval(device=C.cpu())
    assert "set RGRAPH_CPU_ENGINE" in raised.value.hint
    with pytest.raises(ValueError, match="no CPU engine 'slide rule'"):
        C.device.use_cpu_engine("slide rule")


def test_an_engine_whose_library_is_missing(environment):
    environment.setenv("RGRAPH_CPU_ENGINE", "onednn")
    made = cpu.made
    environment.setattr(cpu, "made", lambda name: made(name) if name == "numpy" else None)
    with pytest.warns(
        UserWarning, match=r"oneDNN was not found.*pip install onednn-cpu-gomp.*using numpy"
    ):
        assert device.engine(C.cpu()).name == "numpy"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        assert device.engine(C.cpu()).name == "numpy"


def test_providers_are_chosen_one_by_one(engines):
    assert engines("numpy") == "numpy" and C.device.cpu_providers() == ["numpy"]
    for name in C.device.cpu_engines()[:-1]:
        assert engines(f"{name}+numpy") == f"{name}+numpy"
        assert C.device.cpu_providers() == [name, "numpy"]
        assert engines("numpy") == "numpy"
    with pytest.raises(C.GraphError, match="no CPU engine 'abacus'"):
        engines("numpy+abacus")


def test_a_plan_says_whose_kernels_it_has(engines):
    x = C.input_variable((16, 8, 8))
    y = C.tanh(C.convolution(C.Parameter((16, 16, 3, 3), init=1), x, auto_padding=[False, True]))
    for name in C.device.cpu_engines():
        engines(name)
        (line,) = [text for text in y.explain().splitlines() if "convolution" in text]
        assert line.split()[4] == C.device.cpu_providers()[0]
