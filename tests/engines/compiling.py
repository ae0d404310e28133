"""Compiling for GPUs, without one."""

import pytest

CUPYS = ("-ftz=true", "--device-as-default-execution-space")  # what `cupy.RawKernel` adds


def cubin(source, architecture):
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    try:
        program = nvrtc.createProgram(source, "kernel.cu", (), ())
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")
    try:
        nvrtc.compileProgram(program, (f"-arch=sm_{architecture}", *CUPYS))
        return nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError:
        raise AssertionError(f"{nvrtc.getProgramLog(program)}\n{source}") from None
    finally:
        nvrtc.destroyProgram(program)
