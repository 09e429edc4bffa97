"""getrf by rows: P A = L U, the pivots of partial pivoting, zero pivots named, NaN kept."""

import numpy as np
import pytest

from mplinalg.kernels.cpu.getrf import WIDTH
from mplinalg.kernels.cpu.getrf_blocks import getrf_rows
from mplinalg.testing import gallery

from ..ops.helpers import DTYPES, allowed, cabs1, draw, is_complex, same_bits, swapped, wide

ORDERS = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 100, 129, 200]
"""Both sides of every panel and of every step of the recursion."""


def factor(a):
    """(L \\ U, piv, info) of a copy; nothing around the copy may be written."""
    n, guard = len(a), 64
    flat = np.full(n * n + 2 * guard, -7, a.dtype)
    lu = flat[guard : guard + n * n].reshape(n, n)
    lu[...] = a
    piv = np.full(n, -1, np.int32)
    info = getrf_rows(lu, piv)
    assert np.all(flat[:guard] == -7)
    assert np.all(flat[guard + n * n :] == -7)
    assert np.all(piv >= np.arange(n))
    assert np.all(piv < n)
    return lu, piv, info


def split(lu):
    lu = wide(lu)
    return np.tril(lu, -1) + np.eye(len(lu)), np.triu(lu)


def is_factored(a, lu, piv):
    """P A - L U is within 30 n u of |L||U|."""
    l, u = split(lu)
    error = np.abs(swapped(wide(a), piv) - l @ u)
    size = (np.abs(l) @ np.abs(u)).sum(axis=1, initial=0.0).max(initial=0.0)
    return error.sum(axis=1, initial=0.0).max(initial=0.0) <= allowed(len(a), a.dtype) * size


def textbook(a):
    """Pivots of Gaussian elimination, row by row in extended precision."""
    a = a.astype(np.clongdouble if is_complex(a.dtype) else np.longdouble)
    piv = []
    for k in range(len(a)):
        p = k + int(np.argmax(abs(a[k:, k].real) + abs(a[k:, k].imag)))
        piv.append(p)
        a[[k, p]] = a[[p, k]]
        a[k + 1 :, k] /= a[k, k]
        a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
    return piv


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_product_of_the_factors(rng, dtype, n):
    a = draw(rng, (n, n), dtype)
    lu, piv, info = factor(a)
    assert info == 0
    assert is_factored(a, lu, piv)
    largest = 2**0.5 if is_complex(dtype) else 1.0  # pivots are compared by |re| + |im|
    assert np.all(np.abs(np.tril(wide(lu), -1)) <= largest + allowed(1, dtype))


def test_nothing_of_order_zero():
    assert factor(np.empty((0, 0)))[2] == 0


@pytest.mark.parametrize("n", [2, 17, 33, 64, 65, 129])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_pivots_are_those_of_elimination_row_by_row(rng, dtype, n):
    a = draw(rng, (n, n), dtype)
    assert factor(a)[1].tolist() == textbook(a)


@pytest.mark.parametrize("name", [n for n in gallery.names() if gallery.facts(n).finite])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_the_gallery(name, dtype):
    try:
        a = np.array(gallery.matrix(name, 65, dtype), order="C")
    except ValueError:
        pytest.skip(f"{name} does not exist in {dtype} and this order")
    lu, piv, info = factor(a)
    if name in ("badly_scaled", "denormal") and not np.isfinite(lu).all():
        pytest.skip("the factors leave the range of the dtype, and show it")
    assert is_factored(a, lu, piv)
    zero = np.flatnonzero(lu.diagonal() == 0)
    assert info == (zero[0] + 1 if zero.size else 0)


def test_growth_is_exact():
    """Wilkinson's matrix: every entry of L and U is a power of two."""
    n = 3 * WIDTH
    a = np.eye(n) - np.tril(np.ones((n, n)), -1)
    a[:, -1] = 1
    lu, piv, info = factor(a)
    assert info == 0
    assert np.array_equal(piv, np.arange(n))
    assert np.array_equal(lu[:, -1], 2.0 ** np.arange(n))
    assert np.array_equal(np.tril(lu, -1), np.tril(a, -1))


