"""The pool hands memory out again only when nothing refers to it."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rgraph.engines.numpy.pool import Pool

SHAPE = (100, 200)  # large enough to be pooled


def address(array):
    return array.ctypes.data


def test_a_buffer_in_use_is_not_handed_out():
    pool = Pool()
    first = pool.take(SHAPE, np.float32)
    assert not np.shares_memory(first, pool.take(SHAPE, np.float32))


def test_a_view_keeps_the_buffer():
    pool = Pool()
    view = pool.take(SHAPE, np.float32)[10:, ::2].T
    assert not np.shares_memory(view, pool.take(SHAPE, np.float32))


def test_a_free_buffer_is_used_again_for_about_the_same_size():
    pool = Pool()
    first = pool.take(SHAPE, np.float32)
    where = address(first)
    del first
    assert address(pool.take((100, 199), np.float32)) == where


def test_a_free_buffer_serves_what_needs_half_of_it_and_gives_way_to_a_larger_one():
    pool = Pool()
    pool.take((100, 400), np.float32)
    first = pool.take(SHAPE, np.float32)
    assert [len(free) for free in pool._free.values() if free] == []
    del first
    pool.take((100, 500), np.float32)
    sizes = [buffer.size for free in pool._free.values() for buffer in free]
    assert len(sizes) == 1 and sizes[0] >= 4 * 100 * 500


def test_what_no_run_uses_is_given_back():
    pool = Pool()
    pool.take(SHAPE, np.float64)
    for _ in range(4):
        pool.next_run()
    assert not any(pool._free.values())


def test_memory_comes_back_from_other_threads_and_cycles():
    pool = Pool()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            list(threads.map(lambda n: pool.take((n, 200), np.float32).fill(1), range(100, 140)))
    ring = [pool.take(SHAPE, np.float32)]
    where = address(ring[0])
    ring.append(ring)
    del ring
    gc.collect()
    assert where in [address(a) for a in [pool.take(SHAPE, np.float32) for _ in range(40)]]
    assert not pool._loans
