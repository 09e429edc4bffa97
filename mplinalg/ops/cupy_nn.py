"""Layers on a device: kernels of the library; functions of CuPy where they are not to be had."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from ..kernels.cuda import fallbacks, loader, training
from ..kernels.cuda.loader import KernelUnavailable
from .array_nn import ArrayNn
from .nn import Array, Patches

__all__ = ["CupyNn", "is_taken"]


def is_taken(*arrays: Array) -> bool:
    """Whether kernels are for such arrays, and the device takes them; if not, a note says why."""
    if not training.is_taken(*arrays):
        return False
    try:
        loader.load("add_bias<float, true>")
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        return False
    return True


class CupyNn(ArrayNn):
    """`mplinalg.ops.nn.NnOps` on CuPy arrays."""

    def __init__(self) -> None:
        super().__init__(cupy)
        self._constants: dict[tuple[int, int, str], tuple[Any, Array]] = {}

    def im2col(self, x: Array, cols: Array, patches: Patches) -> None:
        if is_taken(x, cols) and x.flags.c_contiguous:
            training.im2col(x, cols, _flat(patches))
        else:
            super().im2col(x, cols, patches)

    def col2im(self, cols: Array, x: Array, patches: Patches) -> None:
        if is_taken(x, cols) and x.flags.c_contiguous:
            training.col2im(cols, x, _flat(patches))
        else:
            super().col2im(cols, x, patches)

    def add_bias(self, y: Array, b: Array | None, relu: bool) -> None:
        if not is_taken(y):
            super().add_bias(y, b, relu)
        elif b is not None or relu:
            training.add_bias(y, b, relu=relu)

    def bias_gradient(self, grad: Array, y: Array | None) -> tuple[Array, Array]:
        if is_taken(grad):
            return training.mask_and_sum(grad, y)
        return super().bias_gradient(grad, y)

    def softmax_loss(self, z: Array, labels: Array, dz: Array) -> Any:
        if is_taken(z) and z.dtype == dz.dtype:
            return training.softmax_loss(z, labels, dz)
        return super().softmax_loss(z, labels, dz)

    def max_pool(self, x: Array, patches: Patches) -> Array:
        if is_taken(x):
            return training.max_pool(x, _flat(patches))
        return super().max_pool(x, patches)

    def max_pool_gradient(self, grad: Array, x: Array, y: Array, patches: Patches) -> Array:
        if is_taken(grad, x, y):
            return training.max_pool_gradient(grad, x, y, _flat(patches))
        return super().max_pool_gradient(grad, x, y, patches)

    def constant(self, a: Any, dtype: Any) -> Array:
        key = cupy.cuda.get_device_id(), id(a), np.dtype(dtype).char
        found = self._constants.get(key)
        if found is None:
            found = a, cupy.asarray(a, dtype)
            # other streams will read it, and are not ordered after this one
            cupy.cuda.get_current_stream().synchronize()
            self._constants[key] = found
        return found[1]


def _flat(patches: Patches) -> tuple[int, ...]:
    return (*patches.kernel, *patches.stride, *patches.padding, *patches.out)
