"""One run of a plan: the threads that compute, the one that loads, the one that writes.

The loading thread walks the steps of the plan, as far ahead of the computation as the plan lets it:
it loads tiles before they are needed, and drops or spills others. The writing thread saves results
behind the computation. What is in memory at any time is what the plan says, so the memory limit
holds by construction. Tasks of a group are computed side by side; all others one after the other.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ..interrupts import Bell, told_of_interrupts
from ..ops.protocol import Array
from ..ops.staging import Staging
from .heap import Heap, owned
from .plan import LOOKAHEAD, Plan
from .progress import Advance
from .shares import WORTHWHILE
from .store import Store
from .tasks import Key, nbytes
from .traffic import Traffic

__all__ = ["Inputs", "Run"]

_AHEAD = 2 * LOOKAHEAD
"""Tasks whose tiles are loaded beside the one that computes."""
_FLOPS_A_BYTE = 5
"""In the time in which a byte of memory is read."""
Inputs = Callable[[Key], np.ndarray]
"""What makes an input: an array, C-ordered, of the dtype that the program says; new, or one that
cannot be written to.
"""


class _Stopped(Exception):
    """Another thread has failed."""


class Run:
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
        self.moved = Bell()  # by the thread that loads, at its end
        foretold = plan.traffic
        self.traffic = Traffic(
            hits=foretold.hits, misses=foretold.misses, predicted=foretold.moved,
            peak=foretold.peak,
        )  # fmt: skip

    def go(self) -> Traffic:
        """All of it; an interrupt ends it in order, so that it can be resumed at once."""
        with told_of_interrupts(self._fail) as wait:
            self._go(wait)
        return self.traffic

    def _go(self, wait: Callable[[Bell], None]) -> None:
        count, number = len(self.plan.program.tasks), 0
        mover = threading.Thread(target=self._guarded, daemon=True)
        ops, is_divided = self.staging.ops, self.plan.program.is_divided
        with (
            self.staging.computing(), ops.serial() if is_divided else contextlib.nullcontext(),
            ThreadPoolExecutor(1) as writer,
        ):  # fmt: skip
            try:
                self._start(mover)
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
            wait(self.moved)
        self.tiles.clear()  # no work on them is left
        if self.heap is not None:
            self.heap.close()
        failure, self.failure = self.failure, None
        try:
            if failure is not None:
                raise failure
        finally:  # held by its own traceback it would keep the store until garbage is collected
            del failure

    def _start(self, mover: threading.Thread) -> None:
        try:
            mover.start()
        except BaseException:
            self.moved.ring()  # it may not be there to do so
            raise

    # -- the threads that compute ---------------------------------------------------------------

    def _group(self, number: int) -> range:
        """A task and those behind it that are computed at the same time.

        Of large ones each thread takes as many; what is left of a group is divided inside the task.
        """
        tasks, threads = self.plan.program.tasks, self.staging.ops.side_by_side
        group, end = tasks[number].group, number + 1
        if group is not None and threads > 1 and self.plan.program.is_divided:
            while end < len(tasks) and tasks[end].group == group:
                end += 1
        count = end - number
        some = count // threads * threads if tasks[number].flops >= WORTHWHILE else count
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
                self._save_beside(key, self.marks[number], writer)
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
        steps = self.plan.steps.before(number)
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

    def _save_beside(self, key: Key, mark: Any, writer: ThreadPoolExecutor) -> None:
        tile = self.tiles[key]
        try:
            self.saving[key] = writer.submit(self._save, key, tile, mark)
        except RuntimeError:  # the main thread has ended: pools take nothing any more
            self.saving[key] = Future()
            self.saving[key].set_result(None)
            self._save(key, tile, mark)

    def _save(self, key: Key, tile: Array, mark: Any) -> None:
        self.staging.wait(mark)
        self._write("saved", key, tile, is_result=True)
        with self.changed:  # where it failed it stays
            del self.saving[key]

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

    def _guarded(self) -> None:
        try:
            self._move()
        except BaseException as error:
            self._fail(error)
        finally:
            self.moved.ring()

    def _fail(self, error: BaseException) -> None:
        with self.changed:
            if self.failure is None:
                self.failure = error
            self.changed.notify_all()
