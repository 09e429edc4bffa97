"""Number formats: what a factorization may be computed in.

A format says how operands are rounded before they are multiplied. Arrays of the formats below
fp32 are kept in fp32 words whose values are representable in the format; products of two fp16,
bf16 or tf32 numbers are exact in fp32, so an fp32 multiplication of rounded operands has the
numerics of a tensor core up to the order of summation.

References
----------
Higham and Mary, Acta Numerica 31 (2022) 347, table 1.1 (formats).
Ootomo and Yokota, Int. J. High Perform. Comput. Appl. 36 (2022) 475 (fp16x2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = [
    "BF16",
    "FORMATS",
    "FP16",
    "FP16X2",
    "FP32",
    "FP64",
    "TF32",
    "Format",
    "get_format",
    "real_dtype",
    "working_format",
]

_FP16X2_SHIFT = np.float32(2.0**11)


@dataclass(frozen=True)
class Format:
    """A floating-point format.

    Attributes
    ----------
    name : str
        One of ``fp16 bf16 tf32 fp16x2 fp32 fp64``.
    unit_roundoff : float
        Half the distance from 1 to the next larger number.
    max : float
        Largest finite number.
    smallest_normal, smallest_subnormal : float
        Smallest positive normal and subnormal numbers.
    bytes : int
        Storage of one real number on hardware that has the format.
    needs_scaling : bool
        The exponent range is so narrow that operands are scaled before conversion.
    """

    name: str
    unit_roundoff: float
    max: float
    smallest_normal: float
    smallest_subnormal: float
    bytes: int
    needs_scaling: bool = False

    @property
    def is_native(self) -> bool:
        """True for the formats that LAPACK computes in (fp32, fp64)."""
        return self.name in ("fp32", "fp64")

    def dtype(self, like: DTypeLike) -> np.dtype[Any]:
        """Dtype of the arrays that hold this format, real or complex as `like` is.

        >>> get_format("fp16").dtype(np.complex128)
        dtype('complex64')
        """
        is_complex = np.dtype(like).kind == "c"
        if self.name == "fp64":
            return np.dtype(np.complex128 if is_complex else np.float64)
        return np.dtype(np.complex64 if is_complex else np.float32)

    def round(self, x: NDArray[Any]) -> NDArray[Any]:
        """`x` rounded to the format, to nearest even, with subnormals and overflow to infinity.

        The plain NumPy definition that faster kernels are tested against. Real and imaginary
        parts are rounded separately. Returns a new array of dtype ``self.dtype(x.dtype)``;
        double precision goes to a format below fp32 by way of fp32, as it does in a factorization.

        >>> get_format("fp16").round(np.array([1 + 2.0**-11, 70000.0, 2.0**-25 * 1.5])).tolist()
        [1.0, inf, 5.960464477539063e-08]
        """
        with np.errstate(over="ignore", invalid="ignore"):
            y = np.array(x, dtype=self.dtype(x.dtype), order="K", copy=True)
            if not self.is_native:
                flat = y.reshape(-1, order="A" if y.flags.fnc else "C")
                flat = np.ascontiguousarray(flat)
                _ROUND[self.name](flat.view(np.float32))
                y = flat.reshape(y.shape, order="F" if y.flags.fnc else "C")
        return y

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        """There is one object a format, also after pickling."""
        return get_format, (self.name,)


def _round_fp16(x: NDArray[np.float32]) -> None:
    x[...] = x.astype(np.float16)


def _round_mantissa(x: NDArray[np.float32], dropped: int) -> None:
    """Round fp32 words to nearest even at bit `dropped`; NaN stays NaN, carries reach infinity."""
    bits = x.view(np.uint32)
    half = np.uint32((1 << (dropped - 1)) - 1)
    odd = (bits >> np.uint32(dropped)) & np.uint32(1)
    rounded = (bits + half + odd) & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    bits[...] = np.where(np.isnan(x), bits, rounded)


def _round_fp16x2(x: NDArray[np.float32]) -> None:
    high = x.astype(np.float16).astype(np.float32)
    low = ((x - high) * _FP16X2_SHIFT).astype(np.float16).astype(np.float32)
    x[...] = np.where(np.isfinite(high), high + low / _FP16X2_SHIFT, high)


_ROUND = {
    "fp16": _round_fp16,
    "bf16": lambda x: _round_mantissa(x, 16),
    "tf32": lambda x: _round_mantissa(x, 13),
    "fp16x2": _round_fp16x2,
}

_FP32 = np.finfo(np.float32)
_FP64 = np.finfo(np.float64)

FP16 = Format("fp16", 2.0**-11, 65504.0, 2.0**-14, 2.0**-24, 2, needs_scaling=True)
BF16 = Format("bf16", 2.0**-8, 2.0**127 * (2 - 2.0**-7), 2.0**-126, 2.0**-133, 2)
TF32 = Format("tf32", 2.0**-11, 2.0**127 * (2 - 2.0**-10), 2.0**-126, 2.0**-136, 4)
FP16X2 = Format("fp16x2", 2.0**-21, 65504.0, 2.0**-14, 2.0**-35, 4, needs_scaling=True)
FP32 = Format("fp32", 2.0**-24, float(_FP32.max), 2.0**-126, 2.0**-149, 4)
FP64 = Format("fp64", 2.0**-53, float(_FP64.max), 2.0**-1022, 2.0**-1074, 8)

FORMATS = {f.name: f for f in (FP16, BF16, TF32, FP16X2, FP32, FP64)}


def get_format(name: str | Format) -> Format:
    """The format called `name`.

    Raises
    ------
    ValueError
        If there is none of that name.

    >>> get_format("bf16").unit_roundoff == 2.0**-8
    True
    """
    if isinstance(name, Format):
        return name
    try:
        return FORMATS[name]
    except (KeyError, TypeError):
        raise ValueError(f"precision must be one of {', '.join(FORMATS)}; got {name!r}") from None


def real_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The real dtype of the same precision.

    >>> real_dtype(np.complex64)
    dtype('float32')
    """
    return np.dtype(dtype).type(0).real.dtype


def working_format(dtype: DTypeLike) -> Format:
    """The format that LAPACK computes arrays of `dtype` in (fp32 or fp64).

    >>> working_format(np.complex128).name
    'fp64'
    """
    return FP32 if np.dtype(dtype).char in "fF" else FP64


def backward_bound(n: int, unit_roundoff: float) -> float:
    """The normwise backward error that an answer of order n must not exceed: sqrt(n) u.

    n counts as at least 4: a 1-by-1 complex division may err by more than u.

    >>> backward_bound(100, FP64.unit_roundoff) == 10 * 2.0**-53
    True
    """
    return math.sqrt(max(n, 4)) * unit_roundoff
