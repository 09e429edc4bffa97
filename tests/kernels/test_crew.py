"""Work side by side: every item once, in order, with serial BLAS, which then is as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import threadpoolctl

from mplinalg.kernels.cpu.batched.threads import blas_threads
from mplinalg.kernels.cpu.crew import crew_size, run_batch, run_each, serial_blas


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_every_item_once_and_results_in_order(threads, count):
    seen = np.zeros(count, int)

    def work(i):
        seen[i] += 1
        return i * i

    assert run_each(work, range(count)) == [i * i for i in range(count)]
    assert np.array_equal(seen, np.ones(count))
    assert blas_threads() == threads


def test_blas_is_serial_meanwhile(threads):
    assert set(run_each(lambda i: blas_threads(), range(20))) == {1}
    with serial_blas():
        assert (blas_threads(), crew_size()) == (1, threads)
        assert set(run_each(lambda i: blas_threads(), range(20))) == {1}
        with serial_blas():
            assert crew_size() == threads
        assert blas_threads() == 1
    assert blas_threads() == crew_size() == threads


def test_several_threads_take_part(threads):
    meeting = threading.Barrier(threads, timeout=60)
    run_each(lambda i: meeting.wait(), range(threads))


def test_items_are_begun_in_order(threads):
    """The next one by whoever is free: one that takes long does not hold up those behind it."""
    begun, ended = [], threading.Event()

    def work(i):
        begun.append(i)
        if i == 0 and threads > 1:
            assert ended.wait(60), "the others went on"
        if i == 39:
            ended.set()

    run_each(work, range(40))
    assert begun == sorted(begun) or threads > 1
    assert sorted(begun) == list(range(40))
    assert all(i - place < threads for place, i in enumerate(begun))


def test_threads_are_not_woken_for_little(threads):
    found = run_each(lambda i: (threading.get_ident(), blas_threads()), range(9), 1e-6)
    assert found == 9 * [(threading.get_ident(), threads)]


def test_within_itself_it_is_serial(threads):
    def work(i):
        return crew_size(), run_each(lambda j: (threading.get_ident(), crew_size()), range(5))

    for size, inner in run_each(work, range(4)):
        assert size == 1
        assert len({thread for thread, _ in inner}) == 1
        assert {found for _, found in inner} == {1}


def test_an_error_comes_out_and_blas_is_as_it_was(threads):
    def work(i):
        if i == 3:
            raise KeyError("three")

    with pytest.raises(KeyError, match="three"):
        run_each(work, range(50))
    assert blas_threads() == crew_size() == threads


def test_where_another_thread_sets_the_number(threads):
    """Of OpenBLAS only one thread of a process can: the work of others is done all the same."""
    begun, ended = threading.Event(), threading.Event()

    def hold():
        with threadpoolctl.threadpool_limits(threads, "blas"):
            begun.set()
            ended.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert begun.wait(60)
        assert run_each(lambda i: -i, range(9)) == [-i for i in range(9)]
    finally:
        ended.set()
        holder.join()
    assert blas_threads() == threads


OVERLAP = """
import threading
from mplinalg.kernels.cpu.batched.threads import blas_threads
from mplinalg.kernels.cpu.crew import run_each, serial_blas

before, found = blas_threads(), []
inside, begun, gone = threading.Event(), threading.Event(), threading.Event()

def second():
    inside.wait(60)
    with serial_blas():
        found.append(run_each(lambda i: i, range(5)))
        begun.set()
        gone.wait(60)

other = threading.Thread(target=second)
other.start()
with serial_blas():
    inside.set()
    assert begun.wait(60)
    assert blas_threads() == 1
assert blas_threads() == before
gone.set()
other.join()
assert found == [list(range(5))]
assert blas_threads() == before, "the second one restored what it had found"
"""


def test_two_threads_that_overlap_leave_blas_as_it_was():
    """In a process whose BLAS has several threads."""
    subprocess.run(
        [sys.executable, "-c", OVERLAP], check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 3, 16, 17, 1000])
def test_many_members_are_taken_side_by_side_and_few_are_left_to_blas(threads, count):
    seen, found = np.zeros(count, int), set()

    def work(first, last):
        seen[first:last] += 1
        found.add(blas_threads())

    run_batch(work, count, 1.0)
    assert np.array_equal(seen, np.ones(count))
    assert found == ({1} if count >= 4 * threads else {threads})
    assert blas_threads() == threads


INTERRUPTED = """
import random, signal
import numpy as np
from mplinalg.kernels.cpu import crew
from mplinalg.kernels.cpu.batched.threads import blas_threads

signal.signal(signal.SIGALRM, signal.default_int_handler)
random.seed(1)
x, before, caught = np.ones(2000), blas_threads(), 0
for i in range(2000):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-6 + 6e-4 * random.random())
        while True:
            crew.run_each(lambda k: x @ x, range(8))
    except KeyboardInterrupt:
        caught += 1
    assert blas_threads() == crew.crew_size() == before
assert caught == 2000
assert crew.run_each(lambda k: blas_threads(), range(8)) == [1] * 8
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
def test_an_interrupt_leaves_blas_as_it_was():
    """At any moment: each of them once in twenty left BLAS serial for good."""
    subprocess.run(
        [sys.executable, "-c", INTERRUPTED], check=True, timeout=120,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
    )  # fmt: skip
