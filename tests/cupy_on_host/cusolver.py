"""`cupy_backends.cuda.libs.cusolver`: LAPACK's factorizations from raw addresses.

The names of arguments are CuPy's. Pivots are counted from 1, info goes to device memory, work
space is checked for its size and left as NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import lapack

from . import device
from .library import KINDS, Call, operations
from .pointers import Operand, integer, require_apart
from .settings import Misuse

_STATUS = {
    1: "CUSOLVER_STATUS_NOT_INITIALIZED", 2: "CUSOLVER_STATUS_ALLOC_FAILED",
    3: "CUSOLVER_STATUS_INVALID_VALUE", 6: "CUSOLVER_STATUS_EXECUTION_FAILED",
    7: "CUSOLVER_STATUS_INTERNAL_ERROR",
}  # fmt: skip
_INVALID = 3
_BLOCK = 32

ENUMERATIONS = {
    "CUSOLVER_EIG_TYPE_1": 1, "CUSOLVER_EIG_TYPE_2": 2, "CUSOLVER_EIG_TYPE_3": 3,
    "CUSOLVER_EIG_MODE_NOVECTOR": 0, "CUSOLVER_EIG_MODE_VECTOR": 1,
}  # fmt: skip


class CUSOLVERError(RuntimeError):
    """As CuPy's."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(_STATUS[status])


FUNCTIONS: dict[str, Callable[..., Any]] = {}


