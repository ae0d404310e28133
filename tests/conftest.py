"""What all tests share."""

import pytest

import rgraph as C
from rgraph import device, passes


def pytest_addoption(parser):
    parser.addoption(
        "--engine",
        choices=["numpy", "native", "onednn", "cuda", "played"],
        help="run all tests on this engine; 'played' is cuda on a GPU that the CPU plays",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU; skipped where there is none")
    config.addinivalue_line(
        "markers", "cpu: of the CPU's engines; skipped if a GPU's runs all tests"
    )


def pytest_collection_modifyitems(config, items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    engine = config.getoption("--engine")
    played = engine == "played"
    for item in items if engine in ("cuda", "played") else ():
        if item.get_closest_marker("cpu"):
            item.add_marker(pytest.mark.skip(reason="of the CPU's engines"))
    if marked and not played and (problem := _no_gpu()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=problem))


@pytest.fixture(autouse=True)
def verified_passes():
    """The graph that each pass makes is checked."""
    token = passes.verifying.set(True)
    yield
    passes.verifying.reset(token)


def _no_gpu():
    from rgraph.engines.cuda import library

    problem = library.problem()
    return problem and f"no GPU can be used: {problem.what}"


@pytest.fixture(scope="session", autouse=True)
def engine_of_all_tests(request):
    """All tests run on the engine that `--engine` names; without it on the CPU's own choice."""
    name = request.config.getoption("--engine")
    if name == "cuda":
        C.device.gpu_convolutions("float32", deterministic=True)
        if not C.try_set_default_device(C.gpu(0)):
            pytest.exit(f"--engine cuda: {_no_gpu()}", returncode=1)
    elif name == "played":
        from tests.engines.played_gpu import play

        play()
    else:
        C.try_set_default_device(C.cpu())
        if name:
            device.use_cpu_engine(name)


@pytest.fixture(autouse=True)
def fresh():
    """Every test begins with the same random numbers, and leaves no mode switched on."""
    C.set_seed(1)
    yield
    C.debugging.set_checked_mode(False)


@pytest.fixture
def engines():
    """Chooses the CPU's engine, until the test ends."""
    before = device.engine(C.cpu()).name
    yield device.use_cpu_engine
    device.use_cpu_engine(before)


@pytest.fixture
def torch():
    """PyTorch, to compare with; where it is not installed the test is skipped."""
    return pytest.importorskip("torch")


@pytest.fixture
def F(torch):
    return torch.nn.functional
