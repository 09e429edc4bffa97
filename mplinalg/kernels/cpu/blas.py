"""BLAS of levels 2 and 3 on array views, in place.

Matrices may be F-like or C-like: a C-like matrix is the transpose of an F-like one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .routines import (
    MIRROR,
    call,
    is_c_like,
    is_f_like,
    ld,
    operand,
    pointer,
    ref,
    require_f_like,
    require_shapes,
    same_dtype,
    scalar,
)

Array = NDArray[Any]

__all__ = ["check_trsm", "gemm", "symm", "syrk", "trsm", "trsv"]


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
    dtype = same_dtype("gemm", a, b, c)
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
    a, transa = operand(a, transa)
    b, transb = operand(b, transb)
    alpha_, beta_ = scalar(alpha, dtype), scalar(beta, dtype)
    if n == 1 and transb == "N":
        rows, cols = a.shape
        call(
            "gemv", dtype, transa.encode(), ref(rows), ref(cols), pointer(alpha_), pointer(a),
            ld(a), pointer(b), ref(1), pointer(beta_), pointer(c), ref(1),
        )  # fmt: skip
        return
    call(
        "gemm", dtype, transa.encode(), transb.encode(), ref(m), ref(n), ref(k),
        pointer(alpha_), pointer(a), ld(a), pointer(b), ld(b),
        pointer(beta_), pointer(c), ld(c),
    )  # fmt: skip


def symm(alpha: complex, a: Array, b: Array, beta: complex, c: Array, lower: bool) -> None:
    """C <- alpha A B + beta C, A Hermitian (symmetric if real), one triangle read; all F-like."""
    dtype = same_dtype("symm", a, b, c)
    for x in (a, b, c):
        require_f_like(x, "symm")
    require_shapes(a.shape == (len(c), len(c)) and b.shape == c.shape, "symm", a, b, c)
    if c.size == 0:
        return
    alpha_, beta_ = scalar(alpha, dtype), scalar(beta, dtype)
    family = "he" if dtype.kind == "c" else "sy"
    uplo = b"L" if lower else b"U"
    m, n = c.shape
    if n == 1:
        call(
            family + "mv", dtype, uplo, ref(m), pointer(alpha_), pointer(a), ld(a),
            pointer(b), ref(1), pointer(beta_), pointer(c), ref(1),
        )  # fmt: skip
        return
    call(
        family + "mm", dtype, b"L", uplo, ref(m), ref(n), pointer(alpha_), pointer(a),
        ld(a), pointer(b), ld(b), pointer(beta_), pointer(c), ld(c),
    )  # fmt: skip


def trsm(
    side: str, a: Array, b: Array, lower: bool, trans: str = "N", unit: bool = False,
    alpha: complex = 1.0,
) -> None:  # fmt: skip
    """B <- alpha op(A)^-1 B (side "L") or alpha B op(A)^-1 (side "R"), A triangular."""
    dtype = same_dtype("trsm", a, b)
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
            a, lower, trans = a.T, not lower, MIRROR.get(trans, "N")
    if conjugate:  # conj(A)^-1 B = conj(A^-1 conj(B))
        np.conjugate(b, out=b)
    if side == "L" and n == 1:  # many times faster than trsm of one column
        if alpha != 1:
            b *= np.conj(alpha) if conjugate else alpha
        trsv(a, b, lower, trans, unit)
    else:
        alpha_ = scalar(np.conj(alpha) if conjugate else alpha, dtype)
        call(
            "trsm", dtype, side.encode(), b"L" if lower else b"U", trans.encode(),
            b"U" if unit else b"N", ref(m), ref(n), pointer(alpha_), pointer(a), ld(a),
            pointer(b), ld(b),
        )  # fmt: skip
    if conjugate:
        np.conjugate(b, out=b)


def check_trsm(a: Array, b: Array) -> np.dtype[Any]:
    """The dtype of a triangle and of what is solved with it on the left."""
    dtype = same_dtype("trsm", a, b)
    require_shapes(a.shape == (len(b), len(b)), "trsm", a, b)
    return dtype


def trsv(a: Array, x: Array, lower: bool, trans: str, unit: bool = False) -> None:
    """x <- op(A)^-1 x, A triangular and F-like, x of shape (n, 1) and contiguous."""
    call(
        "trsv", a.dtype, b"L" if lower else b"U", trans.encode(), b"U" if unit else b"N",
        ref(len(x)), pointer(a), ld(a), pointer(x), ref(1),
    )  # fmt: skip


def syrk(alpha: float, a: Array, beta: float, c: Array, lower: bool, trans: str = "N") -> None:
    """C <- alpha A A^H + beta C (trans "N") or alpha A^H A + beta C ("C"), one triangle of C."""
    dtype = same_dtype("syrk", a, c)
    require_f_like(a, "syrk")
    require_f_like(c, "syrk")
    n, k = a.shape if trans == "N" else a.shape[::-1]
    require_shapes(c.shape == (n, n), "syrk", a, c)
    if n == 0:
        return
    is_complex = dtype.kind == "c"
    # herk's alpha and beta are real
    scalar_type = np.dtype(dtype.char.lower())
    alpha_, beta_ = scalar(alpha, scalar_type), scalar(beta, scalar_type)
    flag = b"N" if trans == "N" else (b"C" if is_complex else b"T")
    call(
        "herk" if is_complex else "syrk", dtype, b"L" if lower else b"U", flag, ref(n), ref(k),
        pointer(alpha_), pointer(a), ld(a), pointer(beta_), pointer(c), ld(c),
    )  # fmt: skip
