"""DaskExecutor: a program on the workers of a Dask cluster.

Each task becomes one of `distributed`, its tiles the results of others: placement, transfers
between workers, spilling and retries are the scheduler's. Tiles stay on the workers; what comes to
the client are vectors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.dispatch import ops_for
from ..ops.protocol import Ops
from .local import Inputs, Traffic
from .store import Overlay, Store
from .tasks import Key, Program, Task

__all__ = ["DaskExecutor", "FutureStore"]

UNLIMITED = 2**62
_HANDFUL = 64
"""Tasks that are handed to the scheduler before progress is looked at."""


class FutureStore:
    """Tiles as futures, on the workers that made them."""

    def __init__(self) -> None:
        self.futures: dict[Key, Any] = {}

    def write(self, key: Key, tile: Any, *, is_result: bool) -> None:
        self.futures[key] = tile

    def read(self, key: Key) -> NDArray[Any]:
        """A tile, brought here."""
        return np.asarray(self.futures[key].result())


class DaskExecutor:
    """Runs programs on a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Of a running cluster, `distributed.LocalCluster` for one.

    Raises
    ------
    TypeError
        `client` is no client.
    """

    memory_limit = UNLIMITED

    def __init__(self, client: Any) -> None:
        if not (hasattr(client, "submit") and hasattr(client, "scatter")):
            raise TypeError(f"client must be a distributed.Client, got {type(client).__name__}")
        self.client = client

    def __repr__(self) -> str:
        return f"DaskExecutor({self.client!r})"

    def reserving(self, nbytes: int) -> DaskExecutor:
        """Memory is looked after by the workers."""
        return self

    def make_store(self) -> FutureStore:
        """Where results stay."""
        return FutureStore()

    def run(
        self, program: Program, inputs: Inputs, store: Store, *, stored: Collection[Key] = (),
        ops: Ops | None = None, progress: Callable[[float], None] | None = None,
    ) -> Traffic:  # fmt: skip
        """Run a program as `LocalExecutor.run`; in a `FutureStore` results stay on the workers."""
        from distributed import wait

        began = time.perf_counter()
        held = _futures(store)
        tiles: dict[Key, Any] = {key: held[key] for key in stored if key in held}
        traffic = Traffic()
        submitted = []
        for task in program.tasks:
            for key in task.needs:
                if key not in tiles:
                    tiles[key] = self._input(inputs, key)
                    traffic.loaded += program.tiles[key].nbytes
            submitted.append((task.flops, self._submit(task, tiles)))
        results = {key: tiles[key] for key in program.results}
        tiles.clear()
        for start in range(0, len(submitted), _HANDFUL):
            some = submitted[start : start + _HANDFUL]
            wait([future for _, future in some])
            for flops, future in some:
                if future.status == "error":
                    raise future.exception()
                if progress is not None:
                    progress(flops)
        if not isinstance(getattr(store, "above", store), FutureStore):  # vectors
            results = dict(zip(results, self.client.gather(list(results.values())), strict=True))
        for key, tile in results.items():
            store.write(key, tile, is_result=True)
        traffic.io_seconds = time.perf_counter() - began
        traffic.predicted = traffic.moved
        return traffic

    def _submit(self, task: Task, tiles: dict[Key, Any]) -> Any:
        """Hand a task over; its tiles are futures then."""
        made = self.client.submit(
            _run, task, *(tiles[key] for key in task.needs), pure=False, key=_name(task)
        )
        for place, key in enumerate(task.makes):
            tiles[key] = self.client.submit(_part, made, place, pure=False)
        return made

    def _input(self, inputs: Inputs, key: Key) -> Any:
        """An input, made on a worker where its source can be sent there."""
        remote = getattr(inputs, "remote", None)
        if remote is not None:
            return remote(self.client, key)
        return self.client.scatter(inputs(key), hash=False)


def _futures(store: Any) -> dict[Key, Any]:
    """Those of a store, and of the one below it."""
    if isinstance(store, Overlay):
        return {**_futures(store.below), **_futures(store.above)}
    return dict(getattr(store, "futures", {}))


def _run(task: Task, *tiles: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """A task on a worker. What it changes is copied first: others may hold it."""
    reads = tiles[: len(task.reads)]
    updates = [np.array(tile, order="K", copy=True) for tile in tiles[len(task.reads) :]]
    written = task.run(ops_for(*tiles), reads, updates)
    return (*updates, *written)


def _part(parts: tuple[NDArray[Any], ...], place: int) -> NDArray[Any]:
    return parts[place]


def _name(task: Task) -> str:
    """Of a task on the dashboard."""
    import uuid

    return f"{task.kernel.__name__}-{uuid.uuid4().hex}"
