"""The stand-in for CuPy as a fixture."""

from __future__ import annotations

from types import ModuleType

import pytest

from .install import cupy_on_host

__all__ = ["cupy_on_host"]


@pytest.fixture
def cupy(cupy_on_host: ModuleType) -> ModuleType:
    """`cupy`, as the library sees it."""
    return cupy_on_host
