"""panel_lu_persistent.cu: LU of a tall panel with partial pivoting, one barrier a column."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hadamard, lapack

from mplinalg.kernels.cuda.catalogue import FOLDER

from .device_module import seen_by
from .module import LaunchError
from .mutation import barriers

FILE = "panel_lu_persistent.cu"
U = {np.float32: 2.0**-24, np.float64: 2.0**-53}
GETRF = {np.float32: lapack.sgetrf, np.float64: lapack.dgetrf}


def instance(a, threads=128):
    width = 32 if a.dtype == np.float64 else next(nb for nb in (16, 32, 64) if a.shape[1] <= nb)
    kind = "double" if a.dtype == np.float64 else "float"
    return width, f"panel_lu<{width}, {threads}, {kind}>"


def factor(
    module, a, *, blocks=3, threads=128, first=0, info=None, narrow=None, scale=1.0,
    bfloat16=False, **options,
):  # fmt: skip
    """Changes `a`; pivots and info."""
    width, name = instance(a, threads)
    slots, keys = np.full(2 * blocks * width, np.nan, a.dtype), np.zeros(8 * blocks, np.uint32)
    assert slots.ctypes.data % 16 == 0
    assert keys.ctypes.data % 16 == 0
    pivots = np.full(min(a.shape), -1, np.int32)
    info = np.zeros(1, np.int32) if info is None else info
    stride = 0 if narrow is None else narrow.strides[0] // narrow.itemsize
    module[name](
        blocks, threads,
        [*a.shape, a, a.strides[0] // a.itemsize, slots, keys, pivots, info, first, narrow, stride,
         scale, int(bfloat16)],
        uninitialised=[4, 5, 6], cooperative=True, **options,
    )  # fmt: skip
    return pivots, info


def order_after(swaps, m):
    order = np.arange(m)
    for j, p in enumerate(swaps):
        order[[j, p]] = order[[p, j]]
    return order


def assert_factors(a, lu, pivots):
    """|P A - L U| <= 4 n u |L| |U|, and |L| <= 1 to rounding."""
    m, n = a.shape
    lower = np.tril(lu.astype(float), -1) + np.eye(m, n)
    upper = np.triu(lu[:n].astype(float))
    error = abs(a[order_after(pivots, m)] - lower @ upper)
    assert (error <= 4 * n * U[a.dtype.type] * (abs(lower) @ abs(upper))).all()
    assert abs(lower).max() <= 1 + 4 * U[a.dtype.type]


def assert_as_lapack(a, lu, pivots):
    """The same pivots; factors that differ by what rounding does to either."""
    assert_factors(a, lu, pivots)
    expected, swaps, info = GETRF[a.dtype.type](a)
    assert info == 0
    np.testing.assert_array_equal(pivots, swaps)
    assert_factors(a, expected, swaps)


SHAPES = [(1, 1, 1), (5, 3, 1), (16, 16, 3), (37, 5, 2), (256, 16, 1), (131, 31, 3), (97, 64, 3)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "blocks"), SHAPES)
def test_as_lapack(compiled, rng, schedule, checked, m, n, blocks, dtype):
    a = rng.standard_normal((m, min(n, 32 if dtype == np.float64 else 64))).astype(dtype)
    lu = a.copy()
    pivots, info = factor(compiled(FILE, checked=checked), lu, blocks=blocks, schedule=schedule)
    assert_as_lapack(a, lu, pivots)
    assert info[0] == 0


@pytest.mark.parametrize(("m", "n", "blocks"), [(700, 29, 3), (1279, 64, 5), (330, 3, 165)])
def test_many_blocks(compiled, rng, m, n, blocks):
    """More than are read at once, too; and some with no row at all."""
    a = rng.standard_normal((m, n)).astype(np.float32)
    lu = a.copy()
    pivots, _ = factor(compiled(FILE), lu, blocks=blocks)
    assert_as_lapack(a, lu, pivots)


@pytest.mark.parametrize(("n", "threads"), [(32, 384), (64, 256)])
def test_more_rows_a_block(compiled, rng, n, threads):
    a = rng.standard_normal((4 * threads - 3, n)).astype(np.float32)
    lu = a.copy()
    pivots, _ = factor(compiled(FILE), lu, blocks=2, threads=threads)
    assert_as_lapack(a, lu, pivots)


def test_pivots_from_every_block(compiled, rng, schedule):
    """The row that wins and the one it is swapped with stand in different blocks, or the same."""
    a = rng.standard_normal((90, 12)).astype(np.float32)
    winners = [80, 31, 5, 80, 4, 62, 33, 89, 9, 0, 30, 60]
    a[winners, np.arange(12)] += 1000.0 * np.arange(12, 0, -1)
    lu = a.copy()
    pivots, _ = factor(compiled(FILE, checked=True), lu, blocks=3, schedule=schedule)
    assert_as_lapack(a, lu, pivots)
    assert {p // 30 for p in pivots} == {0, 1, 2}


def test_fewer_rows_than_columns(compiled, rng):
    a = rng.standard_normal((9, 14)).astype(np.float32)
    lu = a.copy()
    pivots, _ = factor(compiled(FILE, checked=True), lu, blocks=2)
    _, swaps, _ = lapack.sgetrf(a)
    np.testing.assert_array_equal(pivots, swaps)
    lower, upper = np.tril(lu[:, :9].astype(float), -1) + np.eye(9), np.triu(lu.astype(float))
    error = abs(a[order_after(pivots, 9)] - lower @ upper)
    assert (error <= 4 * 9 * 2.0**-24 * (abs(lower) @ abs(upper))).all()


def test_the_same_bits_in_every_run(compiled, rng):
    """Whichever block comes first, and however the rows are shared out."""
    a = rng.standard_normal((300, 20)).astype(np.float32)
    found = []
    for schedule, blocks in (("forward", 2), ("reverse", 2), (3, 2), (3, 7)):
        lu = a.copy()
        factor(compiled(FILE), lu, blocks=blocks, schedule=schedule)
        found.append(lu)
    for lu in found[1:]:
        np.testing.assert_array_equal(lu, found[0])


def test_ties_as_in_lapack(compiled, schedule):
    """All entries are 1 or -1, all pivots powers of two, so every tie is exact."""
    h = hadamard(32).astype(np.float32)
    a = np.concatenate([h[::-1], -h, np.roll(h, 7, axis=0), h])[:, :20]
    expected, swaps = a.astype(float), []
    for j in range(20):
        p = j + abs(expected[j:, j]).argmax()  # the first of the largest
        expected[[j, p]] = expected[[p, j]]
        expected[j + 1 :, j] /= expected[j, j]
        expected[j + 1 :, j + 1 :] -= np.outer(expected[j + 1 :, j], expected[j, j + 1 :])
        swaps.append(p)
    lu = a.copy()
    pivots, _ = factor(compiled(FILE), lu, blocks=3, schedule=schedule)
    assert pivots.tolist() == swaps
    np.testing.assert_array_equal(lu, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_padding(compiled, rng, dtype):
    """Beside the panel nothing is read or written."""
    whole = np.full((100, 29), np.nan, dtype)
    whole[:, 3:20] = rng.standard_normal((100, 17))
    a, panel = whole[:, 3:20].copy(), whole[:, 3:20]
    pivots, _ = factor(compiled(FILE, checked=True), panel)
    assert_as_lapack(a, panel, pivots)
    assert np.isnan(whole[:, :3]).all()
    assert np.isnan(whole[:, 20:]).all()


def test_offsets_of_a_large_matrix(compiled, rng):
    """Pivots and info count from the first column of the whole matrix."""
    a = rng.standard_normal((90, 16)).astype(np.float32)
    plain, _ = factor(compiled(FILE), a.copy())
    offset, info = factor(compiled(FILE), a.copy(), first=1000)
    np.testing.assert_array_equal(offset, plain + 1000)
    assert info[0] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_pivots_are_reported(compiled, rng, schedule, dtype):
    """Columns 4 and 9 are zero: so are their pivots, nothing is divided, and there is no NaN."""
    a = rng.integers(-1, 2, (100, 12)).astype(dtype)
    a[:, [4, 9]] = 0
    lu = a.copy()
    pivots, info = factor(compiled(FILE), lu, first=50, schedule=schedule)
    assert info[0] == 55
    assert pivots[[4, 9]].tolist() == [54, 59]
    assert np.isfinite(lu).all()
    assert_factors(a, lu, pivots - 50)


def test_the_first_zero_pivot_stays(compiled):
    info = np.array([7], np.int32)
    lu = np.zeros((20, 4), np.float32)
    pivots, _ = factor(compiled(FILE), lu, first=10, info=info)
    assert info[0] == 7
    assert pivots.tolist() == [10, 11, 12, 13]
    assert (lu == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [3, 70])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_is_chosen(compiled, rng, value, row, dtype):
    """It becomes a pivot, and so is seen on the diagonal."""
    a = rng.standard_normal((90, 16)).astype(dtype)
    a[row, 0] = value
    lu = a.copy()
    pivots, _ = factor(compiled(FILE), lu)
    assert pivots[0] == row
    np.testing.assert_array_equal(lu[0, 0], dtype(value))
    assert sorted(order_after(pivots, 90)) == list(range(90))
    if np.isnan(value):
        assert np.isnan(lu[1:]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_is_above_infinity(compiled, rng, dtype):
    a = rng.standard_normal((90, 5)).astype(dtype)
    a[[2, 50, 80], 0] = np.inf, -np.nan, np.nan
    pivots, _ = factor(compiled(FILE), a)
    assert pivots[0] == 50


def test_all_nan(compiled, schedule):
    """No index leaves its range."""
    lu = np.full((150, 20), np.nan, np.float32)
    pivots, _ = factor(compiled(FILE, checked=True), lu, schedule=schedule)
    assert pivots.tolist() == list(range(20))


@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [(np.float32, e) for e in (-140, -126, -70, 70, 124)]
    + [(np.float64, e) for e in (-1060, -1022, -600, 600, 1020)],
)
def test_pivots_near_the_ends_of_the_range(compiled, rng, dtype, exponent):
    """The reciprocal of such a pivot would overflow or be subnormal; the quotient is not."""
    a, module = np.ldexp(rng.integers(-15, 16, (90, 1)).astype(dtype), exponent), compiled(FILE)
    if dtype == np.float32 and not seen_by(module, a).any():
        pytest.skip("the numbers are zeros there")
    lu = a.copy()
    pivots, _ = factor(module, lu)
    swapped = np.ldexp(a[order_after(pivots, 90), 0].astype(np.longdouble), -exponent)
    quotients = swapped[1:] / swapped[0]
    assert (abs(lu[1:, 0] - quotients) <= 4 * U[dtype] * abs(quotients)).all()


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_narrow_rows(compiled, rng, bfloat16, dtype):
    """L in 16 bits as well, scaled; rows of U and columns beside the panel are left alone."""
    lu = rng.standard_normal((90, 19)).astype(dtype)
    narrow = np.full((90, 24), 0x1234, np.uint16)
    factor(compiled(FILE, checked=True), lu, narrow=narrow[:, :19], scale=0.25, bfloat16=bfloat16)
    scaled = lu[19:].astype(np.float32) * np.float32(0.25)
    if bfloat16:
        words = scaled.view(np.uint32)
        expected = ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(np.uint16)
    else:
        expected = scaled.astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(narrow[19:, :19], expected)
    assert (narrow[:19] == 0x1234).all()
    assert (narrow[:, 19:] == 0x1234).all()


def test_a_barrier_a_column(emulated, rng):
    """One of the grid, and one of each block."""
    module, a = emulated(FILE), rng.standard_normal((100, 13)).astype(np.float32)
    factor(module, a, blocks=4)
    assert module.counts.barriers == 4 * 13


def without(file, place):
    """An edit of the kernels; what is taken out of the header is put into the file itself."""
    edit = barriers(file)[place]
    if file == FILE:
        return edit
    line, text = f'#include "{file}"', edit((FOLDER / file).read_text())
    return lambda kernels: kernels.replace(line, text.replace("#pragma once", ""))


@pytest.mark.parametrize(
    ("file", "place"), [(f, i) for f in (FILE, "pivot.cuh") for i in range(len(barriers(f)))]
)
def test_every_barrier_is_needed(broken, rng, file, place):
    module = broken(FILE, without(file, place), "panel_lu<16, 128, float>")
    a = rng.standard_normal((90, 16)).astype(np.float32)
    for schedule in ("forward", "reverse", 1, 2):
        lu = a.copy()
        try:
            pivots, _ = factor(module, lu, schedule=schedule)
            assert_as_lapack(a, lu, pivots)
        except (LaunchError, AssertionError):
            return
    pytest.fail("nobody noticed")
