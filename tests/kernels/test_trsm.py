"""solve_triangle: every combination of triangle, transposition, diagonal and conjugation."""

import numpy as np
import pytest

from mplinalg.kernels.cpu import routines
from mplinalg.kernels.cpu.calls import ADJOINT, TRANSPOSE
from mplinalg.kernels.cpu.trsm import solve_triangle

from ..ops.helpers import DTYPES, allowed, draw, same_bits, wide

ORDERS = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 100, 129, 200]
FLAGS = {"T": TRANSPOSE, "C": ADJOINT}


def stored(rng, n, dtype, lower, unit):
    """(what is passed, the triangle it stands for): NaN where nothing is to be read."""
    t = draw(rng, (n, n), dtype) / np.sqrt(n).astype(dtype)
    t = np.tril(t, -1) if lower else np.triu(t, 1)
    diagonal = 1 + rng.random(n)
    diagonal = diagonal * np.exp(1j * rng.random(n)) if t.dtype.kind == "c" else diagonal
    np.fill_diagonal(t, 1 if unit else diagonal)
    unread = (np.triu if lower else np.tril)(np.ones((n, n), bool), 1 if lower else -1)
    passed = np.where(unread, np.asarray(np.nan, dtype), t)
    if unit:
        np.fill_diagonal(passed, np.nan)
    return passed, wide(t)


def op(t, flipped, flag):
    if flipped:
        return t.T
    return t if flag == "T" else t.conj()


def solved(factors, lower, flipped, unit, flag, b):
    n, k, guard = len(factors), len(b), 40
    flat = np.full(k * n + 2 * guard, -7, b.dtype)
    x = flat[guard : guard + k * n].reshape(k, n)
    x[...] = b
    before = factors.copy()
    gemm = routines.address("gemm", b.dtype)
    solve_triangle(gemm, factors, lower, flipped, unit, FLAGS[flag], x)
    assert same_bits(factors, before)
    assert np.all(flat[:guard] == -7)
    assert np.all(flat[guard + k * n :] == -7)
    return wide(x)


@pytest.mark.parametrize("flag", ["T", "C"])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_combination(rng, dtype, lower, flipped, unit, flag):
    for n in ORDERS:
        factors, t = stored(rng, n, dtype, lower, unit)
        b = draw(rng, (1 + n % 7, n), dtype)
        x = solved(factors, lower, flipped, unit, flag, b)
        m = op(t, flipped, flag)
        # lines are solutions: x m^T = b
        error = np.abs(x @ m.T - wide(b)).max(axis=1)
        size = np.abs(m).sum(axis=1).max() * np.abs(x).max(axis=1) + np.abs(b).max(axis=1)
        assert np.all(error <= allowed(n, dtype) * size), n


@pytest.mark.parametrize("k", [1, 2, 5, 16, 17, 40])
def test_any_number_of_lines(rng, k):
    factors, t = stored(rng, 65, "float64", True, False)
    b = draw(rng, (k, 65), "float64")
    x = solved(factors, True, False, False, "T", b)
    error = np.abs(x @ t.T - b).max(axis=1)
    size = np.abs(t).sum(axis=1).max() * np.abs(x).max(axis=1) + np.abs(b).max(axis=1)
    assert np.all(error <= allowed(65, "float64") * size)


def test_lines_of_very_different_size(rng):
    """Each line is solved to its own size."""
    factors, t = stored(rng, 100, "float64", False, False)
    b = draw(rng, (6, 100), "float64") * 10.0 ** np.array([[0], [150], [-150], [3], [-3], [0]])
    b[5] = 0
    x = solved(factors, False, False, False, "T", b)
    assert not x[5].any()
    error = np.abs(x @ t.T - b).max(axis=1)
    size = np.abs(t).sum(axis=1).max() * np.abs(x).max(axis=1) + np.abs(b).max(axis=1)
    assert np.all(error <= allowed(100, "float64") * size)


@pytest.mark.parametrize("place", [0, 15, 16, 40, 64])
def test_a_zero_on_the_diagonal_shows(rng, place):
    factors, _ = stored(rng, 65, "float64", False, False)
    factors[place, place] = 0
    x = solved(factors, False, False, False, "T", draw(rng, (6, 65), "float64"))
    assert not np.isfinite(x).all(axis=1).any()
