"""Memory that is used again: never while somebody holds it."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rlgen.core import arrays
from rlgen.core.arrays import ReusedMemory, Scratch, copy_rows


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_only_when_no_view_is_left():
    pool = ReusedMemory()
    first = pool.empty((4, 5, 3))
    first[:] = 7
    where, view = address(first), first[1:3].reshape(-1)[::2]
    del first
    second = pool.empty((4, 5, 3))
    second[:] = 9
    assert address(second) != where and (view == 7).all()
    del view
    gc.collect()
    assert address(pool.empty((4, 5, 3))) == where


def test_smaller_arrays_fit_into_the_memory_of_larger_ones():
    pool = ReusedMemory()
    large = pool.empty((10, 10))
    where = address(large)
    del large
    small = pool.empty((3, 2))
    assert address(small) == where and small.shape == (3, 2) and small.flags.writeable
    assert not np.shares_memory(small, pool.empty((10, 10)))


def test_memory_that_is_too_large_to_keep_goes_back(monkeypatch):
    monkeypatch.setattr(arrays, "LARGEST_KEPT", 50)
    pool = ReusedMemory()
    assert len(pool.empty((51,))) == 51
    small = pool.empty((50,))
    where = address(small)
    del small
    assert address(pool.empty((7, 7))) == where
    assert not pool.empty((0, 3)).size


def test_threads_never_share_an_array():
    pool = ReusedMemory()

    def work(value: int) -> bool:
        kept = []
        for step in range(300):
            kept.append(pool.empty((17, 11 + step % 3)))
            kept[-1][:] = value
            if len(kept) > 3:
                if not (kept[0] == value).all():
                    return False
                kept.pop(0)
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(8)))


def test_scratch_is_the_same_array_only_where_nothing_else_needs_it():
    scratch = Scratch()
    first = scratch.empty((2, 3), np.uint16)
    assert scratch.empty((2, 3), np.uint16) is first
    others = [scratch.empty((2, 3), np.uint16, "b"), scratch.empty((3, 2), np.uint16), scratch.empty((2, 3), np.uint8)]
    assert [array.shape for array in others] == [(2, 3), (3, 2), (2, 3)] and others[2].dtype == np.uint8
    assert not any(np.shares_memory(first, array) for array in others)


def test_rows_are_copied_to_all_rows_or_to_some():
    source, index = np.arange(40, dtype=np.uint8).reshape(10, 2, 2), np.array([7, 0, 7])
    out = np.zeros((3, 2, 2), np.uint8)
    copy_rows(source, index, np.arange(3), out)
    np.testing.assert_array_equal(out, source[index])
    more = np.full((5, 2, 2), 99, np.uint8)
    copy_rows(source, index, np.array([4, 0, 2]), more)
    np.testing.assert_array_equal(more[[4, 0, 2]], source[index])
    assert (more[[1, 3]] == 99).all()
