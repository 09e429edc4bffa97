"""Batches: broadcast as in SciPy, equal to a Python loop, and one bad member spoils no other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
import scipy.linalg

from mplinalg import (
    LinAlgError,
    LinAlgWarning,
    Status,
    cho_factor,
    cho_solve,
    lu_factor,
    lu_solve,
    solve,
)
from mplinalg.testing import gallery

SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
DTYPES = ["float32", "float64", "complex64", "complex128"]


def normal(rng, shape, dtype=float):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def definite(rng, shape, dtype=float):
    a = normal(rng, shape, dtype)
    return (a @ np.swapaxes(a, -1, -2).conj() + np.eye(shape[-1])).astype(dtype)


def loop(function, a, b):
    """x of every member by itself."""
    vector = b.ndim == 1
    b = b[:, None] if vector else b
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, batch + a.shape[-2:])
    b = np.broadcast_to(b, batch + b.shape[-2:])
    x = np.empty(b.shape, np.result_type(a, b))
    for index in np.ndindex(batch):
        x[index] = function(a[index], b[index])
    return x[..., 0] if vector else x


# core dimensions n = 3; a's batch, b's shape
BATCHES = [
    ((2,), (3,)), ((2,), (3, 2)), ((2,), (2, 3, 1)), ((2,), (1, 3, 2)), ((1,), (2, 3, 2)),
    ((), (5, 3, 2)), ((2, 1), (4, 3, 2)), ((2, 1), (1, 4, 3, 2)), ((2, 3), (3,)),
    ((1,), (3,)), ((0,), (3,)), ((0,), (3, 2)), ((0,), (0, 3, 2)), ((), (0, 3, 2)),
    ((2, 0), (3, 1)), ((2,), (2, 3, 0)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "shape"), BATCHES, ids=str)
def test_solve_is_a_loop(rng, batch, shape, dtype):
    a, b = normal(rng, (*batch, 3, 3), dtype), normal(rng, shape, dtype)
    x = solve(a, b)
    want = loop(solve, a, b)
    assert x.dtype == dtype
    assert x.shape == want.shape
    assert np.array_equal(x, want)
    if SCIPY >= (1, 17):
        assert scipy.linalg.solve(a, b).shape == x.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "shape"), BATCHES, ids=str)
def test_factors_are_a_loop(rng, batch, shape, dtype):
    a, b = definite(rng, (*batch, 3, 3), dtype), normal(rng, shape, dtype)
    for factor, solve_with in ((lu_factor, lu_solve), (cho_factor, cho_solve)):
        x = solve_with(factor(a), b)
        want = loop(lambda m, r, f=factor, s=solve_with: s(f(m), r), a, b)
        assert x.dtype == dtype
        assert x.shape == want.shape
        # BLAS may add in another order where an array begins elsewhere in memory
        np.testing.assert_allclose(x, want, rtol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(2, 0, 0), (0, 0, 0)])
def test_batches_of_nothing(shape):
    a = np.zeros(shape)
    for b in (np.zeros(0), np.zeros((0, 2)), np.zeros((shape[0], 0, 2))):
        want = (shape[0], *b.shape) if b.ndim < 3 else b.shape
        assert solve(a, b).shape == want
        assert lu_solve(lu_factor(a), b).shape == want
        assert cho_solve(cho_factor(a), b).shape == want


def test_scalars_broadcast(rng):
    """1-by-1 matrices divide right-hand sides of any length."""
    a, b = normal(rng, (1, 1)), normal(rng, (2, 3, 4))
    assert np.array_equal(solve(a, b), b / a)
    a = normal(rng, (2, 1, 1))
    assert np.array_equal(solve(a, b[0, :1, :1]), b[0, :1, :1] / a)


@pytest.mark.parametrize("n", [40, 260])
def test_strides_of_a_batch(rng, n):
    a = normal(rng, (n, n, 2)).transpose(2, 1, 0)
    b = normal(rng, (n, 2, 3)).transpose(1, 0, 2)
    a.flags.writeable = False
    want = np.stack([solve(np.array(a[i]), np.array(b[i])) for i in range(2)])
    assert np.linalg.norm(solve(a, b) - want) <= 1e-10 * np.linalg.norm(want)
    x = lu_solve(lu_factor(a), b)
    assert np.linalg.norm(x - want) <= 1e-10 * np.linalg.norm(want)


@pytest.mark.parametrize("structure", ["sym", "pos", "upper triangular", "diagonal"])
def test_structures_in_a_batch(rng, structure):
    a, b = definite(rng, (3, 5, 5)), normal(rng, (5, 2))
    x = solve(a, b, assume_a=structure)
    for i in range(3):
        assert np.array_equal(x[i], solve(a[i], b, assume_a=structure))


def test_members_are_detected_one_by_one(rng):
    """As in SciPy: structure is found per slice."""
    n = 40
    a = np.stack([np.diag(np.arange(1.0, n + 1)), definite(rng, (n, n)), normal(rng, (n, n))])
    report = solve(a, np.ones(n), full_output=True)[1]
    methods = [member.rungs[0].method for member in report.members]
    assert len(set(methods)) == 3


# -- one bad member ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 40, 260])
def test_singular_members_are_named(rng, n):
    a = normal(rng, (4, n, n))
    a[1], a[3, 0] = 0, 0
    with pytest.raises(LinAlgError, match=r"\[1, 3\]"):
        solve(a, np.ones(n))
    a = a.reshape(2, 2, n, n)
    with pytest.raises(LinAlgError, match=r"\(0, 1\), \(1, 1\)"):
        solve(a, np.ones(n))
    x = solve(a[:, 0], np.ones(n))
    for i in range(2):
        assert np.array_equal(x[i], solve(a[i, 0], np.ones(n)))


@pytest.mark.parametrize("n", [14, 40, 260])
def test_ill_conditioned_members_are_named(rng, n):
    a = normal(rng, (3, n, n))
    a[1] = gallery.matrix("hilbert", n)
    with pytest.warns(LinAlgWarning, match="slice 1: An ill-conditioned") as caught:
        x, report = solve(a, np.ones(n), full_output=True)
    assert len(caught) == 1
    assert report.status is Status.ILL_CONDITIONED
    assert [m.status.is_success for m in report.members] == [True, False, True]
    with pytest.warns(LinAlgWarning, match="slice 1"):
        x = solve(a, np.ones(n))
    assert np.array_equal(x[0], solve(a[0], np.ones(n)))
    assert np.array_equal(x[2], solve(a[2], np.ones(n)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("n", [3, 260])
def test_a_member_that_is_not_finite(rng, n, value):
    a, b = normal(rng, (3, n, n)), normal(rng, (3, n, 2))
    b[1, 0, 0] = value
    with pytest.raises(ValueError, match="infs or NaNs"):
        solve(a, b)
    with pytest.warns(LinAlgWarning):
        x = solve(a, b, check_finite=False)
    assert not np.isfinite(x[1, :, 0]).any()
    assert np.array_equal(x[0], solve(a[0], b[0]))
    assert np.array_equal(x[2], solve(a[2], b[2]))
    a[2, 1, 1] = value
    with pytest.raises(ValueError, match="infs or NaNs"):
        solve(a, np.ones(n))


def test_singular_members_of_factors(rng):
    a = normal(rng, (3, 4, 4))
    a[1] = 0
    with pytest.warns(LinAlgWarning, match=r"Singular matrix.*\(1,\)"):
        factors = lu_factor(a)
    with pytest.raises(LinAlgError, match=r"\(1,\)"):
        lu_solve(factors, np.ones(4))
    assert len(factors.report.members) == 2
    a = definite(rng, (3, 4, 4))
    a[2, 1, 1] = -1
    with pytest.raises(LinAlgError, match=r"not positive definite.*\(2,\)"):
        cho_factor(a)


def test_report_of_a_batch(rng):
    a, b = normal(rng, (2, 3, 40, 40)), normal(rng, (40, 5))
    x, report = solve(a, b, full_output=True)
    assert report.backward_error.shape == report.componentwise_error.shape == (2, 3, 5)
    assert len(report.members) == 6
    assert np.shape(report.rcond) == (2, 3)
    for i, index in enumerate(np.ndindex(2, 3)):
        assert np.array_equal(report.members[i].backward_error, report.backward_error[index])
    x, report = solve(a, b[:, 0], full_output=True)
    assert x.shape == (2, 3, 40)
    assert report.backward_error.shape == (2, 3)
    assert isinstance(report.members[0].backward_error, float)
    x, report = solve(np.zeros((0, 3, 3)), np.ones(3), full_output=True)
    assert x.shape == (0, 3)
    assert report.backward_error.shape == (0,)
    assert report.members == ()
