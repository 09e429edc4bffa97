"""What the verbs for stacks and for lists share on the CPU."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from ..precision import Format, real_dtype
from .protocol import Array

SINGLE_THREADED = 64**3
"""m n k up to which OpenBLAS multiplies on one thread; larger products it spreads over several."""
TERMS = ((2.0**-11, 1, 2), (2.0**-11, 2, 1), (1.0, 0, 0))
"""(Ah + 2^-11 Al)(Bh + 2^-11 Bl) of fp16x2 without Al Bl: factors, and which parts of `rounded`."""
_DROPPED_BITS = {"bf16": 16, "tf32": 13}
_FP16_TOP = 12
"""Scaled operands are below 2 to this power: a sum of products leaves fp32 room for 2^103 more."""


@functools.cache
def compiled(name: str) -> Any:
    """A module of compiled kernels; Numba is imported with the first of them."""
    return importlib.import_module(f"..kernels.cpu.{name}", __package__)


def pointer(a: Array) -> int:
    """Address of the first number."""
    return int(a.__array_interface__["data"][0])


@np.errstate(over="ignore")
def scalar(x: complex, dtype: np.dtype[Any]) -> Any:
    """A number as one of `dtype`; infinite, without a warning, where it exceeds its range."""
    return dtype.type(x)


def flop_rate(dtype: np.dtype[Any]) -> float:
    """Real flops per second of a thread, roughly: only the number of threads depends on it."""
    return 3e10 * 8 / real_dtype(dtype).itemsize


BYTE_RATE = 2e10
"""Bytes per second of a thread, roughly."""


def powers_of_two(sizes: Array, fmt: Format) -> Array:
    """Powers of two by which numbers up to `sizes` fill the range of a format; no sum overflows."""
    power = (_FP16_TOP if fmt.needs_scaling else 0) - np.frexp(sizes)[1].astype(np.int64)
    power[sizes == 0.0] = 0
    return power


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def rounded(numbers: Array, power: Array | None, fmt: Format, low: np.dtype[Any]) -> list[Array]:
    """Contiguous reals times 2 to a power, rounded to a format.

    `power` broadcasts against `numbers`, None is 0; `low` is the dtype of the arrays returned: one,
    or of fp16x2 the high part, the low part, and the high part once more with 0 for what is not
    finite. (A low part times infinity might cancel that of the high one.)
    """
    if power is None:
        scaled = numbers.astype(low)
    else:
        scaled = np.ldexp(numbers, power).astype(low, copy=False)
    if fmt.is_native:
        return [scaled]
    rounding = compiled("rounding")
    lines = scaled.reshape(-1, scaled.shape[-1]) if scaled.size else scaled.reshape(0, 1)
    if fmt.name == "fp16x2":
        high, rest = np.empty_like(lines), np.empty_like(lines)
        rounding.split_fp16x2(lines, high, rest, low.type(1))
        finite = np.isfinite(high)
        apart = high if finite.all() else np.where(finite, high, low.type(0))
        return [part.reshape(scaled.shape) for part in (high, rest, apart)]
    if fmt.name == "fp16":
        rounding.round_fp16(lines, lines, low.type(1))
    else:
        rounding.round_mantissa(lines, lines, low.type(1), _DROPPED_BITS[fmt.name])
    return [scaled]
