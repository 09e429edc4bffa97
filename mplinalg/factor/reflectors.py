"""Q written out from its block reflectors, I - V T V^H.

Reference: Schreiber and Van Loan, SIAM J. Sci. Stat. Comput. 10 (1989) 53 (compact WY).
"""

from __future__ import annotations

from typing import Any

from ..ops.protocol import Ops

Array = Any


def unit_lower(ops: Ops, v: Array) -> Array:
    """The unit lower triangle of a square block, with zeros above."""
    xp = ops.xp
    top = xp.asfortranarray(xp.tril(v, -1))
    diagonal = xp.arange(top.shape[0])
    top[diagonal, diagonal] = 1
    return top


def form_q(ops: Ops, qr: Array, t: Array, columns: int) -> Array:
    """The first columns of Q.

    Parameters
    ----------
    qr : array, shape (m, n)
        F-like, reflectors below the diagonal. Not changed.
    t : array, shape (block, k)
        The triangles T of the block reflectors side by side, as LAPACK's geqrt leaves them.
    columns : int
        From k to m.

    Returns
    -------
    q : array, shape (m, columns)
        F-ordered.

    Notes
    -----
    4 m c k - 2 (m + c) k^2 + 4/3 k^3 flops for c columns, as LAPACK's orgqr, which finds each T
    again, by products with vectors, and applies 32 reflectors at a time.
    """
    xp = ops.xp
    m, (block, k) = qr.shape[0], t.shape
    q = xp.zeros((m, columns), qr.dtype, order="F")
    rest = xp.arange(k, columns)
    q[rest, rest] = 1
    for start in reversed(range(0, k, block)):
        stop = min(start + block, k)
        top, below = unit_lower(ops, qr[start:stop, start:stop]), qr[stop:, start:stop]
        triangle = xp.asfortranarray(xp.triu(t[: stop - start, start:stop]))
        # Q[start:, k] <- [I; 0] - [V1; V2] T V1^H
        w = xp.zeros_like(triangle)
        ops.gemm(1.0, triangle, top, 0.0, w, transb="C")
        ops.gemm(-1.0, top, w, 0.0, q[start:stop, start:stop])
        diagonal = xp.arange(start, stop)
        q[diagonal, diagonal] += 1
        if stop < m:
            ops.gemm(-1.0, below, w, 0.0, q[stop:, start:stop])
        if stop in (columns, m):
            continue
        # Q[start:, t] <- (I - V T V^H) [0; Q2],  with Z = Q2^H V2 T^H
        right = q[stop:, stop:]
        y = xp.zeros((columns - stop, stop - start), qr.dtype, order="F")
        z = xp.zeros_like(y)
        ops.gemm(1.0, right, below, 0.0, y, transa="C")
        ops.gemm(1.0, y, triangle, 0.0, z, transb="C")
        ops.gemm(-1.0, top, z, 0.0, q[start:stop, stop:], transb="C")
        ops.gemm(-1.0, below, z, 1.0, right, transb="C")
    return q
