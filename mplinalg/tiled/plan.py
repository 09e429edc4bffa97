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
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args, overload

from .tasks import Key, Program
from .traffic import Traffic

__all__ = [
    "TOGETHER", "LimitTooSmall", "Plan", "Step", "less", "list_bytes", "make_plan", "more_bytes",
    "needed",
]  # fmt: skip

_NEVER = 2**62
_FEW = 64
LOOKAHEAD = 3
"""Tasks whose tiles stay while those of the next are loaded."""

TASK_BYTES = 448
"""Of the list and the plan of a program, for each task, at most, where tiles are used often."""
_TASK_ALONE, TILE_BYTES = 288, 1024
"""For each task and for each tile, where these are not."""
TOGETHER = 4096
"""Tasks of a list, at most, where each has tiles of its own: small ones take less than it does."""
_UNCOUNTED = 2**24
_CLOSE = 16
"""The part of a figure by which it may be larger than the least that does."""


def list_bytes(tasks: int, tiles: int = 0) -> int:
    """Bytes that the list and the plan of so many tasks take from the limit: beyond 16 MiB."""
    whole = max(tasks * TASK_BYTES, tasks * _TASK_ALONE + tiles * TILE_BYTES)
    return max(0, whole - _UNCOUNTED)


def less(needed_of: Callable[[int], int], limit: int, enough: int) -> int:
    """A limit that is enough, too: the long list of narrow tiles is not needed with wider ones.

    `needed_of` are the bytes with the tiles that are chosen for a limit; `limit` is too small.
    """
    while enough - limit > max(1, enough // _CLOSE):
        middle = (limit + enough) // 2
        if needed_of(middle) <= middle:
            enough = middle
        else:
            limit = middle
    return enough


def more_bytes(program: Program) -> int:
    """Of the list, beyond what counts for its tasks, where its tiles are used once or twice."""
    tasks = len(program.tasks)
    return list_bytes(tasks, len(program.tiles)) - list_bytes(tasks)


class LimitTooSmall(ValueError):
    """The memory limit is below what a program needs.

    Attributes
    ----------
    needed : int
        Bytes with which it would run.
    tasks, tiles : int
        Of a list that is so long that it counts; else 0.
    """

    def __init__(self, needed: int, limit: int, tasks: int = 0, tiles: int = 0) -> None:
        self.needed, self.limit, self.tasks, self.tiles = needed, limit, tasks, tiles
        listed = list_bytes(tasks, tiles)
        super().__init__(
            f"a memory limit of {limit:,} bytes is too small: at least {needed:,} bytes are needed"
            + (f"; the list of {tasks:,} tasks takes {listed:,}, and larger tiles make fewer tasks"
               if listed else "")
        )  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.needed, self.limit, self.tasks, self.tiles)


Kind = Literal["drop", "spill", "load", "reload", "make"]


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

    what: Kind
    key: Key
    task: int
    after: int = -1


class Steps(Sequence[Step]):
    """Many steps, in order, each in a few bytes."""

    _KINDS: Final = get_args(Kind)

    def __init__(self) -> None:
        self._kinds, self._keys = bytearray(), list[Key]()
        self._tasks, self._after = array("i"), array("i")

    def append(self, what: Kind, key: Key, task: int, after: int = -1) -> None:
        self._kinds.append(self._KINDS.index(what))
        self._keys.append(key)
        self._tasks.append(task)
        self._after.append(after)

    def before(self, number: int) -> int:
        """How many are made before a task, or an earlier one."""
        return bisect_right(self._tasks, number)

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, place: int) -> Step: ...
    @overload
    def __getitem__(self, place: slice) -> list[Step]: ...

    def __getitem__(self, place: int | slice) -> Step | list[Step]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        what = self._KINDS[self._kinds[place]]
        return Step(what, self._keys[place], self._tasks[place], self._after[place])


@dataclass
class Plan:
    """The steps of a program, in order, and what they amount to.

    Attributes
    ----------
    steps : sequence of Step
    saves : dict of int to list of Key
        Results that are final when a task ends, by its number.
    traffic : Traffic
        What the run will move, and the most that it holds.
    """

    program: Program
    steps: Steps = field(default_factory=Steps)
    saves: dict[int, list[Key]] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)


def needed(program: Program) -> int:
    """Bytes of the largest task's tiles, and of the largest workspace of one."""
    workspace = max((task.workspace for task in program.tasks), default=0)
    sizes = {key: tile.nbytes for key, tile in program.tiles.items()}
    return workspace + max(
        (sum(sizes[key] for key in (*t.needs, *t.writes)) for t in program.tasks), default=0
    )


def make_plan(
    program: Program, limit: int, stored: Collection[Key] = (), besides: int = 0
) -> Plan:  # fmt: skip
    """Plan a program.

    Parameters
    ----------
    program : Program
    limit : int
        Bytes of tiles and workspace.
    stored : collection of Key
        Results of an earlier run: they are read from the store, not from the inputs.
    besides : int
        Bytes of the limit that are taken otherwise.

    Raises
    ------
    LimitTooSmall
    """
    workspace = max((task.workspace for task in program.tasks), default=0)
    least = needed(program) + besides
    if limit < least:
        raise LimitTooSmall(least, limit)
    plan = _Planner(program, limit - workspace - besides, stored).run()
    plan.traffic.peak += workspace + besides
    return plan


