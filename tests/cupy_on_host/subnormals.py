"""fp32 below 2^-126: zero in all that CuPy compiles, which it does with -ftz=true."""

from __future__ import annotations

from typing import Any

import numpy as np

from .settings import settings

_TINY = np.float32(2.0**-126)
KEEPING = {"isfinite", "isinf", "isnan", "signbit", "copysign"}
"""Functions that look at bits."""
COPYING = {
    "append", "array", "atleast_1d", "atleast_2d", "broadcast_arrays",
    "broadcast_to", "concatenate", "copyto", "diag",
    "expand_dims", "hstack", "moveaxis", "nan_to_num", "ravel", "repeat", "reshape",
    "roll", "sort", "squeeze", "stack", "swapaxes", "take", "tile", "transpose", "tril", "triu",
    "vstack", "where",
}  # fmt: skip
"""Functions that move numbers as they are."""
BY_LIBRARIES = {"dot", "matmul", "vdot", "tensordot", "inner", "outer", "einsum"}
"""Functions that cuBLAS carries out, which keeps subnormal numbers."""


def flushed(x: Any) -> Any:
    """A NumPy array without subnormal fp32; the array itself if there are none."""
    if not (settings.flush and isinstance(x, np.ndarray) and x.dtype.char in "fF"):
        return x
    parts = x.view(np.float32) if x.flags.c_contiguous and x.ndim else None
    if parts is None:
        parts = np.array(x, order="C", ndmin=1).view(np.float32)
    small = (np.abs(parts) < _TINY) & (parts != 0)
    if not small.any():
        return x
    done = np.where(small, np.copysign(np.float32(0), parts), parts).view(x.dtype)
    return done.reshape(x.shape)
