"""Threads: every member once, errors reach the caller, and the same bits whatever their number."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl

from mplinalg.batched import cho_factor, gemm, inv, lu_factor, lu_solve, qr, solve
from mplinalg.kernels.cpu import helpers
from mplinalg.kernels.cpu.batched import qr_stacks
from mplinalg.kernels.cpu.batched.threads import GRAIN, blas_threads, chunks, run_chunks

TIMEOUT = 60.0  # seconds; a deadlock, not a slow machine
LONG = 1.0  # seconds a member: worth a thread


@pytest.fixture
def _four_threads():
    with threadpoolctl.threadpool_limits(4, "blas"):
        if blas_threads() < 4:
            pytest.skip("SciPy's BLAS has fewer threads")
        yield


# -- chunks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000, 4096])
@pytest.mark.parametrize("pieces", [1, 2, 7, 10_000])
def test_chunks_make_up_the_batch(count, pieces):
    ranges = chunks(count, pieces)
    assert [k for first, last in ranges for k in range(first, last)] == list(range(count))
    assert all(first % GRAIN == 0 for first, _ in ranges)
    assert len(ranges) <= max(pieces, 1)
    assert len(chunks(count, pieces, 1)) > min(count, pieces) / 2
    assert chunks(3, 8, 1) == [(0, 1), (1, 2), (2, 3)]


def test_blas_says_how_many(monkeypatch):
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads, "blas"):
            assert blas_threads() == min(threads, 2)


@pytest.mark.usefixtures("_four_threads")
def test_every_member_once_and_results_in_order():
    seen = np.zeros(1000, int)

    def work(first, last):
        seen[first:last] += 1
        return first

    found = run_chunks(work, 1000, LONG)
    assert np.array_equal(seen, np.ones(1000))
    assert found == sorted(found)
    assert len(found) > 4


@pytest.mark.usefixtures("_four_threads")
def test_chunks_run_side_by_side():
    """Four of them wait for each other: with fewer threads they would wait for ever."""
    gate = threading.Barrier(4, timeout=TIMEOUT)
    waited = threading.local()

    def work(first, last):
        if not getattr(waited, "done", False):
            waited.done = True
            gate.wait()
        return threading.get_ident()

    assert len(set(run_chunks(work, 64 * 16, LONG))) == 4


@pytest.mark.usefixtures("_four_threads")
def test_a_few_large_members_are_divided(rng, monkeypatch):
    assert run_chunks(lambda first, last: first, 8, LONG, 1) == list(range(8))
    seen = []

    def counted(*args):
        found = run_chunks(*args)
        seen.append(len(found))
        return found

    a, b = rng.standard_normal((128, 100, 100)), rng.standard_normal((128, 100, 1))
    with threadpoolctl.threadpool_limits(1, "blas"):
        alone = solve(a, b), inv(a), gemm(a[:, :50], a[:, :, :50]), qr(a)[1]
    monkeypatch.setattr(qr_stacks, "run_chunks", counted)
    monkeypatch.setattr("mplinalg.kernels.cpu.batched.threads.run_chunks", counted)
    found = solve(a, b), inv(a), gemm(a[:, :50], a[:, :, :50]), qr(a)[1]
    assert min(seen) >= 4  # a tile holds 8 members
    assert len(seen) == 4
    assert all(map(np.array_equal, found, alone))


@pytest.mark.parametrize("n", [130, 200])
def test_large_members_are_the_same_whatever_the_number_of_threads(n, rng):
    """BLAS and LAPACK compute them, each on one thread, if they are many."""
    a, b = rng.standard_normal((20, n, n)), rng.standard_normal((20, n, 3))
    sizes = rng.integers(70, n, 40)
    lists = [a[i % 20, :k, :k] for i, k in enumerate(sizes)], [b[0, :k] for k in sizes]
    definite = a @ a.swapaxes(1, 2) + n * np.eye(n)
    answers = []
    for count in (1, 2):
        with threadpoolctl.threadpool_limits(count, "blas"):
            answers.append(
                [solve(a, b), gemm(a, b), gemm(a, a), *gemm(*lists),
                 *cho_factor(definite)]
            )  # fmt: skip
    assert all(map(np.array_equal, *answers))


@pytest.mark.usefixtures("_four_threads")
def test_without_further_threads_one_does_it_all(monkeypatch):
    """As when Python ends, or at the limit of the system."""

    def refuse(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helpers._thread, "start_new_thread", refuse)
    monkeypatch.setattr(helpers, "_helpers", [])
    assert run_chunks(lambda first, last: last - first, 64 * 16, LONG) == [64] * 16


def test_small_work_stays_on_this_thread():
    def work(first, last):
        return threading.get_ident(), first, last

    assert run_chunks(work, 1000, 1e-9) == [(threading.get_ident(), 0, 1000)]
    assert run_chunks(work, 10, LONG) == [(threading.get_ident(), 0, 10)]
    with threadpoolctl.threadpool_limits(1, "blas"):
        assert run_chunks(work, 1000, LONG) == [(threading.get_ident(), 0, 1000)]
    assert run_chunks(work, 0, LONG) == []


@pytest.mark.usefixtures("_four_threads")
def test_errors_reach_the_caller():
    begun = []

    def work(first, last):
        begun.append(first)
        raise ZeroDivisionError(first)

    with pytest.raises(ZeroDivisionError):
        run_chunks(work, 64 * 100, LONG)
    assert len(begun) <= 4  # nobody begins another chunk
    assert run_chunks(lambda first, last: first, 128, LONG) == [0, 64]  # helpers still come


@pytest.mark.usefixtures("_four_threads")
def test_calls_within_calls_do_not_block_each_other():
    def inner(first, last):
        return last - first

    def outer(first, last):
        return sum(run_chunks(inner, 500, LONG))

    done = []
    thread = threading.Thread(target=lambda: done.append(run_chunks(outer, 64 * 16, LONG)))
    thread.daemon = True
    thread.start()
    thread.join(TIMEOUT)
    assert done == [[500] * 16]


@pytest.mark.usefixtures("_four_threads")
def test_an_error_stops_the_others():
    begun, failed = [], threading.Event()

    def work(first, last):
        begun.append(first)
        if len(begun) == 2:
            failed.set()
            raise ZeroDivisionError(first)
        assert failed.wait(TIMEOUT)
        time.sleep(0.01)

    with pytest.raises(ZeroDivisionError):
        run_chunks(work, 64 * 100, LONG)
    assert len(begun) <= 8  # of some 16


def _in_child(queue):
    meeting = threading.Barrier(4, timeout=TIMEOUT)  # helpers of its own come

    def work(first, last):
        meeting.wait()
        return last - first

    queue.put(run_chunks(work, 64 * 4, LONG, pieces=4))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("_four_threads")
def test_a_forked_child_has_threads_of_its_own():
    assert sum(run_chunks(lambda first, last: last - first, 64 * 8, LONG)) == 512
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,), daemon=True)
    child.start()
    try:
        assert sum(queue.get(timeout=TIMEOUT)) == 256
    finally:
        child.kill()
        child.join()


# -- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "count"), [(3, 40_000), (12, 3000)])
def test_the_same_bits_with_one_thread_and_with_several(rng, n, count, monkeypatch):
    a = rng.standard_normal((count, n, n)) + 3 * np.eye(n)
    b = rng.standard_normal((count, n, 2))
    p = a @ a.swapaxes(1, 2)
    a[17] = a[count - 1] = 0.0  # among those looked at one by one
    a[count // 2] = np.nan

    def everything():
        lu, piv = lu_factor(p)
        c, _ = cho_factor(p)
        return (
            solve(a, b, raise_on_failure=False), solve(p, b, assume_a="pos"), lu, piv, c,
            lu_solve((lu, piv), b),
        )  # fmt: skip

    with threadpoolctl.threadpool_limits(1, "blas"):
        alone = everything()
    monkeypatch.setattr("mplinalg.kernels.cpu.batched.threads._WORTHWHILE", 1e-9)
    for threads in (2, 4):
        monkeypatch.setattr(
            "mplinalg.kernels.cpu.batched.threads.blas_threads", lambda count=threads: count
        )
        for found, want in zip(everything(), alone, strict=True):
            assert np.array_equal(found, want, equal_nan=True)


def test_calls_from_several_threads(rng):
    systems = [
        (rng.standard_normal((500, n, n)), rng.standard_normal((500, n, 1))) for n in (2, 3, 9, 10)
    ]
    alone = [solve(a, b) for a, b in systems]
    gate = threading.Barrier(4, timeout=TIMEOUT)

    def one(k):
        gate.wait()
        return solve(*systems[k])

    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = list(pool.map(one, range(4), timeout=TIMEOUT))
            assert all(map(np.array_equal, together, alone))
