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

__all__ = ["Bell", "Task", "surely", "told_of_interrupts"]


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


class Task:
    """What another thread is asked to do, unless it is taken back before it begins.

    Attributes
    ----------
    error : BaseException or None
        What it raised.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._fate = work, dict[str, str]()
        self._has_ended, self._end = False, Bell()
        self.error: BaseException | None = None

    def run(self) -> None:
        if self._fate.setdefault("is", "begun") != "begun":
            return
        try:
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            self._has_ended = True
            self._end.ring()

    def settle(self) -> None:
        """Take it back, or wait until it has ended. As often as one likes."""
        if self._fate.setdefault("is", "taken back") == "begun" and not self._has_ended:
            self._end.wait()


def surely(settle: Callable[[], None]) -> BaseException | None:
    """Call what can be called again until no interrupt ends it in between. The last interrupt.

    Its caller catches those between the steps of this one, in a loop of its own.
    """
    interrupt: BaseException | None = None
    while True:
        try:
            settle()
            return interrupt
        except BaseException as error:
            interrupt = error


@contextlib.contextmanager
def told_of_interrupts(stop: Callable[[BaseException], None]) -> Iterator[Callable[[Bell], None]]:
    """Within, Ctrl-C is no exception, but a call of `stop` on a thread of its own.

    The exception is raised at the end, if not before by what was stopped. Other threads than the
    main one get no interrupts, and a program with a handler of its own keeps it.

    Parameters
    ----------
    stop : callable
        Called with the KeyboardInterrupt: has what is being done end soon.

    Yields
    ------
    wait : callable
        ``wait(bell)`` is ``bell.wait()``, where a further Ctrl-C is raised at once: for who shares
        nothing at that moment. Elsewhere it does nothing.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield Bell.wait
        return
    asked: list[BaseException] = []
    waiting: list[Bell] = []

    def handle(number: int, frame: Any) -> None:
        if not asked:
            asked.append(KeyboardInterrupt())
            with contextlib.suppress(RuntimeError):  # no more threads: it is raised at the end
                _thread.start_new_thread(stop, (asked[0],))
        elif waiting:
            raise KeyboardInterrupt

    def wait(bell: Bell) -> None:
        try:
            waiting.append(bell)
            bell.wait()
        finally:
            waiting.clear()

    signal.signal(signal.SIGINT, handle)
    try:
        yield wait
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked:
        raise asked[0]
