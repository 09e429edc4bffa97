"""P A = L U in every format, judged in float64: errors, growth, pivots, and solves."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg.factor.lu import LUFactors, getrf, lu
from mplinalg.factor.scaling import equilibrate
from mplinalg.ops import ops_for
from mplinalg.ops.protocol import Counters
from mplinalg.precision import BF16, FORMATS, FP16, FP16X2, FP32, FP64, TF32
from mplinalg.testing import backward_error, factorization_error, gallery

OPS = ops_for()
BLOCKED = [FP16, BF16, TF32, FP16X2]
ALL = [*FORMATS.values()]
NB = 8
ORDERS = [0, 1, NB - 1, NB, NB + 1, 37]
SHAPES = [(0, 3), (3, 0), (1, 9), (9, 1), (100, NB), (37, 20), (20, 37), (NB, 3 * NB), (3 * NB, NB)]
FACTORIZATION = 2.0
"""||P A - L U|| / (n ||A||) of random matrices stays below this many u_f (observed: 0.5)."""


def draw(rng, shape, is_complex):
    a = rng.standard_normal(shape)
    return a + 1j * rng.standard_normal(shape) if is_complex else a


def held(a, fmt, order=None):
    """A copy of `a` in the dtype that holds `fmt`; by default in the order in which A itself, and
    not its transpose, is factored."""
    order = order or ("C" if fmt.is_native else "F")
    return np.array(a, dtype=fmt.dtype(a.dtype), order=order)


def factors_of(packed):
    """L and U in double precision."""
    m, n = packed.shape
    wide = packed.astype(np.complex128 if packed.dtype.kind == "c" else np.float64)
    k = min(m, n)
    return np.tril(wide[:, :k], -1) + np.eye(m, k), np.triu(wide[:k])


def permutation(piv, m):
    """Rows of A in the order of P A, from successive interchanges."""
    rows = np.arange(m)
    for i, p in enumerate(piv):
        rows[[i, p]] = rows[[p, i]]
    return rows


def error_of(a, packed, piv):
    lower, upper = factors_of(packed)
    return factorization_error(a, lower, upper, perm=permutation(piv, a.shape[0]))


def matrix_of(factors: LUFactors):
    """The matrix whose factors these are, in double precision; of A, not of A^T."""
    lower, upper = factors_of(factors.lu)
    product = np.empty_like(lower @ upper)
    product[permutation(factors.piv, len(product))] = lower @ upper
    return product.T if factors.transposed else product


def largest_pivots(a):
    """max |U| of Gaussian elimination as in the textbook; pivots by |re| + |im|, as LAPACK."""
    u = a.copy()
    for k in range(len(u)):
        p = k + int(np.argmax(np.abs(u[k:, k].real) + np.abs(u[k:, k].imag)))
        u[[k, p]] = u[[p, k]]
        u[k + 1 :] -= np.outer(u[k + 1 :, k] / u[k, k], u[k])
    return float(np.abs(np.triu(u)).max())


# -- factors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pivoting", ["partial", "tournament"])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_backward_error_of_the_factorization(fmt, is_complex, pivoting, rng):
    for n in ORDERS:
        for order in "FC":
            a = draw(rng, (n, n), is_complex)
            w = held(a, fmt, order)
            f = lu(OPS, w, fmt, pivoting=pivoting, block=NB)
            assert f.info == 0
            assert f.is_usable
            by_rows = fmt.is_native and pivoting == "partial"
            assert f.transposed == (n > 1 and order == ("F" if by_rows else "C"))
            given = held(a, fmt)
            assert (
                error_of(given.T if f.transposed else given, f.lu, f.piv)
                <= FACTORIZATION * fmt.unit_roundoff
            )


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_the_working_copy_is_factored_where_it_lies(fmt, rng):
    for order in "FC":
        w = held(rng.standard_normal((20, 20)), fmt, order)
        assert np.shares_memory(lu(OPS, w, fmt, block=NB).lu, w)


@pytest.mark.parametrize("pivoting", ["partial", "tournament"])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_tall_and_wide(fmt, is_complex, pivoting, rng):
    for shape in SHAPES:
        a = held(draw(rng, shape, is_complex), fmt)
        w = a.copy(order="F")
        piv, info = getrf(OPS, w, fmt, pivoting=pivoting, block=NB)
        assert info == 0
        assert piv.shape == (min(shape),)
        assert error_of(a, w, piv) <= FACTORIZATION * fmt.unit_roundoff


@pytest.mark.parametrize("fmt", [*BLOCKED, FP32], ids=str)
def test_a_format_is_no_better_than_its_roundoff(fmt, rng):
    """The emulation rounds: an error far below u_f would mean that fp32 was used instead."""
    a = held(rng.standard_normal((96, 96)), fmt)
    f = lu(OPS, a.copy(order="K"), fmt, block=NB)
    assert error_of(a, f.lu, f.piv) >= fmt.unit_roundoff / 200


@pytest.mark.parametrize("fmt", BLOCKED, ids=str)
def test_one_panel_is_plain_fp32(fmt, rng):
    """Only updates are rounded: a matrix of one panel is factored as accurately as in fp32."""
    a = held(rng.standard_normal((30, 30)), fmt)
    low = lu(OPS, a.copy(order="F"), fmt, block=30)
    assert error_of(a, low.lu, low.piv) <= FACTORIZATION * FP32.unit_roundoff
    np.testing.assert_array_equal(low.piv, lu(OPS, a.copy(order="C"), FP32).piv)


@pytest.mark.parametrize("fmt", ALL, ids=str)
@pytest.mark.parametrize("column", [0, NB - 1, NB, 2 * NB + 3, 29])
def test_info_names_the_pivot_that_is_zero(fmt, column, rng):
    a = rng.standard_normal((30, 30))
    a[:, column] = 0
    f = lu(OPS, held(a, fmt), fmt, block=NB)
    assert f.info == column + 1
    assert f.lu[column, column] == 0
    assert not f.is_usable
    assert f.rcond(1.0, np.float64) == 0.0


def test_info_is_that_of_the_first_zero_pivot(rng):
    a = rng.standard_normal((30, 30))
    a[:, [12, 20]] = 0
    assert lu(OPS, held(a, FP16), FP16, block=NB).info == 13
    assert lu(OPS, held(a, FP64), FP64).info == 13


# -- growth --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("n", [1, 2, 10, 52, 130])
def test_growth_of_wilkinsons_matrix(n, dtype):
    a = gallery.matrix("gfpp", n, dtype)
    # of A and its transpose one is factored: the transpose has -1 above the diagonal, and grows
    # not at all
    for x in (a, np.array(a.T, order="C")):
        f = lu(OPS, x.copy(), FP64)
        grows = f.transposed == (x is not a)
        assert f.growth(1.0) == 2.0 ** (n - 1) if grows else f.growth(1.0) <= 2.0


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("order", ["F", "C"])
def test_growth_is_the_textbooks(order, is_complex, rng):
    for n in (1, 9, 140):
        a = draw(rng, (n, n), is_complex)
        f = lu(OPS, held(a, FP64, order), FP64)
        naive = largest_pivots(a.T if f.transposed else a) / np.abs(a).max()
        assert f.growth(np.abs(a).max()) == pytest.approx(naive, rel=1e-10)


def test_growth_sees_infinities():
    """Growth of 2^129 overflows fp32; such factors must not look harmless."""
    f = lu(OPS, held(gallery.matrix("gfpp", 140), FP16), FP16, block=32)
    assert not f.growth(1.0) <= 2.0**128


def test_growth_in_low_precision_is_that_of_the_scaled_matrix(rng):
    a = 1e5 * rng.standard_normal((60, 60))
    scaling = equilibrate(OPS, a)
    w = np.empty(a.shape, np.float32)
    OPS.convert(a, w, rows=scaling.rows, cols=scaling.cols)
    top = np.abs(w).max()
    f = lu(OPS, w, FP16, scaling=scaling, block=NB)
    naive = np.abs(np.triu(f.lu)).max() / top
    assert naive / 2 <= f.growth(np.abs(a).max()) <= 2 * naive


# -- solving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("fmt", [FP16, FP16X2, FP32, FP64], ids=str)
@pytest.mark.parametrize("upcast", [False, True], ids=["own", "upcast"])
def test_solve_applies_the_factors(fmt, is_complex, order, upcast, rng):
    """x solves op(M) x = b, M = P^T L U, to the precision in which the factors are applied."""
    u = FP64.unit_roundoff if upcast else fmt.unit_roundoff if fmt is FP64 else FP32.unit_roundoff
    for n, nrhs in ((1, 1), (7, 3), (128, 1), (129, 2), (260, 3)):
        f = lu(OPS, held(draw(rng, (n, n), is_complex), fmt, order), fmt, block=64)
        m = matrix_of(f)
        b = draw(rng, (n, nrhs), is_complex)
        for trans, op in (("N", m), ("T", m.T), ("C", m.conj().T)):
            x = f.solve(b, trans, upcast=upcast)
            assert x.dtype == b.dtype
            assert x.flags.f_contiguous
            assert np.all(backward_error(op, x, b) <= 30 * n * u), (n, trans)


def test_upcast_is_worth_its_name(rng):
    """At kappa 1e6 fp32 factors applied in fp32 solve their own system worse than in fp64."""
    f = lu(OPS, held(gallery.randsvd(200, 1e6, "geometric"), FP32), FP32)
    m, b = matrix_of(f), rng.standard_normal((200, 1))
    assert np.all(backward_error(m, f.solve(b, upcast=True), b) <= 30 * FP64.unit_roundoff)
    assert np.all(backward_error(m, f.solve(b), b) >= FP32.unit_roundoff / 1000)


@pytest.mark.parametrize("upcast", [False, True], ids=["own", "upcast"])
@pytest.mark.parametrize("trans", ["N", "T", "C"])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_the_scale_of_a_column_is_only_a_scale(is_complex, trans, upcast, rng):
    """Columns of 1e-300 and 1e300 in fp16 factors: the same digits, and no neighbour suffers."""
    n = 40
    f = lu(OPS, held(draw(rng, (n, n), is_complex), FP16), FP16, block=NB)
    b = draw(rng, (n, 1), is_complex)
    powers = np.array([0, -996, 996, 700, -40])
    many = np.asfortranarray(np.ldexp(1.0, powers) * b)
    x = f.solve(many, trans, upcast=upcast)
    np.testing.assert_array_equal(x, np.ldexp(1.0, powers) * x[:, :1])
    alone = f.solve(b, trans, upcast=upcast)
    assert np.all(np.abs(x[:, :1] - alone) <= 1e-3 * np.abs(alone).max())


def test_a_column_that_is_zero_or_not_finite_stays_alone(rng):
    n = 40
    f = lu(OPS, held(rng.standard_normal((n, n)), FP16), FP16, block=NB)
    b = rng.standard_normal((n, 3))
    b[:, 1] = 0
    clean = f.solve(b)
    assert np.all(clean[:, 1] == 0)
    b[0, 1] = np.nan
    x = f.solve(b)
    assert np.isnan(x[:, 1]).any()
    np.testing.assert_array_equal(x[:, [0, 2]], clean[:, [0, 2]])


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_working_precision_may_be_single(dtype, rng):
    a = draw(rng, (50, 50), np.dtype(dtype).kind == "c").astype(dtype)
    f = lu(OPS, np.array(a, order="F"), FP16, block=NB)
    b = np.ldexp(1.0, [0, -60, 100]).astype(np.float32) * a[:, :1]
    x = f.solve(np.asfortranarray(b))
    assert x.dtype == dtype
    np.testing.assert_array_equal(x[:, 1], np.ldexp(np.float32(1), -60) * x[:, 0])
    np.testing.assert_array_equal(x[:, 2], np.ldexp(np.float32(1), 100) * x[:, 0])


# -- range ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", [FP16, FP16X2], ids=str)
@pytest.mark.parametrize("scale", [1e5, 1e-9, 1e-30, 1e30])
def test_nothing_overflows_whatever_the_scale(fmt, scale, rng):
    a = held(scale * rng.standard_normal((60, 60)), fmt)
    f = lu(OPS, a.copy(order="F"), fmt, block=NB)
    assert f.counters == Counters(0, f.counters.underflows)
    assert f.counters.underflows <= (0 if fmt is FP16 else a.size)  # low parts may be tiny
    assert error_of(a, f.lu, f.piv) <= FACTORIZATION * fmt.unit_roundoff


def test_large_and_small_entries_in_one_matrix(rng):
    """Rows of 1e5 and of 1e-9: scaled by rows and columns, both keep their digits."""
    n = 60
    a = rng.standard_normal((n, n)) * np.where(np.arange(n) % 2, 1e5, 1e-9)[:, None]
    assert np.isinf(FP16.round(a)).any()
    assert (FP16.round(a) == 0).any()
    scaling = equilibrate(OPS, a)
    w = np.empty(a.shape, np.float32)
    OPS.convert(a, w, rows=scaling.rows, cols=scaling.cols)
    f = lu(OPS, w, FP16, scaling=scaling, block=NB)
    assert (f.counters.overflows, f.counters.underflows) == (0, 0)
    for trans, op in (("N", a), ("T", a.T)):
        x_true = rng.standard_normal((n, 2))
        x = f.solve(op @ x_true, trans)
        d = scaling.cols if trans == "N" else scaling.rows
        error = np.abs((x - x_true) / d[:, None]).max() / np.abs(x_true / d[:, None]).max()
        kappa = np.linalg.cond(scaling.rows[:, None] * a * scaling.cols, np.inf)
        assert error <= kappa * n * FP16.unit_roundoff
        assert error <= 0.5


def test_underflows_are_counted(rng):
    """Entries 1e-12 below their neighbours in one operand vanish from fp16, and are counted."""
    n = 4 * NB
    a = np.eye(n) + 1e-13 * rng.standard_normal((n, n))
    a[NB : 2 * NB, :NB] += 0.5 * np.eye(NB)
    low = lu(OPS, held(a, FP16), FP16, block=NB)
    assert low.counters.overflows == 0
    assert low.counters.underflows > 0
    assert lu(OPS, held(a, BF16), BF16, block=NB).counters == Counters(0, 0)


# -- condition -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_rcond_is_of_the_matrix_and_not_of_its_transpose(order, is_complex, rng):
    a = draw(rng, (40, 40), is_complex)
    a[0] *= 1e6  # the 1-norm and the inf-norm condition numbers now differ
    exact = 1 / np.linalg.cond(a, 1)
    assert not 0.5 <= exact * np.linalg.cond(a, np.inf) <= 2
    estimate = lu(OPS, held(a, FP64, order), FP64).rcond(np.linalg.norm(a, 1), a.dtype)
    assert exact * (1 - 1e-8) <= estimate <= 3 * exact


def test_agrees_with_scipys_pivots(rng):
    a = rng.standard_normal((64, 64))
    packed, piv = scipy.linalg.lu_factor(a)
    f = lu(OPS, a.copy(order="C"), FP64)
    np.testing.assert_array_equal(f.piv, piv)
    np.testing.assert_allclose(f.lu, packed, rtol=0, atol=1e-12 * np.abs(packed).max())
