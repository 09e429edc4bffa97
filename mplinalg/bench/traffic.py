"""How many bytes a method of ours must move, by a model: the yardstick beside the flops.

What is counted is traffic between memory and a cache that holds some blocks but no matrix. A
matrix that is read or written once counts once; a blocked factorization reads and writes what is
left of the matrix for every block of `BLOCK` columns. Columns of B, X and of residuals count once
for each time that a step reads or writes them; the basis of GMRES is left out. Of n = 1000 and
below all of it may stay in cache, and the rate from the model may then exceed that of the copy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from mplinalg.report import SolveReport

__all__ = ["BLOCK", "least_squares", "qr_economic", "solve"]

BLOCK = 256
"""Columns of a block of the model."""


def solve(
    n: int, nrhs: int, dtype: DTypeLike, report: SolveReport, *, is_symmetric: bool = False
) -> float:
    """Bytes moved by a solve with a square matrix.

    A copy of A is written in the factors' format, factored, and used once for the first x, once
    for each correction, and once for each inner iteration of GMRES. Each of those also reads A
    for a residual or a product. `is_symmetric`: the factorization touches half as much.

    Of n nrhs numbers in the format of A and B, the first x moves 5 (reads B, writes X; reads B and
    X, writes R), a correction D 8 (reads R, writes D; reads D and X, writes X; then the residual's
    3), and an inner iteration 4 (reads V, writes A V; reads that, writes what the factors make of
    it).
    """
    wide, narrow = _bytes(dtype, "fp64"), _bytes(dtype, report.precision)
    factor = (1 / 3 if is_symmetric else 2 / 3) * narrow * n**3 / BLOCK + narrow * n**2
    passes = 1 + report.iterations + report.inner_iterations
    columns = 5 + 8 * report.iterations + 4 * report.inner_iterations
    return (
        _convert(n, n, wide, narrow)
        + factor
        + passes * _block_rows(nrhs) * (wide + narrow) * n**2
        + columns * wide * n * nrhs
    )


def least_squares(m: int, n: int, nrhs: int, dtype: DTypeLike, report: SolveReport) -> float | None:
    """Bytes moved by least squares with an (m, n) matrix, m >= n.

    R from a Gram matrix (method "gram": A is read once) or from Householder QR ("qr"). A step
    reads A twice, for b - A x and A^H r, and the triangle R twice. None for a driver of LAPACK's,
    which this does not model.

    Of nrhs columns of m and n numbers in the format of A and B, the first x moves 3 and 4 (reads B,
    writes A^H B; reads that, writes X; reads B and X, writes R), a correction D 3 and 7 (reads R,
    writes A^H R; reads that, writes D; reads D and X, writes X; reads B and X, writes R), and an
    inner iteration 2 and 6 (R^-1, A, A^H, R^-H, each reads one and writes one).
    """
    wide, narrow = _bytes(dtype, "fp64"), _bytes(dtype, report.precision)
    method = _method(report)
    if method.startswith("gram"):
        factor = narrow * m * n + 1 / 3 * narrow * n**3 / BLOCK
    elif method.startswith("qr"):
        factor = _householder(m, n, narrow)
    else:
        return None
    passes = 1 + report.iterations + report.inner_iterations
    step = _block_rows(nrhs) * (2 * wide * m * n + narrow * n**2)
    steps, inner = report.iterations, report.inner_iterations
    columns = (3 + 3 * steps + 2 * inner) * m + (4 + 7 * steps + 6 * inner) * n
    return _convert(m, n, wide, narrow) + factor + passes * step + columns * wide * nrhs


def qr_economic(m: int, n: int, dtype: DTypeLike, report: SolveReport) -> float:
    """Bytes moved by QR with Q formed.

    Householder QR reads and writes what is left of A, and again to form Q. A pass of CholeskyQR
    reads the matrix for its Gram matrix, and reads and writes it for A R^-1.
    """
    wide = _bytes(dtype, "fp64")
    if _method(report) == "geqrf":
        return _convert(m, n, wide, wide) + 2 * _householder(m, n, wide)
    return (1 + report.iterations) * 3 * wide * m * n


def _method(report: SolveReport) -> str:
    """Of the rung that gave the answer."""
    return report.rungs[-1].method if report.rungs else ""


def _convert(m: int, n: int, wide: int, narrow: int) -> float:
    return float(m) * n * (wide + narrow)


def _householder(m: int, n: int, size: int) -> float:
    return 2 * size * (m * n**2 / 2 - n**3 / 6) / BLOCK + size * m * n


def _block_rows(nrhs: int) -> int:
    """How often a matrix is read to be applied to `nrhs` columns."""
    return -(-nrhs // BLOCK)


def _bytes(dtype: DTypeLike, precision: str) -> int:
    """Bytes of a number in memory: formats below fp32 are kept in fp32 words."""
    is_single = np.dtype(dtype).char in "fF" or precision != "fp64"
    return (4 if is_single else 8) * (2 if np.dtype(dtype).kind == "c" else 1)
