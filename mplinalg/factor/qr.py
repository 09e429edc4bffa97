"""Householder QR: A diag(s) = Q R, panels in fp32, trailing updates in a low format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ops import Counters, Ops, is_on_host
from ..precision import Format, real_dtype
from .columns import range_scale, scaled_columns, to_fortran, unit_columns, upper_triangle
from .condest import inverse_norm1

Array = Any

_BLOCK, _DEVICE_BLOCK = 64, 256
"""Columns of a panel; on a device, products with fewer are bound by its memory."""


def geqrf(
    ops: Ops, a: Array, fmt: Format, *, block: int | None = None, counters: Counters | None = None
) -> Array:
    """A = Q R in place, reflectors below the diagonal.

    Parameters
    ----------
    ops : Ops
    a : array, shape (m, n)
        F-like view in ``fmt.dtype``. Overwritten by R and the vectors of the reflectors.
    fmt : Format
        Format of the operands of the trailing updates. fp32 and fp64 are LAPACK's own geqrf.
    block : int, optional
        Columns of a panel; by default 64, and 256 on a device.
    counters : Counters, optional
        Counts what was lost in rounding operands to `fmt`.

    Returns
    -------
    tau : array, shape (min(m, n),)
        As LAPACK's: Q = H_1 H_2 ... with H_i = I - tau_i v_i v_i^H.

    Notes
    -----
    2 n^2 (m - n / 3) flops, of which a fraction block / n is spent in fp32 panels. Workspace: one
    panel of V and a ``block`` by n matrix.

    References
    ----------
    Schreiber and Van Loan, SIAM J. Sci. Stat. Comput. 10 (1989) 53 (compact WY).
    Zhang, Baharlouei and Wu, HPDC 2020 (QR on tensor cores).
    """
    if fmt.is_native:
        return ops.geqrf(a)
    xp = ops.xp
    m, n = a.shape
    count = min(m, n)
    block = block or _panel_columns(a)
    tau = xp.zeros(count, a.dtype)
    for start in range(0, count, block):
        stop = min(start + block, count)
        # Q_k [R; 0] = A[start:, k], Q_k = I - V T V^H
        panel = a[start:, start:stop]
        tau[start:stop], t = ops.geqrf_panel(panel)
        if stop == n:
            break
        v = xp.asfortranarray(xp.tril(panel, -1))
        diagonal = xp.arange(stop - start)
        v[diagonal, diagonal] = 1
        trailing = a[start:, stop:]
        # A[start:, t] <- (I - V T^H V^H) A[start:, t]
        w = xp.zeros((stop - start, n - stop), a.dtype, order="F")
        tw = xp.zeros_like(w)
        ops.gemm(1.0, v, trailing, 0.0, w, transa="C", compute=fmt, counters=counters)
        ops.gemm(1.0, t, w, 0.0, tw, transa="C")
        ops.gemm(-1.0, v, tw, 1.0, trailing, compute=fmt, counters=counters)
    return tau


def _panel_columns(a: Array) -> int:
    return _BLOCK if is_on_host(a) else _DEVICE_BLOCK


@dataclass(frozen=True, eq=False)
class QRFactors:
    """A diag(s) = Q R with Q as reflectors.

    Attributes
    ----------
    qr : array, shape (m, n)
        Fortran order, in the dtype that holds `fmt`: R above, the reflectors below the diagonal.
    tau : array, shape (min(m, n),)
    fmt : Format
    scale : array, shape (n,), or None
        Powers of two, in the real dtype of A; None if all are 1. Only columns are scaled: scaling
        rows would change a least-squares problem.
    counters : Counters
        What was lost in conversion.
    workspace_bytes : int
        Bytes of the factors and of what was needed to compute them.
    """

    ops: Ops
    qr: Array
    tau: Array
    fmt: Format
    scale: Array | None
    counters: Counters
    workspace_bytes: int

    method = "QR"

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of A."""
        return self.qr.shape

    def apply_q(self, c: Array, trans: str = "N") -> Array:
        """Q c, or Q^H c with trans="C". Q is (m, m); c is (m, k) and is not changed."""
        work = _fortran(self.ops, c, self.qr.dtype)
        self.ops.ormqr("L", trans, self.qr, self.tau, work)
        return work.astype(c.dtype, copy=False)

    def r(self, dtype: Any = None) -> Array:
        """R diag(s)^-1, upper trapezoidal of shape (min(m, n), n), so that A = Q r."""
        r = upper_triangle(self.ops, self.qr[: self.tau.size], dtype)
        return r if self.scale is None else r / self.scale.astype(real_dtype(r.dtype))

    def solve_r(self, b: Array, trans: str = "N") -> Array:
        """R^-1 b, or R^-H b with trans="C", for the scaled R; b is (n, k) and is not changed."""
        n = self.shape[1]
        work = _fortran(self.ops, b, self.qr.dtype)
        self.ops.trsm("L", self.qr[:n], work, lower=False, trans=trans)
        return work.astype(b.dtype, copy=False)

    @property
    def is_usable(self) -> bool:
        """False if a diagonal entry of R is exactly zero or not finite."""
        diagonal = abs(self.qr.diagonal())
        return bool((self.ops.xp.isfinite(diagonal) & (diagonal > 0)).all())

    def rcond(self, norm1: float | None = None, dtype: Any = None) -> float:
        """Estimated reciprocal 1-norm condition number.

        Of A, given ||A||_1, for square A, with solves in the working precision `dtype`; without
        `norm1`, of the scaled R.
        """
        n = self.shape[1]
        if norm1 is None:
            return float(self.ops.trcon(self.qr[:n], lower=False)) if n else 1.0
        if not self.is_usable:
            return 0.0
        with np.errstate(all="ignore"):
            inverse = inverse_norm1(
                self.ops, n, dtype or self.qr.dtype, self.solve, lambda z: self.solve(z, "C")
            )
        return 1.0 / (norm1 * inverse) if norm1 * inverse > 0 else 0.0

    def growth(self, amax: float) -> float:
        """max |R| / max |A|, at most sqrt(m); `amax` is that of A unscaled."""
        top = float(abs(self.r()).max()) if self.qr.size else 0.0
        return top / amax if amax > 0 else 1.0

    def solve(self, b: Array, trans: str = "N", *, upcast: bool = False) -> Array:
        """op(A)^-1 b for square A.

        Parameters
        ----------
        b : array, shape (n, nrhs)
            In the working dtype of A. Not changed.
        trans : {"N", "T", "C"}
        upcast : bool
            Apply the factors in the precision of b instead of their own.

        Returns
        -------
        x : array, shape (n, nrhs)
            F-ordered, in the dtype of b. Not finite where R is exactly singular.

        Notes
        -----
        Each column of b is scaled by a power of two to a largest entry near 1 before it is
        converted to the dtype of the factors, and x is scaled back, so that range is lost only
        where the answer itself leaves the range of its dtype. Backward stable in the norm for
        every nonsingular A: growth does not occur (Higham 2002, theorem 19.5). 4 n^2 flops for
        each column beyond the triangular solve.
        """
        m, n = self.shape
        if m != n:
            raise ValueError(f"solve needs square A; the factors are of shape {self.shape}")
        xp = self.ops.xp
        if upcast and b.dtype != self.qr.dtype:
            wide = replace(self, qr=self.qr.astype(b.dtype), tau=self.tau.astype(b.dtype))
            return wide.solve(b, trans)
        if trans == "T" and b.dtype.kind == "c":
            return xp.conj(self.solve(xp.conj(b), "C"))
        x, exponents = unit_columns(xp, b)
        column = None if self.scale is None else self.scale[:, None].astype(real_dtype(b.dtype))
        if trans == "N":  # A = Q R S^-1, so that x = S R^-1 Q^H b
            x = scaled_columns(xp, self.solve_r(self.apply_q(x, "C")), exponents)
            return xp.asfortranarray(x if column is None else x * column)
        if column is not None:  # A^H = S^-1 R^H Q^H, so that x = Q R^-H S b
            x, more = unit_columns(xp, x * column)
            exponents = exponents + more
        return xp.asfortranarray(scaled_columns(xp, self.apply_q(self.solve_r(x, "C")), exponents))


