"""How this library compiles: without the GIL, cached on disk, IEEE division, sums reassociated.

Kernels are serial; callers may run several in Python threads, which the released GIL makes real.
(Numba's own thread pools may not be entered from two threads at once.)
NaN and infinity keep their meaning: `nnan` and `ninf` are not among the flags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from .calls import types

__all__ = ["exact_kernel", "kernel", "shared_kernel"]

_REASSOCIATED = {"reassoc", "contract", "arcp", "nsz"}


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    """`numba.njit`, cached where there is a folder to cache in."""
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package nor the user's cache directory is writable
        return numba.njit(**options)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile with reassociation of sums (vectorised reductions).

    What another kernel calls with constants is compiled anew for each value of them.
    """
    return _compile(function, fastmath=_REASSOCIATED)


def shared_kernel(function: Callable[..., Any]) -> Any:
    """As `kernel`, compiled once for all values of constants: less speed, a faster first call.

    For kernels of one matrix, whose flags decide about few instructions.
    """
    dispatcher = kernel(function)
    if numba.config.DISABLE_JIT:
        return dispatcher
    template = dispatcher.get_call_template  # what a kernel that calls this one asks for
    dispatcher.get_call_template = lambda args, kws: template(
        tuple(types.unliteral(kind) for kind in args),
        {name: types.unliteral(kind) for name, kind in kws.items()},
    )
    return dispatcher


def exact_kernel(function: Callable[..., Any]) -> Any:
    """Compile with every rounding where the source has it."""
    return _compile(function)
