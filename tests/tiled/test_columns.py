"""Factorizations whose tiles are whole block columns: run one task after the other, and on Dask."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

import mplinalg
from mplinalg import LinAlgError, LinAlgWarning
from mplinalg.ops.dispatch import ops_for
from mplinalg.precision import FP16, FP32, FP64
from mplinalg.testing import backward_error
from mplinalg.tiled import LocalExecutor, TiledMatrix, lu_factor, solve
from mplinalg.tiled.columns import (
    cholesky_columns,
    cholesky_solve_columns,
    column_places,
    lu_columns,
    lu_solve_columns,
)
from mplinalg.tiled.dask import ColumnTiling
from mplinalg.tiled.grid import Grid, column_grid
from mplinalg.tiled.plan import needed

OPS = ops_for(np.empty(0))
DTYPES = ["float32", "float64", "complex64", "complex128"]
ORDERS = [(1, 1), (1, 4), (5, 2), (64, 16), (65, 16), (50, 49), (50, 90)]


def drawn(rng, shape, dtype):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return a.astype(dtype)


def definite(rng, n, dtype):
    g = drawn(rng, (n, n), dtype)
    return g @ g.conj().T + n * np.eye(n, dtype=dtype)


def run(program, tiles):
    """All tiles after the tasks, whose shapes and dtypes are those declared."""
    tiles = {key: tile.copy() for key, tile in tiles.items()}
    assert program.inputs() <= set(tiles)
    for task in program.tasks:
        updates = [tiles[key] for key in task.updates]
        written = task.run(OPS, [tiles[key] for key in task.reads], updates)
        tiles.update(zip(task.writes, written, strict=True))
    for key in program.results:
        declared = program.tiles[key]
        if key[0] == "moves":  # at most so many
            assert tiles[key].shape[1] <= declared.shape[1]
        else:
            assert (tiles[key].shape, tiles[key].dtype) == (declared.shape, declared.dtype)
    return tiles


def factored(a, w, method, fmt=FP64):
    """Grid, and the tiles of the factors of a."""
    grid = Grid(a.shape, (len(a), w))
    letter, make = {"LU": ("A", lu_columns), "Cholesky": ("L", cholesky_columns)}[method]
    places = zip(*column_places(grid, method), strict=True)
    inputs = {(letter, k, k): a[place] for k, place in enumerate(places)}
    return grid, run(make(grid, a.dtype, fmt), inputs)


def meets_the_test(a, x, b, units=30):
    """LAPACK's bound: backward errors of 30 n u."""
    return bool(np.all(backward_error(a, x, b) <= units * len(a) * np.finfo(a.dtype).eps / 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "w"), ORDERS)
@pytest.mark.parametrize("trans", ["N", "T", "C"])
@pytest.mark.parametrize("method", ["LU", "Cholesky"])
def test_solves(rng, monkeypatch, n, w, dtype, trans, method):
    a = drawn(rng, (n, n), dtype) if method == "LU" else definite(rng, n, dtype)
    grid, factors = factored(a, w, method)
    op = {"N": a, "T": a.T, "C": a.conj().T}[trans]
    make = {"LU": lu_solve_columns, "Cholesky": cholesky_solve_columns}[method]
    for step in (1, 2**25):  # a task for each block column, and for all of them
        monkeypatch.setattr("mplinalg.tiled.columns._STEP_BYTES", step)
        for nrhs in (0, 1, 3):
            b = drawn(rng, (n, nrhs), dtype)
            program = make(grid, nrhs, a.dtype, a.dtype, trans)
            assert len(program.tasks) == 2 * (len(grid.columns) if step == 1 else 1)
            x = run(program, factors | {("x", 0): b})[("x", 0)]
            assert meets_the_test(op, x, b)


@pytest.mark.parametrize("trans", ["N", "T", "C"])
@pytest.mark.parametrize("method", ["LU", "Cholesky"])
def test_solves_in_a_wider_format_than_the_factors(rng, trans, method):
    """x in double precision is the exact solution of the factors, but for that precision."""
    n = 40
    a = definite(rng, n, "complex64")
    grid, factors = factored(a, 16, method)
    make = {"LU": lu_solve_columns, "Cholesky": cholesky_solve_columns}[method]
    wide = {key: t.astype("c16") if t.dtype.kind == "c" else t for key, t in factors.items()}
    b = drawn(rng, (n, 2), "complex128")
    found, expected = (
        run(make(grid, 2, held, b.dtype, trans), tiles | {("x", 0): b})[("x", 0)]
        for held, tiles in ((a.dtype, factors), (b.dtype, wide))
    )
    assert found.dtype == np.complex128
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "w"), ORDERS)
def test_factors_are_those_of_scipy(rng, n, w, dtype):
    a = drawn(rng, (n, n), dtype)
    grid, tiles = factored(a, w, "LU")
    _, _, u = scipy.linalg.lu(a.astype(np.result_type(dtype, "f8")))
    found = np.zeros_like(u)
    for k, columns in enumerate(grid.columns):
        found[: columns.stop, columns] = np.triu(tiles[("U", k, k)], -columns.start)
    scale = abs(u).max() * n**2 * np.linalg.cond(a.astype("c16"))
    bound = np.finfo(dtype).eps * scale
    assert np.all(abs(found - u) <= bound)
    sizes = np.hstack([tiles[("sizes", k)] for k in range(len(grid.columns))])
    own = abs(found.astype(dtype))
    assert np.array_equal(sizes, [own.diagonal(), own.max(axis=0)])
    c = definite(rng, n, dtype)
    grid, tiles = factored(c, w, "Cholesky")
    lower = scipy.linalg.cholesky(c.astype(u.dtype), lower=True)
    for k, columns in enumerate(grid.columns):
        difference = np.tril(tiles[("L", k, k)]) - lower[columns.start :, columns]
        bound = n**2 * np.finfo(dtype).eps * np.linalg.cond(c) * abs(lower).max()
        assert np.all(abs(np.tril(difference)) <= bound)
        assert np.allclose(tiles[("sizes", k)][0], lower.diagonal()[columns].real, 0, bound)


