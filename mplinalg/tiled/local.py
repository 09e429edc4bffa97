"""LocalExecutor: a program on one machine, in bounded memory of the host or of a GPU.

It is planned first (`plan`), and then run by several threads (`walk`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from ..arguments import choice
from ..ops.dispatch import free_bytes_on, ops_on, staging_on
from ..ops.protocol import Ops
from ..precision import Format
from .heap import Heap
from .limits import Limit, as_bytes
from .plan import LimitTooSmall, Plan, list_bytes, make_plan, needed
from .progress import Advance
from .requirements import BLOCK_BYTES, Tiling
from .store import MemoryStore, Store
from .tasks import Key, Program, nbytes
from .temporary import TemporaryStore
from .traffic import Traffic
from .walk import Inputs, Run

__all__ = ["LocalExecutor", "as_executor"]

DEVICES = {"cpu": 1024, "cuda": 16384}
"""Where programs run, and the largest tiles that suit it: those of a GPU have to come over a slow
link, and are used w times each if they are w by w."""
MEMORIES = ("pinned", "managed")


class LocalExecutor:
    """Runs programs on this machine.

    Parameters
    ----------
    memory_limit : int, str or float, optional
        Bytes that tiles and the workspace of kernels may take on the device: a number of bytes,
        text as "8GiB", or a fraction below 1 of the memory that is free there. By default half of
        what is free.
    device : {"cpu", "cuda"}
        Where tasks compute. "cuda": on the current device, by CuPy; tiles go there and back on
        streams of their own, beside the computation.
    memory : {"pinned", "managed"}
        What tiles on a GPU live in. "managed": memory that the driver moves page by page, so that
        tiles that do not fit on the device may stay where they are; the limit then counts them.
        An alternative for small tests: pages move when a kernel touches them, not before.

    Raises
    ------
    ImportError
        ``device="cuda"``, and CuPy is not installed.
    """

    runs_here = True  # in this process: tiles can be kept in a directory of it
    layout = "tiles"  # how factors are cut: into square tiles, or into block columns
    threads = 1  # workers that programs are cut for

    def __init__(
        self, memory_limit: Limit | None = None, *, device: str = "cpu", memory: str = "pinned"
    ) -> None:
        choice("device", device, tuple(DEVICES))
        choice("memory", memory, MEMORIES)
        if memory == "managed" and device == "cpu":
            raise ValueError("memory='managed' is that of a GPU; give device='cuda', too")
        self.device, self.memory = device, memory
        self.ops: Ops = ops_on(device)
        of = "cpu" if memory == "managed" else device
        self._reserved = 0
        self.memory_limit = as_bytes(memory_limit, lambda: free_bytes_on(of))

    def __repr__(self) -> str:
        options = "" if self.device == "cpu" else f", device={self.device!r}"
        options += "" if self.memory == "pinned" else f", memory={self.memory!r}"
        return f"LocalExecutor(memory_limit={self.memory_limit:,}{options})"

    @property
    def largest_tile(self) -> int:
        """Rows, and columns, of tiles that are chosen for it."""
        return DEVICES[self.device]

    def block_bytes(self, rows: int, row_bytes: int) -> int:
        """The most bytes of a block of rows, in which a matrix is passed over."""
        return BLOCK_BYTES

    def tiling(
        self, n: int, columns: int, method: str, dtype: np.dtype[Any], first: Format,
        tile: int | None, *, is_identified: bool,
    ) -> Tiling:  # fmt: skip
        """The tiles of factors, by their format, of a system with so many right-hand sides.

        Raises
        ------
        LimitTooSmall
            The limit does not do for it.
        """
        return Tiling(
            n, columns, method, dtype, first, self.largest_tile, tile, is_identified,
            self.memory_limit,
        )  # fmt: skip

    def reserving(self, nbytes: int) -> LocalExecutor:
        """An executor that leaves `nbytes` of the limit to other things.

        Raises
        ------
        LimitTooSmall
            Nothing would be left.
        """
        if nbytes >= self.memory_limit:
            raise LimitTooSmall(nbytes + 1, self.memory_limit)
        left = LocalExecutor(self.memory_limit - nbytes, device=self.device, memory=self.memory)
        left._reserved = self._reserved + nbytes
        return left

    def require(self, nbytes: int, tasks: int = 0, tiles: int = 0) -> None:
        """Raise LimitTooSmall if the limit is less than these bytes, and the list of the tasks."""
        nbytes += list_bytes(tasks, tiles)
        if nbytes > self.memory_limit:
            reserved = self._reserved
            raise LimitTooSmall(nbytes + reserved, self.memory_limit + reserved, tasks, tiles)

    def make_store(self, program: Program, besides: int = 0) -> Store:
        """Where results go that nobody has to keep.

        Into memory if they fit into the limit beside the largest workspace and `besides` bytes, or
        into temporary files. From a GPU into the memory of the host, if they fit into half of what
        is free.
        """
        workspace = max((task.workspace for task in program.tasks), default=0)
        held = besides + nbytes(program.tiles, program.results)
        if self.device == "cpu":
            fits = held + workspace <= self.memory_limit
        else:
            fits = held <= free_bytes_on("cpu") // 2
        return MemoryStore() if fits else TemporaryStore()

    def beside(self, store: Store, nbytes: int) -> LocalExecutor:
        """An executor that leaves room for what `store` will hold, if that is in this memory."""
        in_memory = self.device == "cpu" and isinstance(store, MemoryStore)
        return self.reserving(nbytes) if in_memory else self

    def plan(self, program: Program, stored: Collection[Key] = ()) -> Plan:
        """What `run` would move, and when. Raises LimitTooSmall."""
        tasks = len(program.tasks)
        self.require(needed(program), tasks)
        return make_plan(program, self.memory_limit, stored, list_bytes(tasks))

    def run(
        self, program: Program, inputs: Inputs, store: Store, *, stored: Collection[Key] = (),
        progress: Advance | None = None,
    ) -> Traffic:  # fmt: skip
        """Run a program; its results are in the store afterwards.

        Parameters
        ----------
        program : Program
        inputs : callable
        store : Store
        stored : collection of Key
            Results of an earlier run that the store has.
        progress : callable, optional
            Called with the flops of each task when it ends.

        Raises
        ------
        LimitTooSmall
            Before anything is read.
        """
        plan = self.plan(program, stored)
        staging = staging_on(self.device, self.memory_limit, is_managed=self.memory == "managed")
        heap = Heap(self.memory_limit + self._reserved) if self.device == "cpu" else None
        return Run(plan, inputs, store, staging, heap, progress).go()


def as_executor(executor: Any, memory_limit: Limit | None) -> Any:
    """The executor, or a `LocalExecutor` with this limit.

    Raises
    ------
    ValueError
        Both are given.
    """
    if executor is None:
        return LocalExecutor(memory_limit)
    if memory_limit is not None:
        raise ValueError("give memory_limit or executor, not both")
    if not hasattr(executor, "run") or isinstance(executor, type):
        raise TypeError(f"executor must be a LocalExecutor or DaskExecutor; got {executor!r}")
    return executor
