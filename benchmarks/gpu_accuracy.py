"""Which format pays on a GPU, over the condition number: A x = b, one right-hand side, float64.

A = U diag(s) V^T with geometric singular values and condition numbers from 1 to 1e8, drawn on the
device. Ours chooses the format; the same with the format pinned, and no way to a higher one, takes
part as a peer: one that cannot deliver is recorded as failed.

- fp16, bf16, tf32, fp16x2, fp32, fp64: mplinalg.solve with that precision.
- cusolver: LU in double precision.
- irs-fp16, irs-tf32: cuSOLVER's solvers with low-precision factors, which fall back to double
  precision where these are too coarse.
"""

import functools

import mplinalg
from mplinalg.bench.gpu_peers import irs_solve
from mplinalg.bench.gpu_problems import normal, system, with_condition
from mplinalg.bench.suite import Suite
from mplinalg.precision import FORMATS

EXPONENTS = (4, 2, 6, 8, 5, 7, 0, 1, 3)
"""Of the condition numbers, in the order of what is learnt from them."""


def build(rng, n, cond):
    import cupy

    a, b = with_condition(rng, n, n, cond, "float64"), normal(rng, n, "float64")
    pinned = {
        name: functools.partial(mplinalg.solve, a, b, precision=name, fallback=False)
        for name in FORMATS
    }
    peers = {
        **pinned,
        "cusolver": lambda: cupy.linalg.solve(a, b),
        "irs-fp16": lambda: irs_solve(a, b, "fp16"),
        "irs-tf32": lambda: irs_solve(a, b, "tf32"),
    }
    return system(a, b, peers)


SUITE = Suite(
    title="A x = b, A of a given condition number, by format",
    sizes="8192,16384",
    cases=lambda sizes: [{"n": n, "cond": 10.0**e} for n in sizes for e in EXPONENTS],
    peers={
        **{name: f'mplinalg.solve(a, b, precision="{name}", fallback=False)' for name in FORMATS},
        "cusolver": "cupy.linalg.solve(a, b)",
        "irs-fp16": "cusolverDnDHgesv",
        "irs-tf32": "cusolverDnDXgesv",
    },
    default_peers=(*FORMATS, "cusolver", "irs-fp16", "irs-tf32"),
    error_measure="normwise backward error",
    build=build,
    device="cuda",
)
