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
from collections.abc import Iterator, Sequence
from typing import Any

import cupy
import cupyx
import numpy as np

from ..kernels.cuda import (
    blas,
    fallbacks,
    lapack,
    loader,
    low,
    panels,
    passes,
    residual,
    triangles,
    unpivoted,
)
from ..kernels.cuda.condest import inverse_norm1, triangle_norm1
from ..kernels.cuda.layout import is_c_like, is_f_like, require_views
from ..kernels.cuda.loader import KernelUnavailable
from ..precision import FP16, FP16X2, FP32, Format, working_format
from .protocol import ColumnErrors, Conversion, Counters, Info

Array = Any

_PANEL, _WIDE_PANEL = 512, 1024
"""Columns of a panel: enough for products that are bound by arithmetic, not by memory."""
_WIDE_FROM = 16384
_DEFINITE_PANEL = 1024
_WORKING_PANEL = 512
"""Of LU in working precision by panels."""
_LARGEST = 2**31
"""Entries of a matrix from which the 32-bit interface of cuSOLVER refuses it."""
_SOLVES_COLUMNS = 256
"""Fewest right-hand sides for which diagonal blocks are inverted."""
_HIGHEST_PRIORITY = -5
"""CUDA takes the highest there is for what is beyond it."""


_PLANS_FROM = 256
"""Order from which solves with factors in single precision are prepared."""


