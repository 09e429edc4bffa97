"""CEED's bake-off problems as benchmarks have them, and what an array library makes of them.

T. Kolev et al., Efficient exascale discretizations: High-order finite element methods, Int. J.
High Perform. Comput. Appl. 35 (2021) 527, section 3, has the problems.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mplinalg.fem import DiffusionOperator, MassOperator, StructuredMesh, TensorBasis

__all__ = ["BAKE_OFFS", "discretized", "factors_of", "peers", "weights"]

Array = Any
Along = Callable[[Array, Array, int], Array]

BAKE_OFFS: dict[int, tuple[Any, str, int]] = {
    1: (MassOperator, "gauss", 2),
    3: (DiffusionOperator, "gauss", 2),
    5: (DiffusionOperator, "gll", 1),
}
"""By number: the operator, the quadrature, and how many points more than p."""


def curved(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """A cube whose inside is bent."""
    bump = 0.05 * np.sin(np.pi * x) * np.sin(np.pi * y) * np.sin(np.pi * z)
    return x + bump, y - bump, z + bump


def discretized(bp: int, p: int, unknowns: int) -> tuple[StructuredMesh, TensorBasis]:
    """A mesh of about so many unknowns, and the basis of a problem."""
    _, quadrature, more = BAKE_OFFS[bp]
    cells = max(1, round((unknowns ** (1 / 3) - 1) / p))
    mesh = StructuredMesh(3, cells, mapping=curved)
    return mesh, TensorBasis.lagrange(3, p, p + more, quadrature=quadrature)


def weights(bp: int, mesh: StructuredMesh, basis: TensorBasis) -> list[Array]:
    """At all points: one array for mass, six for diffusion, the upper triangle by rows."""
    geometry = mesh.geometry(basis)
    if BAKE_OFFS[bp][0] is MassOperator:
        return [geometry.weights]
    inverse, at = geometry.inverse, geometry.weights
    return [at * (inverse[:, a] * inverse[:, b]).sum(axis=1) for a in range(3) for b in range(a, 3)]


def factors_of(operator: Any) -> list[Array]:
    """Those that an operator has, where it has them, as `weights`."""
    elements = np.arange(operator.mesh.nelem)
    whole = operator._prepared.factors(elements)
    shape = (len(elements), *(operator.basis.q,) * operator.mesh.dim)
    return [whole[..., k].reshape(shape) for k in range(whole.shape[-1])]


def peers(
    bp: int, xp: Any, basis: TensorBasis, factors: Sequence[Array]
) -> dict[str, Callable[[Array], Array]]:
    """Sum factorization on elements, (nelem, n, n, n), by matmul and by einsum of a library."""
    B, D = xp.asarray(basis.B), xp.asarray(basis.D)
    make = _mass if BAKE_OFFS[bp][0] is MassOperator else _diffusion

    def by_einsum(matrix: Array, v: Array, axis: int) -> Array:
        subscripts = {1: "ai,ekji->ekja", 2: "aj,ekji->ekai", 3: "ak,ekji->eaji"}[axis]
        return xp.einsum(subscripts, matrix, v, optimize=True)

    return {
        "matmul": make(_by_matmul, B, D, factors),
        "einsum": make(by_einsum, B, D, factors),
    }


def _by_matmul(matrix: Array, v: Array, axis: int) -> Array:
    """Apply a matrix along an axis of v, of which the last one is 1."""
    if axis == 1:
        return v @ matrix.T
    if axis == 2:
        return matrix @ v
    shape = v.shape
    flat = v.reshape(*shape[:-3], shape[-3], shape[-2] * shape[-1])
    return (matrix @ flat).reshape(*shape[:-3], len(matrix), *shape[-2:])


def _mass(apply: Along, B: Array, D: Array, factors: Sequence[Array]) -> Callable[[Array], Array]:
    def run(u: Array) -> Array:
        for axis in (1, 2, 3):
            u = apply(B, u, axis)
        u = u * factors[0]
        for axis in (3, 2, 1):
            u = apply(B.T, u, axis)
        return u

    return run


def _diffusion(
    apply: Along, B: Array, D: Array, factors: Sequence[Array]
) -> Callable[[Array], Array]:
    """Interpolation along x and y is shared by the derivatives."""

    def run(u: Array) -> Array:
        bx, dx = apply(B, u, 1), apply(D, u, 1)
        bxby = apply(B, bx, 2)
        g = [
            apply(B, apply(B, dx, 2), 3), apply(B, apply(D, bx, 2), 3), apply(D, bxby, 3),
        ]  # fmt: skip
        xx, xy, xz, yy, yz, zz = factors
        h = [
            xx * g[0] + xy * g[1] + xz * g[2],
            xy * g[0] + yy * g[1] + yz * g[2],
            xz * g[0] + yz * g[1] + zz * g[2],
        ]
        h0 = apply(B.T, apply(B.T, h[0], 3), 2)
        h1 = apply(D.T, apply(B.T, h[1], 3), 2) + apply(B.T, apply(D.T, h[2], 3), 2)
        return apply(D.T, h0, 1) + apply(B.T, h1, 1)

    return run
