"""Least squares: min ||b - A x||, a drop-in for `scipy.linalg.lstsq`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from .. import arguments
from ..errors import LinAlgError
from ..ops import is_on_device, ops_for
from ..precision import Format, real_dtype
from ..report import SolveReport, Status
from . import validate
from .least_squares import METHODS, Answer, Options, is_small, solve_one

__all__ = ["LstsqResult", "lstsq"]

Array = NDArray[Any]

DRIVERS = ("gelsd", "gelsy", "gelss")


class LstsqResult(Sequence[Any]):
    """The tuple ``(x, residues, rank, s)`` of `scipy.linalg.lstsq`, with s computed when read.

    Indexing, slicing, unpacking, ``len`` and ``in`` work as on the tuple; with
    ``full_output=True`` the report is a fifth element. The attributes `x`, `residues`, `rank`,
    `s` and `report` (None without ``full_output``) name the elements.

    The singular values cost more than the solution. Reading ``s`` (which unpacking does)
    computes them in working precision, once: those of an R of A = Q R, which is reduced to a
    band first if it is large. That R, or a copy of A, is kept, so that A may change meanwhile.
    Where SciPy's driver solved the problem they are there already.

    Two results are equal if their elements are, arrays compared by shape and value.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, x: Array, residues: Array, rank: Any,
        s: Array | Callable[[], Array] | None, report: SolveReport | None = None,
    ) -> None:  # fmt: skip
        self.x, self.residues, self.rank, self.report = x, residues, rank, report
        self._s = s

    @property
    def s(self) -> Array | None:
        """Singular values of A in decreasing order; None from the driver "gelsy"."""
        if callable(self._s):
            self._s = self._s()
        return self._s

    def __len__(self) -> int:
        return 4 if self.report is None else 5

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(len(self))[index])
        try:
            place = range(len(self))[index]
        except IndexError:
            raise IndexError("tuple index out of range") from None
        return getattr(self, ("x", "residues", "rank", "s", "report")[place])

    def __iter__(self) -> Iterator[Any]:
        four = (self.x, self.residues, self.rank, self.s)
        return iter(four if self.report is None else (*four, self.report))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LstsqResult | tuple) or len(self) != len(other):
            return NotImplemented if not isinstance(other, LstsqResult | tuple) else False
        return all(_is_same(p, q) for p, q in zip(self, other, strict=True))

    def __repr__(self) -> str:
        s = "..." if callable(self._s) else repr(self._s)
        report = "" if self.report is None else f", report=<{self.report.status.value}>"
        return (
            f"LstsqResult(x={self.x!r}, residues={self.residues!r}, rank={self.rank!r}, "
            f"s={s}{report})"
        )

    def __reduce__(self) -> Any:
        return LstsqResult, (self.x, self.residues, self.rank, self.s, self.report)


def _is_same(p: Any, q: Any) -> bool:
    if not (is_on_device(p) and is_on_device(q)):
        return not (is_on_device(p) or is_on_device(q)) and bool(np.array_equal(p, q))
    return bool(ops_for(p, q).xp.array_equal(p, q))