class _Planner:
    """Memory as it would be, task by task."""

    def __init__(self, program: Program, room: int, stored: Collection[Key]) -> None:
        self.plan = Plan(program)
        self.sizes = {key: tile.nbytes for key, tile in program.tiles.items()}
        self.room, self.free = room, room
        self.stored = set(stored)  # what a load would find in the store
        self.dirty: set[Key] = set()
        self.resident: set[Key] = set()
        self.last_use: dict[Key, int] = {}
        self.next_use: dict[Key, int] = {}  # of resident tiles; `_NEVER` if there is none
        self.uses = _next_uses(program)  # from the last one to the first
        self.last_change = {
            key: number for number, task in enumerate(program.tasks) for key in task.makes
        }
        self.victims: list[tuple[int, int, Key]] = []  # the farthest next use first
        self.dead: deque[Key] = deque()  # needed no more, in the order of their last uses
        self.order = 0

    def run(self) -> Plan:
        plan, program, traffic = self.plan, self.plan.program, self.plan.traffic
        for number, task in enumerate(program.tasks):
            used = (*task.needs, *task.writes)
            self._drop_the_dead(number)
            for key in used:
                if key in self.resident:
                    traffic.hits += 1
                    continue
                self._make_room(self.sizes[key], number, used)
                self._take(key, number, is_new=key in task.writes)
            traffic.peak = max(traffic.peak, self.room - self.free)
            for key in used:
                self.next_use[key] = self.uses.pop()
                self.last_use[key] = number
                if self.next_use[key] < _NEVER:
                    self._offer(key)
                else:
                    self.dead.append(key)
            for key in task.makes:
                self.dirty.add(key)
                if self.last_change[key] == number and key in program.results:
                    plan.saves.setdefault(number, []).append(key)
                    traffic.saved += self.sizes[key]
                    self.dirty.discard(key)
                    self.stored.add(key)
        return plan

    def _take(self, key: Key, number: int, *, is_new: bool) -> None:
        plan, traffic, size = self.plan, self.plan.traffic, self.sizes[key]
        if is_new:
            plan.steps.append("make", key, number)
        elif key in self.stored:
            plan.steps.append("reload", key, number)
            traffic.reloaded += size
            traffic.misses += 1
        else:
            plan.steps.append("load", key, number)
            traffic.loaded += size
            traffic.misses += 1
        self.resident.add(key)
        self.free -= size

    def _offer(self, key: Key) -> None:
        """Put a tile among those that may be dropped."""
        self.order += 1
        heapq.heappush(self.victims, (-self.next_use[key], self.order, key))
        if len(self.victims) > 2 * len(self.resident) + _FEW:  # most are of earlier uses
            self.victims = [entry for entry in self.victims if self._is_current(entry)]
            heapq.heapify(self.victims)

    def _is_current(self, entry: tuple[int, int, Key]) -> bool:
        return entry[2] in self.resident and -entry[0] == self.next_use[entry[2]]

    def _drop_the_dead(self, number: int) -> None:
        """At once, so that what comes next takes the same memory, which is in the cache."""
        while self.dead and self.last_use[self.dead[0]] < number - LOOKAHEAD:
            self._drop(self.dead.popleft(), number, is_dead=True)

    def _make_room(self, size: int, number: int, held: Collection[Key]) -> None:
        """Drop tiles; of the last few tasks only if need be, those that have waited longest."""
        kept: list[tuple[int, int, Key]] = []
        while self.free < size and self.victims:
            entry = heapq.heappop(self.victims)
            if not self._is_current(entry):
                continue
            if entry[2] in held or self.last_use[entry[2]] >= number - LOOKAHEAD:
                kept.append(entry)
            else:
                self._drop(entry[2], number, is_dead=False)
        kept.sort(key=lambda entry: (self.last_use[entry[2]] >= number - 1, entry))
        for entry in kept:
            last = self.last_use[entry[2]]
            while self.free < size and self.dead and self.last_use[self.dead[0]] <= last:
                self._drop(self.dead.popleft(), number, is_dead=True)
            if self.free < size and entry[2] not in held:
                self._drop(entry[2], number, is_dead=False)
            else:
                heapq.heappush(self.victims, entry)
        while self.free < size and self.dead:
            self._drop(self.dead.popleft(), number, is_dead=True)

    def _drop(self, key: Key, number: int, *, is_dead: bool) -> None:
        what: Kind = "drop"
        if key in self.dirty and not is_dead:
            what = "spill"
            self.plan.traffic.spilled += self.sizes[key]
            self.stored.add(key)
        self.dirty.discard(key)
        self.plan.steps.append(what, key, number, self.last_use[key])
        self.resident.discard(key)
        self.free += self.sizes[key]


def _next_uses(program: Program) -> array[int]:
    """For each use of a tile the task of its next one, or `_NEVER`: from the last use back."""
    found = array("q")
    coming: dict[Key, int] = {}
    for number in range(len(program.tasks) - 1, -1, -1):
        task = program.tasks[number]
        for key in reversed((*task.needs, *task.writes)):
            found.append(coming.get(key, _NEVER))
            coming[key] = number
    return found
