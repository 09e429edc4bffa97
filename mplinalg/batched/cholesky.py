"""cho_factor and cho_solve for many small matrices: factor once, solve often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import LinAlgError
from ..ops import batched_ops_for
from ..ops.batched import Judged
from ..report import Status
from .factors import BatchedFactors, solve_with
from .listed_factors import ListedFactors, solve_listed
from .ragged import is_ragged

__all__ = ["Cholesky", "cho_factor", "cho_solve"]

Array = NDArray[Any]

_LOWER, _UPPER = "L", "U"


class Cholesky(BatchedFactors):
    """The Cholesky factors of a batch, and the matrices, by reference. Made by `cho_factor`.

    Unpacks as ``(c, lower)``, c of the shape ``(..., n, n)`` with zeros in the other triangle.

    Attributes
    ----------
    shape : tuple of int
        ``(..., n, n)``.
    dtype : dtype
    lower : bool
        Whether c is L, ``a = L L^H``, or U, ``a = U^H U``.
    status : ndarray of Status, shape (...)
        DIRECT; NOT_POSITIVE_DEFINITE, NOT_FINITE: the member cannot be solved with;
        ILL_CONDITIONED: solving with it warns.
    """

    _breakdown = Status.NOT_POSITIVE_DEFINITE

    @property
    def lower(self) -> bool:
        """Whether c is lower triangular."""
        return self._kind == _LOWER

    def __iter__(self) -> Iterator[Any]:
        return iter((self._factors, self.lower))

    @staticmethod
    def _compute(a: Array, kind: str) -> tuple[Array, Array | None, Judged]:
        found = batched_ops_for(a).potrf_batched(a, lower=kind == _LOWER)
        return found.factors, None, found.judged

    @staticmethod
    def _parts(dtype: np.dtype[Any]) -> tuple[Any, ...]:
        return (dtype,)

    @staticmethod
    def _substitute(factors: Array, piv: Array | None, b: Array, flag: str) -> Array:
        return batched_ops_for(factors, b).potrs_batched(factors, b, lower=flag == _LOWER)

    def _operator(self, flag: str) -> tuple[Array, bool]:
        return (self._a.conj().swapaxes(-1, -2) if self.lower else self._a), True

    def solve(
        self, b: ArrayLike, *, raise_on_failure: bool = True, full_output: bool = False
    ) -> Any:
        """Solve ``a x = b``. Parameters and results as `cho_solve`."""
        return self._solve(b, self._kind, raise_on_failure, full_output, stacklevel=2)

    def __repr__(self) -> str:
        return f"Cholesky(shape={self.shape}, dtype={self.dtype}, lower={self.lower})"


class ListedCholesky(ListedFactors):
    """As `Cholesky`, of a list or `Ragged` of matrices; unpacks as ``(c, lower)``, c like it."""

    _of = Cholesky

    @property
    def lower(self) -> bool:
        """Whether c is lower triangular."""
        return self._kind == _LOWER

    def __iter__(self) -> Iterator[Any]:
        return iter((self._formed(self._factors), self.lower))

    def solve(self, b: Any, *, raise_on_failure: bool = True, full_output: bool = False) -> Any:
        """As `Cholesky.solve`."""
        return self._solve(b, self._kind, raise_on_failure, full_output, stacklevel=2)


def cho_factor(
    a: ArrayLike, lower: bool = False, *, raise_on_failure: bool = True
) -> Cholesky | ListedCholesky:
    """Factor ``a = U^H U`` or ``a = L L^H`` for each member of a batch, for `cho_solve`.

    Parameters
    ----------
    a : array_like, shape (..., n, n), or list of arrays, or Ragged
        Hermitian positive definite; of different orders in a list. Kept by reference, but of a
        list a copy.
    lower : bool
        Read the lower triangle and compute L, instead of the upper one and U.
    raise_on_failure : bool
        If False, members without a factor get NaN, and nothing is raised.

    Returns
    -------
    Cholesky
        Unpacks as ``(c, lower)``; each member as from `scipy.linalg.cho_factor`, but for zeros in
        the other triangle. Of a list c is a list, of a Ragged a Ragged.

    Raises
    ------
    LinAlgError
        Members are not positive definite, or hold NaN or infinity; it names them.
    ValueError, TypeError
        Shapes or dtypes that make no sense.

    Notes
    -----
    1/3 n^3 flops a member, as `solve` with ``assume_a="pos"``.

    References
    ----------
    .. [1] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 10.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> c, lower = batched.cho_factor([[[4.0, 2.0], [2.0, 2.0]], [[9.0, 0.0], [0.0, 1.0]]])
    >>> c.tolist(), lower
    ([[[2.0, 1.0], [0.0, 1.0]], [[3.0, 0.0], [0.0, 1.0]]], False)
    """
    kind = _LOWER if lower else _UPPER
    made = ListedCholesky(a, kind) if is_ragged(a) else Cholesky._made(a, kind)
    failure = made._findings().failure()
    if failure is not None and raise_on_failure:
        raise LinAlgError(failure)
    return made


def cho_solve(
    c_and_lower: Cholesky | ListedCholesky | tuple[Any, bool],
    b: ArrayLike,
    *,
    raise_on_failure: bool = True,
    full_output: bool = False,
) -> Any:
    """Solve ``a x = b`` for each member of a batch with the factors of `cho_factor`.

    Parameters
    ----------
    c_and_lower : Cholesky, or (c, lower)
        A plain tuple may come from elsewhere, with an array, a list or a Ragged; the other
        triangle of c is not read.
    b : array_like, shape (n,) or (..., n, nrhs), or list of arrays, or Ragged
        Batch dimensions broadcast with those of the factors. To a list belongs a list, of vectors
        or matrices.
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
        Members have no factor, or `b` holds NaN or infinity; it names them.
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
    .. [1] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 10.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> f = batched.cho_factor([[[4.0, 2.0], [2.0, 2.0]], [[9.0, 0.0], [0.0, 1.0]]])
    >>> batched.cho_solve(f, np.ones(2)).round(12).tolist()
    [[0.0, 0.5], [0.111111111111, 1.0]]
    """
    if isinstance(c_and_lower, Cholesky | ListedCholesky):
        return c_and_lower._solve(b, c_and_lower._kind, raise_on_failure, full_output, stacklevel=2)
    c, lower = c_and_lower
    if not isinstance(lower, bool | np.bool_ | int):
        raise TypeError(f"lower must be a bool, got {type(lower).__name__}")
    kind = _LOWER if lower else _UPPER
    if is_ragged(c):
        return solve_listed(Cholesky, c, None, b, kind, raise_on_failure, full_output, stacklevel=2)
    return solve_with(Cholesky, c, None, b, kind, raise_on_failure, full_output, stacklevel=2)
