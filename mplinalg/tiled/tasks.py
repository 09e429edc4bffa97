"""A tiled algorithm as data: tasks in an order that is right, each with the tiles it touches.

The same list runs on one machine in bounded memory (`local`) and as a graph on a cluster (`dask`).
It is serial elision: run one after the other, the tasks are the algorithm. What may run beside
what, what may be dropped, and what has to be moved follows from the names of the tiles.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from ..ops.protocol import Array, Ops
from ..precision import Format

__all__ = ["Kernel", "Key", "Program", "Task", "Tile"]

Key = tuple[Any, ...]
"""Name of a tile: a letter and its place, as ("LU", 2, 0)."""
Kernel = Callable[..., tuple[Array, ...]]
"""kernel(ops, reads, updates, **options) -> what it writes. A function of a module, so that it can
be sent to another process; `updates` are changed in place."""
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Tile:
    """Shape and dtype of a tile; of one whose size depends on the numbers, the most it can be.

    `on_host`: it is an array of NumPy wherever the others are.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    on_host: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Task:
    """One call of a kernel.

    Attributes
    ----------
    kernel : callable
    reads, updates, writes : tuple of Key
        Tiles it reads; tiles it changes; tiles it makes. No tile is in two of them.
    options : tuple of (str, object)
        Keywords of the kernel.
    flops : float
        Of real numbers.
    workspace : int
        Bytes that the kernel allocates besides.
    home : int, optional
        On a cluster tasks of the same number are run by the same worker, if it is there.
    group : tuple of int, optional
        Tasks of the same group that follow each other may run at the same time.
    """

    kernel: Kernel
    reads: tuple[Key, ...] = ()
    updates: tuple[Key, ...] = ()
    writes: tuple[Key, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    flops: float = 0.0
    workspace: int = 0
    home: int | None = None
    group: tuple[int, ...] | None = None

    @property
    def needs(self) -> tuple[Key, ...]:
        """Tiles that must be there before."""
        return self.reads + self.updates

    @property
    def makes(self) -> tuple[Key, ...]:
        """Tiles that are new, or others, afterwards."""
        return self.updates + self.writes

    def run(self, ops: Ops, reads: Iterable[Array], updates: Iterable[Array]) -> tuple[Array, ...]:
        """What it writes; `updates` are changed."""
        return self.kernel(ops, tuple(reads), tuple(updates), **dict(self.options))


@dataclass
class Program:
    """Tasks in order.

    Attributes
    ----------
    tasks : list of Task
    tiles : dict of Key to Tile
        Every tile that a task touches.
    results : set of Key
        Tiles that are kept.
    is_divided : bool
        Its tasks come in groups, or divide their work by `Ops.each`: BLAS needs no more threads.

    A tile that a task needs and none before it writes is an input.
    """

    tasks: list[Task] = field(default_factory=list)
    tiles: dict[Key, Tile] = field(default_factory=dict)
    results: set[Key] = field(default_factory=set)
    is_divided: bool = False

    _shared: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)
    _flops: dict[float, float] = field(default_factory=dict, repr=False)
    _sizes: dict[int, int] = field(default_factory=dict, repr=False)

    def add(
        self, kernel: Kernel, *, reads: tuple[Key, ...] = (), updates: tuple[Key, ...] = (),
        writes: tuple[Key, ...] = (), options: Mapping[str, Any] = _NO_OPTIONS,
        flops: float = 0.0, workspace: int = 0, home: int | None = None,
        group: tuple[int, ...] | None = None,
    ) -> None:  # fmt: skip
        """Append a task. Of equal names, options and numbers one is kept: tasks may be many."""
        given = tuple(options.items())
        with contextlib.suppress(TypeError):  # slices have no hash before Python 3.12
            given = self._shared.setdefault(given, given)
        self.tasks.append(
            Task(
                kernel, self._names(reads), self._names(updates), self._names(writes),
                given, self._flops.setdefault(flops, flops),
                self._sizes.setdefault(workspace, workspace), home,
                None if group is None else self._shared.setdefault(group, group),
            )
        )  # fmt: skip

    def _names(self, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        share = self._shared.setdefault
        if len(keys) == 1:  # that of a tile which many tasks change
            return share(keys, keys)
        return tuple([share(key, key) for key in keys])

    @property
    def flops(self) -> float:
        """Of all tasks."""
        return sum(task.flops for task in self.tasks)

    def longest_chain(self) -> float:
        """Flops of the tasks that wait for each other, at most, where each makes new tiles."""
        ends: dict[Key, float] = {}
        for task in self.tasks:
            end = task.flops + max((ends.get(key, 0.0) for key in task.needs), default=0.0)
            ends.update(dict.fromkeys(task.makes, end))
        return max(ends.values(), default=0.0)

    def without(self, have: Collection[Key]) -> Program:
        """The tasks that are still to be run where the results in `have` are there already.

        Those that make a result that is not there, and those that these need, from the inputs on:
        of a tile that is changed in place, the states on the way are not there. A result that such
        a task changes is made anew.
        """
        kept_results = set(have) & self.results
        while True:
            tasks = self._needed(kept_results)
            made_anew = kept_results.intersection(key for task in tasks for key in task.makes)
            if not made_anew:
                return Program(tasks, self.tiles, self.results - kept_results, self.is_divided)
            kept_results -= made_anew

    def _needed(self, have: set[Key]) -> list[Task]:
        wanted = self.results - have
        final = set(have)  # of these, the ones that no later task changes
        kept: list[Task] = []
        for task in reversed(self.tasks):
            if not wanted.isdisjoint(task.makes):
                kept.append(task)
                wanted.difference_update(task.writes)
                wanted.update(task.updates)
                wanted.update(key for key in task.reads if key not in final)
            final.difference_update(task.makes)
        return kept[::-1]

    def inputs(self) -> set[Key]:
        """Tiles that are needed before they are made."""
        made: set[Key] = set()
        found: set[Key] = set()
        for task in self.tasks:
            found.update(key for key in task.needs if key not in made)
            made.update(task.makes)
        return found


def product_workspace(fmt: Format, entries: int) -> int:
    """Bytes that a product in a format takes whose operands have so many entries: rounded copies.

    Real and imaginary parts of complex operands are rounded one after the other.
    """
    return 0 if fmt.is_native else 4 * entries


def nbytes(tiles: Mapping[Key, Tile], keys: Iterable[Key]) -> int:
    """Bytes of several tiles."""
    return sum(tiles[key].nbytes for key in keys)
