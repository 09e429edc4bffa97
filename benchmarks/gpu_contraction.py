"""Tensor contractions on a GPU: what chemistry, finite elements and statistics write as einsum.

Real double precision, random normal, drawn on the device. Indices are of length n but for b, which
is as long as 2^26 numbers of "bij" make it, and that of weighted sums. "of copy" is the percentage
of the rate of a copy at which operands are read, and the result is written, once.

- einsum: cupy.einsum(optimize=True).
- torch: einsum, which uses opt_einsum if that is there.
"""

import math

import opt_einsum

from mplinalg import fem
from mplinalg.bench import stacks
from mplinalg.bench.gpu_peers import torch_with
from mplinalg.bench.gpu_problems import normal
from mplinalg.bench.suite import Problem, Suite

CASES = {
    "batched": "bij,bjk->bik",
    "interpolation": "kI,kJL->IJL",
    "transform": "pi,qj,rk,ijk->pqr",
    "elements": "pi,qj,rk,bijk->bpqr",
    "four indices": "abcd,cdef->abef",
    "bilinear": "bi,ij,bj->b",
    "chain": "ij,jk,kl,lm->im",
    "weighted": "bqi,q,bqj->bij",
    "traces": "ijk,kji->",
}
NUMBERS = 2**26
"""Of the largest operand, where one is as large as it is asked to be."""
MOST = {"four indices": 64, "elements": 32}
"""Lengths above which a row is left out."""


def build(rng, what, n):
    import cupy

    subscripts = CASES[what]
    terms = subscripts.split("->")[0].split(",")
    deepest = max(len(term) for term in terms if "b" in term) if "b" in subscripts else 1
    length = {letter: n for term in terms for letter in term}
    if what != "four indices":
        length["b"] = stacks.scaled(max(1, NUMBERS // n ** (deepest - 1)))
    shapes = [[length[letter] for letter in term] for term in terms]
    operands = [normal(rng, tuple(shape), "float64") for shape in shapes]
    summed = {letter for term in terms for letter in term} - set(subscripts.split("->")[1])
    _, path = opt_einsum.contract_path(subscripts, *shapes, shapes=True)
    result = math.prod(length[letter] for letter in subscripts.split("->")[1])
    return Problem(
        ours=lambda: fem.contract(subscripts, *operands),
        peers={
            "einsum": lambda: cupy.einsum(subscripts, *operands, optimize=True),
            "torch": lambda: torch_with(
                lambda torch, *given: torch.einsum(subscripts, *given), *operands, order=n
            ),
        },
        report=None,
        error=sum_error(subscripts, operands),
        bound=2 * (math.prod(length[i] for i in summed) + len(terms)) * 2.0**-53,
        dtype="float64",
        flops=float(path.opt_cost),
        traffic=lambda _: float(sum(x.nbytes for x in operands) + 8 * result),
    )


def sum_error(subscripts, operands):
    """Against cupy.einsum, the largest error of an entry over the same sum of absolute values."""
    import cupy

    known = []

    def error(found):
        if not known:
            known.append(cupy.einsum(subscripts, *operands, optimize=True))
            known.append(cupy.einsum(subscripts, *map(cupy.abs, operands), optimize=True))
        exact, size = known
        if not isinstance(found, cupy.ndarray) or found.shape != exact.shape:
            return math.nan
        return float((cupy.abs(found - exact) / size).max())

    return error


SUITE = Suite(
    title="tensor contractions",
    sizes="16,32,64,8,128",
    cases=lambda sizes: [
        {"what": what, "n": n} for n in sizes for what in CASES if n <= MOST.get(what, n)
    ],
    peers={
        "einsum": "cupy.einsum(subscripts, *operands, optimize=True)",
        "torch": "torch.einsum(subscripts, *operands)",
    },
    default_peers=("einsum", "torch"),
    error_measure="largest error of an entry over the same sum of absolute values",
    build=build,
    device="cuda",
)
