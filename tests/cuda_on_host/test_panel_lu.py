"""panel_lu.cu: LU of a tall panel by tournament pivoting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hadamard, lapack

from mplinalg.kernels.cuda.catalogue import FOLDER

from .device_module import seen_by
from .module import CAN_FLUSH, LaunchError
from .mutation import barriers

FILE = "panel_lu.cu"
ROWS = 256
U = 2.0**-24


def width_of(n):
    """The narrowest instance."""
    return next(nb for nb in (16, 32, 64) if n <= nb)


def rounds_of(m, n):
    """How many candidates each round has."""
    counts = [m]
    while counts[-1] > ROWS:
        full, rest = divmod(counts[-1], ROWS)
        counts.append(full * n + min(n, rest))
    return counts


def play(module, a, n, *, first=0, info=None, **options):
    """All rounds: `a` is changed; pivots, the winners of the last round, and info."""
    info = np.zeros(1, np.int32) if info is None else info
    pivots, candidates = np.full(n, -1, np.int32), None
    counts = rounds_of(len(a), n)
    for count in counts:
        last = count == counts[-1]
        blocks = -(-count // ROWS)
        winners = np.full(blocks * n, -1, np.int32)
        module[f"tournament<{width_of(n)}>"](
            blocks, 128,
            [count, n, a, a.strides[0] // a.itemsize, candidates, winners,
             pivots if last else None, info, first],
            uninitialised=[5, 6], **options,
        )  # fmt: skip
        candidates = winners
    return pivots, winners, info


def finish(module, a, n, *, narrow=None, scale=1.0, bfloat16=False, **options):
    """The rows that did not win."""
    if len(a) == n:
        return
    stride = 0 if narrow is None else narrow.strides[0] // narrow.itemsize
    module[f"panel_rows<{width_of(n)}>"](
        -(-(len(a) - n) // ROWS), 128,
        [len(a), n, a, a.strides[0] // a.itemsize, narrow, stride, scale, int(bfloat16)],
        **options,
    )  # fmt: skip


def factor(module, a, **options):
    """LU and pivots."""
    lu = a.copy()
    pivots, _, info = play(module, lu, a.shape[1], **options)
    finish(module, lu, a.shape[1], **options)
    assert info[0] == 0
    return lu, pivots


def order_after(swaps, m):
    order = np.arange(m)
    for j, p in enumerate(swaps):
        order[[j, p]] = order[[p, j]]
    return order


def expected_winners(a):
    """The same tournament with LAPACK as the referee."""
    n = a.shape[1]
    rows = np.arange(len(a))
    while True:
        picked = []
        for start in range(0, len(rows), ROWS):
            playing = rows[start : start + ROWS]
            swaps = lapack.sgetrf(a[playing])[1]
            picked.extend(playing[order_after(swaps, len(playing))[:n]])
        if len(rows) <= ROWS:
            return picked
        rows = np.array(picked)


def assert_factors(a, lu, pivots):
    """|P A - L U| <= 4 n u |L| |U|, the bound of elimination in any order."""
    m, n = a.shape
    lower = np.tril(lu.astype(float), -1) + np.eye(m, n)
    upper = np.triu(lu[:n].astype(float))
    error = abs(a[order_after(pivots, m)] - lower @ upper)
    assert (error <= 4 * n * U * (abs(lower) @ abs(upper))).all()


ONE_BLOCK = [(1, 1), (5, 3), (16, 16), (31, 16), (40, 17), (64, 33), (97, 64), (256, 32)]


@pytest.mark.parametrize(("m", "n"), ONE_BLOCK)
def test_one_block_is_lapack(compiled, rng, schedule, checked, m, n):
    a = rng.standard_normal((m, n)).astype(np.float32)
    lu, pivots = factor(compiled(FILE, checked=checked), a, schedule=schedule)
    np.testing.assert_array_equal(pivots, lapack.sgetrf(a)[1])
    assert_factors(a, lu, pivots)
    assert abs(np.tril(lu, -1)).max(initial=0) <= 1


@pytest.mark.parametrize(("m", "n"), [(257, 16), (700, 24), (521, 64), (3001, 32)])
def test_several_rounds(compiled, rng, schedule, m, n):
    a = rng.standard_normal((m, n)).astype(np.float32)
    lu, pivots = factor(compiled(FILE), a, schedule=schedule)
    assert order_after(pivots, m)[:n].tolist() == expected_winners(a)
    assert_factors(a, lu, pivots)


def test_several_rounds_checked(compiled, rng, schedule):
    a = rng.standard_normal((523, 16)).astype(np.float32)
    a[:5] *= 100  # some of the first rows win, the others make room
    lu, pivots = factor(compiled(FILE, checked=True), a, schedule=schedule)
    assert order_after(pivots, 523)[:16].tolist() == expected_winners(a)
    assert_factors(a, lu, pivots)


def test_the_same_bits_in_every_run(compiled, rng):
    a = rng.standard_normal((600, 32)).astype(np.float32)
    found = [factor(compiled(FILE), a, schedule=s) for s in ("forward", "reverse", 3)]
    for lu, pivots in found[1:]:
        np.testing.assert_array_equal(lu, found[0][0])
        np.testing.assert_array_equal(pivots, found[0][1])


def test_winners_are_given_in_pivot_order(compiled, rng):
    a = rng.standard_normal((300, 16)).astype(np.float32)
    pivots, winners, _ = play(compiled(FILE), a.copy(), 16)
    np.testing.assert_array_equal(winners, order_after(pivots, 300)[:16])


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
    lu, pivots = factor(compiled(FILE), a, schedule=schedule)
    assert pivots.tolist() == swaps
    np.testing.assert_array_equal(lu, expected)


def test_padding(compiled, rng):
    """Beside the panel nothing is read or written."""
    whole = np.full((290, 29), np.nan, np.float32)
    whole[:, 3:20] = rng.standard_normal((290, 17))
    a = whole[:, 3:20].copy()
    panel = whole[:, 3:20]
    pivots, *_ = play(compiled(FILE, checked=True), panel, 17)
    finish(compiled(FILE, checked=True), panel, 17)
    assert_factors(a, panel, pivots)
    assert np.isnan(whole[:, :3]).all()
    assert np.isnan(whole[:, 20:]).all()


def test_rows_and_offsets_of_a_large_matrix(compiled, rng):
    """Pivots and info count from the first column of the whole matrix."""
    a = rng.standard_normal((290, 16)).astype(np.float32)
    plain, *_ = play(compiled(FILE), a.copy(), 16)
    offset, _, info = play(compiled(FILE), a.copy(), 16, first=1000)
    np.testing.assert_array_equal(offset, plain + 1000)
    assert info[0] == 0


@pytest.mark.parametrize("m", [40, 300])
def test_zero_pivots_are_reported(compiled, rng, schedule, m):
    """Columns 4 and 9 depend on those before: zero pivots there, nothing divided, no NaN."""
    a = rng.integers(-1, 2, (m, 12)).astype(np.float32)
    a[:, 4] = 0
    a[:, 9] = 0
    lu = a.copy()
    pivots, _, info = play(compiled(FILE), lu, 12, first=50, schedule=schedule)
    finish(compiled(FILE), lu, 12, schedule=schedule)
    assert info[0] == 55
    assert (np.diag(lu)[[4, 9]] == 0).all()
    assert np.isfinite(lu).all()
    assert_factors(a, lu, pivots - 50)


def test_the_first_zero_pivot_stays(compiled, rng):
    info = np.array([7], np.int32)
    play(compiled(FILE), np.zeros((20, 4), np.float32), 4, first=10, info=info)
    assert info[0] == 7


def test_zero_panel(compiled):
    lu = np.zeros((300, 16), np.float32)
    pivots, _, info = play(compiled(FILE), lu, 16)
    finish(compiled(FILE), lu, 16)
    assert info[0] == 1
    assert sorted(order_after(pivots, 300)) == list(range(300))
    assert (lu == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [3, 270])
def test_what_is_not_finite_is_chosen(compiled, rng, schedule, value, row):
    """It becomes a pivot, and so is seen on the diagonal."""
    a = rng.standard_normal((300, 16)).astype(np.float32)
    a[row, 0] = value
    lu = a.copy()
    pivots, *_ = play(compiled(FILE), lu, 16, schedule=schedule)
    finish(compiled(FILE), lu, 16, schedule=schedule)
    assert pivots[0] == row
    np.testing.assert_array_equal(lu[0, 0], np.float32(value))
    assert sorted(order_after(pivots, 300)) == list(range(300))
    if np.isnan(value):
        assert np.isnan(lu[1:]).all()


def test_nan_is_above_infinity(compiled, rng):
    a = rng.standard_normal((300, 5)).astype(np.float32)
    a[[2, 100, 280], 0] = np.inf, -np.nan, np.nan
    pivots, *_ = play(compiled(FILE), a, 5)
    assert pivots[0] == 100


def test_all_nan(compiled, schedule):
    """No index leaves its range."""
    lu = np.full((600, 20), np.nan, np.float32)
    pivots, *_ = play(compiled(FILE, checked=True), lu, 20, schedule=schedule)
    assert sorted(order_after(pivots, 600)) == list(range(600))


@pytest.mark.parametrize("exponent", [-140, -126, -70, 70, 124])
def test_pivots_near_the_ends_of_the_range(compiled, rng, exponent):
    """The reciprocal of such a pivot would overflow or be subnormal; the quotient is not."""
    a = np.ldexp(rng.integers(-15, 16, (300, 1)).astype(np.float32), exponent)
    module = compiled(FILE)
    if not seen_by(module, a).any():
        pytest.skip("of numbers that are zeros there, as in the test below")
    lu, pivots = factor(module, a)
    swapped = a[order_after(pivots, 300), 0].astype(float)
    quotients = swapped[1:] / swapped[0]
    assert (abs(lu[1:, 0] - quotients) <= 4 * U * abs(quotients)).all()


@pytest.mark.skipif(not CAN_FLUSH, reason="the emulator flushes on x86-64 only")
def test_flushed_pivots_divide_nothing(compiled, rng):
    """Below 2^-126 they are found, and are zeros for all that follows."""
    a = np.ldexp(rng.integers(1, 16, (300, 2)).astype(np.float32), -140)
    a[:, 1] = rng.standard_normal(300)
    lu = a.copy()
    pivots, _, info = play(compiled(FILE), lu, 2, flush=True)
    finish(compiled(FILE), lu, 2, flush=True)
    assert info[0] == 0
    assert a[pivots[0], 0] == a[:, 0].max() == lu[0, 0]
    assert (lu[1:, 0] == 0).all()
    assert abs(lu[1, 1]) == abs(a[order_after(pivots, 300)[1:], 1]).max()
    assert np.isfinite(lu).all()


@pytest.mark.parametrize("bfloat16", [False, True])
def test_narrow_rows(compiled, rng, bfloat16, checked):
    """L in 16 bits as well, scaled; rows of U and columns beside the panel are left alone."""
    a = rng.standard_normal((300, 19)).astype(np.float32)
    narrow = np.full((300, 24), 0x1234, np.uint16)
    lu = a.copy()
    module = compiled(FILE, checked=checked)
    play(module, lu, 19)
    finish(module, lu, 19, narrow=narrow[:, :19], scale=0.25, bfloat16=bfloat16)
    scaled = lu[19:] * np.float32(0.25)
    if bfloat16:
        words = scaled.view(np.uint32)
        expected = ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(np.uint16)
    else:
        expected = scaled.astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(narrow[19:, :19], expected)
    assert (narrow[:19] == 0x1234).all()
    assert (narrow[:, 19:] == 0x1234).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_narrow_rows_show_what_is_out_of_range(compiled, rng, value):
    a = rng.standard_normal((40, 4)).astype(np.float32)
    a[30, 2] = value  # panel_rows alone, so that it stays below the diagonal
    narrow = np.zeros((40, 4), np.uint16)
    finish(compiled(FILE), a, 4, narrow=narrow)
    found = narrow.view(np.float16)[4:]
    assert not np.isfinite(found[26, 2:]).any()
    assert np.isfinite(np.delete(found, 26, axis=0)).all()


def test_a_barrier_a_column(emulated, rng):
    module, a = emulated(FILE), rng.standard_normal((100, 48)).astype(np.float32)
    play(module, a, 48)
    assert module.counts.barriers == 48 + 2
    finish(module, a, 48)
    assert module.counts.barriers == 1


def without(file, place):
    """An edit of panel_lu.cu; what is taken out of the header is put into the file itself."""
    edit = barriers(file)[place]
    if file == FILE:
        return edit
    line, text = f'#include "{file}"', edit((FOLDER / file).read_text())
    return lambda kernels: kernels.replace(line, text.replace("#pragma once", ""))


@pytest.mark.parametrize(
    ("file", "place"), [(f, i) for f in (FILE, "pivot.cuh") for i in range(len(barriers(f)))]
)
def test_every_barrier_is_needed(broken, rng, file, place):
    module = broken(FILE, without(file, place), "tournament<16>", "panel_rows<16>")
    a = rng.standard_normal((257, 16)).astype(np.float32)
    for schedule in ("forward", "reverse", 1, 2):
        try:
            lu, pivots = factor(module, a, schedule=schedule)
            assert order_after(pivots, 257)[:16].tolist() == expected_winners(a)
            assert_factors(a, lu, pivots)
        except (LaunchError, AssertionError):
            return
    pytest.fail("nobody noticed")
