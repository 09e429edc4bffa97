"""batched.cho_factor and cho_solve: SciPy's factors of each member, answers to the last digits."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, LinAlgWarning, Status
from mplinalg.batched import Cholesky, cho_factor, cho_solve
from mplinalg.testing import gallery

SIZES = [1, 2, 3, 5, 8, 9, 10, 12, 23, 64]
FEW = {"float32": [], "complex64": [], "complex128": [3, 10]}
KINDS = [
    pytest.param(n, dtype, marks=[] if n in FEW.get(dtype, SIZES) else pytest.mark.slow)
    for dtype in ("float64", *FEW)
    for n in SIZES
]
FACTOR = 30  # LAPACK's, for errors in units of n u


def normal(rng, shape, dtype="float64"):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def definite(rng, count, n, dtype="float64"):
    a = normal(rng, (count, n, n), dtype)
    return (a @ a.conj().swapaxes(1, 2) / n + np.eye(n, dtype=dtype)).astype(dtype)


def is_backward_stable(a, x, b):
    u, n = np.finfo(x.dtype).eps / 2, a.shape[-1]
    size = abs(a).sum(-1).max(-1)[..., None] * abs(x).max(-2) + abs(b).max(-2)
    return np.all(abs(b - a @ x).max(-2) <= FACTOR * n * u * size)


# -- factors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize(("n", "dtype"), KINDS)
def test_factors_are_scipys(rng, n, dtype, lower):
    a = definite(rng, 11, n, dtype)
    triangle = np.tril if lower else np.triu
    junk = np.where(triangle(np.ones((n, n))) == 0, np.nan, a)  # the other triangle is not read
    factors = cho_factor(junk, lower)
    c, is_lower = factors
    assert len(factors) == 2
    assert is_lower is factors.lower is lower
    assert (c.shape, c.dtype) == (a.shape, a.dtype)
    assert np.array_equal(c, triangle(c))
    diagonal = np.diagonal(c, axis1=1, axis2=2)
    assert np.all(diagonal.real > 0)
    assert np.all(diagonal.imag == 0)
    for k in range(11):
        want = triangle(scipy.linalg.cho_factor(a[k], lower)[0])
        u, kappa = np.finfo(dtype).eps / 2, np.linalg.cond(a[k])
        assert abs(c[k] - want).max() <= FACTOR * n * u * kappa * abs(want).max()
        product = c[k] @ c[k].conj().T if lower else c[k].conj().T @ c[k]
        assert abs(product - a[k]).max() <= FACTOR * n * u * abs(a[k]).max()


@pytest.mark.parametrize("n", [3, 10])
def test_layouts(rng, n):
    a = definite(rng, 17, n, "complex128")
    c, _ = cho_factor(a)
    fortran = np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2)
    backwards = a[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    backwards.flags.writeable = False
    for other in (fortran, backwards, np.repeat(a, 2, axis=0)[1::2]):
        assert np.array_equal(cho_factor(other)._factors, c)
    for k in range(17):  # whatever batch they are in
        assert np.array_equal(cho_factor(a[k])._factors, c[k])


@pytest.mark.parametrize("shape", [(0, 3, 3), (4, 0, 0), (2, 0, 5, 5)])
def test_empty_batches(shape):
    factors = cho_factor(np.zeros(shape))
    c, lower = factors
    assert c.shape == shape
    b = np.ones((*shape[:-1], 2))
    assert cho_solve(factors, b).shape == b.shape
    assert cho_solve((c, lower), b).shape == b.shape


@pytest.mark.parametrize("lower", [False, True])
def test_what_has_no_factor_is_named(rng, lower):
    for n in (3, 11):
        a, b = definite(rng, 19, n), normal(rng, (19, n, 2))
        want = cho_solve(cho_factor(a, lower), b)
        a[5, 1, 1] = -1
        a[6, 1, 0] = a[6, 0, 1] = np.nan
        a[7] = 0
        with pytest.raises(LinAlgError, match=r"(?s)\[5, 7\].*order 2 is not.*1 of 19.*\[6\]"):
            cho_factor(a, lower)
        factors = cho_factor(a, lower, raise_on_failure=False)
        names = [factors.status[k].name for k in (4, 5, 6, 7)]
        fails = "NOT_POSITIVE_DEFINITE"
        assert names == ["DIRECT", fails, "NOT_FINITE", fails]
        with pytest.raises(LinAlgError, match=r"Not positive definite: 2 of 19 members, \[5, 7\]"):
            cho_solve(factors, b)
        x, report = cho_solve(factors, b, raise_on_failure=False, full_output=True)
        assert report.failed.tolist() == [5, 6, 7]
        assert np.isnan(x[[5, 6, 7]]).all()
        assert np.array_equal(np.delete(x, [5, 6, 7], 0), np.delete(want, [5, 6, 7], 0))


# -- solving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize(("n", "dtype"), KINDS)
def test_solves(rng, n, dtype, lower):
    a = definite(rng, 11, n, dtype)
    factors = cho_factor(a, lower)
    for nrhs in (1, 2, 7):
        b = normal(rng, (11, n, nrhs), dtype)
        x = cho_solve(factors, b)
        assert x.dtype == dtype
        assert is_backward_stable(a, x, b)
        assert np.array_equal(x, factors.solve(b))
        assert np.array_equal(x, cho_solve(tuple(factors), b))


@pytest.mark.parametrize("lower", [False, True])
def test_scipys_tuples(rng, lower):
    """The other triangle of SciPy's c holds what it held in a."""
    a, b = definite(rng, 5, 6, "complex128"), normal(rng, (5, 6, 2), "complex128")
    c = np.stack([scipy.linalg.cho_factor(member, lower)[0] for member in a])
    x, report = cho_solve((c, lower), b, full_output=True)
    assert is_backward_stable(a, x, b)
    assert report.backward_error is None


