"""Mass and diffusion operators on groups of elements, one pass over memory.

For `width` elements at once, the values at their nodes are gathered, interpolated and
differentiated one dimension at a time (sum factorization), multiplied with the geometric factors
at the quadrature points, and sent back through the transposed operators. Gradients are taken at the
quadrature points, of the polynomial that interpolates there: D there is a square matrix, and B is
applied once for all components.

References
----------
Orszag, J. Comput. Phys. 37 (1980) 70. Kronbichler and Kormann, ACM Trans. Math. Softw. 45 (2019)
29. Fischer et al., Int. J. High Perform. Comput. Appl. 34 (2020) 562 (the bake-off problems).
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np

from ..jit import kernel
from .steps import (
    add_row,
    apply_lines,
    ask_ahead,
    ask_row,
    close_line,
    flux_row,
    load_row,
    open_line,
    store_row,
    weigh_line,
)

_AHEAD = 768
"""Registers of factors between what is read and what is asked for, at most those of a group:
farther ahead is slower again (docs/algorithms/fem.md)."""

# Parts of the kernels below, pasted into them, so that sizes stay literals.
_part = numba.njit(inline="always")


@_part
def _later(places, g):  # type: ignore[no-untyped-def]
    """The first register that is asked for; that of group g itself if all have one block."""
    return places[g] + max(0, min(_AHEAD, places[g + 1] - places[g]))


@_part
def _gather(  # type: ignore[no-untyped-def]
    dim, n, q, u, first, group, row, shift, interp, a, b, asks, factors, later
):
    """b <- u, interpolated in all dimensions but the last (in one dimension: in that).

    The rows of the next group are asked for, and for each row some factors.
    """
    points = q or n
    planes = n if dim == 3 else 1
    lines = n if dim > 1 else 1
    following = group + 64 // u.itemsize
    for k in range(planes):
        for j in range(lines):
            r = k * lines + j
            at = j if dim == 3 and q else r
            ask_ahead(asks, factors, later + r * asks)
            ask_row(0, u, first, following, row[r] + shift)
            load_row(n, q, u, first, group, row[r] + shift, interp, a, at * points)
        if dim == 3 and q:
            for i in range(q):
                apply_lines(n, q, 1, q, q, 0, a, i, interp, b, k * q * q + i)


@_part
def _scatter(  # type: ignore[no-untyped-def]
    dim, n, q, adds, b, a, interp_t, out, first, group, row, shift, joined, ends,
    asks, factors, later,
):  # fmt: skip
    """The transpose of `_gather`, stored or added."""
    points = q or n
    planes = n if dim == 3 else 1
    lines = n if dim > 1 else 1
    for k in range(planes):
        if dim == 3 and q:
            for i in range(q):
                apply_lines(q, n, 1, q, q, 0, b, k * q * q + i, interp_t, a, i)
        for j in range(lines):
            r = k * lines + j
            at = (j if dim == 3 and q else r) * points
            to = row[r] + shift
            ask_ahead(asks, factors, later + r * asks)
            if adds:
                add_row(n, q, a, at, interp_t, out, first, group, to, joined, ends, r)
            else:
                store_row(n, q, a, at, interp_t, out, first, group, to)
    if adds:
        _add_ends(n, out, first, group, row, shift, joined, ends)


@kernel
def _add_ends(n, out, first, group, row, shift, joined, ends):  # type: ignore[no-untyped-def]
    """Add the last nodes of rows that no other lane of the group adds."""
    width = 64 // out.itemsize
    for lane in range(width):
        if lane == width - 1 or not joined[group + lane + 1]:
            start = first[group + lane] + shift + n - 1
            for r in range(row.size):
                out[start + row[r]] += ends[r * width + lane]


@kernel
def _tile(count, like):  # type: ignore[no-untyped-def]
    """Registers for `count` points, from an address that is a multiple of 64."""
    width = 64 // like.itemsize
    space = np.empty((count + 1) * width, like.dtype)
    skipped = (-space.ctypes.data % 64) // like.itemsize
    return space[skipped : skipped + count * width]


@functools.cache
def mass_kernel(dim: int, n: int, q: int, adds: int) -> Any:
    """Compile the mass operator for n nodes and q points a dimension; q = 0: nodes are points.

    The kernel takes

    u, first, row, stride
        The values at the nodes, flat. Those of component c of the element in lane l of group g
        begin with ``u[first[g * width + l] + c * stride]``; ``row[r]`` further on is its row r
        along x, ``n ** (dim - 1)`` of them. `first` has a group more than there are.
    out, out_first, out_row, out_stride
        The same for the results.
    joined
        With `adds`, the results of elements that share a node are summed up in `out`;
        ``joined[g * width + l]``: the element is the next in x to that in lane l - 1. Without,
        each element has a place of its own, and `joined` is not read.
    components : int
    tables : tuple of arrays
        `lines.halves`, flat, of B, B', D and D'.
    factors, places
        The factors at the quadrature points in lanes; the first register of each group, and of
        one group more.
    edges
        The first group of each slab, and one more than the last.
    start, stop, step : int
        Slabs to do.
    """
    points = q or n
    across = points ** (dim - 1) if dim > 1 else points
    rows = n ** (dim - 1)
    # factors are asked for ahead, a few at a time, all along
    asks = -(-(points**dim) // (2 * rows + across))

    @kernel
    def run(  # type: ignore[no-untyped-def]
        u, first, row, stride, out, out_first, out_row, out_stride, joined, components,
        tables, factors, places, edges, start, stop, step,
    ):  # fmt: skip
        interp, interp_t = tables[0], tables[1]
        width = 64 // u.itemsize
        b = _tile(points**dim, u)
        a = _tile(points**2, u) if dim == 3 and q else b
        ends = _tile(rows, u)
        for s in range(start, stop, step):
            for g in range(edges[s], edges[s + 1]):
                group, place, later = g * width, places[g], _later(places, g)
                for c in range(components):
                    x, y = c * stride, c * out_stride
                    _gather(
                        dim, n, q, u, first, group, row, x, interp, a, b, asks, factors, later
                    )  # fmt: skip
                    for i in range(across):
                        ask_ahead(asks, factors, later + (rows + i) * asks)
                        if i < rows:
                            ask_row(1, out, out_first, group, out_row[i] + y)
                        if dim == 1:
                            weigh_line(1, 0, 1, 1, b, i, interp, interp_t, factors, place + i)
                        else:
                            weigh_line(
                                n, q, across, across, b, i, interp, interp_t, factors, place + i
                            )
                    _scatter(
                        dim, n, q, adds, b, a, interp_t, out, out_first, group, out_row, y,
                        joined, ends, asks, factors, later + (rows + across) * asks,
                    )  # fmt: skip

    return run


@functools.cache
def diffusion_kernel(dim: int, n: int, q: int, adds: int) -> Any:
    """Compile the diffusion operator; parameters, and those of the kernel, as of `mass_kernel`."""
    points = q or n
    across = points ** (dim - 1)
    rows = n ** (dim - 1)
    lines = points if dim > 1 else 1
    metrics = dim * (dim + 1) // 2
    opens = across if dim > 1 else 0
    # asked for ahead: most where they are read, at each point, the others along all other lines
    inside = metrics * 2 // 3
    spots = 2 * rows + 2 * opens + (2 * across if dim == 3 else 0)
    asks = -(-(metrics - inside) * points**dim // spots)

    @kernel
    def run(  # type: ignore[no-untyped-def]
        u, first, row, stride, out, out_first, out_row, out_stride, joined, components,
        tables, factors, places, edges, start, stop, step,
    ):  # fmt: skip
        interp, interp_t, slope, slope_t = tables
        width = 64 // u.itemsize
        v = _tile(points**dim, u)
        b = _tile(points**dim, u) if dim > 1 and q else v
        a = _tile(points**2, u) if dim == 3 and q else b
        last = _tile(points**dim, u)
        middle = _tile(points**2, u)
        ends = _tile(rows, u)
        for s in range(start, stop, step):
            for g in range(edges[s], edges[s + 1]):
                group, place, later = g * width, places[g], _later(places, g)
                for c in range(components):
                    x, y = c * stride, c * out_stride
                    _gather(
                        dim, n, q, u, first, group, row, x, interp, a, b, asks, factors, later
                    )  # fmt: skip
                    ahead = later + rows * asks
                    for i in range(opens):
                        ask_ahead(asks, factors, ahead + i * asks)
                        open_line(n, q, across, across, b, i, interp, slope, v, last, i)
                    ahead += opens * asks
                    for k in range(across // lines):
                        level = k * across
                        if dim == 3:
                            for i in range(points):
                                ask_ahead(asks, factors, ahead)
                                ahead += asks
                                apply_lines(
                                    points, points, -1, points, points, 0, v, level + i, slope,
                                    middle, i,
                                )  # fmt: skip
                        for j in range(lines):
                            r = k * lines + j
                            if r < rows:
                                ask_row(1, out, out_first, group, out_row[r] + y)
                            flux_row(
                                dim, points, inside, v, r * points, middle, j * points, last,
                                slope, slope_t, factors, place + r * points * metrics, ahead,
                            )  # fmt: skip
                            ahead += inside * points
                        if dim == 3:
                            for i in range(points):
                                ask_ahead(asks, factors, ahead)
                                ahead += asks
                                apply_lines(
                                    points, points, -1, points, points, 1, middle, i, slope_t,
                                    v, level + i,
                                )  # fmt: skip
                    for i in range(opens):
                        ask_ahead(asks, factors, ahead + i * asks)
                        close_line(n, q, across, across, last, i, v, slope_t, interp_t, b, i)
                    _scatter(
                        dim, n, q, adds, b, a, interp_t, out, out_first, group, out_row, y,
                        joined, ends, asks, factors, ahead + opens * asks,
                    )  # fmt: skip

    return run
