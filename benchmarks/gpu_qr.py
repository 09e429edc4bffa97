"""QR on a GPU, economic: A = Q R with Q formed, tall (8 n, n) and square, real double precision.

Q must be orthonormal to working precision. A is random normal, drawn on the device.

- cusolver: geqrf and orgqr in double precision.
- torch: linalg.qr, up to 16384 rows.
"""

import mplinalg
from mplinalg.bench import checks, flops, gpu_checks
from mplinalg.bench.gpu_peers import torch_with
from mplinalg.bench.gpu_problems import normal
from mplinalg.bench.suite import Problem, Suite


def build(rng, n, aspect):
    import cupy

    m = aspect * n
    a = normal(rng, (m, n), "float64")
    return Problem(
        ours=lambda: mplinalg.qr(a, mode="economic"),
        peers={
            "cusolver": lambda: cupy.linalg.qr(a),
            "torch": lambda: torch_with(lambda torch, given: tuple(torch.linalg.qr(given)), a),
        },
        report=lambda: mplinalg.qr(a, mode="economic", full_output=True)[-1],
        error=gpu_checks.qr_error(a),
        bound=checks.bound(m, "float64"),
        dtype="float64",
        flops=flops.qr_economic(m, n, "float64"),
    )


SUITE = Suite(
    title="A = Q R, economic, A (m, n), m = aspect n",
    sizes="4096,2048,8192,1024",
    cases=lambda sizes: [{"n": n, "aspect": k} for n in sizes for k in (8, 1)],
    peers={"cusolver": "cupy.linalg.qr(a)", "torch": "torch.linalg.qr(a)"},
    default_peers=("cusolver", "torch"),
    error_measure="the larger one of ||A - Q R|| / (n ||A||) and ||I - Q^H Q|| / m",
    build=build,
    device="cuda",
)
