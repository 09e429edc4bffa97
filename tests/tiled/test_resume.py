"""workdir and resume: nothing finished is lost, and nothing wrong is taken for finished."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from mplinalg.tiled import TiledMatrix, solve, store

N, TILE = 120, 20
OPTIONS = {"tile": TILE, "memory_limit": 60_000}


@pytest.fixture
def system(rng):
    return rng.standard_normal((N, N)), rng.standard_normal(N)


def tiles(folder):
    return sorted((folder / "lu-fp32").glob("*.tile"))


class Stops(RuntimeError):
    pass


class Source:
    """A matrix, of which a block can be read so many times until it fails."""

    is_sendable = is_fresh = False

    def __init__(self, a, reads):
        self.a, self.left = a, reads
        self.shape, self.dtype = a.shape, a.dtype

    def read(self, rows, columns):
        self.left -= 1
        if self.left < 0:
            raise Stops("no more")
        return self.a[rows, columns]


@pytest.mark.parametrize("reads", [1, 3, 10, 20, 30, 40, 45])
def test_a_source_that_fails_in_the_middle(system, tmp_path, reads):
    a, b = system
    expected = solve(a, b, **OPTIONS)
    with pytest.raises(Stops, match="no more"):
        solve(Source(a, reads), b, workdir=tmp_path, **OPTIONS)
    done = len(tiles(tmp_path))
    counted = Source(a, 10**6)
    x = solve(counted, b, workdir=tmp_path, resume=True, **OPTIONS)
    assert np.array_equal(x, expected)
    if done:  # block columns that were finished are not read again
        whole = Source(a, 10**6)
        solve(whole, b, **OPTIONS)
        assert counted.left > whole.left


def test_threads_end_when_a_source_fails(system, tmp_path):
    import threading

    a, b = system
    before = threading.active_count()
    with pytest.raises(Stops):
        solve(Source(a, 15), b, **OPTIONS)
    assert threading.active_count() == before


def test_finished_factors_are_used_again(system, tmp_path):
    a, b = system
    x, first = solve(a, b, workdir=tmp_path, full_output=True, **OPTIONS)
    y, second = solve(a, b, workdir=tmp_path, resume=True, full_output=True, **OPTIONS)
    assert np.array_equal(x, y)
    assert second.traffic.saved < first.traffic.saved
    other = solve(a, 2 * b, workdir=tmp_path, resume=True, **OPTIONS)
    assert np.array_equal(other, 2 * x)


def test_a_damaged_tile_is_made_again(system, tmp_path):
    a, b = system
    x = solve(a, b, workdir=tmp_path, **OPTIONS)
    for path, damage in zip(
        tiles(tmp_path)[::5],
        [lambda d: d[:10], lambda d: b"", lambda d: d[:-1] + b"x", lambda d: None] * 9,
        strict=False,
    ):
        data = damage(path.read_bytes())
        path.unlink() if data is None else path.write_bytes(data)
    assert np.array_equal(solve(a, b, workdir=tmp_path, resume=True, **OPTIONS), x)


def test_another_matrix_is_refused(system, tmp_path):
    a, b = system
    solve(a, b, workdir=tmp_path, **OPTIONS)
    for i, j in ((0, 0), (N - 1, N - 1), (3, N - 2)):
        other = a.copy()
        other[i, j] *= 1 + 1e-15
        with pytest.raises(ValueError, match="is of something else: matrix"):
            solve(other, b, workdir=tmp_path, resume=True, **OPTIONS)
    signs = np.where(np.arange(N) < 2, -1.0, 1.0)
    for other in (-a, a * signs, signs[:, None] * a * signs):  # bits that cancel in plain sums
        with pytest.raises(ValueError, match="is of something else: matrix"):
            solve(other, b, workdir=tmp_path, resume=True, **OPTIONS)
    with pytest.raises(ValueError, match=r"tile \[20, 20\], not \[30, 30\]"):
        solve(a, b, workdir=tmp_path, resume=True, memory_limit=10**6, tile=30)
    with pytest.raises(FileExistsError, match="resume=True"):
        solve(a, b, workdir=tmp_path, **OPTIONS)


@contextlib.contextmanager
def quota(monkeypatch, writes):
    """A disk that takes so many files; what is left of them, in a list."""
    replace, left = os.replace, [writes]

    def taken(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", taken)
        yield left


def test_a_disk_that_is_full(system, tmp_path, monkeypatch):
    a, b = system
    expected = solve(a, b, **OPTIONS)
    exceeded = pytest.raises(OSError, match=r"[Qq]uota exceeded; \d+ tiles are kept")
    with quota(monkeypatch, 12), exceeded:
        solve(a, b, workdir=tmp_path, **OPTIONS)
    assert len(tiles(tmp_path)) == 11  # and the journal
    assert np.array_equal(solve(a, b, workdir=tmp_path, resume=True, **OPTIONS), expected)


SCRIPT = """
    import sys, numpy as np
    from mplinalg.tiled import TiledMatrix, solve

    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((400, 400)), rng.standard_normal(400)
    x = solve(a, b, tile=20, memory_limit=300_000, workdir=sys.argv[1], resume=True)
    np.save(sys.argv[2], x)
