"""A = L L^H in every format and layout: errors, the triangle that is read, scaling and shifts."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.factor.cholesky import CholeskyFactors, cholesky, potrf
from mplinalg.factor.scaling import equilibrate_hermitian
from mplinalg.ops import ops_for
from mplinalg.ops.protocol import Counters
from mplinalg.precision import BF16, FORMATS, FP16, FP16X2, FP32, FP64, TF32
from mplinalg.testing import backward_error, factorization_error, gallery

OPS = ops_for()
BLOCKED = [FP16, BF16, TF32, FP16X2]
ALL = [*FORMATS.values()]
NB = 8
ORDERS = [0, 1, NB - 1, NB, NB + 1, 37]
LAYOUTS = [(triangle, order) for triangle in "LU" for order in "FC"]
FACTORIZATION = 2.0
"""||A - L L^H|| / (n ||A||) stays below this many u_f."""


def definite(rng, n, is_complex, cond=100.0):
    """Random Hermitian with eigenvalues from 1 to 1 / cond."""
    a = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if is_complex else 0)
    q, _ = np.linalg.qr(a)
    a = (q * np.geomspace(1.0, 1.0 / cond, n)) @ q.conj().T if n else a
    return (a + a.conj().T) / 2


def one_triangle(a, triangle):
    """`a` with NaN in the other triangle."""
    other = np.tri(len(a), k=-1, dtype=bool)
    return np.where(other if triangle == "U" else other.T, np.nan, a)


def factor(a, fmt, triangle="L", order="F", scaling=None, **keywords) -> CholeskyFactors:
    """`cholesky` of a copy of which only `triangle` is given."""
    given = np.array(one_triangle(a, triangle), order=order)

    def copy():
        w = np.empty_like(given, dtype=fmt.dtype(a.dtype))
        if scaling is None:
            w[...] = given
        else:
            OPS.convert(given, w, rows=scaling.rows, cols=scaling.cols)
        return w

    return cholesky(OPS, copy, fmt, triangle=triangle, scaling=scaling, **keywords)


def matrix_of(f: CholeskyFactors):
    """The matrix that was factored, in double precision, from the meaningful triangle."""
    wide = f.c.astype(np.complex128 if f.c.dtype.kind == "c" else np.float64)
    c = np.tril(wide) if f.lower else np.triu(wide)
    product = c @ c.conj().T if f.lower else c.conj().T @ c
    return product.conj() if f.conjugated else product


# -- factors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("triangle", "order"), LAYOUTS)
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_backward_error_from_one_triangle(fmt, is_complex, triangle, order, rng):
    for n in ORDERS:
        a = definite(rng, n, is_complex)
        f = factor(a, fmt, triangle, order, block=NB)
        assert f.info == 0
        assert f.is_usable
        assert f.shift == 0
        error = factorization_error(a, matrix_of(f))
        assert error <= FACTORIZATION * (fmt.unit_roundoff + FP64.unit_roundoff), n


@pytest.mark.parametrize("fmt", BLOCKED, ids=str)
def test_a_format_is_no_better_than_its_roundoff(fmt, rng):
    a = definite(rng, 96, False)
    error = factorization_error(a, matrix_of(factor(a, fmt, block=NB)))
    assert error >= fmt.unit_roundoff / 2000


@pytest.mark.parametrize("fmt", ALL, ids=str)
@pytest.mark.parametrize("minor", [1, NB, NB + 1, 20])
@pytest.mark.parametrize("lower", [False, True], ids=["upper", "lower"])
def test_info_names_the_minor(fmt, minor, lower):
    a = np.eye(24)
    a[minor - 1, minor - 1] = -1.0
    w = np.array(a, dtype=fmt.dtype(float), order="F")
    assert potrf(OPS, w, fmt, lower=lower, block=NB) == minor


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_singular_is_not_definite(fmt):
    w = np.ones((20, 20), dtype=fmt.dtype(float), order="F")
    assert potrf(OPS, w, fmt, lower=True, block=NB) == 2


# -- solving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("upcast", [False, True], ids=["own", "upcast"])
@pytest.mark.parametrize(("triangle", "order"), LAYOUTS)
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("fmt", [FP16, FP16X2, FP32, FP64], ids=str)
def test_solve_applies_the_factor(fmt, is_complex, triangle, order, upcast, rng):
    u = FP64.unit_roundoff if upcast or fmt is FP64 else FP32.unit_roundoff
    for n, nrhs in ((1, 1), (7, 3), (129, 1), (260, 2)):
        f = factor(definite(rng, n, is_complex), fmt, triangle, order, block=64)
        assert f.info == 0
        m = matrix_of(f)
        b = rng.standard_normal((n, nrhs)) + (1j if is_complex else 0)
        for trans, op in (("N", m), ("T", m.T), ("C", m)):
            x = f.solve(b, trans, upcast=upcast)
            assert x.dtype == b.dtype
            assert x.flags.f_contiguous
            assert np.all(backward_error(op, x, b) <= 30 * n * u), (n, trans)


@pytest.mark.parametrize("upcast", [False, True], ids=["own", "upcast"])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_the_scale_of_a_column_is_only_a_scale(is_complex, upcast, rng):
    f = factor(definite(rng, 40, is_complex), FP16, block=NB)
    b = rng.standard_normal((40, 1)) + (1j if is_complex else 0)
    powers = np.array([0, -996, 996])
    x = f.solve(np.asfortranarray(np.ldexp(1.0, powers) * b), upcast=upcast)
    np.testing.assert_array_equal(x, np.ldexp(1.0, powers) * x[:, :1])


# -- scaling and shifts --------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", [FP16, FP16X2], ids=str)
def test_scaled_from_the_ends_of_the_range_of_fp16(fmt, rng):
    n = 50
    d = np.geomspace(1e-5, 1e5, n)
    a = d[:, None] * definite(rng, n, False, cond=10.0) * d
    assert np.isinf(FP16.round(a)).any()
    assert (FP16.round(a) == 0).any()
    f = factor(a, fmt, scaling=equilibrate_hermitian(OPS, a), block=NB)
    assert (f.info, f.counters.overflows) == (0, 0)
    x_true = rng.standard_normal((n, 2))
    x = f.solve(a @ x_true)
    # kappa of the scaled matrix is about 10, whatever that of A
    error = np.abs((x - x_true) * d[:, None]).max() / np.abs(x_true * d[:, None]).max()
    assert error <= 10 * 10 * n * fmt.unit_roundoff


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_a_shift_carries_fp16_through_kappa_1e6(is_complex):
    n = 150
    dtype = complex if is_complex else float
    a = gallery.matrix("spd_geometric", n, dtype, cond=1e6)
    scaling = equilibrate_hermitian(OPS, a)
    f = factor(a, FP16, scaling=scaling, shifted=True, block=32)
    assert f.info == 0
    assert FP16.unit_roundoff <= f.shift <= 128 * FP16.unit_roundoff
    # what was factored is the scaled matrix with its diagonal enlarged
    h = scaling.rows[:, None] * a * scaling.cols
    h[np.diag_indices(n)] *= 1 + f.shift
    assert factorization_error(h, matrix_of(f)) <= FACTORIZATION * FP16.unit_roundoff


def test_without_a_shift_fp16_breaks_down():
    a = gallery.matrix("spd_geometric", 150, cond=1e6)
    assert factor(a, FP16, scaling=equilibrate_hermitian(OPS, a), block=32).info > 0


def test_a_shift_is_as_small_as_will_do(rng):
    """A well-conditioned matrix is shifted by u_f and no more."""
    f = factor(definite(rng, 60, False, cond=2.0), FP16, shifted=True, block=NB)
    assert (f.info, f.shift) == (0, FP16.unit_roundoff)


@pytest.mark.parametrize("fmt", BLOCKED, ids=str)
@pytest.mark.parametrize("least", [-1.0, -0.6])
def test_a_shift_does_not_make_an_indefinite_matrix_definite(fmt, least, rng):
    """A shift is a small multiple of u_f: an eigenvalue of -0.6 stays negative."""
    n = 60
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    values = np.ones(n)
    values[0] = least
    f = factor((q * values) @ q.T, fmt, shifted=True, block=NB)
    assert f.info > 0
    assert not f.is_usable
    assert f.rcond(1.0, np.float64) == 0.0


def test_every_attempt_starts_from_a_fresh_copy():
    a = gallery.matrix("spd_geometric", 150, cond=1e6)
    calls = []

    def copy():
        calls.append(1)
        return np.array(a, dtype=np.float32, order="F")

    f = cholesky(OPS, copy, FP16, triangle="L", shifted=True, block=32)
    assert f.info == 0
    assert f.shift == FP16.unit_roundoff * 2 ** (len(calls) - 1)
    assert f.counters.overflows == 0


@pytest.mark.parametrize("scale", [1e5, 1e-9])
def test_nothing_overflows_whatever_the_scale(scale, rng):
    a = scale * definite(rng, 60, False)
    f = factor(a, FP16, block=NB)
    assert f.info == 0
    assert isinstance(f.counters, Counters)
    assert f.counters.overflows == 0
    assert factorization_error(a, matrix_of(f)) <= FACTORIZATION * FP16.unit_roundoff


# -- condition -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("triangle", "order"), LAYOUTS)
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_rcond(is_complex, triangle, order, rng):
    a = definite(rng, 60, is_complex, cond=1e8)
    exact = 1 / np.linalg.cond(a, 1)
    f = factor(a, FP64, triangle, order)
    estimate = f.rcond(np.linalg.norm(a, 1), a.dtype)
    assert exact * (1 - 1e-6) <= estimate <= 3 * exact


def test_rcond_is_of_the_matrix_as_given(rng):
    """Scaling for fp16 improves the condition; the estimate is that of A all the same."""
    d = np.geomspace(1.0, 1e3, 50)
    a = d[:, None] * definite(rng, 50, False, cond=5.0) * d
    exact = 1 / np.linalg.cond(a, 1)
    f = factor(a, FP16, scaling=equilibrate_hermitian(OPS, a), block=NB)
    assert exact / 3 <= f.rcond(np.linalg.norm(a, 1), a.dtype) <= 10 * exact
