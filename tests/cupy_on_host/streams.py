"""Streams and events. Work is done when it is asked for; its order is watched by `hazards`."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from . import capture, hazards, ledger, memory
from .device import current_device
from .settings import Misuse

_numbers = itertools.count(0x7F0000000000, 0x100)


class _Local(threading.local):
    def __init__(self) -> None:
        self.current: dict[int, list[Stream]] = {}


_local = _Local()
_null: dict[int, hazards.Line] = {}


def _null_line(device: int) -> hazards.Line:
    if device not in _null:
        _null[device] = hazards.Line(-device, device, is_null=True)
        hazards.add(_null[device])
    return _null[device]


class Stream:
    """`cupy.cuda.Stream`."""

    __module__ = "cupy.cuda.stream"
    null: Stream
    ptds: Stream

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, *,
        priority: int | None = None,
    ) -> None:  # fmt: skip
        if null and ptds:
            raise ValueError("null and ptds are mutually exclusive")
        self.is_non_blocking = non_blocking
        self.priority = priority or 0
        self.device_id = -1
        self._line: hazards.Line | None = None
        if null or ptds:
            self.ptr = 2 if ptds else 0
            return
        self.ptr = next(_numbers)
        self.device_id = current_device()
        _null_line(self.device_id)
        self._line = hazards.Line(self.ptr, self.device_id, blocking=not non_blocking)
        hazards.add(self._line)

    @property
    def line(self) -> hazards.Line:
        """Where its work stands; the null stream is one of each device."""
        return self._line or _null_line(current_device())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)

    def __repr__(self) -> str:
        return f"<Stream {self.ptr} (device {self.device_id})>"

    def __enter__(self) -> Stream:
        self._stack().append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack().pop()

    def _stack(self) -> list[Stream]:
        if self._line is not None and self.device_id != current_device():
            raise Misuse(f"{self!r} is not of device {current_device()}, which is current")
        return _local.current.setdefault(current_device(), [Stream.null])

    def use(self) -> Stream:
        self._stack()[-1] = self
        return self

    @property
    def done(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return capture.is_captured(self)

    def begin_capture(self, mode: Any = None) -> None:
        capture.begin(self)

    def end_capture(self) -> capture.Graph:
        return capture.end(self)

    def synchronize(self) -> None:
        ledger.note_sync("Stream.synchronize")
        hazards.host_waits(hazards.mark(self.line))

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        if event.is_captured != capture.is_captured(self):
            raise Misuse("of a stream and the event that it waits for one is captured alone")
        hazards.wait(self.line, event.clock)

    def launch_host_func(self, callback: Callable[[Any], None], arg: Any) -> None:
        capture.refuse("a function of the host")
        callback(arg)

    def add_callback(self, callback: Callable[..., None], arg: Any) -> None:
        capture.refuse("a function of the host")
        callback(self, 0, arg)


Stream.null = Stream(null=True)
Stream.ptds = Stream(ptds=True)


class Event:
    """`cupy.cuda.Event`."""

    __module__ = "cupy.cuda.stream"

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self.ptr = next(_numbers)
        self.disable_timing = disable_timing
        self.clock: hazards.Clock = {}
        self.seconds: float | None = None
        self.is_captured = False

    @property
    def done(self) -> bool:
        self._require_not_captured()
        return True

    def _require_not_captured(self) -> None:
        if self.is_captured:
            raise Misuse("an event of a captured stream never happens, and cannot be asked for")

    def record(self, stream: Stream | None = None) -> None:
        stream = get_current_stream() if stream is None else stream
        self.is_captured = capture.is_captured(stream)
        self.clock = hazards.mark(stream.line)
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        self._require_not_captured()
        ledger.note_sync("Event.synchronize")
        hazards.host_waits(self.clock)


def get_current_stream(device_id: int = -1) -> Stream:
    """As `cupy.cuda.get_current_stream`."""
    device = current_device() if device_id == -1 else device_id
    return _local.current.get(device, [Stream.null])[-1]


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two recorded events."""
    if start_event.disable_timing or end_event.disable_timing:
        raise Misuse("an event without timing")
    if start_event.seconds is None or end_event.seconds is None:
        raise Misuse("an event that was not recorded")
    return 1000.0 * (end_event.seconds - start_event.seconds)


def current_line() -> hazards.Line:
    """Of the current stream."""
    return get_current_stream().line


def wait_for_device(device: int) -> None:
    """The host has waited for all streams of a device."""
    for line in hazards.of_device(device):
        hazards.host_waits(hazards.mark(line))


def wait_for_current(why: str) -> None:
    """The host waits for the current stream."""
    ledger.note_sync(why)
    hazards.host_waits(hazards.mark(current_line()))


def fetch_size(why: str) -> None:
    """How many elements there are, which only the device knows, comes to the host."""
    ledger.note_transfer(4, to_host=True)
    wait_for_current(why)


def reset() -> None:
    """The null stream, nothing before."""
    capture.reset()
    hazards.reset()
    _null.clear()
    _local.current.clear()


memory.when_freed.append(hazards.freed)
hazards.when_touched.append(capture.watch)
ledger.when_crossed.append(capture.refuse)
