"""What gemm and trsm accept besides arrays."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import common_dtype, precision_option
from ..precision import Format, working_format

Array = NDArray[Any]

__all__ = ["check_out", "compute_format", "operation", "result_dtype", "rounded", "scalar"]

_OPERATIONS = {False: "N", True: "T", "N": "N", "T": "T", "C": "C", 2: "C"}


def operation(trans: Any, name: str) -> str:
    """What a flag of the caller's means: N, T or C. As in SciPy, 0, 1 and 2 do, too."""
    try:
        return _OPERATIONS[trans]
    except (KeyError, TypeError):
        raise ValueError(f"{name} must be False, True, 'N', 'T' or 'C'; got {trans!r}") from None


def scalar(x: Any, name: str) -> complex:
    """A Python float, or complex if it is of a complex type."""
    if type(x) is float or type(x) is complex:
        return x
    if isinstance(x, np.ndarray) and x.ndim == 0:
        x = x[()]
    if isinstance(x, numbers.Real):
        return float(x)
    if isinstance(x, numbers.Complex):
        return complex(x)
    raise TypeError(f"{name} must be a number, got {type(x).__name__}")


def rounded(x: complex, dtype: np.dtype[Any]) -> complex:
    """A factor as arrays of `dtype` are multiplied by it: one that rounds to 0 is 0."""
    with np.errstate(all="ignore"):
        return dtype.type(x).item()


def result_dtype(arrays: list[Array], alpha: complex, beta: complex) -> np.dtype[Any]:
    """The common LAPACK dtype of arrays, a complex one if a factor is complex."""
    dtype = arrays[0].dtype
    is_ready = dtype.char in "fdFD" and dtype.isnative
    if not is_ready or any(x.dtype is not dtype for x in arrays):
        dtype = common_dtype(*arrays)
    if isinstance(alpha, complex) or isinstance(beta, complex):
        return np.result_type(dtype, np.complex64)
    return dtype


def compute_format(precision: str | Format, dtype: np.dtype[Any]) -> Format | None:
    """The format operands are rounded to; None for the working precision.

    Raises
    ------
    ValueError
        For unknown formats, and for formats wider than the working precision.
    """
    fmt = precision_option(precision, dtype, default="working")
    return None if fmt == working_format(dtype) else fmt


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise unless `out` can take a result."""
    if isinstance(out, np.ma.MaskedArray):
        raise ValueError("masked arrays are not supported (out)")
    if not hasattr(out, "shape") or out.shape != shape:
        raise ValueError(f"out must be an array of shape {shape}, got {np.shape(out)}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(f"out must be of dtype {dtype}, got {out.dtype}")
    if not getattr(out.flags, "writeable", True):
        raise ValueError("out is read-only")
    if not getattr(out.flags, "aligned", True):
        raise ValueError("out is not aligned")
    steps = zip(out.strides, out.shape, strict=True)
    if out.size and any(step == 0 and count > 1 for step, count in steps):
        raise ValueError(f"out has entries in one place: {out.strides=}")
