"""Words that threads share: no step of any of them is lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from mplinalg.kernels.cpu.words import (
    add_to,
    exchanged,
    give_way,
    nanoseconds,
    put,
    seen,
    system_calls,
)  # fmt: skip

STEPS = 200_000


@numba.njit(nogil=True)
def count(words, calls):
    """Add up in words[0]; in words[2] as well, which is held by words[1] meanwhile."""
    for _ in range(STEPS):
        add_to(words, 0, 1)
        while not exchanged(words, 1, 0, 1):
            give_way(calls)
        words[2] += 1
        put(words, 1, 0)
    return seen(words, 0)


def test_no_step_is_lost():
    words, calls = np.zeros(3, np.int64), system_calls()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: count(words, calls), range(3)))
    assert words.tolist() == [3 * STEPS, 0, 3 * STEPS]
    assert max(found) == 3 * STEPS
    assert min(found) >= STEPS


def test_what_was_there_before():
    @numba.njit
    def steps(words):
        return add_to(words, 1, -7), exchanged(words, 1, 0, 9), exchanged(words, 1, -2, 9)

    words = np.array([0, 5, 0])
    assert steps(words) == (5, False, True)
    assert words.tolist() == [0, 9, 0]


def test_the_clock_is_that_of_python():
    calls = system_calls()
    for _ in range(3):
        before, found, after = time.monotonic_ns(), nanoseconds(calls), time.monotonic_ns()
        assert before <= found <= after
