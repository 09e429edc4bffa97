"""LocalExecutor: a program on one machine, in bounded memory.

Two threads serve the one that computes. The first walks the steps of the plan, as far ahead of the
computation as the plan lets it: it loads tiles before they are needed, and drops or spills others.
The second writes results behind the computation. What is in memory at any time is what the plan
says, so the memory limit holds by construction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..ops.dispatch import ops_for
from ..ops.protocol import Array, Ops
from .limits import Limit, as_bytes
from .plan import LOOKAHEAD, LimitTooSmall, Plan, make_plan
from .store import Store
from .tasks import Key, Program

__all__ = ["LocalExecutor", "Traffic"]

_AHEAD = 2 * LOOKAHEAD
"""Tasks whose tiles are loaded beside the one that computes."""
Inputs = Callable[[Key], np.ndarray]
"""What makes an input: a new array, C-ordered, of the dtype that the program says."""


@dataclass
class Traffic:
    """What a run moved, and how long it waited for it.

    Attributes
    ----------
    loaded, reloaded, spilled, saved : int
        Bytes: inputs read; tiles read again from the store; tiles written for want of memory;
        results written.
    hits, misses : int
        Uses of tiles that were, and were not, in memory.
    predicted : int
        Bytes that the plan foretold.
    peak : int
        Most bytes of tiles and workspace in memory.
    io_seconds, waited : float
        Time that transfers took, and the part of it that the computation waited for.
    """

    loaded: int = 0
    reloaded: int = 0
    spilled: int = 0
    saved: int = 0
    hits: int = 0
    misses: int = 0
    predicted: int = 0
    peak: int = 0
    io_seconds: float = 0.0
    waited: float = 0.0

    @property
    def moved(self) -> int:
        """Bytes, both ways."""
        return self.loaded + self.reloaded + self.spilled + self.saved

    @property
    def overlap(self) -> float:
        """The part of the transfers that took place beside arithmetic, from 0 to 1."""
        if self.io_seconds <= 0:
            return 1.0
        return min(max(1.0 - self.waited / self.io_seconds, 0.0), 1.0)

    def add(self, other: Traffic) -> None:
        """Count another run, too."""
        for part in fields(self):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            setattr(self, part.name, max(mine, theirs) if part.name == "peak" else mine + theirs)

    def clear(self) -> None:
        """Count from 0."""
        for part in fields(self):
            setattr(self, part.name, part.default)


class LocalExecutor:
    """Runs programs on this machine.

    Parameters
    ----------
    memory_limit : int, str or float, optional
        Bytes that tiles and the workspace of kernels may take: a number of bytes, text as
        "8GiB", or a fraction below 1 of the memory that is free. By default half of what is free.
    """

    def __init__(self, memory_limit: Limit | None = None) -> None:
        self.memory_limit = as_bytes(memory_limit)

    def __repr__(self) -> str:
        return f"LocalExecutor(memory_limit={self.memory_limit:,})"

    def reserving(self, nbytes: int) -> LocalExecutor:
        """An executor that leaves `nbytes` of the limit to other things.

        Raises
        ------
        LimitTooSmall
            Nothing would be left.
        """
        if nbytes >= self.memory_limit:
            raise LimitTooSmall(nbytes + 1, self.memory_limit)
        return LocalExecutor(self.memory_limit - nbytes)

    def plan(self, program: Program, stored: Collection[Key] = ()) -> Plan:
        """What `run` would move, and when. Raises LimitTooSmall."""
        return make_plan(program, self.memory_limit, stored)

    def run(
        self, program: Program, inputs: Inputs, store: Store, *, stored: Collection[Key] = (),
        ops: Ops | None = None, progress: Callable[[float], None] | None = None,
    ) -> Traffic:  # fmt: skip
        """Run a program; its results are in the store afterwards.

        Parameters
        ----------
        program : Program
        inputs : callable
        store : Store
        stored : collection of Key
            Results of an earlier run that the store has.
        ops : Ops, optional
            By default that of NumPy.
        progress : callable, optional
            Called with the flops of each task when it ends.

        Raises
        ------
        LimitTooSmall
            Before anything is read.
        """
        plan = self.plan(program, stored)
        return _Run(plan, inputs, store, ops or ops_for(np.empty(0)), progress).go()


class _Stopped(Exception):
    """Another thread has failed."""


class _Run:
    """One run of a plan: what the threads share."""

    def __init__(
        self, plan: Plan, inputs: Inputs, store: Store, ops: Ops,
        progress: Callable[[float], None] | None,
    ) -> None:  # fmt: skip
        self.plan, self.inputs, self.store, self.ops = plan, inputs, store, ops
        self.progress = progress
        self.tiles: dict[Key, Array] = {}
        self.saving: dict[Key, Future[None]] = {}
        self.changed = threading.Condition()
        self.done = -1  # the last task that ended
        self.made_ready = 0  # steps
        self.failure: BaseException | None = None
        self.traffic = Traffic(
            hits=plan.hits, misses=plan.misses, predicted=plan.traffic, peak=plan.peak
        )

    def go(self) -> Traffic:
        ends, steps = [], self.plan.steps
        place = 0
        for number in range(len(self.plan.program.tasks)):
            while place < len(steps) and steps[place].task <= number:
                place += 1
            ends.append(place)
        mover = threading.Thread(target=self._guarded, args=(self._move,), daemon=True)
        with ThreadPoolExecutor(1) as writer:
            mover.start()
            try:
                for number, end in enumerate(ends):
                    self._wait_for(end)
                    self._compute(number, writer)
                for future in list(self.saving.values()):
                    future.result()
            except _Stopped:
                pass
            except BaseException as error:
                self._fail(error)
            mover.join()
        if self.failure is not None:
            raise self.failure
        return self.traffic

    # -- the thread that computes ---------------------------------------------------------------

    def _compute(self, number: int, writer: ThreadPoolExecutor) -> None:
        task = self.plan.program.tasks[number]
        reads = [self.tiles[key] for key in task.reads]
        updates = [self.tiles[key] for key in task.updates]
        written = task.run(self.ops, reads, updates)
        self.tiles.update(zip(task.writes, written, strict=True))
        with self.changed:
            for key in self.plan.saves.get(number, ()):
                self.saving[key] = writer.submit(self._save, key, self.tiles[key])
            self.done = number
            self.changed.notify_all()
        if self.progress is not None:
            self.progress(task.flops)

    def _wait_for(self, steps: int) -> None:
        """Until so many steps of the plan are made."""
        began = time.perf_counter()
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or self.made_ready >= steps)
            if self.failure is not None:
                raise _Stopped
        self.traffic.waited += time.perf_counter() - began

    # -- the threads that move tiles ------------------------------------------------------------

    def _move(self) -> None:
        for step in self.plan.steps:
            # no farther ahead than a few tasks: memory that was just used is in the cache
            if not self._has_ended(max(step.after, step.task - _AHEAD)):
                return
            getattr(self, f"_{step.what}")(step.key)
            with self.changed:
                self.made_ready += 1
                self.changed.notify_all()

    def _has_ended(self, task: int) -> bool:
        """Wait until a task has; False if one has failed meanwhile."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or self.done >= task)
            return self.failure is None

    def _drop(self, key: Key) -> None:
        saving = self.saving.get(key)
        if saving is not None:
            saving.result()
        del self.tiles[key]

    def _spill(self, key: Key) -> None:
        tile = self.tiles.pop(key)
        self._timed("spilled", tile, lambda: self.store.write(key, tile, is_result=False))

    def _load(self, key: Key) -> None:
        self._read("loaded", key, self.inputs)

    def _reload(self, key: Key) -> None:
        self._read("reloaded", key, self.store.read)

    def _make(self, key: Key) -> None:
        """The kernel makes it; the plan has room for it from now on."""

    def _read(self, kind: str, key: Key, read: Callable[[Key], np.ndarray]) -> None:
        began = time.perf_counter()
        tile = read(key)
        self._count(kind, tile.nbytes, time.perf_counter() - began)
        self.tiles[key] = self.ops.xp.asarray(tile)

    def _save(self, key: Key, tile: Array) -> None:
        self._timed("saved", tile, lambda: self.store.write(key, tile, is_result=True))

    def _timed(self, kind: str, tile: Array, write: Callable[[], Any]) -> None:
        began = time.perf_counter()
        write()
        self._count(kind, tile.nbytes, time.perf_counter() - began)

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
