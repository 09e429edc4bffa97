"""P A = L U in any format.

fp32 and fp64 go to the backend whole. The formats below are blocked: panels and triangular solves
in fp32, trailing updates with operands rounded to the format and summed in fp32 (Haidar, Tomov,
Dongarra and Higham, SC18, section 4).

A C-ordered A is never transposed: its buffer, read by columns, is A^T, and A^T is what is
factored. `LUFactors` remembers which of the two it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..ops.protocol import Array, Counters, Ops
from ..precision import Format
from .blocks import blocks, column_scale
from .condest import inverse_norm1
from .scaling import Scaling
from .tournament import getrf_tournament

BLOCK = 128
WIDE_BLOCK = 384
"""From `_WIDE_FROM` on: interchanges and solves are fewer, and gemm is at its best."""
_WIDE_FROM = 1024
_UPCAST_BLOCK = 128


def getrf(
    ops: Ops,
    a: Array,
    fmt: Format,
    *,
    pivoting: str = "partial",
    block: int | None = None,
    counters: Counters | None = None,
) -> tuple[Array, int]:
    """P A = L U in place on an F-like (m, n) view held in ``fmt.dtype``.

    Parameters
    ----------
    ops : Ops
    a : Array, shape (m, n)
        Overwritten by L (unit diagonal, not stored) and U.
    fmt : Format
        Format of the operands of trailing updates.
    pivoting : {"partial", "tournament"}
    block : int, optional
        Panel width; by default it follows the order.
    counters : Counters, optional
        Overflows and underflows of the conversions are added to it.

    Returns
    -------
    piv : Array of int32, shape (min(m, n),)
        Row i was exchanged with row piv[i].
    info : int
        i > 0: U[i-1, i-1] is exactly zero.
    """
    if fmt.is_native and pivoting == "partial":
        return ops.getrf(a)
    factor_panel = ops.getrf_panel if pivoting == "partial" else lambda p: getrf_tournament(ops, p)
    m, n = a.shape
    if block is None:
        block = BLOCK if min(m, n) < _WIDE_FROM else WIDE_BLOCK
    piv = ops.xp.zeros(min(m, n), dtype=ops.xp.int32)
    info = 0
    for k in blocks(min(m, n), block):
        # P A[k:, k] = L U
        piv[k], panel_info = factor_panel(a[k.start :, k])
        if panel_info and not info:
            info = k.start + panel_info
        before, after = a[k.start :, : k.start], a[k.start :, k.stop :]
        ops.laswp(before, piv[k])
        ops.laswp(after, piv[k])
        piv[k] += k.start
        # A[k, t] <- L[k, k]^-1 A[k, t]
        width = k.stop - k.start
        ops.trsm("L", a[k, k], after[:width], lower=True, unit=True, fast=True)
        # A[t, t] <- A[t, t] - L[t, k] U[k, t]      low-precision operands, fp32 accumulation
        ops.gemm(
            -1.0, a[k.stop :, k], after[:width], 1.0, after[width:], compute=fmt, counters=counters
        )
    return piv, info


@dataclass
class LUFactors:
    """The factors of A (or of A^T), ready to solve.

    Attributes
    ----------
    ops : Ops
    lu : Array, shape (n, n)
        As `getrf` left it, F-like, in ``fmt.dtype``.
    piv : Array of int32, shape (n,)
    fmt : Format
    transposed : bool
        The factors are those of the transpose of (the scaled) A.
    info : int
        As `getrf`.
    scaling : Scaling, optional
        What was factored is diag(rows) A diag(cols).
    counters : Counters
    """

    ops: Ops
    lu: Array
    piv: Array
    fmt: Format
    transposed: bool
    info: int = 0
    scaling: Scaling | None = None
    counters: Counters = field(default_factory=Counters)

    method = "LU"

    @property
    def is_usable(self) -> bool:
        """False if a pivot is exactly zero."""
        return self.info == 0

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the factors."""
        return int(self.lu.nbytes + self.piv.nbytes)

    def solve(self, b: Array, trans: str = "N", *, upcast: bool = False) -> Array:
        """x = op(A)^-1 b, computed with these factors.

        Parameters
        ----------
        b : Array, shape (n, nrhs)
            Real or complex as A; any working precision.
        trans : {"N", "T", "C"}
        upcast : bool
            Apply the factors in b's precision, a block at a time, instead of their own.

        Returns
        -------
        Array, shape (n, nrhs)
            F-ordered, in b's dtype.

        Notes
        -----
        Columns are scaled by powers of two before conversion, so corrections of any magnitude
        survive. 2 n^2 nrhs flops; workspace n nrhs, and n * 128 with `upcast`.
        """
        ops, xp = self.ops, self.ops.xp
        dtype = b.dtype if upcast else self.lu.dtype
        conjugate = trans == "C" and self.transposed and b.dtype.kind == "c"
        flag = trans if not self.transposed else ("T" if trans == "N" else "N")
        scale = column_scale(ops, b)
        y = b * scale
        if self.scaling is not None:
            before = self.scaling.rows if trans == "N" else self.scaling.cols
            y = y * before[:, None]
            again = column_scale(ops, y)
            y, scale = y * again, scale * again
        y = xp.array(xp.conj(y) if conjugate else y, dtype=dtype, order="F", copy=None)
        if upcast and dtype != self.lu.dtype:
            _getrs_upcast(ops, self.lu, self.piv, y, flag)
        else:
            ops.getrs(self.lu, self.piv, y, trans=flag)
        x = xp.array(xp.conj(y) if conjugate else y, dtype=b.dtype, order="F", copy=None)
        if self.scaling is not None:
            x *= (self.scaling.cols if trans == "N" else self.scaling.rows)[:, None]
        x /= scale
        return x

    def rcond(self, norm1: float, dtype: Any) -> float:
        """Estimated reciprocal 1-norm condition number of A, given ||A||_1.

        Parameters
        ----------
        norm1 : float
        dtype : dtype
            Working precision of the estimate where the factors are scaled.
        """
        if self.info:
            return 0.0
        if self.scaling is None:
            return self.ops.gecon(self.lu, norm1, "I" if self.transposed else "1")
        inverse = inverse_norm1(
            self.ops, self.lu.shape[0], dtype, self.solve, lambda z: self.solve(z, "C")
        )
        return 1.0 / (norm1 * inverse) if norm1 * inverse > 0 else 0.0

    def growth(self, amax: float) -> float:
        """max |U| / max |A| of the matrix that was factored; `amax` is that of A unscaled."""
        xp = self.ops.xp
        n = self.lu.shape[0]
        top = 0.0
        for k in blocks(n, BLOCK):
            above = abs(self.lu[: k.stop, k])
            above[k] = xp.triu(above[k])
            top = max(top, float(above.max()))
        scale = 1.0 if self.scaling is not None else amax
        return top / scale if scale > 0 else 1.0


