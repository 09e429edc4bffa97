"""Device memory: buffers between guards, a register of what is live, limits and the peak."""

from __future__ import annotations

import bisect
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .settings import Misuse, settings

_GRANULE = 512
"""Bytes; allocations are aligned to it and counted in it, as in CuPy's pool."""
_GUARD = 512
_GUARD_BYTE = 0xA5
_GARBAGE_BYTE = 0xFF
"""NaN in every floating-point format."""

_lock = threading.RLock()
_addresses: list[int] = []
_live: dict[int, weakref.ref[Buffer]] = {}
_held: dict[int, int] = {}
_peak: dict[int, int] = {}
_limits: dict[int, int] = {}
found: list[str] = []
"""What went wrong where nothing could be raised; a test that leaves something here fails."""


class OutOfMemoryError(MemoryError):
    """As CuPy's."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        text += f", limit set to: {limit:,} bytes)." if limit else ")."
        super().__init__(text)


class Buffer:
    """One allocation, whose first byte is `host[0]`."""

    def __init__(self, nbytes: int, device: int) -> None:
        self.nbytes, self.device_id = nbytes, device
        self._counted = -(-nbytes // _GRANULE) * _GRANULE
        _count(self._counted, device)
        self._whole = np.empty(nbytes + 2 * _GUARD + _GRANULE, np.uint8)
        begin = _GUARD + (-self._whole.ctypes.data - _GUARD) % _GRANULE
        self._begin = begin
        self.host = self._whole[begin : begin + nbytes]
        self._whole[:begin] = _GUARD_BYTE
        self._whole[begin + nbytes :] = _GUARD_BYTE
        self.host[:] = _GARBAGE_BYTE
        self.ptr = self.host.ctypes.data if nbytes else 0
        self.home = home_line()
        self.accesses: list[Any] = []
        if nbytes:
            with _lock:
                bisect.insort(_addresses, self.ptr)
                _live[self.ptr] = weakref.ref(self)

    @property
    def size(self) -> int:
        return self.nbytes

    def check_guards(self) -> None:
        """Nobody wrote beside it."""
        end = self._begin + self.nbytes
        for name, guard in (("before", self._whole[: self._begin]), ("behind", self._whole[end:])):
            if np.any(guard != _GUARD_BYTE):
                found.append(f"something was written {name} an array of {self.nbytes} bytes")
                guard[:] = _GUARD_BYTE

    def __del__(self) -> None:
        if not hasattr(self, "ptr"):  # there was no memory for it
            return
        self.check_guards()
        for hook in when_freed:
            hook(self)
        with _lock:
            _held[self.device_id] -= self._counted
            if self.nbytes:
                del _addresses[bisect.bisect_left(_addresses, self.ptr)]
                del _live[self.ptr]


def home_line() -> int:
    """The stream that memory is taken for, whose next taker may have it when it is given back."""
    from . import streams

    return streams.current_line().number


when_freed: list[Any] = []
"""Functions of a buffer that is given back."""


def _count(nbytes: int, device: int) -> None:
    with _lock:
        held, limit = _held.get(device, 0), _limits.get(device, 0)
        if held + nbytes > (limit or settings.total_memory):
            raise OutOfMemoryError(nbytes, held, limit)
        _held[device] = held + nbytes
        _peak[device] = max(_peak.get(device, 0), held + nbytes)


def buffer_at(address: int) -> Buffer | None:
    """The live buffer that has the byte at `address`."""
    with _lock:
        place = bisect.bisect_right(_addresses, address) - 1
        if place < 0:
            return None
        buffer = _live[_addresses[place]]()
    if buffer is None or address >= buffer.ptr + buffer.nbytes:
        return None
    return buffer


def live() -> list[Buffer]:
    """Every buffer that is not empty."""
    with _lock:
        buffers = [reference() for reference in _live.values()]
    return [buffer for buffer in buffers if buffer is not None]


def check_all_guards() -> None:
    """Of everything live."""
    for buffer in live():
        buffer.check_guards()


def held(device: int = 0) -> int:
    """Bytes allocated now."""
    return _held.get(device, 0)


def peak(device: int = 0) -> int:
    """Most bytes allocated at a time since `reset_peak`."""
    return _peak.get(device, 0)


def reset_peak(device: int = 0) -> None:
    """The peak begins anew from what is held."""
    _peak[device] = held(device)


def set_limit(nbytes: int | None, device: int = 0) -> None:
    """So many bytes may be held; None or 0: all that the device has."""
    _limits[device] = nbytes or 0


def get_limit(device: int = 0) -> int:
    """As set; 0 if there is none."""
    return _limits.get(device, 0)


def total(device: int = 0) -> int:
    """Bytes that the device has."""
    return get_limit(device) or settings.total_memory


@contextmanager
def limit_memory(nbytes: int, device: int = 0) -> Iterator[None]:
    """The device has `nbytes` while inside; an allocation beyond them raises OutOfMemoryError."""
    before = get_limit(device)
    set_limit(nbytes, device)
    try:
        yield
    finally:
        set_limit(before, device)


def reset() -> None:
    """No limits; what is live stays."""
    _limits.clear()
    found.clear()
    for device in list(_peak):
        reset_peak(device)


class MemoryPointer:
    """An address within a buffer, as `cupy.cuda.MemoryPointer`."""

    __module__ = "cupy.cuda.memory"

    def __init__(self, mem: Buffer, offset: int) -> None:
        self.mem, self._offset = mem, offset

    @property
    def ptr(self) -> int:
        return self.mem.ptr + self._offset

    @property
    def device_id(self) -> int:
        return self.mem.device_id

    @property
    def device(self) -> Any:
        from .device import Device

        return Device(self.mem.device_id)

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self._offset + offset)

    def __sub__(self, offset: int) -> MemoryPointer:
        return self + -offset

    def bytes_from(self, size: int) -> np.ndarray:
        """The `size` bytes that begin here."""
        if not 0 <= self._offset <= self._offset + size <= self.mem.nbytes:
            raise Misuse(
                f"{size} bytes from byte {self._offset} of an allocation of {self.mem.nbytes}"
            )
        return self.mem.host[self._offset : self._offset + size]

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        self.bytes_from(size)[:] = value

    memset = memset_async

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream: Any = None) -> None:
        self.bytes_from(size)[:] = src.bytes_from(size)

    copy_from_device = copy_from_device_async


class DefaultPool:
    """`cupy.get_default_memory_pool()`; nothing is kept for later."""

    def used_bytes(self) -> int:
        return held(_device())

    def total_bytes(self) -> int:
        return held(_device())

    def free_bytes(self) -> int:
        return 0

    def n_free_blocks(self) -> int:
        return 0

    def free_all_blocks(self, stream: Any = None) -> None:
        """Nothing is kept."""

    def get_limit(self) -> int:
        return get_limit(_device())

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if fraction is not None:
            size = int(fraction * settings.total_memory)
        set_limit(size, _device())

    def malloc(self, size: int) -> MemoryPointer:
        return alloc(size)


class MemoryPool:
    """`cupy.cuda.MemoryPool`: one with a limit of its own, of all devices; nothing is kept."""

    def __init__(self, allocator: Any = None) -> None:
        self._allocate = allocator or _malloc
        self._held = self._limit = 0

    def used_bytes(self) -> int:
        return self._held

    def total_bytes(self) -> int:
        return self._held

    def free_all_blocks(self, stream: Any = None) -> None:
        """Nothing is kept."""

    def get_limit(self) -> int:
        return self._limit

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        self._limit = int(fraction * settings.total_memory) if fraction is not None else size or 0

    def malloc(self, size: int) -> MemoryPointer:
        from . import capture

        counted = -(-size // _GRANULE) * _GRANULE
        with _lock:
            if self._limit and self._held + counted > self._limit:
                raise OutOfMemoryError(counted, self._held, self._limit)
            self._held += counted
        try:
            pointer = self._allocate(size)
        except MemoryError:
            self._take_back(counted)
            raise
        except RuntimeError as error:
            self._take_back(counted)
            if getattr(error, "status", 0) != 2:
                raise
            capture.refuse("a pool gives back what is free in it, and may be captured,")
            raise OutOfMemoryError(counted, self._held, self._limit) from error
        weakref.finalize(pointer.mem, _take_back, weakref.ref(self), counted)
        return pointer

    def _take_back(self, counted: int) -> None:
        with _lock:
            self._held -= counted


def _take_back(pool: weakref.ref[MemoryPool], counted: int) -> None:
    """Memory outlives its pool."""
    found = pool()
    if found is not None:
        found._take_back(counted)


class PinnedMemoryPool:
    """`cupy.get_default_pinned_memory_pool()`."""

    def n_free_blocks(self) -> int:
        return 0

    def free_all_blocks(self) -> None:
        """Nothing is kept."""


def _device() -> int:
    from .device import current_device

    return current_device()


_allocators = threading.local()


@contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    """`cupy.cuda.using_allocator`: where arrays of this thread take their memory."""
    before = getattr(_allocators, "current", None)
    _allocators.current = allocator
    try:
        yield
    finally:
        _allocators.current = before


def alloc(size: int) -> MemoryPointer:
    """`cupy.cuda.alloc`: on the current device, by the allocator of this thread."""
    from . import capture

    allocator = getattr(_allocators, "current", None) or _alloc
    capture.note_pool(allocator)
    pointer = allocator(size)
    capture.keep(pointer.mem)
    return pointer


def _alloc(size: int) -> MemoryPointer:
    return MemoryPointer(Buffer(size, _device()), 0)


def device_memory(size: int) -> Buffer:
    """`cupy.cuda.Memory`: from CUDA, of which the errors are."""
    from .device import CUDARuntimeError

    try:
        return Buffer(size, _device())
    except OutOfMemoryError as error:
        raise CUDARuntimeError(2) from error


def _malloc(size: int) -> MemoryPointer:
    return MemoryPointer(device_memory(size), 0)


def alloc_pinned_memory(size: int) -> np.ndarray:
    """`cupy.cuda.alloc_pinned_memory`: a buffer of the host."""
    return np.full(size, _GARBAGE_BYTE, np.uint8)


def malloc_managed(size: int) -> MemoryPointer:
    """`cupy.cuda.malloc_managed`: it is counted, and used, as other memory here."""
    return _alloc(size)
