"""Communication-avoiding QR of tall matrices: reduction trees (TSQR) and Gram matrices.

Both read A once, a block of rows at a time, where Householder QR passes over it once per panel.

References
----------
Demmel, Grigori, Hoemmen and Langou, SIAM J. Sci. Comput. 34 (2012) A206, section 3 (TSQR).
Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, Electron. Trans. Numer. Anal. 44 (2015) 306
(CholeskyQR). Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, section 20.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..ops.protocol import Counters, Ops
from ..precision import Format, working_format
from .qr import Triangle, geqrf, qr, to_fortran

Array = Any

_BUFFER_ELEMENTS = 2**19
"""Size of a block of rows that is converted and multiplied while in cache."""


@dataclass(frozen=True, eq=False)
class _Node:
    """One QR of the tree: reflectors of a block of rows, or of two stacked triangles."""

    qr: Array
    tau: Array


@dataclass(frozen=True, eq=False)
class TSQRFactors:
    """A = Q R with Q kept as a binary tree of reflectors.

    Attributes
    ----------
    r : array, shape (n, n)
        Upper triangular. The signs of its diagonal are those that the last QR of the tree gave:
        not normalised, and not LAPACK's for A.
    leaves : tuple
        One QR for each block of rows, with the first row of the block.
    levels : tuple of tuple
        QRs of pairs of triangles, from the leaves up; None for a triangle without a partner.
    shape : tuple of int
    workspace_bytes : int
        Bytes of the tree.
    """

    ops: Ops
    r: Array
    leaves: tuple[tuple[int, _Node], ...]
    levels: tuple[tuple[_Node | None, ...], ...]
    shape: tuple[int, int]
    counters: Counters
    workspace_bytes: int

    def apply_q(self, c: Array, trans: str = "N") -> Array:
        """Q c for c of shape (n, k), or Q^H c of shape (n, k) with trans="C" and c (m, k)."""
        return self._transposed(c) if trans == "C" else self._expanded(c)

    def _transposed(self, c: Array) -> Array:
        xp, n = self.ops.xp, self.shape[1]
        tops = []
        for start, node in self.leaves:
            part = xp.array(c[start : start + node.qr.shape[0]], self.r.dtype, order="F")
            self.ops.ormqr("L", "C", node.qr, node.tau, part)
            tops.append(part[:n])
        for level in self.levels:
            merged = []
            for i, joint in enumerate(level):
                if joint is None:
                    merged.append(tops[2 * i])
                    continue
                pair = xp.asfortranarray(xp.concatenate(tops[2 * i : 2 * i + 2]))
                self.ops.ormqr("L", "C", joint.qr, joint.tau, pair)
                merged.append(pair[:n])
            tops = merged
        return tops[0].astype(c.dtype, copy=False)

    def _expanded(self, c: Array) -> Array:
        xp, (m, n) = self.ops.xp, self.shape
        tops = [xp.array(c, self.r.dtype, order="F")]
        for level in reversed(self.levels):
            split = []
            for top, joint in zip(tops, level, strict=True):
                if joint is None:
                    split.append(top)
                    continue
                pair = xp.zeros((2 * n, c.shape[1]), self.r.dtype, order="F")
                pair[:n] = top
                self.ops.ormqr("L", "N", joint.qr, joint.tau, pair)
                split += [pair[:n], pair[n:]]
            tops = split
        out = xp.empty((m, c.shape[1]), self.r.dtype, order="F")
        for top, (start, node) in zip(tops, self.leaves, strict=True):
            part = xp.zeros((node.qr.shape[0], c.shape[1]), self.r.dtype, order="F")
            part[:n] = top
            self.ops.ormqr("L", "N", node.qr, node.tau, part)
            out[start : start + part.shape[0]] = part
        return out.astype(c.dtype, copy=False)


def tsqr(ops: Ops, a: Array, fmt: Format, block_rows: int | None = None) -> TSQRFactors:
    """A = Q R by a binary reduction over blocks of rows.

    Parameters
    ----------
    a : array, shape (m, n), m >= n
        C-like or F-like. Not changed. Its range must fit `fmt`.
    fmt : Format
    block_rows : int, optional
        Rows of a leaf, at least n; by default as many as fit into cache, at least 2 n. The last
        leaf takes up to so many more.

    Returns
    -------
    TSQRFactors

    Notes
    -----
    2 m n^2 flops in the leaves and 10/3 n^3 for each pair of triangles. Backward stable as
    Householder QR is (Demmel et al. 2012, section 3). Workspace: m n numbers, 2 n^2 a pair.
    """
    m, n = a.shape
    if m < n:
        raise ValueError(f"tsqr needs at least as many rows as columns; got {a.shape=}")
    xp = ops.xp
    rows = max(2 * n, _BUFFER_ELEMENTS // max(n, 1) // 8) if block_rows is None else block_rows
    rows = max(rows, n, 1)
    counters = Counters()
    starts = list(range(0, max(m - rows, 0) + 1, rows))
    leaves = []
    for start, stop in zip(starts, [*starts[1:], m], strict=True):
        part = to_fortran(ops, a[start:stop], fmt.dtype(a.dtype), counters)
        leaves.append((start, _Node(part, geqrf(ops, part, fmt, counters=counters))))
    tops = [xp.triu(node.qr[:n]) for _, node in leaves]
    levels = []
    while len(tops) > 1:
        level: list[_Node | None] = []
        merged = []
        for i in range(0, len(tops), 2):
            if i + 1 == len(tops):
                level.append(None)
                merged.append(tops[i])
                continue
            # [R_1; R_2] = Q R
            pair = xp.asfortranarray(xp.concatenate(tops[i : i + 2]))
            level.append(_Node(pair, geqrf(ops, pair, fmt, counters=counters)))
            merged.append(xp.triu(pair[:n]))
        levels.append(tuple(level))
        tops = merged
    nodes = [node for _, node in leaves] + [node for level in levels for node in level if node]
    held = sum(node.qr.nbytes + node.tau.nbytes for node in nodes) + tops[0].nbytes
    r = xp.asfortranarray(tops[0])
    return TSQRFactors(ops, r, tuple(leaves), tuple(levels), (m, n), counters, int(held))


@dataclass(frozen=True, eq=False)
class GramFactors:
    """R^H R = A^H A with R upper triangular, C-like or F-like, and zeros below its diagonal.

    `info` is 0, or i > 0 where the leading minor of order i is not positive; R means nothing then.
    """

    r: Array
    info: int
    counters: Counters
    workspace_bytes: int


def gram(ops: Ops, a: Array, fmt: Format) -> GramFactors:
    """R of A = Q R from the Cholesky factorization of A^H A, Q left implicit.

    Parameters
    ----------
    a : array, shape (m, n), m >= n
        C-like or F-like, with squares that `fmt` can hold. Not changed.
    fmt : Format
        fp32 or fp64, not wider than A.

    Returns
    -------
    GramFactors

    Notes
    -----
    m n^2 + n^3 / 3 flops, half of Householder QR and all in level 3. The computed R satisfies
    R^H R = A^H A + E with ||E|| of order n u ||A||^2: a good preconditioner of the least-squares
    problem while kappa(A)^2 u is small. Scaling the columns of A changes nothing but the scale.

    A wider than `fmt` is converted by blocks of rows, in cache. Workspace: G and such a block.
    """
    xp = ops.xp
    m, n = a.shape
    dtype = fmt.dtype(a.dtype)
    counters = Counters()
    g = xp.zeros((n, n), dtype, order="F")
    workspace = 2 * g.nbytes
    if a.dtype == dtype and (m <= 1 or a.strides[0] == a.itemsize):
        # G = A^H A = L L^H, R = L^H
        ops.syrk(1.0, a, 0.0, g, lower=True, trans="C")
        info = ops.potrf(g, lower=True)
        r = g.T if a.dtype.kind != "c" else xp.conj(g.T)
        return GramFactors(xp.triu(r), info, counters, int(workspace))
    # A^T conj(A) = conj(G) = L L^H, R = L^T
    if a.dtype == dtype and (n <= 1 or a.strides[1] == a.itemsize) and m > 1:
        ops.syrk(1.0, a.T, 0.0, g, lower=True)
    else:
        rows = max(1, min(m, max(512, _BUFFER_ELEMENTS // max(n, 1))))
        buffer = xp.empty((rows, n), dtype)
        workspace += buffer.nbytes
        for start in range(0, m, rows):
            part = a[start : start + rows]
            block = buffer[: part.shape[0]]
            if part.dtype != dtype and n > 1 and part.strides[1] == part.itemsize:
                lost = ops.convert(part, block)
                counters.add(lost.overflows, lost.underflows)
            else:
                block[...] = part
            ops.syrk(1.0, block.T, 1.0, g, lower=True)
    info = ops.potrf(g, lower=True)
    return GramFactors(xp.triu(g.T), info, counters, int(workspace))


def trusted_rcond(fmt: Format, method: str) -> float:
    """The smallest rcond(R) that stands clear of the rounding errors made on the way to R.

    Those are of relative size u_f in A for method "qr", and in A^H A for method "gram".
    """
    u = fmt.unit_roundoff
    return float((100.0 * u) ** 0.5 if method == "gram" else 10.0 * u)


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
    few random columns Z. Where R_0 is not trusted, no Q is made.

    m n^2 flops for each Gram matrix and each pass, 2/3 n^3 for the signs. Workspace: 3 n^2.

    References
    ----------
    Yamamoto et al. (2015), section 3. Ballard, Demmel, Grigori, Jacquelin, Nguyen and Solomonik,
    IPDPS 2014, section 4.2 (signs).
    """
    xp = ops.xp
    n = a.shape[1]
    bound = 30.0 * max(n, 1) ** 0.5 * unit_roundoff
    if method == "gram":
        start = gram(ops, a, fmt)
        r, counters, workspace = start.r, start.counters, start.workspace_bytes
        info = start.info
    else:
        first = qr(ops, a, fmt)
        r, counters, workspace = first.r(a.dtype), first.counters, first.workspace_bytes
        info = 0
    wide = r.astype(a.dtype, copy=False)
    workspace += 2 * wide.nbytes

    def failed(why: str, distance: float = xp.nan) -> CholeskyQR:
        return CholeskyQR(None, r, distance, 0, why, counters, workspace)

    if info:
        return failed(f"minor {info} not positive")
    rcond = Triangle.of(ops, wide).rcond
    if not rcond >= trusted_rcond(fmt, method):
        return failed(f"rcond {rcond:.1e} is too small to trust")
    z = xp.asfortranarray(xp.random.default_rng(n).standard_normal((n, 4)), dtype=a.dtype)
    total = wide
    for passes in range(1, max_passes + 1):
        # A <- A R_k^-1
        ops.trsm("R", wide, a, lower=False)
        distance = _distance(ops, a, z)
        if distance <= bound:
            break
        if passes == max_passes or not distance < 0.5:
            return failed(f"orthogonality {distance:.1e} after {passes} passes", distance)
        step = gram(ops, a, working_format(a.dtype))
        if step.info:
            return failed("not orthonormal enough for Cholesky", distance)
        wide = step.r
        total = _triangular_product(ops, wide, total)
    signs = householder_signs(ops, a[:n])
    if signs is None:
        return failed("signs of R are not determined", distance)
    a *= signs
    total = total * xp.conj(signs)[:, None]
    return CholeskyQR(a, total, distance, passes, "", counters, int(workspace))


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


