"""Kernels of QR: Householder reflectors of a tile, and across two tiles.

A pair is a triangle R above a tile A, or above another triangle: [R; A] = Q [R'; 0]. Q is a product
of block reflectors I - [I; V] T [I; V]^H, one for each `PANEL` columns; V takes the place of A.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..factor.blocks import blocks
from ..ops.protocol import Array, Ops
from .grid import extent

__all__ = [
    "PANEL", "apply_first", "apply_pair", "apply_tile", "expand_pair", "expand_tile",
    "factor_match", "factor_pair", "factor_tile", "identity", "pair_workspace",
]  # fmt: skip

PANEL = 64
"""Columns of a block reflector across two tiles."""


def pair_workspace(height: int, width: int, across: int) -> int:
    """Numbers that `factor_pair` holds besides its tiles."""
    panel = min(PANEL, width)
    return 2 * panel * (height + 2 * panel + across)


def identity(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *,
    shape: tuple[int, int], dtype: str, is_zero: bool = False,
) -> tuple[Array, ...]:  # fmt: skip
    """C = I, or 0"""
    return (ops.xp.zeros(shape, dtype) if is_zero else ops.xp.eye(*shape, dtype=dtype),)


def factor_tile(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """A[i, k] = Q_ii R_i. Writes (tau, R)."""
    (a,) = updates
    by_columns = ops.xp.asfortranarray(a)
    tau = ops.geqrf(by_columns)
    a[...] = by_columns
    return tau, ops.xp.triu(a[: tau.size])


def factor_pair(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """[R; A] = Q [R'; 0]. Writes T."""
    r, a = updates
    return (_factor(ops, r, a, is_triangle=False),)


def factor_match(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """As `factor_pair` where A is upper triangular; so is V."""
    r, a = updates
    return (_factor(ops, r, a, is_triangle=True),)


def _factor(ops: Ops, r: Array, a: Array, *, is_triangle: bool) -> Array:
    xp, width = ops.xp, a.shape[1]
    t = xp.zeros((min(PANEL, width), width), a.dtype)
    for s in blocks(width, PANEL):
        panel, rows = extent(s), _rows(a, s, is_triangle)
        pair = xp.empty((panel + rows, panel), a.dtype, order="F")
        pair[:panel] = r[s, s]
        pair[panel:] = a[:rows, s]
        _, triangle = ops.geqrf_panel(pair)
        r[s, s] = xp.triu(pair[:panel])
        a[:rows, s] = pair[panel:]
        t[:panel, s] = triangle
        right = slice(s.stop, width)
        if right.start < width:
            _reflect(ops, a[:rows, s], t[:panel, s], r[s, right], a[:rows, right], "C")
    return t


def apply_tile(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, trans: str
) -> tuple[Array, ...]:
    """C <- op(Q_ii) C"""
    (qr, tau), (c,) = reads, updates
    c[...] = _applied(ops, qr, tau, ops.xp.asfortranarray(c), trans)
    return ()


def apply_first(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, trans: str
) -> tuple[Array, ...]:
    """op(Q_ii) C, where C stays."""
    qr, tau, c = reads
    return (ops.xp.ascontiguousarray(_applied(ops, qr, tau, c.copy(order="F"), trans)),)


def expand_tile(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """C = Q_ii [B; 0], B upper triangular."""
    qr, tau, b = reads
    c = ops.xp.zeros((len(qr), b.shape[1]), b.dtype, order="F")
    c[: len(b)] = b
    for s in reversed(list(blocks(tau.size, PANEL))):
        rows = slice(s.start, None)  # what is above has no part in it, what is left of it is zero
        _applied(ops, qr[rows, s], tau[s], c[rows, rows], "N")
    return (ops.xp.ascontiguousarray(c),)


def _applied(ops: Ops, qr: Array, tau: Array, c: Array, trans: str) -> Array:
    """C, by columns, overwritten with op(Q_ii) C."""
    reflectors = ops.xp.asfortranarray(qr[:, : tau.size])
    ops.ormqr("L", trans, reflectors, tau, c)
    return c


def apply_pair(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, trans: str, is_triangle: bool
) -> tuple[Array, ...]:
    """[top; C] <- op(Q) [top; C], Q that of a pair. `is_triangle`: V is."""
    (v, t), (top, c) = reads, updates
    panels = list(blocks(v.shape[1], PANEL))
    for s in panels if trans == "C" else reversed(panels):
        rows = _rows(v, s, is_triangle)
        _reflect(ops, v[:rows, s], t[: extent(s), s], top[s], c[:rows], trans)
    return ()


def expand_pair(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, is_triangle: bool
) -> tuple[Array, ...]:
    """[top; C] = Q [top; 0], where top is upper triangular, and stays so. Writes C."""
    (v, t), (top,) = reads, updates
    c = ops.xp.zeros((len(v), top.shape[1]), top.dtype)
    for s in reversed(list(blocks(v.shape[1], PANEL))):
        rows, right = _rows(v, s, is_triangle), slice(s.start, None)  # what is left of it is zero
        _reflect(ops, v[:rows, s], t[: extent(s), s], top[s, right], c[:rows, right], "N")
    return (c,)


def _rows(v: Array, s: slice, is_triangle: bool) -> int:
    """Rows of columns s that are not zero for certain."""
    return min(len(v), s.stop) if is_triangle else len(v)


def _reflect(ops: Ops, v: Array, t: Array, top: Array, c: Array, trans: str) -> None:
    """[top; c] <- (I - [I; V] op(T) [I; V]^H) [top; c]"""
    w = top.copy()
    ops.gemm(1.0, v, c, 1.0, w, transa="C")
    z = ops.xp.empty_like(w)
    ops.gemm(1.0, t, w, 0.0, z, transa=trans)
    top -= z
    ops.gemm(-1.0, v, z, 1.0, c)
