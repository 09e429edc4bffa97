"""DaskExecutor: a program on the workers of a Dask cluster.

Each task becomes one of `distributed`, its tiles the results of others: transfers between workers,
spilling and retries are the scheduler's, and the placement of tasks that have no home. Tiles stay
on the workers; what comes to the client are vectors. To start a task takes milliseconds, so
factors are in whole block columns, and a task reads blocks of A itself.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.dispatch import ops_for, ops_on
from ..ops.protocol import Ops
from ..precision import Format
from .grid import Grid, column_grid
from .limits import UNLIMITED
from .progress import Advance
from .sources import Source
from .store import Overlay, Store
from .tasks import Key, Program, Task
from .traffic import Traffic
from .walk import Inputs

__all__ = ["DaskExecutor", "FutureStore", "as_dask"]

_HANDFUL = 8
"""Tasks that are waited for at a time, so that progress shows."""
_BLOCK_BYTES = 2**26
_FLAG = 8
"""Bytes of one number."""
_LIGHT = 16
"""How many times as large as the others one of the tiles is that stay together."""
_SENT_ALONG = 2**20
"""Bytes of an array that is sent with the task that needs it."""


class FutureStore(Store):
    """Tiles as futures, on the workers that made them."""

    def __init__(self) -> None:
        self.futures: dict[Key, Any] = {}

    def write(self, key: Key, tile: Any, *, is_result: bool) -> None:
        self.futures[key] = tile

    def read(self, key: Key) -> NDArray[Any]:
        """A tile, brought here."""
        tile = _alone(self.futures[key])
        return np.asarray(tile.result() if hasattr(tile, "result") else tile)


@dataclass(frozen=True)
class ColumnTiling:
    """Block columns of a matrix of order n for a cluster with so many threads."""

    n: int
    dtype: np.dtype[Any]
    threads: int
    largest: int
    tile: int | None

    reserved = 0
    """Bytes of right-hand sides: memory is looked after by the workers."""

    def __call__(self, fmt: Format) -> Grid:
        return column_grid(self.n, fmt.dtype(self.dtype), self.threads, self.largest, self.tile)


class DaskExecutor:
    """Runs programs on a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Of a running cluster, `distributed.LocalCluster` for one.

    Raises
    ------
    TypeError
        `client` is no client.
    """

    memory_limit = UNLIMITED
    runs_here = False
    layout = "columns"
    largest_tile = 1024

    def __init__(self, client: Any) -> None:
        if not (hasattr(client, "submit") and hasattr(client, "scatter")):
            raise TypeError(f"client must be a distributed.Client, got {type(client).__name__}")
        self.client = client
        self.ops: Ops = ops_on("cpu")
        self.threads = max(1, sum(client.nthreads().values()))

    def __repr__(self) -> str:
        return f"DaskExecutor({self.client!r})"

    def tiling(
        self, n: int, columns: int, method: str, dtype: np.dtype[Any], first: Format,
        tile: int | None, *, is_identified: bool,
    ) -> ColumnTiling:  # fmt: skip
        """The tiles of factors, by their format: whole block columns."""
        return ColumnTiling(n, dtype, self.threads, self.largest_tile, tile)

    def block_bytes(self, rows: int, row_bytes: int) -> int:
        """The most bytes of a block of rows, of which each thread gets as many."""
        rounds = max(1, -(-rows * row_bytes // (self.threads * _BLOCK_BYTES)))
        return -(-rows // (rounds * self.threads)) * row_bytes

    def reserving(self, nbytes: int) -> DaskExecutor:
        """Memory is looked after by the workers."""
        return self

    def require(self, nbytes: int, tasks: int = 0, tiles: int = 0) -> None:
        """Memory is looked after by the workers."""

    def make_store(self, program: Program, besides: int = 0) -> FutureStore:
        """Where results stay."""
        return FutureStore()

    def beside(self, store: Store, nbytes: int) -> DaskExecutor:
        """The same executor: memory is looked after by the workers."""
        return self

    def run(
        self, program: Program, inputs: Inputs, store: Store, *, stored: Collection[Key] = (),
        progress: Advance | None = None,
    ) -> Traffic:  # fmt: skip
        """Run a program as `LocalExecutor.run`; in a `FutureStore` results stay on the workers."""
        began = time.perf_counter()
        keeps = isinstance(getattr(store, "above", store), FutureStore)  # else: vectors
        submission = _Submission(self.client, program, inputs, _futures(store), stored, keeps=keeps)
        awaited = submission.go()
        results = submission.results()
        here = results
        if keeps:
            here = {key: _alone(results[key]) for key in results if submission.is_flag(key)}
        del submission
        _wait(awaited, progress)
        together = dict.fromkeys(_whole(tile) for tile in here.values())
        gathered = dict(zip(together, self.client.gather(list(together)), strict=True))
        results |= {key: _taken(tile, gathered) for key, tile in here.items()}
        for key, tile in results.items():
            store.write(key, tile, is_result=True)
        loaded = sum(program.tiles[key].nbytes for key in program.inputs() - set(stored))
        traffic = Traffic(loaded=loaded, io_seconds=time.perf_counter() - began)
        traffic.predicted = traffic.moved
        return traffic


@dataclass(frozen=True)
class _Part:
    """One of several tiles that a task makes, together in a future."""

    made: Any
    place: int


def _alone(tile: Any) -> Any:
    """A future of this tile and no other."""
    if not isinstance(tile, _Part):
        return tile
    return tile.made.client.submit(_part, tile.made, tile.place, pure=False, priority=1)


class _Submission:
    """The tasks of a program, handed over to the scheduler.

    The client holds on to what is needed for results only: what lies between is released by the
    scheduler when the last task that needs it is done.
    """

    def __init__(
        self, client: Any, program: Program, inputs: Inputs, held: dict[Key, Any],
        stored: Collection[Key], *, keeps: bool,
    ) -> None:  # fmt: skip
        self.client, self.program, self.inputs, self.keeps = client, program, inputs, keeps
        self.tiles: dict[Key, Any] = {key: held[key] for key in stored if key in held}
        self.apart: set[Key] = set()  # those that have to be taken from what they were made with
        self.read_once = _read_once(program)
        has_homes = any(task.home is not None for task in program.tasks)
        self.workers = sorted(client.nthreads()) if has_homes else []

    def go(self) -> list[tuple[float, Any]]:
        """Hand all over. Returns the tasks that finish results, with the flops since the last."""
        last = {
            key: number for number, task in enumerate(self.program.tasks)
            for key in task.makes if key in self.program.results
        }  # fmt: skip
        ends = set(last.values())
        awaited, flops = [], 0.0
        for number, task in enumerate(self.program.tasks):
            # the scheduler takes them in the order of the program, as far as they are ready
            where: dict[str, Any] = {"priority": -number, "pure": False}
            if task.home is not None and self.workers:
                home = self.workers[task.home % len(self.workers)]
                where.update(workers=[home], allow_other_workers=True)
            tiles = [self._tile(key, where) for key in task.needs]
            places = tuple(getattr(tile, "place", None) for tile in tiles)
            made = self.client.submit(
                _run, task, places, *map(_whole, tiles), key=_name(task), **where
            )
            several = len(task.makes) > 1
            for place, key in enumerate(task.makes):
                self.tiles[key] = _Part(made, place) if several else made
            if several and not self._stays_together(task):
                self.apart.update(task.makes)
            flops += task.flops
            if number in ends:
                awaited.append((flops, made))
                flops = 0.0
        return awaited

    def results(self) -> dict[Key, Any]:
        """Futures of the results, or `_Part`s of such."""
        return {key: self._known(key) for key in self.program.results}

    def is_flag(self, key: Key) -> bool:
        """Whether a tile is one number that the client will ask for."""
        tile = self.program.tiles[key]
        return tile.on_host and tile.nbytes <= _FLAG

    def _stays_together(self, task: Task) -> bool:
        """Whether what a task makes can be moved together: but one of its tiles is large, or the
        client wants them all.
        """
        if not self.keeps:
            return self.program.results.issuperset(task.makes)
        sizes = [self.program.tiles[key].nbytes for key in task.makes]
        return _LIGHT * (sum(sizes) - max(sizes)) <= max(sizes)

    def _tile(self, key: Key, where: dict[str, Any]) -> Any:
        """A tile as an argument of a task."""
        if key in self.tiles:
            return self._known(key)
        given = getattr(self.inputs, "remote", None)
        tile = self.inputs(key) if given is None else given(self.client, key)
        if callable(tile):
            if key in self.read_once:
                return tile
            tile = self.client.submit(tile, **where)
        elif getattr(tile, "nbytes", 0) > _SENT_ALONG:
            tile = self.client.scatter(tile, hash=False, workers=where.get("workers"))
        self.tiles[key] = tile
        return tile

    def _known(self, key: Key) -> Any:
        if key in self.apart:
            self.apart.discard(key)
            self.tiles[key] = _alone(self.tiles[key])
        return self.tiles[key]


def _read_once(program: Program) -> set[Key]:
    """Tiles that one task reads, and none changes."""
    uses = Counter(key for task in program.tasks for key in task.needs)
    changed = {key for task in program.tasks for key in task.updates}
    return {key for key, count in uses.items() if count == 1} - changed


def _wait(awaited: list[tuple[float, Any]], progress: Advance | None) -> None:
    """Wait for tasks, and let go of them; raises what one of them raised."""
    from distributed import wait

    while awaited:
        some, awaited[:_HANDFUL] = awaited[:_HANDFUL], []
        wait([future for _, future in some])
        for flops, future in some:
            if future.status == "error":
                raise future.exception()
            if progress is not None:
                progress(flops)


def _whole(tile: Any) -> Any:
    """What is gathered for a tile."""
    return tile.made if isinstance(tile, _Part) else tile


def _taken(tile: Any, gathered: dict[Any, Any]) -> Any:
    found = gathered[_whole(tile)]
    return found[tile.place] if isinstance(tile, _Part) else found


def as_dask(source: Source, grid: Grid) -> Any:
    """A source as a Dask array with a chunk for each tile of a grid.

    Raises
    ------
    ModuleNotFoundError
    """
    import dask.array as da
    from dask.delayed import delayed

    store = getattr(source, "store", None)
    held = _futures(store) if store is not None else {}

    def chunk(i: int, rows: slice, j: int, columns: slice) -> Any:
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        future = _alone(held.get((getattr(source, "letter", ""), i, j)))
        if future is None:
            part = delayed(source.read)(rows, columns)
        else:
            below = rows.start - columns.start if getattr(source, "is_upper", False) else None
            part = delayed(_corner)(future, shape, below)
        return da.from_delayed(part, shape, source.dtype)

    if 0 in source.shape:
        return da.zeros(source.shape, dtype=source.dtype)
    return da.block([
        [chunk(i, rows, j, columns) for j, columns in enumerate(grid.columns)]
        for i, rows in enumerate(grid.rows)
    ])  # fmt: skip


def _corner(tile: NDArray[Any], shape: tuple[int, int], below: int | None) -> NDArray[Any]:
    """First rows and columns of a tile; zero under the diagonal number `below`, if given."""
    part = tile[: shape[0], : shape[1]]
    return part if below is None else np.triu(part, below)


def _futures(store: Any) -> dict[Key, Any]:
    """Those of a store, and of the one below it."""
    if isinstance(store, Overlay):
        return {**_futures(store.below), **_futures(store.above)}
    return dict(getattr(store, "futures", {}))


def _run(task: Task, places: tuple[int | None, ...], *given: Any) -> Any:
    """What a task makes on a worker: a tile, or a tuple of several.

    What it changes is copied first: others may hold it. What is given is a tile each, or a function
    that reads it, or several of which it is the one in this place.
    """
    tiles = [
        (x() if callable(x) else x) if i is None else x[i]
        for i, x in zip(places, given, strict=True)
    ]
    reads = tiles[: len(task.reads)]
    updates = [np.array(tile, order="K", copy=True) for tile in tiles[len(task.reads) :]]
    written = task.run(ops_for(*tiles), reads, updates)
    made = (*updates, *written)
    return made[0] if len(made) == 1 else made


def _part(parts: tuple[NDArray[Any], ...], place: int) -> NDArray[Any]:
    return parts[place]


def _name(task: Task) -> str:
    """Of a task on the dashboard."""
    return f"{task.kernel.__name__}-{uuid.uuid4().hex}"
