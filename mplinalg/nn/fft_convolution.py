"""Convolution by the fast Fourier transform: a small matrix product for each frequency.

With hats for two-dimensional transforms of length L >= H + p (down, and likewise across),

    y^(n, o) = sum_c x^(n, c) conj w^(o, c),      dx^(n, c) = sum_o dy^(n, o) w^(o, c),
    dw^(o, c) = sum_n conj dy^(n, o) x^(n, c);

y stands at the places i s - p (mod L) of its transform, dx from p on, and dw at u - p; dy is spread
out with s - 1 zeros between its numbers. What wraps around falls on places that nobody reads.

References
----------
Mathieu, Henaff and LeCun, Int. Conf. Learning Representations (2014).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops.dispatch import batched_ops_for, ops_for
from ..precision import Format
from .geometry import Geometry, ranges

Array = Any

__all__ = ["forward", "input_gradient", "weight_gradient"]

_WORKSPACE = 2**28
"""Bytes of transforms, roughly; of an image and a filter there is always room."""


def forward(x: Array, w: Array, g: Geometry, compute: Format | None) -> Array:
    """y, of contiguous x and w."""
    plan = _Plan(x, g)
    y = plan.xp.empty(g.y_shape, x.dtype)
    for first, last in plan.images:
        images = plan.spectra(x[first:last])
        for begin, end in plan.filters:
            # Y_f = X_f W_f^H
            result = plan.product(images, plan.spectra(w[begin:end]), "N", "C", compute)
            y[first:last, begin:end] = plan.picked(result, plan.at_outputs())
    return y


def input_gradient(grad: Array, w: Array, g: Geometry, compute: Format | None) -> Array:
    """dx, of contiguous dy and w."""
    plan = _Plan(grad, g)
    dx = plan.xp.empty(g.x_shape, grad.dtype)
    for first, last in plan.images:
        result = None
        for begin, end in plan.filters:
            # X_f <- X_f + Y_f W_f
            dy = plan.spectra(plan.spread(grad[first:last, begin:end]))
            result = plan.product(dy, plan.spectra(w[begin:end]), "N", "N", compute, result)
        dx[first:last] = plan.picked(result, plan.at_inputs())
    return dx


def weight_gradient(grad: Array, x: Array, g: Geometry, compute: Format | None) -> Array:
    """dw, of contiguous dy and x."""
    plan = _Plan(x, g)
    dw = plan.xp.empty(g.w_shape, x.dtype)
    for begin, end in plan.filters:
        result = None
        for first, last in plan.images:
            # W_f <- W_f + Y_f^H X_f
            dy = plan.spectra(plan.spread(grad[first:last, begin:end]))
            result = plan.product(dy, plan.spectra(x[first:last]), "C", "N", compute, result)
        dw[begin:end] = plan.picked(result, plan.at_kernel())
    return dw


class _Plan:
    """Lengths of transforms, blocks of images and filters, and moves between the two."""

    def __init__(self, like: Array, g: Geometry) -> None:
        self.xp, self._ops, self._g = ops_for(like).xp, batched_ops_for(like), g
        patches = g.patches
        self._spread = tuple(
            (n - 1) * s + 1 for n, s in zip(patches.out, patches.stride, strict=True)
        )
        self._length = tuple(
            _fast_length(max(n + p, k, long))
            for n, p, k, long in zip(
                g.size, patches.padding, patches.kernel, self._spread, strict=True
            )
        )
        frequencies = self._length[0] * (self._length[1] // 2 + 1)
        one = frequencies * 2 * like.itemsize * (g.channels + g.filters)
        step = max(1, _WORKSPACE // (4 * one))
        self.images = list(ranges(g.images, step))
        self.filters = list(ranges(g.filters, step))

    def spectra(self, a: Array) -> Array:
        """(F, m, n): the transforms of (m, n) planes."""
        m, n = a.shape[:2]
        with np.errstate(invalid="ignore"):  # infinite numbers become NaN
            found = self.xp.fft.rfft2(a, s=self._length, axes=(2, 3)).reshape(m, n, -1)
        return self.xp.ascontiguousarray(found.transpose(2, 0, 1))

    def product(
        self, a: Array, b: Array, transa: str, transb: str, compute: Format | None,
        added: Array | None = None,
    ) -> Array:  # fmt: skip
        """op(A_f) op(B_f) for all frequencies, plus what is `added`, in place of it."""
        m = a.shape[1] if transa == "N" else a.shape[2]
        n = b.shape[2] if transb == "N" else b.shape[1]
        result = self.xp.empty((len(a), m, n), a.dtype) if added is None else added
        self._ops.gemm_batched(
            1.0, a, b, float(added is not None), result, transa=transa, transb=transb,
            compute=compute,
        )  # fmt: skip
        return result

    def picked(self, spectra: Array, places: tuple[Array, Array]) -> Array:
        """The planes (m, n, ., .) of transforms at some places down and across."""
        _, m, n = spectra.shape
        planes = self.xp.ascontiguousarray(spectra.transpose(1, 2, 0))
        planes = planes.reshape(m, n, self._length[0], -1)
        with np.errstate(invalid="ignore"):
            planes = self.xp.fft.irfft2(planes, s=self._length, axes=(2, 3))
        return planes[:, :, places[0][:, None], places[1][None, :]]

    def spread(self, grad: Array) -> Array:
        """dy with zeros between its numbers."""
        stride = self._g.patches.stride
        if stride == (1, 1):
            return grad
        wide = self.xp.zeros((*grad.shape[:2], *self._spread), grad.dtype)
        wide[:, :, :: stride[0], :: stride[1]] = grad
        return wide

    def at_outputs(self) -> tuple[Array, Array]:
        """i s - p."""
        patches = self._g.patches
        return self._places(patches.out, patches.stride, [-p for p in patches.padding])

    def at_inputs(self) -> tuple[Array, Array]:
        """p + q."""
        return self._places(self._g.size, (1, 1), self._g.patches.padding)

    def at_kernel(self) -> tuple[Array, Array]:
        """u - p."""
        patches = self._g.patches
        return self._places(patches.kernel, (1, 1), [-p for p in patches.padding])

    def _places(self, counts: Any, steps: Any, starts: Any) -> tuple[Array, Array]:
        down, across = (
            (start + self.xp.arange(count) * step) % length
            for count, step, start, length in zip(counts, steps, starts, self._length, strict=True)
        )
        return down, across


def _fast_length(n: int) -> int:
    """The smallest product of powers of 2, 3 and 5 that is at least n.

    >>> [_fast_length(n) for n in (1, 7, 226)]
    [1, 8, 240]
    """
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
