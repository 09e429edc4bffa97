"""Layers on images by slices of arrays: for devices, and to compare compiled kernels with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..precision import Format
from .nn import Array, Pair, Patches

__all__ = ["ArrayNn"]


class ArrayNn:
    """`mplinalg.ops.nn.NnOps` in an array namespace, without `correlate`."""

    correlates = False
    column_bytes = 2**28
    tile_bytes = 2**28

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def in_a_row(self) -> AbstractContextManager[None]:
        return nullcontext()

    def matmul(self, a: Array, b: Array) -> Array:
        return self.xp.matmul(a, b)

    def im2col(self, x: Array, cols: Array, patches: Patches) -> None:
        padded, slices = self._padded(x, patches), _slices(patches)
        n, c = x.shape[:2]
        (kh, kw), (rows, across) = patches.kernel, patches.out
        for k, (down, right) in enumerate(slices):
            part = padded[:, :, down, right].reshape(n, c, rows * across)
            cols[:, k :: kh * kw, :] = part

    def col2im(self, cols: Array, x: Array, patches: Patches) -> None:
        padded, slices = self._padded(self.xp.zeros_like(x), patches), _slices(patches)
        n, c, height, width = x.shape
        kh, kw = patches.kernel
        for k, (down, right) in enumerate(slices):
            padded[:, :, down, right] += cols[:, k :: kh * kw, :].reshape(n, c, *patches.out)
        top, left = patches.padding
        x[...] = padded[:, :, top : top + height, left : left + width]

    def correlate(
        self, x: Array, w: Array, y: Array, padding: Pair, compute: Format | None
    ) -> None:
        raise NotImplementedError

    def correlate_gradient(
        self, x: Array, grad: Array, dw: Array, padding: Pair, compute: Format | None
    ) -> None:
        raise NotImplementedError

    def pools(self, x: Array, w: Array, padding: Pair, window: Pair) -> bool:
        return False

    def correlate_pool(
        self, x: Array, w: Array, b: Array, y: Array, padding: Pair, window: Pair
    ) -> Any:
        raise NotImplementedError

    def correlate_pool_gradient(
        self, grad: Array, w: Array, kept: Any, padding: Pair, dx: Array | None, dw: Array | None
    ) -> Array:
        raise NotImplementedError

    def add_bias(self, y: Array, b: Array | None, relu: bool) -> None:
        if b is not None:
            y += b.reshape(-1, *[1] * (y.ndim - 2))
        if relu:
            self.xp.maximum(y, 0, out=y)

    def bias_gradient(self, grad: Array, y: Array | None) -> tuple[Array, Array]:
        if y is not None:
            grad = self.xp.where(y > 0, grad, grad.dtype.type(0))
        return grad, grad.sum(axis=(0, *range(2, grad.ndim)))

    def softmax_loss(self, z: Array, labels: Array, dz: Array) -> Any:
        xp = self.xp
        # in place: z - max,   e^(z - max),   softmax,   its difference from one-hot, over N
        with np.errstate(invalid="ignore"):  # of infinite logits the loss is NaN
            xp.subtract(z, z.max(axis=1, keepdims=True), out=dz, dtype=dz.dtype)
        at_labels = xp.arange(len(z)), labels
        chosen = dz[at_labels]
        xp.exp(dz, out=dz)
        sums = dz.sum(axis=1)
        dz /= sums[:, None]
        dz[at_labels] -= 1
        dz *= 1 / len(z)
        return (xp.log(sums) - chosen).mean()

    def max_pool(self, x: Array, patches: Patches) -> Array:
        padded = self._padded(x, patches, -np.inf)
        first, *others = _slices(patches)
        y = padded[:, :, *first].copy()
        for place in others:
            self.xp.maximum(y, padded[:, :, *place], out=y)
        return y

    def max_pool_gradient(self, grad: Array, x: Array, y: Array, patches: Patches) -> Array:
        xp = self.xp
        padded = self._padded(x, patches, -np.inf)
        dx = xp.zeros(padded.shape, grad.dtype)
        is_free = xp.ones(grad.shape, bool)
        overlap = any(k > s for k, s in zip(patches.kernel, patches.stride, strict=True))
        for place in _slices(patches):
            slot = dx[:, :, *place]
            is_first = padded[:, :, *place] == y
            is_first &= is_free
            if overlap:
                slot += grad * is_first
            else:
                xp.multiply(grad, is_first, out=slot)
            is_free ^= is_first
        if dx.shape == x.shape:
            return dx
        (top, left), (height, width) = patches.padding, x.shape[2:]
        return dx[:, :, top : top + height, left : left + width]

    def constant(self, a: Any, dtype: Any) -> Array:
        return self.xp.asarray(a, dtype)

    def image_tiles(self, x: Array, v: Array, patches: Patches, begin: int, end: int) -> None:
        down, across = _tiles(patches.out)
        first, last = begin // down, -(-end // down)
        whole = patches._replace(out=(2 * down, 2 * across))
        padded = self._padded(x[first:last], whole)
        d = [
            [padded[:, :, a : a + 2 * down - 1 : 2, b : b + 2 * across - 1 : 2] for b in range(4)]
            for a in range(4)
        ]
        rows = [_taken(line) for line in zip(*d, strict=True)]  # by columns of the patch
        tiles = [_taken([rows[b][a] for b in range(4)]) for a in range(4)]
        self._store([t for line in tiles for t in line], v, begin - first * down, end - begin)

    def output_from_tiles(self, m: Array, y: Array, begin: int, end: int) -> None:
        height, width = y.shape[2:]
        down, across = _tiles((height, width))
        first, last = begin // down, -(-end // down)
        some = m.reshape(4, 4, m.shape[1], end - begin, across)
        lines = some[0] + some[1] + some[2], some[1] - some[2] - some[3]
        for a, line in enumerate(lines):
            for b, part in enumerate((line[0] + line[1] + line[2], line[1] - line[2] - line[3])):
                for image in range(first, last):
                    top, bottom = max(begin, image * down), min(end, (image + 1) * down)
                    r = slice(2 * (top - image * down) + a, 2 * (bottom - image * down), 2)
                    target = y[image, :, r, b::2]
                    here = part[:, top - begin : bottom - begin]
                    target[...] = here[:, : target.shape[1], : target.shape[2]]

    def output_tiles(self, y: Array, m: Array, begin: int, end: int) -> None:
        down, across = _tiles(y.shape[2:])
        first, last = begin // down, -(-end // down)
        n, channels = last - first, y.shape[1]
        whole = self.xp.zeros((n, channels, 2 * down, 2 * across), y.dtype)
        whole[:, :, : y.shape[2], : y.shape[3]] = y[first:last]
        rows = [_spread(whole[:, :, ::2, b::2], whole[:, :, 1::2, b::2]) for b in range(2)]
        tiles = [_spread(rows[0][a], rows[1][a]) for a in range(4)]
        self._store([t for line in tiles for t in line], m, begin - first * down, end - begin)

    def _padded(self, x: Array, patches: Patches, value: float = 0.0) -> Array:
        """x, with `value` around as far as the patches reach; itself if they do not."""
        n, c, height, width = x.shape
        reach = [
            max((count - 1) * step + size, pad + length)
            for count, step, size, pad, length in zip(
                patches.out, patches.stride, patches.kernel, patches.padding, (height, width),
                strict=True,
            )
        ]  # fmt: skip
        if reach == [height, width]:
            return x
        padded = self.xp.full((n, c, *reach), value, x.dtype)
        top, left = patches.padding
        padded[:, :, top : top + height, left : left + width] = x
        return padded

    def _store(self, tiles: list[Array], target: Array, skipped: int, count: int) -> None:
        """Tiles (n, C, down, across) of whole images, some rows of them to (16, C, T)."""
        for k, part in enumerate(tiles):
            n, channels, down, across = part.shape
            lines = part.transpose(1, 0, 2, 3).reshape(channels, n * down, across)
            target[k] = lines[:, skipped : skipped + count].reshape(channels, count * across)


def _slices(patches: Patches) -> list[tuple[slice, slice]]:
    """Of a padded image, for each place (u, v) in a patch."""
    (kh, kw), (sh, sw), _, (rows, across) = patches
    return [
        (slice(u, u + (rows - 1) * sh + 1, sh), slice(v, v + (across - 1) * sw + 1, sw))
        for u in range(kh)
        for v in range(kw)
    ]


def _tiles(out: Pair) -> Pair:
    """Tiles of 2 by 2 down and across."""
    return -(-out[0] // 2), -(-out[1] // 2)


def _taken(d: Any) -> list[Array]:
    """B' d."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _spread(upper: Array, lower: Array) -> list[Array]:
    """A y."""
    return [upper, upper + lower, upper - lower, -lower]
