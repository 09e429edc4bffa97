"""A = Q R by block columns, left-looking, each block column by TSQR.

    for each block column k, from the left:
        for each block column j < k:
            A[:, k] <- Q_j^H A[:, k]
        A[k:, k] = Q_k R[k, k]

The tiles of a block column, from the diagonal down, are dealt out to `domains` in turn. The first
tile of a domain is its head, i:

    A[i, k] = Q_ii R_i
    [R_i; A[l, k]] = Q_lk [R_i; 0]         for each other tile l of the domain: a flat tree
    [R_a; R_b] = Q_ab [R_a; 0]             for the heads, in pairs, until one is left: a binary tree

With one domain all is one flat tree, whose tasks wait for each other. With several these run beside
each other, and of what is combined then only triangles travel. The flops are the same.

A reflector of a pair is the identity in the rows of the first R, so what is kept of it is as large
as what it has made zero: the tile, or R_b. Block reflectors I - V T V^H are `PANEL` columns wide.

References
----------
Demmel, Grigori, Hoemmen and Langou, SIAM J. Sci. Comput. 34 (2012) A206 (TSQR, its trees).
Buttari, Langou, Kurzak and Dongarra, Parallel Computing 35 (2009) 38 (tile QR, flat trees).
Bouwmeester, Jacquelin, Langou and Robert, SC 2011, Tiled QR factorization algorithms (flops and
critical paths of trees; domains).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .grid import Grid, extent
from .reflectors import (
    PANEL,
    apply_first,
    apply_pair,
    apply_tile,
    expand_pair,
    expand_tile,
    factor_match,
    factor_pair,
    factor_tile,
    identity,
    pair_workspace,
)
from .tasks import Key, Program, Tile

__all__ = ["Tree", "fewest_domains", "q_program", "qr_program", "task_count"]


@dataclass(frozen=True)
class Tree:
    """How the tiles of block column k, of so many block rows, are reduced to one triangle."""

    k: int
    rows: int
    domains: int

    @property
    def heads(self) -> range:
        """The first tile of each domain."""
        return range(self.k, min(self.k + self.domains, self.rows))

    def chain(self, head: int) -> range:
        """The other tiles of a domain."""
        return range(head + self.domains, self.rows, self.domains)

    @property
    def matches(self) -> list[tuple[int, int]]:
        """Heads (a, b) whose triangles are combined in that of a, in order."""
        found: list[tuple[int, int]] = []
        heads = list(self.heads)
        while len(heads) > 1:
            found += zip(heads[::2], heads[1::2], strict=False)
            heads = heads[::2]
        return found


class _Builder:
    """Programs on the tiles of a matrix and of its reflectors."""

    def __init__(self, grid: Grid, dtype: np.dtype[Any], domains: int) -> None:
        self.program = Program()
        self.dtype, self.domains = dtype, domains
        self.rows, self.columns = grid.rows, grid.columns
        self.factor = 4 if dtype.kind == "c" else 1

    def tree(self, k: int) -> Tree:
        return Tree(k, len(self.rows), self.domains)

    def tile(self, key: Key, *shape: int) -> Key:
        self.program.tiles[key] = Tile(shape, self.dtype)
        return key

    def add(self, kernel: Any, row: int, **parts: Any) -> None:
        """A task at home where its block row is."""
        parts["flops"] = self.factor * parts.get("flops", 0.0)
        parts["workspace"] = parts.get("workspace", 0) * self.dtype.itemsize
        home = row % self.domains if self.domains > 1 else None
        self.program.add(kernel, home=home, **parts)

    # -- factors --------------------------------------------------------------------------------

    def factorize(self, k: int) -> None:
        """A[k:, k] = Q_k R[k, k]"""
        results, width = self.program.results, extent(self.columns[k])
        tree = self.tree(k)
        for i in tree.heads:
            height = extent(self.rows[i])
            least = min(height, width)
            r = self.tile(("R", i, k), least, width)
            tau = self.tile(("tau", i, k), least)
            self.add(
                factor_tile, i, updates=(("QR", i, k),), writes=(tau, r),
                flops=2.0 * least**2 * (max(height, width) - least / 3),
                workspace=(height + 2 * min(PANEL, width)) * width,
            )  # fmt: skip
            results.update([("QR", i, k), tau, r])
            for below in tree.chain(i):
                height = extent(self.rows[below])
                t = self.tile(("T", below, k), min(PANEL, width), width)
                self.add(
                    factor_pair, below, updates=(r, ("QR", below, k)), writes=(t,),
                    flops=2.0 * height * width**2, workspace=pair_workspace(height, width, width),
                )  # fmt: skip
                results.update([("QR", below, k), t])
        for a, b in tree.matches:
            depth = self.program.tiles[("R", b, k)].shape[0]
            t = self.tile(("S", b, k), min(PANEL, width), width)
            self.add(
                factor_match, a, updates=(("R", a, k), ("R", b, k)), writes=(t,),
                flops=2.0 / 3.0 * depth * width**2, workspace=pair_workspace(depth, width, width),
            )  # fmt: skip
            results.add(t)

    # -- op(Q) C --------------------------------------------------------------------------------

    def reflect(self, j: int, column: list[Key]) -> None:
        """A[:, k] <- Q_j^H A[:, k]; the tile in block row j becomes that of R."""
        tree = self.tree(j)
        top: Key = ("R", j, column[j][2])
        self.tile(top, *self.program.tiles[column[j]].shape)
        self.program.results.add(top)
        above = {i: column[i] for i in tree.heads} | {j: top}
        for i in tree.heads:
            self._leaf(i, j, column[i], "C", top if i == j else None)
            for below in tree.chain(i):
                self._pair(("QR", below, j), ("T", below, j), above[i], column[below], "C", below)
        for a, b in tree.matches:
            self._pair(("R", b, j), ("S", b, j), above[a], column[b], "C", b)

    def unreflect(self, j: int, column: list[Key]) -> None:
        """C <- Q_j C"""
        tree = self.tree(j)
        for a, b in reversed(tree.matches):
            self._pair(("R", b, j), ("S", b, j), column[a], column[b], "N", b)
        for i in tree.heads:
            for below in reversed(tree.chain(i)):
                self._pair(("QR", below, j), ("T", below, j), column[i], column[below], "N", below)
            self._leaf(i, j, column[i], "N")

    def expand(self, j: int, column: list[Key], width: int) -> None:
        """C = Q_j E_j, E_j being the columns of the identity whose first row is block row j's.

        ("B", i), i the heads, are first what the tree makes of the identity: upper triangles.
        """
        tree, c = self.tree(j), column[j][2]
        top = {i: self.tile(("B", i, c), self._depth(i, j), width) for i in tree.heads}
        self.add(
            identity, j, writes=(top[j],),
            options={"shape": (self._depth(j, j), width), "dtype": self.dtype.char},
        )  # fmt: skip
        for a, b in reversed(tree.matches):
            self._pair(("R", b, j), ("S", b, j), top[a], top[b], "N", b, is_new=True)
        for i in tree.heads:
            for below in reversed(tree.chain(i)):
                self._pair(
                    ("QR", below, j), ("T", below, j), top[i], column[below], "N", below,
                    is_new=True,
                )  # fmt: skip
            height, least = extent(self.rows[i]), self._depth(i, j)
            self.add(
                expand_tile, i, reads=(("QR", i, j), ("tau", i, j), top[i]), writes=(column[i],),
                flops=4.0 * least * (height * width - (height + width) * least / 2 + least**2 / 3),
                workspace=height * (min(PANEL, least) + width) + min(PANEL, least) * width,
            )  # fmt: skip

    def _depth(self, i: int, j: int) -> int:
        """Rows of R in a tile of block column j."""
        return min(extent(self.rows[i]), extent(self.columns[j]))

    def _leaf(self, i: int, j: int, c: Key, trans: str, top: Key | None = None) -> None:
        height, width = self.program.tiles[c].shape
        least = self._depth(i, j)
        reads: tuple[Key, ...] = (("QR", i, j), ("tau", i, j))
        self.add(
            apply_tile if top is None else apply_first, i,
            reads=reads if top is None else (*reads, c), updates=(c,) if top is None else (),
            writes=() if top is None else (top,), options={"trans": trans},
            flops=2.0 * width * least * (2 * height - least),
            workspace=height * (least + width) + min(PANEL, least) * width,
        )  # fmt: skip

    def _pair(
        self, v: Key, t: Key, top: Key, c: Key, trans: str, row: int, *, is_new: bool = False
    ) -> None:
        (depth, across), width = self.program.tiles[v].shape, self.program.tiles[top].shape[1]
        # a triangle takes half of it, one that becomes a triangle again a half or a third of that
        share = (1 / 6 if is_new else 1 / 2) if v[0] == "R" else (1 / 2 if is_new else 1)
        self.add(
            expand_pair if is_new else apply_pair, row, reads=(v, t),
            updates=(top,) if is_new else (top, c), writes=(c,) if is_new else (),
            options={"is_triangle": v[0] == "R"} | ({} if is_new else {"trans": trans}),
            flops=4.0 * share * depth * across * width,
            workspace=2 * min(PANEL, across) * width,
        )  # fmt: skip


def fewest_domains(grid: Grid, dtype: np.dtype[Any], threads: int) -> int:
    """As many domains as let so many threads take the least time, by flops alone.

    That is as long as the longest chain of tasks, and at least as the share of a thread: where
    there are block columns enough to do at once, one domain, whose chains are shorter then.
    """
    best, least = 1, float("inf")
    counts = sorted({1, threads, *(2**i for i in range(1, threads.bit_length()))})
    for count in counts if threads > 1 else ():
        if count > max(1, len(grid.rows)):
            break
        program = qr_program(grid, dtype, count)
        time = max(program.longest_chain(), program.flops / threads)
        if time < least:
            best, least = count, time
    return best


def task_count(grid: Grid) -> int:
    """Of `qr_program`, with one domain."""
    rows, columns = len(grid.rows), len(grid.columns)
    return sum((rows - j) * (columns - j) for j in range(min(rows, columns)))


def qr_program(grid: Grid, dtype: np.dtype[Any], domains: int = 1) -> Program:
    """From the inputs ("QR", i, k), tiles of A: ("R", i, k), i <= k, those of R.

    Results are besides, for `q_program`: ("QR", i, k), i >= k, whose reflectors are below the
    diagonal of heads and in all of other tiles, with ("tau", i, k) or ("T", i, k); and
    ("R", i, k), i > k, the reflectors that combined triangles, with ("S", i, k).

    All tiles are as high as wide, but for the last, or there is one block column.
    """
    builder = _Builder(grid, dtype, domains)
    count = len(builder.rows)
    for k, across in enumerate(builder.columns):
        column: list[Key] = [
            builder.tile(("QR", i, k), extent(down), extent(across))
            for i, down in enumerate(builder.rows)
        ]
        for j in range(min(k, count)):
            builder.reflect(j, column)
        if k < count:
            builder.factorize(k)
    return builder.program


def q_program(grid: Grid, dtype: np.dtype[Any], factored: Program, domains: int = 1) -> Program:
    """("Q", i, c): the first min(m, n) columns of Q, with the results of `qr_program`.

    The tiles of its block columns are those of the square at the top of A.
    """
    builder = _Builder(grid, dtype, domains)
    program = builder.program
    program.tiles.update({key: factored.tiles[key] for key in factored.results})
    size = min(grid.shape)
    for c, across in enumerate(Grid((size, size), (grid.tile[1],) * 2).columns):
        width = extent(across)
        column: list[Key] = [
            builder.tile(("Q", i, c), extent(down), width) for i, down in enumerate(builder.rows)
        ]
        builder.expand(c, column, width)
        for j in reversed(range(c)):
            shape = program.tiles[column[j]].shape
            options = {"shape": shape, "dtype": dtype.char, "is_zero": True}
            builder.add(identity, j, writes=(column[j],), options=options)
            builder.unreflect(j, column)
        program.results.update(column)
    return program
