"""lu_factor and lu_solve: factor once, solve often to working precision."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from .. import arguments
from ..errors import LinAlgWarning
from ..ops import is_on_device, is_on_host, ops_for
from ..precision import Format
from . import structure as structures
from . import validate
from .factored import Factored, is_plain_matrix, solve_plain_tuple
from .member import Member
from .refined import warn

__all__ = ["LU", "lu_factor", "lu_solve"]

_TRANS = {0: "N", 1: "T", 2: "C"}


class LU(Factored):
    """The LU factors of a matrix, and the matrix, by reference. Made by `lu_factor`.

    Solves to working precision. Unpacks as SciPy's ``(lu, piv)``, which is in working precision,
    and computed where the factors are not: a bare tuple has no matrix to refine with.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Working precision.
    precision : str
        Format of the factors.
    report : SolveReport
        How the factors came about and how well they solve a probe system.

    Notes
    -----
    From order 1024 on the factors of double-precision data are kept in single precision, and every
    solve is refined; below, and of single-precision data, they are kept in working precision, and
    every solve is checked. So `lu_factor` decides unless a precision is pinned. Of factors of the
    second kind `report`, `rcond()`, and solves with `refine`, `tol` or `full_output` may factor
    the matrix again, once.
    """

    def __init__(self, a: Any, precision: Format | None, check_finite: bool) -> None:
        super().__init__(a)
        a = self._a
        self._precision = precision
        self._check_finite = check_finite
        if a.shape[-1] != a.shape[-2]:
            if check_finite:
                validate.check_finite(a)
            self._members = np.empty(a.shape[:-2], dtype=object)
            self._info = f"Expected square matrix, got {a.shape=}"
            return
        failures = self._factor_members(
            a, lambda m: Member(m, structures.GENERAL, None, precision, check_finite)
        )
        if failures:
            where = f" (slices {[i for i, _ in failures]})" if a.ndim > 2 else ""
            self._info = failures[0][1] + where

    def solve(
        self,
        b: ArrayLike,
        trans: int = 0,
        *,
        refine: str | None = "auto",
        tol: float | None = None,
        check_finite: bool = True,
        full_output: bool = False,
    ) -> Any:
        """Solve ``a x = b`` (trans 0), ``a.T x = b`` (1) or ``a.conj().T x = b`` (2).

        Parameters and results as `lu_solve`.
        """
        x, report, message = self._solve(b, _trans(trans), check_finite, refine, tol, full_output)
        warn(message)
        return (x, report) if full_output else x

    def _factor_again(self, a: Any) -> LU:
        return LU(a, self._precision, self._check_finite)

    def _unpack(self) -> tuple[Any, ...]:
        kept = self._only_member_as_scipy()
        if kept is not None:
            return kept
        *factors, info = _scipy_factors(self._a)
        if info and self.shape[-1] != self.shape[-2]:  # of a square matrix lu_factor has warned
            warnings.warn(
                f"Diagonal number {info} is exactly zero. Singular matrix.", LinAlgWarning,
                stacklevel=4,
            )  # fmt: skip
        return tuple(factors)

    def __repr__(self) -> str:
        return f"LU(shape={self.shape}, dtype={self.dtype}, precision={self.precision!r})"


def _scipy_factors(a: NDArray[Any]) -> tuple[Any, ...]:
    """What `scipy.linalg.lu_factor` returns, also of an empty batch, and info for its warning."""
    if not is_on_host(a):
        return _device_factors(a)
    if a.size == 0:
        k = min(a.shape[-2:])
        return np.empty_like(a), np.zeros((*a.shape[:-2], k), dtype=np.int32), 0
    (getrf,) = scipy.linalg.get_lapack_funcs(("getrf",), (a,))
    factors = [getrf(a[index]) for index in np.ndindex(a.shape[:-2])]
    if a.ndim == 2:
        return factors[0]
    lu, piv, info = zip(*factors, strict=True)
    return np.reshape(lu, a.shape), np.reshape(piv, (*a.shape[:-2], -1)), max(info)


def _device_factors(a: Any) -> tuple[Any, ...]:
    """`_scipy_factors` of an array on a device."""
    ops = ops_for(a)
    xp, worst = ops.xp, 0
    lu, piv = xp.empty_like(a), xp.empty((*a.shape[:-2], min(a.shape[-2:])), xp.int32)
    for index in np.ndindex(a.shape[:-2]) if a.size else ():
        member = xp.array(a[index], order="F")
        piv[index], info = ops.getrf(member)
        lu[index] = member
        worst = max(worst, info)
    return lu, piv, worst


def _device_solve(lu: Any, piv: Any, b: Any, trans: str, check_finite: bool) -> Any:
    """`scipy.linalg.lu_solve` of one system on a device."""
    ops = ops_for(lu, piv, b)
    if lu.ndim != 2 or lu.shape[0] != lu.shape[1] or b.shape[:1] != lu.shape[:1] or b.ndim > 2:
        raise ValueError(f"Shapes of lu {lu.shape} and b {b.shape} are incompatible")
    dtype = arguments.common_dtype(lu, b)
    if check_finite:
        validate.check_finite(lu, b)
    x = ops.xp.array(b if b.ndim == 2 else b[:, None], dtype=dtype, order="F")
    ops.getrs(ops.xp.asfortranarray(lu, dtype=dtype), piv, x, trans=trans)
    return x if b.ndim == 2 else x[:, 0]


def lu_factor(
    a: ArrayLike,
    overwrite_a: bool = False,
    check_finite: bool = True,
    *,
    precision: str | Format = "auto",
) -> LU:
    """Factor ``P a = L U`` once, for `lu_solve` to solve to working precision.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        The matrix, or a batch. Kept by reference: solves are checked against it. (A rectangular
        ``(m, n)`` matrix is accepted as in SciPy; the result then only unpacks.)
    overwrite_a : bool
        Accepted as in SciPy; `a` is left as it is.
    check_finite : bool
        Raise ValueError if `a` holds NaN or infinity.
    precision : {"auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}
        Format of the factors. "auto" takes fp32 for double-precision data from order 1024 on, if
        such factors solve a probe system to working precision, and else working precision.

    Returns
    -------
    LU
        Unpacks as SciPy's ``(lu, piv)``.

    Raises
    ------
    ValueError, TypeError
        Shapes, dtypes or options that make no sense; NaN or infinity in `a`.

    Warns
    -----
    LinAlgWarning
        `a` is exactly singular (solving with the result raises LinAlgError), or a pinned
        `precision` could not deliver.

    Notes
    -----
    2/3 n^3 flops in the format of the factors; workspace n^2 numbers of it. If `a` is changed
    afterwards, `lu_solve` raises LinAlgError, or x solves with the changed matrix to working
    precision.

    References
    ----------
    .. [1] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 9.
    .. [2] Toledo, SIAM J. Matrix Anal. Appl. 18 (1997) 1065 (recursive LU).

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import lu_factor, lu_solve
    >>> a = np.array([[4.0, 3.0], [6.0, 3.0]])
    >>> lu_solve(lu_factor(a), [10.0, 12.0])
    array([1., 2.])
    """
    if precision == "auto" and is_plain_matrix(a):
        factors = LU(a, None, check_finite)
        if factors._info is not None:
            warnings.warn(f"Singular matrix. {factors._info}", LinAlgWarning, stacklevel=2)
        return factors
    array = arguments.as_array(a, "a")
    if array.ndim < 2:
        raise ValueError(f"Expected at least ndim=2, got {array.ndim=}")
    dtype = arguments.common_dtype(array)
    fmt = arguments.precision_option(precision, dtype)
    factors = LU(arguments.to_dtype(array, dtype), fmt, check_finite)
    if factors._info is not None and array.shape[-1] == array.shape[-2]:
        warnings.warn(f"Singular matrix. {factors._info}", LinAlgWarning, stacklevel=2)
    elif fmt is not None and factors.precision != fmt.name:
        warn(f"precision={fmt.name!r} could not deliver; the factors are {factors.precision}.", 2)
    return factors


def lu_solve(
    lu_and_piv: LU | tuple[Any, Any],
    b: ArrayLike,
    trans: int = 0,
    overwrite_b: bool = False,
    check_finite: bool = True,
    *,
    refine: str | None = "auto",
    tol: float | None = None,
    full_output: bool = False,
) -> Any:
    """Solve ``a x = b`` with the factors of `lu_factor`.

    Parameters
    ----------
    lu_and_piv : LU, or (lu, piv)
        A plain tuple, as SciPy's `lu_factor` gives, is solved without refinement or test.
    b : array_like, shape (n,) or (..., n, nrhs)
    trans : {0, 1, 2}
        Solve with a, its transpose, or its conjugate transpose.
    overwrite_b : bool
        Accepted as in SciPy; `b` is left as it is.
    check_finite : bool
        Raise ValueError if `b` holds NaN or infinity.
    refine : {"auto", "classical", "gmres", None}
        How x is refined; None: one solve with the factors, and x is as good as their format.
    tol : float, optional
        Normwise backward error at which to stop; see `solve`.
    full_output : bool
        Also return a `SolveReport`; of a plain tuple it holds no errors.

    Returns
    -------
    x : ndarray, of the shape of `b` (broadcast with the batch)
    report : SolveReport
        If `full_output`.

    Raises
    ------
    LinAlgError
        The matrix is singular, or was modified after it was factored.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense; NaN or infinity in `b`.

    Warns
    -----
    LinAlgWarning
        As `solve`.

    Notes
    -----
    About 4 n^2 flops a right-hand side, half of them with the factors and half for the residual by
    which x is checked; as many for each step where x is refined. That the matrix is still the same
    is told by x, or by one product with a vector.

    References
    ----------
    .. [1] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 12.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import lu_factor, lu_solve
    >>> a = np.array([[4.0, 3.0], [6.0, 3.0]])
    >>> lu_solve(lu_factor(a), [10.0, 6.0], trans=1)
    array([1., 1.])
    """
    if isinstance(lu_and_piv, LU):
        if refine == "auto" and tol is None and not full_output:
            x = lu_and_piv._solve_plainly(b, _trans(trans))
            if x is not None:
                return x
        x, report, message = lu_and_piv._solve(
            b, _trans(trans), check_finite, refine, tol, full_output
        )
        warn(message)
        return (x, report) if full_output else x
    if isinstance(lu_and_piv, Factored):
        raise TypeError("lu_solve takes factors of lu_factor; these are cho_factor's: cho_solve")
    flag = _trans(trans)
    lu, piv = lu_and_piv
    if is_on_device(lu):
        return solve_plain_tuple(
            lambda: _device_solve(lu, piv, b, flag, check_finite), refine, tol, full_output
        )
    return solve_plain_tuple(
        lambda: scipy.linalg.lu_solve((lu, piv), b, trans, check_finite=check_finite),
        refine, tol, full_output,
    )  # fmt: skip


def _trans(trans: int) -> str:
    if trans not in _TRANS:
        raise ValueError(f"trans must be 0, 1 or 2; got {trans!r}")
    return _TRANS[trans]
