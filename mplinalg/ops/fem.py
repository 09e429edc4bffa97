"""The verbs of finite elements: what a backend must be able to do for an operator on a mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = Any

__all__ = ["Discretization", "FemOps", "Prepared"]


@dataclass(frozen=True)
class Discretization:
    """What an element operator is made of, on a box of elements with tensor-product bases.

    Attributes
    ----------
    kind : {"mass", "diffusion"}
    cells : tuple of int
        Elements along x, y, z, as many as there are dimensions.
    components : int
    interp : ndarray, shape (q, n), or None
        From the nodes of an element to its quadrature points in one dimension; None if they are
        the same.
    slope : ndarray, shape (q, q)
        Differentiation of the polynomial that interpolates at the quadrature points.
    factors : callable
        Given an array of m numbers of elements, the factors at their quadrature points, shape
        ``(m, q**dim, count)``; x is the fastest of the points. One number for mass; for diffusion
        the upper triangle of a symmetric matrix by rows.
    is_uniform : bool
        All elements have the factors of element 0.
    """

    kind: str
    cells: tuple[int, ...]
    components: int
    interp: NDArray[np.float64] | None
    slope: NDArray[np.float64]
    factors: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    is_uniform: bool


class Prepared(Protocol):
    """An operator with its factors, ready to be applied. Arrays are contiguous, of its dtype."""

    def apply(self, u: Array, out: Array) -> None:
        """out <- A u on nodal values, shape (components, ndof)."""

    def apply_local(self, u: Array, out: Array) -> None:
        """out <- A_e u_e for every element, shape (nelem, components, n, ..., n)."""

    @property
    def nbytes(self) -> int:
        """Bytes of the factors."""

    @property
    def scratch_bytes(self) -> int:
        """Bytes that a product takes besides, about."""

    def factors(self, elements: NDArray[np.int64]) -> NDArray[Any]:
        """The factors of some elements as `Discretization.factors` gives them."""


class FemOps(Protocol):
    """A backend for finite elements."""

    @property
    def xp(self) -> Any:
        """The array namespace."""

    def prepare(self, problem: Discretization, dtype: np.dtype) -> Prepared:
        """Compute the factors and lay them out; kernels are compiled when they are first used."""

    def linear_operator(
        self, shape: tuple[int, int], product: Callable[[Array], Array], dtype: np.dtype
    ) -> Any:
        """A symmetric linear operator as iterative solvers for such arrays want it."""

    # Vectors are flat; sums are taken in double precision, in an order that is always the same.

    def dot(self, x: Array, y: Array) -> float:
        """x' y."""

    def descend(
        self, alpha: float, p: Array, q: Array, x: Array, r: Array, w: Array
    ) -> tuple[float, float]:
        """x += alpha p and r -= alpha q; returns r' r and r' diag(w) r."""

    def turn(self, beta: float, r: Array, w: Array, p: Array) -> None:
        """p <- diag(w) r + beta p."""
