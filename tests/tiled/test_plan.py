"""Plans: right, within the limit, and with as few loads as can be."""

from __future__ import annotations

import itertools
import time
import tracemalloc

import numpy as np
import pytest

from mplinalg import tiled
from mplinalg.precision import BF16, FP32
from mplinalg.tiled import plan as plan_module
from mplinalg.tiled import requirements
from mplinalg.tiled.cholesky import cholesky_program
from mplinalg.tiled.factors import SOLVERS
from mplinalg.tiled.gemm import gemm_program
from mplinalg.tiled.grid import Grid
from mplinalg.tiled.lu import lu_program
from mplinalg.tiled.plan import TASK_BYTES, LimitTooSmall, list_bytes, make_plan, needed
from mplinalg.tiled.qr import q_program, qr_program, task_count
from mplinalg.tiled.tasks import Program, Tile

KIND = np.dtype("f4")


@pytest.mark.parametrize("method", ["LU", "Cholesky"])
@pytest.mark.parametrize("fmt", [BF16, FP32])
@pytest.mark.parametrize(("n", "tile"), [(1, 1), (9, 3), (100, 30), (100, 7), (40, 64), (300, 150)])
@pytest.mark.parametrize("nrhs", [1, 5, 400])
def test_what_a_system_needs_is_what_its_programs_need(method, fmt, n, tile, nrhs):
    grid, dtype = Grid((n, n), (tile, tile)), np.dtype("f8")
    whole = requirements.PROGRAMS[method](grid, fmt.dtype(dtype), fmt)
    assert requirements.needed_by_factors(method, grid, fmt, dtype) == needed(whole)
    for held in (KIND, dtype):
        programs = [SOLVERS["tiles", method](grid, nrhs, held, dtype, trans) for trans in "NC"]
        found = requirements.needed_by_solve(method, grid, nrhs, held, dtype)
        assert max(map(needed, programs)) == found


def nothing(ops, reads, updates):
    return ()


def reading(words):
    """A program that reads tiles of one byte, named by letters, a word at a time."""
    program = Program(tiles={(letter,): Tile((1,), np.dtype("u1")) for letter in "".join(words)})
    for word in words:
        program.add(nothing, reads=tuple((letter,) for letter in word))
    return program


def walk(plan, limit, stored=()):
    """Follow the steps: each tile is there when its task needs it, and memory is never exceeded.

    Returns the bytes that were loaded and reloaded.
    """
    sizes = {key: tile.nbytes for key, tile in plan.program.tiles.items()}
    there, kept, loads = set(), set(stored), [0, 0]
    steps, most = iter(plan.steps), 0
    step = next(steps, None)
    changed = set()
    for number, task in enumerate(plan.program.tasks):
        while step is not None and step.task == number:
            if step.what in ("drop", "spill"):
                assert step.key in there
                assert step.after < number
                there.remove(step.key)
                if step.what == "spill":
                    kept.add(step.key)
                else:  # what has changed since it was kept is not needed any more
                    later = plan.program.tasks[number:]
                    needed = any(step.key in t.needs for t in later)
                    assert not (needed and step.key in changed)
                changed.discard(step.key)
            else:
                assert step.key not in there
                there.add(step.key)
                if step.what == "load":
                    loads[0] += sizes[step.key]
                    assert step.key not in kept
                elif step.what == "reload":
                    loads[1] += sizes[step.key]
                    assert step.key in kept
                most = max(most, sum(sizes[key] for key in there))
            step = next(steps, None)
        assert there.issuperset({*task.needs, *task.writes})
        assert most + task.workspace <= limit
        changed.update(task.makes)
        for key in plan.saves.get(number, ()):
            assert key in there
            kept.add(key)
            changed.discard(key)
    assert step is None
    assert plan.program.results <= kept
    return loads