@pytest.mark.parametrize("k", range(7))
def test_info(rng, k):
    """The first pivot that is zero, counted from 1; the minor that is not positive."""
    a = np.diag(np.arange(1.0, 8.0))
    a[k, k] = 0
    if k < 5:
        a[6, 6] = 0  # a later one is not told
    _, tiles = factored(a, 3, "LU")
    infos = [int(tiles[("info", j)][0]) for j in range(3)]
    assert next(info for info in infos if info) == k + 1
    a[k, k] = -1
    _, tiles = factored(a, 3, "Cholesky")
    infos = [int(tiles[("info", j)][0]) for j in range(3)]
    assert next(info for info in infos if info) == k + 1


@pytest.mark.parametrize("method", ["LU", "Cholesky"])
def test_low_formats_round_the_products(rng, method):
    n = 60
    a = definite(rng, n, "float32") / n
    grid, low = factored(a, 16, method, FP16)
    _, high = factored(a, 16, method, FP32)
    make = {"LU": lu_solve_columns, "Cholesky": cholesky_solve_columns}[method]
    b = drawn(rng, (n, 1), "float32")
    program = make(grid, 1, a.dtype, a.dtype, "N")
    errors = [
        backward_error(a, run(program, tiles | {("x", 0): b})[("x", 0)], b).max()
        for tiles in (high, low)
    ]
    assert errors[0] <= n * 2.0**-24 < errors[1] <= n * 2.0**-11


@pytest.mark.parametrize("make", [lu_columns, cholesky_columns])
def test_so_many_tasks(make):
    """Those that update, those that finish, and those that part U from L."""
    program = make(Grid((50, 50), (50, 10)), np.dtype("f8"), FP64)
    finished = 10 if make is lu_columns else 5
    assert len(program.tasks) == 10 + finished
    assert {task.home for task in program.tasks} == set(range(5))
    complete = np.dtype("f8").itemsize * 50 * 10
    assert needed(program) >= 2 * complete


@pytest.mark.parametrize("n", [0, 1, 300, 2000, 6000, 10**5, 10**6])
@pytest.mark.parametrize("threads", [1, 2, 64])
def test_widths(n, threads):
    grid = column_grid(n, np.dtype("f4"), threads, 1024, None)
    width = grid.tile[1]
    assert sum(c.stop - c.start for c in grid.columns) == n
    assert 1 <= width <= 1024
    assert width * n * 4 <= 2**26 or width == 1
    assert len(grid.columns) >= min(4 * threads, n // 384)
    assert column_grid(n, np.dtype("f4"), threads, 1024, 7).tile[1] == 7
    with pytest.raises(ValueError, match="tile must be a positive number of rows"):
        column_grid(n, np.dtype("f4"), threads, 1024, 0)


class Columns(LocalExecutor):
    """This machine, with the layout of a cluster."""

    layout = "columns"

    def tiling(self, n, columns, method, dtype, first, tile, *, is_identified):
        return ColumnTiling(n, dtype, 2, self.largest_tile, tile)

    def reserving(self, nbytes):
        return self


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["here", "cluster"])
def executor(request):
    if request.param == "here":
        return Columns("100 MB")
    from mplinalg.tiled import DaskExecutor

    return DaskExecutor(request.getfixturevalue("client"))


pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "w"), [(0, None), (1, None), (65, 16)])
@pytest.mark.parametrize("assume_a", ["gen", "pos"])
def test_solve(rng, executor, n, w, dtype, assume_a):
    a = drawn(rng, (n, n), dtype) if assume_a == "gen" else definite(rng, n, dtype)
    for shape in ((n,), (n, 3), (n, 0)):
        b = drawn(rng, shape, dtype)
        x, report = solve(
            a, b, tile=w, assume_a=assume_a, executor=executor, full_output=True
        )  # fmt: skip
        assert x.shape == shape
        assert x.dtype == dtype
        assert np.all(backward_error(a, x, b) <= np.sqrt(max(n, 4)) * np.finfo(dtype).eps / 2)
        assert report.tile == (w or report.tile)


