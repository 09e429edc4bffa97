"""QR factors kept to solve least-squares problems with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import arguments
from ..ops import ops_for
from ..precision import Format
from ..refine.ladder import Rung
from ..refine.least_squares_ladder import Factored
from . import validate
from .least_squares import METHODS, Answer, Options, solve_one

__all__ = ["QR"]

Array = NDArray[Any]


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

    Raises
    ------
    ValueError
        If `a` is not a matrix, or for an unknown precision, NaN or infinity.
    TypeError
        If `a` does not hold numbers.

    Notes
    -----
    `solve` does what `lstsq` does after the factorization, and takes the same care: where the
    factors are not good enough for a right-hand side, the next rung is factored then, and kept.
    Where the rank is in doubt or m < n, each solve is SciPy's `lstsq`; on a device, by the SVD.

    References
    ----------
    Bjorck, BIT 7 (1967) 257.

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
        array = arguments.as_array(a, "a")
        if array.ndim != 2:
            raise ValueError(f"Expected a matrix, got {array.shape=}")
        if check_finite:
            validate.check_finite(array)
        dtype = arguments.common_dtype(array)
        self._a = arguments.to_dtype(array, dtype)
        self._options = Options(
            float(np.finfo(dtype).eps), None, arguments.precision_option(precision, dtype),
            "auto", None, True,
        )  # fmt: skip
        self._factors: dict[Rung, Factored] = {}
        self._precision = precision
        self._wide: QR | None = None
        self.shape: tuple[int, int] = array.shape
        # a zero right-hand side has the factors made, and nothing refined
        zero = ops_for(array).xp.zeros((array.shape[0], 1), dtype)
        self.report = self._answer(zero).report.of_vector()

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
        TypeError
            If `b` does not hold numbers.

        Warns
        -----
        LinAlgWarning
            If what was pinned could not deliver.
        """
        arguments.choice("refine", refine, METHODS)
        arguments.tolerance(tol)
        b1 = arguments.as_array(b, "b")
        xp = ops_for(self._a, b1).xp
        b1 = xp.atleast_1d(b1)
        if b1.ndim > 2 or b1.shape[0] != self.shape[0]:
            raise ValueError(f"b of shape {b1.shape} does not fit A of shape {self.shape}")
        if b1.dtype.kind == "c" and self._a.dtype.kind != "c":
            raise ValueError("b is complex and A is real; make QR of a complex copy of A")
        validate.check_finite(b1)
        wide = np.result_type(self._a.dtype, arguments.common_dtype(b1))
        if wide != self._a.dtype:
            if self._wide is None:
                self._wide = QR(self._a.astype(wide), self._precision)
            return self._wide.solve(b, refine=refine, tol=tol, full_output=full_output)
        columns = arguments.to_dtype(b1, self._a.dtype).reshape(self.shape[0], -1)
        if b1.size == 0:
            columns = xp.zeros((*b1.shape, 1)[:2], self._a.dtype)
        answer = self._answer(columns, refine="lsqr" if refine == "gmres" else refine, tol=tol)
        x = answer.x[:, 0] if b1.ndim == 1 else answer.x
        if not full_output:
            return x
        return x, (answer.report.of_vector() if b1.ndim == 1 else answer.report)

    def _answer(self, b: Array, **options: Any) -> Answer:
        return solve_one(self._a, b, replace(self._options, **options), True, True, self._factors)