@pytest.mark.parametrize("power", [-400, -100, 100, 400])
def test_powers_of_two_change_nothing_but_the_scale(rng, power):
    a = draw(rng, (65, 65), "float64")
    lu, piv, _ = factor(a)
    scaled, piv_scaled, _ = factor(np.ldexp(a, power))
    assert np.array_equal(piv, piv_scaled)
    assert np.array_equal(np.tril(scaled, -1), np.tril(lu, -1))
    assert np.array_equal(np.triu(scaled), np.ldexp(np.triu(lu), power))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_wherever_the_matrix_lies(rng, dtype):
    a = draw(rng, (100, 100), dtype)
    first, piv, _ = factor(a)
    for offset in range(1, 8):
        flat = np.empty(a.size + offset, dtype)
        moved = flat[offset:].reshape(a.shape)
        moved[...] = a
        piv_moved = np.empty(100, np.int32)
        getrf_rows(moved, piv_moved)
        assert same_bits(moved.copy(), first.copy())
        assert np.array_equal(piv_moved, piv)


# -- zero pivots ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 16, 17, 33, 65])
def test_the_first_zero_column_is_named(rng, dtype, n):
    for j in sorted({0, n // 2, n - 1, *range(WIDTH - 1, n, WIDTH)}):
        a = draw(rng, (n, n), dtype)
        a[:, j] = 0
        lu, piv, info = factor(a)
        assert info == j + 1
        assert is_factored(a, lu, piv)
        a[:, n - 1] = 0
        assert factor(a)[2] == j + 1


@pytest.mark.parametrize("n", [2, 16, 17, 40, 65])
def test_exact_singularity_in_integers_is_found(n):
    """Rank r: with entries 0 and 1 in a triangle nothing is ever rounded."""
    for rank in {1, n // 2, n - 1}:
        u = np.triu(np.ones((n, n)))
        u[rank:] = 0
        a = np.tril(np.ones((n, n))) @ u
        lu, piv, info = factor(a)
        assert info == rank + 1
        l, u = split(lu)
        assert np.array_equal(l @ u, swapped(a, piv))


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros(dtype):
    lu, piv, info = factor(np.zeros((33, 33), dtype))
    assert info == 1
    assert np.array_equal(piv, np.arange(33))
    assert not lu.any()


# -- what is not finite --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_stays_so(rng, dtype, bad):
    """Pivots are in range (see `factor`), and no finite factors hide it."""
    for n in [1, 2, 16, 17, 33, 65]:
        places = sorted({0, n // 2, n - 1, min(n - 1, WIDTH - 1), min(n - 1, WIDTH)})
        for i in places:
            for j in places:
                a = draw(rng, (n, n), dtype)
                a[i, j] = bad
                assert not np.isfinite(factor(a)[0]).all(), (n, i, j)
        assert not np.isfinite(factor(np.full((n, n), bad, dtype))[0]).any() or bad != bad


@pytest.mark.parametrize("part", [complex(0, np.nan), complex(np.inf, 0), complex(1, -np.inf)])
def test_one_part_that_is_not_finite(rng, part):
    for i, j in [(0, 0), (20, 3), (3, 20), (32, 32)]:
        a = draw(rng, (33, 33), "complex128")
        a[i, j] = part
        assert not np.isfinite(factor(a)[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_multipliers_of_subnormal_pivots(rng, dtype):
    """1 / pivot overflows; the multipliers are of order one all the same, or show it."""
    tiny = np.finfo(dtype).smallest_subnormal
    for n in (5, 20):
        a = (np.rint(1000 * draw(rng, (n, n), "float64")) * float(tiny)).astype(dtype)
        lu, piv, info = factor(a)
        if np.isfinite(lu).all():
            assert info == 0 or lu[info - 1, info - 1] == 0
            l, u = split(lu)
            error = cabs1(swapped(wide(a), piv) - l @ u)
            assert error.max() <= n * float(tiny) * 2 * max(1.0, cabs1(l).max())
