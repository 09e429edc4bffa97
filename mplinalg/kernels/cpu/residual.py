"""r = b - A x and d = |A| w + |b| of one vector in one pass over A; mostly w = |x|.

Lines as in `conversion`: ``*_along`` kernels take the rows of a C-like A, ``*_across`` kernels the
columns of an F-like A. Complex numbers are pairs of reals with magnitudes |re| + |im|; w is real.
`r` and `d` hold b and |b| on entry. The Hermitian kernels read one triangle: entry j of line i for
j >= i (`upper`) or j <= i.

Flops: 4 n^2 (real). Bytes moved: one read of A (of one triangle, if Hermitian).
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from .calls import types
from .jit import shared_kernel


@shared_kernel
def real_along(lines, x, w, r, d):  # type: ignore[no-untyped-def]
    for i in range(lines.shape[0]):
        row = lines[i]
        total = 0.0
        size = 0.0
        for j in range(row.size):
            total += row[j] * x[j]
            size += abs(row[j]) * w[j]
        r[i] -= total
        d[i] += size


@shared_kernel
def real_across(lines, x, w, r, d):  # type: ignore[no-untyped-def]
    for j in range(lines.shape[0]):
        column = lines[j]
        xj, wj = x[j], w[j]
        for i in range(column.size):
            r[i] -= column[i] * xj
            d[i] += abs(column[i]) * wj


@shared_kernel
def complex_along(lines, x, w, r, d):  # type: ignore[no-untyped-def]
    for i in range(lines.shape[0]):
        row = lines[i]
        re = 0.0
        im = 0.0
        size = 0.0
        for j in range(row.size // 2):
            ar = row[2 * j]
            ai = row[2 * j + 1]
            xr = x[2 * j]
            xi = x[2 * j + 1]
            re += ar * xr - ai * xi
            im += ar * xi + ai * xr
            size += (abs(ar) + abs(ai)) * w[j]
        r[2 * i] -= re
        r[2 * i + 1] -= im
        d[i] += size


@shared_kernel
def complex_across(lines, x, w, r, d):  # type: ignore[no-untyped-def]
    for j in range(lines.shape[0]):
        column = lines[j]
        xr = x[2 * j]
        xi = x[2 * j + 1]
        wj = w[j]
        for i in range(column.size // 2):
            ar = column[2 * i]
            ai = column[2 * i + 1]
            r[2 * i] -= ar * xr - ai * xi
            r[2 * i + 1] -= ar * xi + ai * xr
            d[i] += (abs(ar) + abs(ai)) * wj


@shared_kernel
def real_symmetric(lines, upper, x, w, r, d):  # type: ignore[no-untyped-def]
    n = lines.shape[0]
    for i in range(n):
        first = i + 1 if upper else 0
        last = n if upper else i
        row = lines[i, first:last]
        xs, ws = x[first:last], w[first:last]
        rs, ds = r[first:last], d[first:last]
        xi, wi = x[i], w[i]
        total = lines[i, i] * xi
        size = abs(lines[i, i]) * wi
        for j in range(row.size):
            a = row[j]
            total += a * xs[j]
            size += abs(a) * ws[j]
            rs[j] -= a * xi
            ds[j] += abs(a) * wi
        r[i] -= total
        d[i] += size


@shared_kernel
def complex_hermitian(lines, upper, conjugated, x, w, r, d):  # type: ignore[no-untyped-def]
    """`conjugated`: lines[i, j] is conj(A[i, j]) (the columns of an F-like A). Diagonal: real."""
    n = lines.shape[0]
    sign = -1.0 if conjugated else 1.0
    for i in range(n):
        first = i + 1 if upper else 0
        last = n if upper else i
        row = lines[i]
        yr = x[2 * i]
        yi = x[2 * i + 1]
        wi = w[i]
        diagonal = row[2 * i]
        re = diagonal * yr
        im = diagonal * yi
        size = abs(diagonal) * wi
        for j in range(first, last):
            ar = row[2 * j]
            ai = sign * row[2 * j + 1]
            magnitude = abs(ar) + abs(ai)
            xr = x[2 * j]
            xi = x[2 * j + 1]
            re += ar * xr - ai * xi
            im += ar * xi + ai * xr
            size += magnitude * w[j]
            # A[j, i] = conj(A[i, j])
            r[2 * j] -= ar * yr + ai * yi
            r[2 * j + 1] -= ar * yi - ai * yr
            d[j] += magnitude * wi
        r[2 * i] -= re
        r[2 * i + 1] -= im
        d[i] += size


@shared_kernel
def column_errors(x, r, d, pair, x_size, r_size, d_size, berr):  # type: ignore[no-untyped-def]
    """Largest magnitudes of the columns of x, r and d, and berr = max_i |r_i| / d_i.

    Columns come as lines; `pair` = 2 for complex x and r. 0 / 0 counts as 0, and a nonzero r_i
    over zero as infinity. NaN anywhere in a column makes its entries NaN.
    """
    for k in range(x.shape[0]):
        xs, rs, ds = x[k], r[k], d[k]
        x_top, r_top, d_top, worst = 0.0, 0.0, 0.0, 0.0
        bad = 0
        for i in range(ds.size):
            xi = abs(xs[pair * i])
            ri = abs(rs[pair * i])
            if pair == 2:
                xi += abs(xs[2 * i + 1])
                ri += abs(rs[2 * i + 1])
            di = ds[i]
            ratio = ri / di if ri > 0 else 0.0
            x_top = xi if xi > x_top else x_top
            r_top = ri if ri > r_top else r_top
            d_top = di if di > d_top else d_top
            worst = ratio if ratio > worst else worst
            bad += (xi != xi) | (ri != ri) | (di != di)
        x_size[k] = np.nan if bad else x_top
        r_size[k] = np.nan if bad else r_top
        d_size[k] = np.nan if bad else d_top
        berr[k] = np.nan if bad else worst


def multiply_add(real, flipped, triangle, upper, x, w, r, d):  # type: ignore[no-untyped-def]
    """r <- r - op(A) x, d <- d + |op(A)| w, for one vector of A's dtype; `real`: A's lines."""
    run = _multiply_complex if x.dtype.kind == "c" else _multiply_real  # where nothing is compiled
    run(real, flipped, triangle, upper, x, w, r, d)


@overload(multiply_add, inline="always")
def _multiply_add(real, flipped, triangle, upper, x, w, r, d):  # type: ignore[no-untyped-def]
    return _multiply_complex if isinstance(x.dtype, types.Complex) else _multiply_real


def _multiply_real(real, flipped, triangle, upper, x, w, r, d):  # type: ignore[no-untyped-def]
    if triangle:
        real_symmetric(real, upper, x, w, r, d)
    elif flipped:
        real_across(real, x, w, r, d)
    else:
        real_along(real, x, w, r, d)


def _multiply_complex(real, flipped, triangle, upper, x, w, r, d):  # type: ignore[no-untyped-def]
    x_real, r_real = x.view(real.dtype), r.view(real.dtype)
    if triangle:
        complex_hermitian(real, upper, False, x_real, w, r_real, d)
    elif flipped:
        complex_across(real, x_real, w, r_real, d)
    else:
        complex_along(real, x_real, w, r_real, d)
