"""Convolution by its definition, one place of the kernel after the other, in double precision."""

from __future__ import annotations

import math

import numpy as np

from mplinalg.nn.convolution import conv2d, conv2d_input_gradient, conv2d_weight_gradient

FACTORS = {"gemm": 1.0, "direct": 1.0, "auto": 81.0, "winograd": 81.0, "fft": 12.0}
"""Of the error bound: 81 = (3 * 2 * 1.5)^2, the norms of the transforms of F(2x2, 3x3); a few log L
of the fast Fourier transform."""


def _slices(g, kernel, stride):
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            down = slice(u, u + (g.shape[2] - 1) * stride[0] + 1, stride[0])
            yield u, v, down, slice(v, v + (g.shape[3] - 1) * stride[1] + 1, stride[1])


def _padded(x, padding):
    (top, left) = padding
    return np.pad(x.astype(float), ((0, 0), (0, 0), (top, top), (left, left)))


def convolved(x, w, stride, padding):
    big, kernel = _padded(x, padding), w.shape[2:]
    out = [
        (n - k) // s + 1 for n, k, s in zip(big.shape[2:], kernel, stride, strict=True)
    ]  # fmt: skip
    y = np.zeros((len(x), len(w), *out))
    for u, v, down, right in _slices(y, kernel, stride):
        y += np.einsum("ncij,oc->noij", big[:, :, down, right], w[:, :, u, v].astype(float))
    return y


def gradients(grad, x, w, stride, padding):
    """(dx, dw)"""
    big, dw = _padded(x, padding), np.zeros(w.shape)
    dx = np.zeros_like(big)
    for u, v, down, right in _slices(grad, w.shape[2:], stride):
        dx[:, :, down, right] += np.einsum("noij,oc->ncij", grad, w[:, :, u, v].astype(float))
        dw[:, :, u, v] = np.einsum("noij,ncij->oc", grad, big[:, :, down, right])
    (top, left), (height, width) = padding, x.shape[2:]
    return dx[:, :, top : top + height, left : left + width], dw


def norm(a):
    return float(np.linalg.norm(a.astype(float).ravel()))


def all_three(grad, x, w, **options):
    """y, dx, dw as the library computes them."""
    return (
        conv2d(x, w, **options),
        conv2d_input_gradient(grad, w, x.shape, **options),
        conv2d_weight_gradient(grad, x, w.shape, **options),
    )


def check_all(algorithm, x, w, stride=(1, 1), padding=(0, 0), *, u=None, **options):
    """y, dx and dw within f m u ||a|| ||b||, of sums of m products: |sum a b| <= ||a|| ||b||."""
    y = convolved(x, w, stride, padding)
    grad = np.random.default_rng(0).standard_normal(y.shape).astype(x.dtype)
    expected = (y, *gradients(grad, x, w, stride, padding))
    found = all_three(grad, x, w, stride=stride, padding=padding, algorithm=algorithm, **options)
    u = np.finfo(x.dtype).eps / 2 if u is None else u
    area = math.prod(w.shape[2:])
    terms = w.shape[1] * area, w.shape[0] * area, len(x) * math.prod(y.shape[2:])
    sizes = norm(x) * norm(w), norm(grad) * norm(w), norm(grad) * norm(x)
    for one, other, count, size in zip(found, expected, terms, sizes, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max(initial=0.0) <= FACTORS[algorithm] * (count + 2) * u * size
    return found