def qr(
    ops: Ops, a: Array, fmt: Format, *, block: int | None = None, scale: bool | None = None
) -> QRFactors:
    """A diag(s) = Q R of a copy of A.

    Parameters
    ----------
    a : array, shape (m, n)
        C-like or F-like, of any LAPACK dtype. Not changed.
    fmt : Format
    block : int, optional
        Columns of a panel, for formats that are not LAPACK's; as for `geqrf`.
    scale : bool, optional
        Scale columns by powers of two to a largest entry in [1, 2). By default, only where range
        asks for it: always for fp16 and fp16x2, for others if a column's largest entry leaves
        2^+-20 (2^+-300 in fp64).

    Returns
    -------
    QRFactors

    Notes
    -----
    The copy is made in Fortran order in one pass: a C-ordered A is converted and transposed 16
    rows at a time, while these are in cache, which costs what an untransposed copy costs within
    a factor of two. (The alternative, LQ of the Fortran-ordered view A^T, saves the
    transposition but has LAPACK work on rows, with no faster panel.)
    Columns are not interchanged: a doubtful rank is a matter for the singular values.
    """
    counters = Counters()
    powers = range_scale(ops, a, fmt, scale)
    copy = to_fortran(ops, a, fmt.dtype(a.dtype), counters, powers)
    tau = geqrf(ops, copy, fmt, block=block, counters=counters)
    workspace = copy.nbytes + tau.nbytes
    if not fmt.is_native:  # V and two blocks of a trailing update, with their rounded copies
        block = block or _panel_columns(a)
        workspace += 2 * block * (a.shape[0] + 2 * a.shape[1]) * copy.itemsize
        workspace += a.shape[0] * a.shape[1] * copy.itemsize
    return QRFactors(ops, copy, tau, fmt, powers, counters, int(workspace))


def _fortran(ops: Ops, c: Array, dtype: Any) -> Array:
    """A new F-ordered copy in `dtype`."""
    return ops.xp.array(c, dtype=dtype, order="F")
