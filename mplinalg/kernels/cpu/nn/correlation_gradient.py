"""The gradient of `correlation` with respect to the weights: inner products of shifted images.

    dw[o, k] = sum_n sum_p dy[n, o, p] x[n, p + offset[k]]

where dy has the row length of the padded images, with zeros at the positions that are no outputs.
A few channels times a few taps are summed up in registers over all images, and their lanes at the
end: nothing depends on the number of threads. NaN and infinity of x spread to all taps of their
channel, as they are multiplied with those zeros.
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

__all__ = ["gradient_kernel"]

types: Any = numba_types


@intrinsic(prefer_literal=True)
def _sums(typingctx, rows, taps, x, x_step, shifts, g, g_step, lines, images, count, out):  # type: ignore[no-untyped-def]
    """out[o, t] <- lanes of sum_n sum_p g[n g_step + lines[o] + p] x[n x_step + shifts[t] + p]."""
    height, across = rows.literal_value, taps.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        def data(k: int) -> Any:
            return context.make_array(signature.args[k])(context, builder, values[k]).data

        x_data, shift_data, g_data, line_data, target = (data(k) for k in (2, 4, 5, 7, 10))
        real = x_data.type.pointee
        size, width = context.get_abi_sizeof(real), width_of(real)
        vector = ir.VectorType(real, width)
        zero = ir.Constant(vector, [0.0] * width)
        word = ir.IntType(64)

        def entry(table: Any, k: int) -> Any:
            return builder.load(builder.gep(table, [ir.Constant(word, k)]))

        def vectors(starts: list[Any], position: Any) -> list[Lanes]:
            places = [builder.gep(start, [position]) for start in starts]
            places = [builder.bitcast(place, vector.as_pointer()) for place in places]
            return [Lanes(builder, builder.load(place, align=size)) for place in places]

        x_starts = [builder.gep(x_data, [entry(shift_data, t)]) for t in range(across)]
        g_starts = [builder.gep(g_data, [entry(line_data, o)]) for o in range(height)]
        slots = [cgutils.alloca_once(builder, vector) for _ in range(height * across)]
        for slot in slots:
            builder.store(zero, slot)
        with cgutils.for_range(builder, values[8], intp=word) as image:
            x_here = builder.mul(image.index, values[3])
            g_here = builder.mul(image.index, values[6])
            x_rows = [builder.gep(start, [x_here]) for start in x_starts]
            g_rows = [builder.gep(start, [g_here]) for start in g_starts]
            with cgutils.for_range(builder, values[9], intp=word) as step:
                position = builder.mul(step.index, ir.Constant(word, width))
                found, factors = vectors(x_rows, position), vectors(g_rows, position)
                for k, slot in enumerate(slots):
                    product = factors[k // across] * found[k % across]
                    builder.store((Lanes(builder, builder.load(slot)) + product).value, slot)
        for k, slot in enumerate(slots):
            place = builder.gep(target, [ir.Constant(word, k * width)])
            builder.store(
                builder.load(slot), builder.bitcast(place, vector.as_pointer()), align=size
            )
        return context.get_dummy_value()

    index = types.intp
    return types.void(rows, taps, x, index, shifts, g, index, lines, index, index, out), codegen


@functools.cache
def gradient_kernel(rows: int, taps: int) -> Any:
    """Compile the products for blocks of `rows` channels and `taps` places in the kernel.

    The kernel takes

    x, x_step, offsets
        Padded images, flat, from one to the next, and (K,) where taps begin.
    g, g_step, g_plane
        dy in rows of the same length, flat; from an image to the next, and from a channel.
    images, count : int
        Images, and registers of positions of each.
    dw : (O, K)
    first, last : int
        Blocks to do, those of taps counted on within those of channels.
    """

    @kernel
    def run(x, x_step, offsets, g, g_step, g_plane, images, count, dw, first, last):  # type: ignore[no-untyped-def]
        channels, total = dw.shape
        blocks = -(-total // taps)
        width = 64 // dw.itemsize
        lanes = np.empty(rows * taps * width, dw.dtype)
        shifts = np.empty(taps, np.int64)
        lines = np.empty(rows, np.int64)
        for item in range(first, last):
            o, k = item // blocks * rows, item % blocks * taps
            # beyond the last channel and tap the last one once more
            for t in range(taps):
                shifts[t] = offsets[min(k + t, total - 1)]
            for r in range(rows):
                lines[r] = min(o + r, channels - 1) * g_plane
            _sums(rows, taps, x, x_step, shifts, g, g_step, lines, images, count, lanes)
            for r in range(min(rows, channels - o)):
                for t in range(min(taps, total - k)):
                    start = (r * taps + t) * width
                    dw[o + r, k + t] = lanes[start : start + width].sum()

    return run