def lstsq(
    a: ArrayLike,
    b: ArrayLike,
    cond: float | None = None,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    lapack_driver: str | None = None,
    *,
    precision: str | Format = "auto",
    refine: str | None = "auto",
    tol: float | None = None,
    fallback: bool = True,
    full_output: bool = False,
) -> LstsqResult:
    """Solve min ||b - A x|| in the 2-norm, to working precision.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    b : array_like, shape (m,) or (..., m, nrhs)
        Batch dimensions broadcast.
    cond : float, optional
        Singular values below cond times the largest count as zero. Default: machine epsilon.
    overwrite_a : bool, optional
        `a` may be referred to later: its copy for the singular values is saved.
    overwrite_b : bool, optional
        Accepted for SciPy's sake; `b` is never overwritten.
    check_finite : bool, optional
        Raise ValueError for NaN and infinity. Without the check, such data give NaN in every
        element of the result and a LinAlgWarning.
    lapack_driver : {None, "gelsd", "gelsy", "gelss"}, optional
        A driver has SciPy solve the problem with it. Default: the route described below, and
        gelsd where that does not apply. On a device all of them are the SVD.
    precision : {"auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}, optional
        Pin the format that A is factored in.
    refine : {"auto", "classical", "lsqr", None}, optional
        Pin the refinement. "gmres" is another name of "lsqr" here. None solves once with the
        factors and does not test the solution.
    tol : float, optional
        Stop as soon as the error measure of the report is below `tol`. Default: go on to the
        limit of working precision.
    fallback : bool, optional
        If False, a pinned precision or refinement that cannot deliver is an error.
    full_output : bool, optional
        Append a `SolveReport`.

    Returns
    -------
    LstsqResult
        Behaves as the tuple ``(x, residues, rank, s)``, or ``(x, residues, rank, s, report)``.
        x, residues and s are where `a` and `b` are, rank and report on the host.
        x, shape (..., n) or (..., n, nrhs): the solution, of least norm if rank < n.
        residues, shape (...,) or (..., nrhs): sums of squares of b - A x; NaN if rank < n, and of
        shape (..., 0) if m <= n or the driver is "gelsy".
        rank: number of singular values above cond times the largest.
        s, shape (..., min(m, n)): singular values, computed when first read.
        report: `backward_error` is the relative change of A and b that explains the error of x.

    Raises
    ------
    LinAlgError
        If the SVD does not converge, or ``fallback=False`` and what was pinned did not deliver.
    ValueError
        For shapes that do not fit, unknown options, NaN or infinity.
    TypeError
        If `a` or `b` does not hold numbers, or one is on a device and the other is not.

    Warns
    -----
    LinAlgWarning
        If a pinned precision or refinement could not deliver and another was used.

    Notes
    -----
    A with m >= n and enough columns to gain from it is not decomposed into singular values, but
    into R alone. Where m >= 1.5 n, that is first sought from a Gram matrix and its Cholesky factor,
    of large A in fp32 and then in working precision, if a look at a quarter of the columns lets
    one hope that the condition number is small enough; else, and last, by Householder QR. x is
    refined with R (:doc:`/algorithms/refinement` says how), until the error is what relative
    changes of A and b by the unit roundoff would cause, as for the solution of a backward stable
    method, and no longer halves; x from Householder QR in working precision is only tested. The
    rank is n beyond doubt where the estimated reciprocal condition number of R is 10 times `cond`
    and clear of the rounding errors of R. Where Householder QR leaves it in doubt, gelsd solves
    the problem with R in place of A. Every other problem is SciPy's: underdetermined ones, small
    ones, and those with a driver.

    m n^2 + n^3 / 3 flops with a Gram matrix, 2 m n^2 - 2/3 n^3 with Householder QR, and 4 m n for
    each step and right-hand side. Workspace: 3 n^2 numbers and 3 m nrhs, with Householder QR m n,
    and a copy of A for the singular values unless `overwrite_a`.

    On a device (CuPy arrays) R is first sought from a Gram matrix for every m >= n, however small,
    and in fp32 only where that is known to be clearly faster than fp64. What is SciPy's on the host
    is done by the SVD (cuSOLVER's gesvd), with the rule of gelsd for the singular values that
    count. 4 n random numbers go to the device for each R that is tested, and a few numbers for each
    right-hand side and step come back; nothing else of the size of m or n crosses.

    References
    ----------
    Bjorck, BIT 7 (1967) 257. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
    2002, chapter 20. Carson, Higham and Pranesh, SIAM J. Sci. Comput. 42 (2020) A4063.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import lstsq
    >>> t = np.linspace(0, 1, 5)
    >>> x, residues, rank, s = lstsq(np.stack([np.ones(5), t], axis=1), 2 + 3 * t)
    >>> print(np.round(x, 12), rank)
    [2. 3.] 2
    """
    if cond is not None and not float(cond) >= 0:
        raise ValueError(f"cond must not be negative; got {cond!r}")
    if (
        precision == "auto" and refine == "auto" and tol is None and not full_output
        and _is_scipys(a, b) and (check_finite or (np.isfinite(a).all() and np.isfinite(b).all()))
        and lapack_driver in (None, *DRIVERS)
    ):  # fmt: skip
        return _scipy_lstsq(a, b, cond, check_finite, lapack_driver)
    if lapack_driver is not None and lapack_driver not in DRIVERS:
        raise ValueError(f'LAPACK driver "{lapack_driver}" is not found')
    arguments.choice("refine", refine, METHODS)
    arguments.tolerance(tol)
    a1, b1 = arguments.as_array(a, "a"), arguments.as_array(b, "b")
    xp = ops_for(a1, b1).xp
    b1 = xp.atleast_1d(b1)
    if a1.ndim < 2:
        raise ValueError(f"Input array a should be at least 2D, got {a1.shape=}")
    dtype = arguments.common_dtype(a1, b1)
    pinned = arguments.precision_option(precision, dtype)
    a1, b1 = arguments.to_dtype(a1, dtype), arguments.to_dtype(b1, dtype)
    vector = b1.ndim == 1
    if vector:
        b1 = b1[:, None]
    m, n = a1.shape[-2:]
    if m != b1.shape[-2]:
        raise ValueError(
            f"Shape mismatch: a and b should have the same number of rows ({m} != {b1.shape[-2]})."
        )
    if check_finite:
        validate.check_finite(a1, b1)
    cutoff = float(np.finfo(dtype).eps) if cond is None else float(cond)
    options = Options(
        cutoff, lapack_driver, pinned, "lsqr" if refine == "gmres" else refine, tol, fallback
    )
    batch = np.broadcast_shapes(a1.shape[:-2], b1.shape[:-2])
    a1 = xp.broadcast_to(a1, (*batch, m, n))
    b1 = xp.broadcast_to(b1, (*batch, *b1.shape[-2:]))
    keep = bool(overwrite_a) and not batch
    answers = [
        solve_one(a1[i], b1[i], options, check_finite, keep) for i in validate.batch_indices(batch)
    ]
    return _result(xp, answers, batch, (m, n, b1.shape[-1]), dtype, vector, options, full_output)


