"""What the batched functions accept: arrays, dtypes, shapes, options. Bad input stops here."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.dispatch import is_on_device, ops_for
from ..ops.exchange import from_dlpack
from ..precision import Format, get_format, working_format

Array = NDArray[Any]


def as_array(x: Any, name: str) -> Array:
    """`x` as an array of a backend, without a copy where that is possible.

    Arrays of other libraries come in by DLPack, on the device where they are.

    Raises
    ------
    ValueError
        Sparse, masked or object arrays.
    TypeError
        Arrays that are not numbers, or on a device that no backend computes on.
    """
    if type(x) is np.ndarray and x.dtype.kind in "biufc":
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError(f"masked arrays are not supported ({name})")
    if type(x).__module__.startswith("scipy.sparse"):
        raise ValueError(f"sparse arrays are not supported ({name})")
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
    """
    dtype = np.result_type(*(a.dtype for a in arrays))
    if dtype.char in "fdFD" and dtype.isnative:
        return dtype
    if dtype.kind not in "fc":
        return np.dtype(np.float64)
    single = np.finfo(dtype).bits <= 32
    if dtype.kind == "c":
        return np.dtype(np.complex64 if single else np.complex128)
    return np.dtype(np.float32 if single else np.float64)


def to_dtype(a: Array, dtype: np.dtype[Any]) -> Array:
    """`a` in native byte order, aligned, in `dtype`; `a` itself where it is so already."""
    if a.dtype != dtype or not a.dtype.isnative:
        a = a.astype(dtype)
    return a if getattr(a.flags, "aligned", True) else a.copy()


def operands(*named: tuple[Any, str]) -> tuple[list[Array], np.dtype[Any]]:
    """Arrays of one LAPACK dtype and one backend from pairs of what was given and its name."""
    arrays = [as_array(x, name) for x, name in named]
    ops_for(*arrays)
    dtype = common_dtype(*arrays)
    return [to_dtype(a, dtype) for a in arrays], dtype


def matrices(a: Array, name: str = "a") -> None:
    """Raise ValueError unless `a` is a stack of matrices."""
    if a.ndim < 2:
        raise ValueError(f"Expected at least ndim=2, got {name}.ndim={a.ndim}")


def square(a: Array, name: str = "a") -> None:
    """Raise ValueError unless `a` is a stack of square matrices."""
    matrices(a, name)
    if a.shape[-1] != a.shape[-2]:
        raise ValueError(f"Expected square matrices, got {name}.shape={a.shape}")


def right_hand_sides(a: Array, b: Array, rows: int) -> tuple[Array, bool]:
    """`b` as a stack of matrices of `rows` rows, and whether it was one vector, of shape (rows,).

    Raises
    ------
    ValueError
        If it has another number of rows.
    """
    if b.ndim == 0:
        raise ValueError(f"b must be a vector or a stack of matrices, got {b.shape=}")
    columns, is_vector = (b[:, None], True) if b.ndim == 1 else (b, False)
    if columns.shape[-2] != rows:
        hint = ""
        if b.ndim >= 2 and b.shape[-1] == rows:
            hint = "; a stack of vectors (..., n) is written b[..., None]"
        raise ValueError(f"incompatible shapes: {a.shape=} and {b.shape=}{hint}")
    return columns, is_vector


def batch_shape(*arrays: Array) -> tuple[int, ...]:
    """What the batch dimensions, all but the last two, broadcast to.

    Raises
    ------
    ValueError
        If they do not.
    """
    batches = [a.shape[:-2] for a in arrays]
    if all(batch == batches[0] for batch in batches):
        return batches[0]
    try:
        return np.broadcast_shapes(*batches)
    except ValueError:
        shapes = " and ".join(str(a.shape) for a in arrays)
        raise ValueError(f"batch dimensions do not broadcast: {shapes}") from None


def stack(a: Array, batch: tuple[int, ...]) -> Array:
    """`a`, broadcast to the batch dimensions `batch`, as (N, m, n); a view where it can be one."""
    core = a.shape[-2:]
    if a.shape[:-2] != batch:
        a = ops_for(a).xp.broadcast_to(a, (*batch, *core))
    return a if len(batch) == 1 else a.reshape((math.prod(batch), *core))


def on_host(a: Array) -> Array:
    """An array of any backend as NumPy's: for what is said of members, not for what is computed."""
    return a if isinstance(a, np.ndarray) else np.array(a.tolist(), dtype=a.dtype)


def on_device_of(a: Array, members: Array) -> Array:
    """Members by number, as the backend of `a` takes them for an index."""
    return ops_for(a).xp.asarray(members)


def precision_option(precision: str | Format, dtype: np.dtype[Any]) -> Format | None:
    """The pinned format, or None for "auto".

    Raises
    ------
    ValueError
        For unknown formats, and for formats wider than the working precision.
    """
    if isinstance(precision, str) and precision == "auto":
        return None
    try:
        fmt = get_format(precision)
    except ValueError as error:
        raise ValueError(f"{error} (or 'auto')") from None
    if fmt.unit_roundoff < working_format(dtype).unit_roundoff:
        raise ValueError(f"precision={fmt.name!r} is wider than the {dtype} that is solved in")
    return fmt


def choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}; got {value!r}")


def tolerance(tol: float | None) -> None:
    """Raise ValueError unless `tol` lies between 0 and 1, or is None."""
    if tol is not None and not (isinstance(tol, numbers.Real) and 0.0 < float(tol) < 1.0):
        raise ValueError(f"tol must lie between 0 and 1; got {tol!r}")
