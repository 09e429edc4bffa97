"""Products of matrices of many sizes: C_k = A_k B_k, A_k square, of orders 2 to n, mixed.

A list of `members` square matrices, real double precision, random normal. `sizes` says how orders
are spread: "even" over 2, ..., n; "small" mostly small, as the reciprocal of the order; "skewed"
all of order 4 but for one in a thousand, which is of order n.

- loop: a list of a @ b, as one writes it.
- ragged: ours on `Ragged` containers, not a list; both the inputs and the result.
"""

import numpy as np

from mplinalg import batched
from mplinalg.bench import stacks
from mplinalg.bench.suite import Problem, Suite

MEMBERS = 20_000


def orders(rng, spread, n, members):
    """Of all members."""
    known = np.arange(min(2, n), n + 1)
    if spread == "even":
        return rng.choice(known, members)
    if spread == "small":
        return rng.choice(known, members, p=(1 / known) / (1 / known).sum())
    return np.where(rng.random(members) < 1e-3, n, min(n, 4))


def build(rng, n, members, spread):
    sizes = orders(rng, spread, n, members)
    a = [rng.standard_normal((k, k)) for k in sizes]
    b = [rng.standard_normal((k, k)) for k in sizes]
    containers = batched.Ragged.from_list(a), batched.Ragged.from_list(b)
    exact = [x @ y for x, y in zip(a, b, strict=True)]
    scales = [np.abs(x) @ np.abs(y) for x, y in zip(a, b, strict=True)]

    def error(found):
        listed = found.to_list() if isinstance(found, batched.Ragged) else found
        if len(listed) != members:
            return float("nan")
        worst = [np.max(np.abs(c - e) / s) for c, e, s in zip(listed, exact, scales, strict=True)]
        return float(np.max(worst))

    return Problem(
        ours=lambda: batched.gemm(a, b),
        peers={
            "loop": lambda: [x @ y for x, y in zip(a, b, strict=True)],
            "ragged": lambda: batched.gemm(*containers),
        },
        report=None,
        error=error,
        bound=2 * n * 2.0**-53,
        dtype="float64",
        flops=2.0 * float(np.sum(sizes.astype(float) ** 3)),
        traffic=lambda _: 3 * 8.0 * float(np.sum(sizes.astype(float) ** 2)),
    )


SUITE = Suite(
    title="C_k = A_k B_k, matrices of many sizes",
    sizes="8,16,32,64",
    cases=lambda sizes: [
        {"n": n, "members": stacks.scaled(MEMBERS), "spread": spread}
        for spread in ("even", "small", "skewed")
        for n in sizes
    ],
    peers={"loop": "x @ y, one pair after the other", "ragged": "mplinalg.batched.gemm of Ragged"},
    default_peers=("loop", "ragged"),
    error_measure="largest |C - A B| / (|A||B|) of an entry",
    build=build,
)
