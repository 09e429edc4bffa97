"""gemm.cu: products on tensor cores; and, through it, tiles.cuh."""

from __future__ import annotations

import mmap
import sys
from math import ceil

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue import BY_NAME
from mplinalg.precision import get_format

from .device_module import seen_by
from .module import LaunchError
from .mutation import barriers_of_header

U = 2.0**-24
TYPES = {"half": ("fp16", np.float16, 32), "__nv_bfloat16": ("bf16", np.uint16, 32),
         "float": ("tf32", np.float32, 16)}  # fmt: skip
"""Format, type as the kernel is given it, BK."""
INSTANCES = [(name, tile) for name in TYPES for tile in (64, 128)]
IDS = [f"{name.strip('_')}-{tile}" for name, tile in INSTANCES]
SHAPES = [(1, 1, 1), (64, 64, 64), (65, 63, 17), (130, 70, 100)]


def blocks(m, n, height, width):
    return ceil(m / height) * ceil(n / width)


def padded(x, stride, *, first=0, fill=np.nan):
    """x in rows of `stride` entries, in column `first` of a matrix of `fill`."""
    if x.dtype == np.uint16 and fill is np.nan:
        fill = 0x7FC0
    whole = np.full((len(x), stride), fill, x.dtype)
    view = whole[:, first : first + x.shape[1]]
    view[...] = x
    return view


def stride(x):
    return x.strides[0] // x.itemsize


def words(x, name):
    """fp32 numbers of a format as the kernel is given them."""
    x = np.asarray(x, np.float32)
    if name == "__nv_bfloat16":
        return (x.view(np.uint32) >> 16).astype(np.uint16)
    return x.astype(TYPES[name][1])