@pytest.mark.parametrize("make", [lu_program, cholesky_program])
@pytest.mark.parametrize("tiles", [1, 2, 3, 7])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 10.0])
def test_a_factorization(make, tiles, share):
    n = 60
    program = make(Grid((n, n), (-(-n // tiles), -(-n // tiles))), KIND, FP32)
    limit = int(share * n * n * KIND.itemsize)
    try:
        plan = make_plan(program, limit)
    except LimitTooSmall as error:
        limit = error.needed
        plan = make_plan(program, limit)
    loaded, reloaded = walk(plan, limit)
    assert (plan.traffic.loaded, plan.traffic.reloaded) == (loaded, reloaded)
    assert plan.traffic.peak <= limit
    if share > 1:  # everything fits: each tile is read once
        assert reloaded == plan.traffic.spilled == 0
    first_reads = sum(program.tiles[key].nbytes for key in program.inputs())
    assert loaded >= first_reads


def fewest_loads(words, room):
    """By trying all choices of what to drop."""
    best = [10**9]

    def go(number, there, count):
        if count >= best[0]:
            return
        if number == len(words):
            best[0] = count
            return
        needed = set(words[number])
        missing = needed - there
        surplus = max(len(there | needed) - room, 0)
        for dropped in itertools.combinations(sorted(there - needed), surplus):
            go(number + 1, (there | needed) - set(dropped), count + len(missing))

    go(0, frozenset(), 0)
    return best[0]


@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("seed", range(20))
def test_loads_are_as_few_as_can_be(seed, ahead, monkeypatch):
    monkeypatch.setattr(plan_module, "LOOKAHEAD", ahead)
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcde"), 1 + seed % 2, replace=False)) for _ in range(9)]
    room = 3
    program = reading(words)
    plan = make_plan(program, room)
    walk(plan, room)
    if ahead == 0:
        assert plan.traffic.loaded == fewest_loads(words, room)
    else:  # room for tiles that are loaded ahead is room that others lack
        assert plan.traffic.loaded >= fewest_loads(words, room)


def test_only_where_memory_is_short_the_tiles_of_recent_tasks_go():
    """The first tasks need all of it; that does not take the loads ahead from those behind them."""
    words = ["abcd", "efgh", *"ijklmn"]
    plan = make_plan(reading(words), 4)
    walk(plan, 4)
    ready = {step.key[0]: step.after for step in plan.steps if step.what == "load"}
    drops = {step.task: step.after for step in plan.steps if step.what == "drop"}
    assert drops[1] == 0, "task 1 needs what task 0 has"
    assert [drops.get(number) for number in (2, 3, 4)] == [1, 1, 1]
    assert set(ready) == set("".join(words))
    assert drops[5] == 1, "of four tiles those that have waited longest"


def test_the_smallest_limit_is_told_and_is_enough():
    program = lu_program(Grid((50, 50), (10, 10)), KIND, FP32)
    with pytest.raises(LimitTooSmall, match=r"limit of 1,000 bytes is too small: at least") as info:
        make_plan(program, 1000)
    walk(make_plan(program, info.value.needed), info.value.needed)
    with pytest.raises(LimitTooSmall):
        make_plan(program, info.value.needed - 1)


def test_less_memory_means_more_traffic():
    program = lu_program(Grid((200, 200), (20, 20)), KIND, FP32)
    limits = [k * 200 * 200 * 4 // 16 for k in (5, 6, 8, 12, 20)]
    traffic = [make_plan(program, limit).traffic.moved for limit in limits]
    assert traffic == sorted(traffic, reverse=True)
    assert traffic[0] > traffic[-1]


def test_reads_are_what_the_count_says():
    """n^3 / (3 w) elements of L are read again, where only a block column fits beside them."""
    n, w = 640, 32
    program = lu_program(Grid((n, n), (w, w)), KIND, FP32)
    room = n * w + 8 * w * w + w * (n + 4 * w)
    plan = make_plan(program, room * KIND.itemsize)
    assert plan.traffic.spilled == 0
    assert plan.traffic.reloaded <= n**3 / (3 * w) * KIND.itemsize
    assert plan.traffic.reloaded >= 0.5 * n**3 / (3 * w) * KIND.itemsize


def test_results_of_an_earlier_run_are_read_again():
    program = lu_program(Grid((40, 40), (10, 10)), KIND, FP32)
    have = {key for key in program.results if key[-1] == 0}
    left = program.without(have)
    plan = make_plan(left, 10**6, have)
    walk(plan, 10**6, have)
    assert plan.traffic.reloaded == sum(
        program.tiles[key].nbytes for key in have if key in left.inputs()
    )


# -- the memory of lists and plans -----------------------------------------------------------------


GRID, SMALL = Grid((960, 960), (24, 24)), Grid((600, 600), (24, 24))
PROGRAMS = {
    "LU": lambda: lu_program(GRID, KIND, FP32),
    "Cholesky": lambda: cholesky_program(GRID, KIND, FP32),
    "QR": lambda: qr_program(Grid((1200, 600), (24, 24)), KIND),
    "gemm": lambda: gemm_program(
        Grid((600, 600), (24, 24)), Grid((600, 600), (24, 24)), KIND, 1, 3
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_list_and_its_plan_take_no_more_than_is_counted(name):
    PROGRAMS[name]()  # what is imported and cached is there
    tracemalloc.start()
    program = PROGRAMS[name]()
    plan = make_plan(program, 960 * 960)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(plan.program.tasks) > 10_000
    assert most <= TASK_BYTES * len(program.tasks)


@pytest.mark.parametrize("columns", [1, 2, 3, 10])
@pytest.mark.parametrize("letter", ["R", "Q"])
def test_tiles_that_are_used_once_are_counted(monkeypatch, letter, columns):
    monkeypatch.setattr(plan_module, "_UNCOUNTED", 0)
    grid = Grid((12_000 // columns, 2 * columns), (2, 2))
    factored = qr_program(grid, KIND)

    def make():
        return qr_program(grid, KIND) if letter == "R" else q_program(grid, KIND, factored)

    make()  # what is imported and cached is there
    tracemalloc.start()
    program = make()
    plan = make_plan(program, 10**8)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    counted = list_bytes(len(program.tasks), len(program.tiles))
    assert plan.program.tasks == program.tasks
    assert 0.5 * counted <= most <= counted
    assert counted > list_bytes(len(program.tasks))


def test_lists_of_gemm_are_counted(monkeypatch):
    """Tiles that are used twice."""
    monkeypatch.setattr(plan_module, "_UNCOUNTED", 0)
    a = np.ones((150, 1))
    with pytest.raises(LimitTooSmall) as info:
        tiled.gemm(a, a.T, tile=1, memory_limit=1)
    tasks, tiles = 2 * 150**2, 150**2 + 2 * 150
    assert info.value.needed == list_bytes(tasks, tiles) + 3 * 8
    assert list_bytes(tasks, tiles) > 1.5 * list_bytes(tasks)


def test_lists_of_svd_are_short(monkeypatch):
    """However many blocks of one row there are: the figure does, and nothing was read."""
    source = Reads((9_000, 10))
    with pytest.raises(LimitTooSmall) as info:
        tiled.svd(source, 1, oversample=0, power=0, memory_limit=1)
    assert source.reads == 0
    lengths, run = [], tiled.LocalExecutor.run

    def noted(executor, program, *args, **options):
        lengths.append(len(program.tasks))
        return run(executor, program, *args, **options)

    monkeypatch.setattr(tiled.LocalExecutor, "run", noted)
    tiled.svd(np.ones((9_000, 10)), 1, oversample=0, power=0, memory_limit=info.value.needed)
    assert sum(lengths) >= 2 * 9_000
    assert list_bytes(max(lengths), 2 * max(lengths)) == 0


@pytest.mark.parametrize("blocks", [0, 1, 2, 7])
def test_tasks_are_counted_before_they_are_listed(blocks):
    grid = Grid((3 * blocks, 3 * blocks), (3, 3))
    for method, make in requirements.PROGRAMS.items():
        assert requirements.task_count(method, blocks) == len(make(grid, KIND, FP32).tasks)
    for shape in ((3 * blocks, 4), (4, 3 * blocks), grid.shape):
        wide = Grid(shape, (3, 3))
        assert task_count(wide) == len(qr_program(wide, KIND).tasks)


class Reads:
    """A source that counts how often it is asked."""

    dtype, is_sendable, is_fresh, reads = np.dtype("f8"), False, False, 0

    def __init__(self, shape):
        self.shape = shape

    def read(self, rows, columns):
        self.reads += 1
        return np.ones((rows.stop - rows.start, columns.stop - columns.start))


def test_a_long_list_is_refused_and_the_figures_are_told(rng):
    """Before it is made, and before anything is read; and the figure does."""
    n, tile = 1280, 16  # 80 block columns, 180 000 tasks
    source = Reads((n, n))
    tasks = requirements.task_count("LU", 80)
    listed = list_bytes(tasks)
    assert listed > 2 * 2**20
    began = time.perf_counter()
    with pytest.raises(
        LimitTooSmall, match=rf"list of {tasks:,} tasks takes {listed:,}, and larger tiles"
    ) as info:
        tiled.solve(source, np.ones(n), tile=tile, memory_limit=2 * 2**20)
    assert time.perf_counter() - began < 5
    assert source.reads == 0
    tiling = requirements.Tiling(
        n, 1, "LU", np.dtype("f8"), FP32, 1024, tile, False, info.value.needed
    )
    assert tiling(FP32).tile == (tile, tile)
    with pytest.raises(LimitTooSmall, match=r"list of 4,070,241 tasks takes"):
        tiled.gemm(np.ones((1590, 1600)), np.ones((1600, 1590)), tile=10, memory_limit="8 MB")
    with pytest.raises(LimitTooSmall, match=r"tasks takes"):
        tiled.qr(np.ones((2000, 1600)), tile=10, memory_limit="8 MB")


def test_what_is_listed_is_taken_from_the_limit(monkeypatch):
    monkeypatch.setattr(plan_module, "_UNCOUNTED", 0)
    program = lu_program(Grid((100, 100), (10, 10)), KIND, FP32)
    least = needed(program) + TASK_BYTES * len(program.tasks)
    with pytest.raises(LimitTooSmall) as info:
        tiled.LocalExecutor(least - 1).plan(program)
    assert info.value.needed == least
    assert tiled.LocalExecutor(least).plan(program).traffic.peak <= least


def test_the_figure_for_a_small_limit_is_not_that_of_narrow_tiles():
    """With a larger limit tiles are wider, and the list is short."""
    with pytest.raises(LimitTooSmall, match=r"bytes are needed$") as info:
        requirements.Tiling(20_000, 1, "LU", np.dtype("f8"), FP32, 1024, None, False, 6_000_000)
    assert info.value.needed < 100_000_000
    found = requirements.Tiling(
        20_000, 1, "LU", np.dtype("f8"), FP32, 1024, None, False, info.value.needed
    )
    assert found(FP32).tile[0] > 128
