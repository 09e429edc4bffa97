"""x = A^-1 b for a matrix that need not fit into memory."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import choice, common_dtype, precision_option
from ..precision import Format
from .factored import Factored, Setting, options_of, right_hand_sides
from .limits import Limit
from .sources import as_source

__all__ = ["solve"]

METHODS = {"gen": "LU", "pos": "Cholesky"}


def solve(
    a: Any, b: ArrayLike, *, memory_limit: Limit | None = None, tile: int | None = None,
    assume_a: Literal["gen", "pos"] = "gen", precision: str | Format = "auto",
    refine: str | None = "auto", residual: str = "working", tol: float | None = None,
    max_iter: int | None = None, fallback: bool = True, executor: Any = None,
    workdir: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = False,
    full_output: bool = False,
) -> Any:  # fmt: skip
    """Solve A x = b, A read piece by piece and factored in bounded memory.

    Parameters
    ----------
    a : array_like, source or TiledMatrix, shape (n, n)
        A NumPy array, a memory map, an HDF5 or zarr dataset, a Dask array, or a `TiledMatrix`,
        which may be a function that makes blocks. Never held whole, and not changed. It is read
        once to be measured, once to be factored, and once for each residual.
    b : array_like, shape (n,) or (n, nrhs)
    memory_limit : int, str or float, optional
        What tiles, right-hand sides and workspace may take: bytes, text as "8GiB", or a fraction
        below 1 of the memory that is free. By default half of what is free.
    tile : int, optional
        Rows and columns of a tile; by default as many as the limit allows, at most 1024. On a
        cluster columns of a block column; by default as many as make four for each thread, at least
        384 and at most 1024, of 64 MiB at most.
    assume_a : {"gen", "pos"}
        "pos": Hermitian positive definite, both triangles given, solved by Cholesky.
    precision : {"auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}
        As for `mplinalg.solve`.
    refine : {"auto", "classical", "gmres", None}
        As for `mplinalg.solve`.
    residual : {"working", "extended"}
        As for `mplinalg.solve`.
    tol : float, optional
        As for `mplinalg.solve`.
    max_iter : int, optional
        As for `mplinalg.solve`.
    fallback : bool
        As for `mplinalg.solve`.
    executor : LocalExecutor or DaskExecutor, optional
        Where to compute, in place of `memory_limit`.
    workdir : path-like, optional
        A directory for the factors, which are kept. By default they are held in memory if they fit
        into the limit, else in temporary files.
    resume : bool
        Go on with what an earlier run left in `workdir`, finished or killed.
    progress : bool
        Show a bar on stderr, by tqdm.
    full_output : bool
        Also return a `TiledReport`.

    Returns
    -------
    x : ndarray, shape of b
        In the common LAPACK dtype of `a` and `b`.
    report : TiledReport
        If `full_output`.

    Raises
    ------
    LimitTooSmall
        A ValueError that says how much memory is needed; before anything is computed.
    LinAlgError
        `a` is exactly singular or not positive definite, or ``fallback=False`` and the precision or
        the method asked for did not deliver.
    ValueError, TypeError
        Shapes, dtypes or options that make no sense; NaN or infinity; a `workdir` of another
        matrix.
    FileExistsError
        `workdir` has factors, and `resume` is False.
    BlockingIOError
        Another process writes in `workdir`.
    OSError
        A disk is full. What is finished stays in `workdir`.

    Warns
    -----
    LinAlgWarning
        As `mplinalg.solve`.

    Notes
    -----
    Left-looking LU with partial pivoting, or Cholesky, by block columns of width w in the low
    precision: about n^3 / (3 w) numbers of it are read again. The stopping test, the ladder and the
    random right-hand side that tells singular matrices are those of `mplinalg.solve`; there is no
    QR at the end of the ladder, no estimate of the forward error, and of the condition number only
    where the ladder needs it.

    References
    ----------
    .. [1] Toledo, A survey of out-of-core algorithms in numerical linear algebra, in External
       Memory Algorithms, DIMACS 50 (1999) 161.
    .. [2] Grigori, Demmel and Xiang, SIAM J. Matrix Anal. Appl. 32 (2011) 1317.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import tiled
    >>> n = 300
    >>> def block(rows, columns):
    ...     return 1 / (1 + abs(rows[:, None] - columns)) + (rows[:, None] == columns)
    >>> a = tiled.TiledMatrix.from_function(block, (n, n))
    >>> x, report = tiled.solve(a, np.ones(n), memory_limit="200 kB", full_output=True)
    >>> bool(np.allclose(a.to_array() @ x, 1))
    True
    >>> report.traffic.peak <= 200_000
    True
    """
    source = as_source(a)
    if source.shape[0] != source.shape[1]:
        raise ValueError(f"Expected a square matrix, got a of shape {source.shape}")
    choice("assume_a", assume_a, tuple(METHODS))
    rhs = right_hand_sides(b, source.shape[0])
    if rhs.dtype.kind in "fc" and not np.isfinite(rhs).all():
        raise ValueError("array must not contain infs or NaNs")
    dtype = common_dtype(np.empty(0, source.dtype), rhs)
    options = options_of(
        precision_option(precision, dtype), refine, residual, tol, max_iter, fallback
    )
    setting = Setting(memory_limit, tile, executor, workdir, resume, progress, precision)
    columns = rhs.shape[1] if rhs.ndim == 2 else 1
    problem = Factored(
        source, METHODS[assume_a], setting, columns, dtype=dtype, refines=refine is not None
    )
    return problem._solve(rhs, options, full_output)
