"""Bake-off problems of finite elements on a GPU: how fast operators are applied to nodal values.

BP1 is mass and BP3 diffusion with q = p + 2 Gauss points in a dimension, BP5 diffusion with the
Gauss-Lobatto nodes as points; one component, degree p on a curved mesh of hexahedra in a cube, of
about `unknowns` global unknowns, double precision. The factors at the quadrature points are
computed before, the same for all. "of copy" is the percentage of the rate of a copy at which
factors and nodal values are read, and the result is written, once.

- matmul: sum factorization, a cupy.matmul (cuBLAS) for each dimension.
- einsum: cupy.einsum(optimize=True), a contraction for each dimension.

The peers gather and scatter by `StructuredMesh`, which moves slices.
"""

import math

from mplinalg.bench import stacks
from mplinalg.bench.bake_off import BAKE_OFFS, discretized, factors_of, peers
from mplinalg.bench.gpu_problems import normal
from mplinalg.bench.suite import Problem, Suite

UNKNOWNS = {1: 1_000_000, 2: 4_000_000}
"""By degree: of low ones there are more points to compute the geometry at, on the host."""
MOST = 8_000_000


def build(rng, bp, p, unknowns):
    import cupy

    mesh, basis = discretized(bp, p, unknowns)
    operator = BAKE_OFFS[bp][0](mesh, basis, device="cuda")
    factors = [cupy.ascontiguousarray(part) for part in factors_of(operator)]
    u = normal(rng, mesh.ndof(basis), "float64")
    methods = {
        name: lambda run=run: mesh.scatter(run(mesh.gather(u, basis)[:, 0])[:, None], basis)
        for name, run in peers(bp, cupy, basis, factors).items()
    }
    exact = methods["einsum"]()
    size = cupy.linalg.norm(exact)

    def error(v):
        if not isinstance(v, cupy.ndarray) or v.shape != exact.shape:
            return math.nan
        return float(cupy.linalg.norm(v - exact) / size)

    traffic = float(2 * u.nbytes + len(factors) * factors[0].nbytes)
    return Problem(
        ours=lambda: operator @ u,
        peers=methods,
        report=None,
        error=error,
        bound=30 * basis.q * 2.0**-53,
        dtype="float64",
        flops=None,
        traffic=lambda _: traffic,
        unknowns=mesh.ndof(basis),
    )


SUITE = Suite(
    title="finite-element operators, bake-off problems",
    sizes="7,3,1,5,2,4,6,8",
    cases=lambda sizes: [
        {"bp": bp, "p": p, "unknowns": stacks.scaled(UNKNOWNS.get(p, MOST))}
        for p in sizes
        for bp in (5, 1, 3)
    ],
    peers={
        "matmul": "sum factorization by cupy.matmul",
        "einsum": "the same by cupy.einsum",
    },
    default_peers=("matmul", "einsum"),
    error_measure="relative difference in the Euclidean norm",
    build=build,
    device="cuda",
)
