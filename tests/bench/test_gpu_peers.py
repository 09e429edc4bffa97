"""What mplinalg is compared with on a GPU: cuSOLVER, and torch where it is installed."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mplinalg.bench import gpu_peers

from ..cupy_on_host.install import cupy_on_host
from .gpu_harness import cupy, quick

__all__ = ["cupy", "cupy_on_host", "quick"]  # fixtures


def array_at(pointer, shape, dtype):
    """What a routine of cuSOLVER sees of an argument: columns of unit stride."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype).reshape(
        shape, order="F"
    )


def irs(letter, dtype, calls, iterations=-5, singular=0):
    """cusolverDn<letter>gesv and its size, as CuPy wraps them; refinement fails, x is good."""

    def size(handle, n, nrhs, *rest):
        return 64

    def solve(handle, n, nrhs, a, lda, pivots, b, ldb, x, ldx, work, work_bytes, info):
        assert work_bytes == 64
        calls.append(letter)
        solution = np.linalg.solve(array_at(a, (n, n), dtype), array_at(b, (n, nrhs), dtype))
        array_at(x, (n, nrhs), dtype)[...] = solution
        array_at(info, (1,), np.int32)[...] = singular
        return iterations

    return {f"{letter}gesv_bufferSize": size, f"{letter}gesv": solve}


@pytest.mark.parametrize("nrhs", [None, 3])
@pytest.mark.parametrize(
    ("dtype", "factors", "letters"),
    [("float64", "fp16", "dh"), ("float64", "tf32", "dx"), ("complex128", "fp16", "zk")],
)
def test_cusolvers_refinement(cupy, rng, monkeypatch, dtype, factors, letters, nrhs):
    """Called by name, whatever CuPy's global says; a fallback to double precision is an answer."""
    from cupy_backends.cuda.libs import cusolver

    calls = []
    for name, function in irs(letters, dtype, calls).items():
        monkeypatch.setattr(cusolver, name, function, raising=False)
    a = rng.standard_normal((9, 9)).astype(dtype)
    b = rng.standard_normal((9, nrhs) if nrhs else 9).astype(dtype)
    given = cupy.asarray(a), cupy.asarray(b)
    x = gpu_peers.irs_solve(*given, factors)
    np.testing.assert_allclose(x.get(), np.linalg.solve(a, b))
    np.testing.assert_array_equal(given[0].get(), a)
    np.testing.assert_array_equal(given[1].get(), b)
    assert calls == [letters]


def test_a_matrix_that_cusolver_finds_singular(cupy, rng, monkeypatch):
    from cupy_backends.cuda.libs import cusolver

    for name, function in irs("dh", "float64", [], singular=3).items():
        monkeypatch.setattr(cusolver, name, function, raising=False)
    with pytest.raises(RuntimeError, match="dhgesv: info = 3"):
        gpu_peers.irs_solve(cupy.eye(4), cupy.ones(4), "fp16")


class Routine:
    """A function of a shared library."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*(getattr(a, "value", a) for a in arguments))


def test_routines_that_cupy_has_not_wrapped(cupy, rng, monkeypatch):
    """bfloat16 factors: from the library that CuPy has loaded."""
    streams, wrapped = [], irs("db", "float64", [])

    def size(handle, n, *rest):
        rest[-1]._obj.value = 64
        return 0

    def solve(handle, *arguments):
        *arrays, work_bytes, iterations, info = arguments
        iterations._obj.value = wrapped["dbgesv"](handle, *arrays, work_bytes, info)
        return 0

    library = SimpleNamespace(
        cusolverDnDBgesv_bufferSize=Routine(size),
        cusolverDnDBgesv=Routine(solve),
        cusolverDnSetStream=Routine(lambda handle, stream: streams.append(stream) or 0),
    )
    monkeypatch.setattr(gpu_peers, "_loaded", lambda name: library)
    a, b = rng.standard_normal((9, 9)), rng.standard_normal(9)
    x = gpu_peers.irs_solve(cupy.asarray(a), cupy.asarray(b), "bf16")
    np.testing.assert_allclose(x.get(), np.linalg.solve(a, b))
    assert len(streams) == 1
    library.cusolverDnDBgesv_bufferSize = Routine(lambda *arguments: 7)
    with pytest.raises(RuntimeError, match="cusolverDnDBgesv: cuSOLVER status 7"):
        gpu_peers.irs_solve(cupy.asarray(a), cupy.asarray(b), "bf16")


def test_a_library_that_is_loaded_is_found():
    name = next(
        Path(line.split()[-1]).name
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "libc.so" in line
    )
    assert gpu_peers._loaded(name)._name.endswith(name)
    with pytest.raises(RuntimeError, match=r"libcusolver\.so is not loaded"):
        gpu_peers._loaded("libcusolver.so")


def test_torch_is_left_out_of_large_problems(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    monkeypatch.setattr(gpu_peers, "MOST_OF_TORCH", 8)
    with pytest.raises(ValueError, match="left out above order 8"):
        gpu_peers.torch_solve(cupy.eye(9), cupy.ones(9))