"""


def survives_kills(plain, command, rng):
    """`command` is killed at ten moments of the time that `plain` takes, and then runs on."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    began = time.perf_counter()
    subprocess.run(plain, check=True, env=environment)
    whole = time.perf_counter() - began
    killed = 0
    for share in rng.uniform(0.2, 1.0, 10):
        with subprocess.Popen(command, env=environment) as process:
            time.sleep(share * whole)
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    subprocess.run(command, check=True, env=environment)


@pytest.mark.slow
def test_ten_kills(tmp_path, rng):
    """At ten random moments while it factors; then it goes on to the same answer."""
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    work, target = tmp_path / "work", tmp_path / "x.npy"
    command = [sys.executable, str(script), str(work), str(target)]
    survives_kills([*command[:2], str(tmp_path / "other"), str(tmp_path / "y.npy")], command, rng)
    assert np.array_equal(np.load(target), np.load(tmp_path / "y.npy"))


def test_a_tiled_matrix_is_not_written_twice(rng, tmp_path):
    a = TiledMatrix.from_array(rng.standard_normal((7, 5)), 3)
    saved = a.save(tmp_path / "a")
    assert np.array_equal(saved.to_array(), a.to_array())
    with pytest.raises(FileExistsError, match="earlier run; give another directory"):
        a.save(tmp_path / "a")
    (tmp_path / "a" / "journal.jsonl").write_bytes(
        b"".join((tmp_path / "a" / "journal.jsonl").read_bytes().splitlines(keepends=True)[:-1])
    )
    with pytest.raises(ValueError, match="lacks 1 tiles"):
        TiledMatrix.open(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        TiledMatrix.open(tmp_path / "b")


HOLDER = """
    import sys, time, numpy as np
    from mplinalg.tiled import TiledMatrix, solve

    a = np.random.default_rng(5).standard_normal((120, 120))
    reads = []

    def block(rows, columns):
        reads.append(1)
        if len(reads) > 40:  # in the middle of the factorization
            print("factoring", flush=True)
            time.sleep(600)
        return a[rows[:, None], columns]

    solve(TiledMatrix.from_function(block, a.shape), np.ones(120), tile=20, memory_limit=60_000,
          workdir=sys.argv[1], resume=True)
"""


def test_one_process_at_a_time(tmp_path):
    """The second is told who is there; when the first has been killed it goes on."""
    script, work = tmp_path / "hold.py", tmp_path / "work"
    script.write_text(textwrap.dedent(HOLDER))
    a = np.random.default_rng(5).standard_normal((120, 120))
    with subprocess.Popen(
        [sys.executable, str(script), str(work)], stdout=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        try:
            assert process.stdout.readline() == b"factoring\n"
            before = {path: path.read_bytes() for path in [*tiles(work), *work.glob("*/j*.jsonl")]}
            with pytest.raises(BlockingIOError, match=f"in use by process {process.pid} on "):
                solve(a, np.ones(N), workdir=work, resume=True, **OPTIONS)
            with pytest.raises(BlockingIOError, match="in use by"):
                solve(a, np.ones(N), workdir=work, **OPTIONS)
            for path, data in before.items():  # the journal may have grown meanwhile
                assert path.read_bytes().startswith(data)
        finally:
            process.kill()
    done = len(tiles(work))
    assert 0 < done < 36
    counted = Source(a, 10**6)
    x = solve(counted, np.ones(N), workdir=work, resume=True, **OPTIONS)
    assert np.array_equal(x, solve(a, np.ones(N), **OPTIONS))


def test_a_directory_is_read_while_another_writes_it(rng, tmp_path):
    """And a file that is being written is left alone."""
    a = TiledMatrix.from_array(rng.standard_normal((7, 5)), 3).save(tmp_path / "a")
    part = tmp_path / "a" / "A-0-0.tile.part"
    part.write_bytes(b"half of a tile")
    held = store.DirectoryLock(tmp_path / "a")
    assert np.array_equal(TiledMatrix.open(tmp_path / "a").to_array(), a.to_array())
    assert part.exists()
    held.release()


def test_a_lock_is_free_when_its_run_is_over(system, tmp_path):
    a, b = system
    x = solve(a, b, workdir=tmp_path, **OPTIONS)
    for _ in range(2):
        store.DirectoryLock(tmp_path / "lu-fp32").release()
        assert np.array_equal(solve(a, b, workdir=tmp_path, resume=True, **OPTIONS), x)
    held = store.DirectoryLock(tmp_path / "lu-fp32")
    with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on"):
        solve(a, b, workdir=tmp_path, resume=True, **OPTIONS)
    held.release()
    held.release()


def test_a_file_system_without_locks(system, tmp_path, monkeypatch):
    from mplinalg.tiled import lock

    def unknown(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", unknown)
    solve(*system, workdir=tmp_path, **OPTIONS)
    assert tiles(tmp_path)
