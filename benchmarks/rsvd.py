"""The k largest singular values and vectors of a tall matrix, by random vectors: A (20 n, n).

A = U diag(s) V^T, double precision, s_j = 2^-j for j = 0, 1, ..., 79, U and V random with
orthonormal columns. k is 20 (n, if that is less). Ours and the randomised peers take 10 more
random vectors and two power iterations; then what they leave out of the k largest is of the size
2^-70, so that all methods are judged by their rounding errors.

Ours reads A from a temporary file, in memory for an eighth of A and for its vectors; how often it
reads all of A is counted. The peers have A in memory.

- scipy: scipy.linalg.svd, all singular values.
- sklearn: randomized_svd, which orthonormalises between the products by QR.
- dask: svd_compressed, the same, in four chunks of rows, as many threads as are asked for.

The error is the largest of |s_j - 2^-j|, ||A v_j - s_j u_j||, ||A^T u_j - s_j v_j||,
||I - U^T U|| and ||I - V^T V||; ||A|| = 1. Rates count the flops of ours.
"""

import os
import shutil
import tempfile

import numba
import numpy as np
import scipy.linalg
import threadpoolctl

from mplinalg import tiled
from mplinalg.bench import checks
from mplinalg.bench.suite import Problem, Suite

ASPECT, WANTED, RANK = 20, 20, 80
OVERSAMPLE, POWER = 10, 2
CHUNKS = 4


def build(rng, n, aspect, k):
    m, rank = aspect * n, min(n, RANK)
    u, v = (np.linalg.qr(rng.standard_normal((rows, rank)))[0] for rows in (m, n))
    s = 0.5 ** np.arange(rank)
    a = (u * s) @ v.T
    folder = tempfile.mkdtemp(prefix="mplinalg-rsvd-")
    path = os.path.join(folder, "a.npy")
    np.save(path, a)
    columns = min(k + OVERSAMPLE, n)
    # the tiles of a pass, beside the vectors that svd sets aside
    limit = a.nbytes // 8 + 8 * (8 * (m + n) * columns + 16 * n)

    def ours(source=None):
        source = np.load(path, mmap_mode="r") if source is None else source
        return tiled.svd(source, k, oversample=OVERSAMPLE, power=POWER, memory_limit=limit)

    def passes():
        counted = Counted(np.load(path, mmap_mode="r"))
        ours(counted)
        return {"passes": counted.entries / a.size, "limit_bytes": limit}

    return Problem(
        ours=ours,
        peers=peers(a, k),
        report=None,
        error=svd_error(a, s[:k]),
        # so many reflections of vectors of m entries, whose rounding errors have random signs
        bound=checks.bound(m * columns, a.dtype),
        dtype="float64",
        flops=2.0 * m * n * columns * (2 + 2 * POWER),
        traffic=lambda _: float((2 + 2 * POWER) * a.nbytes),
        findings=passes,
        close=lambda: shutil.rmtree(folder, ignore_errors=True),
    )


def peers(a, k):
    blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
    chunk = -(-len(a) // CHUNKS)

    def full():
        u, s, vh = scipy.linalg.svd(a, full_matrices=False)
        return u[:, :k], s[:k], vh[:k]

    def by_sklearn():
        from sklearn.utils import extmath

        return extmath.randomized_svd(
            a, k, n_oversamples=OVERSAMPLE, n_iter=POWER, power_iteration_normalizer="QR",
            random_state=0,
        )  # fmt: skip

    def by_dask():
        import dask
        import dask.array as da

        found = da.linalg.svd_compressed(
            da.from_array(a, chunks=(chunk, -1), name=False), k, iterator="QR",
            n_power_iter=POWER, n_oversamples=OVERSAMPLE, seed=0,
        )  # fmt: skip
        with blas.limit(limits=1):  # its own threads instead
            return dask.compute(*found, scheduler="threads", num_workers=numba.get_num_threads())

    return {"scipy": full, "sklearn": by_sklearn, "dask": by_dask}


class Counted:
    """A matrix that counts the entries which are read."""

    is_sendable, is_fresh = False, False

    def __init__(self, a):
        self.a, self.shape, self.dtype, self.entries = a, a.shape, a.dtype, 0

    def read(self, rows, columns):
        part = np.array(self.a[rows, columns])
        self.entries += part.size
        return part


def svd_error(a, s):
    """What the head of this file calls the error, of given (U, s, V^T)."""

    def error(found):
        u, values, vh = map(np.asarray, found)
        k = len(s)
        if (u.shape, values.shape, vh.shape) != ((len(a), k), (k,), (k, a.shape[1])):
            return float("nan")
        if not all(np.isfinite(part).all() for part in (u, values, vh)):
            return float("nan")
        departures = (np.eye(k) - u.T @ u, np.eye(k) - vh @ vh.T)
        sides = (a @ vh.T - u * values, a.T @ u - vh.T * values)
        return float(max(
            np.max(np.abs(values - s)),
            *(np.linalg.norm(part, 2) for part in departures),
            *(np.max(np.linalg.norm(part, axis=0)) for part in sides),
        ))  # fmt: skip

    return error


SUITE = Suite(
    title="the k largest singular values and vectors, A (m, n), m = aspect n",
    sizes="1000,500,250",
    cases=lambda sizes: [{"n": n, "aspect": ASPECT, "k": min(n, WANTED)} for n in sizes],
    peers={
        "scipy": "scipy.linalg.svd(a, full_matrices=False)",
        "sklearn": "sklearn.utils.extmath.randomized_svd(a, k, n_oversamples=10, n_iter=2, "
        'power_iteration_normalizer="QR", random_state=0)',
        "dask": 'dask.array.linalg.svd_compressed(a, k, iterator="QR", n_power_iter=2, '
        'n_oversamples=10, seed=0), dask.compute(..., scheduler="threads", num_workers=...)',
    },
    default_peers=("scipy", "sklearn", "dask"),
    error_measure="largest of the errors of s, of A V = U s, of A^T U = V s, of U^T U and V^T V",
    build=build,
    numpy_too=True,
)
