"""What compiled kernels need beyond Numba: BLAS by address, vectors of fixed width, bits of floats.

An address is an integer argument (`routines.address`), never a constant of the code, so that
compiled kernels can be cached on disk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core import types as numba_types
from numba.extending import intrinsic, register_jitable

types: Any = numba_types

NO = np.uint8(ord("N"))
TRANSPOSE = np.uint8(ord("T"))
ADJOINT = np.uint8(ord("C"))
LEFT = np.uint8(ord("L"))
LOWER = np.uint8(ord("L"))
UPPER = np.uint8(ord("U"))
UNIT = np.uint8(ord("U"))


@intrinsic
def call(typingctx, address, arguments):  # type: ignore[no-untyped-def]
    """Call the Fortran routine at `address` with a tuple of arguments.

    Arrays come as `at` gives them; everything else is passed by reference: integers as 32-bit
    integers, uint8 as characters, floating-point and complex numbers in their own type.
    """
    if not isinstance(address, types.Integer) or not isinstance(arguments, types.BaseTuple):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        pointers = []
        for k, kind in enumerate(signature.args[1].types):
            value = builder.extract_value(values[1], k)
            if isinstance(kind, types.BaseTuple):
                array, offset = (builder.extract_value(value, i) for i in (0, 1))
                data = context.make_array(kind[0])(context, builder, array).data
                value = builder.bitcast(builder.gep(data, [offset]), cgutils.voidptr_t)
            else:
                if isinstance(kind, types.Integer) and kind.bitwidth > 32:
                    value = builder.trunc(value, ir.IntType(32))
                slot = cgutils.alloca_once_value(builder, value)
                value = builder.bitcast(slot, cgutils.voidptr_t)
            pointers.append(value)
        shape = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t] * len(pointers))
        builder.call(builder.inttoptr(values[0], shape.as_pointer()), pointers)
        return context.get_dummy_value()

    return types.void(address, arguments), codegen


@register_jitable
def at(array, offset):  # type: ignore[no-untyped-def]
    """An argument of `call`: the address `offset` elements behind the first of an array.

    The array travels along: of a bare pointer Numba would not know that the array is still needed,
    and free it before the call.
    """
    return array, offset


def subtract_multiple(width: int) -> Any:
    """The operation ``y[i : i + width] -= s * x[j : j + width]`` on flat arrays, vectorised.

    Left to itself the compiler must assume that x and y overlap.
    """

    @intrinsic
    def operation(typingctx, y, i, x, j, s):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            y, i, x, j, s = values
            y_data = context.make_array(signature.args[0])(context, builder, y).data
            x_data = context.make_array(signature.args[2])(context, builder, x).data
            number = y_data.type.pointee
            size = context.get_abi_sizeof(number)
            vector = ir.VectorType(number, width)
            nothing = ir.Constant(vector, ir.Undefined)
            place = ir.Constant(ir.IntType(32), 0)
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
            target = builder.bitcast(builder.gep(y_data, [i]), vector.as_pointer())
            source = builder.bitcast(builder.gep(x_data, [j]), vector.as_pointer())
            factor = builder.insert_element(nothing, builder.fneg(s), place)
            factor = builder.shuffle_vector(factor, nothing, lanes)
            product = builder.fmul(factor, builder.load(source, align=size), flags=("contract",))
            total = builder.fadd(builder.load(target, align=size), product, flags=("contract",))
            builder.store(total, target, align=size)
            return context.get_dummy_value()

        return types.void(y, types.intp, x, types.intp, y.dtype), codegen

    return operation


@intrinsic
def bits_of(typingctx, value):  # type: ignore[no-untyped-def]
    """The 32 bits of a single-precision number, in a register."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


@intrinsic
def float_of(typingctx, bits):  # type: ignore[no-untyped-def]
    """The single-precision number with these bits."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@intrinsic
def add_words(typingctx, a, b):  # type: ignore[no-untyped-def]
    """a + b modulo 2^32. (Numba widens sums of 32-bit integers, and halves the lanes.)"""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.add(values[0], values[1])

    return types.uint32(types.uint32, types.uint32), codegen


@intrinsic
def larger(typingctx, a, b):  # type: ignore[no-untyped-def]
    """The larger of two numbers without sign; NaN is larger than infinity.

    As integers their bits have the same order, and a maximum of integers is vectorised.
    """
    if a not in (types.float32, types.float64) or a != b:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        word = ir.IntType(signature.return_type.bitwidth)
        first, second = (builder.bitcast(value, word) for value in values)
        top = builder.select(builder.icmp_unsigned(">", first, second), first, second)
        return builder.bitcast(top, values[0].type)

    return a(a, b), codegen