def test_shapes_and_dtypes(rng):
    a = definite(rng, 2, 3, "float32").reshape(2, 1, 3, 3)
    factors = cho_factor(a)
    for shape in ((3,), (3, 2), (4, 3, 2), (2, 4, 3, 1), (1, 1, 3, 2)):
        for dtype in ("float32", "float64", "complex64", "complex128"):
            b = normal(rng, shape, dtype)
            x = cho_solve(factors, b)
            assert x.dtype == dtype
            columns = b[:, None] if b.ndim == 1 else b
            assert is_backward_stable(a, x[..., None] if b.ndim == 1 else x, columns)


def test_singular_to_working_precision(rng):
    a, b = definite(rng, 9, 4), normal(rng, (9, 4, 1))
    a[3] = gallery.matrix("hilbert", 4)
    a[3, 3, 3] -= 1 / 7 - 0.14  # indefinite
    a[4] = np.diag([1.0, 1e-9, 1e-18, 1.0])
    factors = cho_factor(a, raise_on_failure=False)
    assert factors.status[3] is Status.NOT_POSITIVE_DEFINITE
    assert factors.status[4] is Status.ILL_CONDITIONED
    a[3] = np.eye(4)
    factors = cho_factor(a)
    with pytest.warns(LinAlgWarning, match=r"working precision: 1 of 9 members, \[4\]") as caught:
        x = cho_solve(factors, b)
    assert caught[0].filename == __file__
    assert is_backward_stable(a, x, b)


@pytest.mark.parametrize("power", [-1000, -980, 980, 1000])
@pytest.mark.parametrize("lower", [False, True])
def test_extreme_sizes(rng, power, lower):
    for n in (3, 9):
        a, b = definite(rng, 9, n), normal(rng, (9, n, 1))
        factors = cho_factor(np.ldexp(a, power), lower)
        half = np.ldexp(factors._factors, -power // 2)
        product = half @ half.swapaxes(1, 2) if lower else half.swapaxes(1, 2) @ half
        assert abs(product - a).max() <= FACTOR * n * 2.0**-53 * abs(a).max()
        y = np.ldexp(cho_solve(factors, np.ldexp(b, power // 2)), power - power // 2)
        assert is_backward_stable(a, y, b)


def test_the_report(rng):
    a, b = definite(rng, 6, 4, "complex128"), normal(rng, (6, 4, 2), "complex128")
    for lower in (False, True):
        _, report = cho_solve(cho_factor(a, lower), b, full_output=True)
        assert report.status.shape == report.info.shape == report.backward_error.shape == (6,)
        assert np.all(report.backward_error <= FACTOR * 4 * 2.0**-53)
        assert np.all(report.backward_error > 0)


def test_pickles(rng):
    factors = cho_factor(definite(rng, 7, 3), lower=True)
    again = pickle.loads(pickle.dumps(factors))
    assert isinstance(again, Cholesky)
    assert again.lower
    assert repr(again) == repr(factors) == "Cholesky(shape=(7, 3, 3), dtype=float64, lower=True)"
    b = normal(rng, (7, 3, 1))
    assert np.array_equal(cho_solve(again, b), cho_solve(factors, b))


def test_bad_input(rng):
    c, lower = factors = cho_factor(definite(rng, 5, 3))
    with pytest.raises(ValueError, match=r"a.shape=\(5, 3, 4\)"):
        cho_factor(np.ones((5, 3, 4)))
    with pytest.raises(ValueError, match=r"b.shape=\(5, 4, 1\)"):
        cho_solve(factors, np.ones((5, 4, 1)))
    with pytest.raises(ValueError, match=r"factors.shape=\(5, 3, 2\)"):
        cho_solve((c[..., :2], lower), np.ones((5, 3, 1)))
    with pytest.raises(TypeError, match="lower must be a bool, got str"):
        cho_solve((c, "yes"), np.ones((5, 3, 1)))
