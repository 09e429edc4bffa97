"""block_lu.cu: LU of a diagonal block without pivoting, and the inverses of its triangles."""

from __future__ import annotations

import numpy as np
import pytest

from .device_module import seen_by
from .module import LaunchError
from .mutation import barriers

U = 2.0**-24
SIZES = [(64, 1), (64, 16), (64, 61), (64, 64), (128, 17), (128, 97), (128, 127), (128, 128)]


def block_of(rng, n, columns=None):
    """In an array of NaN, with more columns than it has."""
    whole = np.full((n, columns or n + 3), np.nan, np.float32)
    whole[:, :n] = rng.standard_normal((n, n)) + 2 * np.eye(n)
    return whole, whole[:, :n]


def outputs(order, blocks=1):
    inverses = np.full((2, blocks, order, order), np.nan, np.float32)
    return inverses, np.array([np.inf, 0, 0], np.float32), np.zeros(1, np.int32)


def factor(module, order, a, *, offset=0, info=None, **options):
    """L^-1, U^-1, range, info; L\\U goes to `a`."""
    inverses, extremes, found = outputs(order)
    found = found if info is None else info
    module[f"block_lu<{order}>"](
        1, 256,
        [len(a), a, a.strides[0] // 4, *inverses[:, 0], extremes, offset, found],
        uninitialised=[3, 4], **options,
    )  # fmt: skip
    return *inverses[:, 0], extremes, found[0]


def invert(module, order, a, *, offset=0, lower=True, upper=True, **options):
    blocks = -(-len(a) // order)
    inverses, extremes, info = outputs(order, blocks)
    given = [inverses[0] if lower else None, inverses[1] if upper else None]
    module[f"triangle_inverse<{order}>"](
        blocks, 256, [len(a), a, a.strides[0] // 4, *given, extremes, offset, info],
        uninitialised=[3, 4], **options,
    )  # fmt: skip
    return *inverses, extremes, info[0]


def triangles(lu):
    lu = np.asarray(lu, float)
    return np.tril(lu, -1) + np.eye(len(lu)), np.triu(lu)


def assert_inverses(lower, upper, lower_inverse, upper_inverse):
    """By the bounds of substitution, and the identity beyond the block."""
    n, order = len(lower), len(lower_inverse)
    for inverse in (lower_inverse, upper_inverse):
        np.testing.assert_array_equal(inverse[n:], np.eye(order)[n:])
        np.testing.assert_array_equal(inverse[:, n:], np.eye(order)[:, n:])
    x, w = lower_inverse[:n, :n].astype(float), upper_inverse[:n, :n].astype(float)
    assert not np.triu(x - np.eye(n)).any()
    assert not np.tril(w, -1).any()
    assert (abs(lower @ x - np.eye(n)) <= 4 * n * U * abs(lower) @ abs(x)).all()
    assert (abs(w @ upper - np.eye(n)) <= 4 * n * U * abs(w) @ abs(upper)).all()


@pytest.mark.parametrize(("order", "n"), SIZES)
def test_factors_and_inverses(compiled, rng, schedule, checked, order, n):
    whole, a = block_of(rng, n)
    given = a.astype(float)
    module = compiled("block_lu.cu", checked=checked)
    lower_inverse, upper_inverse, extremes, info = factor(module, order, a, schedule=schedule)
    lower, upper = triangles(a)
    assert info == 0
    assert (abs(lower @ upper - given) <= 4 * n * U * abs(lower) @ abs(upper)).all()
    assert_inverses(lower, upper, lower_inverse, upper_inverse)
    largest = max(abs(lower_inverse[:n, :n]).max(), abs(upper_inverse[:n, :n]).max())
    if n < order:
        largest = max(largest, np.float32(1))
    largest_factor = max(abs(np.tril(a, -1)).max(), abs(upper).max())
    assert extremes.tolist() == [abs(np.diag(a)).min(), largest_factor, largest]
    assert np.isnan(whole[:, n:]).all()


@pytest.mark.parametrize(("order", "n"), SIZES)
def test_a_barrier_a_column(emulated, rng, order, n):
    module, (_, a) = emulated("block_lu.cu"), block_of(rng, n)
    factor(module, order, a)
    assert module.counts.barriers == n


@pytest.mark.parametrize(("order", "n"), [(64, 1), (64, 150), (128, 111), (128, 256)])
def test_inverses_of_all_blocks(compiled, rng, schedule, checked, order, n):
    """A block of threads to a diagonal block; the rest of the matrix is not read."""
    whole = np.full((n, n + 1), np.nan, np.float32)
    a, blocks = whole[:, :n], range(0, n, order)
    for b in blocks:
        end = min(n, b + order)
        a[b:end, b:end] = rng.standard_normal((end - b, end - b)) / (end - b) + np.eye(end - b)
    kept = whole.copy()
    lower_inverse, upper_inverse, _, info = invert(
        compiled("block_lu.cu", checked=checked), order, a, schedule=schedule
    )
    assert info == 0
    np.testing.assert_array_equal(whole, kept)
    for place, b in enumerate(blocks):
        end = min(n, b + order)
        assert_inverses(*triangles(a[b:end, b:end]), lower_inverse[place], upper_inverse[place])


@pytest.mark.parametrize("order", [64, 128])
def test_both_roads_to_the_inverses(compiled, rng, order):
    """To the last bit, as they do the same sums in the same order."""
    _, a = block_of(rng, order - 5)
    module = compiled("block_lu.cu")
    *inverses, extremes, _ = factor(module, order, a)
    *again, extremes_again, _ = invert(module, order, a)
    np.testing.assert_array_equal(np.squeeze(again), inverses)
    assert extremes_again.tolist() == [extremes[0], 0, extremes[2]]


@pytest.mark.parametrize("order", [64, 128])
def test_the_same_in_every_run(compiled, rng, order):
    _, a = block_of(rng, order)
    found = []
    for schedule in ("forward", "reverse", 3):
        lu = a.copy()
        inverses = factor(compiled("block_lu.cu"), order, lu, schedule=schedule)[:2]
        found.append((lu, *inverses))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("wanted", ["lower", "upper"])
def test_one_inverse(compiled, rng, wanted):
    """The other pointer is null, and the largest entry is of the one."""
    _, a = block_of(rng, 40)
    module = compiled("block_lu.cu", checked=True)
    lower_inverse, upper_inverse, _, _ = invert(module, 64, a)
    options = {"lower": wanted == "lower", "upper": wanted == "upper"}
    *found, extremes, _ = invert(module, 64, a, **options)
    place = ["lower", "upper"].index(wanted)
    expected = [lower_inverse, upper_inverse][place]
    np.testing.assert_array_equal(found[place], expected)
    assert np.isnan(found[1 - place]).all()
    off_diagonal = expected[0] - np.eye(64) if wanted == "lower" else expected[0]
    assert extremes[2] == abs(off_diagonal).max()


@pytest.mark.parametrize(
    "pivot",
    [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45],
    ids=["0", "-0", "nan", "inf", "-inf", "tiny"],
)
@pytest.mark.parametrize("place", [0, 15, 16, 70])
def test_useless_pivots(compiled, rng, pivot, place):
    """The first one is told; rows above it are as ever, and nothing after it looks like numbers."""
    _, a = block_of(rng, 90)
    a[place, :place] = a[:place, place] = 0
    a[place, place] = pivot
    good = a.copy()
    good[place, place] = 1
    module = compiled("block_lu.cu")
    factor(module, 128, good)
    info = factor(module, 128, a, offset=1000)[-1]
    assert info == 1000 + place + 1
    np.testing.assert_array_equal(a[:place], good[:place])
    found, given = (seen_by(module, np.float32(x)) for x in (a[place, place], pivot))
    np.testing.assert_array_equal(found, given)
    assert not np.isfinite(a[place + 1 :, place + 1 :]).any() or np.isinf(pivot)


@pytest.mark.parametrize(("before", "after"), [(0, 108), (5, 5), (500, 108)])
def test_info_keeps_the_first(compiled, rng, before, after):
    _, a = block_of(rng, 30)
    a[7] = a[20] = 0
    info = factor(compiled("block_lu.cu"), 64, a, offset=100, info=np.array([before], np.int32))[-1]
    assert info == after


def test_info_of_several_blocks(compiled):
    """Blocks 1 and 2 are singular: the first counts, whichever ran first."""
    a = np.eye(192, dtype=np.float32)
    a[100, 100] = a[70, 70] = a[180, 180] = 0
    for schedule in ("forward", "reverse", 1):
        assert invert(compiled("block_lu.cu"), 64, a, offset=10, schedule=schedule)[-1] == 81


def test_a_singular_u_leaves_the_other_inverse(compiled, rng):
    """And of its own the columns before the zero."""
    _, a = block_of(rng, 64)
    factor(compiled("block_lu.cu"), 64, a)
    lower_inverse, upper_inverse, _, _ = invert(compiled("block_lu.cu"), 64, a)
    a[21, 21] = 0
    lower_again, upper_again, extremes, info = invert(compiled("block_lu.cu"), 64, a)
    assert info == 22
    np.testing.assert_array_equal(lower_again, lower_inverse)
    np.testing.assert_array_equal(upper_again[0, :, :21], upper_inverse[0, :, :21])
    assert not np.isfinite(np.triu(upper_again[0])[21, 21:]).any()
    assert extremes[0] == 0
    assert not np.isfinite(extremes[2])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_seen(compiled, rng, value):
    """In an entry that is no pivot: in the factors, in the range, and in a later pivot."""
    _, a = block_of(rng, 50)
    a[30, 12] = value
    *_, extremes, info = factor(compiled("block_lu.cu"), 64, a)
    assert 31 <= info <= 50
    assert not np.isfinite(a[30, 12])
    assert not np.isfinite(extremes[1])
    assert not np.isfinite(extremes[2])


def test_extremes_are_kept(compiled, rng):
    """Of earlier blocks, where these are more extreme; and null is taken."""
    module, a = compiled("block_lu.cu", checked=True), np.eye(4, dtype=np.float32)
    inverses, _, info = outputs(64)
    extremes = np.array([0.5, 3, 4], np.float32)
    arguments = [4, a, 4, *inverses[:, 0]]
    module["block_lu<64>"](1, 256, [*arguments, extremes, 0, info])
    assert extremes.tolist() == [0.5, 3, 4]
    module["block_lu<64>"](1, 256, [*arguments, None, 0, info])
    np.testing.assert_array_equal(inverses[:, 0], [np.eye(64)] * 2)


@pytest.mark.parametrize("edit", barriers("block_lu.cu"))
def test_every_barrier_is_needed(broken, rng, edit):
    _, a = block_of(rng, 33)
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        factor(broken("block_lu.cu", edit, "block_lu<64>"), 64, a)
