"""Householder QR: A diag(s) = Q R, panels in fp32, trailing updates in a low format."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ..ops.protocol import Counters, Ops
from ..precision import Format, real_dtype
from .condest import inverse_norm1

Array = Any

_COPY_ROWS = 16
"""Rows of a block that is transposed on its way from C to Fortran order: one cache line of fp32."""
_POWER_STEPS, _POWER_COLUMNS = 3, 4
_SAFE_EXPONENT = {"fp32": 20, "fp64": 300}
"""Columns whose largest entry lies within 2^+-this are factored as they are."""


def geqrf(
    ops: Ops, a: Array, fmt: Format, *, block: int = 64, counters: Counters | None = None
) -> Array:
    """A = Q R in place, reflectors below the diagonal.

    Parameters
    ----------
    ops : Ops
    a : array, shape (m, n)
        F-like view in ``fmt.dtype``. Overwritten by R and the vectors of the reflectors.
    fmt : Format
        Format of the operands of the trailing updates. fp32 and fp64 are LAPACK's own geqrf.
    block : int
        Columns of a panel.
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
        xp = self.ops.xp
        r = xp.asfortranarray(xp.triu(self.qr[: self.tau.size]))
        r = r.astype(r.dtype if dtype is None else dtype, copy=False)
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
        with self.ops.xp.errstate(all="ignore"):
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


