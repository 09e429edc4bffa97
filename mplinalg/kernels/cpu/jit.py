"""How this library compiles: without the GIL, cached on disk, IEEE division, sums reassociated.

Kernels are serial; parallel callers split the work over Python threads, which the released GIL
makes real. (Numba's own thread pools may not be entered from two threads at once.)
NaN and infinity keep their meaning: `nnan` and `ninf` are not among the flags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["exact_kernel", "kernel"]


def kernel(function: Callable[..., Any]) -> Any:
    """Compile with reassociation of sums (vectorised reductions)."""
    return numba.njit(
        nogil=True,
        cache=True,
        error_model="numpy",
        fastmath={"reassoc", "contract", "arcp", "nsz"},
    )(function)


def exact_kernel(function: Callable[..., Any]) -> Any:
    """Compile with every rounding where the source has it."""
    return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
