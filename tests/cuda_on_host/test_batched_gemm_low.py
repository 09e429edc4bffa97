"""batched_gemm_low.cu: products of many small matrices on tensor cores."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue import BY_NAME, FOLDER
from mplinalg.kernels.cuda.catalogue_batched import LOW_TILES
from mplinalg.precision import get_format

from .batched_systems import BATCHES, strides
from .module import LaunchError
from .mutation import barriers

FILE = "batched_gemm_low.cu"
INSTANCES = [(*pair, tile) for pair, tiles in LOW_TILES.items() for tile in tiles]
IDS = ["-".join(str(part).strip("_") for part in instance) for instance in INSTANCES]
FORMATS = {"half": "fp16", "__nv_bfloat16": "bf16", "fp16x2": "fp16x2"}
DTYPES = {"float": "f4", "double": "f8", "half": "f2", "__nv_bfloat16": "u2"}
U = 2.0**-24


def gemm(module, a, b, c, *, held, fmt, tile, alpha=1.0, beta=0.0, **options):
    (batch, m, k), n = a.shape, b.shape[2]
    kernel = BY_NAME[f"batched_gemm_low<{held}, {fmt}, {tile}>"]
    parts = batch * -(-m // tile) * -(-n // tile)
    grid = parts if tile == 64 else -(-parts // 4)
    if grid:
        module[kernel.name](
            grid, kernel.threads,
            [batch, m, n, k, alpha, a, *strides(a), b, *strides(b), beta, c, *strides(c)],
            shared=kernel.dynamic, **options,
        )  # fmt: skip
    return c


def words(x, held):
    """Numbers as they are held in a type."""
    if held == "__nv_bfloat16":
        rounded = get_format("bf16").round(np.asarray(x, np.float32))
        return (rounded.view(np.uint32) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        return x.astype(DTYPES[held])


def numbers(x):
    """What `words` stands for, in float64."""
    if x.dtype == np.uint16:
        x = (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(float)


def draw(rng, held, *shape):
    return words(rng.standard_normal(shape), held)


def blank(held, *shape):
    return words(np.full(shape, np.nan), held)


def rounded(x, held, fmt):
    """As the kernel multiplies it: each member scaled, rounded, and scaled back."""
    x = numbers(x)
    if held in ("half", "__nv_bfloat16"):
        return x
    size = np.where(np.isfinite(x), abs(x), 0).max(axis=(1, 2), keepdims=True)
    top = 0 if fmt == "__nv_bfloat16" else 12
    power = np.where(size > 0, top - np.frexp(size)[1], 0)
    scaled = np.ldexp(x, power).astype(np.float32)
    return np.ldexp(get_format(FORMATS[fmt]).round(scaled).astype(float), -power)


def assert_is_product(c, a, b, before=None, *, held, fmt, alpha=1.0, beta=0.0):
    """Of rounded operands, within what the sums lose, toward zero; and rounded to what C is."""
    left, right = rounded(a, held, fmt), rounded(b, held, fmt)
    expected, size = alpha * (left @ right), abs(alpha) * (abs(left) @ abs(right))
    if beta:
        before = numbers(before)
        expected, size = expected + beta * before, size + abs(beta * before)
    lost = 2.0**-20 if fmt == "fp16x2" else 0  # the product of the two lower halves
    last = {"half": 2.0**-11, "__nv_bfloat16": 2.0**-8}.get(held, U)
    bound = ((2 * a.shape[2] + 4) * U + lost) * size + last * abs(expected) + 2.0**-25
    assert (abs(numbers(c) - expected) <= bound).all()


@pytest.mark.parametrize(("held", "fmt", "tile"), INSTANCES, ids=IDS)
def test_every_instance(compiled, rng, held, fmt, tile):
    for m, n, k in [(1, 1, 1), (tile, tile, tile), (tile - 1, tile + 1, 33), (3, 2, 17)]:
        a, b, c = (draw(rng, held, 5, *shape) for shape in [(m, k), (k, n), (m, n)])
        before, how = c.copy(), {"held": held, "fmt": fmt}
        gemm(compiled(FILE), a, b, c, tile=tile, alpha=-0.5, beta=2.0, **how)
        assert_is_product(c, a, b, before, alpha=-0.5, beta=2.0, **how)
        gemm(compiled(FILE), a, b, c := blank(held, 5, m, n), tile=tile, **how)
        assert_is_product(c, a, b, **how)


@pytest.mark.parametrize(("held", "fmt", "tile"), INSTANCES, ids=IDS)
def test_checked(compiled, rng, schedule, held, fmt, tile):
    m, n, k = tile + 1, 9, 37
    a, b, c = draw(rng, held, 2, m, k), draw(rng, held, 2, k, n), blank(held, 2, m, n)
    how = {"held": held, "fmt": fmt}
    gemm(compiled(FILE, checked=True), a, b, c, tile=tile, schedule=schedule, **how)
    assert_is_product(c, a, b, **how)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 17, 31, 33, 65, 100, 128])
def test_orders(compiled, rng, n):
    """Sums of many terms; of integers they are exact."""
    a, b = (rng.integers(-4, 5, (2, n, n)).astype("f4") for _ in range(2))
    for fmt in FORMATS:
        for tile in LOW_TILES["float", fmt]:
            c, how = blank("float", 2, n, n), {"held": "float", "fmt": fmt, "tile": tile}
            gemm(compiled(FILE), a, b, c, **how)
            np.testing.assert_array_equal(c, a @ b)


@pytest.mark.parametrize(("held", "fmt", "tile"), INSTANCES, ids=IDS)
def test_layouts(compiled, rng, held, fmt, tile):
    """Transposed, not aligned, backwards, broadcast: to the last bit the same."""
    module, how = compiled(FILE, checked=True), {"held": held, "fmt": fmt, "tile": tile}
    a, b, before = (draw(rng, held, 2, *shape) for shape in [(8, 16), (16, 8), (8, 8)])
    expected = gemm(module, a, b, before.copy(), beta=1.0, **how)

    def again(change):
        c = change(before)
        gemm(module, change(a), change(b), c, beta=1.0, **how)
        np.testing.assert_array_equal(c, expected)

    def spread(x):
        whole = blank(held, len(x), x.shape[1] + 1, x.shape[2] + 3)
        whole[:, 1:, 1:-2] = x
        return whole[:, 1:, 1:-2]

    again(lambda x: np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2))
    again(lambda x: np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1])
    again(spread)
    one = np.broadcast_to(a[:1], a.shape)
    copied = gemm(module, np.ascontiguousarray(one), b, before.copy(), **how)
    np.testing.assert_array_equal(gemm(module, one, b, before.copy(), **how), copied)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("held", ["float", "double"])
def test_members_are_scaled_by_themselves(compiled, rng, held, fmt):
    """Powers of two in an operand's member come out as they went in, far beyond what fp16 holds."""
    module = compiled(FILE)
    a, b = draw(rng, held, 4, 7, 9), draw(rng, held, 4, 9, 5)
    how = {"held": held, "fmt": fmt, "tile": 32}
    c = gemm(module, a, b, blank(held, 4, 7, 5), **how)
    most = 60 if held == "float" else 500
    one, two = (np.array([0, most, -most, most])[:, None, None], -30)
    scaled = [np.ldexp(a, one).astype(a.dtype), np.ldexp(b, two).astype(b.dtype)]
    found = gemm(module, *scaled, blank(held, 4, 7, 5), **how)
    np.testing.assert_array_equal(found, np.ldexp(c, one + two))


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("tile", [16, 64])
def test_what_is_not_finite_stays_in_its_member(compiled, rng, fmt, tile):
    """And has no influence on how the other entries are scaled."""
    module, how = compiled(FILE), {"held": "float", "fmt": fmt, "tile": tile}
    a, b = draw(rng, "float", 6, 20, 6), draw(rng, "float", 6, 6, 4)
    good = gemm(module, a, b, blank("float", 6, 20, 4), **how)
    a[2, 1, 3], b[4, 0, 0] = np.nan, np.inf
    c = gemm(module, a, b, blank("float", 6, 20, 4), **how)
    np.testing.assert_array_equal(c[[0, 1, 3, 5]], good[[0, 1, 3, 5]])
    assert np.isnan(c[2, 1]).all()
    np.testing.assert_array_equal(c[4, :, 1:], good[4, :, 1:])
    assert not np.isfinite(c[4, :, 0]).any()


