"""Products of layers on the CPU: NumPy's, or on two threads those of a thread and its partner."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .numpy_batched_common import compiled

Array = NDArray[Any]

__all__ = ["cut", "in_a_row", "matmul"]

WORTHWHILE_FROM = 2**24
"""Multiplications: below the products of a hidden layer in training, which were measured; and BLAS
is not compiled first."""
LARGEST = 2**22
"""Bytes of A, B and C: what two caches of the second level hold. More has not been measured."""
THREADS = 2
"""One is BLAS's as ever. More than two have not been measured."""
_PARTS = 8
"""Strips, at most. Fewer take as long; of many, two threads end the last ones about together."""
_GRAINS = 3
"""Grains of a strip, at least: blocks are three or four registers wide."""
_LEAST = 64
"""Rows, columns and terms of a sum, at least."""
_HAS_PARTNERS = os.name == "posix"
"""There are the calls of the system that a partner makes."""
_REALS = np.dtype(np.float32), np.dtype(np.float64)


class _Here(threading.local):
    """Of a thread: whether its products are `in_a_row`."""

    is_in_a_row = False


_here = _Here()


@contextlib.contextmanager
def in_a_row() -> Iterator[None]:
    """One product follows the other in what this thread does now: a partner is worth waking.

    Of a few products after a pause it is not: they are over when it comes.
    """
    before, _here.is_in_a_row = _here.is_in_a_row, _HAS_PARTNERS
    try:
        yield
    finally:
        _here.is_in_a_row = before


def matmul(a: Array, b: Array) -> Array:
    """A B, of matrices or of stacks of them.

    In which way follows from shapes, dtype, the number of threads and `in_a_row` alone, and so do
    the bits.
    """
    if _here.is_in_a_row and a.ndim == b.ndim == 2 and a.dtype == b.dtype and a.dtype in _REALS:
        parts, by_columns = cut(*a.shape, b.shape[1], a.itemsize)
        if (
            parts
            and type(a) is type(b) is np.ndarray
            and compiled("batched.threads").blas_threads() == THREADS
        ):
            c = np.empty((len(a), b.shape[1]), a.dtype)
            compiled("partner").multiply(a, b, c, parts, by_columns=by_columns)
            return c
    return np.matmul(a, b)


@functools.lru_cache(maxsize=512)
def cut(m: int, k: int, n: int, itemsize: int) -> tuple[int, bool]:
    """How many strips m by k times k by n is cut into, 0 if it is BLAS's; whether of columns."""
    is_large = min(m, k, n) >= _LEAST and m * n * k >= WORTHWHILE_FROM
    if not is_large or (m * k + k * n + m * n) * itemsize > LARGEST:
        return 0, False
    partner, grain = compiled("partner"), compiled("strips").GRAIN
    # of few columns, strips are of rows, and each copies all of B
    by_columns = n >= m or n >= _PARTS * _GRAINS * grain
    grains = -(-(n if by_columns else m) // grain)
    parts = min(_PARTS, grains // _GRAINS)
    columns = -(-grains // parts) * grain if by_columns else n
    return (parts, by_columns) if partner.fits(k, columns, itemsize) else (0, False)
