"""RaggedOps: the verbs for lists of matrices of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..precision import Format
from .protocol import Array

__all__ = ["Listed", "RaggedOps"]


class Listed(NamedTuple):
    """A list of matrices of one dtype as a backend sees it; one matrix may stand for all."""

    dtype: np.dtype[Any]
    ndim: int
    """Of each member, 1 or 2."""
    shapes: Array
    """(N, 2) int64, on the host; a vector counts as a column."""
    handle: Any
    """The backend's own."""
    keep: Any
    """What must stay alive as long as this."""


class RaggedOps(Protocol):
    """The verbs of a backend on lists of matrices, on which shapes have been checked."""

    def listed(self, arrays: Sequence[Array]) -> Listed | None:
        """Arrays, at least one; None if some differ in dtype or ndim, or are not aligned arrays."""

    def listed_flat(self, data: Array, offsets: Array, shapes: Array) -> Listed:
        """Contiguous matrices at `offsets` of one buffer, counted in its numbers."""

    def copy_listed(self, source: Listed, target: Listed) -> None:
        """Copy one list to another of the same dtype and shapes."""

    def are_apart(self, out: Listed, others: Sequence[Listed]) -> bool:
        """Whether members of `out` surely share no memory, with each other or with the others."""

    def gather(self, data: Array, offsets: Array, size: int) -> Array:
        """The `size` numbers of a buffer from each of the offsets on, as rows."""

    def scatter(self, stack: Array, data: Array, offsets: Array) -> None:
        """Back to the buffer, in place."""

    def gemm_listed(
        self, alpha: complex, a: Listed, b: Listed, beta: complex, c: Listed, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
    ) -> None:  # fmt: skip
        """C <- alpha op(A) op(B) + beta C, as `BatchedOps.gemm_batched`."""

    def trsm_listed(
        self, a: Listed, x: Listed, *, lower: bool, unit: bool = False, trans: str = "N"
    ) -> Array:
        """X <- op(A)^-1 X, in place; X by contiguous rows.

        Returns `info`, (N,) int32 on the host: 0, or the number of the first zero on the diagonal.
        """
