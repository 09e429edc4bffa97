"""The sizes of a convolution, checked once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..ops.nn import Pair, Patches

__all__ = ["Geometry", "pair", "ranges"]


@dataclass(frozen=True)
class Geometry:
    """Sizes of ``y = conv2d(x, w)``.

    Attributes
    ----------
    images, channels : int
        N and C of x, shape (N, C, H, W).
    size : (int, int)
        H and W.
    filters : int
        O of w, shape (O, C, kh, kw).
    patches : Patches
        Kernel, stride, padding, and the size of y, shape (N, O, Ho, Wo).
    """

    images: int
    channels: int
    size: Pair
    filters: int
    patches: Patches

    @classmethod
    def of(
        cls, x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Any, padding: Any
    ) -> Geometry:
        """Of shapes and options as users give them.

        Raises
        ------
        ValueError
            Shapes that are not (N, C, H, W) and (O, C, kh, kw) or do not fit; a kernel larger than
            the padded input; a stride below 1, a padding below 0.
        """
        steps, zeros = pair(stride, "stride", 1), pair(padding, "padding", 0)
        return _geometry(tuple(x_shape), tuple(w_shape), steps, zeros)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return self.images, self.channels, *self.size

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        """(O, C, kh, kw)."""
        return self.filters, self.channels, *self.patches.kernel

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        """(N, O, Ho, Wo)."""
        return self.images, self.filters, *self.patches.out

    @property
    def taps(self) -> int:
        """C kh kw, terms of a sum."""
        return self.channels * self.patches.kernel[0] * self.patches.kernel[1]

    @property
    def positions(self) -> int:
        """Ho Wo."""
        return self.patches.out[0] * self.patches.out[1]

    @property
    def flops(self) -> int:
        """2 N O C kh kw Ho Wo: of y, and of each of its gradients."""
        return 2 * self.images * self.filters * self.taps * self.positions


@functools.lru_cache(maxsize=1024)
def _geometry(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], steps: Pair, zeros: Pair
) -> Geometry:
    """Asked for several times a layer, and for the same shapes batch after batch."""
    shapes = f"input of shape {x_shape}, weight of shape {w_shape}"
    if len(x_shape) != 4 or len(w_shape) != 4:
        raise ValueError(f"conv2d takes (N, C, H, W) and (O, C, kh, kw): {shapes}")
    if x_shape[1] != w_shape[1]:
        raise ValueError(f"conv2d: {x_shape[1]} and {w_shape[1]} channels: {shapes}")
    size, kernel = x_shape[2:], w_shape[2:]
    padded = tuple(length + 2 * zero for length, zero in zip(size, zeros, strict=True))
    if min(kernel) < 1:
        raise ValueError(f"conv2d: an empty kernel: {shapes}")
    if kernel[0] > padded[0] or kernel[1] > padded[1]:
        raise ValueError(
            f"conv2d: kernel {kernel} larger than the padded input {padded}: {shapes}, "
            f"padding {zeros}"
        )
    down, across = ((padded[i] - kernel[i]) // steps[i] + 1 for i in range(2))
    patches = Patches((kernel[0], kernel[1]), steps, zeros, (down, across))
    return Geometry(x_shape[0], x_shape[1], (size[0], size[1]), w_shape[0], patches)


def pair(value: Any, name: str, least: int) -> Pair:
    """An integer, or two of them, as two.

    Raises
    ------
    ValueError
        Anything else, or less than `least`.
    """
    if type(value) is tuple and len(value) == 2:  # most often
        first, second = value
        if type(first) is type(second) is int and min(value) >= least:
            return first, second
    both = value if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or any(
        isinstance(one, bool) or not hasattr(one, "__index__") or one < least for one in both
    ):
        raise ValueError(f"{name} must be an integer >= {least}, or two of them; got {value!r}")
    return int(both[0]), int(both[1])


def ranges(count: int, step: int) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of pieces of `step` that make up `count`.

    >>> list(ranges(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, step)
    for first in range(0, count, step):
        yield first, min(first + step, count)
