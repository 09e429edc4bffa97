"""`NumpyOps`: factorizations and solves with them, by LAPACK or by the library's own kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ..kernels.cpu import blas, butterfly, lapack, routines
from ..precision import Format
from .numpy_lines import HERK, addresses, columns, compiled, is_by_rows

Array = NDArray[Any]

_ROWS_TO = 64
"""Order up to which complex double matrices are factored by rows; LAPACK is faster beyond."""
_PANEL, _WIDE_PANEL = 128, 384
"""Columns of a panel; of a wide one interchanges and solves are fewer, and gemm is at its best."""
_WIDE_FROM = 1024


class Factorizations:
    """LU with and without pivots, Cholesky, QR, singular values, condition estimates."""

    def getrf_view(self, a: Array, fmt: Format | None = None) -> Array:
        if fmt is not None:
            return a if routines.is_f_like(a) else a.T
        if a.dtype == np.complex128 and len(a) > _ROWS_TO:
            return a if routines.is_f_like(a) else a.T
        return a if a.flags.c_contiguous or not a.flags.f_contiguous else a.T

    def getrf(self, a: Array) -> tuple[Array, int]:
        if not is_by_rows(a):
            return lapack.getrf(a)
        piv = np.empty(len(a), np.int32)
        return piv, compiled("getrf_blocks").getrf_rows(a, piv)

    def getrf_panel(self, a: Array) -> tuple[Array, int]:
        return lapack.getrf(a)

    def panel_width(self, n: int, *, definite: bool = False) -> int:
        return _PANEL if definite or n < _WIDE_FROM else _WIDE_PANEL

    def first_info(self, infos: Sequence[tuple[int, int]]) -> int:
        return next((offset + info for offset, info in infos if info), 0)

    overlaps = False

    def beside(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def join(self) -> None:
        pass

    def getrs_plan(self, lu: Array, piv: Array) -> None:
        return None

    def getrs(self, lu: Array, piv: Array, b: Array, *, trans: str = "N", plan: Any = None) -> None:
        if not is_by_rows(lu):
            lapack.getrs(lu, piv, b, trans)
            return
        kernels = compiled("getrs")
        lapack.check_getrs(lu, piv, b)
        conjugate = trans == "C" and lu.dtype.kind == "c"
        if conjugate:  # A^-H b = conj(A^-T conj(b))
            np.conjugate(b, out=b)
        lines = columns(b)
        found = addresses(lu.dtype, "gemm", "trsv", "trsm")
        kernels.getrs_rows(*found, lu, piv, lines, trans != "N", False)
        if not b.flags.f_contiguous:
            b[...] = lines.T
        if conjugate:
            np.conjugate(b, out=b)

    prefers_butterfly = False
    diagonal_block = 128

    def butterfly(
        self, src: Array, dst: Array, u: Array, v: Array, *, padding: float = 1.0
    ) -> None:
        butterfly.transform(src, dst, u, v, padding)

    def butterfly_vectors(self, b: Array, y: Array, u: Array, *, transposed: bool) -> None:
        butterfly.transform_vectors(b, y, u, transposed)

    def getrf_block(
        self, a: Array, lower: Array, upper: Array, info: Array, offset: int = 0
    ) -> None:
        bad = butterfly.block_lu(a, lower, upper)
        if bad and not 0 < info[0] <= offset + bad:
            info[0] = offset + bad

    def trsm_inverted(
        self, a: Array, inverses: Array, b: Array, *, lower: bool, trans: str = "N"
    ) -> None:
        n, size = len(a), self.diagonal_block
        is_transposed = trans != "N"
        is_forward = lower != is_transposed
        starts = range(0, n, size)
        for start in starts if is_forward else reversed(starts):
            k = slice(start, min(start + size, n))
            done = slice(0, start) if is_forward else slice(k.stop, n)
            # B[k] <- op(A)[k, k]^-1 (B[k] - op(A)[k, done] B[done])
            beside = a[done, k] if is_transposed else a[k, done]
            blas.gemm(-1.0, beside, b[done], 1.0, b[k], trans)
            width = k.stop - start
            inverse = inverses[start // size, :width, :width]
            blas.gemm(1.0, inverse, b[k].copy(), 0.0, b[k], trans)

    def gecon(self, lu: Array, norm: float, kind: str = "1") -> float:
        if not is_by_rows(lu):
            return lapack.gecon(lu, norm, kind)
        trsv = routines.address("trsv", lu.dtype)
        piv = np.arange(len(lu), dtype=np.int32)
        inverse = compiled("getrs").inverse_norm(trsv, lu, piv, kind == "I")
        return 1.0 / (norm * inverse) if norm * inverse > 0 else 0.0

    def potrf(self, a: Array, *, lower: bool) -> int:
        if not a.flags.f_contiguous or a.shape[0] != a.shape[1]:
            return lapack.potrf(a, lower)
        kernels = compiled("potrf")
        gemm, herk = addresses(a.dtype, "gemm", HERK[a.dtype.kind])
        return kernels.potrf_rows(gemm, herk, a.T, lower)

    def potrs_plan(self, c: Array, *, lower: bool) -> None:
        return None

    def potrs(self, c: Array, b: Array, *, lower: bool, plan: Any = None) -> None:
        lapack.potrs(c, b, lower)

    def geqrf(self, a: Array) -> Array:
        return lapack.geqrf_recursive(a)

    def geqrf_panel(self, a: Array) -> tuple[Array, Array]:
        tau = lapack.geqrf(a)
        return tau, lapack.larft(a[:, : tau.size], tau)

    def ormqr(self, side: str, trans: str, qr: Array, tau: Array, c: Array) -> None:
        lapack.ormqr(side, trans, qr, tau, c)

    def gesvd(self, a: Array, *, vectors: bool = True) -> tuple[Any, Array, Any]:
        if not vectors:
            return None, scipy.linalg.svdvals(a, check_finite=False), None
        u, s, vh = scipy.linalg.svd(a, full_matrices=False, check_finite=False)
        return u, s, vh

    def trcon(self, r: Array, *, lower: bool) -> float:
        return lapack.trcon(r, lower)
