"""lu_factor and cho_factor: a factorization that is kept, and solves to working precision."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import as_array, choice, common_dtype, precision_option, tolerance
from ..dense.refined import Outcome, solve_on_ladder
from ..dense.rungs import Options
from ..dense.validate import METHODS as REFINEMENTS
from ..dense.validate import RESIDUALS
from ..errors import LinAlgWarning
from ..ops.dispatch import ops_for
from ..precision import Format, working_format
from ..refine.ladder import Ascent, Rung
from ..report import Status
from .limits import Limit
from .local import as_executor
from .progress import bar, quiet
from .report import TiledReport
from .requirements import needed_by_passes, needed_by_solve
from .sources import as_source
from .stores import Stores
from .streamed import StreamedMatrix

__all__ = ["Factored", "cho_factor", "lu_factor"]


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
        self.executor = as_executor(self.executor, self.memory_limit)


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
        self._method, self._executor = method, setting.executor
        executor = setting.executor
        self._pinned = precision_option(setting.precision, self.dtype)
        # the coarsest that the backend is fast in: of a low format less is moved, too
        default = executor.ops.fast_formats[0] if refines else working_format(self.dtype)
        self._first: Format = self._pinned or default
        self._grid_of = executor.tiling(
            self.shape[0], columns, method, self.dtype, self._first, setting.tile,
            is_identified=setting.workdir is not None,
        )  # fmt: skip
        self._columns = columns
        self._room = executor.reserving(self._grid_of.reserved)
        stores = Stores(setting.workdir, setting.resume, self._room)
        self._found: Ascent | None = None
        """The rung that has delivered, with its factors: they have shown that A is regular."""
        ops = ops_for(np.empty(0))
        self._matrix: Any = StreamedMatrix(
            source, self.dtype, method, self._room, ops, self._grid_of, stores,
            bar if setting.progress else quiet, is_identified=setting.workdir is not None,
        )  # fmt: skip

    def _require(self, columns: int) -> None:
        """Raise LimitTooSmall if the limit does not do for more right-hand sides than foreseen."""
        if columns <= self._columns:
            return
        n, fmt = self.shape[0], working_format(self.dtype)
        count = columns + 1  # a random one goes with them
        by_solve = needed_by_solve(
            self._method, self._grid_of(fmt), count, fmt.dtype(self.dtype), self.dtype
        )
        by_passes = needed_by_passes(
            n, count, self.dtype, self._room.memory_limit, is_identified=False
        )
        self._room.require(max(by_solve, by_passes))

    @property
    def precision(self) -> str:
        """Format of the factors."""
        return (self._first if self._found is None else self._found.rung.format).name

    def __repr__(self) -> str:
        n, tile = self.shape[0], self._grid_of(self._first).tile[1]
        how = f"{self._method} in {self.precision}, tiles of {tile}"
        return f"Factored({n}x{n} {self.dtype}, {how})"

    def factor(self) -> None:
        """Make the factors now."""
        if self.shape[0]:
            self._matrix.factorize(Rung(self._first, self._method))

    def solve(
        self, b: ArrayLike, *, refine: str | None = "auto", residual: str = "working",
        tol: float | None = None, max_iter: int | None = None, fallback: bool = True,
        full_output: bool = False,
    ) -> Any:  # fmt: skip
        """x = A^-1 b; keywords, results, errors and warnings as those of `tiled.solve`.

        With ``refine=None`` x is as good as the format of the factors. A `b` of a wider dtype than
        A's (complex, or double for a single-precision A) is a TypeError.
        """
        options = options_of(self._pinned, refine, residual, tol, max_iter, fallback)
        return self._solve(right_hand_sides(b, self.shape[0]), options, full_output)

    def _solve(self, rhs: NDArray[Any], options: Options, full_output: bool) -> Any:
        if common_dtype(np.empty(0, self.dtype), rhs) != self.dtype:
            raise TypeError(f"b is {rhs.dtype}, which a factorization in {self.dtype} cannot solve")
        columns = np.array(rhs if rhs.ndim == 2 else rhs[:, None], dtype=self.dtype, order="F")
        if not np.isfinite(columns).all():
            raise ValueError("array must not contain infs or NaNs")
        if self.shape[0] == 0:
            x, report = columns, TiledReport(Status.DIRECT)
        else:
            self._require(columns.shape[1])
            first, known = self._first, self._found
            if known is not None and not options.fallback and known.rung.format is not first:
                known = None
            found = solve_on_ladder(
                self._matrix, columns, options,
                first=first if known is None else known.rung.format,
                factors=None if known is None else known.factors, detailed=False,
            )  # fmt: skip
            if found.status.is_success:
                self._found = found.ascent
            if found.message is not None:
                warnings.warn(found.message, LinAlgWarning, stacklevel=3)
            x, report = found.x, self._report(found)
        x = x.reshape(rhs.shape)
        if not full_output:
            return x
        return x, (report.of_vector() if rhs.ndim == 1 else report)

    def _report(self, found: Outcome) -> TiledReport:
        known = {field.name: getattr(found.report, field.name) for field in fields(found.report)}
        return TiledReport(
            **known, traffic=self._matrix.take_traffic(),
            tile=self._grid_of(found.ascent.rung.format).tile[1],
            memory_limit=self._executor.memory_limit,
        )  # fmt: skip


def options_of(
    precision: Format | None, refine: str | None, residual: str, tol: float | None,
    max_iter: int | None, fallback: bool,
) -> Options:  # fmt: skip
    """The options of a solve, or the ValueError that one of them is."""
    choice("refine", refine, REFINEMENTS)
    choice("residual", residual, RESIDUALS)
    tolerance(tol, max_iter)
    return Options(precision, refine, residual, tol, max_iter, fallback)


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
        As for `solve`. What a solve needs for its right-hand sides, some eight arrays of their
        size, comes besides the limit here, and is checked when it is known.
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
