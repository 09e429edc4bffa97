"""General dense systems: A x = b, one right-hand side, real double precision.

A is random normal, in C order, so its condition number is about n and its entries need no scaling.
mplinalg factors it in single precision and refines; the peers factor it in double precision.

- scipy: what most people call. It looks for structure in A and estimates the condition number.
- scipy-gen: the same, told that A is general.
- numpy: another BLAS (that of NumPy's wheel), no condition estimate.
- lapack: the plain driver dgesv, which gets a transposed copy of the C-ordered A from its wrapper.
- lean: the least that double precision can do with a C-ordered A: getrf on a copy of A^T, which
  needs no transposition, and getrs with the transpose of the factors. No check of any kind.
"""

import numpy as np
import scipy.linalg
from scipy.linalg import lapack

from mplinalg.bench.problems import system
from mplinalg.bench.suite import Suite


def build(rng, n):
    a, b = rng.standard_normal((n, n)), rng.standard_normal(n)

    def lean():
        lu, piv, _ = lapack.dgetrf(a.T)
        return lapack.dgetrs(lu, piv, b, trans=1)[0]

    peers = {
        "scipy": lambda: scipy.linalg.solve(a, b),
        "scipy-gen": lambda: scipy.linalg.solve(a, b, assume_a="gen"),
        "numpy": lambda: np.linalg.solve(a, b),
        "lapack": lambda: lapack.dgesv(a, b)[2],
        "lean": lean,
    }
    return system(a, b, peers)


SUITE = Suite(
    title="A x = b, A general, one right-hand side",
    sizes="256:8192:x2",
    peers={
        "scipy": "scipy.linalg.solve(a, b)",
        "scipy-gen": 'scipy.linalg.solve(a, b, assume_a="gen")',
        "numpy": "numpy.linalg.solve(a, b)",
        "lapack": "scipy.linalg.lapack.dgesv(a, b)",
        "lean": "dgetrf(a.T), dgetrs(trans=1)",
    },
    default_peers=("scipy", "lapack"),
    error_measure="normwise backward error",
    build=build,
)
