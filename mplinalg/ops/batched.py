"""BatchedOps: the verbs for stacks of small problems.

A stack is an array (N, m, n) with any strides, those of 0 among them (broadcast members). All
stacks of a call have the same N and the same LAPACK dtype. Results are fresh and C-contiguous, and
no operand is changed, unless a verb says so. A member whose numbers are bad has no influence on
another.

`info` of a member is LAPACK's: 0, or i > 0 for what went wrong at pivot or minor i; and
`NOT_FINITE` where a member holds NaN or infinity. Of a member with info != 0 the results are
undefined.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ..precision import Format
from .protocol import Array
from .ragged import RaggedOps

NOT_FINITE = -1
"""`info` of a member that holds NaN or infinity."""


class Judged(NamedTuple):
    """Members that were looked at one by one; of all others there is nothing to say.

    On the host, in C order.
    """

    members: Array
    """(k,) int64, ascending: which."""
    info: Array
    """(k,) int32."""
    rcond: Array
    """(k,) float64: estimated reciprocal condition number, of those with info == 0."""


class SolvedBatch(NamedTuple):
    """Solutions of a batch of systems."""

    x: Array
    """(N, n, nrhs)."""
    judged: Judged


class FactoredBatch(NamedTuple):
    """Triangular factors of a batch of matrices."""

    factors: Array
    """(N, n, n): L and U of an LU factorization; one triangle, zeros in the other, of Cholesky."""
    piv: Array | None
    """(N, n) int32: row i was exchanged with row piv[i]; None for Cholesky."""
    judged: Judged


class BatchedOps(RaggedOps, Protocol):
    """The verbs of a backend on stacks of matrices, and on lists of them."""

    @property
    def name(self) -> str:
        """Of the backend: "numpy", "cupy"."""

    @property
    def xp(self) -> Any:
        """The array namespace (numpy, cupy)."""

    @property
    def takes_large(self) -> bool:
        """Whether `gemm_batched` does products of any size with fewer copies than `xp.matmul`."""

    # -- products and triangles -----------------------------------------------------------------

    def gemm_batched(
        self, alpha: complex, a: Array, b: Array, beta: complex, c: Array, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
    ) -> None:  # fmt: skip
        """C <- alpha op(A) op(B) + beta C, in place; C is not read where beta is 0.

        op is "N", "T" or "C". With `compute`, operands are rounded to that format first (fp16
        kinds after scaling by a power of two) and products are summed in fp32.
        """

    def trsm_batched(
        self, a: Array, b: Array, *, lower: bool, unit: bool = False, trans: str = "N"
    ) -> SolvedBatch:
        """X = op(A)^-1 B, A triangular; the other triangle is not read. info: a zero diagonal."""

    # -- square systems -------------------------------------------------------------------------

    def gesv_batched(self, a: Array, b: Array) -> SolvedBatch:
        """A X = B, by LU with partial pivoting. b is (N, n, nrhs).

        Members that may be singular to working precision, or whose x is not finite, are solved
        again one by one, with their condition estimated: they are among `judged`.
        """

    def posv_batched(self, a: Array, b: Array) -> SolvedBatch:
        """A X = B, A Hermitian positive definite, by Cholesky; the upper triangle is read."""

    def getrf_batched(self, a: Array) -> FactoredBatch:
        """P A = L U with partial pivoting."""

    def getrs_batched(self, lu: Array, piv: Array, b: Array, *, trans: str = "N") -> Array:
        """X = op(A)^-1 B with the factors of `getrf_batched`."""

    def potrf_batched(self, a: Array, *, lower: bool = True) -> FactoredBatch:
        """A = L L^H, or U^H U; the triangle that L or U lies in is read."""

    def potrs_batched(self, c: Array, b: Array, *, lower: bool = True) -> Array:
        """X = A^-1 B with the factor of `potrf_batched`; the other triangle is not read."""

    def inv_batched(self, a: Array) -> SolvedBatch:
        """A^-1, x; members that may be singular to working precision are among those judged."""

    # -- orthogonal factors ---------------------------------------------------------------------

    def qr_batched(self, a: Array, *, mode: str = "reduced") -> tuple[Array, Array, Judged]:
        """A = Q R by Householder reflections, of "reduced" or "complete" Q; with "r" Q is empty.

        Members that hold NaN or infinity are among those judged.
        """

    def lstsq_batched(
        self, a: Array, b: Array, rcond: float | None = None
    ) -> tuple[SolvedBatch, Array, Array]:
        """X of least ||B - A X||, and of least norm among those; ranks, and ||B - A X||^2.

        Singular values below `rcond` times the largest count as zero; eps if None. The ranks are
        (N,) int, the squares (N, nrhs).
        """
