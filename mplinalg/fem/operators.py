"""Mass and diffusion operators, and the bake-off problems that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..ops import ops_for
from .basis import TensorBasis
from .geometry import Geometry
from .mesh import StructuredMesh
from .sums import Summand

Array = Any

__all__ = ["DiffusionOperator", "MassOperator", "bake_off"]


class MassOperator(Summand):
    """A_ij = ∫ c φ_i φ_j, applied without a matrix.

    Parameters
    ----------
    mesh : StructuredMesh
    basis : TensorBasis
        Of the same dimension, with ``nodes="gll"`` and at least p + 1 quadrature points.
    coefficient : float, array, or callable
        c: a number, values at the quadrature points, shape ``(nelem, q, ..., q)``, or a function
        of the coordinates, `dim` arrays of one shape, that returns an array of that shape.
    components : int
        u is a vector of so many components, on each of which A acts.
    dirichlet : "boundary" or array_like of int, optional
        Nodes at which u is given: rows and columns of A are there those of the identity. All on
        the boundary of the mesh, or their numbers, or a bool for each node.
    dtype : {float64, float32}
        What is computed in. The geometry is computed in double precision.
    device : {"cpu", "cuda"}
        Where the operator is applied: to arrays of NumPy, or to those of CuPy on the device that is
        current now. The geometry is computed on the CPU, and the factors are moved.

    Attributes
    ----------
    mesh, basis, components, dtype, device
        As given.
    shape : (int, int)
        ``components * ndof``, twice.
    ndof : int
        Nodes of the mesh.
    fixed : ndarray of int, or None
        Nodes at which u is given.
    nbytes : int
        Of the factors at the quadrature points.

    Raises
    ------
    ValueError
        Too few quadrature points, a basis that is not continuous, arrays of wrong shapes, a
        mapping with a Jacobian determinant that is not positive, or nothing but rounding errors
        (naming the element), a coefficient with NaN or infinity, or with which the factors are out
        of the range of `dtype`.
    TypeError
        A coefficient that is complex, or not numeric; another dtype.

    Notes
    -----
    A u is the sum over the elements of ``B' W B u``: the values u at the nodes of an element are
    interpolated by B to its quadrature points and weighted there by ``w det(J) c``, one number for
    each point. By sum factorization [1]_ the work for each node grows like p; that of a matrix
    grows like p^dim.

    Results are the same bits for every number of threads, which is that of SciPy's BLAS. On a
    device they are the same bits every time, too: what elements have for the nodes that they share
    is written beside the result, and summed up in a second pass.

    References
    ----------
    .. [1] Orszag, J. Comput. Phys. 37 (1980) 70.

    Examples
    --------
    The integral of 1 over a quarter of a ring, by its nodes:

    >>> import numpy as np
    >>> from mplinalg.fem import MassOperator, StructuredMesh, TensorBasis
    >>> def ring(r, phi):
    ...     return (1 + r) * np.cos(phi), (1 + r) * np.sin(phi)
    >>> mesh = StructuredMesh(2, 4, lengths=(1, np.pi / 2), mapping=ring)
    >>> mass = MassOperator(mesh, TensorBasis.lagrange(dim=2, p=4, q=5))
    >>> ones = np.ones(mass.ndof)
    >>> round(float(ones @ (mass @ ones)), 8), round(3 * np.pi / 4, 8)
    (2.35619449, 2.35619449)
    """

    _kind = "mass"
    _tensors = False

    @staticmethod
    def _factors(geometry: Geometry, coefficient: Array) -> Array:
        return geometry.weights * coefficient

    def _squares(self, factors: Array) -> Array:
        return _transposed([self.basis.B**2] * self.mesh.dim, factors[..., 0])


class DiffusionOperator(Summand):
    """A_ij = ∫ ∇φ_i · K ∇φ_j, applied without a matrix.

    Parameters
    ----------
    mesh : StructuredMesh
    basis : TensorBasis
        Of the same dimension, with ``nodes="gll"`` and at least p + 1 quadrature points.
    coefficient : float, array, or callable
        K, a number or a symmetric tensor: constant, shape ``(dim, dim)``; at the quadrature
        points, shape ``(nelem, q, ..., q)`` or ``(nelem, dim, dim, q, ..., q)``; or a function of
        the coordinates, `dim` arrays of one shape, that returns an array of that shape, of a
        tensor with (dim, dim) before it.
    components : int
    dirichlet : "boundary" or array_like of int, optional
    dtype : {float64, float32}
    device : {"cpu", "cuda"}
        As of `MassOperator`. Without fixed nodes A is singular: constants are in its null space.

    Attributes
    ----------
    mesh, basis, components, dtype, device, shape, ndof, fixed, nbytes
        As of `MassOperator`.

    Raises
    ------
    ValueError, TypeError
        As `MassOperator`; ValueError also for a tensor that is not symmetric. That K is positive is
        not tested.

    Notes
    -----
    In the notation of `MassOperator`, A u is the sum over the elements of ``B' D' G D B u``, where
    D differentiates the polynomial that interpolates at the quadrature points [1]_, and
    ``G = w det(J) J^-1 K J^-T`` has ``dim (dim + 1) / 2`` numbers at each point. They are read from
    memory at every product, unless all elements are the same box.

    References
    ----------
    .. [1] Kronbichler and Kormann, ACM Trans. Math. Softw. 45 (2019) 29.

    Examples
    --------
    -u'' = 1 on [0, 1], u(0) = u(1) = 0, has the solution x (1 - x) / 2:

    >>> import numpy as np
    >>> from mplinalg.fem import DiffusionOperator, MassOperator, StructuredMesh, TensorBasis
    >>> mesh, basis = StructuredMesh(1, 3), TensorBasis.lagrange(dim=1, p=2, q=3)
    >>> stiffness = DiffusionOperator(mesh, basis, dirichlet="boundary")
    >>> load = MassOperator(mesh, basis) @ np.ones(7)
    >>> matrix = stiffness.as_linear_operator() @ np.eye(7)
    >>> u = np.linalg.solve(matrix, stiffness.right_hand_side(load))
    >>> x = mesh.coordinates(basis)[0]
    >>> bool(np.allclose(u, x * (1 - x) / 2))
    True
    """

    _kind = "diffusion"
    _tensors = True

    @staticmethod
    def _factors(geometry: Geometry, coefficient: Array) -> Array:
        inverse, dim = geometry.inverse, geometry.inverse.shape[1]
        if coefficient.ndim == geometry.weights.ndim:
            # sum_k J^-1[a, k] K J^-1[b, k]
            left = inverse * coefficient[:, None, None]
        else:
            left = np.einsum("eak...,ekl...->eal...", inverse, coefficient)
        left *= geometry.weights[:, None, None]
        pairs = _upper(dim)
        return np.stack(
            [np.einsum("ek...,ek...->e...", left[:, a], inverse[:, b]) for a, b in pairs], axis=-1
        )

    def _squares(self, factors: Array) -> Array:
        B, D, dim = self.basis.B, self.basis.D, self.mesh.dim
        total: Any = 0.0
        for k, (a, b) in enumerate(_upper(dim)):
            # of sum_ab G_ab dφ/dξ_a dφ/dξ_b; a pair that is mixed counts twice
            by_axis = [(D if axis == a else B) * (D if axis == b else B) for axis in range(dim)]
            total = total + (1 if a == b else 2) * _transposed(by_axis, factors[..., k])
        return total


def bake_off(
    number: int, mesh: StructuredMesh, p: int, *, dirichlet: Any = None,
    dtype: DTypeLike = np.float64, device: str = "cpu",
) -> Summand:  # fmt: skip
    """The operator of one of CEED's bake-off problems BP1 to BP6, by which codes are compared.

    Parameters
    ----------
    number : int
        1, 2: mass; 3, 4: diffusion, both with p + 2 Gauss points; 5, 6: diffusion with the p + 1
        nodes as quadrature points. Even numbers: vectors of `dim` components.
    mesh : StructuredMesh
    p : int
        Degree.
    dirichlet : "boundary" or array_like of int, optional
    dtype : {float64, float32}
    device : {"cpu", "cuda"}
        As of `MassOperator`.

    Returns
    -------
    MassOperator or DiffusionOperator

    Raises
    ------
    ValueError
        There is no problem of that number; and as of the operators.

    References
    ----------
    .. [1] Fischer et al., Int. J. High Perform. Comput. Appl. 34 (2020) 562.

    Examples
    --------
    >>> from mplinalg.fem import StructuredMesh, bake_off
    >>> bake_off(6, StructuredMesh(3, 2), p=2).shape
    (375, 375)
    """
    if number not in range(1, 7):
        raise ValueError(f"bake-off problems are numbered 1 to 6, got {number!r}")
    rule, q = ("gauss", p + 2) if number <= 4 else ("gll", p + 1)
    basis = TensorBasis.lagrange(mesh.dim, p, q, quadrature=rule)
    kind = MassOperator if number <= 2 else DiffusionOperator
    components = 1 if number % 2 else mesh.dim
    return kind(mesh, basis, components=components, dirichlet=dirichlet, dtype=dtype, device=device)


def _upper(dim: int) -> list[tuple[int, int]]:
    """The upper triangle of a symmetric matrix by rows."""
    return [(a, b) for a in range(dim) for b in range(a, dim)]


def _transposed(matrices: list[NDArray[np.float64]], v: Array) -> Array:
    """``sum_q M_x[q, i] M_y[r, j] ... v[e, ..., r, q]``; x is the last axis."""
    xp = ops_for(v).xp
    for axis, matrix in enumerate(matrices):
        position = v.ndim - 1 - axis
        v = xp.tensordot(v, xp.asarray(matrix), axes=(position, 0))
        v = xp.moveaxis(v, -1, position)
    return v
