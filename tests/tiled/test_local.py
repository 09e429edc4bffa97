"""The executor of one machine: tasks side by side, tiles that are files, errors from everywhere."""

from __future__ import annotations

import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

from mplinalg import tiled
from mplinalg.kernels.cpu.batched.threads import blas_threads
from mplinalg.precision import FP32, FP64
from mplinalg.tiled import LocalExecutor
from mplinalg.tiled.cholesky import cholesky_program
from mplinalg.tiled.grid import Grid
from mplinalg.tiled.lu import lu_program
from mplinalg.tiled.plan import needed
from mplinalg.tiled.store import MemoryStore
from mplinalg.tiled.tasks import Program, Tile
from mplinalg.tiled.temporary import TemporaryStore

PROGRAMS = {"LU": (lu_program, "LU"), "Cholesky": (cholesky_program, "L")}


def factors(name, a, tile, dtype, fmt, store):
    """In little more memory than they need."""
    make, letter = PROGRAMS[name]
    grid = Grid(a.shape, (tile, tile))
    program = make(grid, np.dtype(dtype), fmt)
    rows, columns = grid.rows, grid.columns
    LocalExecutor(needed(program) * 5 // 4).run(
        program, lambda key: np.array(a[rows[key[1]], columns[key[2]]], dtype, order="C"), store
    )
    lower = np.zeros_like(a, dtype)
    for key in program.results:
        if key[0] == letter:
            lower[rows[key[1]], columns[key[2]]] = store.read(key)
    return lower


def add_one(ops, reads, updates):
    updates[0][...] += 1
    return ()


def meets(ops, reads, updates, *, meeting):
    meeting.wait()
    return ()


