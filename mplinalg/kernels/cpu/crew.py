"""Calls of BLAS side by side, each on one thread.

A product that BLAS divides among its threads waits for the slowest of them: where another thread of
the process, or another process, takes a core for a while, all of them wait, and spin. OpenBLAS's
threads go on spinning after a call, too, for some 25 ms. Several products, each on one thread, are
taken in turn by whoever is free, and lose only that while.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from ...interrupts import surely
from .batched import threads as pool

__all__ = ["crew_size", "run_batch", "run_each", "serial_blas"]

T = TypeVar("T")

_owner: dict[str, object] = {}
"""Who has made BLAS serial: one entry, or none."""
_size: ContextVar[int | None] = ContextVar("_size", default=None)


def crew_size() -> int:
    """Threads that `run_each` takes: as many as SciPy's BLAS may use, or might before it was
    made serial. One where it calls itself.
    """
    size = _size.get()
    return pool.blas_threads() if size is None else size


@contextlib.contextmanager
def serial_blas() -> Iterator[None]:
    """BLAS on the thread that calls it, in the whole process; what may be divided is by `run_each`.

    One thread of a process does so at a time. For another one BLAS stays as it finds it, which may
    take longer: two that each restore what they have found would leave BLAS serial. After an
    interrupt at any moment it is as it was, at the latest when the exception is dropped.
    """
    libraries = pool.blas_controller().lib_controllers
    outer, size, mine, threads = _size.get(), crew_size(), object(), list[int]()

    def restore() -> None:
        for library, count in zip(libraries, threads, strict=False):
            library.set_num_threads(count)
        if _owner.get("is") is mine:
            _owner.clear()
        _size.set(outer)

    try:
        _size.set(size)
        if _owner.setdefault("is", mine) is mine:
            threads[:] = [library.get_num_threads() for library in libraries]
            for library in libraries:
                library.set_num_threads(1)
        yield
    finally:
        interrupt: BaseException | None = None
        while True:
            try:
                interrupt = surely(restore) or interrupt
                break
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


def run_each(
    work: Callable[[T], Any], items: Sequence[T], seconds: float = 1.0
) -> list[Any]:  # fmt: skip
    """``work(item)`` of each item, on several threads, where BLAS is serial.

    Items are begun in order, by whoever is free.

    Parameters
    ----------
    work : callable
        It must release the GIL to gain anything.
    items : sequence
    seconds : float
        Of one item, an estimate: threads are woken only where they save time, and BLAS stays as it
        is where they do not.

    Returns
    -------
    list
        What `work` returned, in the order of the items.

    Raises
    ------
    Exception
        The first one that `work` raised; items that had not begun are left out.
    """
    threads = crew_size()
    if threads == 1 or not pool.is_worthwhile(len(items), seconds):
        return [work(item) for item in items]
    if _size.get() is None:
        with serial_blas():
            return run_each(work, items, seconds)
    results: list[Any] = [None] * len(items)

    def some(first: int, last: int) -> None:
        outer = _size.get()
        try:
            _size.set(1)
            for i in range(first, last):
                results[i] = work(items[i])
        finally:
            _size.set(outer)

    pool.run_chunks(some, len(items), seconds, 1, threads, len(items))
    return results


def run_batch(function: Callable[[int, int], Any], count: int, seconds: float) -> None:
    """``function(first, last)`` for ranges that make up ``range(count)``, where BLAS computes.

    Of many members each thread takes some, with serial BLAS; few are left to BLAS and its threads.
    `seconds` are those of one member.
    """
    threads = crew_size()
    if count < pool.ROUNDS * threads:
        function(0, count)
        return
    ranges = pool.chunks(count, pool.ROUNDS * threads, 1)
    run_each(lambda some: function(*some), ranges, seconds * count / len(ranges))
