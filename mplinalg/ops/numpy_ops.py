"""The CPU backend: SciPy's BLAS and LAPACK, and Numba kernels.

Numba is imported at the first call that needs a kernel.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu import crew, routines
from ..precision import FP32
from .numpy_factors import Factorizations
from .numpy_products import Products
from .numpy_residual import Residuals
from .numpy_systems import Systems

Array = NDArray[Any]


_RATE = 1e11
"""Flops per second of a thread, roughly."""


class NumpyOps(Products, Factorizations, Systems, Residuals):
    """`mplinalg.ops.DirectOps` on NumPy arrays."""

    name = "numpy"
    xp = np
    fast_formats = (FP32,)
    flushes = False
    notes: tuple[str, ...] = ()
    refines_from = 1
    device = f"{platform.machine()}-{os.cpu_count()}"

    @property
    def side_by_side(self) -> int:
        return crew.crew_size()

    def serial(self) -> AbstractContextManager[None]:
        return crew.serial_blas()

    def each(
        self, work: Callable[[Any], Any], items: Sequence[Any], flops: float = 1e12
    ) -> list[Any]:
        return crew.run_each(work, items, flops / _RATE)

    def synchronize(self) -> None:
        pass

    @staticmethod
    def is_f_like(a: Array) -> bool:
        return routines.is_f_like(a)
