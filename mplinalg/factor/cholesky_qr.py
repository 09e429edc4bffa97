"""A = Q R with explicit Q: multiply A by the inverse of an R, repeat until Q is orthonormal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..ops import Counters, Ops, is_on_host, ops_for
from ..precision import FP32, Format, working_format
from .gram import gram, trusted_rcond
from .qr import qr
from .triangle import Triangle, divide, random_columns, triangular_product

Array = Any

_AS_HOUSEHOLDER, _LAPACK = 12.0, 30.0
"""||I - Q^H Q||_F over sqrt(n) u: estimates of it are 3 to 10 for a Q of Householder QR (measured),
and LAPACK's threshold is 30."""
_ROWS, _COLUMNS = 1024, 128
_DEVICE_ELEMENTS, _DEVICE_COLUMNS = 2**26, 1024
"""Rows and columns of a block of a correction; on a device as many rows as have so many entries."""


@dataclass(frozen=True, eq=False)
class CholeskyQR:
    """A = Q R with explicit Q, and how it was reached.

    `orthogonality` estimates ||I - Q^H Q||_F, `passes` counts multiplications of A (then Q) by the
    inverse of a triangle. `q` is None where that failed: `outcome` says why.
    """

    q: Array | None
    r: Array
    orthogonality: float
    passes: int
    outcome: str
    counters: Counters
    workspace_bytes: int


