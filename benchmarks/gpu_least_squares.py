"""Least squares on a GPU: min ||b - A x|| for a tall A, (8 n, n), real double precision.

A has geometric singular values with the condition numbers 10 and 1e6, b is random normal, as in
`least_squares`; drawn on the device.

- cupy: linalg.lstsq, by the SVD.
- cusolver: geqrf, ormqr and trsm in double precision.
- irs: cuSOLVER's gels, whose factors are in double precision unless CuPy is told otherwise.
"""

import mplinalg
from mplinalg.bench import checks, flops, gpu_checks
from mplinalg.bench.gpu_peers import irs_least_squares, least_squares
from mplinalg.bench.gpu_problems import normal, with_condition
from mplinalg.bench.suite import Problem, Suite

CONDITIONS = (1e1, 1e6)


def build(rng, n, cond, aspect):
    import cupy

    m = aspect * n
    a, b = with_condition(rng, m, n, cond, "float64"), normal(rng, m, "float64")
    return Problem(
        ours=lambda: mplinalg.lstsq(a, b).x,
        peers={
            "cupy": lambda: cupy.linalg.lstsq(a, b, rcond=None)[0],
            "cusolver": lambda: least_squares(a, b),
            "irs": lambda: irs_least_squares(a, b),
        },
        report=lambda: mplinalg.lstsq(a, b, full_output=True).report,
        error=gpu_checks.least_squares_error(a, b),
        bound=checks.bound(m, "float64"),
        dtype="float64",
        flops=flops.least_squares(m, n, 1, "float64"),
    )


SUITE = Suite(
    title="min ||b - A x||, A (m, n), m = aspect n",
    sizes="2048,4096,1024",
    cases=lambda sizes: [{"n": n, "cond": cond, "aspect": 8} for cond in CONDITIONS for n in sizes],
    peers={
        "cupy": "cupy.linalg.lstsq(a, b, rcond=None)",
        "cusolver": "cupyx.lapack.gels(a, b)",
        "irs": "cupyx.cusolver.gels(a, b)",
    },
    default_peers=("cusolver", "irs"),
    error_measure="normwise backward error of least squares, estimated",
    build=build,
    device="cuda",
)
