"""Scaling by powers of two: exact, and to entries near one."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.factor.blocks import blocks, column_scale, exponents, shifted
from mplinalg.factor.scaling import equilibrate, equilibrate_hermitian
from mplinalg.ops import ops_for
from mplinalg.testing import gallery

OPS = ops_for()
DTYPES = ["float32", "float64", "complex64", "complex128"]
FAMILIES = [
    ("random_normal", {}),
    ("graded_rows", {}),
    ("graded_columns", {}),
    ("large_scaled", {}),
    ("small_scaled", {}),
    ("hilbert", {}),
    ("kahan", {}),
    ("badly_scaled", {"decades": 30.0}),
]


def cabs1(a):
    a = a.astype(np.complex128)
    return np.abs(a.real) + np.abs(a.imag)


def are_powers_of_two(x):
    mantissa, _ = np.frexp(x)
    return bool(np.all(mantissa == 0.5))


def is_near_one(largest):
    return bool(np.all((largest >= 0.5) & (largest <= 1.0)))


# -- two-sided -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "parameters"), FAMILIES)
def test_rows_and_columns_are_equilibrated(name, parameters, dtype, order):
    if dtype in ("float32", "complex64") and name.startswith("badly"):
        parameters = {"decades": 25.0}
    for n in (1, 2, 37):
        a = np.array(gallery.matrix(name, n, dtype, **parameters), order=order)
        s = equilibrate(OPS, a)
        for d in (s.rows, s.cols):
            assert d.shape == (n,)
            assert d.dtype == a.real.dtype
            assert are_powers_of_two(d)
        size = s.rows[:, None].astype(float) * cabs1(a) * s.cols.astype(float)
        assert is_near_one(size.max(axis=1))
        assert is_near_one(size.max(axis=0))


def test_scaling_is_exact(rng):
    a = rng.standard_normal((20, 20)) * 1e5 ** rng.integers(-3, 4, (20, 1))
    s = equilibrate(OPS, a)
    scaled = np.empty_like(a)
    OPS.convert(a, scaled, rows=s.rows, cols=s.cols)
    np.testing.assert_array_equal(scaled / s.cols / s.rows[:, None], a)


def test_zero_rows_and_columns_keep_the_factor_one(rng):
    a = 1e5 * rng.standard_normal((9, 9))
    a[4] = 0
    a[:, 7] = 0
    s = equilibrate(OPS, a)
    assert s.rows[4] == 1
    assert s.cols[7] == 1
    zero = equilibrate(OPS, np.zeros((3, 3)))
    assert np.all(zero.rows == 1)
    assert np.all(zero.cols == 1)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_ends_of_the_range(order):
    """Entries from 1e-300 to 1e300, and subnormal ones, without overflow on the way."""
    a = np.array(gallery.matrix("badly_scaled", 40), order=order)
    s = equilibrate(OPS, a)
    rows, cols = np.frexp(s.rows)[1] - 1, np.frexp(s.cols)[1] - 1
    size = np.ldexp(np.abs(a), (rows[:, None] + cols).astype(int))
    assert is_near_one(size.max(axis=1))
    assert is_near_one(size.max(axis=0))
    tiny = equilibrate(OPS, np.array(gallery.matrix("denormal", 9), order=order))
    assert np.all(np.isfinite(tiny.rows) & np.isfinite(tiny.cols))


def test_empty():
    s = equilibrate(OPS, np.zeros((0, 0)))
    assert s.rows.shape == s.cols.shape == (0,)


# -- Hermitian -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-9, 1.0, 3e5])
def test_diagonal_is_equilibrated_symmetrically(scale, dtype, rng):
    d = 10.0 ** rng.integers(-3, 4, 30)
    a = (scale * d[:, None] * gallery.matrix("kms", 30, dtype) * d).astype(dtype)
    s = equilibrate_hermitian(OPS, a)
    assert are_powers_of_two(s.rows)
    np.testing.assert_array_equal(s.rows, s.cols)
    h = s.rows[:, None].astype(float) * a * s.cols.astype(float)
    diagonal = np.diagonal(h).real
    assert np.all((diagonal >= 0.25) & (diagonal <= 1.0))
    # |h_ij| <= sqrt(h_ii h_jj) for a definite matrix: nothing is left to overflow
    assert np.abs(h).max() <= 1.0


def test_only_the_diagonal_is_read():
    a = np.full((5, 5), np.nan)
    np.fill_diagonal(a, [1e10, 1.0, 1e-10, 0.0, 4.0])
    s = equilibrate_hermitian(OPS, a)
    assert np.all(np.isfinite(s.rows))
    assert s.rows[3] == 1


@pytest.mark.parametrize("scale", [1e-300, 1e300, 5e-324])
def test_hermitian_extremes(scale):
    s = equilibrate_hermitian(OPS, scale * np.eye(3))
    assert are_powers_of_two(s.rows)
    if scale > 1e-310:
        assert np.all((scale * s.rows * s.cols >= 0.25) & (scale * s.rows * s.cols <= 1.0))


# -- columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_are_brought_near_one(dtype, rng):
    scales = np.array([1.0, 1e-29, 1e29, 3.0])
    b = (rng.standard_normal((9, 4)) * scales).astype(dtype)
    if b.dtype.kind == "c":
        b = b * (1 + 2j)
    s = column_scale(OPS, b)
    assert s.dtype == b.real.dtype
    assert are_powers_of_two(s)
    scaled = b * s
    largest = np.maximum(np.abs(scaled.real), np.abs(scaled.imag)).max(axis=0)
    assert np.all((largest >= 0.5) & (largest < 1.0))


def test_columns_that_cannot_be_scaled_keep_one():
    b = np.array([[0.0, np.nan, np.inf, 8.0], [0.0, 1.0, 1.0, 4.0]])
    np.testing.assert_array_equal(column_scale(OPS, b), [1, 1, 1, 1 / 16])
    assert column_scale(OPS, np.zeros((0, 3))).shape == (3,)
    assert column_scale(OPS, np.zeros((3, 0))).shape == (0,)


@pytest.mark.parametrize("value", [5e-324, 1e-308, 1e308])
def test_scale_of_the_smallest_and_largest_can_be_undone(value):
    s = column_scale(OPS, np.array([[value]]))
    assert np.isfinite(s[0])
    assert np.isfinite(1 / s[0])
    assert 2.0**-75 < value * s[0] < 2.0**25
    assert value * s[0] / s[0] == value


# -- pieces --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "nb"), [(0, 4), (1, 4), (3, 4), (4, 4), (5, 4), (12, 4), (13, 1)])
def test_blocks_cover_the_range_once(n, nb):
    covered = [i for k in blocks(n, nb) for i in range(n)[k]]
    assert covered == list(range(n))
    assert all(k.stop - k.start <= nb for k in blocks(n, nb))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_shifts_are_exact_and_undone(dtype, rng):
    x = rng.standard_normal((6, 3)).astype(dtype)
    if dtype == "complex128":
        x.imag = rng.standard_normal((6, 3))
    k = rng.integers(-400, 400, (6, 1))
    y = shifted(OPS, x, k)
    assert y.flags.f_contiguous
    np.testing.assert_array_equal(shifted(OPS, y, -k), x)
    np.testing.assert_array_equal(exponents(OPS, np.ldexp(1.0, k)), k)
