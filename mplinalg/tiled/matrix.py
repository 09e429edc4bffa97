"""TiledMatrix: a matrix in tiles, in memory, in a directory, or made by a function."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .dask import as_dask
from .grid import Grid, tile_option
from .sources import Function, FunctionSource, Source, as_source
from .store import DirectoryStore, Store

__all__ = ["StoreSource", "TiledMatrix", "lacking", "matrix_store", "save_tiles"]

_LETTER = "A"


class TiledMatrix:
    """A matrix cut into tiles, of which rectangles can be read.

    Made by `from_array`, `from_function` or `open`, or returned by a function of this package.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    tile : tuple of int
        Rows and columns of a tile.
    """

    def __init__(self, source: Source, tile: tuple[int, int]) -> None:
        self._source = source
        self.shape, self.dtype = source.shape, source.dtype
        self.tile = tile

    @classmethod
    def from_array(cls, a: Any, tile: int = 1024) -> TiledMatrix:
        """Of an array, a memory map, an HDF5 or zarr dataset, or a Dask array; kept by reference.

        Parameters
        ----------
        a : array_like, shape (m, n)
        tile : int
            Most rows, and columns, of a tile.
        """
        return cls(as_source(a), _pair(tile))

    @classmethod
    def from_function(
        cls, function: Function, shape: tuple[int, int], tile: int = 1024,
        dtype: DTypeLike = np.float64,
    ) -> TiledMatrix:  # fmt: skip
        """Of a function that makes blocks when they are asked for; the matrix is never whole.

        Parameters
        ----------
        function : callable
            ``function(rows, columns)``, with two arrays of indices, gives the entries
            ``a[rows[:, None], columns]``: shape ``(rows.size, columns.size)``.
        shape : tuple of int
        tile : int
        dtype : dtype
        """
        return cls(FunctionSource(function, shape, dtype), _pair(tile))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TiledMatrix:
        """One that `save` wrote.

        Raises
        ------
        FileNotFoundError
            There is none.
        """
        stored = _StoredSource(Path(path))
        return cls(stored, stored.grid.tile)

    def save(self, path: str | os.PathLike[str]) -> TiledMatrix:
        """Write a directory with a file for each tile; returns what `open` would.

        Raises
        ------
        FileExistsError
            The directory has a matrix already.
        """
        title = _title(_LETTER, self.grid, self.dtype)
        store = DirectoryStore(path, title, resume=False, goes_on=False)
        save_tiles(self, store, _LETTER)
        return TiledMatrix.open(path)

    @property
    def grid(self) -> Grid:
        """Its tiles."""
        return Grid(self.shape, self.tile)

    @property
    def is_sendable(self) -> bool:
        """Whether another process can read it when it is sent there."""
        return self._source.is_sendable

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The rectangle of these rows and columns, both slices with a start and a stop."""
        return self._source.read(rows, columns)

    @property
    def is_fresh(self) -> bool:
        """Whether `read` gives arrays that nobody else has."""
        return self._source.is_fresh

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        """A rectangle, as ``a[2:5, :]``; of two slices without steps alone."""
        if not (isinstance(key, tuple) and len(key) == 2) or any(
            not isinstance(part, slice) or part.step not in (None, 1) for part in key
        ):
            raise TypeError(f"a TiledMatrix takes two slices without steps; got {key!r}")
        ranges = [part.indices(size)[:2] for part, size in zip(key, self.shape, strict=True)]
        rows, columns = (slice(start, max(start, stop)) for start, stop in ranges)
        return self.read(rows, columns)

    def to_array(self) -> NDArray[Any]:
        """All of it, in memory."""
        return self[:, :]

    def to_dask(self) -> Any:
        """A Dask array whose chunks are the tiles.

        Tiles that a `DaskExecutor` left on the workers stay there. Others are read when they are
        computed with; on a cluster, by the workers, so the matrix has to be one that
        `is_sendable`.

        Raises
        ------
        ImportError
            Dask is not installed.
        """
        try:
            return as_dask(self._source, self.grid)
        except ModuleNotFoundError as error:
            raise ImportError("to_dask needs Dask: pip install 'mplinalg[dask]'") from error

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return np.asarray(self.to_array(), dtype=dtype)

    def __repr__(self) -> str:
        m, n = self.shape
        return f"TiledMatrix({m}x{n} {self.dtype}, tiles of {self.tile[0]}x{self.tile[1]})"


