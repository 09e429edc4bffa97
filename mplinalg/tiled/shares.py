"""A tile divided among the threads of a backend, for kernels of programs that are divided."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..factor.blocks import blocks
from ..ops.protocol import Array, Ops

__all__ = ["WORTHWHILE", "by_strips", "strips", "subtract_product"]

WORTHWHILE = 1e8
"""Flops of a piece at least."""
_NARROWEST = 64
"""Rows, or columns, of a strip at least: to pack narrower ones takes longer than it saves."""


def strips(
    ops: Ops, size: int, count: int | None = None, least: int = _NARROWEST
) -> list[slice]:  # fmt: skip
    """range(size) in as many parts as compute at the same time, or in `count`, of `least` each."""
    count = ops.side_by_side if count is None else count
    return list(blocks(size, max(least, -(-size // count))))


def by_strips(ops: Ops, work: Callable[[slice], Any], size: int, flops: float) -> None:
    """``work(part)`` of strips of range(size), which is as much as so many flops in all."""
    parts = strips(ops, size)
    ops.each(work, parts, flops / max(1, len(parts)))


def subtract_product(ops: Ops, a: Array, b: Array, c: Array, transb: str = "N") -> None:
    """C <- C - A op(B): C in pieces, about square, one for each thread."""
    if c.size == 0:
        return
    across = math.isqrt(ops.side_by_side)
    down = -(-ops.side_by_side // across)

    def piece(place: tuple[slice, slice]) -> None:
        rows, columns = place
        right = b[:, columns] if transb == "N" else b[columns]
        ops.gemm(-1.0, a[rows], right, 1.0, c[rows, columns], transb=transb)

    m, n = c.shape
    pieces = [(i, j) for i in strips(ops, m, down) for j in strips(ops, n, across)]
    flops = 2.0 * m * n * a.shape[1] / len(pieces)
    if len(pieces) > 1 and flops < WORTHWHILE:
        pieces = [(slice(0, m), slice(0, n))]
    ops.each(piece, pieces, flops)
