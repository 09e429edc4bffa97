"""Ops: what a backend must be able to do, in LAPACK's language.

Arrays are two-dimensional views with unit stride in one dimension, unless a verb says more; every
verb works in place, and takes the dtype from its arrays. Verbs that factor want F-like views
(unit stride down the columns). Matrices of formats below fp32 are held in fp32 (complex64).

A backend is right when it passes ``tests/ops/conformance.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..precision import Format

Array = Any
"""An array of the backend (numpy.ndarray, cupy.ndarray)."""


@dataclass
class Counters:
    """Entries lost on conversion to a narrow format, summed over a factorization."""

    overflows: int = 0
    underflows: int = 0

    def add(self, overflows: int, underflows: int) -> None:
        self.overflows += int(overflows)
        self.underflows += int(underflows)


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

    def getrf_view(self, a: Array) -> Array:
        """`a` or its transpose: the one of the two that `getrf` factors faster."""

    def getrf(self, a: Array) -> tuple[Array, int]:
        """P A = L U. Returns pivots (0-based) and info (i > 0: U[i-1, i-1] is exactly zero).

        F-like, or any view that `getrf_view` returned.
        """

    def getrf_panel(self, a: Array) -> tuple[Array, int]:
        """`getrf` of a tall panel."""

    def getrs(self, lu: Array, piv: Array, b: Array, *, trans: str = "N") -> None:
        """B <- op(A)^-1 B with the factors of `getrf`, in either layout; B is F-ordered."""

    def gecon(self, lu: Array, norm: float, kind: str = "1") -> float:
        """Estimated reciprocal condition number from the factors and the norm of A."""

    def potrf(self, a: Array, *, lower: bool) -> int:
        """A = L L^H (or U^H U). Returns info (i > 0: the leading minor of order i fails)."""

    def potrs(self, c: Array, b: Array, *, lower: bool) -> None:
        """B <- A^-1 B with the factor of `potrf`."""

    def geqrf(self, a: Array) -> Array:
        """A = Q R, reflectors below the diagonal. Returns tau."""

    def geqrf_panel(self, a: Array) -> tuple[Array, Array]:
        """`geqrf` of a panel, with the T of Q = I - V T V^H. Returns (tau, T)."""

    def ormqr(self, side: str, trans: str, qr: Array, tau: Array, c: Array) -> None:
        """C <- op(Q) C (side "L") or C op(Q) ("R")."""

    def trcon(self, r: Array, *, lower: bool) -> float:
        """Estimated reciprocal condition number (1-norm) of a triangular matrix."""

    # -- whole systems --------------------------------------------------------------------------

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
