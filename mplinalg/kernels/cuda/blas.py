"""Products and triangular solves by cuBLAS, on CuPy views in place.

The functions have the names, arguments and meaning of those in `kernels.cpu.blas`. Views have
unit stride in one dimension, either one. Nothing here waits for the device: work is put on
CuPy's current stream, which the wrappers of cuBLAS set by themselves. Handles are CuPy's, one for
each thread and device, so that a pointer mode that is set here is seen by no other thread.

CuPy has no herk: the complex `syrk` is made of products, block row by block row.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import cupy
import numpy as np
from cupy.cuda import device, runtime
from cupy_backends.cuda.libs import cublas

from . import blas_direct
from .layout import (
    MIRROR,
    PREFIX,
    Array,
    Operand,
    f_ordered,
    is_c_like,
    is_f_like,
    lapack_dtype,
    leading_dimension,
    operand,
    real_flag,
    require_shapes,
    require_views,
)

TRANS = {"N": cublas.CUBLAS_OP_N, "T": cublas.CUBLAS_OP_T, "C": cublas.CUBLAS_OP_C}
SIDE = {"L": cublas.CUBLAS_SIDE_LEFT, "R": cublas.CUBLAS_SIDE_RIGHT}
_HERK_ROWS = 1024
"""Of a block of the complex `syrk`: large for a product, small beside a matrix worth it."""


def _routine(name: str, dtype: np.dtype[Any]) -> Any:
    return getattr(cublas, PREFIX[dtype.char] + name)


def fill(lower: bool) -> int:
    """The name of a triangle."""
    return cublas.CUBLAS_FILL_MODE_LOWER if lower else cublas.CUBLAS_FILL_MODE_UPPER


_KEPT = (0.0, 1.0, -1.0)
_host_constants: dict[tuple[str, complex], tuple[Array, int]] = {}


def _scalar(value: Any, dtype: np.dtype[Any]) -> tuple[Array, int]:
    """`value` as one number of `dtype` on the host, to be kept during the call; its address."""
    key = dtype.char, value
    found = _host_constants.get(key)
    if found is None:
        number = np.array([value], dtype)
        found = number, number.ctypes.data
        if value in _KEPT:
            _host_constants[key] = found
    return found


def _call(routine: Any, *arguments: Any, scalars_on_device: bool = False) -> None:
    """Call cuBLAS for this thread and device, told where alpha and beta lie, and told back."""
    routine = blas_direct.routine(routine)
    handle = device.get_cublas_handle()
    wanted = (
        cublas.CUBLAS_POINTER_MODE_DEVICE if scalars_on_device else cublas.CUBLAS_POINTER_MODE_HOST
    )
    before = cublas.getPointerMode(handle)
    if before == wanted:
        routine(handle, *arguments)
        return
    cublas.setPointerMode(handle, wanted)
    try:
        routine(handle, *arguments)
    finally:
        cublas.setPointerMode(handle, before)


class _Product(NamedTuple):
    """A product as BLAS is told of it: C, or its transpose, by columns."""

    m: int
    n: int
    k: int
    left: Operand
    right: Operand
    leading: int
    """Leading dimension of C."""


def _product(
    routine: str, a: Array, b: Array, c: Array, transa: str, transb: str
) -> _Product | None:
    """Checked; None if there is nothing to multiply."""
    if a.ndim != 2 or b.ndim != 2 or c.ndim != 2:
        raise ValueError(f"{routine} multiplies matrices; got {a.shape=}, {b.shape=}, {c.shape=}")
    m, k = a.shape if transa == "N" else a.shape[::-1]
    inner, n = b.shape if transb == "N" else b.shape[::-1]
    if inner != k or c.shape != (m, n):
        raise ValueError(f"{routine}: shapes {a.shape} {transa}, {b.shape} {transb} -> {c.shape}")
    turned = not is_f_like(c)
    if turned and not is_c_like(c):
        raise ValueError(f"{routine} needs a C with unit stride in one dimension; got {c.strides=}")
    if m == 0 or n == 0 or k == 0:
        return None
    leading = leading_dimension(c, turned=turned)
    left, right = operand(a, transa, turned=turned), operand(b, transb, turned=turned)
    if turned:  # C^T <- alpha op(B)^T op(A)^T + beta C^T, and op(X)^T = op(X^T)
        return _Product(n, m, k, right, left, leading)
    return _Product(m, n, k, left, right, leading)


def _scale(c: Array, beta: Any) -> None:
    """C <- beta C; as in BLAS, with beta = 0 what is in C does not matter."""
    if isinstance(beta, cupy.ndarray):
        c[...] = cupy.where(beta == 0, c.dtype.type(0), c * beta)
    elif beta == 0:
        c[...] = 0
    elif beta != 1:
        c *= beta


def gemm(
    alpha: complex,
    a: Array,
    b: Array,
    beta: complex,
    c: Array,
    transa: str = "N",
    transb: str = "N",
) -> None:
    """C <- alpha op(A) op(B) + beta C."""
    dtype = lapack_dtype("gemm", a, b, c)
    product = _product("gemm", a, b, c, transa, transb)
    if product is None:
        _scale(c, beta)
        return
    m, n, k, left, right, leading = product
    (_kept, alpha_at), (_kept_too, beta_at) = _scalar(alpha, dtype), _scalar(beta, dtype)
    _call(
        _routine("gemm", dtype), TRANS[left.trans], TRANS[right.trans], m, n, k, alpha_at,
        left.pointer, left.leading, right.pointer, right.leading, beta_at, c.data.ptr, leading,
    )  # fmt: skip


def trsm(
    side: str, a: Array, b: Array, lower: bool, trans: str = "N", unit: bool = False,
    alpha: complex = 1.0,
) -> None:  # fmt: skip
    """B <- alpha op(A)^-1 B (side "L") or alpha B op(A)^-1 (side "R"), A triangular."""
    dtype = lapack_dtype("trsm", a, b)
    require_views("trsm", b)
    order = b.shape[0 if side == "L" else 1]
    if a.shape != (order, order):
        raise ValueError(f"trsm: {a.shape=} does not fit {b.shape=} on side {side}")
    if b.size == 0:
        return
    trans = real_flag(trans, dtype)
    m, n = b.shape
    turned = not is_f_like(b)
    if turned:  # B^T <- alpha B^T op(A^T)^-1
        side, m, n, lower = ("R" if side == "L" else "L"), n, m, not lower
    f_like, c_like = (is_c_like, is_f_like) if turned else (is_f_like, is_c_like)
    conjugate = False
    if f_like(a):
        lda = leading_dimension(a, turned=turned)
    elif c_like(a):
        conjugate = trans == "C"
        lda = leading_dimension(a, turned=not turned)
        lower, trans = not lower, MIRROR.get(trans, "N")
    else:
        a = f_ordered(a.T if turned else a)
        lda = leading_dimension(a)
    if conjugate:  # conj(A)^-1 B = conj(A^-1 conj(B))
        cupy.conj(b, out=b)
        alpha = np.conj(alpha)
    _kept, alpha_at = _scalar(alpha, dtype)
    _call(
        _routine("trsm", dtype), SIDE[side], fill(lower), TRANS[trans],
        cublas.CUBLAS_DIAG_UNIT if unit else cublas.CUBLAS_DIAG_NON_UNIT, m, n, alpha_at,
        a.data.ptr, lda, b.data.ptr, leading_dimension(b, turned=turned),
    )  # fmt: skip
    if conjugate:
        cupy.conj(b, out=b)


def syrk(alpha: float, a: Array, beta: float, c: Array, lower: bool, trans: str = "N") -> None:
    """C <- alpha A A^H + beta C (trans "N") or alpha A^H A + beta C ("C").

    One triangle of C is meaningful. Of a complex C, parts of the other are overwritten.
    """
    dtype = lapack_dtype("syrk", a, c)
    require_views("syrk", a, c)
    n, k = a.shape if trans == "N" else a.shape[::-1]
    require_shapes(c.shape == (n, n), "syrk", a, c)
    if n == 0:
        return
    if k == 0:
        _scale(c, beta)
        return
    if not is_f_like(c):  # (A A^H)^T = (A^T)^H A^T
        a, c, lower, trans = a.T, c.T, not lower, ("C" if trans == "N" else "N")
    if dtype.kind == "c":
        _herk(alpha, a, beta, c, lower, trans)
        return
    given = operand(a, "N" if trans == "N" else "T")
    (_kept, alpha_at), (_kept_too, beta_at) = _scalar(alpha, dtype), _scalar(beta, dtype)
    _call(
        _routine("syrk", dtype), fill(lower), TRANS[given.trans], n, k, alpha_at, given.pointer,
        given.leading, beta_at, c.data.ptr, leading_dimension(c),
    )  # fmt: skip


def _herk(alpha: float, a: Array, beta: float, c: Array, lower: bool, trans: str) -> None:
    """The complex `syrk` of an F-like C."""
    if not is_f_like(a):  # once, rather than in every product below
        a = f_ordered(a)
    n = len(c)
    for start in range(0, n, _HERK_ROWS):
        stop = min(start + _HERK_ROWS, n)
        rows, cols = slice(start, stop), slice(0, stop)
        if not lower:
            rows, cols = cols, rows
        if trans == "N":
            gemm(alpha, a[rows], a[cols], beta, c[rows, cols], "N", "C")
        else:
            gemm(alpha, a[:, rows], a[:, cols], beta, c[rows, cols], "C", "N")
    # it is real: what rounding, or a C that was not Hermitian, left there is not meant
    c.diagonal().imag[...] = 0


# -- products of low-precision operands ---------------------------------------------------------

_KINDS = {"e": runtime.CUDA_R_16F, "H": runtime.CUDA_R_16BF}
_TF32_KINDS = {"f": runtime.CUDA_R_32F, "F": runtime.CUDA_C_32F}


def gemm_low(
    alpha: Any, a: Array, b: Array, beta: Any, c: Array, transa: str = "N", transb: str = "N", *,
    tf32: bool = False,
) -> None:  # fmt: skip
    """C <- alpha op(A) op(B) + beta C, products of low-precision numbers summed in fp32.

    A and B are float16; or uint16 that hold bfloat16; or, with `tf32`, float32 or complex64, of
    which the tensor cores see the leading bits. C is float32 (complex64 with complex operands).
    alpha and beta are numbers, or float32 arrays of one element, which the host does not wait for.
    """
    kind, result = _low_kinds(a, b, c, tf32)
    product = _product("gemm_low", a, b, c, transa, transb)
    if product is None:
        _scale(c, beta)
        return
    m, n, k, left, right, leading = product
    on_device = isinstance(alpha, cupy.ndarray) or isinstance(beta, cupy.ndarray)
    scalar = _device_scalar if on_device else _scalar  # cuBLAS wants both in one place
    (_kept, alpha_at), (_kept_too, beta_at) = scalar(alpha, c.dtype), scalar(beta, c.dtype)
    compute = cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F
    _call(
        cublas.gemmEx, TRANS[left.trans], TRANS[right.trans], m, n, k, alpha_at, left.pointer, kind,
        left.leading, right.pointer, kind, right.leading, beta_at, c.data.ptr, result, leading,
        compute, cublas.CUBLAS_GEMM_DEFAULT, scalars_on_device=on_device,
    )  # fmt: skip


def _low_kinds(a: Array, b: Array, c: Array, tf32: bool) -> tuple[int, int]:
    """cuBLAS's names for the types of A, B and C."""
    for x in (a, b, c):
        if not isinstance(x, cupy.ndarray):
            raise TypeError(f"gemm_low takes CuPy arrays; got {type(x).__name__}")
    kinds = _TF32_KINDS if tf32 else _KINDS
    result = "F" if a.dtype.char == "F" else "f"
    if a.dtype.char not in kinds or b.dtype != a.dtype or c.dtype.char != result:
        wanted = (
            "tf32: float32 or complex64 throughout" if tf32
            else "float16, or uint16 that hold bfloat16, and float32 for C"
        )  # fmt: skip
        raise TypeError(
            f"gemm_low takes {wanted}; got {[str(x.dtype) for x in (a, b, c)]}, {tf32=}"
        )
    return kinds[a.dtype.char], _TF32_KINDS[result]


