"""Programs that are interrupted at any moment, over and over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX")

RESTORED = """
import random, signal
from mplinalg.interrupts import told_of_interrupts

class Late(Exception):
    pass

def late(number, frame):
    raise Late

signal.signal(signal.SIGALRM, late)
signal.signal(signal.SIGINT, signal.default_int_handler)
seen = 0
for _ in range(6000):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-4))
            with told_of_interrupts(lambda error: None):
                pass
            for _ in range(16000):
                pass
        except Late:
            seen += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        pass
    while True:  # a signal may come a while after its timer has ended
        try:
            assert signal.getsignal(signal.SIGALRM) is late
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            break
        except Late:
            pass
assert seen > 3000, seen
"""

PREPARED = """
import random, signal, threading, time
import numpy as np

class Late(Exception):
    pass

def late(number, frame):
    raise Late

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
signal.signal(signal.SIGALRM, late)

def several(thread, count, number):
    for _ in range(count):
        signal.pthread_kill(thread, number)
        time.sleep(5e-5)

def caught(work, times, longest, at_once=1, number=signal.SIGINT):
    '''Interrupts at any moment of `work`, over and over; each is raised, or a destructor had it.'''
    main, seen = threading.main_thread().ident, 0
    random.seed(1)
    for _ in range(times):
        wait = longest * random.random()
        send = threading.Timer(wait, several, (main, at_once, number))
        try:
            send.start()
            stop = time.monotonic() + wait + 1
            while time.monotonic() < stop:
                work()
        except (KeyboardInterrupt, Late):
            seen += 1
        while True:  # the rest of several
            try:
                send.join()
                break
            except (KeyboardInterrupt, Late):
                pass
    return seen
"""

TILED = (
    PREPARED
    + """
from mplinalg import tiled
from mplinalg.kernels.cpu.batched.threads import blas_threads
rng = np.random.default_rng(0)
a, b = rng.standard_normal((200, 200)), rng.standard_normal(200)
def solved():
    return tiled.solve(a, b, memory_limit=2_000_000, tile=50)
x, before, blas = solved(), threading.active_count(), blas_threads()
assert caught(solved, 30, 0.2) >= 25
assert caught(solved, 30, 0.2, number=signal.SIGALRM) >= 25
assert caught(solved, 40, 0.2, at_once=2) >= 30
assert np.array_equal(solved(), x)
assert (threading.active_count(), blas_threads()) == (before, blas)
"""
)

LOADED = (
    PREPARED
    + """
from mplinalg.nn.data import DataLoader
x = np.arange(3000.0).reshape(1000, 3)
at_work = [0]
def transform(x, y):
    at_work[0] += 1
    time.sleep(1e-4)
    at_work[0] -= 1
    return x, y
def loaded():
    assert at_work == [0], "an earlier one is still at work"
    loader = DataLoader(x, None, batch_size=10, prefetch=2, transform=transform)
    assert sum(len(part) for part, _ in loader) == 1000
assert caught(loaded, 400, 0.01) >= 390
assert at_work == [0]
loaded()
assert threading.active_count() == 1
"""
)


@pytest.mark.parametrize("code", [RESTORED, TILED, LOADED], ids=["handlers", "tiled", "loader"])
def test_interrupts_leave_nothing_behind(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False, timeout=120,
        capture_output=True, text=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:] or f"signal {-done.returncode}"
