"""Many right-hand sides: A X = B, B with 8, 64 and 512 columns, real double precision.

Each refinement step costs 4 n^2 operations a column in double precision, so the gain of a cheap
factorization shrinks as columns are added; from some number of columns on, double precision from
the start is the better way, and mplinalg takes it. A and B are random normal, in C order.

- scipy: what most people call.
- lapack: the plain driver dgesv, which gets transposed copies of A and B from its wrapper.
- lean: getrf on a copy of A^T and getrs with the transpose: the least for double precision.
"""

import scipy.linalg
from scipy.linalg import lapack

from mplinalg.bench.problems import system
from mplinalg.bench.suite import Suite

COLUMNS = (64, 8, 512)


def build(rng, n, nrhs):
    a, b = rng.standard_normal((n, n)), rng.standard_normal((n, nrhs))

    def lean():
        lu, piv, _ = lapack.dgetrf(a.T)
        return lapack.dgetrs(lu, piv, b, trans=1)[0]

    peers = {
        "scipy": lambda: scipy.linalg.solve(a, b),
        "lapack": lambda: lapack.dgesv(a, b)[2],
        "lean": lean,
    }
    return system(a, b, peers)


SUITE = Suite(
    title="A X = B, A general, many right-hand sides",
    sizes="1024:8192:x2",
    cases=lambda sizes: [{"n": n, "nrhs": nrhs} for nrhs in COLUMNS for n in sizes],
    peers={
        "scipy": "scipy.linalg.solve(a, b)",
        "lapack": "scipy.linalg.lapack.dgesv(a, b)",
        "lean": "dgetrf(a.T), dgetrs(trans=1)",
    },
    default_peers=("scipy", "lean"),
    error_measure="normwise backward error, the largest of all columns",
    build=build,
)
