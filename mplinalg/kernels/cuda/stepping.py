"""A training step on the device alone, by nn_batch.cu, nn_loss.cu and nn_update.cu; and graphs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cupy
import numpy as np
from cupy.cuda import memory, runtime

from . import blas_direct, loader
from .catalogue_nn import AT_ONCE
from .layout import Array
from .lines import TYPES, grid

_TAKEN = {**TYPES, "l": "long long", "q": "long long"}
_BLOCKS_OF_A_TENSOR = 64
"""Most blocks that share in the squares of one tensor: so that the sums of all are few."""
_WORKSPACE, _SMALL_WORKSPACE = 2**25, 2**22
"""Bytes for cuBLAS, as many as it has for itself, so that it takes the same kernels: from compute
capability 9.0 on, and below."""
_NO_MEMORY = 2
"""cudaErrorMemoryAllocation."""


def take_rows(source: Array, order: Array | None, state: Array, target: Array) -> None:
    """target <- the rows of this step."""
    length = target.size // len(target)
    loader.launch(
        f"take_rows<{_TAKEN[source.dtype.char]}>", grid(target.size), target.size, length,
        len(target), source, order, state, target,
    )  # fmt: skip


def account(prediction: Array, labels: Array | None, loss: Array, state: Array) -> None:
    """Loss, labels that are right, and the step, added to `state`."""
    z = cupy.ascontiguousarray(prediction)
    sizes = z.shape if labels is not None else (len(z), 1)
    loader.launch(f"account<{TYPES[z.dtype.char]}>", 1, *sizes, z, labels, loss, state)


def verdict(
    gradients: Sequence[Array], state: Array, seed: Array, is_scaled: bool,
    rules: tuple[float, float, float], max_norm: float, betas: tuple[float, float],
) -> None:  # fmt: skip
    """Whether the step is done, by which factor of the gradients, and the next scale."""
    kind = TYPES[seed.dtype.char]
    blocks = min(_BLOCKS_OF_A_TENSOR, max(grid(g.size) for g in gradients))
    partial = cupy.empty(blocks * len(gradients))
    for first, some in _groups(gradients):
        loader.launch(
            f"square_sums<{kind}>", (blocks, len(some)), *_sizes(some), *_eight(some), first,
            partial,
        )  # fmt: skip
    loader.launch(
        f"verdict<{kind}>", 1, partial.size, partial, state, seed, is_scaled, *rules, max_norm,
        *betas,
    )  # fmt: skip


def update(
    name: str, tensors: Sequence[Sequence[Array]], state: Array, numbers: Sequence[float]
) -> None:
    """`descend` or `adam`: gradients, parameters, and what is remembered beside them."""
    gradients = tensors[0]
    wide = 3 if name == "descend" else 4
    for first, some in _groups(gradients):
        given = [_eight(arrays[first : first + len(some)]) for arrays in tensors]
        given += [_eight(())] * (wide - len(tensors))
        blocks = max(grid(g.size) for g in some)
        loader.launch(
            f"{name}<{TYPES[some[0].dtype.char]}>", (blocks, len(some)), *_sizes(some),
            *(a for arrays in given for a in arrays), state, *numbers,
        )  # fmt: skip


def _groups(arrays: Sequence[Array]) -> Iterator[tuple[int, Sequence[Array]]]:
    for first in range(0, len(arrays), AT_ONCE):
        yield first, arrays[first : first + AT_ONCE]


def _eight(arrays: Sequence[Array]) -> list[Array | None]:
    return [*arrays, *[None] * (AT_ONCE - len(arrays))]


def _sizes(arrays: Sequence[Array]) -> list[int]:
    return [a.size for a in arrays] + [0] * (AT_ONCE - len(arrays))


class Recording:
    """Work on a stream of its own, done at once or written down as a graph and repeated.

    Memory of the graph is of a pool that nobody else takes from, as every launch uses all of it.
    """

    def __init__(self) -> None:
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.graph: Any = None
        self._memory: Any = None
        """The pool of the graph, and the workspace of its products."""

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The stream is current, after all that was asked for before, and before what comes."""
        outer = cupy.cuda.get_current_stream()
        self.stream.wait_event(outer.record())
        try:
            with self.stream:
                yield
        finally:
            outer.wait_event(self.stream.record())

    def record(self, work: Callable[[], Any]) -> None:
        """Write down `work`, which was done inside once before: kernels are loaded by then.

        It may be asked for twice, if memory is short at first.

        Raises
        ------
        Exception
            What `work` raises, where it does what cannot be captured.
        MemoryError
            There is not enough for a pool of its own.
        """
        common = cupy.get_default_memory_pool()
        common.free_all_blocks(self.stream)  # what was done before has left as much there
        try:
            self._record(work)
            return
        except MemoryError:
            pass  # what this try holds is let go of when its error is
        gc.collect()
        common.free_all_blocks()
        self._record(work)

    def _record(self, work: Callable[[], Any]) -> None:
        pool = cupy.cuda.MemoryPool(_allocated)
        with cupy.cuda.using_allocator(pool.malloc):
            size = _WORKSPACE if loader.architecture() >= 90 else _SMALL_WORKSPACE
            workspace = cupy.empty(size, np.uint8)
            with blas_direct.captured(self.stream, workspace):
                self.stream.begin_capture()
                try:
                    work()
                except BaseException:
                    with contextlib.suppress(Exception):  # the capture is broken, and says so
                        self.stream.end_capture()
                    raise
                self.graph = self.stream.end_capture()
        self._memory = pool, workspace

    def launch(self) -> None:
        """Do it once more."""
        self.graph.launch(self.stream)


def _allocated(size: int) -> Any:
    """Memory for the pool of a graph.

    If there is none that is no error of CUDA, at which a pool would give back what is free in it,
    and try again: work that is captured already uses that.
    """
    try:
        return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size), 0)
    except runtime.CUDARuntimeError as error:
        if error.status != _NO_MEMORY:
            raise
        raise memory.OutOfMemoryError(size, 0) from error


def host_state(values: Sequence[float]) -> Array:
    """Numbers of the host, on the device, in double precision."""
    return cupy.asarray(np.array(values, np.float64))
