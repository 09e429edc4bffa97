"""inv: the inverses of many small matrices at once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ops import Judged, batched_ops_for, is_on_host
from ..precision import working_format
from ..report import Status
from . import validate
from .by_shape import as_ragged, dtype_of, in_form_of, run_by_shape
from .failures import Findings
from .ragged import is_ragged
from .refined import backward_errors
from .report import BatchReport

__all__ = ["inv"]

Array = NDArray[Any]


def inv(a: ArrayLike, *, raise_on_failure: bool = True, full_output: bool = False) -> Any:
    """Compute x such that ``a @ x = I`` for each member of a batch of small matrices.

    To solve systems, use `solve`: it costs less, and its residuals are smaller.

    Parameters
    ----------
    a : array_like, shape (..., n, n), or list of arrays, or Ragged
        Square matrices; of different orders in a list.
    raise_on_failure : bool
        If False, members that have no inverse are NaN, and nothing is raised for them.
    full_output : bool
        Also return a `BatchReport`, whose backward errors ``||I - A X|| / (||A|| ||X|| + 1)``, the
        largest of a column, take time.

    Returns
    -------
    x : ndarray, shape (..., n, n), or list of arrays, or Ragged
        In the form of `a`: float32, float64, complex64 or complex128.
    report : BatchReport
        If `full_output`.

    Raises
    ------
    LinAlgError
        Some matrices are exactly singular, or hold NaN or infinity; it names them and says why.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense.

    Warns
    -----
    LinAlgWarning
        Some matrices are singular to working precision: the reciprocal condition number
        1 / (||A||_1 ||X||_1) is below machine epsilon, or X exceeds the range of the dtype.

    Notes
    -----
    LU with partial pivoting, and the columns of the identity as right-hand sides: 8/3 n^3 flops a
    member. As many members as a register holds numbers are inverted at a time: in registers up to
    order 8, in the cache up to about 150 in double precision, beyond by LAPACK one by one, with
    2 n^3 flops. The condition number is computed, not estimated, as both norms are at hand. Members
    that come out as singular to working precision, or not finite, are inverted again by LAPACK,
    and that answer counts.

    Batches are divided among the threads that SciPy's BLAS may use; neither their number nor what
    other members hold has an influence on the inverse of a member, but for last bits where BLAS
    takes several threads for one large matrix.

    References
    ----------
    Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 14.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> a = np.random.default_rng(0).standard_normal((1000, 3, 3))
    >>> bool(np.allclose(a @ batched.inv(a), np.eye(3)))
    True

    >>> a[7] = 1.0  # all ones
    >>> x, report = batched.inv(a, raise_on_failure=False, full_output=True)
    >>> report.failed, report.status[7].name, bool(np.isnan(x[7]).all())
    (array([7]), 'SINGULAR', True)
    """
    began = time.perf_counter()
    if is_ragged(a):
        members = as_ragged(a, "a", 2)
        for k in np.flatnonzero(np.diff(members.shapes, axis=1))[:1]:
            raise ValueError(f"Expected square matrices, got a[{k}].shape={members[k].shape}")
        dtype, batch = dtype_of(members), (len(members),)

        def run(stack: Array) -> tuple[tuple[Array, ...], Judged]:
            x, judged = _inverted(stack)
            errors = _errors(stack, x, judged) if full_output else np.empty(len(stack))
            return (x, errors[:, None]), judged

        (inverses, column), judged = run_by_shape(run, [members], dtype, [dtype, float])
        x = in_form_of(a, inverses)
        errors = column.data[column.offsets]
        singular = judged.members[judged.info > 0]
        order = int(members.shapes[singular[0], 0]) if singular.size else None
    else:
        (a1,), dtype = validate.operands((a, "a"))
        validate.square(a1)
        batch, order = a1.shape[:-2], a1.shape[-1]
        stack = validate.stack(a1, batch)
        inverse, judged = _inverted(stack)
        x = inverse.reshape(a1.shape)
        errors = _errors(stack, inverse, judged).reshape(batch) if full_output else np.empty(0)
    fmt = working_format(dtype)
    findings = Findings(judged, batch, 2 * fmt.unit_roundoff, order, Status.SINGULAR)
    findings.conclude(raise_on_failure)
    if not full_output:
        return x
    status, info = findings.spread()
    seconds = {"total": time.perf_counter() - began}
    return x, BatchReport(status, info, errors, fmt.name, np.zeros(batch, int), seconds)


def _inverted(a: Array) -> tuple[Array, Judged]:
    """The inverses of a canonical stack; NaN where there are none."""
    x, judged = batched_ops_for(a).inv_batched(a)
    x[judged.members[judged.info != 0]] = np.nan
    return x, judged


def _errors(a: Array, x: Array, judged: Judged) -> Array:
    """Backward errors of the columns of the inverses, the largest of each member; on the host."""
    xp = batched_ops_for(a).xp
    identity = xp.broadcast_to(xp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    with np.errstate(invalid="ignore"):  # members that failed
        found = backward_errors(a, x, identity)
    errors = found if is_on_host(found) else np.array(found.tolist())
    errors[judged.members[judged.info != 0]] = np.nan
    return errors
