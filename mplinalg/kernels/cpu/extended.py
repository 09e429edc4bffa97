"""r = b - A x accumulated in twice the working precision, for one vector.

Each product is split exactly by a fused multiply-add and each sum by Knuth's TwoSum; the running
value is an unevaluated pair (high, low). The result is as accurate as if computed in precision
u^2 and rounded once.

Reference: Ogita, Rump and Oishi, SIAM J. Sci. Comput. 26 (2005) 1955, algorithm 5.3 (Dot2).
Flops: 2 n^2 products and sums become about 20 n^2. Bytes moved: one read of A.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .jit import exact_kernel

_TILE = 64


@intrinsic
def _fma(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    """a * b + c with one rounding (LLVM's fma)."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, a, a) if a in (types.float64, types.float32) and a == b == c else None, codegen


@exact_kernel
def _accumulate(high, low, a, x):  # type: ignore[no-untyped-def]
    """(high, low) - a * x."""
    product = -a * x
    error = _fma(-a, x, -product)
    total = high + product
    moved = total - high
    low += ((high - (total - moved)) + (product - moved)) + error
    return total, low


@exact_kernel
def extended_along(lines, x, high, low):  # type: ignore[no-untyped-def]
    """Real, rows of a C-like A; (high, low) holds b on entry.

    A row alone is one long chain of dependent additions. Tiles are transposed into cache, so that
    neighbouring rows advance together in vector registers.
    """
    tile = np.empty((_TILE, _TILE), lines.dtype)
    for top in range(0, lines.shape[0], _TILE):
        rows = min(_TILE, lines.shape[0] - top)
        h = high[top : top + rows]
        e = low[top : top + rows]
        for left in range(0, lines.shape[1], _TILE):
            columns = min(_TILE, lines.shape[1] - left)
            for i in range(rows):
                for j in range(columns):
                    tile[j, i] = lines[top + i, left + j]
            for j in range(columns):
                xj = x[left + j]
                column = tile[j]
                for i in range(rows):
                    h[i], e[i] = _accumulate(h[i], e[i], column[i], xj)


@exact_kernel
def extended_across(lines, x, high, low):  # type: ignore[no-untyped-def]
    """Real, columns of an F-like A."""
    for j in range(lines.shape[0]):
        column = lines[j]
        xj = x[j]
        for i in range(column.size):
            high[i], low[i] = _accumulate(high[i], low[i], column[i], xj)


@exact_kernel
def extended_complex_along(lines, x, high, low):  # type: ignore[no-untyped-def]
    for i in range(lines.shape[0]):
        row = lines[i]
        hr, lr, hi, li = high[2 * i], low[2 * i], high[2 * i + 1], low[2 * i + 1]
        for j in range(row.size // 2):
            ar, ai, xr, xi = row[2 * j], row[2 * j + 1], x[2 * j], x[2 * j + 1]
            hr, lr = _accumulate(hr, lr, ar, xr)
            hr, lr = _accumulate(hr, lr, -ai, xi)
            hi, li = _accumulate(hi, li, ar, xi)
            hi, li = _accumulate(hi, li, ai, xr)
        high[2 * i], low[2 * i], high[2 * i + 1], low[2 * i + 1] = hr, lr, hi, li


@exact_kernel
def extended_complex_across(lines, x, high, low):  # type: ignore[no-untyped-def]
    for j in range(lines.shape[0]):
        column = lines[j]
        xr, xi = x[2 * j], x[2 * j + 1]
        for i in range(column.size // 2):
            ar, ai = column[2 * i], column[2 * i + 1]
            hr, lr = _accumulate(high[2 * i], low[2 * i], ar, xr)
            high[2 * i], low[2 * i] = _accumulate(hr, lr, -ai, xi)
            hi, li = _accumulate(high[2 * i + 1], low[2 * i + 1], ar, xi)
            high[2 * i + 1], low[2 * i + 1] = _accumulate(hi, li, ai, xr)
