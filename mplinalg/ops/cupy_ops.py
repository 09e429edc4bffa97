"""The CUDA backend: cuBLAS and cuSOLVER by way of CuPy, and the library's own kernels.

Everything is put on CuPy's current stream, and nothing waits for the device but what has to
return a number to the host: then one transfer of a few bytes. Arrays have to be on the current
device. Where a kernel cannot be had, functions of the vendor's libraries or of CuPy stand in for
it, with a warning, and `CupyOps.notes` says so.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cupy
import numpy as np
from numpy.typing import NDArray

from ..kernels.cuda import (
    blas,
    fallbacks,
    loader,
    low,
    panels,
    passes,
    residual,
)
from ..kernels.cuda.layout import is_f_like, require_one_device
from ..kernels.cuda.loader import KernelUnavailable
from ..precision import FP16, FP16X2, FP32, Format, working_format
from .cupy_factors import Factorizations
from .protocol import ColumnErrors, Conversion, Counters

Array = Any

_SOLVES_COLUMNS = 256
"""Fewest right-hand sides for which diagonal blocks are inverted."""
_HIGHEST_PRIORITY = -5
"""CUDA takes the highest there is for what is beyond it."""


class CupyOps(Factorizations):
    """`mplinalg.ops.Ops` on CuPy arrays."""

    name = "cupy"
    xp = cupy
    fused_columns = residual.COLUMNS
    overlaps = True
    flushes = True  # CuPy compiles with -ftz=true, and has no way to say otherwise
    refines_from = 2048

    def __init__(self) -> None:
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return CupyOps, ()

    @property
    def device(self) -> str:
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        return re.sub(r"[^A-Za-z0-9]+", "-", properties["name"].decode()).strip("-")

    side_by_side = 1

    def each(
        self, work: Callable[[Any], Any], items: Sequence[Any], flops: float = 1e12
    ) -> list[Any]:
        return [work(item) for item in items]

    def serial(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @property
    def fast_formats(self) -> tuple[Format, ...]:
        """By tensor cores from compute capability 8.0 on."""
        return (FP16, FP16X2, FP32) if loader.architecture() >= 80 else (FP32,)

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the current device: which kernels could not be had, and why."""
        return fallbacks.notes()

    def synchronize(self) -> None:
        cupy.cuda.get_current_stream().synchronize()

    require_one_device = staticmethod(require_one_device)

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Work on a stream of its own, of the highest priority; one a thread and device.

        Memory that was allocated before the context, and that the work uses, has to be held until
        `join`: CuPy gives what is let go of to later work of the stream that it was allocated on.
        """
        device = cupy.cuda.Device().id
        streams = self._of_thread("streams")
        if device not in streams:
            streams[device] = cupy.cuda.Stream(non_blocking=True, priority=_HIGHEST_PRIORITY)
        stream = streams[device]
        stream.wait_event(cupy.cuda.get_current_stream().record(_event()))
        with stream:
            try:
                yield
            finally:
                self._of_thread("pending")[device] = stream.record(_event())

    def join(self) -> None:
        event = self._of_thread("pending").pop(cupy.cuda.Device().id, None)
        if event is not None:
            cupy.cuda.get_current_stream().wait_event(event)

    def _of_thread(self, name: str) -> dict[int, Any]:
        """What this thread keeps of each device."""
        found: dict[int, Any] = self._local.__dict__.setdefault(name, {})
        return found

    @staticmethod
    def is_f_like(a: Array) -> bool:
        return is_f_like(a)

    # -- data movement --------------------------------------------------------------------------

    def convert(
        self, src: Array, dst: Array, *, rows: Array | None = None, cols: Array | None = None
    ) -> Conversion:
        self.require_one_device(src, dst, *(x for x in (rows, cols) if x is not None))
        lost, row_sums = passes.convert(src, dst, working_format(dst.dtype), rows, cols)
        if rows is not None or cols is not None:
            row_sums = cupy.empty(0)
        elif row_sums is None:
            row_sums = passes.sums(src, of_rows=True)
        overflows, underflows = lost.tolist()
        return Conversion(row_sums, overflows, underflows)

    def round(self, a: Array, fmt: Format, counters: Counters | None = None) -> None:
        self.require_one_device(a)
        if not fmt.is_native:
            low.round_to(a, fmt, counters)

    def amax(self, a: Array) -> float:
        self.require_one_device(a)
        return passes.amax(a)

    def lange(self, norm: str, a: Array) -> float:
        self.require_one_device(a)
        return float(passes.sums(a, of_rows=norm == "I").max()) if a.size else 0.0

    def extents(self, a: Array, *, rows: Array | None = None) -> tuple[Array, Array]:
        self.require_one_device(a, *(() if rows is None else (rows,)))
        return passes.extents(a, rows)

    def sizes(self, a: Array, columns: Array) -> Array:
        self.require_one_device(a, columns)
        if a.size == 0:
            return cupy.zeros((2, len(a)), columns.dtype)
        size = abs(a) if a.dtype.kind != "c" else abs(a.real) + abs(a.imag)
        columns[0] += size.sum(axis=0)
        columns[1] = cupy.maximum(columns[1], size.max(axis=0))
        return cupy.stack([size.sum(axis=1), size.max(axis=1)])

    def lacpy(self, src: Array, dst: Array) -> None:
        self.require_one_device(src, dst)
        dst[...] = src

    def copy_rows(
        self, src: Array, places: NDArray[np.int64], dst: Array, targets: NDArray[np.int64]
    ) -> None:
        self.require_one_device(src, dst)
        if places.size:
            dst[cupy.asarray(targets)] = src[cupy.asarray(places)]

    def laswp(self, a: Array, piv: Array, *, forward: bool = True) -> None:
        self.require_one_device(a, piv)
        panels.laswp(a, piv, forward=forward)

    # -- level 3 --------------------------------------------------------------------------------

    def gemm(
        self, alpha: float, a: Array, b: Array, beta: float, c: Array, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
        counters: Counters | None = None,
    ) -> None:  # fmt: skip
        self.require_one_device(a, b, c)
        if compute is None or compute.is_native:
            blas.gemm(alpha, a, b, beta, c, transa, transb)
        else:
            low.multiply(alpha, a, b, beta, c, transa, transb, compute, counters)

    def syrk(
        self, alpha: float, a: Array, beta: float, c: Array, *, lower: bool,
        trans: str = "N", compute: Format | None = None, counters: Counters | None = None,
    ) -> None:  # fmt: skip
        self.require_one_device(a, c)
        if compute is None or compute.is_native:
            blas.syrk(alpha, a, beta, c, lower, trans)
        else:
            low.rank_update(alpha, a, beta, c, lower, trans, compute, counters)

    def trsm(
        self, side: str, a: Array, b: Array, *, lower: bool, trans: str = "N", unit: bool = False,
        fast: bool = False,
    ) -> None:  # fmt: skip
        self.require_one_device(a, b)
        columns = b if side == "L" else b.T  # B op(A)^-1 = (op(A)^-T B^T)^T
        if (
            fast
            and panels.can_invert(a, lower=lower, unit=unit)
            and a.shape == (len(columns), len(columns))
            and columns.shape[1] >= _SOLVES_COLUMNS
        ):
            is_transposed = (trans != "N") != (side == "R")
            try:
                panels.solve_inverted(a, columns, lower=lower, trans="T" if is_transposed else "N")
            except KernelUnavailable as reason:
                fallbacks.note(reason)
            else:
                return
        blas.trsm(side, a, b, lower, trans, unit)

    # -- refinement -----------------------------------------------------------------------------

    def residual(
        self, a: Array, x: Array, b: Array, *, trans: str = "N", triangle: str | None = None,
        magnitude: bool = True, extended: bool = False,
    ) -> tuple[Array, Array | None]:  # fmt: skip
        self.require_one_device(a, x, b)
        trans = _flag(a, trans, triangle)
        if extended or x.shape[1] <= self.fused_columns:
            how = trans, triangle, extended
            try:
                r, d = residual.residual(a, x, b, *how)
            except KernelUnavailable as reason:
                fallbacks.note(reason)
                r, d = residual.by_functions(a, x, b, *how)
            return r, d if magnitude else None
        r = residual.product(a, x, b, trans, triangle)
        if not magnitude:
            return r, None
        return r, residual.magnitude(a, x, b, trans, triangle)

    def magnitude(
        self, a: Array, x: Array, b: Array, *, trans: str = "N", triangle: str | None = None
    ) -> Array:
        if x.shape[1] <= self.fused_columns:
            return self.residual(a, x, b, trans=trans, triangle=triangle)[1]
        self.require_one_device(a, x, b)
        return residual.magnitude(a, x, b, _flag(a, trans, triangle), triangle)

    def column_errors(self, x: Array, r: Array, d: Array) -> ColumnErrors:
        self.require_one_device(x, r, d)
        return ColumnErrors(*passes.column_errors(x, r, d))


def _flag(a: Array, trans: str, triangle: str | None) -> str:
    """Without a "C" that is a "T", and for A^H = A without one that is an "N"."""
    if a.dtype.kind != "c":
        return "N" if triangle is not None or trans == "N" else "T"
    return "N" if triangle is not None and trans == "C" else trans


def _event() -> Any:
    return cupy.cuda.Event(disable_timing=True)
