"""A = Q R for matrices that need not fit into memory."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .grid import Grid, tile_option, widest
from .identity import identified, identity_bytes
from .limits import Limit
from .local import as_executor
from .lock import DirectoryLock
from .matrix import StoreSource, TiledMatrix, lacking, matrix_store, save_tiles
from .plan import list_bytes, more_bytes, needed
from .progress import Progress, bar, quiet
from .qr import fewest_domains, q_program, qr_program, task_count
from .running import run_rest
from .sources import Blocks, Named, as_source
from .store import DirectoryStore, Overlay, Store
from .stores import require_resumable
from .tasks import Key, Program, nbytes
from .traffic import Traffic

__all__ = ["qr"]


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: TiledMatrix | None
    R: TiledMatrix


def qr(
    a: Any, *, mode: str = "economic", memory_limit: Limit | None = None, tile: int | None = None,
    executor: Any = None, workdir: str | os.PathLike[str] | None = None, resume: bool = False,
    progress: bool = False, full_output: bool = False,
) -> Any:  # fmt: skip
    """A = Q R, in the working precision of A.

    Parameters
    ----------
    a : array_like, source or TiledMatrix, shape (m, n)
        As for `solve`; read once, and with `workdir` once more, for what tells it from others.
    mode : {"economic", "r"}
        "r": Q is not computed, and None.
    memory_limit : int, str or float, optional
        As for `solve`.
    tile : int, optional
        As for `solve`.
    executor : LocalExecutor or DaskExecutor, optional
        As for `solve`.
    workdir : path-like, optional
        A directory for Q and R, in directories of these names that `TiledMatrix.open` opens. Until
        both are there it has the reflectors, too. By default they are kept in memory if there is
        room, else in temporary files.
    resume : bool
        Go on with what an earlier run left in `workdir`; files that are not as they were written
        are made again. Refused if A or the tiles are others.
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
        NaN or infinity in `a`; options that make no sense; LimitTooSmall; with `resume`, a
        directory of something else.
    FileExistsError
        `workdir` has Q or R already, and `resume` is False.
    BlockingIOError
        Another process writes there.

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
    require_resumable(workdir, resume, executor)
    (m, n), dtype = source.shape, source.dtype
    grid = _grid(m, n, dtype, executor, tile)
    executor.require(0, task_count(grid), len(grid.rows) * len(grid.columns))
    domains = fewest_domains(grid, dtype, executor.threads)
    made = _Factorization(
        executor, Blocks(source, grid.rows, grid.columns, dtype, None, is_checked=True), grid,
        dtype, domains, mode == "economic", bar if progress else quiet,
    )  # fmt: skip
    made.require(is_identified=workdir is not None)
    if workdir is None:
        found = made.run()
    else:

        def origin() -> str:
            name = identified(source, grid, dtype, executor, made.traffic, is_checked=True)
            # signs of rows of R follow from the tiles
            return f"QR of {name} in tiles of {grid.tile[0]} by {grid.tile[1]}"

        found = made.run_in(Path(workdir), origin, resume)
    return (*found, made.traffic) if full_output else found


_REFLECTORS = "reflectors"


