"""Layers on images on the CPU: compiled kernels, threads over images and channels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..precision import Format
from . import numpy_nn_interleaved as interleaved
from . import numpy_nn_products as products
from .array_nn import ArrayNn
from .nn import Pair, Patches
from .numpy_batched_common import BYTE_RATE, compiled, flop_rate, powers_of_two, rounded

Array = NDArray[Any]

_STRIP = 2**19
"""Bytes of padded image, and of its output, that a thread keeps in its cache."""
_TAPS = 32
"""Channels of it that are summed up at a time."""
_REGISTER = 64
_FEW = 2**13
"""Logits up to which one loop is faster than passes of NumPy, whose exponentials are faster."""
_ROWS = 1024
"""Rows that are summed up one by one, before their sums are: a million in one go would cost single
precision four digits."""
_WINDOW = 255
"""Entries of a window whose places are numbered by one byte, and one number more."""


class NumpyNn(ArrayNn):
    """`mplinalg.ops.nn.NnOps` on NumPy arrays."""

    correlates = True
    column_bytes = 2**21
    tile_bytes = 2**21

    def __init__(self) -> None:
        super().__init__(np)

    def in_a_row(self) -> AbstractContextManager[None]:
        return products.in_a_row()

    def matmul(self, a: Array, b: Array) -> Array:
        return products.matmul(a, b)

    def im2col(self, x: Array, cols: Array, patches: Patches) -> None:
        flat, steps = _flat(cols)
        kernel = compiled("nn.columns").columns
        _run(lambda *some: kernel(x, flat, steps, *patches, *some), x, cols.nbytes)

    def col2im(self, cols: Array, x: Array, patches: Patches) -> None:
        flat, steps = _flat(cols)
        kernel = compiled("nn.columns").add_columns
        _run(lambda *some: kernel(flat, x, steps, *patches, *some), x, cols.nbytes)

    def correlate(
        self, x: Array, w: Array, y: Array, padding: Pair, compute: Format | None
    ) -> None:
        if compute is not None and not compute.is_native:
            x, power = _rounded(x, compute, x.shape[0])
            w, power_w = _rounded(w, compute, 1)
            self._correlate(x, w, y, padding)
            _scale(y, -(power + power_w), y)
        else:
            self._correlate(x, w, y, padding)

    def _correlate(self, x: Array, w: Array, y: Array, padding: Pair) -> None:
        if interleaved.takes(x.shape, w.shape, padding, x.itemsize):
            interleaved.correlate(x, w, y, padding)
            return
        kernels, threads = compiled("nn.correlation"), compiled("batched.threads")
        n, c, height, width = x.shape
        channels, _, kh, kw = w.shape
        rows_of_image, across = height + 2 * padding[0], width + 2 * padding[1]
        plane = rows_of_image * across
        blocks = -(-channels // 8)
        rows = -(-channels // blocks)
        vectors = 3 if rows > 4 else 6
        taps = c * kh * kw
        packed = np.empty((blocks, taps, rows), x.dtype)
        kernels.pack_weights(w.reshape(channels, taps), packed)
        offset = _offsets(c, kh, kw, plane, across)
        strip = min(max(1, _STRIP // (max(c, channels) * across * x.itemsize)), y.shape[2])
        strips = -(-y.shape[2] // strip)
        cost = 2.0 * taps * channels * strip * across / flop_rate(x.dtype)
        slack = vectors * _REGISTER // x.itemsize
        run = kernels.correlation_kernel(rows, vectors)
        step = max(1, self.column_bytes // (c * plane * x.itemsize))  # images
        for begin in range(0, n, step):
            images = x[begin : begin + step]
            count = len(images)
            space = _padded(images, padding, across, rows_of_image, slack)
            target = y[begin : begin + step]
            threads.run_chunks(
                lambda *some, space=space, target=target: run(
                    space, c * plane, across, offset, packed, target, strip, _TAPS * kh * kw, *some
                ),
                count * strips, cost, 1,
            )  # fmt: skip

    def correlate_gradient(
        self, x: Array, grad: Array, dw: Array, padding: Pair, compute: Format | None
    ) -> None:
        if compute is not None and not compute.is_native:
            x, power = _rounded(x, compute, 1)
            grad, power_g = _rounded(grad, compute, 1)
            self._correlate_gradient(x, grad, dw, padding)
            _scale(dw, -(power + power_g), dw)
        else:
            self._correlate_gradient(x, grad, dw, padding)

    def _correlate_gradient(self, x: Array, grad: Array, dw: Array, padding: Pair) -> None:
        if interleaved.takes(x.shape, dw.shape, padding, x.itemsize):
            interleaved.correlate_gradient(x, grad, dw, padding)
            return
        n, c, height, width = x.shape
        channels, _, kh, kw = dw.shape
        down, across = grad.shape[2:]
        lanes = _REGISTER // x.itemsize
        wide = width + 2 * padding[1]
        count = -(-((down - 1) * wide + across) // lanes)
        # a plane of dy is a whole number of registers, one of x has zeros to read beyond its end
        rows = -(-count * lanes // wide)
        x_rows = height + 2 * padding[0] + -(-lanes // wide)
        space = _padded(x, padding, wide, x_rows)
        spread = _padded(grad, (0, 0), wide, rows)
        offset = _offsets(c, kh, kw, x_rows * wide, wide)
        taps = min((6, 5, 4), key=lambda size: -(-offset.size // size) * size)
        some = -(-channels // -(-channels // 4))
        run = compiled("nn.correlation_gradient").gradient_kernel(some, taps)
        items = -(-channels // some) * -(-offset.size // taps)
        cost = 2.0 * some * taps * n * count * lanes / flop_rate(x.dtype)
        target = dw.reshape(channels, -1)
        compiled("batched.threads").run_chunks(
            lambda *part: run(
                space, c * x_rows * wide, offset, spread, channels * rows * wide, rows * wide,
                n, count, target, *part,
            ),
            items, cost, 1,
        )  # fmt: skip

    def pools(self, x: Array, w: Array, padding: Pair, window: Pair) -> bool:
        (_, channels, height, width), (filters, _, kh, kw) = x.shape, w.shape
        if padding[0] >= kh or padding[1] >= kw or math.prod(window) > _WINDOW:
            return False
        dy = len(x), filters, height + 2 * padding[0] - kh + 1, width + 2 * padding[1] - kw + 1
        if dy[2] < window[0] or dy[3] < window[1]:
            return False
        around = kh - 1 - padding[0], kw - 1 - padding[1]
        return interleaved.takes(x.shape, w.shape, padding, x.itemsize) and interleaved.takes(
            dy, (channels, filters, kh, kw), around, x.itemsize
        )

    def correlate_pool(
        self, x: Array, w: Array, b: Array, y: Array, padding: Pair, window: Pair
    ) -> Any:
        return interleaved.pooled(x, w, b, padding, window, y)

    def correlate_pool_gradient(
        self, grad: Array, w: Array, kept: Any, padding: Pair, dx: Array | None, dw: Array | None
    ) -> Array:
        return interleaved.pooled_gradient(grad, w, padding, kept, dx, dw)

    def add_bias(self, y: Array, b: Array | None, relu: bool) -> None:
        if b is None:
            super().add_bias(y, b, relu)
            return
        kernels, threads = compiled("nn.activations"), compiled("batched.threads")
        if y.ndim == 2:
            kernel, count = kernels.add_bias, len(y)
        else:
            y = y.reshape(*y.shape[:2], math.prod(y.shape[2:]))
            kernel, count = kernels.add_bias_to_planes, y.shape[0] * y.shape[1]
        cost = 2 * y.nbytes / max(count, 1) / BYTE_RATE
        threads.run_chunks(lambda *some: kernel(y, b, relu, *some), count, cost, 1)

    def bias_gradient(self, grad: Array, y: Array | None) -> tuple[Array, Array]:
        kernels, threads = compiled("nn.activations"), compiled("batched.threads")
        grad = np.ascontiguousarray(grad)
        n, channels = grad.shape[:2]
        kernel, grain = kernels.masked_sums, _REGISTER
        flat = grad
        if grad.ndim > 2:
            kernel, grain = kernels.masked_sums_of_planes, 1
            flat = grad.reshape(n, channels, math.prod(grad.shape[2:]))
        like, out = flat[:0], flat
        if y is not None:
            like, out = y.reshape(flat.shape), np.empty_like(flat)
        blocks = [slice(k, k + _ROWS) for k in range(0, max(n, 1), _ROWS)]
        sums = np.empty((len(blocks), channels), grad.dtype)

        def add_up(first: int, last: int) -> None:
            for rows, db in zip(blocks, sums, strict=True):
                kernel(flat[rows], like[rows], out[rows], db, first, last)

        cost = 3 * grad.nbytes / max(channels, 1) / BYTE_RATE
        threads.run_chunks(add_up, channels, cost, grain)
        return out.reshape(grad.shape), sums[0] if len(sums) == 1 else sums.sum(axis=0)

    def softmax_loss(self, z: Array, labels: Array, dz: Array) -> Any:
        if z.size > _FEW or z.dtype != dz.dtype:
            return super().softmax_loss(z, labels, dz)
        labels = labels.astype(np.int64, copy=False)  # of any byte order, by one kernel
        loss = compiled("nn.activations").softmax_loss(np.ascontiguousarray(z), labels, dz)
        return dz.dtype.type(loss)

    def image_tiles(self, x: Array, v: Array, patches: Patches, begin: int, end: int) -> None:
        down, across = (-(-size // 2) for size in patches.out)
        kernel = compiled("nn.winograd").image_tiles
        _by_channel(lambda *some: kernel(x, v, patches.padding, down, across, begin, end, *some), v)

    def output_from_tiles(self, m: Array, y: Array, begin: int, end: int) -> None:
        down, across = (-(-size // 2) for size in y.shape[2:])
        kernel = compiled("nn.winograd").output_from_tiles
        _by_channel(lambda *some: kernel(m, y, down, across, begin, end, *some), m)

    def output_tiles(self, y: Array, m: Array, begin: int, end: int) -> None:
        down, across = (-(-size // 2) for size in y.shape[2:])
        kernel = compiled("nn.winograd").output_tiles
        _by_channel(lambda *some: kernel(y, m, down, across, begin, end, *some), m)


@functools.lru_cache(maxsize=256)
def _offsets(channels: int, kh: int, kw: int, plane: int, across: int) -> Array:
    """Where the terms of a sum are, from the first one on."""
    lines = np.arange(channels)[:, None, None] * plane + np.arange(kh)[:, None] * across
    return (lines + np.arange(kw)).ravel()


def _padded(x: Array, padding: Pair, across: int, rows: int, slack: int = 0) -> Array:
    """Planes of x with zeros around, flat: `rows` lines of `across` numbers each; zeros behind."""
    n, c, height, width = x.shape
    space = np.empty(n * c * rows * across + slack, x.dtype)
    space[n * c * rows * across :] = 0
    if (rows, across) == (height, width):
        space[: x.size] = x.reshape(-1)
        return space
    pad, planes = compiled("nn.correlation").pad, x.reshape(n * c, height, width)
    compiled("batched.threads").run_chunks(
        lambda *some: pad(planes, *padding, across, rows, space, *some),
        n * c, rows * across * x.itemsize / BYTE_RATE, 1,
    )  # fmt: skip
    return space


def _flat(cols: Array) -> tuple[Array, Pair]:
    """The numbers of columns (N, K, P) in one dimension; steps of an image and of a row."""
    assert cols.strides[2] == cols.itemsize or cols.shape[2] <= 1
    steps = cols.strides[0] // cols.itemsize, cols.strides[1] // cols.itemsize
    n, k, p = cols.shape
    extent = (n - 1) * steps[0] + (k - 1) * steps[1] + p
    return np.lib.stride_tricks.as_strided(cols, (extent,), (cols.itemsize,)), steps


def _run(work: Callable[[int, int], Any], x: Array, moved: int) -> None:
    """``work(first, last)`` for channels of all images, which move so many bytes."""
    count = x.shape[0] * x.shape[1]
    compiled("batched.threads").run_chunks(work, count, moved / count / BYTE_RATE, 1)


def _by_channel(work: Callable[[int, int], Any], tiles: Array) -> None:
    channels = tiles.shape[1]
    cost = tiles.nbytes / channels / BYTE_RATE
    compiled("batched.threads").run_chunks(work, channels, cost, 1)


def _rounded(x: Array, fmt: Format, count: int) -> tuple[Array, Array]:
    """Each of `count` parts of x times a power of two, rounded; and the powers, (count, 1, 1, 1).

    What is infinite or NaN has no influence on the power.
    """
    parts = x.reshape(count, 1, math.prod(x.shape) // count)
    power = np.zeros((count, 1, 1), np.int64)
    if fmt.needs_scaling:
        top = np.maximum(
            parts.max(axis=(1, 2), keepdims=True, initial=0.0),
            -parts.min(axis=(1, 2), keepdims=True, initial=0.0),
        )
        if not np.isfinite(top).all():
            sizes = np.abs(parts)
            top = np.max(sizes, axis=(1, 2), keepdims=True, initial=0.0, where=np.isfinite(sizes))
        power = powers_of_two(top, fmt)
        parts = np.empty_like(parts)
        _scale(x.reshape(parts.shape), power, parts)
    (low,) = rounded(parts, None, fmt, np.dtype(np.float32))
    return low.reshape(x.shape), power.reshape(count, 1, 1, 1)


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def _scale(x: Array, power: Array, out: Array) -> None:
    """out <- x 2^power; by a product where the power is a normal number, which is as exact."""
    if out is x and not power.any():
        return
    if power.size and np.abs(power).max() < -np.finfo(x.dtype).minexp:
        np.multiply(x, np.ldexp(x.dtype.type(1), power), out=out)
    else:
        np.ldexp(x, power, out=out)
