"""Triangular solves of stacks: small residuals, whatever the triangle, the layout and the route."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError
from mplinalg.batched.trsm import trsm
from mplinalg.kernels.cpu.batched import threads
from mplinalg.kernels.cpu.batched import trsm as kernels
from mplinalg.ops import numpy_batched_plan as plan

from .products import route, size, wide

__all__ = ["route"]  # a fixture

DTYPES = ["float32", "float64", "complex64", "complex128"]
OPERATIONS = {
    "N": lambda x: x,
    "T": lambda x: x.swapaxes(-1, -2),
    "C": lambda x: x.swapaxes(-1, -2).conj(),
}


def normal(rng, shape, dtype=float):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def triangle(rng, shape, lower, unit, dtype=float):
    """A triangle, and the same with NaN where it is not to be read."""
    a = normal(rng, shape, dtype)
    n = shape[-1]
    if unit:
        a = a / n
    read = np.tril(np.ones((n, n), bool)) if lower else np.triu(np.ones((n, n), bool))
    if unit:
        read &= ~np.eye(n, dtype=bool)
    clean = np.where(read, a, np.eye(n) if unit else 0).astype(dtype)
    return clean, np.where(read, a, np.nan).astype(dtype)


def assert_solves(a, x, b):
    """|b - a x| <= c n u |a||x|, entry by entry (Higham 2002, theorem 8.5)."""
    u = np.finfo(x.dtype).eps / 2
    n = a.shape[-1]
    bound = (n + 10) * u * (size(a) @ size(x))
    assert np.all(np.abs(wide(b) - wide(a) @ wide(x)) <= bound)


@pytest.mark.parametrize(
    ("dtype", "n"),
    [("float64", n) for n in [*range(1, 9), 16, 17, 33, 65]]
    + [(dtype, n) for dtype in DTYPES if dtype != "float64" for n in (1, 3, 16, 17)],
)
def test_every_size(rng, monkeypatch, dtype, n):
    monkeypatch.setattr(plan, "STRAIGHT_FROM", 0)
    for lower, nrhs in ((True, 1), (False, 3)):
        clean, given = triangle(rng, (7, n, n), lower, False, dtype)
        b = normal(rng, (7, n, nrhs), dtype)
        x = trsm(given, b, lower=lower)
        assert x.dtype == dtype
        assert x.flags.c_contiguous
        assert_solves(clean, x, b)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(("n", "nrhs"), [(3, 2), (17, 1), (20, 5)])
def test_triangles(rng, route, dtype, n, nrhs):
    for lower, unit, trans in itertools.product((False, True), (False, True), OPERATIONS):
        clean, given = triangle(rng, (5, n, n), lower, unit, dtype)
        b = normal(rng, (5, n, nrhs), dtype)
        for layout in (given, np.ascontiguousarray(given.swapaxes(1, 2)).swapaxes(1, 2)):
            x = trsm(layout, b, lower=lower, unit_diagonal=unit, trans=trans)
            assert_solves(OPERATIONS[trans](clean), x, b)
    for number, trans in enumerate(OPERATIONS):
        options = {"lower": lower, "unit_diagonal": unit}
        one, other = (trsm(given, b, trans=t, **options) for t in (number, trans))
        assert np.array_equal(one, other)


def test_default_is_that_of_scipy(rng):
    a, b = triangle(rng, (3, 3), False, False)[0], normal(rng, 3)
    x = trsm(a, b)
    assert x.shape == (3,)
    assert_solves(a, x[:, None], b[:, None])
    assert_solves(a, scipy.linalg.solve_triangular(a, b)[:, None], b[:, None])


def test_straight_code_is_of_the_sizes_it_is_for(rng, monkeypatch):
    seen = []
    small = kernels.small
    monkeypatch.setattr(kernels, "small", lambda *args: (seen.append(args[:2]), small(*args))[1])
    for n, nrhs, members in ((4, 1, 2000), (4, 1, 10), (17, 1, 1000), (3, 17, 1000)):
        clean, given = triangle(rng, (members, n, n), True, False)
        b = normal(rng, (members, n, nrhs))
        assert_solves(clean, trsm(given, b, lower=True), b)
    assert seen == [(4, 1)]


@pytest.mark.parametrize("n", [3, 18])
def test_every_layout(rng, route, n):
    clean, given = triangle(rng, (4, n, n), True, False)
    b = normal(rng, (4, n, 2))
    spread = np.full((8, 2 * n, 3 * n), np.nan)[::-2, ::2, ::3]
    spread[...] = given
    flipped = np.ascontiguousarray(given[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    columns = np.zeros((2, n, 9))[:, :, ::-2][..., 1:3]
    columns[...] = b[:2]
    for a in (spread, flipped, np.asfortranarray(given)):
        a.flags.writeable = False
        assert_solves(clean, trsm(a, b, lower=True), b)
        assert_solves(clean[:2], trsm(a[:2], columns, lower=True), columns)
    same = np.broadcast_to(b[0, :, :1], b.shape)
    assert_solves(clean, trsm(spread, same, lower=True), same)


@pytest.mark.parametrize("n", [3, 18])
def test_batches_broadcast(rng, route, n):
    clean, given = triangle(rng, (2, 1, n, n), False, False)
    for shape in ((n, 2), (4, n, 2), (3, 1, 4, n, 1), (2, 1, n, 0), (0, n, 2)):
        b = normal(rng, shape)
        x = trsm(given, b)
        assert x.shape == (*np.broadcast_shapes((2, 1), shape[:-2]), *shape[-2:])
        assert_solves(clean, x, b)
    b = normal(rng, n)
    x = trsm(given, b)
    assert x.shape == (2, 1, n)
    assert_solves(clean, x[..., None], b[:, None])
    assert trsm(np.ones((3, 0, 0)), np.ones((0, 2))).shape == (3, 0, 2)


@pytest.mark.parametrize("n", [3, 18])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_singular_members_are_named(rng, route, dtype, n):
    given = triangle(rng, (4, 10, n, n), True, False, dtype)[1]
    b = normal(rng, (4, 10, n, 2), dtype)
    good = trsm(given, b, lower=True)
    bad = [(0, 3), (2, 7)]
    given[0, 3, 1, 1], given[2, 7, 2, 2], given[2, 7, 0, 0] = 0, 0, 0
    with pytest.raises(LinAlgError, match=r"2 of 40 members, \[\(0, 3\), \(2, 7\)\]; .* entry 2"):
        trsm(given, b, lower=True)
    with pytest.raises(LinAlgError, match=r"1 of 10 members, \[7\]; entry 1 of the diagonal"):
        trsm(given[2], b[2], lower=True)
    x = trsm(given, b, lower=True, raise_on_failure=False)
    for index in bad:
        assert np.isnan(x[index]).all()
        x[index] = good[index]
    assert np.array_equal(x, good)
    unit = trsm(given, b, lower=True, unit_diagonal=True)
    assert np.isfinite(unit).all()
    with pytest.raises(LinAlgError, match="the matrix; entry 2"):
        trsm(given[0, 3], b[0, 3], lower=True)
    one = trsm(given[0, 3], b[0, 3, :, 0], lower=True, raise_on_failure=False)
    assert np.isnan(one).all()


@pytest.mark.parametrize("n", [3, 18])
def test_a_bad_member_stays_alone(rng, route, n):
    given = triangle(rng, (30, n, n), False, False)[1]
    b = normal(rng, (30, n, 2))
    good = trsm(given, b)
    given[4, 0, 1], given[9, 1, 1], b[17, 1, 0] = np.nan, np.inf, np.inf
    x = trsm(given, b)
    assert np.array_equal(np.delete(x, [4, 9, 17], 0), np.delete(good, [4, 9, 17], 0))
    assert np.isnan(x[4, 0]).all()
    assert not np.isfinite(x[17, 1, 0])
    assert np.array_equal(x[17, :, 1], good[17, :, 1])


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_quotients_that_are_in_range(route, dtype):
    numbers = [1e-200, 1e200, 1e307]
    if route == "straight":
        numbers.append(1e-310)  # BLAS, and SciPy with it, multiplies by the reciprocal
    turns = [1.0] if dtype == "float64" else [1.0, 1j, 1 + 1j, 1 - 1j, 3 + 1j, -1 + 3j]
    for value in (number * turn for number in numbers for turn in turns):
        a = np.full((5, 2, 2), value, dtype)
        x = trsm(a, a, lower=True)
        assert np.allclose(x, [[1, 1], [0, 0]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n", "members"), [(2, 100_003), (3, 10_007), (2, 1), (18, 307)])
def test_many_members(rng, n, members):
    clean, given = triangle(rng, (members, n, n), True, False)
    b = normal(rng, (members, n, 1))
    assert_solves(clean, trsm(given, b, lower=True), b)


@pytest.mark.parametrize(("n", "members"), [(3, 200_003), (20, 20_001)])
def test_threads_give_the_same_bits(rng, monkeypatch, n, members):
    given = triangle(rng, (members, n, n), True, False)[1]
    given[members // 2, 1, 1] = 0
    b = normal(rng, (members, n, 1))
    chunks, run = [], threads.run_chunks
    monkeypatch.setattr(threads, "run_chunks", lambda *args: chunks.append(len(run(*args))))
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "blas_threads", lambda count=count: count)
        found.append(trsm(given, b, lower=True, raise_on_failure=False))
    assert chunks[0] == 1 < min(chunks[1:])
    assert np.array_equal(found[0], found[1], equal_nan=True)
    assert np.array_equal(found[0], found[2], equal_nan=True)


def test_dtypes(rng):
    a = np.tril(rng.integers(1, 5, (6, 3, 3)))
    b = rng.integers(0, 5, (6, 3, 2))
    x = trsm(a, b, lower=True)
    assert x.dtype == "float64"
    assert_solves(a.astype(float), x, b.astype(float))
    assert trsm(a.astype("f2"), b, lower=True).dtype == "float64"
    assert trsm(a.astype("f4"), b.astype("f2"), lower=True).dtype == "float32"
    assert trsm(a.astype(">f8"), b.astype("c8"), lower=True).dtype == "complex128"


def test_shapes_that_do_not_fit(rng):
    a = np.ones((5, 3, 3))
    with pytest.raises(ValueError, match=r"square matrices, got a.shape=\(5, 3, 2\)"):
        trsm(a[:, :, :2], a)
    with pytest.raises(ValueError, match=r"a.shape=\(5, 3, 3\) .* b.shape=\(5, 4, 1\)"):
        trsm(a, np.ones((5, 4, 1)))
    with pytest.raises(ValueError, match=r"b\[..., None\]"):
        trsm(a, np.ones((5, 3)))
    with pytest.raises(ValueError, match="trans must be"):
        trsm(a, a, trans="H")
