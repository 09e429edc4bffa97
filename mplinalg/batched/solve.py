"""solve: A x = b for many small systems at once."""

from __future__ import annotations

import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import arguments
from ..errors import LinAlgWarning
from ..ops import batched_ops_for, ops_for
from ..ops.batched import Judged
from ..precision import Format, working_format
from ..report import Status
from . import validate
from .by_shape import as_ragged, dtype_of, in_form_of, run_by_shape
from .failures import Findings, names_of
from .ragged import Ragged, is_ragged
from .refined import backward_errors, solve_refined
from .report import FAILURES, BatchReport

__all__ = ["solve"]

Array = NDArray[Any]

_STRUCTURES = ("gen", "pos")


def solve(
    a: ArrayLike,
    b: ArrayLike,
    *,
    assume_a: str = "gen",
    precision: str | Format = "auto",
    tol: float | None = None,
    raise_on_failure: bool = True,
    full_output: bool = False,
) -> Any:
    """Solve ``a @ x = b`` for each member of a batch of small systems.

    Parameters
    ----------
    a : array_like, shape (..., n, n), or list of arrays, or Ragged
        Square matrices; of different orders in a list.
    b : array_like, shape (n,) or (..., n, nrhs), or list of arrays, or Ragged
        Right-hand sides; batch dimensions broadcast with those of `a`. One vector goes with all
        matrices; a stack of vectors is written ``b[..., None]``. To a list belongs a list, of
        vectors or matrices.
    assume_a : {"gen", "pos"}
        "pos": the matrices are Hermitian positive definite, and the upper triangle is read.
    precision : {"auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}
        "auto" factors in working precision. Otherwise the factors are of this format, and each
        member is refined to working precision.
    tol : float, optional
        Normwise backward error at which refinement stops. By default it goes on until that is
        at most sqrt(n) u, and another step no longer halves it.
    raise_on_failure : bool
        If False, members that have no answer are NaN, and nothing is raised for them.
    full_output : bool
        Also return a `BatchReport`, whose backward errors take time.

    Returns
    -------
    x : ndarray, shape (..., n) or (..., n, nrhs), or list of arrays, or Ragged
        In the form of `a`, and the common dtype of `a` and `b`: float32, float64, complex64 or
        complex128.
    report : BatchReport
        If `full_output`.

    Raises
    ------
    LinAlgError
        Some matrices are exactly singular, or not positive definite where that was asserted, or
        members hold NaN or infinity; it names them and says why.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense.

    Warns
    -----
    LinAlgWarning
        Some matrices are singular to working precision, or an answer exceeds the range of its
        dtype, or a pinned `precision` could not deliver and members were solved in working
        precision.

    Notes
    -----
    LU with partial pivoting or Cholesky, 2/3 n^3 or 1/3 n^3 flops a member. As many members as a
    register holds numbers are solved at a time: in registers up to order 8, in the cache up to
    about 180 in double precision, beyond by LAPACK one by one. Batches are divided among the
    threads that SciPy's BLAS may use; the answer of a member does not depend on their number, nor
    on other members. Only where a few matrices of order 100 and more, less than four for each
    thread, are solved by LAPACK one by one, and BLAS takes several threads for each, do last bits
    depend on how many.

    Along with each system one or two more right-hand sides, random, are solved; they bound the
    norm of the inverse from below [1]_. Members whose condition may be 1 / eps or more, or whose
    numbers leave the range of the dtype on the way, are solved again by LAPACK, scaled, with an
    estimate of the condition as in SciPy.

    References
    ----------
    .. [1] Dixon, SIAM J. Numer. Anal. 20 (1983) 812.
    .. [2] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapters 9, 10
       and 12.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.standard_normal((1000, 4, 4)), rng.standard_normal((1000, 4, 1))
    >>> x = batched.solve(a, b)
    >>> bool(np.allclose(a @ x, b))
    True

    A member that fails is named, and spoils no other:

    >>> a[7] = 0.0
    >>> x, report = batched.solve(a, b, raise_on_failure=False, full_output=True)
    >>> report.failed, report.status[7].name, bool(np.isnan(x[7]).all())
    (array([7]), 'SINGULAR', True)
    """
    arguments.choice("assume_a", assume_a, _STRUCTURES)
    arguments.tolerance(tol)
    definite = assume_a == "pos"
    if is_ragged(a) or is_ragged(b):
        wanted = Options(definite, None, tol, raise_on_failure, full_output)
        x, report = _solve_ragged(a, b, precision, wanted, stacklevel=2)
        return (x, report) if full_output else x
    (a1, b1), dtype = validate.operands((a, "a"), (b, "b"))
    fmt = arguments.precision_option(precision, dtype)
    validate.square(a1)
    columns, is_vector = validate.right_hand_sides(a1, b1, a1.shape[-1])
    batch = validate.batch_shape(a1, columns)
    options = Options(definite, fmt, tol, raise_on_failure, full_output)
    began = time.perf_counter()
    answer = _answer(validate.stack(a1, batch), validate.stack(columns, batch), options)
    report = _conclude(answer, batch, dtype, a1.shape[-1], options, began, stacklevel=2)
    x = answer.x.reshape((*batch, *columns.shape[-2:]))
    if is_vector:
        x = x[..., 0]
    return (x, report) if full_output else x


