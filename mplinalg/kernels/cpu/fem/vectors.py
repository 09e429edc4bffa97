"""Vector operations of conjugate gradients, as few passes over memory as they allow.

Sums are taken in double precision, part by part, so that they do not depend on who sums which part.
"""

from __future__ import annotations

import numpy as np

from ..jit import kernel


@kernel
def dot_parts(x, y, length, parts, first, last):  # type: ignore[no-untyped-def]
    """parts[k] <- x' y over the k-th `length` entries, for first <= k < last."""
    for k in range(first, last):
        total = 0.0
        for i in range(k * length, min((k + 1) * length, x.size)):
            total += np.float64(x[i]) * np.float64(y[i])
        parts[k] = total


@kernel
def descend_parts(alpha, p, q, x, r, w, length, parts, first, last):  # type: ignore[no-untyped-def]
    """x += alpha p and r -= alpha q; parts[k] <- (r' r, r' diag(w) r), as `dot_parts`."""
    for k in range(first, last):
        total, weighted = 0.0, 0.0
        for i in range(k * length, min((k + 1) * length, x.size)):
            x[i] += alpha * p[i]
            left = r[i] - alpha * q[i]
            r[i] = left
            square = np.float64(left) * np.float64(left)
            total += square
            weighted += np.float64(w[i]) * square
        parts[k, 0], parts[k, 1] = total, weighted


@kernel
def turn_parts(beta, r, w, p, length, first, last):  # type: ignore[no-untyped-def]
    """p <- diag(w) r + beta p, for the same entries."""
    for i in range(first * length, min(last * length, p.size)):
        p[i] = w[i] * r[i] + beta * p[i]