def _public(function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    function.__name__ = name or function.__name__
    FUNCTIONS[function.__name__] = function
    return function


class _Call(Call):
    def __init__(self, name: str, handle: int) -> None:
        super().__init__("cusolver", name, handle, CUSOLVERError, _INVALID)

    def info(self, pointer: int) -> Operand:
        return self.vector(pointer, np.int32, 1, 1, "devInfo", reads=False, writes=True)

    def workspace(self, pointer: int, dtype: Any, size: int, lwork: Any = None) -> None:
        """Large enough, and of no use afterwards."""
        if lwork is not None:
            self.require(integer(lwork, "lwork") >= size, f"lwork = {lwork}, {size} are needed")
        if size:
            work = self.vector(pointer, dtype, size, 1, "work", reads=False, writes=True)
            work.host[...] = np.nan


def _done(info: Operand, value: int, name: str) -> None:
    if value < 0:
        raise Misuse(f"{name}: argument {-value} is wrong")
    info.host[0] = value


@_public
def create() -> int:
    return device.create_handle("cusolver")


@_public
def destroy(handle: int) -> None:
    device.handle(handle, "cusolver")
    device.destroy_handle(handle)


@_public
def getStream(handle: int) -> int:
    return device.handle(handle, "cusolver").stream


@_public
def setStream(handle: int, stream: int) -> None:
    device.handle(handle, "cusolver").stream = stream


# -- LU --------------------------------------------------------------------------------------------


def _lu_work(m: int, n: int) -> int:
    return max(1, min(m, n) * _BLOCK + n)


def _lu(kind: str) -> None:
    dtype = KINDS[kind]
    factor, solve = getattr(lapack, f"{kind}getrf"), getattr(lapack, f"{kind}getrs")

    def getrf_bufferSize(handle, m, n, A, lda):
        call = _Call(f"{kind}getrf_bufferSize", handle)
        m, n = call.size(m, "m"), call.size(n, "n")
        call.matrix(A, dtype, m, n, lda, "A")
        return _lu_work(m, n)

    def getrf(handle, m, n, A, lda, work, devIpiv, devInfo):
        call = _Call(f"{kind}getrf", handle)
        m, n = call.size(m, "m"), call.size(n, "n")
        a = call.matrix(A, dtype, m, n, lda, "A", writes=True)
        call.workspace(work, dtype, _lu_work(m, n))
        if devIpiv == 0:
            raise Misuse("without pivots there is no pivoting, which is not carried out here")
        steps = min(m, n)
        piv = call.vector(devIpiv, np.int32, steps, 1, "devIpiv", reads=False, writes=True)
        info = call.info(devInfo)
        call.issue(operations(kind, m * n * steps / 2 - (m + n) * steps**2 / 4 + steps**3 / 6))
        if steps == 0:
            info.host[0] = 0
            return
        lu, pivots, value = factor(a.host)
        a.host[...], piv.host[...] = lu, pivots + 1
        _done(info, value, call.name)

    def getrs(handle, trans, n, nrhs, A, lda, devIpiv, B, ldb, devInfo):
        call = _Call(f"{kind}getrs", handle)
        trans, n, nrhs = call.trans(trans, "trans"), call.size(n, "n"), call.size(nrhs, "nrhs")
        a = call.matrix(A, dtype, n, n, lda, "A")
        b = call.matrix(B, dtype, n, nrhs, ldb, "B", writes=True)
        piv = call.vector(devIpiv, np.int32, n, 1, "devIpiv")
        info = call.info(devInfo)
        require_apart(call.name, b, a)
        if np.any((piv.host < 1) | (piv.host > n)):
            raise Misuse(f"{call.name}: pivots are rows from 1 to {n}, got {piv.host}")
        call.issue(operations(kind, n * n * nrhs))
        value = 0
        if b.host.size:
            b.host[...], value = solve(a.host, piv.host - 1, b.host, trans=trans)
        _done(info, value, call.name)

    _public(getrf_bufferSize, f"{kind}getrf_bufferSize")
    _public(getrf, f"{kind}getrf")
    _public(getrs, f"{kind}getrs")


# -- Cholesky --------------------------------------------------------------------------------------


def _cholesky(kind: str) -> None:
    dtype = KINDS[kind]
    factor, solve = getattr(lapack, f"{kind}potrf"), getattr(lapack, f"{kind}potrs")

    def potrf_bufferSize(handle, uplo, n, A, lda):
        call = _Call(f"{kind}potrf_bufferSize", handle)
        call.choice(uplo, "uplo", (0, 1))
        n = call.size(n, "n")
        call.matrix(A, dtype, n, n, lda, "A")
        return max(1, n * _BLOCK)

    def potrf(handle, uplo, n, A, lda, work, lwork, devInfo):
        call = _Call(f"{kind}potrf", handle)
        uplo, n = call.choice(uplo, "uplo", (0, 1)), call.size(n, "n")
        a = call.matrix(A, dtype, n, n, lda, "A", writes=True)
        call.workspace(work, dtype, max(1, n * _BLOCK), lwork)
        info = call.info(devInfo)
        call.issue(operations(kind, n**3 / 6))
        value = 0
        if n:
            a.host[...], value = factor(a.host, lower=1 - uplo, clean=0)
        _done(info, value, call.name)

    def potrs(handle, uplo, n, nrhs, A, lda, B, ldb, devInfo):
        call = _Call(f"{kind}potrs", handle)
        uplo = call.choice(uplo, "uplo", (0, 1))
        n, nrhs = call.size(n, "n"), call.size(nrhs, "nrhs")
        a = call.matrix(A, dtype, n, n, lda, "A")
        b = call.matrix(B, dtype, n, nrhs, ldb, "B", writes=True)
        info = call.info(devInfo)
        require_apart(call.name, b, a)
        call.issue(operations(kind, n * n * nrhs))
        value = 0
        if b.host.size:
            b.host[...], value = solve(a.host, b.host, lower=1 - uplo)
        _done(info, value, call.name)

    _public(potrf_bufferSize, f"{kind}potrf_bufferSize")
    _public(potrf, f"{kind}potrf")
    _public(potrs, f"{kind}potrs")


# -- QR --------------------------------------------------------------------------------------------


def _qr(kind: str) -> None:
    dtype = KINDS[kind]
    letters = "un" if kind in "cz" else "or"
    transposed = 2 if kind in "cz" else 1
    factor = getattr(lapack, f"{kind}geqrf")
    apply = getattr(lapack, f"{kind}{letters}mqr")
    generate = getattr(lapack, f"{kind}{letters}gqr")

    def geqrf_bufferSize(handle, m, n, A, lda):
        call = _Call(f"{kind}geqrf_bufferSize", handle)
        m, n = call.size(m, "m"), call.size(n, "n")
        call.matrix(A, dtype, m, n, lda, "A")
        return max(1, n * _BLOCK)

    def geqrf(handle, m, n, A, lda, tau, work, lwork, devInfo):
        call = _Call(f"{kind}geqrf", handle)
        m, n = call.size(m, "m"), call.size(n, "n")
        steps = min(m, n)
        a = call.matrix(A, dtype, m, n, lda, "A", writes=True)
        factors = call.vector(tau, dtype, steps, 1, "tau", reads=False, writes=True)
        call.workspace(work, dtype, max(1, n * _BLOCK), lwork)
        info = call.info(devInfo)
        call.issue(operations(kind, m * n * steps - (m + n) * steps**2 / 2 + steps**3 / 3))
        value = 0
        if steps:
            a.host[...], factors.host[...], _, value = factor(a.host)
        _done(info, value, call.name)

    def mqr_sizes(call: _Call, side: Any, trans: Any, m: Any, n: Any, k: Any) -> Any:
        side = call.choice(side, "side", (0, 1))
        trans = call.choice(trans, "trans", (0, transposed))
        m, n, k = call.size(m, "m"), call.size(n, "n"), call.size(k, "k")
        call.require(k <= (n if side else m), f"k = {k} of {m} by {n}")
        return side, trans, m, n, k

    def mqr_bufferSize(handle, side, trans, m, n, k, A, lda, tau, C, ldc):
        call = _Call(f"{kind}{letters}mqr_bufferSize", handle)
        side, trans, m, n, k = mqr_sizes(call, side, trans, m, n, k)
        call.matrix(A, dtype, n if side else m, k, lda, "A")
        call.matrix(C, dtype, m, n, ldc, "C")
        return max(1, (m if side else n) * _BLOCK)

    def mqr(handle, side, trans, m, n, k, A, lda, tau, C, ldc, work, lwork, devInfo):
        call = _Call(f"{kind}{letters}mqr", handle)
        side, trans, m, n, k = mqr_sizes(call, side, trans, m, n, k)
        a = call.matrix(A, dtype, n if side else m, k, lda, "A")
        factors = call.vector(tau, dtype, k, 1, "tau")
        c = call.matrix(C, dtype, m, n, ldc, "C", writes=True)
        call.workspace(work, dtype, max(1, (m if side else n) * _BLOCK), lwork)
        info = call.info(devInfo)
        require_apart(call.name, c, a)
        call.issue(operations(kind, 2 * m * n * k))
        value = 0
        if c.host.size and k:
            letter = "N" if trans == 0 else "C" if kind in "cz" else "T"
            done, _, value = apply(
                "R" if side else "L", letter, a.host, factors.host, c.host,
                max(1, (m if side else n) * _BLOCK),
            )  # fmt: skip
            c.host[...] = done
        _done(info, value, call.name)

    def gqr_bufferSize(handle, m, n, k, A, lda, tau):
        call = _Call(f"{kind}{letters}gqr_bufferSize", handle)
        m, n, k = call.size(m, "m"), call.size(n, "n"), call.size(k, "k")
        call.matrix(A, dtype, m, n, lda, "A")
        return max(1, n * _BLOCK)

    def gqr(handle, m, n, k, A, lda, tau, work, lwork, devInfo):
        call = _Call(f"{kind}{letters}gqr", handle)
        m, n, k = call.size(m, "m"), call.size(n, "n"), call.size(k, "k")
        call.require(k <= n <= m, f"{m=}, {n=}, {k=}")
        a = call.matrix(A, dtype, m, n, lda, "A", writes=True)
        factors = call.vector(tau, dtype, k, 1, "tau")
        call.workspace(work, dtype, max(1, n * _BLOCK), lwork)
        info = call.info(devInfo)
        call.issue(operations(kind, 2 * m * n * k - (m + n) * k**2 + 2 * k**3 / 3))
        value = 0
        if a.host.size:
            a.host[...], _, value = generate(a.host, factors.host)
        _done(info, value, call.name)

    _public(geqrf_bufferSize, f"{kind}geqrf_bufferSize")
    _public(geqrf, f"{kind}geqrf")
    _public(mqr_bufferSize, f"{kind}{letters}mqr_bufferSize")
    _public(mqr, f"{kind}{letters}mqr")
    _public(gqr_bufferSize, f"{kind}{letters}gqr_bufferSize")
    _public(gqr, f"{kind}{letters}gqr")


for _kind in KINDS:
    _lu(_kind)
    _cholesky(_kind)
    _qr(_kind)
