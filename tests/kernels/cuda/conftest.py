"""Fixtures of the CUDA backend's host code, run over the stand-in for CuPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ...cupy_on_host.install import cupy_on_host, forbidden_transfers, recorded

__all__ = ["cupy_on_host"]


@pytest.fixture
def cupy(cupy_on_host: ModuleType) -> ModuleType:
    """`cupy`, as the library sees it."""
    return cupy_on_host


@pytest.fixture
def on_device(cupy: ModuleType) -> Any:
    """Carries matrices there and back, for `Placed`."""

    def to_device(x: np.ndarray) -> Any:
        return cupy.array(x, order="F" if x.flags.f_contiguous else "C")

    return SimpleNamespace(to_device=to_device, to_host=lambda x: x.get())


@pytest.fixture
def nothing_crosses() -> Callable[[], AbstractContextManager[None]]:
    """with nothing_crosses(): no transfer between host and device, and no wait of the host."""

    @contextmanager
    def check() -> Iterator[None]:
        with forbidden_transfers(), recorded() as ledger:
            yield
        assert not ledger.syncs

    return check