def numbers(x):
    """What `words` stands for, in float64."""
    if x.dtype == np.uint16:
        x = (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(float)


def operands(rng, name, m, n, k):
    """Random numbers of the format as words, and C."""
    fmt = get_format(TYPES[name][0])
    a, b = (fmt.round(rng.standard_normal(s).astype(np.float32)) for s in [(m, k), (k, n)])
    return words(a, name), words(b, name), rng.standard_normal((m, n)).astype(np.float32)


def number(x):
    """As the kernels take alpha."""
    return np.array([x], np.float32)


def run(module, name, grid, arguments, **options):
    """Threads and dynamic shared memory as the catalogue has them."""
    kernel = BY_NAME[name]
    module[name](grid, kernel.threads, arguments, shared=kernel.dynamic, **options)


def launch(module, name, tile, a, b, c, alpha=-1.0, beta=1.0, **options):
    (m, k), n, depth = a.shape, b.shape[1], TYPES[name][2]
    run(
        module, f"gemm<{name}, {tile}, {tile}, {depth}>", blocks(m, n, tile, tile),
        [m, n, k, number(alpha), a, stride(a), b, stride(b), beta, c, stride(c)], **options,
    )  # fmt: skip
    return c


def assert_is_product(c, a, b, before, alpha=-1.0, beta=1.0):
    """Within what k additions lose, in any order, that round toward zero, by 2 u, as those of
    tensor cores do; and two roundings to nearest.
    """
    a, b, before = numbers(a), numbers(b), before.astype(float)
    sizes = abs(alpha) * (abs(a) @ abs(b)) + abs(beta * before)
    expected = alpha * (a @ b) + beta * before
    assert (abs(c - expected) <= (2 * a.shape[1] + 2) * U * sizes).all()


@pytest.mark.parametrize(("name", "tile"), INSTANCES, ids=IDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_instance(compiled, rng, schedule, name, tile, shape):
    a, b, c = operands(rng, name, *shape)
    before = c.copy()
    launch(compiled("gemm.cu"), name, tile, a, b, c, schedule=schedule)
    assert_is_product(c, a, b, before)


@pytest.mark.parametrize(("name", "tile"), INSTANCES, ids=IDS)
def test_checked(compiled, rng, schedule, name, tile):
    """Edges in each direction, three and a half steps."""
    a, b, c = operands(rng, name, tile + 1, 9, TYPES[name][2] * 3 + 5)
    before = c.copy()
    launch(compiled("gemm.cu", checked=True), name, tile, a, b, c, schedule=schedule)
    assert_is_product(c, a, b, before)


@pytest.mark.parametrize("alpha", [-1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, -2.0])
def test_integers_are_exact(compiled, rng, alpha, beta):
    """In the order of any schedule, and for entries that are sums of 200 products."""
    a, b, c = (rng.integers(-8, 9, s).astype(np.float32) for s in [(70, 200), (200, 66), (70, 66)])
    expected = alpha * (a @ b) + beta * c
    for name, tile in INSTANCES:
        found = launch(
            compiled("gemm.cu"), name, tile, words(a, name), words(b, name), c.copy(), alpha, beta
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(
    ("strides", "first"),
    [((48, 80, 72), (0, 0, 0)), ((48, 80, 72), (16, 8, 2)), ((47, 80, 72), (0, 0, 0)),
     ((48, 79, 72), (0, 0, 0)), ((48, 80, 71), (0, 0, 0)), ((48, 80, 72), (1, 3, 1))],
    ids=["aligned", "aligned inside", "odd lda", "odd ldb", "odd ldc", "odd addresses"],
)  # fmt: skip
def test_padding_is_left_alone(compiled, rng, name, strides, first):
    """NaN around A and B does not matter, and what is around C stays."""
    a, b, c = operands(rng, name, 30, 67, 29)
    a, b = (padded(x, s, first=f) for x, s, f in zip((a, b), strides, first, strict=False))
    view = padded(c, strides[2], first=first[2], fill=7)
    launch(compiled("gemm.cu", checked=True), name, 64, a, b, view)
    assert_is_product(view, a, b, c)
    outside = np.ones(view.base.shape, bool)
    outside[:, first[2] : first[2] + 67] = False
    assert (view.base[outside] == 7).all()


@pytest.mark.parametrize("n", [66, 65])
def test_c_is_not_read_without_beta(compiled, rng, n):
    a, b, c = operands(rng, "half", 9, n, 40)
    c[...] = np.nan
    launch(compiled("gemm.cu", checked=True), "half", 64, a, b, c, beta=0.0, uninitialised=[9])
    assert_is_product(c, a, b, np.zeros(c.shape), beta=0.0)


def test_no_terms(compiled, rng):
    """k = 0: C <- beta C."""
    a, b, c = (np.empty(s, np.float16) for s in [(5, 8), (1, 8), (5, 8)])
    c = rng.standard_normal((5, 8)).astype(np.float32)
    expected = 0.5 * c
    launch(compiled("gemm.cu"), "half", 64, a[:, :0], b[:0], c, beta=0.5)
    np.testing.assert_array_equal(c, expected)


@pytest.mark.parametrize(("name", "tile"), INSTANCES, ids=IDS)
def test_what_is_not_finite(compiled, rng, name, tile):
    """As in IEEE arithmetic: infinity, infinity - infinity, 0 times infinity, NaN of A, B and C."""
    a, b, c = (numbers(x).astype(np.float32) for x in operands(rng, name, 20, 18, 40))
    a[1, 3] = np.inf
    a[2, [4, 5]] = np.inf, -np.inf
    b[4:6, 0] = 0.0
    a[3, 39] = np.nan
    b[7, 2] = -np.inf
    c[0, 0], c[4, 4] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        expected = c.astype(float) - a.astype(float) @ b.astype(float)
    before, lost = c.copy(), ~np.isfinite(expected)
    launch(compiled("gemm.cu"), name, tile, words(a, name), words(b, name), c)
    np.testing.assert_array_equal(c[lost], expected[lost])
    assert lost.sum() == 3 * 18 + 17 + 2
    for x in (a, b, before):
        x[~np.isfinite(x)] = 0.0
    c[lost] = (before - a @ b)[lost]
    assert_is_product(c, words(a, name), words(b, name), before)


@pytest.mark.parametrize("tile", [64, 128])
@pytest.mark.parametrize("aligned", [False, True], ids=["unaligned", "aligned"])
def test_rounding_to_tf32(compiled, rng, tile, aligned):
    """To nearest, ties to even, and not toward zero; of NaN whatever bits make it one."""
    bits = rng.integers(0, 2**32, 500, np.uint64).astype(np.uint32)
    bits[200:300] = bits[200:300] & 0xFFFFF000 | 0x1000  # ties
    bits[300:304] = 0x7F800001, 0x7FFFFFFF, 0xFF800000, 0x7F7FFFFF
    x, module = bits.view(np.float32), compiled("gemm.cu")
    expected = seen_by(module, get_format("tf32").round(x))
    a = padded(x[:, None], 4 if aligned else 1)
    one, c = np.ones((1, 1), np.float32), np.empty((500, 1), np.float32)
    launch(module, "float", tile, a, one, c, alpha=1.0, beta=0.0)
    np.testing.assert_array_equal(seen_by(module, c[:, 0]), expected)
    b, c = padded(x[None, :], 500 if aligned else 501), np.empty((1, 500), np.float32)
    launch(module, "float", tile, one, b, c, alpha=1.0, beta=0.0)
    np.testing.assert_array_equal(seen_by(module, c[0]), expected)


@pytest.mark.parametrize(("m", "n"), [(64 * 9 + 1, 64 * 2 + 1), (64 * 8, 64), (64 * 17, 2)])
def test_blocks_take_every_tile_once(compiled, rng, m, n):
    """They are numbered in groups eight tiles high, the last of which may be lower."""
    a, b, c = operands(rng, "half", m, n, 3)
    before = c.copy()
    launch(compiled("gemm.cu"), "half", 64, a, b, c)
    assert_is_product(c, a, b, before)


@pytest.mark.skipif(sys.platform != "linux", reason="reserves addresses without memory")
@pytest.mark.parametrize("which", ["a", "b", "c"])
@pytest.mark.parametrize("odd", [0, 1], ids=["aligned", "unaligned"])
def test_offsets_above_32_bits(compiled, rng, which, odd):
    """Three rows that are 2^31 entries apart."""
    arrays = dict(zip("abc", operands(rng, "half", 3, 3, 3), strict=True))
    given = arrays[which]
    distance = 2**31 + 8 + odd
    no_reserve = 0x4000  # mmap.MAP_NORESERVE, from Python 3.13 on
    memory = mmap.mmap(
        -1, (2 * distance + 3) * given.itemsize,
        flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve,
    )  # fmt: skip
    far = np.ndarray((3, 3), given.dtype, memory)
    far = np.lib.stride_tricks.as_strided(far, strides=(distance * given.itemsize, given.itemsize))
    far[...] = given
    before = arrays["c"].copy()
    arrays[which] = far
    launch(compiled("gemm.cu"), "half", 64, *arrays.values())
    assert_is_product(arrays["c"], arrays["a"], arrays["b"], before)


def test_the_same_in_every_run(compiled, rng):
    a, b, c = operands(rng, "half", 100, 90, 150)
    found = [
        launch(compiled("gemm.cu"), "half", 64, a, b, c.copy(), schedule=schedule)
        for schedule in ("forward", "reverse", 3)
    ]
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


@pytest.mark.parametrize(("name", "tile"), INSTANCES, ids=IDS)
def test_operations(emulated, rng, name, tile):
    """One barrier a step of BK terms; of 16 rows of A and 16 columns of B one ldmatrix a warp; at
    the end one shuffle.
    """
    m, n, steps = tile + 1, tile, 3
    module, depth = emulated("gemm.cu"), TYPES[name][2]
    launch(module, name, tile, *operands(rng, name, m, n, steps * depth))
    warps, products = tile // 16, 2 * steps  # two mma deep is BK
    left, right = tile // 2 // 16, 32 // 16
    loads = left + (right if name != "float" else 0)
    assert module.counts.barriers == 2 * steps
    per_warp = products * (left * 2 * right + loads) + 1
    assert module.counts.collectives == 2 * warps * 32 * per_warp


EDITS = barriers_of_header("tiles.cuh")


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_no_barrier_can_go(broken, rng, edit):
    """Nor in gemm_split.cu and gemm_complex.cu, whose only barriers are these."""
    module = broken("gemm.cu", edit, "gemm<half, 64, 64, 32>", "gemm<float, 64, 64, 16>")
    for name in ("half", "float"):
        a, b, c = operands(rng, name, 64, 64, 160)
        before = c.copy()
        noticed = 0
        for schedule in ("forward", "reverse", 1):
            try:
                launch(module, name, 64, a, b, c, schedule=schedule)
                assert_is_product(c, a, b, before)
            except (LaunchError, AssertionError):
                noticed += 1
            c[...] = before
        assert noticed


def test_barriers_of_the_tiles():
    """What the test above goes through: the wait for copies and the barrier of a step."""
    assert len(EDITS) == 2
