"""`NumpyOps`: whole systems in one compiled call, checked; what makes small orders fast."""

from __future__ import annotations

import functools
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


class Systems:
    """What `mplinalg.ops.DirectOps` has beyond `Ops`."""

    refines_columns = 4

    def gesv(self, a: Array, b: Array, *, trans: str = "N", probe: bool = True) -> Checked:
        kernels = compiled("gesv")
        lines, real, by_columns = lines_of(a)
        n, dtype = len(a), a.dtype
        rhs = columns(b)
        x = np.empty((len(rhs) + probe, n), dtype)
        lu, piv = np.empty((n, n), dtype), np.empty(n, np.int32)
        info, omega, kappa, norm = kernels.gesv_lines(
            *addresses(dtype, "gemm", "trsv", "trsm"), lines, real,
            by_columns != (trans == "T"), rhs, x, lu, lu.view(real.dtype), piv,
            backward_bound(n, UNIT[real.dtype.char]),
        )  # fmt: skip
        return Checked(x[: len(rhs)].T, info, omega, kappa, norm, lu, piv, by_columns)

    def posv(
        self, a: Array, b: Array, *, lower: bool, whole: bool = False, probe: bool = True
    ) -> Checked:
        kernels = compiled("gesv")
        lines, real, by_columns = lines_of(a)
        n, dtype = len(a), a.dtype
        conjugate = by_columns and dtype.kind == "c"
        rhs = np.conj(b.T, order="C") if conjugate else columns(b)
        x, c = np.empty((len(rhs) + probe, n), dtype), np.empty((n, n), dtype)
        info, omega, kappa, norm = kernels.posv_lines(
            *addresses(dtype, "gemm", HERK[dtype.kind], _HEMM[dtype.kind], "trsv", "trsm"),
            lines, real, lower == by_columns, whole, rhs, x, c,
            backward_bound(n, UNIT[real.dtype.char]),
        )  # fmt: skip
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
        kernels = compiled("gesv")
        _, real, by_columns = lines_of(a, seen.transposed)
        rhs = columns(b)
        x = np.empty_like(rhs)
        omega, _ = kernels.getrs_checked(
            *addresses(a.dtype, "gemm", "trsv", "trsm"), real, by_columns != (trans == "T"),
            seen.factors, seen.piv, rhs, x, backward_bound(len(a), UNIT[real.dtype.char]),
        )  # fmt: skip
        return x.T, omega

    def potrs_checked(
        self, a: Array, seen: Checked, b: Array, *, lower: bool
    ) -> tuple[Array, float]:
        kernels = compiled("gesv")
        _, real, by_columns = lines_of(a, not seen.factors.flags.c_contiguous)
        conjugate = by_columns and a.dtype.kind == "c"
        rhs = np.conj(b.T, order="C") if conjugate else columns(b)
        x = np.empty_like(rhs)
        omega, _ = kernels.potrs_checked(
            *addresses(a.dtype, "gemm", _HEMM[a.dtype.kind], "trsv", "trsm"), real,
            lower == by_columns, seen.factors.T if by_columns else seen.factors, rhs, x,
            backward_bound(len(a), UNIT[real.dtype.char]),
        )  # fmt: skip
        if conjugate:
            np.conjugate(x, out=x)
        return x.T, omega

    def gesv_refined(self, a: Array, b: Array) -> Refined:
        kernels = compiled("refined")
        lines, real, by_columns = lines_of(a)
        n, low = len(a), _LOWER[a.dtype.char]
        rhs = columns(b)
        x = np.empty_like(rhs)
        lu, piv = np.empty((n, n), low), np.empty(n, np.int32)
        outcome, kappa, steps = kernels.gesv_refined(
            *addresses(low, "gemm", "trsv", "trsm"), lines, real, by_columns, rhs, x, lu,
            lu.view(np.float32), piv,
        )  # fmt: skip
        return Refined(x.T, outcome == kernels.CONVERGED, kappa, steps)

    def posv_refined(self, a: Array, b: Array, *, lower: bool, whole: bool = False) -> Refined:
        kernels = compiled("refined")
        lines, real, by_columns = lines_of(a)
        n, low = len(a), _LOWER[a.dtype.char]
        conjugate = by_columns and a.dtype.kind == "c"
        rhs = np.conj(b.T, order="C") if conjugate else columns(b)
        x, c = np.empty_like(rhs), np.empty((n, n), low)
        outcome, kappa, steps = kernels.posv_refined(
            *addresses(low, "gemm", HERK[low.kind], "trsv", "trsm"), lines, real,
            lower == by_columns, whole, rhs, x, c,
        )  # fmt: skip
        if conjugate:
            np.conjugate(x, out=x)
        return Refined(x.T, outcome == kernels.CONVERGED, kappa, steps)
