"""`NumpyOps`: whole systems in a few compiled calls, checked; what makes small orders fast."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu import routines
from ..precision import backward_bound
from .numpy_lines import HERK, UNIT, addresses, columns, compiled, lines_of
from .protocol import Checked, Refined

Array = NDArray[Any]

_HEMM = {"f": "symm", "c": "hemm"}
_LOWER = {"d": np.dtype(np.float32), "D": np.dtype(np.complex64)}


def _getrs(
    real: Array, flipped: bool, lu: Array, piv: Array | None, rhs: Array, x: Array
) -> tuple[float, float]:
    """Solve with the factors of `getrf_rows`: (backward error, growth of a vector)."""
    kernels, dtype = compiled("gesv"), lu.dtype
    gemm, trsv, trsm = addresses(dtype, "gemm", "trsv", "trsm")
    bound = backward_bound(len(lu), UNIT[real.dtype.char])
    if len(rhs) <= kernels.FEW:
        seen = kernels.getrs_few_checked(trsv, real, flipped, lu, piv, rhs, x, bound)
    else:
        seen = kernels.getrs_many_checked(gemm, trsv, trsm, real, flipped, lu, piv, rhs, x, bound)
    omega, stretch = seen
    return omega, stretch


def _potrs(real: Array, upper: bool, c: Array, rhs: Array, x: Array) -> tuple[float, float]:
    """As `_getrs`, with the factor of `potrf_rows`."""
    kernels, dtype = compiled("gesv"), c.dtype
    gemm, hemm, trsv, trsm = addresses(dtype, "gemm", _HEMM[dtype.kind], "trsv", "trsm")
    bound = backward_bound(len(c), UNIT[real.dtype.char])
    if len(rhs) <= kernels.FEW:
        seen = kernels.potrs_few_checked(trsv, real, upper, c, rhs, x)
    else:
        seen = kernels.potrs_many_checked(gemm, hemm, trsv, trsm, real, upper, c, rhs, x, bound)
    omega, stretch = seen
    return omega, stretch


class Systems:
    """What `mplinalg.ops.DirectOps` has beyond `Ops`."""

    refines_columns = 4

    def gesv(self, a: Array, b: Array, *, trans: str = "N", probe: bool = True) -> Checked:
        lines, real, by_columns = lines_of(a)
        flipped = by_columns != (trans == "T")
        n, dtype = len(a), a.dtype
        rhs = columns(b)
        x = np.empty((len(rhs) + probe, n), dtype)
        lu, piv = np.empty((n, n), dtype), np.empty(n, np.int32)
        lu_real = lu.view(real.dtype)
        info, omega, kappa = 0, math.inf, math.inf
        norm = compiled("gesv").copy_lines(lines, real, lu_real, flipped)
        if norm < math.inf:
            info = compiled("getrf_blocks").getrf_rows(lu, piv)
            if not info:
                omega, stretch = _getrs(real, flipped, lu, piv, rhs, x)
                kappa = norm * stretch
        return Checked(x[: len(rhs)].T, info, omega, kappa, norm, lu, piv, by_columns)

    def posv(
        self, a: Array, b: Array, *, lower: bool, whole: bool = False, probe: bool = True
    ) -> Checked:
        lines, real, by_columns = lines_of(a)
        upper = lower == by_columns
        n, dtype = len(a), a.dtype
        conjugate = by_columns and dtype.kind == "c"
        rhs = np.conj(b.T, order="C") if conjugate else columns(b)
        x, c = np.empty((len(rhs) + probe, n), dtype), np.empty((n, n), dtype)
        info, omega, kappa = 0, math.inf, math.inf
        norm = compiled("gesv").copy_triangle(lines, upper, whole, c)
        if norm < math.inf:
            gemm, herk = addresses(dtype, "gemm", HERK[dtype.kind])
            info = compiled("potrf").potrf_rows(gemm, herk, c, upper)
            if not info:
                omega, stretch = _potrs(real, upper, c, rhs, x)
                kappa = norm * stretch
        if conjugate:
            np.conjugate(x, out=x)
        return Checked(x[: len(rhs)].T, info, omega, kappa, norm, c.T if by_columns else c)

    def solve_structured(self, a: Array, b: Array, structure: str) -> tuple[Array, int, float]:
        kernels = compiled("structured")
        lines, real, by_columns = lines_of(a)
        rhs = columns(b)
        x = np.empty((len(rhs) + 1, len(a)), a.dtype)
        address = functools.partial(routines.address, dtype=a.dtype)
        if structure == "diagonal":
            info, kappa = kernels.diagonal_lines(lines, real, rhs, x)
        elif structure == "tridiagonal":
            info, kappa = kernels.tridiagonal_lines(
                address("gtsv"), lines, real, by_columns, rhs, x
            )
        elif structure == "banded":
            info, kappa = kernels.banded_lines(
                address("gbsv"), lines, real, by_columns, rhs, x, UNIT[real.dtype.char]
            )
        else:
            lower = (structure == "lower triangular") != by_columns
            info, kappa = kernels.triangular_lines(
                address("trsv"), lines, real, lower, by_columns, rhs, x
            )
        return x[:-1].T, info, kappa

    def filled_up(self, a: Array, *, lower: bool, conjugate: bool) -> tuple[Array, bool]:
        lines, real, by_columns = lines_of(a)
        out = np.empty_like(lines)
        conjugate = conjugate and a.dtype.kind == "c"
        finite = compiled("structured").fill_up(lines, real, lower == by_columns, conjugate, out)
        return (out.T if by_columns else out), finite

    def getrs_checked(
        self, a: Array, seen: Checked, b: Array, *, trans: str = "N"
    ) -> tuple[Array, float]:
        _, real, by_columns = lines_of(a, seen.transposed)
        rhs = columns(b)
        x = np.empty_like(rhs)
        omega, _ = _getrs(real, by_columns != (trans == "T"), seen.factors, seen.piv, rhs, x)
        return x.T, omega

    def potrs_checked(
        self, a: Array, seen: Checked, b: Array, *, lower: bool
    ) -> tuple[Array, float]:
        _, real, by_columns = lines_of(a, not seen.factors.flags.c_contiguous)
        conjugate = by_columns and a.dtype.kind == "c"
        rhs = np.conj(b.T, order="C") if conjugate else columns(b)
        x = np.empty_like(rhs)
        c = seen.factors.T if by_columns else seen.factors
        omega, _ = _potrs(real, lower == by_columns, c, rhs, x)
        if conjugate:
            np.conjugate(x, out=x)
        return x.T, omega

    def gesv_refined(self, a: Array, b: Array) -> Refined:
        kernels = compiled("refined")
        _, real, flipped = lines_of(a)
        n, low = len(a), _LOWER[a.dtype.char]
        rhs = columns(b)
        x = np.empty_like(rhs)
        lu, piv = np.empty((n, n), low), np.empty(n, np.int32)
        lu_real = lu.view(np.float32)
        trsv = routines.address("trsv", low)
        norm = kernels.convert(real, lu_real, flipped)
        if not norm < math.inf or compiled("getrf_blocks").getrf_rows(lu, piv):
            return Refined(x.T, False, math.inf, 0)
        if not kernels.has_even_pivots(lu):
            return Refined(x.T, False, math.inf, 0)
        return Refined(
            x.T,
            *kernels.refine(trsv, real, flipped, False, False, norm, lu, piv, rhs, x),
        )

    def posv_refined(self, a: Array, b: Array, *, lower: bool, whole: bool = False) -> Refined:
        kernels = compiled("refined")
        lines, real, by_columns = lines_of(a)
        upper = lower == by_columns
        n, low = len(a), _LOWER[a.dtype.char]
        conjugate = by_columns and a.dtype.kind == "c"
        rhs = np.conj(b.T, order="C") if conjugate else columns(b)
        x, c = np.empty_like(rhs), np.empty((n, n), low)
        gemm, herk, trsv = addresses(low, "gemm", HERK[low.kind], "trsv")
        norm = kernels.convert_triangle(lines, c, upper, whole)
        if not norm < math.inf or compiled("potrf").potrf_rows(gemm, herk, c, upper):
            return Refined(x.T, False, math.inf, 0)
        no_pivots = np.empty(0, np.int32)
        seen = kernels.refine(trsv, real, False, True, upper, norm, c, no_pivots, rhs, x)
        if conjugate:
            np.conjugate(x, out=x)
        return Refined(x.T, *seen)
