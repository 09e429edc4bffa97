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
    f : float or callable
        A number, or a function of the coordinates, `dim` arrays of one shape, that returns an
        array of that shape; or with (ncomp,) before it, for a vector.

    Returns
    -------
    ndarray of float64, shape (ndof,) or (ncomp, ndof)

    Raises
    ------
    ValueError
        f returns another shape; or as `StructuredMesh.geometry`.
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
    for start in range(0, mesh.nelem, step):
        geometry = mapped.at(np.arange(start, min(start + step, mesh.nelem)))
        shape = geometry.weights.shape
        values = f(*np.moveaxis(geometry.points, 1, 0)) if callable(f) else f
        values = np.asarray(real_array(values, "f"), np.float64)
        if values.shape[1:] == shape:
            values = np.moveaxis(values, 0, 1)
        elif values.shape in ((), shape):
            values = np.broadcast_to(values, shape)[:, None]
        else:
            raise ValueError(f"f must return shape {shape} or (ncomp, ...), got {values.shape}")
        parts.append(basis.interp_t(values * geometry.weights[:, None]))
    return mesh.scatter(np.concatenate(parts), basis)
