"""Ops: what a backend must be able to do, in LAPACK's language.

Arrays are two-dimensional views with unit stride in one dimension, unless a verb says more; every
verb works in place, and takes the dtype from its arrays. Verbs that factor want F-like views
(unit stride down the columns), those of LU also what `getrf_view` returned, and parts of it.
Matrices of formats below fp32 are held in fp32 (complex64).

A backend is right when it passes ``tests/ops/conformance.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..precision import Format

Array = Any
"""An array of the backend (numpy.ndarray, cupy.ndarray)."""
Info = Any
"""An int; or an array of the backend with one, for which nobody waits until it is read."""


class Counters:
    """Entries lost on conversion to a narrow format, summed over a factorization.

    A backend that computes asynchronously adds arrays of its own; they are waited for when the
    sums are read.
    """

    def __init__(self, overflows: int = 0, underflows: int = 0) -> None:
        self._overflows, self._underflows = overflows, underflows
        self._pending: list[Array] = []

    @property
    def overflows(self) -> int:
        """Entries too large for the format."""
        self._settle()
        return self._overflows

    @property
    def underflows(self) -> int:
        """Entries that became zero or subnormal."""
        self._settle()
        return self._underflows

    def add(self, overflows: int, underflows: int) -> None:
        """Count so many more."""
        self._overflows += int(overflows)
        self._underflows += int(underflows)

    def add_pair(self, lost: Array) -> None:
        """Count what is in ``lost[0]`` and ``lost[1]``, an array of the backend, when asked."""
        self._pending.append(lost)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counters):
            return NotImplemented
        return (self.overflows, self.underflows) == (other.overflows, other.underflows)

    def __repr__(self) -> str:
        return f"Counters(overflows={self.overflows}, underflows={self.underflows})"

    def _settle(self) -> None:
        while True:
            try:
                lost = self._pending.pop()
            except IndexError:  # perhaps taken by another thread
                return
            self.add(*lost.tolist())


@dataclass(frozen=True)
class Conversion:
    """What one pass over a matrix saw: ``row_sums[i] = sum_j |a[i, j]|``, and what was lost."""

    row_sums: Array
    overflows: int
    underflows: int


class ColumnErrors(NamedTuple):
    """Per column, on the host; |re| + |im| for complex; NaN throughout where a column has one."""

    x_size: NDArray[np.float64]
    """max_i |x_i|"""
    r_size: NDArray[np.float64]
    d_size: NDArray[np.float64]
    berr: NDArray[np.float64]
    """max_i |r_i| / d_i, with 0/0 = 0"""


class Checked(NamedTuple):
    """A system solved in working precision, and what is known of the answer."""

    x: Array
    """(n, nrhs), F-ordered; undefined if `info` is not 0."""
    info: int
    """As `getrf` or `potrf`."""
    omega: float
    """Largest normwise backward error of the columns; infinity if something is not finite."""
    kappa: float
    """A lower bound on the condition number, infinity norm, from a random right-hand side."""
    norm: float
    """Infinity norm of op(A), with |re| + |im| for complex."""
    factors: Array
    """As `getrf` leaves them, or the Cholesky factor in the triangle of A that was read."""
    piv: Array | None = None
    transposed: bool = False
    """LU: the factors are those of the transpose of A."""


class Refined(NamedTuple):
    """A system refined to double precision with factors in single, if `converged`."""

    x: Array
    """(n, nrhs), F-ordered; undefined unless `converged`."""
    converged: bool
    """Every column met the tests of `refine.criterion`, and a random one contracted."""
    kappa: float
    """A lower bound on the condition number, infinity norm."""
    steps: int
    """Most corrections of a column."""


class Ops(Protocol):
    """The verbs of a backend."""

    @property
    def name(self) -> str:
        """Of the backend: "numpy", "cupy"."""

    @property
    def xp(self) -> Any:
        """The array namespace (numpy, cupy)."""

    def is_f_like(self, a: Array) -> bool:
        """Unit stride down the columns."""

    @property
    def device(self) -> str:
        """What computes, in letters that a file name may have."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be had on this device, and was replaced."""

    def synchronize(self) -> None:
        """Wait for everything that was asked for."""

    @property
    def side_by_side(self) -> int:
        """Calls of `each` that compute at the same time, at most; 1 within one of them."""

    def each(
        self, work: Callable[[Any], Any], items: Sequence[Any], flops: float = 1e12
    ) -> list[Any]:
        """``work(item)`` of each item, which must not touch each other's results; their values.

        Side by side where that saves time: an item takes as long as about so many flops.
        """

    def serial(self) -> AbstractContextManager[Any]:
        """What is not divided by `each` computes on one thread until this is left."""

    @property
    def fast_formats(self) -> tuple[Format, ...]:
        """Formats below fp64 whose products are faster than those of the next finer one.

        Coarse first; those that are emulated are not among them.
        """

    flushes: bool
    """Whether subnormal numbers of single precision are zeros."""
    refines_from: int
    """Order from which low-precision factors and refinement may pay."""

    # -- data movement --------------------------------------------------------------------------

    def convert(
        self, src: Array, dst: Array, *, rows: Array | None = None, cols: Array | None = None
    ) -> Conversion:
        """dst <- diag(rows) src diag(cols), in dst's dtype; powers of two, in src's real dtype.

        `src` and `dst` have the same layout. Counts are against the range of dst's format; row
        sums are those of the (unscaled) source, and are only measured where there is no scaling.
        """

    def round(self, a: Array, fmt: Format, counters: Counters | None = None) -> None:
        """a <- a rounded to `fmt`."""

    def amax(self, a: Array) -> float:
        """max |a|, with |re| + |im| for complex; NaN if an entry is NaN."""

    def lange(self, norm: str, a: Array) -> float:
        """The 1-norm ("1") or the infinity norm ("I"), with |re| + |im| for complex."""

    def extents(self, a: Array, *, rows: Array | None = None) -> tuple[Array, Array]:
        """Largest magnitudes of the rows and of the columns of diag(rows) a, in one pass.

        In a's real dtype; |re| + |im| for complex.
        """

    def sizes(self, a: Array, columns: Array) -> Array:
        """Sums, and maxima, of |a|, or of |re| + |im|, along the rows, (2, m), in one pass.

        Those of the columns are added to ``columns[0]``, and taken into the maxima ``columns[1]``.
        NaN is larger than all else.
        """

    def lacpy(self, src: Array, dst: Array) -> None:
        """dst <- src, of one dtype; layouts may differ."""

    def copy_rows(
        self, src: Array, places: NDArray[np.int64], dst: Array, targets: NDArray[np.int64]
    ) -> None:
        """dst[targets] <- src[places], rows of one dtype; places of NumPy's, targets distinct."""

    def laswp(self, a: Array, piv: Array, *, forward: bool = True) -> None:
        """Swap row i of `a` with row piv[i] for i = 0, 1, ... (backwards: in opposite order)."""

    # -- level 3 --------------------------------------------------------------------------------

    def gemm(
        self, alpha: float, a: Array, b: Array, beta: float, c: Array, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
        counters: Counters | None = None,
    ) -> None:  # fmt: skip
        """C <- alpha op(A) op(B) + beta C.

        With `compute`, operands are rounded to that format first (fp16 kinds after scaling by a
        power of two, undone in alpha) and products are summed in fp32.
        """

    def syrk(
        self, alpha: float, a: Array, beta: float, c: Array, *, lower: bool,
        trans: str = "N", compute: Format | None = None, counters: Counters | None = None,
    ) -> None:  # fmt: skip
        """C <- alpha A A^H + beta C (trans "N") or alpha A^H A + beta C ("C").

        F-like; one triangle of C is meaningful, the other may be overwritten.
        """

    def trsm(
        self, side: str, a: Array, b: Array, *, lower: bool, trans: str = "N", unit: bool = False,
        fast: bool = False,
    ) -> None:  # fmt: skip
        """B <- op(A)^-1 B (side "L") or B op(A)^-1 ("R"), A triangular.

        `fast`: small diagonal blocks may be inverted, for results that will be refined.
        """

    # -- factorizations, F-like views where nothing else is said ---------------------------------

    def getrf_view(self, a: Array, fmt: Format | None = None) -> Array:
        """`a` or its transpose: the one of the two that is factored faster.

        By `getrf`; with `fmt`, a format below fp32, by the blocked `factor.lu.getrf`.
        """

    def panel_width(self, n: int, *, definite: bool = False) -> int:
        """Columns of a panel of the blocked LU of order n; of Cholesky, if `definite`."""

    def getrf(self, a: Array) -> tuple[Array, int]:
        """P A = L U. Returns pivots (0-based) and info (i > 0: U[i-1, i-1] is exactly zero).

        F-like, or any view that `getrf_view` returned.
        """

    def getrf_panel(self, a: Array) -> tuple[Array, Info]:
        """`getrf` of a tall panel; a part of what `getrf_view` returned."""

    def first_info(self, infos: Sequence[tuple[int, Info]]) -> int:
        """offset + info of the first (offset, info) whose info is not 0; 0 if there is none."""

    overlaps: bool
    """Whether work `beside` other work saves time, so that it pays to arrange for it."""

    def beside(self) -> AbstractContextManager[None]:
        """What is done in this context may run beside what comes after it, until `join`.

        It begins when all that came before is done.
        """

    def join(self) -> None:
        """What comes after this waits for what was done `beside`."""

    def getrs(self, lu: Array, piv: Array, b: Array, *, trans: str = "N", plan: Any = None) -> None:
        """B <- op(A)^-1 B with the factors of `getrf`, in either layout; B is F-ordered.

        With the `plan` that `getrs_plan` made of these factors, if there is one.
        """

    def getrs_plan(self, lu: Array, piv: Array) -> Any:
        """What makes later calls of `getrs` faster; None if nothing does."""

    # -- LU that pivots in diagonal blocks alone, of real C-like matrices in single precision ----

    @property
    def prefers_butterfly(self) -> bool:
        """Whether interchanges cost so much that real matrices are first tried without any."""

    diagonal_block: int
    """Order of the diagonal blocks that are inverted, and the most of `getrf_block`."""

    def butterfly(
        self, src: Array, dst: Array, u: Array, v: Array, *, padding: float = 1.0
    ) -> None:
        """dst <- U^T diag(src, padding I) V, with butterflies as `factor.butterfly` draws them.

        `src`, float32 or float64, may be the part of `dst` that begins where it does.
        """

    def butterfly_vectors(self, b: Array, y: Array, u: Array, *, transposed: bool) -> None:
        """y <- U^T diag(b, 0) (`transposed`), or the first rows of U b, as many as y has.

        float32 or float64; where only one of the two is float32, it is the one with all rows.
        """

    def getrf_block(
        self, a: Array, lower: Array, upper: Array, info: Array, offset: int = 0
    ) -> None:
        """P A = L U, kept as lower <- L^-1 P and upper <- U^-1; U in the upper triangle of A.

        What is below the diagonal of A then has no meaning. The inverses are continued by the
        identity to the order `diagonal_block`, C-ordered. A pivot j (counted from 1) is useless if
        it is zero or not finite, or its reciprocal is not; the first one makes offset + j of
        info[0], an int32, if that is 0 or larger.
        """

    def trsm_inverted(
        self, a: Array, inverses: Array, b: Array, *, lower: bool, trans: str = "N"
    ) -> None:
        """B <- op(A)^-1 B, A block triangular, ``inverses[k]`` that of its diagonal block k.

        Blocks are of order `diagonal_block`, as `getrf_block` leaves their inverses; those on the
        diagonal of A are not read. B is in either layout.
        """

    def gecon(self, lu: Array, norm: float, kind: str = "1") -> float:
        """Estimated reciprocal condition number from the factors and the norm of A."""

    def potrf(self, a: Array, *, lower: bool) -> Info:
        """A = L L^H (or U^H U). Returns info (i > 0: the leading minor of order i fails)."""

    def potrs(self, c: Array, b: Array, *, lower: bool, plan: Any = None) -> None:
        """B <- A^-1 B with the factor of `potrf`, and the `plan` that `potrs_plan` made of it."""

    def potrs_plan(self, c: Array, *, lower: bool) -> Any:
        """What makes later calls of `potrs` faster; None if nothing does."""

    def geqrf(self, a: Array) -> Array:
        """A = Q R, reflectors below the diagonal. Returns tau."""

    def geqrf_panel(self, a: Array) -> tuple[Array, Array]:
        """`geqrf` of a panel, with the T of Q = I - V T V^H. Returns (tau, T)."""

    def ormqr(self, side: str, trans: str, qr: Array, tau: Array, c: Array) -> None:
        """C <- op(Q) C (side "L") or C op(Q) ("R")."""

    def gesvd(self, a: Array, *, vectors: bool = True) -> tuple[Array, Array, Array]:
        """A = U diag(s) V^H with min(m, n) columns of U and V: (U, s, V^H), or (None, s, None).

        `a`, in either layout, is kept. s is real and does not increase. Raises
        `numpy.linalg.LinAlgError` if the iteration does not converge.
        """

    def trcon(self, r: Array, *, lower: bool) -> float:
        """Estimated reciprocal condition number (1-norm) of a triangular matrix."""

    # -- refinement -----------------------------------------------------------------------------

    def residual(
        self, a: Array, x: Array, b: Array, *, trans: str = "N", triangle: str | None = None,
        magnitude: bool = True, extended: bool = False,
    ) -> tuple[Array, Array | None]:  # fmt: skip
        """r = b - op(A) x and d = |op(A)||x| + |b| (None without `magnitude`).

        x and b are F-ordered ``(n, nrhs)``; so are the results. With `triangle` ("L" or "U")
        A is Hermitian and only that triangle is read. With `extended` the residual is
        accumulated in twice the working precision and rounded once.
        """

    fused_columns: int
    """Up to so many right-hand sides `residual` computes d in the same pass over A."""

    def magnitude(
        self, a: Array, x: Array, b: Array, *, trans: str = "N", triangle: str | None = None
    ) -> Array:
        """d = |op(A)||x| + |b|; arguments as `residual`."""

    def column_errors(self, x: Array, r: Array, d: Array) -> ColumnErrors:
        """Sizes and componentwise backward errors of the columns of x, r and d (F-ordered)."""