_device_constants: dict[tuple[int, str, float], Array] = {}
_device_constants_lock = threading.Lock()


def _device_scalar(value: Any, dtype: np.dtype[Any]) -> tuple[Array, int]:
    """`value` as one number of `dtype` on the device, to be kept during the call; its address."""
    if isinstance(value, cupy.ndarray):
        if value.size != 1 or value.dtype.char != "f":
            raise TypeError(
                f"gemm_low takes float32 arrays of one element as alpha and beta;"
                f" got {value.shape=}, {value.dtype=}"
            )
        number = value.astype(dtype, copy=False)
    elif value in _KEPT:
        number = _device_constant(value, dtype)
    else:
        number = cupy.full(1, value, dtype)
    return number, number.data.ptr


def _device_constant(value: float, dtype: np.dtype[Any]) -> Array:
    key = cupy.cuda.get_device_id(), dtype.char, value
    found = _device_constants.get(key)
    if found is None:
        with _device_constants_lock:
            found = _device_constants.get(key)
            if found is None:
                found = cupy.full(1, value, dtype)
                # other streams will read it, and are not ordered after this one
                cupy.cuda.get_current_stream().synchronize()
                _device_constants[key] = found
    return found


# -- products of stacks ---------------------------------------------------------------------------

_NATIVE = {
    "f": (runtime.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F),
    "d": (runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F),
    "F": (runtime.CUDA_C_32F, cublas.CUBLAS_COMPUTE_32F),
    "D": (runtime.CUDA_C_64F, cublas.CUBLAS_COMPUTE_64F),
}


