"""potrf by rows: both triangles, the other one neither read nor written, failing minors named."""

import numpy as np
import pytest

from mplinalg.kernels.cpu import routines
from mplinalg.kernels.cpu.getrf import WIDTH
from mplinalg.kernels.cpu.potrf import potrf_rows

from ..ops.helpers import DTYPES, allowed, draw, is_complex, same_bits, wide

ORDERS = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 100, 129, 200]
TRIANGLES = pytest.mark.parametrize("upper", [True, False], ids=["upper", "lower"])


def triangle(n, upper):
    ones = np.ones((n, n), bool)
    return np.triu(ones) if upper else np.tril(ones)


def definite(rng, n, dtype):
    """Eigenvalues between 1 and about 5."""
    x = wide(draw(rng, (n, n), dtype)) / n**0.5
    return np.asarray(np.eye(n) + x @ x.conj().T, dtype)


def factor(a, upper):
    """(factor, info) of one triangle of `a`; NaN in the other, and -7 around, must stay."""
    n, guard = len(a), 64
    read = triangle(n, upper)
    flat = np.full(n * n + 2 * guard, -7, a.dtype)
    c = flat[guard : guard + n * n].reshape(n, n)
    c[...] = np.where(read, a, np.asarray(np.nan, a.dtype))
    herk = routines.address("herk" if is_complex(a.dtype) else "syrk", a.dtype)
    info = potrf_rows(routines.address("gemm", a.dtype), herk, c, upper)
    assert np.all(flat[:guard] == -7)
    assert np.all(flat[guard + n * n :] == -7)
    assert np.isnan(c[~read]).all()
    return np.where(read, c, 0), info


@TRIANGLES
@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_product_of_the_factor(rng, dtype, n, upper):
    a = definite(rng, n, dtype)
    c, info = factor(a, upper)
    assert info == 0
    assert np.all(c.diagonal().real > 0)
    assert np.all(c.diagonal().imag == 0)
    c, a = wide(c), wide(a)
    product = c.conj().T @ c if upper else c @ c.conj().T
    error = np.abs(product - a).sum(axis=1).max()
    assert error <= allowed(n, dtype) * np.abs(a).sum(axis=1).max()


@TRIANGLES
def test_nothing_of_order_zero(upper):
    assert factor(np.empty((0, 0)), upper)[1] == 0


@TRIANGLES
def test_a_graded_matrix_has_an_accurate_factor(rng, upper):
    """A = D H D with H well conditioned: the factor is that of H times D, row by row
    (Demmel 1989; Higham 2002, theorem 10.5 is componentwise in this sense)."""
    n = 65
    h = definite(rng, n, "float64")
    d = 2.0 ** -np.arange(0, 8 * n, 8)
    c, info = factor(h * d * d[:, None], upper)
    plain, _ = factor(h, upper)
    assert info == 0
    scale = d if upper else d[:, None]
    assert np.max(abs(c / scale - plain)) <= allowed(n, "float64") * np.max(abs(plain))


@TRIANGLES
def test_integers_are_factored_exactly(upper):
    """min(i, j) = L L^T, L the triangle of ones; beside it nothing is rounded."""
    n = 100
    a = np.minimum.outer(np.arange(1.0, n + 1), np.arange(1.0, n + 1))
    c, info = factor(a, upper)
    assert info == 0
    assert np.array_equal(c, triangle(n, upper))


@TRIANGLES
def test_the_imaginary_part_of_the_diagonal_is_not_read(rng, upper):
    a = definite(rng, 40, "complex128")
    np.fill_diagonal(a, a.diagonal().real)
    marked = a.copy()
    np.fill_diagonal(marked, a.diagonal() + 1j * rng.standard_normal(40))
    assert same_bits(factor(marked, upper)[0], factor(a, upper)[0])


@TRIANGLES
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_minor_that_fails_is_named(rng, dtype, upper):
    for n in [1, 2, 16, 17, 65, 129]:
        for bad in sorted({0, n // 2, n - 1, *range(WIDTH - 1, n, 3 * WIDTH)}):
            for value in [0.0, -1.0, np.nan]:
                a = definite(rng, n, dtype)
                a[bad, :] = a[:, bad] = 0
                a[bad, bad] = value
                assert factor(a, upper)[1] == bad + 1, (n, bad, value)


@TRIANGLES
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_not_hidden(rng, dtype, bad, upper):
    """A minor fails, or the factor shows it."""
    for n in [1, 2, 17, 65]:
        places = sorted({0, n // 2, n - 1, min(n - 1, WIDTH)})
        for i in places:
            for j in [p for p in places if (p >= i if upper else p <= i)]:
                a = definite(rng, n, dtype)
                a[i, j] = bad
                c, info = factor(a, upper)
                assert info or not np.isfinite(c).all(), (n, i, j)
                if bad != bad:
                    assert info, (n, i, j)


@TRIANGLES
@pytest.mark.parametrize("power", [-1000, 900])
def test_extreme_scales(rng, power, upper):
    a = definite(rng, 65, "float64")
    c, info = factor(np.ldexp(a, power), upper)
    assert info == 0
    assert np.array_equal(c, np.ldexp(factor(a, upper)[0], power // 2))
