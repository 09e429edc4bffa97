"""Programs: what is left of one when some results are there already."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.ops.dispatch import ops_for
from mplinalg.precision import FP64
from mplinalg.tiled.grid import Grid, default_grid
from mplinalg.tiled.lu import lu_program
from mplinalg.tiled.tasks import Program, Tile

OPS = ops_for(np.empty(0))
TILE = Tile((1,), np.dtype("f8"))


def add_one(ops, reads, updates):
    updates[0][...] += 1
    return ()


def total(ops, reads, updates):
    return (sum(reads),)


def chain():
    """a <- a + 1; b = a; a <- a + 1; c = a + b"""
    program = Program(tiles=dict.fromkeys([("a",), ("b",), ("c",)], TILE))
    program.add(add_one, updates=(("a",),))
    program.add(total, reads=(("a",),), writes=(("b",),))
    program.add(add_one, updates=(("a",),))
    program.add(total, reads=(("a",), ("b",)), writes=(("c",),))
    program.results = {("a",), ("b",), ("c",)}
    return program


def run(program, tiles):
    tiles = {key: tile.copy() for key, tile in tiles.items()}
    for task in program.tasks:
        written = task.run(OPS, [tiles[k] for k in task.reads], [tiles[k] for k in task.updates])
        tiles.update(zip(task.writes, written, strict=True))
    return tiles


@pytest.mark.parametrize("have", [(), "a", "b", "c", "ab", "ac", "bc", "abc"])
def test_what_is_left_makes_the_same_results(have):
    program, start = chain(), {("a",): np.zeros(1)}
    final = run(program, start)
    have = {(letter,) for letter in have}
    left = program.without(have)
    stored = program.results - left.results
    # the results that are there, and the inputs of everything else
    found = run(left, start | {key: final[key] for key in stored})
    assert stored <= have
    assert all(found[key] == final[key] for key in program.results)


def test_nothing_is_left_where_all_is_there():
    program = chain()
    assert not program.without(program.results).tasks
    assert len(program.without(()).tasks) == len(program.tasks)


def test_only_later_columns_are_left():
    program = lu_program(Grid((12, 12), (3, 3)), np.dtype("f8"), FP64)
    have = {key for key in program.results if key[-1] <= 1}
    left = program.without(have)
    made = {key for task in left.tasks for key in task.makes}
    assert {key[-1] for key in made} == {2, 3}
    # a column of which one tile is missing is made again
    left = program.without(have - {("LU", 3, 1)})
    made = {key for task in left.tasks for key in task.makes}
    assert {key[-1] for key in made} == {1, 2, 3}
    assert left.results == {key for key in program.results if key[-1] >= 1}


def test_inputs():
    assert chain().inputs() == {("a",)}


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 1000, 5000])
@pytest.mark.parametrize("limit", [1, 10**6, 10**12])
def test_a_grid_covers_the_matrix(n, limit):
    grid = default_grid(n, np.dtype("f4"), limit, 1024, None)
    assert sum(k.stop - k.start for k in grid.rows) == n
    assert 1 <= grid.tile[0] <= max(n, 1)


def test_more_memory_gives_larger_tiles():
    widths = [default_grid(8192, np.dtype("f4"), 2**k, 1024, None).tile[0] for k in range(20, 34)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1] == 1024


@pytest.mark.parametrize("tile", [0, -1, 2.5, "3", True])
def test_bad_tiles(tile):
    with pytest.raises(ValueError, match="tile must be a positive number of rows; got"):
        default_grid(10, np.dtype("f4"), 10**6, 1024, tile)
