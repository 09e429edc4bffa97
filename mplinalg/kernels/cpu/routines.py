"""The routines of BLAS and LAPACK that SciPy publishes, by their function pointers.

``scipy.linalg.cython_blas`` and ``cython_lapack`` export their routines as PyCapsules. Calling
them by pointer, rather than through f2py, accepts views with a leading dimension without a copy,
releases the GIL, and uses the one BLAS that SciPy itself runs on.

Arrays are two-dimensional views of one of the four LAPACK dtypes. *F-like* means unit stride down
the columns, *C-like* unit stride along the rows.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas, cython_lapack

Array = NDArray[Any]

__all__ = [
    "MIRROR", "address", "call", "is_c_like", "is_f_like", "ld", "operand", "pointer", "ref",
    "require_f_like", "require_shapes", "same_dtype", "scalar",
]  # fmt: skip

_PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}
MIRROR = {"N": "T", "T": "N"}

_capsule_name = ctypes.pythonapi.PyCapsule_GetName
_capsule_name.restype, _capsule_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


@functools.cache
def _routine(name: str) -> Any:
    """The routine `name` as a ctypes function of pointers; its arity is read off the capsule."""
    module = cython_blas if name in cython_blas.__pyx_capi__ else cython_lapack
    capsule = module.__pyx_capi__[name]
    signature = _capsule_name(capsule)
    if b"int64" in signature or b"long *" in signature:
        raise ImportError(f"SciPy's {name} takes 64-bit integers; only LP64 is supported")
    arity = signature.count(b",") + 1
    pointer = _capsule_pointer(capsule, signature)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arity)(pointer)


@functools.cache
def address(name: str, dtype: np.dtype[Any]) -> int:
    """The address of a routine, named without its s/d/c/z, for compiled kernels to call."""
    return int(ctypes.cast(_routine(_PREFIX[dtype.char] + name), ctypes.c_void_p).value or 0)


def call(name: str, dtype: np.dtype[Any], *args: Any) -> None:
    """Call a routine, named without its s/d/c/z, with pointers."""
    _routine(_PREFIX[dtype.char] + name)(*args)


def ref(value: int) -> Any:
    """An integer by reference."""
    return ctypes.byref(ctypes.c_int(value))


def scalar(value: complex, dtype: np.dtype[Any]) -> Any:
    """`value` as a one-element array of `dtype`; the caller keeps it alive during the call."""
    return np.array([value], dtype=dtype)


def pointer(a: Array) -> int:
    """The address of the first entry."""
    return int(a.__array_interface__["data"][0])


def is_f_like(a: Array) -> bool:
    """Unit stride down the columns, and columns that do not overlap."""
    rows, cols = a.shape
    row_stride, col_stride = a.strides
    size = a.itemsize
    return a.size == 0 or (
        (rows == 1 or row_stride == size)
        and (cols == 1 or (col_stride >= rows * size and col_stride % size == 0))
    )


def is_c_like(a: Array) -> bool:
    """Unit stride along the rows, and rows that do not overlap."""
    return is_f_like(a.T)


def ld(a: Array) -> Any:
    """The leading dimension of an F-like array, by reference."""
    rows, cols = a.shape
    return ref(max(a.strides[1] // a.itemsize if cols > 1 else rows, rows, 1))


def require_f_like(a: Array, routine: str) -> None:
    """Refuse views that are not F-like."""
    if a.ndim != 2 or not is_f_like(a):
        raise ValueError(
            f"{routine} works in place on a column-major view; got {a.shape=}, {a.strides=}"
        )


def same_dtype(routine: str, *arrays: Array) -> np.dtype[Any]:
    """The dtype of all of them; refuse others than those of LAPACK, and several."""
    dtype = arrays[0].dtype
    known = dtype.char in _PREFIX and dtype.isnative
    if not known or any(a.dtype != dtype for a in arrays):
        raise TypeError(
            f"{routine} takes arrays of one LAPACK dtype; got {[str(a.dtype) for a in arrays]}"
        )
    return dtype


def require_shapes(fits: bool, routine: str, *arrays: Array) -> None:
    """BLAS and LAPACK see pointers: what does not fit is read and written past its end."""
    if not fits:
        raise ValueError(f"{routine}: shapes {', '.join(str(a.shape) for a in arrays)} do not fit")


def operand(a: Array, trans: str) -> tuple[Array, str]:
    """`a` as an F-like array and the flag with which BLAS reads it as op(a)."""
    if is_f_like(a):
        return a, trans
    if is_c_like(a):
        if trans == "C" and a.dtype.kind == "c":
            return np.conj(a.T), "N"
        return a.T, MIRROR.get(trans, "N")
    return np.asfortranarray(a), trans
