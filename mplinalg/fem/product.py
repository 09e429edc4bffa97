"""The products that everything in this package is lowered to, and the arrays they take."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import BatchedOps, batched_ops_for, is_on_device
from ..ops.exchange import from_dlpack
from ..precision import Format

Array = Any


_MANY = 2**20
"""Multiplications from which kernels for stacks earn their call, and to be compiled once."""
LARGE = 64**3
"""Multiplications of a member from which the array library's matrix product is as good as any..."""
_LARGE_REAL = 300**3
"""...of real numbers, which are read ahead."""
_NARROW = range(4, 9)
"""Columns and rows of the right matrix of a tall product that straight code does faster."""
_ROWS = 8
"""Of such a product at a time."""
_WIDE, _WIDEST = 64, 2**16
"""Bytes of a row, and numbers, of a right matrix with which kernels that read ahead are faster."""
_ROWS_AHEAD = 128
"""Of such a product at a time: as good as 32 and 64."""
_TALL = 2**24
"""Multiplications from which that is worth its call."""


class Engine:
    """Products of stacks on one backend: large stacks by kernels made for them."""

    def __init__(self, ops: BatchedOps) -> None:
        self.ops, self.xp = ops, ops.xp

    def gemm(
        self, a: Array, b: Array, *, out: Array | None = None, compute: Format | None = None
    ) -> Array:
        """``a @ b`` for stacks ``(..., m, k)`` and ``(..., k, n)`` of one dtype, broadcast.

        Written to `out` if that is given. With `compute`, operands are rounded to that format and
        products are summed in single precision.
        """
        (m, k), n = a.shape[-2:], b.shape[-1]
        is_one = a.ndim == b.ndim == 2
        if compute is None:
            rows = self._rows_at_a_time(a, b) if is_one else 0
            large = _LARGE_REAL if a.dtype.kind == "f" else LARGE
            if (
                (is_one and not rows)
                or (not is_one and m * n * k > large and not self.ops.takes_large)
                or max(a.size * n, b.size * m) <= _MANY
            ):
                return self.xp.matmul(a, b, out=out)
            if rows:
                return self._tall(a, b, out, rows)
        batch: tuple[int, ...] = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if out is None:
            out = self.xp.empty((*batch, m, n), a.dtype)
        a = self.xp.broadcast_to(a, (*batch, m, k))
        b = self.xp.broadcast_to(b, (*batch, k, n))
        stacks = (a[None], b[None], out[None]) if is_one else (a, b, out)
        self.ops.gemm_batched(1.0, *stacks[:2], 0.0, stacks[2], compute=compute)
        return out

    def _rows_at_a_time(self, a: Array, b: Array) -> int:
        """Into what blocks of rows ``a @ b`` is divided; 0 if it is not."""
        (m, k), n = a.shape, b.shape[1]
        if k in _NARROW and n in _NARROW:
            return _ROWS
        is_ready = not self.ops.takes_large and a.dtype.kind == "f" and a.strides[1] == a.itemsize
        is_wide = n * b.itemsize > _WIDE and n * k <= _WIDEST
        return _ROWS_AHEAD if is_ready and is_wide and m * n * k >= _TALL and m >= 4 * n else 0

    def _tall(self, a: Array, b: Array, out: Array | None, rows: int) -> Array:
        """``a @ b`` where a has many rows and b few numbers: a stack of blocks of rows."""
        (m, k), n = a.shape, b.shape[1]
        if out is None:
            out = self.xp.empty((m, n), a.dtype)
        whole = m - m % rows
        blocks = a[:whole].reshape(-1, rows, k), self.xp.broadcast_to(b, (whole // rows, k, n))
        self.ops.gemm_batched(1.0, *blocks, 0.0, out[:whole].reshape(-1, rows, n))
        if whole < m:
            self.xp.matmul(a[whole:], b, out=out[whole:])
        return out


def engine_for(*arrays: Array) -> Engine:
    """The engine of arrays that are all of one backend.

    Raises
    ------
    TypeError, ValueError
        They are not.
    """
    return Engine(batched_ops_for(*arrays))


def as_array(x: Any, name: str) -> Array:
    """`x` as an aligned array of a backend, without a copy where that is possible.

    Raises
    ------
    ValueError
        Sparse or masked arrays.
    TypeError
        Arrays on a device that no backend computes on.
    """
    if type(x) is np.ndarray:
        return x if x.flags.aligned else x.copy()
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError(f"masked arrays are not supported ({name})")
    if type(x).__module__.startswith("scipy.sparse"):
        raise ValueError(f"sparse arrays are not supported ({name})")
    if is_on_device(x):
        return x
    if not isinstance(x, np.ndarray | np.generic) and hasattr(x, "__dlpack_device__"):
        return from_dlpack(x)
    return np.asarray(x)


def real_array(x: Any, name: str) -> Array:
    """`x` as an array of NumPy of real numbers, of any dtype.

    Raises
    ------
    TypeError
        Complex numbers, or none at all; arrays on a device.
    """
    x = require_real(as_array(x, name), name)
    if is_on_device(x):
        raise TypeError(
            f"{name} is used on the host, and nothing is moved there unasked: give {name}.get()"
        )
    return x


def require_real(x: Array, name: str) -> Array:
    """`x`, if its numbers are real.

    Raises
    ------
    TypeError
        Complex numbers, or none at all.
    """
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got {x.dtype}")
    return x
