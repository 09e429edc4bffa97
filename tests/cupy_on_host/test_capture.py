"""Streams that are captured, and graphs."""

import ctypes

import numpy as np
import pytest

from . import memory
from .install import Misuse, recorded


class Captured:
    """``with Captured(cupy) as c: ...`` then ``c.graph``."""

    def __init__(self, cupy):
        self.cupy, self.stream = cupy, cupy.cuda.Stream(non_blocking=True)
        self.pool = cupy.cuda.MemoryPool()

    def __enter__(self):
        self.cupy.cuda.Device().synchronize()
        self._inside = self.cupy.cuda.using_allocator(self.pool.malloc)
        self.stream.__enter__()
        self._inside.__enter__()
        self.stream.begin_capture()
        assert self.stream.is_capturing()
        return self

    def __exit__(self, *error):
        self.graph = self.stream.end_capture()
        self._inside.__exit__(*error)
        self.stream.__exit__(*error)
        assert not self.stream.is_capturing()

    def launch(self, times=1):
        for _ in range(times):
            self.graph.launch(self.stream)
        self.stream.synchronize()


def test_nothing_is_done_but_by_launches(cupy):
    x = cupy.arange(4.0)
    with Captured(cupy) as c:
        y = 2 * x + 1
        x += y.sum()
    assert x.get().tolist() == [0, 1, 2, 3]
    c.launch()
    assert y.get().tolist() == [1, 3, 5, 7]
    assert x.get().tolist() == [16, 17, 18, 19]
    x[...] = 1
    cupy.cuda.Device().synchronize()
    c.launch(2)
    assert x.get().tolist() == [1 + 12 + 4 * 27] * 4  # y = 3, x = 13; y = 27, x = 121


def test_memory_that_is_taken_and_given_back_inside(cupy):
    x = cupy.ones(1000)
    with Captured(cupy) as c:
        for _ in range(5):
            x += cupy.zeros(1000) + x.astype(np.float32)
    c.launch()
    assert x.get().tolist() == [32] * 1000


def test_numbers(cupy):
    """CuPy gives a number to a kernel that fills an array with it."""
    x = cupy.ones(3)
    with Captured(cupy) as c:
        x *= cupy.asarray(2.0)
    with recorded() as ledger:
        c.launch(2)
    assert x.get().tolist() == [4, 4, 4]
    assert not ledger.to_device


def test_what_happens_at_a_launch(cupy):
    x = cupy.ones(3)
    with Captured(cupy) as c:
        x *= 2
    with recorded() as ledger:
        c.launch(2)
    assert ledger.operations["cupy_multiply"] == 2
    assert ledger.calls["graphLaunch"] == 2


@pytest.mark.parametrize("deed", [
    lambda cupy, x: x.get(), lambda cupy, x: float(x[0]), lambda cupy, x: cupy.asarray([3.0]),
    lambda cupy, x: cupy.cuda.get_current_stream().synchronize(),
    lambda cupy, x: cupy.cuda.Device().synchronize(), lambda cupy, x: x.set(np.zeros(3)),
])  # fmt: skip
def test_transfers_and_waits_are_refused(cupy, deed):
    x = cupy.zeros(3)
    with Captured(cupy), pytest.raises(Misuse, match="while a stream is captured"):
        deed(cupy, x)


def test_other_streams_are_refused(cupy):
    x = cupy.zeros(3)
    with Captured(cupy), cupy.cuda.Stream(), pytest.raises(Misuse, match="another stream"):
        x += 1


def test_events(cupy):
    """Those of a captured stream are for it alone, and it waits for no others."""
    other, before = cupy.cuda.Stream(), cupy.cuda.Event()
    before.record(other)
    with Captured(cupy) as c:
        event = c.stream.record()
        c.stream.wait_event(event)
        with pytest.raises(Misuse, match="captured alone"):
            c.stream.wait_event(before)
        with pytest.raises(Misuse, match="captured alone"):
            other.wait_event(event)
        for deed in (c.stream.launch_host_func, c.stream.add_callback):
            with pytest.raises(Misuse, match="function of the host while"):
                deed(print, None)
    for deed in (event.synchronize, lambda: event.done):
        with pytest.raises(Misuse, match="never happens"):
            deed()
    event.record(other)
    event.synchronize()


def test_the_common_pool_is_refused(cupy):
    with (
        Captured(cupy), cupy.cuda.using_allocator(None),
        pytest.raises(Misuse, match="common pool"),
    ):  # fmt: skip
        cupy.empty(3)


def test_memory_that_was_given_back(cupy):
    x = cupy.zeros(3)
    with Captured(cupy) as c:
        x += 1
    del x
    with pytest.raises(Misuse, match="given back"):
        c.launch()


