"""The transforms of Winograd's F(2x2, 3x3) on tiles of images: V = B' d B, Y = A' M A, A y A'.

          [ 1  0 -1  0 ]             [ 1  1  1  0 ]
    B' =  [ 0  1  1  0 ]       A' =  [ 0  1 -1 -1 ]
          [ 0 -1  1  0 ]
          [ 0  1  0 -1 ]

A tile row is two rows of the output, `across` tiles wide; tile rows of all images are counted on.
Transforms of rows come first: they are sums of whole lines.

References
----------
Winograd, Arithmetic Complexity of Computations, SIAM (1980). Lavin and Gray, CVPR (2016) 4013.
"""

from __future__ import annotations

import numpy as np

from ..jit import kernel

__all__ = ["image_tiles", "output_from_tiles", "output_tiles"]


@kernel
def _fill(image, row, left, line):  # type: ignore[no-untyped-def]
    """line <- image[row], from column -left on, zeros outside of the image."""
    height, width = image.shape
    if row < 0 or row >= height:
        line[:] = 0
        return
    end = max(0, min(line.size, width + left))
    begin = min(max(left, 0), line.size)
    line[:begin] = 0
    for j in range(begin, end):
        line[j] = image[row, j - left]
    line[max(begin, end) :] = 0


@kernel
def _split(line, even, odd):  # type: ignore[no-untyped-def]
    """The numbers of a line at even and at odd places."""
    for j in range(even.size):
        even[j] = line[2 * j]
        odd[j] = line[2 * j + 1]


@kernel
def _add(a, b, out):  # type: ignore[no-untyped-def]
    for j in range(out.size):
        out[j] = a[j] + b[j]


@kernel
def _subtract(a, b, out):  # type: ignore[no-untyped-def]
    for j in range(out.size):
        out[j] = a[j] - b[j]


@kernel
def image_tiles(x, v, padding, down, across, begin, end, first, last):  # type: ignore[no-untyped-def]
    """v[k, c, t] <- (B' d B)_k of the tiles t of tile rows begin, ..., end - 1; some channels c."""
    line = np.empty(2 * across + 2, x.dtype)
    d = np.empty((4, 2, across + 1), x.dtype)  # lines of a patch, at even and odd places
    e = np.empty((2, across + 1), x.dtype)
    for c in range(first, last):
        for r in range(begin, end):
            image, top = x[r // down, c], r % down * 2 - padding[0]
            for a in range(4):
                _fill(image, top + a, padding[1], line)
                _split(line, d[a, 0], d[a, 1])
            at = (r - begin) * across
            for a in range(4):
                for odd in range(2):
                    if a == 0:
                        _subtract(d[0, odd], d[2, odd], e[odd])
                    elif a == 1:
                        _add(d[1, odd], d[2, odd], e[odd])
                    elif a == 2:
                        _subtract(d[2, odd], d[1, odd], e[odd])
                    else:
                        _subtract(d[1, odd], d[3, odd], e[odd])
                tiles = v[4 * a : 4 * a + 4, c, at : at + across]
                _subtract(e[0], e[0, 1:], tiles[0])
                _add(e[1], e[0, 1:], tiles[1])
                _subtract(e[0, 1:], e[1], tiles[2])
                _subtract(e[1], e[1, 1:], tiles[3])


@kernel
def output_from_tiles(m, y, down, across, begin, end, first, last):  # type: ignore[no-untyped-def]
    """y <- A' M A, the tile rows begin, ..., end - 1 of the channels first, ..., last - 1."""
    _, _, height, width = y.shape
    s = np.empty((2, 4, across), y.dtype)
    line = np.empty(2 * across, y.dtype)
    for o in range(first, last):
        for r in range(begin, end):
            at = (r - begin) * across
            for b in range(4):
                m0, m1, m2, m3 = m[b, o], m[4 + b, o], m[8 + b, o], m[12 + b, o]
                upper, lower = s[0, b], s[1, b]
                for j in range(across):
                    upper[j] = m0[at + j] + m1[at + j] + m2[at + j]
                    lower[j] = m1[at + j] - m2[at + j] - m3[at + j]
            top = r % down * 2
            for a in range(min(2, height - top)):
                s0, s1, s2, s3 = s[a, 0], s[a, 1], s[a, 2], s[a, 3]
                for j in range(across):
                    line[2 * j] = s0[j] + s1[j] + s2[j]
                    line[2 * j + 1] = s1[j] - s2[j] - s3[j]
                target = y[r // down, o, top + a]
                for j in range(width):
                    target[j] = line[j]


@kernel
def output_tiles(y, m, down, across, begin, end, first, last):  # type: ignore[no-untyped-def]
    """m[k, o, t] <- (A y A')_k, what `output_from_tiles` is the transpose of."""
    e = np.empty((4, 2 * across), y.dtype)
    for o in range(first, last):
        for r in range(begin, end):
            image, top = y[r // down, o], r % down * 2
            _fill(image, top, 0, e[0])
            _fill(image, top + 1, 0, e[3])
            for j in range(2 * across):
                e[1, j] = e[0, j] + e[3, j]
                e[2, j] = e[0, j] - e[3, j]
                e[3, j] = -e[3, j]
            at = (r - begin) * across
            for a in range(4):
                line = e[a]
                m0, m1, m2, m3 = m[4 * a, o], m[4 * a + 1, o], m[4 * a + 2, o], m[4 * a + 3, o]
                for j in range(across):
                    m0[at + j] = line[2 * j]
                    m1[at + j] = line[2 * j] + line[2 * j + 1]
                for j in range(across):
                    m2[at + j] = line[2 * j] - line[2 * j + 1]
                    m3[at + j] = -line[2 * j + 1]
