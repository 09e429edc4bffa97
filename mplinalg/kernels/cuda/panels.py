"""Tall panels on the device: interchanges, LU with pivoting, inverted triangles, Householder QR.

LU goes by halves down to leaves of `LEAF` columns, which one kernel factors: the persistent one
while its rows fit the multiprocessors at one block each, else a tournament. In between there are
interchanges (permute.cu), triangular solves and products (cuBLAS). Kernels want rows of unit
stride: C-like panels are factored in place, F-like ones in a copy.
"""

from __future__ import annotations

import cupy
import numpy as np

from . import blas, fallbacks, lapack, loader
from .layout import Array, is_c_like, is_f_like, leading_dimension
from .lines import TYPES, grid, lines_of
from .loader import KernelUnavailable

LEAF = 32
"""Columns of a panel that one kernel factors, at most."""
INVERTED = 128
"""Order of the diagonal blocks that `solve_inverted` inverts."""

_NARROW = 16
"""Columns that the narrower instances of the kernels are for."""
_ROWS_PER_THREAD = 2
_PERSISTENT = {_NARROW: (128,), LEAF: (128, 384)}
"""Threads of a block, by columns; the fewer, the less they wait for each other."""
_TOURNAMENT_ROWS = 256
_QR_ROWS = 256
_BUFFER = 2**28
"""Bytes of the rows that are interchanged at a time."""


# -- interchanges ---------------------------------------------------------------------------------


