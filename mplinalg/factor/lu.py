"""P A = L U in any format.

fp32 and fp64 go to the backend whole. The formats below are blocked: panels and triangular solves
in fp32, trailing updates with operands rounded to the format and summed in fp32 (Haidar, Tomov,
Dongarra and Higham, SC18, section 4).

A C-ordered A is never transposed: its buffer, read by columns, is A^T, and A^T is what is
factored. `LUFactors` remembers which of the two it holds.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from ..ops.protocol import Array, Counters, Info, Ops
from ..precision import Format
from .blocks import blocks, column_scale
from .condest import inverse_norm1
from .scaling import Scaling
from .tournament import getrf_tournament

_BLOCK = 128
"""Columns that are converted, or looked at, together."""


def getrf(
    ops: Ops,
    a: Array,
    fmt: Format,
    *,
    pivoting: str = "partial",
    block: int | None = None,
    counters: Counters | None = None,
) -> tuple[Array, int]:
    """P A = L U in place on an (m, n) view held in ``fmt.dtype``, as `Ops.getrf_view` gives it.

    Parameters
    ----------
    ops : Ops
    a : Array, shape (m, n)
        Overwritten by L (unit diagonal, not stored) and U.
    fmt : Format
        Format of the operands of trailing updates.
    pivoting : {"partial", "tournament"}
    block : int, optional
        Panel width; by default the backend's.
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
    panels = list(blocks(min(m, n), block or ops.panel_width(min(m, n))))
    piv = ops.xp.zeros(min(m, n), dtype=ops.xp.int32)
    infos: list[tuple[int, Info]] = []

    def factor(k: slice) -> None:
        # P A[k:, k] = L U
        piv[k], info = factor_panel(a[k.start :, k])
        infos.append((k.start, info))

    def update(k: slice, columns: slice) -> None:
        after = a[k.start :, columns]
        ops.laswp(after, piv[k])
        # A[k, t] <- L[k, k]^-1 A[k, t]
        width = k.stop - k.start
        ops.trsm("L", a[k, k], after[:width], lower=True, unit=True, fast=True)
        # A[t, t] <- A[t, t] - L[t, k] U[k, t]      low-precision operands, fp32 accumulation
        ops.gemm(
            -1.0, a[k.stop :, k], after[:width], 1.0, after[width:], compute=fmt, counters=counters
        )

    try:
        for k, following in itertools.zip_longest(panels, panels[1:]):
            if k is panels[0] or not ops.overlaps:
                factor(k)
            ops.join()
            done = k.stop
            if ops.overlaps and following is not None:
                # look-ahead: the next panel is factored beside the rest of the update
                update(k, following)
                with ops.beside():
                    factor(following)
                done = following.stop
            update(k, slice(done, n))
            ops.laswp(a[k.start :, : k.start], piv[k])
            piv[k] += k.start
    finally:
        ops.join()  # before what is let go of serves something else
    return piv, ops.first_info(infos)


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
    _plan: Any = field(default=None, init=False, repr=False, compare=False)
    """Of the backend, for later solves."""

    method = "LU"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plan": None}

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
            if self._plan is None:
                self._plan = ops.getrs_plan(self.lu, self.piv)
            ops.getrs(self.lu, self.piv, y, trans=flag, plan=self._plan)
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

    def column_sizes(self) -> Array:
        """What the columns were divided by; the sizes of the pivots where they were not scaled."""
        return abs(self.lu.diagonal()) if self.scaling is None else self.scaling.cols

    def growth(self, amax: float) -> float:
        """max |U| / max |A| of the matrix that was factored; `amax` is that of A unscaled."""
        scale = 1.0 if self.scaling is not None else amax
        return largest_of_u(self.ops, self.lu) / scale if scale > 0 else 1.0


def largest_of_u(ops: Ops, lu: Array) -> float:
    """max |U|, NaN left out, of what is in the upper triangle."""
    xp = ops.xp
    tops = [xp.zeros(1, lu.real.dtype)]
    for k in blocks(len(lu), _BLOCK):
        above = abs(lu[: k.stop, k])
        above[k] = xp.triu(above[k])
        tops.append(above.max().reshape(1))
    return float(xp.nanmax(xp.concatenate(tops)))


def _getrs_upcast(ops: Ops, lu: Array, piv: Array, b: Array, trans: str) -> None:
    """`getrs` in b's precision with factors of a lower one, converted a block column at a time."""
    n = lu.shape[0]
    ranges = list(blocks(n, _BLOCK))
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
    is_whole = fmt.is_native and pivoting == "partial"
    view = ops.getrf_view(w, None if is_whole else fmt)
    transposed = view is not w
    piv, info = getrf(ops, view, fmt, pivoting=pivoting, block=block, counters=counters)
    return LUFactors(ops, view, piv, fmt, transposed, info, scaling, counters)
