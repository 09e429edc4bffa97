"""solve: A x = b, factored in a low precision, answered in the working one."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import arguments
from ..errors import LinAlgError
from ..ops import is_on_host, ops_for
from ..precision import Format, backward_bound, working_format
from ..refine.criterion import Criterion, column_max
from ..report import RungOutcome, SolveReport, Status
from . import messages, validate
from . import structure as structures
from .direct import effective_matrix, is_certified, solve_directly
from .lean import solve_lean
from .matrix import Matrix, has_subnormals
from .memory import within_memory
from .refined import solve_on_ladder, warn
from .rungs import Options

Array = NDArray[Any]

__all__ = ["solve"]


def solve(
    a: ArrayLike,
    b: ArrayLike,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    assume_a: str | None = None,
    transposed: bool = False,
    *,
    precision: str | Format = "auto",
    refine: str | None = "auto",
    residual: str = "working",
    tol: float | None = None,
    max_iter: int | None = None,
    fallback: bool = True,
    full_output: bool = False,
) -> Any:
    """Solve ``a @ x = b`` for x, to working precision, with factors of a lower one.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        Square matrix or batch of them.
    b : array_like, shape (n,) or (..., n, nrhs)
        Right-hand sides; batch dimensions broadcast with those of `a`.
    lower : bool
        With a symmetric, Hermitian or positive definite `assume_a`: read the lower triangle of
        `a` only, instead of the upper.
    overwrite_a, overwrite_b : bool
        Accepted as in SciPy. The inputs are left as they are: the residual needs them.
    check_finite : bool
        Raise ValueError if an input holds NaN or infinity.
    assume_a : str, optional
        'general', 'diagonal', 'tridiagonal', 'banded', 'upper triangular', 'lower triangular',
        'symmetric', 'hermitian', 'positive definite', or 'gen', 'sym', 'her', 'pos'. With the last
        three one triangle is read. If not given, it is looked for from order 40 on; smaller
        matrices are taken as general.
    transposed : bool
        Solve ``a.T @ x = b``; real `a` only.
    precision : {"auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}
        Format of the first factorization. "auto" takes the cheapest that pays; working precision
        with ``refine=None``.
    refine : {"auto", "classical", "gmres", None}
        How x is refined; None: not at all, and x is as good as the format.
    residual : {"working", "extended"}
        "extended" accumulates residuals in twice the working precision; x is then accurate to
        about the unit roundoff while kappa(a) * u < 1.
    tol : float, optional
        Normwise backward error at which to stop. By default, steps go on until the componentwise
        backward error is as small as working precision makes it.
    max_iter : int, optional
        Most refinement steps on a rung of the ladder.
    fallback : bool
        Climb to a higher precision when one cannot deliver. If False, and a precision or a way to
        refine is pinned, that is a LinAlgError.
    full_output : bool
        Also return a `SolveReport`, whose estimates take time.

    Returns
    -------
    x : ndarray, shape (n,) or (..., n, nrhs)
        In the common LAPACK dtype of `a` and `b`.
    report : SolveReport
        If `full_output`.

    Raises
    ------
    LinAlgError
        `a` is exactly singular, or not positive definite where that was asserted, or
        ``fallback=False`` and the precision or the method asked for did not deliver.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense; NaN or infinity in the input.
    NotImplementedError
        `transposed` with a complex `a`, as in SciPy.

    Warns
    -----
    LinAlgWarning
        `a` is singular to working precision, the backward error test was not met, or a pinned
        `precision` could not deliver and a higher one did.

    Notes
    -----
    A column x_j is finished when ``||b - A x|| <= sqrt(n) u (||A|| ||x|| + ||b||)`` in the
    infinity norm and its componentwise backward error is within 2 u or has stopped halving.
    2/3 n^3 flops in the low precision (1/3 n^3 if positive definite), and about 4 n^2 a
    refinement step and right-hand side. Workspace: n^2 numbers of the low precision, and
    O(n nrhs). Small systems, many right-hand sides and structures that gain nothing
    are solved in working precision at once, and checked.

    References
    ----------
    .. [1] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 12.
    .. [2] Carson and Higham, SIAM J. Sci. Comput. 40 (2018) A817.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import solve
    >>> a = np.array([[3.0, 2.0, 0.0], [1.0, -1.0, 0.0], [0.0, 5.0, 1.0]])
    >>> solve(a, [2, 4, -1])
    array([ 2., -2.,  9.])

    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.standard_normal((300, 300)), rng.standard_normal(300)
    >>> x, report = solve(a, b, full_output=True)
    >>> report.precision, report.status.name, bool(report.backward_error < 1e-15)
    ('fp32', 'CONVERGED', True)
    """
    lower = bool(lower)
    is_default = (
        precision == "auto" and refine == "auto" and residual == "working" and tol is None
        and max_iter is None and not (transposed or full_output)
    )  # fmt: skip
    if is_default:
        x = solve_lean(a, b, assume_a, lower, check_finite)
        if x is not None:
            return x
    asserted = structures.asserted(assume_a)
    a = arguments.as_array(a, "a")
    b = arguments.as_array(b, "b")
    xp = ops_for(a, b).xp
    dtype = arguments.common_dtype(a, b)
    options = _options(precision, refine, residual, tol, max_iter, fallback, dtype)
    a1 = arguments.to_dtype(xp.atleast_2d(a), dtype)
    b1 = arguments.to_dtype(xp.atleast_1d(b), dtype)
    if check_finite:
        validate.check_finite(b1)
    is_vector = b1.ndim == 1
    if is_vector:
        b1 = b1[:, None]
    validate.square(a1)
    if transposed and dtype.kind == "c":
        raise NotImplementedError(
            "solve cannot solve a^T x = b for complex matrices; pass the transpose instead"
        )
    if b1.shape[-2] != a1.shape[-1] and a1.size != 1:
        raise ValueError(f"incompatible shapes: {a.shape=} and {b.shape=}")
    batch = np.broadcast_shapes(a1.shape[:-2], b1.shape[:-2])
    one = _System(asserted, lower, transposed, check_finite, options, full_output)
    if a1.shape[-2:] == (1, 1):
        b1 = xp.broadcast_to(b1, (*batch, *b1.shape[-2:]))
        x, report, message = one.scalar(a1, b1)
    elif not batch:
        a2, b2 = a1.reshape(a1.shape[-2:]), b1.reshape(b1.shape[-2:])
        x, report, message = one.member(a2, b2)
    else:
        x, report, message = one.solve_batch(a1, b1, batch)
    warn(message)
    if is_vector:
        x = x[..., 0]
        report = None if report is None else report.of_vector()
    return (x, report) if full_output else x


def _options(
    precision: str | Format, refine: str | None, residual: str, tol: float | None,
    max_iter: int | None, fallback: bool, dtype: np.dtype[Any],
) -> Options:  # fmt: skip
    arguments.choice("refine", refine, validate.METHODS)
    arguments.choice("residual", residual, validate.RESIDUALS)
    arguments.tolerance(tol, max_iter)
    fmt = arguments.precision_option(precision, dtype)
    fallback = bool(fallback) or (fmt is None and refine == "auto")  # nothing is pinned
    return Options(fmt, refine, residual, tol, max_iter, fallback)


class _System:
    """The keywords of one call, and the ways to solve that they leave."""

    def __init__(
        self, asserted: str | None, lower: bool, transposed: bool,
        check_finite: bool, options: Options, full_output: bool,
    ) -> None:  # fmt: skip
        self.asserted = asserted
        self.lower = lower
        self.transposed = transposed
        self.check_finite = check_finite
        self.options = options
        self.full_output = full_output

    @property
    def _is_plain(self) -> bool:
        """Nothing was asked that plain working precision does not give."""
        o = self.options
        return o == Options(fallback=o.fallback)

    def solve(self, a: Array, b: Array) -> tuple[Array, SolveReport | None, str | None]:
        """One matrix: x, the report if one is wanted, and the warning that is due."""
        n, nrhs = b.shape
        if n == 0 or nrhs == 0:
            report = self._empty_report(b) if self.full_output else None
            return ops_for(b).xp.empty_like(b), report, None
        structure = self.asserted
        if structure is None:
            structure = structures.detect(a)
        ops = ops_for(a)
        first = self.options.first_format(ops, n, nrhs, a.dtype, structure)
        is_sparse = structure in structures.SPARSE_KINDS
        is_working = first is working_format(a.dtype)
        is_direct = is_on_host(a) and self._is_plain and (is_working or is_sparse)
        if self.check_finite and (is_direct or is_sparse):  # also what is not read
            validate.check_finite(a)
        if is_direct:
            answer = self._direct(a, b, structure)
            if answer is not None:
                return answer
        if is_sparse:
            a = effective_matrix(ops.xp, a, structure, self.lower)
            structure = structures.GENERAL
        return self._on_ladder(validate.to_lapack_layout(a), b, structure, first)

    def _direct(
        self, a: Array, b: Array, structure: str
    ) -> tuple[Array, SolveReport | None, str | None] | None:
        """Plain working precision, by structure; None if the answer fails its certificate."""
        began = time.perf_counter()
        trans = "T" if self.transposed else "N"
        x, method, rcond, certified = solve_directly(
            a, b, structure, self.lower, trans, estimate=self.full_output
        )
        seconds = time.perf_counter() - began
        if rcond is not None and math.isnan(rcond):
            return None
        if certified is None:
            certified = is_certified(a, x, b, structure, self.lower, trans)
        if not certified:
            return None
        message = None
        if rcond is not None and not rcond >= 2 * working_format(a.dtype).unit_roundoff:
            message = messages.ill_conditioned(rcond)
        report = None
        if self.full_output:
            assert rcond is not None
            report = self._direct_report(a, x, b, structure, method, seconds, rcond, message)
            unit = working_format(a.dtype).unit_roundoff
            if not np.all(report.backward_error <= backward_bound(len(a), unit)):
                return None  # columns that a combination of them has hidden
        return x, report, message

    def _on_ladder(
        self, a: Array, b: Array, structure: str, first: Format
    ) -> tuple[Array, SolveReport | None, str | None]:
        triangle = None if structure == structures.GENERAL else "L" if self.lower else "U"
        matrix = Matrix(ops_for(a), a, structure, triangle, first, check_finite=self.check_finite)
        trans = "T" if self.transposed and triangle is None else "N"
        outcome = solve_on_ladder(
            matrix, b, self.options, first=first, trans=trans, detailed=self.full_output
        )
        return outcome.x, outcome.report if self.full_output else None, outcome.message

    def scalar(self, a: Array, b: Array) -> tuple[Array, SolveReport | None, str | None]:
        """1-by-1 matrices: a division, which broadcasts as SciPy's does."""
        if self.check_finite:
            validate.check_finite(a)
        ops = ops_for(a)
        xp = ops.xp
        if b.size and (a == 0).any():
            raise LinAlgError(messages.singular(1, 1))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            x = b / a
            tiny = (abs(x) < np.finfo(x.dtype).smallest_normal) & (x * a != b)
        message = None
        if not xp.isfinite(x).all():
            message = messages.OVERFLOW
        elif ops.flushes and (has_subnormals(ops, a) or has_subnormals(ops, b)):
            message = messages.SUBNORMAL
        elif tiny.any() or not xp.isfinite(a).all():
            message = messages.UNDERFLOW
        report = None
        if self.full_output:
            zero = np.full(x.shape[:-2] + x.shape[-1:], 0.0 if message is None else np.inf)
            status = Status.DIRECT if message is None else Status.STAGNATED
            report = SolveReport(
                status, (RungOutcome(working_format(a.dtype).name, "division", "exact"),),
                working_format(a.dtype).name, backward_error=zero, componentwise_error=zero.copy(),
                forward_error_bound=zero + working_format(a.dtype).unit_roundoff, rcond=1.0,
                growth=1.0, seconds=_seconds(),
            )  # fmt: skip
        return x, report, message

    def solve_batch(
        self, a: Array, b: Array, batch: tuple[int, ...]
    ) -> tuple[Array, SolveReport | None, str | None]:
        """Every member by itself; one that fails does not change the others."""
        xp = ops_for(a).xp
        a = xp.broadcast_to(a, (*batch, *a.shape[-2:]))
        b = xp.broadcast_to(b, (*batch, *b.shape[-2:]))
        x = xp.empty(b.shape, b.dtype)
        reports, messages, singular = [], [], []
        for index in np.ndindex(batch):
            if is_on_host(a) and self._is_plain and not (self.full_output or self.transposed):
                fast = solve_lean(a[index], b[index], self.asserted, self.lower, self.check_finite)
                if fast is not None:
                    x[index] = fast
                    continue
            try:
                x[index], report, message = self.member(a[index], b[index])
            except LinAlgError as error:
                singular.append((index, str(error)))
                continue
            if message is not None:
                messages.append(f"slice {_place(index)}: {message}")
            if report is not None:
                reports.append(report)
        if singular:
            places = [_place(index) for index, _ in singular]
            raise LinAlgError(
                f"A singular matrix detected: slice(s) {places} are singular. "
                f"First: {singular[0][1]}"
            )
        report = SolveReport.combine(reports, batch) if reports else None
        if report is None and self.full_output:
            report = self._empty_report(b)
        return x, report, " ".join(messages) or None

    def member(self, a: Array, b: Array) -> tuple[Array, SolveReport | None, str | None]:
        """`solve`, with a word on memory where that of a device does not suffice."""
        return within_memory(a, b.nbytes, lambda: self.solve(a, b))

    def _direct_report(
        self, a: Array, x: Array, b: Array, structure: str, method: str, seconds: float,
        rcond: float, message: str | None,
    ) -> SolveReport:  # fmt: skip
        """Errors of an answer in plain working precision."""
        fmt = working_format(a.dtype)
        ops = ops_for(a)
        whole = validate.to_lapack_layout(effective_matrix(np, a, structure, self.lower))
        whole = whole.T if self.transposed else whole
        began = time.perf_counter()
        x, b = np.asfortranarray(x), np.asfortranarray(b)
        r, d = ops.residual(whole, x, b)
        is_complex = a.dtype.kind == "c"
        criterion = Criterion(ops, a.shape[0], ops.lange("I", whole), fmt.unit_roundoff, is_complex)
        errors = criterion.measure(x, r, d, column_max(ops, b))
        residual = time.perf_counter() - began
        status = Status.DIRECT if message is None else Status.ILL_CONDITIONED
        return SolveReport(
            status, (RungOutcome(fmt.name, method, "converged"),), fmt.name,
            backward_error=errors.omega, componentwise_error=errors.berr,
            forward_error_bound=_forward_bound(errors.omega, rcond, len(a), fmt), rcond=rcond,
            seconds=_seconds(factor=seconds, residual=residual, total=seconds + residual),
            workspace_bytes=_direct_workspace(a, b, structure),
        )  # fmt: skip

    @staticmethod
    def _empty_report(b: Array) -> SolveReport:
        nothing = np.zeros(b.shape[:-2] + b.shape[-1:])
        return SolveReport(
            Status.DIRECT, precision=working_format(b.dtype).name, backward_error=nothing,
            componentwise_error=nothing.copy(), seconds=_seconds(),
        )  # fmt: skip


def _forward_bound(omega: Array, rcond: float, n: int, fmt: Format) -> Array:
    """Estimated bound on ||x - x_true|| / ||x||: twice the condition number times what omega is.

    Of omega as computed, that is: the rounding of the residual may hide 3 sqrt(n + 1) u.
    """
    hidden = 3 * math.sqrt(n + 1) * fmt.unit_roundoff
    with np.errstate(divide="ignore"):
        return np.asarray(2 * (omega + hidden) / np.float64(rcond))


def _direct_workspace(a: Array, b: Array, structure: str) -> int:
    """Bytes of the factored copy, of a block of |A|, of x and r; of A filled up from a triangle."""
    filled = {structures.POSITIVE_DEFINITE: 2, structures.SYMMETRIC: 3, structures.HERMITIAN: 3}
    copies = filled.get(structure, 1)
    return int(copies * a.nbytes + min(a.shape[0], 256) * a[0].nbytes + 4 * b.nbytes)


def _seconds(**known: float) -> dict[str, float]:
    return dict.fromkeys(("convert", "factor", "solve", "residual", "total"), 0.0) | known


def _place(index: tuple[int, ...]) -> Any:
    return index[0] if len(index) == 1 else index
