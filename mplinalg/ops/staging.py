"""Arrays between NumPy, where they are read and written, and the memory they are computed in.

A run of a tiled program has three threads: one computes, one loads ahead of it, one writes behind.
A `Staging` is what they need of a backend. For NumPy there is nothing to move.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from .protocol import Array, Ops

__all__ = ["HostStaging", "Staging", "host_free_bytes"]


class Staging(Protocol):
    """Moves arrays to a backend and back, beside the computation."""

    ops: Ops

    def computing(self) -> AbstractContextManager[Any]:
        """Of the thread that computes."""

    def loading(self) -> AbstractContextManager[Any]:
        """Of the thread that uploads."""

    def mark(self) -> Any:
        """What has been asked for in the thread that computes, to be waited for."""

    def wait(self, mark: Any) -> None:
        """Until the work before a mark is done."""

    def upload(self, tile: NDArray[Any]) -> Array:
        """An array of NumPy as one of the backend; it is there when this returns."""

    def download(self, tile: Array) -> NDArray[Any]:
        """An array of the backend as one of NumPy. The work on it has been waited for."""


class HostStaging:
    """NumPy: everything is where it is computed with, and done when a call returns."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops

    def computing(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def loading(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def mark(self) -> None:
        return None

    def wait(self, mark: None) -> None:
        pass

    def upload(self, tile: NDArray[Any]) -> NDArray[Any]:
        return tile

    def download(self, tile: NDArray[Any]) -> NDArray[Any]:
        return tile


def host_free_bytes() -> int:
    """Memory that new allocations may take without swapping; half of all where unknown."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError as error:
        if error.errno is None:  # the TimeoutError of a signal's handler
            raise
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
