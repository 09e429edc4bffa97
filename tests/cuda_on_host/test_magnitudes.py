"""magnitudes.cu: largest magnitudes, and the backward errors made of them."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.kernels.cpu import residual

from .module import CAN_FLUSH, LaunchError
from .mutation import barriers

FILE = "magnitudes.cu"
KINDS = {"f": ("float", 1), "d": ("double", 1), "F": ("float", 2), "D": ("double", 2)}
WORDS = {"float": np.uint32, "double": np.uint64}
SHAPES = [(1, 1), (7, 33), (66, 30), (2, 1100)]


def drawn(rng, kind, shape, padding=0):
    """Numbers of many sizes, with infinity beside the lines."""
    z = (rng.standard_normal((*shape, 2)) @ [1, 1j]) * 10.0 ** rng.integers(-5, 5, shape)
    whole = np.full((shape[0], shape[1] + padding), np.inf, kind)
    whole[:, : shape[1]] = (z if kind in "FD" else z.real).astype(kind)
    return whole[:, : shape[1]]


def size(z):
    """In the precision of z."""
    return abs(z.real) + abs(z.imag) if z.dtype.kind == "c" else abs(z)


def reals(a):
    return a.real.dtype


def stride(a):
    """In real numbers."""
    return a.strides[0] // reals(a).itemsize


def launch_amax(module, a, *, start=0.0, grid=3, **options):
    kind, parts = KINDS[a.dtype.char]
    most = np.array([start], reals(a))
    module[f"amax<{kind}, {parts}>"](
        grid, 256, [*a.shape, a.view(reals(a)), stride(a), most.view(WORDS[kind])], **options
    )
    return most[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_amax(compiled, rng, schedule, checked, kind, shape):
    a = drawn(rng, kind, shape, padding=2)
    found = launch_amax(compiled(FILE, checked=checked), a, schedule=schedule)
    assert found == size(a).max()


@pytest.mark.parametrize("shape", [(1, 5000), (3000, 3), (5, 257)], ids=str)
@pytest.mark.parametrize("grid", [1, 7, 400])
def test_amax_on_any_grid(compiled, rng, shape, grid):
    a = drawn(rng, "f", shape)
    for place in (0, a.size - 1, a.size // 2):
        b = a.copy()
        b.ravel()[place] = -1e30
        assert launch_amax(compiled(FILE), b, grid=grid) == np.float32(1e30)


@pytest.mark.parametrize("kind", KINDS)
def test_amax_of_what_is_not_finite(compiled, rng, kind):
    """NaN of either sign is above infinity, and that above all numbers."""
    a = drawn(rng, kind, (9, 50))
    a[3, 7] = -np.inf
    assert launch_amax(compiled(FILE), a) == np.inf
    a[5, 49] = -np.nan
    assert np.isnan(launch_amax(compiled(FILE), a))
    a[3, 7] = 0
    assert np.isnan(launch_amax(compiled(FILE), a))
    assert launch_amax(compiled(FILE), a[:5]) == size(a[:5]).max()


def test_amax_raises(compiled):
    """What was found before stays, if it is more."""
    a = np.array([[1.0, -3.0]])
    assert launch_amax(compiled(FILE), a, start=5.0) == 5
    assert launch_amax(compiled(FILE), a, start=2.0) == 3
    assert launch_amax(compiled(FILE), np.zeros((3, 4))) == 0
    assert launch_amax(compiled(FILE), np.empty((3, 0)), start=1.0) == 1


@pytest.mark.skipif(not CAN_FLUSH, reason="the emulator flushes on x86-64 only")
def test_amax_of_subnormal_numbers(compiled):
    """Real ones are compared by their bits, so they are found though arithmetic flushes them."""
    a = np.array([[0.0, 2.0**-149, -3 * 2.0**-149]], np.float32)
    assert launch_amax(compiled(FILE), a, flush=True).view(np.uint32) == 3


# ---------------------------------------------------------------- extents


def launch_extents(module, a, left=None, right=None, *, grid=3, **options):
    kind, parts = KINDS[a.dtype.char]
    along, across = (np.zeros(n, reals(a)) for n in a.shape)
    module[f"extents<{kind}, {parts}>"](
        grid, 256,
        [*a.shape, a.view(reals(a)), stride(a), left, right, along.view(WORDS[kind]),
         across.view(WORDS[kind])],
        **options,
    )  # fmt: skip
    return along, across


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (130, 30), (3, 1025)], ids=str)
@pytest.mark.parametrize("factors", ["none", "left", "right"])
def test_extents(compiled, rng, schedule, kind, shape, factors):
    a = drawn(rng, kind, shape, padding=2)
    left, right = (np.exp2(rng.integers(-9, 9, n)).astype(reals(a)) for n in shape)
    sizes = size(a) * (left[:, None] if factors == "left" else right if factors == "right" else 1)
    along, across = launch_extents(
        compiled(FILE), a, left if factors == "left" else None,
        right if factors == "right" else None, schedule=schedule,
    )  # fmt: skip
    np.testing.assert_array_equal(along, sizes.max(axis=1))
    np.testing.assert_array_equal(across, sizes.max(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_extents_checked(compiled, rng, schedule, kind):
    a = drawn(rng, kind, (66, 20), padding=1)
    left = np.exp2(rng.integers(-9, 9, 66)).astype(reals(a))
    along, across = launch_extents(compiled(FILE, checked=True), a, left, schedule=schedule)
    sizes = size(a) * left[:, None]
    np.testing.assert_array_equal(along, sizes.max(axis=1))
    np.testing.assert_array_equal(across, sizes.max(axis=0))


@pytest.mark.parametrize("grid", [1, 2, 40])
def test_extents_on_any_grid(compiled, rng, grid):
    a = drawn(rng, "d", (200, 1500))
    along, across = launch_extents(compiled(FILE), a, grid=grid)
    np.testing.assert_array_equal(along, abs(a).max(axis=1))
    np.testing.assert_array_equal(across, abs(a).max(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_extents_of_what_is_not_finite(compiled, rng, kind):
    """In its row and its column, and in no other; NaN is above infinity."""
    a = drawn(rng, kind, (70, 40))
    a[3, 7], a[3, 8], a[69, 8] = np.nan, np.inf, -np.inf
    a[5], a[:, 9] = 0, 0
    for left in (None, np.full(70, 0.5, reals(a))):
        along, across = launch_extents(compiled(FILE), a, left)
        assert np.isnan(along[3])
        assert np.isnan(across[7])
        assert along[69] == across[8] == np.inf
        assert along[5] == across[9] == 0
        assert np.isfinite(np.delete(along, [3, 69])).all()
        assert np.isfinite(np.delete(across, [7, 8])).all()


# ---------------------------------------------------------------- column_errors


def launch_errors(module, x, r, d, *, grid=(3, 2), **options):
    kind, parts = KINDS[x.dtype.char]
    columns, n = d.shape
    sizes = np.zeros((4, columns))
    vectors = [v for a in (x, r, d) for v in (a.view(reals(a)), stride(a))]
    module[f"column_errors<{kind}, {parts}>"](
        grid, 256, [n, columns, *vectors, sizes.view(np.uint64)], **options
    )
    return sizes


def expected_errors(x, r, d):
    """By the CPU's kernel, from the same numbers in double precision."""
    parts = 2 if x.dtype.kind == "c" else 1
    wide = [np.ascontiguousarray(a).view(reals(a)).astype(float) for a in (x, r, d)]
    sizes = np.empty((4, len(d)))
    residual.column_errors(*wide, parts, *sizes)
    return sizes


