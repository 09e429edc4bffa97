"""Bake-off problems of finite elements: how fast mass and diffusion operators are applied.

BP1 is mass and BP3 diffusion with q = p + 2 Gauss points in a dimension, BP5 diffusion with the
Gauss-Lobatto nodes as points; one component, degree p on a curved mesh of hexahedra in a cube, of
about `unknowns` global unknowns, double precision. `vectors` "elements" is the work on the
elements alone, from values at each element's own nodes to the same ("E-vectors"); "global" is from
nodal values to nodal values. The factors at the quadrature points are computed before, by all.

- matmul: sum factorization, a numpy.matmul for each dimension.
- einsum: numpy.einsum(optimize=True), a contraction for each dimension.

For "global" the peers gather and scatter by `StructuredMesh`, which moves slices.
"""

import numpy as np

from mplinalg.bench import stacks
from mplinalg.bench.bake_off import BAKE_OFFS, discretized, peers, weights
from mplinalg.bench.suite import Problem, Suite

UNKNOWNS = 2_000_000


def build(rng, bp, p, unknowns, vectors):
    mesh, basis = discretized(bp, p, unknowns)
    operator, factors = BAKE_OFFS[bp][0](mesh, basis), weights(bp, mesh, basis)
    u = rng.standard_normal(mesh.ndof(basis))
    elements = mesh.gather(u, basis)
    on_elements = peers(bp, np, basis, factors)
    if vectors == "elements":
        u = elements
        methods = {name: lambda run=run: run(u[:, 0])[:, None] for name, run in on_elements.items()}
        methods["ours"] = lambda: operator.apply_local(u)
    else:
        methods = {
            name: lambda run=run: mesh.scatter(run(mesh.gather(u, basis)[:, 0])[:, None], basis)
            for name, run in on_elements.items()
        }
        methods["ours"] = lambda: operator @ u
    moved = 2 * u.nbytes
    exact = methods["einsum"]()
    size = np.linalg.norm(exact)
    traffic = float(moved + len(factors) * factors[0].nbytes)
    return Problem(
        ours=methods["ours"],
        peers={name: methods[name] for name in ("matmul", "einsum")},
        report=None,
        error=lambda v: float(np.linalg.norm(v - exact) / size),
        bound=30 * basis.q * 2.0**-53,
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