def qr(ops: Ops, a: Array, fmt: Format, *, block: int = 64, scale: bool | None = None) -> QRFactors:
    """A diag(s) = Q R of a copy of A.

    Parameters
    ----------
    a : array, shape (m, n)
        C-like or F-like, of any LAPACK dtype. Not changed.
    fmt : Format
    block : int
        Columns of a panel, for formats that are not LAPACK's.
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
    xp = ops.xp
    counters = Counters()
    column_scale = None
    if scale is None or scale:
        largest = _column_amax(ops, a)
        _, exponents = xp.frexp(largest)
        finite = xp.isfinite(largest) & (largest > 0)
        limit = _SAFE_EXPONENT["fp64" if fmt.name == "fp64" and a.dtype.char in "dD" else "fp32"]
        outside = bool((finite & (abs(exponents) > limit)).any())
        if scale or fmt.needs_scaling or outside:
            shift = xp.where(finite, 1 - exponents, 0)
            top = xp.finfo(largest.dtype).maxexp - 2
            column_scale = xp.ldexp(xp.ones_like(largest), xp.clip(shift, -top, top))
    copy = to_fortran(ops, a, fmt.dtype(a.dtype), counters, column_scale)
    tau = geqrf(ops, copy, fmt, block=block, counters=counters)
    workspace = copy.nbytes + tau.nbytes
    if not fmt.is_native:  # V and two blocks of a trailing update, with their rounded copies
        workspace += 2 * block * (a.shape[0] + 2 * a.shape[1]) * copy.itemsize
        workspace += a.shape[0] * a.shape[1] * copy.itemsize
    return QRFactors(ops, copy, tau, fmt, column_scale, counters, int(workspace))


def to_fortran(
    ops: Ops, a: Array, dtype: Any, counters: Counters | None = None, scale: Array | None = None
) -> Array:
    """A diag(scale) in `dtype` and Fortran order; a new array. Counts what the range loses."""
    xp = ops.xp
    m, n = a.shape
    out = xp.empty((m, n), dtype, order="F")
    if a.strides[0] == a.itemsize or m <= 1:
        whole = _convert(ops, a, out, scale)
        if counters is not None:
            counters.add(*whole)
        return out
    narrow = out.dtype != a.dtype or scale is not None
    buffer = xp.empty((_COPY_ROWS, n), dtype) if narrow else None
    for start in range(0, m, _COPY_ROWS):
        rows = a[start : start + _COPY_ROWS]
        if buffer is not None:
            lost = _convert(ops, rows, buffer[: rows.shape[0]], scale)
            rows = buffer[: rows.shape[0]]
            if counters is not None:
                counters.add(*lost)
        out[start : start + _COPY_ROWS] = rows
    return out


def _convert(ops: Ops, src: Array, dst: Array, scale: Array | None) -> tuple[int, int]:
    if src.dtype == dst.dtype and scale is None:
        dst[...] = src
        return 0, 0
    done = ops.convert(src, dst, cols=scale)
    return done.overflows, done.underflows


def _column_amax(ops: Ops, a: Array) -> Array:
    """max |re|, |im| of each column, a block of rows at a time."""
    xp = ops.xp
    top = xp.zeros(a.shape[1], real_dtype(a.dtype))
    for start in range(0, a.shape[0], 256):
        rows = a[start : start + 256]
        for part in (rows.real, rows.imag) if a.dtype.kind == "c" else (rows,):
            xp.maximum(top, abs(part).max(axis=0), out=top)
    return top


def _fortran(ops: Ops, c: Array, dtype: Any) -> Array:
    """A new F-ordered copy in `dtype`."""
    return ops.xp.array(c, dtype=dtype, order="F")


def unit_columns(xp: Any, b: Array) -> tuple[Array, Array]:
    """b with columns scaled by 2^-e to a largest entry below 1, and e."""
    size = abs(b) if b.dtype.kind != "c" else xp.maximum(abs(b.real), abs(b.imag))
    largest = size.max(axis=0, initial=0.0)
    _, exponents = xp.frexp(largest)
    exponents = xp.where(xp.isfinite(largest) & (largest > 0), exponents, 0)
    return scaled_columns(xp, b, -exponents), exponents


def scaled_columns(xp: Any, b: Array, exponents: Array) -> Array:
    """b diag(2^exponents), in two halves so that neither factor leaves the range."""
    if not exponents.any():
        return b
    one = xp.ones(exponents.shape, real_dtype(b.dtype))
    half = exponents // 2
    return (b * xp.ldexp(one, half)) * xp.ldexp(one, exponents - half)


@dataclass(frozen=True, eq=False)
class Triangle:
    """R in working precision and what is known of its singular values.

    `largest` and `smallest` are estimates of the extreme singular values by power iteration
    from a few random vectors: both lie inside the spectrum, the smallest rarely above twice the
    true one (Dixon, SIAM J. Numer. Anal. 20 (1983) 812, bounds how rarely).
    """

    ops: Ops
    r: Array
    largest: float
    smallest: float

    @classmethod
    def of(cls, ops: Ops, r: Array) -> Triangle:
        """R, upper triangular with zeros below its diagonal, and estimates of its extremes."""
        xp, n = ops.xp, r.shape[0]
        if n == 0:
            return cls(ops, r, 1.0, 1.0)
        up = xp.random.default_rng(n).standard_normal((n, min(_POWER_COLUMNS, n))).astype(r.dtype)
        down = up
        largest = smallest = 0.0
        with xp.errstate(all="ignore"):
            for _ in range(_POWER_STEPS):
                # ||R z|| / ||z||, z <- R^H R z
                up = xp.asfortranarray(up / xp.linalg.norm(up, axis=0))
                product = xp.zeros_like(up)
                ops.gemm(1.0, r, up, 0.0, product)
                largest = float(xp.linalg.norm(product, axis=0).max())
                # ||z|| / ||R^-H z||, z <- R^-1 R^-H z
                down = xp.asfortranarray(down / xp.linalg.norm(down, axis=0))
                ops.trsm("L", r, down, lower=False, trans="C")
                norm = float(xp.linalg.norm(down, axis=0).max())
                if not (math.isfinite(largest) and 0 < norm < math.inf):
                    return cls(ops, r, largest, 0.0)
                smallest = 1 / norm
                ops.gemm(1.0, r, product, 0.0, up, transa="C")
                ops.trsm("L", r, down, lower=False)
        return cls(ops, r, largest, smallest)

    @property
    def rcond(self) -> float:
        """Estimated reciprocal 2-norm condition number."""
        return self.smallest / self.largest if 0 < self.largest < math.inf else 0.0

    def equilibrated(self) -> float:
        """`rcond` of R with its columns scaled by powers of two to norms near 1."""
        xp, r = self.ops.xp, self.r
        size = abs(r).max(axis=0, initial=0.0)
        if not bool((xp.isfinite(size) & (size > 0)).all()):
            return 0.0
        _, exponents = xp.frexp(xp.linalg.norm(r / size, axis=0) * size)
        return Triangle.of(self.ops, scaled_columns(xp, r, -exponents)).rcond

    def solve(self, b: Array, trans: str = "N") -> None:
        """b <- R^-1 b, or R^-H b with trans="C"."""
        self.ops.trsm("L", self.r, b, lower=False, trans=trans)
