"""Sizes of numbers and vectors, and random vectors, inside compiled kernels."""

from __future__ import annotations

import numpy as np

from .calls import larger
from .jit import shared_kernel

PROBE, FIRST_WEIGHTS, SECOND_WEIGHTS = 1, 2, 3
"""Streams of random numbers."""


@shared_kernel
def magnitude(value):  # type: ignore[no-untyped-def]
    """|value|, or |re| + |im| of a complex one."""
    return abs(value.real) + abs(value.imag)


@shared_kernel
def copy(source, target):  # type: ignore[no-untyped-def]
    """target <- source. (For an assignment of slices Numba compiles two seconds of messages.)"""
    for i in range(source.size):
        target[i] = source[i]


@shared_kernel
def largest(vector):  # type: ignore[no-untyped-def]
    """max |v_i|, true moduli for complex; NaN if an entry is NaN."""
    top = magnitude(vector.dtype.type(0))
    for value in vector:
        top = larger(abs(value), top)
    return np.float64(top)


@shared_kernel
def measure(vector, sizes):  # type: ignore[no-untyped-def]
    """sizes <- |v_i|, as `magnitude`."""
    for i in range(vector.size):
        sizes[i] = magnitude(vector[i])


@shared_kernel
def fill_random(z, stream, b):  # type: ignore[no-untyped-def]
    """z <- uniform on [-1, 1), the same for the same `stream` and data, the lines of `b`.

    By xorshift64*. Streams are independent of each other whatever the data, zeros too.
    """
    total = np.zeros(1)
    for line in b:
        for value in line:
            total[0] += magnitude(value)
    state = total.view(np.uint64)[0] ^ (np.uint64(stream) * np.uint64(0x9E3779B97F4A7C15))
    for i in range(z.size):
        state ^= state >> np.uint64(12)
        state ^= state << np.uint64(25)
        state ^= state >> np.uint64(27)
        bits = (state * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(11)
        z[i] = np.float64(bits) * 2.0**-52 - 1.0