class Options(NamedTuple):
    """What a call asks for."""

    definite: bool
    precision: Format | None
    tol: float | None
    raise_on_failure: bool
    full_output: bool


class _Answer(NamedTuple):
    """A solved stack, or several."""

    x: Any
    """(N, n, nrhs)."""
    judged: Judged
    low: Array | None
    """(N,) bool: refined from the precision that was asked for; None if none was."""
    iterations: Array | None
    """(N,) int."""
    errors: Array | None
    """(N,): backward errors, if they were asked for."""
    seconds: float
    """That these took."""


# -- one stack -----------------------------------------------------------------------------------


def _answer(a: Array, b: Array, options: Options) -> _Answer:
    """Solve the systems of a canonical stack."""
    fmt, definite = options.precision, options.definite
    low, iterations = None, None
    if fmt is None or fmt == working_format(a.dtype):
        x, judged = _direct(a, b, definite)
    else:
        x, judged, low, iterations = _refined(a, b, options, fmt)
    if judged.members.size:
        # an answer that is not finite though its system is: as poor as that of a singular one
        found = x[validate.on_device_of(x, judged.members)]
        is_finite = validate.on_host(ops_for(x).xp.isfinite(found).all(axis=(1, 2)))
        judged = judged._replace(rcond=np.where(is_finite, judged.rcond, np.nan))
    if not options.full_output:
        return _Answer(x, judged, low, iterations, None, 0.0)
    began = time.perf_counter()
    errors = validate.on_host(backward_errors(a, x, b, definite=definite))
    errors[judged.members[judged.info != 0]] = np.nan
    return _Answer(x, judged, low, iterations, errors, time.perf_counter() - began)


def _direct(a: Array, b: Array, definite: bool) -> tuple[Array, Judged]:
    ops = batched_ops_for(a, b)
    return ops.posv_batched(a, b) if definite else ops.gesv_batched(a, b)


def _refined(
    a: Array, b: Array, options: Options, fmt: Format
) -> tuple[Array, Judged, Array, Array]:
    """x, what was judged, who converged, and in how many steps; the others in working precision."""
    if b.size == 0:
        none = np.zeros(len(b), np.int64)
        return *_direct(a, b, options.definite), none == 0, none
    x, converged, iterations = solve_refined(
        a, b, definite=options.definite, fmt=fmt, tol=options.tol
    )
    others = np.flatnonzero(~converged)
    chosen = validate.on_device_of(x, others)
    found, judged = _direct(a[chosen], b[chosen], options.definite)
    x[chosen] = found
    return x, judged._replace(members=others[judged.members]), converged, iterations


