"""qr: A = Q R for many small matrices at once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ops import Judged, batched_ops_for
from ..precision import working_format
from ..report import Status
from . import validate
from .by_shape import as_ragged, dtype_of, in_form_of, run_by_shape
from .failures import Findings
from .ragged import is_ragged
from .report import BatchReport

__all__ = ["qr"]

Array = NDArray[Any]

_MODES = {
    "reduced": "reduced", "economic": "reduced", "complete": "complete", "full": "complete",
    "r": "r",
}  # fmt: skip


def qr(
    a: ArrayLike,
    *,
    mode: str = "reduced",
    raise_on_failure: bool = True,
    full_output: bool = False,
) -> Any:
    """Factor ``a = q @ r`` for each member of a batch of small matrices.

    Parameters
    ----------
    a : array_like, shape (..., m, n), or list of arrays, or Ragged
        Of any shape, m < n and 0 among them; of different shapes in a list.
    mode : {"reduced", "complete", "r"}
        With K = min(m, n). "reduced": q is (m, K) and r is (K, n). "complete": q is (m, m) and r is
        (m, n). "r": r alone, (K, n). SciPy's names "economic" and "full" stand for the first two.
    raise_on_failure : bool
        If False, the factors of members that hold NaN or infinity are NaN, and nothing is raised.
    full_output : bool
        Also return a `BatchReport`.

    Returns
    -------
    q : ndarray, shape (..., m, K) or (..., m, m), or list of arrays, or Ragged
        Orthonormal columns. Not with mode "r".
    r : ndarray, shape (..., K, n) or (..., m, n), or list of arrays, or Ragged
        Upper triangular. In the form of `a`, as q: float32, float64, complex64 or complex128.
    report : BatchReport
        If `full_output`.

    Raises
    ------
    LinAlgError
        Some members hold NaN or infinity; it names them.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense.

    Notes
    -----
    Householder QR, with the signs that LAPACK's geqrf gives to the rows of r; of an upper
    triangular matrix with a real diagonal, r is that matrix. 2 m n^2 - 2/3 n^3 flops a member for
    r (m >= n), as many again for q. Columns are scaled by powers of two before their norms are
    taken.

    As many members as a register holds numbers are factored at a time: in registers up to 16
    numbers, in the cache up to about 220-by-220 in double precision, beyond by LAPACK one by one.
    Batches are divided among the threads that SciPy's BLAS may use; neither their number nor what
    other members hold has an influence on the factors of a member, but for last bits where BLAS
    takes several threads for one large matrix.

    References
    ----------
    Golub and Van Loan, Matrix Computations, 4th ed., 2013, section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> a = np.random.default_rng(0).standard_normal((1000, 5, 3))
    >>> q, r = batched.qr(a)
    >>> q.shape, r.shape, bool(np.allclose(q @ r, a))
    ((1000, 5, 3), (1000, 3, 3), True)

    Members of different sizes:

    >>> q, r = batched.qr([np.eye(3), np.ones((4, 2))])
    >>> [x.shape for x in r]
    [(3, 3), (2, 2)]
    """
    if mode not in _MODES:
        raise ValueError(f"mode must be one of {tuple(_MODES)}; got {mode!r}")
    began = time.perf_counter()
    chosen = _MODES[mode]
    found: list[Any]
    if is_ragged(a):
        members = as_ragged(a, "a", 2)
        dtype, batch = dtype_of(members), (len(members),)
        results = [dtype] * (1 if chosen == "r" else 2)
        factors, judged = run_by_shape(
            lambda stack: _factored(stack, chosen), [members], dtype, results
        )
        found = [in_form_of(a, factor) for factor in factors]
    else:
        (a1,), dtype = validate.operands((a, "a"))
        validate.matrices(a1)
        batch = a1.shape[:-2]
        stacks, judged = _factored(validate.stack(a1, batch), chosen)
        found = [stack.reshape((*batch, *stack.shape[1:])) for stack in stacks]
    fmt = working_format(dtype)
    findings = Findings(judged, batch, 2 * fmt.unit_roundoff, None, Status.SINGULAR)
    findings.conclude(raise_on_failure)
    if full_output:
        status, info = findings.spread()
        seconds = {"total": time.perf_counter() - began}
        steps = np.zeros(batch, int)
        found.append(BatchReport(status, info, None, fmt.name, steps, seconds))
    return found[0] if len(found) == 1 else tuple(found)


def _factored(a: Array, mode: str) -> tuple[tuple[Array, ...], Judged]:
    """The factors of a canonical stack; NaN where there are none."""
    q, r, judged = batched_ops_for(a).qr_batched(a, mode=mode)
    q[judged.members] = r[judged.members] = np.nan
    return (r,) if mode == "r" else (q, r), judged
