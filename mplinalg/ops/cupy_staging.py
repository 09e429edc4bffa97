"""Arrays between the host and a device, on streams of their own beside the computation.

Three streams, none of which waits for the null stream: one computes, one carries arrays to the
device, one back. Copies go through pinned buffers, as only these move beside kernels. The host
waits for a copy before it hands the array on, and for the kernels that use an array before it gives
up its memory, so no stream has to wait for another.

Memory comes from a pool of its own, which refuses to grow beyond its limit.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import cupy
import numpy as np
from numpy.typing import NDArray

from .protocol import Array, Ops

__all__ = ["CupyStaging", "free_bytes"]

SLACK = 64 * 2**20
"""Bytes beyond the limit for what libraries allocate besides."""


class CupyStaging:
    """`mplinalg.ops.staging.Staging` for the current device.

    Parameters
    ----------
    ops : Ops
    limit : int
        Bytes of device memory; kernels may take 64 MiB more.
    is_managed : bool
        Managed memory, which the driver moves between host and device page by page.
    """

    def __init__(self, ops: Ops, limit: int, *, is_managed: bool = False) -> None:
        self.ops = ops
        self._device = cupy.cuda.Device()
        allocate = cupy.cuda.malloc_managed if is_managed else None
        self._pool = cupy.cuda.MemoryPool(allocate) if allocate else cupy.cuda.MemoryPool()
        self._pool.set_limit(size=limit + SLACK)
        self._compute, self._up, self._down = (
            cupy.cuda.Stream(non_blocking=True) for _ in range(3)
        )
        self._pinned = threading.local()

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        with self._device, cupy.cuda.using_allocator(self._pool.malloc), self._compute:
            try:
                yield
            finally:  # before memory is given back
                self._compute.synchronize()

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        with self._device, cupy.cuda.using_allocator(self._pool.malloc), self._up:
            yield

    def mark(self) -> Any:
        return self._compute.record(cupy.cuda.Event(disable_timing=True))

    def wait(self, mark: Any) -> None:
        with self._device:
            mark.synchronize()

    def upload(self, tile: NDArray[Any]) -> Array:
        if tile.flags.f_contiguous and not tile.flags.c_contiguous:
            return self.upload(tile.T).T
        pinned = self._buffer(tile.shape, tile.dtype)
        np.copyto(pinned, tile)
        array = cupy.empty(tile.shape, tile.dtype)
        array.set(pinned, stream=self._up)
        self._up.synchronize()
        return array

    def download(self, tile: Array) -> NDArray[Any]:
        if tile.flags.f_contiguous and not tile.flags.c_contiguous:
            return self.download(tile.T).T
        with self._device, self._down:
            pinned = self._buffer(tile.shape, tile.dtype)
            tile.get(stream=self._down, out=pinned, blocking=True)
        return pinned.copy()

    def _buffer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Pinned memory of this thread, C-ordered, good until it is asked for again."""
        count = int(np.prod(shape, dtype=np.int64))
        nbytes = max(1, count * dtype.itemsize)
        if getattr(self._pinned, "nbytes", 0) < nbytes:
            self._pinned.memory = cupy.cuda.alloc_pinned_memory(nbytes)
            self._pinned.nbytes = nbytes
        return np.frombuffer(self._pinned.memory, dtype, count).reshape(shape)


def free_bytes() -> int:
    """Memory of the current device that new allocations may take."""
    free, _ = cupy.cuda.runtime.memGetInfo()
    return int(free) + cupy.get_default_memory_pool().free_bytes()