def _triangular_product(ops: Ops, left: Array, right: Array, block: int = 128) -> Array:
    """L R of two upper triangles, 2/3 n^3 flops."""
    xp, n = ops.xp, left.shape[0]
    out = xp.zeros((n, n), left.dtype, order="F")
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        ops.gemm(1.0, left[rows, start:], right[start:, start:], 0.0, out[rows, start:])
    return xp.triu(out)


def householder_signs(ops: Ops, top: Array, block: int = 32) -> Array | None:
    """The signs s with which Q diag(s) is what LAPACK's geqrf would have found.

    Parameters
    ----------
    top : array, shape (n, n)
        The first n rows of an orthonormal Q whose R has a positive diagonal.

    Returns
    -------
    array, shape (n,), or None
        None where a column is, to rounding, zero below its diagonal when its turn comes: LAPACK
        then makes no reflection if it is exactly zero and one if it is not.

    Notes
    -----
    LAPACK takes R_kk = -sign(alpha_k) ||.||, alpha_k the leading entry of what is left of column
    k. Elimination of Q - S has alpha_k as its pivots before S is subtracted (Ballard et al. 2014,
    section 4.2). As |pivot| >= 1, no interchanges are needed. 2/3 n^3 flops.
    """
    xp, n = ops.xp, top.shape[0]
    w = xp.array(top, order="F")
    signs = xp.ones(n, w.dtype)
    margin = 100.0 * max(n, 1) * float(xp.finfo(w.dtype).eps)
    for start in range(0, n, block):
        stop = min(start + block, n)
        d = w[start:stop, start:stop]
        for j in range(stop - start):
            alpha = d[j, j].real
            if abs(d[j, j]) >= 1.0 - margin:
                return None
            signs[start + j] = -1.0 if alpha >= 0 else 1.0
            d[j, j] -= signs[start + j]
            d[j + 1 :, j] /= d[j, j]
            d[j + 1 :, j + 1 :] -= d[j + 1 :, j, None] * d[j, j + 1 :]
        if stop < n:
            # W[t, k] <- W[t, k] U^-1,  W[k, t] <- L^-1 W[k, t]
            # W[t, t] <- W[t, t] - W[t, k] W[k, t]
            ops.trsm("R", d, w[stop:, start:stop], lower=False)
            ops.trsm("L", d, w[start:stop, stop:], lower=True, unit=True)
            ops.gemm(-1.0, w[stop:, start:stop], w[start:stop, stop:], 1.0, w[stop:, stop:])
    return signs
