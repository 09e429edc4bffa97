"""QR factorization, a drop-in for `scipy.linalg.qr`, and factors kept for least squares."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from ..errors import LinAlgWarning
from ..factor.cholesky_qr import CholeskyQR, cholesky_qr
from ..factor.columns import scaled_columns, to_fortran, upper_triangle
from ..factor.gram import foreseen_condition
from ..factor.reflectors import form_q
from ..kernels.cpu import lapack
from ..ops.dispatch import ops_for
from ..ops.protocol import Ops
from ..precision import Format, working_format
from ..refine.ladder import Rung
from ..refine.least_squares_ladder import Factored
from ..report import RungOutcome, SolveReport, Status
from . import validate
from .least_squares import METHODS, Answer, Options, scale_exponent, solve_one

__all__ = ["QR", "qr"]

Array = NDArray[Any]

MODES = ("full", "qr", "r", "raw", "economic")
_TALL = 3.0
"""From this m / n on CholeskyQR costs less than Householder QR and its explicit Q,"""
_LEAST_WORK = 1e8
"""and from this m n^2 on its extra steps do not show (measured)."""
_LEAST_HOUSEHOLDER = 3e7
"""From this m^2 n on, Householder QR with block reflectors is faster than SciPy's (measured),"""
_LEAST_SQUARE = 1e9
"""and from this on where m < 2 n."""
_MOST_CONDITION = 4.0
"""Where more is foreseen, CholeskyQR would take a second pass, and Householder QR costs less."""


def qr(
    a: ArrayLike,
    overwrite_a: bool = False,
    lwork: int | None = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
    *,
    precision: str | Format = "auto",
    full_output: bool = False,
) -> tuple[Any, ...]:
    """A = Q R, Q orthonormal to working precision.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    overwrite_a : bool, optional
        `a` may be overwritten.
    lwork : int, optional
        Accepted for SciPy's sake, and not used.
    mode : {"full", "economic", "r", "raw"}, optional
    pivoting : bool, optional
        Interchange columns so that the diagonal of R does not increase: A[:, P] = Q R.
    check_finite : bool, optional
        Raise ValueError for NaN and infinity.
    precision : {"auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}, optional
        Pin the format of the first R. It matters only for mode "economic" without pivoting and m
        >= n; elsewhere working precision is used, with a warning if another one is pinned.
    full_output : bool, optional
        Append a `SolveReport`.

    Returns
    -------
    tuple
        What `scipy.linalg.qr` returns: ``(Q, R)``; ``(R,)`` for mode "r"; ``((qr, tau), R)`` for
        "raw"; P appended if `pivoting`; and the report if `full_output`. With K = min(m, n) and
        mode "economic", Q is (..., m, K) and R is (..., K, n). R has the signs of LAPACK's
        Householder QR.

    Raises
    ------
    ValueError
        For an unknown mode or precision, fewer than two dimensions, NaN or infinity.
    TypeError
        If `a` does not hold numbers.

    Warns
    -----
    LinAlgWarning
        If the pinned precision could not deliver and Householder QR in working precision was used.

    Notes
    -----
    For mode "economic" of a well-conditioned matrix with m >= 3 n, Q is found by CholeskyQR in
    working precision: R_0 from the Gram matrix, Q = A R_0^-1, repeated until the estimated
    ||I - Q^H Q||_F is that of Householder QR, below 12 sqrt(n) u: once for kappa(A) up to about 3,
    twice beyond. Where kappa(A) is foreseen to be above 4, it is not tried. Where a precision is
    pinned, R_0 comes from Householder QR in it. Everything else is Householder QR: with recursive
    panels and block reflectors (LAPACK's geqrt) of large matrices, SciPy's of small ones and with
    pivoting.

    In the report, `backward_error` estimates ||A - Q R||_F / ||A||_F, `forward_error_bound`
    estimates ||I - Q^H Q||_F, and `rcond` is that of R in the 1-norm; all are None for
    Householder QR, which is stable without being tested.

    m n^2 flops for each Gram matrix and as many for each pass, 2/3 n^3 for the signs of R;
    Householder QR with explicit Q takes 4 m n^2 - 4/3 n^3. Workspace: 3 n^2 numbers beyond Q, R;
    of Householder QR m n, and 100 n.

    References
    ----------
    Elmroth and Gustavson, IBM J. Res. Dev. 44 (2000) 605 (recursive panels).
    Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, Electron. Trans. Numer. Anal. 44 (2015) 306.
    Ballard et al., IPDPS 2014, section 4.2 (signs). Zhang, Baharlouei and Wu, HPDC 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import qr
    >>> a = np.array([[3.0, 1.0], [4.0, 2.0]])
    >>> q, r = qr(a)
    >>> print(np.round(q @ r, 12))
    [[3. 1.]
     [4. 2.]]
    """
    if type(a) is np.ndarray and a.ndim == 2 and precision == "auto" and not full_output:
        m, n = a.shape
        if (pivoting or _is_small(m, n)) and lwork is None and m and n and a.dtype.char in "fdFD":
            # a small or pivoted matrix goes to SciPy as it is
            out: Any = scipy.linalg.qr(
                a, overwrite_a=overwrite_a, mode=mode, pivoting=pivoting, check_finite=check_finite
            )
            return out if isinstance(out, tuple) else (out,)
    if mode not in MODES:
        raise ValueError(f"Mode argument should be one of {list(MODES)}")
    a1 = validate.as_array(a, "a")
    if check_finite:
        validate.check_finite(a1)
    if a1.ndim < 2:
        raise ValueError("Expected at least a 2-D array")
    m, n = a1.shape[-2:]
    if lwork not in (None, -1) and lwork <= m:
        raise ValueError(f"lwork should be None, -1 or > M, got {lwork}")
    dtype = validate.common_dtype(a1)
    pinned = validate.precision_option(precision, dtype)
    low = pinned is not None and pinned != working_format(dtype)
    fits = mode == "economic" and not pivoting and m >= n > 0
    if low and not fits:
        _warn(f"precision={pinned} applies to mode='economic' without pivoting and m >= n only")
    a2 = validate.to_dtype(a1, dtype)
    overwrite = bool(overwrite_a) or a2 is not a1

    def one(x: Array) -> tuple[tuple[Any, ...], SolveReport]:
        if fits and (low or (pinned is None and _is_tall(m, n))):
            return _economic(x, pinned, full_output)
        if _is_small(m, n) or pivoting:
            return _by_scipy(x, mode, pivoting, overwrite)
        return _householder(x, mode)

    if a2.ndim == 2:
        out, report = one(a2)
    else:
        batch = a2.shape[:-2]
        found = [one(a2[i]) for i in validate.batch_indices(batch)]
        like = found[0][0] if found else one(np.zeros((m, n), dtype))[0]
        out = _stacked_tuples([f[0] for f in found], like, batch)
        report = SolveReport(Status.DIRECT)
        if found:
            report = SolveReport.combine([f[1] for f in found], batch)
    return (*out, report) if full_output else out


