"""Operands of cuBLAS and cuSOLVER, for the tests of the stand-in."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

KINDS = {"s": "float32", "d": "float64", "c": "complex64", "z": "complex128"}


class On:
    """A matrix by columns within a larger one, `ld` apart."""

    def __init__(self, cupy: ModuleType, x: Any, ld: int | None = None, dtype: Any = None) -> None:
        x = np.atleast_2d(np.asarray(x, dtype))
        self.ld = x.shape[0] + 3 if ld is None else ld
        around = np.full((self.ld, x.shape[1] + 2), 77, x.dtype, order="F")
        around[: x.shape[0], : x.shape[1]] = x
        self.all, self._shape = cupy.asarray(around), x.shape
        self.ptr = self.all.data.ptr

    def get(self) -> np.ndarray:
        return self.all.get()[: self._shape[0], : self._shape[1]]

    def rest_is_untouched(self) -> bool:
        after = self.all.get()
        after[: self._shape[0], : self._shape[1]] = 77
        return bool((after == 77).all())


def at(value: Any, dtype: Any) -> tuple[int, np.ndarray]:
    """A number of the host, by its address; kept alive by the second."""
    held = np.array([value], dtype)
    return held.ctypes.data, held
