"""Products of many small matrices on the device, in working precision and in low ones.

    C <- alpha op(A) op(B) + beta C

of stacks (N, rows, columns) with any strides. Small members are multiplied by batched_gemm.cu, and
in fp16, bf16 and fp16x2 by batched_gemm_low.cu, which rounds operands as it reads them; arrays of
half precision, too. Others, tf32, and what kernels cannot be had for, go to cuBLAS. Nothing here
waits for the device.
"""

from __future__ import annotations

import cupy
import numpy as np

from ...precision import FP16, FP32, TF32, Format, working_format
from . import blas, fallbacks, loader
from .batched import place
from .catalogue_batched import LOW_TILES, TILES, products_at_once
from .layout import Array, is_c_like, is_f_like
from .lines import REALS, TYPES
from .loader import KernelUnavailable
from .low import _images as images

_LARGEST = {"f": 64, "d": 64, "F": 32, "D": 32}
"""Order of the largest members that `batched_gemm` is for."""
_FORMATS = {"fp16": "half", "bf16": "__nv_bfloat16", "fp16x2": "fp16x2"}
_HALF = "e"
_HELD = TYPES | {_HALF: "half"}
_WARPS = 4
_TOP = 12
"""Scaled fp16 operands are below 2 to this power."""
_TERMS = ((2.0**-11, 1, 0), (2.0**-11, 0, 1), (1.0, 0, 0))
"""Of fp16x2: factors, and which halves; the product of the two lower ones is left out."""


def multiply(
    alpha: complex, a: Array, b: Array, beta: complex, c: Array, transa: str, transb: str,
    fmt: Format | None,
) -> None:  # fmt: skip
    """C <- alpha op(A) op(B) + beta C, operands rounded to `fmt` if that is given."""
    (a, conj_a), (b, conj_b) = (_operand(x, t) for x, t in ((a, transa), (b, transb)))
    if c.dtype.char == _HALF:
        if fmt not in (None, FP16):
            raise ValueError(f"half precision is multiplied in fp16, not in {fmt.name}")
        _multiply_low(_parts(alpha)[0], a, b, _parts(beta)[0], c, FP16)
        return
    if fmt is None or fmt == working_format(c.dtype):
        _multiply(alpha, a, conj_a, b, conj_b, beta, c)
        return
    if c.dtype.kind != "c":
        _multiply_low(_parts(alpha)[0], a, b, _parts(beta)[0], c, fmt)
        return
    real = np.dtype(REALS[c.dtype.char])
    parts = cupy.empty((2, *c.shape), real)
    sign_a, sign_b = (-1.0 if flag else 1.0 for flag in (conj_a, conj_b))
    _multiply_low(1.0, a.real, b.real, 0.0, parts[0], fmt)
    _multiply_low(-sign_a * sign_b, a.imag, b.imag, 1.0, parts[0], fmt)
    _multiply_low(sign_b, a.real, b.imag, 0.0, parts[1], fmt)
    _multiply_low(sign_a, a.imag, b.real, 1.0, parts[1], fmt)
    product = cupy.empty(c.shape, c.dtype)
    product.real[...], product.imag[...] = parts
    product *= c.dtype.type(alpha)
    c[...] = product if beta == 0 else product + c.dtype.type(beta) * c


def _operand(a: Array, trans: str) -> tuple[Array, bool]:
    """op(A) without its conjugation, and whether it is to be conjugated."""
    if trans == "N":
        return a, False
    return a.swapaxes(1, 2), trans == "C" and a.dtype.kind == "c"


