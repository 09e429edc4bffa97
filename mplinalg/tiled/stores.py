"""Where the factors of a rung go: into memory, or a directory that is kept or not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..refine.ladder import Rung
from .grid import Grid
from .store import DirectoryStore, Store
from .tasks import Program

__all__ = ["Stores", "require_resumable"]


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
    """

    workdir: str | os.PathLike[str] | None
    resume: bool
    executor: Any

    def __post_init__(self) -> None:
        require_resumable(self.workdir, self.resume, self.executor)

    def __call__(self, rung: Rung, grid: Grid, program: Program, digest: str) -> Store:
        """The store of a rung.

        Raises
        ------
        FileExistsError
            `workdir` has factors already, and `resume` is False.
        ValueError
            They are those of another matrix, or of other tiles.
        BlockingIOError
            Another process writes there.
        """
        if self.workdir is None:
            store: Store = self.executor.make_store(program)
            return store
        title = {
            "contents": f"{rung.method} in {rung.format}", "shape": list(grid.shape),
            "tile": list(grid.tile), "matrix": digest,
        }  # fmt: skip
        path = Path(self.workdir) / f"{rung.method}-{rung.format}".lower()
        return DirectoryStore.of_run(path, title, resume=self.resume)


def require_resumable(workdir: Any, resume: bool, executor: Any) -> None:
    """Raise ValueError if there is nothing to go on with, or a cluster has it."""
    if resume and workdir is None:
        raise ValueError("resume=True needs the workdir of the run to go on with")
    if workdir is not None and not executor.runs_here:
        raise ValueError("workdir is for runs on this machine; a cluster keeps its tiles")
