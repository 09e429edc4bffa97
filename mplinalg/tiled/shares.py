"""A tile divided among the threads of a backend, for kernels of programs that are divided."""

from __future__ import annotations

import math

from ..factor.blocks import blocks
from ..ops.protocol import Array, Ops

__all__ = ["strips", "subtract_product"]

_NARROWEST = 64
"""Rows, or columns, of a strip at least: to pack narrower ones takes longer than it saves."""


def strips(ops: Ops, size: int, count: int | None = None) -> list[slice]:
    """range(size) in as many parts as compute at the same time, or in `count`."""
    count = ops.side_by_side if count is None else count
    return list(blocks(size, max(_NARROWEST, -(-size // count))))


def subtract_product(ops: Ops, a: Array, b: Array, c: Array, transb: str = "N") -> None:
    """C <- C - A op(B): C in pieces, about square, one for each thread."""
    across = math.isqrt(ops.side_by_side)
    down = -(-ops.side_by_side // across)

    def piece(place: tuple[slice, slice]) -> None:
        rows, columns = place
        right = b[:, columns] if transb == "N" else b[columns]
        ops.gemm(-1.0, a[rows], right, 1.0, c[rows, columns], transb=transb)

    m, n = c.shape
    ops.each(piece, [(i, j) for i in strips(ops, m, down) for j in strips(ops, n, across)])
