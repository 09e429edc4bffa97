"""The CUDA backend on stacks: kernels that take a warp, a part of one, or a block for a member.

Where a kernel cannot be had, or members are too large for it, cuSOLVER and cuBLAS stand in, with a
warning in the first case. The few members that may be singular, or whose numbers leave the range
of the dtype on the way, are copied to the host and computed again by the backend for NumPy: so what
is said of a member does not depend on where it was solved. To know them is one transfer of a few
bytes, the only thing that a verb waits for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from ..kernels.cuda import batched, batched_members, batched_products, fallbacks
from ..kernels.cuda.loader import KernelUnavailable
from ..precision import Format, real_dtype, working_format
from .batched import NOT_FINITE, FactoredBatch, Judged, SolvedBatch
from .cupy_batched_ragged import BatchedRagged
from .cupy_batched_stacks import as_stack, stacks
from .cupy_ops import CupyOps
from .protocol import Array

_NOBODY = Judged(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0))


@functools.cache
def _on_host() -> Any:
    """The backend for NumPy."""
    from .numpy_batched import NumpyBatchedOps

    return NumpyBatchedOps()


def _limit(dtype: np.dtype[Any], n: int) -> float:
    """Of n kappa: beyond it a member may be singular to working precision."""
    return (2.0**52 / 1e4 if dtype.char in "dD" else 2.0**23 / 10) / math.sqrt(n)


class CupyBatchedOps(BatchedRagged):
    """`mplinalg.ops.BatchedOps` on CuPy arrays; products also of arrays of half precision."""

    name = "cupy"
    xp = cupy
    takes_large = True

    # -- products and triangles -----------------------------------------------------------------

    def gemm_batched(
        self, alpha: complex, a: Array, b: Array, beta: complex, c: Array, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
    ) -> None:  # fmt: skip
        CupyOps.require_one_device(a, b, c)
        m, k = a.shape[-2:] if transa == "N" else a.shape[:-3:-1]
        inner, n = b.shape[-2:] if transb == "N" else b.shape[:-3:-1]
        batch = c.shape[:-2]
        if inner != k or c.shape[-2:] != (m, n) or not a.shape[:-2] == b.shape[:-2] == batch:
            raise ValueError(f"gemm: shapes {a.shape}, {b.shape} and {c.shape} do not fit")
        if c.size == 0:
            return
        if k == 0 or alpha == 0:  # A and B are not read
            c[...] = c.dtype.type(beta) * c if beta != 0 else 0
            return
        are_few = False
        for left, right, result in stacks(a, b, c):
            are_few = True
            batched_products.multiply(alpha, left, right, beta, result, transa, transb, compute)
        if are_few:
            return
        left, right, result = map(as_stack, (a, b, c))
        batched_products.multiply(alpha, left, right, beta, result, transa, transb, compute)
        if not cupy.may_share_memory(result, c):  # strides that no stack has
            c[...] = result.reshape(c.shape)

    def trsm_batched(
        self, a: Array, b: Array, *, lower: bool, unit: bool = False, trans: str = "N"
    ) -> SolvedBatch:
        shape = b.shape
        a, b = as_stack(a), as_stack(b)
        self._require(a, b)
        if b.size == 0:
            return SolvedBatch(cupy.empty(shape, b.dtype), _NOBODY)
        x, info = self._run("trsm", a, b, lower=lower, unit=unit, trans=trans)
        members = cupy.flatnonzero(info)
        found = np.stack([members.get(), info[members].get()])
        judged = Judged(found[0], found[1].astype(np.int32), np.zeros(members.size))
        return SolvedBatch(x.reshape(shape), judged)

    # -- square systems -------------------------------------------------------------------------

    def gesv_batched(self, a: Array, b: Array) -> SolvedBatch:
        return self._solve("gesv", a, b)

    def posv_batched(self, a: Array, b: Array) -> SolvedBatch:
        return self._solve("posv", a, b, lower=False)

    def _solve(self, routine: str, a: Array, b: Array, **options: Any) -> SolvedBatch:
        self._require(a, b)
        if b.size == 0:
            return SolvedBatch(cupy.empty(b.shape, b.dtype), _NOBODY)
        found = self._run(routine, a, b, **options)
        again = getattr(_on_host(), f"{routine}_batched")
        x = found.x

        def judge(members: Array) -> Judged:
            part, judged = again(a[members].get(), b[members].get())
            x[members] = cupy.asarray(part)
            return judged

        return SolvedBatch(x, self._judged(a, found, judge))

    def getrf_batched(self, a: Array) -> FactoredBatch:
        return self._factor("getrf", a)

    def potrf_batched(self, a: Array, *, lower: bool = True) -> FactoredBatch:
        return self._factor("potrf", a, lower=lower)

    def _factor(self, routine: str, a: Array, **options: Any) -> FactoredBatch:
        self._require(a)
        if a.size == 0:
            piv = cupy.empty(a.shape[:-1], np.int32) if routine == "getrf" else None
            return FactoredBatch(cupy.empty(a.shape, a.dtype), piv, _NOBODY)
        found = self._run(routine, a, **options)
        again = getattr(_on_host(), f"{routine}_batched")

        def judge(members: Array) -> Judged:
            part = again(a[members].get(), **options)
            found.factors[members] = cupy.asarray(part.factors)
            if found.piv is not None:
                found.piv[members] = cupy.asarray(part.piv)
            return part.judged

        return FactoredBatch(found.factors, found.piv, self._judged(a, found, judge))

    def getrs_batched(self, lu: Array, piv: Array, b: Array, *, trans: str = "N") -> Array:
        self._require(lu, b)
        if b.size == 0:
            return cupy.empty(b.shape, b.dtype)
        return self._run("getrs", lu, piv, b, trans=trans)

    def potrs_batched(self, c: Array, b: Array, *, lower: bool = True) -> Array:
        self._require(c, b)
        if b.size == 0:
            return cupy.empty(b.shape, b.dtype)
        return self._run("potrs", c, b, lower=lower)

    def inv_batched(self, a: Array) -> SolvedBatch:
        self._require(a)
        if a.size == 0:
            return SolvedBatch(cupy.empty(a.shape, a.dtype), _NOBODY)
        found = self._run(
            "gesv", a, cupy.broadcast_to(cupy.eye(a.shape[1], dtype=a.dtype), a.shape)
        )

        def judge(members: Array) -> Judged:
            part, judged = _on_host().inv_batched(a[members].get())
            found.x[members] = cupy.asarray(part)
            return judged

        return SolvedBatch(found.x, self._judged(a, found, judge))

    # -- orthogonal factors ---------------------------------------------------------------------

    def qr_batched(self, a: Array, *, mode: str = "reduced") -> tuple[Array, Array, Judged]:
        CupyOps.require_one_device(a)
        count, m, n = a.shape
        rank = min(m, n)
        if count == 0 or rank == 0:
            columns, rows = {"reduced": (rank, rank), "complete": (m, m), "r": (0, rank)}[mode]
            q = cupy.zeros((count, m, columns), a.dtype)
            q[...] = cupy.eye(m, columns, dtype=a.dtype)
            return q, cupy.zeros((count, rows, n), a.dtype), _NOBODY
        q, r, info = _qr(a, mode)
        members = cupy.flatnonzero(info)
        if not members.size:
            return q, r, _NOBODY
        part_q, part_r, judged = _on_host().qr_batched(a[members].get(), mode=mode)
        q[members], r[members] = cupy.asarray(part_q), cupy.asarray(part_r)
        return q, r, _renamed(judged, members)

    def lstsq_batched(
        self, a: Array, b: Array, rcond: float | None = None
    ) -> tuple[SolvedBatch, Array, Array]:
        CupyOps.require_one_device(a, b)
        (count, m, n), nrhs = a.shape, b.shape[2]
        rank = min(m, n)
        ranks = np.full(count, rank)
        real = real_dtype(a.dtype)
        if count == 0 or rank == 0:
            x = cupy.zeros((count, n, nrhs), a.dtype)
            squares = (abs(b) ** 2).sum(axis=1).astype(real)
            bad = cupy.flatnonzero(~cupy.isfinite(squares).all(axis=1)).get()
            info = np.full(bad.size, NOT_FINITE, np.int32)
            return SolvedBatch(x, Judged(bad, info, np.zeros(bad.size))), ranks, squares
        x, kappa = self._full_rank(a, b)
        rest = cupy.array(b)
        self.gemm_batched(-1.0, a, x, 1.0, rest)
        squares = (rest.real**2 + rest.imag**2).sum(axis=1)
        u = working_format(a.dtype).unit_roundoff
        cutoff = 2 * u if rcond is None else float(rcond)
        # clear of the cutoff, and of the rounding errors of R
        most = real.type(min(1 / (10 * max(cutoff, max(m, n) * u)) / rank, np.finfo(real).max))
        members = cupy.flatnonzero(~((kappa <= most) & cupy.isfinite(squares).all(axis=1)))
        if not members.size:
            return SolvedBatch(x, _NOBODY), ranks, squares
        (part, judged), some, rests = _on_host().lstsq_batched(
            a[members].get(), b[members].get(), rcond
        )
        x[members], squares[members] = cupy.asarray(part), cupy.asarray(rests)
        ranks[members.get()] = some
        return SolvedBatch(x, _renamed(judged, members)), ranks, squares

    def _full_rank(self, a: Array, b: Array) -> tuple[Array, Array]:
        """X as if the rank were full, and estimates of max |R| max |R^-1|, (N,)."""
        m, n = a.shape[1:]
        is_tall = m >= n
        q, r, _ = _qr(a if is_tall else _adjoint(a), "reduced")
        y = b
        if is_tall:
            y = cupy.empty((len(b), n, b.shape[2]), b.dtype)
            self.gemm_batched(1.0, q, b, 0.0, y, transa="C")
        # two random right-hand sides more
        z = np.random.default_rng(0).uniform(0.5, 1.0, (min(m, n), 2))
        z[1::2] *= -1
        z = cupy.broadcast_to(cupy.asarray(z.astype(a.dtype)), (len(b), *z.shape))
        both = cupy.concatenate([y, z], axis=2)
        found = self._run("trsm", r, both, lower=False, trans="N" if is_tall else "C")[0]
        x, z = found[..., :-2], found[..., -2:]
        kappa = abs(r).max(axis=(1, 2)) * abs(z).max(axis=(1, 2))
        if is_tall:
            return cupy.ascontiguousarray(x), kappa
        whole = cupy.empty((len(b), n, b.shape[2]), b.dtype)
        self.gemm_batched(1.0, q, x, 0.0, whole)
        return whole, kappa

    # -- what they share ------------------------------------------------------------------------

    @staticmethod
    def _require(a: Array, b: Array | None = None) -> None:
        """Square members on the current device, and right-hand sides that fit them."""
        CupyOps.require_one_device(*(x for x in (a, b) if x is not None))
        fits = a.ndim == 3 and a.shape[1] == a.shape[2]
        if b is not None:
            fits = fits and b.ndim == 3 and b.shape[:2] == a.shape[:2] and b.dtype == a.dtype
        if not fits:
            given = a.shape if b is None else f"{a.shape} and {b.shape}"
            raise ValueError(f"square members, and right-hand sides that fit; got shapes {given}")

    @staticmethod
    def _run(routine: str, a: Array, *arguments: Any, **options: Any) -> Any:
        """By a kernel, or by the vendor's libraries."""
        if batched.has_kernel(a.dtype, a.shape[1]):
            try:
                return getattr(batched, routine)(a, *arguments, **options)
            except KernelUnavailable as reason:
                fallbacks.note(reason)
        return getattr(batched_members, routine)(a, *arguments, **options)

    @staticmethod
    def _judged(a: Array, found: Any, judge: Callable[[Array], Judged]) -> Judged:
        """What `judge` finds out about the members that a kernel is not sure of."""
        n = a.shape[1]
        limit = real_dtype(a.dtype).type(_limit(a.dtype, n) / n)
        members = cupy.flatnonzero((found.info != 0) | ~(found.kappa <= limit))
        if not members.size:
            return _NOBODY
        return _renamed(judge(members), members)


def _renamed(judged: Judged, members: Array) -> Judged:
    """What was said of some members, by their numbers among all."""
    return judged._replace(members=members.get()[judged.members])


def _adjoint(a: Array) -> Array:
    """A^H"""
    turned = a.swapaxes(1, 2)
    return cupy.conj(turned) if a.dtype.kind == "c" else turned


def _qr(a: Array, mode: str) -> batched.Orthogonal:
    """By a kernel, or by CuPy."""
    if batched.has_qr_kernel(a.dtype, *a.shape[1:]):
        try:
            return batched.qr(a, mode)
        except KernelUnavailable as reason:
            fallbacks.note(reason)
    return batched_members.qr(a, mode)