def laswp(a: Array, piv: Array, *, first: int = 0, forward: bool = True) -> None:
    """Swap row i with row piv[i] - first, i = 0, 1, ... (backwards: in opposite order).

    Only the rows that come to stand elsewhere are read and written, once each. No pivot is seen
    by the host.
    """
    count, (m, n) = len(piv), a.shape
    if count > m:
        raise ValueError(f"laswp: {count} interchanges of {m} rows")
    if count == 0 or n == 0:
        return
    piv = cupy.ascontiguousarray(piv.astype(np.int32, copy=False))
    lines = lines_of(a)
    parts, size = lines.parts, lines.reals.itemsize
    most = min(2 * count, m)
    order = cupy.empty(m, np.int32)
    rows, sources, moved = (cupy.empty(k, np.int32) for k in (2 * count, 2 * count, 1))
    try:
        loader.launch(
            "permutation", 1, count, m, piv, first, int(not forward), order, rows, sources, moved
        )
        width = max(1, min(n, _BUFFER // (most * parts * size)))
        buffer = cupy.empty(most * width * parts, lines.reals.dtype)
        there = buffer, *((width * parts, parts) if lines.along else (parts, most * parts))
        steps = tuple(stride // size for stride in a.strides)
        for start in range(0, n, width):
            columns = min(width, n - start)
            here = lines_of(a[:, start : start + columns], lines.along).reals, *steps
            blocks = grid(most * columns * parts)
            loader.launch(
                f"gather_rows<{lines.kind}, {lines.kind}>", blocks, most, columns, parts, *here,
                moved, sources, *there, None, None,
            )  # fmt: skip
            loader.launch(
                f"scatter_rows<{lines.kind}>", blocks, most, columns, parts, *there, moved, rows,
                *here,
            )  # fmt: skip
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        source = _source_of_rows(piv - np.int32(first), m)
        if forward:
            a[...] = a[source]
        else:
            a[source] = a.copy()


def _source_of_rows(piv: Array, m: int) -> Array:
    """Where the rows come from after the interchanges, one by one."""
    source = cupy.arange(m)
    for i in range(len(piv)):
        here, there = slice(i, i + 1), piv[i : i + 1]
        displaced = source[there]
        source[there] = source[here]
        source[here] = displaced
    return source


# -- LU -------------------------------------------------------------------------------------------


def getrf_panel(a: Array) -> tuple[Array, Array]:
    """P A = L U of a float32 panel in place: pivots, 0-based, and info, both on the device."""
    m, n = a.shape
    count = min(m, n)
    piv, info = cupy.empty(count, np.int32), cupy.zeros(1, np.int32)
    if count == 0:
        return piv, info
    work = a if is_c_like(a) else cupy.ascontiguousarray(a)
    _recurse(work[:, :count], piv, info, 0)
    if n > count:
        laswp(work[:, count:], piv)
        blas.trsm("L", work[:, :count], work[:, count:], True, "N", True)
    if work is not a:
        a[...] = work
    return piv, info


def getrf_by_solver(a: Array) -> tuple[Array, Array]:
    """The same by cuSOLVER, which wants columns of unit stride; of any dtype."""
    work = a if is_f_like(a) else cupy.asfortranarray(a)
    piv, info = lapack.getrf(work)
    if work is not a:
        a[...] = work
    # what follows writes to the rows that it is told of: of a panel with NaN, too, only to its own
    return cupy.clip(piv, 0, max(len(a) - 1, 0)), info


def _recurse(a: Array, piv: Array, info: Array, first: int) -> None:
    """The part of a panel that begins in its row and column number `first`.

    Pivots are numbers of rows of the whole panel.
    """
    n = a.shape[1]
    if n <= LEAF:
        _leaf(a, piv, info, first)
        return
    # [A1 A2], A1 of whole leaves
    k = -(-n // (2 * LEAF)) * LEAF
    _recurse(a[:, :k], piv[:k], info, first)
    right = a[:, k:]
    laswp(right, piv[:k], first=first)
    # U12 = L11^-1 A12;   A22 <- A22 - L21 U12
    blas.trsm("L", a[:k, :k], right[:k], True, "N", True)
    blas.gemm(-1.0, a[k:, :k], right[:k], 1.0, right[k:])
    _recurse(a[k:, k:], piv[k:], info, first + k)
    laswp(a[k:, :k], piv[k:], first=first + k)


def _leaf(a: Array, piv: Array, info: Array, first: int) -> None:
    """One kernel, or a few; cuSOLVER for those that cannot be had."""
    m, n = a.shape
    width = _NARROW if n <= _NARROW else LEAF
    for threads in _PERSISTENT[width]:
        blocks = -(-m // (_ROWS_PER_THREAD * threads))
        if blocks > loader.multiprocessors():
            continue
        try:
            _persistent(a, piv, info, first, blocks, width, threads)
        except KernelUnavailable as reason:
            fallbacks.note(reason)
            break
        return
    try:
        _tournament(a, piv, info, first, width)
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        found, of_leaf = getrf_by_solver(a)
        piv[...] = found + np.int32(first)
        info[...] = cupy.where((info == 0) & (of_leaf != 0), of_leaf + np.int32(first), info)


def _persistent(
    a: Array, piv: Array, info: Array, first: int, blocks: int, width: int, threads: int
) -> None:
    slots = cupy.empty(2 * blocks * width, np.float32)
    keys = cupy.empty(8 * blocks, np.uint32)
    loader.launch(
        f"panel_lu<{width}, {threads}, float>", blocks, *a.shape, a, leading_dimension(a.T),
        slots, keys, piv, info, first, None, 0, 1.0, 0,
    )  # fmt: skip


def _tournament(a: Array, piv: Array, info: Array, first: int, width: int) -> None:
    """If `KernelUnavailable` is raised, nothing was changed."""
    for kernel in ("tournament", "panel_rows"):
        loader.load(f"{kernel}<{width}>")
    m, n = a.shape
    ld = leading_dimension(a.T)
    candidates, count = None, m
    while True:
        blocks = -(-count // _TOURNAMENT_ROWS)
        is_last = blocks == 1
        winners = cupy.empty(blocks * n, np.int32)
        loader.launch(
            f"tournament<{width}>", blocks, count, n, a, ld, candidates, winners,
            piv if is_last else None, info, first,
        )  # fmt: skip
        if is_last:
            break
        of_last = count - (blocks - 1) * _TOURNAMENT_ROWS
        candidates, count = winners, (blocks - 1) * n + min(n, of_last)
    blocks = -(-(m - n) // _TOURNAMENT_ROWS)
    loader.launch(f"panel_rows<{width}>", blocks, m, n, a, ld, None, 0, 1.0, 0)


# -- triangles ------------------------------------------------------------------------------------


def can_invert(a: Array, *, lower: bool, unit: bool) -> bool:
    """Whether `solve_inverted` takes a triangle: of rows, L of LU or any that has a diagonal."""
    return bool(a.dtype == np.float32) and (lower == is_c_like(a)) == unit


def solve_inverted(a: Array, b: Array, *, lower: bool, trans: str = "N") -> None:
    """B <- op(A)^-1 B by products with the inverses of the diagonal blocks of A.

    A is float32, and such that `can_invert`. 1/2 m^2 more flops a column than substitution, for
    blocks of order m = `INVERTED`, all in products.

    Raises
    ------
    KernelUnavailable
        B is unchanged.
    """
    n = len(a)
    by_columns = not is_c_like(a)
    view = a.T if by_columns else a
    blocks = -(-n // INVERTED)
    inverses = cupy.empty((blocks, INVERTED, INVERTED), np.float32)
    # in the view, L has a unit diagonal and U its own
    places = (inverses, None) if lower != by_columns else (None, inverses)
    unused = cupy.zeros(1, np.int32)
    loader.launch(
        f"triangle_inverse<{INVERTED}>", blocks, n, view, leading_dimension(view.T), *places,
        None, 0, unused,
    )  # fmt: skip
    substitute(a, inverses, b, lower=lower, trans=trans, turned=by_columns)


def substitute(
    a: Array, inverses: Array, b: Array, *, lower: bool, trans: str = "N", turned: bool = False
) -> None:
    """B <- op(A)^-1 B with the inverses of the diagonal blocks of A; of A^T if `turned`.

    A copy and two products a block, but one product for the first of them.
    """
    n = len(a)
    blocks = -(-n // INVERTED)
    is_transposed = trans != "N"
    flag = "T" if is_transposed != turned else "N"
    is_forward = lower != is_transposed
    copy = cupy.empty_like(b[:INVERTED])
    for block in range(blocks) if is_forward else range(blocks - 1, -1, -1):
        rows = slice(block * INVERTED, min((block + 1) * INVERTED, n))
        done = slice(0, rows.start) if is_forward else slice(rows.stop, n)
        # B[k] <- op(A)[k, k]^-1 (B[k] - op(A)[k, done] B[done])
        if is_transposed:
            blas.gemm(-1.0, a[done, rows], b[done], 1.0, b[rows], "T")
        else:
            blas.gemm(-1.0, a[rows, done], b[done], 1.0, b[rows])
        width = rows.stop - rows.start
        copy[:width] = b[rows]
        blas.gemm(1.0, inverses[block, :width, :width], copy[:width], 0.0, b[rows], flag)


# -- QR -------------------------------------------------------------------------------------------


def geqrf_panel(a: Array) -> tuple[Array, Array]:
    """A = Q R of an F-like panel, m >= n, reflectors below the diagonal. Returns tau and T.

    Real panels by kernels, `LEAF` columns at a time; complex ones by cuSOLVER.
    """
    m, n = a.shape
    if a.dtype.kind == "c" or m < n:
        return _by_solver(a)
    t = cupy.zeros((n, n), a.dtype, order="F")
    for start in range(0, n, LEAF):
        k = slice(start, min(start + LEAF, n))
        panel = a[start:, k]
        try:
            _tree(panel, t[k, k])
        except KernelUnavailable as reason:
            fallbacks.note(reason)
            t[k, k] = _by_solver(panel)[1]
        if n <= LEAF:
            break
        v, width = _reflectors(panel), k.stop - start
        if k.stop < n:
            # A[:, t] <- (I - V T^H V^H) A[:, t]
            trailing = a[start:, k.stop :]
            w = cupy.empty((2, width, n - k.stop), a.dtype)
            blas.gemm(1.0, v, trailing, 0.0, w[0], "T")
            blas.gemm(1.0, t[k, k], w[0], 0.0, w[1], "T")
            blas.gemm(-1.0, v, w[1], 1.0, trailing)
        if start:
            # T[before, k] = -T[before, before] (V_before^H V) T[k, k]
            w = cupy.empty((2, start, width), a.dtype)
            blas.gemm(1.0, a[start:, :start], v, 0.0, w[0], "T")
            blas.gemm(1.0, w[0], t[k, k], 0.0, w[1])
            blas.gemm(-1.0, t[:start, :start], w[1], 0.0, t[:start, k])
    return t.diagonal().copy(), t


def _by_solver(a: Array) -> tuple[Array, Array]:
    tau = lapack.geqrf(a)
    return tau, larft(a[:, : len(tau)], tau)


def larft(qr: Array, tau: Array) -> Array:
    """The T of Q = I - V T V^H, upper triangular:  T^-1 = diag(tau)^-1 + triu(V^H V, 1)."""
    v = _reflectors(qr)
    k = len(tau)
    g = cupy.empty((k, k), qr.dtype, order="F")
    blas.gemm(1.0, v, v, 0.0, g, "C")
    # (I + D S) T = D, so that a tau of zero divides nothing
    g *= tau[:, None]
    t = cupy.asfortranarray(cupy.diag(tau))
    blas.trsm("L", g, t, False, "N", True)
    return t


def _reflectors(qr: Array) -> Array:
    """V, with its ones and zeros."""
    v = cupy.asfortranarray(cupy.tril(qr, -1))
    diagonal = cupy.arange(qr.shape[1])
    v[diagonal, diagonal] = 1
    return v


def _tree(a: Array, t: Array) -> None:
    """Up to `LEAF` columns by panel_qr.cu; if `KernelUnavailable` is raised, A is unchanged."""
    m, n = a.shape
    width = _NARROW if n <= _NARROW else LEAF
    instance = f"<{TYPES[a.dtype.char]}, {width}>"
    levels = [-(-m // _QR_ROWS)]
    while levels[-1] > 1:
        levels.append(-(-levels[-1] * width // _QR_ROWS))
    leaves, merges = levels[0], sum(levels[1:])
    stacks = cupy.empty((merges + 1) * _QR_ROWS * width, a.dtype)
    triangles = cupy.empty((leaves + merges, width, width), a.dtype)
    place, tree = (m, n, a, leading_dimension(a)), (stacks, triangles)
    loader.launch("tsqr_leaf" + instance, leaves, *place, *tree)
    if leaves == 1:
        t[...] = triangles[0, :n, :n].T
        return
    for level, nodes in enumerate(levels[1:], 1):
        loader.launch("tsqr_merge" + instance, nodes, m, level, *tree)
    squares = cupy.empty(2 * width * width, a.dtype)
    loader.launch("reconstruct" + instance, 1, *place, *tree, t, leading_dimension(t), squares)
    loader.launch("tsqr_form" + instance, leaves, *place, *tree, squares)
