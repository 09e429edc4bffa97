"""Residuals on the device:  r = b - op(A) x  and  d = |op(A)||x| + |b|,  by residual.cu.

One pass over A serves up to `COLUMNS` right-hand sides. More of them are a product of matrices,
and |A||x| another one by blocks of |A|. A Hermitian matrix of which one triangle counts is filled
up a block of rows at a time in a bounded buffer: three times the traffic of a whole matrix, and
rows that sums in twice the working precision can run over without being rounded in between.
"""

from __future__ import annotations

from collections.abc import Iterator

import cupy
import numpy as np

from . import blas, loader
from .layout import Array, is_f_like
from .lines import REALS, cabs1, lines_of

COLUMNS = 4
"""That a kernel takes at once."""

_ACROSS, _ALONG, _SHARES = 32, 8, 256
"""Entries, lines and entries of a block of the three kernels."""
_WAVES = 4
"""Blocks of `residual_across` for each multiprocessor."""
_FEWEST_LINES = 32
"""That are worth a share of their own."""
_MOST_PARTS = 65535
"""Blocks in the second dimension of a grid."""
_BUFFER = 2**28
"""Bytes of a block of a matrix that has to be formed."""
_EXTENDED_ROWS = 64
"""Of a matrix whose products are held all at once."""
_ROWS = 8
"""Fewest rows of such a block, however long they are."""


