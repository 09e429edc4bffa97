"""What the tests of batched factorizations have in common: launches, members, bounds."""

from __future__ import annotations

import numpy as np

from mplinalg.kernels.cuda.catalogue import BY_NAME
from mplinalg.kernels.cuda.catalogue_batched import BLOCK_ORDERS, ROW_ORDERS

DTYPES = ("f", "d", "F", "D")
"""Letters, as pytest shows them."""
BATCHES = (0, 1, 13)


class Kernel:
    """Launches one of the kernels, for members in a warp's rows or in blocks of threads.

    The instance is the smallest that the members fit; outputs are NaN or -99 before.
    """

    def __init__(self, module, routine):
        self.module, self.routine = module, routine
        self.orders = BLOCK_ORDERS if routine.endswith("_block") else ROW_ORDERS

    def has(self, dtype, n):
        return n <= max(self.orders[dtype])

    def launch(self, a, *arguments, uninitialised, order=None, **options):
        """`arguments` behind A and its strides; `uninitialised` counts all of the rows' kernels."""
        batch, n, _ = a.shape
        letter = a.dtype.char
        kind, parts = {"f": "float", "d": "double"}[letter.lower()], 2 if letter in "FD" else 1
        order = order or min(o for o in self.orders[letter] if o >= n)
        kernel = BY_NAME[f"batched_{self.routine}<{kind}, {parts}, {order}>"]
        grid, first = batch, [n]
        if self.orders is ROW_ORDERS:
            grid, first = -(-batch // (4 * (32 // order))), [batch, n]
        else:
            uninitialised = [place - 1 for place in uninitialised]
        if grid == 0:  # as the loader does
            return
        self.module[kernel.name](
            grid, kernel.threads, [*first, reals(a), *strides(a), *arguments],
            shared=kernel.dynamic, uninitialised=uninitialised, **options,
        )  # fmt: skip


def reals(a):
    """As kernels are given complex numbers."""
    if a is None or a.dtype.kind != "c":
        return a
    strided = np.lib.stride_tricks.as_strided
    real = a.real.dtype
    return strided(
        np.ndarray(1, real, a.data if a.flags.c_contiguous else a.base.data, offset_in(a)),
        (*a.shape, 2), (*a.strides, real.itemsize),
    )  # fmt: skip


def offset_in(a):
    base = a if a.flags.c_contiguous or a.base is None else a.base
    return a.ctypes.data - base.ctypes.data


def strides(a):
    return [step // a.itemsize for step in a.strides]


def draw(rng, dtype, *shape):
    x = rng.standard_normal(shape)
    if dtype in "FD":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def blank(shape, dtype):
    return np.full(shape, np.nan if np.dtype(dtype).kind in "fc" else -99, dtype)


def u(dtype):
    return np.finfo(dtype).eps / 2


def wide(x):
    return np.asarray(x, np.result_type(x.dtype, np.float64))


def largest(x):
    """Over each member's last two axes."""
    return abs(x).max(axis=(-2, -1)) if x.size else np.zeros(x.shape[:-2])


def backward_errors(a, x, b):
    """Of members and columns, normwise."""
    a, x, b = wide(a), wide(x), wide(b)
    rows = abs(a).sum(axis=2).max(axis=1)[:, None]
    size = rows * abs(x).max(axis=1) + abs(b).max(axis=1)
    r = abs(b - a @ x).max(axis=1)
    return np.divide(r, size, out=np.zeros_like(r), where=size > 0)
