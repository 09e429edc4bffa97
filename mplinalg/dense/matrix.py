"""The matrix of a system, measured once, and the factorizations that rungs make of it."""

from __future__ import annotations

import time

from ..errors import LinAlgError
from ..factor.blocks import blocks
from ..factor.butterfly import ButterflyFactors, butterfly_lu, padded, suits
from ..factor.cholesky import CholeskyFactors, cholesky
from ..factor.lu import LUFactors, lu
from ..factor.qr import qr
from ..factor.scaling import Scaling, equilibrate, equilibrate_hermitian
from ..ops.protocol import Array, Ops
from ..precision import FP32, Format, working_format
from ..refine.ladder import Rung
from ..refine.system import Factors, LinearSystem
from . import messages
from .scaled import enter, extreme_limits, is_graded, leave
from .structure import GENERAL, MAYBE_POSITIVE_DEFINITE, POSITIVE_DEFINITE, SYMMETRIC

CHOLESKY = "Cholesky"
LU = "LU"
BUTTERFLY = ButterflyFactors.method
QR = "QR"

ROW_BLOCK = 256
"""Rows that are looked at together, where a copy of A is not wanted."""


class Matrix:
    """A square matrix A as the solvers see it.

    The first working copy is made on construction, in the pass that measures A; later ones, on
    higher rungs, are made when they are needed.

    Parameters
    ----------
    ops : Ops
    a : Array, shape (n, n)
        With unit stride in one dimension, in working precision. Kept by reference.
    structure : str
        GENERAL, SYMMETRIC, HERMITIAN, POSITIVE_DEFINITE or MAYBE_POSITIVE_DEFINITE.
    triangle : {"L", "U"}, optional
        The triangle that counts, for all but GENERAL.
    first : Format
        Format of the first working copy.
    check_finite : bool
        Raise ValueError on NaN or infinity.
    pivoting : {"partial", "tournament", "butterfly"}, optional
        What LU does about small pivots. "butterfly": real matrices are transformed first, in a
        format below the working precision; what that cannot do is done with partial pivoting. By
        default "butterfly" where the backend prefers it and the format is fine enough, else
        "partial".

    Attributes
    ----------
    norm : float
        Infinity norm of A, with |re| + |im| for complex.
    outer : Scaling, optional
        Set when A's entries are so extreme that sums of products would leave the range of the
        working precision: then `a` is the copy diag(rows) A diag(cols).
    flushed : bool
        The backend takes entries of A for zeros.
    is_copy : bool
        `a` is a copy of what was given (scaled, or with both triangles filled).
    seconds : dict
        ``convert`` and ``factor``.
    """

    def __init__(
        self, ops: Ops, a: Array, structure: str, triangle: str | None, first: Format, *,
        check_finite: bool = True, pivoting: str | None = None,
    ) -> None:  # fmt: skip
        self.ops = ops
        self.structure = structure
        self.triangle = triangle
        self.pivoting = pivoting
        self.outer: Scaling | None = None
        self.seconds = {"convert": 0.0, "factor": 0.0}
        self._copy: Array | None = None
        began = time.perf_counter()
        given = a
        self.flushed = ops.flushes and has_subnormals(ops, a)
        a = self._symmetrised(a, check_finite)
        self._measure(a, first, check_finite)
        self.is_copy = self.a is not given
        self.seconds["convert"] += time.perf_counter() - began

    has_qr = True
    """QR can be made of it, which no growth of pivots harms."""

    @property
    def fast_formats(self) -> tuple[Format, ...]:
        """Those that it is factored in fast, the coarsest first."""
        return self.ops.fast_formats

    @property
    def amax(self) -> float:
        """max |a|, with |re| + |im| for complex."""
        return self.ops.amax(self.a)

    # -- measuring ------------------------------------------------------------------------------

    def _symmetrised(self, a: Array, check_finite: bool) -> Array:
        """Complex symmetric matrices (not Hermitian) have no kernels of their own: fill them up."""
        if self.structure == SYMMETRIC and a.dtype.kind == "c":
            if check_finite and not bool(self.ops.xp.isfinite(a).all()):  # in either triangle
                raise ValueError("array must not contain infs or NaNs")
            a = self.ops.xp.array(a, order="K", copy=True)
            _mirror(self.ops, a, self.triangle, conjugate=False)
            self.structure, self.triangle = GENERAL, None
        return a

    def _measure(self, a: Array, first: Format, check_finite: bool) -> None:
        ops, xp = self.ops, self.ops.xp
        self.a = a
        w = xp.empty_like(a, dtype=first.dtype(a.dtype))
        seen = ops.convert(a, w)
        sums = seen.row_sums
        is_finite = bool(xp.isfinite(sums).all()) or bool(xp.isfinite(a).all())
        if check_finite and not is_finite:
            raise ValueError("array must not contain infs or NaNs")
        if self.triangle is not None and self.structure != MAYBE_POSITIVE_DEFINITE:
            ones = xp.ones((a.shape[0], 1), a.dtype, order="F")
            _, d = ops.residual(a, ones, 0 * ones, triangle=self.triangle)
            assert d is not None
            sums = d[:, 0]
        self.norm = float(sums.max()) if sums.size else 0.0
        self.is_graded = bool(seen.underflows or seen.overflows) or is_graded(sums)
        self._copy = None
        if self.is_graded and is_finite and self.norm > 0:
            if self._is_extreme():
                del w
                self._bring_into_range(first)
                return
            if first is FP32:  # this copy lost too much; a scaled one will be made
                return
        if not first.needs_scaling:
            self._copy = w

    def _is_extreme(self) -> bool:
        low, high = extreme_limits(self.a.dtype)
        row_max, col_max = self.ops.extents(self._whole())
        extents = self.ops.xp.concatenate([row_max, col_max])
        extents = extents[extents > 0]
        return bool(((extents < low) | (extents > high)).any())

    def _bring_into_range(self, first: Format) -> None:
        """Replace A by diag(rows) A diag(cols), equilibrated in working precision."""
        ops, whole = self.ops, self._whole()
        if self.structure in (POSITIVE_DEFINITE, MAYBE_POSITIVE_DEFINITE):
            outer = equilibrate_hermitian(ops, whole)
        else:
            outer = equilibrate(ops, whole)
            self.structure, self.triangle = GENERAL, None
        scaled = ops.xp.empty_like(whole)
        ops.convert(whole, scaled, rows=outer.rows, cols=outer.cols)
        self._measure_scaled(scaled, first)
        self.outer = outer

    def _measure_scaled(self, scaled: Array, first: Format) -> None:
        w = self.ops.xp.empty_like(scaled, dtype=first.dtype(scaled.dtype))
        sums = self.ops.convert(scaled, w).row_sums
        self.a, self.norm, self.is_graded = scaled, float(sums.max()), True
        self._copy = None if first.needs_scaling else w

    @property
    def _is_half(self) -> bool:
        """Only one triangle of A counts."""
        return self.triangle is not None and self.structure != MAYBE_POSITIVE_DEFINITE

    def _whole(self) -> Array:
        """A with both triangles (a copy where only one counts)."""
        if not self._is_half:
            return self.a
        whole = self.ops.xp.array(self.a, order="K", copy=True)
        _mirror(self.ops, whole, self.triangle, conjugate=True)
        return whole

    def column_sums(self, weights: Array) -> Array:
        """Sums of |a| along the columns, rows multiplied by `weights`."""
        parts = blocks(len(weights), ROW_BLOCK)
        return sum((abs(self.a[k]) * weights[k][:, None]).sum(axis=0) for k in parts)

    # -- right-hand sides in and out of the scaled system ---------------------------------------

    def enter(self, b: Array, trans: str) -> tuple[Array, Array]:
        """As `scaled.enter`."""
        return enter(self.ops, self.a.dtype, self.outer, b, trans)

    def leave(self, x: Array, shift: Array, trans: str) -> Array:
        """As `scaled.leave`."""
        return leave(self.ops, self.outer, x, shift, trans)

    def system(
        self, b: Array, trans: str, *, extended: bool = False, tol: float | None = None
    ) -> LinearSystem:
        """op(A) x = b as the refinement sees it; b has been through `enter`."""
        return LinearSystem(
            self.ops, self.a, b, self.norm, working_format(self.a.dtype).unit_roundoff, trans,
            self.triangle, extended, tol,
        )  # fmt: skip

    # -- factorizations -------------------------------------------------------------------------

    def method(self) -> str:
        """The factorization that suits the structure."""
        definite = self.structure in (POSITIVE_DEFINITE, MAYBE_POSITIVE_DEFINITE)
        return CHOLESKY if definite else LU

    def tries_butterfly(self, fmt: Format) -> bool:
        """Whether LU in `fmt` is tried on the transformed matrix first."""
        if self.method() != LU or self.a.dtype.kind == "c" or not self._is_lower(fmt):
            return False
        if self.pivoting is not None:
            return self.pivoting == "butterfly"
        return suits(self.a.shape[0], fmt) and self.ops.prefers_butterfly

    def factorize(self, rung: Rung) -> Factors:
        """The factors of a rung.

        Raises
        ------
        LinAlgError
            In working precision: A is exactly singular, or not positive definite where that was
            asserted.
        """
        began = time.perf_counter()
        converted = self.seconds["convert"]
        is_working = rung.format is working_format(self.a.dtype)
        factors: Factors
        if rung.method == QR:
            factors = qr(self.ops, self._whole(), rung.format)
        elif rung.method == BUTTERFLY:
            factors = self._butterfly_lu(rung.format)
        elif rung.method == CHOLESKY and self.method() == CHOLESKY:
            factors = self._cholesky(rung.format, is_working)
        else:
            factors = self._lu(rung.format, is_working)
        elapsed = time.perf_counter() - began
        self.seconds["factor"] += elapsed - (self.seconds["convert"] - converted)
        return factors

    def _lu(self, fmt: Format, is_working: bool) -> LUFactors:
        scaling = self._scaling(fmt)
        w = self._working_copy(fmt, scaling, whole=True)
        pivoting = "tournament" if self.pivoting == "tournament" else "partial"
        factors = lu(self.ops, w, fmt, scaling=scaling, pivoting=pivoting)
        if factors.info and is_working:
            singular = messages.singular(factors.info, self.a.shape[0])
            raise LinAlgError(f"{singular} {messages.SUBNORMAL}" if self.flushed else singular)
        return factors

    def _butterfly_lu(self, fmt: Format) -> ButterflyFactors:
        ops, n = self.ops, self.a.shape[0]
        # a butterfly mixes entries of rows and columns far apart: they have to be of one size
        scaling = self._scaling(fmt, always=True)
        order = "F" if ops.is_f_like(self.a) else "C"
        w = ops.xp.empty((padded(n), padded(n)), fmt.dtype(self.a.dtype), order=order)
        self._copy = None
        self._copy_to(w[:n, :n], scaling, whole=True)
        return butterfly_lu(ops, w, n, fmt, scaling=scaling)

    def _cholesky(self, fmt: Format, is_working: bool) -> Factors:
        assert self.triangle is not None
        scaling = self._scaling(fmt)
        factors: CholeskyFactors = cholesky(
            self.ops,
            lambda: self._working_copy(fmt, scaling),
            fmt,
            triangle=self.triangle,
            scaling=scaling,
            shifted=not fmt.is_native,
        )
        if factors.info and self.structure == MAYBE_POSITIVE_DEFINITE:
            # it only looked definite
            self.structure, self.triangle = GENERAL, None
            return self._lu(fmt, is_working)
        if factors.info and is_working:
            raise LinAlgError(messages.not_definite(factors.info))
        return factors

    def _is_lower(self, fmt: Format) -> bool:
        return fmt.unit_roundoff > working_format(self.a.dtype).unit_roundoff

    def _scaling(self, fmt: Format, *, always: bool = False) -> Scaling | None:
        """What a working copy in `fmt` is scaled by; None if A is equilibrated, or need not be."""
        if self.outer is not None or not self._is_lower(fmt):
            return None
        if not (always or self.is_graded or fmt.needs_scaling):
            return None
        if self.method() == CHOLESKY:
            return equilibrate_hermitian(self.ops, self.a)
        return equilibrate(self.ops, self._whole())

    def _working_copy(self, fmt: Format, scaling: Scaling | None, *, whole: bool = False) -> Array:
        """A scaled, in the dtype of `fmt`; with both triangles, if `whole`."""
        w, self._copy = self._copy, None
        if w is None or w.dtype != fmt.dtype(self.a.dtype) or scaling is not None:
            w = self.ops.xp.empty_like(self.a, dtype=fmt.dtype(self.a.dtype))
            self._copy_to(w, scaling, whole=whole)
        elif whole and self._is_half:
            _mirror(self.ops, w, self.triangle, conjugate=True)
        return w

    def _copy_to(self, w: Array, scaling: Scaling | None, *, whole: bool) -> None:
        began = time.perf_counter()
        fills_up = whole and self._is_half
        if scaling is None:
            self.ops.convert(self.a, w)
            if fills_up:
                _mirror(self.ops, w, self.triangle, conjugate=True)
        else:  # diag(rows) A diag(cols) is not symmetric
            source = self._whole() if fills_up else self.a
            self.ops.convert(source, w, rows=scaling.rows, cols=scaling.cols)
        self.seconds["convert"] += time.perf_counter() - began


