"""Reduction of a square matrix to an upper band matrix with the same singular values.

Reference: Grosser and Lang, Parallel Computing 25 (1999) 969 (the first of two stages).
"""

from __future__ import annotations

from typing import Any

from ..ops.protocol import Ops

Array = Any


def upper_band(ops: Ops, a: Array, width: int) -> Array:
    """B = Q^H A P with orthogonal Q and P, B zero but for its diagonal and `width` superdiagonals.

    Parameters
    ----------
    a : array, shape (n, n)
        F-like. Overwritten.
    width : int
        At least 1.

    Returns
    -------
    array, shape (width + 1, n)
        F-ordered. The last row holds the diagonal of B, the rows above its superdiagonals, each
        entry in its column.

    Notes
    -----
    8/3 n^3 flops, nearly all in products of matrices, where the reduction to a bidiagonal matrix at
    one go has half of them in products with vectors, each of which reads what is left of A.
    Backward stable: only orthogonal transformations.
    """
    xp, n = ops.xp, a.shape[0]
    for start in range(0, n, width):
        stop = min(start + width, n)
        # A[k:, k] = Q R,  A[k:, t] <- Q^H A[k:, t]
        v, t = _panel(ops, a[start:, start:stop])
        if stop == n:
            break
        right = a[start:, stop:]
        y = xp.zeros((n - stop, t.shape[0]), a.dtype, order="F")
        z = xp.zeros_like(y)
        ops.gemm(1.0, right, v, 0.0, y, transa="C")
        ops.gemm(1.0, y, t, 0.0, z)
        ops.gemm(-1.0, v, z, 1.0, right, transb="C")
        # A[k, t]^H = P L^H,  A[s, t] <- A[s, t] P
        rows = xp.asfortranarray(xp.conj(a[start:stop, stop:].T))
        v, t = _panel(ops, rows)
        a[start:stop, stop:] = xp.conj(rows.T)
        below = a[stop:, stop:]
        y = xp.zeros((n - stop, t.shape[0]), a.dtype, order="F")
        z = xp.zeros_like(y)
        ops.gemm(1.0, below, v, 0.0, y)
        ops.gemm(1.0, y, t, 0.0, z)
        ops.gemm(-1.0, z, v, 1.0, below, transb="C")
    band = xp.zeros((width + 1, n), a.dtype, order="F")
    for i in range(min(width + 1, n)):
        band[width - i, i:] = a.diagonal(i)
    return band


def _panel(ops: Ops, a: Array) -> tuple[Array, Array]:
    """A = (I - V T V^H) [R; 0]; R in place of A, with zeros below, and V with its ones."""
    xp = ops.xp
    tau, t = ops.geqrf_panel(a)
    v = xp.asfortranarray(xp.tril(a[:, : tau.size], -1))
    diagonal = xp.arange(tau.size)
    v[diagonal, diagonal] = 1
    a[...] = xp.triu(a)
    return v, t
