"""When the memory of a device does not suffice: say what is needed, and keep nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..ops import is_on_host
from ..ops.protocol import Array
from ..precision import FP32
from . import messages

T = TypeVar("T")


def within_memory(a: Array, b_bytes: int, compute: Callable[[], T]) -> T:
    """``compute()``; running out of memory is told with the bytes that the task takes.

    Parameters
    ----------
    a : Array, shape (..., n, n)
    b_bytes : int
        Of the right-hand sides.
    compute : callable

    Raises
    ------
    MemoryError
        Without reference to the arrays that had been made, so that their memory is free again.
    """
    if is_on_host(a):  # NumPy says itself what it could not allocate
        return compute()
    try:
        return compute()
    except MemoryError as error:
        reason = str(error)
    n = a.shape[-1]
    factors = n * n * FP32.dtype(a.dtype).itemsize
    raise MemoryError(messages.no_room(a.shape, a.nbytes, factors + 6 * b_bytes, reason))