def test_tasks_of_a_group_run_at_the_same_time(threads):
    meeting = threading.Barrier(threads, timeout=60)
    program = Program(is_divided=True)
    for i in range(threads + threads // 2):  # what is left of the group runs alone
        program.tiles[("A", i)] = Tile((4,), np.dtype("f8"))
        kernel, options = (meets, {"meeting": meeting}) if i < threads else (add_one, {})
        program.add(kernel, updates=(("A", i),), group=(0,), flops=1e12, options=options)
        program.results.add(("A", i))
    store = MemoryStore()
    LocalExecutor(2**20).run(program, lambda key: np.zeros(4), store)
    assert [store.read(("A", i))[0] for i in range(len(program.tasks))] == [
        float(i >= threads) for i in range(len(program.tasks))
    ]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("tile", [70, 128, 200])
def test_factors_do_not_depend_on_the_number_of_threads(name, tile, rng):
    """But for rounding: tasks side by side touch no tile of each other."""
    n = 500
    a = rng.standard_normal((n, n))
    a = a @ a.T + n * np.eye(n) if name == "Cholesky" else a
    found = []
    for count in (1, min(2, blas_threads())):
        with threadpoolctl.threadpool_limits(count, "blas"):
            found.append(factors(name, a, tile, "f8", FP64, TemporaryStore()))
    assert np.abs(found[0] - found[1]).max() <= 64 * n * 2.0**-53 * np.abs(found[0]).max()
    if name == "Cholesky":
        lower = np.tril(found[1])
        assert np.abs(lower @ lower.T - a).max() <= n * 2.0**-53 * np.abs(a).max()


def test_threads_are_as_many_as_before(threads, rng):
    a = rng.standard_normal((300, 300))
    factors("LU", a, 64, "f4", FP32, MemoryStore())
    assert blas_threads() == threads


def fails(ops, reads, updates, *, message):
    if message:
        raise KeyError(message)
    return ()


@pytest.mark.parametrize("number", range(8))
def test_a_task_that_fails_beside_others_ends_the_run(threads, number):
    program = Program(is_divided=True)
    for i in range(8):
        program.tiles[("A", i)] = Tile((4,), np.dtype("f8"))
        program.add(
            fails, updates=(("A", i),), group=(0,), flops=1e12,
            options={"message": "this one" if i == number else ""},
        )  # fmt: skip
        program.results.add(("A", i))
    with pytest.raises(KeyError, match="this one"):
        LocalExecutor(3 * 32).run(program, lambda key: np.zeros(4), MemoryStore())
    assert blas_threads() == threads


def test_a_source_that_fails_ends_tasks_that_wait_side_by_side(threads):
    program = Program(is_divided=True)
    for i in range(8):
        program.tiles[("A", i)] = Tile((4,), np.dtype("f8"))
        program.add(
            fails, updates=(("A", i),), group=(0,), flops=1e12, options={"message": ""}
        )  # fmt: skip

    def source(key):
        if key[1] == 5:
            raise OSError("the disk is gone")
        return np.zeros(4)

    with pytest.raises(OSError, match="the disk is gone"):
        LocalExecutor(2 * 32).run(program, source, MemoryStore())


def test_what_tasks_change_is_never_the_page_of_a_file(rng):
    """A stored tile is a part of its file, which a task that changes it must not write to."""
    size = 2**16
    store = TemporaryStore()
    first = rng.standard_normal(size)
    store.write(("A", 0), first, is_result=True)
    assert not store.read(("A", 0)).flags.writeable
    program = Program({}, {("A", 0): Tile((size,), np.dtype("f8"))}, {("A", 0)})
    program.tasks = []
    program.add(add_one, updates=(("A", 0),))
    after = TemporaryStore()
    LocalExecutor(2 * 8 * size).run(program, store.read, after)
    assert np.array_equal(store.read(("A", 0)), first)
    assert np.array_equal(after.read(("A", 0)), first + 1)


def keeps(ops, reads, updates, *, seen):
    seen.append(reads[0].flags.writeable)
    return ()


def test_what_is_only_read_is_not_copied(rng):
    """Also a tile that earlier tasks have changed."""
    size, seen = 2**16, []
    program = Program()
    for name in "AB":
        program.tiles[(name,)] = Tile((size,), np.dtype("f8"))
        program.results.add((name,))
    program.add(add_one, updates=(("A",),))
    for _ in range(5):
        program.add(add_one, updates=(("B",),))
    program.add(keeps, reads=(("A",),), options={"seen": seen})
    traffic = LocalExecutor(8 * size).run(program, lambda key: np.zeros(size), TemporaryStore())
    assert traffic.reloaded == 8 * size
    assert seen == [False]


def test_progress_is_told_of_every_task_once(threads, rng):
    a = rng.standard_normal((200, 200))
    grid = Grid(a.shape, (40, 40))
    program = lu_program(grid, np.dtype("f4"), FP32)
    told = []
    LocalExecutor(2**20).run(
        program, lambda key: a[grid.rows[key[1]], grid.columns[key[2]]].astype("f4"),
        MemoryStore(), progress=told.append,
    )  # fmt: skip
    assert sorted(told) == sorted(task.flops for task in program.tasks)


@pytest.mark.parametrize(("dtype", "limit"), [("f8", 2_400_000), ("c16", 4_000_000)])
def test_lapack_does_not_write_to_the_page_of_a_file(rng, dtype, limit):
    """It writes ones beside reflectors that it only reads, and a tile of one column is F-like."""
    a = rng.standard_normal((300_000, 1)).astype(dtype)
    a = a + 1j * a[::-1] if dtype == "c16" else a
    q, r = tiled.qr(a, memory_limit=limit)
    found = q.to_array()
    assert np.abs(found @ r.to_array() - a).max() <= 1e-12 * np.abs(a).max()
    assert abs(np.linalg.norm(found) - 1) <= 1e-12


@pytest.mark.parametrize("fails", ["source", "kernel"])
def test_a_run_that_failed_leaves_no_temporary_files(tmp_path, fails):
    """Also before garbage is collected: the exception does not hold itself."""

    def source(key):
        if fails == "source" and key == ("A", 7):
            raise ZeroDivisionError
        return np.zeros(4)

    def kernel(ops, reads, updates):
        if fails == "kernel" and not updates[0].any():
            raise ZeroDivisionError
        return ()

    program = Program()
    for i in range(8):
        program.tiles[("A", i)] = Tile((4,), np.dtype("f8"))
        program.add(add_one if i < 7 else kernel, updates=(("A", i),), flops=1)
        program.results.add(("A", i))

    def run():
        store = TemporaryStore(str(tmp_path))
        store.write(("B", 0), np.ones(3), is_result=True)
        with contextlib.suppress(ZeroDivisionError):  # which keeps nothing of it
            LocalExecutor(2**20).run(program, source, store)

    gc.disable()
    try:
        run()
        assert not list(tmp_path.iterdir())
    finally:
        gc.enable()


# -- Ctrl-C --------------------------------------------------------------------------------------


pthreads = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX")


@pytest.fixture
def taken_interrupts():
    """As in a program at a prompt; where the tests run in the background they are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_keys():
    """A signal that another thread gets does not wake the main one."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pthreads
def test_an_interrupt_ends_a_run_soon(taken_interrupts):
    calls = []

    def block(rows, columns):
        calls.append(rows)
        if len(calls) == 3:
            press_keys()
        time.sleep(0.005)
        return 1.0 * (rows[:, None] == columns)

    a = tiled.TiledMatrix.from_function(block, (800, 800))
    with pytest.raises(KeyboardInterrupt):
        tiled.solve(a, np.ones(800), memory_limit="2MB", tile=50)
    assert 3 <= len(calls) < 20


@pthreads
def test_a_further_interrupt_does_not_wait_for_a_block(taken_interrupts):
    released, began, returned = threading.Event(), threading.Event(), threading.Event()

    def block(rows, columns):
        began.set()
        released.wait(10)
        returned.set()
        return 1.0 * (rows[:, None] == columns)

    def press():
        began.wait(30)
        for _ in range(3):
            time.sleep(0.2)
            if ended.is_set():
                return
            press_keys()

    ended = threading.Event()
    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            tiled.solve(tiled.TiledMatrix.from_function(block, (80, 80)), np.ones(80))
        assert not returned.is_set()
    finally:
        ended.set()
        released.set()
        thread.join()


LATE = """
import threading
import numpy as np
from mplinalg import tiled

def block(rows, columns):
    threading.main_thread().join()
    return 600.0 * (rows[:, None] == columns) + 1.0

def work():
    a = tiled.TiledMatrix.from_function(block, (600, 600))
    assert abs(tiled.qr(a, mode="r", memory_limit="2 MB").R.to_array()[0, 0]) > 600
    print("factored")

threading.Thread(target=work).start()
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="no thread can start at that time")
def test_a_run_that_outlives_the_main_thread_ends():
    """Pools take no work any more then."""
    done = subprocess.run(
        [sys.executable, "-c", LATE], cwd=Path(__file__).parents[2], capture_output=True,
        text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("factored\n", "")
