"""Systems on the host that are factored on a GPU in part of the memory of their factors.

A is random normal, in double precision, in the memory of the host. Single-precision factors would
take half of its bytes; the memory limit on the device is `part` of those, for tiles, workspace and
what is being moved. It is never below 8000 + 600 n bytes, so that small orders run.

- in-core: mplinalg.solve of A on the device, where it fits there: double-precision A, its copy in
  the low precision, and the factors. Its time over ours is the share of that rate which is left.

Of each row is known besides: the limit, the bytes moved over the link, those that the plan
foretold, the largest sum of tiles and workspace that it has at a time, the tile, and the part of
the transfers that took place beside arithmetic. "of copy" counts the bytes moved against copies
within the device: the ceiling that matters, the link to the host, is far below that.
"""

import numpy as np

import mplinalg
from mplinalg import tiled
from mplinalg.bench import checks, flops
from mplinalg.bench.gpu_problems import normal
from mplinalg.bench.suite import Problem, Suite

PARTS = {"1/3": 3, "1": 1}
_ROWS = 1024
"""Of A that are drawn at a time."""


def on_host(rng, n):
    """A random normal matrix, drawn on the device."""
    a = np.empty((n, n))
    for first in range(0, n, _ROWS):
        rows = slice(first, min(first + _ROWS, n))
        a[rows] = normal(rng, (rows.stop - rows.start, n), "float64").get()
    return a


def build(rng, n, part):
    import cupy

    a, b = on_host(rng, n), rng.standard_normal(n)
    limit = max(4 * n * n // PARTS[part], 8000 + 600 * n)
    executor = tiled.LocalExecutor(limit, device="cuda")
    reports = []

    def ours():
        x, report = tiled.solve(a, b, executor=executor, full_output=True)
        reports[:] = [report]
        return x

    def in_core():
        return cupy.asnumpy(mplinalg.solve(cupy.asarray(a), cupy.asarray(b)))

    def findings():
        moved = reports[0].traffic
        return {
            "limit_bytes": limit,
            "moved_bytes": moved.moved,
            "foretold_bytes": moved.predicted,
            "planned_peak_bytes": moved.peak,
            "tile": reports[0].tile,
            "overlap": round(moved.overlap, 3),
        }

    return Problem(
        ours=ours,
        peers={"in-core": in_core},
        report=lambda: reports[0],
        error=checks.solve_error(a, b),
        bound=checks.bound(n, a.dtype),
        dtype="float64",
        flops=flops.lu_solve(n, 1, a.dtype),
        traffic=lambda report: float(report.traffic.moved),
        findings=findings,
    )


SUITE = Suite(
    title="A x = b, A on the host, in part of the memory of a GPU",
    sizes="32768,16384,98304",
    cases=lambda sizes: [{"n": n, "part": part} for part in PARTS for n in sizes],
    peers={"in-core": "mplinalg.solve(cupy.asarray(a), cupy.asarray(b))"},
    default_peers=("in-core",),
    error_measure="normwise backward error",
    build=build,
    device="cuda",
)
