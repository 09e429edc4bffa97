"""Classical operation counts: what rates are computed from, whatever a method really did.

A multiplication and an addition count one each. A complex problem counts four times the real one:
its multiply-add is four real ones.

References
----------
S. Blackford and J. Dongarra, Installation guide for LAPACK, LAPACK Working Note 41, 1999,
appendix C.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["cholesky_solve", "gemm", "least_squares", "lu_solve", "qr_economic", "triangular_solve"]


def gemm(n: int, dtype: DTypeLike) -> float:
    """C = A B of order n."""
    return _weight(dtype) * 2.0 * n**3


def lu_solve(n: int, nrhs: int, dtype: DTypeLike) -> float:
    """A X = B by LU: 2/3 n^3 + 2 n^2 nrhs, the leading terms, as benchmarks count."""
    return _weight(dtype) * (2 / 3 * n**3 + 2.0 * n**2 * nrhs)


def cholesky_solve(n: int, nrhs: int, dtype: DTypeLike) -> float:
    """A X = B by Cholesky, or by L D L^T: 1/3 n^3 + 2 n^2 nrhs."""
    return _weight(dtype) * (1 / 3 * n**3 + 2.0 * n**2 * nrhs)


def triangular_solve(n: int, nrhs: int, dtype: DTypeLike) -> float:
    """L X = B: n^2 nrhs (trsm)."""
    return _weight(dtype) * float(n**2) * nrhs


def qr_economic(m: int, n: int, dtype: DTypeLike) -> float:
    """Q and R of an (m, n) matrix, m >= n, Q (m, n) formed: geqrf and orgqr."""
    return _weight(dtype) * (_geqrf(m, n) + _orgqr(m, n))


def least_squares(m: int, n: int, nrhs: int, dtype: DTypeLike) -> float:
    """min ||B - A X||, A (m, n), m >= n, by QR (gels): geqrf, ormqr on B, and trsm."""
    return _weight(dtype) * (_geqrf(m, n) + _ormqr(m, n, nrhs) + float(n**2) * nrhs)


def _weight(dtype: DTypeLike) -> int:
    return 4 if np.dtype(dtype).kind == "c" else 1


def _geqrf(m: int, n: int) -> float:
    return 2.0 * m * n**2 - 2 / 3 * n**3 + m * n + n**2 + 14 / 3 * n


def _orgqr(m: int, n: int) -> float:
    return 2.0 * m * n**2 - 2 / 3 * n**3 + 2 * n**2 - m * n - 4 / 3 * n


def _ormqr(m: int, n: int, nrhs: int) -> float:
    return nrhs * (4.0 * m * n - 2.0 * n**2 + 3 * n)