def _is_small(m: int, n: int) -> bool:
    return m * m * n < (_LEAST_HOUSEHOLDER if m >= 2 * n else _LEAST_SQUARE)


def _is_tall(m: int, n: int) -> bool:
    """Whether CholeskyQR is worth trying."""
    return m >= _TALL * n and m * n * n >= _LEAST_WORK


def _direct(
    a: Array, start: float, workspace: int, walked: tuple[RungOutcome, ...] = ()
) -> SolveReport:
    """The report of Householder QR in working precision."""
    fmt = working_format(a.dtype).name
    return SolveReport(
        Status.DIRECT, (*walked, RungOutcome(fmt, "geqrf", "direct")), fmt,
        backward_error=None, componentwise_error=None,
        seconds={"factor": time.perf_counter() - start}, workspace_bytes=workspace,
    )  # fmt: skip


def _by_scipy(
    a: Array, mode: str, pivoting: bool, overwrite: bool
) -> tuple[tuple[Any, ...], SolveReport]:
    """SciPy's Householder QR of one matrix."""
    start = time.perf_counter()
    out = scipy.linalg.qr(
        a, overwrite_a=overwrite, mode=mode, pivoting=pivoting, check_finite=False
    )
    return (out if isinstance(out, tuple) else (out,)), _direct(a, start, a.nbytes)


