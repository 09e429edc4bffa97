"""Positive definite systems on a GPU: A x = b, one right-hand side, real double precision.

A = G G^T / n + I / 100 with a random normal G, drawn on the device, whose condition number is some
hundreds; all methods are told that it is positive definite.

- cusolver: potrf and potrs in double precision.
- torch: cholesky and cholesky_solve, up to order 16384.
"""

from mplinalg.bench.gpu_peers import cholesky_solve, torch_with
from mplinalg.bench.gpu_problems import normal, positive_definite, system
from mplinalg.bench.suite import Suite


def by_torch(torch, a, b):
    return torch.cholesky_solve(b[:, None], torch.linalg.cholesky(a))[:, 0]


def build(rng, n):
    a, b = positive_definite(rng, n, "float64"), normal(rng, n, "float64")
    peers = {
        "cusolver": lambda: cholesky_solve(a, b),
        "torch": lambda: torch_with(by_torch, a, b),
    }
    return system(a, b, peers, assume_a="pos")


SUITE = Suite(
    title="A x = b, A positive definite, one right-hand side",
    sizes="16384,8192,32768,4096,2048",
    peers={
        "cusolver": "cupyx.lapack.posv(a, b)",
        "torch": "torch.linalg.cholesky(a), torch.cholesky_solve(b, ...)",
    },
    default_peers=("cusolver", "torch"),
    error_measure="normwise backward error",
    build=build,
    device="cuda",
)
