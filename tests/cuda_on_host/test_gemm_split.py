"""gemm_split.cu: products with the accuracy of fp32 from fp16 tensor cores."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from .test_gemm import SHAPES, U, blocks, number, padded, run, stride
from .test_gemm import launch as launch_plain
from .test_narrow import images
from .test_narrow import launch as launch_narrow

TILES = (64, 128)


def halves(x):
    """Of numbers that need no scale."""
    return images(x, "fp16x2")


def launch(module, tile, a, b, c, alpha=-1.0, **options):
    """`a` and `b` are pairs of halves."""
    (m, k), n = a[0].shape, b[0].shape[1]
    run(
        module, f"gemm_split<{tile}, {tile}, 32>", blocks(m, n, tile, tile),
        [m, n, k, number(alpha), *a, stride(a[0]), *b, stride(b[0]), c, stride(c)], **options,
    )  # fmt: skip
    return c


def operands(rng, m, n, k):
    """Random fp32 numbers."""
    return (rng.standard_normal(s).astype(np.float32) for s in [(m, k), (k, n), (m, n)])


def relative_errors(c, a, b, before=0.0, alpha=-1.0):
    """In units of u |A| |B| + u |C|."""
    a, b, before = a.astype(float), b.astype(float), np.asarray(before, float)
    sizes = abs(alpha) * (abs(a) @ abs(b)) + abs(before)
    return abs(c - (alpha * (a @ b) + before)) / (U * sizes)


def bound(k):
    return k / 16 + 20


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_of_fp32_numbers(compiled, rng, schedule, tile, shape):
    a, b, c = operands(rng, *shape)
    before = c.copy()
    launch(compiled("gemm_split.cu"), tile, halves(a), halves(b), c, schedule=schedule)
    assert (relative_errors(c, a, b, before) <= bound(shape[2])).all()


@pytest.mark.parametrize("tile", TILES)
def test_checked(compiled, rng, schedule, tile):
    """Edges in each direction, three and a half steps."""
    a, b, c = operands(rng, tile + 1, 9, 101)
    before = c.copy()
    module = compiled("gemm_split.cu", checked=True)
    launch(module, tile, halves(a), halves(b), c, schedule=schedule)
    assert (relative_errors(c, a, b, before) <= bound(101)).all()


@pytest.mark.parametrize("tile", TILES)
def test_integers_are_exact(compiled, rng, tile):
    """Of 16 bits times small ones: the lower halves are needed, and all sums are below 2^24."""
    a, b = rng.integers(-(2**15), 2**15, (70, 40)), rng.integers(-8, 9, (40, 66))
    assert (halves(a)[1] != 0).any()
    found = launch(
        compiled("gemm_split.cu"), tile, halves(a), halves(b), np.ones((70, 66), np.float32)
    )
    np.testing.assert_array_equal(found, 1.0 - a @ b)


@pytest.mark.parametrize("k", [2048, 8192])
def test_sums_are_rounded_to_nearest(compiled, rng, k):
    """On tensor cores that round toward zero. Of positive terms gemm.cu, whose operands are exact
    here, loses half a unit of a growing sum k / 16 times, k / 64 u or more. The roundings of
    gemm_split.cu cancel as sqrt(k / 16), and its operands are known to 12 u.
    """
    a, b = (rng.random(s, np.float32) + np.float32(0.5) for s in [(16, k), (k, 16)])
    c = np.zeros((16, 16), np.float32)
    launch(compiled("gemm_split.cu"), 64, halves(a), halves(b), c, toward_zero=True)
    assert relative_errors(c, a, b).max() < 12 + sqrt(k / 16) < k / 64

    a, b = halves(a)[0], halves(b)[0]
    c[...] = 0.0
    launch_plain(compiled("gemm.cu"), "half", 64, a, b, c, toward_zero=True)
    assert relative_errors(c, a, b).mean() > k / 64


def test_as_accurate_as_single_precision(compiled, rng):
    """Random signs; NumPy's product in fp32 is the measure."""
    a, b, c = operands(rng, 40, 40, 1000)
    c[...] = 0.0
    launch(compiled("gemm_split.cu"), 64, halves(a), halves(b), c, toward_zero=True)
    single = relative_errors(-(a @ b), a, b)
    assert relative_errors(c, a, b).mean() < 2 * single.mean()
    assert relative_errors(c, a, b).max() < 2 * single.max()


