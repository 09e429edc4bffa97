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
from mplinalg.bench.bounded import bounded, limit_bytes
from mplinalg.bench.gpu_problems import normal
from mplinalg.bench.suite import Suite

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
    limit = limit_bytes(4 * n * n, PARTS[part], n)
    executor = tiled.LocalExecutor(limit, device="cuda")

    def ours():
        return tiled.solve(a, b, executor=executor, full_output=True)

    def in_core():
        return cupy.asnumpy(mplinalg.solve(cupy.asarray(a), cupy.asarray(b)))

    return bounded(a, b, limit, ours, {"in-core": in_core})


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
