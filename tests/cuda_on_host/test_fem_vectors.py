"""fem_vectors.cu: vector operations of conjugate gradients."""

import math

import numpy as np
import pytest

from .elements import KINDS, U

FILE = "fem_vectors.cu"
SIZES = [(1, 1), (255, 1), (3000, 1), (3000, 3)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "grid"), SIZES)
def test_dot(compiled, rng, schedule, checked, kind, n, grid):
    x, y = rng.standard_normal((2, n)).astype(kind)
    parts = np.full(grid, np.nan)
    module = compiled(FILE, checked=checked)
    module[f"fem_dot<{KINDS[kind]}>"](grid, 256, [n, x, y, parts], schedule=schedule)
    products = x.astype(float) * y
    assert abs(parts.sum() - math.fsum(products)) <= 40 * 2.0**-53 * abs(products).sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "grid"), SIZES)
def test_a_step(compiled, rng, schedule, checked, kind, n, grid):
    p, q, x, r = rng.standard_normal((4, n)).astype(kind)
    w = rng.random(n).astype(kind)
    alpha, beta = x.dtype.type(0.3), x.dtype.type(-0.7)
    wide = [v.astype(float) for v in (p, q, x, r, w)]
    new_x, new_r = wide[2] + float(alpha) * wide[0], wide[3] - float(alpha) * wide[1]
    parts = np.full((grid, 2), np.nan)
    module = compiled(FILE, checked=checked)
    module[f"fem_descend<{KINDS[kind]}>"](
        grid, 256, [n, alpha, p, q, x, r, w, parts], schedule=schedule
    )
    np.testing.assert_allclose(x, new_x, rtol=0, atol=8 * U[kind])
    np.testing.assert_allclose(r, new_r, rtol=0, atol=8 * U[kind])
    squares = r.astype(float) ** 2
    for found, terms in zip(parts.sum(axis=0), (squares, wide[4] * squares), strict=True):
        assert abs(found - math.fsum(terms)) <= 40 * 2.0**-53 * terms.sum()
    module[f"fem_turn<{KINDS[kind]}>"](grid, 256, [n, beta, r, w, p], schedule=schedule)
    new_p = wide[4] * r.astype(float) + float(beta) * wide[0]
    np.testing.assert_allclose(p, new_p, rtol=0, atol=8 * U[kind])


def test_single_precision_is_summed_in_double(compiled):
    n = 5000
    x = np.full(n, 1.0, "f")
    x[0] = 4096.0
    parts = np.empty(1)
    compiled(FILE)["fem_dot<float>"](1, 256, [n, x, np.ones(n, "f"), parts])
    assert parts[0] == 4096.0 + n - 1
    x[0] = 2.0**25
    compiled(FILE)["fem_dot<float>"](1, 256, [n, x, np.ones(n, "f"), parts])
    assert parts[0] == 2.0**25 + n - 1
