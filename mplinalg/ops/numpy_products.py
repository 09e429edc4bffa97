"""`NumpyOps`: movement of data, and products in any format.

Low formats are emulated exactly: operands are rounded to the format (`kernels.cpu.rounding`) and
multiplied by fp32 BLAS.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu import blas, lapack, routines
from ..kernels.cpu.routines import same_dtype
from ..precision import FORMATS, Format, real_dtype, working_format
from .numpy_lines import ROW_BLOCK, cabs1, compiled, real_lines
from .protocol import Conversion, Counters

Array = NDArray[Any]

_THETA = 0.1
"""Largest entry of a scaled fp16 operand, as a fraction of the largest fp16 number."""
_TURNED_FROM = 2**12
"""Entries from which on the cache dislikes that rows become columns."""
_DROPPED_BITS = {"bf16": 16, "tf32": 13}


def _require_single(lines: Array) -> None:
    if lines.dtype != np.float32:
        raise TypeError(f"formats below fp32 are held in single precision; got {lines.dtype}")


def _power_of_two_scale(largest: float) -> float:
    """The power of two that brings `largest` to at most theta * 65504."""
    if not 0.0 < largest < math.inf:
        return 1.0
    exponent = math.floor(math.log2(_THETA * FORMATS["fp16"].max / largest))
    return 2.0 ** min(max(exponent, -126), 126)


def _bounded(factor: float, *parts: Array) -> float:
    """A factor that fp32 holds, and what is more of it multiplied into `parts`.

    With an infinite one, products that are zero would become NaN.
    """
    if 2.0**127 < factor < math.inf:
        for part in parts:
            part *= np.float32(2.0**100)
        return factor * 2.0**-100
    return factor


class Products:
    """Conversion, norms, interchanges; gemm, syrk and trsm."""

    def convert(
        self, src: Array, dst: Array, *, rows: Array | None = None, cols: Array | None = None
    ) -> Conversion:
        conversion = compiled("conversion")
        if src.shape != dst.shape:
            raise ValueError(f"convert: {src.shape=} and {dst.shape=} differ")
        fmt = working_format(dst.dtype)
        m, n = src.shape
        along = routines.is_c_like(src) and routines.is_c_like(dst)
        if not along and not (routines.is_f_like(src) and routines.is_f_like(dst)):
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
            lines, _ = real_lines(a)
            if fmt.name == "fp16x2":
                high, low = np.empty_like(lines), np.empty_like(lines)
                self._split(lines, high, low, 1.0, counters)
                np.multiply(low, np.float32(2.0**-11), out=low)
                np.add(high, low, out=lines)
            else:
                self._round_lines(lines, lines, fmt, 1.0, counters)

    def amax(self, a: Array) -> float:
        conversion = compiled("conversion")
        if a.size == 0:
            return 0.0
        if a.dtype.kind != "c":
            return float(conversion.largest_magnitude(real_lines(a)[0]))
        view = a if routines.is_c_like(a) else a.T
        blocks = range(0, view.shape[0], ROW_BLOCK)
        return float(np.max([np.max(cabs1(view[s : s + ROW_BLOCK])) for s in blocks]))

    def lange(self, norm: str, a: Array) -> float:
        if a.size == 0:
            return 0.0
        top = 0.0
        view = a.T if norm == "1" else a
        for start in range(0, view.shape[0], ROW_BLOCK):
            sums = cabs1(view[start : start + ROW_BLOCK]).sum(axis=1, dtype=np.float64)
            block = float(np.max(sums))
            if math.isnan(block):
                return block
            top = max(top, block)
        return top

    def extents(self, a: Array, *, rows: Array | None = None) -> tuple[Array, Array]:
        conversion = compiled("conversion")
        lines, along = real_lines(a)
        dtype = real_dtype(a.dtype)
        lengths = a.shape if along else a.shape[::-1]
        along_max, across_max = np.zeros(lengths[0], dtype), np.zeros(lengths[1], dtype)
        ones = np.ones(max(a.shape), dtype)
        factors = ones if rows is None else rows
        left, right = (factors, ones) if along else (ones, factors)
        pair = 2 if a.dtype.kind == "c" else 1
        conversion.line_extents(lines, left, right, pair, along_max, across_max)
        return (along_max, across_max) if along else (across_max, along_max)

    def sizes(self, a: Array, columns: Array) -> Array:
        lines, along = real_lines(a)
        rows = np.zeros((2, a.shape[0]), columns.dtype)
        of_lines, others = (rows, columns) if along else (np.empty_like(columns), rows)
        pair = 2 if a.dtype.kind == "c" else 1
        compiled("conversion").line_sizes(lines, pair, of_lines, others)
        if not along:
            columns[0] += of_lines[0]
            np.maximum(columns[1], of_lines[1], out=columns[1])
        return rows

    def lacpy(self, src: Array, dst: Array) -> None:
        same_dtype("lacpy", src, dst)
        routines.require_shapes(src.shape == dst.shape, "lacpy", src, dst)
        if dst.size >= _TURNED_FROM and routines.is_c_like(src) != routines.is_c_like(dst):
            compiled("copies").copy_turned(src, dst)
        else:
            dst[...] = src

    def copy_rows(
        self, src: Array, places: NDArray[np.int64], dst: Array, targets: NDArray[np.int64]
    ) -> None:
        same_dtype("copy_rows", src, dst)
        fits = src.shape[1] == dst.shape[1] and places.shape == targets.shape
        routines.require_shapes(fits, "copy_rows", src, dst, places, targets)
        if places.size == 0:
            return
        for array, rows in ((src, places), (dst, targets)):
            if rows.min() < 0 or rows.max() >= len(array):
                raise IndexError(f"copy_rows: rows {rows.min()} to {rows.max()} of {len(array)}")
        compiled("copies").copy_rows(src, places, dst, targets)

    def laswp(self, a: Array, piv: Array, *, forward: bool = True) -> None:
        lapack.laswp(a, piv, forward)

    def gemm(
        self, alpha: float, a: Array, b: Array, beta: float, c: Array, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
        counters: Counters | None = None,
    ) -> None:  # fmt: skip
        if compute is None or compute.is_native:
            blas.gemm(alpha, a, b, beta, c, transa, transb)
            return
        if compute.name == "fp16x2":
            self._gemm_fp16x2(alpha, a, b, beta, c, transa, transb, counters)
            return
        a16, scale_a = self._rounded(a, compute, counters)
        b16, scale_b = self._rounded(b, compute, counters)
        alpha = _bounded(alpha / (scale_a * scale_b), a16)
        blas.gemm(alpha, a16, b16, beta, c, transa, transb)

    def syrk(
        self, alpha: float, a: Array, beta: float, c: Array, *, lower: bool,
        trans: str = "N", compute: Format | None = None, counters: Counters | None = None,
    ) -> None:  # fmt: skip
        if compute is None or compute.is_native:
            blas.syrk(alpha, a, beta, c, lower, trans)
        elif compute.name == "fp16x2":
            transa, transb = ("N", "C") if trans == "N" else ("C", "N")
            self.gemm(
                alpha, a, a, beta, c, transa=transa, transb=transb, compute=compute,
                counters=counters,
            )  # fmt: skip
        else:
            a16, scale = self._rounded(a, compute, counters)
            blas.syrk(alpha / scale**2, np.asfortranarray(a16), beta, c, lower, trans)

    def trsm(
        self, side: str, a: Array, b: Array, *, lower: bool, trans: str = "N", unit: bool = False,
        fast: bool = False,
    ) -> None:  # fmt: skip
        is_f_like = routines.is_f_like(a) and routines.is_f_like(b)
        if not (fast and side == "L" and is_f_like and b.size):
            blas.trsm(side, a, b, lower, trans, unit)
            return
        blas.check_trsm(a, b)
        flag = np.uint8(ord("C" if trans == "C" else "T"))
        gemm = routines.address("gemm", a.dtype)
        compiled("trsm").solve_triangle(gemm, a.T, not lower, trans == "N", unit, flag, b.T)

    def _gemm_fp16x2(
        self, alpha: float, a: Array, b: Array, beta: float, c: Array, transa: str, transb: str,
        counters: Counters | None,
    ) -> None:  # fmt: skip
        """(Ah + 2^-11 Al)(Bh + 2^-11 Bl) without the product of the low parts."""
        a_high, a_low, scale_a = self._split_scaled(a, counters)
        b_high, b_low, scale_b = self._split_scaled(b, counters)
        alpha = _bounded(alpha / (scale_a * scale_b), a_high, a_low)
        blas.gemm(alpha * 2.0**-11, a_low, b_high, beta, c, transa, transb)
        blas.gemm(alpha * 2.0**-11, a_high, b_low, 1.0, c, transa, transb)
        blas.gemm(alpha, a_high, b_high, 1.0, c, transa, transb)

    def _rounded(self, a: Array, fmt: Format, counters: Counters | None) -> tuple[Array, float]:
        lines, along = real_lines(a)
        scale = self._scale(lines) if fmt.needs_scaling else 1.0
        out = np.empty(lines.shape, lines.dtype)
        self._round_lines(lines, out, fmt, scale, counters)
        rounded = out.view(a.dtype)
        return (rounded if along else rounded.T), scale

    def _split_scaled(self, a: Array, counters: Counters | None) -> tuple[Array, Array, float]:
        lines, along = real_lines(a)
        scale = self._scale(lines)
        high, low = np.empty(lines.shape, lines.dtype), np.empty(lines.shape, lines.dtype)
        self._split(lines, high, low, scale, counters)
        high, low = high.view(a.dtype), low.view(a.dtype)
        return (high, low, scale) if along else (high.T, low.T, scale)

    @staticmethod
    def _scale(lines: Array) -> float:
        conversion = compiled("conversion")
        return _power_of_two_scale(conversion.largest_magnitude(lines) if lines.size else 0.0)

    @staticmethod
    def _round_lines(
        src: Array, dst: Array, fmt: Format, scale: float, counters: Counters | None
    ) -> None:
        rounding = compiled("rounding")
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
        rounding = compiled("rounding")
        _require_single(src)
        lost = rounding.split_fp16x2(src, high, low, np.float32(scale))
        if counters is not None:
            counters.add(*lost)
