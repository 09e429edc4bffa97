"""What every public function accepts: arrays, dtypes, options. Bad input stops here."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .ops.dispatch import is_on_device
from .ops.exchange import from_dlpack
from .precision import Format, get_format, working_format

Array = NDArray[Any]


def as_array(x: Any, name: str) -> Array:
    """`x` as an array of a backend, without a copy where that is possible.

    Arrays of other libraries come in by DLPack, on the device where they are.

    Raises
    ------
    ValueError
        Sparse, masked or object arrays.
    TypeError
        Arrays on a device that no backend of this version computes on.
    """
    if type(x) is np.ndarray and x.dtype.kind in "biufc":
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError(f"masked arrays are not supported ({name})")
    if type(x).__module__.startswith("scipy.sparse"):
        raise ValueError(
            f"Sparse arrays/matrices are not supported by this function ({name}). "
            "Perhaps one of the `scipy.sparse.linalg` functions would work instead."
        )
    if not (isinstance(x, np.ndarray | np.generic | list | tuple) or is_on_device(x)) and hasattr(
        x, "__dlpack_device__"
    ):
        x = from_dlpack(x)
    array = x if is_on_device(x) else np.asarray(x)
    if array.dtype.kind == "O":
        raise ValueError(f"object arrays are not supported ({name})")
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be numeric, got dtype {array.dtype}")
    return array


def common_dtype(*arrays: Array) -> np.dtype[Any]:
    """The LAPACK dtype (float32, float64, complex64, complex128) that `arrays` are computed in.

    Integers and booleans become float64, half precision float32, extended precision float64.

    >>> common_dtype(np.ones(2, np.int8)), common_dtype(np.ones(2, np.float16))
    (dtype('float64'), dtype('float32'))
    """
    return lapack_dtype(np.result_type(*(a.dtype for a in arrays)))


def lapack_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """As `common_dtype`, of a dtype of numbers."""
    dtype = np.dtype(dtype)
    if dtype.char in "fdFD" and dtype.isnative:
        return dtype
    if dtype.kind not in "fc":
        return np.dtype(np.float64)
    is_single = np.finfo(dtype).bits <= 32
    if dtype.kind == "c":
        return np.dtype(np.complex64 if is_single else np.complex128)
    return np.dtype(np.float32 if is_single else np.float64)


def to_dtype(a: Array, dtype: np.dtype[Any]) -> Array:
    """`a` in native byte order, aligned, in `dtype`; `a` itself where it is so already."""
    if a.dtype != dtype or not a.dtype.isnative:
        a = a.astype(dtype)
    return a if getattr(a.flags, "aligned", True) else a.copy()


def precision_option(
    precision: str | Format, dtype: np.dtype[Any], default: str = "auto"
) -> Format | None:
    """The pinned format, or None for the word that is the default.

    Raises
    ------
    ValueError
        For unknown formats, and for formats wider than the working precision.
    """
    if isinstance(precision, str) and precision == default:
        return None
    try:
        fmt = get_format(precision)
    except ValueError as error:
        raise ValueError(f"{error} (or {default!r})") from None
    working = working_format(dtype)
    if fmt.unit_roundoff < working.unit_roundoff:
        raise ValueError(f"precision={fmt.name!r} is wider than the {dtype} that is computed in")
    return fmt


def choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}; got {value!r}")


def tolerance(tol: float | None, max_iter: int | None = None) -> None:
    """Raise ValueError unless `tol` is positive and `max_iter` a count (or None)."""
    if tol is not None and not (isinstance(tol, numbers.Real) and 0.0 < float(tol) < 1.0):
        raise ValueError(f"tol must lie between 0 and 1; got {tol!r}")
    if max_iter is not None and (
        isinstance(max_iter, bool) or not isinstance(max_iter, int | np.integer) or max_iter < 0
    ):
        raise ValueError(f"max_iter must be a non-negative integer; got {max_iter!r}")
