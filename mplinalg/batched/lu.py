"""lu_factor and lu_solve for many small matrices: factor once, solve often."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import LinAlgError, LinAlgWarning
from ..ops import batched_ops_for
from ..ops.batched import Judged
from ..report import Status
from .factors import BatchedFactors, solve_with
from .listed_factors import ListedFactors, solve_listed
from .ragged import is_ragged

__all__ = ["LU", "lu_factor", "lu_solve"]

Array = NDArray[Any]

_TRANS = {0: "N", 1: "T", 2: "C"}


class LU(BatchedFactors):
    """The LU factors of a batch of matrices, and the matrices, by reference. Made by `lu_factor`.

    Unpacks as ``(lu, piv)``, of the shapes ``(..., n, n)`` and ``(..., n)``, which for each member
    are what `scipy.linalg.lu_factor` returns.

    Attributes
    ----------
    shape : tuple of int
        ``(..., n, n)``.
    dtype : dtype
    status : ndarray of Status, shape (...)
        DIRECT; SINGULAR, NOT_FINITE: the member cannot be solved with; ILL_CONDITIONED: solving
        with it warns.
    """

    _breakdown = Status.SINGULAR

    def __iter__(self) -> Iterator[Array]:
        assert self._piv is not None
        return iter((self._factors, self._piv))

    @staticmethod
    def _compute(a: Array, kind: str) -> tuple[Array, Array | None, Judged]:
        found = batched_ops_for(a).getrf_batched(a)
        return found.factors, found.piv, found.judged

    @staticmethod
    def _parts(dtype: np.dtype[Any]) -> tuple[Any, ...]:
        return dtype, np.int32

    @staticmethod
    def _substitute(factors: Array, piv: Array | None, b: Array, flag: str) -> Array:
        assert piv is not None
        return batched_ops_for(factors, b).getrs_batched(factors, piv, b, trans=flag)

    def _operator(self, flag: str) -> tuple[Array, bool]:
        a = self._a if flag == "N" else self._a.swapaxes(-1, -2)
        return (a.conj() if flag == "C" else a), False

    def solve(
        self,
        b: ArrayLike,
        trans: int = 0,
        *,
        raise_on_failure: bool = True,
        full_output: bool = False,
    ) -> Any:
        """Solve ``a x = b`` (trans 0), ``a.T x = b`` (1) or ``a.conj().T x = b`` (2).

        Parameters and results as `lu_solve`.
        """
        return self._solve(b, _flag(trans), raise_on_failure, full_output, stacklevel=2)

    def __repr__(self) -> str:
        return f"LU(shape={self.shape}, dtype={self.dtype})"


class ListedLU(ListedFactors):
    """As `LU`, of a list or `Ragged` of matrices; unpacks as ``(lu, piv)``, each in that form."""

    _of = LU

    def __iter__(self) -> Iterator[Any]:
        assert self._piv is not None
        return iter((self._formed(self._factors), self._formed(self._piv)))

    def solve(
        self, b: Any, trans: int = 0, *, raise_on_failure: bool = True, full_output: bool = False
    ) -> Any:
        """As `LU.solve`."""
        return self._solve(b, _flag(trans), raise_on_failure, full_output, stacklevel=2)


def _flag(trans: int) -> str:
    if trans not in _TRANS:
        raise ValueError(f"trans must be 0, 1 or 2; got {trans!r}")
    return _TRANS[trans]


def lu_factor(a: ArrayLike, *, raise_on_failure: bool = True) -> LU | ListedLU:
    """Factor ``P a = L U`` for each member of a batch, for `lu_solve`.

    Parameters
    ----------
    a : array_like, shape (..., n, n), or list of arrays, or Ragged
        Kept by reference, but of a list a copy; of different orders in a list.
    raise_on_failure : bool
        If False, members that hold NaN or infinity get factors of NaN, and nothing is raised.

    Returns
    -------
    LU
        Unpacks as ``(lu, piv)``; each member as from `scipy.linalg.lu_factor`. Of a list what it
        unpacks as are lists, of a Ragged Raggeds.

    Raises
    ------
    LinAlgError
        Members hold NaN or infinity; it names them.
    ValueError, TypeError
        Shapes or dtypes that make no sense.

    Warns
    -----
    LinAlgWarning
        Members are exactly singular. They have factors, but cannot be solved with.

    Notes
    -----
    2/3 n^3 flops a member, as `solve`.

    References
    ----------
    .. [1] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 9.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> a = np.array([[[4.0, 3.0], [6.0, 3.0]], [[2.0, 0.0], [0.0, 1.0]]])
    >>> lu, piv = batched.lu_factor(a)
    >>> piv
    array([[1, 1],
           [0, 1]], dtype=int32)
    """
    made = ListedLU(a, "") if is_ragged(a) else LU._made(a, "")
    findings = made._findings()
    lost = findings.failure(Status.NOT_FINITE)
    if lost is not None and raise_on_failure:
        raise LinAlgError(lost)
    singular = findings.failure(Status.SINGULAR)
    if singular is not None:
        warnings.warn(singular, LinAlgWarning, stacklevel=2)
    return made


def lu_solve(
    lu_and_piv: LU | ListedLU | tuple[Any, Any],
    b: ArrayLike,
    trans: int = 0,
    *,
    raise_on_failure: bool = True,
    full_output: bool = False,
) -> Any:
    """Solve ``a x = b`` for each member of a batch with the factors of `lu_factor`.

    Parameters
    ----------
    lu_and_piv : LU, or (lu, piv)
        A plain tuple of arrays ``(..., n, n)`` and ``(..., n)`` may come from elsewhere; it does
        not know its matrices, so only what is exactly singular is noticed. So may a tuple of
        lists, or of Raggeds.
    b : array_like, shape (n,) or (..., n, nrhs), or list of arrays, or Ragged
        Batch dimensions broadcast with those of the factors. To a list belongs a list, of vectors
        or matrices.
    trans : {0, 1, 2}
        Solve with a, its transpose, or its conjugate transpose.
    raise_on_failure : bool
        If False, members that have no answer are NaN, and nothing is raised for them.
    full_output : bool
        Also return a `BatchReport`; of a plain tuple it holds no backward errors.

    Returns
    -------
    x : ndarray, shape (..., n) or (..., n, nrhs), or list of arrays, or Ragged
        In the form of `b`, and the common dtype; of a right-hand side in a wider one than `a` as
        accurate as that.
    report : BatchReport
        If `full_output`.

    Raises
    ------
    LinAlgError
        Members are singular, or hold NaN or infinity, or `b` does; it names them.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense.

    Warns
    -----
    LinAlgWarning
        Members are singular to working precision.

    Notes
    -----
    2 n^2 flops a right-hand side.

    References
    ----------
    .. [1] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 9.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> a = np.array([[[4.0, 3.0], [6.0, 3.0]], [[2.0, 0.0], [0.0, 1.0]]])
    >>> batched.lu_solve(batched.lu_factor(a), [10.0, 12.0])
    array([[ 1.,  2.],
           [ 5., 12.]])
    """
    flag = _flag(trans)
    if isinstance(lu_and_piv, LU | ListedLU):
        return lu_and_piv._solve(b, flag, raise_on_failure, full_output, stacklevel=2)
    lu, piv = lu_and_piv
    if is_ragged(lu):
        return solve_listed(LU, lu, piv, b, flag, raise_on_failure, full_output, stacklevel=2)
    rows: Any = piv if hasattr(piv, "dtype") else np.asarray(piv)
    if rows.dtype.kind not in "iu":
        raise TypeError(f"pivots must be integers, got dtype {rows.dtype}")
    return solve_with(LU, lu, rows, b, flag, raise_on_failure, full_output, stacklevel=2)
