"""Helpers: they come, hold up no call, keep nothing, and an interrupt leaves them as they are."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from mplinalg.kernels.cpu import helpers
from mplinalg.kernels.cpu.helpers import run_beside

TIMEOUT = 60.0  # seconds; a deadlock, not a slow machine


@pytest.mark.parametrize("count", [0, 1, 3])
def test_they_work_beside(count):
    meeting = threading.Barrier(count + 1, timeout=TIMEOUT)
    seen = []

    def work():
        meeting.wait()
        seen.append(threading.get_ident())

    for _ in range(3):
        run_beside(work, count)
    assert len(seen) == 3 * (count + 1)
    assert len(set(seen)) == count + 1  # the same threads again


@contextlib.contextmanager
def one_is_busy():
    """With a call of another thread."""
    begun, end = threading.Event(), threading.Event()

    def long():
        if threading.current_thread() is not outer:
            begun.set()
        assert end.wait(TIMEOUT)

    outer = threading.Thread(target=lambda: run_beside(long, 1))
    outer.start()
    assert begun.wait(TIMEOUT)
    try:
        yield
    finally:
        end.set()
        outer.join(TIMEOUT)
    assert not outer.is_alive()


def meet(count):
    """On `count` threads at once."""
    run_beside(threading.Barrier(count, timeout=TIMEOUT).wait, count - 1)


def test_who_is_busy_is_not_waited_for(monkeypatch):
    """And does not come later, either."""
    monkeypatch.setattr(helpers, "_helpers", [])
    calls = []
    with one_is_busy():
        for _ in range(5):
            run_beside(lambda: calls.append(threading.get_ident()), 1)
        assert calls == [threading.get_ident()] * 5
        assert not helpers._tasks
    meet(2)
    assert len(calls) == 5


def are_idle(all_of_them):
    stop = time.monotonic() + TIMEOUT
    while time.monotonic() < stop:
        if all(one.is_idle for one in all_of_them):
            return True
        time.sleep(1e-3)
    return False


def test_who_is_idle_comes_first(monkeypatch):
    monkeypatch.setattr(helpers, "_helpers", [])
    meet(3)
    assert are_idle(helpers._helpers)
    with one_is_busy():
        for _ in range(3):
            meet(2)
        assert sorted(one.is_idle for one in helpers._helpers)[0] is False
    assert are_idle(helpers._helpers)
    assert len(helpers._helpers) == 2


def test_who_has_begun_is_waited_for():
    begun, ended = threading.Event(), []
    mine = threading.get_ident()

    def work():
        if threading.get_ident() == mine:
            assert begun.wait(TIMEOUT)
            raise KeyError("mine")
        begun.set()
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(KeyError, match="mine"):
        run_beside(work, 1)
    assert ended == [True]


def test_the_error_of_a_helper_is_raised():
    meeting = threading.Barrier(2, timeout=TIMEOUT)
    mine = threading.get_ident()

    def work():
        meeting.wait()
        if threading.get_ident() != mine:
            raise SystemExit("its own")

    with pytest.raises(SystemExit, match="its own"):
        run_beside(work, 1)
    meeting.reset()
    run_beside(meeting.wait, 1)


def test_nothing_is_kept():
    """A helper asleep holds on to no array that it has worked on."""
    array = np.zeros(10)
    meeting = threading.Barrier(2, timeout=TIMEOUT)

    def work(array=array):
        meeting.wait()
        array += 1

    run_beside(work, 1)
    assert array.sum() == 20
    gone = weakref.ref(array)
    del work, array
    stop = time.monotonic() + TIMEOUT
    while gone() is not None and time.monotonic() < stop:
        time.sleep(1e-3)  # the helper may be about to forget it
    assert gone() is None


def test_without_threads(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helpers._thread, "start_new_thread", refuse)
    monkeypatch.setattr(helpers, "_helpers", [])
    calls = []
    for _ in range(3):
        run_beside(lambda: calls.append(threading.get_ident()), 3)
    assert calls == [threading.get_ident()] * 3
    assert not helpers._tasks


INTERRUPTED = """
import random, signal, sys, threading, time
import numpy as np
from mplinalg.kernels.cpu.helpers import run_beside

def work():
    for i in range(4):
        counts[threading.get_ident() == mine] += 1
        x @ x

def both():
    meeting = threading.Barrier(2, timeout=60)
    run_beside(meeting.wait, 1)

signal.signal(signal.SIGALRM, signal.default_int_handler)
random.seed(int(sys.argv[1]))
mine, x, counts, caught, late = threading.get_ident(), np.ones(4096), [0, 0], 0, 0
both()
for i in range(12_000):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-6 + 3e-4 * random.random())
        while True:
            run_beside(work, 1)
    except KeyboardInterrupt:
        before, caught = counts[0], caught + 1
    if i % 100 == 0:
        time.sleep(1e-4)
        late += counts[0] - before
assert caught == 12_000
assert late == 0, "a helper was still at work"
assert counts[0] > 100, "no helper came"
both()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
@pytest.mark.parametrize("seed", [1, 2])
def test_interrupts_leave_nothing_behind(seed):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(seed)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:] or f"signal {-done.returncode}"


@pytest.mark.parametrize("who", ["mine", "helper", "both"])
def test_an_error_is_not_held_by_its_own_traceback(who):
    """What the frames of its callers hold would go when the garbage collector comes."""

    class Held:
        pass

    def call():
        held, meeting = Held(), threading.Barrier(2, timeout=TIMEOUT)
        watched.append(weakref.ref(held))

        def work():
            meeting.wait()
            if who in ("both", "mine" if threading.get_ident() == mine else "helper"):
                raise KeyError

        run_beside(work, 1)

    watched, mine = [], threading.get_ident()
    gc.disable()
    try:
        with contextlib.suppress(KeyError):
            call()
        stop = time.monotonic() + TIMEOUT / 10
        while watched[0]() is not None and time.monotonic() < stop:
            time.sleep(1e-3)  # the helper may be about to forget it
        assert watched[0]() is None
    finally:
        gc.enable()
