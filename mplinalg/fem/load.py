"""The load vector: a function integrated against every basis function."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basis import TensorBasis
from .mesh import StructuredMesh
from .product import real_array

__all__ = ["load_vector"]

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
        shape = geometry.weights.shape
        if callable(given):
            values = given(*np.moveaxis(geometry.points, 1, 0))
            values = np.asarray(real_array(values, "f"), np.float64)
        else:
            values = given[:, start : start + step]
        if values.shape[1:] == shape:
            values = np.moveaxis(values, 0, 1)
        elif values.shape in ((), shape):
            values = np.broadcast_to(values, shape)[:, None]
        else:
            raise ValueError(f"f must return shape {shape} or (ncomp, ...), got {values.shape}")
        parts.append(basis.interp_t(values * geometry.weights[:, None]))
    return mesh.scatter(np.concatenate(parts), basis)


def _at_points(f: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Values that are given, with the components before `shape`."""
    values = np.asarray(real_array(f, "f"), np.float64)
    if values.ndim == 1:
        return np.broadcast_to(values[:, *[None] * len(shape)], (values.size, *shape))
    if values.shape in ((), shape):
        return np.broadcast_to(values, shape)[None]
    if values.shape[1:] != shape:
        raise ValueError(f"f must be of shape {shape} or (ncomp, ...), got {values.shape}")
    return values
