"""The dtypes and scalars that CuPy knows."""

from __future__ import annotations

from typing import Any

import numpy as np

CHARACTERS = "?bhilqBHILQefdFD"

SCALARS = (bool, int, float, complex, np.bool_, np.number)


def dtype_of(given: Any) -> np.dtype[Any]:
    """`given` as a dtype, if CuPy has it."""
    dtype = np.dtype(given)
    if dtype.char not in CHARACTERS:
        raise TypeError(f"Unsupported dtype {dtype}")
    return dtype


def is_scalar(x: Any) -> bool:
    """A number that may be an operand."""
    return isinstance(x, SCALARS) and (not isinstance(x, np.generic) or x.dtype.char in CHARACTERS)
