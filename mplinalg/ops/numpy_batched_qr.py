"""Orthogonal factors, least squares and inverses of stacks on the CPU."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from ..precision import real_dtype, working_format
from .batched import NOT_FINITE, Judged, SolvedBatch
from .numpy_growth import mend_inverses
from .protocol import Array


@functools.cache
def _compiled(name: str) -> Any:
    """A module of compiled kernels; Numba is imported with the first of them."""
    return importlib.import_module(f"..kernels.cpu.batched.{name}", __package__)


def _is_finite(a: Array) -> Array:
    """Which members of a stack hold neither NaN nor infinity."""
    finite: Array = np.isfinite(a).all(axis=(1, 2))
    return finite


class BatchedQR:
    """The verbs qr, lstsq and inv of `mplinalg.ops.BatchedOps`."""

    def qr_batched(self, a: Array, *, mode: str = "reduced") -> tuple[Array, Array, Judged]:
        count, m, n = a.shape
        rank = min(m, n)
        columns = {"reduced": rank, "complete": m, "r": 0}[mode]
        q = np.empty((count, m, columns), a.dtype)
        r = np.empty((count, m if mode == "complete" else rank, n), a.dtype)
        if rank == 0 or count == 0:
            q[...] = np.eye(m, columns, dtype=a.dtype)
            r[...] = 0
            return q, r, _judged([], [])
        checks = np.empty(count, real_dtype(a.dtype))
        _compiled("qr").qr_stack(a, columns, q, r, checks)
        suspects = np.flatnonzero(checks)
        if not suspects.size:
            return q, r, _judged([], [])
        finite = _is_finite(a[suspects])
        large = suspects[finite]
        if large.size:
            # sums of numbers near the largest one overflowed: factor A / s, and multiply R by s
            scale = real_dtype(a.dtype).type(2.0**20)
            part_q, part_r = np.empty_like(q[large]), np.empty_like(r[large])
            part = a[large] / scale
            _compiled("qr").qr_by_lapack(part, columns, part_q, part_r, checks[: large.size])
            with np.errstate(over="ignore", invalid="ignore"):
                q[large], r[large] = part_q, part_r * scale
        bad = suspects[~finite]
        return q, r, _judged(bad, np.full(bad.size, NOT_FINITE))

    def inv_batched(self, a: Array) -> SolvedBatch:
        x = np.empty(a.shape, a.dtype)
        if x.size == 0:
            return SolvedBatch(x, _judged([], []))
        kernels = _compiled("inverse")
        rcond = np.empty(len(a), real_dtype(a.dtype))
        kernels.inverse_stack(a, x, rcond)
        # |re| + |im| is up to twice the absolute value
        limit = 2 * working_format(a.dtype).unit_roundoff * (2 if a.dtype.kind == "c" else 1)
        suspects = np.flatnonzero(~(rcond >= limit))
        if not suspects.size:
            return SolvedBatch(x, _judged([], []))
        part = a[suspects]
        found, size = np.empty(part.shape, a.dtype), np.empty(suspects.size)
        info = np.zeros(suspects.size, np.int32)
        kernels.getri_stack(part, found, size, info)
        info[~_is_finite(part)] = NOT_FINITE
        mend_inverses(part, found, info, size)
        x[suspects] = found
        return SolvedBatch(x, _judged(suspects, info, size))

    def lstsq_batched(
        self, a: Array, b: Array, rcond: float | None = None
    ) -> tuple[SolvedBatch, Array, Array]:
        count, m, n = a.shape
        nrhs = b.shape[2]
        if nrhs == 0:  # there is a rank all the same
            one = np.zeros((count, m, 1), b.dtype)
            (x, judged), ranks, squares = self.lstsq_batched(a, one, rcond)
            return SolvedBatch(x[:, :, :0], judged), ranks, squares[:, :0]
        u = working_format(a.dtype).unit_roundoff
        cutoff = 2 * u if rcond is None else float(rcond)
        x = np.empty((count, n, nrhs), a.dtype)
        squares = np.empty((count, nrhs), real_dtype(a.dtype))
        ranks = np.full(count, min(m, n))
        if count == 0 or min(m, n) == 0:
            x[...] = 0
            with np.errstate(over="ignore", invalid="ignore"):
                squares[...] = (b.real**2 + b.imag**2).sum(axis=1)
            bad = np.flatnonzero(~_is_finite(b))
            return SolvedBatch(x, _judged(bad, np.full(bad.size, NOT_FINITE))), ranks, squares
        kernels = _compiled("lstsq")
        bound = np.empty(count, squares.dtype)
        kernels.lstsq_stack(a, b, x, squares, bound)
        # clear of the cutoff, and of the rounding errors of R
        doubtful = np.flatnonzero(~(bound >= 10 * max(cutoff, max(m, n) * u)))
        if not doubtful.size:
            return SolvedBatch(x, _judged([], [])), ranks, squares
        info = np.full(doubtful.size, NOT_FINITE, np.int32)
        finite = np.flatnonzero(_is_finite(a[doubtful]) & _is_finite(b[doubtful]))
        some = doubtful[finite]
        ranks[doubtful] = 0
        if some.size:
            found, rest = np.empty((some.size, n, nrhs), a.dtype), np.empty_like(squares[some])
            rank, outcome = np.empty(some.size, np.int32), np.empty(some.size, np.int32)
            kernels.gelsd_stack(a[some], b[some], cutoff, found, rest, rank, outcome)
            x[some], squares[some], ranks[some], info[finite] = found, rest, rank, outcome
        bad = np.flatnonzero(info)
        return SolvedBatch(x, _judged(doubtful[bad], info[bad])), ranks, squares


def _judged(members: Any, info: Any, rcond: Any = None) -> Judged:
    members = np.asarray(members, np.int64)
    size = np.zeros(members.size) if rcond is None else rcond
    return Judged(members, np.asarray(info, np.int32), size)
