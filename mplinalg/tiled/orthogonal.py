"""A = Q R for matrices that need not fit into memory."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .grid import Grid, tile_option, widest
from .identity import identified
from .limits import Limit
from .local import as_executor
from .lock import DirectoryLock
from .matrix import StoreSource, TiledMatrix, matrix_store
from .plan import needed
from .progress import Progress, bar, quiet
from .qr import fewest_domains, q_program, qr_program, task_count
from .running import run_rest
from .sources import Blocks, Named, as_source
from .store import DirectoryStore, Overlay, Store
from .stores import require_resumable
from .tasks import Program, nbytes
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
    executor.require(0, task_count(grid))
    domains, size = fewest_domains(grid, dtype, executor.threads), min(m, n)
    small, tall = Grid((size, n), (grid.tile[1],) * 2), Grid((m, size), grid.tile)
    made = _Factorization(
        executor, Blocks(source, grid.rows, grid.columns, dtype, None, is_checked=True),
        {"R": qr_program(grid, dtype, domains)}, {"R": small, "Q": tall}, dtype,
        bar if progress else quiet,
    )  # fmt: skip
    if mode == "economic":
        made.programs["Q"] = q_program(grid, dtype, made.programs["R"], domains)
        executor.require(needed(made.programs["Q"]))  # before anything is read
    if workdir is None:
        found = made.run()
    else:
        for program in made.programs.values():
            executor.require(needed(program), len(program.tasks))

        def origin() -> str:
            name = identified(source, grid, dtype, executor, made.traffic, is_checked=True)
            # signs of rows of R follow from the tiles
            return f"QR of {name} in tiles of {grid.tile[0]} by {grid.tile[1]}"

        found = made.run_in(Path(workdir), origin, grid, resume)
    return (*found, made.traffic) if full_output else found


_REFLECTORS = "reflectors"


class _Factorization:
    """What is to be made: R and reflectors, then Q, by a program each.

    Attributes
    ----------
    inputs : callable
    programs : dict of str to Program
        Of "R", and of "Q" if it is wanted.
    grids : dict of str to Grid
    """

    def __init__(
        self, executor: Any, inputs: Any, programs: dict[str, Program], grids: dict[str, Grid],
        dtype: np.dtype[Any], progress: Progress,
    ) -> None:  # fmt: skip
        self.executor, self.inputs, self.programs, self.grids = executor, inputs, programs, grids
        self.dtype, self.progress, self.traffic = dtype, progress, Traffic()

    def run(self) -> QRResult:
        """Keep all where the executor keeps results."""
        # Q and the factors are there together: both in memory, or neither
        program, wanted = self.programs["R"], self.programs.get("Q")
        others = 0 if wanted is None else nbytes(wanted.tiles, wanted.results)
        factors = self.executor.make_store(program, others)
        r = self._r(factors)
        if wanted is None:
            return QRResult(None, r)
        held = nbytes(program.tiles, program.results)
        return QRResult(self._q(factors, self.executor.make_store(wanted, held)), r)

    def run_in(
        self, folder: Path, identify: Callable[[], str], grid: Grid, resume: bool
    ) -> QRResult:
        """Keep Q and R in a directory, and the reflectors until they are there."""
        folder.mkdir(parents=True, exist_ok=True)
        stores: dict[str, DirectoryStore] = {}
        reflectors = folder / _REFLECTORS
        with contextlib.ExitStack() as held:
            held.callback(DirectoryLock(folder).release)
            for part in () if resume else (*self.programs, _REFLECTORS):
                DirectoryStore.require_new(folder / part)
            origin = identify()
            for letter in self.programs:
                stores[letter] = matrix_store(
                    folder / letter, letter, self.grids[letter], self.dtype, origin=origin,
                    resume=resume,
                )  # fmt: skip
                held.callback(stores[letter].release)
            if not all(self._is_whole(letter, store) for letter, store in stores.items()):
                title = {"contents": origin, "shape": list(grid.shape), "tile": list(grid.tile)}
                factors = DirectoryStore.of_run(reflectors, title, resume=resume)
                held.callback(factors.release)
                self._r(factors).save_to(stores["R"], "R")
                if "Q" in stores:
                    self._q(factors, stores["Q"])
            if "Q" in stores or not (folder / "Q").exists():  # an earlier run may want them for Q
                shutil.rmtree(reflectors, ignore_errors=True)
        found = {letter: TiledMatrix.open(folder / letter) for letter in stores}
        return QRResult(found.get("Q"), found["R"])

    def _is_whole(self, letter: str, store: DirectoryStore) -> bool:
        grid = self.grids[letter]
        return len(store.results) == len(grid.rows) * len(grid.columns)

    def _r(self, factors: Store) -> TiledMatrix:
        """R, in a store with all that is made of A."""
        program = self.programs["R"]
        run_rest(self.executor, program, self.inputs, factors, self.traffic, self.progress, "R")
        small = self.grids["R"]
        return TiledMatrix(StoreSource(factors, "R", small, self.dtype, is_upper=True), small.tile)

    def _q(self, factors: Store, target: Store) -> TiledMatrix:
        run_rest(
            self.executor, self.programs["Q"], Named({}), Overlay(factors, target), self.traffic,
            self.progress, "Q", stored=self.programs["R"].results,
        )  # fmt: skip
        tall = self.grids["Q"]
        return TiledMatrix(StoreSource(target, "Q", tall, self.dtype), tall.tile)


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
