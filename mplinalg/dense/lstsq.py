"""Least squares: min ||b - A x||, a drop-in for `scipy.linalg.lstsq`."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from ..errors import LinAlgError, LinAlgWarning
from ..factor.qr import scaled_columns, unit_columns
from ..ops.dispatch import ops_for
from ..precision import FP32, Format, real_dtype, working_format
from ..refine.ladder import Rung
from ..refine.least_squares import walk
from ..report import RungOutcome, SolveReport, Status
from . import validate

__all__ = ["LstsqResult", "lstsq"]

Array = NDArray[Any]

METHODS = ("auto", "classical", "lsqr", "gmres", None)
DRIVERS = ("gelsd", "gelsy", "gelss")

_FEWEST_COLUMNS = 24
_FEWEST_ELEMENTS = 8192
_TALL = 1.5
"""From this m / n on, a Gram matrix costs clearly less than Householder QR."""
_SAFE_EXPONENT = {"fp32": 20, "fp64": 40}


class LstsqResult(Sequence[Any]):
    """The tuple ``(x, residues, rank, s)`` of `scipy.linalg.lstsq`, with s computed when read.

    Indexing, slicing, unpacking, ``len`` and ``in`` work as on the tuple; with
    ``full_output=True`` the report is a fifth element. The attributes `x`, `residues`, `rank`,
    `s` and `report` (None without ``full_output``) name the elements.

    The singular values cost more than the solution. Reading ``s`` (which unpacking does)
    computes them in working precision by `scipy.linalg.svdvals`, once, from a copy of A taken
    when the problem was solved, so that A may change meanwhile; where SciPy's driver solved the
    problem they are there already.

    Two results are equal if their elements are, arrays compared by shape and value.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, x: Array, residues: Array, rank: Any,
        s: Array | None | Callable[[], Array], report: SolveReport | None = None,
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
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LstsqResult | tuple) or len(self) != len(other):
            return NotImplemented if not isinstance(other, LstsqResult | tuple) else False
        return all(np.array_equal(p, q) for p, q in zip(self, other, strict=True))

    def __repr__(self) -> str:
        s = "..." if callable(self._s) else repr(self._s)
        report = "" if self.report is None else f", report=<{self.report.status.value}>"
        return (
            f"LstsqResult(x={self.x!r}, residues={self.residues!r}, rank={self.rank!r}, "
            f"s={s}{report})"
        )

    def __reduce__(self) -> Any:
        return LstsqResult, (self.x, self.residues, self.rank, self.s, self.report)


@dataclass(frozen=True)
class Options:
    """What the caller asked for, checked."""

    cond: float
    driver: str | None
    pinned: Format | None
    refine: str | None
    tol: float | None
    fallback: bool


