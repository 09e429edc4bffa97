"""Systems whose matrix is in a file, solved in a part of its memory, against the same in memory.

A is random normal, in C order and double precision, in a temporary file that is memory-mapped. The
file stays in the cache of the operating system if that is large enough: what a disk adds is not
seen then. `part` is the memory limit over the bytes of A, for tiles, right-hand sides and
workspace; it is never below 8000 + 600 n bytes, so that small orders run. The factors are in
single precision as a rule, half of A.

- in-core: mplinalg.solve of A in memory. Its time over ours is the share of that rate which is
  left in bounded memory.
- scipy: scipy.linalg.solve of A in memory.

Of each row is known besides: the limit, the bytes moved, those that the plan foretold, and their
ratio; the largest sum of tiles and workspace that the plan has at a time; by how much resident
memory grew at most, in a process of its own; the tile; and the part of the transfers that took
place beside arithmetic. "of copy" counts the bytes moved between memory and files.
"""

import os
import shutil
import tempfile

import numba
import numpy as np
import scipy.linalg

import mplinalg
from mplinalg import tiled
from mplinalg.bench import resident
from mplinalg.bench.bounded import bounded, limit_bytes
from mplinalg.bench.suite import Suite

PARTS = {"1/8": 8, "1": 1, "1/16": 16, "1/2": 2, "1/4": 4}
"""What A's bytes are divided by; above order `ALL_PARTS` the first `FEW_PARTS` only."""
ALL_PARTS, FEW_PARTS = 4096, 3


def cases(sizes):
    return [
        {"n": n, "part": part}
        for n in sizes
        for part in list(PARTS)[: len(PARTS) if n <= ALL_PARTS else FEW_PARTS]
    ]


def build(rng, n, part):
    a, b = rng.standard_normal((n, n)), rng.standard_normal(n)
    folder = tempfile.mkdtemp(prefix="mplinalg-out-of-core-")
    paths = [os.path.join(folder, name) for name in ("a.npy", "b.npy")]
    for path, array in zip(paths, (a, b), strict=True):
        np.save(path, array)
    limit = limit_bytes(a.nbytes, PARTS[part], n)

    def ours():
        source = np.load(paths[0], mmap_mode="r")
        return tiled.solve(source, b, memory_limit=limit, full_output=True)

    def findings(report):
        moved = report.traffic
        return {
            "moved / foretold": moved.moved / moved.predicted,
            "resident_growth_bytes": resident.growth(*paths, limit, numba.get_num_threads()),
        }

    peers = {
        "in-core": lambda: mplinalg.solve(a, b),
        "scipy": lambda: scipy.linalg.solve(a, b),
    }
    return bounded(
        a, b, limit, ours, peers, findings=findings,
        close=lambda: shutil.rmtree(folder, ignore_errors=True),
    )  # fmt: skip


SUITE = Suite(
    title="A x = b, A in a file, in bounded memory",
    sizes="8192,4096",
    cases=cases,
    peers={"in-core": "mplinalg.solve(a, b)", "scipy": "scipy.linalg.solve(a, b)"},
    default_peers=("in-core",),
    error_measure="normwise backward error",
    build=build,
)
