"""Products of A and of its adjoint with a few vectors, each in one pass over blocks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.dispatch import ops_for
from ..ops.protocol import Array, Ops
from .plan import TOGETHER
from .progress import Progress
from .running import run
from .sources import Blocks, Named, Source
from .store import DirectoryStore
from .system import Vectors, row_blocks_of
from .tasks import Program, Tile
from .traffic import Traffic

__all__ = ["Passes"]

_PORTIONS = 8
"""Of a pass whose result is kept: what a kill costs is one of them."""


class Passes:
    """Passes over A, numbered from 0: even ones give A X, odd ones A^H Y.

    Parameters
    ----------
    source : Source
    executor : LocalExecutor or DaskExecutor
    columns : int
        Of X and Y.
    progress : Progress

    Attributes
    ----------
    kept : DirectoryStore, optional
        Where the results of passes are kept, if they are: ("y", number, g), rows of A X, or
        ("z", number, g), A^H Y as far as it is summed.
    traffic : Traffic
    """

    kept: DirectoryStore | None = None

    def __init__(self, source: Source, executor: Any, columns: int, progress: Progress) -> None:
        self.source, self.executor, self.progress = source, executor, progress
        self.columns = columns
        self.ops: Ops = ops_for(np.empty(0))
        self.parts = row_blocks_of(source, source.dtype, executor, columns)
        self.traffic = Traffic()

    def run(self, number: int, basis: NDArray[Any]) -> NDArray[Any]:
        """A X or A^H Y. Results of this pass and of the last one are kept, and no others."""
        found = self._adjoint(number, basis) if number % 2 else self._product(number, basis)
        if self.kept is not None:
            for key in [key for key in self.kept.results if key[1] < number - 1]:
                self.kept.drop(key)
        return found

    def whole(self, number: int) -> NDArray[Any] | None:
        """The result of a pass, if it is kept."""
        if self.kept is None:
            return None
        count = len(self._portions())
        if number % 2:
            key = ("z", number, count - 1)
            return self.kept.read(key) if key in self.kept.results else None
        if any(("y", number, g) not in self.kept.results for g in range(count)):
            return None
        return np.concatenate([self.kept.read(("y", number, g)) for g in range(count)])

    def _portions(self) -> list[range]:
        """Numbers of blocks that are passed over by one program each."""
        count = len(self.parts)
        step = min(TOGETHER, count if self.kept is None else -(-count // _PORTIONS))
        return [range(first, min(first + step, count)) for first in range(0, count, step)]

    def _product(self, number: int, x: NDArray[Any]) -> NDArray[Any]:
        """A X"""
        y = np.empty((self.source.shape[0], x.shape[1]), x.dtype)
        for g, blocks in enumerate(self._portions()):
            key = ("y", number, g)
            some = y[self.parts[blocks[0]].start : self.parts[blocks[-1]].stop]
            if self.kept is not None and key in self.kept.results:
                some[...] = self.kept.read(key)
                continue
            self._multiply(blocks, x, y)
            if self.kept is not None:
                self.kept.write(key, some, is_result=True)
        return y

    def _adjoint(self, number: int, y: NDArray[Any]) -> NDArray[Any]:
        """A^H Y"""
        z = np.zeros((self.source.shape[1], y.shape[1]), y.dtype)
        portions = self._portions()
        have = () if self.kept is None else self.kept.results
        done = max((g for g in range(len(portions)) if ("z", number, g) in have), default=-1)
        if self.kept is not None and done >= 0:
            z[...] = self.kept.read(("z", number, done))
        for g, blocks in enumerate(portions[done + 1 :], done + 1):
            self._accumulate(blocks, y, z)
            if self.kept is not None:
                self.kept.write(("z", number, g), z, is_result=True)
                if g:
                    self.kept.drop(("z", number, g - 1))
        return z

    def _multiply(self, blocks: range, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Y_i = A_i X of some blocks."""
        program = self._program(blocks)
        for i in blocks:
            key = ("y", i)
            height = self.parts[i].stop - self.parts[i].start
            program.tiles[key] = Tile((height, x.shape[1]), x.dtype)
            program.add(
                multiply, reads=(("rows", i), ("x",)), writes=(key,),
                flops=self._flops(height, x.shape[1]),
            )  # fmt: skip
            program.results.add(key)
        program.tiles[("x",)] = Tile(x.shape, x.dtype)
        self._run(program, {"x": lambda key: x}, Vectors({"y": y}, self.parts), "A X")

    def _accumulate(self, blocks: range, y: NDArray[Any], z: NDArray[Any]) -> None:
        """Z <- Z + A_i^H Y_i of some blocks."""
        program = self._program(blocks)
        program.tiles[("z",)] = Tile(z.shape, z.dtype)
        for i in blocks:
            height = self.parts[i].stop - self.parts[i].start
            program.tiles[("y", i)] = Tile((height, y.shape[1]), y.dtype)
            program.add(
                accumulate, reads=(("rows", i), ("y", i)), updates=(("z",),),
                flops=self._flops(height, y.shape[1]),
            )  # fmt: skip
        program.results.add(("z",))
        store = Vectors({"z": z}, [slice(0, len(z))])
        vectors = {"z": lambda key: z.copy(), "y": lambda key: y[self.parts[key[1]]]}
        self._run(program, vectors, store, "A^H Y")

    def _program(self, blocks: range) -> Program:
        n, program = self.source.shape[1], Program()
        for i in blocks:
            height = self.parts[i].stop - self.parts[i].start
            program.tiles[("rows", i)] = Tile((height, n), self.source.dtype)
        return program

    def _flops(self, height: int, columns: int) -> float:
        factor = 4 if self.source.dtype.kind == "c" else 1
        return factor * 2.0 * height * self.source.shape[1] * columns

    def _run(self, program: Program, vectors: Any, store: Vectors, title: str) -> None:
        blocks = Blocks(
            self.source, self.parts, [slice(0, self.source.shape[1])], self.source.dtype, None
        )
        inputs = Named({**vectors, "rows": blocks})
        run(self.executor, program, inputs, store, self.traffic, self.progress, title)


# -- kernels -------------------------------------------------------------------------------------


def multiply(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """Y_i = A_i X"""
    a, x = reads
    y = ops.xp.empty((len(a), x.shape[1]), x.dtype)
    ops.gemm(1.0, a, x, 0.0, y)
    return (y,)


def accumulate(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """Z <- Z + A_i^H Y_i"""
    (a, y), (z,) = reads, updates
    ops.gemm(1.0, a, y, 1.0, z, transa="C")
    return ()
