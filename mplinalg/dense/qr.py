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
from ..factor.qr import scaled_columns
from ..factor.tsqr import cholesky_qr
from ..ops.dispatch import ops_for
from ..ops.protocol import Ops
from ..precision import Format, working_format
from ..refine.ladder import Rung
from ..refine.least_squares import Factored
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

    Warns
    -----
    LinAlgWarning
        If the pinned precision could not deliver and Householder QR in working precision was used.

    Notes
    -----
    For mode "economic" of a matrix with m >= 3 n and enough columns, Q is found by CholeskyQR in
    working precision: R_0 from the Gram matrix, Q = A R_0^-1, repeated until the estimated
    ||I - Q^H Q||_F is below 30 sqrt(n) u: once for kappa(A) up to about 10, twice beyond. Where a
    precision is pinned, R_0 comes from Householder QR in it. From kappa(A) about 1e7 on, and
    wherever CholeskyQR has nothing to gain, it is SciPy's Householder QR.

    In the report, `backward_error` estimates ||A - Q R||_F / ||A||_F, `forward_error_bound`
    estimates ||I - Q^H Q||_F, and `rcond` is that of R in the 1-norm; all are None for
    Householder QR, which is stable without being tested.

    m n^2 flops for each Gram matrix and as many for each pass, 2/3 n^3 for the signs of R;
    Householder QR with explicit Q takes 4 m n^2 - 4/3 n^3. Workspace: 3 n^2 numbers beyond Q, R.

    References
    ----------
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
    profitable = m >= _TALL * n and m * n * n >= _LEAST_WORK and pinned is None
    a2 = validate.to_dtype(a1, dtype)
    if not (fits and (low or profitable)):
        out, report = _by_scipy(a2, mode, pivoting, overwrite_a or a2 is not a1)
        return (*out, report) if full_output else out
    found = [_economic(a2[i], pinned, full_output) for i in validate.batch_indices(a2.shape[:-2])]
    if a2.ndim == 2:
        q, r, report = found[0]
    else:
        q = _stacked([f[0] for f in found], a2.shape[:-2], (m, n), dtype)
        r = _stacked([f[1] for f in found], a2.shape[:-2], (n, n), dtype)
        reports = [f[2] for f in found]
        report = SolveReport(Status.DIRECT)
        if reports:
            report = SolveReport.combine(reports, a2.shape[:-2])
    return (q, r, report) if full_output else (q, r)


def _stacked(
    parts: list[Array], batch: tuple[int, ...], core: tuple[int, int], dtype: np.dtype[Any]
) -> Array:
    return np.stack(parts).reshape(*batch, *core) if parts else np.empty((*batch, *core), dtype)


def _by_scipy(
    a: Array, mode: str, pivoting: bool, overwrite: bool, walked: tuple[RungOutcome, ...] = ()
) -> tuple[tuple[Any, ...], SolveReport]:
    """SciPy's Householder QR; a batch member by member, as SciPy before 1.17 takes no batch."""
    start = time.perf_counter()
    fmt = working_format(a.dtype).name

    def one(x: Array) -> tuple[Any, ...]:
        out = scipy.linalg.qr(
            x, overwrite_a=overwrite, mode=mode, pivoting=pivoting, check_finite=False
        )
        return out if isinstance(out, tuple) else (out,)

    if a.ndim == 2:
        result = one(a)
    else:
        batch = a.shape[:-2]
        parts = [one(a[i]) for i in validate.batch_indices(batch)]
        shapes = parts or [one(np.zeros(a.shape[-2:], a.dtype))]
        result = _stacked_tuples(parts, shapes[0], batch)
    seconds = {"factor": time.perf_counter() - start}
    report = SolveReport(
        Status.DIRECT, (*walked, RungOutcome(fmt, "geqrf", "direct")), fmt,
        backward_error=None, componentwise_error=None, seconds=seconds,
    )  # fmt: skip
    return result, report


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


def _economic(a: Array, pinned: Format | None, tested: bool) -> tuple[Array, Array, SolveReport]:
    """Q (m, n) and R (n, n) by CholeskyQR, or by SciPy where that fails."""
    start = time.perf_counter()
    working = working_format(a.dtype)
    a1 = validate.to_lapack_layout(a)
    ops = ops_for(a1)
    exponent = scale_exponent(ops, a1)
    scaled = scaled_columns(np, a1, np.full(a1.shape[1], -exponent))
    copy = np.array(scaled, order="K")
    fmt = pinned or working
    method = "gram" if pinned is None else "qr"
    found = cholesky_qr(ops, copy, fmt, working.unit_roundoff, method=method)
    outcome = found.outcome
    if outcome or found.q is None:
        if pinned is not None:
            _warn(f"precision={pinned} could not deliver ({outcome}): Householder QR was used")
        walked = (RungOutcome(fmt.name, method, outcome),)
        (q, r), report = _by_scipy(a, "economic", False, False, walked)
        return q, r, report
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
    return found.q, scaled_columns(np, found.r, np.full(a.shape[1], exponent)), report


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

    Notes
    -----
    `solve` does what `lstsq` does after the factorization, and takes the same care: where the
    factors are not good enough for a right-hand side, the next rung is factored then, and kept.
    Where the rank is in doubt or m < n, each solve is SciPy's `lstsq`.

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