def test_a_pool_that_is_gone(cupy):
    x = cupy.zeros(3)
    with Captured(cupy) as c:
        x += cupy.ones(3)
    del c.pool, c._inside
    cupy.cuda.Device().synchronize()
    with pytest.raises(Misuse, match="pool that is gone"):
        c.launch()


def test_the_pool_of_a_graph_is_for_nobody_else(cupy):
    """What it has given back inside is written to at every launch."""
    x = cupy.zeros(3)
    with Captured(cupy) as c:
        x += cupy.ones(3)
    with cupy.cuda.using_allocator(c.pool.malloc), pytest.raises(Misuse, match="pool of a graph"):
        cupy.empty(3)
    c.graph = None
    with cupy.cuda.using_allocator(c.pool.malloc):
        cupy.empty(3)


def test_memory_that_is_short(cupy):
    """A pool then gives back what is free in it; not if its allocator says at once that it is."""

    def strict(size):
        try:
            return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size), 0)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise cupy.cuda.memory.OutOfMemoryError(size, error.status) from error

    for allocator, kind, said in (
        (None, Misuse, "gives back what is free"), (strict, MemoryError, "so far: 2 bytes"),
    ):  # fmt: skip
        with memory.limit_memory(2**20), Captured(cupy) as c:
            c.pool = cupy.cuda.MemoryPool(allocator)
            with cupy.cuda.using_allocator(c.pool.malloc), pytest.raises(kind, match=said):
                cupy.empty(2**20)
        with memory.limit_memory(2**20), pytest.raises(MemoryError):
            c.pool.malloc(2**21)


def test_the_null_stream_is_not_captured(cupy):
    with pytest.raises(RuntimeError):
        cupy.cuda.Stream.null.begin_capture()


def test_graphs_are_made_by_captures(cupy):
    with pytest.raises(NotImplementedError):
        cupy.cuda.Graph()


def test_cublas_of_cupy_is_refused(cupy):
    """By the real one, too: it looks whether the stream is captured before it sets it."""
    from mplinalg.kernels.cuda import blas

    a, c = cupy.ones((3, 3)), cupy.zeros((3, 3))
    blas.gemm(1.0, a, a, 0.0, c)
    with Captured(cupy), pytest.raises(NotImplementedError, match="cuBLAS"):
        blas.gemm(1.0, a, a, 0.0, c)


def test_products_of_cupy_are_refused(cupy):
    """But for that of two vectors, which is a sum."""
    a, x = cupy.ones((3, 3)), cupy.ones(3)
    with Captured(cupy) as c:
        for deed in (lambda: a @ a, lambda: a @ x, lambda: cupy.einsum("ij,jk->ik", a, a)):
            with pytest.raises(NotImplementedError, match="cuBLAS"):
                deed()
        x *= x @ x
    c.launch()
    assert x.get().tolist() == [3, 3, 3]


def test_cublas_itself(cupy):
    """alpha and beta are those of the capture, whatever is at their place later."""
    from cupy_backends.cuda.libs import cublas

    a, b = cupy.asarray(np.diag([1.0, 2, 3])), cupy.ones((3, 3))
    c = cupy.zeros((3, 3))
    library, handle = ctypes.CDLL(cublas.__file__), cupy.cuda.get_cublas_handle()
    numbers = np.array([2.0, 1.0])
    at = numbers.ctypes.data
    given = (0, 0, 3, 3, 3, at, b.data.ptr, 3, a.data.ptr, 3, at + 8, c.data.ptr, 3)
    workspace = cupy.empty(2**22, np.uint8)
    cupy.cuda.Device().synchronize()
    captured = Captured(cupy)
    assert library.cublasSetWorkspace_v2(handle, workspace.data.ptr, workspace.nbytes) == 0
    cublas.setStream(handle, captured.stream.ptr)  # that takes it away
    with captured, pytest.raises(Misuse, match="without a workspace"):
        library.cublasDgemm_v2(handle, *given)
    captured = Captured(cupy)
    cublas.setStream(handle, captured.stream.ptr)
    assert library.cublasSetWorkspace_v2(handle, workspace.data.ptr, workspace.nbytes) == 0
    with captured:
        status = library.cublasDgemm_v2(handle, *given)
    assert status == 0
    cublas.setStream(handle, 0)
    numbers[:] = 0
    captured.launch(2)
    np.testing.assert_array_equal(c.get(), 4 * np.diag([1.0, 2, 3]) @ np.ones((3, 3)))
    del b
    assert memory.buffer_at(0) is None
    with pytest.raises(Misuse, match=r"no address|memory"):
        captured.launch()
    del workspace
    with pytest.raises(Misuse, match="the workspace of cublasDgemm_v2 was given back"):
        captured.launch()