@dataclass
class Answer:
    """The solution of one problem: x (n, nrhs), sums of squares of residuals (nrhs,), ..."""

    x: Array
    squares: Array
    rank: int
    s: Array | None | Callable[[], Array]
    report: SolveReport


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
        gelsd where that does not apply.
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

    Warns
    -----
    LinAlgWarning
        If a pinned precision or refinement could not deliver and another was used.

    Notes
    -----
    A with m >= n and enough columns to gain from it is not decomposed into singular values, but
    into R alone: by a Gram matrix and its Cholesky factor, first in fp32, then in working
    precision, where m >= 1.5 n, else by Householder QR in fp32 and then in working precision. x
    is refined with R as `mplinalg.refine.least_squares` describes, until the error is what
    relative changes of A and b by the unit roundoff would cause, as for the solution of a
    backward stable method, and no longer halves. The rank is n beyond doubt where the estimated
    reciprocal condition number of R is 10 times `cond` and clear of the rounding errors of R.
    Every other problem is SciPy's: rank-deficient or underdetermined ones, small ones, and those
    with a driver.

    m n^2 + n^3 / 3 flops, and 4 m n for each step and right-hand side. Workspace: 3 n^2 numbers
    and 3 m nrhs, and a copy of A for the singular values unless `overwrite_a`.

    References
    ----------
    Bjorck, BIT 7 (1967) 257. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
    2002, chapter 20. Carson, Higham and Pranesh, SIAM J. Sci. Comput. 42 (2020) A4063.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.dense.lstsq import lstsq
    >>> t = np.linspace(0, 1, 5)
    >>> x, residues, rank, s = lstsq(np.stack([np.ones(5), t], axis=1), 2 + 3 * t)
    >>> print(np.round(x, 12), rank)
    [2. 3.] 2
    """
    if lapack_driver is not None and lapack_driver not in DRIVERS:
        raise ValueError(f'LAPACK driver "{lapack_driver}" is not found')
    validate.choice("refine", refine, METHODS)
    validate.tolerance(tol)
    a1, b1 = validate.as_array(a, "a"), np.atleast_1d(validate.as_array(b, "b"))
    if a1.ndim < 2:
        raise ValueError(f"Input array a should be at least 2D, got {a1.shape=}")
    dtype = validate.common_dtype(a1, b1)
    pinned = validate.precision_option(precision, dtype)
    a1, b1 = validate.to_dtype(a1, dtype), validate.to_dtype(b1, dtype)
    vector = b1.ndim == 1
    if vector:
        b1 = b1[:, None]
    m, n = a1.shape[-2:]
    if m != b1.shape[-2]:
        raise ValueError(
            "Shape mismatch: a and b should have the same number of rows "
            f"({m} != {b1.shape[-2]})."
        )
    if check_finite:
        validate.check_finite(a1, b1)
    cutoff = float(np.finfo(dtype).eps) if cond is None else float(cond)
    options = Options(
        cutoff, lapack_driver, pinned, "lsqr" if refine == "gmres" else refine, tol, fallback
    )
    batch = np.broadcast_shapes(a1.shape[:-2], b1.shape[:-2])
    a1 = np.broadcast_to(a1, (*batch, m, n))
    b1 = np.broadcast_to(b1, (*batch, *b1.shape[-2:]))
    keep = bool(overwrite_a) and not batch
    answers = [
        _solve(a1[i], b1[i], options, check_finite, keep) for i in validate.batch_indices(batch)
    ]
    return _result(answers, batch, (m, n, b1.shape[-1]), dtype, vector, options, full_output)


def _result(
    answers: list[Answer], batch: tuple[int, ...], shape: tuple[int, int, int],
    dtype: np.dtype[Any], vector: bool, options: Options, full_output: bool,
) -> LstsqResult:  # fmt: skip
    """The answers of a batch in SciPy's shapes."""
    m, n, nrhs = shape
    x = np.empty((*batch, n, nrhs), dtype)
    squares = np.empty((*batch, nrhs), dtype)
    rank = np.empty(batch, np.int64)
    for index, answer in zip(validate.batch_indices(batch), answers, strict=True):
        x[index], squares[index], rank[index] = answer.x, answer.squares, answer.rank
    if vector:
        x, squares = x[..., 0], squares[..., 0]
    if 0 < n and (m <= n or options.driver == "gelsy"):
        squares = np.empty((*batch, 0), dtype if m else np.float64)
    elif n == 0:
        squares = squares.real
    s: Any = answers[0].s if not batch else lambda: _stack([p.s for p in answers], batch, shape, dtype)
    if options.driver == "gelsy" and min(m, n) > 0:
        s = None
    report = None
    if full_output:
        reports = [p.report for p in answers]
        if vector:
            reports = [_of_vector(r) for r in reports]
        if reports:
            report = reports[0] if not batch else SolveReport.combine(reports, batch)
        else:
            report = SolveReport(Status.DIRECT)
    return LstsqResult(x, np.asarray(squares), rank[()], s, report)


