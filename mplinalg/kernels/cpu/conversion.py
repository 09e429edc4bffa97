"""One pass over a matrix: copy it to another dtype, sum |a| along rows, count what was lost.

Matrices come as *lines*: a 2-D real array whose last axis is contiguous (the rows of a C-like
matrix, the columns of an F-like one; complex numbers as pairs of reals). Complex magnitudes are
``|re| + |im|``, as in LAPACK's CABS1.

Bytes moved: one read of the source, one write of the destination.
"""

from __future__ import annotations

import numpy as np

from .calls import larger
from .jit import exact_kernel, kernel


@kernel
def copy_sum_along(src, dst, sums, largest, smallest):  # type: ignore[no-untyped-def]
    """dst <- src; sums[i] <- sum_j |src[i, j]|.

    Returns (overflows, underflows): magnitudes above `largest`, and nonzero ones below
    `smallest`, of the destination format.
    """
    overflows = 0
    underflows = 0
    for i in range(src.shape[0]):
        row = src[i]
        out = dst[i]
        total = 0.0
        over = 0
        under = 0
        for j in range(row.size):
            value = row[j]
            magnitude = abs(value)
            out[j] = value
            total += magnitude
            over += magnitude > largest
            under += (magnitude < smallest) & (magnitude > 0.0)
        sums[i] = total
        overflows += over
        underflows += under
    return overflows, underflows


@kernel
def copy_sum_across(src, dst, sums, largest, smallest):  # type: ignore[no-untyped-def]
    """dst <- src; sums[j] <- sum_i |src[i, j]|. Returns as `copy_sum_along`."""
    overflows = 0
    underflows = 0
    sums[:] = 0.0
    for i in range(src.shape[0]):
        row = src[i]
        out = dst[i]
        over = 0
        under = 0
        for j in range(row.size):
            value = row[j]
            magnitude = abs(value)
            out[j] = value
            sums[j] += magnitude
            over += magnitude > largest
            under += (magnitude < smallest) & (magnitude > 0.0)
        overflows += over
        underflows += under
    return overflows, underflows


@exact_kernel  # first times second may overflow: no reassociation
def scaled_copy(src, dst, along, across, pair, largest, smallest):  # type: ignore[no-untyped-def]
    """dst[i, j] <- along[i] * src[i, j] * across[j // pair], powers of two, `pair` = 1 or 2.

    The larger of the two factors is applied to a value below one first, and the smaller to a
    value above, so that no intermediate leaves the range when the result is inside it. Returns as
    `copy_sum_along`; the counts are of the scaled values.
    """
    overflows = 0
    underflows = 0
    for i in range(src.shape[0]):
        row = src[i]
        out = dst[i]
        for j in range(row.size):
            value = row[j]
            underflows -= value == 0.0  # `dst` may be `src`
            first = along[i]
            second = across[j // pair]
            if (abs(value) < 1.0) == (first < second):
                first, second = second, first
            value = (value * first) * second
            magnitude = abs(value)
            out[j] = value
            overflows += magnitude > largest
            underflows += magnitude < smallest
    return overflows, underflows


@kernel
def largest_magnitude(lines):  # type: ignore[no-untyped-def]
    """max |a|; NaN if any entry is NaN."""
    largest = 0.0
    bad = 0
    for i in range(lines.shape[0]):
        row = lines[i]
        top = np.float64(0.0)
        for j in range(row.size):
            magnitude = np.float64(abs(row[j]))
            top = magnitude if magnitude > top else top
            bad += row[j] != row[j]
        largest = max(largest, top)
    return np.nan if bad else largest


@kernel
def line_extents(lines, left, right, pair, along_max, across_max):  # type: ignore[no-untyped-def]
    """along_max[i], across_max[j] <- max |left[i] a[i, j] right[j]|; `pair` = 2 for complex."""
    for i in range(lines.shape[0]):
        row = lines[i]
        factor = left[i]
        top = along_max[i]
        for j in range(across_max.size):
            magnitude = abs(row[pair * j])
            if pair == 2:
                magnitude += abs(row[pair * j + 1])
            magnitude = magnitude * factor * right[j]
            top = max(top, magnitude)
            across_max[j] = max(across_max[j], magnitude)
        along_max[i] = top


@kernel
def line_sizes(lines, pair, along, across):  # type: ignore[no-untyped-def]
    """along[:, i] <- sum and maximum of |lines[i, j]| over j; across[:, j] <- those so far, over i.

    `pair` = 2 for complex. NaN is larger than all else.
    """
    sums, tops = across[0], across[1]
    for i in range(lines.shape[0]):
        row = lines[i]
        total = 0.0
        top = abs(tops.dtype.type(0))
        if pair == 1:
            for j in range(sums.size):
                magnitude = abs(row[j])
                total += magnitude
                sums[j] += magnitude
                tops[j] = larger(magnitude, tops[j])
                top = larger(magnitude, top)
        else:
            for j in range(sums.size):
                magnitude = abs(row[2 * j]) + abs(row[2 * j + 1])
                total += magnitude
                sums[j] += magnitude
                tops[j] = larger(magnitude, tops[j])
                top = larger(magnitude, top)
        along[0, i] = total
        along[1, i] = top
