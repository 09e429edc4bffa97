"""Many right-hand sides on a GPU: A X = B, B with 16, 64 and 512 columns, real double precision.

A refinement step costs 4 n^2 operations a column in double precision, which a GPU does about ten
times slower than in fp16, so the gain of a cheap factorization shrinks as columns are added. A and
B are random normal, in C order, drawn on the device.

- cusolver: LU in double precision.
- irs-fp16: cuSOLVER's solver with fp16 factors and iterative refinement.
- torch: linalg.solve, up to order 16384.
"""

from mplinalg.bench.gpu_peers import irs_solve, torch_solve
from mplinalg.bench.gpu_problems import normal, system
from mplinalg.bench.suite import Suite

COLUMNS = (64, 16, 512)


def build(rng, n, nrhs):
    import cupy

    a, b = normal(rng, (n, n), "float64"), normal(rng, (n, nrhs), "float64")
    peers = {
        "cusolver": lambda: cupy.linalg.solve(a, b),
        "irs-fp16": lambda: irs_solve(a, b, "fp16"),
        "torch": lambda: torch_solve(a, b),
    }
    return system(a, b, peers)


SUITE = Suite(
    title="A X = B, A general, many right-hand sides",
    sizes="16384,8192,4096",
    cases=lambda sizes: [{"n": n, "nrhs": nrhs} for nrhs in COLUMNS for n in sizes],
    peers={
        "cusolver": "cupy.linalg.solve(a, b)",
        "irs-fp16": "cusolverDnDHgesv",
        "torch": "torch.linalg.solve(a, b)",
    },
    default_peers=("cusolver", "irs-fp16"),
    error_measure="normwise backward error, the largest of all columns",
    build=build,
    device="cuda",
)
