"""Corrections by left-preconditioned GMRES: M^-1 A d = M^-1 r, M the low-precision factors.

Several right-hand sides advance together, each in its own Krylov space; a column that has
converged is frozen, and the products A z and M^-1 z of the rest stay one call. Orthogonalisation
is classical Gram-Schmidt, twice (CGS2).

References
----------
Saad and Schultz, SIAM J. Sci. Stat. Comput. 7 (1986) 856.
Carson and Higham, SIAM J. Sci. Comput. 39 (2017) A2834 and 40 (2018) A817 (GMRES-IR).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..factor.blocks import column_scale
from ..ops.protocol import Array, Ops

Operator = Callable[[Array], Array]


@dataclass
class _Column:
    """The Krylov space of one right-hand side: basis, and least squares by Givens rotations."""

    basis: Array
    """(n, restart + 1), F-ordered; columns 0..size are filled."""
    residual_norm: float
    start_norm: float
    size: int = 0
    triangle: list[list[Any]] = field(default_factory=list)
    rotations: list[tuple[Any, Any]] = field(default_factory=list)
    rhs: list[Any] = field(default_factory=list)
    is_done: bool = False

    def append(self, h: list[Any]) -> None:
        """Rotate the new Hessenberg column `h` (size + 2 entries) into triangular form."""
        for i, (c, s) in enumerate(self.rotations):
            h[i], h[i + 1] = c * h[i] + s * h[i + 1], -np.conj(s) * h[i] + c * h[i + 1]
        a, b = h[-2], h[-1]
        length = math.hypot(abs(a), abs(b))
        if length == 0:
            c, s = 1.0, 0.0
        elif a == 0:
            c, s = 0.0, 1.0
        else:
            c = abs(a) / length
            s = (a / abs(a)) * np.conj(b) / length
        self.rotations.append((c, s))
        h[-2] = c * a + s * b
        self.triangle.append(h[:-1])
        last = self.rhs[-1]
        self.rhs[-1] = c * last
        self.rhs.append(-np.conj(s) * last)
        self.size += 1
        self.residual_norm = abs(self.rhs[-1])

    def coefficients(self) -> np.ndarray[Any, Any]:
        """y of the least-squares problem, by back substitution."""
        y = np.zeros(self.size, dtype=np.result_type(self.basis.dtype, np.float64))
        for i in range(self.size - 1, -1, -1):
            total = self.rhs[i] - sum(self.triangle[j][i] * y[j] for j in range(i + 1, self.size))
            pivot = self.triangle[i][i]
            y[i] = total / pivot if pivot != 0 else 0.0
        return y


@dataclass
class Gmres:
    """d = correct(r): GMRES for A d = r, restarted, many right-hand sides.

    Attributes
    ----------
    ops : Ops
    product : callable
        ``z -> A z``, shapes (n, k).
    precondition : callable
        ``z -> M^-1 z``.
    tol : float
        Reduction of the preconditioned residual at which a column is frozen.
    restart, max_restarts : int
    iterations : int
        Inner iterations so far (the most that any column took), summed over calls.
    reductions : list of float
        ||M^-1 (r - A d)|| / ||M^-1 r|| of the columns of the last call: at most `tol`, unless
        the restarts ran out. NaN where that is not finite.

    Notes
    -----
    Workspace: n (restart + 1) working-precision numbers a right-hand side; right-hand sides are
    taken `columns_at_once` at a time, which bounds it.
    """

    ops: Ops
    product: Operator
    precondition: Operator
    tol: float = 1e-4
    restart: int = 30
    max_restarts: int = 2
    columns_at_once: int = 8
    iterations: int = 0
    reductions: list[float] = field(default_factory=list)

    def __call__(self, r: Array) -> Array:
        d = self.ops.xp.zeros(r.shape, dtype=r.dtype, order="F")
        scale = column_scale(self.ops, r)
        r = r * scale
        most = 0
        self.reductions = []
        for start in range(0, r.shape[1], self.columns_at_once):
            part = slice(start, min(start + self.columns_at_once, r.shape[1]))
            most = max(most, self._solve(self.ops.xp.asfortranarray(r[:, part]), d[:, part]))
        self.iterations += most
        d /= scale
        return d

    def workspace_bytes(self, n: int, nrhs: int, itemsize: int) -> int:
        """Bytes of the bases held at once."""
        return min(nrhs, self.columns_at_once) * (self.restart + 1) * n * itemsize

    def _solve(self, r: Array, d: Array) -> int:
        """Cycles of GMRES for a few columns; returns inner iterations."""
        z = self.precondition(r)
        first_norms = self._norms(z)
        reductions = [0.0 if norm == 0 else math.nan for norm in first_norms]
        goals = [self.tol * norm for norm in first_norms]
        todo = [j for j, norm in enumerate(first_norms) if norm > 0 and math.isfinite(norm)]
        steps = 0
        for cycle in range(self.max_restarts + 1):
            if not todo:
                break
            if cycle:
                rest = self.ops.xp.asfortranarray(r[:, todo] - self.product(self._take(d, todo)))
                z_todo = self.precondition(rest)
            else:
                z_todo = self._take(z, todo)
            columns = [self._init(z_todo[:, i : i + 1]) for i in range(len(todo))]
            while not self._done(columns, [goals[j] for j in todo]):
                self._step(columns)
                steps += 1
            for j, column in zip(todo, columns, strict=True):
                d[:, j] += self._solution(column)
                reductions[j] = column.residual_norm / first_norms[j]
            todo = [
                j
                for j, column in zip(todo, columns, strict=True)
                if column.residual_norm > goals[j] and math.isfinite(column.residual_norm)
                and column.residual_norm < 0.5 * column.start_norm
            ]  # fmt: skip
        self.reductions += reductions
        return steps

    def _init(self, z: Array) -> _Column:
        n = z.shape[0]
        norm = self._norms(z)[0]
        basis = self.ops.xp.empty((n, self.restart + 1), dtype=z.dtype, order="F")
        basis[:, 0] = z[:, 0] / norm if norm > 0 else 0
        column = _Column(basis, norm, norm, rhs=[norm])
        column.is_done = not norm > 0
        return column

    def _step(self, columns: list[_Column]) -> None:
        """One Arnoldi step of every column that is not done."""
        xp = self.ops.xp
        going = [c for c in columns if not c.is_done]
        newest = xp.concatenate([c.basis[:, c.size : c.size + 1] for c in going], axis=1)
        w = self.precondition(self.product(xp.asfortranarray(newest)))
        for i, column in enumerate(going):
            v = column.basis[:, : column.size + 1]
            candidate = w[:, i : i + 1]
            h = xp.zeros((column.size + 1, 1), dtype=w.dtype, order="F")
            for _ in range(2):  # CGS2: w <- w - V (V^H w)
                overlap = xp.empty_like(h)
                self.ops.gemm(1.0, v, candidate, 0.0, overlap, transa="C")
                self.ops.gemm(-1.0, v, overlap, 1.0, candidate)
                h += overlap
            norm = self._norms(candidate)[0]
            breakdown = not norm > 0
            if not breakdown:
                column.basis[:, column.size + 1] = candidate[:, 0] / norm
            column.append([*h[:, 0].tolist(), norm])
            column.is_done = breakdown or not math.isfinite(column.residual_norm)

    def _done(self, columns: list[_Column], goals: list[float]) -> bool:
        for column, goal in zip(columns, goals, strict=True):
            if column.residual_norm <= goal or column.size >= self.restart:
                column.is_done = True
        return all(c.is_done for c in columns)

    def _solution(self, column: _Column) -> Array:
        if column.size == 0:
            return 0
        y = self.ops.xp.asarray(column.coefficients().astype(column.basis.dtype)[:, None])
        x = self.ops.xp.empty((column.basis.shape[0], 1), dtype=column.basis.dtype, order="F")
        self.ops.gemm(1.0, column.basis[:, : column.size], y, 0.0, x)
        return x[:, 0]

    def _take(self, x: Array, columns: list[int]) -> Array:
        return self.ops.xp.asfortranarray(x[:, columns])

    def _norms(self, x: Array) -> list[float]:
        squares = (x.real.astype(np.float64) ** 2).sum(axis=0)
        if x.dtype.kind == "c":
            squares = squares + (x.imag.astype(np.float64) ** 2).sum(axis=0)
        return [math.sqrt(s) if s == s else math.nan for s in squares.tolist()]
