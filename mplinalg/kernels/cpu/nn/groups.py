"""Groups of images, interleaved: (groups, C, H, W, lanes), one register for a pixel of a group.

Where there are fewer images than lanes, the others are zeros. Pooling is done on groups: whatever
the size of images and windows, registers are full.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..jit import kernel
from ..lanes import width_of
from .correlation import _data

__all__ = ["largest_of_windows", "pack", "spread", "unpack"]

types: Any = numba_types


@intrinsic
def _width(typingctx, x):  # type: ignore[no-untyped-def]
    """Numbers in a register, known to the compiler."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return ir.Constant(
            ir.IntType(64), width_of(context.get_value_type(signature.args[0].dtype))
        )

    return types.intp(x), codegen


@kernel
def pack(x, left, out, first, last):  # type: ignore[no-untyped-def]
    """out[g, c, i, j, lane] <- x[g lanes + lane, c, i, j - left], 0 outside, for some groups."""
    count, channels, height, width = x.shape
    lanes = _width(x)
    for group in range(first, last):
        some = min(lanes, count - group * lanes)
        for c in range(channels):
            for i in range(height):
                line = out[group, c, i]
                if some < lanes:
                    line[:] = 0
                else:
                    line[:left] = 0
                    line[left + width :] = 0
                for lane in range(some):
                    source = x[group * lanes + lane, c, i]
                    for j in range(width):
                        line[left + j, lane] = source[j]


@kernel
def unpack(y, group, out):  # type: ignore[no-untyped-def]
    """out[g lanes + lane, c, i, j] <- y[c, i, j, lane]."""
    _, channels, height, width = out.shape
    lanes = _width(out)
    some = min(lanes, out.shape[0] - group * lanes)
    for c in range(channels):
        for i in range(height):
            line = y[c, i]
            for lane in range(some):
                target = out[group * lanes + lane, c, i]
                for j in range(width):
                    target[j] = line[j, lane]


def _register(builder: Any, kind: Any, pointer: Any, start: Any = None) -> Any:
    """A pointer to a vector."""
    if start is not None:
        pointer = builder.gep(pointer, [start])
    return builder.bitcast(pointer, kind.as_pointer())


def _windows(builder: Any, height: Any, width: Any, step: Any, lanes: int, body: Any) -> None:
    """``body(place, position)`` for the entries of a window, `step` numbers from row to row."""
    word = ir.IntType(64)
    with cgutils.for_range(builder, height, intp=word) as line:
        start = builder.mul(line.index, step)
        counted = builder.mul(line.index, width)
        with cgutils.for_range(builder, width, intp=word) as entry:
            position = builder.add(start, builder.mul(entry.index, ir.Constant(word, lanes)))
            place = builder.trunc(builder.add(counted, entry.index), ir.IntType(8))
            body(place, position)


def _splat(builder: Any, number: Any, lanes: int) -> Any:
    nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    same = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, nothing, same)


