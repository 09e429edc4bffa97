"""How a CuPy view lies in memory, and how BLAS is told of it.

As in `kernels.cpu.routines`: *F-like* means unit stride down the columns, *C-like* unit stride
along the rows. A matrix with one row, or one column, can be both; one that is broadcast is neither.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cupy
import numpy as np

Array = Any

PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}
"""Of the names of routines, by the letter of a dtype."""

MIRROR = {"N": "T", "T": "N"}
"""The flag of a transpose that is read as BLAS sees it."""


def is_f_like(a: Array) -> bool:
    """Unit stride down the columns, and columns that do not overlap."""
    rows, cols = a.shape
    row_stride, col_stride = a.strides
    return _is_like(rows, cols, row_stride, col_stride, a.itemsize)


def is_c_like(a: Array) -> bool:
    """Unit stride along the rows, and rows that do not overlap."""
    rows, cols = a.shape
    row_stride, col_stride = a.strides
    return _is_like(cols, rows, col_stride, row_stride, a.itemsize)


def _is_like(length: int, lines: int, along: int, across: int, size: int) -> bool:
    return (
        length == 0
        or lines == 0
        or (
            (length == 1 or along == size)
            and (lines == 1 or (across >= length * size and across % size == 0))
        )
    )


def leading_dimension(a: Array, *, turned: bool = False) -> int:
    """Numbers from one column of an F-like view to the next, at least its rows, and 1.

    With `turned`, of the transpose of `a`.
    """
    (rows, cols), (_, across) = a.shape, a.strides
    if turned:
        rows, cols, across = cols, rows, a.strides[0]
    # the stride of an only column means nothing, and may be too small for BLAS
    return max(across // a.itemsize if cols > 1 else rows, rows, 1)


def lapack_dtype(routine: str, *arrays: Array) -> np.dtype[Any]:
    """The one LAPACK dtype of all `arrays`, which lie on the device."""
    for a in arrays:
        if not isinstance(a, cupy.ndarray):
            raise TypeError(f"{routine} takes CuPy arrays; got {type(a).__name__}")
    dtype = arrays[0].dtype
    if dtype.char not in PREFIX or any(a.dtype != dtype for a in arrays):
        raise TypeError(
            f"{routine} takes arrays of one LAPACK dtype; got {[str(a.dtype) for a in arrays]}"
        )
    return dtype


def require_f_like(routine: str, *arrays: Array) -> None:
    """Refuse what cuSOLVER cannot work on in place."""
    for a in arrays:
        if a.ndim != 2 or not is_f_like(a):
            raise ValueError(
                f"{routine} works in place on a column-major view; got {a.shape=}, {a.strides=}"
            )


def require_views(routine: str, *arrays: Array) -> None:
    """Refuse what is not a matrix with unit stride in one dimension."""
    for a in arrays:
        if a.ndim != 2 or not (is_f_like(a) or is_c_like(a)):
            raise ValueError(
                f"{routine} works in place on a matrix with unit stride in one dimension;"
                f" got {a.shape=}, {a.strides=}"
            )


def require_shapes(fits: bool, routine: str, *arrays: Array) -> None:
    """cuBLAS and cuSOLVER see pointers: what does not fit is read and written past its end."""
    if not fits:
        raise ValueError(f"{routine}: shapes {', '.join(str(a.shape) for a in arrays)} do not fit")


def f_ordered(a: Array, *, conjugate: bool = False) -> Array:
    """A copy of `a`, or of its conjugate, in column-major order."""
    copy = cupy.empty(a.shape, a.dtype, order="F")
    if conjugate:
        cupy.conj(a, out=copy)
    else:
        copy[...] = a
    return copy


class Operand(NamedTuple):
    """A matrix as BLAS is told of it."""

    array: Array
    """To be kept until the call is made: it may be a copy."""
    pointer: int
    leading: int
    trans: str


def operand(a: Array, trans: str, *, turned: bool = False) -> Operand:
    """op(a), or with `turned` op(a.T), for BLAS, which takes F-like arrays and a flag.

    No view is made of `a`, as that takes longer than all else here. A copy is made where BLAS has
    no flag for it: neither unit stride, or the conjugate of what it sees.
    """
    trans = real_flag(trans, a.dtype)
    f_like, c_like = (is_c_like, is_f_like) if turned else (is_f_like, is_c_like)
    if f_like(a):
        return Operand(a, a.data.ptr, leading_dimension(a, turned=turned), trans)
    if c_like(a) and trans != "C":
        return Operand(a, a.data.ptr, leading_dimension(a, turned=not turned), MIRROR[trans])
    if c_like(a):
        copy, trans = f_ordered(a if turned else a.T, conjugate=True), "N"
    else:
        copy = f_ordered(a.T if turned else a)
    return Operand(copy, copy.data.ptr, leading_dimension(copy), trans)


def real_flag(trans: str, dtype: np.dtype[Any]) -> str:
    """`trans`, as "T" where a "C" of real numbers means no more, and is not known everywhere."""
    return "T" if trans == "C" and dtype.kind != "c" else trans


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
