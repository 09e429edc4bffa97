"""Many small matrices solved with and factored, by default 100,000 of them.

Stacks (batch, n, n) in C order, and (batch, n, 1) of right-hand sides; random normal numbers.
Positive definite matrices are G G^T / n + I / 100. Of orders above 16 the batch is smaller, and
takes as much memory as one of order 16. `what`:

- gen, pos: `solve` with that structure. Of a singular member, or one that is singular to working
  precision, ours would tell; NumPy tells of the first kind only, SciPy of both.
- cholesky: `cho_factor`; inv: `inv`; qr: `qr`.

Peers:

- numpy: the function of numpy.linalg; its `solve` for positive definite matrices, too.
- scipy: the function of scipy.linalg, with the structure named.
"""

import numpy as np
import scipy.linalg

from mplinalg import batched
from mplinalg.bench import stacks
from mplinalg.bench.problems import normal
from mplinalg.bench.suite import Problem, Suite

BATCH, LARGEST = 100_000, 16
KINDS = [
    ("gen", "float64"), ("pos", "float64"), ("cholesky", "float64"), ("inv", "float64"),
    ("qr", "float64"), ("gen", "float32"), ("gen", "complex128"),
]  # fmt: skip


def solving(assume_a):
    """By `solve`; A is read, and x written where b was read."""

    def problem(a, b):
        n = a.shape[-1]
        return Problem(
            ours=lambda: batched.solve(a, b, assume_a=assume_a),
            peers={
                "numpy": lambda: np.linalg.solve(a, b),
                "scipy": lambda: scipy.linalg.solve(a, b, assume_a=assume_a),
            },
            report=None,
            error=stacks.solve_error(a, b),
            flops=count(a, (2 / 3 if assume_a == "gen" else 1 / 3) * n**3 + 2.0 * n**2),
            traffic=lambda _: float(a.nbytes + 2 * b.nbytes),
            **common(a),
        )

    return problem


def cholesky(a, b):
    """A = L L^T: A is read, L written."""

    def ours():
        c, _ = batched.cho_factor(a, lower=True)
        return c

    return Problem(
        ours=ours,
        peers={
            "numpy": lambda: np.linalg.cholesky(a),
            "scipy": lambda: scipy.linalg.cholesky(a, lower=True),
        },
        report=None,
        error=stacks.factor_error(a, lambda c: (np.tril(c), np.tril(c).conj().mT)),
        flops=count(a, a.shape[-1] ** 3 / 3),
        traffic=lambda _: 2.0 * a.nbytes,
        **common(a),
    )


def inverse(a, b):
    """A^-1: A is read, its inverse written."""
    n = a.shape[-1]
    return Problem(
        ours=lambda: batched.inv(a),
        peers={"numpy": lambda: np.linalg.inv(a), "scipy": lambda: scipy.linalg.inv(a)},
        report=None,
        error=stacks.inverse_error(a),
        flops=count(a, 2.0 * n**3),
        traffic=lambda _: 2.0 * a.nbytes,
        **common(a),
    )


def qr(a, b):
    """A = Q R: A is read, Q and R are written."""
    return Problem(
        ours=lambda: batched.qr(a),
        peers={
            "numpy": lambda: np.linalg.qr(a),
            "scipy": lambda: scipy.linalg.qr(a, mode="economic"),
        },
        report=None,
        error=stacks.factor_error(a, lambda factors: factors),
        flops=count(a, 8 / 3 * a.shape[-1] ** 3),
        traffic=lambda _: 3.0 * a.nbytes,
        **common(a),
    )


def count(a, of_member):
    """Real operations of all members."""
    return (4.0 if a.dtype.kind == "c" else 1.0) * len(a) * of_member


def common(a):
    """What all kinds judge alike."""
    unit = float(np.finfo(a.dtype).eps) / 2
    return {"bound": max(30.0, a.shape[-1]) * unit, "dtype": a.dtype.name}


PROBLEMS = {
    "gen": solving("gen"), "pos": solving("pos"), "cholesky": cholesky, "inv": inverse, "qr": qr,
}  # fmt: skip


def build(rng, what, n, batch, dtype):
    if what in ("pos", "cholesky"):
        a = stacks.positive_definite(rng, batch, n, dtype)
    else:
        a = normal(rng, (batch, n, n), dtype)
    return PROBLEMS[what](a, normal(rng, (batch, n, 1), dtype))


SUITE = Suite(
    title="many small systems and factorizations",
    sizes="1,2,3,4,5,6,7,8,10,12,16,20,24,32,48,64,100,128",
    cases=lambda sizes: [
        {"what": what, "n": n, "batch": stacks.members(n, BATCH, LARGEST), "dtype": dtype}
        for what, dtype in KINDS
        for n in sizes
    ],
    peers={"numpy": "the function of numpy.linalg", "scipy": "the function of scipy.linalg"},
    default_peers=("numpy",),
    error_measure="normwise backward error, the largest of all members",
    build=build,
)
