"""batched.solve and factors of arrays of CuPy, whose part is played on the host."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import LinAlgError, LinAlgWarning
from mplinalg.batched import cho_factor, cho_solve, lu_factor, lu_solve, solve

from ..device import cupy

__all__ = ["cupy"]

FACTOR = 30  # LAPACK's, for errors in units of n u
BAD = [1, 2]


def systems(rng, cupy, count=7, n=4, nrhs=2):
    """General and definite ones, on the host, and the function that puts them on the device."""
    a = rng.standard_normal((count, n, n)) + 3 * np.eye(n)
    return a, a @ a.swapaxes(1, 2), rng.standard_normal((count, n, nrhs)), cupy.asarray


def is_backward_stable(a, x, b):
    n = a.shape[-1]
    size = abs(a).sum(-1).max(-1)[..., None] * abs(x).max(-2) + abs(b).max(-2)
    return np.all(abs(b - a @ x).max(-2) <= FACTOR * n * 2.0**-53 * size)


def test_solve(cupy, rng):
    a, p, b, put = systems(rng, cupy)
    for matrices, assume_a in ((a, "gen"), (p, "pos")):
        x, report = solve(put(matrices), put(b), assume_a=assume_a, full_output=True)
        assert isinstance(x, cupy.ndarray)
        assert is_backward_stable(matrices, cupy.asnumpy(x), b)
        assert isinstance(report.backward_error, np.ndarray)
        assert np.all(report.backward_error <= FACTOR * 4 * 2.0**-53)


def test_failing_members(cupy, rng):
    a, _, b, put = systems(rng, cupy)
    want = cupy.asnumpy(solve(put(a), put(b)))
    a[1], a[2, 0, 1] = 0, np.nan
    with pytest.raises(LinAlgError, match=r"Singular: 1 of 7 .*\[1\].*NaN .*\[2\]"):
        solve(put(a), put(b))
    x, report = solve(put(a), put(b), raise_on_failure=False, full_output=True)
    assert report.failed.tolist() == BAD
    assert np.isnan(cupy.asnumpy(x)[BAD]).all()
    assert np.array_equal(np.delete(cupy.asnumpy(x), BAD, 0), np.delete(want, BAD, 0))


def test_lower_precisions(cupy, rng):
    a, p, b, put = systems(rng, cupy)
    for matrices, assume_a in ((a, "gen"), (p, "pos")):
        x, report = solve(
            put(matrices), put(b), assume_a=assume_a, precision="fp32", full_output=True
        )
        assert isinstance(x, cupy.ndarray)
        assert {status.name for status in report.status} == {"CONVERGED"}
        assert is_backward_stable(matrices, cupy.asnumpy(x), b)
    a[3, 0] = a[3, 1] + 1e-9 * a[3, 0]
    with pytest.warns(LinAlgWarning, match=r"'fp32' could not deliver for 1 of 7 members, \[3\]"):
        x = solve(put(a), put(b), precision="fp32")
    assert is_backward_stable(a, cupy.asnumpy(x), b)


def test_factors(cupy, rng):
    a, p, b, put = systems(rng, cupy)
    factors = lu_factor(put(a))
    for trans, matrices in ((0, a), (1, a.swapaxes(1, 2))):
        x, report = lu_solve(factors, put(b), trans, full_output=True)
        assert isinstance(x, cupy.ndarray)
        assert is_backward_stable(matrices, cupy.asnumpy(x), b)
        assert np.all(report.backward_error <= FACTOR * 4 * 2.0**-53)
        x = lu_solve(tuple(factors), put(b), trans)
        assert is_backward_stable(matrices, cupy.asnumpy(x), b)
    for lower in (False, True):
        factors = cho_factor(put(p), lower)
        for held in (factors, tuple(factors)):
            x = cho_solve(held, put(b))
            assert isinstance(x, cupy.ndarray)
            assert is_backward_stable(p, cupy.asnumpy(x), b)


def test_factors_of_failing_members(cupy, rng):
    a, _, b, put = systems(rng, cupy)
    a[1] = 0
    with pytest.warns(LinAlgWarning, match=r"Singular: 1 of 7 members, \[1\]"):
        factors = lu_factor(put(a))
    for held in (factors, tuple(factors)):
        with pytest.raises(LinAlgError, match=r"Singular: 1 of 7 members, \[1\]"):
            lu_solve(held, put(b))
        x = cupy.asnumpy(lu_solve(held, put(b), raise_on_failure=False))
        assert np.isnan(x[1]).all()
        assert is_backward_stable(np.delete(a, 1, 0), np.delete(x, 1, 0), np.delete(b, 1, 0))


def test_host_and_device_do_not_mix(cupy, rng):
    a, _, b, put = systems(rng, cupy)
    with pytest.raises(TypeError, match="NumPy and CuPy arrays in one call"):
        solve(put(a), b)


def test_lists_of_different_orders(cupy, rng):
    """Solved, and factored, shape by shape on the device; reports stay on the host."""
    orders = [3, 5, 3, 1]
    a = [np.eye(n) * 3 + rng.standard_normal((n, n)) / n for n in orders]
    b = [rng.standard_normal((n, 1 + n % 2)) for n in orders]
    p = [m @ m.T for m in a]
    there_a, there_b, there_p = (list(map(cupy.asarray, x)) for x in (a, b, p))
    x, report = solve(there_a, there_b, full_output=True)
    assert isinstance(report.backward_error, np.ndarray)
    found = [(a, x)]
    for factors, matrices, solver in (
        (lu_factor(there_a), a, lu_solve), (cho_factor(there_p), p, cho_solve),
    ):  # fmt: skip
        x, report = solver(factors, there_b, full_output=True)
        assert isinstance(report.backward_error, np.ndarray)
        assert np.all(report.backward_error <= FACTOR * 5 * 2.0**-53)
        found += [(matrices, x), (matrices, solver(tuple(factors), there_b))]
    for matrices, answers in found:
        for m, x, right in zip(matrices, answers, b, strict=True):
            assert isinstance(x, cupy.ndarray)
            assert is_backward_stable(m, cupy.asnumpy(x), right)
    there_a[2] *= 0
    with pytest.warns(LinAlgWarning, match=r"Singular: 1 of 4 members, \[2\]"):
        factors = lu_factor(there_a)
    with pytest.raises(LinAlgError, match=r"Singular: 1 of 4 members, \[2\]"):
        lu_solve(factors, there_b)
    with pytest.raises(TypeError, match="NumPy and CuPy arrays in one call"):
        lu_solve(factors, b)
