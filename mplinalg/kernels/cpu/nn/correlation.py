"""Convolution with stride 1 as a matrix product whose right-hand side is never written down.

    y[o, p] = sum_k w[o, k] x[p + offset[k]],    k = (c, u, v),  offset[k] = (c Hp + u) Wp + v

where x is a padded image (C, Hp, Wp) and p = i Wp + j runs over its positions row after row: the
operand of a tap k is the image itself, shifted. A tile of y, a few channels times a few registers
of positions, is summed up in registers. Positions with j >= Wo belong to no output; they are
computed and dropped, (Wp - Wo) / Wp of the work.

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
from ..lanes import Lanes, width_of

__all__ = ["correlation_kernel", "pack_weights", "pad"]

types: Any = numba_types


def _data(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [offset])


@intrinsic(prefer_literal=True)
def _tile(  # type: ignore[no-untyped-def]
    typingctx, rows, vectors, x, at, offsets, begin, end, w, w_at, out, out_at, out_step
):
    """out[o, p] += sum_k w[k, o] x[p + offsets[k]]: `rows` channels, `vectors` registers wide.

    For begin <= k < end; from begin = 0 on, `out` is not read.
    """
    height, across = rows.literal_value, vectors.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        kinds = signature.args
        image = _data(context, builder, kinds[2], values[2], values[3])
        table = _data(context, builder, kinds[4], values[4], values[5])
        count = builder.sub(values[6], values[5])
        weights = _data(context, builder, kinds[7], values[7], values[8])
        target = _data(context, builder, kinds[9], values[9], values[10])
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

        sums, places = [], []
        for o in range(height):
            start = builder.mul(values[11], ir.Constant(word, o))
            for r in range(across):
                sums.append(cgutils.alloca_once(builder, vector))
                to = builder.add(start, ir.Constant(word, r * width))
                places.append(register(target, to))
        is_first = builder.icmp_signed("==", values[5], ir.Constant(word, 0))
        with builder.if_else(is_first) as (fresh, added):
            with fresh:
                for slot in sums:
                    builder.store(zero, slot)
            with added:
                for slot, there in zip(sums, places, strict=True):
                    builder.store(builder.load(there, align=size), slot)
        with cgutils.for_range(builder, count, intp=word) as loop:
            offset = builder.load(builder.gep(table, [loop.index]))
            shifted = builder.gep(image, [offset])
            tap = builder.gep(weights, [builder.mul(loop.index, ir.Constant(word, height))])
            starts = [register(shifted, ir.Constant(word, r * width)) for r in range(across)]
            found = [Lanes(builder, builder.load(start, align=size)) for start in starts]
            for o in range(height):
                number = builder.load(builder.gep(tap, [ir.Constant(word, o)]))
                number = builder.insert_element(nothing, number, place)
                factor = Lanes(builder, builder.shuffle_vector(number, nothing, lanes))
                for slot, there in zip(sums[o * across : (o + 1) * across], found, strict=True):
                    total = Lanes(builder, builder.load(slot)) + factor * there
                    builder.store(total.value, slot)
        for slot, there in zip(sums, places, strict=True):
            builder.store(builder.load(slot), there, align=size)
        return context.get_dummy_value()

    index = types.intp
    arguments = (rows, vectors, x, index, offsets, index, index, w, index, out, index, index)
    return types.void(*arguments), codegen


@functools.cache
def correlation_kernel(rows: int, vectors: int) -> Any:
    """Compile the product for tiles of `rows` channels and so many registers of positions.

    The kernel takes

    x : (n * C * Hp * Wp + slack,)
        Padded images, and as many numbers more as a tile has positions.
    plane : int
        C Hp Wp, from one image to the next.
    across : int
        Wp.
    offsets : (K,) int64
    w : (blocks, K, rows)
        As `pack_weights` leaves it.
    y : (n, O, Ho, Wo)
    strip, step : int
        Rows of output that are computed at a time, by one thread, and taps.
    first, last : int
        Strips to do, those of all images counted on.
    """

    @kernel
    def run(x, plane, across, offsets, w, y, strip, step, first, last):  # type: ignore[no-untyped-def]
        _, channels, height, width = y.shape
        positions = vectors * (64 // y.itemsize)
        strips = -(-height // strip)
        blocks, taps, _ = w.shape
        long = strip * across + positions
        wide = np.empty(blocks * rows * long, y.dtype)
        flat = w.reshape(-1)
        for item in range(first, last):
            image, begin = item // strips, item % strips * strip
            count = min(strip, height - begin)
            start = image * plane + begin * across
            length = (count - 1) * across + width
            for tap in range(0, taps, step):
                end = min(tap + step, taps)
                for p in range(0, length, positions):
                    for block in range(blocks):
                        _tile(
                            rows, vectors, x, start + p, offsets, tap, end,
                            flat, (block * taps + tap) * rows, wide, block * rows * long + p, long,
                        )  # fmt: skip
            for o in range(channels):
                for i in range(count):
                    source = o * long + i * across
                    for j in range(width):
                        y[image, o, begin + i, j] = wide[source + j]

    return run


@kernel
def pad(x, top, left, across, rows, out, first, last):  # type: ignore[no-untyped-def]
    """out <- x with zeros around, for planes first, ..., last - 1 of (planes, H, W).

    `out` is flat: `rows` lines of `across` numbers a plane.
    """
    _, height, width = x.shape
    for plane in range(first, last):
        start = plane * rows * across
        for k in range(start, start + top * across + left):
            out[k] = 0
        for i in range(height):
            line = start + (top + i) * across + left
            for j in range(width):
                out[line + j] = x[plane, i, j]
            until = line + across if i + 1 < height else start + rows * across
            for k in range(line + width, until):
                out[k] = 0


@kernel
def pack_weights(w, out):  # type: ignore[no-untyped-def]
    """out[b, k, r] <- w[b * rows + r, k], zeros where w has no more channels."""
    channels, taps = w.shape
    blocks, _, rows = out.shape
    for b in range(blocks):
        for r in range(rows):
            o = b * rows + r
            for k in range(taps):
                out[b, k, r] = w[o, k] if o < channels else 0