def _multiply(
    alpha: complex, a: Array, conj_a: bool, b: Array, conj_b: bool, beta: complex, c: Array
) -> None:
    """In working precision."""
    (count, m, n), k = c.shape, a.shape[2]
    if max(m, n, k) <= _LARGEST[c.dtype.char] and _is_placed(c):
        kind, parts = TYPES[REALS[c.dtype.char]], 2 if c.dtype.kind == "c" else 1
        tile = next(t for t in TILES[c.dtype.char] if t >= max(m, n))
        try:
            loader.launch(
                f"batched_gemm<{kind}, {parts}, {tile}>", -(-count // products_at_once(tile)),
                count, m, n, k, *_parts(alpha), *place(a), int(conj_a), *place(b), int(conj_b),
                *_parts(beta), *place(c),
            )  # fmt: skip
        except KernelUnavailable as reason:
            fallbacks.note(reason)
        else:
            return
    flags = ["C" if flag else "N" for flag in (conj_a, conj_b)]
    a, b = (x.swapaxes(1, 2) if flag == "C" else x for x, flag in zip((a, b), flags, strict=True))
    if len(c) and _is_placed(c) and (is_f_like(c[0]) or is_c_like(c[0])):
        blas.gemm_batched(alpha, a, b, beta, c, *flags)
        return
    dense = cupy.ascontiguousarray(c) if beta != 0 else cupy.empty(c.shape, c.dtype)
    blas.gemm_batched(alpha, a, b, beta, dense, *flags)
    c[...] = dense


def _is_placed(c: Array) -> bool:
    """Whether `place` makes no copy, so that a kernel can write to it."""
    size = c.itemsize
    return c.data.ptr % size == 0 and all(step % size == 0 for step in c.strides)


def _parts(x: complex) -> tuple[float, float]:
    return float(x.real), float(x.imag)


# -- low precision --------------------------------------------------------------------------------


def _multiply_low(alpha: float, a: Array, b: Array, beta: float, c: Array, fmt: Format) -> None:
    """Of real stacks, members of A and B scaled by powers of two, unless they are of 16 bits."""
    (count, m, n), k = c.shape, a.shape[2]
    held = _HELD[c.dtype.char]
    name = _FORMATS.get(fmt.name)
    if name is not None and _is_placed(c):
        tiles = LOW_TILES[held, name]
        tile = next((t for t in tiles if t >= max(m, n)), tiles[-1])
        parts = count * -(-m // tile) * -(-n // tile)
        try:
            loader.launch(
                f"batched_gemm_low<{held}, {name}, {tile}>",
                parts if tile == 64 else -(-parts // _WARPS),
                count, m, n, k, alpha, *place(a), *place(b), beta, *place(c),
            )  # fmt: skip
        except KernelUnavailable as reason:
            fallbacks.note(reason)
        else:
            return
    wide = np.dtype(np.float32) if c.dtype.char == _HALF else c.dtype
    (left, one), (right, two) = (_rounded(x.astype(wide, copy=False), fmt) for x in (a, b))
    product = cupy.empty(c.shape, np.float32)
    terms = _TERMS if len(left) > 1 else _TERMS[-1:]
    for number, (factor, i, j) in enumerate(terms):
        added = float(number > 0)
        blas.gemm_batched(factor, left[i], right[j], added, product, tf32=fmt == TF32)
    result = _times_power(product.astype(wide, copy=False), -(one + two))
    result *= wide.type(alpha)
    c[...] = result if beta == 0 else result + wide.type(beta) * c


def _rounded(a: Array, fmt: Format) -> tuple[list[Array], Array]:
    """Members times powers of two, as the words of a format; and these powers, (N, 1, 1) int32."""
    sizes = cupy.where(cupy.isfinite(a), abs(a), 0)
    top = sizes.max(axis=(1, 2), keepdims=True)
    exponents = cupy.frexp(top)[1].astype(np.int32)
    power = cupy.where(top > 0, (_TOP if fmt.needs_scaling else 0) - exponents, 0)
    scaled = _times_power(a, power).astype(np.float32)
    return [scaled] if fmt == FP32 else images(scaled, fmt), power


def _times_power(a: Array, power: Array) -> Array:
    """a 2^power, by two factors, neither of which overflows."""
    half = power // 2
    one, two = (cupy.ldexp(cupy.ones((), a.dtype), p) for p in (half, power - half))
    return a * one * two
