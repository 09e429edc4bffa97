"""TensorBasis: interpolation and gradients on a cell, one dimension after another."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import lapack_dtype
from . import rules
from .product import Engine, as_array, engine_for

Array = Any

__all__ = ["TensorBasis"]

_RULES: dict[str, tuple[Callable[[int], rules.Rule], int]] = {
    "gauss": (rules.gauss, 1),
    "gll": (rules.gauss_lobatto, 2),
}
"""By name, with the fewest points that each has."""


class TensorBasis:
    """Tensor products of Lagrange polynomials on the cell [-1, 1]^dim, and a quadrature on it.

    Made by `TensorBasis.lagrange`. A function on a cell is given by its values u at the
    (p + 1)^dim nodes; `interp` and `grad` give its values and derivatives at the q^dim quadrature
    points, `interp_t` and `grad_t` are their transposes. All four are applied by sum
    factorization [1]_: one dimension at a time, as products with the 1-D matrices `B` and `D`.

    Attributes
    ----------
    dim : int
        1, 2 or 3.
    p, q : int
        Degree of the polynomials, and quadrature points in each dimension.
    B : ndarray, shape (q, p + 1)
        ``B[i, j]``: the Lagrange polynomial of node j at quadrature point i.
    D : ndarray, shape (q, p + 1)
        Its derivative there, d/dξ for ξ in [-1, 1].
    nodes, points, weights : ndarray
        The nodes, shape (p + 1,); the quadrature points and their weights, shape (q,). On [-1, 1],
        ascending; the weights sum to 2.
    is_collocated : bool
        Nodes and quadrature points are the same, so that B is the identity.

    Notes
    -----
    **Order of the axes.** u has the shape ``(nelem, ncomp, p + 1, ..., p + 1)``, and its last axis
    is x: in three dimensions ``u[e, c, k, j, i]`` is component c of cell e at the node
    ``(nodes[i], nodes[j], nodes[k])``, i along x, the fastest in memory, j along y, k along z.
    Quadrature points are in the same order. Component 0 of a gradient is d/dx, 1 is d/dy, 2 is
    d/dz: ``grad(u)[e, c, d, k, j, i]``.

    Derivatives are those on the cell [-1, 1]^dim; a mesh maps them to its cells.

    The numbers in B, D, nodes, points and weights are the floats nearest to the exact ones.

    References
    ----------
    .. [1] Orszag, J. Comput. Phys. 37 (1980) 70.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.fem import TensorBasis
    >>> basis = TensorBasis.lagrange(dim=2, p=2, q=3)
    >>> basis.nodes, basis.weights
    (array([-1.,  0.,  1.]), array([0.55555556, 0.88888889, 0.55555556]))

    The function x y^2 at the nodes of one cell, and its derivatives y^2 and 2 x y:

    >>> x, y = basis.nodes, basis.nodes[:, None]
    >>> slopes = basis.grad((x * y**2)[None, None])[0, 0]
    >>> x, y = basis.points, basis.points[:, None]
    >>> slopes.shape, np.allclose(slopes[0], y**2), np.allclose(slopes[1], 2 * x * y)
    ((2, 3, 3), True, True)
    """

    def __init__(
        self, dim: int, nodes: Array, points: Array, weights: Array, B: Array, D: Array
    ) -> None:
        self.dim, self.nodes, self.points, self.weights = dim, nodes, points, weights
        self.B, self.D = B, D
        self.p, self.q = len(nodes) - 1, len(points)
        self.is_collocated = bool(np.array_equal(nodes, points))
        self._cast: dict[Any, tuple[Array, Array]] = {}

    def __repr__(self) -> str:
        return f"TensorBasis(dim={self.dim}, p={self.p}, q={self.q})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cast": {}}

    @classmethod
    def lagrange(
        cls, dim: int, p: int, q: int, nodes: str = "gll", quadrature: str = "gauss"
    ) -> TensorBasis:
        """Lagrange polynomials of degree p in each of dim dimensions, and q^dim quadrature points.

        Parameters
        ----------
        dim : {1, 2, 3}
            Dimensions.
        p : int
            Degree, at least 1; at least 0 with Gauss nodes.
        q : int
            Quadrature points in each dimension: at least 1, with "gll" at least 2.
        nodes : {"gll", "gauss"}
            Gauss-Lobatto-Legendre nodes, of which some lie on the faces that cells share, or
            Gauss nodes, all inside.
        quadrature : {"gauss", "gll"}
            Gauss points integrate polynomials of degree 2 q - 1 exactly, Gauss-Lobatto-Legendre
            points those of degree 2 q - 3. With ``nodes="gll"``, ``quadrature="gll"`` and
            ``q == p + 1`` nodes and points are the same.

        Returns
        -------
        TensorBasis

        Raises
        ------
        ValueError
            Numbers that are too small, names that are not known.
        """
        _require_count("dim", dim, 1, 3)
        _require_choice("nodes", nodes)
        _require_choice("quadrature", quadrature)
        _require_count("p", p, _RULES[nodes][1] - 1, None, f" with nodes={nodes!r}")
        _require_count("q", q, _RULES[quadrature][1], None, f" with quadrature={quadrature!r}")
        return cls(int(dim), *_one_dimension(int(p), int(q), nodes, quadrature))

    def interp(self, u: Array) -> Array:
        """Interpolate to the quadrature points: B in each dimension.

        Parameters
        ----------
        u : ndarray, shape (nelem, ncomp, p + 1, ..., p + 1)
            Values at the nodes, dim axes of them, x the last; NumPy or CuPy.

        Returns
        -------
        ndarray, shape (nelem, ncomp, q, ..., q)
            In the dtype of u; float32 for half precision, float64 for integers and extended
            precision.

        Raises
        ------
        ValueError
            u has another shape.
        """
        engine, u, B, _ = self._operand(u, self.p + 1, "u", "nelem, ncomp")
        if B is None:
            return u.copy()
        for axis in range(self.dim):
            u = _along(engine, B, u, axis)
        return u

    def grad(self, u: Array) -> Array:
        """Differentiate at the quadrature points: D in one dimension, B in the others.

        Parameters
        ----------
        u : ndarray, shape (nelem, ncomp, p + 1, ..., p + 1)
            Values at the nodes, dim axes of them, x the last; NumPy or CuPy.

        Returns
        -------
        ndarray, shape (nelem, ncomp, dim, q, ..., q)
            The derivative by x first. Its dtype is that of `interp`.

        Raises
        ------
        ValueError
            u has another shape.
        """
        engine, u, B, D = self._operand(u, self.p + 1, "u", "nelem, ncomp")
        shape = (*u.shape[:2], self.dim, *(self.q,) * self.dim)
        slopes = engine.xp.empty(shape, u.dtype)
        # Of the dimensions before `axis` only the values are needed for later derivatives.
        differentiated: list[Array] = []
        for axis in range(self.dim):
            is_last = axis == self.dim - 1
            parts = []
            for d, part in enumerate([*differentiated, u]):
                out = slopes[:, :, d] if is_last else None
                parts.append(_along(engine, D if d == axis else B, part, axis, out=out))
            differentiated = parts
            if not is_last:
                u = _along(engine, B, u, axis)
        return slopes

    def interp_t(self, v: Array) -> Array:
        """Apply the transpose of `interp`.

        Parameters
        ----------
        v : ndarray, shape (nelem, ncomp, q, ..., q)
            Values at the quadrature points.

        Returns
        -------
        ndarray, shape (nelem, ncomp, p + 1, ..., p + 1)
            ``sum(interp(u) * v) == sum(u * interp_t(v))`` for all u and v.

        Raises
        ------
        ValueError
            v has another shape.
        """
        engine, v, B, _ = self._operand(v, self.q, "v", "nelem, ncomp")
        if B is None:
            return v.copy()
        for axis in reversed(range(self.dim)):
            v = _along(engine, B, v, axis, transpose=True)
        return v

    def grad_t(self, v: Array) -> Array:
        """Apply the transpose of `grad`.

        Parameters
        ----------
        v : ndarray, shape (nelem, ncomp, dim, q, ..., q)
            A vector at each quadrature point, its x component first.

        Returns
        -------
        ndarray, shape (nelem, ncomp, p + 1, ..., p + 1)
            ``sum(grad(u) * v) == sum(u * grad_t(v))`` for all u and v.

        Raises
        ------
        ValueError
            v has another shape.
        """
        engine, v, B, D = self._operand(v, self.q, "v", "nelem, ncomp, dim", self.dim)
        parts = [v[:, :, d] for d in range(self.dim)]
        total = None  # of the components that are differentiated by now
        for axis in reversed(range(self.dim)):
            slope = _along(engine, D, parts[axis], axis, transpose=True)
            if total is not None:
                slope += _along(engine, B, total, axis, transpose=True)
            total = slope
            parts = [_along(engine, B, part, axis, transpose=True) for part in parts[:axis]]
        return total

    def _operand(
        self, u: Array, n: int, name: str, leading: str, components: int | None = None
    ) -> tuple[Engine, Array, Array | None, Array]:
        """An array that is fit to compute with, and B and D beside it; None for an identity."""
        u = as_array(u, name)
        engine = engine_for(u)
        xp = engine.xp
        u = u.astype(_working(u.dtype, name), copy=False)
        tail = (*(() if components is None else (components,)), *(n,) * self.dim)
        if u.ndim != 2 + len(tail) or u.shape[2:] != tail:
            sizes = ", ".join(map(str, (n,) * self.dim))
            raise ValueError(f"Expected {name} of shape ({leading}, {sizes}), got {u.shape}")
        key = xp.__name__, u.dtype.char, getattr(u, "device", None)
        if key not in self._cast:
            self._cast[key] = xp.asarray(self.B, u.dtype), xp.asarray(self.D, u.dtype)
        B, D = self._cast[key]
        return engine, u, None if self.is_collocated else B, D


def _along(
    engine: Engine, matrix: Array | None, u: Array, axis: int, *, transpose: bool = False,
    out: Array | None = None,
) -> Array:  # fmt: skip
    """The product of a matrix (None: the identity) with u along `axis`, 0 for x, the last."""
    if matrix is None:
        if out is None:
            return u
        out[...] = u
        return out
    if transpose:
        matrix = matrix.T
    m, n = matrix.shape
    position = u.ndim - 1 - axis
    lead, trail = u.shape[:position], u.shape[position + 1 :]
    if axis == 0:  # one product for all cells
        target = None if out is None else out.reshape(-1, m)
        v = engine.gemm(u.reshape(-1, n), matrix.T, out=target)
    else:
        size = math.prod(trail)
        target = None if out is None else out.reshape(-1, m, size)
        v = engine.gemm(matrix, u.reshape(-1, n, size), out=target)
    return v.reshape(*lead, m, *trail)


@functools.lru_cache(maxsize=64)
def _one_dimension(p: int, q: int, nodes: str, quadrature: str) -> tuple[NDArray[np.float64], ...]:
    """Nodes, points, weights, B and D."""
    at, _ = _RULES[nodes][0](p + 1)
    points, weights = _RULES[quadrature][0](q)
    values, slopes = rules.lagrange(at, points)
    return tuple(map(rules.to_floats, (at, points, weights, values, slopes)))


def _working(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """float32, float64, complex64 or complex128."""
    if dtype.kind not in "biufc":
        raise TypeError(f"{name} must be numeric, got dtype {dtype}")
    return lapack_dtype(dtype)


def _require_count(name: str, value: Any, least: int, most: int | None, why: str = "") -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least or (most is not None and value > most):
        limit = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} must be {limit}{why}, got {value}")


def _require_choice(name: str, value: Any) -> None:
    if not isinstance(value, str) or value not in _RULES:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, _RULES))}; got {value!r}")