def test_zeros(compiled):
    """A member of zeros needs no scale."""
    a, b = np.zeros((2, 3, 4), "f4"), np.ones((2, 4, 5), "f4")
    for fmt in FORMATS:
        c = gemm(compiled(FILE), a, b, blank("float", 2, 3, 5), held="float", fmt=fmt, tile=16)
        np.testing.assert_array_equal(c, np.zeros((2, 3, 5)))


@pytest.mark.parametrize("batch", BATCHES)
def test_batches(compiled, rng, batch):
    for tile in LOW_TILES["float", "half"]:
        how = {"held": "float", "fmt": "half", "tile": tile}
        a, b = draw(rng, "float", batch, 6, 5), draw(rng, "float", batch, 5, 9)
        c = gemm(compiled(FILE), a, b, blank("float", batch, 6, 9), **how)
        for member in range(batch):
            one = slice(member, member + 1)
            alone = gemm(compiled(FILE), a[one], b[one], blank("float", 1, 6, 9), **how)
            np.testing.assert_array_equal(alone[0], c[member])


@pytest.mark.parametrize("edit", barriers(FILE))
def test_every_barrier_is_needed(broken, rng, edit):
    """Those of a warp where each one has a part, those of a block where four share one, and that
    of a thread for its copies.
    """
    text = (FOLDER / FILE).read_text()
    missing = next(
        name for name in ("__syncwarp", "__syncthreads", "copy_async_wait")
        if edit(text).count(name) < text.count(name)
    )  # fmt: skip
    tile = 64 if missing == "__syncthreads" else 32
    held = "half" if missing == "copy_async_wait" else "float"
    a, b = draw(rng, held, 1, 20, 40), draw(rng, held, 1, 40, 24)
    module = broken(FILE, edit, f"batched_gemm_low<{held}, half, {tile}>")
    how = {"held": held, "fmt": "half", "tile": tile, "schedule": "reverse"}
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        gemm(module, a, b, blank(held, 1, 20, 24), **how)
