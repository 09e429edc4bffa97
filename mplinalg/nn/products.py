"""Products in the precision asked for: the only place where layers multiply matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import batched_ops_for, ops_for
from ..ops.dispatch import nn_ops_for
from ..precision import get_format, working_format

Array = Any

__all__ = ["product"]


def product(
    a: Array, b: Array, *, transa: bool = False, transb: bool = False, precision: str | None = None
) -> Array:
    """op(A) op(B), of matrices or of stacks of matrices.

    Parameters
    ----------
    a, b : array, shape (m, k) and (k, n), or (N, m, k) and (N, k, n)
        Real, NumPy or CuPy. Those with unit stride in no dimension may be copied.
    transa, transb : bool
        op(X) is X, or with these its transpose (of each member), without a copy.
    precision : str, optional
        None: in the dtype of the operands, float32 at least. A format ("fp16", "bf16", "tf32",
        "fp16x2", "fp32", "fp64"): operands are rounded to it. Those below fp32 are accumulated in
        fp32; fp16 kinds are scaled by a power of two first, and the result is scaled back.

    Returns
    -------
    array, shape (m, n) or (N, m, n)
        Of float64 where fp64 was computed in, else float32; on the device of the operands.

    Raises
    ------
    ValueError
        Shapes that do not fit, with both; an unknown precision.
    TypeError
        Complex operands; operands on different devices.

    Notes
    -----
    2 m n k flops a member.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn.products import product
    >>> x, w = np.ones((5, 3), np.float32), np.ones((2, 3), np.float32)
    >>> product(x, w, transb=True, precision="fp16").shape
    (5, 2)
    """
    fmt = None if precision is None else get_format(precision)
    dtype = _dtype(a, b) if fmt is None else fmt.dtype(np.float64)
    if a.dtype != dtype:
        a = _converted(a, dtype)
    if b.dtype != dtype:
        b = _converted(b, dtype)
    shape = _shape(a, b, transa, transb)
    compute = None if fmt is None or fmt == working_format(dtype) else fmt
    stacks = batched_ops_for(a, b)
    if compute is None and not stacks.takes_large:
        # transposed views are as good as flags
        return nn_ops_for(a, b).matmul(
            a.swapaxes(-1, -2) if transa else a, b.swapaxes(-1, -2) if transb else b
        )
    c = stacks.xp.empty(shape, dtype)
    flag_a, flag_b = "T" if transa else "N", "T" if transb else "N"
    if len(shape) == 2:
        ops = ops_for(a)
        a, b = (x if ops.is_f_like(x) or ops.is_f_like(x.T) else ops.xp.array(x) for x in (a, b))
        ops.gemm(1.0, a, b, 0.0, c, transa=flag_a, transb=flag_b, compute=compute)
    else:
        stacks.gemm_batched(1.0, a, b, 0.0, c, transa=flag_a, transb=flag_b, compute=compute)
    return c


def _dtype(a: Array, b: Array) -> np.dtype[Any]:
    if a.dtype == b.dtype and a.dtype.char in "fd":
        return a.dtype
    return np.result_type(a.dtype, b.dtype, np.float32)


def _converted(a: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind != "f" or a.dtype.kind == "c":
        raise TypeError(f"products of layers are of real numbers; got {a.dtype} and {dtype}")
    return a.astype(dtype)


def _shape(a: Array, b: Array, transa: bool, transb: bool) -> tuple[int, ...]:
    """Of the product."""
    if a.ndim == b.ndim and 2 <= a.ndim <= 3 and a.shape[:-2] == b.shape[:-2]:
        m, inner = a.shape[:-3:-1] if transa else a.shape[-2:]
        rows, n = b.shape[:-3:-1] if transb else b.shape[-2:]
        if inner == rows:
            return (*a.shape[:-2], m, n)
    raise ValueError(
        f"product: shapes {a.shape}{' transposed' if transa else ''} and "
        f"{b.shape}{' transposed' if transb else ''} do not fit"
    )
