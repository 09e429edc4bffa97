"""Which Ops an array belongs to. The data decide; nothing is moved."""

from __future__ import annotations

from typing import Any

import numpy as np

from .numpy_ops import NumpyOps
from .protocol import Ops

_NUMPY = NumpyOps()


def ops_for(*arrays: Any) -> Ops:
    """The backend of `arrays`.

    Raises
    ------
    TypeError
        If an array lives where no backend of this version computes.
    """
    for a in arrays:
        if not isinstance(a, np.ndarray):
            raise TypeError(
                f"no backend for arrays of type {type(a).__module__}.{type(a).__qualname__}: "
                "this version computes on NumPy arrays; convert explicitly"
            )
    return _NUMPY
