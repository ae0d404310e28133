"""What threads and asyncio tasks share of seed, device and modes, and what not."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rgraph as C
from rgraph.graph.context import context, separate
from rgraph.io.background import Work


def in_a_thread(work):
    """What `work()` gives in a new thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def drawn():
    """What two runs of one function, and the initial values of a parameter, draw."""
    f = C.random.normal((4,), seed=None)
    return [f.eval().tolist(), f.eval().tolist(), C.Parameter(4, C.uniform(1)).value.tolist()]


def test_a_seed_gives_the_same_numbers_again():
    C.set_seed(3)
    first = drawn()
    C.set_seed(3)
    assert drawn() == first and len({str(v) for v in first}) == 3


def test_no_two_threads_draw_the_same():
    C.set_seed(3)
    mine = drawn()
    found = [mine, in_a_thread(drawn), in_a_thread(drawn)]
    for of_each in zip(*found, strict=True):
        assert len({str(v) for v in of_each}) == 3


def test_threads_in_the_same_order_draw_the_same_again():
    C.set_seed(3)
    found = [in_a_thread(drawn), in_a_thread(drawn)]
    C.set_seed(3)
    assert [in_a_thread(drawn), in_a_thread(drawn)] == found


def test_a_seed_that_a_thread_sets_is_its_own():
    def seeded():
        C.set_seed(3)
        return drawn()

    C.set_seed(3)
    expected = drawn()
    C.set_seed(5)
    before = drawn()
    C.set_seed(5)
    assert in_a_thread(seeded) == expected
    assert drawn() == before


def test_runs_of_another_thread_change_nothing_that_this_one_draws():
    f = C.random.normal((4,))
    C.set_seed(3)
    expected = [f.eval().tolist() for _ in range(4)]
    C.set_seed(3)
    found = []
    for _ in range(4):
        found.append(f.eval().tolist())
        in_a_thread(f.eval)
    assert found == expected


def test_a_thread_begins_with_what_the_main_thread_has_set(on_engine):
    on_engine("numpy")
    C.set_default_unit_gain_value(False)
    try:
        assert in_a_thread(C.default_unit_gain_value) is False
        assert in_a_thread(lambda: C.device.engine().name) == "numpy"
        in_a_thread(lambda: C.set_default_unit_gain_value(True))
        assert C.default_unit_gain_value() is False
    finally:
        C.set_default_unit_gain_value(True)


def test_defaults_of_options_hold_in_their_own_thread():
    inside, go_on = threading.Event(), threading.Event()

    def elsewhere():
        with C.default_options(dtype=np.float64):
            inside.set()
            go_on.wait(10)
            return C.input_variable(1).dtype

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(elsewhere)
        inside.wait(10)
        here = C.input_variable(1).dtype
        go_on.set()
        assert (here, waiting.result()) == (np.float32, np.float64)


def test_what_is_read_ahead_sees_the_callers_defaults():
    with separate():
        C.set_global_option("mine", 3)
        with C.default_options(dtype=np.float64):
            work = Work(lambda: (C.input_variable(1).dtype, C.get_global_option("mine", 0)))
        assert work.result() == (np.float64, 3)


def test_functions_that_threads_make_at_once_keep_their_arguments():
    both = threading.Barrier(2)

    def made():
        def body(x, y):
            both.wait(10)
            inner = C.Function(lambda a: a * x)
            return inner(y)

        f = C.Function(body)
        return [v.name for v in f.signature], float(f(C.constant(2), C.constant(3)).eval())

    with ThreadPoolExecutor(2) as pool:
        found = [w.result() for w in [pool.submit(made), pool.submit(made)]]
    assert found == [(["x", "y"], 6.0)] * 2


def test_tasks_share_the_context_of_their_thread():
    """As the cells of a notebook, each of which is a task, must."""

    async def cell():
        C.set_seed(3)

    async def later():
        return drawn()

    asyncio.run(cell())
    found = asyncio.run(later())
    C.set_seed(3)
    assert drawn() == found


def test_steps_that_a_task_runs_in_threads_draw_on():
    """One after the other they draw what they would without threads, not the same again."""
    f = C.random.normal((4,))

    async def steps():
        return [(await asyncio.to_thread(f.eval)).tolist() for _ in range(3)]

    C.set_seed(3)
    expected = [f.eval().tolist() for _ in range(3)]
    C.set_seed(3)
    assert asyncio.run(steps()) == expected


def test_tasks_may_have_contexts_of_their_own():
    C.set_seed(3)
    expected = drawn()
    C.set_seed(5)
    before = context()

    async def own():
        with separate():
            C.set_seed(3)
            await asyncio.sleep(0)
            return drawn()

    async def both():
        return await asyncio.gather(own(), own())

    assert asyncio.run(both()) == [expected, expected]
    assert context() is before and before.random.seed == 5


@pytest.fixture
def on_engine():
    from rgraph import device

    before = device.engine(C.cpu()).name
    yield device.use_cpu_engine
    device.use_cpu_engine(before)
