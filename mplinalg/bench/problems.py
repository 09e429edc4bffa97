"""Drawing matrices, and the problems that several suites share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import mplinalg
from mplinalg.bench import checks, flops, traffic
from mplinalg.bench.suite import Method, Problem

__all__ = ["normal", "positive_definite", "system", "with_condition"]

Array = NDArray[Any]


def normal(rng: np.random.Generator, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    """Standard normal entries, real or complex."""
    wanted = np.dtype(dtype)
    x = rng.standard_normal(shape)
    if wanted.kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(wanted, copy=False)


def positive_definite(rng: np.random.Generator, n: int, dtype: DTypeLike) -> Array:
    """G G^H / n + I / 100, G standard normal: a condition number of some hundreds."""
    g = normal(rng, (n, n), dtype)
    a = g @ g.conj().T
    a = (a + a.conj().T) / (2 * n)
    a[np.diag_indices(n)] += 0.01
    return a.astype(dtype, copy=False)


def with_condition(
    rng: np.random.Generator, m: int, n: int, cond: float, dtype: DTypeLike
) -> Array:
    """U diag(s) V^H, m >= n: s from 1 to 1 / cond in a geometric sequence, U and V random."""
    u = np.linalg.qr(normal(rng, (m, n), dtype))[0]
    v = np.linalg.qr(normal(rng, (n, n), dtype))[0]
    return ((u * np.geomspace(1, 1 / cond, n)) @ v.conj().T).astype(dtype, copy=False)


def system(
    a: Array, b: Array, peers: Mapping[str, Method], *, assume_a: str | None = None
) -> Problem:
    """A X = B by `mplinalg.solve`; `assume_a` "pos" counts as Cholesky, anything else as LU."""
    n, nrhs = a.shape[0], b.shape[1] if b.ndim > 1 else 1
    is_cholesky = assume_a == "pos"
    count = flops.cholesky_solve if is_cholesky else flops.lu_solve
    return Problem(
        ours=lambda: mplinalg.solve(a, b, assume_a=assume_a),
        peers=peers,
        report=lambda: mplinalg.solve(a, b, assume_a=assume_a, full_output=True)[1],
        error=checks.solve_error(a, b),
        bound=checks.bound(n, a.dtype),
        dtype=a.dtype.name,
        flops=count(n, nrhs, a.dtype),
        traffic=lambda report: traffic.solve(n, nrhs, a.dtype, report, is_symmetric=is_cholesky),
    )
