"""cho_factor and cho_solve: positive definite matrices, factored once, solved often."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from .. import arguments
from ..errors import LinAlgError
from ..ops import is_on_device, is_on_host, ops_for
from ..precision import Format
from . import messages, validate
from . import structure as structures
from .factored import Factored, is_plain_matrix, solve_plain_tuple
from .member import Member
from .refined import warn

__all__ = ["Cholesky", "cho_factor", "cho_solve"]


class Cholesky(Factored):
    """The Cholesky factor of a matrix, and the matrix, by reference. Made by `cho_factor`.

    Solves to working precision. Unpacks as SciPy's ``(c, lower)``, which is in working precision,
    and computed where the factor is not.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Working precision.
    lower : bool
        Triangle of the matrix that is read.
    precision : str
        Format of the factor.
    report : SolveReport
        How the factor came about and how well it solves a probe system.

    Notes
    -----
    From order 1024 on the factor of double-precision data is kept in single precision, and every
    solve is refined; below, and of single-precision data, it is kept in working precision, and
    every solve is checked. So `cho_factor` decides unless a precision is pinned. Of a factor of the
    second kind `report`, `rcond()`, and solves with `refine`, `tol` or `full_output` may factor
    the matrix again, once.
    """

    def __init__(self, a: Any, lower: bool, precision: Format | None, check_finite: bool) -> None:
        super().__init__(a)
        a = self._a
        self.lower = bool(lower)
        self._precision = precision
        self._check_finite = check_finite
        triangle = "L" if lower else "U"
        failures = self._factor_members(
            a,
            lambda m: Member(m, structures.POSITIVE_DEFINITE, triangle, precision, check_finite),
        )
        if failures:
            where = f" (slices {[i for i, _ in failures]})" if a.ndim > 2 else ""
            raise LinAlgError(failures[0][1] + where)

    def solve(
        self,
        b: ArrayLike,
        *,
        refine: str | None = "auto",
        tol: float | None = None,
        check_finite: bool = True,
        full_output: bool = False,
    ) -> Any:
        """Solve ``a x = b``. Parameters and results as `cho_solve`."""
        x, report, message = self._solve(b, "N", check_finite, refine, tol, full_output)
        warn(message)
        return (x, report) if full_output else x

    def _factor_again(self, a: Any) -> Cholesky:
        return Cholesky(a, self.lower, self._precision, self._check_finite)

    def _unpack(self) -> tuple[Any, ...]:
        a, lower = self._a, self.lower
        kept = self._only_member_as_scipy()
        if kept is not None:
            return kept
        if not is_on_host(a):
            return _device_factors(a, lower)
        if a.ndim == 2 and a.size:
            return tuple(scipy.linalg.cho_factor(a, lower, check_finite=False))
        c = np.empty_like(a)
        for index in np.ndindex(a.shape[:-2]):
            if a.shape[-1]:
                c[index] = scipy.linalg.cho_factor(a[index], lower, check_finite=False)[0]
        return c, np.full(a.shape[:-2], lower)

    def __repr__(self) -> str:
        return f"Cholesky(shape={self.shape}, dtype={self.dtype}, precision={self.precision!r})"


def _device_factors(a: Any, lower: bool) -> tuple[Any, ...]:
    """What `scipy.linalg.cho_factor` returns, of arrays on a device."""
    ops = ops_for(a)
    c = ops.xp.empty_like(a)
    for index in np.ndindex(a.shape[:-2]) if a.size else ():
        member = ops.xp.array(a[index], order="F")
        info = ops.first_info([(0, ops.potrf(member, lower=lower))])
        if info:
            raise LinAlgError(messages.not_definite(info))
        c[index] = member
    return c, (lower if a.ndim == 2 else np.full(a.shape[:-2], lower))


def _device_solve(c: Any, lower: bool, b: Any, check_finite: bool) -> Any:
    """`scipy.linalg.cho_solve` of one system on a device."""
    ops = ops_for(c, b)
    if c.ndim != 2 or c.shape[0] != c.shape[1] or b.shape[:1] != c.shape[:1] or b.ndim > 2:
        raise ValueError(f"Shapes of c {c.shape} and b {b.shape} are incompatible")
    dtype = arguments.common_dtype(c, b)
    if check_finite:
        validate.check_finite(c, b)
    x = ops.xp.array(b if b.ndim == 2 else b[:, None], dtype=dtype, order="F")
    ops.potrs(ops.xp.asfortranarray(c, dtype=dtype), x, lower=bool(lower))
    return x if b.ndim == 2 else x[:, 0]


def cho_factor(
    a: ArrayLike,
    lower: bool = False,
    overwrite_a: bool = False,
    check_finite: bool = True,
    *,
    precision: str | Format = "auto",
) -> Cholesky:
    """Factor a positive definite ``a = U^H U`` (or ``L L^H``) once, for `cho_solve`.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        Hermitian (symmetric) positive definite matrix, or a batch. Kept by reference. One
        triangle is read.
    lower : bool
        Read the lower triangle instead of the upper.
    overwrite_a : bool
        Accepted as in SciPy; `a` is left as it is.
    check_finite : bool
        Raise ValueError if `a` holds NaN or infinity.
    precision : {"auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}
        Format of the factor, as in `lu_factor`. The narrow ones are scaled to a unit diagonal and
        shifted by a multiple of their unit roundoff.

    Returns
    -------
    Cholesky
        Unpacks as SciPy's ``(c, lower)``.

    Raises
    ------
    LinAlgError
        `a` is not positive definite; the message names the leading minor.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense; NaN or infinity in `a`.

    Warns
    -----
    LinAlgWarning
        A pinned `precision` could not deliver.

    Notes
    -----
    1/3 n^3 flops in the format of the factor; workspace n^2 numbers of it.

    References
    ----------
    .. [1] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 10.
    .. [2] Higham and Pranesh, SIAM J. Sci. Comput. 43 (2021) A258.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import cho_factor, cho_solve
    >>> a = np.array([[4.0, 2.0], [2.0, 3.0]])
    >>> cho_solve(cho_factor(a), [8.0, 8.0])
    array([1., 2.])
    """
    if precision == "auto" and is_plain_matrix(a):
        return Cholesky(a, lower, None, check_finite)
    array = arguments.as_array(a, "a")
    validate.square(array)
    dtype = arguments.common_dtype(array)
    fmt = arguments.precision_option(precision, dtype)
    factors = Cholesky(arguments.to_dtype(array, dtype), lower, fmt, check_finite)
    if fmt is not None and factors.precision != fmt.name:
        warn(f"precision={fmt.name!r} could not deliver; the factor is {factors.precision}.", 2)
    return factors


def cho_solve(
    c_and_lower: Cholesky | tuple[Any, Any],
    b: ArrayLike,
    overwrite_b: bool = False,
    check_finite: bool = True,
    *,
    refine: str | None = "auto",
    tol: float | None = None,
    full_output: bool = False,
) -> Any:
    """Solve ``a x = b`` with the factor of `cho_factor`.

    Parameters
    ----------
    c_and_lower : Cholesky, or (c, lower)
        A plain tuple, as SciPy's `cho_factor` gives, is solved without refinement or test.
    b : array_like, shape (n,) or (..., n, nrhs)
    overwrite_b : bool
        Accepted as in SciPy; `b` is left as it is.
    check_finite : bool
        Raise ValueError if `b` holds NaN or infinity.
    refine : {"auto", "classical", "gmres", None}
        How x is refined; None: one solve with the factor, and x is as good as its format.
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
        The matrix was modified after it was factored.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense; NaN or infinity in `b`.

    Warns
    -----
    LinAlgWarning
        As `solve`.

    Notes
    -----
    About 4 n^2 flops a right-hand side, half of them with the factor and half for the residual by
    which x is checked; as many for each step where x is refined. That the matrix is still the same
    is told by x, or by one product with a vector.

    References
    ----------
    .. [1] Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapters 10 and
       12.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import cho_factor, cho_solve
    >>> a = np.array([[4.0, 2.0], [2.0, 3.0]])
    >>> cho_solve(cho_factor(a, lower=True), np.eye(2)).round(3)
    array([[ 0.375, -0.25 ],
           [-0.25 ,  0.5  ]])
    """
    if isinstance(c_and_lower, Cholesky):
        if refine == "auto" and tol is None and not full_output:
            x = c_and_lower._solve_plainly(b, "N")
            if x is not None:
                return x
        x, report, message = c_and_lower._solve(b, "N", check_finite, refine, tol, full_output)
        warn(message)
        return (x, report) if full_output else x
    if isinstance(c_and_lower, Factored):
        raise TypeError("cho_solve takes factors of cho_factor; these are lu_factor's: lu_solve")
    if is_on_device(c_and_lower[0]):
        return solve_plain_tuple(
            lambda: _device_solve(*c_and_lower, b, check_finite), refine, tol, full_output
        )
    return solve_plain_tuple(
        lambda: scipy.linalg.cho_solve(c_and_lower, b, check_finite=check_finite),
        refine, tol, full_output,
    )  # fmt: skip
