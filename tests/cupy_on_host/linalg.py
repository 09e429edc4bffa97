"""`cupy.linalg`, and what CuPy has beside it of LAPACK and SciPy, by NumPy and SciPy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

from .array import ndarray, require_array
from .functions import run

_SIGNATURES = {
    "norm": "x, ord=None, axis=None, keepdims=False",
    "solve": "a, b",
    "inv": "a",
    "cholesky": "a",
    "qr": "a, mode='reduced'",
    "svd": "a, full_matrices=True, compute_uv=True",
    "det": "a",
    "slogdet": "a",
    "eigvalsh": "a, UPLO='L'",
    "lstsq": "a, b, rcond=None",
    "matrix_rank": "M, tol=None",
    "pinv": "a, rcond=1e-15",
}


def _made(name: str, text: str) -> Callable[..., Any]:
    signature = inspect.signature(eval(f"lambda {text}: None"))

    def function(*args: Any) -> Any:
        try:
            return getattr(np.linalg, name)(*args)
        except np.linalg.LinAlgError:  # CuPy does not look at info unless told to
            if name not in ("solve", "inv", "cholesky"):
                raise
            return np.full_like(args[-1], np.nan)

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return run(f"linalg.{name}", function, bound.arguments.values(), {})

    call.__name__ = name
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


FUNCTIONS: dict[str, Any] = {
    **{name: _made(name, text) for name, text in _SIGNATURES.items()},
    "LinAlgError": np.linalg.LinAlgError,
}


def gesv(a: ndarray, b: ndarray) -> ndarray:
    """Of `cupyx.cusolver` and `cupyx.lapack`; the first of them refines."""
    return FUNCTIONS["solve"](require_array(a), require_array(b))


def gels(a: ndarray, b: ndarray) -> ndarray:
    """Of `cupyx.cusolver` and `cupyx.lapack`."""
    return FUNCTIONS["lstsq"](require_array(a), require_array(b), rcond=None)[0]


def posv(a: ndarray, b: ndarray) -> ndarray:
    """Of `cupyx.lapack`; the lower triangle is read."""

    def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return scipy.linalg.solve(a, b, lower=True, assume_a="pos", check_finite=False)

    return run("posv", solve, (require_array(a), require_array(b)), {})


def solve_triangular(
    a: ndarray, b: ndarray, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False,
    overwrite_b: bool = False, check_finite: bool = False,
) -> ndarray:  # fmt: skip
    """Of `cupyx.scipy.linalg`."""

    def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return scipy.linalg.solve_triangular(a, b, trans, lower, unit_diagonal, check_finite=False)

    return run("solve_triangular", solve, (require_array(a), require_array(b)), {})


class LinearOperator:
    """Of `cupyx.scipy.sparse.linalg`."""

    def __init__(
        self, shape: tuple[int, int], matvec: Any, rmatvec: Any = None, matmat: Any = None,
        dtype: Any = None, rmatmat: Any = None,
    ) -> None:  # fmt: skip
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._matvec, self._rmatvec = matvec, rmatvec

    def matvec(self, x: ndarray) -> ndarray:
        """A x."""
        return self._matvec(require_array(x)).reshape(x.shape)

    def rmatvec(self, x: ndarray) -> ndarray:
        """A^H x."""
        return self._rmatvec(require_array(x)).reshape(x.shape)


CUSOLVER = {"gesv": gesv, "gels": gels}
LAPACK = {"gesv": gesv, "gels": gels, "posv": posv}
SCIPY = {"solve_triangular": solve_triangular}
