"""Least squares: min ||b - A x|| for a tall A, (4 n, n), real double precision.

A has geometric singular values with the condition numbers 10 and 1e6, b is random normal, so its
residual is large: what an error in R does to x is then felt most. An answer counts only if it is
as good as that of a backward stable method, whatever the condition.

- scipy: lstsq with its default driver gelsd, by the SVD. It returns the singular values too; those
  of mplinalg's result are computed when they are read, which is not done here.
- gelsy: lstsq by QR with column interchanges.
- lapack: dgels, by QR without interchanges: the fastest that LAPACK has, for full rank only. It
  gets the workspace it asks for; with the least that its wrapper gives it, it would be unblocked.
"""

import scipy.linalg
from scipy.linalg import lapack

import mplinalg
from mplinalg.bench import checks, flops, traffic
from mplinalg.bench.problems import with_condition
from mplinalg.bench.suite import Problem, Suite

CONDITIONS = (1e1, 1e6)


def build(rng, n, cond, aspect):
    m = aspect * n
    a, b = with_condition(rng, m, n, cond, "float64"), rng.standard_normal(m)
    lwork = int(lapack.dgels_lwork(m, n, 1)[0])
    return Problem(
        ours=lambda: mplinalg.lstsq(a, b).x,
        peers={
            "scipy": lambda: scipy.linalg.lstsq(a, b)[0],
            "gelsy": lambda: scipy.linalg.lstsq(a, b, lapack_driver="gelsy")[0],
            "lapack": lambda: lapack.dgels(a, b, lwork=lwork)[1][:n],
        },
        report=lambda: mplinalg.lstsq(a, b, full_output=True).report,
        error=checks.least_squares_error(a, b),
        bound=checks.bound(m, "float64"),
        dtype="float64",
        flops=flops.least_squares(m, n, 1, "float64"),
        traffic=lambda report: traffic.least_squares(m, n, 1, "float64", report),
    )


SUITE = Suite(
    title="min ||b - A x||, A (m, n), m = aspect n",
    sizes="128:2048:x2",
    cases=lambda sizes: [{"n": n, "cond": cond, "aspect": 4} for cond in CONDITIONS for n in sizes],
    peers={
        "scipy": "scipy.linalg.lstsq(a, b)",
        "gelsy": 'scipy.linalg.lstsq(a, b, lapack_driver="gelsy")',
        "lapack": "scipy.linalg.lapack.dgels(a, b, lwork=...)",
    },
    default_peers=("scipy", "gelsy", "lapack"),
    error_measure="normwise backward error of least squares, estimated",
    build=build,
)
