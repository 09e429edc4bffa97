"""Tensor contractions by name: what chemistry, finite elements and statistics write as einsum.

Real double precision, random normal. Indices are of length n but for those that a row's name says.

- einsum: numpy.einsum(optimize=True).
- opt_einsum: opt_einsum.contract.
"""

import numpy as np
import opt_einsum

from mplinalg import fem
from mplinalg.bench.suite import Problem, Suite

CASES = {
    "interpolation": "kI,kJL->IJL",
    "transform": "pi,qj,rk,ijk->pqr",
    "bilinear": "bi,ij,bj->b",
    "batched": "bij,bjk->bik",
    "traces": "ijk,kji->",
    "four indices": "abcd,cdef->abef",
    "chain": "ij,jk,kl,lm->im",
    "weighted": "bqi,q,bqj->bij",
}
LENGTHS = {"b": 2000}


def build(rng, what, n):
    subscripts = CASES[what]
    terms = subscripts.split("->")[0].split(",")
    length = {letter: LENGTHS.get(letter, n) for term in terms for letter in term}
    operands = [rng.standard_normal([length[letter] for letter in term]) for term in terms]
    exact = np.einsum(subscripts, *operands, optimize=True)
    size = np.einsum(subscripts, *map(np.abs, operands), optimize=True)
    summed = {letter for term in terms for letter in term} - set(subscripts.split("->")[1])
    terms_of_sum = float(np.prod([length[letter] for letter in summed], initial=1.0))
    _, path = opt_einsum.contract_path(subscripts, *operands)
    return Problem(
        ours=lambda: fem.contract(subscripts, *operands),
        peers={
            "einsum": lambda: np.einsum(subscripts, *operands, optimize=True),
            "opt_einsum": lambda: opt_einsum.contract(subscripts, *operands),
        },
        report=None,
        error=lambda found: float(np.max(np.abs(found - exact) / size, initial=0.0)),
        bound=2 * (terms_of_sum + len(terms)) * 2.0**-53,
        dtype="float64",
        flops=float(path.opt_cost),
        traffic=lambda _: float(sum(x.nbytes for x in operands) + np.asarray(exact).nbytes),
    )


SUITE = Suite(
    title="tensor contractions",
    sizes="4,8,16,32,64",
    cases=lambda sizes: [
        {"what": what, "n": n} for what in CASES for n in sizes if n <= 32 or what != "four indices"
    ],
    peers={
        "einsum": "numpy.einsum(subscripts, *operands, optimize=True)",
        "opt_einsum": "opt_einsum.contract(subscripts, *operands)",
    },
    default_peers=("einsum", "opt_einsum"),
    error_measure="largest error of an entry over the same sum of absolute values",
    build=build,
)
