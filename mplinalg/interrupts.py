"""Ctrl-C and other signals, and threads that work beside the main one.

Python raises KeyboardInterrupt, or what else the handler of a signal raises, in the main thread
between any two of its steps: also between those by which a queue, a future or a condition takes a
lock and notes that it has it. Who needs that lock later waits for ever. So a thread that others
wait for shares with them a `Bell` and containers that change in one step; or the interrupt is told
to all of them and raised when they have ended (`told_of_interrupts`).
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
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
            del self  # this frame is in the traceback of the error

    def settle(self) -> None:
        """Take it back, or wait until it has ended. As often as one likes.

        At the end of Python no other thread goes on, and there is nothing to wait for.
        """
        is_begun = self._fate.setdefault("is", "taken back") == "begun"
        if is_begun and not self._has_ended and not sys.is_finalizing():
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


_RAISING = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP", "SIGALRM", "SIGVTALRM", "SIGPROF")
"""Signals whose handlers raise in many programs. To wrap a handler undoes what `siginterrupt` and
`faulthandler` have set for its signal."""


class _Teller:
    """A handler of signals around those that are there: what they raise is told.

    Attributes
    ----------
    asked : BaseException or None
        The first exception.
    is_at_work : bool
        Otherwise it lets exceptions through, for who has kept it as a handler.
    """

    def __init__(self, stop: Callable[[BaseException], None]) -> None:
        self.asked: BaseException | None = None
        self.is_at_work, self._waits = True, False
        self._stop, self._process = stop, os.getpid()
        self._handlers: dict[int, Callable[[int, Any], Any]] = {}

    def __call__(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # forked meanwhile: nobody here would raise it later
            self.is_at_work = False
        try:
            self._handlers[number](number, frame)
        except BaseException as error:
            if not self.is_at_work or (self.asked is not None and self._waits):
                raise
            if self.asked is None:
                self.asked = error
                with contextlib.suppress(RuntimeError):  # no more threads: it is raised at the end
                    _thread.start_new_thread(self._stop, (error,))
        finally:
            if self.is_at_work:
                self.wrap(number)  # the handler may have set itself, or another, again

    def wrap(self, number: int) -> None:
        """Take the place of the handler of a signal, if that is one of the program's."""
        handler: Any = signal.getsignal(number)
        if callable(handler) and handler is not self:
            self._handlers[number] = handler
            signal.signal(number, self)

    def restore(self) -> None:
        """Give up its places. As often as one likes."""
        for number, handler in self._handlers.items():
            if signal.getsignal(number) is self:
                signal.signal(number, handler)

    def wait(self, bell: Bell) -> None:
        """Wait, where further exceptions are raised at once."""
        try:
            self._waits = True
            bell.wait()
        finally:
            self._waits = False


@contextlib.contextmanager
def told_of_interrupts(stop: Callable[[BaseException], None]) -> Iterator[Callable[[Bell], None]]:
    """Within, what handlers of signals raise, as that of Ctrl-C does, is told and raised later.

    The first such exception is given to `stop`, on a thread of its own, and raised at the end; what
    was stopped may raise it before, and what else it raises is the cause. Others are dropped.
    Handlers that raise nothing notice nothing. Threads other than the main one have no handlers.

    Parameters
    ----------
    stop : callable
        Called with the exception: has what is being done end soon.

    Yields
    ------
    wait : callable
        ``wait(bell)`` is ``bell.wait()``, where further exceptions are raised at once: for who
        shares nothing at that moment.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Bell.wait
        return
    teller, failure, interrupt = _Teller(stop), None, None
    try:
        for name in _RAISING:
            if hasattr(signal, name):
                teller.wrap(getattr(signal, name))
        yield teller.wait
    except BaseException as error:  # without this frame, from which it could be reached
        failure = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    finally:
        teller.is_at_work = False  # first: a wrapper that is left does no harm
        while True:
            try:
                interrupt = surely(teller.restore) or interrupt
                break
            except BaseException as error:
                interrupt = error
    told, teller.asked = interrupt if teller.asked is None else teller.asked, None
    try:
        if told is not None and failure is not None and failure is not told:
            raise told from failure
        if told is not None:
            raise told
        if failure is not None:
            raise failure
    finally:  # an exception that is held by its own traceback would outlive who catches it
        del told, failure, interrupt
