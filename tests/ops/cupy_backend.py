"""The CUDA backend on the stand-in for CuPy, or on a device."""

import numpy as np
import pytest
import scipy.linalg

from ..cupy_on_host.install import settings
from ..device import KINDS, is_stand_in, library
from .helpers import Placed, allowed, norm, swapped, wide


@pytest.fixture(scope="module", params=KINDS)
def cupy(request):
    """Installed once; the stand-in checks at the end that nothing went wrong."""
    with library(request.param) as module:
        yield module


@pytest.fixture
def stand_in(cupy):
    """What may be chosen of the stand-in; skips on a GPU."""
    from mplinalg.kernels.cuda import loader

    if not is_stand_in(cupy):
        pytest.skip("asks what only the stand-in for CuPy can tell")
    yield settings
    settings.reset()
    loader._multiprocessors.cache_clear()


@pytest.fixture
def ops(cupy):
    from mplinalg.ops.cupy_ops import CupyOps

    return CupyOps()


@pytest.fixture
def kernels(cupy):
    """Modules below the backend."""
    from mplinalg.kernels.cuda import low, panels, residual

    return {"low": low, "panels": panels, "residual": residual}


def take_away(monkeypatch, prefix=""):
    """From now on no kernel compiles whose name begins so."""
    from mplinalg.kernels.cuda import loader

    launch = loader.launch

    def without(name, grid, *arguments):
        if name.startswith(prefix):
            raise loader.KernelUnavailable(f"{name} was taken away")
        launch(name, grid, *arguments)

    monkeypatch.setattr(loader, "launch", without)


@pytest.fixture
def without_kernels(cupy, monkeypatch):
    """As on a device for which no kernel of the library compiles."""
    from mplinalg.kernels.cuda import fallbacks

    fallbacks.forget()
    take_away(monkeypatch)
    yield
    fallbacks.forget()


@pytest.fixture
def put(cupy):
    """put(x, "C-view"): `x` on the device in that layout."""
    return lambda x, layout="F": Placed(OnDevice(cupy), x, layout)


class OnDevice:
    """There and back."""

    def __init__(self, cupy):
        self.cupy = cupy

    def to_device(self, x):
        return self.cupy.array(x, order="K")

    @staticmethod
    def to_host(x):
        return x.get()


def assert_is_lu(a, found, *, tournament=False):
    """P A = L U of a `Placed` matrix; by partial pivoting, as LAPACK's sgetrf chooses."""
    piv, info = found
    before, lu, piv = wide(a._before[a.window]), wide(a.host()), piv.get()
    m, n = before.shape
    k = min(m, n)
    assert int(info[0]) == 0
    lower = np.tril(lu[:, :k], -1) + np.eye(m, k)
    error = norm(swapped(before, piv) - lower @ np.triu(lu[:k]))
    assert error <= allowed(max(m, n), np.float32) * norm(before)
    if not tournament:
        _, expected, _ = scipy.linalg.lapack.sgetrf(before.astype(np.float32))
        assert np.array_equal(piv, expected)
    a.assert_rest_untouched()
