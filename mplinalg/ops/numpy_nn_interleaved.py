"""Convolutions of many small images on the CPU: a register holds one pixel of each of them.

Which sizes take this road depends on shapes alone, not on what is asked for: results of a
convolution that is pooled at once have the same bits as those of one that is not.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .nn import Pair
from .numpy_batched_common import BYTE_RATE, compiled, flop_rate

Array = NDArray[Any]

__all__ = ["Kept", "correlate", "correlate_gradient", "pooled", "pooled_gradient", "takes"]

_REGISTER = 64
_FILLED = 0.75
"""Of the lanes, at least."""
_CACHED = 2**20
"""Bytes of a group of images, and of its output, that a thread keeps in its cache."""
_SUMS = 24
"""Registers for sums."""


class Kept(NamedTuple):
    """What the gradient of `pooled` needs."""

    images: Array
    which: Array
    size: Pair
    window: Pair


def takes(x_shape: tuple[int, ...], w_shape: tuple[int, ...], padding: Pair, itemsize: int) -> bool:
    """Whether images are many and small."""
    n, channels, height, width = x_shape
    filters, _, kh, kw = w_shape
    lanes = _REGISTER // itemsize
    wide = width + 2 * padding[1]
    across = wide - kw + 1
    outputs = (height + 2 * padding[0] - kh + 1) * across
    # the part of the lanes that is used; in kernels for single images, that of a row
    filled = n / (lanes * -(-n // lanes)) if n else 0.0
    return (
        filled >= max(_FILLED, across / wide)
        and kh * kw > 1  # else images are soon copied and hardly used
        and max(channels * height * wide, filters * outputs) * _REGISTER <= _CACHED
    )


def correlate(x: Array, w: Array, y: Array, padding: Pair) -> None:
    """y <- x correlated with w."""
    _convolve(_packed(x, padding[1]), w, None, padding, y, y.shape[2:], (0, 0), _nothing(x))


def correlate_gradient(x: Array, grad: Array, dw: Array, padding: Pair) -> None:
    """dw[o, c] <- sum_n of x[n, c] correlated with grad[n, o]."""
    _gradient(_packed(x, padding[1]), _packed(grad, 0), 0, grad.shape[3], dw, padding)


def pooled(x: Array, w: Array, b: Array, padding: Pair, window: Pair, y: Array) -> Kept:
    """y <- the largest entries of the windows of max(x correlated with w + b, 0)."""
    images = _packed(x, padding[1])
    size = tuple(
        length + 2 * zeros - k + 1
        for length, zeros, k in zip(x.shape[2:], padding, w.shape[2:], strict=True)
    )
    which = np.empty((len(images), *y.shape[1:], images.shape[4]), np.uint8)
    _convolve(images, w, b, padding, y, size, window, which)
    return Kept(images, which, (size[0], size[1]), window)


def pooled_gradient(
    grad: Array, w: Array, padding: Pair, kept: Kept, dx: Array | None, dw: Array | None
) -> Array:
    """dx and dw as far as they are wanted, and the gradient with respect to b."""
    images, which, size, window = kept
    groups, filters, *_, lanes = which.shape
    _, _, kh, kw = w.shape
    around = (kh - 1 - padding[0], kw - 1 - padding[1])
    left = 0 if dx is None else around[1]
    dy = np.empty((groups, filters, size[0], size[1] + 2 * left, lanes), grad.dtype)
    sums = np.empty((groups, filters, lanes), grad.dtype)
    spread = compiled("nn.groups").spread
    _run(
        lambda *some: spread(grad, which, window, left, dy, sums, *some),
        groups, dy.nbytes / groups / BYTE_RATE,
    )  # fmt: skip
    if dx is not None:
        turned = w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        _convolve(dy, turned, None, around, dx, dx.shape[2:], (0, 0), _nothing(grad))
    if dw is not None:
        _gradient(images, dy, left, size[1], dw, padding)
    return sums.sum(axis=(0, 2))


def _packed(x: Array, margin: int) -> Array:
    n, channels, height, width = x.shape
    lanes = _REGISTER // x.itemsize
    groups = -(-n // lanes)
    out = np.empty((groups, channels, height, width + 2 * margin, lanes), x.dtype)
    pack = compiled("nn.groups").pack
    _run(lambda *some: pack(x, margin, out, *some), groups, out.nbytes / groups / BYTE_RATE)
    return out


def _convolve(
    images: Array, w: Array, b: Array | None, padding: Pair, y: Array, size: Any, window: Pair,
    which: Array,
) -> None:  # fmt: skip
    groups, channels, height, wide, lanes = images.shape
    filters, _, kh, kw = w.shape
    rows, vectors = _tile(filters, size[1])
    blocks = -(-filters // rows)
    taps = channels * kh * kw
    packed = np.empty((blocks, taps, rows), y.dtype)
    by_rows = np.ascontiguousarray(w.transpose(0, 2, 1, 3)).reshape(filters, taps)
    compiled("nn.correlation").pack_weights(by_rows, packed)
    biases = np.zeros(blocks * rows, y.dtype)
    if b is not None:
        biases[:filters] = b
    offsets, _ = _offsets(channels, height, wide, kh, kw, lanes)
    run = compiled("nn.interleaved").convolution_kernel(rows, vectors)
    cost = 2.0 * taps * filters * size[0] * size[1] * lanes / flop_rate(y.dtype)
    _run(
        lambda *some: run(
            images, padding[0], kh, offsets, packed, biases, b is not None, y,
            (size[0], size[1]), window, which, *some,
        ),
        groups, cost,
    )  # fmt: skip


def _gradient(images: Array, dy: Array, left: int, width: int, dw: Array, padding: Pair) -> None:
    groups, channels, height, wide, lanes = images.shape
    filters, _, kh, kw = dw.shape
    taps = -(-kw // -(-kw // 6))
    most = min(8, _SUMS // taps)
    rows = -(-filters // -(-filters // most))
    _, offsets = _offsets(channels, height, wide, kh, kw, lanes)
    run = compiled("nn.interleaved").gradient_kernel(rows, taps)
    items = -(-filters // rows) * channels * kh * -(-kw // taps)
    cost = 2.0 * rows * taps * groups * dy.shape[2] * width * lanes / flop_rate(dw.dtype)
    target = dw.reshape(filters, -1)
    _run(
        lambda *some: run(
            images, padding[0], offsets, kh, kw, dy, left, width, target, *some
        ),
        items, cost,
    )  # fmt: skip


def _run(work: Any, count: int, cost: float) -> None:
    compiled("batched.threads").run_chunks(work, count, cost, 1)


def _nothing(like: Array) -> Array:
    return np.empty((0, 0, 0, 0, _REGISTER // like.itemsize), np.uint8)


@functools.cache
def _tile(filters: int, across: int) -> Pair:
    """Channels and neighbours that are summed up at once: cycles, of two products or loads each."""

    def cycles(tile: Pair) -> float:
        rows, vectors = tile
        count = -(-filters // rows) * -(-across // vectors)
        return count * (max(rows * vectors, 8) / 2 + 0.3 * (rows + vectors))

    tiles = itertools.product(range(1, min(filters, 8) + 1), range(1, min(across, 8) + 1))
    return min((tile for tile in tiles if tile[0] * tile[1] <= _SUMS), key=cycles)


@functools.lru_cache(64)
def _offsets(channels: int, height: int, wide: int, kh: int, kw: int, lanes: int) -> Any:
    """Where taps are, with rows of the kernel slowest, and in the order of weights."""
    c = np.arange(channels)[:, None, None] * height * wide
    u = np.arange(kh)[:, None] * wide
    all_ = (c + u + np.arange(kw)) * lanes
    return all_.transpose(1, 0, 2).ravel(), all_.ravel()
