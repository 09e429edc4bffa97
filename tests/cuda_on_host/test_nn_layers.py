"""nn_layers.cu: bias and ReLU, and their gradients."""

import numpy as np
import pytest

from .module import LaunchError
from .mutation import barriers

FILE = "nn_layers.cu"
KINDS = {"f": "float", "d": "double"}


def drawn(rng, kind, shape):
    return rng.standard_normal(shape).astype(kind)


def by_channel(a, ndim):
    return a.reshape(-1, *(1,) * (ndim - 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (3, 5, 2, 9)], ids=str)
@pytest.mark.parametrize("relu", [False, True])
def test_add_bias(compiled, rng, schedule, checked, kind, shape, relu):
    y, b = drawn(rng, kind, shape), drawn(rng, kind, shape[1])
    y.flat[0] = np.nan
    expected = y + by_channel(b, y.ndim)
    if relu:
        expected = np.maximum(expected, 0)
    inner = int(np.prod(shape[2:]))
    compiled(FILE, checked=checked)[f"add_bias<{KINDS[kind]}, {str(relu).lower()}>"](
        2, 256, [y.size, shape[1], inner, y, b], schedule=schedule
    )
    np.testing.assert_array_equal(y, expected)


def test_relu_alone(compiled, rng):
    y = drawn(rng, "f", (4, 70))
    expected = np.maximum(y, 0)
    compiled(FILE)["add_bias<float, true>"](1, 256, [y.size, 70, 1, y, None])
    np.testing.assert_array_equal(y, expected)


def masked(module, g, y, **options):
    """By the kernel for its shape."""
    name, blocks, sizes = "mask_columns", -(-g.shape[1] // 32), g.shape
    if g.ndim > 2:
        name, blocks = "mask_channels", g.shape[1]
        sizes = (*g.shape[:2], int(np.prod(g.shape[2:])))
    t = None if y is None else np.full_like(g, np.nan)
    sums = np.full(g.shape[1], np.nan, g.dtype)
    module[f"{name}<{KINDS[g.dtype.char]}, {str(y is not None).lower()}>"](
        blocks, 256, [*sizes, g, y, t, sums], **options
    )
    return t, sums


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (37, 41), (9, 64), (3, 5, 7, 9), (1, 2, 300)], ids=str)
@pytest.mark.parametrize("relu", [False, True])
def test_masks_and_sums(compiled, rng, schedule, checked, kind, shape, relu):
    g = drawn(rng, kind, shape)
    y = np.maximum(drawn(rng, kind, shape), 0) if relu else None
    t, sums = masked(compiled(FILE, checked=checked), g, y, schedule=schedule)
    expected = np.where(y > 0, g, 0) if relu else g
    if relu:
        np.testing.assert_array_equal(t, expected)
    axes = (0, *range(2, g.ndim))
    exact, sizes = (np.sum(a, axes, dtype=float) for a in (expected, abs(expected)))
    rounding = g.size / shape[1] * np.finfo(g.dtype).eps / 2
    assert np.all(abs(sums - exact) <= rounding * sizes)


def test_sums_are_the_same_in_every_run(compiled, rng):
    g, y = drawn(rng, "f", (100, 70)), drawn(rng, "f", (100, 70))
    found = [masked(compiled(FILE), g, y, schedule=s)[1] for s in ("forward", "reverse", 5)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("edit", barriers(FILE), ids=lambda edit: edit.__name__)
def test_every_barrier_is_needed(broken, rng, edit):
    module = broken(FILE, edit, "mask_columns<float, true>")
    g, y = drawn(rng, "f", (40, 33)), drawn(rng, "f", (40, 33))
    caught = 0
    for schedule in ("forward", "reverse", 1):
        try:
            masked(module, g, y, schedule=schedule)
        except LaunchError:
            caught += 1
    assert caught
