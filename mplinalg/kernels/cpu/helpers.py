"""Threads that help the calling one, and that an interrupt of it cannot block.

The calling thread holds no lock: it changes a deque, and rings. Whatever it does can be done again
after an interrupt. A pool and its futures are left with a lock held (`mplinalg.interrupts`).
"""

from __future__ import annotations

import _thread
import contextlib
import os
from collections import deque
from collections.abc import Callable

from ...interrupts import Bell, Task, surely

__all__ = ["run_beside"]

Work = Callable[[], None]


class _Helper:
    """A thread that sleeps where there are no tasks."""

    def __init__(self) -> None:
        self._is_there, self.is_idle, self._bell = False, True, Bell()

    def wake(self) -> None:
        """Have it look for tasks, now or after what it does; RuntimeError if it cannot start."""
        if not self._is_there:  # after an interrupt in between there are two: one of them sleeps
            _thread.start_new_thread(self._serve, ())
            self._is_there = True
        self._bell.ring()

    def _serve(self) -> None:
        while True:
            self._bell.wait()
            self.is_idle = False
            with contextlib.suppress(IndexError):
                while True:
                    _tasks.popleft().run()  # and no name keeps what it has worked on
            self.is_idle = True


_tasks: deque[Task] = deque()
_helpers: list[_Helper] = []
"""As many as were ever wanted at once; they live as long as the process."""


def run_beside(work: Work, count: int) -> None:
    """``work()`` on this thread, and on up to `count` helpers beside it.

    Helpers that have not begun when it ends on this thread are not waited for: they may be busy
    with other calls, and never block this one. Those that have begun are, whatever happens; they
    may write to what the caller then gives up.

    Parameters
    ----------
    work : callable
        Each thread calls it at most once.
    count : int
        Fewer come where there can be no more threads: at the limit of the system, or when Python
        ends.

    Raises
    ------
    Exception
        What `work` raised on this thread; else the first that it raised on a helper.
    """
    tasks = [Task(work) for _ in range(count)]
    try:
        _ask(tasks)
        work()
    finally:
        interrupt: BaseException | None = None
        while True:
            try:
                interrupt = surely(lambda: _settle(tasks)) or interrupt
                break
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt
    errors = [task.error for task in tasks if task.error is not None]
    tasks.clear()  # an exception that is held by its own traceback would outlive who catches it
    if errors:
        raise errors.pop(0)


def _settle(tasks: list[Task]) -> None:
    for task in tasks:
        with contextlib.suppress(ValueError):  # a helper has it
            _tasks.remove(task)
        task.settle()


def _ask(tasks: list[Task]) -> None:
    while len(_helpers) < len(tasks):  # two threads at once make too many: these sleep
        _helpers.append(_Helper())
    _tasks.extend(tasks)
    with contextlib.suppress(RuntimeError):  # no more threads
        for helper in sorted(_helpers, key=lambda one: not one.is_idle)[: len(tasks)]:
            helper.wake()


def _forget() -> None:
    """In a forked child: threads were not copied."""
    _tasks.clear()
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
