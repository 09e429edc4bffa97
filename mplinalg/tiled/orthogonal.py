"""A = Q R for matrices that need not fit into memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .grid import Grid, tile_option, widest
from .limits import Limit
from .local import as_executor
from .matrix import StoreSource, TiledMatrix, matrix_store
from .plan import needed
from .progress import bar, quiet
from .qr import fewest_domains, q_program, qr_program, task_count
from .running import run
from .sources import Blocks, Named, as_source
from .store import Overlay
from .tasks import nbytes
from .traffic import Traffic

__all__ = ["qr"]


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: TiledMatrix | None
    R: TiledMatrix


def qr(
    a: Any, *, mode: str = "economic", memory_limit: Limit | None = None, tile: int | None = None,
    executor: Any = None, workdir: str | os.PathLike[str] | None = None, progress: bool = False,
    full_output: bool = False,
) -> Any:  # fmt: skip
    """A = Q R, in the working precision of A.

    Parameters
    ----------
    a : array_like, source or TiledMatrix, shape (m, n)
        As for `solve`; read once.
    mode : {"economic", "r"}
        "r": Q is not computed, and None.
    memory_limit : int, str or float, optional
        As for `solve`.
    tile : int, optional
        As for `solve`.
    executor : LocalExecutor or DaskExecutor, optional
        As for `solve`.
    workdir : path-like, optional
        A directory for Q and R, in directories of these names that `TiledMatrix.open` opens. By
        default they are kept in memory if there is room, else in temporary files.
    progress : bool
        As for `solve`.
    full_output : bool
        Also return a `Traffic`.

    Returns
    -------
    Q : TiledMatrix, shape (m, min(m, n))
    R : TiledMatrix, shape (min(m, n), n)
    traffic : Traffic
        If `full_output`.

    Raises
    ------
    ValueError
        NaN or infinity in `a`; options that make no sense; LimitTooSmall.

    Notes
    -----
    2 n^2 (m - n / 3) flops for R, and as many for Q. Householder reflectors across two tiles, so
    that Q is orthonormal, and Q R equal to A, to working precision. Block rows are reduced to R by
    a flat tree, or on a cluster by a binary tree of flat ones (TSQR, [1]_), where that takes less
    time.

    References
    ----------
    .. [1] Demmel, Grigori, Hoemmen and Langou, SIAM J. Sci. Comput. 34 (2012) A206.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import tiled
    >>> a = np.vander(np.linspace(0, 1, 50), 4)
    >>> q, r = tiled.qr(a, tile=2)
    >>> bool(np.allclose(q.to_array() @ r.to_array(), a))
    True
    """
    source = as_source(a)
    if mode not in ("economic", "r"):
        raise ValueError(f"mode must be 'economic' or 'r'; got {mode!r}")
    executor = as_executor(executor, memory_limit)
    m, n = source.shape
    grid = _grid(m, n, source.dtype, executor, tile)
    executor.require(0, task_count(grid))
    domains = fewest_domains(grid, source.dtype, executor.threads)
    traffic, show = Traffic(), bar if progress else quiet
    program, size = qr_program(grid, source.dtype, domains), min(m, n)
    if mode == "economic":  # known before anything is read; and not kept while R is computed
        executor.require(needed(q_program(grid, source.dtype, program, domains)))
    # Q and the factors are there together: both in memory, or neither
    held = nbytes(program.tiles, program.results)
    others = m * size * source.dtype.itemsize if mode == "economic" else 0
    factors = executor.make_store(program, others)
    inputs = Blocks(source, grid.rows, grid.columns, source.dtype, None, is_checked=True)
    run(executor, program, inputs, factors, traffic, show, "R")
    small, tall = Grid((size, n), (grid.tile[1],) * 2), Grid((m, size), grid.tile)
    r = TiledMatrix(StoreSource(factors, "R", small, source.dtype, is_upper=True), small.tile)
    if workdir is not None:
        r = r.save(Path(workdir) / "R")
    q = None
    if mode == "economic":
        program, have = q_program(grid, source.dtype, program, domains), program.results
        folder = None if workdir is None else Path(workdir) / "Q"
        target = matrix_store(executor, folder, program, "Q", tall, source.dtype, held)
        both = Overlay(factors, target)
        run(executor, program, Named({}), both, traffic, show, "Q", stored=have)
        q = TiledMatrix(StoreSource(target, "Q", tall, source.dtype), tall.tile)
    found = QRResult(q, r)
    return (*found, traffic) if full_output else found


_BESIDES = 12
"""Squares of the width of a tile: those that a task has, and those that are moved meanwhile."""
_BLOCKS = 6
"""Of a block column alone, that are in memory together."""


def _grid(m: int, n: int, dtype: np.dtype[Any], executor: Any, tile: int | None) -> Grid:
    """Tiles, as large as the limit lets them be.

    A matrix of few columns is one block column in blocks of rows, each of which is moved once.
    Else a block column fits into memory with a few tiles besides, where that moves less: with tiles
    of width w, m n^2 / (2 w) numbers, while block columns that go through memory for each one to
    their left take three times as many, of tiles that may be wider.
    """
    if tile is not None:
        return Grid((m, n), (tile_option(tile),) * 2)
    room = executor.memory_limit // dtype.itemsize
    most = min(m, n, executor.largest_tile // 2)
    passing = widest(most, 1, lambda w: _BESIDES * w**2 <= room)
    if n <= passing:
        width = max(n, 1)
        row_bytes = width * dtype.itemsize
        height = executor.block_bytes(m, row_bytes) // row_bytes
        return Grid((m, n), (max(width, min(height, room // (_BLOCKS * width))), width))

    def fits(w: int) -> bool:
        return m * w + _BESIDES * w**2 <= room

    staying = widest(most, 1, fits)
    width = staying if fits(staying) and 3 * staying >= passing else passing
    return Grid((m, n), (width, width))
