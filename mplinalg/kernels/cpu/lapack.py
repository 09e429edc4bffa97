"""BLAS and LAPACK on array views, in place, through the function pointers that SciPy publishes.

``scipy.linalg.cython_blas`` and ``cython_lapack`` export their routines as PyCapsules. Calling
them by pointer, rather than through f2py, accepts views with a leading dimension without a copy,
releases the GIL, and uses the one BLAS that SciPy itself runs on.

Arrays are two-dimensional views of one of the four LAPACK dtypes. *F-like* means unit stride down
the columns, *C-like* unit stride along the rows; level-3 routines take either, since a C-like
matrix is the transpose of an F-like one. Factorizations take F-like views: a caller with C-ordered
A factors ``A.T``. Pivots are 0-based row numbers, as in `scipy.linalg.lu_factor`.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas, cython_lapack

Array = NDArray[Any]

_PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}
_MIRROR = {"N": "T", "T": "N"}

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


def _call(name: str, dtype: np.dtype[Any], *args: Any) -> None:
    _routine(_PREFIX[dtype.char] + name)(*args)


def _int(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))


def _scalar(value: complex, dtype: np.dtype[Any]) -> Any:
    """`value` as a one-element array of `dtype`; the caller keeps it alive during the call."""
    return np.array([value], dtype=dtype)


def _pointer(a: Array) -> int:
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


def _leading(a: Array) -> Any:
    rows, cols = a.shape
    return _int(max(a.strides[1] // a.itemsize if cols > 1 else rows, rows, 1))


def _require_f_like(a: Array, routine: str) -> None:
    if a.ndim != 2 or not is_f_like(a):
        raise ValueError(
            f"{routine} works in place on a column-major view; got {a.shape=}, {a.strides=}"
        )


def _same_dtype(routine: str, *arrays: Array) -> np.dtype[Any]:
    dtype = arrays[0].dtype
    known = dtype.char in _PREFIX and dtype.isnative
    if not known or any(a.dtype != dtype for a in arrays):
        raise TypeError(
            f"{routine} takes arrays of one LAPACK dtype; got {[str(a.dtype) for a in arrays]}"
        )
    return dtype


def _require_shapes(fits: bool, routine: str, *arrays: Array) -> None:
    """BLAS and LAPACK see pointers: what does not fit is read and written past its end."""
    if not fits:
        raise ValueError(f"{routine}: shapes {', '.join(str(a.shape) for a in arrays)} do not fit")


def _operand(a: Array, trans: str) -> tuple[Array, str]:
    """`a` as an F-like array and the flag with which BLAS reads it as op(a)."""
    if is_f_like(a):
        return a, trans
    if is_c_like(a):
        if trans == "C" and a.dtype.kind == "c":
            return np.conj(a.T), "N"
        return a.T, _MIRROR.get(trans, "N")
    return np.asfortranarray(a), trans


# -- level 2 and 3 ------------------------------------------------------------------------------


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
    dtype = _same_dtype("gemm", a, b, c)
    if not is_f_like(c):
        if not is_c_like(c):
            raise ValueError(f"gemm needs a C with unit stride in one dimension; got {c.strides=}")
        # C^T <- alpha op(B)^T op(A)^T + beta C^T, and op(X)^T = op(X^T)
        a, b, c, transa, transb = b.T, a.T, c.T, transb, transa
    m, n = c.shape
    k = a.shape[1] if transa == "N" else a.shape[0]
    op_a = a.shape if transa == "N" else a.shape[::-1]
    op_b = b.shape if transb == "N" else b.shape[::-1]
    if op_a != (m, k) or op_b != (k, n):
        raise ValueError(f"gemm: shapes {a.shape} {transa}, {b.shape} {transb} -> {c.shape}")
    if m == 0 or n == 0:
        return
    if k == 0:  # as BLAS: with beta = 0, what is in C does not matter
        c[...] = c * beta if beta else 0
        return
    a, transa = _operand(a, transa)
    b, transb = _operand(b, transb)
    alpha_, beta_ = _scalar(alpha, dtype), _scalar(beta, dtype)
    if n == 1 and transb == "N":
        rows, cols = a.shape
        _call(
            "gemv", dtype, transa.encode(), _int(rows), _int(cols), _pointer(alpha_), _pointer(a),
            _leading(a), _pointer(b), _int(1), _pointer(beta_), _pointer(c), _int(1),
        )  # fmt: skip
        return
    _call(
        "gemm", dtype, transa.encode(), transb.encode(), _int(m), _int(n), _int(k),
        _pointer(alpha_), _pointer(a), _leading(a), _pointer(b), _leading(b),
        _pointer(beta_), _pointer(c), _leading(c),
    )  # fmt: skip


def symm(alpha: complex, a: Array, b: Array, beta: complex, c: Array, lower: bool) -> None:
    """C <- alpha A B + beta C, A Hermitian (symmetric if real), one triangle read; all F-like."""
    dtype = _same_dtype("symm", a, b, c)
    for x in (a, b, c):
        _require_f_like(x, "symm")
    _require_shapes(a.shape == (len(c), len(c)) and b.shape == c.shape, "symm", a, b, c)
    if c.size == 0:
        return
    alpha_, beta_ = _scalar(alpha, dtype), _scalar(beta, dtype)
    family = "he" if dtype.kind == "c" else "sy"
    uplo = b"L" if lower else b"U"
    m, n = c.shape
    if n == 1:
        _call(
            family + "mv", dtype, uplo, _int(m), _pointer(alpha_), _pointer(a), _leading(a),
            _pointer(b), _int(1), _pointer(beta_), _pointer(c), _int(1),
        )  # fmt: skip
        return
    _call(
        family + "mm", dtype, b"L", uplo, _int(m), _int(n), _pointer(alpha_), _pointer(a),
        _leading(a), _pointer(b), _leading(b), _pointer(beta_), _pointer(c), _leading(c),
    )  # fmt: skip


def trsm(
    side: str, a: Array, b: Array, lower: bool, trans: str = "N", unit: bool = False,
    alpha: complex = 1.0,
) -> None:  # fmt: skip
    """B <- alpha op(A)^-1 B (side "L") or alpha B op(A)^-1 (side "R"), A triangular."""
    dtype = _same_dtype("trsm", a, b)
    if not is_f_like(b):
        if not is_c_like(b):
            raise ValueError(f"trsm needs a B with unit stride in one dimension; got {b.strides=}")
        side, b, a, lower = ("R" if side == "L" else "L"), b.T, a.T, not lower
    m, n = b.shape
    if a.shape != ((m, m) if side == "L" else (n, n)):
        raise ValueError(f"trsm: {a.shape=} does not fit {b.shape=} on side {side}")
    if b.size == 0:
        return
    conjugate = False
    if not is_f_like(a):
        if not is_c_like(a):
            a = np.asfortranarray(a)
        else:
            conjugate = trans == "C" and dtype.kind == "c"
            a, lower, trans = a.T, not lower, _MIRROR.get(trans, "N")
    if conjugate:  # conj(A)^-1 B = conj(A^-1 conj(B))
        np.conjugate(b, out=b)
    if side == "L" and n == 1:  # many times faster than trsm of one column
        if alpha != 1:
            b *= np.conj(alpha) if conjugate else alpha
        _trsv(a, b, lower, trans, unit)
    else:
        alpha_ = _scalar(np.conj(alpha) if conjugate else alpha, dtype)
        _call(
            "trsm", dtype, side.encode(), b"L" if lower else b"U", trans.encode(),
            b"U" if unit else b"N", _int(m), _int(n), _pointer(alpha_), _pointer(a), _leading(a),
            _pointer(b), _leading(b),
        )  # fmt: skip
    if conjugate:
        np.conjugate(b, out=b)


def check_trsm(a: Array, b: Array) -> np.dtype[Any]:
    """The dtype of a triangle and of what is solved with it on the left."""
    dtype = _same_dtype("trsm", a, b)
    _require_shapes(a.shape == (len(b), len(b)), "trsm", a, b)
    return dtype


def _trsv(a: Array, x: Array, lower: bool, trans: str, unit: bool = False) -> None:
    """x <- op(A)^-1 x, A triangular and F-like, x of shape (n, 1) and contiguous."""
    _call(
        "trsv", a.dtype, b"L" if lower else b"U", trans.encode(), b"U" if unit else b"N",
        _int(len(x)), _pointer(a), _leading(a), _pointer(x), _int(1),
    )  # fmt: skip


def syrk(alpha: float, a: Array, beta: float, c: Array, lower: bool, trans: str = "N") -> None:
    """C <- alpha A A^H + beta C (trans "N") or alpha A^H A + beta C ("C"), one triangle of C."""
    dtype = _same_dtype("syrk", a, c)
    _require_f_like(a, "syrk")
    _require_f_like(c, "syrk")
    n, k = a.shape if trans == "N" else a.shape[::-1]
    _require_shapes(c.shape == (n, n), "syrk", a, c)
    if n == 0:
        return
    is_complex = dtype.kind == "c"
    # herk's alpha and beta are real
    scalar_type = np.dtype(dtype.char.lower())
    alpha_, beta_ = _scalar(alpha, scalar_type), _scalar(beta, scalar_type)
    flag = b"N" if trans == "N" else (b"C" if is_complex else b"T")
    _call(
        "herk" if is_complex else "syrk", dtype, b"L" if lower else b"U", flag, _int(n), _int(k),
        _pointer(alpha_), _pointer(a), _leading(a), _pointer(beta_), _pointer(c), _leading(c),
    )  # fmt: skip


# -- LU -----------------------------------------------------------------------------------------


def getrf(a: Array) -> tuple[NDArray[np.int32], int]:
    """P A = L U in place. Returns the pivots and info (i > 0: U[i-1, i-1] is exactly zero)."""
    dtype = _same_dtype("getrf", a)
    _require_f_like(a, "getrf")
    m, n = a.shape
    piv = np.zeros(min(m, n), dtype=np.int32)
    info = ctypes.c_int(0)
    if piv.size:
        _call(
            "getrf", dtype, _int(m), _int(n), _pointer(a), _leading(a), _pointer(piv),
            ctypes.byref(info),
        )  # fmt: skip
        piv -= 1
    return piv, info.value


def getrs(lu: Array, piv: NDArray[np.int32], b: Array, trans: str = "N") -> None:
    """B <- op(A)^-1 B with the factors of `getrf`; B is F-like."""
    dtype = check_getrs(lu, piv, b)
    _require_f_like(lu, "getrs")
    if b.size == 0:
        return
    info = ctypes.c_int(0)
    one_based = np.ascontiguousarray(piv + 1, dtype=np.int32)
    _call(
        "getrs", dtype, trans.encode(), _int(lu.shape[0]), _int(b.shape[1]), _pointer(lu),
        _leading(lu), _pointer(one_based), _pointer(b), _leading(b), ctypes.byref(info),
    )  # fmt: skip


def check_getrs(lu: Array, piv: NDArray[np.int32], b: Array) -> np.dtype[Any]:
    """The dtype of factors and right-hand sides that fit each other; B is F-like."""
    dtype = _same_dtype("getrs", lu, b)
    _require_f_like(b, "getrs")
    n = len(b)
    _require_shapes(lu.shape == (n, n) and piv.shape == (n,), "getrs", lu, piv, b)
    return dtype


def laswp(a: Array, piv: NDArray[np.int32], forward: bool = True) -> None:
    """Swap row i of `a` with row piv[i], i = 0, 1, ... (backwards: in the opposite order)."""
    dtype = _same_dtype("laswp", a)
    _require_shapes(len(piv) <= len(a), "laswp", a, piv)
    if a.size == 0 or piv.size == 0:
        return
    if is_f_like(a):
        one_based = np.ascontiguousarray(piv + 1, dtype=np.int32)
        _call(
            "laswp", dtype, _int(a.shape[1]), _pointer(a), _leading(a), _int(1), _int(piv.size),
            _pointer(one_based), _int(1 if forward else -1),
        )  # fmt: skip
        return
    for i in range(piv.size) if forward else range(piv.size - 1, -1, -1):
        if piv[i] != i:
            a[[i, piv[i]]] = a[[piv[i], i]]


def gecon(lu: Array, norm: float, kind: str = "1") -> float:
    """Estimated reciprocal condition number in the 1-norm ("1") or infinity norm ("I")."""
    dtype = _same_dtype("gecon", lu)
    _require_f_like(lu, "gecon")
    _require_shapes(lu.shape[0] == lu.shape[1], "gecon", lu)
    n = lu.shape[0]
    if n == 0:
        return 1.0
    if norm == 0:
        return 0.0
    real = np.dtype(dtype.char.lower())
    rcond, info = np.zeros(1, real), ctypes.c_int(0)
    one = _scalar(1.0, real)  # the norm may leave the range of `real`
    is_complex = dtype.kind == "c"
    work = np.empty(2 * n if is_complex else 4 * n, dtype)
    second = np.empty(2 * n, real) if is_complex else np.empty(n, np.int32)
    _call(
        "gecon", dtype, kind.encode(), _int(n), _pointer(lu), _leading(lu), _pointer(one),
        _pointer(rcond), _pointer(work), _pointer(second), ctypes.byref(info),
    )  # fmt: skip
    return float(rcond[0]) / norm


# -- Cholesky -----------------------------------------------------------------------------------


def potrf(a: Array, lower: bool) -> int:
    """A = L L^H or U^H U in place, one triangle. Returns info (i > 0: the i-th minor fails)."""
    dtype = _same_dtype("potrf", a)
    _require_f_like(a, "potrf")
    _require_shapes(a.shape[0] == a.shape[1], "potrf", a)
    info = ctypes.c_int(0)
    if a.size:
        _call(
            "potrf", dtype, b"L" if lower else b"U", _int(a.shape[0]), _pointer(a), _leading(a),
            ctypes.byref(info),
        )  # fmt: skip
    return info.value


def potrs(c: Array, b: Array, lower: bool) -> None:
    """B <- A^-1 B with the factor of `potrf`; B is F-like."""
    dtype = _same_dtype("potrs", c, b)
    _require_f_like(c, "potrs")
    _require_f_like(b, "potrs")
    _require_shapes(c.shape == (len(b), len(b)), "potrs", c, b)
    if b.size == 0:
        return
    if b.shape[1] == 1:  # A = L L^H or U^H U
        _trsv(c, b, lower, "N" if lower else "C")
        _trsv(c, b, lower, "C" if lower else "N")
        return
    info = ctypes.c_int(0)
    _call(
        "potrs", dtype, b"L" if lower else b"U", _int(c.shape[0]), _int(b.shape[1]), _pointer(c),
        _leading(c), _pointer(b), _leading(b), ctypes.byref(info),
    )  # fmt: skip


# -- QR -----------------------------------------------------------------------------------------


def _with_workspace(name: str, dtype: np.dtype[Any], *args: Any) -> None:
    """Call a routine whose last arguments are (work, lwork, info), asking for its best lwork."""
    info = ctypes.c_int(0)
    query = np.empty(1, dtype)
    _call(name, dtype, *args, _pointer(query), _int(-1), ctypes.byref(info))
    size = max(1, int(query[0].real))
    work = np.empty(size, dtype)
    _call(name, dtype, *args, _pointer(work), _int(size), ctypes.byref(info))
    if info.value:
        raise ValueError(f"LAPACK {name}: argument {-info.value} is illegal")


def geqrf(a: Array) -> Array:
    """A = Q R in place (reflectors below the diagonal). Returns tau."""
    dtype = _same_dtype("geqrf", a)
    _require_f_like(a, "geqrf")
    m, n = a.shape
    tau = np.zeros(min(m, n), dtype)
    if tau.size:
        _with_workspace("geqrf", dtype, _int(m), _int(n), _pointer(a), _leading(a), _pointer(tau))
    return tau


def ormqr(side: str, trans: str, qr: Array, tau: Array, c: Array) -> None:
    """C <- op(Q) C (side "L") or C op(Q) ("R"), Q from `geqrf`; C is F-like."""
    dtype = _same_dtype("ormqr", qr, tau, c)
    _require_f_like(qr, "ormqr")
    _require_f_like(c, "ormqr")
    order = c.shape[0 if side == "L" else 1]
    _require_shapes(qr.shape[0] == order and len(tau) <= min(qr.shape), "ormqr", qr, tau, c)
    if c.size == 0 or tau.size == 0:
        return
    is_complex = dtype.kind == "c"
    flag = b"N" if trans == "N" else (b"C" if is_complex else b"T")
    _with_workspace(
        "unmqr" if is_complex else "ormqr", dtype, side.encode(), flag, _int(c.shape[0]),
        _int(c.shape[1]), _int(tau.size), _pointer(qr), _leading(qr), _pointer(tau), _pointer(c),
        _leading(c),
    )  # fmt: skip


def orgqr(qr: Array, tau: Array) -> None:
    """The leading columns of Q, in place of the reflectors of `geqrf`."""
    dtype = _same_dtype("orgqr", qr, tau)
    _require_f_like(qr, "orgqr")
    _require_shapes(len(tau) <= qr.shape[1] <= qr.shape[0], "orgqr", qr, tau)
    if qr.size:
        _with_workspace(
            "ungqr" if dtype.kind == "c" else "orgqr", dtype, _int(qr.shape[0]),
            _int(qr.shape[1]), _int(tau.size), _pointer(qr), _leading(qr), _pointer(tau),
        )  # fmt: skip


def larft(v: Array, tau: Array) -> Array:
    """The triangular factor T of the block reflector I - V T V^H (forward, columnwise)."""
    dtype = _same_dtype("larft", v, tau)
    _require_f_like(v, "larft")
    m, k = v.shape
    _require_shapes(k <= m and tau.shape == (k,), "larft", v, tau)
    t = np.zeros((k, k), dtype, order="F")
    if k:
        _call(
            "larft", dtype, b"F", b"C", _int(m), _int(k), _pointer(v), _leading(v), _pointer(tau),
            _pointer(t), _leading(t),
        )  # fmt: skip
    return t


def trcon(r: Array, lower: bool, kind: str = "1") -> float:
    """Estimated reciprocal condition number of a triangular matrix."""
    dtype = _same_dtype("trcon", r)
    _require_f_like(r, "trcon")
    _require_shapes(r.shape[0] == r.shape[1], "trcon", r)
    n = r.shape[0]
    if n == 0:
        return 1.0
    real = np.dtype(dtype.char.lower())
    rcond, info = np.zeros(1, real), ctypes.c_int(0)
    is_complex = dtype.kind == "c"
    work = np.empty(2 * n if is_complex else 3 * n, dtype)
    second = np.empty(n, real if is_complex else np.int32)
    _call(
        "trcon", dtype, kind.encode(), b"L" if lower else b"U", b"N", _int(n), _pointer(r),
        _leading(r), _pointer(rcond), _pointer(work), _pointer(second), ctypes.byref(info),
    )  # fmt: skip
    return float(rcond[0])


# -- singular values of a band matrix -------------------------------------------------------------


def gbbrd(band: Array) -> tuple[Array, Array]:
    """Diagonal and superdiagonal, both real, of the bidiagonal form of an upper band matrix.

    `band` is (k + 1, n) and F-like: row k holds the diagonal, row k - i the i-th superdiagonal,
    each entry in its column. Overwritten.
    """
    dtype = _same_dtype("gbbrd", band)
    _require_f_like(band, "gbbrd")
    n = band.shape[1]
    real = np.dtype(dtype.char.lower())
    d, e = np.zeros(n, real), np.zeros(max(n - 1, 1), real)
    none, work = np.zeros(1, dtype), np.empty(2 * max(n, 1), dtype)
    second = [np.empty(max(n, 1), real)] if dtype.kind == "c" else []
    info = ctypes.c_int(0)
    if n:
        _call(
            "gbbrd", dtype, b"N", _int(n), _int(n), _int(0), _int(0), _int(len(band) - 1),
            _pointer(band), _leading(band), _pointer(d), _pointer(e), _pointer(none), _int(1),
            _pointer(none), _int(1), _pointer(none), _int(1), _pointer(work),
            *map(_pointer, second), ctypes.byref(info),
        )  # fmt: skip
    return d, e[: max(n - 1, 0)]


def bdsqr(d: Array, e: Array) -> int:
    """d <- singular values, decreasing, of the upper bidiagonal matrix of d and e; real.

    `e` is destroyed. Returns info (i > 0: so many superdiagonals did not converge to zero).
    """
    dtype = _same_dtype("bdsqr", d, e)
    n = d.size
    _require_shapes(dtype.kind == "f" and e.size == max(n - 1, 0), "bdsqr", d, e)
    info = ctypes.c_int(0)
    none, work = np.zeros(1, dtype), np.empty(4 * max(n, 1), dtype)
    if n:
        _call(
            "bdsqr", dtype, b"U", _int(n), _int(0), _int(0), _int(0), _pointer(d), _pointer(e),
            _pointer(none), _int(1), _pointer(none), _int(1), _pointer(none), _int(1),
            _pointer(work), ctypes.byref(info),
        )  # fmt: skip
    return info.value


# -- QR with its block reflectors -----------------------------------------------------------------


def geqrt(a: Array, block: int) -> Array:
    """A = Q R in place, as `geqrf`, by recursive panels of `block` columns.

    Returns T, (block, min(m, n)): its columns k to k + block hold the upper triangle T_k of the
    block reflector I - V_k T_k V_k^H of these columns, with tau on its diagonal; Q is their
    product. What is below the triangles means nothing.
    """
    dtype = _same_dtype("geqrt", a)
    _require_f_like(a, "geqrt")
    m, n = a.shape
    count = min(m, n)
    block = min(max(block, 1), max(count, 1))
    t = np.zeros((block, count), dtype, order="F")
    work, info = np.empty(block * max(n, 1), dtype), ctypes.c_int(0)
    if count:
        _call(
            "geqrt", dtype, _int(m), _int(n), _int(block), _pointer(a), _leading(a), _pointer(t),
            _leading(t), _pointer(work), ctypes.byref(info),
        )  # fmt: skip
    return t


def gemqrt(trans: str, qr: Array, t: Array, c: Array) -> None:
    """C <- op(Q) C with the factors of `geqrt`; C is F-like."""
    dtype = _same_dtype("gemqrt", qr, t, c)
    _require_f_like(qr, "gemqrt")
    _require_f_like(t, "gemqrt")
    _require_f_like(c, "gemqrt")
    block, count = t.shape
    _require_shapes(len(qr) == len(c) and count <= min(qr.shape), "gemqrt", qr, t, c)
    if c.size == 0 or count == 0:
        return
    flag = b"N" if trans == "N" else (b"C" if dtype.kind == "c" else b"T")
    work, info = np.empty(block * c.shape[1], dtype), ctypes.c_int(0)
    _call(
        "gemqrt", dtype, b"L", flag, _int(c.shape[0]), _int(c.shape[1]), _int(count), _int(block),
        _pointer(qr), _leading(qr), _pointer(t), _leading(t), _pointer(c), _leading(c),
        _pointer(work), ctypes.byref(info),
    )  # fmt: skip


def geqrf_recursive(a: Array) -> Array:
    """As `geqrf`, with the panels of `geqrt`, which is faster. Returns tau."""
    count = min(a.shape)
    if count <= 32:  # one panel
        return geqrf(a)
    t = geqrt(a, geqrt_block(a.shape[1]))
    places = np.arange(count)
    return t[places % len(t), places]


def geqrt_block(n: int) -> int:
    """Columns of a panel for a matrix of n columns (measured)."""
    return 64 if n <= 512 else 96
