"""`CupyOps`: factorizations and solves with them, by cuSOLVER or by the library's own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cupy
import cupyx
import numpy as np

from ..kernels.cuda import blas, fallbacks, lapack, panels, triangles, unpivoted
from ..kernels.cuda.condest import inverse_norm1, triangle_norm1
from ..kernels.cuda.layout import is_c_like, is_f_like, require_one_device, require_views
from ..kernels.cuda.loader import KernelUnavailable
from ..precision import Format
from .protocol import Info

Array = Any

_PANEL, _WIDE_PANEL = 512, 1024
"""Columns of a panel: enough for products that are bound by arithmetic, not by memory."""
_WIDE_FROM = 16384
_DEFINITE_PANEL = 1024
_WORKING_PANEL = 512
"""Of LU in working precision by panels."""
_LARGEST = 2**31
"""Entries of a matrix from which the 32-bit interface of cuSOLVER refuses it."""
_PLANS_FROM = 256
"""Order from which solves with factors in single precision are prepared."""


class Factorizations:
    """LU with and without pivots, Cholesky, QR, singular values, condition estimates."""

    def getrf_view(self, a: Array, fmt: Format | None = None) -> Array:
        # kernels of real panels take rows, cuSOLVER takes columns
        if fmt is not None and a.dtype == np.float32:
            return a if is_c_like(a) else a.T
        return a if is_f_like(a) else a.T

    def panel_width(self, n: int, *, definite: bool = False) -> int:
        if definite:
            return _DEFINITE_PANEL
        return _PANEL if n < _WIDE_FROM else _WIDE_PANEL

    def getrf(self, a: Array) -> tuple[Array, int]:
        require_one_device(a)
        require_views("getrf", a)
        if is_f_like(a) and a.size < _LARGEST:
            piv, info = panels.getrf_by_solver(a)
            return piv, self.first_info([(0, info)])
        return self._getrf_by_panels(a)

    def getrf_panel(self, a: Array) -> tuple[Array, Info]:
        require_one_device(a)
        require_views("getrf_panel", a)
        if a.dtype == np.float32:
            return panels.getrf_panel(a)
        return panels.getrf_by_solver(a)

    def _getrf_by_panels(self, a: Array) -> tuple[Array, int]:
        """In place in either layout; a panel at a time is copied, and not the matrix."""
        m, n = a.shape
        count = min(m, n)
        piv, infos = cupy.empty(count, np.int32), []
        for start in range(0, count, _WORKING_PANEL):
            k = slice(start, min(start + _WORKING_PANEL, count))
            # P A[k:, k] = L U
            piv[k], info = self.getrf_panel(a[start:, k])
            infos.append((start, info))
            panels.laswp(a[start:, :start], piv[k])
            after = a[start:, k.stop :]
            panels.laswp(after, piv[k])
            piv[k] += np.int32(start)
            # A[k, t] <- L[k, k]^-1 A[k, t];   A[t, t] <- A[t, t] - L[t, k] U[k, t]
            width = k.stop - start
            blas.trsm("L", a[k, k], after[:width], True, "N", True)
            blas.gemm(-1.0, a[k.stop :, k], after[:width], 1.0, after[width:])
        return piv, self.first_info(infos)

    def first_info(self, infos: Sequence[tuple[int, Info]]) -> int:
        on_device = [info.reshape(1) for _, info in infos if isinstance(info, cupy.ndarray)]
        waited = iter(cupy.concatenate(on_device).tolist() if on_device else ())
        for offset, given in infos:
            info = next(waited) if isinstance(given, cupy.ndarray) else int(given)
            if info < 0:
                raise RuntimeError(f"cuSOLVER: argument {-info} is illegal")
            if info:
                return offset + info
        return 0

    def getrs_plan(self, lu: Array, piv: Array) -> Any:
        if lu.dtype != np.float32 or len(lu) < _PLANS_FROM:
            return None
        try:
            return triangles.plan(lu, piv)
        except KernelUnavailable as reason:
            fallbacks.note(reason)
            return None

    def potrs_plan(self, c: Array, *, lower: bool) -> Any:
        if c.dtype != np.float32 or len(c) < _PLANS_FROM:
            return None
        try:
            return triangles.potrs_plan(c, lower)
        except KernelUnavailable as reason:
            fallbacks.note(reason)
            return None

    def getrs(self, lu: Array, piv: Array, b: Array, *, trans: str = "N", plan: Any = None) -> None:
        require_one_device(lu, piv, b)
        if plan is not None:
            try:
                triangles.getrs(plan, b, trans)
            except KernelUnavailable as reason:
                fallbacks.note(reason)
            else:
                return
        if is_f_like(lu):
            lapack.getrs(lu, piv, b, trans)
            return
        if trans == "N":
            panels.laswp(b, piv)
        self._solve_factored(lu, b, trans)
        if trans != "N":
            panels.laswp(b, piv, forward=False)

    @property
    def prefers_butterfly(self) -> bool:
        """If the kernels can be had: panels that pivot take longest of all, up to large orders."""
        return unpivoted.is_available()

    diagonal_block = panels.INVERTED

    def butterfly(
        self, src: Array, dst: Array, u: Array, v: Array, *, padding: float = 1.0
    ) -> None:
        require_one_device(src, dst, u, v)
        unpivoted.butterfly(src, dst, u, v, padding)

    def butterfly_vectors(self, b: Array, y: Array, u: Array, *, transposed: bool) -> None:
        require_one_device(b, y, u)
        unpivoted.butterfly_vectors(b, y, u, transposed=transposed)

    def getrf_block(
        self, a: Array, lower: Array, upper: Array, info: Array, offset: int = 0
    ) -> None:
        require_one_device(a, lower, upper, info)
        unpivoted.getrf_block(a, lower, upper, info, offset)

    def trsm_inverted(
        self, a: Array, inverses: Array, b: Array, *, lower: bool, trans: str = "N"
    ) -> None:
        require_one_device(a, inverses, b)
        unpivoted.trsm_inverted(a, inverses, b, lower=lower, trans=trans)

    @staticmethod
    def _solve_factored(lu: Array, b: Array, trans: str) -> None:
        """B <- op(L U)^-1 B."""
        for lower in (True, False) if trans == "N" else (False, True):
            blas.trsm("L", lu, b, lower, trans, lower)

    def gecon(self, lu: Array, norm: float, kind: str = "1") -> float:
        require_one_device(lu)
        n = len(lu)
        if n == 0:
            return 1.0
        flags = ("N", "C") if kind == "1" else ("C", "N")
        # interchanges of rows of A are those of columns of the inverse: its norms stay
        solves = [lambda x, flag=flag: self._solve_factored(lu, x, flag) for flag in flags]
        inverse = float(inverse_norm1(n, lu.dtype, *solves))
        return _reciprocal(norm, inverse)

    def potrf(self, a: Array, *, lower: bool) -> Info:
        require_one_device(a)
        require_views("potrf", a)
        # read by columns, A is conj(A), and L^T its upper factor
        return lapack.potrf(a, lower) if is_f_like(a) else lapack.potrf(a.T, not lower)

    def potrs(self, c: Array, b: Array, *, lower: bool, plan: Any = None) -> None:
        require_one_device(c, b)
        if plan is not None:
            try:
                triangles.potrs(plan, b)
            except KernelUnavailable as reason:
                fallbacks.note(reason)
            else:
                return
        if is_f_like(c):
            lapack.potrs(c, b, lower)
            return
        conjugate = c.dtype.kind == "c"
        if conjugate:  # conj(A) conj(x) = conj(b)
            cupy.conj(b, out=b)
        lapack.potrs(c.T, b, not lower)
        if conjugate:
            cupy.conj(b, out=b)

    def geqrf(self, a: Array) -> Array:
        require_one_device(a)
        return lapack.geqrf(a)

    def geqrf_panel(self, a: Array) -> tuple[Array, Array]:
        require_one_device(a)
        return panels.geqrf_panel(a)

    def ormqr(self, side: str, trans: str, qr: Array, tau: Array, c: Array) -> None:
        require_one_device(qr, tau, c)
        lapack.ormqr(side, trans, qr, tau, c)

    def gesvd(self, a: Array, *, vectors: bool = True) -> tuple[Array, Array, Array]:
        require_one_device(a)
        with cupyx.errstate(linalg="raise"):  # else nobody looks at what cuSOLVER reports
            found = cupy.linalg.svd(a, full_matrices=False, compute_uv=vectors)
        return found if vectors else (None, found, None)

    def trcon(self, r: Array, *, lower: bool) -> float:
        require_one_device(r)
        require_views("trcon", r)
        n = len(r)
        if n == 0:
            return 1.0
        inverse = inverse_norm1(
            n, r.dtype, lambda x: blas.trsm("L", r, x, lower),
            lambda x: blas.trsm("L", r, x, lower, "C"),
        )  # fmt: skip
        norm, inverse = cupy.stack([triangle_norm1(r, lower), inverse]).tolist()
        return _reciprocal(norm, inverse)


def _reciprocal(norm: float, inverse: float) -> float:
    """1 / (norm inverse); 0 if that is not a number."""
    product = norm * inverse
    return 1.0 / product if product > 0 else 0.0
