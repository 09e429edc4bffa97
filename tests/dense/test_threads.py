"""Threads: what they compute at the same time is what one computes alone, bit for bit."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl

from mplinalg import LinAlgWarning, cho_factor, cho_solve, lu_factor, lu_solve, solve
from mplinalg.testing import gallery

THREADS = 4
TIMEOUT = 120.0  # seconds; a deadlock, not a slow machine


@pytest.fixture(autouse=True)
def _all_threads():
    with threadpoolctl.threadpool_limits(os.cpu_count(), "blas"):
        yield


def at_once(function, items):
    """Results of function(item), started together on all threads."""
    gate = threading.Barrier(THREADS)

    def run(item):
        gate.wait(TIMEOUT)
        return function(item)

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(run, item) for item in items]
        return [future.result(TIMEOUT) for future in futures]


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp64"])
def test_solves_of_many_matrices(precision):
    names = ["random_normal", "spd_geometric", "randsvd", "kms", "orthogonal", "minij",
             "helmholtz_bem", "hermitian_indefinite"]  # fmt: skip
    systems = [gallery.matrix(name, 300, complex if "bem" in name else float) for name in names]

    def one(a):
        return solve(a, np.ones(len(a)), precision=precision)

    alone = [one(a) for a in systems]
    together = at_once(one, systems)
    assert all(map(np.array_equal, together, alone))


@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_one_lu_shared(rng, dtype):
    n = 300
    factors = lu_factor(gallery.matrix("random_normal", n, dtype))
    jobs = [(rng.standard_normal(n).astype(dtype), i % 3) for i in range(2 * THREADS)]

    def one(job):
        return lu_solve(factors, *job)

    alone = [one(job) for job in jobs]
    assert all(map(np.array_equal, at_once(one, jobs), alone))


def test_one_lu_unpacked_and_widened_by_all(rng):
    """What is computed when it is first asked for is asked for by all at once."""
    a = gallery.matrix("random_normal", 150, "float32")
    b = rng.standard_normal(150)
    want = lu_solve(lu_factor(a), b)
    lu, piv = lu_factor(a)
    for _ in range(5):
        factors = lu_factor(a)
        for got in at_once(lambda f: (tuple(f), lu_solve(f, b)), [factors] * THREADS):
            assert np.array_equal(got[0][0], lu)
            assert np.array_equal(got[0][1], piv)
            assert np.array_equal(got[1], want)


def test_one_cholesky_shared(rng):
    factor = cho_factor(gallery.matrix("spd_geometric", 300))
    rights = [rng.standard_normal((300, 2)) for _ in range(2 * THREADS)]
    alone = [cho_solve(factor, b) for b in rights]
    assert all(map(np.array_equal, at_once(lambda b: cho_solve(factor, b), rights), alone))


def test_a_hard_system_does_not_disturb_others(rng):
    """One thread climbs the ladder with the shared factors, the others do not."""
    a = gallery.randsvd(100, 1e5)
    factors = lu_factor(a, precision="fp32")
    rights = [rng.standard_normal(100), np.full(100, np.nan)] * THREADS

    def one(b):
        if np.isfinite(b).all():
            return lu_solve(factors, b)
        return None if factors is None else b

    alone = [one(b) for b in rights]
    together = at_once(one, rights)
    assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(together, alone, strict=True))


@pytest.mark.filterwarnings("ignore::mplinalg.LinAlgWarning")
def test_warnings_and_errors_in_threads():
    """Neither stops another thread."""
    matrices = [gallery.matrix("hilbert", 20), np.zeros((20, 20)), np.eye(20), np.eye(20) + 1]

    def one(a):
        try:
            return solve(a, np.ones(20))
        except ValueError as error:
            return str(error)

    hard, singular, *easy = at_once(one, matrices)
    assert np.isfinite(hard).all()
    assert "singular" in singular
    assert np.array_equal(easy[0], np.ones(20))
    with pytest.warns(LinAlgWarning):
        assert np.array_equal(solve(matrices[0], np.ones(20)), hard)
