"""Arrays of other libraries, by DLPack: where they are, without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dispatch import ops_for
from .protocol import Array

_CPU, _CUDA = 1, 2
"""Kinds of devices, by DLPack's numbers."""


def from_dlpack(x: Any) -> Array:
    """The array of NumPy or CuPy that shares the memory of `x`.

    Raises
    ------
    TypeError
        It is on a device that no backend computes on.
    ImportError
        It is on a CUDA device, and CuPy is not installed.
    """
    kind, _ = x.__dlpack_device__()
    if kind == _CPU:
        return np.from_dlpack(x)
    if kind != _CUDA:
        ops_for(x)
    try:
        import cupy
    except ImportError:
        raise ImportError(
            f"{type(x).__module__}.{type(x).__qualname__} on a CUDA device: that needs CuPy, "
            "pip install 'mplinalg[cuda13]' or 'mplinalg[cuda12]'"
        ) from None
    return cupy.from_dlpack(x)
