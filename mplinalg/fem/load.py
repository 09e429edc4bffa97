"""Load vectors: functions integrated against every basis function, over cells and over sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.array_fem import from_elements, to_elements
from .basis import TensorBasis
from .mesh import StructuredMesh
from .product import real_array

__all__ = ["boundary_load", "load_vector"]

_CHUNK = 2**20
"""Quadrature points at once."""


def load_vector(mesh: StructuredMesh, basis: TensorBasis, f: Any) -> NDArray[np.float64]:
    """b_i = ∫ f φ_i, by the quadrature of the basis.

    Parameters
    ----------
    mesh : StructuredMesh
    basis : TensorBasis
    f : float, array, or callable
        A number, or one for each component; values at the quadrature points, shape
        ``(nelem, q, ..., q)``; or a function of the coordinates, `dim` arrays of one shape, that
        returns an array of that shape. For a vector with (ncomp,) before it.

    Returns
    -------
    ndarray of float64, shape (ndof,) or (ncomp, ndof)

    Raises
    ------
    ValueError
        f is, or returns, an array of another shape; or as `StructuredMesh.geometry`.
    TypeError
        f is complex, or not numeric.

    Examples
    --------
    The load of 1 sums up to the volume:

    >>> from mplinalg.fem import StructuredMesh, TensorBasis, load_vector
    >>> b = load_vector(StructuredMesh(2, 3), TensorBasis.lagrange(dim=2, p=2, q=3), 1.0)
    >>> b.shape, round(float(b.sum()), 12)
    ((49,), 1.0)
    """
    mapped = mesh.mapped(basis)
    step = max(1, _CHUNK // basis.q**mesh.dim)
    parts = []
    given = f if callable(f) else _at_points(f, (mesh.nelem, *(basis.q,) * mesh.dim))
    for start in range(0, mesh.nelem, step):
        geometry = mapped.at(np.arange(start, min(start + step, mesh.nelem)))
        if callable(given):
            values = _of_function(given, geometry.points, "f")
        else:
            values = given[:, start : start + step]
        values = np.moveaxis(values, 0, 1)
        parts.append(basis.interp_t(values * geometry.weights[:, None]))
    return mesh.scatter(np.concatenate(parts), basis)


def boundary_load(
    mesh: StructuredMesh, basis: TensorBasis, g: Any, sides: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """b_i = ∫ g φ_i over sides of the mesh: fluxes, or forces, that are given there.

    Parameters
    ----------
    mesh : StructuredMesh
    basis : TensorBasis
        In each of the dimensions of a side its quadrature is used.
    g : float, array, or callable
        A number, or one for each component; or a function of the coordinates, `dim` arrays of one
        shape, that returns an array of that shape, or with (ncomp,) before it for a vector.
    sides : sequence of str, optional
        As of `StructuredMesh.boundary`; by default all of them.

    Returns
    -------
    ndarray of float64, shape (ndof,) or (ncomp, ndof)

    Raises
    ------
    ValueError
        g is, or returns, an array of another shape; a side that there is not.
    TypeError
        g is complex, or not numeric.

    Notes
    -----
    For ``-∇·K∇u = f`` with ``n·K∇u = g`` on the boundary, or on the sides where u is not given, the
    right-hand side is ``load_vector(mesh, basis, f) + boundary_load(mesh, basis, g, sides)``.

    Examples
    --------
    The length of the outer arc of a quarter of a ring, and of all of its boundary:

    >>> import numpy as np
    >>> from mplinalg.fem import StructuredMesh, TensorBasis, boundary_load
    >>> def ring(r, phi):
    ...     return (1 + r) * np.cos(phi), (1 + r) * np.sin(phi)
    >>> mesh = StructuredMesh(2, 4, lengths=(1, np.pi / 2), mapping=ring)
    >>> basis = TensorBasis.lagrange(dim=2, p=4, q=5)
    >>> outer, whole = boundary_load(mesh, basis, 1.0, ["+x"]), boundary_load(mesh, basis, 1.0)
    >>> round(float(outer.sum()), 6), round(float(whole.sum()), 6)
    (3.141593, 6.712389)
    """
    shape = mesh.node_shape(basis)
    grid = mesh.coordinates(basis).reshape(mesh.dim, *shape)
    total: Any = None
    for side in mesh.sides(sides):
        load = _side_load(mesh, basis, g, side.axis, grid[(slice(None), *side.place)])
        if total is None:
            total = np.zeros((len(load), *shape))
        if len(load) != len(total):
            raise ValueError(
                f"g has {len(total)} components on one side and {len(load)} on another"
            )
        total[(slice(None), *side.place)] += load
    if total is None:
        raise ValueError("sides must name one at least")
    total = total.reshape(len(total), -1)
    return total[0] if len(total) == 1 else total


def _side_load(mesh: StructuredMesh, basis: TensorBasis, g: Any, axis: int, nodes: Any) -> Any:
    """On the nodes of a side, whose coordinates are given: shape (ncomp, ...)."""
    if mesh.dim == 1:  # a point
        return _on_side(g, nodes.reshape(1, 1))[:, 0]
    flat = TensorBasis(mesh.dim - 1, basis.nodes, basis.points, basis.weights, basis.B, basis.D)
    cells = tuple(n for k, n in enumerate(mesh.cells) if k != axis)
    local = to_elements(np, nodes.reshape(mesh.dim, -1), cells, basis.p + 1)
    slopes = flat.grad(local)
    normal = slopes[:, :, 0]
    if mesh.dim == 3:
        normal = np.cross(normal, slopes[:, :, 1], axis=1)
    area = np.linalg.norm(normal, axis=1) * basis.weights
    if mesh.dim == 3:
        area *= basis.weights[:, None]
    values = np.moveaxis(_on_side(g, flat.interp(local)), 0, 1)
    load = from_elements(np, flat.interp_t(values * area[:, None]), cells)
    return load.reshape(-1, *nodes.shape[1:])


def _on_side(g: Any, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at points of shape (m, dim, ...), shape (ncomp, m, ...)."""
    if callable(g):
        return _of_function(g, points, "g")
    values, shape = np.asarray(real_array(g, "g"), np.float64), points[:, 0].shape
    if values.ndim > 1 or not values.size:
        raise ValueError(f"g must be a number, one for each component, or a function; got {g!r}")
    values = np.atleast_1d(values)
    return np.broadcast_to(values.reshape(-1, *[1] * len(shape)), (values.size, *shape))


def _of_function(f: Any, points: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Values at points of shape (m, dim, ...), shape (ncomp, m, ...)."""
    shape = points[:, 0].shape
    values = np.asarray(real_array(f(*np.moveaxis(points, 1, 0)), name), np.float64)
    if values.shape in ((), shape):
        return np.broadcast_to(values, shape)[None]
    if values.shape[1:] != shape:
        raise ValueError(f"{name} must return shape {shape} or (ncomp, ...), got {values.shape}")
    return values


def _at_points(f: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Values that are given, with the components before `shape`."""
    values = np.asarray(real_array(f, "f"), np.float64)
    if values.ndim == 1 and values.size:
        return np.broadcast_to(values[:, *[None] * len(shape)], (values.size, *shape))
    if values.shape in ((), shape):
        return np.broadcast_to(values, shape)[None]
    if values.shape[1:] != shape:
        raise ValueError(f"f must be of shape {shape} or (ncomp, ...), got {values.shape}")
    return values
