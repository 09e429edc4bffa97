"""Patches of images as columns of a matrix, and the sum of columns back into images.

    cols[n, (c, u, v), (i, j)] = x[n, c, i sh + u - ph, j sw + v - pw],    0 outside of the image

References
----------
Chellapilla, Puri and Simard, Proc. 10th Int. Workshop Frontiers in Handwriting Recognition (2006).
"""

from __future__ import annotations

from ..jit import kernel

__all__ = ["add_columns", "columns"]


@kernel
def _inside(start, stride, length, count):  # type: ignore[no-untyped-def]
    """The range of k, 0 <= k < count, with 0 <= start + k stride < length."""
    first = 0 if start >= 0 else (-start + stride - 1) // stride
    last = 0 if start >= length else (length - 1 - start) // stride + 1
    last = min(last, count)
    return min(first, last), last


@kernel
def columns(x, cols, steps, kernel_shape, stride, padding, out_shape, first, last):  # type: ignore[no-untyped-def]
    """cols <- patches of x, for channels first, ..., last - 1 of those of all images counted on.

    `cols` is flat; steps are from an image to the next, and from a row (c, u, v) to the next.
    """
    _, channels, height, width = x.shape
    kh, kw = kernel_shape
    rows, across = out_shape
    for item in range(first, last):
        n, c = item // channels, item % channels
        for u in range(kh):
            top, bottom = _inside(u - padding[0], stride[0], height, rows)
            for v in range(kw):
                begin, end = _inside(v - padding[1], stride[1], width, across)
                at = n * steps[0] + ((c * kh + u) * kw + v) * steps[1]
                for k in range(at, at + top * across):
                    cols[k] = 0
                for i in range(top, bottom):
                    line = at + i * across
                    r = i * stride[0] + u - padding[0]
                    s = v - padding[1]
                    for j in range(begin):
                        cols[line + j] = 0
                    if stride[1] == 1:
                        for j in range(begin, end):
                            cols[line + j] = x[n, c, r, s + j]
                    else:
                        for j in range(begin, end):
                            cols[line + j] = x[n, c, r, s + j * stride[1]]
                    for j in range(end, across):
                        cols[line + j] = 0
                for k in range(at + bottom * across, at + rows * across):
                    cols[k] = 0


@kernel
def add_columns(cols, x, steps, kernel_shape, stride, padding, out_shape, first, last):  # type: ignore[no-untyped-def]
    """x <- the sum of all columns that `columns` copies its numbers to."""
    _, channels, height, width = x.shape
    kh, kw = kernel_shape
    rows, across = out_shape
    for item in range(first, last):
        n, c = item // channels, item % channels
        for r in range(height):
            for s in range(width):
                x[n, c, r, s] = 0
        for u in range(kh):
            top, bottom = _inside(u - padding[0], stride[0], height, rows)
            for v in range(kw):
                begin, end = _inside(v - padding[1], stride[1], width, across)
                at = n * steps[0] + ((c * kh + u) * kw + v) * steps[1]
                for i in range(top, bottom):
                    line = at + i * across
                    r = i * stride[0] + u - padding[0]
                    s = v - padding[1]
                    if stride[1] == 1:
                        for j in range(begin, end):
                            x[n, c, r, s + j] += cols[line + j]
                    else:
                        for j in range(begin, end):
                            x[n, c, r, s + j * stride[1]] += cols[line + j]
