"""Operands of cublasGemmEx: number formats of cudaDataType_t, and what multiplies with what."""

from __future__ import annotations

import numpy as np

R_32F, R_64F, R_16F, C_32F, C_64F, R_16BF = 0, 1, 2, 4, 5, 14

STORED = {
    R_32F: np.float32, R_64F: np.float64, R_16F: np.float16, C_32F: np.complex64,
    C_64F: np.complex128, R_16BF: np.uint16,
}  # fmt: skip

COMPUTE_16F, COMPUTE_16F_PEDANTIC = 64, 65
COMPUTE_32F, COMPUTE_32F_PEDANTIC = 68, 69
COMPUTE_32F_FAST_16F, COMPUTE_32F_FAST_16BF, COMPUTE_32F_FAST_TF32 = 74, 75, 77
COMPUTE_64F, COMPUTE_64F_PEDANTIC = 70, 71

_SINGLE = {(R_32F, R_32F), (C_32F, C_32F)}
_DOUBLE = {(R_64F, R_64F), (C_64F, C_64F)}
_HALVES = {(R_16BF, R_16BF), (R_16F, R_16F), (R_16BF, R_32F), (R_16F, R_32F)}

SUPPORTED = {
    COMPUTE_16F: {(R_16F, R_16F)},
    COMPUTE_16F_PEDANTIC: {(R_16F, R_16F)},
    COMPUTE_32F: _SINGLE | _HALVES,
    COMPUTE_32F_PEDANTIC: _SINGLE | _HALVES,
    COMPUTE_32F_FAST_16F: _SINGLE,
    COMPUTE_32F_FAST_16BF: _SINGLE,
    COMPUTE_32F_FAST_TF32: _SINGLE,
    COMPUTE_64F: _DOUBLE,
    COMPUTE_64F_PEDANTIC: _DOUBLE,
}
"""Of each compute type the pairs (A and B, C), as in the table of cublasGemmEx in the manual."""


def scale_type(compute: int, c_type: int) -> type[np.generic]:
    """Of alpha and beta."""
    if compute in (COMPUTE_16F, COMPUTE_16F_PEDANTIC):
        return np.float16
    if c_type in (C_32F, C_64F):
        return STORED[c_type]
    return np.float64 if c_type == R_64F else np.float32


def widened(a: np.ndarray, kind: int, compute: int) -> np.ndarray:
    """The numbers of an operand as they are multiplied, in the precision of the sums."""
    if kind == R_16F:
        return a.astype(np.float32)
    if kind == R_16BF:
        return (a.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if compute == COMPUTE_32F_FAST_TF32:
        return rounded(a, 13)
    if compute == COMPUTE_32F_FAST_16BF:
        return rounded(a, 16)
    if compute == COMPUTE_32F_FAST_16F:
        with np.errstate(over="ignore"):
            return _parts(a).astype(np.float16).astype(np.float32).view(a.dtype)
    return a


def narrowed(c: np.ndarray, kind: int) -> np.ndarray:
    """A result as it is stored, rounded to nearest even."""
    if kind == R_16BF:
        bits = np.ascontiguousarray(c, np.float32).view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        done = (bits + np.uint32(0x7FFF) + even) >> np.uint32(16)
        return np.where(np.isnan(c), 0x7FC0, done).astype(np.uint16)
    with np.errstate(over="ignore"):
        return c.astype(STORED[kind])


def rounded(a: np.ndarray, dropped: int) -> np.ndarray:
    """fp32 with the last bits dropped, to nearest, ties away from zero (cvt.rna)."""
    parts = _parts(a)
    bits = parts.view(np.uint32)
    mask = np.uint32(2**32 - 2**dropped)
    done = ((bits + np.uint32(2 ** (dropped - 1))) & mask).view(np.float32)
    return np.where(np.isfinite(parts), done, parts).view(a.dtype)


def _parts(a: np.ndarray) -> np.ndarray:
    """Contiguous, real and imaginary parts one after the other."""
    return np.ascontiguousarray(a).view(np.float32)
