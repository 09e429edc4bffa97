"""Communication-avoiding QR of tall matrices by a reduction tree (TSQR).

For A that does not fit in memory or is spread over nodes: each block of rows is read once. On one
CPU with A in memory it does not pay: QR with recursive panels is as fast at 50 columns and up to
twice as fast at 200, and a Gram matrix (`mplinalg.factor.gram`) three to five times.

Reference: Demmel, Grigori, Hoemmen and Langou, SIAM J. Sci. Comput. 34 (2012) A206, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..ops.protocol import Counters, Ops
from ..precision import Format
from .columns import to_fortran
from .qr import geqrf

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
