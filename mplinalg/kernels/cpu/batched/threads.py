"""Chunks of a batch, on the threads that SciPy's BLAS may use.

Kernels are serial and release the GIL, so plain Python threads run them side by side. How many is
asked of SciPy's BLAS at every call: OPENBLAS_NUM_THREADS and `threadpoolctl` limit it. Chunks are
taken in turn by whoever is free, and the calling thread takes them too, so that a pool busy with
other work delays a call but never blocks it.

What a chunk is computed to must not depend on where chunks begin: then the results do not depend
on the number of threads. What BLAS computes on threads of its own does, in the last bits.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["ROUNDS", "blas_controller", "blas_threads", "chunks", "is_worthwhile", "run_chunks"]

GRAIN = 64
"""Members of the smallest chunk, if nothing else is said: full registers, of every type."""
_WORTHWHILE = 500e-6
"""Seconds of work that a thread is woken for: on a virtual machine it takes 150 microseconds."""
ROUNDS = 4
"""Chunks a thread, so that one that is held up does not hold up the others."""


@functools.cache
def blas_controller() -> Any:
    """threadpoolctl's controller of the BLAS that SciPy computes with.

    Of all there are, if it cannot be told from others.
    """
    import scipy.linalg  # noqa: F401  (loads it)
    import threadpoolctl

    found = threadpoolctl.ThreadpoolController().select(user_api="blas")
    paths = [library.filepath for library in found.lib_controllers]
    others = [path for path in paths if "numpy.libs" not in str(path)]
    return found.select(filepath=others) if others else found


def blas_threads() -> int:
    """Threads that SciPy's BLAS may use now, at least 1."""
    counts = [library.get_num_threads() for library in blas_controller().lib_controllers]
    return max(1, *counts) if counts else 1


def chunks(count: int, pieces: int, grain: int = GRAIN) -> list[tuple[int, int]]:
    """`count` members in about `pieces` ranges (first, last + 1) from multiples of `grain` on.

    >>> chunks(200, 2)
    [(0, 128), (128, 200)]
    >>> chunks(5, 2, 1)
    [(0, 3), (3, 5)]
    """
    grains = -(-count // grain)
    length = grain * max(1, -(-grains // max(pieces, 1)))
    return [(first, min(first + length, count)) for first in range(0, count, length)]


def is_worthwhile(count: int, cost_per_member_seconds: float) -> bool:
    """Whether several threads take less time for it than one."""
    return count > 1 and count * cost_per_member_seconds >= 2 * _WORTHWHILE


def run_chunks(
    function: Callable[[int, int], Any], count: int, cost_per_member_seconds: float,
    grain: int = GRAIN, threads: int | None = None, pieces: int | None = None,
) -> list[Any]:  # fmt: skip
    """``function(first, last)`` for ranges that make up ``range(count)``, on several threads.

    Parameters
    ----------
    function : callable
        Computes the members first, ..., last - 1. It must release the GIL to gain anything, and
        write only what belongs to its members.
    count : int
        Members in all; `function` is not called for 0.
    cost_per_member_seconds : float
        An estimate, by which threads are woken only where they save time.
    grain : int, optional
        Ranges begin at multiples of it: the members that `function` computes together, 1 if it
        takes one after the other. So a few large members are divided as well.
    threads : int, optional
        At most; by default as many as SciPy's BLAS may use.
    pieces : int, optional
        Ranges, about; by default four a thread.

    Returns
    -------
    list
        What `function` returned, in the order of the ranges.

    Raises
    ------
    Exception
        The first one that `function` raised; ranges that had not begun are left out.
    """
    if count == 0:
        return []
    wanted = min(int(count * cost_per_member_seconds / _WORTHWHILE), -(-count // grain))
    if wanted > 1:
        wanted = min(wanted, blas_threads() if threads is None else threads)
    if wanted <= 1:
        return [function(0, count)]
    ranges = chunks(count, ROUNDS * wanted if pieces is None else pieces, grain)
    results: list[Any] = [None] * len(ranges)
    turn = itertools.count()
    stopped = threading.Event()

    def work() -> None:
        for k in _taken(turn, len(ranges)):
            if stopped.is_set():
                return
            try:
                results[k] = function(*ranges[k])
            except BaseException:
                stopped.set()
                raise

    helpers = _start(work, wanted - 1)
    try:
        work()
    finally:
        # those that have not begun find nothing left to do; the others are waited for
        begun = [helper for helper in helpers if not helper.cancel()]
        errors = [error for helper in begun if (error := helper.exception()) is not None]
    if errors:
        raise errors[0]
    return results


def _taken(turn: Iterator[int], count: int) -> Iterator[int]:
    """Numbers below `count` that no other thread takes (`next` of a count is one step)."""
    while (k := next(turn)) < count:
        yield k


_lock = threading.Lock()
_pool: tuple[int, ThreadPoolExecutor] | None = None


def _start(work: Callable[[], None], count: int) -> list[Future[None]]:
    """`work`, begun `count` times on the threads of a pool that lives as long as the process.

    Fewer times if there can be no more threads: at the limit of the system, or when Python ends.
    """
    global _pool
    with _lock:
        if _pool is None or _pool[0] < count:
            if _pool is not None:
                _pool[1].shutdown(wait=False)
            _pool = count, ThreadPoolExecutor(count, thread_name_prefix="mplinalg")
        begun = []
        with contextlib.suppress(RuntimeError):
            for _ in range(count):
                begun.append(_pool[1].submit(work))
        return begun


def _forget() -> None:
    """In a forked child: the threads of the pool were not copied, and the lock may be held."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
