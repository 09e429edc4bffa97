"""Fixtures that every test may use: where arrays live (`backend`) and random numbers (`rng`)."""

from __future__ import annotations

import importlib.util
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import hypothesis
import numpy as np
import pytest
import scipy.linalg  # noqa: F401  (loads the BLAS whose threads are limited below)
import threadpoolctl

# Compiling a Numba kernel takes longer than Hypothesis' default deadline; the same examples every
# time, so that a failure seen in one run is seen in the next.
hypothesis.settings.register_profile(
    "mplinalg", deadline=None, derandomize=True, database=None, max_examples=50
)
hypothesis.settings.load_profile("mplinalg")

# Not named test_*.py; have its assertions explained all the same.
pytest.register_assert_rewrite("tests.ops.helpers")

# The wheels of NumPy and SciPy carry a BLAS each. Beside another busy process their spinning
# threads make small problems a hundred times slower; dense/test_threads.py takes all threads.
for _library in threadpoolctl.ThreadpoolController().lib_controllers:
    if _library.user_api == "blas":
        _library.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Rates measured here earlier do not decide what the tests see, and none are left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLINALG_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass(frozen=True)
class Backend:
    """Where the arrays of a test live.

    `xp` is the array namespace (numpy or cupy), `array` moves test data there, and `numpy` brings
    a result back to be judged, after checking that it was left where it belongs.
    """

    name: str
    xp: ModuleType

    def array(self, x: Any, **kwargs: Any) -> Any:
        return self.xp.asarray(x, **kwargs)

    def numpy(self, x: Any) -> np.ndarray:
        assert isinstance(x, self.xp.ndarray | np.generic), f"{type(x)} is not on {self.name}"
        return x.get() if hasattr(x, "get") else np.asarray(x)


def _cupy_or_reason() -> ModuleType | str:
    if importlib.util.find_spec("mplinalg.ops.cupy_ops") is None:
        return "this mplinalg has no CUDA backend"
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no CUDA device: {error}"
    return cupy


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Runs the test once per backend; `cupy` is skipped where there is no device.

    With MPLINALG_REQUIRE_GPU=1 a missing device is a failure.
    """
    if request.param == "numpy":
        return Backend("numpy", np)
    found = _cupy_or_reason()
    if isinstance(found, str):
        if os.environ.get("MPLINALG_REQUIRE_GPU") == "1":
            pytest.fail(f"MPLINALG_REQUIRE_GPU=1, but {found}")
        pytest.skip(found)
    return Backend("cupy", found)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers seeded by the name of the test: the same alone as among others."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
