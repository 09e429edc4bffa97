"""permute.cu: interchanges as one permutation, and rows that are gathered and put back."""

from __future__ import annotations

import numpy as np
import pytest

from .module import LaunchError
from .mutation import barriers
from .test_narrow import assert_is_image, entries

FILE = "permute.cu"
HELD = 10240
"""Rows up to which the permutation is found in shared memory."""


def order_after(piv, m, backward=False):
    """order[i] = the row that stands at i after the interchanges."""
    order = np.arange(m)
    for i in range(len(piv))[:: -1 if backward else 1]:
        order[[i, piv[i]]] = order[[piv[i], i]]
    return order


def launch(module, piv, m, *, backward=False, first=0, **options):
    """The two lists, and `map`."""
    count = len(piv)
    found = np.full(m, -1, np.int32)
    rows, sources = (np.full(2 * count + 1, -1, np.int32) for _ in range(2))
    moved = np.full(1, -1, np.int32)
    module["permutation"](
        1, 1024,
        [count, m, (np.asarray(piv) + first).astype(np.int32), first, int(backward), found, rows,
         sources, moved],
        uninitialised=[5, 6, 7, 8], **options,
    )  # fmt: skip
    assert (rows[moved[0] :] == -1).all()
    assert (sources[moved[0] :] == -1).all()
    return rows[: moved[0]], sources[: moved[0]], found


def assert_is_order(lists, piv, m, backward=False):
    rows, sources, found = lists
    expected = order_after(piv, m, backward)
    assert len(set(rows.tolist())) == len(rows)
    assert (rows != sources).all()
    order = np.arange(m)
    order[rows] = sources
    np.testing.assert_array_equal(order, expected)
    if not backward:
        np.testing.assert_array_equal(found[: len(piv)], expected[: len(piv)])


def random_pivots(rng, count, m):
    return rng.integers(np.arange(count), m)


