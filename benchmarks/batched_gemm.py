"""Many small products: C_k = A_k B_k, square, real double precision, by default 100,000 of them.

Stacks (batch, n, n) of random normal numbers in C order. Of orders above 8 the batch is smaller,
and takes as much memory as one of order 8. Up to some order the work is in moving the numbers: the
column "of copy" is that of one pass over A, B and C.

- matmul: numpy.matmul, into an array that is there where `out` is "yes", as ours then.
"""

import numpy as np

from mplinalg import batched
from mplinalg.bench import stacks
from mplinalg.bench.suite import Problem, Suite

BATCH, LARGEST = 100_000, 8


def build(rng, n, batch, out):
    a, b = rng.standard_normal((2, batch, n, n))
    target = np.empty_like(a) if out == "yes" else None
    return Problem(
        ours=lambda: batched.gemm(a, b, out=target),
        peers={"matmul": lambda: np.matmul(a, b, out=target)},
        report=None,
        error=stacks.product_error(a, b),
        bound=2 * n * 2.0**-53,  # that of the product, and that of the one it is compared with
        dtype=a.dtype.name,
        flops=2.0 * batch * n**3,
        traffic=lambda _: 3.0 * a.nbytes,
    )


SUITE = Suite(
    title="C_k = A_k B_k, many small matrices",
    sizes="1,2,3,4,5,6,7,8,10,12,16,24,32,48,64,100,128",
    cases=lambda sizes: [
        {"n": n, "batch": stacks.members(n, BATCH, LARGEST), "out": out}
        for out in ("yes", "no")
        for n in sizes
    ],
    peers={"matmul": "numpy.matmul(a, b, out=out)"},
    default_peers=("matmul",),
    error_measure="largest |C - A B| / (|A||B|) of an entry",
    build=build,
)
