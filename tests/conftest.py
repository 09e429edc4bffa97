"""Fixtures that every test may use."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg  # noqa: F401  (loads the BLAS whose threads are limited below)
import threadpoolctl

from mplinalg.kernels.cpu.batched.threads import blas_threads

try:
    import hypothesis
except ImportError:  # a machine with a GPU may not have it; few tests need it, and they skip
    pass
else:
    # Compiling a Numba kernel takes longer than Hypothesis' default deadline; the same examples
    # every time, so that a failure seen in one run is seen in the next.
    hypothesis.settings.register_profile(
        "mplinalg", deadline=None, derandomize=True, database=None, max_examples=50
    )
    hypothesis.settings.load_profile("mplinalg")

# Not named test_*.py; have its assertions explained all the same.
pytest.register_assert_rewrite(
    "tests.batched.lists",
    "tests.batched.products",
    "tests.batched.systems",
    "tests.dense.tall",
    "tests.ops.cupy_backend",
    "tests.ops.helpers",
    *(f"tests.ops.{path.stem}" for path in (Path(__file__).parent / "ops").glob("suite_*.py")),
)

# The wheels of NumPy and SciPy carry a BLAS each. Beside another busy process their spinning
# threads make small problems a hundred times slower; dense/test_threads.py takes all threads.
for _library in threadpoolctl.ThreadpoolController().lib_controllers:
    if _library.user_api == "blas":
        _library.set_num_threads(1)


_KERNELS = "MPLINALG_HOST_CACHE"


def pytest_configure(config: pytest.Config) -> None:
    """CUDA kernels that are compiled for the host are shared by all processes of this run.

    Set MPLINALG_HOST_CACHE to keep them for the next one.
    """
    if _KERNELS not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="mplinalg-kernels-")
        config.add_cleanup(folder.cleanup)
        config.add_cleanup(lambda: os.environ.pop(_KERNELS, None))
        os.environ[_KERNELS] = folder.name


_SAMPLED = (
    "tests/ops/test_cupy_ops.py::TestCupyOps",
    "tests/dense/test_device_lstsq.py",
    "tests/dense/test_device_qr.py",
    "tests/dense/test_device_qr_parts.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of large families that run in the emulator of kernels every third test; the others are slow.

    Which ones follows from their names, not from their file; of every function one at least. On a
    GPU all of them run.
    """
    families: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.nodeid.startswith(_SAMPLED) and "stand-in" in item.name:
            families.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for family in families.values():
        chosen = {item for item in family if zlib.crc32(item.name.encode()) % 3 == 0}
        for item in family:
            if item not in (chosen or family[:1]):
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Rates measured here earlier do not decide what the tests see, and none are left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLINALG_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers seeded by the name of the test: the same alone as among others."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many SciPy's BLAS may use meanwhile."""
    with threadpoolctl.threadpool_limits(request.param, "blas"):
        if blas_threads() < request.param:
            pytest.skip("SciPy's BLAS has fewer threads")
        yield request.param
