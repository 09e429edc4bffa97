"""Products whose operands are rounded to a format below fp32, summed in fp32, on the device.

    C <- alpha op(A) op(B) + beta C

Operands are converted by narrow.cu, those of the fp16 kinds scaled by a power of two, which stays
on the device: nothing here waits for it. Real fp16, bf16 and tf32 products, and complex tf32 ones,
are cuBLAS's; complex fp16 and bf16 are gemm_complex.cu's, and fp16x2 is gemm_split.cu's, whose
operands come as planes (parts, or halves) of rows. Where one of these kernels cannot be had, its
product is made of several by cuBLAS; where narrow.cu cannot, conversions are CuPy's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cupy
import numpy as np

from ...precision import BF16, FP16, Format
from . import blas, fallbacks, loader
from .layout import Array, is_c_like
from .lines import Lines, lines_of, lost_counters
from .loader import KernelUnavailable

TOP = 0.1 * FP16.max
"""What the largest entry of a scaled fp16 operand comes to be at most."""

_TYPES = {"fp16": "half", "bf16": "__nv_bfloat16", "tf32": "float", "fp16x2": "fp16x2"}
_DTYPES: dict[str, np.dtype[Any]] = {
    "fp16": np.dtype(np.float16), "bf16": np.dtype(np.uint16), "tf32": np.dtype(np.float32),
    "fp16x2": np.dtype(np.float16),
}  # fmt: skip
_BELOW = 2.0**-11
"""Of the lower half of fp16x2."""
_ALIGNED = 16
"""Bytes; rows of operands begin at multiples of it."""
_PLANES = 2**26
"""Bytes of the real and imaginary planes that a complex product is summed in."""
_TRIANGLE = 256
"""Fewest columns of a block of a triangle, and a divisor of the others."""
_TRIANGLE_BLOCKS = 16


@dataclass(frozen=True)
class Operand:
    """A matrix in a low format, scaled."""

    planes: Array
    """The narrow numbers: one matrix, or (planes, rows, columns) with rows of unit stride."""
    scale: Array | None
    """The power of two; None for 1."""


def multiply(
    alpha: float, a: Array, b: Array, beta: float, c: Array, transa: str, transb: str,
    fmt: Format, counters: Any = None,
) -> None:  # fmt: skip
    """C <- alpha op(A) op(B) + beta C, operands rounded to `fmt`; in either layout."""
    require_single(a, b, c)
    k = a.shape[1] if transa == "N" else a.shape[0]
    if c.size == 0 or k == 0:
        blas.gemm(alpha, a, b, beta, c, transa, transb)
        return
    _require_product(a, b, c, transa, transb)
    if _is_blas_alone(fmt, c):
        left, right = (_narrow(x, fmt, counters) for x in (a, b))
        factor = _factor(alpha, left, right)
        _gemm_low(factor, left.planes, right.planes, beta, c, transa, transb, fmt)
        return
    is_flipped = not is_c_like(c)
    if is_flipped:  # C^T <- op(B)^T op(A)^T
        a, b, c, transa, transb = b, a, c.T, transb, transa
    left, right = (
        _planes(x, fmt, (flag != "N") != is_flipped, flag == "C", counters)
        for x, flag in ((a, transa), (b, transb))
    )
    _scale(c, beta)
    _add(_factor(alpha, left, right), left.planes, right.planes, c, fmt)


def rank_update(
    alpha: float, a: Array, beta: float, c: Array, lower: bool, trans: str, fmt: Format,
    counters: Any = None,
) -> None:  # fmt: skip
    """C <- alpha A A^H + beta C (trans "N") or alpha A^H A + beta C ("C"), one triangle of C.

    Block columns of that triangle alone: half of the flops, but for the diagonal blocks.
    """
    require_single(a, c)
    n, k = a.shape if trans == "N" else a.shape[::-1]
    if c.shape != (n, n):
        raise ValueError(f"syrk: shapes {a.shape} {trans} -> {c.shape}")
    if n == 0 or k == 0:
        blas.syrk(alpha, a, beta, c, lower, trans)
        return
    width = max(_TRIANGLE, -(-n // (_TRIANGLE_BLOCKS * _TRIANGLE)) * _TRIANGLE)
    if _is_blas_alone(fmt, c):
        x = _narrow(a, fmt, counters)
        factor = _factor(alpha, x, x)
        for rows, cols in _triangle(n, width, lower):
            if trans == "N":
                one, other, flags = x.planes[rows], x.planes[cols], ("N", "C")
            else:
                one, other, flags = x.planes[:, rows], x.planes[:, cols], ("C", "N")
            _gemm_low(factor, one, other, beta, c[rows, cols], *flags, fmt)
    else:
        turned, conjugated = trans != "N", trans != "N"
        if not is_c_like(c):  # C^T = conj(X) X^T for C = X X^H
            c, lower, conjugated = c.T, not lower, not conjugated
        left = _planes(a, fmt, turned, conjugated, counters)
        right = _planes(a, fmt, not turned, not conjugated, None)
        factor = _factor(alpha, left, right)
        for rows, cols in _triangle(n, width, lower):
            block = c[rows, cols]
            _scale(block, beta)
            _add(factor, left.planes[:, rows], right.planes[:, :, cols], block, fmt)
    if c.dtype.kind == "c":
        c.diagonal().imag[...] = 0


def round_to(a: Array, fmt: Format, counters: Any = None) -> None:
    """a <- a rounded to `fmt`, in place."""
    require_single(a)
    if a.size == 0:
        return
    lines = lines_of(a)
    lost = lost_counters()
    try:
        loader.launch(f"round_format<{_TYPES[fmt.name]}>", lines.blocks, *lines.numbers, lost)
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        images = _images(lines.reals, fmt)
        _count_lost(lines.reals, images[0], fmt, lost)
        high = _as_single(images[0], fmt)
        if fmt.name == "fp16x2":
            high += images[1].astype(np.float32) * np.float32(_BELOW)
        lines.reals[...] = high
    if counters is not None:
        counters.add_pair(lost)


def require_single(*arrays: Array) -> None:
    """Refuse operands that are not held in fp32."""
    for a in arrays:
        if a.dtype.char not in "fF":
            real = {"D": "float64"}.get(a.dtype.char, str(a.dtype))
            raise TypeError(f"formats below fp32 are held in single precision; got {real}")


# -- products -------------------------------------------------------------------------------------


def _is_blas_alone(fmt: Format, c: Array) -> bool:
    """Whether cuBLAS multiplies such numbers."""
    return fmt.name == "tf32" or (fmt.name != "fp16x2" and c.dtype.kind != "c")


def _gemm_low(
    factor: Any, a: Array, b: Array, beta: float, c: Array, transa: str, transb: str, fmt: Format
) -> None:
    blas.gemm_low(factor, a, b, beta, c, transa, transb, tf32=fmt.name == "tf32")


def _add(factor: Any, a: Array, b: Array, c: Array, fmt: Format) -> None:
    """C <- C + factor A B; A and B are planes of rows, C has unit stride along its rows."""
    if c.dtype.kind != "c":
        _add_real(factor, a, b, c, fmt)
    elif fmt.name == "fp16x2":
        _add_by_planes(factor, a, b, c, fmt)
    else:
        try:
            _launch_product("complex", f"{_TYPES[fmt.name]}, ", 64, factor, a, b, c)
        except KernelUnavailable as reason:
            fallbacks.note(reason)
            _add_by_planes(factor, a, b, c, fmt)


def _add_real(factor: Any, a: Array, b: Array, c: Array, fmt: Format) -> None:
    if fmt.name != "fp16x2":
        blas.gemm_low(factor, a[0], b[0], 1.0, c)
        return
    try:
        _launch_product("split", "", None, factor, a, b, c)
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        below = factor * np.float32(_BELOW)
        blas.gemm_low(below, a[1], b[0], 1.0, c)
        blas.gemm_low(below, a[0], b[1], 1.0, c)
        blas.gemm_low(factor, a[0], b[0], 1.0, c)


def _add_by_planes(factor: Any, a: Array, b: Array, c: Array, fmt: Format) -> None:
    """A complex product by four real ones, a block of rows at a time."""
    m, n = c.shape
    planes = len(a) // 2
    re_b, im_b = b[:planes], b[planes:]
    rows = max(1, min(m, _PLANES // (2 * n * 4)))
    for start in range(0, m, rows):
        block = slice(start, min(start + rows, m))
        re_a, im_a = a[:planes, block], a[planes:, block]
        re, im = cupy.zeros((2, block.stop - start, n), np.float32)
        _add_real(factor, re_a, re_b, re, fmt)
        _add_real(-factor, im_a, im_b, re, fmt)
        _add_real(factor, re_a, im_b, im, fmt)
        _add_real(factor, im_a, re_b, im, fmt)
        for part, total in ((c[block].real, re), (c[block].imag, im)):
            part += total


def _launch_product(
    kind: str, type_name: str, width: int | None, factor: Any, a: Array, b: Array, c: Array
) -> None:
    """C <- C + factor A B by the kernel of two planes, in tiles of 128 rows, or of 64."""
    (m, n), k = c.shape, a.shape[2]
    blocks = 0
    for tile in (128, 64):
        across = width or tile
        blocks = -(-m // tile) * -(-n // across)
        if blocks >= loader.multiprocessors():
            break
    alpha = factor if isinstance(factor, cupy.ndarray) else cupy.full(1, factor, np.float32)
    lines = lines_of(c, along=True)
    loader.launch(
        f"gemm_{kind}<{type_name}{tile}, {across}, 32>", blocks, m, n, k, alpha, a[0], a[1],
        _stride(a), b[0], b[1], _stride(b), lines.reals, lines.stride // lines.parts,
    )  # fmt: skip


def _stride(planes: Array) -> int:
    return int(planes.strides[1] // planes.itemsize)


def _scale(c: Array, beta: float) -> None:
    if beta == 0:
        c[...] = 0  # whatever was in it
    elif beta != 1:
        c *= beta


def _factor(alpha: float, left: Operand, right: Operand) -> Any:
    """alpha over both scales: a number where there are none, else one on the device."""
    if left.scale is None or right.scale is None:
        return alpha
    result = cupy.empty(1, np.float32)
    try:
        loader.launch("quotient", 1, alpha, left.scale, right.scale, result)
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        both = left.scale.astype(np.float64) * right.scale
        result[...] = alpha / both
    return result


def _triangle(n: int, width: int, lower: bool) -> list[tuple[slice, slice]]:
    """Rows and columns of blocks that cover one triangle."""
    found = []
    for start in range(0, n, width):
        cols = slice(start, min(start + width, n))
        found.append((slice(start, n) if lower else slice(0, cols.stop), cols))
    return found


def _require_product(a: Array, b: Array, c: Array, transa: str, transb: str) -> None:
    op_a = a.shape if transa == "N" else a.shape[::-1]
    op_b = b.shape if transb == "N" else b.shape[::-1]
    if op_a[1] != op_b[0] or c.shape != (op_a[0], op_b[1]):
        raise ValueError(f"gemm: shapes {a.shape} {transa}, {b.shape} {transb} -> {c.shape}")


# -- conversion -----------------------------------------------------------------------------------


def _narrow(a: Array, fmt: Format, counters: Any) -> Operand:
    """`a` in `fmt`, in its own layout; complex numbers of tf32 stay pairs."""
    lines = lines_of(a)
    numbers = replace(lines, length=lines.parts * lines.length, parts=1)
    target = _rows((numbers.count, numbers.length), fmt)
    scale = _convert(numbers, fmt, target[None], False, False, counters)
    if lines.parts == 2:
        target = target.view(np.complex64)
    return Operand(target if lines.along else target.T, scale)


def _planes(a: Array, fmt: Format, turned: bool, conjugated: bool, counters: Any) -> Operand:
    """`a`, its transpose if `turned`, in planes with rows of unit stride."""
    lines = lines_of(a)
    shape = a.shape[::-1] if turned else a.shape
    planes = lines.parts * (2 if fmt.name == "fp16x2" else 1)
    target = _rows((planes, *shape), fmt)
    is_turned = lines.along == turned
    return Operand(target, _convert(lines, fmt, target, is_turned, conjugated, counters))


def _rows(shape: tuple[int, ...], fmt: Format) -> Array:
    """Memory for a matrix, or planes, with rows that begin at aligned places."""
    dtype = _DTYPES[fmt.name]
    unit = _ALIGNED // dtype.itemsize
    length = -(-shape[-1] // unit) * unit
    return cupy.empty((*shape[:-1], length), dtype)[..., : shape[-1]]


def _convert(
    lines: Lines, fmt: Format, target: Array, turned: bool, conjugated: bool, counters: Any
) -> Array | None:
    """Fill the planes of `target`; returns the scale."""
    lost = None if counters is None else lost_counters()
    scale = cupy.empty(1, np.float32) if fmt.needs_scaling else None
    try:
        bits = None
        if scale is not None:
            bits = cupy.zeros(1, np.uint32)
            loader.launch("amax<float, 1>", lines.blocks, *lines.numbers, bits)
        instance = f"narrow<{_TYPES[fmt.name]}, {lines.parts}, {str(turned).lower()}>"
        loader.launch(
            instance, lines.blocks, *lines.matrix, int(conjugated), bits, TOP, target,
            target.strides[1] // target.itemsize, target.strides[0] // target.itemsize, scale,
            lost,
        )  # fmt: skip
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        _convert_by_cupy(lines, fmt, target, turned, conjugated, scale, lost)
    if counters is not None:
        counters.add_pair(lost)
    return scale


def _convert_by_cupy(
    lines: Lines, fmt: Format, target: Array, turned: bool, conjugated: bool, scale: Array | None,
    lost: Array | None,
) -> None:  # fmt: skip
    source = lines.reals
    x = source
    if scale is not None:
        scale[...] = _power_of_two(abs(source).max())
        x = source * scale
    images = _images(x, fmt)
    if lost is not None:
        _count_lost(source, images[0], fmt, lost)
    place = 0
    for part in range(lines.parts):
        for image in images:
            plane = image[:, part :: lines.parts]
            if conjugated and part == 1:
                plane = plane ^ np.uint16(0x8000) if fmt.name == "bf16" else -plane
            target[place] = plane.T if turned else plane
            place += 1


def _power_of_two(largest: Array) -> Array:
    """What brings `largest` to at most `TOP`; 1 where that is 0 or not finite."""
    exponent = cupy.frexp(TOP / largest.astype(np.float64))[1] - 1
    scale = cupy.ldexp(cupy.ones((), np.float64), cupy.clip(exponent, -126, 126))
    return cupy.where(cupy.isfinite(largest) & (largest > 0), scale, 1.0)


def _images(x: Array, fmt: Format) -> list[Array]:
    """fp32 numbers in the words of `fmt`; of fp16x2 both halves."""
    if fmt.name in ("fp16", "fp16x2"):
        high = x.astype(np.float16)
        if fmt.name == "fp16":
            return [high]
        rest = (x - high.astype(np.float32)) * np.float32(1 / _BELOW)
        return [high, cupy.where(cupy.isfinite(high), rest, np.float32(0)).astype(np.float16)]
    dropped = 16 if fmt.name == "bf16" else 13
    bits = cupy.ascontiguousarray(x).view(np.uint32)
    odd = (bits >> np.uint32(dropped)) & np.uint32(1)
    rounded = bits + np.uint32((1 << (dropped - 1)) - 1) + odd
    rounded = cupy.where(cupy.isnan(x), bits | np.uint32(0x400000), rounded)
    if fmt is BF16:
        return [(rounded >> np.uint32(16)).astype(np.uint16)]
    return [(rounded & np.uint32(0xFFFFE000)).view(np.float32)]


def _as_single(image: Array, fmt: Format) -> Array:
    if fmt is BF16:
        return (image.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return image.astype(np.float32)


def _count_lost(source: Array, image: Array, fmt: Format, lost: Array) -> None:
    size = abs(_as_single(image, fmt))
    lost[0] += (cupy.isinf(size) & cupy.isfinite(source)).sum().astype(np.uint64)
    # by its bits: functions of CuPy take subnormal numbers for zeros
    is_nonzero = (source.view(np.uint32) & np.uint32(0x7FFFFFFF)) != 0
    lost[1] += ((size < fmt.smallest_normal) & is_nonzero).sum().astype(np.uint64)
