"""P A = L U with partial pivoting of a matrix of contiguous rows, in place, by recursion.

OpenBLAS's own getrf spends much of its time, up to orders of a few thousand, in row interchanges
with a stride, in narrow panels and in triangular solves. Here rows are contiguous, so that an
interchange is a copy; a panel of `WIDTH` columns is packed and updated with vector instructions;
and triangular solves multiply by inverses of WIDTH x WIDTH diagonal blocks. All else is gemm.

The recursion (Toledo 1997) is unrolled: when the first c columns are done, 2^k of them, k the
number of trailing zero bits of c / WIDTH, update the 2^k blocks of columns that follow.

Flops: 2/3 n^3 + O(n^2 WIDTH log n). Bytes moved by interchanges: 4 n^2 words.

References
----------
Toledo, SIAM J. Matrix Anal. Appl. 18 (1997) 1065 (recursive LU).
Du Croz and Higham, IMA J. Numer. Anal. 12 (1992) 1 (solves by inverted diagonal blocks).
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from .calls import NO, at, call, subtract_multiple, types
from .jit import shared_kernel

WIDTH = 16
"""Columns of a panel: in single precision one AVX-512 register, or a cache line."""

_subtract = subtract_multiple(WIDTH)
_subtract_pairs = subtract_multiple(2 * WIDTH)


@shared_kernel
def _real_panel(buf, m, piv, first):  # type: ignore[no-untyped-def]
    """Factor the m packed rows of `buf`, shape (>= m, WIDTH).

    Pivots are counted from row `first`. Returns the number of the first zero pivot from 1, or 0.
    """
    flat = buf.reshape(-1)
    pivot_row = np.zeros(WIDTH, buf.dtype)
    info = 0
    p = 0
    top = abs(flat[0])
    for i in range(1, m):
        size = abs(flat[i * WIDTH])
        if size > top:
            top = size
            p = i
    for k in range(min(WIDTH, m)):
        piv[first + k] = first + p
        for j in range(WIDTH):
            value = buf[p, j]
            buf[p, j] = buf[k, j]
            buf[k, j] = value
            pivot_row[j] = value if j > k else 0
        pivot = buf[k, k]
        if pivot == 0 and info == 0:
            info = k + 1
        following = min(k + 1, WIDTH - 1)
        top = -abs(pivot_row[0])  # below every magnitude, of the right type
        top -= 1
        p = k + 1
        for i in range(k + 1, m):
            place = i * WIDTH
            factor = flat[place + k]
            if pivot != 0:
                factor /= pivot
            _subtract(flat, place, pivot_row, 0, factor)
            flat[place + k] = factor
            size = abs(flat[place + following])
            if size > top:
                top = size
                p = i
    return info


@shared_kernel
def _complex_panel(buf, m, piv, first):  # type: ignore[no-untyped-def]
    """As `_real_panel`; buf holds pairs, shape (>= m, 2 WIDTH); magnitudes are |re| + |im|."""
    flat = buf.reshape(-1)
    pivot_row = np.zeros(2 * WIDTH, buf.dtype)
    turned = np.zeros(2 * WIDTH, buf.dtype)  # i times the pivot row
    info = 0
    p = 0
    top = abs(flat[0]) + abs(flat[1])
    for i in range(1, m):
        size = abs(flat[2 * i * WIDTH]) + abs(flat[2 * i * WIDTH + 1])
        if size > top:
            top = size
            p = i
    for k in range(min(WIDTH, m)):
        piv[first + k] = first + p
        for j in range(2 * WIDTH):
            value = buf[p, j]
            buf[p, j] = buf[k, j]
            buf[k, j] = value
            pivot_row[j] = value if j > 2 * k + 1 else 0
        for j in range(WIDTH):
            turned[2 * j] = -pivot_row[2 * j + 1]
            turned[2 * j + 1] = pivot_row[2 * j]
        real, imag = buf[k, 2 * k], buf[k, 2 * k + 1]
        is_zero = real == 0 and imag == 0
        if is_zero and info == 0:
            info = k + 1
        # 1 / pivot by Smith's formula
        if is_zero:
            inverse_re, inverse_im = real + 1, imag
        elif abs(real) >= abs(imag):
            ratio = imag / real
            inverse_re = 1 / (real + imag * ratio)
            inverse_im = -ratio * inverse_re
        else:
            ratio = real / imag
            inverse_im = -1 / (imag + real * ratio)
            inverse_re = -ratio * inverse_im
        following = min(2 * k + 2, 2 * WIDTH - 2)
        top = -abs(pivot_row[0])
        top -= 1
        p = k + 1
        for i in range(k + 1, m):
            place = 2 * i * WIDTH
            re, im = flat[place + 2 * k], flat[place + 2 * k + 1]
            factor_re = re * inverse_re - im * inverse_im
            factor_im = re * inverse_im + im * inverse_re
            _subtract_pairs(flat, place, pivot_row, 0, factor_re)
            _subtract_pairs(flat, place, turned, 0, factor_im)
            flat[place + 2 * k] = factor_re
            flat[place + 2 * k + 1] = factor_im
            size = abs(flat[place + following]) + abs(flat[place + following + 1])
            if size > top:
                top = size
                p = i
    return info


def _panel(a, buf, m, piv, first):  # type: ignore[no-untyped-def]
    """`_real_panel`, or `_complex_panel` where A is complex: only one of them is compiled."""
    run = _complex_panel if a.dtype.kind == "c" else _real_panel  # where nothing is compiled
    return run(buf, m, piv, first)


@overload(_panel, inline="always")
def _panel_of(a, buf, m, piv, first):  # type: ignore[no-untyped-def]
    if isinstance(a.dtype, types.Complex):
        return lambda a, buf, m, piv, first: _complex_panel(buf, m, piv, first)
    return lambda a, buf, m, piv, first: _real_panel(buf, m, piv, first)


@shared_kernel
def invert_unit_lower(block, inverse):  # type: ignore[no-untyped-def]
    """inverse <- block^-1, unit lower triangular, shapes (WIDTH, WIDTH)."""
    inverse[:, :] = 0
    for i in range(WIDTH):
        inverse[i, i] = 1
        for k in range(i):
            factor = block[i, k]
            for j in range(k + 1):
                inverse[i, j] -= factor * inverse[k, j]


@shared_kernel
def swap_rows(a, piv, first, last, left, right):  # type: ignore[no-untyped-def]
    """Exchange rows first, ..., last - 1 of columns left, ..., right - 1 with those of `piv`."""
    for i in range(first, last):
        p = piv[i]
        if p != i:
            upper, lower = a[i], a[p]
            for j in range(left, right):
                value = upper[j]
                upper[j] = lower[j]
                lower[j] = value


@shared_kernel
def update_columns(gemm, a, inverses, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """Columns left : right of rows from `top` on, when columns top : bottom are factored.

    bottom - top is a power of two times WIDTH. `inverses` holds those of the diagonal blocks of L.
    """
    one, minus, zero = a.dtype.type(1), a.dtype.type(-1), a.dtype.type(0)
    n = a.shape[1]
    cols = right - left
    scratch = np.empty(WIDTH * cols, a.dtype)
    for q in range((bottom - top) // WIDTH):
        row = top + q * WIDTH
        # A[q, cols] <- inv(L[q, q]) A[q, cols]
        for i in range(WIDTH):
            source = a[row + i]
            for j in range(cols):
                scratch[i * cols + j] = source[left + j]
        call(
            gemm,
            (NO, NO, cols, WIDTH, WIDTH, one, at(scratch, 0), cols,
             at(inverses, row * WIDTH), WIDTH, zero, at(a, row * n + left), n),
        )  # fmt: skip
        middle = row + WIDTH
        if middle < bottom:
            # A[middle : middle + h, cols] -= L[.., middle - h : middle] A[middle - h : middle, ..]
            done = q + 1
            h = rows = (done & -done) * WIDTH
        else:
            # A[bottom:, cols] -= L[bottom:, top:bottom] A[top:bottom, cols]
            h, rows = bottom - top, n - bottom
        call(
            gemm,
            (NO, NO, cols, rows, h, minus, at(a, (middle - h) * n + left), n,
             at(a, middle * n + middle - h), n, one, at(a, middle * n + left), n),
        )  # fmt: skip


@shared_kernel
def factor_columns(gemm, a, real, piv, inverses, left, right):  # type: ignore[no-untyped-def]
    """P A[left:, left:right] = L U in place; L has a unit diagonal.

    Parameters
    ----------
    gemm : int
        Address of the gemm of A's dtype.
    a : array, shape (n, n)
        C-contiguous.
    real : array, shape (n, n) or (n, 2 n)
        `a` as real numbers: itself, or a view of a complex one as pairs.
    piv : int32 array, shape (n,)
        Receives rows left, ...: row i was exchanged with row piv[i], in these columns.
    inverses : array, shape (ceil(n / WIDTH), WIDTH, WIDTH)
        Receives those of the diagonal blocks of L, but for the last block of A.
    left, right : int
        Multiples of WIDTH; right may be n.

    Returns
    -------
    int
        i > 0: U[i-1, i-1] is exactly zero, the first to be so.
    """
    n = a.shape[0]
    pair = real.shape[1] // n
    width = pair * WIDTH
    buf = np.empty((n - left, width), real.dtype)
    info = 0
    for first in range(left, right, WIDTH):
        last = min(first + WIDTH, right)
        rows = n - first
        taken = pair * (last - first)
        # P A[first:, k] = L U
        for i in range(rows):
            source = real[first + i]
            for j in range(taken):
                buf[i, j] = source[pair * first + j]
            for j in range(taken, width):
                buf[i, j] = 0
        zero_pivot = _panel(a, buf, rows, piv, first)
        if zero_pivot and info == 0:
            info = first + zero_pivot
        swap_rows(a, piv, first, last, left, right)
        for i in range(rows):
            target = real[first + i]
            for j in range(taken):
                target[pair * first + j] = buf[i, j]
        if last < n:
            invert_unit_lower(a[first:last, first:last], inverses[first // WIDTH])
        if last < right:
            done = (last - left) // WIDTH
            h = (done & -done) * WIDTH
            update_columns(gemm, a, inverses, last - h, last, last, min(last + h, right))
    return info
