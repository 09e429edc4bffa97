"""LocalExecutor: a program on one machine, in bounded memory of the host or of a GPU.

Two threads serve the one that computes. The first walks the steps of the plan, as far ahead of the
computation as the plan lets it: it loads tiles before they are needed, and drops or spills others.
The second writes results behind the computation. What is in memory at any time is what the plan
says, so the memory limit holds by construction.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ..arguments import choice
from ..ops.dispatch import free_bytes_on, ops_on, staging_on
from ..ops.protocol import Array, Ops
from ..ops.staging import Staging
from ..precision import Format
from .heap import Heap, owned
from .limits import Limit, as_bytes
from .plan import LOOKAHEAD, LimitTooSmall, Plan, list_bytes, make_plan, needed
from .progress import Advance
from .requirements import BLOCK_BYTES, Tiling
from .store import MemoryStore, Store, TemporaryStore
from .tasks import Key, Program, nbytes
from .traffic import Traffic

__all__ = ["LocalExecutor", "as_executor"]

_AHEAD = 2 * LOOKAHEAD
"""Tasks whose tiles are loaded beside the one that computes."""
_FLOPS_A_BYTE = 5
"""In the time in which a byte of memory is read."""
Inputs = Callable[[Key], np.ndarray]
"""What makes an input: a new array, C-ordered, of the dtype that the program says."""


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
    threads = 1  # tasks that run at once

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

    def require(self, nbytes: int, tasks: int = 0) -> None:
        """Raise LimitTooSmall if the limit is less than these bytes, and the list of the tasks."""
        nbytes += list_bytes(tasks)
        if nbytes > self.memory_limit:
            reserved = self._reserved
            raise LimitTooSmall(nbytes + reserved, self.memory_limit + reserved, tasks)

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
        return _Run(plan, inputs, store, staging, heap, progress).go()


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


class _Stopped(Exception):
    """Another thread has failed."""


class _Run:
    """One run of a plan: what the threads share."""

    def __init__(
        self, plan: Plan, inputs: Inputs, store: Store, staging: Staging, heap: Heap | None,
        progress: Advance | None,
    ) -> None:  # fmt: skip
        self.plan, self.inputs, self.store = plan, inputs, store
        self.staging, self.heap, self.progress = staging, heap, progress
        self.last_change = {
            key: number for number, task in enumerate(plan.program.tasks) for key in task.updates
        }
        self.tiles: dict[Key, Array] = {}
        self.saving: dict[Key, Future[None]] = {}
        self.changed, self.telling = threading.Condition(), threading.Lock()
        self.done = -1  # the last task that was handed over, as were all before it
        self.beyond: set[int] = set()  # tasks behind one that was not
        self.ended = -1  # the last task that is known to have ended
        self.marks: dict[int, Any] = {}  # of the tasks between
        self.made_ready = 0  # steps
        self.failure: BaseException | None = None
        foretold = plan.traffic
        self.traffic = Traffic(
            hits=foretold.hits, misses=foretold.misses, predicted=foretold.moved,
            peak=foretold.peak,
        )  # fmt: skip

    def go(self) -> Traffic:
        count, number = len(self.plan.program.tasks), 0
        mover = threading.Thread(target=self._guarded, args=(self._move,), daemon=True)
        ops, is_divided = self.staging.ops, self.plan.program.is_divided
        with (
            self.staging.computing(), ops.serial() if is_divided else contextlib.nullcontext(),
            ThreadPoolExecutor(1) as writer,
        ):  # fmt: skip
            mover.start()
            try:
                while number < count:
                    group = self._group(number)
                    if len(group) == 1:
                        self._compute(number, writer)
                    else:
                        ops.each(
                            lambda n: self._compute_beside(n, writer), group, self._time(number)
                        )
                    number += len(group)
                for future in list(self.saving.values()):
                    future.result()
            except _Stopped:
                pass
            except BaseException as error:
                self._fail(error)
            mover.join()
        self.tiles.clear()  # no work on them is left
        if self.heap is not None:
            self.heap.close()
        if self.failure is not None:
            raise self.failure
        return self.traffic

    # -- the threads that compute ---------------------------------------------------------------

    def _group(self, number: int) -> range:
        """A task and those behind it that are computed at the same time: each thread as many.

        What is left of a group is computed one after the other.
        """
        tasks, threads = self.plan.program.tasks, self.staging.ops.side_by_side
        group, end = tasks[number].group, number + 1
        if group is not None and threads > 1 and self.plan.program.is_divided:
            while end < len(tasks) and tasks[end].group == group:
                end += 1
        some = (end - number) // threads * threads
        return range(number, number + max(1, some))

    def _time(self, number: int) -> float:
        """Flops of a product that take as long as a task, about: its own, or to read its tiles."""
        program = self.plan.program
        task = program.tasks[number]
        return max(task.flops, _FLOPS_A_BYTE * nbytes(program.tiles, task.needs))

    def _compute_beside(self, number: int, writer: ThreadPoolExecutor) -> None:
        try:
            self._compute(number, writer)
        except _Stopped:
            raise
        except BaseException as error:
            self._fail(error)  # others may be waiting
            raise _Stopped from error

    def _compute(self, number: int, writer: ThreadPoolExecutor) -> None:
        self._wait_for_steps(number)
        task = self.plan.program.tasks[number]
        reads = [self.tiles[key] for key in task.reads]
        updates = [self.tiles[key] for key in task.updates]
        written = task.run(self.staging.ops, reads, updates)
        self.tiles.update(zip(task.writes, written, strict=True))
        with self.changed:
            self.marks[number] = self.staging.mark()
            for key in self.plan.saves.get(number, ()):
                self.saving[key] = writer.submit(
                    self._save, key, self.tiles[key], self.marks[number]
                )
            self.beyond.add(number)
            while self.done + 1 in self.beyond:
                self.done += 1
                self.beyond.remove(self.done)
            self.changed.notify_all()
        if self.progress is not None:
            with self.telling:
                self.progress(task.flops)

    def _wait_for_steps(self, number: int) -> None:
        """Until the steps of the plan are made that come before a task."""
        began = time.perf_counter()
        steps = self.plan.steps_before(number)
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or self.made_ready >= steps)
            if self.failure is not None:
                raise _Stopped
            self.traffic.waited += time.perf_counter() - began

    # -- the threads that move tiles ------------------------------------------------------------

    def _move(self) -> None:
        with self.staging.loading():
            for step in self.plan.steps:
                # no farther ahead than a few tasks: memory that was just used is in the cache
                if not self._has_ended(max(step.after, step.task - _AHEAD)):
                    return
                getattr(self, f"_{step.what}")(step.key, step.task)
                with self.changed:
                    self.made_ready += 1
                    self.changed.notify_all()

    def _has_ended(self, task: int) -> bool:
        """Wait until a task has; False if one has failed meanwhile."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or self.done >= task)
            if self.failure is not None:
                return False
        if task > self.ended:
            self.staging.wait(self.marks[task])
            for number in range(self.ended + 1, task + 1):
                del self.marks[number]
            self.ended = task
        return True

    def _drop(self, key: Key, task: int) -> None:
        saving = self.saving.get(key)
        if saving is not None:
            saving.result()
        del self.tiles[key]

    def _spill(self, key: Key, task: int) -> None:
        tile = self.tiles.pop(key)
        self._write("spilled", key, tile, is_result=False)

    def _load(self, key: Key, task: int) -> None:
        self._read("loaded", key, self.inputs, task)

    def _reload(self, key: Key, task: int) -> None:
        self._read("reloaded", key, self.store.read, task)

    def _make(self, key: Key, task: int) -> None:
        """The kernel makes it; the plan has room for it from now on."""
        self._grow(key)

    def _read(self, kind: str, key: Key, read: Callable[[Key], np.ndarray], task: int) -> None:
        began = time.perf_counter()
        self._grow(key)
        tile = read(key)
        if not tile.flags.writeable and self.last_change.get(key, -1) >= task:
            tile = owned(tile)
        on_host = self.plan.program.tiles[key].on_host
        self.tiles[key] = tile if on_host else self.staging.upload(tile)
        self._count(kind, tile.nbytes, time.perf_counter() - began)

    def _grow(self, key: Key) -> None:
        if self.heap is not None:
            self.heap.grow(self.plan.program.tiles[key].nbytes)

    def _save(self, key: Key, tile: Array, mark: Any) -> None:
        self.staging.wait(mark)
        self._write("saved", key, tile, is_result=True)

    def _write(self, kind: str, key: Key, tile: Array, *, is_result: bool) -> None:
        began = time.perf_counter()
        on_host = self.plan.program.tiles[key].on_host
        held = tile if on_host else self.staging.download(tile)
        self.store.write(key, held, is_result=is_result)
        self._count(kind, held.nbytes, time.perf_counter() - began)

    def _count(self, kind: str, nbytes: int, seconds: float) -> None:
        with self.changed:
            setattr(self.traffic, kind, getattr(self.traffic, kind) + nbytes)
            self.traffic.io_seconds += seconds

    # -- failures -------------------------------------------------------------------------------

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self.changed:
            if self.failure is None:
                self.failure = error
            self.changed.notify_all()