@pytest.mark.parametrize(
    ("strides", "first"),
    [((48, 80, 72), (0, 0, 0)), ((47, 80, 72), (0, 0, 0)), ((48, 79, 72), (0, 0, 0)),
     ((48, 80, 71), (0, 0, 0)), ((48, 80, 72), (1, 3, 1))],
    ids=["aligned", "odd lda", "odd ldb", "odd ldc", "odd addresses"],
)  # fmt: skip
def test_padding_is_left_alone(compiled, rng, strides, first):
    a, b, c = operands(rng, 30, 67, 29)
    a_halves, b_halves = (
        [padded(x, s, first=f) for x in halves(whole)]
        for whole, s, f in zip((a, b), strides, first, strict=False)
    )
    view = padded(c, strides[2], first=first[2], fill=7)
    launch(compiled("gemm_split.cu", checked=True), 64, a_halves, b_halves, view)
    assert (relative_errors(view, a, b, c) <= bound(29)).all()
    outside = np.ones(view.base.shape, bool)
    outside[:, first[2] : first[2] + 67] = False
    assert (view.base[outside] == 7).all()


def test_one_half_out_of_line(compiled, rng):
    """Only the lower half of A starts at an odd address: no copies of 16 bytes for either."""
    a, b, c = operands(rng, 30, 40, 32)
    before = c.copy()
    high, low = halves(a)
    pair = padded(high, 40), padded(low, 40, first=1)
    launch(compiled("gemm_split.cu", checked=True), 64, pair, halves(b), c)
    assert (relative_errors(c, a, b, before) <= bound(32)).all()


def test_what_is_not_finite(compiled, rng):
    """An infinite entry makes its row infinite or NaN, and no other."""
    a, b, c = operands(rng, 20, 18, 40)
    a[1, 3], a[5, 39], b[7, 2] = np.inf, np.nan, -np.inf
    before = c.copy()
    launch(compiled("gemm_split.cu"), 64, halves(a), halves(b), c)
    rows, columns = np.isin(np.arange(20), [1, 5]), np.arange(18) == 2
    lost = rows[:, None] | columns
    assert (np.isfinite(c) == ~lost).all()
    assert np.isnan(c[5]).all()
    a[[1, 5]], b[:, 2] = 0.0, 0.0
    assert (relative_errors(c, a, b, before)[~lost] <= bound(40)).all()


def test_operations(emulated, rng):
    """Three mma for one; one barrier a step of 32 terms."""
    module = emulated("gemm_split.cu")
    a, b, c = operands(rng, 65, 64, 96)
    launch(module, 64, halves(a), halves(b), c)
    warps, products, left, right = 4, 6, 2, 2
    assert module.counts.barriers == 2 * 3
    per_product = 3 * left * 2 * right + 2 * (left + right)
    assert module.counts.collectives == 2 * warps * 32 * (products * per_product + 1)


@pytest.mark.parametrize("turned", [False, True])
def test_a_scaled_product(compiled, rng, turned):
    """Numbers outside of fp16's range, by narrow.cu, whose scales alpha takes back."""
    a, b, c = operands(rng, 33, 34, 35)
    a, b, c = a * np.float32(2.0**60), b * np.float32(2.0**-60), np.zeros_like(c)
    narrow, found, scales = compiled("narrow.cu"), [], []
    for x in (a, b):
        bits = abs(x).max().reshape(1).view(np.uint32)
        lines = np.ascontiguousarray(x.T) if turned else x
        halved, scale, lost = launch_narrow(narrow, "fp16x2", 1, turned, lines, bits=bits)
        assert lost[0] == 0
        found.append(halved)
        scales.append(number(scale))
    alpha = number(np.nan)
    narrow["quotient"](1, 256, [1.0, *scales, alpha])
    launch(compiled("gemm_split.cu"), 64, *found, c, alpha=alpha[0])
    assert (relative_errors(c, a, b, alpha=1.0) <= bound(35)).all()