def _is_scipys(a: Any, b: Any) -> bool:
    """Whether a and b are arrays that go to SciPy as they are: one small problem, no conversion."""
    if type(a) is not np.ndarray or type(b) is not np.ndarray or a.ndim != 2:
        return False
    m, n = a.shape
    return (
        n > 0 and (m < n or is_small(m, n)) and a.dtype == b.dtype and a.dtype.char in "fdFD"
        and 0 < b.ndim <= 2 and b.shape[0] == m and b.size > 0
    )  # fmt: skip


def _scipy_lstsq(
    a: Any, b: Any, cond: float | None, checked: bool, driver: str | None
) -> LstsqResult:
    """`scipy.linalg.lstsq` for the arrays of `_is_scipys`, with what SciPy 1.18 returns."""
    try:
        x, squares, rank, s = scipy.linalg.lstsq(a, b, cond, False, False, checked, driver)
    except scipy.linalg.LinAlgError as error:
        raise LinAlgError(str(error)) from None
    if rank < a.shape[1] < a.shape[0] and driver != "gelsy":
        squares = np.full(b.shape[1:], np.nan)
    if type(squares) is not np.ndarray or squares.dtype != x.dtype:
        squares = np.asarray(squares, x.dtype)
    return LstsqResult(x, squares, np.int64(rank), s)


def _result(
    xp: Any, answers: list[Answer], batch: tuple[int, ...], shape: tuple[int, int, int],
    dtype: np.dtype[Any], vector: bool, options: Options, full_output: bool,
) -> LstsqResult:  # fmt: skip
    """The answers of a batch in SciPy's shapes."""
    m, n, nrhs = shape
    x = xp.empty((*batch, n, nrhs), dtype)
    squares = xp.empty((*batch, nrhs), dtype)
    rank = np.empty(batch, np.int64)
    for index, answer in zip(validate.batch_indices(batch), answers, strict=True):
        x[index], squares[index], rank[index] = answer.x, answer.squares, answer.rank
    if vector:
        x, squares = x[..., 0], squares[..., 0]
    if n > 0 and (m <= n or options.driver == "gelsy"):
        squares = xp.empty((*batch, 0), dtype if m else np.float64)
    elif n == 0:
        squares = squares.real
    values = [p.s for p in answers]
    s: Any = lambda: _stack(xp, values, batch, shape, dtype)  # noqa: E731
    if not batch:
        s = values[0]
    if options.driver == "gelsy" and min(m, n) > 0:
        s = None
    report = None
    if full_output:
        reports = [p.report for p in answers]
        if vector:
            reports = [r.of_vector() for r in reports]
        if reports:
            report = reports[0] if not batch else SolveReport.combine(reports, batch)
        else:
            report = SolveReport(Status.DIRECT)
    return LstsqResult(x, xp.asarray(squares), rank[()], s, report)


def _stack(
    xp: Any, values: list[Any], batch: tuple[int, ...], shape: tuple[int, int, int],
    dtype: np.dtype[Any],
) -> Array:  # fmt: skip
    out: Array = xp.empty((*batch, min(shape[:2])), real_dtype(dtype))
    for index, value in zip(validate.batch_indices(batch), values, strict=True):
        out[index] = value() if callable(value) else value
    return out
