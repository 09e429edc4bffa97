"""A = L L^H (or U^H U) in any format, scaled and shifted where the format needs it.

A Hermitian A is given by one triangle. The working copy keeps A's layout: a C-like copy, read by
columns, is A^T = conj(A), whose other triangle is the one given.

Reference: Higham and Pranesh, SIAM J. Sci. Comput. 43 (2021) A258 (scaling, and a shift of a
small multiple of the unit roundoff that keeps the low-precision matrix definite).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..ops.protocol import Array, Counters, Info, Ops
from ..precision import Format
from .blocks import blocks, column_scale
from .condest import inverse_norm1
from .scaling import Scaling

_BLOCK = 128
"""Columns that are converted together."""
_MAX_SHIFTS = 8


def potrf(
    ops: Ops,
    a: Array,
    fmt: Format,
    *,
    lower: bool,
    block: int | None = None,
    counters: Counters | None = None,
) -> int:
    """A = L L^H or U^H U in place on an F-like (n, n) view held in ``fmt.dtype``.

    Parameters
    ----------
    ops : Ops
    a : Array, shape (n, n)
        One triangle is read and overwritten by the factor.
    fmt : Format
        Format of the operands of trailing updates.
    lower : bool
    block : int, optional
        Order of a diagonal block; by default the backend's.
    counters : Counters, optional

    Returns
    -------
    int
        0, or the order of the first leading minor that is not positive definite.
    """
    if fmt.is_native:
        return ops.first_info([(0, ops.potrf(a, lower=lower))])
    infos: list[tuple[int, Info]] = []
    for k in blocks(a.shape[0], block or ops.panel_width(a.shape[0], definite=True)):
        t = slice(k.stop, None)
        # A[k, k] = L[k, k] L[k, k]^H
        infos.append((k.start, ops.potrf(a[k, k], lower=lower)))
        if isinstance(infos[-1][1], int) and infos[-1][1]:  # others are not waited for
            break
        if lower:
            # A[t, k] <- A[t, k] L[k, k]^-H;   A[t, t] <- A[t, t] - A[t, k] A[t, k]^H
            ops.trsm("R", a[k, k], a[t, k], lower=True, trans="C")
            ops.syrk(-1.0, a[t, k], 1.0, a[t, t], lower=True, compute=fmt, counters=counters)
        else:
            # A[k, t] <- U[k, k]^-H A[k, t];   A[t, t] <- A[t, t] - A[k, t]^H A[k, t]
            ops.trsm("L", a[k, k], a[k, t], lower=False, trans="C")
            ops.syrk(
                -1.0, a[k, t], 1.0, a[t, t], lower=False, trans="C", compute=fmt, counters=counters
            )
    return ops.first_info(infos)


@dataclass
class CholeskyFactors:
    """The Cholesky factor of A (or of conj(A)), ready to solve.

    Attributes
    ----------
    ops : Ops
    c : Array, shape (n, n)
        The factor in one triangle, F-like, in ``fmt.dtype``.
    lower : bool
        Which triangle of `c`.
    fmt : Format
    conjugated : bool
        The factor is that of conj(A).
    info : int
        As `potrf`.
    scaling : Scaling, optional
        What was factored is D A D (plus the shift).
    shift : float
        Multiple of the identity that was added.
    counters : Counters
    """

    ops: Ops
    c: Array
    lower: bool
    fmt: Format
    conjugated: bool
    info: int = 0
    scaling: Scaling | None = None
    shift: float = 0.0
    counters: Counters = field(default_factory=Counters)
    _plan: Any = field(default=None, init=False, repr=False, compare=False)
    """Of the backend, for later solves."""

    method = "Cholesky"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plan": None}

    @property
    def is_usable(self) -> bool:
        """False if the factorization broke down."""
        return self.info == 0

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the factor."""
        return int(self.c.nbytes)

    def solve(self, b: Array, trans: str = "N", *, upcast: bool = False) -> Array:
        """x = A^-1 b (trans "N", "C") or A^-T b ("T"); arguments as `LUFactors.solve`."""
        ops, xp = self.ops, self.ops.xp
        dtype = b.dtype if upcast else self.c.dtype
        conjugate = b.dtype.kind == "c" and (self.conjugated != (trans == "T"))
        scale = column_scale(ops, b)
        y = b * scale
        if self.scaling is not None:
            y = y * self.scaling.rows[:, None]
            again = column_scale(ops, y)
            y, scale = y * again, scale * again
        y = xp.array(xp.conj(y) if conjugate else y, dtype=dtype, order="F", copy=None)
        if upcast and dtype != self.c.dtype:
            _potrs_upcast(ops, self.c, y, self.lower)
        else:
            if self._plan is None:
                self._plan = ops.potrs_plan(self.c, lower=self.lower)
            ops.potrs(self.c, y, lower=self.lower, plan=self._plan)
        x = xp.array(xp.conj(y) if conjugate else y, dtype=b.dtype, order="F", copy=None)
        if self.scaling is not None:
            x *= self.scaling.rows[:, None]
        x /= scale
        return x

    def rcond(self, norm1: float, dtype: Any) -> float:
        """Estimated reciprocal 1-norm condition number of A, given ||A||_1."""
        if self.info:
            return 0.0
        inverse = inverse_norm1(self.ops, self.c.shape[0], dtype, self.solve, self.solve)
        return 1.0 / (norm1 * inverse) if norm1 * inverse > 0 else 0.0

    def growth(self, amax: float) -> float:
        """1: the entries of a Cholesky factor are bounded by those of A."""
        return 1.0


