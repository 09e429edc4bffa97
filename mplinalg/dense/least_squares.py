"""One least-squares problem: the route it takes, and what is reported of it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ..errors import LinAlgError, LinAlgWarning
from ..factor.columns import scaled_columns, unit_columns
from ..factor.gram import gram
from ..factor.qr import qr
from ..ops import Ops, is_on_host, ops_for, rates
from ..precision import FP32, Format, real_dtype, working_format
from ..refine.ladder import Rung
from ..refine.least_squares import column_norms
from ..refine.least_squares_ladder import Factored, Solution, walk
from ..report import RungOutcome, SolveReport, Status
from . import validate
from .singular_values import in_two_stages, singular_values, svd

Array = NDArray[Any]

METHODS = ("auto", "classical", "lsqr", "gmres", None)
_LEAST_WORK = 5e6
"""From this m n^2 on, for n >= 64, R and a few refinement steps cost less than gelsd."""
_TALL = 1.5
"""From this m / n on, a Gram matrix costs clearly less than Householder QR."""
_FEW, _LARGE, _SQUARE = 2e7, 2e8, 8e8
"""Below the first m n^2, Householder QR in working precision costs less than finding out whether a
Gram matrix will do; below the second, an fp32 Gram matrix gains nothing over one in working
precision, and below the third fp32 Householder QR nothing over that (measured)."""
_MANY = 1 / 8
"""From so many right-hand sides a column of A on, refining them costs more than a better R."""
_GRAM_RCOND = 1 / 16
"""From this rcond on, R of a Gram matrix in working precision has the singular values of A."""
_SAFE_EXPONENT = {"fp32": 20, "fp64": 40}
_FASTER = 1.5
"""Times that products in fp32 have to be faster than in fp64 for a device to begin with them."""


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
    s: Array | Callable[[], Array] | None
    report: SolveReport


def solve_one(
    a: Array,
    b: Array,
    options: Options,
    checked: bool,
    keep: bool,
    cache: dict[Rung, Factored] | None = None,
) -> Answer:
    """min ||b - A x|| for A (m, n) and b (m, nrhs)."""
    m, n = a.shape
    ops = ops_for(a, b)
    xp = ops.xp
    if m == 0 or n == 0:
        squares = xp.linalg.norm(b, axis=0) ** 2
        report = SolveReport(Status.DIRECT, precision=working_format(a.dtype).name)
        return Answer(xp.zeros((n, b.shape[1]), a.dtype), squares, 0, xp.empty(0), report)
    if not checked and not (xp.isfinite(a).all() and xp.isfinite(b).all()):
        return _of_bad_data(a, b)
    if is_on_host(a):
        rungs = rungs_for(a.shape, b.shape[1], a.dtype, options, kept=cache is not None)
        by_svd = by_scipy
    else:
        rungs = device_rungs(ops, a.shape, b.shape[1], a.dtype, options)
        by_svd = by_svd_on_device
    pinned = options.pinned is not None and options.pinned != working_format(a.dtype)
    if not rungs:
        why = "m < n" if m < n else f"driver {options.driver}"
        if pinned:
            _complain(options, f"precision={options.pinned} cannot be used with {why}")
        return by_svd(a, b, options, ())
    start = time.perf_counter()
    answer, walked, first_delivered = _refined(a, b, rungs, options, keep, cache)
    if not first_delivered and (pinned or options.refine not in ("auto", None)):
        tried = "; ".join(f"{r.format} {r.method}: {r.outcome}" for r in walked)
        asked = f"precision={options.pinned or 'auto'}, refine={options.refine}"
        _complain(options, f"{asked} could not deliver ({tried})")
    if answer is None:
        answer = by_svd(a, b, options, walked)
    seconds = {**answer.report.seconds, "total": time.perf_counter() - start}
    answer.report = replace(answer.report, seconds=seconds)
    return answer


def is_small(m: int, n: int) -> bool:
    """Whether gelsd is the cheaper way (measured roughly, on two cores)."""
    work = m * n * n
    # nearly square, gelsd finds the singular values without a QR before
    return work < _LEAST_WORK * max(1.0, 64.0 / n) or (m < _TALL * n and work < _FEW)


def rungs_for(
    shape: tuple[int, ...], nrhs: int, dtype: np.dtype[Any], options: Options, *, kept: bool = False
) -> tuple[Rung, ...]:
    """The ladder below the SVD, cheapest first; empty where SciPy is the better way.

    Factors that are `kept` pay off for small matrices too.
    """
    m, n = shape
    working = working_format(dtype)
    if m < n or options.driver is not None or nrhs == 0:
        return ()
    work = math.inf if options.pinned else m * n * n
    is_tall = m >= _TALL * n and work >= _FEW
    formats: tuple[Format, ...] = (working,)
    if work >= (_LARGE if is_tall else _SQUARE):
        formats = tuple(dict.fromkeys((FP32, working)))
    ladder = [Rung(f, "qr") for f in formats]
    if is_tall:
        ladder = [*(Rung(f, "gram") for f in formats), Rung(working, "qr")]
    if options.pinned is None and nrhs >= _MANY * n:
        ladder = ladder[-1:]
    if options.pinned is None:
        return () if is_small(m, n) and options.refine == "auto" and not kept else tuple(ladder)
    return _from_pinned(options.pinned, ladder, working, options.fallback)


def device_rungs(
    ops: Ops, shape: tuple[int, ...], nrhs: int, dtype: np.dtype[Any], options: Options
) -> tuple[Rung, ...]:
    """The same on a device, where nothing is slower than an SVD, and Householder QR is next."""
    m, n = shape
    working = working_format(dtype)
    if m < n or options.driver is not None or nrhs == 0:
        return ()
    formats: tuple[Format, ...] = (working,)
    if options.pinned is not None or (nrhs < _MANY * n and _pays_single(ops, n)):
        formats = tuple(dict.fromkeys((FP32, working)))
    ladder = [*(Rung(f, "gram") for f in formats), Rung(working, "qr")]
    if options.pinned is None:
        return tuple(ladder)
    return _from_pinned(options.pinned, ladder, working, options.fallback)


def _pays_single(ops: Ops, n: int) -> bool:
    if n < ops.refines_from or FP32 not in ops.fast_formats:
        return False
    gemm = rates.known(ops).gemm
    return gemm["fp32"] >= _FASTER * gemm["fp64"]


def _from_pinned(
    pinned: Format, ladder: Sequence[Rung], working: Format, fallback: bool
) -> tuple[Rung, ...]:
    if pinned == working:
        return (Rung(working, "qr"),)
    first = [r for r in ladder if r.format == pinned]
    first += [Rung(pinned, "qr")] if Rung(pinned, "qr") not in first else []
    above = [r for r in ladder if r.format.unit_roundoff < pinned.unit_roundoff]
    return (*first, *above) if fallback else tuple(first)


def scale_exponent(ops: Ops, a: Array) -> int:
    """0, or e such that A 2^-e has its largest entry near 1 where squares might leave the range."""
    safe = _SAFE_EXPONENT[working_format(a.dtype).name]
    # the sum of squares bounds the largest entry, and costs one quick pass on the host
    if is_on_host(a) and a.flags.forc:
        entries = a.ravel(order="K").view(real_dtype(a.dtype))
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(np.dot(entries, entries))
        if 4.0 ** (1 - safe) * a.size <= total <= 4.0 ** (safe - 1):
            return 0
    exponent = math.frexp(ops.amax(a))[1]
    return 0 if abs(exponent) <= safe else exponent


def _refined(
    a: Array,
    b: Array,
    rungs: Sequence[Rung],
    options: Options,
    keep: bool,
    cache: dict[Rung, Factored] | None,
) -> tuple[Answer | None, tuple[RungOutcome, ...], bool]:
    """The answer of the ladder, if it has one; what was walked; whether it is what was asked."""
    working = working_format(a.dtype)
    a1 = validate.to_lapack_layout(a)
    ops = ops_for(a1)
    xp = ops.xp
    exponent = scale_exponent(ops, a1)
    scaled = scaled_by(ops, a1, -exponent)
    b1, b_exponents = unit_columns(xp, b)
    b1 = xp.array(b1, order="F")
    found = walk(
        ops, scaled, b1, rungs, working.unit_roundoff,
        cond=options.cond, method=options.refine, tol=options.tol,
        # on a device, a Gram matrix costs hardly more than the look ahead
        foresee=options.pinned is None and is_on_host(a),
        # where singular values are dear, those who ask for them get x from the same R
        most_squared=math.inf if in_two_stages(a.shape[1], a.dtype) else 2 / _GRAM_RCOND,
        cache=cache,
    )  # fmt: skip
    state, factored = found.state, found.factored
    if state is None or factored is None:
        if found.last is None or found.last.rung != Rung(working, "qr"):
            return None, found.rungs, False
        return _by_svd_of_r(ops, found, b1, b_exponents, exponent, options), found.rungs, False
    x = scaled_columns(xp, state.x, b_exponents - exponent)
    squares = _squares(xp, state.r, b_exponents)
    kappa = 1 / factored.triangle.rcond
    x_norm, r_norm = column_norms(ops, state.x, state.r)
    x_size = x_norm * factored.triangle.largest
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(x_size > 0, r_norm / x_size, 0.0)
    error = np.asarray(state.omega, np.float64)
    asked = options.pinned is None or factored.rung.format == options.pinned
    tested = options.refine is not None
    near_one = factored.triangle.rcond >= _GRAM_RCOND
    has_r = factored.rung == Rung(working, "qr")
    has_r |= near_one and factored.rung == Rung(working, "gram")
    # A may change before its singular values are asked for
    kept = factored.triangle.r if has_r else a1 if keep else xp.array(a1, order="K")
    report = SolveReport(
        status=Status.CONVERGED if tested else Status.DIRECT,
        rungs=found.rungs,
        precision=factored.rung.format.name,
        iterations=state.steps,
        inner_iterations=state.inner,
        backward_error=error,
        componentwise_error=None,
        # the rounding of the residual may hide a few u
        forward_error_bound=(error + 4 * working.unit_roundoff) * kappa * (2 + kappa * ratio),
        rcond=factored.triangle.rcond,
        overflows=factored.counters.overflows,
        underflows=factored.counters.underflows,
        seconds=found.seconds,
        workspace_bytes=found.workspace_bytes
        + (kept.nbytes if kept is not a1 else 0) + (scaled.nbytes if exponent else 0),
    )  # fmt: skip

    def values() -> Array:
        r = kept if has_r else _working_r(ops, kept, exponent, near_one)
        return scaled_by(ops, singular_values(r)[None], exponent)[0]

    return Answer(x, squares, a.shape[1], values, report), found.rungs, asked


def _working_r(ops: Ops, a: Array, exponent: int, near_one: bool) -> Array:
    """R of A 2^-exponent whose singular values are those of A, with errors of order u ||A||.

    From a Gram matrix in working precision the errors are of order kappa u ||A||, which serves
    while kappa is `near_one`.
    """
    working = working_format(a.dtype)
    a = scaled_by(ops, a, -exponent)
    return gram(ops, a, working).r if near_one else qr(ops, a, working).r()


def _by_svd_of_r(
    ops: Ops, found: Solution, b: Array, b_exponents: Array, exponent: int, options: Options
) -> Answer | None:
    """The SVD (SciPy's gelsd) of R instead of A, where Householder QR left the rank in doubt.

    With A = Q [R; 0] both have the same solutions, rank and singular values, and gelsd itself
    begins with such an R.
    """
    assert found.last is not None
    factors, r = found.last.factors, found.last.triangle.r
    xp = ops.xp
    if factors is None or not bool(xp.isfinite(r).all()):
        return None
    m, n = factors.shape
    c = factors.apply_q(b, "C")
    by_svd = by_scipy if is_on_host(r) else by_svd_on_device
    answer = by_svd(r, c[:n], options, found.rungs)
    if m > n and answer.rank == n:
        # ||b - A x||^2 = ||c_1 - R x||^2 + ||c_2||^2, and R x = c_1
        answer.squares = _squares(xp, c[n:], b_exponents)
    answer.x = scaled_columns(xp, answer.x, b_exponents - exponent)
    if answer.s is not None and not callable(answer.s):
        answer.s = scaled_by(ops, answer.s[None], exponent)[0]
    return answer


def scaled_by(ops: Ops, a: Array, exponent: int) -> Array:
    """A 2^exponent; A itself if that is 0."""
    return scaled_columns(ops.xp, a, ops.xp.full(a.shape[1], exponent)) if exponent else a


def _squares(xp: Any, r: Array, exponents: Array) -> Array:
    """The sums of squares of the columns of r 2^exponents; they may overflow."""
    size = (r.real**2 + r.imag**2 if r.dtype.kind == "c" else r**2).sum(axis=0)
    with np.errstate(over="ignore", under="ignore"):
        return scaled_columns(xp, size[None], 2 * exponents)[0]


def by_scipy(a: Array, b: Array, options: Options, walked: tuple[RungOutcome, ...]) -> Answer:
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


def by_svd_on_device(
    a: Array, b: Array, options: Options, walked: tuple[RungOutcome, ...]
) -> Answer:
    """x = V diag(1 / s) U^H b with the singular values that count, as gelsd finds it."""
    start = time.perf_counter()
    a = validate.to_lapack_layout(a)
    ops = ops_for(a, b)
    xp = ops.xp
    (m, n), nrhs = a.shape, b.shape[1]
    exponent = scale_exponent(ops, a)
    scaled = scaled_by(ops, a, -exponent)
    b1, b_exponents = unit_columns(xp, b)
    b1 = xp.array(b1, order="F")
    u, s, vh = svd(ops, scaled)
    counts = (s > options.cond * s[0]).sum().astype(s.dtype)
    sizes: list[float] = xp.stack([counts, s[0], s[-1]]).tolist()
    count, largest, smallest = sizes
    rank = int(count)
    c, x = xp.zeros((rank, nrhs), a.dtype, order="F"), xp.zeros((n, nrhs), a.dtype, order="F")
    ops.gemm(1.0, u[:, :rank], b1, 0.0, c, transa="C")
    c /= s[:rank, None]
    ops.gemm(1.0, vh[:rank], c, 0.0, x, transa="C")
    squares = xp.full(nrhs, np.nan, s.dtype)
    if rank == n < m and nrhs and options.driver != "gelsy":
        r, _ = ops.residual(scaled, x, b1, magnitude=False)
        squares = _squares(xp, r, b_exponents)
    fmt = working_format(a.dtype).name
    report = SolveReport(
        Status.DIRECT,
        rungs=(*walked, RungOutcome(fmt, "gesvd", f"rank {rank}")),
        precision=fmt,
        backward_error=None, componentwise_error=None,
        rcond=smallest / largest if largest > 0 else 0.0,
        seconds={"solve": time.perf_counter() - start},
        workspace_bytes=2 * a.nbytes + b.nbytes,
    )  # fmt: skip
    x = scaled_columns(xp, x, b_exponents - exponent)
    return Answer(x, squares, rank, scaled_by(ops, s[None], exponent)[0], report)


def _of_bad_data(a: Array, b: Array) -> Answer:
    warnings.warn("a or b holds NaN or infinity: so does x", LinAlgWarning, stacklevel=4)
    xp = ops_for(a, b).xp
    m, n = a.shape
    nan = xp.full((n, b.shape[1]), np.nan, a.dtype)
    s = xp.full(min(m, n), np.nan, real_dtype(a.dtype))
    report = SolveReport(Status.STAGNATED, precision=working_format(a.dtype).name,
                         backward_error=np.full(b.shape[1], np.nan))  # fmt: skip
    return Answer(nan, xp.full(b.shape[1], np.nan), 0, s, report)


def _complain(options: Options, message: str) -> None:
    if not options.fallback:
        raise LinAlgError(message)
    warnings.warn(f"{message}; another way was used", LinAlgWarning, stacklevel=4)