@intrinsic
def _largest(typingctx, y, y_at, height, width, step, out, out_at, which, which_at):  # type: ignore[no-untyped-def]
    """out <- the largest entry of a window of y; which <- its place, the first of equal ones.

    NaN is the largest. Where none is above 0, `which` is the size of the window.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        kinds = signature.args
        source = _data(context, builder, kinds[0], values[0], values[1])
        target = _data(context, builder, kinds[5], values[5], values[6])
        places = _data(context, builder, kinds[7], values[7], values[8])
        real = source.type.pointee
        size, lanes = context.get_abi_sizeof(real), width_of(real)
        vector, bytes_ = ir.VectorType(real, lanes), ir.VectorType(ir.IntType(8), lanes)
        best, place = (cgutils.alloca_once(builder, kind) for kind in (vector, bytes_))
        first = builder.load(_register(builder, vector, source), align=size)
        builder.store(first, best)
        builder.store(ir.Constant(bytes_, [0] * lanes), place)

        def look(k: Any, position: Any) -> None:
            here = builder.load(_register(builder, vector, source, position), align=size)
            old = builder.load(best)
            is_larger = builder.or_(
                builder.fcmp_ordered(">", here, old), builder.fcmp_unordered("uno", here, here)
            )
            builder.store(builder.select(is_larger, here, old), best)
            builder.store(
                builder.select(is_larger, _splat(builder, k, lanes), builder.load(place)), place
            )

        _windows(builder, values[2], values[3], values[4], lanes, look)
        found = builder.load(best)
        zero = ir.Constant(vector, [0.0] * lanes)
        none = builder.trunc(builder.mul(values[2], values[3]), ir.IntType(8))
        kept = builder.select(
            builder.fcmp_ordered(">", found, zero), builder.load(place),
            _splat(builder, none, lanes),
        )  # fmt: skip
        builder.store(found, _register(builder, vector, target), align=size)
        builder.store(kept, _register(builder, bytes_, places), align=1)
        return context.get_dummy_value()

    index = types.intp
    return types.void(y, index, index, index, index, out, index, which, index), codegen


@intrinsic
def _chosen(typingctx, g, g_at, which, which_at, height, width, step, out, out_at, sums, sums_at):  # type: ignore[no-untyped-def]
    """out <- g at the place in a window that `which` says, 0 elsewhere; sums += what was there."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        kinds = signature.args
        source = _data(context, builder, kinds[0], values[0], values[1])
        places = _data(context, builder, kinds[2], values[2], values[3])
        target = _data(context, builder, kinds[7], values[7], values[8])
        totals = _data(context, builder, kinds[9], values[9], values[10])
        real = source.type.pointee
        size, lanes = context.get_abi_sizeof(real), width_of(real)
        vector, bytes_ = ir.VectorType(real, lanes), ir.VectorType(ir.IntType(8), lanes)
        zero = ir.Constant(vector, [0.0] * lanes)
        value = builder.load(_register(builder, vector, source), align=size)
        place = builder.load(_register(builder, bytes_, places), align=1)

        def put(k: Any, position: Any) -> None:
            is_here = builder.icmp_unsigned("==", place, _splat(builder, k, lanes))
            to = _register(builder, vector, target, position)
            builder.store(builder.select(is_here, value, zero), to, align=size)

        _windows(builder, values[4], values[5], values[6], lanes, put)
        none = builder.trunc(builder.mul(values[4], values[5]), ir.IntType(8))
        is_any = builder.icmp_unsigned("!=", place, _splat(builder, none, lanes))
        to = _register(builder, vector, totals)
        total = builder.fadd(builder.load(to, align=size), builder.select(is_any, value, zero))
        builder.store(total, to, align=size)
        return context.get_dummy_value()

    index = types.intp
    arguments = g, index, which, index, index, index, index, out, index, sums, index
    return types.void(*arguments), codegen


@kernel
def largest_of_windows(y, window, out, which):  # type: ignore[no-untyped-def]
    """out <- the largest entry of each window of y, and which; as `_largest`."""
    _, height, width, lanes = y.shape
    channels, down, across, _ = out.shape
    kh, kw = window
    numbers, best, places = y.reshape(-1), out.reshape(-1), which.reshape(-1)
    for c in range(channels):
        for i in range(down):
            for j in range(across):
                at = ((c * height + i * kh) * width + j * kw) * lanes
                to = ((c * down + i) * across + j) * lanes
                _largest(numbers, at, kh, kw, width * lanes, best, to, places, to)


@kernel
def spread(grad, which, window, left, out, sums, first, last):  # type: ignore[no-untyped-def]
    """out <- dy, packed: the entries of `grad` where `which` says, else 0; sums[g, o]: their sums.

    `left` as of `pack`; the sums are those of each channel and lane.
    """
    count = grad.shape[0]
    _, channels, down, across, _ = which.shape
    _, _, height, wide, lanes = out.shape
    kh, kw = window
    line = np.zeros(across * lanes, grad.dtype)
    target, places, totals = out.reshape(-1), which.reshape(-1), sums.reshape(-1)
    for group in range(first, last):
        some = min(lanes, count - group * lanes)
        if some < lanes:
            line[:] = 0
        for c in range(channels):
            plane = group * channels + c
            sums[group, c] = 0
            if left > 0 or across * kw < wide:
                out[group, c] = 0
            else:
                out[group, c, down * kh :] = 0
            for i in range(down):
                for lane in range(some):
                    source = grad[group * lanes + lane, c, i]
                    for j in range(across):
                        line[j * lanes + lane] = source[j]
                for j in range(across):
                    _chosen(
                        line, j * lanes, places, ((plane * down + i) * across + j) * lanes,
                        kh, kw, wide * lanes,
                        target, ((plane * height + i * kh) * wide + left + j * kw) * lanes,
                        totals, plane * lanes,
                    )  # fmt: skip
