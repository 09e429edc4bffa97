"""One product in strips, which the thread that wants it and a partner take in turn.

To wake a thread takes 150 microseconds on a virtual machine, half of the time of such a product. So
a partner that was woken once looks for the next product without sleeping, for a while.

    b <- columns first, ..., last - 1 of B, by rows that begin with lines of the cache
    the same columns of C <- A b

or, of few columns, rows of C by rows of A and a copy of all of B. Where strips begin follows from
the sizes, and each entry is one sum over k in its order: the bits do not depend on who takes which.

The leader takes the first strips, the partner the last ones, so that each finds in its cache what
it had there when the same product was computed before. A turn is one word: how many strips there
are, how many were taken from the end, and from the beginning. To add to it says at once which strip
that is and whether there is one, whatever happened since it was looked at. The leader takes strips
until there are none, and waits for those that were begun, not for a partner that has not come.
"""

from __future__ import annotations

import numpy as np

from .batched.blocks import multiply_blocks
from .batched.streamed import bytes_of_line, copy_by_rows, place_in
from .jit import kernel
from .words import APART, add_to, exchanged, give_way, nanoseconds, put, seen

__all__ = ["GRAIN", "HELPED", "HERE", "JOB", "WORDS", "share"]

GRAIN = 16
"""Columns, or rows, of which a strip has a multiple, but for the last one."""
JOB = 13
"""Numbers that describe a product: m, k, n; address and steps of A and of B in bytes; address and
step from row to row of C; whether strips are of columns; how many there are."""
_HELD, _TURN, _DONE, HELPED, HERE = (APART * place for place in range(5))
"""Words: whether somebody leads; the turn; strips that are done; strips that partners ever took;
partners that look for work."""
WORDS = 5 * APART
_COUNT, _LAST = 32, 16
"""Bits of a turn at which the number of strips begins, and that of those taken from the end."""
_LOW = 2**16 - 1
_LOOKS = 64
"""Looks in vain after which a thread gives way, as the other one may wait for the same core, and a
partner looks at the clock."""


@kernel
def _multiply_strip(job, i, room):  # type: ignore[no-untyped-def]
    """Strip i of a product; `room` is for the copy of its B."""
    m, k, n = job[0], job[1], job[2]
    a, down_a, across_a = job[3], job[4], job[5]
    b, down_b, across_b = job[6], job[7], job[8]
    c, down_c, is_by_columns, parts = job[9], job[10], job[11], job[12]
    size = room.itemsize
    length = n if is_by_columns else m
    grains = (length + GRAIN - 1) // GRAIN
    first = grains * i // parts * GRAIN
    last = min(grains * (i + 1) // parts * GRAIN, length)
    if is_by_columns:
        n = last - first
        b += first * across_b
        c += first * size
    else:
        m = last - first
        a += first * down_a
        c += first * down_c
    target, line = place_in(room), bytes_of_line(n, size)
    copy_by_rows(k, n, (b, (down_b, across_b)), target, line, room[0])
    one, zero, nothing = room.dtype.type(1), room.dtype.type(0), (target, 0)
    multiply_blocks(
        m, k, n, one, (a, down_a, across_a), (target, line), zero, (c, down_c),
        (nothing, nothing, nothing),
    )  # fmt: skip


@kernel
def _is_left(turn):  # type: ignore[no-untyped-def]
    """Whether there is a strip that nobody has taken."""
    return (turn & _LOW) + (turn >> _LAST & _LOW) < turn >> _COUNT


@kernel
def share(mine, own, job, words, room, patience, calls):  # type: ignore[no-untyped-def]
    """Compute a product with whoever else is there; or, without one, help others.

    One function for both, since it is compiled for seconds.

    Parameters
    ----------
    mine : array of int64, shape (JOB,) or (0,)
        The product; none: help, until there was nothing to do for `patience`. A strip is at least
        `LEAST_ROWS` rows and more than a register of columns.
    own : array of int64, shape (WORDS,)
        Words of the calling thread. It computes alone if another one leads.
    job, words : array of int64, shape (JOB,) and (WORDS,)
        What all share, zeros at first.
    room : array
        Of the calling thread, of the dtype of the matrices, for the B of a strip.
    patience : int
        Nanoseconds.
    calls : array of int64
        `words.system_calls()`.
    """
    parts = mine[JOB - 1] if mine.size else 0
    if parts:
        if exchanged(words, _HELD, 0, 1):
            job[:] = mine
        else:
            job, words = mine, own
        put(words, _DONE, 0)
        put(words, _TURN, parts << _COUNT)
    else:
        add_to(words, HERE, 1)
    looks, until = 0, np.int64(0)
    while True:
        turn = seen(words, _TURN)
        if _is_left(turn):
            turn = add_to(words, _TURN, 1 if parts else 1 << _LAST)
            if _is_left(turn):
                i = turn & _LOW if parts else (turn >> _COUNT) - 1 - (turn >> _LAST & _LOW)
                _multiply_strip(job, i, room)
                if not parts:
                    add_to(words, HELPED, 1)
                add_to(words, _DONE, 1)
            looks, until = 0, np.int64(0)
            continue
        if parts and seen(words, _DONE) == parts:
            put(words, _HELD, 0)
            return
        looks += 1
        if looks % _LOOKS == 0:
            give_way(calls)
            if not parts:
                now = nanoseconds(calls)
                if until == 0:
                    until = now + patience
                elif now > until:
                    add_to(words, HERE, -1)
                    return
