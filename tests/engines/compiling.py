"""Compiling for GPUs, without one."""

import pytest


def cubin(source, architecture):
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    try:
        program = nvrtc.createProgram(source, "kernel.cu", (), ())
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")
    try:
        options = (f"-arch=sm_{architecture}", "--std=c++17")
        nvrtc.compileProgram(program, options)
        return nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError:
        raise AssertionError(f"{nvrtc.getProgramLog(program)}\n{source}") from None
    finally:
        nvrtc.destroyProgram(program)
