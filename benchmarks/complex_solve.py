"""General complex systems: A x = b, one right-hand side, complex double precision.

Four times the arithmetic of dense_solve for twice the bytes, as in wave problems: what does not
grow with n^3 weighs less, so gains show from smaller n on. A is random normal, in C order.

- scipy: what most people call.
- lapack: the plain driver zgesv, which gets a transposed copy of the C-ordered A from its wrapper.
"""

import scipy.linalg
from scipy.linalg import lapack

from mplinalg.bench.problems import normal, system
from mplinalg.bench.suite import Suite


def build(rng, n):
    a, b = normal(rng, (n, n), "complex128"), normal(rng, n, "complex128")
    peers = {
        "scipy": lambda: scipy.linalg.solve(a, b),
        "lapack": lambda: lapack.zgesv(a, b)[2],
    }
    return system(a, b, peers)


SUITE = Suite(
    title="A x = b, A general and complex, one right-hand side",
    sizes="256:4096:x2",
    peers={
        "scipy": "scipy.linalg.solve(a, b)",
        "lapack": "scipy.linalg.lapack.zgesv(a, b)",
    },
    default_peers=("scipy", "lapack"),
    error_measure="normwise backward error",
    build=build,
)
