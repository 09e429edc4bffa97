"""P A = L U on one thread by `getrf`, and on several in blocks of columns, BLAS serial on each.

A block is factored by one thread, while others update the columns beyond with the blocks before
(lookahead). Whoever is free takes the leftmost block that can be worked on. So a thread that is
held up delays its own block only. Where BLAS divides each of some hundred products among its
threads, all of them wait for the slowest every time. Threads are started once for a factorization.

The block that is factored is the critical path: n^2 width / 2 flops at a third of gemm's rate, half
of what each thread has to do where the matrix has four blocks a thread.

References
----------
Kurzak, Luszczek, Faverge and Dongarra, IEEE Trans. Parallel Distrib. Syst. 24 (2013) 1613
(lookahead by dynamic scheduling).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import crew, routines
from .getrf import WIDTH, factor_columns, swap_rows, update_columns

__all__ = ["getrf_rows"]

_FROM = 1500
"""Order from which several threads pay."""
_NARROWEST, _WIDEST = 64, 512


class _Blocks:
    """A matrix that is being factored, and what has been done to its blocks of columns."""

    def __init__(self, a: NDArray[Any], piv: NDArray[np.int32], width: int) -> None:
        self._a, self._piv, self._width = a, piv, width
        self._real = a.view(a.real.dtype)
        self._gemm = routines.address("gemm", a.dtype)
        self._inverses = np.empty((-(-len(a) // WIDTH), WIDTH, WIDTH), a.dtype)
        self._count = -(-len(a) // width)
        self._lock = threading.Lock()
        self._factored = 0
        self._updates: list[int | None] = [0] * self._count
        """By how many blocks each has been updated; None while a thread has it."""
        self._unswapped = self._count - 1
        """Factored blocks whose rows are to be exchanged by what came to their right."""
        self._is_over = False
        self.info = 0

    def work(self) -> None:
        """Take what can be done, beside others that do the same, until nothing is left to begin."""
        try:
            while not self._is_over:
                with self._lock:
                    task = self._next()
                if task is None:
                    time.sleep(0)  # the processor, and the GIL, may be needed
                else:
                    task()
        except BaseException:
            self._is_over = True  # or the others would wait for what it had taken
            raise

    def _next(self) -> Callable[[], None] | None:
        """What is to be done next; None if nothing can be now."""
        if self._factored == self._count:
            if self._unswapped:
                self._unswapped -= 1
                return partial(self._swap, self._unswapped)
            self._is_over = True
            return None
        for j in range(self._factored, self._count):
            had = self._updates[j]
            if had == j:
                self._updates[j] = None
                return partial(self._factor, j)
            if had is not None and had < self._factored:
                self._updates[j] = None
                return partial(self._update, j, had, self._factored)
        return None

    def _columns(self, j: int) -> tuple[int, int]:
        return j * self._width, min((j + 1) * self._width, len(self._a))

    def _factor(self, j: int) -> None:
        info = factor_columns(
            self._gemm, self._a, self._real, self._piv, self._inverses, *self._columns(j)
        )
        with self._lock:
            self.info = self.info or info
            self._factored = j + 1

    def _update(self, j: int, first: int, last: int) -> None:
        """Update block j, swapped along, with blocks first, ..., last - 1."""
        left, right = self._columns(j)
        for k in range(first, last):
            top, bottom = self._columns(k)
            swap_rows(self._a, self._piv, top, bottom, left, right)
            update_columns(self._gemm, self._a, self._inverses, top, bottom, left, right)
        with self._lock:
            self._updates[j] = last

    def _swap(self, j: int) -> None:
        left, right = self._columns(j)
        swap_rows(self._a, self._piv, right, len(self._a), left, right)


def _width(n: int, threads: int) -> int:
    """Columns of a block: a power of two near a quarter of what a thread has of the matrix."""
    width = _NARROWEST
    while width < _WIDEST and 1.5 * width * 4 * threads <= n:
        width *= 2
    return width


def getrf_rows(a: NDArray[Any], piv: NDArray[np.int32]) -> int:
    """P A = L U in place of the square A of contiguous rows; L has a unit diagonal.

    Parameters
    ----------
    a : ndarray, shape (n, n)
        C-contiguous, of one of the four LAPACK dtypes.
    piv : int32 ndarray, shape (n,)
        Row i was exchanged with row piv[i].

    Returns
    -------
    int
        i > 0: U[i-1, i-1] is exactly zero, the first to be so.
    """
    n = len(a)
    threads = crew.crew_size() if n >= _FROM else 1
    if threads == 1:
        inverses = np.empty((-(-n // WIDTH), WIDTH, WIDTH), a.dtype)
        gemm = routines.address("gemm", a.dtype)
        return int(factor_columns(gemm, a, a.view(a.real.dtype), piv, inverses, 0, n))
    blocks = _Blocks(a, piv, _width(n, threads))
    crew.run_each(lambda _: blocks.work(), range(threads))
    return blocks.info
