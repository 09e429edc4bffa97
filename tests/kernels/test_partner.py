"""The partner: it helps, sleeps soon, and neither its absence nor its end does harm."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mplinalg.kernels.cpu import partner, strips

from .test_streamed import whole

SINGLE = np.dtype(np.float32)


def operands(rng, dtype=SINGLE):
    a, b = whole(rng, (100, 200), dtype), whole(rng, (384, 200), dtype).T
    return a, b, a @ b


def multiplied(a, b, parts=8):
    c = np.full((a.shape[0], b.shape[1]), np.nan, a.dtype)
    partner.multiply(a, b, c, parts, by_columns=True)
    return c


def helped():
    return int(partner._partners[SINGLE].words[strips.HELPED])


def until_helped(a, b, want):
    """Multiply until the partner took a strip, which it does unless others have the cores."""
    before, stop = -1, time.monotonic() + 60
    while before < 0 or helped() == before:
        assert np.array_equal(multiplied(a, b), want)
        before = helped() if before < 0 else before
        assert time.monotonic() < stop, "the partner never came"


def test_it_helps_and_comes_again(rng):
    case = operands(rng)
    for _ in range(3):
        until_helped(*case)
        time.sleep(5e-9 * partner.PATIENCE)


def test_numbers_of_both_kinds_in_turn(rng):
    cases = [operands(rng, dtype) for dtype in (np.float32, np.float64)]
    for _ in range(50):
        for a, b, want in cases:
            assert np.array_equal(multiplied(a, b), want)


def test_threads_at_once(rng):
    """One of them has the partner; the bits are the same."""
    a, b = rng.standard_normal((100, 200)), rng.standard_normal((200, 384))
    want = multiplied(a, b)
    meeting = threading.Barrier(4, timeout=60)

    def work(_):
        meeting.wait()
        return all(np.array_equal(multiplied(a, b), want) for _ in range(100))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def is_asleep(mine):
    """Within a minute."""
    stop = time.monotonic() + 60
    while not mine.is_idle and time.monotonic() < stop:
        time.sleep(1e-3)
    return mine.is_idle and not mine.words[strips.HERE]


def test_the_processor_is_idle_soon_after(rng):
    until_helped(*operands(rng))
    assert is_asleep(partner._partners[SINGLE])
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_it_is_patient_for_milliseconds():
    """Which the test above does not see: it waits until the partner sleeps."""
    assert 500_000 <= partner.PATIENCE <= 5_000_000


def test_without_a_partner(rng, monkeypatch):
    """Where there can be no more threads."""

    def start(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(partner._thread, "start_new_thread", start)
    monkeypatch.setattr(partner, "_partners", {})
    a, b, want = operands(rng)
    for _ in range(3):
        assert np.array_equal(multiplied(a, b), want)
    assert helped() == 0


def test_after_its_end(rng, monkeypatch):
    monkeypatch.setattr(partner, "_partners", {})
    a, b, want = operands(rng)
    until_helped(a, b, want)
    mine = partner._partners[SINGLE]
    partner._end()
    assert is_asleep(mine)
    before = helped()
    assert np.array_equal(multiplied(a, b), want)
    assert helped() == before
    assert mine.is_idle


def test_what_fits():
    assert partner.fits(784, 144, 4)
    assert not partner.fits(784, 1400, 4)
    for k, n in ((700, 1400), (30_000, 1), (1, 900_000)):
        for itemsize in (4, 8):
            line = int(strips.bytes_of_line(n, itemsize))
            assert not partner.fits(k, n, itemsize) or k * line + 64 <= partner.ROOM


PREPARED = """
import os, signal, sys, threading, time
import numpy as np
from tests.kernels import test_partner as t
rng = np.random.default_rng(0)
case = t.operands(rng)
t.until_helped(*case)
"""

FORKED = (
    PREPARED
    + """
def others():
    while not ended:
        t.multiplied(*case[:2])

ended = []
side = threading.Thread(target=others)  # leads at the moment of some of the forks
side.start()
for i in range(6):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        assert not t.partner._partners
        t.until_helped(*case)
        sys.exit(7)  # as Python does it, with its threads
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    t.until_helped(*case)
ended.append(True)
side.join()
"""
)

INTERRUPTED = (
    PREPARED
    + """
signal.signal(signal.SIGALRM, signal.default_int_handler)
caught = 0
for i in range(600):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4 + 1e-5 * (i % 200))
        while True:
            t.multiplied(*case[:2])
    except KeyboardInterrupt:
        caught += 1
assert caught == 600
words = t.partner._partners[t.SINGLE].words
assert not words[t.strips._HELD]
t.until_helped(*case)
"""
)

ENDED = (
    PREPARED
    + """
import atexit

def last():
    assert np.array_equal(t.multiplied(*case[:2]), case[2])
    print(time.monotonic(), flush=True)

atexit.register(last)
t.until_helped(*case)
"""
)


def run(code):
    # Python 3.12 warns of a fork while there are threads
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    ended = time.monotonic()
    assert done.returncode == 0, done.stderr[-2000:] or f"signal {-done.returncode}"
    return done.stdout, ended


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_its_own():
    run(FORKED)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
def test_interrupts_leave_nothing_behind():
    run(INTERRUPTED)


def test_python_ends_at_once():
    """And what is multiplied then is right."""
    printed, ended = run(ENDED)
    assert ended - float(printed) < 10