def columns_of(rng, kind, n, columns, padding=3):
    x, r = (drawn(rng, kind, (columns, n), padding) for _ in range(2))
    d = abs(drawn(rng, x.real.dtype.char, (columns, n), padding))
    return x, r, d


def assert_sizes(found, expected, kind):
    """|re| + |im| in fp32 is rounded there; the rest is exact, or rounded in fp64."""
    np.testing.assert_allclose(found, expected, rtol=2.0**-22 if kind == "F" else 2.0**-52)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "columns"), [(1, 1), (33, 3), (1000, 2)])
def test_column_errors(compiled, rng, schedule, checked, kind, n, columns):
    x, r, d = columns_of(rng, kind, n, columns)
    found = launch_errors(compiled(FILE, checked=checked), x, r, d, schedule=schedule)
    assert_sizes(found, expected_errors(x, r, d), kind)


@pytest.mark.parametrize("grid", [(1, 1), (2, 7), (40, 3)])
def test_column_errors_on_any_grid(compiled, rng, grid):
    x, r, d = columns_of(rng, "d", 700, 5)
    found = launch_errors(compiled(FILE), x, r, d, grid=grid)
    assert_sizes(found, expected_errors(x, r, d), "d")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_columns_that_are_not_finite(compiled, rng, kind, which, value):
    """NaN fills its column; infinity counts as it does on the CPU; others are as they were."""
    arrays = columns_of(rng, kind, 600, 3)
    arrays[which][1, 555] = value
    found = launch_errors(compiled(FILE), *arrays)
    assert_sizes(found, expected_errors(*arrays), kind)
    assert np.isnan(found[:, 1]).all() == np.isnan(value)
    assert np.isfinite(found[:, [0, 2]]).all()


def test_zeros_and_infinities(compiled):
    """0 / 0 is 0, 1 / 0 infinity, and infinity / infinity is told by the sizes alone."""
    x = np.zeros((4, 3))
    r = np.array([[0, 0, 2], [0, 1, 0], [0, np.inf, 1], [0, 0, 0]], float)
    d = np.array([[0, 1, 4], [1, 0, 1], [1, np.inf, 4], [0, 0, 0]], float)
    found = launch_errors(compiled(FILE, checked=True), x, r, d)
    np.testing.assert_array_equal(found[3], [0.5, np.inf, 0.25, 0])
    np.testing.assert_array_equal(found, expected_errors(x, r, d))


def test_the_same_in_every_run(compiled, rng):
    x, r, d = columns_of(rng, "D", 900, 2)
    found = [launch_errors(compiled(FILE), x, r, d, grid=g, schedule=s)
             for g, s in [((3, 2), "forward"), ((5, 1), "reverse"), ((1, 3), 3)]]  # fmt: skip
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("edit", barriers(FILE), ids=lambda edit: edit.__name__)
def test_every_barrier_is_needed(broken, rng, edit):
    module = broken(FILE, edit, "amax<float, 1>")
    caught = 0
    for schedule in ("forward", "reverse", 1):
        try:
            launch_amax(module, drawn(rng, "f", (3, 300)), schedule=schedule)
        except LaunchError:
            caught += 1
    assert caught
