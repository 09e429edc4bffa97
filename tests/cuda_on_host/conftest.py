"""Fixtures of the kernels: in the emulator, and once on a device with ``pytest -m gpu``."""

from __future__ import annotations

import itertools
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue import FOLDER, KERNELS

from ..device import library
from .build import CXX, build
from .device_module import DeviceModule
from .module import Module

SCHEDULES = ("forward", "reverse", 1, 2)
"""Which thread goes next: lowest or highest index first, or at random by a seed."""

_SLOW = {"reverse", 2}
"""Schedules that are left to the slow tests."""
_AXES = {"schedule": SCHEDULES, "checked": (False, True)}
"""Fixtures, and what they are in turn."""


def _name(axis: str, value: object) -> str:
    return str(value) if axis == "schedule" else "checked" if value else "plain"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test runs in the emulator, in all ways that it asks for.

    One of `compiled` kernels runs on a device, too, once and in the first of these ways.
    """
    axes = [axis for axis in _AXES if axis in metafunc.fixturenames]
    with_device = "compiled" in metafunc.fixturenames
    names = [*axes, *(["compiled"] if with_device else [])]
    if not names:
        return
    sets = []
    for values in itertools.product(*(_AXES[axis] for axis in axes)):
        name = "-".join(map(_name, axes, values)) or "emulator"
        marks = [pytest.mark.slow] if _SLOW.intersection(values) else []
        values = (*values, *(["emulator"] if with_device else []))
        sets.append(pytest.param(*values, id=name, marks=marks))
    if with_device:
        first = [_AXES[axis][0] for axis in axes]
        sets.append(pytest.param(*first, "gpu", id="gpu", marks=pytest.mark.gpu))
    metafunc.parametrize(names, sets, indirect=True)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers seeded by the name of the test: on a device as in the emulator."""
    axes = [axis for axis in _AXES if axis in request.fixturenames]
    first = "-".join(_name(axis, _AXES[axis][0]) for axis in axes) or "emulator"
    name = request.node.nodeid.replace("[gpu", f"[{first}", 1)
    return np.random.default_rng(zlib.crc32(name.encode()))


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled kernels are kept; set MPLINALG_HOST_CACHE to keep them between runs."""
    if shutil.which(CXX) is None:
        pytest.skip(f"needs a C++ compiler, {CXX}")
    kept = os.environ.get("MPLINALG_HOST_CACHE")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("kernels")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def emulated(kernel_cache: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Module]]:
    """emulated("convert.cu", checked=True): the kernels of a file in the emulator.

    For tests of what only that can tell. A file outside the library is given by its path. What
    test_convert.py and its like need is compiled ahead, while other tests run.
    """
    found: dict[object, Future[Module]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def begin(file: str | Path, checked: bool) -> Future[Module]:
            if (file, checked) not in found:
                names = [k.name for k in KERNELS if k.file == file and k.is_template]
                found[file, checked] = pool.submit(
                    build, FOLDER / file, names, cache=kernel_cache, checked=checked
                )
            return found[file, checked]

        ahead = [item for item in request.session.items if not item.get_closest_marker("gpu")]
        for name in dict.fromkeys(item.path.stem for item in ahead):
            file = f"{name.removeprefix('test_')}.cu"
            if (FOLDER / file).exists():
                begin(file, False)
                begin(file, True)

        def get(file: str | Path, *, checked: bool = False) -> Module:
            return begin(file, checked).result()

        yield get
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def broken(kernel_cache: Path) -> Callable[..., Module]:
    """broken("convert.cu", edit, "convert<float, half>"): checked, the text changed by `edit`."""

    def get(file: str | Path, edit: Callable[[str], str], *names: str) -> Module:
        return build(FOLDER / file, names, cache=kernel_cache, checked=True, edit=edit)

    return get


@pytest.fixture
def on_device() -> Iterator[Callable[..., DeviceModule]]:
    """on_device("convert.cu"): the kernels of a file on a device, for tests that need one."""
    with library("gpu") as cupy:
        yield lambda file, *, checked=False: DeviceModule(file, cupy)


@pytest.fixture
def compiled(request: pytest.FixtureRequest) -> Callable[..., Module | DeviceModule]:
    """compiled("convert.cu"): the kernels of a file, ready to be launched on NumPy arrays.

    In the emulator as `emulated` has them or, with ``-m gpu``, on a device.
    """
    return request.getfixturevalue("emulated" if request.param == "emulator" else "on_device")


@pytest.fixture
def schedule(request: pytest.FixtureRequest) -> str | int:
    """Every schedule in turn."""
    return request.param


@pytest.fixture
def checked(request: pytest.FixtureRequest) -> bool:
    """Without and with the access checker."""
    return request.param
