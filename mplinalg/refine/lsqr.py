"""LSQR: min ||f - B z|| for several right-hand sides at once, B given by its products.

Reference: Paige and Saunders, ACM Trans. Math. Softw. 8 (1982) 43, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..ops.protocol import Array


@dataclass(frozen=True)
class LsqrResult:
    """z, the iterations taken, and ||B^H (f - B z)|| of each column relative to its start."""

    z: Array
    iterations: int
    reduction: Array


def lsqr(
    xp: Any,
    matvec: Callable[[Array], Array],
    rmatvec: Callable[[Array], Array],
    f: Array,
    *,
    tol: float,
    max_iter: int,
) -> LsqrResult:
    """Minimise ||f - B z|| for each column of f, from z = 0.

    Parameters
    ----------
    matvec, rmatvec : callable
        v -> B v and u -> B^H u on matrices of columns; they return new arrays.
    f : array, shape (m, k)
        Not changed.
    tol : float
        A column is finished when ||B^H (f - B z)|| has fallen to tol times its start.
    max_iter : int
        Iterations, each one product with B and one with B^H for all columns.

    Notes
    -----
    Columns share their products with B and nothing else. A column that is finished keeps its z.
    """
    beta = xp.linalg.norm(f, axis=0)
    u = f * _inverse(xp, beta)
    v = rmatvec(u)
    alpha = xp.linalg.norm(v, axis=0)
    v *= _inverse(xp, alpha)
    w = v.copy()
    z = xp.zeros_like(v)
    phibar, rhobar = beta, alpha
    start = alpha * beta
    gradient = start
    active = start > 0
    iterations = 0
    while iterations < max_iter and bool(active.any()):
        iterations += 1
        # beta u <- B v - alpha u,  alpha v <- B^H u - beta v
        u *= -alpha
        u += matvec(v)
        beta = xp.linalg.norm(u, axis=0)
        u *= _inverse(xp, beta)
        v *= -beta
        v += rmatvec(u)
        alpha = xp.linalg.norm(v, axis=0)
        v *= _inverse(xp, alpha)
        # a plane rotation removes beta from the bidiagonal matrix
        rho = xp.hypot(rhobar, beta)
        c, s = rhobar * _inverse(xp, rho), beta * _inverse(xp, rho)
        theta, rhobar = s * alpha, -c * alpha
        phi, phibar = c * phibar, s * phibar
        z += w * xp.where(active, phi * _inverse(xp, rho), 0)
        w *= -theta * _inverse(xp, rho)
        w += v
        gradient = xp.where(active, phibar * alpha * abs(c), gradient)
        active = active & (gradient > tol * start)
    return LsqrResult(z, iterations, gradient * _inverse(xp, start))


def _inverse(xp: Any, x: Array) -> Array:
    """1 / x, and 0 for 0: a bidiagonalisation that ends has nothing to add."""
    return xp.where(x > 0, 1 / xp.where(x > 0, x, 1), xp.where(x == 0, 0, x))