CHAINS = {
    # of each what it has of the cases: interchanges that depend on each other in a row, or all
    # have one row in common, within 32 and beyond
    "itself": lambda m: np.arange(m),
    "next": lambda m: np.minimum(np.arange(m) + 1, m - 1),
    "last": lambda m: np.full(m, m - 1),
    "next but 32": lambda m: np.minimum(np.arange(m) + 33, m - 1),
    "every second": lambda m: np.minimum(np.arange(m) // 2 * 2 + 2, m - 1),
    "reversed": lambda m: np.maximum(np.arange(m), m - 1 - np.arange(m)),
    "end of 32": lambda m: np.minimum(np.arange(m) // 32 * 32 + 31, m - 1),
}


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("m", [1, 31, 32, 33, 100])
def test_random_pivots(compiled, rng, schedule, checked, backward, m):
    for count in {1, (m + 1) // 2, m}:
        piv = random_pivots(rng, count, m)
        found = launch(
            compiled(FILE, checked=checked), piv, m, backward=backward, schedule=schedule
        )
        assert_is_order(found, piv, m, backward)


@pytest.mark.parametrize("name", CHAINS)
def test_chains(compiled, schedule, name):
    piv = CHAINS[name](131)
    for backward in (False, True):
        for count in (131, 70):
            found = launch(compiled(FILE), piv[:count], 131, backward=backward, schedule=schedule)
            assert_is_order(found, piv[:count], 131, backward)


def test_few_rows_are_in_question(compiled, rng, schedule):
    """Pivots near the first rows, so that nearly all interchanges meet others of the 32."""
    for _ in range(5):
        piv = np.minimum(np.arange(64) + rng.integers(0, 9, 64), 63)
        assert_is_order(launch(compiled(FILE), piv, 64, schedule=schedule), piv, 64)


@pytest.mark.parametrize("m", [HELD, HELD + 1])
@pytest.mark.parametrize("count", [1, 32, 100])
def test_either_memory(compiled, rng, checked, m, count):
    """Of a long panel only the rows that take part are looked at."""
    piv = random_pivots(rng, count, m)
    piv[count // 2 :] = m - 1
    for backward in (False, True):
        found = launch(compiled(FILE, checked=checked), piv, m, backward=backward)
        assert_is_order(found, piv, m, backward)
    outside = np.setdiff1d(np.arange(m), [*range(count), *piv])
    assert (found[2][outside] == -1).all()


@pytest.mark.parametrize("m", [3001, 20000])
def test_a_whole_factorization(compiled, rng, m):
    piv = random_pivots(rng, m, m)
    assert_is_order(launch(compiled(FILE), piv, m), piv, m)


def test_pivots_count_from_elsewhere(compiled, rng):
    piv = random_pivots(rng, 20, 50)
    assert_is_order(launch(compiled(FILE), piv, 50, first=1000), piv, 50)


def test_no_interchange(compiled):
    assert launch(compiled(FILE), np.empty(0, int), 5)[0].size == 0
    assert launch(compiled(FILE), np.arange(40), 50)[0].size == 0


EDITS = barriers(FILE)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_every_barrier_is_needed(broken, rng, edit):
    module = broken(FILE, edit)
    piv, caught = random_pivots(rng, 80, 100), 0
    piv[:32] = np.minimum(np.arange(32) + rng.integers(0, 9, 32), 31)
    for schedule in ("forward", "reverse", 1, 2):
        try:
            launch(module, piv, 100, schedule=schedule)
        except LaunchError as error:
            caught += "race" in str(error) or "nobody wrote" in str(error)
    assert caught


def test_there_are_barriers():
    assert len(EDITS) == 6


# ---------------------------------------------------------------- rows

KINDS = {"f": ("float", 1), "d": ("double", 1), "F": ("float", 2), "D": ("double", 2)}
LAYOUTS = ["C", "F", "any"]


def matrix(rng, kind, m, n, layout, fill=np.nan):
    """A view of m by n entries with others around it."""
    z = rng.standard_normal((m, n, 2)) @ [1, 1j]
    if layout == "any":
        whole = np.full((2 * m, 3 * n), fill, kind)
        view = whole[::2, ::3]
    else:
        whole = np.full((m + 3, n + 2), fill, kind, order=layout)
        view = whole[:m, :n]
    view[...] = (z if kind in "FD" else z.real).astype(kind)
    return view


def numbers(a, pair):
    """The address of the first number and the strides of rows and columns, in numbers."""
    real = a.real.dtype
    flat = np.lib.stride_tricks.as_strided(a, (1 + extent_of(a),), (a.itemsize,)).view(real)
    return flat, a.strides[0] * pair // a.itemsize, a.strides[1] * pair // a.itemsize


def extent_of(a):
    return sum((n - 1) * s for n, s in zip(a.shape, a.strides, strict=True)) // a.itemsize


def permuted(module, a, rows, sources, *, grid=3, buffer_layout=None, **options):
    """Gathers and scatters; the buffer as it was in between."""
    kind, pair = KINDS[a.dtype.char]
    moved = np.array([len(rows)], np.int32)
    order = buffer_layout or ("F" if a.strides[0] < a.strides[1] else "C")
    buffer = np.full((len(rows), a.shape[1]), np.nan, a.dtype, order=order)
    flat, *strides = numbers(a, pair)
    kept, *kept_strides = numbers(buffer, pair)
    sizes = [-1, a.shape[1], pair]
    module[f"gather_rows<{kind}, {kind}>"](
        grid, 256, [*sizes, flat, *strides, moved, sources, kept, *kept_strides, None, None],
        uninitialised=[8], **options,
    )  # fmt: skip
    before = buffer.copy()
    module[f"scatter_rows<{kind}>"](
        grid, 256, [*sizes, kept, *kept_strides, moved, rows, flat, *strides], **options
    )
    return before


def lists_of(rng, count, m):
    """Of a random permutation, as `permutation` gives them."""
    order = order_after(random_pivots(rng, count, m), m)
    rows = rng.permutation(np.flatnonzero(order != np.arange(m)))
    return rows.astype(np.int32), order[rows].astype(np.int32), order


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", [1, 35])
def test_rows_are_moved(compiled, rng, schedule, checked, kind, layout, n):
    m = 40 if checked else 90
    a = matrix(rng, kind, m, n, layout)
    around = a.base.copy()
    given = a.copy()
    rows, sources, order = lists_of(rng, m // 2, m)
    buffer = permuted(compiled(FILE, checked=checked), a, rows, sources, schedule=schedule)
    np.testing.assert_array_equal(buffer, given[sources])
    np.testing.assert_array_equal(a, given[order])
    a[...] = given
    np.testing.assert_array_equal(a.base, around)  # nothing else was written


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("buffer_layout", ["C", "F"])
@pytest.mark.parametrize("grid", [1, 5, 300])
def test_any_grid_and_buffer(compiled, rng, layout, buffer_layout, grid):
    a = matrix(rng, "F", 70, 300, layout)
    given = a.copy()
    rows, sources, order = lists_of(rng, 30, 70)
    permuted(compiled(FILE), a, rows, sources, grid=grid, buffer_layout=buffer_layout)
    np.testing.assert_array_equal(a, given[order])


def test_all_bits_are_kept(compiled, rng):
    """NaN with what it carries, and subnormal numbers, also where arithmetic flushes them."""
    words = rng.integers(0, 2**32, (20, 30), np.uint64).astype(np.uint32)
    words[:, 3], words[:, 4] = 0x7F800001, 1
    a = words.view(np.float32).copy()
    rows, sources, order = lists_of(rng, 20, 20)
    permuted(compiled(FILE), a, rows, sources)
    np.testing.assert_array_equal(a.view(np.uint32), words[order])


def test_the_interchanges_of_a_panel(compiled, rng, schedule):
    """From pivots to rows that are swapped, and back by the opposite order."""
    module, a = compiled(FILE), matrix(rng, "f", 90, 20, "C")
    given, piv = a.copy(), random_pivots(rng, 32, 90)
    rows, sources, _ = launch(module, piv, 90, schedule=schedule)
    permuted(module, a, rows, sources, schedule=schedule)
    np.testing.assert_array_equal(a, given[order_after(piv, 90)])
    rows, sources, _ = launch(module, piv, 90, backward=True, schedule=schedule)
    permuted(module, a, rows, sources, schedule=schedule)
    np.testing.assert_array_equal(a, given)


@pytest.mark.parametrize("name", ["half", "__nv_bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scaled", [False, True])
def test_rows_are_converted(compiled, rng, schedule, checked, name, layout, scaled):
    """The first rows of the permuted matrix, by `map`."""
    module = compiled(FILE, checked=checked)
    a = matrix(rng, "f", 40, 23, layout)
    a[...] = entries(rng, (40, 23), 1)
    piv = random_pivots(rng, 15, 40)
    *_, sources = launch(compiled(FILE), piv, 40)
    scale = np.array([2.0**-5], np.float32) if scaled else None
    order = "F" if layout == "F" else "C"
    dtype = np.float16 if name == "half" else np.uint16
    buffer, lost = np.full((15, 23), 7, dtype, order=order), np.zeros(2, np.uint64)
    flat, *strides = numbers(a, 1)
    kept, *kept_strides = numbers(buffer, 1)
    module[f"gather_rows<float, {name}>"](
        3, 256, [15, 23, 1, flat, *strides, None, sources, kept, *kept_strides, scale, lost],
        schedule=schedule,
    )  # fmt: skip
    given = a[order_after(piv, 40)[:15]]
    assert_is_image(
        module, [buffer], lost, given, name, turned=False, scale=2.0**-5 if scaled else 1.0
    )
