"""Bake-off problems of finite elements: how fast mass and diffusion operators are applied.

BP1 is mass and BP3 diffusion with q = p + 2 Gauss points in a dimension, BP5 diffusion with the
Gauss-Lobatto nodes as points; one component, degree p on a curved mesh of hexahedra in a cube, of
about `unknowns` global unknowns, double precision. `vectors` "elements" is the work on the
elements alone, from values at each element's own nodes to the same ("E-vectors"); "global" is from
nodal values to nodal values. The factors at the quadrature points are computed before, by all.

- matmul: sum factorization, a numpy.matmul for each dimension.
- einsum: numpy.einsum(optimize=True), a contraction for each dimension.

For "global" the peers gather and scatter by `StructuredMesh`, which moves slices.

T. Kolev et al., Efficient exascale discretizations: High-order finite element methods, Int. J.
High Perform. Comput. Appl. 35 (2021) 527, section 3, has the problems.
"""

import numpy as np

from mplinalg.bench import stacks
from mplinalg.bench.suite import Problem, Suite
from mplinalg.fem import DiffusionOperator, MassOperator, StructuredMesh, TensorBasis

UNKNOWNS = 2_000_000
BAKE_OFFS = {1: (MassOperator, "gauss", 2), 3: (DiffusionOperator, "gauss", 2),
             5: (DiffusionOperator, "gll", 1)}  # fmt: skip


def curved(x, y, z):
    bump = 0.05 * np.sin(np.pi * x) * np.sin(np.pi * y) * np.sin(np.pi * z)
    return x + bump, y - bump, z + bump


def along(matrix, v, axis):
    """Apply a matrix along an axis of v, of which the last one is 1, by numpy.matmul."""
    if axis == 1:
        return v @ matrix.T
    if axis == 2:
        return matrix @ v
    shape = v.shape
    flat = v.reshape(*shape[:-3], shape[-3], shape[-2] * shape[-1])
    return (matrix @ flat).reshape(*shape[:-3], len(matrix), *shape[-2:])


def along_by_einsum(matrix, v, axis):
    subscripts = {1: "ai,ekji->ekja", 2: "aj,ekji->ekai", 3: "ak,ekji->eaji"}[axis]
    return np.einsum(subscripts, matrix, v, optimize=True)


def mass(apply, basis, factors):
    B = basis.B

    def run(u):
        for axis in (1, 2, 3):
            u = apply(B, u, axis)
        u = u * factors[0]
        for axis in (3, 2, 1):
            u = apply(B.T, u, axis)
        return u

    return run


def diffusion(apply, basis, factors):
    """Interpolation along x and y is shared by the derivatives."""
    B, D = basis.B, basis.D

    def run(u):
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


def factors_of(kind, mesh, basis):
    """At all points: one array for mass, six for diffusion."""
    geometry = mesh.geometry(basis)
    if kind is MassOperator:
        return [geometry.weights]
    inverse, weights = geometry.inverse, geometry.weights
    return [
        weights * (inverse[:, a] * inverse[:, b]).sum(axis=1) for a in range(3) for b in range(a, 3)
    ]


def build(rng, bp, p, unknowns, vectors):
    kind, quadrature, more = BAKE_OFFS[bp]
    cells = max(1, round((unknowns ** (1 / 3) - 1) / p))
    mesh = StructuredMesh(3, cells, mapping=curved)
    basis = TensorBasis.lagrange(3, p, p + more, quadrature=quadrature)
    operator, factors = kind(mesh, basis), factors_of(kind, mesh, basis)
    make = mass if kind is MassOperator else diffusion
    u = rng.standard_normal(mesh.ndof(basis))
    elements = mesh.gather(u, basis)
    if vectors == "elements":
        u = elements
        methods = {
            "ours": lambda: operator.apply_local(u),
            "matmul": lambda: by_matmul(u[:, 0])[:, None],
            "einsum": lambda: by_einsum(u[:, 0])[:, None],
        }
        moved = 2 * u.nbytes
    else:
        methods = {
            "ours": lambda: operator @ u,
            "matmul": lambda: mesh.scatter(by_matmul(mesh.gather(u, basis)[:, 0])[:, None], basis),
            "einsum": lambda: mesh.scatter(by_einsum(mesh.gather(u, basis)[:, 0])[:, None], basis),
        }
        moved = 2 * u.nbytes
    by_matmul = make(along, basis, factors)
    by_einsum = make(along_by_einsum, basis, factors)
    exact = methods["einsum"]()
    size = np.linalg.norm(exact)
    traffic = float(moved + len(factors) * factors[0].nbytes)
    return Problem(
        ours=methods["ours"],
        peers={name: methods[name] for name in ("matmul", "einsum")},
        report=None,
        error=lambda v: float(np.linalg.norm(v - exact) / size),
        bound=30 * (p + more) * 2.0**-53,
        dtype="float64",
        flops=None,
        traffic=lambda _: traffic,
        unknowns=mesh.ndof(basis),
    )


SUITE = Suite(
    title="finite-element operators, bake-off problems",
    sizes="1:8:+1",
    cases=lambda sizes: [
        {"bp": bp, "p": p, "unknowns": stacks.scaled(UNKNOWNS), "vectors": vectors}
        for vectors in ("elements", "global")
        for bp in BAKE_OFFS
        for p in sizes
    ],
    peers={
        "matmul": "sum factorization by numpy.matmul",
        "einsum": "the same by numpy.einsum",
    },
    default_peers=("matmul", "einsum"),
    error_measure="relative difference in the Euclidean norm",
    build=build,
)
