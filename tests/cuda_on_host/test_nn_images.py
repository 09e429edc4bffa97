"""nn_images.cu: columns of patches, and largest entries of windows."""

import numpy as np
import pytest

from mplinalg.ops.array_nn import ArrayNn
from mplinalg.ops.nn import Patches

FILE = "nn_images.cu"
KINDS = {"f": "float", "d": "double"}
# (N, C, H, W), kernel, stride, padding
CASES = [
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0)),
    ((2, 3, 7, 9), (3, 2), (1, 1), (1, 0)),
    ((3, 2, 9, 8), (2, 3), (2, 3), (0, 1)),
    ((2, 1, 11, 6), (3, 3), (2, 1), (1, 1)),
    ((1, 2, 5, 5), (2, 2), (3, 3), (0, 0)),
]


def patches(shape, kernel, stride, padding):
    out = tuple(
        (size + 2 * pad - length) // step + 1
        for size, pad, length, step in zip(shape[2:], padding, kernel, stride, strict=True)
    )
    return Patches(kernel, stride, padding, out)


def flat(some):
    return [*some.kernel, *some.stride, *some.padding, *some.out]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_columns(compiled, rng, schedule, checked, kind, case, turned):
    """Both ways; columns as the forward product has them, and as that for dW."""
    some, (n, c, h, w) = patches(*case), case[0]
    x = rng.standard_normal(case[0]).astype(kind)
    taps, positions = c * int(np.prod(some.kernel)), int(np.prod(some.out))
    order = (1, 0, 2) if turned else (0, 1, 2)
    shape = (taps, n, positions) if turned else (n, taps, positions)
    cols, expected = (np.full(shape, np.nan, kind).transpose(order) for _ in range(2))
    ArrayNn(np).im2col(x, expected, some)
    module = compiled(FILE, checked=checked)
    steps = [s // cols.itemsize for s in cols.strides[:2]]
    module[f"im2col<{KINDS[kind]}>"](
        3, 256, [cols.size, c, h, w, x, cols, *steps, *flat(some)], schedule=schedule
    )
    np.testing.assert_array_equal(cols, expected)
    back, wanted = np.full_like(x, np.nan), np.empty_like(x)
    ArrayNn(np).col2im(cols, wanted, some)
    module[f"col2im<{KINDS[kind]}>"](
        3, 256, [x.size, c, h, w, cols, *steps, back, *flat(some)], schedule=schedule
    )
    np.testing.assert_array_equal(back, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("bad", [None, np.nan, -np.inf])
def test_max_pool(compiled, rng, schedule, checked, kind, case, bad):
    """With equal entries, of which the first one has the gradient."""
    shape = case[0]
    some = patches(*case)
    x = np.round(rng.standard_normal(shape)).astype(kind)
    if bad is not None:
        x[0, 0, 0] = bad
    reference = ArrayNn(np)
    expected = reference.max_pool(x, some)
    g = rng.standard_normal(expected.shape).astype(kind)
    gradient = reference.max_pool_gradient(g, x, expected, some)
    module = compiled(FILE, checked=checked)
    y, dx = np.empty_like(expected), np.full_like(x, np.nan)
    module[f"max_pool<{KINDS[kind]}>"](
        2, 256, [y.size, *shape[2:], x, y, *flat(some)], schedule=schedule
    )
    np.testing.assert_array_equal(y, expected)
    module[f"max_pool_gradient<{KINDS[kind]}>"](
        2, 256, [x.size, *shape[2:], x, y, g, dx, *flat(some)], schedule=schedule
    )
    eps = np.finfo(kind).eps  # as many windows as a kernel has places, in another order
    np.testing.assert_allclose(dx, gradient, rtol=0, atol=9 * eps * abs(g).max())
