"""cuBLAS's pointer mode: put back after each call, of each thread its own."""

import threading

import pytest

from ...ops.helpers import allowed, draw, is_small, wide
from .operands import blas, low

__all__ = ["blas"]  # a fixture


@pytest.fixture
def pointer_mode(cupy):
    """Of this thread's handle; set to another with an argument."""
    from cupy.cuda import device
    from cupy_backends.cuda.libs import cublas

    def get(mode=None):
        handle = device.get_cublas_handle()
        if mode is not None:
            cublas.setPointerMode(handle, mode)
        return cublas.getPointerMode(handle)

    yield get
    get(cublas.CUBLAS_POINTER_MODE_HOST)


def test_the_pointer_mode_is_put_back(blas, cupy, rng, monkeypatch, pointer_mode):
    _, x = low(rng, (3, 3), "fp16")
    a, c = cupy.asarray(x), cupy.zeros((3, 3), "float32")
    alpha = cupy.asarray([1.0], "float32")
    for mode in (0, 1):
        pointer_mode(mode)
        blas.gemm_low(alpha, a, a, 0.0, c)
        assert pointer_mode() == mode
        blas.gemm(2.0, c, c, 0.0, c.copy())
        assert pointer_mode() == mode

        def fails(*_):
            raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")

        with monkeypatch.context() as patch:
            for name in ("gemmEx", "sgemm"):
                patch.setattr(blas.cublas, name, fails)
            for call in (
                lambda: blas.gemm_low(alpha, a, a, 0.0, c), lambda: blas.gemm(1.0, c, c, 0.0, c),
            ):  # fmt: skip
                with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
                    call()
                assert pointer_mode() == mode


def test_whatever_mode_was_left_scalars_are_read_where_they_are(blas, cupy, rng, pointer_mode):
    x = draw(rng, (3, 3), "float64")
    a, c = cupy.asarray(x), cupy.zeros((3, 3))
    pointer_mode(1)
    blas.gemm(2.0, a, a, 0.0, c)
    assert is_small(abs(c.get() - 2 * x @ x), allowed(3, "float64") * 2 * (abs(x) @ abs(x)))


def test_threads_have_pointer_modes_of_their_own(blas, cupy, rng, monkeypatch):
    """A product with scalars on the host, while another thread is inside one on the device."""
    _, x = low(rng, (5, 5), "fp16")
    inside, done = threading.Event(), threading.Event()
    real = blas.cublas.gemmEx

    def waits(*arguments):
        inside.set()
        assert done.wait(60)
        real(*arguments)

    monkeypatch.setattr(blas.cublas, "gemmEx", waits)
    found = []

    def with_device_scalars():
        a, c = cupy.asarray(x), cupy.zeros((5, 5), "float32")
        blas.gemm_low(cupy.asarray([2.0], "float32"), a, a, 0.0, c)
        found.append(c.get())

    thread = threading.Thread(target=with_device_scalars)
    thread.start()
    try:
        assert inside.wait(60)
        a, c = cupy.asarray(wide(x)), cupy.zeros((5, 5))
        blas.gemm(3.0, a, a, 0.0, c)
    finally:
        done.set()
        thread.join()
    product, scale = wide(x) @ wide(x), abs(wide(x)) @ abs(wide(x))
    assert is_small(abs(c.get() - 3 * product), 3 * allowed(5, "float64") * scale)
    assert is_small(abs(found[0] - 2 * product), 2 * allowed(5, "float32") * scale)
