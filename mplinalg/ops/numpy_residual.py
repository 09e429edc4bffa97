"""`NumpyOps`: residuals and what they are measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu import blas, routines
from ..precision import real_dtype
from .numpy_batched_common import BYTE_RATE
from .numpy_lines import ROW_BLOCK, cabs1, compiled, hermitian_rows, real_lines, real_vector
from .protocol import ColumnErrors

Array = NDArray[Any]
_LARGE = 2**24
"""Bytes of A from which on the memory, not the caches, is what a thread waits for."""
_ROWS = 16
"""Rows of A that a thread takes together."""


class Residuals:
    """Residuals in working and doubled precision, fused with |A||x| + |b| where that is faster."""

    def residual(
        self, a: Array, x: Array, b: Array, *, trans: str = "N", triangle: str | None = None,
        magnitude: bool = True, extended: bool = False,
    ) -> tuple[Array, Array | None]:  # fmt: skip
        conjugate = a.dtype.kind == "c" and trans == ("C" if triangle is None else "T")
        if triangle is not None:  # A^H = A, A^T = conj(A)
            trans = "N"
        if conjugate:  # r = conj(conj(b) - conj(op(A)) conj(x))
            r, d = self.residual(
                a, np.conj(x), np.conj(b), trans="N" if trans == "N" else "T", triangle=triangle,
                magnitude=magnitude, extended=extended,
            )  # fmt: skip
            return np.conjugate(r, out=r), d
        if trans != "N":
            a = a.T
        r = np.array(b, order="F")
        d = np.asfortranarray(cabs1(b)) if magnitude else None
        if extended:
            self._extended_residual(a, x, r, triangle)
            if d is not None:
                self._magnitude(a, x, d, triangle)
        elif x.shape[1] <= self.fused_columns and magnitude:
            assert d is not None
            for j in range(x.shape[1]):
                self._fused_residual(a, x[:, j], r[:, j], d[:, j], triangle)
        else:
            if triangle is None:
                blas.gemm(-1.0, a, x, 1.0, r)
            else:
                self._hermitian_product(a, x, r, triangle)
            if d is not None:
                self._magnitude(a, x, d, triangle)
        return r, d

    fused_columns = 2

    def magnitude(
        self, a: Array, x: Array, b: Array, *, trans: str = "N", triangle: str | None = None
    ) -> Array:
        d = np.asfortranarray(cabs1(b))
        # |A^H| = |A|^T, and |A| of a Hermitian A is symmetric
        self._magnitude(a if trans == "N" or triangle is not None else a.T, x, d, triangle)
        return d

    def column_errors(self, x: Array, r: Array, d: Array) -> ColumnErrors:
        kernels = compiled("residual")
        real = real_dtype(x.dtype)
        pair = 2 if x.dtype.kind == "c" else 1
        errors = ColumnErrors(*np.empty((4, x.shape[1])))
        kernels.column_errors(x.T.view(real), r.T.view(real), d.T, pair, *errors)
        return errors

    @staticmethod
    def _fused_residual(a: Array, x: Array, r: Array, d: Array, triangle: str | None) -> None:
        kernels = compiled("residual")
        lines, along = real_lines(a)
        is_complex = a.dtype.kind == "c"
        size = cabs1(x)
        x, r = real_vector(np.ascontiguousarray(x)), real_vector(r)
        if triangle is not None:
            upper = (triangle == "U") == along
            if is_complex:
                kernels.complex_hermitian(lines, upper, not along, x, size, r, d)
            else:
                kernels.real_symmetric(lines, upper, x, size, r, d)
        elif not along:
            (kernels.complex_across if is_complex else kernels.real_across)(lines, x, size, r, d)
        else:
            run, pair = (kernels.complex_along, 2) if is_complex else (kernels.real_along, 1)

            def some(first: int, last: int) -> None:
                rows = slice(pair * first, pair * last)
                run(lines[first:last], x, size, r[rows], d[first:last])

            if lines.nbytes < _LARGE:
                some(0, len(lines))
            else:
                cost = lines.nbytes / len(lines) / BYTE_RATE
                compiled("batched.threads").run_chunks(some, len(lines), cost, _ROWS)

    @staticmethod
    def _hermitian_product(a: Array, x: Array, r: Array, triangle: str) -> None:
        """r <- r - A x from one triangle."""
        lower = triangle == "L"
        if routines.is_f_like(a):
            blas.symm(-1.0, a, np.asfortranarray(x), 1.0, r, lower)
        elif a.dtype.kind != "c":
            blas.symm(-1.0, a.T, np.asfortranarray(x), 1.0, r, not lower)
        else:  # the F-like view A^T is conj(A): conj(r) - conj(A) conj(x)
            np.conjugate(r, out=r)
            blas.symm(-1.0, a.T, np.conj(x, order="F"), 1.0, r, not lower)
            np.conjugate(r, out=r)

    @staticmethod
    def _magnitude(a: Array, x: Array, d: Array, triangle: str | None) -> None:
        """d <- d + |A||x|, |A| formed a block of rows at a time."""
        size = np.asfortranarray(cabs1(x))
        n = a.shape[0]
        for start in range(0, n, ROW_BLOCK):
            rows = slice(start, min(start + ROW_BLOCK, n))
            block = cabs1(a[rows]) if triangle is None else hermitian_rows(a, rows, triangle)
            blas.gemm(1.0, block, size, 1.0, d[rows])

    @staticmethod
    def _extended_residual(a: Array, x: Array, r: Array, triangle: str | None) -> None:
        kernels = compiled("extended")
        is_complex = a.dtype.kind == "c"
        blocks = [slice(0, a.shape[0])]
        if triangle is not None:  # rows of the full matrix, a block at a time
            blocks = [
                slice(s, min(s + ROW_BLOCK, a.shape[0])) for s in range(0, a.shape[0], ROW_BLOCK)
            ]
        for rows in blocks:
            part = a if triangle is None else hermitian_rows(a, rows, triangle, magnitude=False)
            lines, along = real_lines(part)
            if is_complex:
                run = kernels.extended_complex_along if along else kernels.extended_complex_across
            else:
                run = kernels.extended_along if along else kernels.extended_across
            for j in range(x.shape[1]):
                high = real_vector(np.ascontiguousarray(r[rows, j])).astype(np.float64)
                low = np.zeros_like(high)
                wide = real_vector(np.ascontiguousarray(x[:, j])).astype(np.float64)
                run(lines.astype(np.float64, copy=False), wide, high, low)
                r[rows, j] = (high + low).astype(real_dtype(r.dtype)).view(r.dtype)
