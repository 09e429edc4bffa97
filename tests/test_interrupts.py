"""Ctrl-C: a bell is never half rung, and who is told of an interrupt ends in order."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from mplinalg.interrupts import Bell, Task, surely, told_of_interrupts

TIMEOUT = 30.0  # seconds; a deadlock, not a slow machine

posix = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX")


def test_a_bell_rung_before_is_heard_once():
    bell = Bell()
    assert not bell.is_rung
    bell.ring()
    bell.ring()
    assert bell.is_rung
    bell.wait()
    assert not bell.is_rung


def test_a_bell_wakes():
    bell, woken = Bell(), threading.Event()

    def sleep():
        bell.wait()
        woken.set()

    threading.Thread(target=sleep, daemon=True).start()
    assert not woken.wait(0.05)
    bell.ring()
    assert woken.wait(TIMEOUT)


def interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.fixture
def _default_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def interrupted(stop, again=lambda: None):
    """Within, what follows an interrupt: `again`."""
    with told_of_interrupts(stop):
        interrupt()
        again()


def sleep():
    time.sleep(TIMEOUT)
    raise AssertionError("slept on")


def ignore(error):
    pass


@posix
@pytest.mark.usefixtures("_default_handler")
def test_it_is_told_on_another_thread_and_raised_at_the_end():
    told, who, steps = threading.Event(), [], []

    def stop(error):
        who.append((threading.get_ident(), error))
        told.set()

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted(stop, lambda: steps.append(told.wait(TIMEOUT)))
    assert steps == [True]
    assert [error for _, error in who] == [caught.value]
    assert who[0][0] != threading.get_ident()


@posix
@pytest.mark.usefixtures("_default_handler")
def test_further_ones_are_raised_where_nothing_is_shared():
    told, bell, steps = [], Bell(), []

    def impatient():
        with told_of_interrupts(told.append) as wait:
            for _ in range(3):
                interrupt()
            steps.append("went on")
            threading.Timer(0.1, interrupt).start()
            wait(bell)  # which nobody rings
            steps.append("waited")

    with pytest.raises(KeyboardInterrupt):
        impatient()
    assert steps == ["went on"]
    assert len(told) == 1


@posix
@pytest.mark.usefixtures("_default_handler")
def test_without_a_thread_to_tell_it_is_raised_at_the_end(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("mplinalg.interrupts._thread.start_new_thread", refuse)
    steps = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(ignore, lambda: steps.append("went on"))
    assert steps == ["went on"]


def test_a_task_taken_back_does_not_run():
    calls = []
    task = Task(lambda: calls.append(1))
    task.settle()
    task.run()
    task.settle()
    assert calls == []


def test_a_task_is_settled_as_often_as_one_likes():
    """As after an interrupt behind the wait."""
    task = Task(lambda: None)
    task.run()
    again = threading.Thread(target=lambda: [task.settle() for _ in range(3)], daemon=True)
    again.start()
    again.join(TIMEOUT)
    assert not again.is_alive()


def test_what_must_be_done_is_done_in_the_end():
    left = [KeyboardInterrupt("first"), ZeroDivisionError("second")]

    def settle():
        if left:
            raise left.pop(0)

    error = surely(settle)
    assert (type(error), left) == (ZeroDivisionError, [])
    assert surely(settle) is None


@posix
@pytest.mark.usefixtures("_default_handler")
def test_what_stops_may_raise_something_else():
    """Who catches that and goes on would not know of the interrupt."""
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted(ignore, lambda: 1 // 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@posix
@pytest.mark.usefixtures("_default_handler")
def test_it_is_not_held_by_its_own_traceback():
    """What its frames hold, tiles and locks, would go when the garbage collector comes."""

    class Held:
        pass

    def inner():
        held = Held()
        watched.append(weakref.ref(held))
        interrupted(ignore, lambda: 1 // 0)

    watched = []
    gc.disable()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            inner()
        until = time.monotonic() + TIMEOUT
        while watched[0]() is not None and time.monotonic() < until:
            time.sleep(0.01)  # the thread that was told has it
        assert watched[0]() is None
    finally:
        gc.enable()


class Late(Exception):
    """What the handler of a program raises."""


@pytest.fixture
def _late():
    """An alarm raises Late, as in programs that limit the time of a call."""

    def mine(number, frame):
        raise Late

    before = signal.signal(signal.SIGALRM, mine)
    yield
    assert signal.getsignal(signal.SIGALRM) is mine
    signal.signal(signal.SIGALRM, before)


def alarm():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)


@posix
@pytest.mark.usefixtures("_late")
def test_what_another_handler_raises_is_told_too():
    told, steps = threading.Event(), []
    errors = []

    def stop(error):
        errors.append(error)
        told.set()

    def late():
        with told_of_interrupts(stop):
            alarm()
            steps.append(told.wait(TIMEOUT))
            alarm()
            steps.append("went on")

    with pytest.raises(Late) as caught:
        late()
    assert steps == [True, "went on"]
    assert errors == [caught.value]


@posix
@pytest.mark.usefixtures("_default_handler", "_late")
def test_the_first_of_several_is_raised():
    with pytest.raises(Late):
        with_both(alarm, interrupt)
    with pytest.raises(KeyboardInterrupt):
        with_both(interrupt, alarm)


def with_both(first, second):
    with told_of_interrupts(ignore):
        first()
        second()


@posix
def test_a_handler_that_raises_nothing_is_called_as_ever():
    seen, told = [], []

    def note(number, frame):
        seen.append((number, frame.f_code.co_name))

    before = signal.signal(signal.SIGTERM, note)
    try:
        with told_of_interrupts(told.append):
            os.kill(os.getpid(), signal.SIGTERM)
            step = "went on"
        assert signal.getsignal(signal.SIGTERM) is note
    finally:
        signal.signal(signal.SIGTERM, before)
    assert step == "went on"
    assert [number for number, _ in seen] == [signal.SIGTERM]
    assert told == []


@posix
@pytest.mark.usefixtures("_default_handler")
def test_a_handler_set_within_stays():
    def other(number, frame):
        pass

    before = signal.getsignal(signal.SIGALRM)
    try:
        signal.signal(signal.SIGALRM, ignore_signal)
        with told_of_interrupts(ignore):
            signal.signal(signal.SIGALRM, other)
        assert signal.getsignal(signal.SIGALRM) is other
    finally:
        signal.signal(signal.SIGALRM, before)


def ignore_signal(number, frame):
    pass


@posix
@pytest.mark.usefixtures("_default_handler")
def test_a_handler_that_sets_itself_again_is_told_of_too():
    """As handlers of old did. What is set last stays."""
    told = threading.Event()

    def again(number, frame):
        signal.signal(signal.SIGALRM, other)
        raise Late

    def other(number, frame):
        signal.signal(signal.SIGALRM, other)
        raise Late

    before = signal.signal(signal.SIGALRM, again)
    steps = []

    def twice():
        with told_of_interrupts(lambda error: told.set()):
            alarm()
            alarm()
            steps.append("went on")

    try:
        with pytest.raises(Late):
            twice()
        assert signal.getsignal(signal.SIGALRM) is other
    finally:
        signal.signal(signal.SIGALRM, before)
    assert steps == ["went on"]
    assert told.wait(TIMEOUT)


@posix
@pytest.mark.usefixtures("_default_handler")
def test_signals_that_the_system_handles_are_left_to_it():
    numbers = [n for n in signal.valid_signals() if not callable(signal.getsignal(n))]
    before = [signal.getsignal(n) for n in numbers]
    with told_of_interrupts(ignore):
        assert [signal.getsignal(n) for n in numbers] == before
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler


def test_other_threads_have_none():
    inside = []

    def work():
        with told_of_interrupts(lambda error: None):
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(TIMEOUT)
    assert inside == [signal.getsignal(signal.SIGINT)]


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGVTALRM", "SIGPROF"])
def test_a_wrapper_that_somebody_keeps_lets_exceptions_through_later(name):
    """Within, each of these signals is told."""
    number, told = getattr(signal, name), threading.Event()

    def mine(number, frame):
        raise Late

    before, kept = signal.signal(number, mine), []

    def within():
        with told_of_interrupts(lambda error: told.set()):
            kept.append(signal.getsignal(number))
            signal.raise_signal(number)
            assert told.wait(TIMEOUT)

    try:
        with pytest.raises(Late):
            within()
        assert signal.getsignal(number) is mine
        signal.signal(number, kept[0])
        with pytest.raises(Late):
            signal.raise_signal(number)
        assert signal.getsignal(number) is kept[0]
    finally:
        signal.signal(number, before)


FORKED = """
import os, signal, sys, time
from mplinalg.interrupts import told_of_interrupts
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
with told_of_interrupts(lambda error: None):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@posix
def test_a_forked_child_is_not_told():
    """Nobody would raise it there."""
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=30,
                   cwd=Path(__file__).parents[1])  # fmt: skip
