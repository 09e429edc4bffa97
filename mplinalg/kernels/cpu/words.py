"""Words that threads share: read, written, added to and exchanged in one step each.

All of it in one order that every thread sees (`seq_cst`): what was written before a word is there
for whoever has read it.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from .calls import types
from .jit import kernel

__all__ = ["APART", "add_to", "exchanged", "give_way", "nanoseconds", "put", "seen", "system_calls"]

APART = 16
"""Words between two that different threads write: two lines of the cache."""
_ORDER = "seq_cst"
_WORD = ir.IntType(64)


def _pointer(context: Any, builder: Any, kind: Any, words: Any, place: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, words).data, [place])


@intrinsic
def seen(typingctx, words, place):  # type: ignore[no-untyped-def]
    """words[place]."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *values)
        return builder.load_atomic(pointer, _ORDER, 8)

    return types.int64(words, types.intp), codegen


@intrinsic
def put(typingctx, words, place, value):  # type: ignore[no-untyped-def]
    """words[place] = value."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *values[:2])
        builder.store_atomic(values[2], pointer, _ORDER, 8)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), codegen


@intrinsic
def add_to(typingctx, words, place, value):  # type: ignore[no-untyped-def]
    """words[place] += value; returns what was there before."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *values[:2])
        return builder.atomic_rmw("add", pointer, values[2], _ORDER)

    return types.int64(words, types.intp, types.int64), codegen


@intrinsic
def exchanged(typingctx, words, place, old, new):  # type: ignore[no-untyped-def]
    """Whether words[place] was `old`, and is `new` now."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *values[:2])
        return builder.extract_value(builder.cmpxchg(pointer, *values[2:], _ORDER, _ORDER), 1)

    return types.boolean(words, types.intp, types.int64, types.int64), codegen


def system_calls() -> np.ndarray:
    """What `nanoseconds` and `give_way` call: two addresses, and which clock."""
    library = ctypes.CDLL(None)
    calls = library.clock_gettime, library.sched_yield
    addresses = [ctypes.cast(call, ctypes.c_void_p).value for call in calls]
    return np.array([*addresses, time.CLOCK_MONOTONIC], np.int64)


@intrinsic
def _clock(typingctx, address, kind):  # type: ignore[no-untyped-def]
    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        number = ir.IntType(32)
        room = builder.alloca(_WORD, ir.Constant(number, 2))
        shape = ir.FunctionType(number, [number, _WORD.as_pointer()])
        function = builder.inttoptr(values[0], shape.as_pointer())
        builder.call(function, [builder.trunc(values[1], number), room])
        second = builder.load(builder.gep(room, [ir.Constant(number, 1)]))
        whole = builder.mul(builder.load(room), ir.Constant(_WORD, 10**9))
        return builder.add(whole, second)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def _called(typingctx, address):  # type: ignore[no-untyped-def]
    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        shape = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(values[0], shape.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@kernel
def nanoseconds(calls):  # type: ignore[no-untyped-def]
    """Of a clock that only goes forward."""
    return _clock(calls[0], calls[2])


@kernel
def give_way(calls):  # type: ignore[no-untyped-def]
    """Let another thread have the core, if one waits for it."""
    _called(calls[1])
