"""Where the factors of a rung go: into memory, or a directory that is kept or not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..refine.ladder import Rung
from .grid import Grid
from .store import DirectoryStore, MemoryStore, Store, TemporaryStore
from .tasks import Program, nbytes

__all__ = ["Stores", "default_store"]


def default_store(executor: Any, program: Program) -> Store:
    """Where the results of a program go that nobody has to keep.

    Where the executor keeps them, into memory if they fit into the limit beside the largest
    workspace, or into temporary files.
    """
    if hasattr(executor, "make_store"):
        store: Store = executor.make_store()
        return store
    workspace = max((task.workspace for task in program.tasks), default=0)
    held = nbytes(program.tiles, program.results) + workspace
    return MemoryStore() if held <= executor.memory_limit else TemporaryStore()


@dataclass
class Stores:
    """Makes a store for each rung.

    Attributes
    ----------
    workdir : path-like, optional
        A directory with one for each rung, which are kept. Without it, factors are kept in memory
        if they fit into the limit, else in temporary files.
    resume : bool
        Go on with what an earlier run left in `workdir`; files that are not as they were written
        are made again.
    executor : LocalExecutor or DaskExecutor
    grid : Grid
    """

    workdir: str | os.PathLike[str] | None
    resume: bool
    executor: Any
    grid: Grid

    def __post_init__(self) -> None:
        if self.resume and self.workdir is None:
            raise ValueError("resume=True needs the workdir of the run to go on with")
        if hasattr(self.executor, "make_store") and self.workdir is not None:
            raise ValueError("workdir is for runs on this machine; a cluster keeps its tiles")

    def __call__(self, rung: Rung, program: Program, digest: str) -> Store:
        """The store of a rung.

        Raises
        ------
        FileExistsError
            `workdir` has factors already, and `resume` is False.
        ValueError
            They are those of another matrix, or of other tiles.
        """
        if self.workdir is None:
            return default_store(self.executor, program)
        title = {
            "contents": f"{rung.method} in {rung.format}", "shape": list(self.grid.shape),
            "tile": list(self.grid.tile), "matrix": digest,
        }  # fmt: skip
        path = Path(self.workdir) / f"{rung.method}-{rung.format}".lower()
        store = DirectoryStore(path, title, resume=self.resume)
        for key in store.damaged():
            store.forget(key)
        return store
