"""Random butterflies of depth 2, and LU of diagonal blocks, by NumPy: what the CUDA kernels do.

The head of ``kernels/cuda/butterfly.cu`` has the formulas and the order of the diagonals. With
n = 4 quarter, U mixes entries i, i + quarter, i + 2 quarter and i + 3 quarter with each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import blas, lapack

Array = NDArray[Any]

_ROWS = 64
"""Of each quarter of a matrix, transformed at a time."""


def _transposed(groups: Array, x: Array) -> Array:
    """U^T x without the factor 1/2; x is (4, quarter, columns)."""
    outer, inner = groups[:, :4].T[:, :, None], groups[:, 4:].T[:, :, None]
    y = np.stack([x[0] + x[1], x[0] - x[1], x[2] + x[3], x[2] - x[3]])
    y *= inner
    z = np.stack([y[0] + y[2], y[1] + y[3], y[0] - y[2], y[1] - y[3]])
    z *= outer
    return z


def _forward(groups: Array, x: Array) -> Array:
    """U x without the factor 1/2; x is (4, quarter, columns)."""
    outer, inner = groups[:, :4].T[:, :, None], groups[:, 4:].T[:, :, None]
    y = x * outer
    z = np.stack([y[0] + y[2], y[1] + y[3], y[0] - y[2], y[1] - y[3]])
    z *= inner
    return np.stack([z[0] + z[1], z[0] - z[1], z[2] + z[3], z[2] - z[3]])


def transform(src: Array, dst: Array, u: Array, v: Array, padding: float) -> None:
    """dst <- U^T diag(src, padding I) V; `src` may be where `dst` begins."""
    n, order, quarter = len(dst), len(src), len(u)
    dtype = np.promote_types(src.dtype, dst.dtype)
    for start in range(0, quarter, _ROWS):
        rows = np.arange(start, min(start + _ROWS, quarter))
        block = np.zeros((4, rows.size, n), dtype)
        for part in range(4):
            here = part * quarter + rows
            given = here[here < order]
            block[part, : given.size, :order] = src[given]
            beyond = np.flatnonzero(here >= order)
            block[part, beyond, here[beyond]] = padding
        block *= dtype.type(0.25)  # at once, so that no sum overflows before it
        columns = block.reshape(4 * rows.size, 4, quarter).transpose(1, 2, 0)
        columns = _transposed(v, columns)
        block = columns.transpose(2, 0, 1).reshape(4, rows.size, n)
        block = _transposed(u[rows], block)
        for part in range(4):
            dst[part * quarter + rows] = block[part]


def transform_vectors(src: Array, dst: Array, u: Array, transposed: bool) -> None:
    """dst <- U^T src (`transposed`), src continued by zeros; or the first rows of U src."""
    quarter = len(u)
    dtype = np.promote_types(src.dtype, dst.dtype)
    x = np.zeros((4 * quarter, src.shape[1]), dtype)
    x[: len(src)] = src
    x *= dtype.type(0.5)
    x = x.reshape(4, quarter, src.shape[1])
    y = (_transposed if transposed else _forward)(u, x)
    dst[...] = y.reshape(4 * quarter, src.shape[1])[: len(dst)]


def block_lu(a: Array, lower: Array, upper: Array) -> int:
    """P A = L U; lower <- L^-1 P, upper <- U^-1, continued by the identity; `a` becomes L\\U.

    Returns the number of the first pivot that is zero or not finite, or whose reciprocal is not
    finite; 0 if there is none.
    """
    n = len(a)
    factors = np.asfortranarray(a)
    piv, _ = lapack.getrf(factors)
    a[...] = factors
    for inverse in (lower, upper):
        inverse[...] = np.eye(len(inverse), dtype=a.dtype)
    lapack.laswp(lower[:n, :n], piv, True)
    with np.errstate(all="ignore"):
        blas.trsm("L", a, lower[:n, :n], True, "N", True)
        blas.trsm("L", a, upper[:n, :n], False)
        pivots = a.diagonal()
        is_useless = (pivots == 0) | ~np.isfinite(pivots) | ~np.isfinite(1 / pivots)
    return int(np.argmax(is_useless)) + 1 if is_useless.any() else 0
