"""Chunks of a batch, on the threads that SciPy's BLAS may use.

Kernels are serial and release the GIL, so plain Python threads run them side by side. How many is
asked of SciPy's BLAS at every call: OPENBLAS_NUM_THREADS and `threadpoolctl` limit it. Chunks are
taken in turn by whoever is free, and the calling thread takes them too, so that helpers busy with
other work delay a call but never block it.

What a chunk is computed to must not depend on where chunks begin: then the results do not depend
on the number of threads. What BLAS computes on threads of its own does, in the last bits.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..helpers import run_beside

__all__ = ["ROUNDS", "blas_controller", "blas_threads", "chunks", "is_worthwhile", "run_chunks"]

T = TypeVar("T")

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
    left = deque(enumerate(ranges))

    def work() -> None:
        try:
            for k, some in _taken(left):
                results[k] = function(*some)
        except BaseException:
            left.clear()
            raise

    run_beside(work, wanted - 1)
    return results


def _taken(left: deque[T]) -> Iterator[T]:
    """What no other thread takes, in turn, until nothing is left."""
    while left:
        try:
            taken = left.popleft()
        except IndexError:  # another one took the last
            return
        yield taken
