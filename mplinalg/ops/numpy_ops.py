"""The CPU backend: SciPy's BLAS and LAPACK, and Numba kernels.

Low formats are emulated exactly: operands are rounded to the format (`kernels.cpu.rounding`) and
multiplied by fp32 BLAS. Numba is imported at the first call that needs a kernel.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu import lapack
from ..precision import FORMATS, Format, backward_bound, real_dtype, working_format
from .protocol import Checked, ColumnErrors, Conversion, Counters, Refined

Array = NDArray[Any]

_THETA = 0.1
"""Largest entry of a scaled fp16 operand, as a fraction of the largest fp16 number."""
_DROPPED_BITS = {"bf16": 16, "tf32": 13}
_ROW_BLOCK = 256
_TILED_FROM = 2**16
"""Size from which the cache does not hold what a transposition touches."""
_TILE = 64
_ROWS_TO = 64
"""Order up to which complex double matrices are factored by rows; LAPACK is faster beyond."""
_HERK = {"f": "syrk", "c": "herk"}
_HEMM = {"f": "symm", "c": "hemm"}
_LOWER = {"d": np.dtype(np.float32), "D": np.dtype(np.complex64)}
_UNIT = {"f": 2.0**-24, "d": 2.0**-53}


def _real_lines(a: Array) -> tuple[Array, bool]:
    """`a` as real lines with contiguous last axis, and whether they are its rows."""
    if lapack.is_f_like(a) and (a.shape[1] <= a.shape[0] or not lapack.is_c_like(a)):
        return a.T.view(real_dtype(a.dtype)), False
    if lapack.is_c_like(a):
        return a.view(real_dtype(a.dtype)), True
    raise ValueError(f"need unit stride in one dimension; got {a.shape=}, {a.strides=}")


def _require_single(lines: Array) -> None:
    if lines.dtype != np.float32:
        raise TypeError(f"formats below fp32 are held in single precision; got {lines.dtype}")


def _real_vector(x: Array) -> Array:
    return x.view(real_dtype(x.dtype))


def _power_of_two_scale(largest: float) -> float:
    """The power of two that brings `largest` to at most theta * 65504."""
    if not 0.0 < largest < math.inf:
        return 1.0
    exponent = math.floor(math.log2(_THETA * FORMATS["fp16"].max / largest))
    return 2.0 ** min(max(exponent, -126), 126)


@functools.cache
def _compiled(name: str) -> Any:
    """A module of compiled kernels; Numba is imported with the first of them."""
    return importlib.import_module(f"..kernels.cpu.{name}", __package__)


class NumpyOps:
    """`mplinalg.ops.Ops` on NumPy arrays."""

    name = "numpy"
    xp = np

    @staticmethod
    def is_f_like(a: Array) -> bool:
        return lapack.is_f_like(a)

    # -- data movement --------------------------------------------------------------------------

    def convert(
        self, src: Array, dst: Array, *, rows: Array | None = None, cols: Array | None = None
    ) -> Conversion:
        conversion = _compiled("conversion")
        if src.shape != dst.shape:
            raise ValueError(f"convert: {src.shape=} and {dst.shape=} differ")
        fmt = working_format(dst.dtype)
        m, n = src.shape
        along = lapack.is_c_like(src) and lapack.is_c_like(dst)
        if not along and not (lapack.is_f_like(src) and lapack.is_f_like(dst)):
            raise ValueError(f"convert: layouts differ, {src.strides=} and {dst.strides=}")
        source = (src if along else src.T).view(real_dtype(src.dtype))
        target = (dst if along else dst.T).view(real_dtype(dst.dtype))
        pair = 2 if src.dtype.kind == "c" else 1
        if rows is not None or cols is not None:
            ones = np.ones(max(m, n), real_dtype(src.dtype))
            left = ones[:m] if rows is None else rows
            right = ones[:n] if cols is None else cols
            if not along:
                left, right = right, left
            lost = conversion.scaled_copy(
                source, target, left, right, pair, fmt.max, fmt.smallest_normal
            )
            return Conversion(np.empty(0), *map(int, lost))
        if along:
            sums = np.empty(m)
            lost = conversion.copy_sum_along(source, target, sums, fmt.max, fmt.smallest_normal)
        else:
            sums = np.empty(m * pair)
            lost = conversion.copy_sum_across(source, target, sums, fmt.max, fmt.smallest_normal)
            sums = sums if pair == 1 else sums.reshape(m, 2).sum(axis=1)
        return Conversion(sums, *map(int, lost))

    def round(self, a: Array, fmt: Format, counters: Counters | None = None) -> None:
        if not fmt.is_native:
            lines, _ = _real_lines(a)
            if fmt.name == "fp16x2":
                high, low = np.empty_like(lines), np.empty_like(lines)
                self._split(lines, high, low, 1.0, counters)
                np.multiply(low, np.float32(2.0**-11), out=low)
                np.add(high, low, out=lines)
            else:
                self._round_lines(lines, lines, fmt, 1.0, counters)

    def amax(self, a: Array) -> float:
        conversion = _compiled("conversion")
        if a.size == 0:
            return 0.0
        if a.dtype.kind != "c":
            return float(conversion.largest_magnitude(_real_lines(a)[0]))
        view = a if lapack.is_c_like(a) else a.T
        blocks = range(0, view.shape[0], _ROW_BLOCK)
        return float(np.max([np.max(_cabs1(view[s : s + _ROW_BLOCK])) for s in blocks]))

    def lange(self, norm: str, a: Array) -> float:
        if a.size == 0:
            return 0.0
        top = 0.0
        view = a.T if norm == "1" else a
        for start in range(0, view.shape[0], _ROW_BLOCK):
            sums = _cabs1(view[start : start + _ROW_BLOCK]).sum(axis=1, dtype=np.float64)
            block = float(np.max(sums))
            if math.isnan(block):
                return block
            top = max(top, block)
        return top

    def extents(self, a: Array, *, rows: Array | None = None) -> tuple[Array, Array]:
        conversion = _compiled("conversion")
        lines, along = _real_lines(a)
        dtype = real_dtype(a.dtype)
        lengths = a.shape if along else a.shape[::-1]
        along_max, across_max = np.zeros(lengths[0], dtype), np.zeros(lengths[1], dtype)
        ones = np.ones(max(a.shape), dtype)
        factors = ones if rows is None else rows
        left, right = (factors, ones) if along else (ones, factors)
        pair = 2 if a.dtype.kind == "c" else 1
        conversion.line_extents(lines, left, right, pair, along_max, across_max)
        return (along_max, across_max) if along else (across_max, along_max)

    def laswp(self, a: Array, piv: Array, *, forward: bool = True) -> None:
        lapack.laswp(a, piv, forward)

    # -- level 3 --------------------------------------------------------------------------------

    def gemm(
        self, alpha: float, a: Array, b: Array, beta: float, c: Array, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
        counters: Counters | None = None,
    ) -> None:  # fmt: skip
        if compute is None or compute.is_native:
            lapack.gemm(alpha, a, b, beta, c, transa, transb)
            return
        if compute.name == "fp16x2":
            self._gemm_fp16x2(alpha, a, b, beta, c, transa, transb, counters)
            return
        a16, scale_a = self._rounded(a, compute, counters)
        b16, scale_b = self._rounded(b, compute, counters)
        lapack.gemm(alpha / (scale_a * scale_b), a16, b16, beta, c, transa, transb)

    def syrk(
        self, alpha: float, a: Array, beta: float, c: Array, *, lower: bool,
        trans: str = "N", compute: Format | None = None, counters: Counters | None = None,
    ) -> None:  # fmt: skip
        if compute is None or compute.is_native:
            lapack.syrk(alpha, a, beta, c, lower, trans)
        elif compute.name == "fp16x2":
            transa, transb = ("N", "C") if trans == "N" else ("C", "N")
            self.gemm(
                alpha, a, a, beta, c, transa=transa, transb=transb, compute=compute,
                counters=counters,
            )  # fmt: skip
        else:
            a16, scale = self._rounded(a, compute, counters)
            lapack.syrk(alpha / scale**2, np.asfortranarray(a16), beta, c, lower, trans)

    def trsm(
        self, side: str, a: Array, b: Array, *, lower: bool, trans: str = "N", unit: bool = False,
        fast: bool = False,
    ) -> None:  # fmt: skip
        if not (fast and side == "L" and lapack.is_f_like(a) and lapack.is_f_like(b) and b.size):
            lapack.trsm(side, a, b, lower, trans, unit)
            return
        lapack.check_trsm(a, b)
        flag = np.uint8(ord("C" if trans == "C" else "T"))
        gemm = lapack.address("gemm", a.dtype)
        _compiled("trsm").solve_triangle(gemm, a.T, not lower, trans == "N", unit, flag, b.T)

    def _gemm_fp16x2(
        self, alpha: float, a: Array, b: Array, beta: float, c: Array, transa: str, transb: str,
        counters: Counters | None,
    ) -> None:  # fmt: skip
        """(Ah + 2^-11 Al)(Bh + 2^-11 Bl) without the product of the low parts."""
        a_high, a_low, scale_a = self._split_scaled(a, counters)
        b_high, b_low, scale_b = self._split_scaled(b, counters)
        alpha /= scale_a * scale_b
        lapack.gemm(alpha * 2.0**-11, a_low, b_high, beta, c, transa, transb)
        lapack.gemm(alpha * 2.0**-11, a_high, b_low, 1.0, c, transa, transb)
        lapack.gemm(alpha, a_high, b_high, 1.0, c, transa, transb)

    def _rounded(self, a: Array, fmt: Format, counters: Counters | None) -> tuple[Array, float]:
        lines, along = _real_lines(a)
        scale = self._scale(lines) if fmt.needs_scaling else 1.0
        out = np.empty(lines.shape, lines.dtype)
        self._round_lines(lines, out, fmt, scale, counters)
        rounded = out.view(a.dtype)
        return (rounded if along else rounded.T), scale

    def _split_scaled(self, a: Array, counters: Counters | None) -> tuple[Array, Array, float]:
        lines, along = _real_lines(a)
        scale = self._scale(lines)
        high, low = np.empty(lines.shape, lines.dtype), np.empty(lines.shape, lines.dtype)
        self._split(lines, high, low, scale, counters)
        high, low = high.view(a.dtype), low.view(a.dtype)
        return (high, low, scale) if along else (high.T, low.T, scale)

    @staticmethod
    def _scale(lines: Array) -> float:
        conversion = _compiled("conversion")
        return _power_of_two_scale(conversion.largest_magnitude(lines) if lines.size else 0.0)

    @staticmethod
    def _round_lines(
        src: Array, dst: Array, fmt: Format, scale: float, counters: Counters | None
    ) -> None:
        rounding = _compiled("rounding")
        _require_single(src)
        factor = np.float32(scale)
        if fmt.name == "fp16":
            lost = rounding.round_fp16(src, dst, factor)
        else:
            lost = rounding.round_mantissa(src, dst, factor, _DROPPED_BITS[fmt.name])
        if counters is not None:
            counters.add(*lost)

    @staticmethod
    def _split(
        src: Array, high: Array, low: Array, scale: float, counters: Counters | None
    ) -> None:
        rounding = _compiled("rounding")
        _require_single(src)
        lost = rounding.split_fp16x2(src, high, low, np.float32(scale))
        if counters is not None:
            counters.add(*lost)

    # -- factorizations -------------------------------------------------------------------------

    def getrf_view(self, a: Array) -> Array:
        if a.dtype == np.complex128 and len(a) > _ROWS_TO:
            return a if lapack.is_f_like(a) else a.T
        return a if a.flags.c_contiguous or not a.flags.f_contiguous else a.T

    def getrf(self, a: Array) -> tuple[Array, int]:
        if not _is_by_rows(a):
            return lapack.getrf(a)
        kernels = _compiled("getrf")
        piv = np.empty(len(a), np.int32)
        real = a.view(real_dtype(a.dtype))
        return piv, kernels.getrf_rows(lapack.address("gemm", a.dtype), a, real, piv)

    def getrf_panel(self, a: Array) -> tuple[Array, int]:
        return lapack.getrf(a)

    def getrs(self, lu: Array, piv: Array, b: Array, *, trans: str = "N") -> None:
        if not _is_by_rows(lu):
            lapack.getrs(lu, piv, b, trans)
            return
        kernels = _compiled("getrs")
        lapack.check_getrs(lu, piv, b)
        conjugate = trans == "C" and lu.dtype.kind == "c"
        if conjugate:  # A^-H b = conj(A^-T conj(b))
            np.conjugate(b, out=b)
        lines = _columns(b)
        addresses = _addresses(lu.dtype, "gemm", "trsv", "trsm")
        kernels.getrs_rows(*addresses, lu, piv, lines, trans != "N", False)
        if not b.flags.f_contiguous:
            b[...] = lines.T
        if conjugate:
            np.conjugate(b, out=b)

    def gecon(self, lu: Array, norm: float, kind: str = "1") -> float:
        if not _is_by_rows(lu):
            return lapack.gecon(lu, norm, kind)
        kernels = _compiled("getrs")
        addresses = _addresses(lu.dtype, "gemm", "trsv", "trsm")
        piv = np.arange(len(lu), dtype=np.int32)
        inverse = kernels.inverse_norm(*addresses, lu, piv, kind == "I")
        return 1.0 / (norm * inverse) if norm * inverse > 0 else 0.0

    def potrf(self, a: Array, *, lower: bool) -> int:
        if not a.flags.f_contiguous or a.shape[0] != a.shape[1]:
            return lapack.potrf(a, lower)
        kernels = _compiled("potrf")
        gemm, herk = _addresses(a.dtype, "gemm", _HERK[a.dtype.kind])
        return kernels.potrf_rows(gemm, herk, a.T, lower)

    def potrs(self, c: Array, b: Array, *, lower: bool) -> None:
        lapack.potrs(c, b, lower)

    def geqrf(self, a: Array) -> Array:
        return lapack.geqrf_recursive(a)

    def geqrf_panel(self, a: Array) -> tuple[Array, Array]:
        tau = lapack.geqrf(a)
        return tau, lapack.larft(a[:, : tau.size], tau)

    def ormqr(self, side: str, trans: str, qr: Array, tau: Array, c: Array) -> None:
        lapack.ormqr(side, trans, qr, tau, c)

    def trcon(self, r: Array, *, lower: bool) -> float:
        return lapack.trcon(r, lower)

    # -- whole systems --------------------------------------------------------------------------

    refines_columns = 4

    def gesv(self, a: Array, b: Array, *, trans: str = "N", probe: bool = True) -> Checked:
        kernels = _compiled("gesv")
        lines, real, by_columns = _lines_of(a)
        n, dtype = len(a), a.dtype
        rhs = _columns(b)
        x = np.empty((len(rhs) + probe, n), dtype)
        lu, piv = np.empty((n, n), dtype), np.empty(n, np.int32)
        info, omega, kappa, norm = kernels.gesv_lines(
            *_addresses(dtype, "gemm", "trsv", "trsm"), lines, real,
            by_columns != (trans == "T"), rhs, x, lu, lu.view(real.dtype), piv,
            backward_bound(n, _UNIT[real.dtype.char]),
        )  # fmt: skip
        return Checked(x[: len(rhs)].T, info, omega, kappa, norm, lu, piv, by_columns)

    def posv(
        self, a: Array, b: Array, *, lower: bool, whole: bool = False, probe: bool = True
    ) -> Checked:
        kernels = _compiled("gesv")
        lines, real, by_columns = _lines_of(a)
        n, dtype = len(a), a.dtype
        conjugate = by_columns and dtype.kind == "c"
        rhs = np.conj(b.T, order="C") if conjugate else _columns(b)
        x, c = np.empty((len(rhs) + probe, n), dtype), np.empty((n, n), dtype)
        info, omega, kappa, norm = kernels.posv_lines(
            *_addresses(dtype, "gemm", _HERK[dtype.kind], _HEMM[dtype.kind], "trsv", "trsm"),
            lines, real, lower == by_columns, whole, rhs, x, c,
            backward_bound(n, _UNIT[real.dtype.char]),
        )  # fmt: skip
        if conjugate:
            np.conjugate(x, out=x)
        return Checked(x[: len(rhs)].T, info, omega, kappa, norm, c.T if by_columns else c)

    def solve_structured(self, a: Array, b: Array, structure: str) -> tuple[Array, int, float]:
        kernels = _compiled("structured")
        lines, real, by_columns = _lines_of(a)
        rhs = _columns(b)
        x = np.empty((len(rhs) + 1, len(a)), a.dtype)
        address = functools.partial(lapack.address, dtype=a.dtype)
        if structure == "diagonal":
            info, kappa = kernels.diagonal_lines(lines, real, rhs, x)
        elif structure == "tridiagonal":
            info, kappa = kernels.tridiagonal_lines(
                address("gtsv"), lines, real, by_columns, rhs, x
            )
        elif structure == "banded":
            info, kappa = kernels.banded_lines(
                address("gbsv"), lines, real, by_columns, rhs, x, _UNIT[real.dtype.char]
            )
        else:
            lower = (structure == "lower triangular") != by_columns
            info, kappa = kernels.triangular_lines(
                address("trsv"), lines, real, lower, by_columns, rhs, x
            )
        return x[:-1].T, info, kappa

    def filled_up(self, a: Array, *, lower: bool, conjugate: bool) -> tuple[Array, bool]:
        lines, real, by_columns = _lines_of(a)
        out = np.empty_like(lines)
        conjugate = conjugate and a.dtype.kind == "c"
        finite = _compiled("structured").fill_up(lines, real, lower == by_columns, conjugate, out)
        return (out.T if by_columns else out), finite

    def getrs_checked(
        self, a: Array, seen: Checked, b: Array, *, trans: str = "N"
    ) -> tuple[Array, float]:
        kernels = _compiled("gesv")
        _, real, by_columns = _lines_of(a, seen.transposed)
        rhs = _columns(b)
        x = np.empty_like(rhs)
        omega, _ = kernels.getrs_checked(
            *_addresses(a.dtype, "gemm", "trsv", "trsm"), real, by_columns != (trans == "T"),
            seen.factors, seen.piv, rhs, x, backward_bound(len(a), _UNIT[real.dtype.char]),
        )  # fmt: skip
        return x.T, omega

    def potrs_checked(
        self, a: Array, seen: Checked, b: Array, *, lower: bool
    ) -> tuple[Array, float]:
        kernels = _compiled("gesv")
        _, real, by_columns = _lines_of(a, not seen.factors.flags.c_contiguous)
        conjugate = by_columns and a.dtype.kind == "c"
        rhs = np.conj(b.T, order="C") if conjugate else _columns(b)
        x = np.empty_like(rhs)
        omega, _ = kernels.potrs_checked(
            *_addresses(a.dtype, "gemm", _HEMM[a.dtype.kind], "trsv", "trsm"), real,
            lower == by_columns, seen.factors.T if by_columns else seen.factors, rhs, x,
            backward_bound(len(a), _UNIT[real.dtype.char]),
        )  # fmt: skip
        if conjugate:
            np.conjugate(x, out=x)
        return x.T, omega

    def gesv_refined(self, a: Array, b: Array) -> Refined:
        kernels = _compiled("refined")
        lines, real, by_columns = _lines_of(a)
        n, low = len(a), _LOWER[a.dtype.char]
        rhs = _columns(b)
        x = np.empty_like(rhs)
        lu, piv = np.empty((n, n), low), np.empty(n, np.int32)
        outcome, kappa, steps = kernels.gesv_refined(
            *_addresses(low, "gemm", "trsv", "trsm"), lines, real, by_columns, rhs, x, lu,
            lu.view(np.float32), piv,
        )  # fmt: skip
        return Refined(x.T, outcome == kernels.CONVERGED, kappa, steps)

    def posv_refined(self, a: Array, b: Array, *, lower: bool, whole: bool = False) -> Refined:
        kernels = _compiled("refined")
        lines, real, by_columns = _lines_of(a)
        n, low = len(a), _LOWER[a.dtype.char]
        conjugate = by_columns and a.dtype.kind == "c"
        rhs = np.conj(b.T, order="C") if conjugate else _columns(b)
        x, c = np.empty_like(rhs), np.empty((n, n), low)
        outcome, kappa, steps = kernels.posv_refined(
            *_addresses(low, "gemm", _HERK[low.kind], "trsv", "trsm"), lines, real,
            lower == by_columns, whole, rhs, x, c,
        )  # fmt: skip
        if conjugate:
            np.conjugate(x, out=x)
        return Refined(x.T, outcome == kernels.CONVERGED, kappa, steps)

    # -- refinement -----------------------------------------------------------------------------

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
        d = np.asfortranarray(_cabs1(b)) if magnitude else None
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
                lapack.gemm(-1.0, a, x, 1.0, r)
            else:
                self._hermitian_product(a, x, r, triangle)
            if d is not None:
                self._magnitude(a, x, d, triangle)
        return r, d

    fused_columns = 2

    def magnitude(
        self, a: Array, x: Array, b: Array, *, trans: str = "N", triangle: str | None = None
    ) -> Array:
        d = np.asfortranarray(_cabs1(b))
        # |A^H| = |A|^T, and |A| of a Hermitian A is symmetric
        self._magnitude(a if trans == "N" or triangle is not None else a.T, x, d, triangle)
        return d

    def column_errors(self, x: Array, r: Array, d: Array) -> ColumnErrors:
        kernels = _compiled("residual")
        real = real_dtype(x.dtype)
        pair = 2 if x.dtype.kind == "c" else 1
        errors = ColumnErrors(*np.empty((4, x.shape[1])))
        kernels.column_errors(x.T.view(real), r.T.view(real), d.T, pair, *errors)
        return errors

    @staticmethod
    def _fused_residual(a: Array, x: Array, r: Array, d: Array, triangle: str | None) -> None:
        kernels = _compiled("residual")
        lines, along = _real_lines(a)
        is_complex = a.dtype.kind == "c"
        size = _cabs1(x)
        x, r = _real_vector(np.ascontiguousarray(x)), _real_vector(r)
        if triangle is not None:
            upper = (triangle == "U") == along
            if is_complex:
                kernels.complex_hermitian(lines, upper, not along, x, size, r, d)
            else:
                kernels.real_symmetric(lines, upper, x, size, r, d)
        elif is_complex:
            (kernels.complex_along if along else kernels.complex_across)(lines, x, size, r, d)
        else:
            (kernels.real_along if along else kernels.real_across)(lines, x, size, r, d)

    @staticmethod
    def _hermitian_product(a: Array, x: Array, r: Array, triangle: str) -> None:
        """r <- r - A x from one triangle."""
        lower = triangle == "L"
        if lapack.is_f_like(a):
            lapack.symm(-1.0, a, np.asfortranarray(x), 1.0, r, lower)
        elif a.dtype.kind != "c":
            lapack.symm(-1.0, a.T, np.asfortranarray(x), 1.0, r, not lower)
        else:  # the F-like view A^T is conj(A): conj(r) - conj(A) conj(x)
            np.conjugate(r, out=r)
            lapack.symm(-1.0, a.T, np.conj(x, order="F"), 1.0, r, not lower)
            np.conjugate(r, out=r)

    @staticmethod
    def _magnitude(a: Array, x: Array, d: Array, triangle: str | None) -> None:
        """d <- d + |A||x|, |A| formed a block of rows at a time."""
        size = np.asfortranarray(_cabs1(x))
        n = a.shape[0]
        for start in range(0, n, _ROW_BLOCK):
            rows = slice(start, min(start + _ROW_BLOCK, n))
            block = _cabs1(a[rows]) if triangle is None else _hermitian_rows(a, rows, triangle)
            lapack.gemm(1.0, block, size, 1.0, d[rows])

    @staticmethod
    def _extended_residual(a: Array, x: Array, r: Array, triangle: str | None) -> None:
        kernels = _compiled("extended")
        is_complex = a.dtype.kind == "c"
        blocks = [slice(0, a.shape[0])]
        if triangle is not None:  # rows of the full matrix, a block at a time
            blocks = [
                slice(s, min(s + _ROW_BLOCK, a.shape[0])) for s in range(0, a.shape[0], _ROW_BLOCK)
            ]
        for rows in blocks:
            part = a if triangle is None else _hermitian_rows(a, rows, triangle, magnitude=False)
            lines, along = _real_lines(part)
            if is_complex:
                run = kernels.extended_complex_along if along else kernels.extended_complex_across
            else:
                run = kernels.extended_along if along else kernels.extended_across
            for j in range(x.shape[1]):
                high = _real_vector(np.ascontiguousarray(r[rows, j])).astype(np.float64)
                low = np.zeros_like(high)
                wide = _real_vector(np.ascontiguousarray(x[:, j])).astype(np.float64)
                run(lines.astype(np.float64, copy=False), wide, high, low)
                r[rows, j] = (high + low).astype(real_dtype(r.dtype)).view(r.dtype)


def _lines_of(a: Array, by_columns: bool | None = None) -> tuple[Array, Array, bool]:
    """Contiguous lines of a square matrix, the same as real numbers, and whether they are columns.

    A copy of what is not contiguous in the direction wanted (None: in either).
    """
    if by_columns is None:
        by_columns = not a.flags.c_contiguous
    lines = np.ascontiguousarray(a.T if by_columns else a)
    return lines, lines.view(real_dtype(a.dtype)), by_columns


def _columns(b: Array) -> Array:
    """The columns of b as contiguous lines; b itself, transposed, if they are that already."""
    if b.flags.f_contiguous or b.size < _TILED_FROM:
        return np.ascontiguousarray(b.T)
    lines = np.empty(b.shape[::-1], b.dtype)
    for start in range(0, len(b), _TILE):  # a few cache lines of each column at a time
        lines[:, start : start + _TILE] = b[start : start + _TILE].T
    return lines


def _is_by_rows(a: Array) -> bool:
    """Square, contiguous by rows only: factored by the library's own kernel, not by LAPACK."""
    return a.flags.c_contiguous and a.shape[0] == a.shape[1] > 1


@functools.cache
def _addresses(dtype: np.dtype[Any], *names: str) -> tuple[int, ...]:
    return tuple(lapack.address(name, dtype) for name in names)


def _cabs1(a: Array) -> Array:
    """|a|, or |re| + |im| of a complex array."""
    if a.dtype.kind != "c":
        return np.abs(a)
    size = np.abs(a.real)
    size += np.abs(a.imag)
    return size


def _hermitian_rows(a: Array, rows: slice, triangle: str, magnitude: bool = True) -> Array:
    """Rows of a Hermitian matrix of which one triangle is stored; C-ordered copy."""
    take = _cabs1 if magnitude else np.asarray
    start = rows.start
    if triangle == "U":
        right, left = take(a[rows, start:]), take(a[:start, rows]).T.conj()
    else:
        right, left = take(a[start:, rows]).T.conj(), take(a[rows, :start])
    block = np.empty((rows.stop - start, a.shape[0]), right.dtype)
    block[:, :start] = left
    block[:, start:] = right
    square = block[:, rows]
    below = np.tril_indices(square.shape[0], -1)
    square[below] = square.T[below].conj()
    np.fill_diagonal(square, take(a.diagonal()[rows].real))
    return block
