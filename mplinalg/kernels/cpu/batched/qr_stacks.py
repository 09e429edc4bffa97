"""Stacks of any strides, handed to kernels that take members packed one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lanes import REGISTER_BYTES
from .threads import GRAIN, is_worthwhile, run_chunks

__all__ = ["by_lapack", "fits_tiles", "run_members", "width_for"]

Array = NDArray[Any]

_COPIED = 2**18
"""Bytes of members that are made contiguous at a time: they stay in the cache."""
_LARGEST_TILE = 3 * 2**20
"""Bytes of a tile from which on LAPACK is faster (measured)."""
_FEW_FROM = 2**10
"""Numbers of a matrix from which tiles that are nearly empty do not pay."""
_BLAS_THREADS_FROM = 48**2
"""Numbers of a matrix from which LAPACK may wake threads of its own."""


def width_for(dtype: np.dtype[Any]) -> int:
    """Members that kernels in lanes take at a time, and so the fewest."""
    return REGISTER_BYTES // np.dtype(dtype.char.lower()).itemsize


def fits_tiles(a: Array, numbers: int) -> bool:
    """Whether members, each with so many numbers in a tile, are better computed with in tiles."""
    width = width_for(a.dtype)
    few = 3 * len(a) < width and numbers > _FEW_FROM
    return not few and numbers * width * a.itemsize <= _LARGEST_TILE


def _is_packed(x: Array) -> bool:
    """Whether kernels take members as they are; for read-only ones they were compiled again."""
    return bool(x.flags.c_contiguous and x.flags.writeable)


def _packed(x: Array) -> Array:
    """Members as one contiguous array: a view of `x` if they are that already."""
    return (x if _is_packed(x) else np.array(x, order="C")).reshape(-1)


def by_lapack(
    function: Callable[..., Any], inputs: Sequence[Array], outputs: Sequence[Array], seconds: float
) -> None:
    """`run_members`, for a function that calls LAPACK: large matrices are left to its threads."""
    if inputs[0][:1].size >= _BLAS_THREADS_FROM:
        seconds = 0.0
    run_members(function, inputs, outputs, seconds)


def run_members(
    function: Callable[..., Any], inputs: Sequence[Array], outputs: Sequence[Array],
    seconds: float, *, width: int = 1,
) -> None:  # fmt: skip
    """``function(count, *inputs, *outputs)`` on groups of members, as flat contiguous arrays.

    Parameters
    ----------
    function : callable
        Compiled: it releases the GIL.
    inputs : sequence of array, shape (N, ...)
        With any strides.
    outputs : sequence of array, shape (N, ...)
        At least one, C-contiguous.
    seconds : float
        That a member takes, about.
    width : int, optional
        The members that `function` takes together, and the fewest. Where there are not so many, it
        is given some of them more than once.
    """
    count = len(outputs[0])
    if count >= width and not is_worthwhile(count, seconds) and all(map(_is_packed, inputs)):
        function(count, *(x.reshape(-1) for x in (*inputs, *outputs)))
        return

    def run(first: int, last: int) -> None:
        if last - first >= width:
            function(last - first, *(_packed(x[first:last]) for x in (*inputs, *outputs)))
            return
        again = np.resize(np.arange(first, last), width)
        spare = [np.empty((width, *x.shape[1:]), x.dtype) for x in outputs]
        function(width, *(_packed(x[again]) for x in inputs), *map(_packed, spare))
        for x, found in zip(outputs, spare, strict=True):
            x[first:last] = found[: last - first]

    copied = max((x[0].nbytes for x in inputs if not _is_packed(x)), default=0)
    step = GRAIN * max(1, _COPIED // (GRAIN * copied)) if copied else count

    def work(first: int, last: int) -> None:
        for start in range(first, last, step):
            run(start, min(start + step, last))

    run_chunks(work, count, seconds, width)
