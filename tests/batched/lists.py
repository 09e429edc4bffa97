"""Lists of matrices of many shapes."""

from __future__ import annotations

import numpy as np

from .systems import normal


def members(rng, shapes, dtype=float):
    return [normal(rng, shape, dtype) for shape in shapes]


def size(x):
    return np.abs(x.real) + np.abs(x.imag)


def assert_products(found, a, b, alpha=1.0, c=None, beta=0.0):
    assert len(found) == len(a) == len(b)
    for k, (x, y, z) in enumerate(zip(found, a, b, strict=True)):
        u = np.finfo(x.dtype).eps / 2
        wide = np.result_type(x, "d")
        want = alpha * (y.astype(wide) @ z.astype(wide))
        scale = abs(alpha) * (size(y) @ size(z))
        if c is not None:
            want = want + beta * c[k]
            scale = scale + abs(beta) * size(c[k])
        assert x.shape == want.shape
        # k products and sums, and k of the product that is compared with
        assert np.all(np.abs(x - want) <= 2 * (y.shape[1] + 6) * u * scale)