class StoreSource:
    """Tiles of a store, as a source; what is below the diagonal is zero if it `is_upper`."""

    def __init__(
        self, store: Store, letter: str, grid: Grid, dtype: np.dtype[Any], *,
        is_upper: bool = False,
    ) -> None:  # fmt: skip
        self.store, self.letter, self.grid = store, letter, grid
        self.shape, self.dtype, self.is_upper = grid.shape, dtype, is_upper

    @property
    def is_sendable(self) -> bool:
        """Of directories, which other processes see too."""
        return type(self.store) is DirectoryStore

    is_fresh = True

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        found = np.empty((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        for i, down in _overlapping(self.grid.rows, rows):
            for j, across in _overlapping(self.grid.columns, columns):
                if self.is_upper and down.start >= across.stop:
                    found[_shifted(down, rows.start), _shifted(across, columns.start)] = 0
                    continue
                tile = self.store.read((self.letter, i, j))
                to = _shifted(down, rows.start), _shifted(across, columns.start)
                of = (_shifted(down, self.grid.rows[i].start),
                      _shifted(across, self.grid.columns[j].start))  # fmt: skip
                found[to] = tile[of]
        return np.triu(found, rows.start - columns.start) if self.is_upper else found


class _StoredSource(StoreSource):
    """That of a directory."""

    def __init__(self, path: Path) -> None:
        store = DirectoryStore.existing(path, "matrix")
        title = store.title
        grid = Grid(tuple(title["shape"]), tuple(title["tile"]))
        super().__init__(store, title["letter"], grid, np.dtype(title["dtype"]))
        if missing := lacking(store, self.letter, grid):
            raise ValueError(f"{path} lacks {missing} tiles: it was not written to its end")


def _overlapping(parts: list[slice], wanted: slice) -> list[tuple[int, slice]]:
    """Numbers of the parts that have some of a range, and what they have of it."""
    found = [(i, slice(max(p.start, wanted.start), min(p.stop, wanted.stop)))
             for i, p in enumerate(parts)]  # fmt: skip
    return [(i, part) for i, part in found if part.start < part.stop]


def _shifted(part: slice, start: int) -> slice:
    return slice(part.start - start, part.stop - start)


def _pair(tile: int) -> tuple[int, int]:
    return tile_option(tile), tile_option(tile)


def _title(letter: str, grid: Grid, dtype: np.dtype[Any], origin: str = "") -> dict[str, Any]:
    title = {
        "contents": "matrix", "letter": letter, "shape": list(grid.shape),
        "tile": list(grid.tile), "dtype": dtype.str,
    }  # fmt: skip
    return title | ({"made of": origin} if origin else {})


def lacking(store: DirectoryStore, letter: str, grid: Grid) -> int:
    """Tiles of a matrix that are not there."""
    numbers = itertools.product(range(len(grid.rows)), range(len(grid.columns)))
    return sum((letter, i, j) not in store.results for i, j in numbers)


def save_tiles(matrix: TiledMatrix, store: DirectoryStore, letter: str) -> None:
    """Write the tiles that a store lacks, and release it."""
    grid = matrix.grid
    try:
        for i, rows in enumerate(grid.rows):
            for j, columns in enumerate(grid.columns):
                key = (letter, i, j)
                if key not in store.results:
                    store.write(key, matrix.read(rows, columns), is_result=True)
    finally:
        store.release()


def matrix_store(
    path: str | os.PathLike[str], letter: str, grid: Grid, dtype: np.dtype[Any], *,
    origin: Callable[[], str], resume: bool,
) -> DirectoryStore:  # fmt: skip
    """A directory for the tiles of a matrix that a run makes, where `TiledMatrix.open` finds it.

    `origin`, what it is made of, is asked for when nobody else can write there any more.

    Raises
    ------
    FileExistsError
        It has a matrix already, and `resume` is False.
    ValueError
        That is of another `origin`, or has other tiles.
    """
    return DirectoryStore.of_run(path, lambda: _title(letter, grid, dtype, origin()), resume=resume)
