"""Many small products on a GPU: C_k = A_k B_k, square, in half, single and double precision.

Stacks (batch, n, n) of random normal numbers in C order, drawn on the device: as many as 4,000,000
of order 4 take, 512 MB in double precision, which no cache holds. C is there before. Up to order 64
the work is in moving the numbers: "of copy" is the percentage of the rate of a copy at which A, B
and C are moved once.

`precision`: float16 arrays are multiplied in fp16, with sums in fp32, by the backend's verb, as
`batched.gemm` gives results in single precision at least; "fp16" of float32 arrays rounds operands
to fp16 on their way.

- cublas: cupy.matmul, of the arrays as they are: cuBLAS, batched.
- torch: bmm.
"""

from mplinalg import batched
from mplinalg.bench import gpu_stacks, stacks
from mplinalg.bench.gpu_peers import torch_with
from mplinalg.bench.gpu_problems import normal
from mplinalg.bench.suite import Problem, Suite
from mplinalg.ops import batched_ops_for

BATCH, LARGEST = 4_000_000, 4
KINDS = (
    ("float64", "working"), ("float32", "working"), ("float16", "working"), ("float32", "fp16")
)  # fmt: skip
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-24}
"""Of sums."""


def build(rng, n, batch, dtype, precision):
    import cupy

    a, b = (normal(rng, (batch, n, n), dtype) for _ in range(2))
    c, other = cupy.empty_like(a), cupy.empty_like(a)

    def ours():
        if dtype == "float16":
            batched_ops_for(a).gemm_batched(1.0, a, b, 0.0, c)
            return c
        return batched.gemm(a, b, out=c, precision=precision)

    return Problem(
        ours=ours,
        peers={
            "cublas": lambda: cupy.matmul(a, b, out=other),
            "torch": lambda: torch_with(by_torch, a, b, other, order=n),
        },
        report=None,
        error=gpu_stacks.product_error(a, b),
        bound=bound(n, dtype, precision),
        dtype=dtype,
        flops=2.0 * batch * n**3,
        traffic=lambda _: 3.0 * a.nbytes,
    )


def by_torch(torch, a, b, out):
    return torch.bmm(a, b, out=out)


def bound(n, dtype, precision):
    """Of sums, in ours and in what it is held against; of operands, or results, in half."""
    rounded = {"fp16": 2.1 * 2.0**-11, "working": 2.0**-11 if dtype == "float16" else 0.0}
    return 2 * (n + 4) * UNITS[dtype] + rounded[precision]


def cases(sizes):
    """All kinds of an order, then the next one."""
    return [
        {"n": n, "batch": stacks.members(n, BATCH, LARGEST), "dtype": dtype, "precision": precision}
        for n in sizes
        for dtype, precision in KINDS
    ]


SUITE = Suite(
    title="C_k = A_k B_k, many small matrices",
    sizes="16,32,64,8,4,24,48,12,6,33",
    cases=cases,
    peers={"cublas": "cupy.matmul(a, b, out=out)", "torch": "torch.bmm(a, b, out=out)"},
    default_peers=("cublas", "torch"),
    error_measure="largest |C - A B| / (|A||B|) of an entry",
    build=build,
    device="cuda",
)