def residual(
    a: Array, x: Array, b: Array, trans: str = "N", triangle: str | None = None,
    extended: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """r and d by kernels, `COLUMNS` columns in a pass; arguments as `Ops.residual`."""
    x, b = _columns(x), _columns(b)
    r = cupy.empty(b.shape, b.dtype, order="F")
    d = cupy.empty(b.shape, np.float64, order="F")
    if a.size == 0 or b.size == 0:
        r[...] = b
        d[...] = cabs1(b)
    elif triangle is None:
        _passes(a, x, b, r, d, trans, extended)
    else:
        for rows, block in _hermitian_rows(a, triangle, conjugate=trans == "T"):
            _passes(block, x, b[rows], r[rows], d[rows], "N", extended)
    return r, d.astype(REALS[b.dtype.char], copy=False)


def by_functions(
    a: Array, x: Array, b: Array, trans: str = "N", triangle: str | None = None,
    extended: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """The same without kernels of our own: where these cannot be had."""
    d = magnitude(a, x, b, trans, triangle)
    if not extended:
        return product(a, x, b, trans, triangle), d
    r = cupy.empty(b.shape, b.dtype, order="F")
    r[...] = b
    if a.size == 0 or b.size == 0:
        return r, d
    if triangle is not None:
        for rows, block in _hermitian_rows(a, triangle, conjugate=trans == "T"):
            _extended_rows(block, x, r[rows])
        return r, d
    view = a if trans == "N" else a.T
    for rows in _blocks(len(view), view.shape[1] * a.itemsize):
        _extended_rows(_conj(view[rows]) if trans == "C" else view[rows], x, r[rows])
    return r, d


def product(a: Array, x: Array, b: Array, trans: str = "N", triangle: str | None = None) -> Array:
    """r alone, of many columns, by products of matrices."""
    r = cupy.empty(b.shape, b.dtype, order="F")
    r[...] = b
    if triangle is None:
        blas.gemm(-1.0, a, x, 1.0, r, trans)
    else:
        for rows, block in _hermitian_rows(a, triangle, conjugate=trans == "T"):
            blas.gemm(-1.0, block, x, 1.0, r[rows])
    return r


def magnitude(a: Array, x: Array, b: Array, trans: str = "N", triangle: str | None = None) -> Array:
    """d alone, of many columns, by products with blocks of |A|."""
    d = cupy.empty(b.shape, REALS[b.dtype.char], order="F")
    d[...] = cabs1(b)
    if a.size == 0 or b.size == 0:
        return d
    size = cabs1(x)
    if triangle is not None:
        for rows, block in _hermitian_rows(a, triangle):
            blas.gemm(1.0, cabs1(block), size, 1.0, d[rows])
        return d
    by_columns = is_f_like(a)
    view = a.T if by_columns else a
    for lines in _blocks(len(view), view.shape[1] * a.itemsize):
        block = cabs1(view[lines])
        if by_columns == (trans == "N"):  # lines of A are columns of op(A)
            blas.gemm(1.0, block, size[lines], 1.0, d, "T")
        else:
            blas.gemm(1.0, block, size, 1.0, d[lines])
    return d


def sums(a: Array, *, of_rows: bool) -> Array:
    """sum_j |a[i, j]|, or of columns sum_i, with |re| + |im| for complex; in double precision."""
    m, n = a.shape if of_rows else a.shape[::-1]
    d = cupy.zeros((m, 1), np.float64)
    if a.size:
        x, b = cupy.ones((n, 1), a.dtype), cupy.zeros((m, 1), a.dtype)
        _pass(a, x, b, cupy.empty_like(b), d, "N" if of_rows else "T", False)
    return d[:, 0]


def _columns(x: Array) -> Array:
    return x if is_f_like(x) else cupy.asfortranarray(x)


def _passes(
    a: Array, x: Array, b: Array, r: Array, d: Array, trans: str, extended: bool
) -> None:  # fmt: skip
    for first in range(0, b.shape[1], COLUMNS):
        columns = slice(first, first + COLUMNS)
        _pass(a, x[:, columns], b[:, columns], r[:, columns], d[:, columns], trans, extended)


def _pass(a: Array, x: Array, b: Array, r: Array, d: Array, trans: str, extended: bool) -> None:
    """r and d of up to `COLUMNS` columns."""
    lines = lines_of(a)
    rows, columns = b.shape
    # a sum of single-precision products in double precision is one in twice their precision
    is_extended = extended and lines.kind == "double"
    kind, flag = f"{lines.kind}, {lines.parts}", str(is_extended).lower()
    kernel = f"<{kind}, {1 if columns == 1 else COLUMNS}, {flag}>"
    xs, bs, rs, ds = (lines_of(v, along=False) for v in (x, b, r, d))
    matrix = (*lines.matrix, int(trans == "C"), columns, xs.reals, xs.stride)
    answers = bs.reals, bs.stride, rs.reals, rs.stride, ds.reals, ds.stride
    if lines.along == (trans == "N"):
        blocks = -(-lines.count // _ALONG)
        loader.launch("residual_along" + kernel, blocks, *matrix, *answers)
        return
    blocks = -(-rows // _ACROSS)
    wanted = -(-_WAVES * loader.multiprocessors() // blocks)
    parts = max(1, min(wanted, -(-lines.count // _FEWEST_LINES), _MOST_PARTS))
    entries = parts * columns * rows
    shares = cupy.empty(entries * lines.parts * (2 if is_extended else 1))
    sizes = cupy.empty(entries)
    loader.launch("residual_across" + kernel, (blocks, parts), *matrix, shares, sizes)
    loader.launch(
        f"residual_of_shares<{kind}, {flag}>", (-(-rows // _SHARES), columns), rows, parts,
        columns, shares, sizes, *answers,
    )  # fmt: skip


def _blocks(count: int, nbytes: int) -> Iterator[slice]:
    """Parts of range(count), of `nbytes` an element, as the buffer holds them."""
    most = max(_BUFFER // max(nbytes, 1), _ROWS)
    for start in range(0, count, most):
        yield slice(start, min(start + most, count))


def _hermitian_rows(
    a: Array, triangle: str, *, conjugate: bool = False
) -> Iterator[tuple[slice, Array]]:
    """Rows of the Hermitian matrix of which one triangle is stored, or of its conjugate.

    The blocks share one C-ordered buffer: each is done with before the next is asked for.
    """
    n = len(a)
    buffer = None
    for rows in _blocks(n, n * a.itemsize):
        start, stop = rows.start, rows.stop
        if buffer is None:
            buffer = cupy.empty((stop, n), a.dtype)
        block = buffer[: stop - start]
        square = a[rows, rows]
        if triangle == "L":
            block[:, :start] = a[rows, :start]
            block[:, stop:] = _conj(a[stop:, rows].T)
            strict = cupy.tril(square, -1)
        else:
            block[:, :start] = _conj(a[:start, rows].T)
            block[:, stop:] = a[rows, stop:]
            strict = cupy.triu(square, 1)
        block[:, rows] = strict + _conj(strict.T)
        diagonal = cupy.arange(stop - start)
        block[diagonal, start + diagonal] = square.diagonal().real
        if conjugate and a.dtype.kind == "c":
            cupy.conj(block, out=block)
        yield rows, block


def _extended_rows(a: Array, x: Array, r: Array) -> None:
    """r <- r - A x, summed in twice the working precision."""
    for rows in range(0, len(a), _EXTENDED_ROWS):
        part = slice(rows, rows + _EXTENDED_ROWS)
        block = cupy.ascontiguousarray(a[part])
        reals = lines_of(block, along=True).reals.astype(np.float64)
        for j in range(r.shape[1]):
            z = x[:, j]
            if a.dtype.kind == "c":
                # re: -re a re z + im a im z;  im: -re a im z - im a re z
                re, im = z.real.astype(np.float64), z.imag.astype(np.float64)
                weights = cupy.stack([cupy.stack([-re, im], 1), cupy.stack([-im, -re], 1)])
                r[part, j].real[...] = _double_sum(reals, weights[0].ravel(), r[part, j].real)
                r[part, j].imag[...] = _double_sum(reals, weights[1].ravel(), r[part, j].imag)
            else:
                r[part, j] = _double_sum(reals, -z.astype(np.float64), r[part, j])


def _double_sum(a: Array, w: Array, start: Array) -> Array:
    """start + A w with two doubles a sum, by error-free transformations.

    Ogita, Rump, Oishi, SIAM J. Sci. Comput. 26 (2005) 1955.
    """
    high = a * w
    a1, w1 = _upper_half(a), _upper_half(w)
    a2, w2 = a - a1, w - w1
    low = a2 * w2 - (((high - a1 * w1) - a2 * w1) - a1 * w2)
    high = cupy.concatenate([high, start.astype(np.float64)[:, None]], axis=1)
    low = cupy.concatenate([low, cupy.zeros((len(a), 1))], axis=1)
    while high.shape[1] > 1:
        half = high.shape[1] // 2
        one, two, rest = high[:, :half], high[:, half : 2 * half], slice(2 * half, None)
        total = one + two
        part = total - one
        error = (one - (total - part)) + (two - part)
        low = cupy.concatenate(
            [low[:, :half] + low[:, half : 2 * half] + error, low[:, rest]], axis=1
        )
        high = cupy.concatenate([total, high[:, rest]], axis=1)
    # what is not finite is so in `high`, and its errors are NaN
    return cupy.where(cupy.isfinite(high), high + low, high)[:, 0].astype(start.dtype)


def _upper_half(x: Array) -> Array:
    """The leading 26 bits of x, by Dekker."""
    t = x * 134217729.0
    return t - (t - x)


def _conj(a: Array) -> Array:
    return cupy.conj(a) if a.dtype.kind == "c" else a
