"""C = alpha A B for matrices that need not fit into memory."""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.protocol import Array, Ops
from .grid import Grid, extent, tile_option, widest
from .identity import identified, identity_bytes
from .limits import Limit
from .local import as_executor
from .matrix import StoreSource, TiledMatrix, matrix_store
from .plan import LimitTooSmall, less, list_bytes, more_bytes, needed
from .progress import bar, quiet
from .running import run_rest
from .sources import Blocks, Named, as_source
from .store import Store
from .stores import require_resumable
from .tasks import Key, Program, Tile
from .traffic import Traffic

__all__ = ["gemm", "gemm_program"]


def gemm(
    a: Any, b: Any, *, alpha: complex = 1.0, memory_limit: Limit | None = None,
    tile: int | None = None, executor: Any = None,
    workdir: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = False,
    full_output: bool = False,
) -> Any:  # fmt: skip
    """C = alpha A B.

    Parameters
    ----------
    a, b : array_like, source or TiledMatrix, shape (m, k) and (k, n)
        As for `solve`.
    alpha : number
    memory_limit : int, str or float, optional
        As for `solve`.
    tile : int, optional
        As for `solve`.
    executor : LocalExecutor or DaskExecutor, optional
        As for `solve`.
    workdir : path-like, optional
        A directory for C, which `TiledMatrix.open` finds there. By default C is kept in memory if
        it fits into half of the limit, else in temporary files that are removed with it. A and B
        are read once more then, for what tells them from others.
    resume : bool
        Go on with what an earlier run left in `workdir`: tiles of C that are whole are not computed
        again. Refused if A, B, alpha or the tiles are others.
    progress : bool
        As for `solve`.
    full_output : bool
        Also return a `Traffic`.

    Returns
    -------
    C : TiledMatrix, shape (m, n)
    traffic : Traffic
        If `full_output`.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes that do not fit; LimitTooSmall; with `resume`, a directory of something
        else.
    FileExistsError
        `workdir` has a matrix already, and `resume` is False.
    BlockingIOError
        Another process writes there.

    Notes
    -----
    2 m n k flops. Squares of g by g tiles of C are computed at a time, g as large as memory lets it
    be, so that about 2 m n k / (g w) numbers of A and B are read for tiles of width w.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import tiled
    >>> a = np.arange(6.0).reshape(2, 3)
    >>> tiled.gemm(a, a.T).to_array()
    array([[ 5., 14.],
           [14., 50.]])
    """
    left, right = as_source(a), as_source(b)
    (m, k), (inner, n) = left.shape, right.shape
    if k != inner:
        raise ValueError(f"a of shape {left.shape} and b of shape {right.shape} do not fit")
    dtype = np.result_type(left.dtype, right.dtype)
    if not isinstance(alpha, numbers.Number):
        raise TypeError(f"alpha must be a number; got {alpha!r}")
    alpha = complex(alpha)
    if dtype.kind != "c":
        if alpha.imag != 0:
            raise TypeError(f"alpha={alpha} is complex, and A and B are {dtype}")
        alpha = alpha.real
    executor = as_executor(executor, memory_limit)
    require_resumable(workdir, resume, executor)
    most = min(max(m, n, k), executor.largest_tile)

    def cut(limit: int) -> tuple[int, int]:
        """The width of tiles, and how many of C in a row are computed together."""
        room = limit // dtype.itemsize
        if tile is not None:
            width = tile_option(tile)
        else:
            width = widest(most, 1, lambda w: 8 * w**2 <= room)
        square = min(room // width**2, 10**6)
        # g^2 tiles of C, and two lines of g tiles of A and of B
        return width, max(1, int(np.sqrt(square + 4)) - 2)

    def needs(limit: int) -> tuple[int, int, int]:
        """Bytes, tasks, and tiles."""
        width, _ = cut(limit)
        blocks = [-(-size // width) for size in (m, n, k)]
        results = blocks[0] * blocks[1]
        rows, terms, columns = (min(size, width) for size in (m, k, n))
        least = (rows * terms + terms * columns + rows * columns) * dtype.itemsize if results else 0
        if workdir is not None:
            parts = Grid((m, k), (width, width)), Grid((k, n), (width, width))
            least = max(least, *(identity_bytes(part, dtype) for part in parts))
        tiles = results + (blocks[0] + blocks[1]) * blocks[2]
        return least, results * (blocks[2] + 1), tiles

    def bytes_of(limit: int) -> int:
        least, *listed = needs(limit)
        return least + list_bytes(*listed)

    limit = enough = executor.memory_limit
    while (least := bytes_of(enough)) > enough:
        enough = least
    if enough > limit:  # before anything is read
        listed = needs(limit)[1:] if tile is not None else ()
        raise LimitTooSmall(less(bytes_of, limit, enough), limit, *listed)
    width, together = cut(limit)
    grids = Grid((m, k), (width, width)), Grid((k, n), (width, width))
    tiles = needs(limit)[2]
    program = gemm_program(*grids, dtype, alpha, together)
    grid = Grid((m, n), (width, width))
    held = m * n * dtype.itemsize
    traffic = Traffic()
    # the list is there meanwhile
    beside = executor.reserving(list_bytes(len(program.tasks), tiles))
    executor = executor.reserving(more_bytes(program))
    if workdir is None:
        store: Store = executor.make_store(program, max(held, needed(program)))
    else:

        def origin() -> str:
            digests = [
                identified(source, part, dtype, beside, traffic)
                for source, part in zip((left, right), grids, strict=True)
            ]
            return f"{alpha!r} times {' and '.join(digests)}"

        store = matrix_store(workdir, "C", grid, dtype, origin=origin, resume=resume)
    executor = executor.beside(store, held)  # tiles of A and B are kept in what C leaves
    inputs = Named({
        "A": Blocks(left, grids[0].rows, grids[0].columns, dtype, None),
        "B": Blocks(right, grids[1].rows, grids[1].columns, dtype, None),
    })  # fmt: skip
    run_rest(executor, program, inputs, store, traffic, bar if progress else quiet, "A B")
    c = TiledMatrix(StoreSource(store, "C", grid, dtype), grid.tile)
    return (c, traffic) if full_output else c


def gemm_program(
    left: Grid, right: Grid, dtype: np.dtype[Any], alpha: complex, together: int
) -> Program:
    """("C", i, j), the tiles of the product, of ("A", i, k) and ("B", k, j)."""
    program = Program()
    factor = 4 if dtype.kind == "c" else 1
    rows, inner, columns = left.rows, left.columns, right.columns
    for i, down in enumerate(rows):
        for j, across in enumerate(columns):
            program.tiles[("C", i, j)] = Tile((extent(down), extent(across)), dtype)
        for k, part in enumerate(inner):
            program.tiles[("A", i, k)] = Tile((extent(down), extent(part)), dtype)
    for k, part in enumerate(inner):
        for j, across in enumerate(columns):
            program.tiles[("B", k, j)] = Tile((extent(part), extent(across)), dtype)
    for some_rows in _groups(len(rows), together):
        for some_columns in _groups(len(columns), together):
            for i in some_rows:
                for j in some_columns:
                    c: Key = ("C", i, j)
                    program.add(
                        zeros, writes=(c,),
                        options={"shape": program.tiles[c].shape, "dtype": dtype.char},
                    )  # fmt: skip
                    program.results.add(c)
            for k, part in enumerate(inner):
                for i in some_rows:
                    for j in some_columns:
                        size = program.tiles[("C", i, j)].shape
                        program.add(
                            add_product, reads=(("A", i, k), ("B", k, j)),
                            updates=(("C", i, j),), options={"alpha": alpha},
                            flops=factor * 2.0 * size[0] * size[1] * extent(part),
                        )  # fmt: skip
    return program


def _groups(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


# -- kernels -------------------------------------------------------------------------------------


def zeros(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *,
    shape: tuple[int, int], dtype: str,
) -> tuple[Array, ...]:  # fmt: skip
    """C = 0"""
    return (ops.xp.zeros(shape, dtype),)


def add_product(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, alpha: complex
) -> tuple[Array, ...]:
    """C[i, j] <- C[i, j] + alpha A[i, k] B[k, j]"""
    (a, b), (c,) = reads, updates
    ops.gemm(alpha, a, b, 1.0, c)  # type: ignore[arg-type]
    return ()
