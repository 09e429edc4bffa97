"""batched.lu_factor and lu_solve: SciPy's factors of each member, answers to the last digits."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, LinAlgWarning, Status
from mplinalg.batched import LU, lu_factor, lu_solve, solve
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


def applied(a, trans):
    return {0: a, 1: a.swapaxes(-1, -2), 2: a.conj().swapaxes(-1, -2)}[trans]


def is_backward_stable(a, x, b):
    u, n = np.finfo(x.dtype).eps / 2, a.shape[-1]
    size = abs(a).sum(-1).max(-1)[..., None] * abs(x).max(-2) + abs(b).max(-2)
    return np.all(abs(b - a @ x).max(-2) <= FACTOR * n * u * size)


# -- factors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dtype"), KINDS)
def test_factors_are_scipys(rng, n, dtype):
    a = normal(rng, (11, n, n), dtype)
    factors = lu_factor(a)
    lu, piv = factors
    assert len(factors) == 2
    assert (lu.shape, lu.dtype) == (a.shape, a.dtype)
    assert (piv.shape, piv.dtype) == ((11, n), "int32")
    for k in range(11):
        want_lu, want_piv = scipy.linalg.lu_factor(a[k])
        assert np.array_equal(piv[k], want_piv)
        # the same factors to rounding, which the elimination may amplify
        assert abs(lu[k] - want_lu).max() <= 1e3 * np.finfo(dtype).eps * abs(want_lu).max()
        lower, upper = np.tril(lu[k], -1) + np.eye(n), np.triu(lu[k])
        permuted = a[k].copy()
        for i, p in enumerate(piv[k]):
            permuted[[i, p]] = permuted[[p, i]]
        error = abs(lower @ upper - permuted).max()
        growth = (abs(lower) @ abs(upper)).max()
        assert error <= FACTOR * n * np.finfo(dtype).eps * growth


@pytest.mark.parametrize("n", [3, 10])
def test_layouts(rng, n):
    a = normal(rng, (17, n, n))
    lu, piv = lu_factor(a)
    fortran = np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2)
    backwards = a[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    backwards.flags.writeable = False
    for other in (fortran, backwards, np.repeat(a, 2, axis=0)[1::2]):
        again, rows = lu_factor(other)
        assert np.array_equal(again, lu)
        assert np.array_equal(rows, piv)
    for k in range(17):  # whatever batch they are in
        assert np.array_equal(lu_factor(a[k])._factors, lu[k])


@pytest.mark.parametrize("shape", [(0, 3, 3), (4, 0, 0), (2, 0, 5, 5)])
def test_empty_batches(shape):
    factors = lu_factor(np.zeros(shape))
    lu, piv = factors
    assert lu.shape == shape
    assert piv.shape == shape[:-1]
    b = np.ones((*shape[:-1], 2))
    assert lu_solve(factors, b).shape == b.shape
    assert lu_solve((lu, piv), b).shape == b.shape


def test_singular_members_have_factors_and_no_answers(rng):
    for n in (3, 11):
        a, b = normal(rng, (19, n, n)), normal(rng, (19, n, 2))
        fine = lu_solve(lu_factor(a), b)
        a[5] = 0
        a[6, :, 1] = 0
        with pytest.warns(LinAlgWarning, match=r"2 of 19 members, \[5, 6\]; of the fi") as caught:
            factors = lu_factor(a)
        assert caught[0].filename == __file__
        lu, piv = factors
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for k in (5, 6):
                want = scipy.linalg.lu_factor(a[k])
                assert np.array_equal(piv[k], want[1])
                assert np.allclose(lu[k], want[0], rtol=1e-13, atol=1e-13)
        assert [factors.status[k].name for k in (4, 5, 6)] == ["DIRECT", "SINGULAR", "SINGULAR"]
        for f in (factors, (lu, piv)):
            with pytest.raises(LinAlgError, match=r"Singular: 2 of 19 members, \[5, 6\]"):
                lu_solve(f, b)
            x = lu_solve(f, b, raise_on_failure=False)
            assert np.isnan(x[[5, 6]]).all()
            assert np.array_equal(np.delete(x, [5, 6], 0), np.delete(fine, [5, 6], 0))


def test_what_is_not_finite(rng):
    a, b = normal(rng, (9, 4, 4)), normal(rng, (9, 4, 1))
    want = lu_solve(lu_factor(a), b)
    a[2, 1, 1] = np.nan
    a[3, 0, 0] = np.inf
    with pytest.raises(LinAlgError, match=r"NaN or infinity in the input: 2 of 9 .*\[2, 3\]"):
        lu_factor(a)
    factors = lu_factor(a, raise_on_failure=False)
    b[7] = np.nan
    with pytest.raises(LinAlgError, match=r"3 of 9 members, \[2, 3, 7\]"):
        lu_solve(factors, b)
    x, report = lu_solve(factors, b, raise_on_failure=False, full_output=True)
    assert report.failed.tolist() == [2, 3, 7]
    assert all(report.status[k] is Status.NOT_FINITE for k in (2, 3, 7))
    assert np.array_equal(np.delete(x, [2, 3, 7], 0), np.delete(want, [2, 3, 7], 0))


# -- solving -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dtype"), KINDS)
def test_solves(rng, n, dtype):
    a = normal(rng, (11, n, n), dtype)
    factors = lu_factor(a)
    for trans in (0, 1, 2):
        for nrhs in (1, 2, 7):
            b = normal(rng, (11, n, nrhs), dtype)
            x = lu_solve(factors, b, trans)
            assert x.dtype == dtype
            assert is_backward_stable(applied(a, trans), x, b)
            assert np.array_equal(x, factors.solve(b, trans))
            assert np.array_equal(x, lu_solve(tuple(factors), b, trans))


@pytest.mark.parametrize("trans", [0, 1, 2])
def test_scipys_tuples(rng, trans):
    a, b = normal(rng, (5, 6, 6), "complex128"), normal(rng, (5, 6, 2), "complex128")
    members = [scipy.linalg.lu_factor(member) for member in a]
    lu, piv = (np.stack(parts) for parts in zip(*members, strict=True))
    x, report = lu_solve((lu, piv), b, trans, full_output=True)
    assert is_backward_stable(applied(a, trans), x, b)
    assert report.backward_error is None  # there is no matrix to measure it with


def test_shapes_broadcast(rng):
    a = normal(rng, (2, 1, 3, 3))
    factors = lu_factor(a)
    for shape in ((3,), (3, 2), (4, 3, 2), (2, 4, 3, 1), (1, 1, 3, 2)):
        b = normal(rng, shape)
        x = lu_solve(factors, b)
        assert x.shape == solve(a, b).shape
        columns = b[:, None] if b.ndim == 1 else b
        assert is_backward_stable(a, x[..., None] if b.ndim == 1 else x, columns)


def test_dtypes_of_right_hand_sides(rng):
    """x has the common dtype, and is as accurate as that."""
    a = normal(rng, (6, 5, 5), "float32")
    factors = lu_factor(a)
    for dtype in ("float32", "float64", "complex64", "complex128", "int64"):
        b = (10 * normal(rng, (6, 5, 2), dtype if dtype != "int64" else "float64")).astype(dtype)
        for trans in (0, 2):
            x = lu_solve(factors, b, trans)
            assert x.dtype == (np.result_type(a, b))
            assert is_backward_stable(applied(a, trans), x, b)


def test_parts_of_a_complex_answer_exceed_the_range_each_by_itself():
    factors = lu_factor(np.full((2, 1, 1), 1e-200))
    with pytest.warns(LinAlgWarning, match="exceed the range"):
        x = lu_solve(factors, np.reshape([1 + 1e200j, 1e200 + 1j], (2, 1, 1))).ravel()
    assert np.allclose(x.real, [1e200, np.inf])
    assert np.allclose(x.imag, [np.inf, 1e200])


def test_singular_to_working_precision(rng):
    a, b = normal(rng, (9, 4, 4)), normal(rng, (9, 4, 1))
    a[3] = gallery.randsvd(4, 1e18, rng=rng)
    factors = lu_factor(a)
    assert factors.status[3] is Status.ILL_CONDITIONED
    with pytest.warns(LinAlgWarning, match=r"working precision: 1 of 9 members, \[3\]") as caught:
        x, report = lu_solve(factors, b, full_output=True)
    assert caught[0].filename == __file__
    assert is_backward_stable(a, x, b)
    assert [k for k in range(9) if report.status[k] is Status.ILL_CONDITIONED] == [3]
    with pytest.warns(LinAlgWarning) as caught:
        factors.solve(b)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("power", [-1020, -980, 980, 1020])
def test_extreme_sizes(rng, power):
    """Inverses of pivots are no numbers that can be computed with, but the answers are."""
    for n in (3, 9):
        a, b = normal(rng, (9, n, n)), normal(rng, (9, n, 1))
        scaled, right = np.ldexp(a, power), np.ldexp(b, power // 2)
        factors = lu_factor(scaled)
        for x in (lu_solve(factors, right), lu_solve(tuple(factors), right)):
            y = np.ldexp(x, power - power // 2)
            assert is_backward_stable(a, y, b)


def test_subnormal_numbers(rng):
    """Of which a factor would have a digit or two."""
    for n in (3, 9):
        a = rng.integers(-9, 10, (9, n, n)) + 40.0 * np.eye(n)
        b = rng.integers(-9, 10, (9, n, 2)) * 1.0
        factors = lu_factor(np.ldexp(a, -1068))
        for trans in (0, 1):
            x = lu_solve(factors, np.ldexp(b, -1068), trans)
            assert is_backward_stable(applied(a, trans), x, b)
    x = lu_solve((np.eye(3) * 2.0**-1060, np.arange(3)), np.ones(3) * 2.0**-1061)
    assert np.array_equal(x, np.full(3, 0.5))  # though 2^1060 is infinite


def test_the_report(rng):
    a, b = normal(rng, (2, 3, 4, 4)), normal(rng, (2, 3, 4, 2))
    x, report = lu_solve(lu_factor(a), b, full_output=True)
    assert report.status.shape == report.info.shape == report.backward_error.shape == (2, 3)
    assert report.precision == "fp64"
    assert np.all(report.backward_error <= FACTOR * 4 * 2.0**-53)
    assert np.all(report.backward_error > 0)
    x, report = lu_solve(lu_factor(a[0, 0]), b[0, 0, :, 0], full_output=True)
    assert x.shape == (4,)
    assert report.status.shape == ()


def test_pickles(rng):
    a, b = normal(rng, (7, 3, 3)), normal(rng, (7, 3, 1))
    factors = lu_factor(a)
    again = pickle.loads(pickle.dumps(factors))
    assert isinstance(again, LU)
    assert again.shape == (7, 3, 3)
    assert repr(again) == repr(factors) == "LU(shape=(7, 3, 3), dtype=float64)"
    assert np.array_equal(lu_solve(again, b), lu_solve(factors, b))
    assert np.array_equal(
        lu_solve(again, b, full_output=True)[1].backward_error,
        lu_solve(factors, b, full_output=True)[1].backward_error,
    )


# -- mistakes ------------------------------------------------------------------------------------


def test_bad_input(rng):
    lu, piv = factors = lu_factor(normal(rng, (5, 3, 3)))
    b = np.ones((5, 3, 1))
    with pytest.raises(ValueError, match=r"a.shape=\(5, 3, 4\)"):
        lu_factor(np.ones((5, 3, 4)))
    with pytest.raises(ValueError, match="trans must be 0, 1 or 2; got 3"):
        lu_solve(factors, b, 3)
    with pytest.raises(ValueError, match=r"a.shape=\(5, 3, 3\) and b.shape=\(5, 4, 1\)"):
        lu_solve(factors, np.ones((5, 4, 1)))
    with pytest.raises(ValueError, match=r"b\[\.\.\., None\]"):
        lu_solve(factors, b[..., 0])
    with pytest.raises(ValueError, match=r"piv.shape=\(4, 3\) and array.shape=\(5, 3, 3\)"):
        lu_solve((lu, piv[:4]), b)
    with pytest.raises(ValueError, match="pivots must lie between 0 and 2"):
        lu_solve((lu, piv + 1), b)
    with pytest.raises(TypeError, match="pivots must be integers"):
        lu_solve((lu, piv * 1.0), b)
