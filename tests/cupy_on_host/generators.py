"""`cupy.random`: NumPy's numbers, made on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from .array import fresh, ndarray
from .dtypes import dtype_of


class Generator:
    """`cupy.random.Generator`."""

    def __init__(self, seed: Any = None) -> None:
        self._numpy = np.random.default_rng(seed)

    def _new(self, name: str, values: Any, dtype: Any) -> ndarray:
        return fresh(f"random.{name}", np.asarray(values, dtype_of(dtype)))

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> ndarray:
        return self._new("random", self._numpy.random(size), dtype)

    def standard_normal(
        self, size: Any = None, dtype: Any = np.float64, out: Any = None
    ) -> ndarray:
        return self._new("standard_normal", self._numpy.standard_normal(size), dtype)

    def uniform(
        self, low: float = 0.0, high: float = 1.0, size: Any = None, dtype: Any = np.float64
    ) -> ndarray:
        return self._new("uniform", self._numpy.uniform(low, high, size), dtype)

    def integers(
        self, low: int, high: int | None = None, size: Any = None, dtype: Any = np.int64,
        endpoint: bool = False,
    ) -> ndarray:  # fmt: skip
        values = self._numpy.integers(low, high, size, dtype, endpoint)
        return self._new("integers", values, dtype)


def default_rng(seed: Any = None) -> Generator:
    return seed if isinstance(seed, Generator) else Generator(seed)


FUNCTIONS = {"default_rng": default_rng}
