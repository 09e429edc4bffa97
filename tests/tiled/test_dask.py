"""The same programs on a Dask cluster of two processes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from mplinalg import LinAlgError
from mplinalg.testing import backward_error
from mplinalg.tiled import DaskExecutor, TiledMatrix, gemm, qr, solve, svd

distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


pytestmark = pytest.mark.filterwarnings("default")


def test_solve(client, rng, tmp_path):
    a, b = rng.standard_normal((90, 90)), rng.standard_normal((90, 2))
    np.save(tmp_path / "a.npy", a)
    for source in (a, np.load(tmp_path / "a.npy", mmap_mode="r"), da.from_array(a, chunks=40)):
        x, report = solve(source, b, executor=DaskExecutor(client), tile=30, full_output=True)
        assert np.all(backward_error(a, x, b) <= np.sqrt(90) * 2.0**-53)
        assert report.precision == "fp32"
        assert "memory          that of the workers, tiles of 30\n" in str(report)


def test_chunks_that_a_cluster_holds_are_read_by_this_process(client, rng):
    a = rng.standard_normal((60, 60))
    held = client.persist(da.from_array(a, chunks=(35, 40)))
    x = solve(held, a.sum(axis=1), memory_limit="100 kB")
    np.testing.assert_allclose(x, 1, rtol=1e-9)


def test_tiles_in_a_directory(client, rng, tmp_path):
    a, b = rng.standard_normal((60, 60)), rng.standard_normal(60)
    kept = TiledMatrix.from_array(a, 16).save(tmp_path / "a")
    x = solve(kept, b, executor=DaskExecutor(client), tile=20)
    assert backward_error(a, x, b) <= np.sqrt(60) * 2.0**-53


def test_definite(client, rng):
    g = rng.standard_normal((60, 60))
    a, b = g @ g.T + np.eye(60), rng.standard_normal(60)
    x = solve(a, b, executor=DaskExecutor(client), tile=25, assume_a="pos")
    assert backward_error(a, x, b) <= np.sqrt(60) * 2.0**-53


def test_others(client, rng):
    a, b = rng.standard_normal((50, 30)), rng.standard_normal((30, 20))
    executor = DaskExecutor(client)
    assert np.allclose(gemm(a, b, executor=executor, tile=16).to_array(), a @ b, 0, 1e-12)
    q, r = (x.to_array() for x in qr(a, executor=executor, tile=16))
    assert np.allclose(q @ r, a, 0, 1e-12)
    _, s, _ = svd(a, 3, executor=executor, oversample=27)
    assert np.allclose(s, np.linalg.svd(a)[1][:3])


def test_block_rows_are_reduced_by_a_tree(client, rng, monkeypatch):
    """Each worker has its block rows, and the triangles meet."""
    a, programs = rng.standard_normal((3000, 20)), []
    executor = DaskExecutor(client)
    run = DaskExecutor.run

    def watched(self, program, *args, **options):
        programs.append(program)
        return run(self, program, *args, **options)

    monkeypatch.setattr(DaskExecutor, "run", watched)
    for tile, blocks in ((None, 2), (300, 10)):
        q, r = (x.to_array() for x in qr(a, executor=executor, tile=tile))
        assert np.linalg.norm(q @ r - a) <= 30 * 3000 * 2.0**-53 * np.linalg.norm(a)
        assert np.linalg.norm(q.T @ q - np.eye(20)) <= 30 * 3000 * 2.0**-53
        first, second = programs[-2:]
        assert len(first.tasks) == blocks + 1  # one match of two triangles
        assert {task.home for task in second.tasks} == {0, 1}


def test_results_as_dask_arrays(client, rng, monkeypatch):
    a, b = rng.standard_normal((50, 30)), rng.standard_normal((30, 20))
    executor = DaskExecutor(client)
    c = gemm(a, b, executor=executor, tile=16).to_dask()
    q, r = (x.to_dask() for x in qr(a, executor=executor, tile=16))
    assert c.chunks == ((16, 16, 16, 2), (16, 4))
    product = (q @ r).persist()
    assert np.allclose(product.compute(), a, 0, 1e-12)
    assert np.array_equal(r.compute(), np.triu(r.compute()))
    assert np.allclose((c + 1).compute(), a @ b + 1, 0, 1e-12)
    again = gemm(c, np.ones((20, 3)), executor=executor, tile=16)  # and in
    assert np.allclose(again.to_array(), a @ b @ np.ones((20, 3)), 0, 1e-11)


def test_tiles_of_a_directory_as_a_dask_array(client, rng, tmp_path):
    a = rng.standard_normal((50, 30))
    kept = TiledMatrix.from_array(a, 16).save(tmp_path / "a")
    assert np.array_equal(kept.to_dask().compute(), a)
    c = gemm(kept, np.eye(30), executor=DaskExecutor(client), tile=16)
    assert np.array_equal(c.to_array(), a)
    assert TiledMatrix.from_array(np.zeros((0, 3))).to_dask().compute().shape == (0, 3)


def test_factors_stay_on_the_workers(client, rng, monkeypatch):
    gathered = []
    gather = client.gather

    def watched(futures, *args, **options):
        found = gather(futures, *args, **options)
        gathered.extend(getattr(x, "nbytes", 0) for x in (found if isinstance(found, list) else []))
        return found

    monkeypatch.setattr(client, "gather", watched)
    n = 120
    solve(rng.standard_normal((n, n)), np.ones(n), executor=DaskExecutor(client), tile=30)
    assert max(gathered) <= 8 * n * 4  # vectors, and no tile of 30 by 30


def test_failures_come_back(client):
    with pytest.raises(LinAlgError, match="pivot 2 of 3 is exactly zero"):
        solve(np.diag([1.0, 0.0, 2.0]), np.ones(3), tile=1, executor=DaskExecutor(client))

    def broken(rows, columns):
        raise ZeroDivisionError("on a worker")

    a = TiledMatrix.from_function(broken, (9, 9))
    with pytest.raises(ZeroDivisionError, match="on a worker"):
        solve(a, np.ones(9), tile=3, executor=DaskExecutor(client))


def test_a_worker_that_is_killed(rng):
    """Dask computes again what was lost with it."""
    n = 150
    a, b = rng.standard_normal((n, n)), rng.standard_normal(n)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        killed = []

        class Kills(DaskExecutor):
            def run(self, program, *args, **options):
                if len(program.tasks) > 50 and not killed:
                    pid = next(iter(client.run(os.getpid).values()))
                    killed.append(pid)
                    import threading

                    threading.Timer(0.2, os.kill, (pid, 9)).start()
                return super().run(program, *args, **options)

        source = da.from_array(a, chunks=50)
        x = solve(source, b, executor=Kills(client), tile=15)
    assert killed
    assert backward_error(a, x, b) <= np.sqrt(n) * 2.0**-53


def test_bad_clients_and_options(client):
    with pytest.raises(TypeError, match=r"client must be a distributed\.Client, got str"):
        DaskExecutor("tcp://localhost")
    with pytest.raises(ValueError, match="workdir is for runs on this machine"):
        solve(np.eye(2), np.ones(2), executor=DaskExecutor(client), workdir="somewhere")
