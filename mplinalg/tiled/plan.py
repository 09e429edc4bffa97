"""What is loaded, kept and written when, for a program in bounded memory: decided before it runs.

The program is known to its end, and so is when each tile is needed next. The tile that is dropped
for another one is the one whose next use is farthest away, which makes the fewest loads possible
(Belady). Tiles that the last few tasks used are not dropped for the next one's, so that the loads
of a task can be made while the tasks before it compute.

The bytes that a plan moves are those that its run will move: what is predicted, and what the
memory limit is checked against before anything is computed.

Reference: Belady, IBM Systems Journal 5 (1966) 78.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from .tasks import Key, Program, nbytes
from .traffic import Traffic

__all__ = ["LimitTooSmall", "Plan", "Step", "make_plan", "needed"]

LOOKAHEAD = 4
"""Tasks whose tiles stay while those of the next are loaded."""


class LimitTooSmall(ValueError):
    """The memory limit is below what a program needs.

    Attributes
    ----------
    needed : int
        Bytes with which it would run.
    """

    def __init__(self, needed: int, limit: int) -> None:
        self.needed, self.limit = needed, limit
        super().__init__(
            f"a memory limit of {limit:,} bytes is too small: at least {needed:,} bytes are needed"
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One change of what is in memory, made before task number `task`.

    Attributes
    ----------
    what : {"drop", "spill", "load", "reload", "make"}
        Forget a tile; write it first; read an input; read what was written before; make room for a
        tile that the task will write.
    key : Key
    task : int
    after : int
        The task that must have ended before; -1 for none.
    """

    what: Literal["drop", "spill", "load", "reload", "make"]
    key: Key
    task: int
    after: int = -1


@dataclass
class Plan:
    """The steps of a program, in order, and what they amount to.

    Attributes
    ----------
    steps : list of Step
    saves : dict of int to list of Key
        Results that are final when a task ends, by its number.
    traffic : Traffic
        What the run will move, and the most that it holds.
    """

    program: Program
    lookahead: int
    steps: list[Step] = field(default_factory=list)
    saves: dict[int, list[Key]] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)


def needed(program: Program) -> int:
    """Bytes of the largest task's tiles, and of the largest workspace of one."""
    workspace = max((task.workspace for task in program.tasks), default=0)
    return workspace + max(
        (nbytes(program.tiles, {*t.needs, *t.makes}) for t in program.tasks), default=0
    )


def make_plan(program: Program, limit: int, stored: Collection[Key] = ()) -> Plan:
    """Plan a program.

    Parameters
    ----------
    program : Program
    limit : int
        Bytes of tiles and workspace.
    stored : collection of Key
        Results of an earlier run: they are read from the store, not from the inputs.

    Raises
    ------
    LimitTooSmall
    """
    workspace = max((task.workspace for task in program.tasks), default=0)
    least = needed(program)
    if limit < least:
        raise LimitTooSmall(least, limit)
    for lookahead in range(LOOKAHEAD, -1, -1):
        plan = _Planner(program, limit - workspace, lookahead, stored).run()
        if plan is not None:
            plan.traffic.peak += workspace
            return plan
    raise AssertionError("a program whose every task fits has a plan")


class _Planner:
    """Memory as it would be, task by task."""

    def __init__(
        self, program: Program, room: int, lookahead: int, stored: Collection[Key]
    ) -> None:
        self.plan = Plan(program, lookahead)
        self.sizes = {key: tile.nbytes for key, tile in program.tiles.items()}
        self.room, self.free = room, room
        self.stored = set(stored)  # what a load would find in the store
        self.dirty: set[Key] = set()
        self.resident: set[Key] = set()
        self.last_use: dict[Key, int] = {}
        self.uses: dict[Key, list[int]] = {}  # those to come, the next one last
        self.last_change: dict[Key, int] = {}
        for number, task in enumerate(program.tasks):
            for key in (*task.needs, *task.writes):
                self.uses.setdefault(key, []).append(number)
            for key in task.makes:
                self.last_change[key] = number
        for numbers in self.uses.values():
            numbers.reverse()
        self.victims: list[tuple[int, int, Key]] = []  # the farthest next use first
        self.dead: deque[Key] = deque()  # needed no more, in the order of their last uses
        self.order = 0

    def run(self) -> Plan | None:
        """The plan; None if memory is too small for this lookahead."""
        plan, program, traffic = self.plan, self.plan.program, self.plan.traffic
        for number, task in enumerate(program.tasks):
            used = (*task.needs, *task.writes)
            held = set(used)
            self._drop_the_dead(number)
            for key in used:
                if key in self.resident:
                    traffic.hits += 1
                    continue
                if not self._make_room(self.sizes[key], number, held):
                    return None
                self._take(key, number, is_new=key in task.writes)
            traffic.peak = max(traffic.peak, self.room - self.free)
            for key in used:
                self.uses[key].pop()
                self.last_use[key] = number
                if self.uses[key]:
                    self._offer(key)
                else:
                    self.dead.append(key)
            for key in task.makes:
                self.dirty.add(key)
                if key in program.results and self.last_change[key] == number:
                    plan.saves.setdefault(number, []).append(key)
                    traffic.saved += self.sizes[key]
                    self.dirty.discard(key)
                    self.stored.add(key)
        return plan

    def _take(self, key: Key, number: int, *, is_new: bool) -> None:
        plan, traffic, size = self.plan, self.plan.traffic, self.sizes[key]
        if is_new:
            plan.steps.append(Step("make", key, number))
        elif key in self.stored:
            plan.steps.append(Step("reload", key, number))
            traffic.reloaded += size
            traffic.misses += 1
        else:
            plan.steps.append(Step("load", key, number))
            traffic.loaded += size
            traffic.misses += 1
        self.resident.add(key)
        self.free -= size

    def _offer(self, key: Key) -> None:
        """Put a tile among those that may be dropped."""
        self.order += 1
        heapq.heappush(self.victims, (-self.uses[key][-1], self.order, key))

    def _drop_the_dead(self, number: int) -> None:
        """At once, so that what comes next takes the same memory, which is in the cache."""
        while self.dead and self.last_use[self.dead[0]] < number - self.plan.lookahead:
            self._drop(self.dead.popleft(), number, is_dead=True)

    def _make_room(self, size: int, number: int, held: set[Key]) -> bool:
        kept = []
        recent = number - self.plan.lookahead
        while self.free < size and self.victims:
            entry = heapq.heappop(self.victims)
            key = entry[2]
            if key not in self.resident or not self.uses[key] or -entry[0] != self.uses[key][-1]:
                continue  # an entry of an earlier use
            if key in held or self.last_use[key] >= recent:
                kept.append(entry)
                continue
            self._drop(key, number, is_dead=False)
        for entry in kept:
            heapq.heappush(self.victims, entry)
        return self.free >= size

    def _drop(self, key: Key, number: int, *, is_dead: bool) -> None:
        what: Literal["drop", "spill"] = "drop"
        if key in self.dirty and not is_dead:
            what = "spill"
            self.plan.traffic.spilled += self.sizes[key]
            self.stored.add(key)
        self.dirty.discard(key)
        self.plan.steps.append(Step(what, key, number, self.last_use[key]))
        self.resident.discard(key)
        self.free += self.sizes[key]
