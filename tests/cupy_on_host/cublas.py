"""`cupy_backends.cuda.libs.cublas`: BLAS from raw addresses, every one of them checked.

The names of arguments are CuPy's. Results are those of NumPy and SciPy in the same precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import blas

from . import capture, device, formats, ledger, streams
from .library import KINDS, Call, op, operations
from .pointers import integer, require_apart, strided, write_host

ENUMERATIONS = {
    "CUBLAS_OP_N": 0, "CUBLAS_OP_T": 1, "CUBLAS_OP_C": 2,
    "CUBLAS_POINTER_MODE_HOST": 0, "CUBLAS_POINTER_MODE_DEVICE": 1,
    "CUBLAS_SIDE_LEFT": 0, "CUBLAS_SIDE_RIGHT": 1,
    "CUBLAS_FILL_MODE_LOWER": 0, "CUBLAS_FILL_MODE_UPPER": 1,
    "CUBLAS_DIAG_NON_UNIT": 0, "CUBLAS_DIAG_UNIT": 1,
    "CUBLAS_GEMM_DEFAULT": -1, "CUBLAS_GEMM_DEFAULT_TENSOR_OP": 99,
    "CUBLAS_GEMM_DFALT": -1, "CUBLAS_GEMM_DFALT_TENSOR_OP": 99,
    "CUBLAS_DEFAULT_MATH": 0, "CUBLAS_TENSOR_OP_MATH": 1,
    "CUBLAS_COMPUTE_16F": 64, "CUBLAS_COMPUTE_16F_PEDANTIC": 65,
    "CUBLAS_COMPUTE_32F": 68, "CUBLAS_COMPUTE_32F_PEDANTIC": 69,
    "CUBLAS_COMPUTE_32F_FAST_16F": 74, "CUBLAS_COMPUTE_32F_FAST_16BF": 75,
    "CUBLAS_COMPUTE_32F_FAST_TF32": 77,
    "CUBLAS_COMPUTE_64F": 70, "CUBLAS_COMPUTE_64F_PEDANTIC": 71,
    "CUBLAS_COMPUTE_32I": 72, "CUBLAS_COMPUTE_32I_PEDANTIC": 73,
}  # fmt: skip

_STATUS = {
    1: "CUBLAS_STATUS_NOT_INITIALIZED", 3: "CUBLAS_STATUS_ALLOC_FAILED",
    7: "CUBLAS_STATUS_INVALID_VALUE", 8: "CUBLAS_STATUS_ARCH_MISMATCH",
    13: "CUBLAS_STATUS_EXECUTION_FAILED", 15: "CUBLAS_STATUS_NOT_SUPPORTED",
}  # fmt: skip
_INVALID, _NOT_SUPPORTED = 7, 15
_MATH_MODES = (0, 1, 2, 3, 16)
_TF32_MATH = 3


class CUBLASError(RuntimeError):
    """As CuPy's."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(_STATUS[status])


FUNCTIONS: dict[str, Callable[..., Any]] = {}


