"""Tells singular matrices from others by a random right-hand side.

The factors of a singular A in low precision look like those of a matrix with a condition number
near 1 / u_f, and corrections contract for every b in the range of A. A random z has a component
outside that range, which M^-1 blows up along the null vector and no correction reduces.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..ops.protocol import Array
from .gmres import Gmres
from .system import Factors, LinearSystem

__all__ = ["Probe"]

_CONTRACTS = 0.5
"""Corrections of a random right-hand side that contract by this show that A is regular."""
_STEPS = 8
"""Corrections within which it must: singular matrices never get there, slow ones do."""
_CORRECTIONS = 3


class Probe:
    """A random right-hand side z of a system, solved with its factors.

    Where passes over A and its factors are what costs, z goes with b through the first solve, the
    first residual and the first correction: `first_solve`, `residual` and `correct` then stand in
    for those of the refinement.

    Attributes
    ----------
    factors : Factors
    inner_iterations : int
        Of the GMRES that was needed.
    """

    def __init__(self, system: LinearSystem, factors: Factors) -> None:
        self.system, self.factors = system, factors
        self.inner_iterations = 0
        self._y: Array | None = None
        self._r: Array | None = None
        self._d: Array | None = None

    def first_solve(self) -> Array:
        """x = M^-1 b, and y = M^-1 z with it."""
        x, self._y = self._solve_with(self.system.b, self._noise())
        return x

    def residual(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array | None]:
        """`LinearSystem.residual`; with the first one, z - A y."""
        if self._r is not None:
            return self.system.residual(x, columns)
        assert self._y is not None
        r, d, product = self.system.residual_and_product(x, columns, self._y)
        self._r = self._noise() - product
        return r, d

    def correct(self, r: Array) -> Array:
        """M^-1 r; with the first one, that of the residual of y."""
        if self._d is not None:
            return self.system.timed_solve(self.factors, r)
        assert self._r is not None
        d, self._d = self._solve_with(r, self._r)
        return d

    def shows_regular(self, *, by_gmres: bool) -> bool:
        """Whether the corrections of z contract, too.

        By the method that delivered x: two solves and a product for classical refinement; a GMRES
        for GMRES-IR, whose factors say less about A: neither that it is positive definite, nor, by
        the size of its corrections, how accurate x is.
        """
        system, ops = self.system, self.system.ops
        z = self._noise()
        y = system.timed_solve(self.factors, z) if self._y is None else self._y
        r = z - system.product(y) if self._r is None else self._r
        size, last = ops.amax(y), math.inf
        for step in range(_STEPS):
            known = self._d if step == 0 else None
            d = system.timed_solve(self.factors, r) if known is None else known
            moved = ops.amax(d)
            if moved <= _CONTRACTS * size:
                return True
            if not moved < last:
                break
            last = moved
            y = ops.xp.asfortranarray(y + d)
            r = z - system.product(y)
        if not by_gmres or self.factors.method == "Cholesky" or system.extended:
            return False
        return self._contracts_by_gmres(z, y, r)

    def _contracts_by_gmres(self, z: Array, y: Array, r: Array) -> bool:
        system, ops = self.system, self.system.ops
        inner = Gmres(
            ops, system.product, lambda v: system.timed_solve(self.factors, v, upcast=True)
        )
        for _ in range(_CORRECTIONS):
            y = ops.xp.asfortranarray(y + inner(r))
            r = z - system.product(y)
            if not max(inner.reductions) <= inner.tol or ops.amax(r) <= _CONTRACTS * ops.amax(z):
                break
        self.inner_iterations += inner.iterations
        kappa = system.norm_a * ops.amax(y) / ops.amax(z)  # at least so large
        return bool(
            ops.amax(r) <= _CONTRACTS * ops.amax(z)
            and kappa * system.unit_roundoff * math.sqrt(system.n) <= _CONTRACTS
        )

    def _solve_with(self, b: Array, z: Array) -> tuple[Array, Array]:
        """M^-1 [b z], in two parts."""
        xp = self.system.ops.xp
        both = xp.empty((b.shape[0], b.shape[1] + 1), b.dtype, order="F")
        both[:, :-1], both[:, -1:] = b, z
        x = self.system.timed_solve(self.factors, both)
        return x[:, :-1], x[:, -1:]

    def _noise(self) -> Array:
        """z. Its seed follows the data: the same call repeats itself, no matrix fits all."""
        system = self.system
        total = np.float64(abs(complex(system.b.sum())))
        seed = (system.n, int(total.view(np.uint64)))
        noise = np.random.default_rng(seed).standard_normal((system.n, 1))
        xp = system.ops.xp
        return xp.asfortranarray(xp.asarray(noise).astype(system.b.dtype))
