"""Memory of tiles: given back to the system when they are dropped.

glibc gives a block back when it is freed if it was large when it was made. What counts as large
grows, up to 32 MiB, with the largest block that the process has ever freed; smaller ones are cut
from a heap, one for each thread, and up to twice as much is kept at its end. A process that has
freed a large array once thus holds up to 64 MiB for each thread beyond what is in use.

So tiles that are read have pages of their own (`empty`), and what kernels have freed is given back
when it adds up (`Heap`). To get a page takes longer than to fill it: those of a tile that is
dropped are kept for the next one of its size, 16 MiB at most, until the run ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Heap", "empty", "owned", "resident_bytes"]

_SLACK = 2**23
"""Bytes beyond the limit that are not looked at, and that tiles take before it is looked again."""
_LARGE = 2**16
"""Bytes from which on an array has pages of its own."""
_HUGE = 2**21
"""Bytes from which on large pages are asked for, which take fewer faults to get."""
_KEPT = 2**24
"""Bytes of pages that are kept to be used again."""


class _Pages:
    """Pages that nobody uses, by their size."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # arrays may die while one is made
        self._unused: dict[int, list[mmap.mmap]] = {}
        self._bytes = 0

    def array(self, size: int) -> NDArray[np.uint8]:
        """Bytes, whose pages come back when neither it nor a view of it is needed any more."""
        with self._lock:
            unused = self._unused.get(size)
            pages = unused.pop() if unused else None
            self._bytes -= size if pages is not None else 0
        if pages is None:
            pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
                with contextlib.suppress(OSError):  # a kernel without them
                    pages.madvise(mmap.MADV_HUGEPAGE)
        array = np.frombuffer(pages, np.uint8)
        weakref.finalize(array, self._keep, pages).atexit = False
        return array

    def _keep(self, pages: mmap.mmap) -> None:
        size = len(pages)
        with self._lock:
            if size > _KEPT:
                return
            while self._bytes + size > _KEPT:  # of sizes that came first
                oldest = next(iter(self._unused))
                if self._unused[oldest]:
                    self._unused[oldest].pop()
                    self._bytes -= oldest
                else:
                    del self._unused[oldest]
            self._unused.setdefault(size, []).append(pages)
            self._bytes += size

    def clear(self) -> None:
        """Give all of them back to the system."""
        with self._lock:
            self._unused.clear()
            self._bytes = 0


_pages = _Pages()


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As `numpy.empty`, of pages that the system has again when the run ends, if not before."""
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(shape, dtype)
    return _pages.array(size).view(dtype).reshape(shape)


def owned(tile: NDArray[Any]) -> NDArray[Any]:
    """A copy, C-ordered, of pages as `empty`'s."""
    copy = empty(tile.shape, tile.dtype)
    copy[...] = tile
    return copy


def resident_bytes() -> int:
    """Of this process, in memory now; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as line:
            return int(line.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError as error:
        if error.errno is None:  # the TimeoutError of a signal's handler
            raise
        return 0


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None elsewhere."""
    try:
        found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):
        return None
    return found


class Heap:
    """Watches that resident memory does not grow by more than a limit, and little besides.

    Parameters
    ----------
    limit : int
        Bytes that are in use at most.

    Attributes
    ----------
    trims : int
        How often memory was given back.
    """

    def __init__(self, limit: int) -> None:
        self._left, self.trims = 0, 0
        self._trim = _trim()
        if limit > _SLACK:  # what was freed before is not to be had twice
            self._give_back()
        self._most = resident_bytes() + limit + _SLACK

    def grow(self, nbytes: int) -> None:
        """A tile that large comes: memory may grow by it."""
        self._left -= nbytes
        if self._left > 0 or self._trim is None:
            return
        spare = self._most - resident_bytes()
        if spare < 0:  # rarely: to walk the heap, and to get pages anew, takes time
            self._give_back()
        self._left = max(spare, _SLACK)

    def close(self) -> None:
        """The run is over: nothing is kept for it."""
        _pages.clear()

    def _give_back(self) -> None:
        _pages.clear()
        if self._trim is not None:
            self._trim(0)
            self.trims += 1
