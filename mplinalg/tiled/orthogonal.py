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
from .progress import bar, quiet
from .qr import q_program, qr_program
from .sources import Blocks, Named, as_source
from .store import Overlay
from .tasks import Program, nbytes
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
    that Q is orthonormal, and Q R equal to A, to working precision.

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
    width = _width(m, n, source.dtype, executor, tile)
    grid = Grid((m, n), (width, width))
    traffic, show = Traffic(), bar if progress else quiet
    program = qr_program(grid, source.dtype)
    following = q_program(grid, source.dtype) if mode == "economic" else Program()
    # Q and the factors are there together: both in memory, or neither
    sizes = [nbytes(part.tiles, part.results) for part in (program, following)]
    factors = executor.make_store(program, sizes[1])
    inputs = Blocks(source, grid.rows, grid.columns, source.dtype, None, is_checked=True)
    with show("R", program.flops) as advance:
        traffic.add(executor.run(program, inputs, factors, progress=advance))
    size = min(m, n)
    small = Grid((size, n), (width, width))
    r = TiledMatrix(StoreSource(factors, "QR", small, source.dtype, is_upper=True), small.tile)
    if workdir is not None:
        r = r.save(Path(workdir) / "R")
    q = None
    if mode == "economic":
        tall = Grid((m, size), (width, width))
        folder = None if workdir is None else Path(workdir) / "Q"
        target = matrix_store(executor, folder, following, "Q", tall, source.dtype, sizes[0])
        with show("Q", following.flops) as advance:
            traffic.add(
                executor.run(
                    following, Named({}), Overlay(factors, target), stored=program.results,
                    progress=advance,
                )
            )  # fmt: skip
        q = TiledMatrix(StoreSource(target, "Q", tall, source.dtype), tall.tile)
    found = QRResult(q, r)
    return (*found, traffic) if full_output else found


def _width(m: int, n: int, dtype: np.dtype[Any], executor: Any, tile: int | None) -> int:
    """Of tiles, as large as the limit lets a block column and a few others be."""
    if tile is not None:
        return tile_option(tile)
    room = executor.memory_limit // dtype.itemsize
    return widest(min(m, n, executor.largest_tile // 2), 1, lambda w: m * w + 12 * w**2 <= room)
