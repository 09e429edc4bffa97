"""Which accesses of device memory are ordered: vector clocks of streams and of the host.

Everything is carried out at once here, so work on two streams that nothing orders would go
unnoticed. Each access of a buffer is therefore held against the earlier ones: one of the two
writes, they overlap, and neither an event, nor the rules of the null stream, nor a wait of the
host stands between them, and `Misuse` is raised.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import memory
from .settings import Misuse

Clock = dict[int, int]

_LONGEST = 256
_WORK = 10_000
"""Effort for telling whether two views overlap; where it does not suffice, their bounds do."""


@dataclass
class Line:
    """Work in order: a stream."""

    number: int
    device: int
    is_null: bool = False
    blocking: bool = True
    clock: Clock = field(default_factory=dict)


@dataclass
class _Access:
    line: int
    count: int
    writes: bool
    view: np.ndarray | None
    """None: the whole buffer."""
    what: str


when_touched: list[Any] = []
"""Functions of a line and the name of an operation: whether it is only written down."""

_lock = threading.RLock()
_lines: dict[int, Line] = {}
_host: Clock = {}


def add(line: Line) -> None:
    """A stream is made."""
    with _lock:
        _lines[line.number] = line


def merge(into: Clock, other: Clock) -> None:
    """What `other` has seen is seen by `into`."""
    for number, count in other.items():
        if count > into.get(number, 0):
            into[number] = count


def _catch_up(line: Line) -> None:
    """The rules of the legacy null stream, and all that the host knows to be finished."""
    merge(line.clock, _host)
    others = [o for o in _lines.values() if o.device == line.device and o is not line]
    for other in others:
        if (other.blocking and line.is_null) or (other.is_null and line.blocking):
            merge(line.clock, other.clock)


def _begin(line: Line) -> None:
    """The next operation."""
    _catch_up(line)
    line.clock[line.number] = line.clock.get(line.number, 0) + 1


def mark(line: Line) -> Clock:
    """The clock of an event recorded now."""
    with _lock:
        _begin(line)
        return dict(line.clock)


def wait(line: Line, clock: Clock) -> None:
    """What comes on `line` waits for an event."""
    with _lock:
        merge(line.clock, clock)


def host_waits(clock: Clock) -> None:
    """The host has waited for what a clock has seen."""
    with _lock:
        merge(_host, clock)


def touch(line: Line, reads: Iterable[Any], writes: Iterable[Any], what: str) -> None:
    """An operation on `line`; of each array read and written its buffer and its view."""
    if any(look(line, what) for look in when_touched):
        return
    with _lock:
        _begin(line)
        count = line.clock[line.number]
        new = [(b, _Access(line.number, count, False, v, what)) for b, v in reads]
        new += [(b, _Access(line.number, count, True, v, what)) for b, v in writes]
        for buffer, access in new:
            _check(buffer, access, line)
        for buffer, access in new:
            _keep(buffer, access)


def _check(buffer: memory.Buffer, access: _Access, line: Line) -> None:
    for earlier in buffer.accesses:
        if not (earlier.writes or access.writes) or earlier.line == access.line:
            continue
        if earlier.count <= line.clock.get(earlier.line, 0) or not _overlap(earlier, access):
            continue
        first, second = ("writes" if a.writes else "reads" for a in (earlier, access))
        raise Misuse(
            f"{earlier.what} {first} on stream {earlier.line:#x} what {access.what} {second} on "
            f"stream {access.line:#x}, and nothing orders the two"
        )


def _overlap(a: _Access, b: _Access) -> bool:
    if a.view is None or b.view is None:
        return True
    try:
        return np.shares_memory(a.view, b.view, max_work=_WORK)
    except np.exceptions.TooHardError:
        return np.may_share_memory(a.view, b.view)


def _keep(buffer: memory.Buffer, access: _Access) -> None:
    kept = buffer.accesses
    lines = [line for line in _lines.values() if line.device == buffer.device_id]
    if len(lines) < 2:  # one entry a kind is enough as long as there is one stream
        access.view = None
        kept[:] = [a for a in kept if a.writes != access.writes or a.line != access.line]
    elif len(kept) >= _LONGEST:
        kept[:] = [a for a in kept if any(a.count > o.clock.get(a.line, 0) for o in lines)]
        if len(kept) >= _LONGEST:  # of the older half only the last ones, as if of all of it
            half = _LONGEST // 2
            last = {(a.line, a.writes): a for a in kept[:half]}
            for access in last.values():
                access.view = None
            kept[:half] = last.values()
    kept.append(access)


def freed(buffer: memory.Buffer) -> None:
    """CuPy's pool hands memory to the next taker on its stream, whoever else still uses it."""
    home = _lines.get(buffer.home)
    if home is None:
        return
    with _lock:
        _catch_up(home)
    for access in buffer.accesses:
        if access.line != home.number and access.count > home.clock.get(access.line, 0):
            memory.found.append(
                f"memory of stream {home.number:#x} was given back while {access.what} on stream "
                f"{access.line:#x} may still use it"
            )
            return


def reset() -> None:
    """No streams."""
    _lines.clear()
    _host.clear()


def of_device(device: int) -> list[Line]:
    """Its streams."""
    with _lock:
        return [line for line in _lines.values() if line.device == device]
