"""op(A) x = b as the refinement sees it, with A streamed from its source."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..factor.scaling import Scaling
from ..ops.protocol import Array
from ..precision import real_dtype
from ..refine.system import LinearSystem
from .identity import digest
from .local import LocalExecutor
from .passes import measure_program, residual_program, row_blocks
from .requirements import block_bytes
from .sources import Blocks, Named, Source
from .store import MemoryStore, Store
from .tasks import Key
from .traffic import Traffic

__all__ = ["Sizes", "TiledSystem", "Vectors", "measured", "row_blocks_of"]


@dataclass(frozen=True)
class Sizes:
    """Magnitudes of the entries of a matrix, |re| + |im| for complex.

    Attributes
    ----------
    row_sums, row_max, column_sums, column_max : ndarray
    digest : str
        Of all entries, if it was asked for.
    """

    row_sums: NDArray[Any]
    row_max: NDArray[Any]
    column_sums: NDArray[Any]
    column_max: NDArray[Any]
    digest: str = ""

    @property
    def norm(self) -> float:
        """||A|| in the infinity norm."""
        return float(self.row_sums.max()) if self.row_sums.size else 0.0

    @property
    def norm1(self) -> float:
        """||A||_1"""
        return float(self.column_sums.max()) if self.column_sums.size else 0.0

    @property
    def amax(self) -> float:
        """max |a|"""
        return float(self.row_max.max()) if self.row_max.size else 0.0

    @property
    def is_finite(self) -> bool:
        """No entry is infinite or NaN."""
        return bool(np.isfinite(self.row_max).all())


def measured(
    source: Source, dtype: np.dtype[Any], executor: LocalExecutor, traffic: Traffic,
    scaling: Scaling | None, *, is_identified: bool = False,
) -> Sizes:  # fmt: skip
    """One pass over diag(rows) A diag(cols), taken in `dtype`."""
    n = source.shape[1]
    parts = row_blocks_of(source, dtype, executor)
    program = measure_program(
        parts, n, dtype, is_identified=is_identified, apart=not executor.runs_here
    )
    store = MemoryStore()
    of_columns = np.zeros((2, n), real_dtype(dtype))

    inputs = Named({
        "columns": lambda key: np.zeros_like(of_columns),
        "rows": Blocks(source, parts, [slice(0, n)], dtype, scaling),
    })  # fmt: skip
    traffic.add(executor.run(program, inputs, store))
    rows = [store.read(("sizes", i)) for i in range(len(parts))]
    of_rows = np.concatenate(rows, axis=1) if rows else np.zeros((2, 0), of_columns.dtype)
    for key in sorted(key for key in program.results if key[0] == "columns"):
        sums, largest = store.read(key)
        of_columns[0] += sums
        np.maximum(of_columns[1], largest, out=of_columns[1])
    name = digest(store, [("bits", i) for i in range(len(parts))]) if is_identified else ""
    return Sizes(of_rows[0], of_rows[1], of_columns[0], of_columns[1], name)


def row_blocks_of(
    source: Source, dtype: np.dtype[Any], executor: LocalExecutor, nrhs: int = 0
) -> list[slice]:
    """Blocks of rows that fit into the limit beside nrhs vectors, and beside their share of some.

    These are b, r and d.
    """
    (m, n), size = source.shape, dtype.itemsize
    most = executor.block_bytes(m, (n + 3 * nrhs) * size)
    return row_blocks(
        (m, n + 3 * nrhs), size, block_bytes(executor.memory_limit, n, nrhs, size, most)
    )


@dataclass(kw_only=True)
class TiledSystem(LinearSystem):
    """`refine.ladder.LinearSystem` of a source: each residual is one pass over A.

    Attributes
    ----------
    source : Source
    executor : LocalExecutor
    sizes : Sizes
    scaling : Scaling, optional
        A is diag(rows) source diag(cols).
    traffic : Traffic
    """

    source: Source
    executor: LocalExecutor
    sizes: Sizes
    scaling: Scaling | None = None
    traffic: Traffic = field(default_factory=Traffic)

    streams = True

    def residual(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array | None]:
        """r and d of the given columns, in one pass."""
        return self._pass(x, self._rhs(columns), magnitude=True)

    def residual_and_product(
        self, x: Array, columns: NDArray[np.intp], y: Array
    ) -> tuple[Array, Array | None, Array]:
        """`residual` of x, and op(A) y, in one pass."""
        both, rhs = (np.empty((len(x), columns.size + 1), x.dtype, order="F") for _ in range(2))
        both[:, :-1], both[:, -1:] = x, y
        rhs[:, :-1], rhs[:, -1] = self._rhs(columns), 0
        r, d = self._pass(both, rhs, magnitude=True)
        return r[:, :-1], None if d is None else d[:, :-1], -r[:, -1:]

    def magnitude(self, x: Array, columns: NDArray[np.intp]) -> Array:
        """d = |op(A)||x| + |b| of the given columns."""
        _, d = self._pass(x, self._rhs(columns), magnitude=True)
        assert d is not None
        return d

    def product(self, z: Array) -> Array:
        """op(A) z."""
        r, _ = self._pass(z, np.zeros_like(z, order="F"), magnitude=False)
        return -r

    def norm1(self) -> float:
        """||A||_1"""
        return self.sizes.norm1

    def _pass(self, x: Array, b: Array, *, magnitude: bool) -> tuple[Array, Array | None]:
        began = time.perf_counter()
        n, nrhs = x.shape
        parts = row_blocks_of(self.source, b.dtype, self.executor, nrhs)
        program = residual_program(
            parts, n, nrhs, b.dtype, magnitude=magnitude, extended=self.extended
        )
        r = np.empty((len(b), nrhs), b.dtype, order="F")
        d = np.empty((len(b), nrhs), b.real.dtype, order="F") if magnitude else None
        store, store_of_b = Vectors({"r": r, "d": d}, parts), Vectors({"b": b}, parts)

        inputs = Named({
            "x": lambda key: np.asfortranarray(x),
            "b": lambda key: store_of_b.read(key),
            "rows": Blocks(self.source, parts, [slice(0, n)], b.dtype, self.scaling),
        })  # fmt: skip
        self.traffic.add(self.executor.run(program, inputs, store))
        self.seconds["residual"] += time.perf_counter() - began
        return r, d


class Vectors(Store):
    """A store of blocks of rows, in arrays that hold all of them."""

    def __init__(self, arrays: dict[str, Any], parts: list[slice]) -> None:
        self._arrays, self._parts = arrays, parts

    def write(self, key: Key, tile: NDArray[Any], *, is_result: bool) -> None:
        self._arrays[key[0]][self._part(key)] = tile

    def read(self, key: Key) -> NDArray[Any]:
        return np.asfortranarray(self._arrays[key[0]][self._part(key)])

    def _part(self, key: Key) -> slice:
        return self._parts[key[1] if len(key) > 1 else 0]
