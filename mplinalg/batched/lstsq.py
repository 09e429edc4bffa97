"""lstsq: min ||b - A x|| for many small matrices at once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import LinAlgError
from ..ops import Judged, batched_ops_for
from ..precision import real_dtype, working_format
from ..report import Status
from . import validate
from .by_shape import as_ragged, dtype_of, in_form_of, run_by_shape
from .failures import Findings, names_of
from .ragged import Ragged, is_ragged
from .report import BatchReport

__all__ = ["LeastSquaresReport", "lstsq"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class LeastSquaresReport(BatchReport):
    """A `BatchReport` of least-squares problems.

    Attributes
    ----------
    rank : ndarray of int
        Of each member: the number of singular values that count. 0 for members that failed.
    residues : ndarray, shape (...,) or (..., nrhs), or list of arrays, or Ragged
        ``||b - A x||^2`` of each right-hand side, whatever the shape and the rank; NaN for members
        that failed.
    """

    rank: NDArray[Any]
    residues: Any


def lstsq(
    a: ArrayLike,
    b: ArrayLike,
    *,
    cond: float | None = None,
    raise_on_failure: bool = True,
    full_output: bool = False,
) -> Any:
    """Solve min ||b - A x|| in the 2-norm for each member of a batch of small matrices.

    Parameters
    ----------
    a : array_like, shape (..., m, n), or list of arrays, or Ragged
        Of any shape and rank; of different shapes in a list.
    b : array_like, shape (m,) or (..., m, nrhs), or list of arrays, or Ragged
        Right-hand sides; batch dimensions broadcast with those of `a`. One vector goes with all
        matrices; a stack of vectors is written ``b[..., None]``. To a list belongs a list, of
        vectors or matrices.
    cond : float, optional
        Singular values below `cond` times the largest count as zero. Default: machine epsilon, as
        in SciPy.
    raise_on_failure : bool
        If False, members that hold NaN or infinity are NaN, and nothing is raised for them.
    full_output : bool
        Also return a `LeastSquaresReport`, with ranks and residues.

    Returns
    -------
    x : ndarray, shape (..., n) or (..., n, nrhs), or list of arrays, or Ragged
        Of least norm where the rank is below n. In the form of `a`, and the common dtype of `a` and
        `b`: float32, float64, complex64 or complex128.
    report : LeastSquaresReport
        If `full_output`.

    Raises
    ------
    LinAlgError
        Some members hold NaN or infinity; it names them.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense.

    Notes
    -----
    Matrices of full rank are solved by Householder QR, those with m < n by that of A^H, as many at
    a time as a register holds numbers. The inverse of R, computed on the way, gives a lower bound
    on the reciprocal condition number. Where that is not ten times above `cond`, and above the
    rounding errors of R, the rank is in doubt, and LAPACK's gelsd solves the problem, as in SciPy:
    so ranks are SciPy's, and so is x for members whose rank is deficient.

    2 m n^2 - 1/3 n^3 flops a member (m >= n) in addition to 4 m n for each right-hand side. Batches
    are divided among the threads that SciPy's BLAS may use; neither their number nor what other
    members hold has an influence on the answer of a member, but for last bits where BLAS takes
    several threads for one large matrix.

    References
    ----------
    Golub and Van Loan, Matrix Computations, 4th ed., 2013, sections 5.3, 5.5 and 5.6.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> t = np.linspace(0, 1, 5)
    >>> lines = np.stack([np.ones(5), t], axis=1)  # one matrix for all
    >>> b = np.array([2 + 3 * t, 1 - t])
    >>> print(np.round(batched.lstsq(lines, b[..., None])[..., 0], 12))
    [[ 2.  3.]
     [ 1. -1.]]

    >>> x, report = batched.lstsq(np.zeros((2, 5, 2)), b[..., None], full_output=True)
    >>> report.rank
    array([0, 0])
    """
    if cond is not None and not float(cond) >= 0:
        raise ValueError(f"cond must not be negative; got {cond!r}")
    began = time.perf_counter()
    x: Any
    residues: Any
    if is_ragged(a) or is_ragged(b):
        first, second = as_ragged(a, "a", 2), as_ragged(b, "b")
        _require_rows(first, second)
        batch: tuple[int, ...] = (len(first),)
        dtype = dtype_of(first, second)
        is_vector = second.ndim == 1

        def run(p: Array, q: Array) -> tuple[tuple[Array, ...], Judged]:
            (y, squares, ranks), judged = _solved(p, q[..., None] if is_vector else q, cond)
            return (y[..., 0] if is_vector else y, squares, ranks[:, None]), judged

        kinds = dtype, real_dtype(dtype), int
        (found, squares, ranks), judged = run_by_shape(run, [first, second], dtype, kinds)
        x, residues = in_form_of(a, found), in_form_of(a, squares)
        if is_vector:
            residues = squares.data[squares.offsets]
        rank = ranks.data[ranks.offsets]
    else:
        (a1, b1), dtype = validate.operands((a, "a"), (b, "b"))
        validate.matrices(a1)
        columns, is_vector = validate.right_hand_sides(a1, b1, a1.shape[-2])
        batch = validate.batch_shape(a1, columns)
        (x, residues, rank), judged = _solved(
            validate.stack(a1, batch), validate.stack(columns, batch), cond
        )
        x, residues, rank = (p.reshape((*batch, *p.shape[1:])) for p in (x, residues, rank))
        if is_vector:
            x, residues = x[..., 0], residues[..., 0]
    fmt = working_format(dtype)
    lost = judged.members[judged.info > 0]
    if lost.size and raise_on_failure:
        raise LinAlgError(f"The SVD did not converge: {names_of(lost, batch)}.")
    findings = Findings(judged, batch, 2 * fmt.unit_roundoff, None, Status.STAGNATED)
    findings.conclude(raise_on_failure)
    if not full_output:
        return x
    status, info = findings.spread()
    return x, LeastSquaresReport(
        status, info, None, fmt.name, np.zeros(batch, int),
        {"total": time.perf_counter() - began}, rank=rank, residues=residues,
    )  # fmt: skip


def _require_rows(a: Ragged, b: Ragged) -> None:
    """Raise ValueError unless two lists fit each other."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} matrices in a, {len(b)} right-hand sides in b")
    for k in np.flatnonzero(a.shapes[:, 0] != b.shapes[:, 0])[:1]:
        raise ValueError(
            f"incompatible shapes: a[{k}].shape={a[k].shape}, b[{k}].shape={b[k].shape}"
        )


def _solved(a: Array, b: Array, cond: float | None) -> tuple[tuple[Array, Array, Array], Judged]:
    """x, the residues and the ranks of canonical stacks; NaN and 0 where there is no answer."""
    (x, judged), ranks, squares = batched_ops_for(a, b).lstsq_batched(a, b, cond)
    x[judged.members] = squares[judged.members] = np.nan
    ranks[judged.members] = 0
    return (x, squares, ranks), judged
