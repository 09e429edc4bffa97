"""QR, economic: A = Q R with Q formed, tall (4 n, n) and square, real double precision.

Q must be orthonormal to working precision, so low precision is of little help; what can be gained
for tall matrices is CholeskyQR, whose products run faster than Householder's. A is random normal.
Square matrices are factored as SciPy does: rows of about 1 say that nothing is lost there.

- scipy: qr(mode="economic"), that is geqrf and orgqr.
"""

import scipy.linalg

import mplinalg
from mplinalg.bench import checks, flops, traffic
from mplinalg.bench.suite import Problem, Suite


def build(rng, n, aspect):
    m = aspect * n
    a = rng.standard_normal((m, n))
    return Problem(
        ours=lambda: mplinalg.qr(a, mode="economic"),
        peers={"scipy": lambda: scipy.linalg.qr(a, mode="economic")},
        report=lambda: mplinalg.qr(a, mode="economic", full_output=True)[-1],
        error=checks.qr_error(a),
        bound=checks.bound(m, "float64"),
        dtype="float64",
        flops=flops.qr_economic(m, n, "float64"),
        traffic=lambda report: traffic.qr_economic(m, n, "float64", report),
    )


SUITE = Suite(
    title="A = Q R, economic, A (m, n), m = aspect n",
    sizes="128:2048:x2",
    cases=lambda sizes: [{"n": n, "aspect": k} for k in (4, 1) for n in sizes],
    peers={"scipy": 'scipy.linalg.qr(a, mode="economic")'},
    default_peers=("scipy",),
    error_measure="the larger one of ||A - Q R|| / (n ||A||) and ||I - Q^H Q|| / m",
    build=build,
)
