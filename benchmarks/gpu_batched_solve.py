"""Many small systems on a GPU: A_k x_k = b_k, general and positive definite, one right-hand side.

Stacks (batch, n, n) in C order, and (batch, n, 1); random normal numbers, drawn on the device, as
many as 4,000,000 matrices of order 4. Positive definite matrices are G G^H / n + I / 100. Up to
order 8 or so the work is in moving the numbers: "of copy" is the percentage of the rate of a copy
at which A and b are read, and x written, once. Of a singular member, or one that is singular to
working precision, ours tells; in single precision random members that come near to it are solved
again on the host, which is part of the time.

- cusolver: cupy.linalg.solve, which knows no structure.
- torch: linalg.solve; of positive definite matrices, cholesky and cholesky_solve.
"""

from mplinalg import batched
from mplinalg.bench import checks, gpu_stacks, stacks
from mplinalg.bench.gpu_peers import torch_with
from mplinalg.bench.gpu_problems import normal
from mplinalg.bench.suite import Problem, Suite

BATCH, LARGEST = 4_000_000, 4
KINDS = (
    ("gen", "float64"), ("pos", "float64"), ("gen", "float32"), ("pos", "float32"),
    ("gen", "complex128"),
)  # fmt: skip


def build(rng, what, n, batch, dtype):
    import cupy

    draw = gpu_stacks.positive_definite if what == "pos" else general
    a, b = draw(rng, batch, n, dtype), normal(rng, (batch, n, 1), dtype)
    count = (2 / 3 if what == "gen" else 1 / 3) * n**3 + 2.0 * n**2
    return Problem(
        ours=lambda: batched.solve(a, b, assume_a=what),
        peers={
            "cusolver": lambda: cupy.linalg.solve(a, b),
            "torch": lambda: torch_with(by_torch[what], a, b, order=n),
        },
        report=None,
        error=gpu_stacks.solve_error(a, b),
        bound=checks.bound(n, a.dtype),
        dtype=dtype,
        flops=(4.0 if dtype == "complex128" else 1.0) * batch * count,
        traffic=lambda _: float(a.nbytes + 2 * b.nbytes),
    )


def general(rng, batch, n, dtype):
    return normal(rng, (batch, n, n), dtype)


by_torch = {
    "gen": lambda torch, a, b: torch.linalg.solve(a, b),
    "pos": lambda torch, a, b: torch.cholesky_solve(b, torch.linalg.cholesky(a)),
}


def cases(sizes):
    """All kinds of an order, then the next one."""
    return [
        {"what": what, "n": n, "batch": stacks.members(n, BATCH, LARGEST), "dtype": dtype}
        for n in sizes
        for what, dtype in KINDS
    ]


SUITE = Suite(
    title="A_k x_k = b_k, many small systems",
    sizes="16,32,8,4,64,24,128",
    cases=cases,
    peers={
        "cusolver": "cupy.linalg.solve(a, b)",
        "torch": "torch.linalg.solve(a, b), torch.cholesky_solve(b, torch.linalg.cholesky(a))",
    },
    default_peers=("cusolver", "torch"),
    error_measure="normwise backward error, the largest of all members",
    build=build,
    device="cuda",
)