def _householder(
    a: Array, mode: str, walked: tuple[RungOutcome, ...] = ()
) -> tuple[tuple[Any, ...], SolveReport]:
    """Householder QR with block reflectors of one matrix."""
    start = time.perf_counter()
    ops = ops_for(a)
    (m, n), k = a.shape, min(a.shape)
    factors = to_fortran(ops, a, a.dtype)
    t = lapack.geqrt(factors, lapack.geqrt_block(n))
    r = upper_triangle(ops, factors[: m if mode in ("full", "qr", "r") else k])
    out: tuple[Any, ...] = (r,)
    if mode == "raw":
        places = np.arange(k)
        out = ((factors, t[places % len(t), places]), r)
    elif mode != "r":
        out = (form_q(ops, factors, t, k if mode == "economic" else m), r)
    return out, _direct(a, start, factors.nbytes + 3 * t.nbytes, walked)


def _stacked_tuples(
    parts: list[tuple[Any, ...]], like: tuple[Any, ...], batch: tuple[int, ...]
) -> tuple[Any, ...]:
    """Tuples of arrays (and of tuples of arrays), stacked element by element."""
    out: list[Any] = []
    for k, sample in enumerate(like):
        members = [p[k] for p in parts]
        if isinstance(sample, tuple):
            out.append(_stacked_tuples(members, sample, batch))
        elif members:
            out.append(np.stack(members).reshape(*batch, *sample.shape))
        else:
            out.append(np.empty((*batch, *sample.shape), sample.dtype))
    return tuple(out)


def _economic(
    a: Array, pinned: Format | None, tested: bool
) -> tuple[tuple[Array, Array], SolveReport]:
    """Q (m, n) and R (n, n) by CholeskyQR, or by Householder QR where that fails."""
    start = time.perf_counter()
    working = working_format(a.dtype)
    a1 = validate.to_lapack_layout(a)
    ops = ops_for(a1)
    exponent = scale_exponent(ops, a1)
    scaled = scaled_columns(np, a1, np.full(a1.shape[1], -exponent))
    fmt = pinned or working
    method = "gram" if pinned is None else "qr"
    found: CholeskyQR | None = None
    outcome = ""
    foreseen = 1.0 if pinned is not None else foreseen_condition(ops, scaled)
    if foreseen > _MOST_CONDITION:
        outcome = f"condition {foreseen:.1e} foreseen"
    else:
        copy = np.array(scaled, order="K")
        found = cholesky_qr(ops, copy, fmt, working.unit_roundoff, method=method)
        outcome = found.outcome
    if found is None or found.q is None:
        if pinned is not None:
            _warn(f"precision={pinned} could not deliver ({outcome}): Householder QR was used")
        return _householder(a1, "economic", (RungOutcome(fmt.name, method, outcome),))
    factored = time.perf_counter() - start
    error, rcond = (None, None)
    if tested:
        error, rcond = _quality(ops, scaled, found.q, found.r)
    report = SolveReport(
        status=Status.CONVERGED,
        rungs=(RungOutcome(fmt.name, f"{method} + CholeskyQR", f"{found.passes} passes"),),
        precision=fmt.name,
        iterations=found.passes,
        backward_error=error,
        componentwise_error=None,
        forward_error_bound=found.orthogonality,
        rcond=rcond,
        overflows=found.counters.overflows,
        underflows=found.counters.underflows,
        seconds={"factor": factored, "total": time.perf_counter() - start},
        workspace_bytes=found.workspace_bytes,
    )
    return (found.q, scaled_columns(np, found.r, np.full(a.shape[1], exponent))), report


def _quality(ops: Ops, a: Array, q: Array, r: Array) -> tuple[float, float]:
    """Estimates of ||A - Q R||_F / ||A||_F, from a few random columns, and of rcond(R)."""
    n = r.shape[0]
    z = np.asfortranarray(np.random.default_rng(n).standard_normal((n, 4)).astype(a.dtype))
    image, rz = np.zeros((a.shape[0], 4), a.dtype, order="F"), np.zeros_like(z)
    ops.gemm(1.0, r, z, 0.0, rz)
    ops.gemm(1.0, a, z, 0.0, image)
    size = float(np.linalg.norm(image))
    # A Z - Q (R Z)
    ops.gemm(-1.0, q, rz, 1.0, image)
    error = float(np.linalg.norm(image)) / size if size else 0.0
    return error, ops.trcon(np.asfortranarray(r), lower=False)


def _warn(message: str) -> None:
    warnings.warn(message, LinAlgWarning, stacklevel=3)