def _getrs_upcast(ops: Ops, lu: Array, piv: Array, b: Array, trans: str) -> None:
    """`getrs` in b's precision with factors of a lower one, converted a block column at a time."""
    n = lu.shape[0]
    ranges = list(blocks(n, _UPCAST_BLOCK))
    if trans == "N":
        ops.laswp(b, piv)
        for k in ranges:  # b[k] <- L[k, k]^-1 b[k];  b[t] <- b[t] - L[t, k] b[k]
            column = lu[k.start :, k].astype(b.dtype, order="F")
            width = k.stop - k.start
            ops.trsm("L", column[:width], b[k], lower=True, unit=True)
            ops.gemm(-1.0, column[width:], b[k], 1.0, b[k.stop :])
        for k in reversed(ranges):  # b[k] <- U[k, k]^-1 b[k];  b[:k] <- b[:k] - U[:k, k] b[k]
            column = lu[: k.stop, k].astype(b.dtype, order="F")
            ops.trsm("L", column[k.start :], b[k], lower=False)
            ops.gemm(-1.0, column[: k.start], b[k], 1.0, b[: k.start])
        return
    for k in ranges:  # b[k] <- U[k, k]^-H (b[k] - U[:k, k]^H b[:k])
        column = lu[: k.stop, k].astype(b.dtype, order="F")
        ops.gemm(-1.0, column[: k.start], b[: k.start], 1.0, b[k], transa=trans)
        ops.trsm("L", column[k.start :], b[k], lower=False, trans=trans)
    for k in reversed(ranges):  # b[k] <- L[k, k]^-H (b[k] - L[k+:, k]^H b[k+:])
        column = lu[k.start :, k].astype(b.dtype, order="F")
        width = k.stop - k.start
        ops.gemm(-1.0, column[width:], b[k.stop :], 1.0, b[k], transa=trans)
        ops.trsm("L", column[:width], b[k], lower=True, trans=trans, unit=True)
    ops.laswp(b, piv, forward=False)


def lu(
    ops: Ops,
    w: Array,
    fmt: Format,
    *,
    scaling: Scaling | None = None,
    pivoting: str = "partial",
    block: int | None = None,
) -> LUFactors:
    """Factor the working copy `w` of a square matrix, in place, whatever its layout.

    `w` is C-like or F-like in ``fmt.dtype``; of it and its transpose, the one is factored whose
    layout suits `getrf`.
    `scaling` is what `w` was scaled by when it was copied.
    """
    counters = Counters()
    if fmt.is_native and pivoting == "partial":
        view = ops.getrf_view(w)
    else:
        view = w if ops.is_f_like(w) else w.T
    transposed = view is not w
    piv, info = getrf(ops, view, fmt, pivoting=pivoting, block=block, counters=counters)
    return LUFactors(ops, view, piv, fmt, transposed, info, scaling, counters)
