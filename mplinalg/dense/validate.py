"""What the dense functions accept beyond `arguments`: shapes, layouts, ways to refine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.dispatch import ops_for

Array = NDArray[Any]

METHODS = ("auto", "classical", "gmres", None)
RESIDUALS = ("working", "extended")


def to_lapack_layout(a: Array) -> Array:
    """A 2-D `a` with unit stride in one dimension: itself, or a C-ordered copy."""
    ops = ops_for(a)
    return a if ops.is_f_like(a) or ops.is_f_like(a.T) else ops.xp.ascontiguousarray(a)


def check_finite(*arrays: Array) -> None:
    """Raise ValueError, as SciPy does, if an array holds NaN or infinity."""
    for a in arrays:
        if a.dtype.kind in "fc" and not ops_for(a).xp.isfinite(a).all():
            raise ValueError("array must not contain infs or NaNs")


def square(a: Array) -> None:
    """Raise ValueError unless the last two dimensions of `a` are equal."""
    if a.ndim < 2:
        raise ValueError(f"Expected at least ndim=2, got {a.ndim=}")
    if a.shape[-1] != a.shape[-2]:
        raise ValueError(f"Expected square matrix, got {a.shape=}")


def batch_indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Indices of the members of a batch, in C order."""
    return iter(np.ndindex(shape))
