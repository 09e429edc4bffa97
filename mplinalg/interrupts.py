"""Ctrl-C, and threads that work beside the main one.

Python raises KeyboardInterrupt, or what else the handler of a signal raises, in the main thread
between any two of its steps: also between those by which a queue, a future or a condition takes a
lock and notes that it has it. Who needs that lock later waits for ever. So a thread that others
wait for shares with them a `Bell` and containers that change in one step; or the interrupt is told
to all of them and raised when they have ended (`told_of_interrupts`).
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Bell", "told_of_interrupts"]


class Bell:
    """One thread waits for it, others ring it.

    Rung while nobody waits, it is heard by the next who does; rung several times, once. So who was
    woken looks whether there is what it waits for.
    """

    def __init__(self) -> None:
        self._silence = _thread.allocate_lock()
        self._silence.acquire()

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was rung a moment ago
            self._silence.release()

    def wait(self) -> None:
        self._silence.acquire()

    @property
    def is_rung(self) -> bool:
        """Whether the next who waits need not."""
        return not self._silence.locked()


@contextlib.contextmanager
def told_of_interrupts(stop: Callable[[BaseException], None]) -> Iterator[None]:
    """Within, Ctrl-C is no exception, but a call of `stop` on a thread of its own.

    The exception is raised at the end, if not before by what was stopped. A second Ctrl-C, of who
    does not want to wait for that, is raised at once. Other threads than the main one get no
    interrupts, and a program with a handler of its own keeps it.

    Parameters
    ----------
    stop : callable
        Called with the KeyboardInterrupt: has what is being done end soon.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    asked: list[BaseException] = []

    def handle(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(KeyboardInterrupt())
        try:
            _thread.start_new_thread(stop, (asked[0],))
        except RuntimeError:  # no more threads
            raise asked[0] from None

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked:
        raise asked[0]
