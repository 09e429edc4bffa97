"""Problems drawn on a GPU, and the systems that several suites share. See `problems`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import mplinalg
from mplinalg.bench import checks, flops, gpu_checks
from mplinalg.bench.suite import Method, Problem

__all__ = ["normal", "positive_definite", "system", "with_condition"]

Array = Any
_AT_ONCE = 2**26
"""Numbers that are drawn at once: half a gibibyte, and indices that fit an int."""


def normal(rng: np.random.Generator, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    """Standard normal entries, real or complex, from a seed that `rng` gives."""
    import cupy

    device = cupy.random.default_rng(int(rng.integers(2**32)))
    wanted = np.dtype(dtype)
    found = cupy.empty(shape, wanted)
    parts = (found.real, found.imag) if wanted.kind == "c" else (found,)
    rows = max(_AT_ONCE // max(math.prod(found.shape[1:]), 1), 1)
    for part in parts:
        for first in range(0, found.shape[0], rows):
            here = part[first : first + rows]
            here[...] = device.standard_normal(here.shape)
    return found


def positive_definite(rng: np.random.Generator, n: int, dtype: DTypeLike) -> Array:
    """G G^H / n + I / 100, G standard normal: a condition number of some hundreds."""
    g = normal(rng, (n, n), dtype)
    a = g @ g.conj().T
    del g
    a *= 1 / n
    _symmetrise(a)
    a.reshape(-1)[:: n + 1] += 0.01
    return a


def _symmetrise(a: Array, step: int = 2048) -> None:
    """The upper triangle becomes the conjugate of the lower one, block by block."""
    import cupy

    for first in range(0, a.shape[0], step):
        block = slice(first, first + step)
        a[block, first + step :] = a[first + step :, block].conj().T
        lower = cupy.tril(a[block, block], -1)
        real = cupy.diag(cupy.diag(a[block, block]).real)
        a[block, block] = lower + lower.conj().T + real


def with_condition(
    rng: np.random.Generator, m: int, n: int, cond: float, dtype: DTypeLike
) -> Array:
    """U diag(s) V^H, m >= n: s from 1 to 1 / cond in a geometric sequence, U and V random."""
    import cupy

    left = cupy.linalg.qr(normal(rng, (m, n), dtype))[0]
    left *= cupy.asarray(np.geomspace(1, 1 / cond, n))
    return left @ cupy.linalg.qr(normal(rng, (n, n), dtype))[0].conj().T


def system(
    a: Array, b: Array, peers: Mapping[str, Method], *, assume_a: str | None = None
) -> Problem:
    """As `problems.system`, of arrays on a GPU."""
    n, nrhs = a.shape[0], b.shape[1] if b.ndim > 1 else 1
    count = flops.cholesky_solve if assume_a == "pos" else flops.lu_solve
    return Problem(
        ours=lambda: mplinalg.solve(a, b, assume_a=assume_a),
        peers=peers,
        report=lambda: mplinalg.solve(a, b, assume_a=assume_a, full_output=True)[1],
        error=gpu_checks.solve_error(a, b),
        bound=checks.bound(n, a.dtype),
        dtype=a.dtype.name,
        flops=count(n, nrhs, a.dtype),
    )