class _Factorization:
    """R and reflectors of a matrix, then Q if it is wanted, by a program each.

    A program is a long list, and made when it is run: there is one at a time.

    Attributes
    ----------
    inputs : callable
        Of the tiles of A.
    grid : Grid
        Those tiles.
    grids : dict of str to Grid
        Of "R", and of "Q" if it is wanted.
    """

    def __init__(
        self, executor: Any, inputs: Any, grid: Grid, dtype: np.dtype[Any], domains: int,
        wants_q: bool, progress: Progress,
    ) -> None:  # fmt: skip
        self.executor, self.inputs, self.grid, self.dtype = executor, inputs, grid, dtype
        self.domains, self.progress, self.traffic = domains, progress, Traffic()
        (m, n), tile = grid.shape, grid.tile
        self.grids = {"R": Grid((min(m, n), n), (tile[1],) * 2)}
        if wants_q:
            self.grids["Q"] = Grid((m, min(m, n)), tile)

    def require(self, *, is_identified: bool) -> None:
        """Raise LimitTooSmall before anything is read, with a figure that does for all of it."""
        found = [(identity_bytes(self.grid, self.dtype), 0, 0)] if is_identified else []
        program = None
        for letter in self.grids:
            program = self._program(letter, program)
            found.append((needed(program), len(program.tasks), len(program.tiles)))
        self.executor.require(*max(found, key=lambda one: one[0] + list_bytes(*one[1:])))

    def run(self) -> QRResult:
        """Keep all where the executor keeps results."""
        # Q and the factors are there together: both in memory, or neither
        others = 0
        if "Q" in self.grids:
            others = math.prod(self.grids["Q"].shape) * self.dtype.itemsize
        program = self._program("R")
        held = nbytes(program.tiles, program.results)
        factors = self.executor.make_store(program, others)
        r = self._r(factors, program)
        if "Q" not in self.grids:
            return QRResult(None, r)
        have, program = program.results, self._program("Q", program)
        return QRResult(self._q(factors, self.executor.make_store(program, held), program, have), r)

    def run_in(self, folder: Path, identify: Callable[[], str], resume: bool) -> QRResult:
        """Keep Q and R in a directory, and the reflectors until they are there."""
        stores: dict[str, DirectoryStore] = {}
        reflectors = folder / _REFLECTORS
        with contextlib.ExitStack() as held:
            held.callback(DirectoryLock(folder).release)
            for part in () if resume else (*self.grids, _REFLECTORS):
                DirectoryStore.require_new(folder / part)
            origin = identify()
            for letter, grid in self.grids.items():
                stores[letter] = matrix_store(
                    folder / letter, letter, grid, self.dtype, origin=lambda: origin,
                    resume=resume,
                )  # fmt: skip
                held.callback(stores[letter].release)
            title = {
                "contents": origin, "shape": list(self.grid.shape), "tile": list(self.grid.tile)
            }  # fmt: skip
            if any(lacking(stores[letter], letter, grid) for letter, grid in self.grids.items()):
                factors = DirectoryStore.of_run(reflectors, title, resume=resume)
                held.callback(factors.release)
                program = self._program("R")
                save_tiles(self._r(factors, program), stores["R"], "R")
                if "Q" in stores:
                    have, program = program.results, self._program("Q", program)
                    self._q(factors, stores["Q"], program, have)
            if "Q" in stores or not (folder / "Q").exists():  # an earlier run may want them for Q
                DirectoryStore.remove(reflectors, title)
        found = {letter: TiledMatrix.open(folder / letter) for letter in stores}
        return QRResult(found.get("Q"), found["R"])

    def _program(self, letter: str, factored: Program | None = None) -> Program:
        """That of R, or of Q where that of R is known, or made for it."""
        if factored is None:
            factored = qr_program(self.grid, self.dtype, self.domains)
        if letter == "R":
            return factored
        return q_program(self.grid, self.dtype, factored, self.domains)

    def _r(self, factors: Store, program: Program) -> TiledMatrix:
        """R, in a store with all that is made of A."""
        self._run(program, self.inputs, factors, "R")
        small = self.grids["R"]
        return TiledMatrix(StoreSource(factors, "R", small, self.dtype, is_upper=True), small.tile)

    def _q(
        self, factors: Store, target: Store, program: Program, stored: Collection[Key]
    ) -> TiledMatrix:
        """Q, of the results of R's program."""
        self._run(program, Named({}), Overlay(factors, target), "Q", stored)
        tall = self.grids["Q"]
        return TiledMatrix(StoreSource(target, "Q", tall, self.dtype), tall.tile)

    def _run(
        self, program: Program, inputs: Any, store: Store, title: str, stored: Collection[Key] = ()
    ) -> None:
        executor = self.executor.reserving(more_bytes(program))
        run_rest(
            executor, program, inputs, store, self.traffic, self.progress, title, stored=stored
        )


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
