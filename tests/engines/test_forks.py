"""A process that has computed forks, and its child computes: other threads do not come along."""

import os
import subprocess
import sys

import pytest

import rgraph as C

PROGRAM = """
import os, sys, threading
import numpy as np
import rgraph as C

C.try_set_default_device(C.cpu())
C.device.use_cpu_engine(sys.argv[1])
x = C.input_variable((16, 100, 100))
y = C.convolution(C.Parameter((16, 16, 3, 3), init=0.1), C.tanh(x * 2) + x)
value = np.random.default_rng(0).normal(size=(2, 16, 100, 100)).astype(np.float32)
before = y.eval({x: value})


def same():
    return np.allclose(y.eval({x: value}), before, rtol=1e-5, atol=1e-6)


def forked(work):
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def busy():
    while not stop:
        y.eval({x: value})


assert forked(same)
assert forked(lambda: same() and forked(same))
stop = []
others = [threading.Thread(target=busy) for _ in range(2)]
for thread in others:
    thread.start()
assert all([forked(same) for _ in range(5)])
stop.append(True)
for thread in others:
    thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("engine", C.device.cpu_engines())
def test_a_forked_process_computes(engine):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, engine]
    subprocess.run(command, check=True, timeout=60)
