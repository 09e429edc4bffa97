"""Pivots that grow: the answers are those of a stable solver, or something is said."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import Status
from mplinalg.batched import inv, solve
from mplinalg.kernels.cpu.batched import systems

FACTOR = 30
DTYPES = ["float32", "float64", "complex64", "complex128"]


def wilkinson(n, dtype="float64"):
    """1 on the diagonal and in the last column, -1 below: U_nn = 2^(n - 1)."""
    a = np.eye(n) - np.tril(np.ones((n, n)), -1)
    a[:, -1] = 1
    return a.astype(dtype)


def hidden(n):
    """The same, but no pivot tells: U_nn = 1, and only U_kn = 2^(k - 1) for k < n."""
    a = wilkinson(n)
    a[-1, :-1] = 0
    return a


def wright(n, dtype="float64"):
    """Multiple shooting (Wright, SIAM J. Sci. Comput. 14 (1993) 231)."""
    block = np.array([[-1 / 6, 1.0], [1.0, -1 / 6]]) * 0.3
    e, v = np.linalg.eigh(block)
    step = (v * np.exp(e)) @ v.T
    count = n // 2
    a = np.eye(2 * count)
    for k in range(1, count):
        a[2 * k : 2 * k + 2, 2 * k - 2 : 2 * k] = -step
    a[:2, -2:] = np.eye(2)
    return a.astype(dtype)


def errors(a, x, b):
    a, x, b = (v.astype(np.result_type(v, "d")) for v in (a, x, b))
    size = abs(a).sum(-1).max(-1)[:, None] * abs(x).max(1) + abs(b).max(1)
    return (abs(b - a @ x).max(1) / size).max(1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 5, 8, 9, 16, 25, 40, 63, 64, 65, 128, 150])
@pytest.mark.parametrize("family", [wilkinson, wright])
def test_solve(rng, dtype, n, family):
    n -= n % 2 if family is wright else 0
    a = rng.standard_normal((21, n, n)).astype(dtype)
    good = np.setdiff1d(np.arange(21), [4, 20])
    b = rng.standard_normal((21, n, 2)).astype(dtype)
    want = solve(a, b)[good]
    a[[4, 20]] = family(n, dtype)
    x, report = solve(a, b, full_output=True)
    bound = FACTOR * n * np.finfo(dtype).eps / 2
    assert np.all(errors(a, x, b) <= bound)
    assert np.array_equal(x[good], want)
    assert {report.status[k] for k in (4, 20)} == {Status.DIRECT}
    assert np.all(report.backward_error <= bound)


@pytest.mark.parametrize("n", [12, 40])
def test_growth_that_no_pivot_tells(rng, n):
    a = np.stack([hidden(n)] * 9)
    b = rng.standard_normal((9, n, 1))
    x = solve(a, b, raise_on_failure=False)
    assert np.all(errors(a, x, b) <= FACTOR * n * 2.0**-53)


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1.0, 1e150, 1e300])
def test_sizes(rng, size):
    a = np.stack([size * wilkinson(60) / 60] * 3)
    b = rng.standard_normal((3, 60, 1))
    assert np.all(errors(a / size, solve(a, b) * size, b) <= FACTOR * 60 * 2.0**-53)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [8, 20, 60, 100])
def test_inverses(rng, dtype, n):
    a = rng.standard_normal((9, n, n)).astype(dtype)
    a[3] = wilkinson(n, dtype)
    p, q = (v.astype(np.result_type(v, "d")) for v in (a, inv(a)))
    norms = np.linalg.norm(p, axis=(1, 2)) * np.linalg.norm(q, axis=(1, 2))
    sides = [np.linalg.norm(r - np.eye(n), axis=(1, 2)) / norms for r in (q @ p, p @ q)]
    assert np.all(np.minimum(*sides) <= FACTOR * n * np.finfo(dtype).eps / 2)


@pytest.mark.parametrize("n", [9, 33, 128, 200])
def test_random_matrices_are_not_looked_at(rng, n):
    """They would take LAPACK one by one."""
    a = rng.standard_normal((40, n, n)) + 2 * np.eye(n)
    x, flags = np.empty((40, n, 1)), np.zeros(40, np.uint8)
    systems.gesv(a, rng.standard_normal((40, n, 1)), x, flags)
    assert flags.sum() <= 1
