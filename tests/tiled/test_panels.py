"""LU of a block column in tiles."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import threadpoolctl

from mplinalg.kernels.cpu.batched import threads as pool
from mplinalg.ops.dispatch import ops_on
from mplinalg.precision import FORMATS
from mplinalg.tiled import panels
from mplinalg.tiled.grid import panel_entries
from mplinalg.tiled.pivots import move_rows, moves_of, moves_of_pivots

DTYPES = ["float32", "float64", "complex64", "complex128"]
NATIVE = {"float32": "fp32", "float64": "fp64", "complex64": "fp32", "complex128": "fp64"}


def draw(rng, shape, dtype):
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else a).astype(dtype)


def cut(a, heights):
    ends = np.cumsum(heights)
    return [a[end - height : end].copy() for height, end in zip(heights, ends, strict=True)]


def factored(a, heights, fmt):
    tiles = cut(a, heights)
    order, info = panels.factor_panels(ops_on("cpu"), tiles, FORMATS[fmt])
    assert sorted(order) == list(range(len(a)))
    return np.concatenate(tiles), order, info


def parts(lu):
    width = lu.shape[1]
    lower = np.tril(lu, -1)
    np.fill_diagonal(lower, 1)
    return lower, np.triu(lu[:width])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "heights", [(1,), (1, 1), (7, 3), (40, 40, 9), (64, 1), (300, 300, 130), (520,)]
)
def test_it_is_partial_pivoting_over_all_tiles(rng, threads, dtype, heights):
    width = heights[0]
    a = draw(rng, (sum(heights), width), dtype)
    lu, order, info = factored(a, heights, NATIVE[dtype])
    lower, upper = parts(lu)
    unit = np.finfo(dtype).eps / 2
    assert info == 0
    assert abs(lower).max() <= (1.5 if np.dtype(dtype).kind == "c" else 1) * (1 + 8 * unit)
    bound = 4 * width * unit * (abs(lower) @ abs(upper))
    assert np.all(abs(a[order] - lower @ upper) <= bound + np.finfo(dtype).tiny)
    # the pivots of LAPACK: rounding moves none of random numbers
    _, piv, _ = scipy.linalg.lapack.get_lapack_funcs("getrf", (a,))(a)
    assert np.array_equal(order[:width], lapack_order(piv, len(a))[:width])


def lapack_order(piv, m):
    order = np.arange(m)
    for i, p in enumerate(piv):
        order[[i, p]] = order[[p, i]]
    return order


def test_a_large_row_in_the_last_tile_comes_first(rng):
    a = draw(rng, (48, 16), "float64")
    a[45] *= 1e300
    _, order, _ = factored(a, (16, 16, 16), "fp64")
    assert order[0] == 45


@pytest.mark.parametrize("zero", [1, 5, 40, 64])
def test_the_first_zero_pivot_is_told(rng, zero):
    a = draw(rng, (130, 64), "float64")
    a[:, zero - 1] = 0
    lu, _, info = factored(a, (64, 64, 2), "fp64")
    assert info == zero
    assert np.isfinite(lu[:, : zero - 1]).all()


@pytest.mark.parametrize("fmt", ["fp16", "bf16", "tf32", "fp16x2"])
def test_other_formats(rng, threads, fmt):
    a = draw(rng, (200, 80), "float32")
    lu, order, info = factored(a, (80, 80, 40), fmt)
    lower, upper = parts(lu)
    bound = 80 * FORMATS[fmt].unit_roundoff * (abs(lower) @ abs(upper))
    assert info == 0
    assert abs(lower).max() <= 1
    assert np.all(abs(a[order] - lower @ upper) <= bound)


def test_how_rows_are_cut_changes_no_pivot(rng):
    a = draw(rng, (300, 100), "float64")
    _, order, _ = factored(a, (100, 100, 100), "fp64")
    assert np.array_equal(order, factored(a, (300,), "fp64")[1])


@pytest.mark.parametrize(("m", "width"), [(40, 8), (900, 100), (2048, 256)])
def test_memory_is_what_is_said(rng, m, width):
    a = draw(rng, (m, width), "float64")
    heights = [width] * (m // width) + [m % width] * (m % width > 0)
    factored(a, heights, "fp64")  # loads kernels
    tiles = cut(a, heights)
    tracemalloc.start()
    try:
        panels.factor_panels(ops_on("cpu"), tiles, FORMATS["fp64"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= (panel_entries(m, width) + 2 * m) * 8 + 2**16


class Disordered:
    """`Ops` whose jobs side by side are run in another order."""

    def __init__(self, order):
        self._ops, self._order, self.jobs = ops_on("cpu"), order, 0

    def __getattr__(self, name):
        return getattr(self._ops, name)

    def each(self, work, items, flops=1e12):
        places = self._order(len(items))
        self.jobs = max(self.jobs, len(items))
        found = {place: work(items[place]) for place in places}
        return [found[place] for place in range(len(items))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heights", [(40, 40, 9), (100, 1), (130, 130, 130)])
def test_the_order_of_jobs_side_by_side_changes_no_bit(rng, monkeypatch, dtype, heights):
    monkeypatch.setattr(panels, "_STRIP", 8)
    a = draw(rng, (sum(heights), heights[0]), dtype)
    answers = []
    for order in (range, lambda n: range(n)[::-1], lambda n: rng.permutation(n)):
        ops, tiles = Disordered(order), cut(a, heights)
        answers.append((*panels.factor_panels(ops, tiles, FORMATS[NATIVE[dtype]]), *tiles))
        assert ops.jobs > 3
    for other in answers[1:]:
        assert all(np.array_equal(x, y) for x, y in zip(answers[0], other, strict=True))


def test_jobs_on_several_threads(rng, monkeypatch):
    begun = []
    beside = pool.run_beside

    def counted(work, count):
        begun.append(count)
        beside(work, count)

    monkeypatch.setattr(pool, "_WORTHWHILE", 1e-9)
    monkeypatch.setattr(pool, "run_beside", counted)
    monkeypatch.setattr(panels, "_STRIP", 8)
    a = draw(rng, (400, 150), "float64")
    with threadpoolctl.threadpool_limits(4, user_api="blas"):
        lu, order, info = factored(a, (150, 150, 100), "fp64")
    lower, upper = parts(lu)
    assert len(begun) > 5
    assert info == 0
    assert abs(lower).max() <= 1
    assert np.all(abs(a[order] - lower @ upper) <= 150 * 2.0**-51 * (abs(lower) @ abs(upper)))


def test_exchanges_become_moves(rng):
    ops = ops_on("cpu")
    for m in (1, 2, 9, 50):
        piv = np.array([rng.integers(i, m) for i in range(m // 2 + 1)])
        order = lapack_order(piv, m)
        moves = moves_of_pivots(piv)
        assert {tuple(pair) for pair in moves.T} == {tuple(pair) for pair in moves_of(order).T}
        a = draw(rng, (m, 3), "float64")
        tiles = cut(a, [m // 3, m - m // 3])
        move_rows(ops, tiles, moves)
        assert np.array_equal(np.concatenate(tiles), a[order])
        move_rows(ops, tiles, moves, back=True)
        assert np.array_equal(np.concatenate(tiles), a)
