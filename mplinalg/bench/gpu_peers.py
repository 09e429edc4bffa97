"""What mplinalg is compared with on a GPU: cuSOLVER, through CuPy, and PyTorch.

cuSOLVER's solvers with iterative refinement (IRS) are called by name. `cupyx.cusolver.gesv` takes
the precision of the factors from a global, does not know bfloat16, and raises where the number of
iterations is negative, which says that refinement failed and double precision was used instead: a
slow answer, but an answer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "IRS_FORMATS", "cholesky_solve", "irs_least_squares", "irs_solve", "least_squares",
    "torch_solve", "torch_with",
]  # fmt: skip

Array = Any

IRS_FORMATS = {"fp16": "hk", "bf16": "be", "tf32": "xy"}
"""Letters of real and of complex factors in the names of the routines."""
MOST_OF_TORCH = 16384
"""Largest order: PyTorch keeps the memory it took, which larger problems need."""


def irs_solve(a: Array, b: Array, factors: str) -> Array:
    """A X = B by cusolverDnD?gesv or Z?gesv: LU in `factors`, and GMRES-based refinement.

    Raises
    ------
    RuntimeError
        If the routine cannot be called, or says that A is singular.
    """
    import cupy

    is_complex = a.dtype.kind == "c"
    name = ("z" if is_complex else "d") + IRS_FORMATS[factors][is_complex] + "gesv"
    n, nrhs = a.shape[0], b.shape[1] if b.ndim > 1 else 1
    a, b = a.copy(order="F"), b.copy(order="F")  # both are overwritten
    x = cupy.empty_like(b)
    pivots, info = cupy.empty(n, cupy.int32), cupy.zeros(1, cupy.int32)
    size, solve = _routines(name)
    handle = cupy.cuda.device.get_cusolver_handle()
    arrays = (n, nrhs, a.data.ptr, n, pivots.data.ptr, b.data.ptr, n, x.data.ptr, n)
    work_bytes = size(handle, *arrays, 0)
    work = cupy.empty(work_bytes, cupy.int8)
    solve(handle, *arrays, work.data.ptr, work_bytes, info.data.ptr)
    if int(info[0]) != 0:
        raise RuntimeError(f"{name}: info = {int(info[0])}")
    return x


def _routines(name: str) -> tuple[Callable[..., int], Callable[..., int]]:
    """The routine and what tells the size of its work space, with CuPy's arguments."""
    from cupy_backends.cuda.libs import cusolver

    if hasattr(cusolver, name):
        return getattr(cusolver, name + "_bufferSize"), getattr(cusolver, name)
    return _foreign(_loaded("libcusolver.so"), name)


def _loaded(name: str) -> ctypes.CDLL:
    """A library that this process has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")[2]
        if path.rpartition("/")[2].startswith(name):
            return ctypes.CDLL("/" + path)
    raise RuntimeError(f"{name} is not loaded")


def _foreign(library: Any, name: str) -> tuple[Callable[..., int], Callable[..., int]]:
    """The same of a routine that CuPy has not wrapped, from the library itself."""
    import cupy

    full = f"cusolverDn{name[:2].upper()}{name[2:]}"
    pointer, number = ctypes.c_void_p, ctypes.c_int
    common = (
        pointer, number, number, pointer, number, pointer, pointer, number, pointer, number, pointer
    )  # fmt: skip
    size, solve = getattr(library, full + "_bufferSize"), getattr(library, full)
    size.argtypes = (*common, ctypes.POINTER(ctypes.c_size_t))
    solve.argtypes = (*common, ctypes.c_size_t, ctypes.POINTER(number), pointer)
    size.restype = solve.restype = number

    def bytes_needed(handle: int, *arguments: int) -> int:
        found = ctypes.c_size_t()
        _check(size(handle, *arguments, ctypes.byref(found)), full)
        return found.value

    def call(handle: int, *arguments: int) -> int:
        iterations = number()
        stream = cupy.cuda.get_current_stream().ptr
        _check(library.cusolverDnSetStream(pointer(handle), pointer(stream)), full)
        *arrays, work_bytes, info = arguments
        _check(solve(handle, *arrays, work_bytes, ctypes.byref(iterations), info), full)
        return iterations.value

    return bytes_needed, call


def _check(status: int, name: str) -> None:
    if status != 0:
        raise RuntimeError(f"{name}: cuSOLVER status {status}")


def cholesky_solve(a: Array, b: Array) -> Array:
    """A X = B by potrf and potrs."""
    import cupyx.lapack

    return cupyx.lapack.posv(a, b)


def least_squares(a: Array, b: Array) -> Array:
    """min ||b - A x|| by geqrf, ormqr and trsm."""
    import cupyx.lapack

    return cupyx.lapack.gels(a, b)


def irs_least_squares(a: Array, b: Array) -> Array:
    """min ||b - A x|| by cuSOLVER's gels with refinement."""
    import cupyx.cusolver

    return cupyx.cusolver.gels(a, b)


def torch_with(function: Callable[..., Any], *arrays: Array, order: int | None = None) -> Any:
    """Call ``function(torch, ...)`` with the same memory as PyTorch's arrays; back as CuPy's.

    `order`: of the matrices, where that is not the longest dimension of an array.

    Raises
    ------
    ValueError
        Above order 16384.
    """
    import cupy
    import torch

    if (order or max(max(a.shape) for a in arrays)) > MOST_OF_TORCH:
        raise ValueError(f"left out above order {MOST_OF_TORCH}")
    found = function(torch, *(torch.from_dlpack(a) for a in arrays))
    if isinstance(found, tuple):
        return tuple(cupy.from_dlpack(part) for part in found)
    return cupy.from_dlpack(found)


def torch_solve(a: Array, b: Array) -> Array:
    """A X = B by `torch.linalg.solve`."""
    return torch_with(lambda torch, *given: torch.linalg.solve(*given), a, b)
