"""Convolution with stride 1 of many small images at once: registers hold one pixel of each.

    y[o, i, j] = sum_k w[k, o] x[(i, j) + offset[k]],    k = (u, c, v)

for groups of images, interleaved: (C, H, W, lanes). Rows may be of any length and nothing is
computed that belongs to no output, but for images that fill up the last group. A tile of y, a few
channels times a few neighbours in a row, is summed up in registers; rows of zeros around the image
are left out.

References
----------
Georganas et al., Proc. SC18 (2018), 66 (direct convolution in register tiles).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..jit import kernel
from ..lanes import Lanes, where, width_of
from .correlation import _data
from .groups import largest_of_windows, unpack

__all__ = ["convolution_kernel", "gradient_kernel"]

types: Any = numba_types


@intrinsic(prefer_literal=True)
def _tile(  # type: ignore[no-untyped-def]
    typingctx, rows, vectors, x, at, offsets, begin, end, w, w_at, b, b_at, is_relu, out, out_at,
    out_step,
):  # fmt: skip
    """out[o, j] <- sum_k w[k, o] x[j + offsets[k]] + b[o], and with `is_relu` max(that, 0).

    For `rows` channels, `vectors` neighbours, and begin <= k < end.
    """
    height, across = rows.literal_value, vectors.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        kinds = signature.args
        image = _data(context, builder, kinds[2], values[2], values[3])
        table = _data(context, builder, kinds[4], values[4], values[5])
        count = builder.sub(values[6], values[5])
        weights = _data(context, builder, kinds[7], values[7], values[8])
        biases = _data(context, builder, kinds[9], values[9], values[10])
        target = _data(context, builder, kinds[12], values[12], values[13])
        real = image.type.pointee
        size = context.get_abi_sizeof(real)
        width = width_of(real)
        vector = ir.VectorType(real, width)
        zero = ir.Constant(vector, [0.0] * width)
        nothing = ir.Constant(vector, ir.Undefined)
        place = ir.Constant(ir.IntType(32), 0)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        word = ir.IntType(64)

        def register(pointer: Any, start: Any) -> Any:
            return builder.bitcast(builder.gep(pointer, [start]), vector.as_pointer())

        def broadcast(pointer: Any, o: int) -> Lanes:
            number = builder.load(builder.gep(pointer, [ir.Constant(word, o)]))
            number = builder.insert_element(nothing, number, place)
            return Lanes(builder, builder.shuffle_vector(number, nothing, lanes))

        sums = [cgutils.alloca_once(builder, vector) for _ in range(height * across)]
        for slot in sums:
            builder.store(zero, slot)
        with cgutils.for_range(builder, count, intp=word) as loop:
            offset = builder.load(builder.gep(table, [loop.index]))
            shifted = builder.gep(image, [offset])
            tap = builder.gep(weights, [builder.mul(loop.index, ir.Constant(word, height))])
            starts = [register(shifted, ir.Constant(word, r * width)) for r in range(across)]
            found = [Lanes(builder, builder.load(start, align=size)) for start in starts]
            for o in range(height):
                factor = broadcast(tap, o)
                for slot, there in zip(sums[o * across : (o + 1) * across], found, strict=True):
                    total = Lanes(builder, builder.load(slot)) + factor * there
                    builder.store(total.value, slot)
        for o in range(height):
            bias = broadcast(biases, o)
            start = builder.mul(values[14], ir.Constant(word, o))
            for r in range(across):
                total = Lanes(builder, builder.load(sums[o * across + r])) + bias
                # NaN is not below 0, and stays
                kept = where(total < 0.0, total.constant(0.0), total).value
                kept = builder.select(values[11], kept, total.value)
                to = register(target, builder.add(start, ir.Constant(word, r * width)))
                builder.store(kept, to, align=size)
        return context.get_dummy_value()

    index = types.intp
    arguments = (
        rows, vectors, x, index, offsets, index, index, w, index, b, index, types.boolean, out,
        index, index,
    )  # fmt: skip
    return types.void(*arguments), codegen


@intrinsic(prefer_literal=True)
def _products(  # type: ignore[no-untyped-def]
    typingctx, rows, taps, x, x_at, x_across, shifts, g, g_at, g_across, lines, height, width, out
):
    """out[o, t] += lanes of sum_(i, j) g[lines[o] + (i, j)] x[shifts[t] + (i, j)]."""
    some, many = rows.literal_value, taps.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        kinds = signature.args

        def data(k: int) -> Any:
            return context.make_array(kinds[k])(context, builder, values[k]).data

        x_data = _data(context, builder, kinds[2], values[2], values[3])
        g_data = _data(context, builder, kinds[6], values[6], values[7])
        shift_data, line_data, target = data(5), data(9), data(12)
        real = x_data.type.pointee
        size, lanes = context.get_abi_sizeof(real), width_of(real)
        vector = ir.VectorType(real, lanes)
        word = ir.IntType(64)

        def entry(table: Any, k: int) -> Any:
            return builder.load(builder.gep(table, [ir.Constant(word, k)]))

        def vectors(starts: list[Any], position: Any) -> list[Lanes]:
            places = [builder.gep(start, [position]) for start in starts]
            places = [builder.bitcast(place, vector.as_pointer()) for place in places]
            return [Lanes(builder, builder.load(place, align=size)) for place in places]

        def place(k: int) -> Any:
            to = builder.gep(target, [ir.Constant(word, k * lanes)])
            return builder.bitcast(to, vector.as_pointer())

        x_starts = [builder.gep(x_data, [entry(shift_data, t)]) for t in range(many)]
        g_starts = [builder.gep(g_data, [entry(line_data, o)]) for o in range(some)]
        slots = [cgutils.alloca_once(builder, vector) for _ in range(some * many)]
        for k, slot in enumerate(slots):
            builder.store(builder.load(place(k), align=size), slot)
        with cgutils.for_range(builder, values[10], intp=word) as line:
            x_here = builder.mul(line.index, values[4])
            g_here = builder.mul(line.index, values[8])
            x_rows = [builder.gep(start, [x_here]) for start in x_starts]
            g_rows = [builder.gep(start, [g_here]) for start in g_starts]
            with cgutils.for_range(builder, values[11], intp=word) as step:
                position = builder.mul(step.index, ir.Constant(word, lanes))
                found, factors = vectors(x_rows, position), vectors(g_rows, position)
                for k, slot in enumerate(slots):
                    product = factors[k // many] * found[k % many]
                    builder.store((Lanes(builder, builder.load(slot)) + product).value, slot)
        for k, slot in enumerate(slots):
            builder.store(builder.load(slot), place(k), align=size)
        return context.get_dummy_value()

    index = types.intp
    arguments = (
        rows, taps, x, index, index, shifts, g, index, index, lines, index, index, out,
    )  # fmt: skip
    return types.void(*arguments), codegen


@functools.cache
def convolution_kernel(rows: int, vectors: int) -> Any:
    """Compile the product for tiles of `rows` channels and so many neighbours.

    The kernel takes

    x : (groups, C, H, Wp, lanes)
        As `pack` leaves it.
    top, kh : int
        Rows of zeros above, that are not there, and rows of kernels.
    offsets : (K,) int64
        From an output to the number for each tap, as if those rows were there; u varies slowest.
    w : (blocks, K, rows)
        Zeros where there are no more channels.
    b : (blocks * rows,)
    is_relu : bool
    y : (N, O, Ho, Wo)
        Or the largest entries of windows of that.
    size : (int, int)
        Ho and Wo, the latter `vectors` at least.
    window : (int, int)
        (0, 0) for y itself.
    which : (groups, O, rows, columns, lanes) uint8
        As of `largest_of_windows`.
    first, last : int
        Groups to do.
    """

    @kernel
    def run(x, top, kh, offsets, w, b, is_relu, y, size, window, which, first, last):  # type: ignore[no-untyped-def]
        _, channels, height, wide, lanes = x.shape
        blocks, taps, _ = w.shape
        filters = y.shape[1]
        down, across = size
        flat, weights = x.reshape(-1), w.reshape(-1)
        space = np.empty((blocks * rows, down, across, lanes), x.dtype)
        numbers = space.reshape(-1)
        pooled = np.empty((filters, *which.shape[2:4], lanes), x.dtype)
        each = taps // kh
        for group in range(first, last):
            start = group * channels * height * wide * lanes
            for i in range(down):
                begin = each * min(max(0, top - i), kh)
                end = max(begin, each * min(kh, top + height - i))
                for part in range(0, across, vectors):
                    j = min(part, across - vectors)
                    for block in range(blocks):
                        _tile(
                            rows, vectors, flat, start + ((i - top) * wide + j) * lanes, offsets,
                            begin, end, weights, (block * taps + begin) * rows, b, block * rows,
                            is_relu, numbers, ((block * rows * down + i) * across + j) * lanes,
                            down * across * lanes,
                        )  # fmt: skip
            if window[0] == 0:
                unpack(space, group, y)
            else:
                largest_of_windows(space, window, pooled, which[group])
                unpack(pooled, group, y)

    return run


@functools.cache
def gradient_kernel(rows: int, taps: int) -> Any:
    """Compile the gradient with respect to the weights for `rows` channels and `taps` places.

        dw[o, k] = sum_(n, i, j) dy[n, o, i, j] x[n, (i, j) + offset[k]]

    The kernel takes

    x : (groups, C, H, Wp, lanes)
        As `pack` leaves it.
    top : int
        Rows of zeros above, that are not there.
    offsets : (K,) int64
        As of `convolution_kernel`, in the order of the weights.
    kh, kw : int
        Size of a kernel.
    g : (groups, O, Ho, Wq, lanes)
        dy, packed.
    left, width : int
        Where it begins in a row, and Wo.
    dw : (O, K)
    first, last : int
        Blocks to do: parts of rows of kernels, those of a channel counted on, and of block after
        block of filters.
    """

    @kernel
    def run(x, top, offsets, kh, kw, g, left, width, dw, first, last):  # type: ignore[no-untyped-def]
        groups, channels, height, wide, lanes = x.shape
        filters = g.shape[1]
        down, across = g.shape[2:4]
        parts = -(-kw // taps)
        blocks = channels * kh * parts
        flat, numbers = x.reshape(-1), g.reshape(-1)
        sums = np.empty(rows * taps * lanes, x.dtype)
        shifts = np.empty(taps, np.int64)
        lines = np.empty(rows, np.int64)
        for item in range(first, last):
            o, k = item // blocks * rows, item % blocks // parts * kw
            u, v = k // kw % kh, item % parts * taps
            for t in range(taps):  # beyond the last tap that one once more
                shifts[t] = offsets[k + min(v + t, kw - 1)]
            for r in range(rows):
                lines[r] = min(o + r, filters - 1) * down * across * lanes
            begin = max(0, top - u)
            count = max(0, min(down, top + height - u) - begin)
            sums[:] = 0
            for group in range(groups):
                _products(
                    rows, taps, flat,
                    (group * channels * height + begin - top) * wide * lanes, wide * lanes, shifts,
                    numbers, ((group * filters * down + begin) * across + left) * lanes,
                    across * lanes, lines, count, width, sums,
                )  # fmt: skip
            for r in range(min(rows, filters - o)):
                for t in range(min(taps, kw - v)):
                    start = (r * taps + t) * lanes
                    dw[o + r, k + v + t] = sums[start : start + lanes].sum()

    return run
