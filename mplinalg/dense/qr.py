"""QR factorization, a drop-in for `scipy.linalg.qr`, and factors kept for least squares."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from .. import arguments
from ..errors import LinAlgWarning
from ..factor.cholesky_qr import CholeskyQR, cholesky_qr
from ..factor.columns import to_fortran, upper_triangle
from ..factor.gram import foreseen_condition
from ..factor.reflectors import form_q
from ..factor.triangle import random_columns
from ..kernels.cpu import lapack
from ..ops import Ops, is_on_host, ops_for
from ..precision import Format, working_format
from ..report import RungOutcome, SolveReport, Status
from . import validate
from .least_squares import scale_exponent, scaled_by
from .qr_factors import QR

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
        >= n; elsewhere working precision is used, with a warning if another one is pinned. On a
        device it also matters for mode "full" of a square matrix.
    full_output : bool, optional
        Append a `SolveReport`.

    Returns
    -------
    tuple
        What `scipy.linalg.qr` returns: ``(Q, R)``; ``(R,)`` for mode "r"; ``((qr, tau), R)`` for
        "raw"; P appended if `pivoting`; and the report if `full_output`. With K = min(m, n) and
        mode "economic", Q is (..., m, K) and R is (..., K, n). R has the signs of LAPACK's
        Householder QR. The arrays are where `a` is, the report on the host.

    Raises
    ------
    ValueError
        For an unknown mode or precision, fewer than two dimensions, NaN or infinity.
    TypeError
        If `a` does not hold numbers.
    NotImplementedError
        For `pivoting` on a device.

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

    On a device (CuPy arrays), CholeskyQR is tried for mode "economic" of any m >= n, and for mode
    "full" of square matrices, whatever the condition number; Householder QR is cuSOLVER's geqrf,
    and Q its ormqr on the identity. Of CholeskyQR, 8 n random numbers go to the device for the
    estimates, and the diagonal blocks of 64 columns go to the host and back for the signs of R.

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
    a1 = arguments.as_array(a, "a")
    xp, on_host = ops_for(a1).xp, is_on_host(a1)
    if pivoting and not on_host:
        raise NotImplementedError(
            "pivoting=True is not available on a device: qr(cupy.asnumpy(a), pivoting=True) "
            "computes on the host, and lstsq finds a rank on a device, by singular values"
        )
    if check_finite:
        validate.check_finite(a1)
    if a1.ndim < 2:
        raise ValueError("Expected at least a 2-D array")
    m, n = a1.shape[-2:]
    if lwork not in (None, -1) and lwork <= m:
        raise ValueError(f"lwork should be None, -1 or > M, got {lwork}")
    dtype = arguments.common_dtype(a1)
    pinned = arguments.precision_option(precision, dtype)
    low = pinned is not None and pinned != working_format(dtype)
    is_economic = mode == "economic" or (m == n and mode in ("full", "qr") and not on_host)
    fits = is_economic and not pivoting and m >= n > 0
    if low and not fits:
        _warn(f"precision={pinned} applies to mode='economic' without pivoting and m >= n only")
    a2 = arguments.to_dtype(a1, dtype)
    if check_finite and a2 is not a1:  # a wider dtype may hold what this one does not
        validate.check_finite(a2)
    overwrite = bool(overwrite_a) or a2 is not a1

    def one(x: Array) -> tuple[tuple[Any, ...], SolveReport]:
        if fits and (low or (pinned is None and (_is_tall(m, n) or not on_host))):
            return _economic(x, pinned, full_output)
        if on_host and (_is_small(m, n) or pivoting):
            return _by_scipy(x, mode, pivoting, overwrite)
        if on_host:
            return _householder(x, mode)
        return _device_householder(x, mode, full_output)

    if a2.ndim == 2:
        out, report = one(a2)
    else:
        batch = a2.shape[:-2]
        found = [one(a2[i]) for i in validate.batch_indices(batch)]
        like = found[0][0] if found else one(xp.zeros((m, n), dtype))[0]
        out = _stacked_tuples(xp, [f[0] for f in found], like, batch)
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


def _device_householder(
    a: Array, mode: str, timed: bool, walked: tuple[RungOutcome, ...] = ()
) -> tuple[tuple[Any, ...], SolveReport]:
    """Householder QR of one matrix on a device, which is waited for if it is `timed`."""
    start = time.perf_counter()
    a = validate.to_lapack_layout(a)
    ops = ops_for(a)
    xp, m, k = ops.xp, a.shape[0], min(a.shape)
    exponent = scale_exponent(ops, a)
    factors = to_fortran(ops, scaled_by(ops, a, -exponent), a.dtype)
    tau = ops.geqrf(factors)
    r = upper_triangle(ops, factors[: m if mode in ("full", "qr", "r") else k])
    r = scaled_by(ops, r, exponent)
    out: tuple[Any, ...] = (r,)
    if mode == "raw":
        if exponent:
            factors[:k] = xp.tril(factors[:k], -1) + r
        out = ((factors, tau), r)
    elif mode != "r":
        q = xp.eye(m, k if mode == "economic" else m, dtype=a.dtype, order="F")
        ops.ormqr("L", "N", factors[:, :k], tau, q)
        out = (q, r)
    if timed:
        ops.synchronize()
    return out, _direct(a, start, 2 * factors.nbytes, walked)


def _stacked_tuples(
    xp: Any, parts: list[tuple[Any, ...]], like: tuple[Any, ...], batch: tuple[int, ...]
) -> tuple[Any, ...]:
    """Tuples of arrays (and of tuples of arrays), stacked element by element."""
    out: list[Any] = []
    for k, sample in enumerate(like):
        members = [p[k] for p in parts]
        if isinstance(sample, tuple):
            out.append(_stacked_tuples(xp, members, sample, batch))
        elif members:
            out.append(xp.stack(members).reshape(*batch, *sample.shape))
        else:
            out.append(xp.empty((*batch, *sample.shape), sample.dtype))
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
    scaled = scaled_by(ops, a1, -exponent)
    fmt = pinned or working
    method = "gram" if pinned is None else "qr"
    found: CholeskyQR | None = None
    outcome = ""
    # on a device a second pass costs less than Householder QR, too
    looks_ahead = pinned is None and is_on_host(a1)
    foreseen = foreseen_condition(ops, scaled) if looks_ahead else 1.0
    if foreseen > _MOST_CONDITION:
        outcome = f"condition {foreseen:.1e} foreseen"
    else:
        copy = ops.xp.array(scaled, order="K")
        found = cholesky_qr(ops, copy, fmt, working.unit_roundoff, method=method)
        outcome = found.outcome
    if found is None or found.q is None:
        if pinned is not None:
            _warn(f"precision={pinned} could not deliver ({outcome}): Householder QR was used")
        walked = (RungOutcome(fmt.name, method, outcome),)
        if is_on_host(a1):
            return _householder(a1, "economic", walked)
        return _device_householder(a1, "economic", tested, walked)
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
    return (found.q, scaled_by(ops, found.r, exponent)), report


def _quality(ops: Ops, a: Array, q: Array, r: Array) -> tuple[float, float]:
    """Estimates of ||A - Q R||_F / ||A||_F, from a few random columns, and of rcond(R)."""
    xp, n = ops.xp, r.shape[0]
    z = xp.asfortranarray(random_columns(ops, n, 4, a.dtype))
    image, rz = xp.zeros((a.shape[0], 4), a.dtype, order="F"), xp.zeros_like(z)
    ops.gemm(1.0, r, z, 0.0, rz)
    ops.gemm(1.0, a, z, 0.0, image)
    size = float(xp.linalg.norm(image))
    # A Z - Q (R Z)
    ops.gemm(-1.0, q, rz, 1.0, image)
    error = float(xp.linalg.norm(image)) / size if size else 0.0
    return error, ops.trcon(xp.asfortranarray(r), lower=False)


def _warn(message: str) -> None:
    warnings.warn(message, LinAlgWarning, stacklevel=3)
