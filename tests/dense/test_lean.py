"""Plain systems on the short road: the same answers, errors and warnings as on the long one."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy
import scipy.linalg

from mplinalg import LinAlgError, LinAlgWarning, solve
from mplinalg.dense.lean import solve_lean
from mplinalg.testing import backward_error, forward_error, gallery

DTYPES = ["float32", "float64", "complex64", "complex128"]
ORDERS = [1, 2, 5, 20, 40, 300, 600]
"""Divided, too small for structure, direct, refined from single precision."""
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
like_scipy = pytest.mark.skipif(SCIPY < (1, 17), reason="the oracle is SciPy 1.17 or later")


def normal(rng, shape, dtype="float64"):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def definite(rng, n, dtype="float64"):
    x = normal(rng, (n, n), dtype) / np.asarray(n**0.5, np.dtype(dtype).char.lower())
    return (x @ x.conj().T + np.eye(n)).astype(dtype)


def meets_the_test(a, x, b):
    n, u = max(len(a), 4), np.finfo(x.dtype).eps / 2
    # a residual of that length, computed in the same precision, is known to a few u
    return bool(np.all(backward_error(a, x, b) <= 1.2 * np.sqrt(n) * u + 4 * u))


def outcome(function, *args, **keywords):
    """("ok" | "warns" | the exception, x); any warning but LinAlgWarning is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", scipy.linalg.LinAlgWarning)
        try:
            x = function(*args, **keywords)
        except scipy.linalg.LinAlgError:
            return "LinAlgError", None
        except ValueError:
            return "ValueError", None
    return ("warns" if caught else "ok"), x


def takes_the_short_road(a, b, assume_a=None):
    return solve_lean(a, b, assume_a, False, True) is not None


# -- the same bits -------------------------------------------------------------------------------


def systems(rng):
    """One of every kind that is solved there."""
    for dtype in DTYPES:
        for n, k in [(1, 1), (3, 1), (40, 2), (40, 30), (200, 7), (300, 1)]:
            yield normal(rng, (n, n), dtype), normal(rng, (n, k), dtype)
        yield definite(rng, 60, dtype), normal(rng, (60, 1), dtype)
        yield definite(rng, 420, dtype), normal(rng, 420, dtype)


def test_these_systems_take_the_short_road(rng):
    """Else this file would test something else."""
    for a, b in systems(rng):
        assert takes_the_short_road(a, b), (a.shape, b.shape, a.dtype)


def test_a_call_repeats_itself(rng):
    for a, b in systems(rng):
        first = solve(a, b)
        for _ in range(3):
            assert solve(a, b).tobytes() == first.tobytes()
        assert solve(a.copy(), b.copy()).tobytes() == first.tobytes()


def test_threads_do_not_disturb_each_other(rng):
    jobs = list(systems(rng)) * 2
    alone = [solve(a, b).tobytes() for a, b in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: solve(*job).tobytes(), jobs))
    assert together == alone


# -- what is given, and what is given back -------------------------------------------------------


def test_inputs_are_left_alone_and_the_result_is_its_own(rng):
    for a, b in systems(rng):
        a_before, b_before = a.copy(), b.copy()
        x = solve(a, b)
        assert not np.shares_memory(x, a)
        assert not np.shares_memory(x, b)
        again = x.copy()
        assert x.flags.writeable
        x[...] = -7
        assert np.array_equal(a, a_before)
        assert np.array_equal(b, b_before)
        assert np.array_equal(solve(a, b), again)


