"""Tournament pivoting: pivots of a panel chosen by a reduction tree.

Rows are split into groups, each group factors its rows by partial pivoting and sends its jb pivot
rows up a binary tree, where pairs of winners are factored again. The panel is then eliminated
without further exchanges. One reduction per panel replaces one per column; growth is bounded by
2^(jb * depth) in theory and is near that of partial pivoting in practice.

Reference: Grigori, Demmel and Xiang, SIAM J. Matrix Anal. Appl. 32 (2011) 1317 (CALU).
"""

from __future__ import annotations

from ..ops.protocol import Array, Ops

_GROUP_ROWS = 256


def _winners(ops: Ops, panel: Array, rows: Array) -> Array:
    """The pivot rows of panel[rows], in the order of elimination."""
    group = ops.xp.asfortranarray(panel[rows])
    piv, _ = ops.getrf_panel(group)
    order = rows.copy()
    for i, p in enumerate(piv.tolist()):
        order[[i, p]] = order[[p, i]]
    return order[: min(len(order), panel.shape[1])]


def tournament_pivots(ops: Ops, panel: Array) -> Array:
    """The jb rows of an (m, jb) panel that win the tournament, in order of elimination."""
    xp = ops.xp
    m, jb = panel.shape
    size = max(_GROUP_ROWS, 2 * jb)
    groups = [xp.arange(start, min(start + size, m)) for start in range(0, m, size)]
    contenders = [_winners(ops, panel, rows) for rows in groups]
    while len(contenders) > 1:
        pairs = zip(contenders[::2], contenders[1::2], strict=False)
        merged = [_winners(ops, panel, xp.concatenate(pair)) for pair in pairs]
        contenders = merged + contenders[len(contenders) - len(contenders) % 2 :]
    return contenders[0]


def getrf_tournament(ops: Ops, panel: Array) -> tuple[Array, int]:
    """P A = L U of a tall panel in place, pivots by tournament. Returns (piv, info) as getrf.

    `piv` are successive interchanges, as LAPACK's.
    """
    xp = ops.xp
    m, n = panel.shape
    jb = min(m, n)
    # where rows went (row -> place) and what lies there (place -> row), identity if absent
    position: dict[int, int] = {}
    occupant: dict[int, int] = {}
    piv = xp.arange(jb, dtype=xp.int32)
    for i, row in enumerate(tournament_pivots(ops, panel)[:jb].tolist()):
        at = position.get(row, row)
        displaced = occupant.get(i, i)
        piv[i] = at
        position[displaced], occupant[at] = at, displaced
        position[row], occupant[i] = i, row
    before = panel.copy(order="F")
    ops.laswp(panel, piv)
    # A11 = L11 U11, no interchanges; L21 = A21 U11^-1
    top = panel[:jb, :jb]
    if _eliminate(ops, top):  # dependent columns: partial pivoting sees them through
        panel[...] = before
        return ops.getrf_panel(panel)
    ops.trsm("R", top, panel[jb:, :jb], lower=False)
    ops.trsm("L", top, panel[:jb, jb:], lower=True, unit=True)
    return piv, 0


def _eliminate(ops: Ops, a: Array) -> bool:
    """A = L U of a small square block in place, no interchanges. True if a pivot is zero."""
    for j in range(a.shape[0]):
        pivot = a[j, j]
        if pivot == 0:
            return True
        a[j + 1 :, j] /= pivot
        ops.gemm(-1.0, a[j + 1 :, j : j + 1], a[j : j + 1, j + 1 :], 1.0, a[j + 1 :, j + 1 :])
    return False
