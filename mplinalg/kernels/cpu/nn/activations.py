"""Biases and ReLU in one pass, their gradients in another, and softmax with its loss.

y is (N, O), or (N, O, P).

Sums are over all N for each channel by itself: which thread computes it changes nothing.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit import kernel

__all__ = ["add_bias", "add_bias_to_planes", "masked_sums", "masked_sums_of_planes", "softmax_loss"]


@kernel
def add_bias(y, b, is_relu, first, last):  # type: ignore[no-untyped-def]
    """y[n, o] <- y[n, o] + b[o], and with `is_relu` max(that, 0), for some n."""
    zero = y.dtype.type(0)
    for n in range(first, last):
        line = y[n]
        if is_relu:
            for o in range(line.size):
                value = line[o] + b[o]
                line[o] = zero if value < zero else value  # NaN stays
        else:
            for o in range(line.size):
                line[o] += b[o]


@kernel
def add_bias_to_planes(y, b, is_relu, first, last):  # type: ignore[no-untyped-def]
    """The same of y[n, o, p], planes (n, o) counted on."""
    channels = y.shape[1]
    zero = y.dtype.type(0)
    for item in range(first, last):
        line, bias = y[item // channels, item % channels], b[item % channels]
        if is_relu:
            for p in range(line.size):
                value = line[p] + bias
                line[p] = zero if value < zero else value
        else:
            for p in range(line.size):
                line[p] += bias


@kernel
def masked_sums(grad, y, out, db, first, last):  # type: ignore[no-untyped-def]
    """out <- grad where y > 0, else 0; db[o] <- sum_n out[n, o]; for some o.

    Without y (of no entries), out is grad, and nothing is written to it.
    """
    count = grad.shape[0]
    zero = grad.dtype.type(0)
    sums = np.zeros(last - first, grad.dtype)
    for n in range(count):
        source = grad[n, first:last]
        if y.size:
            like, target = y[n, first:last], out[n, first:last]
            for o in range(sums.size):
                value = source[o] if like[o] > zero else zero
                target[o] = value
                sums[o] += value
        else:
            for o in range(sums.size):
                sums[o] += source[o]
    for o in range(sums.size):
        db[first + o] = sums[o]


@kernel
def masked_sums_of_planes(grad, y, out, db, first, last):  # type: ignore[no-untyped-def]
    """The same of planes, (N, O, P)."""
    count = grad.shape[0]
    zero = grad.dtype.type(0)
    for o in range(first, last):
        total = zero
        for n in range(count):
            source = grad[n, o]
            if y.size:
                like, target = y[n, o], out[n, o]
                for p in range(source.size):
                    target[p] = source[p] if like[p] > zero else zero
                source = target
            part = zero  # in the same order with and without y
            for p in range(source.size):
                part += source[p]
            total += part
        db[o] = total


@kernel
def softmax_loss(z, labels, dz):  # type: ignore[no-untyped-def]
    """The mean over rows i of log sum_j e^z[i, j] - z[i, labels[i]]; dz <- its gradient."""
    total = 0.0
    one = z.dtype.type(1)
    share = one / z.dtype.type(z.shape[0])
    for i in range(z.shape[0]):
        line, target = z[i], dz[i]
        top = line[0]
        for j in range(line.size):
            top = line[j] if line[j] > top or line[j] != line[j] else top
        s = z.dtype.type(0)
        for j in range(line.size):
            value = math.exp(line[j] - top)
            target[j] = value
            s += value
        total += math.log(s) - (line[labels[i]] - top)
        for j in range(line.size):
            target[j] /= s
        target[labels[i]] -= one
        for j in range(line.size):
            target[j] *= share
    return total / z.shape[0]