def _stack(
    values: list[Any], batch: tuple[int, ...], shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> Array:
    out = np.empty((*batch, min(shape[:2])), real_dtype(dtype))
    for index, value in zip(validate.batch_indices(batch), values, strict=True):
        out[index] = value() if callable(value) else value
    return out


# -- one problem --------------------------------------------------------------------------------


def _solve(a: Array, b: Array, options: Options, checked: bool, keep: bool) -> Answer:
    """min ||b - A x|| for A (m, n) and b (m, nrhs)."""
    m, n = a.shape
    if m == 0 or n == 0:
        squares = (b * b.conj()).sum(axis=0)
        report = SolveReport(Status.DIRECT, precision=working_format(a.dtype).name)
        return Answer(np.zeros((n, b.shape[1]), a.dtype), squares, 0, np.empty(0), report)
    if not checked and not (np.isfinite(a).all() and np.isfinite(b).all()):
        return _of_bad_data(a, b)
    rungs = _rungs(a.shape, b.shape[1], a.dtype, options)
    pinned = options.pinned is not None and options.pinned != working_format(a.dtype)
    if not rungs:
        why = "m < n" if m < n else f"driver {options.driver}"
        if pinned:
            _complain(options, f"precision={options.pinned} cannot be used with {why}")
        return _by_scipy(a, b, options, ())
    start = time.perf_counter()
    answer, walked, first_delivered = _refined(a, b, rungs, options, keep)
    if not first_delivered and (pinned or options.refine not in ("auto", None)):
        tried = "; ".join(f"{r.format} {r.method}: {r.outcome}" for r in walked)
        asked = f"precision={options.pinned or 'auto'}, refine={options.refine}"
        _complain(options, f"{asked} could not deliver ({tried})")
    if answer is None:
        answer = _by_scipy(a, b, options, walked)
    seconds = {**answer.report.seconds, "total": time.perf_counter() - start}
    answer.report = replace(answer.report, seconds=seconds)
    return answer


def _rungs(
    shape: tuple[int, int], nrhs: int, dtype: np.dtype[Any], options: Options
) -> tuple[Rung, ...]:
    """The ladder below the SVD, cheapest first; empty where SciPy is the better way."""
    m, n = shape
    working = working_format(dtype)
    if m < n or options.driver is not None or nrhs == 0:
        return ()
    gram = [Rung(f, "gram") for f in dict.fromkeys((FP32, working))] if m >= _TALL * n else []
    ladder = [*gram, Rung(working, "qr")] if gram else [
        Rung(f, "qr") for f in dict.fromkeys((FP32, working))
    ]  # fmt: skip
    if options.pinned is None:
        small = n < _FEWEST_COLUMNS or m * n < _FEWEST_ELEMENTS
        return () if small and options.refine == "auto" else tuple(ladder)
    if options.pinned == working:
        return (Rung(working, "qr"),)
    first = [r for r in ladder if r.format == options.pinned]
    first += [Rung(options.pinned, "qr")] if Rung(options.pinned, "qr") not in first else []
    above = [r for r in ladder if r.format.unit_roundoff < options.pinned.unit_roundoff]
    return (*first, *above) if options.fallback else tuple(first)


def _refined(
    a: Array, b: Array, rungs: Sequence[Rung], options: Options, keep: bool
) -> tuple[Answer | None, tuple[RungOutcome, ...], bool]:
    """The answer of the ladder, if it has one; what was walked; whether it is what was asked."""
    working = working_format(a.dtype)
    a1 = validate.to_lapack_layout(a)
    ops = ops_for(a1)
    exponent = math.frexp(ops.amax(a1))[1]
    if abs(exponent) <= _SAFE_EXPONENT[working.name]:
        exponent = 0
    scaled = a1 if exponent == 0 else scaled_columns(np, a1, np.full(a1.shape[1], -exponent))
    b1, b_exponents = unit_columns(np, b)
    b1 = np.array(b1, order="F")
    found = walk(
        ops, scaled, b1, rungs, working.unit_roundoff,
        cond=options.cond, method=options.refine, tol=options.tol,
    )  # fmt: skip
    state, factored = found.state, found.factored
    if state is None or factored is None:
        return None, found.rungs, False
    x = scaled_columns(np, state.x, b_exponents - exponent)
    size = (state.r.real**2 + state.r.imag**2 if a.dtype.kind == "c" else state.r**2).sum(axis=0)
    squares = scaled_columns(np, size[None], 2 * b_exponents)[0]
    kappa = 1 / factored.triangle.rcond
    x_size = np.linalg.norm(state.x, axis=0) * factored.triangle.largest
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(x_size > 0, np.linalg.norm(state.r, axis=0) / x_size, 0.0)
    error = np.asarray(state.omega, np.float64)
    asked = options.pinned is None or factored.rung.format == options.pinned
    tested = options.refine is not None
    copied = a if keep else np.array(a, order="K")
    report = SolveReport(
        status=Status.CONVERGED if tested else Status.DIRECT,
        rungs=found.rungs,
        precision=factored.rung.format.name,
        iterations=state.steps,
        inner_iterations=state.inner,
        backward_error=error,
        componentwise_error=None,
        forward_error_bound=np.maximum(error, working.unit_roundoff) * kappa * (2 + kappa * ratio),
        rcond=factored.triangle.rcond,
        overflows=factored.counters.overflows,
        underflows=factored.counters.underflows,
        seconds=found.seconds,
        workspace_bytes=found.workspace_bytes
        + (0 if keep else copied.nbytes) + (scaled.nbytes if exponent else 0),
    )  # fmt: skip
    answer = Answer(x, squares, a.shape[1], lambda: _singular_values(copied), report)
    return answer, found.rungs, asked


def _singular_values(a: Array) -> Array:
    try:
        s: Array = scipy.linalg.svdvals(a, check_finite=False)
    except scipy.linalg.LinAlgError as error:
        raise LinAlgError(str(error)) from None
    return s


def _by_scipy(
    a: Array, b: Array, options: Options, walked: tuple[RungOutcome, ...]
) -> Answer:
    """SciPy's driver, in working precision; residues by the rules of SciPy 1.18."""
    start = time.perf_counter()
    driver = options.driver or "gelsd"
    (m, n), nrhs = a.shape, b.shape[1]
    columns = b if nrhs else np.zeros((m, 1), a.dtype)
    try:
        x, squares, rank, s = scipy.linalg.lstsq(
            a, columns, cond=options.cond, check_finite=False, lapack_driver=driver
        )
    except scipy.linalg.LinAlgError as error:
        raise LinAlgError(str(error)) from None
    rank = int(rank)
    if m <= n or driver == "gelsy" or rank < n or not np.size(squares):
        squares = np.full(nrhs, np.nan)
    fmt = working_format(a.dtype).name
    report = SolveReport(
        Status.DIRECT,
        rungs=(*walked, RungOutcome(fmt, driver, f"rank {rank}")),
        precision=fmt,
        backward_error=None, componentwise_error=None,
        rcond=None if s is None else float(s[-1] / s[0]) if s[0] > 0 else 0.0,
        seconds={"solve": time.perf_counter() - start},
        workspace_bytes=a.nbytes + b.nbytes,
    )  # fmt: skip
    return Answer(x[:, :nrhs], squares[:nrhs], rank, s, report)


def _of_bad_data(a: Array, b: Array) -> Answer:
    warnings.warn("a or b holds NaN or infinity: so does x", LinAlgWarning, stacklevel=4)
    m, n = a.shape
    nan = np.full((n, b.shape[1]), np.nan, a.dtype)
    s = np.full(min(m, n), np.nan, real_dtype(a.dtype))
    report = SolveReport(Status.STAGNATED, precision=working_format(a.dtype).name,
                         backward_error=np.full(b.shape[1], np.nan))  # fmt: skip
    return Answer(nan, np.full(b.shape[1], np.nan), 0, s, report)


def _complain(options: Options, message: str) -> None:
    if not options.fallback:
        raise LinAlgError(message)
    warnings.warn(f"{message}; another way was used", LinAlgWarning, stacklevel=4)


def _of_vector(report: SolveReport) -> SolveReport:
    """The report of one right-hand side, with floats in place of arrays of one."""
    def plain(value: Any) -> Any:
        return float(value[0]) if isinstance(value, np.ndarray) and value.size == 1 else value

    return replace(
        report,
        backward_error=plain(report.backward_error),
        forward_error_bound=plain(report.forward_error_bound),
    )
