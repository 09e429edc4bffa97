"""Copies in memory: what NumPy would copy twice, or in an order that the cache dislikes."""

from __future__ import annotations

from .jit import kernel

BLOCK = 8
"""Rows, and columns, that are turned together: lines some KiB apart share places of the cache."""


@kernel
def copy_rows(src, places, dst, targets):  # type: ignore[no-untyped-def]
    """dst[targets[i]] <- src[places[i]] for all i; rows are contiguous."""
    for i in range(places.size):
        row = src[places[i]]
        target = dst[targets[i]]
        for j in range(row.size):
            target[j] = row[j]


@kernel
def copy_turned(src, dst):  # type: ignore[no-untyped-def]
    """dst <- src; rows of the one and columns of the other are contiguous."""
    m, n = src.shape
    for top in range(0, m, BLOCK):
        bottom = min(top + BLOCK, m)
        for left in range(0, n, BLOCK):
            for j in range(left, min(left + BLOCK, n)):
                for i in range(top, bottom):
                    dst[i, j] = src[i, j]