def held(x):
    """`x` in every way that NumPy can hold it."""
    yield "read-only", x.copy()
    yield "Fortran", np.array(x, order="F")
    wide = np.full(tuple(2 * n for n in x.shape), np.nan, x.dtype)
    every_other = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    every_other[...] = x
    yield "steps", every_other
    back = tuple(slice(None, None, -1) for _ in x.shape)
    yield "backwards", np.array(x[back], order="C")[back]
    yield "rows backwards", np.array(x[::-1], order="C")[::-1]
    yield "big-endian", x.astype(x.dtype.newbyteorder(">"))
    packed = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    packed[...] = x
    yield "unaligned", packed
    yield "part", np.pad(x, 3)[tuple(slice(3, -3) for _ in x.shape)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_however_the_arrays_are_held(rng, dtype):
    for n, k in [(1, 1), (5, 3), (40, 1), (40, 9), (280, 1)]:
        a, b = normal(rng, (n, n), dtype), normal(rng, (n, k), dtype)
        b_held = [*held(b), ("vector", b[:, 0]), ("transposed", b.T.copy().T)]
        pairs = [(a, how, x) for how, x in b_held] + [(x, how, b) for how, x in held(a)]
        for left, how, right in pairs:
            array = right if left is a else left
            if how == "read-only":
                array.flags.writeable = False
            kept = array.copy()
            x = solve(left, right)
            assert x.dtype == dtype
            assert x.shape == right.shape
            assert meets_the_test(a, x, np.array(right, dtype)), (n, k, how)
            assert np.array_equal(array, kept)


def test_mixed_dtypes():
    kinds = [*DTYPES, "int64", "int8", "bool", "float16"]
    for n in (2, 40):
        for kind_a in kinds:
            for kind_b in kinds:
                a, b = np.tri(n)[::-1].astype(kind_a), (np.arange(n) % 2).astype(kind_b)
                x = solve(a, b)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # SciPy's, of some dtypes
                    assert x.dtype == scipy.linalg.solve(a, b).dtype
                # integers all the way
                expected = np.diff(b.real[::-1].astype(float), prepend=0)
                assert np.array_equal(x, expected), (kind_a, kind_b)


@like_scipy
def test_subclasses_and_scalars(rng):
    a, b = normal(rng, (5, 5)), normal(rng, (5, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix, column = np.matrix(a), np.matrix(b)
    for left, right in [(matrix, b), (a, column), (matrix, column)]:
        x = solve(left, right)
        assert type(x) is type(scipy.linalg.solve(left, right))
        assert np.array_equal(x, solve(a, b))
    for left, right in [(np.ma.array(a), b), (a, np.ma.array(b))]:
        assert outcome(solve, left, right)[0] == outcome(scipy.linalg.solve, left, right)[0]
    for left, right in [(2.0, 3.0), (np.float64(2), np.ones(1)), (np.ones((1, 1)), np.array(4.0))]:
        x, by_scipy = outcome(solve, left, right), outcome(scipy.linalg.solve, left, right)
        assert x[0] == by_scipy[0]
        assert np.shape(x[1]) == np.shape(by_scipy[1])
        assert np.array_equal(x[1], by_scipy[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_unknown(dtype):
    """The extremes of a division, with one right-hand side and with several."""
    info, is_complex = np.finfo(dtype), np.dtype(dtype).kind == "c"
    numbers = [1.0, 3.0, -7.0, float(info.max), float(info.tiny), float(info.smallest_subnormal)]
    for top in [*numbers, 0.0]:
        for bottom in [*numbers, 0.0]:
            a = np.array([[bottom]]).astype(dtype)
            for b in (np.array([top], dtype), np.array([[1.0, top, 2.0]], dtype)):
                if bottom == 0:
                    with pytest.raises(LinAlgError):
                        solve(a, b)
                    continue
                seen, x = outcome(solve, a, b)
                exact = b.real.astype(np.longdouble) / np.longdouble(bottom)
                with np.errstate(all="ignore"):
                    right = exact.astype(info.dtype)
                    error = np.abs(x - right)
                out_of_range = np.isinf(right) | ((np.abs(right) < info.tiny) & (exact != 0))
                if seen == "ok":
                    assert not out_of_range.any() or np.array_equal(x, right), (top, bottom)
                    assert np.all(error <= 4 * info.eps * np.abs(right)), (top, bottom)
                else:
                    assert seen == "warns"
                    assert out_of_range.any() or is_complex, (top, bottom)


# -- errors and warnings -------------------------------------------------------------------------


def hard(rng, n):
    """Matrices that SciPy raises or warns for, or does not, beyond a doubt."""
    q, p = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    yield "zero", np.zeros((n, n))
    yield "identity", np.eye(n)
    yield "well", q * np.linspace(1, 3, n)
    if n > 1:
        a = normal(rng, (n, n))
        a[:, n // 2] = 0
        yield "zero column", a
        yield "ones", np.ones((n, n))
        a = normal(rng, (n, n))
        a[-1] = a[0]
        yield "equal rows", a
        spectrum = np.geomspace(1, 1e-19, n)
        yield "randsvd 1e19", (q * spectrum) @ p
        yield "randsvd 1e9", (q * np.geomspace(1, 1e-9, n)) @ p
        h = (q * spectrum) @ q.T
        yield "semidefinite", (h + h.T) / 2
        graded = np.ones(n)
        graded[-1] = 1e-14
        yield "one small", (q * graded) @ p
    for name in ("hilbert", "lotkin", "prolate"):
        if n >= 15:
            yield name, gallery.matrix(name, n)
    if n >= 12:
        for order in (8, 12, 15):
            if order <= n:
                a = np.eye(n)
                a[:order, :order] = gallery.matrix("hilbert", order)
                mixed = q @ a @ q.T
                yield f"hilbert {order}", a[::-1] if order == 8 else (mixed + mixed.T) / 2


@like_scipy
@pytest.mark.parametrize("n", ORDERS)
def test_errors_and_warnings_are_those_of_scipy(rng, n):
    for name, a in hard(rng, n):
        for b in (np.ones(n), a @ np.ones((n, 2))):
            for keywords in ({}, {"assume_a": "gen"}):
                seen, x = outcome(solve, a, b, **keywords)
                expected, by_scipy = outcome(scipy.linalg.solve, a, b, **keywords)
                if {seen, expected} == {"LinAlgError", "warns"}:
                    # whether a pivot is zero or 1e-17 is a matter of rounding, but of a zero column
                    assert name not in ("zero", "zero column", "ones"), (name, keywords)
                    continue
                assert seen == expected, (name, keywords)
                if seen == "ok":
                    assert meets_the_test(a, x, b) or not meets_the_test(a, by_scipy, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [3, 30, 120])
def test_rank_one_less_is_always_noticed(dtype, n):
    """The bound on the condition number is random: here is how often it may fail."""
    silent = 0
    for seed in range(300):
        rng = np.random.default_rng([n, seed])
        a = normal(rng, (n, n), "float64")
        a[:, -1] = a[:, :-1] @ rng.standard_normal(n - 1)
        a = a.astype(dtype)
        silent += outcome(solve, a, a @ np.ones(n, dtype))[0] == "ok"
    assert silent == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", ORDERS)
def test_what_is_not_finite(rng, n, bad):
    """Refused; or, unchecked, never a finite answer without a warning."""
    for k in (1, 6):
        for assume_a in (None, "gen", "pos"):
            a, b = definite(rng, n), normal(rng, (n, k))
            for i, j in {(0, 0), (0, n - 1), (n // 2, n // 2), (n - 1, n - 1)}:
                a_bad, b_bad = a.copy(), b.copy()
                a_bad[i, j] = a_bad[j, i] = bad
                b_bad[i, j % k] = bad
                for x, y in ((a_bad, b), (a, b_bad)):
                    with pytest.raises(ValueError, match="infs or NaNs"):
                        solve(x, y, assume_a=assume_a)
                    with np.errstate(all="ignore"):
                        seen, got = outcome(solve, x, y, assume_a=assume_a, check_finite=False)
                    assert seen != "ok" or not np.isfinite(got).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("n", [2, 5, 20, 40, 300, 600])
def test_nan_in_the_triangle_that_is_not_read(rng, n, lower, dtype):
    a = definite(rng, n, dtype)
    hidden = a.copy()
    hidden[np.triu_indices(n, 1) if lower else np.tril_indices(n, -1)] = np.nan
    for order in "CF":
        given = np.array(hidden, order=order)
        for b in (normal(rng, n, dtype), normal(rng, (n, 7), dtype)):
            with pytest.raises(ValueError, match="infs or NaNs"):
                solve(given, b, assume_a="pos", lower=lower)
            x = solve(given, b, assume_a="pos", lower=lower, check_finite=False)
            assert meets_the_test(a, x, b)
            with pytest.raises(LinAlgError, match="not positive definite"):
                solve(-given, b, assume_a="pos", lower=lower, check_finite=False)


# -- accuracy ------------------------------------------------------------------------------------


def truth(a, b):
    """x to more digits than double has, by refinement in extended precision."""
    wide = np.clongdouble if np.iscomplexobj(a) else np.longdouble
    factors = scipy.linalg.lu_factor(a)
    x = scipy.linalg.lu_solve(factors, b).astype(wide)
    for _ in range(8):
        r = b.astype(wide) - (a.astype(wide)[:, :, None] * x[None]).sum(axis=1)
        x = x + scipy.linalg.lu_solve(factors, np.asarray(r, a.dtype))
    return x


GOOD = [
    name
    for name in gallery.names()
    if gallery.facts(name).finite and not gallery.facts(name).singular
]


@pytest.mark.parametrize("name", GOOD)
def test_as_accurate_as_scipy(rng, name):
    for n in (2, 20, 40):
        for dtype in ("float64", "complex128"):
            try:
                a = np.asarray(gallery.matrix(name, n, dtype))
            except ValueError:
                continue
            for k in (1, 7):
                b = normal(rng, (n, k), dtype)
                seen, x = outcome(solve, a, b)
                by_scipy = outcome(scipy.linalg.solve, a, b)
                if seen != "ok" or by_scipy[0] != "ok" or not np.isfinite(by_scipy[1]).all():
                    continue
                right = truth(a, b)
                if not np.isfinite(right).all():
                    continue
                error = np.max(forward_error(x, np.asarray(right, dtype)))
                limit = np.max(forward_error(by_scipy[1], np.asarray(right, dtype)))
                assert error <= 10 * limit + 4 * np.finfo(float).eps, (n, dtype, k)


@pytest.mark.parametrize("name", ["random_normal", "randsvd", "spd_geometric", "kms", "minij"])
def test_as_accurate_as_scipy_when_refined(rng, name):
    """Orders from which single precision is tried first."""
    a = np.array(gallery.matrix(name, 420))
    x_true = rng.integers(-8, 9, 420).astype(float)
    # exact: b has so few bits, or is rounded once
    b = np.asarray((a.astype(np.longdouble) * x_true).sum(axis=1), float)
    for order in "CF":
        error = forward_error(solve(np.array(a, order=order), b), x_true)
        assert error <= 10 * forward_error(scipy.linalg.solve(a, b), x_true) + 4e-16


def test_an_ill_conditioned_matrix_is_warned_of_on_every_road(rng):
    for n in ORDERS[2:]:
        q, p = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
        spectrum = np.ones(n)
        spectrum[-1] = 1e-18
        for order in "CF":
            with pytest.warns(LinAlgWarning, match="ill-conditioned"):
                solve(np.array((q * spectrum) @ p, order=order), np.ones(n))
