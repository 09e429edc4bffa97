"""Random butterflies, and LU of diagonal blocks by way of inverses, on the device.

butterfly.cu and block_lu_pivoted.cu, which nothing stands in for: without them panels pivot.
"""

from __future__ import annotations

import cupy
import numpy as np

from . import fallbacks, loader, panels, triangles
from .layout import Array, is_f_like, leading_dimension
from .lines import TYPES, grid
from .loader import KernelUnavailable
from .panels import INVERTED

_THREADS = 256
_AT_ONCE = 4
"""Right-hand sides that one launch solves for."""
_BLOCK = f"block_lu_pivoted<{INVERTED}>"


def is_available() -> bool:
    """Whether the kernels can be had on the current device."""
    try:
        for name in (_BLOCK, "butterfly<float, float>"):
            loader.load(name)
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        return False
    return True


def butterfly(src: Array, dst: Array, u: Array, v: Array, padding: float) -> None:
    """dst <- U^T diag(src, padding I) V."""
    quarter = len(u)
    if dst.shape != (4 * quarter, 4 * quarter) or u.shape != v.shape or max(src.shape) > len(dst):
        raise ValueError(f"butterfly: {src.shape=}, {dst.shape=}, {u.shape=}, {v.shape=}")
    across = -(-quarter // _THREADS)
    down = min(quarter, -(-grid(dst.size) // max(across, 1)))
    loader.launch(
        f"butterfly<{_types(src, dst)}>", (across, down), quarter, len(src), src,
        leading_dimension(src, turned=True), dst, leading_dimension(dst, turned=True), u, v,
        padding,
    )  # fmt: skip


def butterfly_vectors(b: Array, y: Array, u: Array, *, transposed: bool) -> None:
    """y <- U^T diag(b, 0), or the first rows of U b."""
    quarter = len(u)
    whole, part = (y, b) if transposed else (b, y)
    if len(whole) != 4 * quarter or len(part) > 4 * quarter or b.shape[1] != y.shape[1]:
        raise ValueError(f"butterfly_vectors: {b.shape=}, {y.shape=}, {u.shape=}")
    name = "butterfly_transposed" if transposed else "butterfly_forward"
    loader.launch(
        f"{name}<{_types(b, y)}>", grid(whole.size), quarter, len(part), b.shape[1],
        b, *_strides(b), y, *_strides(y), u,
    )  # fmt: skip


def getrf_block(a: Array, lower: Array, upper: Array, info: Array, offset: int) -> None:
    """U in the upper triangle of A, and both inverses; one launch of one block of threads."""
    if len(a) > INVERTED or any(x.shape != (INVERTED, INVERTED) for x in (lower, upper)):
        raise ValueError(f"getrf_block: {a.shape=}, {lower.shape=}, {upper.shape=}")
    loader.launch(
        _BLOCK, 1, len(a), a, leading_dimension(a, turned=True), lower, upper, offset, info
    )


def trsm_inverted(a: Array, inverses: Array, b: Array, *, lower: bool, trans: str) -> None:
    """B <- op(A)^-1 B, A block triangular, by the inverses of its diagonal blocks.

    Few columns take one launch for every four of them, and one for zeros; many go by products.
    """
    blocks, columns = len(inverses), b.shape[1]
    if blocks > 1 and 0 < columns < triangles.WIDE and is_f_like(b):
        triangle = triangles.Triangle(a, False, lower, inverses)
        most = 1 if columns == 1 else _AT_ONCE
        state = cupy.zeros(1 + blocks, np.uint32)
        try:
            for start in range(0, columns, most):
                x = b[:, start : start + most]
                triangle.solve(x, x, state, most, transposed=trans != "N")
        except KernelUnavailable as reason:  # the first time, before it changed anything
            fallbacks.note(reason)
        else:
            return
    panels.substitute(a, inverses, b, lower=lower, trans=trans)


def _types(*arrays: Array) -> str:
    return ", ".join(TYPES[x.dtype.char] for x in arrays)


def _strides(x: Array) -> tuple[int, ...]:
    return tuple(stride // x.itemsize for stride in x.strides)
