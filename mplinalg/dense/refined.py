"""One system, solved on the ladder: from validated arrays to x and its report."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import LinAlgError, LinAlgWarning
from ..factor.blocks import exponents
from ..factor.condest import inverse_norm1
from ..ops import rates
from ..ops.protocol import Array, Ops
from ..precision import FP32, Format, backward_bound, working_format
from ..refine.gmres import Gmres
from ..refine.ladder import Ascent, Ladder, Rung
from ..refine.system import Factors, LinearSystem
from ..report import SolveReport, Status
from . import messages
from .matrix import CHOLESKY, QR, ROW_BLOCK, Matrix, has_subnormals
from .rungs import (
    Options,
    rungs_of,
)

_BELIEVED = 10.0
"""After GMRES, low-precision factors are believed about rcond above this many u_f."""
_GROWN = 1e6
"""Growth from which the factors say nothing of the condition of A."""
_PIVOT_RATIO = 2.0**24
"""Pivots that differ by more than this are those of a matrix with graded columns."""


@dataclass
class Outcome:
    """x and what the report is made of."""

    x: Array
    status: Status
    message: str | None
    ascent: Ascent
    report: SolveReport


# what overflows on a low rung is seen in its result, and the next one taken
@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def solve_on_ladder(
    matrix: Matrix, b: Array, options: Options, *, first: Format, trans: str = "N",
    factors: Factors | None = None, detailed: bool = True,
) -> Outcome:  # fmt: skip
    """Solve op(A) x = b.

    Parameters
    ----------
    matrix : Matrix
    b : Array, shape (n, nrhs)
        Finite, in working precision.
    options : Options
    first : Format
        Where the ladder starts.
    trans : {"N", "T", "C"}
    factors : Factors, optional
        Those of the first rung, if there already, and known to show that A is regular.
    detailed : bool
        Also estimate what only the report shows (condition, growth, forward error bound).

    Raises
    ------
    LinAlgError
        A is exactly singular, or not positive definite where that was asserted; or, with
        ``fallback=False``, the first rung did not deliver.
    """
    began = time.perf_counter() - sum(matrix.seconds.values())  # A was measured before
    scaled_b, shift = matrix.enter(b, trans)
    system = matrix.system(
        scaled_b, trans, extended=options.residual == "extended", tol=options.tol
    )
    rungs = rungs_of(matrix, first, options, factors)
    made: list[Factors] = [] if factors is None else [factors]

    def factorize(rung: Rung) -> Factors:
        return made.pop() if made else matrix.factorize(rung)

    ladder = Ladder(
        system, rungs, factorize, options.refine, options.max_iter,
        options.fallback,
        # a pinned precision is given every chance before the ladder leaves it
        None if options.precision is not None else lambda rung: _factor_seconds(system, rung),
        is_proven=factors is not None,
    )  # fmt: skip
    ascent = ladder.climb()
    if ascent is None:
        raise LinAlgError(
            f"the {first} factorization broke down, and fallback=False keeps the ladder there"
        )
    if not options.fallback and not ascent.converged and options.refine is not None:
        worst = _worst(ascent.state.errors.omega)
        raise LinAlgError(
            f"{first} with refine={options.refine!r} did not deliver, and fallback=False "
            f"({ascent.walked[-1].outcome} at backward error {worst:.1e})"
        )
    x = matrix.leave(ascent.x, shift, trans)
    status, message, rcond = _verdict(matrix, system, ascent, options, first, x, b)
    if matrix.flushed and message not in (None, messages.SUBNORMAL):
        message = f"{message} {messages.SUBNORMAL}"
    report = _report(matrix, system, ascent, status, rcond, options, detailed)
    total = {**report.seconds, "total": time.perf_counter() - began}
    report = replace(report, seconds=total)
    return Outcome(x, status, message, ascent, report)


def _factor_seconds(system: LinearSystem, rung: Rung) -> float:
    n = system.n
    flops = {CHOLESKY: n**3 / 3, QR: 4 * n**3 / 3}.get(rung.method, 2 * n**3 / 3)
    flops *= 4 if system.a.dtype.kind == "c" else 1
    return flops / rates.known(system.ops).gemm[rung.format.name]


def _verdict(
    matrix: Matrix,
    system: LinearSystem,
    ascent: Ascent,
    options: Options,
    first: Format,
    x: Array,
    b: Array,
) -> tuple[Status, str | None, float | None]:
    """Status, the warning that is due, and the condition estimate if one was made."""
    working = working_format(matrix.a.dtype)
    eps = 2 * working.unit_roundoff
    omega = _worst(ascent.state.errors.omega)
    rcond = ascent.rcond
    if not ascent.converged:
        if rcond is None:
            rcond = ascent.factors.rcond(system.norm1(), system.b.dtype)
        # of factors whose pivots have grown, rcond is not that of A
        grown = ascent.rung.method != QR and ascent.factors.growth(matrix.amax) > _GROWN
        if rcond < eps and not grown:
            return Status.ILL_CONDITIONED, messages.ill_conditioned(rcond), rcond
        return Status.STAGNATED, messages.stagnated(omega, rcond), rcond
    lost = _out_of_range(matrix, ascent, x, b)
    if lost is not None:
        return Status.STAGNATED, lost, rcond
    if _needs_condition_check(matrix, ascent, working):
        rcond = true_rcond(matrix, ascent.factors, system.norm1())
        if matrix.has_qr and not rcond >= eps and ascent.factors.growth(matrix.amax) > _GROWN:
            # that of the factors, whose pivots have grown: ask factors that cannot
            ascent.factors = matrix.factorize(Rung(working, QR))
            rcond = true_rcond(matrix, ascent.factors, system.norm1())
        if not rcond >= eps:
            return Status.ILL_CONDITIONED, messages.ill_conditioned(rcond), rcond
    largest = _condition_seen(system, ascent)
    if not largest * eps <= 1.0:
        rcond = min(1.0 / largest, 1.0 if rcond is None else rcond)
        return Status.ILL_CONDITIONED, messages.ill_conditioned(rcond), rcond
    if options.precision is not None and ascent.rung.format != first:
        taken = f"{ascent.rung.format} {ascent.rung.method}"
        return Status.CONVERGED, messages.climbed(first.name, taken), rcond
    plain = first == working and ascent.rung.format == working and ascent.rung.method != QR
    direct = plain or options.refine is None
    return (Status.DIRECT if direct else Status.CONVERGED), None, rcond


def _out_of_range(matrix: Matrix, ascent: Ascent, x: Array, b: Array) -> str | None:
    """The warning that is due if the size of x lies outside the range of its dtype.

    Or if the input did, for a backend that flushes subnormal numbers; `b` is as it was given.
    """
    parts = abs(x) if x.dtype.kind != "c" else matrix.ops.xp.maximum(abs(x.real), abs(x.imag))
    size, errors = np.array(parts.max(axis=0).tolist()), ascent.state.errors
    over = ~np.isfinite(size)
    least = float(np.finfo(x.dtype).smallest_normal)
    if matrix.ops.flushes and working_format(x.dtype) is FP32:
        # entries that count beside the largest one are zeros now
        least /= backward_bound(len(x), FP32.unit_roundoff)
    under = (size < least) & (errors.x_size > 0)
    flushed = matrix.flushed or (matrix.ops.flushes and has_subnormals(matrix.ops, b))
    wrong = over | under | flushed
    errors.omega[wrong] = errors.berr[wrong] = np.inf
    if over.any():
        return messages.OVERFLOW
    if flushed:
        return messages.SUBNORMAL
    return messages.UNDERFLOW if under.any() else None


def _needs_condition_check(matrix: Matrix, ascent: Ascent, working: Format) -> bool:
    """Whether the condition number must be estimated before x is returned.

    A rung below the working precision has shown that A is regular (`Ladder`); but rows or columns
    of very different size hide the condition of A as it was given.
    """
    # the roundoff of formats below single precision is not far from it, and may be nothing of the
    # kind: a panel that is the whole matrix is factored in single precision
    is_working = ascent.rung.format == working or working is FP32
    return is_working or matrix.is_graded or _has_graded_columns(ascent.factors)


def _condition_seen(system: LinearSystem, ascent: Ascent) -> float:
    """The largest ||A|| ||x|| / ||b||: the condition number of A is no smaller.

    Low-precision factors of a singular matrix can hide what it is, and GMRES still find an x.
    """
    b_size, x_size = ascent.state.b_size, ascent.state.errors.x_size
    ratio = system.norm_a * x_size[b_size > 0] / b_size[b_size > 0]
    return float(np.max(ratio, initial=0.0))


def _has_graded_columns(factors: Factors) -> bool:
    """Whether the pivots differ by more than the condition number could that was refined with."""
    known = getattr(factors, "column_sizes", None)  # LU has them
    sizes = None if known is None else known()
    return sizes is not None and not bool(sizes.max() <= _PIVOT_RATIO * sizes.min())


def true_rcond(matrix: Matrix, factors: Factors, norm1: float) -> float:
    """rcond of A as it was given, in the 1-norm; `norm1` is that of ``matrix.a``."""
    dtype = matrix.a.dtype
    if matrix.outer is None:
        return factors.rcond(norm1, dtype)
    ops, outer = matrix.ops, matrix.outer
    # a common factor of the rows, or of the columns, changes no condition number
    rows, cols = _centred(ops, outer.rows), _centred(ops, outer.cols)

    def inverse(z: Array) -> Array:  # A^-1 = C A_s^-1 R
        return factors.solve(ops.xp.asfortranarray(z * rows[:, None])) * cols[:, None]

    def inverse_h(z: Array) -> Array:
        return factors.solve(ops.xp.asfortranarray(z * cols[:, None]), "C") * rows[:, None]

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        norm_inverse = inverse_norm1(ops, matrix.a.shape[0], dtype, inverse, inverse_h)
        sums = matrix.column_sums(1 / rows)
        largest = sums / cols
        product = float(largest.max()) * norm_inverse
    return 1.0 / product if product > 0 else 0.0


def _centred(ops: Ops, powers: Array) -> Array:
    """Powers of two, divided by the one in the middle of their range."""
    exponent = exponents(ops, powers)
    middle = (int(exponent.max()) + int(exponent.min())) // 2
    return ops.xp.ldexp(ops.xp.ones_like(powers), exponent - middle)


def _report(
    matrix: Matrix, system: LinearSystem, ascent: Ascent, status: Status, rcond: float | None,
    options: Options, detailed: bool,
) -> SolveReport:  # fmt: skip
    state, factors = ascent.state, ascent.factors
    growth = bound = None
    if detailed and system.n:
        if rcond is None:
            rcond = true_rcond(matrix, factors, system.norm1())
        growth = factors.growth(matrix.amax)
        if options.refine is not None and matrix.outer is None:
            bound = _forward_bound(system, ascent, factors)
    if ascent.inner_iterations and rcond is not None and not _is_believed(rcond, matrix, ascent):
        rcond = bound = None
    return SolveReport(
        status=status,
        rungs=ascent.walked,
        precision=ascent.rung.format.name,
        iterations=ascent.iterations,
        inner_iterations=ascent.inner_iterations,
        backward_error=state.errors.omega,
        componentwise_error=state.errors.berr,
        forward_error_bound=bound,
        rcond=rcond,
        growth=growth,
        overflows=factors.counters.overflows,
        underflows=factors.counters.underflows,
        seconds={**matrix.seconds, **system.seconds, "total": 0.0},
        workspace_bytes=_workspace(matrix, system, ascent, detailed),
        notes=matrix.ops.notes,
    )


def _is_believed(rcond: float, matrix: Matrix, ascent: Ascent) -> bool:
    """Whether the factors can tell `rcond`: in precision u_f they see none below about u_f."""
    u_f = ascent.rung.format.unit_roundoff
    return ascent.rung.format == working_format(matrix.a.dtype) or rcond > _BELIEVED * u_f


def _forward_bound(system: LinearSystem, ascent: Ascent, factors: Factors) -> NDArray[np.float64]:
    """Estimated bound on ||x - x_true|| / ||x||, as LAPACK's FERR, one estimate for all columns.

    || |A^-1| (|r| + 3 sqrt(n + 1) u d) || / ||x||, through the norm of A^-1 diag(w) with the
    columnwise largest w; 3 sqrt(n + 1) in place of LAPACK's n + 1 makes the rounding of r
    probable instead of worst-case (Higham and Mary, SIAM J. Sci. Comput. 41 (2019) A2815).
    With an extended residual: from the contraction of the last corrections.
    """
    ops, state, u = system.ops, ascent.state, system.unit_roundoff
    k = state.x.shape[1]
    if system.extended:
        rho = np.clip(np.nan_to_num(state.contraction, nan=1.0), 0.0, 0.99)
        with np.errstate(invalid="ignore", divide="ignore"):
            last = np.where(state.errors.x_size > 0, state.step_size / state.errors.x_size, 0.0)
        return np.asarray(np.maximum(last * rho / (1 - rho), 2 * u))
    columns = np.arange(k)
    r, d = system.residual(state.x, columns)
    d = system.magnitude(state.x, columns) if d is None else d
    size = abs(r) if r.dtype.kind != "c" else abs(r.real) + abs(r.imag)
    x_size = ops.xp.asarray(np.where(state.errors.x_size > 0, state.errors.x_size, 1.0))
    w = ((size + 3 * math.sqrt(system.n + 1) * u * d) / x_size).max(axis=1)[:, None]
    other = {"N": "C", "C": "N", "T": "C"}[system.trans]

    # ||A^-1 diag(w)||_inf = ||diag(w) A^-H||_1
    def apply(z: Array) -> Array:
        return factors.solve(ops.xp.asfortranarray(z), other) * w

    def apply_h(z: Array) -> Array:
        return factors.solve(ops.xp.asfortranarray(z * w), system.trans)

    bound = inverse_norm1(ops, system.n, system.b.dtype, apply, apply_h)
    return np.full(k, bound if math.isfinite(bound) else math.inf)


def _workspace(matrix: Matrix, system: LinearSystem, ascent: Ascent, detailed: bool) -> int:
    """Bytes of the factors and of the vectors of the refinement, held at once."""
    vectors = 6 * system.b.nbytes
    estimates = detailed and matrix.triangle is None
    if estimates or system.extended or system.b.shape[1] > 2:  # |A| a block of rows at a time
        vectors += 2 * min(ROW_BLOCK, system.n) * system.n * system.b.itemsize
    copies = matrix.a.nbytes if matrix.is_copy else 0
    inner = 0
    if ascent.inner_iterations:
        gmres = Gmres(system.ops, system.product, system.product)
        inner = gmres.workspace_bytes(system.n, system.b.shape[1], system.b.itemsize)
    return int(ascent.factors.workspace_bytes + vectors + copies + inner)


def _worst(errors: NDArray[np.float64]) -> float:
    return float(np.max(errors)) if errors.size else 0.0


def warn(message: str | None, stacklevel: int = 2) -> None:
    """Issue a LinAlgWarning, if there is something to warn of."""
    if message is not None:
        warnings.warn(message, LinAlgWarning, stacklevel=stacklevel + 1)
