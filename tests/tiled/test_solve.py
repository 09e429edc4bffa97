"""tiled.solve: the promise of the dense solver on every matrix, whatever is in memory at once."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mplinalg
from mplinalg import LinAlgError, LinAlgWarning, Status
from mplinalg.testing import backward_error, gallery
from mplinalg.tiled import LimitTooSmall, LocalExecutor, TiledMatrix, solve
from mplinalg.tiled.traffic import Traffic

FINITE = [name for name in gallery.names() if gallery.facts(name).finite]
SEVERE = ["gfpp"]
"""Matrices whose pivots grow beyond all bounds, which the dense solver leaves to QR."""


def outcome(function, *args, **keywords):
    """("ok" | "warns" | the exception, x)"""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LinAlgWarning)
        try:
            x = function(*args, **keywords)
        except LinAlgError as error:
            return type(error).__name__, None
    return ("warns" if caught else "ok"), x


def meets_the_test(a, x, b):
    u = np.finfo(x.dtype).eps / 2
    return bool(np.all(backward_error(a, x, b) <= np.sqrt(max(len(a), 4)) * u))


@pytest.mark.parametrize("name", FINITE)
def test_gallery(name):
    dtype = "complex128" if name == "helmholtz_bem" else "float64"
    a = gallery.matrix(name, 90, dtype=dtype)
    with np.errstate(over="ignore"):
        b = a @ np.ones(90)
    word, x = outcome(solve, a, b, tile=25, memory_limit="1MB")
    expected, _ = outcome(mplinalg.solve, a, b)
    if name == "denormal" or name in SEVERE:  # its scaled copy is a matrix like others
        assert word in ("ok", "warns")
    else:
        assert word == expected
    if word == "ok":
        assert meets_the_test(a, x, b)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(
    ("n", "tile"), [(1, 1), (1, 5), (2, 1), (7, 3), (64, 16), (65, 16), (50, 90)]
)
@pytest.mark.parametrize("assume_a", ["gen", "pos"])
def test_orders_and_dtypes(rng, dtype, n, tile, assume_a):
    a = rng.standard_normal((n, n)).astype(dtype)
    if a.dtype.kind == "c":
        a += 1j * rng.standard_normal((n, n)).astype(a.real.dtype)
    if assume_a == "pos":
        a = a @ a.conj().T + np.eye(n, dtype=dtype)
    for shape in ((n,), (n, 1), (n, 3), (n, 0)):
        b = rng.standard_normal(shape).astype(dtype)
        kept = a.copy(), b.copy()
        x = solve(a, b, tile=tile, assume_a=assume_a, memory_limit="1MB")
        assert x.shape == shape
        assert x.dtype == dtype
        assert meets_the_test(a, x, b)
        assert np.array_equal(a, kept[0])
        assert np.array_equal(b, kept[1])


def test_empty():
    assert solve(np.empty((0, 0)), np.empty(0)).shape == (0,)
    assert solve(np.empty((0, 0)), np.empty((0, 2))).shape == (0, 2)


def test_memory_changes_the_order_of_work_but_no_bit_of_x(rng):
    a, b = rng.standard_normal((200, 200)), rng.standard_normal((200, 2))
    found = [solve(a, b, tile=20, memory_limit=k) for k in (90_000, 120_000, "1 MB", "1 GB")]
    assert all(np.array_equal(x, found[0]) for x in found)


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda a: a[::-1, ::-1], lambda a: a.astype(">f8")]
)
def test_layouts(rng, layout):
    a, b = rng.standard_normal((60, 60)), rng.standard_normal(60)
    given = layout(a)
    assert meets_the_test(np.asarray(given, dtype="f8"), solve(given, b, tile=16), b)


def test_integers_and_mixed_dtypes(rng):
    a = rng.integers(-9, 9, (30, 30))
    assert solve(a, rng.integers(-9, 9, 30), tile=8).dtype == np.float64
    x = solve(a, 1j * rng.standard_normal(30), tile=8)
    assert x.dtype == np.complex128
    assert solve(a.astype("f4"), np.ones(30, "f4"), tile=8).dtype == np.float32


# -- what is moved -------------------------------------------------------------------------------


def test_the_report_tells_what_was_moved(rng):
    n = 300
    a, b = rng.standard_normal((n, n)), rng.standard_normal(n)
    limit = n * n * 8 // 4
    x, report = solve(a, b, memory_limit=limit, full_output=True)
    traffic = report.traffic
    assert report.status is Status.CONVERGED
    assert report.precision == "fp32"
    assert meets_the_test(a, x, b)
    assert isinstance(traffic, Traffic)
    assert 0 < traffic.peak <= limit == report.memory_limit
    assert traffic.moved <= traffic.predicted <= 1.05 * traffic.moved
    passes = 2 + report.iterations  # to measure A, to factor it, and for each residual
    assert traffic.loaded >= passes * a.nbytes * 0.9
    assert 0 <= traffic.overlap <= 1
    assert "foretold" in str(report)
    assert f"tiles of {report.tile}" in str(report)


@pytest.mark.parametrize("side", ["rows", "columns"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_graded_over_the_whole_range(rng, dtype, side):
    powers = 2.0 ** np.linspace(-660, 660, 90).round()
    a = rng.standard_normal((90, 90)).astype(dtype)
    x = rng.standard_normal(90)
    b = a @ x
    scaled = a * powers[:, None] if side == "rows" else a * powers
    rhs = b * powers if side == "rows" else b
    word, found = outcome(solve, scaled, rhs, tile=25)
    assert word == outcome(mplinalg.solve, scaled, rhs)[0] == "warns"  # that rcond is small
    # to a scaled system the answer is as good as to the one that it comes from
    assert meets_the_test(a, found * powers if side == "columns" else found, b)


def test_a_limit_that_is_too_small_is_refused_before_anything_is_read():
    def never(rows, columns):
        raise AssertionError("the matrix was read")

    a = TiledMatrix.from_function(never, (1000, 1000))
    with pytest.raises(LimitTooSmall, match=r"at least [\d,]+ bytes are needed"):
        solve(a, np.ones(1000), memory_limit=10_000)
    with pytest.raises(LimitTooSmall):
        solve(a, np.ones((1000, 100)), memory_limit=1_000_000)  # b alone is as much


@pytest.mark.parametrize(
    "options",
    [
        {}, {"tile": 30}, {"tile": 200}, {"precision": "bf16"}, {"precision": "fp64"},
        {"refine": "gmres"}, {"residual": "extended"}, {"assume_a": "pos"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("nrhs", [1, 40])
@pytest.mark.parametrize("limit", [1, 30_000, 200_000])
def test_the_figure_of_a_limit_that_is_too_small_is_enough(rng, options, nrhs, limit):
    """Of a matrix that takes the ladder to its end, too; and nothing was read before."""
    n, calls = 120, []
    if "assume_a" in options:
        g = gallery.randsvd(n, 1e6, 2, np.float64, rng)
        a = g @ g.T + 1e-11 * np.eye(n)
    else:
        a = gallery.randsvd(n, 1e11, 2, np.float64, rng)

    def entries(rows, columns):
        calls.append(rows)
        return a[np.ix_(rows, columns)]

    matrix, b = TiledMatrix.from_function(entries, (n, n)), rng.standard_normal((n, nrhs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        too_small = None
        try:
            solve(matrix, b, memory_limit=limit, **options)
        except LimitTooSmall as error:
            too_small, read = error, len(calls)
        if too_small is not None:
            assert too_small.limit == limit < too_small.needed
            assert read == 0
            enough = too_small.needed
            _, report = solve(matrix, b, memory_limit=enough, full_output=True, **options)
            assert report.traffic.peak <= enough


def test_everything_in_memory_where_it_fits(rng, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "there is no such directory"))
    a = rng.standard_normal((100, 100))
    solve(a, np.ones(100), tile=10, memory_limit="10 MB")
    with pytest.raises(FileNotFoundError):
        solve(a, np.ones(100), tile=10, memory_limit=35_000)


def test_temporary_files_are_removed(rng, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    a = rng.standard_normal((60, 60))
    solve(a, np.ones(60), tile=10, memory_limit=20_000)
    assert not list(tmp_path.iterdir())


# -- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16", "fp16"])
def test_precisions(rng, precision):
    a, b = rng.standard_normal((80, 80)) + 8 * np.eye(80), rng.standard_normal(80)
    x, report = solve(a, b, tile=30, precision=precision, full_output=True)
    assert report.rungs[0].format == precision
    assert meets_the_test(a, x, b)


def test_the_ladder_is_climbed(rng):
    a = gallery.randsvd(80, 1e12, 2, np.float64, rng)
    b = rng.standard_normal(80)
    x, report = solve(a, b, tile=30, full_output=True)
    assert report.precision == "fp64"
    assert report.rungs[0].format == "fp32"
    assert meets_the_test(a, x, b)
    with pytest.raises(LinAlgError, match="fallback=False"):
        solve(a, b, tile=30, fallback=False, refine="classical")


def test_a_pinned_precision_that_is_left_is_told(rng):
    a = gallery.randsvd(60, 1e9, 2, np.float64, rng)
    with pytest.warns(LinAlgWarning, match="precision='bf16' could not deliver"):
        solve(a, rng.standard_normal(60), tile=20, precision="bf16", refine="classical")


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0), (35, 3), (39, 39)])
def test_an_entry_that_is_not_finite(rng, bad, place):
    a, b = rng.standard_normal((40, 40)), rng.standard_normal(40)
    with pytest.raises(ValueError, match="infs or NaNs"):
        solve(a, np.where(np.arange(40) == place[0], bad, b), tile=10)
    a[place] = bad
    with pytest.raises(ValueError, match="infs or NaNs"):
        solve(a, b, tile=10)


@pytest.mark.parametrize(
    ("a", "b", "error", "text"),
    [
        (np.ones((3, 4)), np.ones(3), ValueError, r"square matrix, got a of shape \(3, 4\)"),
        (np.ones(3), np.ones(3), ValueError, r"two dimensions; got a of shape \(3,\)"),
        (np.ones((3, 3)), np.ones(4), ValueError, r"b of shape \(4,\) does not fit .*\(3, 3\)"),
        (np.ones((3, 3)), np.ones((3, 2, 2)), ValueError, r"b of shape \(3, 2, 2\) does not fit"),
        (np.array([["a"]]), np.ones(1), TypeError, "numeric"),
        (np.ma.masked_array(np.eye(2)), np.ones(2), ValueError, "masked"),
    ],
)
def test_bad_arrays(a, b, error, text):
    with pytest.raises(error, match=text):
        solve(a, b)


def test_an_executor_that_is_none():
    for executor in ("cpu", LocalExecutor, 10**6):
        with pytest.raises(TypeError, match="executor must be a LocalExecutor or DaskExecutor"):
            solve(np.eye(3), np.ones(3), executor=executor)


@pytest.mark.parametrize(
    "options",
    [
        {"assume_a": "sym"}, {"precision": "fp8"}, {"refine": "best"}, {"tol": -1.0},
        {"max_iter": 1.5}, {"resume": True}, {"tile": 0}, {"memory_limit": "a lot"},
        {"memory_limit": 0}, {"residual": "exact"},
        {"memory_limit": 10**6, "executor": LocalExecutor(10**6)},
    ],
)  # fmt: skip
def test_bad_options(options):
    with pytest.raises(ValueError, match=r".+"):
        solve(np.eye(3), np.ones(3), **options)


def test_a_matrix_that_is_not_definite(rng):
    a = rng.standard_normal((40, 40))
    a = a + a.T
    with pytest.raises(LinAlgError, match="leading minor of order"):
        solve(a, np.ones(40), tile=10, assume_a="pos")


def test_a_singular_matrix():
    with pytest.raises(LinAlgError, match="pivot 2 of 3 is exactly zero"):
        solve(np.diag([1.0, 0.0, 2.0]), np.ones(3), tile=1)
