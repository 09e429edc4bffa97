"""Updates of parameters in one pass over memory: x, its gradient g, and what is remembered.

Arrays are flat and contiguous, numbers are of their dtype. Every entry is computed by itself and
rounded where the formula says so: which chunk it is in, or which thread computes it, changes
nothing.

References
----------
The formulas are those of PyTorch's `torch.optim`; their authors are named in `mplinalg.nn.optim`.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit import exact_kernel, kernel


@exact_kernel
def descend(x, g, lr, decay, first, last):  # type: ignore[no-untyped-def]
    """x -= lr (g + decay x)."""
    x, g = x[first:last], g[first:last]
    for i in range(x.size):
        x[i] -= lr * (g[i] + decay * x[i])


@exact_kernel
def descend_heavy(x, g, v, lr, decay, beta, first, last):  # type: ignore[no-untyped-def]
    """v <- beta v + (g + decay x); x -= lr v."""
    x, g, v = x[first:last], g[first:last], v[first:last]
    for i in range(x.size):
        v[i] = beta * v[i] + (g[i] + decay * x[i])
        x[i] -= lr * v[i]


@exact_kernel
def descend_nesterov(x, g, v, lr, decay, beta, first, last):  # type: ignore[no-untyped-def]
    """v <- beta v + (g + decay x); x -= lr (g + decay x + beta v)."""
    x, g, v = x[first:last], g[first:last], v[first:last]
    for i in range(x.size):
        slope = g[i] + decay * x[i]
        v[i] = beta * v[i] + slope
        x[i] -= lr * (slope + beta * v[i])


@exact_kernel
def adagrad(x, g, s, lr, decay, eps, first, last):  # type: ignore[no-untyped-def]
    """s += g^2; x -= lr g / (sqrt(s) + eps), with g + decay x for g."""
    x, g, s = x[first:last], g[first:last], s[first:last]
    for i in range(x.size):
        slope = g[i] + decay * x[i]
        s[i] += slope * slope
        x[i] -= lr * slope / (math.sqrt(s[i]) + eps)


@exact_kernel
def rmsprop(x, g, s, lr, decay, eps, alpha, rest, first, last):  # type: ignore[no-untyped-def]
    """s <- alpha s + rest g^2; x -= lr g / (sqrt(s) + eps), with g + decay x for g."""
    x, g, s = x[first:last], g[first:last], s[first:last]
    for i in range(x.size):
        slope = g[i] + decay * x[i]
        s[i] = alpha * s[i] + rest * slope * slope
        x[i] -= lr * slope / (math.sqrt(s[i]) + eps)


@exact_kernel
def rmsprop_heavy(  # type: ignore[no-untyped-def]
    x, g, s, v, lr, decay, eps, alpha, rest, beta, first, last
):
    """As `rmsprop`, but v <- beta v + g / (sqrt(s) + eps); x -= lr v."""
    x, g, s, v = x[first:last], g[first:last], s[first:last], v[first:last]
    for i in range(x.size):
        slope = g[i] + decay * x[i]
        s[i] = alpha * s[i] + rest * slope * slope
        v[i] = beta * v[i] + slope / (math.sqrt(s[i]) + eps)
        x[i] -= lr * v[i]


@exact_kernel
def rmsprop_centred(  # type: ignore[no-untyped-def]
    x, g, s, m, v, lr, decay, eps, alpha, rest, beta, first, last
):
    """As `rmsprop_heavy`, but m += rest (g - m) and s - m^2 in the place of s.

    With a constant gradient the difference comes down to rounding errors: not below zero.
    """
    x, g, s, m, v = x[first:last], g[first:last], s[first:last], m[first:last], v[first:last]
    half = x.dtype.type(0.5)
    for i in range(x.size):
        slope = g[i] + decay * x[i]
        s[i] = alpha * s[i] + rest * slope * slope
        m[i] += rest * (slope - m[i])
        spread = s[i] - m[i] * m[i]
        spread = half * (spread + abs(spread))  # max(spread, 0), without a branch
        v[i] = beta * v[i] + slope / (math.sqrt(spread) + eps)
        x[i] -= lr * v[i]


@exact_kernel
def adadelta(x, g, s, d, lr, decay, eps, rho, rest, first, last):  # type: ignore[no-untyped-def]
    """s <- rho s + rest g^2; h = sqrt((d + eps) / (s + eps)) g; d <- rho d + rest h^2; x -= lr h.

    With g + decay x for g.
    """
    x, g, s, d = x[first:last], g[first:last], s[first:last], d[first:last]
    for i in range(x.size):
        slope = g[i] + decay * x[i]
        s[i] = rho * s[i] + rest * slope * slope
        change = math.sqrt(d[i] + eps) / math.sqrt(s[i] + eps) * slope
        d[i] = rho * d[i] + rest * change * change
        x[i] -= lr * change


@exact_kernel
def adam(  # type: ignore[no-untyped-def]
    x, g, m, s, lr, decay, shrink, eps, rest1, beta2, rest2, root, first, last
):
    """m += rest1 (g - m); s <- beta2 s + rest2 g^2; x <- shrink x - lr m / (sqrt(s) / root + eps).

    With g + decay x for g.
    """
    x, g, m, s = x[first:last], g[first:last], m[first:last], s[first:last]
    for i in range(x.size):
        slope = g[i] + decay * x[i]
        m[i] += rest1 * (slope - m[i])
        s[i] = beta2 * s[i] + rest2 * slope * slope
        x[i] = shrink * x[i] - lr * m[i] / (math.sqrt(s[i]) / root + eps)


# -- gradients ----------------------------------------------------------------------------------


@exact_kernel
def scale(g, factor, first, last):  # type: ignore[no-untyped-def]
    """g <- factor g."""
    g = g[first:last]
    for i in range(g.size):
        g[i] *= factor


@exact_kernel
def clamp(g, bound, first, last):  # type: ignore[no-untyped-def]
    """g <- g, not beyond -bound and bound; NaN stays."""
    g = g[first:last]
    for i in range(g.size):
        value = g[i]
        if value > bound:
            value = bound
        if value < -bound:
            value = -bound
        g[i] = value


@kernel
def square_parts(g, length, parts, first, last):  # type: ignore[no-untyped-def]
    """parts[k] <- sum g^2 over the k-th `length` entries, in double precision."""
    for k in range(first, last):
        part = g[k * length : min((k + 1) * length, g.size)]
        total = 0.0
        for i in range(part.size):
            total += np.float64(part[i]) * np.float64(part[i])
        parts[k] = total


@kernel
def scale_and_square_parts(g, factor, length, parts, first, last):  # type: ignore[no-untyped-def]
    """g <- factor g; parts[k] as `square_parts`."""
    for k in range(first, last):
        part = g[k * length : min((k + 1) * length, g.size)]
        total = 0.0
        for i in range(part.size):
            value = factor * part[i]
            part[i] = value
            total += np.float64(value) * np.float64(value)
        parts[k] = total