def _potrs_upcast(ops: Ops, c: Array, b: Array, lower: bool) -> None:
    """`potrs` in b's precision with a factor of a lower one, a block of columns at a time."""
    n = c.shape[0]
    ranges = list(blocks(n, _BLOCK))
    # A = L L^H: forward with L, back with L^H; A = U^H U: forward with U^H, back with U
    for k in ranges:
        if lower:
            column = c[k.start :, k].astype(b.dtype, order="F")
            width = k.stop - k.start
            ops.trsm("L", column[:width], b[k], lower=True)
            ops.gemm(-1.0, column[width:], b[k], 1.0, b[k.stop :])
        else:
            column = c[: k.stop, k].astype(b.dtype, order="F")
            ops.gemm(-1.0, column[: k.start], b[: k.start], 1.0, b[k], transa="C")
            ops.trsm("L", column[k.start :], b[k], lower=False, trans="C")
    for k in reversed(ranges):
        if lower:
            column = c[k.start :, k].astype(b.dtype, order="F")
            width = k.stop - k.start
            ops.gemm(-1.0, column[width:], b[k.stop :], 1.0, b[k], transa="C")
            ops.trsm("L", column[:width], b[k], lower=True, trans="C")
        else:
            column = c[: k.stop, k].astype(b.dtype, order="F")
            ops.trsm("L", column[k.start :], b[k], lower=False)
            ops.gemm(-1.0, column[: k.start], b[k], 1.0, b[: k.start])


def cholesky(
    ops: Ops,
    copy: Callable[[], Array],
    fmt: Format,
    *,
    triangle: str,
    scaling: Scaling | None = None,
    shifted: bool = False,
    block: int | None = None,
) -> CholeskyFactors:
    """Factor a working copy of a Hermitian matrix, shifting its diagonal until that succeeds.

    Parameters
    ----------
    ops : Ops
    copy : callable
        Makes the working copy: C-like or F-like, in ``fmt.dtype``, scaled by `scaling`. Called
        again after a breakdown.
    fmt : Format
    triangle : {"L", "U"}
        The triangle of A that is given.
    scaling : Scaling, optional
    shifted : bool
        Add u_f to the (unit) diagonal, twice that after each breakdown, at most 8 times.
    block : int, optional

    Returns
    -------
    CholeskyFactors
        `info` > 0 if every attempt broke down.
    """
    shift = fmt.unit_roundoff if shifted else 0.0
    attempts = _MAX_SHIFTS if shifted else 1
    for attempt in range(attempts):
        counters = Counters()
        w = copy()
        conjugated = not ops.is_f_like(w)
        view = w.T if conjugated else w
        lower = (triangle == "L") != conjugated
        if shift:
            diagonal = ops.xp.arange(view.shape[0])
            view[diagonal, diagonal] *= 1 + shift
        info = potrf(ops, view, fmt, lower=lower, block=block, counters=counters)
        if not info or attempt == attempts - 1:
            break
        shift *= 2.0
    return CholeskyFactors(ops, view, lower, fmt, conjugated, info, scaling, shift, counters)