class CupyOps:
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

    @staticmethod
    def require_one_device(*arrays: Array) -> None:
        """Refuse arrays that are not all on the current device.

        Raises
        ------
        ValueError
            It names the devices.
        """
        found = sorted({a.device.id for a in arrays})
        current = cupy.cuda.Device().id
        if len(found) > 1:
            raise ValueError(
                f"arrays are on different devices, {', '.join(map(str, found))}: nothing is moved "
                "from one to another unasked"
            )
        if found and found[0] != current:
            raise ValueError(
                f"arrays are on device {found[0]}, but the current device is {current}: "
                f"compute inside `with cupy.cuda.Device({found[0]}):`"
            )

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

    # -- factorizations -------------------------------------------------------------------------

    def getrf_view(self, a: Array, fmt: Format | None = None) -> Array:
        # kernels of real panels take rows, cuSOLVER takes columns
        if fmt is not None and a.dtype == np.float32:
            return a if is_c_like(a) else a.T
        return a if is_f_like(a) else a.T

    def panel_width(self, n: int, *, definite: bool = False) -> int:
        if definite:
            return _DEFINITE_PANEL
        return _PANEL if n < _WIDE_FROM else _WIDE_PANEL

    def getrf(self, a: Array) -> tuple[Array, int]:
        self.require_one_device(a)
        require_views("getrf", a)
        if is_f_like(a) and a.size < _LARGEST:
            piv, info = panels.getrf_by_solver(a)
            return piv, self.first_info([(0, info)])
        return self._getrf_by_panels(a)

    def getrf_panel(self, a: Array) -> tuple[Array, Info]:
        self.require_one_device(a)
        require_views("getrf_panel", a)
        if a.dtype == np.float32:
            return panels.getrf_panel(a)
        return panels.getrf_by_solver(a)

    def _getrf_by_panels(self, a: Array) -> tuple[Array, int]:
        """In place in either layout; a panel at a time is copied, and not the matrix."""
        m, n = a.shape
        count = min(m, n)
        piv, infos = cupy.empty(count, np.int32), []
        for start in range(0, count, _WORKING_PANEL):
            k = slice(start, min(start + _WORKING_PANEL, count))
            # P A[k:, k] = L U
            piv[k], info = self.getrf_panel(a[start:, k])
            infos.append((start, info))
            panels.laswp(a[start:, :start], piv[k])
            after = a[start:, k.stop :]
            panels.laswp(after, piv[k])
            piv[k] += np.int32(start)
            # A[k, t] <- L[k, k]^-1 A[k, t];   A[t, t] <- A[t, t] - L[t, k] U[k, t]
            width = k.stop - start
            blas.trsm("L", a[k, k], after[:width], True, "N", True)
            blas.gemm(-1.0, a[k.stop :, k], after[:width], 1.0, after[width:])
        return piv, self.first_info(infos)

    def first_info(self, infos: Sequence[tuple[int, Info]]) -> int:
        on_device = [info.reshape(1) for _, info in infos if isinstance(info, cupy.ndarray)]
        waited = iter(cupy.concatenate(on_device).tolist() if on_device else ())
        for offset, given in infos:
            info = next(waited) if isinstance(given, cupy.ndarray) else int(given)
            if info < 0:
                raise RuntimeError(f"cuSOLVER: argument {-info} is illegal")
            if info:
                return offset + info
        return 0

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

    def getrs_plan(self, lu: Array, piv: Array) -> Any:
        if lu.dtype != np.float32 or len(lu) < _PLANS_FROM:
            return None
        try:
            return triangles.plan(lu, piv)
        except KernelUnavailable as reason:
            fallbacks.note(reason)
            return None

    def potrs_plan(self, c: Array, *, lower: bool) -> Any:
        if c.dtype != np.float32 or len(c) < _PLANS_FROM:
            return None
        try:
            return triangles.potrs_plan(c, lower)
        except KernelUnavailable as reason:
            fallbacks.note(reason)
            return None

    def getrs(self, lu: Array, piv: Array, b: Array, *, trans: str = "N", plan: Any = None) -> None:
        self.require_one_device(lu, piv, b)
        if plan is not None:
            try:
                triangles.getrs(plan, b, trans)
            except KernelUnavailable as reason:
                fallbacks.note(reason)
            else:
                return
        if is_f_like(lu):
            lapack.getrs(lu, piv, b, trans)
            return
        if trans == "N":
            panels.laswp(b, piv)
        self._solve_factored(lu, b, trans)
        if trans != "N":
            panels.laswp(b, piv, forward=False)

    @property
    def prefers_butterfly(self) -> bool:
        """If the kernels can be had: panels that pivot take longest of all, up to large orders."""
        return unpivoted.is_available()

    diagonal_block = panels.INVERTED

    def butterfly(
        self, src: Array, dst: Array, u: Array, v: Array, *, padding: float = 1.0
    ) -> None:
        self.require_one_device(src, dst, u, v)
        unpivoted.butterfly(src, dst, u, v, padding)

    def butterfly_vectors(self, b: Array, y: Array, u: Array, *, transposed: bool) -> None:
        self.require_one_device(b, y, u)
        unpivoted.butterfly_vectors(b, y, u, transposed=transposed)

    def getrf_block(
        self, a: Array, lower: Array, upper: Array, info: Array, offset: int = 0
    ) -> None:
        self.require_one_device(a, lower, upper, info)
        unpivoted.getrf_block(a, lower, upper, info, offset)

    def trsm_inverted(
        self, a: Array, inverses: Array, b: Array, *, lower: bool, trans: str = "N"
    ) -> None:
        self.require_one_device(a, inverses, b)
        unpivoted.trsm_inverted(a, inverses, b, lower=lower, trans=trans)

    @staticmethod
    def _solve_factored(lu: Array, b: Array, trans: str) -> None:
        """B <- op(L U)^-1 B."""
        for lower in (True, False) if trans == "N" else (False, True):
            blas.trsm("L", lu, b, lower, trans, lower)

    def gecon(self, lu: Array, norm: float, kind: str = "1") -> float:
        self.require_one_device(lu)
        n = len(lu)
        if n == 0:
            return 1.0
        flags = ("N", "C") if kind == "1" else ("C", "N")
        # interchanges of rows of A are those of columns of the inverse: its norms stay
        solves = [lambda x, flag=flag: self._solve_factored(lu, x, flag) for flag in flags]
        inverse = float(inverse_norm1(n, lu.dtype, *solves))
        return _reciprocal(norm, inverse)

    def potrf(self, a: Array, *, lower: bool) -> Info:
        self.require_one_device(a)
        require_views("potrf", a)
        # read by columns, A is conj(A), and L^T its upper factor
        return lapack.potrf(a, lower) if is_f_like(a) else lapack.potrf(a.T, not lower)

    def potrs(self, c: Array, b: Array, *, lower: bool, plan: Any = None) -> None:
        self.require_one_device(c, b)
        if plan is not None:
            try:
                triangles.potrs(plan, b)
            except KernelUnavailable as reason:
                fallbacks.note(reason)
            else:
                return
        if is_f_like(c):
            lapack.potrs(c, b, lower)
            return
        conjugate = c.dtype.kind == "c"
        if conjugate:  # conj(A) conj(x) = conj(b)
            cupy.conj(b, out=b)
        lapack.potrs(c.T, b, not lower)
        if conjugate:
            cupy.conj(b, out=b)

    def geqrf(self, a: Array) -> Array:
        self.require_one_device(a)
        return lapack.geqrf(a)

    def geqrf_panel(self, a: Array) -> tuple[Array, Array]:
        self.require_one_device(a)
        return panels.geqrf_panel(a)

    def ormqr(self, side: str, trans: str, qr: Array, tau: Array, c: Array) -> None:
        self.require_one_device(qr, tau, c)
        lapack.ormqr(side, trans, qr, tau, c)

    def gesvd(self, a: Array, *, vectors: bool = True) -> tuple[Array, Array, Array]:
        self.require_one_device(a)
        with cupyx.errstate(linalg="raise"):  # else nobody looks at what cuSOLVER reports
            found = cupy.linalg.svd(a, full_matrices=False, compute_uv=vectors)
        return found if vectors else (None, found, None)

    def trcon(self, r: Array, *, lower: bool) -> float:
        self.require_one_device(r)
        require_views("trcon", r)
        n = len(r)
        if n == 0:
            return 1.0
        inverse = inverse_norm1(
            n, r.dtype, lambda x: blas.trsm("L", r, x, lower),
            lambda x: blas.trsm("L", r, x, lower, "C"),
        )  # fmt: skip
        norm, inverse = cupy.stack([triangle_norm1(r, lower), inverse]).tolist()
        return _reciprocal(norm, inverse)

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


def _reciprocal(norm: float, inverse: float) -> float:
    """1 / (norm inverse); 0 if that is not a number."""
    product = norm * inverse
    return 1.0 / product if product > 0 else 0.0