class DirectOps(Ops, Protocol):
    """A backend that also solves whole systems in one call, which is what small ones need.

    Systems that a low precision cannot speed up are left to it; other backends solve them on the
    ladder, which then begins in working precision.
    """

    def gesv(self, a: Array, b: Array, *, trans: str = "N", probe: bool = True) -> Checked:
        """Solve op(A) x = b ("N" or "T") by LU; `a` in either layout and `b` are kept.

        Without `probe` no random right-hand side is solved along: `kappa` is from the first of b.
        """

    def posv(
        self, a: Array, b: Array, *, lower: bool, whole: bool = False, probe: bool = True
    ) -> Checked:
        """Solve A x = b by Cholesky, one triangle of the Hermitian `a` read; both are kept.

        If `whole`, `omega` is infinite also where the other triangle has NaN or infinity.
        """

    def solve_structured(self, a: Array, b: Array, structure: str) -> tuple[Array, int, float]:
        """Solve A x = b, A diagonal, triangular, tridiagonal or banded (`dense.structure`).

        Returns x, the number of the first zero pivot (or 0), and a lower bound on the condition
        number; infinite where A is not finite, or x extreme or not backward stable.
        """

    def filled_up(self, a: Array, *, lower: bool, conjugate: bool) -> tuple[Array, bool]:
        """The symmetric or Hermitian matrix of which one triangle is given; whether A is finite."""

    def getrs_checked(
        self, a: Array, seen: Checked, b: Array, *, trans: str = "N"
    ) -> tuple[Array, float]:
        """Solve with what `gesv` left: x, and its `omega` for `a` as it is now."""

    def potrs_checked(
        self, a: Array, seen: Checked, b: Array, *, lower: bool
    ) -> tuple[Array, float]:
        """Solve with what `posv` left: x, and its `omega` for `a` as it is now."""

    refines_columns: int
    """Up to so many right-hand sides the two verbs that follow are faster than the ladder."""

    def gesv_refined(self, a: Array, b: Array) -> Refined:
        """As `gesv`, double precision, by LU in single and classical refinement."""

    def posv_refined(self, a: Array, b: Array, *, lower: bool, whole: bool = False) -> Refined:
        """As `posv`, double precision, by Cholesky in single and classical refinement."""
