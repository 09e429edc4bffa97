"""Products in strips: each strip once, whoever takes it, and nobody leaves before the last one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from mplinalg.kernels.cpu import strips
from mplinalg.kernels.cpu.words import add_to, put, seen, system_calls

from .test_streamed import LAYOUTS, REALS, framed, whole

CALLS = system_calls()
NOTHING = np.empty(0, np.int64)
TINY = 200_000
"""Nanoseconds."""
SHAPES = [(16, 1, 17), (50, 7, 48), (37, 30, 130), (128, 33, 95), (97, 150, 200)]


class Desk:
    """What a leader and its partners share."""

    def __init__(self):
        self.job, self.words = np.zeros(strips.JOB, np.int64), np.zeros(strips.WORDS, np.int64)

    def lead(self, a, b, c, parts, by_columns):
        addresses = [x.ctypes.data for x in (a, b, c)]
        mine = np.array(
            [*a.shape, b.shape[1], addresses[0], *a.strides, addresses[1], *b.strides,
             addresses[2], c.strides[0], by_columns, parts]
        )  # fmt: skip
        own = np.zeros(strips.WORDS, np.int64)
        room = np.empty(b.size * 8 + 2**12, c.dtype)
        strips.share(mine, own, self.job, self.words, room, 0, CALLS)

    def help(self, dtype, patience, numbers=2**18):
        room = np.empty(numbers, dtype)
        strips.share(NOTHING, NOTHING, self.job, self.words, room, patience, CALLS)


def cuts(m, n):
    """How C may be cut, so that strips are not too small."""
    for by_columns, size in ((True, n), (False, m)):
        for parts in (1, 2, 3, 8):
            if parts == 1 or size // strips.GRAIN // parts >= 2:
                yield parts, by_columns


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_strip_alone(rng, dtype, layout):
    desk = Desk()
    for m, k, n in SHAPES:
        a = LAYOUTS[layout](whole(rng, (1, m, k), dtype))[0]
        b = LAYOUTS[layout](whole(rng, (1, k, n), dtype))[0]
        for parts, by_columns in cuts(m, n):
            c, room = framed(rng, (m, n), dtype)
            desk.lead(a, b, c, parts, by_columns)
            assert np.array_equal(c, a @ b), (m, k, n, parts, by_columns)
            c[...] = np.nan
            assert np.isnan(room).all(), "something else was written"


def test_the_same_bits_however_it_is_cut(rng):
    a, b = rng.standard_normal((130, 90)), rng.standard_normal((200, 90)).T
    c = np.empty((130, 200))
    Desk().lead(a, b, c, 1, True)
    for parts, by_columns in cuts(130, 200):
        other = np.empty_like(c)
        Desk().lead(a, b, other, parts, by_columns)
        assert np.array_equal(c, other)


@pytest.mark.parametrize("helpers", [1, 3])
def test_every_strip_with_helpers(rng, helpers):
    """Of products of many sizes, one right after another, until each helper took its part."""
    desk, stop = Desk(), time.monotonic() + 60
    cases = []
    for m, k, n in SHAPES[1:]:
        a, b = whole(rng, (m, k), np.float32), whole(rng, (k, n), np.float32)
        cases += [(a, b, a @ b, *cut) for cut in cuts(m, n)]
    ended = threading.Event()

    def helping():
        while not ended.is_set():
            desk.help(np.float32, TINY)

    with ThreadPoolExecutor(helpers) as pool:
        running = [pool.submit(helping) for _ in range(helpers)]
        try:
            rounds = 0
            while rounds < 40 or (desk.words[strips.HELPED] < 50 and time.monotonic() < stop):
                for a, b, want, parts, by_columns in cases:
                    c = np.full(want.shape, np.nan, np.float32)
                    desk.lead(a, b, c, parts, by_columns)
                    assert np.array_equal(c, want), (*a.shape, b.shape[1], parts, by_columns)
                rounds += 1
        finally:
            ended.set()
    assert [future.result() for future in running] == [None] * helpers
    assert desk.words[strips.HELPED] >= 50, "nobody helped"


@numba.njit(nogil=True)
def claim(words, ended):
    """Take a strip from the end, and do nothing about it; -1 if there are none left."""
    while not seen(ended, 0):
        turn = seen(words, strips._TURN)
        if strips._is_left(turn):
            turn = add_to(words, strips._TURN, 1 << strips._LAST)
            if strips._is_left(turn):
                return (turn >> strips._COUNT) - 1 - (turn >> strips._LAST & strips._LOW)
    return -1


@numba.njit
def finish(words, place, value):
    put(words, place, value)


@numba.njit(nogil=True)
def add(words, place):
    return add_to(words, place, 1)


def test_a_strip_that_was_begun_is_waited_for(rng):
    """And nobody else computes it."""
    a, b = whole(rng, (300, 700), np.float32), whole(rng, (700, 512), np.float32)
    want, stop = a @ b, time.monotonic() + 60
    add(np.zeros(1, np.int64), 0)  # compiled
    with ThreadPoolExecutor(2) as pool:
        while time.monotonic() < stop:
            desk, ended = Desk(), np.zeros(1, np.int64)
            c = np.full(want.shape, np.nan, np.float32)
            claimed = pool.submit(claim, desk.words, ended)
            leading = pool.submit(desk.lead, a, b, c, 8, True)
            leading.add_done_callback(lambda _, ended=ended: finish(ended, 0, 1))
            if claimed.result(60) < 0:
                continue  # all were taken before this one came
            time.sleep(0.1)
            is_waiting = not leading.done()
            add(desk.words, strips._DONE)
            leading.result(60)
            assert is_waiting
            assert claimed.result() == 7
            assert np.isnan(c[:, 448:]).all()
            assert np.array_equal(c[:, :448], want[:, :448])
            return
    pytest.fail("no strip could be taken")


def test_a_second_leader_computes_alone(rng):
    """While the first one waits for a strip."""
    desk = Desk()
    desk.words[strips._HELD] = 1
    a, b = whole(rng, (64, 50), float), whole(rng, (50, 256), float)
    before, c = desk.words.copy(), np.full((64, 256), np.nan)
    desk.lead(a, b, c, 4, True)
    assert np.array_equal(c, a @ b)
    assert np.array_equal(desk.words, before)
    assert not desk.job.any()


def test_a_late_partner_finds_nothing(rng):
    desk = Desk()
    a, b, c = whole(rng, (64, 50), float), whole(rng, (50, 256), float), np.empty((64, 256))
    desk.lead(a, b, c, 4, True)
    c[...] = np.nan
    desk.help(float, TINY)
    assert np.isnan(c).all()
    assert desk.words[strips.HELPED] == 0


def test_a_partner_is_patient_and_leaves():
    desk = Desk()
    desk.help(float, 0)
    start = time.monotonic()
    desk.help(float, 50_000_000)
    assert 0.05 <= time.monotonic() - start < 30