class QR:
    """R of A = Q R, kept to solve min ||b - A x|| for any number of b to working precision.

    Parameters
    ----------
    a : array_like, shape (m, n)
        Kept by reference: it is read again by every solve.
    precision : {"auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}, optional
        Pin the format that A is factored in.
    check_finite : bool, optional

    Attributes
    ----------
    precision : str
        Format of the factors that solves start from.
    report : SolveReport
        Of the factorization.
    shape : tuple of int

    Raises
    ------
    ValueError
        If `a` is not a matrix, or for an unknown precision, NaN or infinity.
    TypeError
        If `a` does not hold numbers.

    Notes
    -----
    `solve` does what `lstsq` does after the factorization, and takes the same care: where the
    factors are not good enough for a right-hand side, the next rung is factored then, and kept.
    Where the rank is in doubt or m < n, each solve is SciPy's `lstsq`.

    References
    ----------
    Bjorck, BIT 7 (1967) 257.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import QR
    >>> factors = QR(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]))
    >>> print(np.round(factors.solve([1.0, 2.0, 3.0]), 12))
    [1. 1.]
    """

    def __init__(
        self, a: ArrayLike, precision: str | Format = "auto", check_finite: bool = True
    ) -> None:
        array = validate.as_array(a, "a")
        if array.ndim != 2:
            raise ValueError(f"Expected a matrix, got {array.shape=}")
        if check_finite:
            validate.check_finite(array)
        dtype = validate.common_dtype(array)
        self._a = validate.to_dtype(array, dtype)
        self._options = Options(
            float(np.finfo(dtype).eps), None, validate.precision_option(precision, dtype),
            "auto", None, True,
        )  # fmt: skip
        self._factors: dict[Rung, Factored] = {}
        self._precision = precision
        self._wide: QR | None = None
        self.shape: tuple[int, int] = array.shape
        # a zero right-hand side has the factors made, and nothing refined
        self.report = self._answer(np.zeros((array.shape[0], 1), dtype)).report.of_vector()

    @property
    def precision(self) -> str:
        """Format of the factors that solves start from."""
        return self.report.precision

    def rcond(self) -> float:
        """Estimated reciprocal 2-norm condition number of A; exact where SciPy solves."""
        return float(self.report.rcond or 0.0)

    def solve(
        self, b: ArrayLike, *, refine: str | None = "auto", tol: float | None = None,
        full_output: bool = False,
    ) -> Any:  # fmt: skip
        """min ||b - A x|| to working precision.

        Parameters
        ----------
        b : array_like, shape (m,) or (m, nrhs)
            A double-precision b of a single-precision A is solved in double precision.
        refine : {"auto", "classical", "lsqr", None}, optional
        tol : float, optional
        full_output : bool, optional
            As for `lstsq`.

        Returns
        -------
        x : ndarray, shape (n,) or (n, nrhs)
            Or ``(x, report)`` with `full_output`.

        Raises
        ------
        ValueError
            For shapes that do not fit, NaN or infinity; if b is complex and A is real.
        TypeError
            If `b` does not hold numbers.

        Warns
        -----
        LinAlgWarning
            If what was pinned could not deliver.
        """
        validate.choice("refine", refine, METHODS)
        validate.tolerance(tol)
        b1 = np.atleast_1d(validate.as_array(b, "b"))
        if b1.ndim > 2 or b1.shape[0] != self.shape[0]:
            raise ValueError(f"b of shape {b1.shape} does not fit A of shape {self.shape}")
        if b1.dtype.kind == "c" and self._a.dtype.kind != "c":
            raise ValueError("b is complex and A is real; make QR of a complex copy of A")
        validate.check_finite(b1)
        wide = np.result_type(self._a.dtype, validate.common_dtype(b1))
        if wide != self._a.dtype:
            if self._wide is None:
                self._wide = QR(self._a.astype(wide), self._precision)
            return self._wide.solve(b, refine=refine, tol=tol, full_output=full_output)
        columns = validate.to_dtype(b1, self._a.dtype).reshape(self.shape[0], -1)
        if b1.size == 0:
            columns = np.zeros((*b1.shape, 1)[:2], self._a.dtype)
        answer = self._answer(columns, refine="lsqr" if refine == "gmres" else refine, tol=tol)
        x = answer.x[:, 0] if b1.ndim == 1 else answer.x
        if not full_output:
            return x
        return x, (answer.report.of_vector() if b1.ndim == 1 else answer.report)

    def _answer(self, b: Array, **options: Any) -> Answer:
        return solve_one(self._a, b, replace(self._options, **options), True, True, self._factors)