def has_subnormals(ops: Ops, x: Array) -> bool:
    """Whether single-precision numbers are among them that are subnormal, by their bits."""
    if working_format(x.dtype) is not FP32 or x.size == 0:
        return False
    parts = (x,) if x.dtype.kind != "c" else (x.real, x.imag)
    bits = [part.view(ops.xp.uint32) & 0x7FFFFFFF for part in parts]
    return any(bool(((b > 0) & (b < 0x00800000)).any()) for b in bits)


def _mirror(ops: Ops, a: Array, triangle: str | None, *, conjugate: bool) -> None:
    """Fill the other triangle of a square matrix in place, a block of rows at a time."""
    upper = triangle == "U"
    for k in blocks(a.shape[0], ROW_BLOCK):
        source = a[: k.stop, k] if upper else a[k, : k.stop]
        image = source.T.conj() if conjugate else source.T
        target = a[k, : k.stop] if upper else a[: k.stop, k]
        start = k.start
        if upper:
            target[:, :start] = image[:, :start]
            block, given = a[k, k], image[:, start:]
        else:
            target[:start] = image[:start]
            block, given = a[k, k], image[start:]
        i = ops.xp.arange(k.stop - start)
        is_other = (i[:, None] > i) == upper
        block[...] = ops.xp.where(is_other & (i[:, None] != i), given, block)
        if conjugate and a.dtype.kind == "c":
            block[i, i] = block[i, i].real
