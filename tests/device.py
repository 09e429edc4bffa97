"""CuPy on a GPU, or the stand-in that plays its part on the host."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator
from types import ModuleType

import pytest

from .cupy_on_host.install import installed

KINDS = ["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)]
"""Parameters of a fixture that enters `library`."""


@functools.cache
def _cupy_or_reason() -> ModuleType | str:
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no CUDA device: {error}"
    return cupy


@contextlib.contextmanager
def library(kind: str) -> Iterator[ModuleType]:
    """CuPy for a kind of `KINDS`; a test is skipped where there is no GPU.

    With MPLINALG_REQUIRE_GPU=1 a missing GPU is a failure.
    """
    found = _cupy_or_reason()  # before the stand-in takes its place
    if kind == "stand-in":
        with installed() as module:
            yield module
        return
    if isinstance(found, str):
        if os.environ.get("MPLINALG_REQUIRE_GPU") == "1":
            pytest.fail(f"MPLINALG_REQUIRE_GPU=1, but {found}")
        pytest.skip(found)
    yield found


def is_stand_in(cupy: ModuleType) -> bool:
    """Whether what a test has is not CuPy."""
    return cupy is not _cupy_or_reason()


@pytest.fixture(params=KINDS)
def cupy(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """CuPy: the stand-in, and with ``-m gpu`` the real one."""
    with library(request.param) as module:
        yield module


@pytest.fixture
def stand_in(cupy: ModuleType) -> ModuleType:
    """The stand-in alone, for what only it can tell."""
    if not is_stand_in(cupy):
        pytest.skip("asks what only the stand-in for CuPy can tell")
    return cupy
