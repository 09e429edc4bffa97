"""batched_gemm.cu: products of many small matrices in fp32 and fp64."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue import BY_NAME
from mplinalg.kernels.cuda.catalogue_batched import TILES, products_at_once

from .batched_systems import BATCHES, DTYPES, blank, draw, reals, strides, u, wide
from .module import LaunchError
from .mutation import barriers

FILE = "batched_gemm.cu"
INSTANCES = [(dtype, tile) for dtype in DTYPES for tile in TILES[dtype]]


def op(a, trans):
    a = a.swapaxes(1, 2) if trans != "N" else a
    return a, int(trans == "C")


def gemm(module, a, b, c, *, tile, alpha=1.0, beta=0.0, transa="N", transb="N", **options):
    (left, conj_a), (right, conj_b) = op(a, transa), op(b, transb)
    (batch, m, k), n = left.shape, right.shape[2]
    dtype = c.dtype.char
    kind, parts = {"f": "float", "d": "double"}[dtype.lower()], 2 if dtype in "FD" else 1
    kernel = BY_NAME[f"batched_gemm<{kind}, {parts}, {tile}>"]
    grid = -(-batch * -(-m // tile) * -(-n // tile) // products_at_once(tile))
    alpha, beta = complex(alpha), complex(beta)
    if grid:
        module[kernel.name](
            grid, kernel.threads,
            [batch, m, n, k, alpha.real, alpha.imag, reals(left), *strides(left), conj_a,
             reals(right), *strides(right), conj_b, beta.real, beta.imag, reals(c), *strides(c)],
            shared=kernel.dynamic, **options,
        )  # fmt: skip
    return c


def assert_is_product(c, a, b, *, before=None, alpha=1.0, beta=0.0, transa="N", transb="N"):
    """Within what k additions lose, in any order, and the last two operations."""
    working = c.dtype
    a, b = (
        wide(op(x, trans)[0].conj() if trans == "C" else op(x, trans)[0])
        for x, trans in ((a, transa), (b, transb))
    )
    expected, size = alpha * (a @ b), abs(alpha) * (abs(a) @ abs(b))
    if beta:
        expected, size = expected + beta * wide(before), size + abs(beta * wide(before))
    factor = 2 if working.kind == "c" else 1
    assert (abs(wide(c) - expected) <= factor * (a.shape[2] + 3) * u(working) * size).all()


@pytest.mark.parametrize(("dtype", "tile"), INSTANCES)
def test_every_instance(compiled, rng, dtype, tile):
    """Fewer entries than a part has, as many, one more; several times as many terms."""
    for m, n, k in [(1, 1, 1), (tile, tile, tile), (tile - 1, tile + 1, 2), (3, 2, 2 * tile + 5)]:
        a, b = draw(rng, dtype, 5, m, k), draw(rng, dtype, 5, k, n)
        c = gemm(compiled(FILE), a, b, blank((5, m, n), dtype), tile=tile)
        assert_is_product(c, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "n", [2, 3, 5, 8, 17, 31, 32, 33, 64, 65, pytest.param(100, marks=pytest.mark.slow), 128]
)
def test_orders(compiled, rng, dtype, n):
    tile = min(TILES[dtype], key=lambda t: (t < n, t if t >= n else -t))
    a, b = draw(rng, dtype, 2, n, n), draw(rng, dtype, 2, n, n)
    assert_is_product(gemm(compiled(FILE), a, b, blank(a.shape, dtype), tile=tile), a, b)


@pytest.mark.parametrize(("dtype", "tile"), INSTANCES)
def test_checked(compiled, rng, schedule, dtype, tile):
    module = compiled(FILE, checked=True)
    for shape in [(tile, tile, tile + 4), (tile + 1, 3, tile + 1)]:
        m, n, k = shape
        a, b, c = draw(rng, dtype, 3, m, k), draw(rng, dtype, 3, k, n), draw(rng, dtype, 3, m, n)
        before = c.copy()
        gemm(module, a, b, c, tile=tile, alpha=-1, beta=2, schedule=schedule)
        assert_is_product(c, a, b, before=before, alpha=-1, beta=2)


@pytest.mark.parametrize("dtype", ["d", "F"])
@pytest.mark.parametrize("transb", ["N", "T", "C"])
@pytest.mark.parametrize("transa", ["N", "T", "C"])
def test_transposes(compiled, rng, dtype, transa, transb):
    m, n, k = 7, 5, 11
    a = draw(rng, dtype, 4, *((m, k) if transa == "N" else (k, m)))
    b = draw(rng, dtype, 4, *((k, n) if transb == "N" else (n, k)))
    how = {"transa": transa, "transb": transb}
    for tile in TILES[dtype]:
        c = gemm(compiled(FILE), a, b, blank((4, m, n), dtype), tile=tile, **how)
        assert_is_product(c, a, b, **how)


@pytest.mark.parametrize("dtype", DTYPES)
def test_alpha_and_beta(compiled, rng, dtype):
    """Without beta nothing that is in C matters."""
    a, b, c = draw(rng, dtype, 3, 6, 9), draw(rng, dtype, 3, 9, 7), draw(rng, dtype, 3, 6, 7)
    numbers = [0, 1, -0.5] + ([0.5 - 2j] if dtype in "FD" else [])
    for alpha in numbers:
        for beta in numbers:
            given = c.copy() if beta else blank(c.shape, dtype)
            found = gemm(compiled(FILE), a, b, given, tile=8, alpha=alpha, beta=beta)
            assert_is_product(found, a, b, before=c, alpha=alpha, beta=beta)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("tile", TILES["d"])
def test_batches(compiled, rng, batch, tile):
    """Each member as if it were alone."""
    a, b = draw(rng, "d", batch, 6, 5), draw(rng, "d", batch, 5, 9)
    c = gemm(compiled(FILE), a, b, blank((batch, 6, 9), "d"), tile=tile)
    for member in range(batch):
        one = slice(member, member + 1)
        alone = gemm(compiled(FILE), a[one], b[one], blank((1, 6, 9), "d"), tile=tile)
        np.testing.assert_array_equal(alone[0], c[member])


@pytest.mark.parametrize("tile", [8, 32, 64])
def test_layouts(compiled, rng, tile):
    """Aligned or not, by packs or entries, backwards, broadcast: to the last bit the same."""
    module = compiled(FILE, checked=True)
    m, n, k = 12, 8, 16
    a, b, before = draw(rng, "f", 3, m, k), draw(rng, "f", 3, k, n), draw(rng, "f", 3, m, n)
    expected = gemm(module, a, b, before.copy(), tile=tile, alpha=2, beta=-1)

    def spread(x, rows, columns, fill):
        whole = np.full((2 * len(x), x.shape[1] + rows, x.shape[2] + columns), fill, x.dtype)
        view = whole[::2, rows:, columns:]
        view[...] = x
        return view

    for rows, columns in [(1, 4), (0, 1), (1, 3)]:
        left, right = (spread(x, rows, columns, np.nan) for x in (a, b))
        c = spread(before, rows, columns, np.float32(7))
        whole, outside = c.base, np.ones(c.base.shape, bool)
        outside[::2, rows:, columns:] = False
        gemm(module, left, right, c, tile=tile, alpha=2, beta=-1)
        np.testing.assert_array_equal(c, expected)
        assert (whole[outside] == 7).all()
    reverse = [np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1] for x in (a, b, before)]
    found = gemm(module, *reverse, tile=tile, alpha=2, beta=-1)
    np.testing.assert_array_equal(found, expected)
    one = np.broadcast_to(a[:1], a.shape)
    found = gemm(module, one, b, blank(before.shape, "f"), tile=tile)
    copied = gemm(module, np.ascontiguousarray(one), b, blank(before.shape, "f"), tile=tile)
    np.testing.assert_array_equal(found, copied)


def test_what_is_not_finite_stays_in_its_member(compiled, rng):
    for tile in TILES["d"]:
        a, b = draw(rng, "d", 9, 5, 6), draw(rng, "d", 9, 6, 4)
        good = gemm(compiled(FILE), a, b, blank((9, 5, 4), "d"), tile=tile)
        a[2, 1, 3], b[6, 0, 0] = np.nan, np.inf
        c = gemm(compiled(FILE), a, b, blank((9, 5, 4), "d"), tile=tile)
        others = [0, 1, 3, 4, 5, 7, 8]
        np.testing.assert_array_equal(c[others], good[others])
        assert np.isnan(c[2, 1]).all()
        assert not np.isfinite(c[6, :, 0]).any()


def test_no_terms(compiled, rng):
    c = draw(rng, "d", 3, 4, 5)
    a, b = np.ones((3, 4, 0)), np.ones((3, 0, 5))
    np.testing.assert_array_equal(gemm(compiled(FILE), a, b, c.copy(), tile=8, beta=2), 2 * c)
    assert not gemm(compiled(FILE), a, b, blank(c.shape, "d"), tile=8).any()


@pytest.mark.parametrize("edit", barriers(FILE))
def test_every_barrier_is_needed(broken, rng, edit):
    a, b = draw(rng, "d", 1, 20, 40), draw(rng, "d", 1, 40, 20)
    module = broken(FILE, edit, "batched_gemm<double, 1, 64>")
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        gemm(module, a, b, blank((1, 20, 20), "d"), tile=64)
