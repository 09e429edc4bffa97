"""Systems and factors of stacks on the CPU."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from .batched import FactoredBatch, Judged, SolvedBatch
from .numpy_growth import mend_solutions
from .protocol import Array


@functools.cache
def _systems() -> Any:
    """The kernels; Numba is imported with them."""
    return importlib.import_module("..kernels.cpu.batched.systems", __package__)


def _judged(flags: Array, judge: Any) -> Judged:
    """What ``judge(members, info, rcond)`` finds out about the members that have a flag."""
    (members,) = flags.nonzero()
    info, rcond = np.zeros(len(members), np.int32), np.zeros(len(members))
    if len(members):
        judge(members, info, rcond)
    return Judged(members, info, rcond)


class BatchedSolve:
    """The verbs gesv, posv, getrf, getrs, potrf and potrs of `mplinalg.ops.BatchedOps`."""

    def gesv_batched(self, a: Array, b: Array) -> SolvedBatch:
        return self._solve(False, a, b)

    def posv_batched(self, a: Array, b: Array) -> SolvedBatch:
        return self._solve(True, a, b)

    def _solve(self, definite: bool, a: Array, b: Array) -> SolvedBatch:
        x = np.empty(b.shape, b.dtype)
        if x.size == 0:
            return SolvedBatch(x, _judged(np.empty(0), None))
        flags = np.empty(len(b), np.uint8)
        systems = _systems()
        (systems.posv if definite else systems.gesv)(a, b, x, flags)

        def judge(members: Array, info: Array, rcond: Array) -> None:
            found = np.empty((len(members), *x.shape[1:]), x.dtype)
            matrices, rhs = a[members], b[members]
            systems.one_by_one(definite, matrices, rhs, found, info, rcond)
            if not definite:
                mend_solutions(matrices, rhs, found, info, rcond)
            x[members] = found

        return SolvedBatch(x, _judged(flags, judge))

    def getrf_batched(self, a: Array) -> FactoredBatch:
        lu, piv = np.empty(a.shape, a.dtype), np.empty(a.shape[:-1], np.int32)
        if lu.size == 0:
            return FactoredBatch(lu, piv, _judged(np.empty(0), None))
        flags = np.empty(len(a), np.uint8)
        _systems().getrf(a, lu, piv, flags)

        def judge(members: Array, info: Array, rcond: Array) -> None:
            some = np.empty((len(members), *a.shape[1:]), a.dtype)
            rows = np.empty(some.shape[:-1], np.int32)
            _systems().getrf_one_by_one(a[members], some, rows, info, rcond)
            lu[members], piv[members] = some, rows

        return FactoredBatch(lu, piv, _judged(flags, judge))

    def potrf_batched(self, a: Array, *, lower: bool = True) -> FactoredBatch:
        c = np.empty(a.shape, a.dtype)
        if c.size == 0:
            return FactoredBatch(c, None, _judged(np.empty(0), None))
        flags = np.empty(len(a), np.uint8)
        _systems().potrf(a, c, flags, lower=lower)

        def judge(members: Array, info: Array, rcond: Array) -> None:
            some = np.empty((len(members), *a.shape[1:]), a.dtype)
            _systems().potrf_one_by_one(a[members], some, info, rcond, lower=lower)
            c[members] = some

        return FactoredBatch(c, None, _judged(flags, judge))

    def getrs_batched(self, lu: Array, piv: Array, b: Array, *, trans: str = "N") -> Array:
        x = np.empty(b.shape, b.dtype)
        if x.size:
            _systems().getrs(lu, piv, b, x, trans=trans)
        return x

    def potrs_batched(self, c: Array, b: Array, *, lower: bool = True) -> Array:
        x = np.empty(b.shape, b.dtype)
        if x.size:
            _systems().potrs(c, b, x, lower=lower)
        return x
