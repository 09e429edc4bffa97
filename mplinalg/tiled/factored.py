"""lu_factor and cho_factor: a factorization that is kept, and solves to working precision."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..dense.refined import solve_on_ladder
from ..dense.rungs import Options
from ..dense.validate import METHODS as REFINEMENTS
from ..dense.validate import RESIDUALS, as_array, choice, common_dtype, precision_option, tolerance
from ..errors import LinAlgWarning
from ..ops.dispatch import ops_for
from ..precision import FP32, Format, working_format
from ..refine.ladder import Rung
from ..report import Status
from .grid import default_grid
from .limits import Limit
from .local import LocalExecutor
from .progress import bar, quiet
from .report import TiledReport
from .sources import as_source
from .stores import Stores
from .streamed import StreamedMatrix

__all__ = ["Factored", "cho_factor", "lu_factor"]

_VECTORS = 6
"""Arrays of the size of b that a refinement holds."""


@dataclass
class Setting:
    """How and where: the keywords that all solvers have."""

    memory_limit: Limit | None = None
    tile: int | None = None
    executor: Any = None
    workdir: str | os.PathLike[str] | None = None
    resume: bool = False
    progress: bool = False
    precision: str | Format = "auto"

    def __post_init__(self) -> None:
        if self.executor is not None and self.memory_limit is not None:
            raise ValueError("give memory_limit or executor, not both")
        self.executor = self.executor or LocalExecutor(self.memory_limit)


class Factored:
    """A square matrix with its factors in tiles, wherever they are.

    Made by `lu_factor` or `cho_factor`. The matrix is read again for the residuals of every solve.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Working precision.
    precision : str
        Format of the factors.
    """

    def __init__(
        self, a: Any, method: str, setting: Setting, columns: int, *, dtype: Any = None,
        refines: bool = True,
    ) -> None:  # fmt: skip
        source = as_source(a)
        if source.shape[0] != source.shape[1]:
            raise ValueError(f"Expected a square matrix, got a of shape {source.shape}")
        self.shape = source.shape
        self.dtype = np.dtype(dtype or source.dtype)
        pinned = precision_option(setting.precision, self.dtype)
        working = working_format(self.dtype)
        self._pinned = pinned
        self._first = pinned or (FP32 if refines else working)
        self._executor = setting.executor
        room = setting.executor.reserving(_VECTORS * self.shape[0] * columns * self.dtype.itemsize)
        self._grid = default_grid(
            self.shape[0], self._first.dtype(self.dtype), room.memory_limit, setting.tile
        )
        stores = Stores(setting.workdir, setting.resume, room, self._grid)
        ops = ops_for(np.empty(0))
        self._matrix: Any = StreamedMatrix(
            source, self.dtype, method, room, ops, self._grid, stores,
            bar if setting.progress else quiet, is_identified=setting.workdir is not None,
        )  # fmt: skip
        formats = dict.fromkeys(
            f for f in (self._first, FP32, working)
            if working.unit_roundoff <= f.unit_roundoff <= self._first.unit_roundoff
        )  # fmt: skip
        self._rungs = [Rung(fmt, method) for fmt in formats]
        self._factors: Any = None
        """Of the first rung, once they have shown that A is regular."""

    @property
    def precision(self) -> str:
        """Format of the factors."""
        return self._first.name

    def __repr__(self) -> str:
        n, tile = self.shape[0], self._grid.tile[0]
        how = f"{self._rungs[0].method} in {self.precision}, tiles of {tile}"
        return f"Factored({n}x{n} {self.dtype}, {how})"

    def factor(self) -> None:
        """Make the factors now."""
        if self.shape[0]:
            self._matrix.factorize(self._rungs[0])

    def solve(
        self, b: ArrayLike, *, refine: str | None = "auto", residual: str = "working",
        tol: float | None = None, max_iter: int | None = None, fallback: bool = True,
        full_output: bool = False, stacklevel: int = 1,
    ) -> Any:  # fmt: skip
        """x = A^-1 b; keywords, results, errors and warnings as those of `tiled.solve`."""
        choice("refine", refine, REFINEMENTS)
        choice("residual", residual, RESIDUALS)
        tolerance(tol, max_iter)
        rhs = right_hand_sides(b, self.shape[0])
        if common_dtype(np.empty(0, self.dtype), rhs) != self.dtype:
            raise TypeError(f"b is {rhs.dtype}, which a factorization in {self.dtype} cannot solve")
        columns = np.array(rhs if rhs.ndim == 2 else rhs[:, None], dtype=self.dtype, order="F")
        if not np.isfinite(columns).all():
            raise ValueError("array must not contain infs or NaNs")
        if self.shape[0] == 0:
            x, report = columns, TiledReport(Status.DIRECT)
        else:
            options = Options(self._pinned, refine, residual, tol, max_iter, fallback)
            x, report = self._solve(columns, options, stacklevel + 1)
        x = x.reshape(rhs.shape)
        if not full_output:
            return x
        return x, (report.of_vector() if rhs.ndim == 1 else report)

    def _solve(
        self, columns: NDArray[Any], options: Options, stacklevel: int
    ) -> tuple[NDArray[Any], TiledReport]:
        found = solve_on_ladder(
            self._matrix, columns, options, first=self._first, factors=self._factors,
            detailed=False, rungs=self._rungs,
        )  # fmt: skip
        if found.status.is_success and found.ascent.rung == self._rungs[0]:
            self._factors = found.ascent.factors
        if found.message is not None:
            warnings.warn(found.message, LinAlgWarning, stacklevel=stacklevel + 1)
        known = {field.name: getattr(found.report, field.name) for field in fields(found.report)}
        report = TiledReport(
            **known, traffic=self._matrix.take_traffic(), tile=self._grid.tile[0],
            memory_limit=self._executor.memory_limit,
        )  # fmt: skip
        return found.x, report


def right_hand_sides(b: ArrayLike, n: int) -> NDArray[Any]:
    """b as an array of shape (n,) or (n, nrhs)."""
    rhs: NDArray[Any] = as_array(b, "b")
    if rhs.ndim not in (1, 2) or rhs.shape[0] != n:
        raise ValueError(
            f"b of shape {rhs.shape} does not fit a of shape ({n}, {n}): it must be of shape "
            f"({n},) or ({n}, nrhs)"
        )
    return rhs


def lu_factor(
    a: Any, *, memory_limit: Limit | None = None, tile: int | None = None,
    precision: str | Format = "auto", executor: Any = None,
    workdir: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = False,
) -> Factored:  # fmt: skip
    """P A = L U, to solve with any number of times.

    Parameters
    ----------
    a : array_like, source or TiledMatrix, shape (n, n)
        As for `solve`.
    memory_limit : int, str or float, optional
        As for `solve`. What a solve needs for its right-hand sides, six arrays of their size, comes
        besides the limit here.
    tile : int, optional
        As for `solve`.
    precision : {"auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}
        As for `solve`.
    executor : LocalExecutor or DaskExecutor, optional
        As for `solve`.
    workdir : path-like, optional
        As for `solve`.
    resume : bool
        As for `solve`.
    progress : bool
        As for `solve`.

    Returns
    -------
    Factored
        Its method `solve` takes right-hand sides.

    Raises
    ------
    LinAlgError
        A is exactly singular, and was factored in working precision.
    ValueError, TypeError, OSError
        As for `solve`.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import tiled
    >>> f = tiled.lu_factor(np.array([[4.0, 3.0], [6.0, 3.0]]))
    >>> f.solve([10.0, 12.0])
    array([1., 2.])
    """
    setting = Setting(memory_limit, tile, executor, workdir, resume, progress, precision)
    return _factored(a, "LU", setting)


def cho_factor(
    a: Any, *, memory_limit: Limit | None = None, tile: int | None = None,
    precision: str | Format = "auto", executor: Any = None,
    workdir: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = False,
) -> Factored:  # fmt: skip
    """A = L L^H of a Hermitian positive definite matrix, to solve with any number of times.

    Arguments, results and errors are those of `lu_factor`. Both triangles of `a` are read, the
    lower one by the factorization, both by residuals.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import tiled
    >>> tiled.cho_factor(np.array([[2.0, 1.0], [1.0, 2.0]])).solve([4.0, 5.0])
    array([1., 2.])
    """
    setting = Setting(memory_limit, tile, executor, workdir, resume, progress, precision)
    return _factored(a, "Cholesky", setting)


def _factored(a: Any, method: str, setting: Setting) -> Factored:
    found = Factored(a, method, setting, 0)
    found.factor()
    return found
