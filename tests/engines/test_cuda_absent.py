"""Where something is missing: one clear error that names the remedy, and never a silent CPU run."""

import builtins
import ctypes
import subprocess
import sys
import types

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.engines.cuda import CudaEngine, library
from rgraph.graph.context import context
from tests.engines import played_gpu
from tests.engines.strict_arrays import LIBRARY

pytestmark = pytest.mark.cpu


class Driver:
    """The driver's library."""

    def __init__(self, version=12090, count=1, status=0):
        self.version, self.count, self.status = version, count, status

    def cuInit(self, flags):
        return self.status

    def cuDriverGetVersion(self, out):
        out._obj.value = self.version

    def cuDeviceGetCount(self, out):
        out._obj.value = self.count


class Machine:
    """What a machine has; nothing at first."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.modules = {"cupy": None, "cudnn": None}
        real = builtins.__import__

        def import_(name, *args, **kwargs):
            if name in self.modules:
                found = self.modules[name]
                if found is None:
                    raise ImportError(f"No module named '{name}'")
                return found
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", import_)
        monkeypatch.setattr(context(), "device", None)
        self.driver = None
        opened = ctypes.CDLL

        def open_(name, *args, **kwargs):
            if name in ("libcuda.so.1", "nvcuda.dll"):
                if self.driver is None:
                    raise OSError("cannot open shared object file")
                return self.driver
            return opened(name, *args, **kwargs)

        monkeypatch.setattr(ctypes, "CDLL", open_)
        forget()

    def cupy(self, runtime=12090, error=None):
        def count():
            if error:
                raise RuntimeError(error)
            return 1

        cuda = types.SimpleNamespace(
            runtimeGetVersion=lambda: runtime, getDeviceCount=count, CUDARuntimeError=RuntimeError
        )
        made = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=cuda))
        self.modules["cupy"] = made
        forget()
        return made

    def cudnn(self, version=92800):
        self.modules["cudnn"] = types.SimpleNamespace(backend_version=lambda: version)
        forget()


def forget():
    for find in (library.driver, library.cupy, library.cudnn):
        find.cache_clear()


@pytest.fixture
def machine(monkeypatch):
    yield Machine(monkeypatch)
    forget()


X = np.array([[1.0, 2.0]], np.float32)


def refused(match):
    """Asked for a GPU, a run raises; the CPU does not step in."""
    x = C.input_variable(2)
    with pytest.raises(C.GraphError, match=match):
        (x + 1).eval({x: X}, device=C.gpu(0))
    with pytest.raises(C.GraphError, match=match):
        CudaEngine()
    assert not C.try_set_default_device(C.gpu(0))


def on_the_cpu():
    assert C.use_default_device() == C.cpu()
    assert C.all_devices() == [C.cpu()]
    x = C.input_variable(2)
    np.testing.assert_array_equal((x + 1).eval({x: X}), X + 1)


def test_no_driver(machine):
    refused(r"(?s)there is no NVIDIA driver.*hint: install one \(nvidia-smi")
    on_the_cpu()


def test_a_driver_without_a_gpu(machine):
    machine.driver = Driver(count=0)
    refused(r"(?s)the driver \(CUDA 12.9\) shows no GPU.*CUDA_VISIBLE_DEVICES")
    on_the_cpu()


def test_a_driver_that_is_too_old(machine):
    machine.driver = Driver(version=11080)
    refused(r"(?s)for CUDA 11.8, it must be for 12.0 or later.*newer NVIDIA driver")
    on_the_cpu()


def test_no_cupy(machine):
    machine.driver = Driver()
    refused(r"(?s)CuPy can't be imported.*pip install cupy-cuda12x")
    on_the_cpu()


def test_a_cupy_for_a_later_cuda(machine):
    machine.driver = Driver()
    machine.cupy(runtime=13000)
    refused(r"(?s)driver is for CUDA 12.9, this CuPy for 13.0.*cupy-cuda12x")


def test_cuda_does_not_start(machine):
    machine.driver = Driver()
    machine.cupy(error="cudaErrorSystemDriverMismatch")
    refused("CUDA can't start .cudaErrorSystemDriverMismatch")


def test_no_cudnn(machine):
    machine.driver = Driver()
    machine.cupy()
    refused(r"(?s)cuDNN can't be imported.*pip install cupy-cuda12x")
    with pytest.warns(UserWarning, match="using the CPU: no GPU can be used here: cuDNN"):
        C.use_default_device()
    on_the_cpu()


@pytest.mark.parametrize("there", [True, False])
def test_the_runtime_is_loaded_before_cudnn_s_frontend(machine, there):
    """Which opens it by its name alone, wherever pip has put it."""
    machine.driver = Driver()
    machine.cupy()
    machine.cudnn()
    loaded = []

    class NotFound(RuntimeError):
        pass

    def load(name):
        loaded.append((name, library.cudnn.cache_info().currsize))
        if not there:
            raise NotFound(name)

    pathfinder = types.SimpleNamespace(
        load_nvidia_dynamic_lib=load, DynamicLibNotFoundError=NotFound
    )
    machine.modules["cuda"] = types.SimpleNamespace(pathfinder=pathfinder)
    assert library.problem() is None
    assert loaded == [("cudart", 0)]


def test_an_old_cudnn(machine):
    machine.driver = Driver()
    machine.cupy()
    machine.cudnn(8907)
    refused("cuDNN is of version 8907, it must be 9 or later")


def test_a_gpu_that_is_not_there(machine):
    machine.driver = Driver()
    machine.cupy()
    machine.cudnn()
    assert C.all_devices() == [C.gpu(0), C.cpu()]
    assert C.use_default_device() == C.gpu(0)
    assert C.try_set_default_device(C.cpu())
    assert C.use_default_device() == C.cpu()
    assert not C.try_set_default_device(C.gpu(1))
    with pytest.raises(C.GraphError, match=r"(?s)there is no GPU\[3\] here.*all_devices"):
        CudaEngine(3)


def test_an_error_names_the_line_that_asked(machine):
    with pytest.raises(C.GraphError) as first:
        device.engine(C.gpu(0))
    with pytest.raises(C.GraphError) as second:
        device.engine(C.gpu(0))
    assert str(first.value) != str(second.value)
    assert "test_cuda_absent.py" in str(second.value)


def test_importing_the_engine_imports_no_vendor_s_library():
    code = "import sys, rgraph.engines.cuda; print({'cupy', 'cudnn', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_engines_are_chosen_by_device(monkeypatch):
    made = played_gpu.make_engine()
    monkeypatch.setitem(sys.modules, "cupy", LIBRARY)
    monkeypatch.setattr(device, "_cuda_engine", lambda number: made)
    monkeypatch.setattr(device, "_gpu_count", lambda: 1)
    monkeypatch.setattr(device, "_gpu_problem", lambda: None)
    monkeypatch.setattr(context(), "device", None)
    assert C.use_default_device() == C.gpu(0)
    assert device.engine() is made
    assert device.engine(C.cpu()).name in device.cpu_engines()
    assert C.try_set_default_device(C.cpu())
    assert device.engine() is not made
    assert device.engine(C.gpu(0)) is made
