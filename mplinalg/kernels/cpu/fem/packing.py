"""Factors of elements, from one element after another to lanes."""

from __future__ import annotations

from ..jit import kernel


@kernel
def pack(values, lanes):  # type: ignore[no-untyped-def]
    """lanes[g, k, l] <- values[g, l, k], rounded to the dtype of `lanes`."""
    groups, width, size = values.shape
    for g in range(groups):
        for k in range(size):
            for lane in range(width):
                lanes[g, k, lane] = values[g, lane, k]