def cholesky_qr(
    ops: Ops, a: Array, fmt: Format, unit_roundoff: float, *, method: str = "gram",
    max_passes: int = 3,
) -> CholeskyQR:  # fmt: skip
    """A = Q R, Q orthonormal to working precision, from an R in any format.

    Parameters
    ----------
    a : array, shape (m, n), m >= n
        In working precision and a range whose squares fit it; C-like or F-like. Overwritten by Q.
    fmt : Format
        Of the first R.
    unit_roundoff : float
        Of the working precision.
    method : {"gram", "qr"}
        How the first R is found: by `gram` (for fp32 and fp64) or Householder QR.
    max_passes : int

    Returns
    -------
    CholeskyQR
        With the signs of LAPACK's Householder QR on the diagonal of R.

    Notes
    -----
    A <- A R_0^-1 leaves ||I - A^H A|| of order kappa^2 u_f ("gram") or kappa u_f ("qr"), plus
    kappa u; each further pass, R_k^H R_k = A^H A and A <- A R_k^-1 in working precision, squares
    it down to the order of u. The distance from orthonormal is estimated by A^H (A Z) - Z for a
    few random columns Z, and passes are made until it is that of a Householder Q. Where R_0 is not
    trusted, no Q is made.

    From a distance below sqrt(u) on, R_k = I + T with T small and known to first order from
    A^H A - I, so that A T may be computed in fp32 for an fp64 Q (Yamazaki, Tomov and Dongarra
    2015 put the Gram matrix in higher precision; here it is the correction that is in lower).

    m n^2 flops for each Gram matrix and each pass, 2/3 n^3 for the signs. Workspace: 3 n^2, and
    with a correction m n / 2. A device is waited for a few times a pass, and once for each 64
    columns when the signs are found.

    References
    ----------
    Yamamoto et al., Electron. Trans. Numer. Anal. 44 (2015) 306, section 3. Yamazaki, Tomov and
    Dongarra, SIAM J. Sci. Comput. 37 (2015) C307. Ballard, Demmel, Grigori, Jacquelin, Nguyen and
    Solomonik, IPDPS 2014, section 4.2 (signs).
    """
    xp = ops.xp
    n = a.shape[1]
    scale = max(n, 1) ** 0.5 * unit_roundoff
    if method == "gram":
        start = gram(ops, a, fmt)
        r, counters, workspace = start.r, start.counters, start.workspace_bytes
        info = start.info
    else:
        first = qr(ops, a, fmt)
        r, counters, workspace = first.r(a.dtype), first.counters, first.workspace_bytes
        info = 0
    total = r.astype(a.dtype, copy=False)
    workspace += 2 * total.nbytes

    def failed(why: str, distance: float = math.nan) -> CholeskyQR:
        return CholeskyQR(None, r, distance, 0, why, counters, workspace)

    if info:
        return failed(f"minor {info} not positive")
    rcond = Triangle.of(ops, total).rcond
    if not rcond >= trusted_rcond(fmt, method):
        return failed(f"rcond {rcond:.1e} is too small to trust")
    z = xp.asfortranarray(random_columns(ops, n, 4, a.dtype))
    # A <- A R_0^-1
    divide(ops, a, total)
    passes, distance = 1, _distance(ops, a, z)
    while distance > _AS_HOUSEHOLDER * scale and passes < max_passes:
        if not distance < 0.5:
            break
        if distance <= unit_roundoff**0.5 and a.dtype.char in "dD":
            total = _correct(ops, a, total)
            workspace = max(workspace, 2 * total.nbytes + a.nbytes // 2)
        else:
            step = gram(ops, a, working_format(a.dtype))
            if step.info:
                break
            # A <- A R_k^-1,  R <- R_k R
            divide(ops, a, step.r)
            total = triangular_product(ops, step.r, total)
        passes, distance = passes + 1, _distance(ops, a, z)
    if not distance <= _LAPACK * scale:
        return failed(f"orthogonality {distance:.1e} after {passes} passes", distance)
    # on the host, Householder QR of a square A costs less
    signs = householder_signs(ops, a[:n], is_whole=not is_on_host(a) and a.shape[0] == n)
    if signs is None:
        return failed("signs of R are not determined", distance)
    a *= signs
    total = total * xp.conj(signs)[:, None]
    return CholeskyQR(a, total, distance, passes, "", counters, int(workspace))


def _correct(ops: Ops, a: Array, r: Array) -> Array:
    """A <- A (I + T)^-1 and (I + T) R, to first order in T, (I + T)^H (I + T) = A^H A; fp64.

    Products with T are made in fp32: T is so small that their rounding errors are not seen.
    """
    xp, (m, n) = ops.xp, a.shape
    excess = xp.zeros((n, n), a.dtype, order="F")
    f_like = ops.is_f_like(a)
    # A^H A, or conj(A^H A) = A^T conj(A), above the diagonal
    ops.syrk(1.0, a if f_like else a.T, 0.0, excess, lower=False, trans="C" if f_like else "N")
    diagonal = xp.arange(n)
    excess[diagonal, diagonal] = (excess[diagonal, diagonal].real - 1) / 2
    small = xp.triu(excess if f_like else xp.conj(excess)).astype(FP32.dtype(a.dtype), order="F")
    height, width = _ROWS, _COLUMNS
    if not is_on_host(a):
        height, width = max(_ROWS, _DEVICE_ELEMENTS // n), _DEVICE_COLUMNS
    for start in range(0, m, height):
        rows = a[start : start + height]
        low = rows.astype(small.dtype, order="K")
        change = xp.zeros_like(low)
        for left in range(0, n, width):
            right = min(left + width, n)
            ops.gemm(1.0, low[:, :right], small[:right, left:right], 0.0, change[:, left:right])
        rows -= change
    return r + triangular_product(ops, small, r.astype(small.dtype, order="F"))


def _distance(ops: Ops, q: Array, z: Array) -> float:
    """Estimate of ||I - Q^H Q||_F from Q^H (Q Z) - Z, Z normally distributed."""
    xp = ops.xp
    image = xp.zeros((q.shape[0], z.shape[1]), q.dtype, order="F")
    ops.gemm(1.0, q, z, 0.0, image)
    is_complex = q.dtype.kind == "c"
    back = xp.zeros_like(z)
    ops.gemm(1.0, q, xp.conj(image) if is_complex else image, 0.0, back, transa="T")
    back = (xp.conj(back) if is_complex else back) - z
    return float(xp.linalg.norm(back)) / z.shape[1] ** 0.5


def householder_signs(
    ops: Ops, top: Array, block: int = 64, *, is_whole: bool = False
) -> Array | None:
    """The signs s with which Q diag(s) is what LAPACK's geqrf would have found.

    Parameters
    ----------
    top : array, shape (n, n)
        The first n rows of an orthonormal Q whose R has a positive diagonal.
    block : int
    is_whole : bool
        Q has no other rows, so that nothing is below the diagonal of its last column.

    Returns
    -------
    array, shape (n,), or None
        None where rounding errors decide: a column is, to rounding, zero below its diagonal when
        its turn comes (LAPACK makes no reflection if it is exactly zero), or on the diagonal.

    Notes
    -----
    LAPACK takes R_kk = -sign(alpha_k) ||.||, alpha_k the leading entry of what is left of column
    k. Elimination of Q - S has alpha_k as its pivots before S is subtracted (Ballard et al. 2014,
    section 4.2). As |pivot| >= 1, no interchanges are needed. 2/3 n^3 flops.

    A last column of one entry is left as it is if that is real, and else made real by a reflection.

    Diagonal blocks on a device are eliminated on the host, which waits for each of them: they are
    too small for a device, and which sign is wrong is not known before.
    """
    xp, n = ops.xp, top.shape[0]
    w = xp.array(top, order="F")
    signs = xp.ones(n, w.dtype)
    margin = 100.0 * max(n, 1) * float(xp.finfo(w.dtype).eps)
    for start in range(0, n, block):
        stop = min(start + block, n)
        # D - S = L U, S the signs of the block
        found = _block_signs(ops, w[start:stop, start:stop], margin, is_whole and stop == n)
        if found is None:
            return None
        signs[start:stop], lu = found
        if stop < n:
            # W[t, k] <- W[t, k] U^-1,  W[k, t] <- L^-1 W[k, t]
            # W[t, t] <- W[t, t] - W[t, k] W[k, t]
            ops.trsm("R", lu, w[stop:, start:stop], lower=False)
            ops.trsm("L", lu, w[start:stop, stop:], lower=True, unit=True)
            ops.gemm(-1.0, w[stop:, start:stop], w[start:stop, stop:], 1.0, w[stop:, stop:])
    return signs


def _block_signs(ops: Ops, d: Array, margin: float, is_last: bool) -> tuple[Array, Array] | None:
    """Signs of one block and L U = D - S; `is_last` if nothing is below the block.

    The signs are guessed, and the pivots tell which is the first wrong one: each elimination gets
    at least one more right. The right ones need no interchanges, so that LAPACK's serves; but of a
    complex block it compares |re| + |im|, and may interchange rows whatever the sign.
    """
    xp = ops.xp
    if not is_on_host(d):
        block = xp.asnumpy(d)
        found = _block_signs(ops_for(block), block, margin, is_last)
        return None if found is None else (xp.asarray(found[0]), xp.asarray(found[1], order="F"))
    places = xp.arange(d.shape[0])
    signs = xp.where(d.diagonal().real >= 0, -1.0, 1.0)
    right = 0
    while True:
        lu = xp.array(d, order="F")
        lu[places, places] -= signs
        piv, _ = ops.getrf(lu)
        alpha = lu.diagonal() + signs
        wanted, unknown = _wanted_signs(xp, alpha, margin, is_last)
        wrong = xp.flatnonzero((wanted != signs) | (piv != places))
        if wrong.size == 0:
            return None if bool(unknown.any()) else (signs, lu)
        first = int(wrong[0])
        if bool(unknown[:first].any()):
            return None
        if first < right:
            return _signs_by_columns(xp, d, margin, is_last)
        signs[first + 1 :] = xp.where(piv[first] == first, wanted[first + 1 :], signs[first + 1 :])
        signs[first] = -signs[first]
        right = first + 1


def _wanted_signs(xp: Any, alpha: Array, margin: float, is_last: bool) -> tuple[Array, Array]:
    """The signs for leading entries `alpha`, and which of them rounding errors decide."""
    wanted = xp.where(alpha.real >= 0, -1.0, 1.0)
    # near 1: nothing is left below; near 0: the sign is one of rounding errors
    unknown = (abs(alpha) >= 1.0 - margin) | (abs(alpha) < 16 * float(xp.finfo(alpha.dtype).eps))
    if is_last:
        if abs(alpha[-1].imag) <= margin:
            wanted[-1] = -wanted[-1]
        unknown[-1] = False
    return wanted, unknown


def _signs_by_columns(
    xp: Any, d: Array, margin: float, is_last: bool
) -> tuple[Array, Array] | None:
    """`_block_signs`, a column at a time and without interchanges."""
    lu, n = xp.array(d, order="F"), d.shape[0]
    signs = xp.ones(n)
    for k in range(n):
        wanted, unknown = _wanted_signs(xp, lu[k : k + 1, k], margin, is_last and k + 1 == n)
        if unknown[0]:
            return None
        signs[k] = wanted[0]
        lu[k, k] -= signs[k]
        lu[k + 1 :, k] /= lu[k, k]
        lu[k + 1 :, k + 1 :] -= xp.outer(lu[k + 1 :, k], lu[k, k + 1 :])
    return signs, lu
