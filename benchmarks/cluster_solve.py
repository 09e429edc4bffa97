"""Systems on a Dask cluster of this machine: A x = b, one right-hand side, real double precision.

A is in a file that the workers read block by block. `chunk` is the order of the peer's chunks: a
quarter of n, and at most 1000; ours are block columns as the library chooses them. `workers` are
processes of one thread each, whatever ``--threads`` says. A is

- shifted: random normal plus 2 sqrt(n) I. No pivoting is needed, which suits the peer;
- orthogonal: that of the gallery, of half the first order. Its condition number is 1, but those of
  its leading blocks are large: the peer loses about two digits.

- dask: dask.array.linalg.solve on the same cluster, file and chunks: LU in double precision that
  pivots within the chunks of the diagonal only. The table at the end shows what it loses by that;
  where its backward error is above the bound, its answer is recorded as wrong and not timed. It
  takes only orders that are multiples of the chunk.
"""

import warnings

import numpy as np

from mplinalg import tiled
from mplinalg.bench import checks, clusters, flops
from mplinalg.bench.suite import Problem, Suite
from mplinalg.bench.table import aligned
from mplinalg.testing import gallery

CHUNKS, LARGEST = 4, 1000
"""Chunks in a row, and the largest order of one."""


def cases(sizes):
    """The matrix that suits both, on two workers and on one; the other one on two."""
    rows = [case(n, "shifted", workers) for n in sizes for workers in (2, 1)]
    return [*rows[:2], *(case(-(-n // 2), "orthogonal", 2) for n in sizes[:1]), *rows[2:]]


def case(n, matrix, workers):
    chunk = min(LARGEST, -(-n // CHUNKS))
    return {"n": n, "matrix": matrix, "chunk": chunk, "workers": workers}


def drawn(rng, n, matrix):
    if matrix == "orthogonal":
        return gallery.matrix("orthogonal", n)
    a = rng.standard_normal((n, n))
    if matrix == "shifted":
        a[np.diag_indices(n)] += 2 * np.sqrt(n)
    return a


def build(rng, n, matrix, chunk, workers):
    cluster = clusters.Cluster(workers)
    try:
        return problem(cluster, drawn(rng, n, matrix), rng.standard_normal(n), chunk)
    except BaseException:
        cluster.close()
        raise


def problem(cluster, a, b, chunk):
    import dask
    import dask.array.linalg

    n, path = len(b), cluster.saved(a)
    source = np.load(path, mmap_mode="r")
    blocks, rhs = clusters.blocks_of(path, chunk), dask.array.from_array(b, chunks=chunk)
    executor = tiled.DaskExecutor(cluster.client)

    reports = []

    def ours():
        x, report = tiled.solve(source, b, executor=executor, full_output=True)
        reports[:] = [report]
        return x

    def theirs():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the size of the graph
            return dask.compute(dask.array.linalg.solve(blocks, rhs))[0]

    return Problem(
        ours=ours,
        peers={"dask": theirs},
        report=lambda: reports[0],
        error=checks.solve_error(a, b),
        bound=checks.bound(n, a.dtype),
        dtype="float64",
        flops=flops.lu_solve(n, 1, a.dtype),
        traffic=None,
        close=cluster.close,
    )


def summary(records):
    """Backward errors of both, in units of the unit roundoff."""
    rows = []
    for record in records:
        if "peers" not in record:
            continue
        errors = [m.get("error") for m in (record["ours"], record["peers"].get("dask", {}))]
        cells = ["-" if error is None else f"{error * 2.0**53:.3g}" for error in errors]
        rows.append([*map(str, record["parameters"].values()), *cells])
    if not rows:
        return ""
    heads = [*records[0]["parameters"], "backward error\nours / u", "\ndask / u"]
    return aligned(heads, rows)


SUITE = Suite(
    title="A x = b on a Dask cluster",
    sizes="2000,4000",
    cases=cases,
    peers={"dask": "dask.array.linalg.solve(a, b), dask.compute(...)"},
    default_peers=("dask",),
    error_measure="normwise backward error",
    build=build,
    summary=summary,
)