def gemm_batched(
    alpha: complex, a: Array, b: Array, beta: complex, c: Array, transa: str = "N",
    transb: str = "N", *, tf32: bool = False,
) -> None:  # fmt: skip
    """C <- alpha op(A) op(B) + beta C of every member of stacks (N, rows, columns).

    Of one LAPACK dtype; or A and B of low precision, as `gemm_low` takes them. Members of C have
    unit stride in one dimension; of A and B copies are made where they have not.
    """
    if a.dtype.char in _NATIVE and not tf32:
        kind, compute = _NATIVE[lapack_dtype("gemm_batched", a, b, c).char]
        result = kind
    else:
        kind, result = _low_kinds(a, b, c, tf32)
        compute = cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F
    if any(x.ndim != 3 for x in (a, b, c)) or not len(a) == len(b) == len(c):
        raise ValueError(f"gemm_batched: shapes {a.shape}, {b.shape}, {c.shape} are no stacks")
    if c.size == 0:
        return
    turned = not is_f_like(c[0])
    left, right = (_stack(x, t, turned) for x, t in ((a, transa), (b, transb)))
    product = _product("gemm_batched", left[0][0], right[0][0], c[0], left[1], right[1])
    if product is None:
        _scale(c, beta)
        return
    m, n, k, one, two, leading = product
    steps = [_step(x) for x, _ in ((right, left) if turned else (left, right))]
    (_kept, alpha_at), (_kept_too, beta_at) = _scalar(alpha, c.dtype), _scalar(beta, c.dtype)
    _call(
        cublas.gemmStridedBatchedEx, TRANS[one.trans], TRANS[two.trans], m, n, k, alpha_at,
        one.pointer, kind, one.leading, steps[0], two.pointer, kind, two.leading, steps[1],
        beta_at, c.data.ptr, result, leading, _step(c), len(c), compute,
        cublas.CUBLAS_GEMM_DEFAULT,
    )  # fmt: skip


def _stack(x: Array, trans: str, turned: bool) -> tuple[Array, str]:
    """op(x) as a stack of which `operand` copies nothing, and the flag."""
    trans = real_flag(trans, x.dtype)
    usable = is_f_like(x[0]) or is_c_like(x[0])
    if not usable or x.strides[0] < 0 or x.strides[0] % x.itemsize:
        x = cupy.ascontiguousarray(x)
    by_rows = is_f_like(x[0]) if turned else is_c_like(x[0])
    if trans == "C" and by_rows:  # conjugates are in the order of strides
        return cupy.ascontiguousarray(cupy.conj(x)), "T"
    return x, trans


def _step(x: Array) -> int:
    """Numbers from one member to the next."""
    return int(x.strides[0] // x.itemsize) if len(x) > 1 else 0
