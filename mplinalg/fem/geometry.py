"""Isoparametric elements: quadrature on them, and the factors that operators are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basis import TensorBasis
from .product import real_array

Array = Any
Floats = NDArray[np.float64]

__all__ = ["Coefficient", "Geometry", "Mapped"]


@dataclass(frozen=True)
class Geometry:
    """What integrals over mapped elements need at their quadrature points.

    Attributes
    ----------
    points : ndarray, shape (nelem, dim, q, ..., q)
        Where the points are.
    weights : ndarray, shape (nelem, q, ..., q)
        Quadrature weights times the determinant of the Jacobian: the integral of f is
        ``sum(weights * f)``.
    inverse : ndarray, shape (nelem, dim, dim, q, ..., q)
        ``inverse[e, a, b]`` is dξ_a / dx_b.
    """

    points: Floats
    weights: Floats
    inverse: Floats

    def gradient(self, slopes: Array) -> Array:
        """Gradient in space from that on the cell, as `TensorBasis.grad` gives it.

        Parameters
        ----------
        slopes : ndarray, shape (nelem, ncomp, dim, q, ..., q)
            Derivatives by ξ.

        Returns
        -------
        ndarray, shape (nelem, ncomp, dim, q, ..., q)
            Derivatives by x, y, z.
        """
        return np.einsum("eca...,eab...->ecb...", slopes, self.inverse)


class Mapped:
    """The elements of a mesh with the nodes of a basis, of which `Geometry` is computed.

    Parameters
    ----------
    nodes : ndarray, shape (dim, nz, ny, nx, n, n, n)
        Coordinates of the nodes of all elements, in three dimensions; nx cells along x.
    basis : TensorBasis
    """

    def __init__(self, nodes: Floats, basis: TensorBasis) -> None:
        self.basis = basis
        self._nodes, self._cells = nodes, nodes.shape[1 : 1 + basis.dim]
        weights = basis.weights
        self._weights = weights
        for _ in range(basis.dim - 1):
            self._weights = np.multiply.outer(self._weights, weights)

    def at(self, elements: NDArray[np.integer]) -> Geometry:
        """Geometry of some elements."""
        places: tuple[Any, ...] = np.unravel_index(elements, self._cells)
        nodes = np.moveaxis(self._nodes[(slice(None), *places)], 0, 1)
        # J[e, a, b] = dx_a / dξ_b
        jacobian = self.basis.grad(nodes)
        determinant, adjugate = _adjugate(jacobian)
        noise = self._noise(nodes, jacobian)
        bad = ~(determinant > noise.reshape(-1, *(1,) * self.basis.dim))
        if bad.any():
            self._complain(elements, determinant, bad)
        weights = self._weights * determinant
        inverse = adjugate / determinant[:, None, None]
        return Geometry(self.basis.interp(nodes), weights, inverse)

    def _noise(self, nodes: Floats, jacobian: Floats) -> Floats:
        """What rounding alone may make of the determinant of each element, were it zero."""
        basis, dim = self.basis, self.basis.dim
        slope, value = (abs(matrix).sum(axis=1).max() for matrix in (basis.D, basis.B))
        axes = tuple(range(2, nodes.ndim))
        # |dJ[a, b]| <= n eps Λ max |x_a|: sums of n = dim (p + 1) terms, and x itself is rounded
        eps = np.finfo(np.float64).eps
        error = (dim * (basis.p + 1) + 1) * eps * slope * value ** (dim - 1)
        with np.errstate(over="ignore", invalid="ignore"):  # then no determinant is larger
            entries = abs(jacobian).max(axis=tuple(range(3, jacobian.ndim)))
            moved = entries + error * abs(nodes).max(axis=axes)[:, :, None]
            noise = _permanent(moved) - (1 - 2 * dim * eps) * _permanent(entries)
        return np.maximum(noise, np.finfo(np.float64).tiny)

    def _complain(self, elements: NDArray[np.integer], determinant: Floats, bad: Array) -> None:
        worst = int(np.argmax(bad.reshape(len(elements), -1).any(axis=1)))
        number = int(elements[worst])
        cell = tuple(int(k) for k in np.unravel_index(number, self._cells))[::-1]
        value = determinant[worst][bad[worst]].flat[0]
        if value <= 0:
            does, wanted = "folds", "must be positive"
        elif value < math.inf:
            does, wanted = "flattens", "that is not more than rounding errors"
        else:
            does, wanted = "overflows in", "must be finite"
        raise ValueError(
            f"the mapping {does} element {number}, cell {cell}: its Jacobian determinant is "
            f"{value:.3g} at a quadrature point, and {wanted}"
        )


def _adjugate(j: Floats) -> tuple[Floats, Floats]:
    """det J, shape (m, ...), and the adjugate, det J J^-1, of J, shape (m, dim, dim, ...)."""
    dim = j.shape[1]
    adjugate = np.empty_like(j)
    if dim == 1:
        adjugate[...] = 1.0
    elif dim == 2:
        adjugate[:, 0, 0], adjugate[:, 0, 1] = j[:, 1, 1], -j[:, 0, 1]
        adjugate[:, 1, 0], adjugate[:, 1, 1] = -j[:, 1, 0], j[:, 0, 0]
    else:
        for a in range(3):
            for b in range(3):  # cyclic indices take care of the signs
                r, s = (b + 1) % 3, (b + 2) % 3
                t, u = (a + 1) % 3, (a + 2) % 3
                adjugate[:, a, b] = j[:, r, t] * j[:, s, u] - j[:, r, u] * j[:, s, t]
    # det J = sum_b adj[0, b] J[b, 0]
    return np.einsum("eb...,eb...->e...", adjugate[:, 0], j[:, :, 0]), adjugate


def _permanent(j: Floats) -> Floats:
    """The determinant of j, shape (m, dim, dim), were all its signs positive."""
    if j.shape[1] == 1:
        return j[:, 0, 0]
    others = range(j.shape[1])
    minors = [_permanent(j[:, 1:, [c for c in others if c != b]]) for b in others]
    return np.sum([j[:, 0, b] * minor for b, minor in enumerate(minors)], axis=0)


class Coefficient:
    """A coefficient at quadrature points: a number, an array, or a function of the coordinates.

    Parameters
    ----------
    given : float, array, or callable
        An array has the shape ``(nelem, q, ..., q)`` or, where tensors are allowed,
        ``(nelem, dim, dim, q, ..., q)``, or ``(dim, dim)`` for a constant tensor. A callable gets
        the coordinates, `dim` arrays of one shape, and returns an array of that shape, or with
        (dim, dim) before it.
    nelem, basis
    tensors : bool
    """

    def __init__(self, given: Any, nelem: int, basis: TensorBasis, *, tensors: bool) -> None:
        self.dim, self._tensors = basis.dim, tensors
        self._function: Callable[..., Any] | None = given if callable(given) else None
        self._values: Any = None
        self.is_constant = False
        if self._function is not None:
            return
        self._values = _floats(given)
        points, tensor = (basis.q,) * self.dim, (self.dim,) * 2
        constant: list[tuple[int, ...]] = [(), tensor] if tensors else [()]
        varying: list[tuple[int, ...]] = [(nelem, *points)]
        varying += [(nelem, *tensor, *points)] if tensors else []
        if self._values.shape not in constant + varying:
            shapes = ", ".join(map(str, constant[1:] + varying))
            raise ValueError(
                f"coefficient must be a number, a function, or an array of shape {shapes}; got "
                f"{self._values.shape}"
            )
        self.is_constant = self._values.shape not in varying

    def at(self, elements: NDArray[np.integer], points: Floats) -> Floats:
        """Values at the points of some elements, shape (m, ...) or (m, dim, dim, ...)."""
        m, where = len(elements), points.shape[2:]
        tensor = (self.dim, self.dim)
        if self._function is not None:
            values = _floats(self._function(*np.moveaxis(points, 1, 0)))
            shape = (m, *where)
            if self._tensors and values.shape == (*tensor, *shape):
                values = np.moveaxis(values, 2, 0)
            elif values.shape in ((), shape):
                values = np.broadcast_to(values, shape)
            else:
                wanted = f"{shape} or {(*tensor, *shape)}" if self._tensors else f"{shape}"
                raise ValueError(f"coefficient must return shape {wanted}, got {values.shape}")
        elif self.is_constant:
            shape = self._values.shape
            values = self._values.reshape(1, *shape, *(1,) * len(where))
            values = np.broadcast_to(values, (m, *shape, *where))
        else:
            values = self._values[elements]
        if not np.isfinite(values).all():
            raise ValueError("the coefficient must be finite; it holds NaN or infinity")
        if values.ndim > 1 + len(where):
            skew = abs(values - np.swapaxes(values, 1, 2)).max()
            if skew > 8 * np.finfo(float).eps * abs(values).max():
                raise ValueError(f"a tensor coefficient must be symmetric; K - K' is {skew:.3g}")
        return values


def _floats(given: Any) -> Floats:
    return np.asarray(real_array(given, "coefficient"), np.float64)
