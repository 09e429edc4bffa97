"""The thread that takes strips of products: woken by the first one, asleep soon after the last.

It computes without the GIL, and no product needs it: the calling thread takes the strips that
nobody else takes. It sleeps by a bell, which no interrupt leaves half rung.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import threading
import time
from typing import Any

import numpy as np

from ...interrupts import Bell
from . import strips
from .batched.streamed import LINE
from .words import system_calls

Array = Any

__all__ = ["PATIENCE", "ROOM", "fits", "multiply"]

PATIENCE = 2_000_000
"""Nanoseconds without a product after which the partner sleeps: a step of training has gaps of some
hundred microseconds between products, for updates and the next batch."""
ROOM = 2**22
"""Bytes for the copy of B of a strip."""
_NOTHING = np.empty(0, np.int64)
_LAST = 1.0
"""Seconds that Python waits at its end for a partner to fall asleep, which takes `PATIENCE`."""


class _Partner:
    """The partner of all who multiply numbers of one dtype, and what it shares with them."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.job, self.words = np.zeros(strips.JOB, np.int64), np.zeros(strips.WORDS, np.int64)
        self.calls = system_calls()
        self.is_idle = True
        self._is_there = self._has_ended = False
        self._bell = Bell()

    def wake(self) -> None:
        """Have it look for work, if it does not already.

        It may not come: where there can be no more threads, or when Python ends.
        """
        if self.words[strips.HERE] or self._has_ended:
            return
        with contextlib.suppress(RuntimeError):  # no more threads
            if not self._is_there:  # two may be started, by two threads: one of them sleeps
                _thread.start_new_thread(self._serve, ())
                self._is_there = True
            self.is_idle = False
            self._bell.ring()

    def _serve(self) -> None:
        try:
            room = np.empty(ROOM // self.dtype.itemsize, self.dtype)
        except MemoryError:  # then there is no partner
            self._has_ended, self._is_there, self.is_idle = True, False, True
            return
        while True:
            self._bell.wait()
            strips.share(_NOTHING, _NOTHING, self.job, self.words, room, PATIENCE, self.calls)
            self.is_idle = True

    def end(self) -> None:
        """Wait until it sleeps, for good: a thread may not return from a kernel without Python."""
        self._has_ended = True
        stop = time.monotonic() + _LAST
        while self._is_there:
            time.sleep(1e-3)  # also for one that was woken just now
            if (self.is_idle and not self._bell.is_rung) or time.monotonic() > stop:
                break


_partners: dict[np.dtype[Any], _Partner] = {}


class _Own(threading.local):
    """What each thread that multiplies has for itself."""

    def __init__(self) -> None:
        self.words = np.zeros(strips.WORDS, np.int64)
        self.rooms: dict[np.dtype[Any], Array] = {}


_own = _Own()


def fits(k: int, n: int, itemsize: int) -> bool:
    """Whether there is room for a copy of B, or a strip of it."""
    return (k * (n * itemsize + 2 * LINE) + LINE) <= ROOM


def multiply(a: Array, b: Array, c: Array, parts: int, *, by_columns: bool) -> None:
    """C <- A B, in `parts` strips of columns or of rows, by this thread and its partner.

    Parameters
    ----------
    a, b : ndarray
        float32 or float64, one dtype, any strides.
    c : ndarray
        Rows are contiguous; it overlaps neither A nor B.
    parts : int
        So few that each strip has more columns than a register, or `LEAST_ROWS` rows, and that a
        strip's part of B `fits`.
    by_columns : bool
        Of C: each strip copies its part of B. Else each copies all of B.
    """
    dtype = c.dtype
    partner = _partners.get(dtype)
    if partner is None:
        partner = _partners.setdefault(dtype, _Partner(dtype))
    room = _own.rooms.get(dtype)
    if room is None:
        room = _own.rooms.setdefault(dtype, np.empty(ROOM // dtype.itemsize, dtype))
    (m, k), n = a.shape, b.shape[1]
    first, second, third = (int(x.__array_interface__["data"][0]) for x in (a, b, c))
    mine = np.array(
        (m, k, n, first, *a.strides, second, *b.strides, third, c.strides[0], by_columns, parts),
        np.int64,
    )
    partner.wake()
    strips.share(mine, _own.words, partner.job, partner.words, room, 0, partner.calls)


def _forget() -> None:
    """In a forked child: the thread was not copied, and somebody may have led."""
    _partners.clear()


@atexit.register
def _end() -> None:
    for partner in list(_partners.values()):
        partner.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
