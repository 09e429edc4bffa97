"""LAPACK on array views, in place.

Factorizations take F-like views: a caller with C-ordered A factors ``A.T``. Pivots are 0-based row
numbers, as in `scipy.linalg.lu_factor`.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blas import trsv
from .routines import (
    call,
    is_f_like,
    ld,
    pointer,
    ref,
    require_f_like,
    require_shapes,
    same_dtype,
    scalar,
)

Array = NDArray[Any]

__all__ = [
    "bdsqr", "check_getrs", "gbbrd", "gecon", "gemqrt", "geqrf", "geqrf_recursive", "geqrt",
    "geqrt_block", "getrf", "getrs", "larft", "laswp", "orgqr", "ormqr", "potrf", "potrs", "trcon",
]  # fmt: skip


# -- LU -----------------------------------------------------------------------------------------


def getrf(a: Array) -> tuple[NDArray[np.int32], int]:
    """P A = L U in place. Returns the pivots and info (i > 0: U[i-1, i-1] is exactly zero)."""
    dtype = same_dtype("getrf", a)
    require_f_like(a, "getrf")
    m, n = a.shape
    piv = np.zeros(min(m, n), dtype=np.int32)
    info = ctypes.c_int(0)
    if piv.size:
        call(
            "getrf", dtype, ref(m), ref(n), pointer(a), ld(a), pointer(piv),
            ctypes.byref(info),
        )  # fmt: skip
        piv -= 1
    return piv, info.value


def getrs(lu: Array, piv: NDArray[np.int32], b: Array, trans: str = "N") -> None:
    """B <- op(A)^-1 B with the factors of `getrf`; B is F-like."""
    dtype = check_getrs(lu, piv, b)
    require_f_like(lu, "getrs")
    if b.size == 0:
        return
    info = ctypes.c_int(0)
    one_based = np.ascontiguousarray(piv + 1, dtype=np.int32)
    call(
        "getrs", dtype, trans.encode(), ref(lu.shape[0]), ref(b.shape[1]), pointer(lu),
        ld(lu), pointer(one_based), pointer(b), ld(b), ctypes.byref(info),
    )  # fmt: skip


def check_getrs(lu: Array, piv: NDArray[np.int32], b: Array) -> np.dtype[Any]:
    """The dtype of factors and right-hand sides that fit each other; B is F-like."""
    dtype = same_dtype("getrs", lu, b)
    require_f_like(b, "getrs")
    n = len(b)
    require_shapes(lu.shape == (n, n) and piv.shape == (n,), "getrs", lu, piv, b)
    return dtype


def laswp(a: Array, piv: NDArray[np.int32], forward: bool = True) -> None:
    """Swap row i of `a` with row piv[i], i = 0, 1, ... (backwards: in the opposite order)."""
    dtype = same_dtype("laswp", a)
    require_shapes(len(piv) <= len(a), "laswp", a, piv)
    if a.size == 0 or piv.size == 0:
        return
    if is_f_like(a):
        one_based = np.ascontiguousarray(piv + 1, dtype=np.int32)
        call(
            "laswp", dtype, ref(a.shape[1]), pointer(a), ld(a), ref(1), ref(piv.size),
            pointer(one_based), ref(1 if forward else -1),
        )  # fmt: skip
        return
    for i in range(piv.size) if forward else range(piv.size - 1, -1, -1):
        if piv[i] != i:
            a[[i, piv[i]]] = a[[piv[i], i]]


def gecon(lu: Array, norm: float, kind: str = "1") -> float:
    """Estimated reciprocal condition number in the 1-norm ("1") or infinity norm ("I")."""
    dtype = same_dtype("gecon", lu)
    require_f_like(lu, "gecon")
    require_shapes(lu.shape[0] == lu.shape[1], "gecon", lu)
    n = lu.shape[0]
    if n == 0:
        return 1.0
    if norm == 0:
        return 0.0
    real = np.dtype(dtype.char.lower())
    rcond, info = np.zeros(1, real), ctypes.c_int(0)
    one = scalar(1.0, real)  # the norm may leave the range of `real`
    is_complex = dtype.kind == "c"
    work = np.empty(2 * n if is_complex else 4 * n, dtype)
    second = np.empty(2 * n, real) if is_complex else np.empty(n, np.int32)
    call(
        "gecon", dtype, kind.encode(), ref(n), pointer(lu), ld(lu), pointer(one),
        pointer(rcond), pointer(work), pointer(second), ctypes.byref(info),
    )  # fmt: skip
    return float(rcond[0]) / norm


# -- Cholesky -----------------------------------------------------------------------------------


def potrf(a: Array, lower: bool) -> int:
    """A = L L^H or U^H U in place, one triangle. Returns info (i > 0: the i-th minor fails)."""
    dtype = same_dtype("potrf", a)
    require_f_like(a, "potrf")
    require_shapes(a.shape[0] == a.shape[1], "potrf", a)
    info = ctypes.c_int(0)
    if a.size:
        call(
            "potrf", dtype, b"L" if lower else b"U", ref(a.shape[0]), pointer(a), ld(a),
            ctypes.byref(info),
        )  # fmt: skip
    return info.value


def potrs(c: Array, b: Array, lower: bool) -> None:
    """B <- A^-1 B with the factor of `potrf`; B is F-like."""
    dtype = same_dtype("potrs", c, b)
    require_f_like(c, "potrs")
    require_f_like(b, "potrs")
    require_shapes(c.shape == (len(b), len(b)), "potrs", c, b)
    if b.size == 0:
        return
    if b.shape[1] == 1:  # A = L L^H or U^H U
        trsv(c, b, lower, "N" if lower else "C")
        trsv(c, b, lower, "C" if lower else "N")
        return
    info = ctypes.c_int(0)
    call(
        "potrs", dtype, b"L" if lower else b"U", ref(c.shape[0]), ref(b.shape[1]), pointer(c),
        ld(c), pointer(b), ld(b), ctypes.byref(info),
    )  # fmt: skip


# -- QR -----------------------------------------------------------------------------------------


def _with_workspace(name: str, dtype: np.dtype[Any], *args: Any) -> None:
    """Call a routine whose last arguments are (work, lwork, info), asking for its best lwork."""
    info = ctypes.c_int(0)
    query = np.empty(1, dtype)
    call(name, dtype, *args, pointer(query), ref(-1), ctypes.byref(info))
    size = max(1, int(query[0].real))
    work = np.empty(size, dtype)
    call(name, dtype, *args, pointer(work), ref(size), ctypes.byref(info))
    if info.value:
        raise ValueError(f"LAPACK {name}: argument {-info.value} is illegal")


def geqrf(a: Array) -> Array:
    """A = Q R in place (reflectors below the diagonal). Returns tau."""
    dtype = same_dtype("geqrf", a)
    require_f_like(a, "geqrf")
    m, n = a.shape
    tau = np.zeros(min(m, n), dtype)
    if tau.size:
        _with_workspace("geqrf", dtype, ref(m), ref(n), pointer(a), ld(a), pointer(tau))
    return tau


def ormqr(side: str, trans: str, qr: Array, tau: Array, c: Array) -> None:
    """C <- op(Q) C (side "L") or C op(Q) ("R"), Q from `geqrf`; C is F-like."""
    dtype = same_dtype("ormqr", qr, tau, c)
    require_f_like(qr, "ormqr")
    require_f_like(c, "ormqr")
    order = c.shape[0 if side == "L" else 1]
    require_shapes(qr.shape[0] == order and len(tau) <= min(qr.shape), "ormqr", qr, tau, c)
    if c.size == 0 or tau.size == 0:
        return
    if not qr.flags.writeable:  # LAPACK writes ones on its diagonal, and what was there again
        qr = qr.copy(order="F")
    is_complex = dtype.kind == "c"
    flag = b"N" if trans == "N" else (b"C" if is_complex else b"T")
    _with_workspace(
        "unmqr" if is_complex else "ormqr", dtype, side.encode(), flag, ref(c.shape[0]),
        ref(c.shape[1]), ref(tau.size), pointer(qr), ld(qr), pointer(tau), pointer(c),
        ld(c),
    )  # fmt: skip


def orgqr(qr: Array, tau: Array) -> None:
    """The ld columns of Q, in place of the reflectors of `geqrf`."""
    dtype = same_dtype("orgqr", qr, tau)
    require_f_like(qr, "orgqr")
    require_shapes(len(tau) <= qr.shape[1] <= qr.shape[0], "orgqr", qr, tau)
    if qr.size:
        _with_workspace(
            "ungqr" if dtype.kind == "c" else "orgqr", dtype, ref(qr.shape[0]),
            ref(qr.shape[1]), ref(tau.size), pointer(qr), ld(qr), pointer(tau),
        )  # fmt: skip


def larft(v: Array, tau: Array) -> Array:
    """The triangular factor T of the block reflector I - V T V^H (forward, columnwise)."""
    dtype = same_dtype("larft", v, tau)
    require_f_like(v, "larft")
    m, k = v.shape
    require_shapes(k <= m and tau.shape == (k,), "larft", v, tau)
    t = np.zeros((k, k), dtype, order="F")
    if k:
        call(
            "larft", dtype, b"F", b"C", ref(m), ref(k), pointer(v), ld(v), pointer(tau),
            pointer(t), ld(t),
        )  # fmt: skip
    return t


def trcon(r: Array, lower: bool, kind: str = "1") -> float:
    """Estimated reciprocal condition number of a triangular matrix."""
    dtype = same_dtype("trcon", r)
    require_f_like(r, "trcon")
    require_shapes(r.shape[0] == r.shape[1], "trcon", r)
    n = r.shape[0]
    if n == 0:
        return 1.0
    real = np.dtype(dtype.char.lower())
    rcond, info = np.zeros(1, real), ctypes.c_int(0)
    is_complex = dtype.kind == "c"
    work = np.empty(2 * n if is_complex else 3 * n, dtype)
    second = np.empty(n, real if is_complex else np.int32)
    call(
        "trcon", dtype, kind.encode(), b"L" if lower else b"U", b"N", ref(n), pointer(r),
        ld(r), pointer(rcond), pointer(work), pointer(second), ctypes.byref(info),
    )  # fmt: skip
    return float(rcond[0])


# -- singular values of a band matrix -------------------------------------------------------------


def gbbrd(band: Array) -> tuple[Array, Array]:
    """Diagonal and superdiagonal, both real, of the bidiagonal form of an upper band matrix.

    `band` is (k + 1, n) and F-like: row k holds the diagonal, row k - i the i-th superdiagonal,
    each entry in its column. Overwritten.
    """
    dtype = same_dtype("gbbrd", band)
    require_f_like(band, "gbbrd")
    n = band.shape[1]
    real = np.dtype(dtype.char.lower())
    d, e = np.zeros(n, real), np.zeros(max(n - 1, 1), real)
    none, work = np.zeros(1, dtype), np.empty(2 * max(n, 1), dtype)
    second = [np.empty(max(n, 1), real)] if dtype.kind == "c" else []
    info = ctypes.c_int(0)
    if n:
        call(
            "gbbrd", dtype, b"N", ref(n), ref(n), ref(0), ref(0), ref(len(band) - 1),
            pointer(band), ld(band), pointer(d), pointer(e), pointer(none), ref(1),
            pointer(none), ref(1), pointer(none), ref(1), pointer(work),
            *map(pointer, second), ctypes.byref(info),
        )  # fmt: skip
    return d, e[: max(n - 1, 0)]


def bdsqr(d: Array, e: Array) -> int:
    """d <- singular values, decreasing, of the upper bidiagonal matrix of d and e; real.

    `e` is destroyed. Returns info (i > 0: so many superdiagonals did not converge to zero).
    """
    dtype = same_dtype("bdsqr", d, e)
    n = d.size
    require_shapes(dtype.kind == "f" and e.size == max(n - 1, 0), "bdsqr", d, e)
    info = ctypes.c_int(0)
    none, work = np.zeros(1, dtype), np.empty(4 * max(n, 1), dtype)
    if n:
        call(
            "bdsqr", dtype, b"U", ref(n), ref(0), ref(0), ref(0), pointer(d), pointer(e),
            pointer(none), ref(1), pointer(none), ref(1), pointer(none), ref(1),
            pointer(work), ctypes.byref(info),
        )  # fmt: skip
    return info.value


# -- QR with its block reflectors -----------------------------------------------------------------


def geqrt(a: Array, block: int) -> Array:
    """A = Q R in place, as `geqrf`, by recursive panels of `block` columns.

    Returns T, (block, min(m, n)): its columns k to k + block hold the upper triangle T_k of the
    block reflector I - V_k T_k V_k^H of these columns, with tau on its diagonal; Q is their
    product. What is below the triangles means nothing.
    """
    dtype = same_dtype("geqrt", a)
    require_f_like(a, "geqrt")
    m, n = a.shape
    count = min(m, n)
    block = min(max(block, 1), max(count, 1))
    t = np.zeros((block, count), dtype, order="F")
    work, info = np.empty(block * max(n, 1), dtype), ctypes.c_int(0)
    if count:
        call(
            "geqrt", dtype, ref(m), ref(n), ref(block), pointer(a), ld(a), pointer(t),
            ld(t), pointer(work), ctypes.byref(info),
        )  # fmt: skip
    return t


def gemqrt(trans: str, qr: Array, t: Array, c: Array) -> None:
    """C <- op(Q) C with the factors of `geqrt`; C is F-like."""
    dtype = same_dtype("gemqrt", qr, t, c)
    require_f_like(qr, "gemqrt")
    require_f_like(t, "gemqrt")
    require_f_like(c, "gemqrt")
    block, count = t.shape
    require_shapes(len(qr) == len(c) and count <= min(qr.shape), "gemqrt", qr, t, c)
    if c.size == 0 or count == 0:
        return
    flag = b"N" if trans == "N" else (b"C" if dtype.kind == "c" else b"T")
    work, info = np.empty(block * c.shape[1], dtype), ctypes.c_int(0)
    call(
        "gemqrt", dtype, b"L", flag, ref(c.shape[0]), ref(c.shape[1]), ref(count), ref(block),
        pointer(qr), ld(qr), pointer(t), ld(t), pointer(c), ld(c),
        pointer(work), ctypes.byref(info),
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
