"""Positive definite systems: A x = b, one right-hand side, real double precision.

A = G G^T / n + I / 100 with a random normal G, whose condition number is some hundreds; all
methods are told that it is positive definite. A Cholesky factorization takes half the operations
of LU, so refinement and conversion weigh more than they do in dense_solve.

- scipy: solve told that A is positive definite, which estimates the condition number.
- cho: cho_factor and cho_solve, the usual way to solve with one matrix again and again.
- lapack: the plain driver dposv, which gets a transposed copy of the C-ordered A from its wrapper.
"""

import scipy.linalg
from scipy.linalg import lapack

from mplinalg.bench.problems import positive_definite, system
from mplinalg.bench.suite import Suite


def build(rng, n):
    a, b = positive_definite(rng, n, "float64"), rng.standard_normal(n)
    peers = {
        "scipy": lambda: scipy.linalg.solve(a, b, assume_a="pos"),
        "cho": lambda: scipy.linalg.cho_solve(scipy.linalg.cho_factor(a), b),
        "lapack": lambda: lapack.dposv(a, b)[1],
    }
    return system(a, b, peers, assume_a="pos")


SUITE = Suite(
    title="A x = b, A positive definite, one right-hand side",
    sizes="256:8192:x2",
    peers={
        "scipy": 'scipy.linalg.solve(a, b, assume_a="pos")',
        "cho": "scipy.linalg.cho_factor(a), scipy.linalg.cho_solve(..., b)",
        "lapack": "scipy.linalg.lapack.dposv(a, b)",
    },
    default_peers=("scipy", "cho", "lapack"),
    error_measure="normwise backward error",
    build=build,
)