def _public(function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    function.__name__ = name or function.__name__
    FUNCTIONS[function.__name__] = function
    return function


def _call(name: str, handle: int) -> Call:
    return Call("cublas", name, handle, CUBLASError, _INVALID)


# -- handles ---------------------------------------------------------------------------------------


@_public
def create() -> int:
    return device.create_handle("cublas")


@_public
def destroy(handle: int) -> None:
    device.handle(handle, "cublas")
    device.destroy_handle(handle)


@_public
def getVersion(handle: int) -> int:
    device.handle(handle, "cublas")
    return 120900


@_public
def getPointerMode(handle: int) -> int:
    return device.handle(handle, "cublas").pointer_mode


@_public
def setPointerMode(handle: int, mode: int) -> None:
    _call("setPointerMode", handle).choice(mode, "mode", (0, 1))
    device.handle(handle, "cublas").pointer_mode = integer(mode, "mode")


@_public
def getMathMode(handle: int) -> int:
    return device.handle(handle, "cublas").math_mode


@_public
def setMathMode(handle: int, mode: int) -> None:
    _call("setMathMode", handle).choice(mode, "mode", _MATH_MODES)
    device.handle(handle, "cublas").math_mode = integer(mode, "mode")


@_public
def getStream(handle: int) -> int:
    return device.handle(handle, "cublas").stream


@_public
def setStream(handle: int, stream: int) -> None:
    if streams.get_current_stream().is_capturing() and stream == streams.get_current_stream().ptr:
        capture.refuse_cublas()
    state = device.handle(handle, "cublas")
    state.stream, state.workspace = stream, None


# -- level 3 ---------------------------------------------------------------------------------------


def _accumulate(alpha: Any, product: Callable[[], np.ndarray], beta: Any, c: np.ndarray) -> None:
    """C <- alpha product + beta C; C is not read if beta is 0, nor the operands if alpha is."""
    with np.errstate(all="ignore"):
        done = np.zeros(c.shape, c.dtype) if alpha == 0 else alpha * product()
        c[...] = done if beta == 0 else done + beta * c


def _gemm(kind: str) -> None:
    dtype = KINDS[kind]

    def gemm(handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):
        call = _call(f"{kind}gemm", handle)
        transa, transb = call.trans(transa, "transa"), call.trans(transb, "transb")
        m, n, k = call.size(m, "m"), call.size(n, "n"), call.size(k, "k")
        a = call.matrix(A, dtype, *((m, k) if transa == 0 else (k, m)), lda, "A")
        b = call.matrix(B, dtype, *((k, n) if transb == 0 else (n, k)), ldb, "B")
        scales = call.scalar(alpha, dtype, "alpha"), call.scalar(beta, dtype, "beta")
        c = call.matrix(C, dtype, m, n, ldc, "C", reads=scales[1] != 0, writes=True)
        require_apart(call.name, c, a, b)
        call.issue(operations(kind, m * n * k))
        tf32 = call.state.math_mode == _TF32_MATH and kind in "sc"
        x, y = (formats.rounded(o.host, 13) if tf32 else o.host for o in (a, b))
        _accumulate(scales[0], lambda: op(x, transa) @ op(y, transb), scales[1], c.host)

    _public(gemm, f"{kind}gemm")


def _strided_batched(kind: str) -> None:
    single = FUNCTIONS[f"{kind}gemm"]
    size = np.dtype(KINDS[kind]).itemsize

    def gemmStridedBatched(
        handle, transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc,
        strideC, batchCount,
    ):  # fmt: skip
        for i in range(_call(f"{kind}gemmStridedBatched", handle).size(batchCount, "batchCount")):
            single(
                handle, transa, transb, m, n, k, alpha, A + i * strideA * size, lda,
                B + i * strideB * size, ldb, beta, C + i * strideC * size, ldc,
            )  # fmt: skip

    _public(gemmStridedBatched, f"{kind}gemmStridedBatched")


def _trsm(kind: str) -> None:
    dtype = KINDS[kind]
    solve = getattr(blas, f"{kind}trsm")

    def trsm(handle, side, uplo, trans, diag, m, n, alpha, Aarray, lda, Barray, ldb):
        call = _call(f"{kind}trsm", handle)
        side, uplo = call.choice(side, "side", (0, 1)), call.choice(uplo, "uplo", (0, 1))
        trans, diag = call.trans(trans, "trans"), call.choice(diag, "diag", (0, 1))
        m, n = call.size(m, "m"), call.size(n, "n")
        order = n if side else m
        a = call.matrix(Aarray, dtype, order, order, lda, "A")
        b = call.matrix(Barray, dtype, m, n, ldb, "B", writes=True)
        scale = call.scalar(alpha, dtype, "alpha")
        require_apart(call.name, b, a)
        call.issue(operations(kind, m * n * order / 2))
        if b.host.size:
            b.host[...] = solve(
                scale, a.host, b.host, side=side, lower=1 - uplo, trans_a=trans, diag=diag
            )

    _public(trsm, f"{kind}trsm")


def _syrk(kind: str) -> None:
    dtype = KINDS[kind]

    def syrk(handle, uplo, trans, n, k, alpha, A, lda, beta, C, ldc):
        call = _call(f"{kind}syrk", handle)
        uplo = call.choice(uplo, "uplo", (0, 1))
        trans = call.choice(trans, "trans", (0, 1) if kind in "cz" else (0, 1, 2))
        n, k = call.size(n, "n"), call.size(k, "k")
        a = call.matrix(A, dtype, *((n, k) if trans == 0 else (k, n)), lda, "A")
        scales = call.scalar(alpha, dtype, "alpha"), call.scalar(beta, dtype, "beta")
        c = call.matrix(C, dtype, n, n, ldc, "C", reads=scales[1] != 0, writes=True)
        require_apart(call.name, c, a)
        call.issue(operations(kind, n * n * k / 2))
        x = a.host if trans == 0 else a.host.T
        done = c.host.copy()
        _accumulate(scales[0], lambda: x @ x.T, scales[1], done)
        triangle = np.tri(n, dtype=bool) if uplo == 0 else np.tri(n, dtype=bool).T
        c.host[triangle] = done[triangle]

    _public(syrk, f"{kind}syrk")


def _multiply_ex(
    name: str, handle: Any, transa: Any, transb: Any, m: Any, n: Any, k: Any, alpha: Any,
    A: Any, Atype: Any, lda: Any, B: Any, Btype: Any, ldb: Any, beta: Any, C: Any, Ctype: Any,
    ldc: Any, computeType: Any, algo: Any,
) -> None:  # fmt: skip
    call = _call(name, handle)
    transa, transb = call.trans(transa, "transa"), call.trans(transb, "transb")
    m, n, k = call.size(m, "m"), call.size(n, "n"), call.size(k, "k")
    compute = integer(computeType, "computeType")
    call.choice(algo, "algo", (-1, 99))
    if Atype != Btype or (Atype, Ctype) not in formats.SUPPORTED.get(compute, ()):
        error = CUBLASError(_NOT_SUPPORTED)
        error.add_note(f"{name}: types {Atype}, {Btype} and {Ctype} with compute type {compute}")
        raise error
    stored, scale = formats.STORED, formats.scale_type(compute, Ctype)
    a = call.matrix(A, stored[Atype], *((m, k) if transa == 0 else (k, m)), lda, "A")
    b = call.matrix(B, stored[Btype], *((k, n) if transb == 0 else (n, k)), ldb, "B")
    scales = call.scalar(alpha, scale, "alpha"), call.scalar(beta, scale, "beta")
    c = call.matrix(C, stored[Ctype], m, n, ldc, "C", reads=scales[1] != 0, writes=True)
    require_apart(name, c, a, b)
    kind = "c" if Atype in (formats.C_32F, formats.C_64F) else "s"
    call.issue(operations(kind, m * n * k))
    x, y = (formats.widened(operand.host, Atype, compute) for operand in (a, b))
    done = formats.widened(c.host, Ctype, formats.COMPUTE_32F).copy()
    _accumulate(scales[0], lambda: op(x, transa) @ op(y, transb), scales[1], done)
    c.host[...] = formats.narrowed(done, Ctype)


@_public
def gemmEx(
    handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc,
    computeType, algo,
):  # fmt: skip
    _multiply_ex(
        "gemmEx", handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C,
        Ctype, ldc, computeType, algo,
    )  # fmt: skip


@_public
def gemmStridedBatchedEx(
    handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB, beta,
    C, Ctype, ldc, strideC, batchCount, computeType, algo,
):  # fmt: skip
    name = "gemmStridedBatchedEx"
    sizes = [np.dtype(formats.STORED.get(kind, "i1")).itemsize for kind in (Atype, Btype, Ctype)]
    for i in range(_call(name, handle).size(batchCount, "batchCount")):
        a, b, c = (
            pointer + i * stride * size
            for pointer, stride, size in zip(
                (A, B, C), (strideA, strideB, strideC), sizes, strict=True
            )
        )
        _multiply_ex(
            name, handle, transa, transb, m, n, k, alpha, a, Atype, lda, b, Btype, ldb, beta, c,
            Ctype, ldc, computeType, algo,
        )  # fmt: skip


# -- level 2 and extensions ------------------------------------------------------------------------


def _gemv(kind: str) -> None:
    dtype = KINDS[kind]

    def gemv(handle, trans, m, n, alpha, A, lda, x, incx, beta, y, incy):
        call = _call(f"{kind}gemv", handle)
        trans, m, n = call.trans(trans, "trans"), call.size(m, "m"), call.size(n, "n")
        a = call.matrix(A, dtype, m, n, lda, "A")
        scales = call.scalar(alpha, dtype, "alpha"), call.scalar(beta, dtype, "beta")
        rows, columns = (m, n) if trans == 0 else (n, m)
        given = call.vector(x, dtype, columns, incx, "x")
        taken = call.vector(y, dtype, rows, incy, "y", reads=scales[1] != 0, writes=True)
        require_apart(call.name, taken, a, given)
        call.issue(operations(kind, m * n))
        _accumulate(scales[0], lambda: op(a.host, trans) @ given.host, scales[1], taken.host)

    _public(gemv, f"{kind}gemv")


def _geam(kind: str) -> None:
    dtype = KINDS[kind]

    def geam(handle, transa, transb, m, n, alpha, A, lda, beta, B, ldb, C, ldc):
        call = _call(f"{kind}geam", handle)
        transa, transb = call.trans(transa, "transa"), call.trans(transb, "transb")
        m, n = call.size(m, "m"), call.size(n, "n")
        c = call.matrix(C, dtype, m, n, ldc, "C", reads=False, writes=True)
        done = np.zeros((m, n), dtype)
        for scale, pointer, ld, trans, name in (
            (alpha, A, lda, transa, "A"), (beta, B, ldb, transb, "B"),
        ):  # fmt: skip
            factor = call.scalar(scale, dtype, f"factor of {name}")
            if factor == 0:  # then it is not read
                continue
            operand = call.matrix(pointer, dtype, *((m, n) if trans == 0 else (n, m)), ld, name)
            if (pointer, ld, trans) != (C, ldc, 0):
                require_apart(call.name, c, operand)
            with np.errstate(all="ignore"):
                done += factor * op(operand.host, trans)
        call.issue(operations(kind, m * n))
        c.host[...] = done

    _public(geam, f"{kind}geam")


def _dgmm(kind: str) -> None:
    dtype = KINDS[kind]

    def dgmm(handle, mode, m, n, A, lda, x, incx, C, ldc):
        call = _call(f"{kind}dgmm", handle)
        mode = call.choice(mode, "mode", (0, 1))
        m, n = call.size(m, "m"), call.size(n, "n")
        a = call.matrix(A, dtype, m, n, lda, "A")
        factors = call.vector(x, dtype, n if mode else m, incx, "x")
        c = call.matrix(C, dtype, m, n, ldc, "C", reads=False, writes=True)
        call.issue(operations(kind, m * n / 2))
        with np.errstate(all="ignore"):
            c.host[...] = a.host * (factors.host if mode else factors.host[:, None])

    _public(dgmm, f"{kind}dgmm")


# -- level 1 ---------------------------------------------------------------------------------------


def _deliver(call: Call, pointer: int, value: Any, dtype: Any) -> None:
    """A result, to where the pointer mode says; the host waits for one of its own."""
    done = np.asarray(value, dtype)
    if call.state.pointer_mode == 1:
        target = strided(pointer, dtype, (1,), (1,), "result")
        call._writes.append(target)
        call.issue(0.0)
        target.host[0] = done
        return
    call.issue(0.0)
    ledger.note_transfer(done.nbytes, to_host=True)
    streams.wait_for_current(call.name)
    write_host(pointer, done, "result")


def _cabs1(x: np.ndarray) -> np.ndarray:
    return np.abs(x.real) + np.abs(x.imag) if x.dtype.kind == "c" else np.abs(x)


def _reduction(name: str, kind: str, result: Any, reduce: Callable[[np.ndarray], Any]) -> None:
    def function(handle, n, x, incx, result):
        call = _call(name, handle)
        given = call.vector(x, KINDS[kind], call.size(n, "n"), incx, "x")
        with np.errstate(all="ignore"):
            value = reduce(given.host) if given.host.size else 0
        _deliver(call, result, value, dtype)

    dtype = result
    _public(function, name)


def _level_1(kind: str) -> None:
    dtype = KINDS[kind]
    real = np.zeros(0, dtype).real.dtype
    prefix = {"c": "sc", "z": "dz"}.get(kind, kind)
    _reduction(f"i{kind}amax", kind, np.int32, lambda x: np.argmax(_cabs1(x)) + 1)
    _reduction(f"i{kind}amin", kind, np.int32, lambda x: np.argmin(_cabs1(x)) + 1)
    _reduction(f"{prefix}asum", kind, real, lambda x: _cabs1(x).sum())
    _reduction(f"{prefix}nrm2", kind, real, np.linalg.norm)

    def scal(handle, n, alpha, x, incx):
        call = _call(f"{kind}scal", handle)
        given = call.vector(x, dtype, call.size(n, "n"), incx, "x", writes=True)
        factor = call.scalar(alpha, dtype, "alpha")
        call.issue(operations(kind, given.host.size / 2))
        with np.errstate(all="ignore"):
            given.host[...] *= factor

    def axpy(handle, n, alpha, x, incx, y, incy):
        call = _call(f"{kind}axpy", handle)
        n = call.size(n, "n")
        given = call.vector(x, dtype, n, incx, "x")
        taken = call.vector(y, dtype, n, incy, "y", writes=True)
        factor = call.scalar(alpha, dtype, "alpha")
        call.issue(operations(kind, n))
        with np.errstate(all="ignore"):
            taken.host[...] += factor * given.host

    _public(scal, f"{kind}scal")
    _public(axpy, f"{kind}axpy")


for _kind in KINDS:
    _gemm(_kind)
    _strided_batched(_kind)
    _trsm(_kind)
    _syrk(_kind)
    _gemv(_kind)
    _geam(_kind)
    _dgmm(_kind)
    _level_1(_kind)