def _conclude(
    answer: _Answer, batch: tuple[int, ...], dtype: np.dtype[Any], n: int | None,
    options: Options, began: float, stacklevel: int,
) -> BatchReport | None:  # fmt: skip
    """Raise and warn as `solve` does, and report; `stacklevel` counts from the caller, 1, on."""
    if not (answer.judged.members.size or answer.low is not None or options.full_output):
        return None
    working = working_format(dtype)
    breakdown = Status.NOT_POSITIVE_DEFINITE if options.definite else Status.SINGULAR
    findings = Findings(answer.judged, batch, 2 * working.unit_roundoff, n, breakdown)
    findings.conclude(options.raise_on_failure, stacklevel + 1)
    low, fmt = answer.low, options.precision or working
    climbed = np.empty(0, int) if low is None else np.flatnonzero(~low)
    climbed = np.setdiff1d(climbed, findings.members(*FAILURES))
    if climbed.size:
        names = names_of(climbed, batch)
        warnings.warn(
            f"precision={fmt.name!r} could not deliver for {names}; {working.name} was taken.",
            LinAlgWarning, stacklevel=stacklevel + 1,
        )  # fmt: skip
    if not options.full_output:
        return None
    status, info = findings.spread()
    if low is not None:
        status.reshape(-1)[low] = Status.CONVERGED
    steps = answer.iterations
    if steps is None:
        steps = np.zeros(status.size, np.int64)
    assert answer.errors is not None
    total = time.perf_counter() - began
    seconds = {"solve": total - answer.seconds, "check": answer.seconds, "total": total}
    errors = answer.errors.reshape(batch)
    return BatchReport(status, info, errors, fmt.name, steps.reshape(batch), seconds)


# -- different orders ----------------------------------------------------------------------------


def _solve_ragged(
    a: Any, b: Any, precision: str | Format, options: Options, stacklevel: int
) -> tuple[Any, BatchReport | None]:
    """`solve` for lists and `Ragged`: members of one shape at a time."""
    if not (is_ragged(a) and is_ragged(b)):
        kinds = f"{type(a).__name__} and {type(b).__name__}"
        raise TypeError(f"a and b must both be lists of arrays or Ragged, got {kinds}")
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} members and b has {len(b)}")
    began = time.perf_counter()
    members_a, members_b = as_ragged(a, "a"), as_ragged(b, "b")
    dtype = dtype_of(members_a, members_b)
    fmt = arguments.precision_option(precision, dtype)
    options = options._replace(precision=fmt)
    _require_fits(members_a, members_b)
    is_vector = members_b.ndim == 1
    checking = []
    is_refined = fmt is not None and fmt != working_format(dtype)
    # what there is to say of each member beside its x
    further: tuple[Any, ...] = ()
    if is_refined or options.full_output:
        further = bool, int, float

    def run(p: Array, q: Array) -> tuple[tuple[Array, ...], Judged]:
        answer = _answer(p, q[..., None] if is_vector else q, options)
        checking.append(answer.seconds)
        known = zip((answer.low, answer.iterations, answer.errors), further, strict=False)
        columns = [np.zeros(len(p), kind) if v is None else v for v, kind in known]
        x = answer.x[..., 0] if is_vector else answer.x
        return (x, *(column[:, None] for column in columns)), answer.judged

    (x, *columns), judged = run_by_shape(run, [members_a, members_b], dtype, [dtype, *further])
    found = [column.data[column.offsets] for column in columns]
    low, iterations, errors = found or (None, None, None)
    whole = _Answer(None, judged, low if is_refined else None, iterations, errors, sum(checking))
    report = _conclude(whole, (len(members_a),), dtype, None, options, began, stacklevel + 1)
    return in_form_of(a, x), report


def _require_fits(a: Ragged, b: Ragged) -> None:
    """Raise ValueError unless members of `a` are square, and b fits them."""
    if not len(a):
        return
    if a.ndim != 2:
        raise ValueError(f"a must hold matrices, got a[0].shape={a[0].shape}")
    wrong = (a.shapes[:, 0] != a.shapes[:, 1]) | (b.shapes[:, 0] != a.shapes[:, 0])
    for k in np.flatnonzero(wrong)[:1]:
        raise ValueError(
            f"incompatible shapes: a[{k}].shape={a[k].shape} and b[{k}].shape={b[k].shape}"
        )
