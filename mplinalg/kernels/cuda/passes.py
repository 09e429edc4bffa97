"""Passes over a matrix: into another dtype, and what its largest entries are.

Each is one read of the matrix by a kernel (convert.cu, magnitudes.cu), or, where that cannot be
had, a few by functions of CuPy, a block of lines at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import cupy
import numpy as np
from numpy.typing import NDArray

from ...precision import Format
from . import fallbacks, loader, residual
from .layout import Array, is_c_like, is_f_like
from .lines import REALS, cabs1, grid, lines_of, lost_counters
from .loader import KernelUnavailable

_BUFFER = 2**26
"""Bytes of a block of lines that functions of CuPy make copies of."""
_MOST_COLUMNS = 65535
"""Blocks in the second dimension of a grid."""
_BITS = {"f": np.uint32, "d": np.uint64}
"""As which kernels raise magnitudes."""


def convert(
    src: Array, dst: Array, fmt: Format, rows: Array | None, cols: Array | None
) -> tuple[Array, Array | None]:
    """dst <- diag(rows) src diag(cols).

    Returns what `fmt`, the format of dst, lost, two numbers; and the sums of the magnitudes of the
    rows, where nothing is scaled and lines are rows.
    """
    if src.shape != dst.shape:
        raise ValueError(f"convert: {src.shape=} and {dst.shape=} differ")
    along = is_c_like(src) and is_c_like(dst)
    if not along and not (is_f_like(src) and is_f_like(dst)):
        raise ValueError(f"convert: layouts differ, {src.strides=} and {dst.strides=}")
    lost = lost_counters()
    is_scaled = rows is not None or cols is not None
    if src.size == 0:
        return lost, None
    source, target = lines_of(src, along), lines_of(dst, along)
    real = source.reals.dtype
    left, right = (
        None if x is None else cupy.ascontiguousarray(x, dtype=real)
        for x in ((rows, cols) if along else (cols, rows))
    )
    row_sums = cupy.empty(source.count) if along and not is_scaled else None
    try:
        loader.launch(
            f"convert<{source.kind}, {target.kind}>", source.blocks, *source.numbers,
            target.reals, target.stride, left, right, source.parts, fmt.max, fmt.smallest_normal,
            row_sums, lost,
        )  # fmt: skip
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        for block in _blocks(source.reals):
            x = source.reals[block].astype(np.float64)
            y = x
            if is_scaled:
                one = np.float64(1.0)
                y = _scaled(
                    x, one if left is None else left[block, None].astype(np.float64),
                    one if right is None else cupy.repeat(right, source.parts).astype(np.float64),
                )  # fmt: skip
            size = abs(y)
            lost[0] += (size > fmt.max).sum().astype(np.uint64)
            lost[1] += ((size < fmt.smallest_normal) & (x != 0)).sum().astype(np.uint64)
            target.reals[block] = y
            if row_sums is not None:
                row_sums[block] = size.sum(axis=1)
    return lost, row_sums


def _scaled(x: Array, first: Array, second: Array) -> Array:
    """first x second; the larger factor comes first for values below one."""
    swap = (abs(x) < 1.0) == (first < second)
    return x * cupy.where(swap, second, first) * cupy.where(swap, first, second)


def amax(a: Array) -> float:
    """max |a|, with |re| + |im| for complex; NaN if an entry is NaN."""
    if a.size == 0:
        return 0.0
    lines = lines_of(a)
    largest = cupy.zeros(1, lines.reals.dtype)
    bits = largest.view(_BITS[largest.dtype.char])
    try:
        loader.launch(f"amax<{lines.kind}, {lines.parts}>", lines.blocks, *lines.matrix, bits)
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        view = a if lines.along else a.T
        for block in _blocks(view):
            largest = cupy.maximum(largest, cabs1(view[block]).max())
    return float(largest[0])


def sums(a: Array, *, of_rows: bool) -> Array:
    """sum_j |a[i, j]|, or of columns sum_i, with |re| + |im| for complex; in double precision."""
    try:
        return residual.sums(a, of_rows=of_rows)
    except KernelUnavailable as reason:
        fallbacks.note(reason)
    lines = lines_of(a)
    view = a if lines.along else a.T
    if lines.along == of_rows:
        parts = [cabs1(view[k]).sum(axis=1, dtype=np.float64) for k in _blocks(view)]
        return cupy.concatenate(parts)
    total = cupy.zeros(view.shape[1])
    for block in _blocks(view):
        total += cabs1(view[block]).sum(axis=0, dtype=np.float64)
    return total


def extents(a: Array, rows: Array | None) -> tuple[Array, Array]:
    """Largest magnitudes of the rows and of the columns of diag(rows) a."""
    real = np.dtype(REALS[a.dtype.char])
    lines = lines_of(a)
    along, across = cupy.zeros(lines.count, real), cupy.zeros(lines.length, real)
    if a.size:
        factors = None if rows is None else cupy.ascontiguousarray(rows, dtype=real)
        left, right = (factors, None) if lines.along else (None, factors)
        bits = _BITS[real.char]
        try:
            loader.launch(
                f"extents<{lines.kind}, {lines.parts}>", lines.blocks, *lines.matrix, left,
                right, along.view(bits), across.view(bits),
            )  # fmt: skip
        except KernelUnavailable as reason:
            fallbacks.note(reason)
            view = a if lines.along else a.T
            for block in _blocks(view):
                size = cabs1(view[block])
                if left is not None:
                    size *= left[block, None]
                if right is not None:
                    size *= right
                along[block] = size.max(axis=1)
                across = cupy.maximum(across, size.max(axis=0))
    return (along, across) if lines.along else (across, along)


def column_errors(x: Array, r: Array, d: Array) -> NDArray[np.float64]:
    """Rows for max |x|, max |r|, max d and max |r| / d of the columns: on the host."""
    n, columns = x.shape
    sizes = cupy.zeros((4, columns), np.float64)
    if x.size == 0:
        return np.zeros(sizes.shape)
    x, r, d = (v if is_f_like(v) else cupy.asfortranarray(v) for v in (x, r, d))
    xs, rs, ds = (lines_of(v, along=False) for v in (x, r, d))
    try:
        loader.launch(
            f"column_errors<{xs.kind}, {xs.parts}>",
            (grid(n), min(columns, _MOST_COLUMNS)), n, columns, xs.reals, xs.stride, rs.reals,
            rs.stride, ds.reals, ds.stride, sizes.view(np.uint64),
        )  # fmt: skip
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        x_size, r_size, size = (cabs1(v).astype(np.float64) for v in (x, r, d))
        ratio = cupy.where(r_size > 0, r_size / size, 0.0)
        ratio = cupy.where(cupy.isnan(ratio), 0.0, ratio)  # infinity over infinity
        sizes = cupy.stack([v.max(axis=0) for v in (x_size, r_size, size, ratio)])
        sizes = cupy.where(cupy.isnan(sizes).any(axis=0), np.nan, sizes)
    found: NDArray[np.float64] = sizes.get()
    return found


def _blocks(lines: Array) -> Iterator[slice]:
    count, length = lines.shape
    step = max(1, _BUFFER // max(length * lines.itemsize, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
