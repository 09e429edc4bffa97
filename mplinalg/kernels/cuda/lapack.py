"""Factorizations by cuSOLVER, on CuPy views in place.

The functions have the names, arguments and meaning of those in `kernels.cpu.lapack`, and take
F-like views. Nothing here waits for the device: `info` comes as an array of one int32, and only
who reads it waits. Pivots are 0-based, on the device. Work space comes from CuPy's pool.

CuPy wraps cuSOLVER's 32-bit interface for these routines (of the 64-bit one only eigenvalue
solvers, up to 14.2). Where a matrix is too large for it, cuSOLVER says so when asked for the size
of its work space, and a `RuntimeError` passes that on.
"""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np
from cupy.cuda import device
from cupy_backends.cuda.libs import cusolver

from .blas import SIDE, TRANS, fill
from .layout import (
    PREFIX,
    Array,
    lapack_dtype,
    leading_dimension,
    real_flag,
    require_f_like,
    require_shapes,
)

_INT32 = np.dtype(np.int32)


def _routine(name: str, dtype: np.dtype[Any]) -> Any:
    return getattr(cusolver, PREFIX[dtype.char] + name)


def _flag(trans: str, dtype: np.dtype[Any]) -> int:
    return TRANS[real_flag(trans, dtype)]


def _workspace(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], *arguments: Any) -> Array:
    """What `name` wants for a matrix of `shape`."""
    try:
        size = _routine(f"{name}_bufferSize", dtype)(device.get_cusolver_handle(), *arguments)
    except (cusolver.CUSOLVERError, OverflowError) as error:
        if np.prod(shape, dtype=object) < 2**31:
            raise
        raise RuntimeError(
            f"{name}: a matrix of shape {shape} is too large for the 32-bit interface of cuSOLVER,"
            f" the only one that CuPy {cupy.__version__} has for it ({error})"
        ) from error
    return cupy.empty(max(size, 1), dtype)


def _info() -> Array:
    return cupy.zeros(1, _INT32)


# -- LU -----------------------------------------------------------------------------------------


def getrf(a: Array) -> tuple[Array, Array]:
    """P A = L U in place. Returns the pivots and info (i > 0: U[i-1, i-1] is exactly zero)."""
    dtype = lapack_dtype("getrf", a)
    require_f_like("getrf", a)
    m, n = a.shape
    piv, info = cupy.empty(min(m, n), _INT32), _info()
    if piv.size:
        place = a.data.ptr, leading_dimension(a)
        work = _workspace("getrf", dtype, a.shape, m, n, *place)
        _routine("getrf", dtype)(
            device.get_cusolver_handle(), m, n, *place, work.data.ptr, piv.data.ptr, info.data.ptr
        )
        piv -= 1
    return piv, info


def getrs(lu: Array, piv: Array, b: Array, trans: str = "N") -> None:
    """B <- op(A)^-1 B with the factors of `getrf`; B is F-like."""
    dtype = lapack_dtype("getrs", lu, b)
    require_f_like("getrs", lu, b)
    n = len(b)
    require_shapes(lu.shape == (n, n) and piv.shape == (n,), "getrs", lu, piv, b)
    if not isinstance(piv, cupy.ndarray) or piv.dtype != _INT32:
        raise TypeError(f"getrs takes int32 pivots on the device; got {type(piv)}, {piv.dtype}")
    if b.size == 0:
        return
    one_based, info = piv + _INT32.type(1), _info()
    _routine("getrs", dtype)(
        device.get_cusolver_handle(), _flag(trans, dtype), n, b.shape[1], lu.data.ptr,
        leading_dimension(lu), one_based.data.ptr, b.data.ptr, leading_dimension(b),
        info.data.ptr,
    )  # fmt: skip


# -- Cholesky -----------------------------------------------------------------------------------


def potrf(a: Array, lower: bool) -> Array:
    """A = L L^H or U^H U in place, one triangle. Returns info (i > 0: the i-th minor fails)."""
    dtype = lapack_dtype("potrf", a)
    require_f_like("potrf", a)
    n = len(a)
    require_shapes(a.shape == (n, n), "potrf", a)
    info = _info()
    if n:
        place = fill(lower), n, a.data.ptr, leading_dimension(a)
        work = _workspace("potrf", dtype, a.shape, *place)
        _routine("potrf", dtype)(
            device.get_cusolver_handle(), *place, work.data.ptr, work.size, info.data.ptr
        )
    return info


def potrs(c: Array, b: Array, lower: bool) -> None:
    """B <- A^-1 B with the factor of `potrf`; B is F-like."""
    dtype = lapack_dtype("potrs", c, b)
    require_f_like("potrs", c, b)
    require_shapes(c.shape == (len(b), len(b)), "potrs", c, b)
    if b.size == 0:
        return
    info = _info()
    _routine("potrs", dtype)(
        device.get_cusolver_handle(), fill(lower), len(b), b.shape[1], c.data.ptr,
        leading_dimension(c), b.data.ptr, leading_dimension(b), info.data.ptr,
    )  # fmt: skip


# -- QR -----------------------------------------------------------------------------------------


def geqrf(a: Array) -> Array:
    """A = Q R in place (reflectors below the diagonal). Returns tau."""
    dtype = lapack_dtype("geqrf", a)
    require_f_like("geqrf", a)
    m, n = a.shape
    tau = cupy.empty(min(m, n), dtype)
    if tau.size:
        place = m, n, a.data.ptr, leading_dimension(a)
        work, info = _workspace("geqrf", dtype, a.shape, *place), _info()
        _routine("geqrf", dtype)(
            device.get_cusolver_handle(), *place, tau.data.ptr, work.data.ptr, work.size,
            info.data.ptr,
        )  # fmt: skip
    return tau


def ormqr(side: str, trans: str, qr: Array, tau: Array, c: Array) -> None:
    """C <- op(Q) C (side "L") or C op(Q) ("R"), Q from `geqrf`; C is F-like."""
    dtype = lapack_dtype("ormqr", qr, tau, c)
    require_f_like("ormqr", qr, c)
    order = c.shape[0 if side == "L" else 1]
    fits = qr.shape[0] == order and tau.ndim == 1 and len(tau) <= min(qr.shape)
    require_shapes(fits, "ormqr", qr, tau, c)
    if c.size == 0 or tau.size == 0:
        return
    name = "unmqr" if dtype.kind == "c" else "ormqr"
    tau = cupy.ascontiguousarray(tau)
    flag = "N" if trans == "N" else "C"
    operands = (
        SIDE[side], _flag(flag, dtype), *c.shape, tau.size, qr.data.ptr, leading_dimension(qr),
        tau.data.ptr, c.data.ptr, leading_dimension(c),
    )  # fmt: skip
    work, info = _workspace(name, dtype, qr.shape, *operands), _info()
    _routine(name, dtype)(
        device.get_cusolver_handle(), *operands, work.data.ptr, work.size, info.data.ptr
    )