def test_the_ladder_is_climbed(rng, executor):
    n = 96
    u, _ = np.linalg.qr(rng.standard_normal((n, n)))
    v, _ = np.linalg.qr(rng.standard_normal((n, n)))
    a = (u * np.geomspace(1, 1e-11, n)) @ v
    b = rng.standard_normal(n)
    x, report = solve(a, b, tile=20, executor=executor, full_output=True)
    assert backward_error(a, x, b) <= np.sqrt(n) * 2.0**-53
    assert (
        report.precision == solve(a, b, tile=20, memory_limit="1 MB", full_output=True)[1].precision
    )


def test_what_the_factors_tell_is_what_tiles_tell(rng, executor):
    """Growth, sizes of columns and condition, as from the layout in tiles."""
    from mplinalg.refine.ladder import Rung

    n = 50
    a = rng.standard_normal((n, n))
    for method, matrix in (("LU", a), ("Cholesky", a @ a.T + np.eye(n))):
        found = []
        for where in (executor, LocalExecutor("10 MB")):
            make = lu_factor if method == "LU" else mplinalg.tiled.cho_factor
            f = make(matrix, tile=16, executor=where, precision="fp64")
            factors = f._matrix.factorize(Rung(FP64, method))
            norm1 = abs(matrix).sum(axis=0).max()
            found.append((factors.growth(f._matrix.amax), factors.rcond(norm1, np.float64)))
            sizes = factors.column_sizes()
            assert (sizes is None) == (method == "Cholesky")
            if sizes is not None:
                assert sizes.shape == (n,)
                assert (sizes > 0).all()
        exact = 1 / np.linalg.cond(matrix, 1)
        assert exact <= found[0][1] * (1 + 1e-8) <= 10 * exact
        assert np.isclose(found[0][1], found[1][1], 1e-6)
        # LU pivots otherwise in tiles; the factors of Cholesky are unique
        assert np.isclose(found[0][0], found[1][0], *((0, 10) if method == "LU" else (1e-10, 0)))


def test_singular(executor):
    a = np.diag([1.0, 2.0, 0.0, 3.0, 0.0])
    with pytest.raises(LinAlgError, match="pivot 3 of 5 is exactly zero"):
        solve(a, np.ones(5), tile=2, executor=executor)
    with pytest.raises(LinAlgError, match="leading minor of order 3"):
        solve(a, np.ones(5), tile=2, assume_a="pos", executor=executor)


def test_graded_and_extreme_matrices(rng, executor):
    """Scaled on the way to the workers."""
    n = 40
    a = rng.standard_normal((n, n)) * np.geomspace(1, 1e200, n)[:, None]
    b = a @ np.ones(n)
    with pytest.warns(LinAlgWarning, match="ill-conditioned matrix"):
        x = solve(a, b, tile=12, executor=executor)
    assert backward_error(a, x, b) <= np.sqrt(n) * 2.0**-53


@pytest.mark.parametrize(
    ("rows", "columns", "count"),
    [(1, 1, 1), (2, 5, 2), (101, 7, 2), (2000, 2000, 2), (6000, 6000, 6)],
)
def test_each_thread_has_as_many_blocks_of_rows(client, rows, columns, count):
    from mplinalg.tiled import DaskExecutor
    from mplinalg.tiled.passes import row_blocks

    most = DaskExecutor(client).block_bytes(rows, 8 * columns)
    assert most < 2**26 + 8 * columns  # and part of a row
    assert len(row_blocks((rows, columns), 8, most)) == count


def test_few_tasks_and_small_transfers(rng, client, monkeypatch):
    """Blocks are read by the task that needs them; no column comes to the client."""
    from mplinalg.tiled import DaskExecutor

    submitted, gathered = [], []
    submit, gather = client.submit, client.gather

    def watched_submit(function, *args, **options):
        submitted.append(function.__name__ if hasattr(function, "__name__") else "reading")
        return submit(function, *args, **options)

    def watched_gather(futures, *args, **options):
        found = gather(futures, *args, **options)
        for whole in found:
            gathered.extend(x.nbytes for x in (whole if isinstance(whole, tuple) else (whole,)))
        return found

    n = 240
    a = rng.standard_normal((n, n))
    source = TiledMatrix.from_function(Entries(a), (n, n))
    monkeypatch.setattr(client, "submit", watched_submit)
    monkeypatch.setattr(client, "gather", watched_gather)
    monkeypatch.setattr(client, "scatter", None)
    f = lu_factor(source, tile=60, executor=DaskExecutor(client))
    assert submitted.count("_run") == 2 + 6 + 2 * 4  # measuring, updates, finishing
    assert submitted.count("reading") == 4
    assert len(submitted) <= 16 + 4 + 5 * 4
    submitted.clear()
    b = rng.standard_normal(n)
    x = f.solve(b)
    assert backward_error(a, x, b) <= np.sqrt(n) * 2.0**-53
    assert max(gathered) <= 2 * 8 * n  # two vectors


class Entries:
    """Those of an array, as a function."""

    def __init__(self, a):
        self.a = a

    def __call__(self, rows, columns):
        return self.a[np.ix_(rows, columns)]
