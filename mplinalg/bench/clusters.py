"""Dask clusters on this machine, and matrices in files that their workers read block by block."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROCESSES", "Cluster", "blocks_of"]

PROCESSES = True
"""Whether workers are processes; tests make them threads, which start sooner."""
_MISSING = "clusters need Dask: pip install 'mplinalg[dask]'"


class Cluster:
    """A `distributed.LocalCluster`, a client of it, and a folder.

    Parameters
    ----------
    workers : int
        Of one thread each, BLAS included.

    Raises
    ------
    ImportError
        Without Dask.
    """

    def __init__(self, workers: int) -> None:
        try:
            import dask.array  # noqa: F401
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise ImportError(f"{_MISSING} ({error})") from error
        self._folder = tempfile.TemporaryDirectory(prefix="mplinalg-cluster-")
        self._cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=PROCESSES,
            dashboard_address=None, worker_dashboard_address=None,
            local_directory=self._folder.name,
        )  # fmt: skip
        self.client = Client(self._cluster)

    def saved(self, a: NDArray[Any]) -> str:
        """The .npy file that the array is written to."""
        path = os.path.join(self._folder.name, "a.npy")
        np.save(path, a)
        return path

    def close(self) -> None:
        """End the workers, and remove the folder."""
        self.client.close()
        self._cluster.close()
        self._folder.cleanup()


def blocks_of(path: str, chunk: int) -> Any:
    """A Dask array of a .npy file, which workers read block by block."""
    import dask.array as da

    found = np.load(path, mmap_mode="r")
    return da.map_blocks(
        _block, path, dtype=found.dtype, meta=np.empty((0,) * found.ndim, found.dtype),
        chunks=da.core.normalize_chunks(chunk, found.shape),
    )  # fmt: skip


def _block(path: str, block_info: Any = None) -> NDArray[Any]:
    place = block_info[None]["array-location"]
    return np.array(np.load(path, mmap_mode="r")[tuple(slice(*ends) for ends in place)])
