"""batched.solve: equal to a loop of SciPy's, in any layout, and bad members spoil no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mplinalg import LinAlgError
from mplinalg.batched import Ragged, solve

from .systems import (
    DTYPES,
    FACTOR,
    backward_errors,
    check_against_scipy,
    definite,
    normal,
    regular,
    swept,
)

SIZES = [*range(1, 41), 63, 64, 65, 127, 128, 129]


# -- right answers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dtype"), swept(SIZES, DTYPES))
def test_general_systems_as_scipy_one_by_one(rng, n, dtype):
    a, b = regular(rng, 5, n, dtype), normal(rng, (5, n, 1), dtype)
    x = solve(a, b)
    assert x.dtype == dtype
    check_against_scipy(a, x, b)


@pytest.mark.parametrize(("n", "dtype"), swept(SIZES, DTYPES))
def test_definite_systems_as_scipy_one_by_one(rng, n, dtype):
    a, b = definite(rng, 5, n, dtype), normal(rng, (5, n, 1), dtype)
    x = solve(np.triu(a), b, assume_a="pos")  # the other triangle is not read
    assert x.dtype == dtype
    check_against_scipy(a, x, b, "pos")


@pytest.mark.parametrize("precision", ["auto", "fp32"])
@pytest.mark.parametrize("n", [3, 10])
def test_the_diagonal_of_definite_matrices_counts_as_real(rng, n, precision):
    """As in LAPACK; backward errors are those of the matrix that was solved with."""
    a, b = definite(rng, 9, n, "complex128"), normal(rng, (9, n, 1), "complex128")
    given = a + 5j * np.eye(n)
    options = {"assume_a": "pos", "precision": precision, "full_output": True}
    x, report = solve(given, b, **options)
    want, real = solve(a.real * np.eye(n) + a * (1 - np.eye(n)), b, **options)
    assert np.array_equal(x, want)
    assert np.array_equal(report.backward_error, real.backward_error)


@pytest.mark.parametrize("assume_a", ["gen", "pos"])
@pytest.mark.parametrize(
    ("n", "nrhs"), [(3, 2), (3, 4), (3, 5), (3, 19), (10, 2), (10, 3), (10, 4), (10, 5), (10, 19)]
)
def test_right_hand_sides(rng, n, nrhs, assume_a):
    a = regular(rng, 11, n) if assume_a == "gen" else definite(rng, 11, n)
    b = normal(rng, (11, n, nrhs))
    x = solve(a, b, assume_a=assume_a)
    assert np.all(backward_errors(a, x, b) <= FACTOR)


def test_more_right_hand_sides_than_a_tile_has_room_for(rng):
    a, b = regular(rng, 9, 20), normal(rng, (9, 20, 1000))
    x = solve(a, b)
    assert np.all(backward_errors(a, x, b) <= FACTOR)
    a = definite(rng, 9, 20)
    assert np.all(backward_errors(a, solve(a, b, assume_a="pos"), b) <= FACTOR)


@pytest.mark.slow
@pytest.mark.parametrize("assume_a", ["gen", "pos"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_too_large_for_tiles(rng, dtype, assume_a):
    n = 200
    a = regular(rng, 3, n, dtype) if assume_a == "gen" else definite(rng, 3, n, dtype)
    b = normal(rng, (3, n, 2), dtype)
    x = solve(a, b, assume_a=assume_a)
    check_against_scipy(a, x, b, assume_a)
    a[1] = 0
    with pytest.raises(LinAlgError, match=r"1 of 3 members, \[1\]"):
        solve(a, b, assume_a=assume_a)
    y = solve(a, b, assume_a=assume_a, raise_on_failure=False)
    assert np.array_equal(y[::2], x[::2])


def test_matrices_that_need_pivoting(rng):
    """Without interchanges the multipliers would be 1e8."""
    for n in (2, 8, 13):
        a = normal(rng, (33, n, n))
        a[:, np.arange(n), np.arange(n)] *= 1e-8
        b = normal(rng, (33, n, 1))
        assert np.all(backward_errors(a, solve(a, b), b) <= FACTOR)


@pytest.mark.parametrize("n", [3, 10])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 16, 101])
def test_answers_do_not_depend_on_other_members(rng, count, n):
    a, b = regular(rng, count, n), normal(rng, (count, n, 2))
    x = solve(a, b)
    assert x.shape == (count, n, 2)
    for k in range(count):
        assert np.array_equal(solve(a[k], b[k]), x[k])


def test_a_hundred_thousand(rng):
    a, b = regular(rng, 100_000, 3), normal(rng, (100_000, 3, 1))
    x = solve(a, b)
    assert np.all(backward_errors(a, x, b) <= FACTOR)


# -- shapes and layouts --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 10])
def test_layouts(rng, n):
    """Whatever the strides are: the same bits, and nothing is modified."""
    a, b = regular(rng, 24, n), normal(rng, (24, n, 2))
    want = solve(a, b)
    wide_a, wide_b = np.zeros((24, 2 * n, 3 * n)), np.zeros((24, 3 * n, 5))
    wide_a[:, ::2, 1::3], wide_b[:, 2::3, 1::2] = a, b
    last_a, last_b = (np.ascontiguousarray(v.transpose(1, 2, 0)) for v in (a, b))
    fortran_a, fortran_b = (np.ascontiguousarray(v.swapaxes(1, 2)).swapaxes(1, 2) for v in (a, b))
    back_a, back_b = a[::-1, ::-1, ::-1].copy(), b[::-1, ::-1, ::-1].copy()
    layouts = [
        (fortran_a, fortran_b),
        (wide_a[:, ::2, 1::3], wide_b[:, 2::3, 1::2]),
        (last_a.transpose(2, 0, 1), last_b.transpose(2, 0, 1)),
        (back_a[::-1, ::-1, ::-1], back_b[::-1, ::-1, ::-1]),
        (np.repeat(a, 2, axis=0)[::2], np.repeat(b, 2, axis=0)[::2]),
        (np.frombuffer(a.tobytes()).reshape(a.shape), np.frombuffer(b.tobytes()).reshape(b.shape)),
        (a.astype(">f8"), b.astype(">f8")),
    ]
    for number, (first, second) in enumerate(layouts):
        for operand in (first, second):
            operand.flags.writeable = False
        assert np.array_equal(solve(first, second), want), number
    assert np.array_equal(a, back_a[::-1, ::-1, ::-1])
    unaligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    unaligned[...] = a
    assert np.array_equal(solve(unaligned, b), want)


BATCHES = [
    ((), (3,)), ((), (3, 2)), ((4,), (3,)), ((4,), (3, 2)), ((4,), (4, 3, 2)), ((4,), (1, 3, 2)),
    ((1,), (4, 3, 2)), ((), (4, 3, 2)), ((2, 1), (5, 3, 1)), ((2, 5), (3,)), ((2, 5), (2, 5, 3, 1)),
    ((0,), (3,)), ((0,), (0, 3, 2)), ((2, 0), (3, 1)), ((4,), (4, 3, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("batch", "shape"), BATCHES, ids=str)
def test_batches_broadcast(rng, batch, shape):
    a, b = normal(rng, (*batch, 3, 3)), normal(rng, shape)
    x = solve(a, b)
    columns = b[:, None] if b.ndim == 1 else b
    whole = np.broadcast_shapes(batch, columns.shape[:-2])
    assert x.shape == (*whole, *shape[-2:])
    a, columns = (np.broadcast_to(v, whole + v.shape[-2:]) for v in (a, columns))
    x = x[..., None] if b.ndim == 1 else x
    for index in np.ndindex(whole):
        assert np.array_equal(x[index], solve(a[index], columns[index]))


@pytest.mark.parametrize("assume_a", ["gen", "pos"])
def test_no_unknowns(assume_a):
    x, report = solve(np.zeros((5, 0, 0)), np.zeros((5, 0, 2)), assume_a=assume_a, full_output=True)
    assert x.shape == (5, 0, 2)
    assert report.failed.size == 0
    assert np.array_equal(report.backward_error, np.zeros(5))


@pytest.mark.parametrize(
    ("first", "second", "want"),
    [
        ("int64", "bool", "float64"),
        ("float16", "float16", "float32"),
        ("float32", "float64", "float64"),
        ("float32", "complex64", "complex64"),
        ("longdouble", "float32", "float64"),
        ("complex64", "float64", "complex128"),
    ],
)
def test_dtypes(rng, first, second, want):
    a = (np.eye(3) * 4 + np.arange(9).reshape(3, 3)).astype(first)
    b = np.array([[1], [0], [1]]).astype(second)
    x = solve(np.stack([a] * 3), b)
    assert x.dtype == want
    assert np.all(backward_errors(np.stack([a] * 3).astype(want), x, b.astype(want)) <= FACTOR)


def test_array_likes():
    x = solve([[[2.0, 0.0], [0.0, 4.0]]], [2, 4])
    assert np.array_equal(x, [[1.0, 1.0]])
    assert np.array_equal(solve([[2, 1], [1, 1]], [[3], [2]]), [[1.0], [1.0]])


# -- lists and Ragged ----------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("form", [list, Ragged.from_list])
def test_different_orders(rng, form, vectors):
    orders = [3, 0, 10, 3, 1, 5, 10, 3]
    a = [regular(rng, 1, n)[0] if n else np.zeros((0, 0)) for n in orders]
    b = [normal(rng, (n,) if vectors else (n, 1 + k % 2)) for k, n in enumerate(orders)]
    x, report = solve(form(a), form(b), full_output=True)
    assert type(x) is type(form(a))
    assert len(x) == len(a)
    for k, found in enumerate(x):
        assert found.shape == b[k].shape
        assert np.array_equal(found, solve(a[k], b[k]))
    assert report.status.shape == (8,)
    assert np.all(report.backward_error <= np.sqrt(10) * 2.0**-53 * FACTOR)


def test_failures_in_a_list(rng):
    a = [regular(rng, 1, n)[0] for n in (2, 4, 2, 3)]
    b = [normal(rng, len(m)) for m in a]
    want = solve(a, b)
    a[2][:] = 0
    b[3][1] = np.nan
    with pytest.raises(LinAlgError, match=r"Singular: 1 of 4 members, \[2\].*NaN .* \[3\]"):
        solve(a, b)
    x, report = solve(a, b, raise_on_failure=False, full_output=True)
    assert report.failed.tolist() == [2, 3]
    assert np.isnan(x[2]).all()
    assert np.isnan(x[3]).all()
    assert all(np.array_equal(x[k], want[k]) for k in (0, 1))


def test_empty_lists():
    assert solve([], []) == []
    x, report = solve(Ragged.from_list([]), Ragged.from_list([]), full_output=True)
    assert len(x) == 0
    assert report.status.shape == (0,)
    vectors = Ragged(np.empty(0), np.empty(0, int), np.empty((0, 1), int))
    assert len(solve(vectors, vectors)) == 0


def test_lists_that_do_not_fit(rng):
    a, b = [np.eye(2), np.eye(3)], [np.ones(2), np.ones(3)]
    with pytest.raises(ValueError, match="a has 2 members and b has 1"):
        solve(a, b[:1])
    with pytest.raises(ValueError, match=r"a\[1\].shape=\(3, 3\) and b\[1\].shape=\(2,\)"):
        solve(a, [np.ones(2), np.ones(2)])
    with pytest.raises(ValueError, match=r"a\[0\].shape=\(2, 3\)"):
        solve([np.ones((2, 3))], [np.ones(2)])
    with pytest.raises(TypeError, match="both be lists"):
        solve(a, np.ones(2))


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones(3), np.ones(3), r"a.ndim=1"),
        (np.ones((2, 3, 4)), np.ones(3), r"a.shape=\(2, 3, 4\)"),
        (np.ones((5, 3, 3)), np.ones((5, 4, 1)), r"a.shape=\(5, 3, 3\) and b.shape=\(5, 4, 1\)$"),
        (np.ones((5, 3, 3)), np.ones((5, 3)), r"written b\[\.\.\., None\]"),
        (np.ones((5, 3, 3)), np.float64(1.0), r"b.shape=\(\)"),
        (np.ones((5, 3, 3)), np.ones((4, 3, 1)), r"not broadcast: \(5, 3, 3\) and \(4, 3, 1\)"),
        (np.ones((2, 2), object), np.ones(2), "object"),
        (np.ma.ones((2, 2)), np.ones(2), "masked"),
    ],
)
def test_bad_shapes(a, b, message):
    with pytest.raises(ValueError, match=message):
        solve(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"assume_a": "sym"}, "assume_a must be one of"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"tol": 2.0}, "tol must lie between 0 and 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        solve(np.eye(2), np.ones(2), **options)


def test_a_precision_wider_than_the_data():
    with pytest.raises(ValueError, match="wider than the float32"):
        solve(np.eye(2, dtype="f4"), np.ones(2, "f4"), precision="fp64")


def test_text_is_not_a_number():
    with pytest.raises(TypeError, match="numeric"):
        solve(np.array([["a"]]), np.ones(1))


# -- compiled once -------------------------------------------------------------------------------

CODE = """
import json
import numpy as np
from mplinalg import batched
from mplinalg.kernels.cpu.batched import careful, registers, tiled

for n in (3, 10):
    a = np.tile(np.eye(n) + 1, (9, 1, 1))
    batched.solve(a, np.ones((n, 1)))
kernels = [registers.gesv_kernel(3, 1), tiled.gesv_tiles, tiled.getrf_tile, tiled.solve_upper]
print(json.dumps([
    [sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())]
    for kernel in kernels
]))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if Path(path).is_dir())
    counts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=True
        )
        counts.append(json.loads(done.stdout))
    assert all(misses > 0 for _, misses in counts[0])
    # what a loaded kernel calls is loaded with it
    assert [misses for _, misses in counts[1]] == [0] * len(counts[1])
    assert all(hits > 0 for hits, _ in counts[1][:2])
