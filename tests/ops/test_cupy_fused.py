"""What a device does in one go is what array code does in several."""

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.ops.dispatch import nn_ops_for
from mplinalg.ops.nn import Patches

from ..cupy_on_host.install import recorded
from ..device import cupy, stand_in  # noqa: F401

DTYPES = [np.float32, np.float64]


def copied(xp, a, turned):
    """In memory of another order, if `turned`."""
    return xp.asarray(a).T.copy().T if turned else xp.array(a)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 5, 2)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
def test_epilogues(cupy, rng, dtype, shape, turned, relu):  # noqa: F811
    y, b = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape[1]).astype(dtype)
    g = rng.standard_normal(shape).astype(dtype)
    found = []
    for xp in (np, cupy):
        z = copied(xp, y, turned and xp is not np)
        ops = nn_ops_for(z)
        ops.add_bias(z, xp.asarray(b), relu)
        found.append([z, *ops.bias_gradient(copied(xp, g, turned), z if relu else None)])
    for here, there in zip(*found, strict=True):
        bound = y.size * np.finfo(dtype).eps * abs(here).max()
        np.testing.assert_allclose(there.get(), here, rtol=0, atol=bound)


def test_a_gradient_that_others_use_is_not_changed(cupy, rng):  # noqa: F811
    g, y = (cupy.asarray(rng.standard_normal((4, 3))) for _ in range(2))
    before = g.get()
    nn_ops_for(g).bias_gradient(g, y)
    np.testing.assert_array_equal(g.get(), before)


@pytest.mark.parametrize("dtype", [np.float16, *DTYPES])
def test_the_loss(cupy, rng, dtype):  # noqa: F811
    """Of 16 bits by array code; the roundings of 5 exponentials, their sum and a quotient."""
    z, labels = rng.standard_normal((7, 5)).astype(dtype), rng.integers(0, 5, 7)
    wide = np.promote_types(dtype, np.float32)
    found = []
    for xp in (np, cupy):
        dz = xp.empty(z.shape, wide)
        loss = nn_ops_for(dz).softmax_loss(xp.asarray(z), xp.asarray(labels), dz)
        found.append((float(loss), dz))
    (here, dz), (there, dz_there) = found
    eps = np.finfo(wide).eps
    assert there == pytest.approx(here, rel=float(16 * eps))
    np.testing.assert_allclose(dz_there.get(), dz, rtol=0, atol=16 * eps / len(z))


def test_pooling(cupy, rng):  # noqa: F811
    """Windows that overlap, with equal entries, and zeros around; sums of whole numbers."""
    x = rng.integers(-2, 3, (3, 2, 7, 6)).astype(np.float32)
    patches = Patches((3, 2), (2, 1), (1, 1), (4, 7))
    g = rng.integers(-4, 5, (3, 2, 4, 7)).astype(np.float32)
    found = []
    for xp in (np, cupy):
        ops, a = nn_ops_for(xp.asarray(x)), xp.asarray(x)
        y = ops.max_pool(a, patches)
        found.append((y, ops.max_pool_gradient(xp.asarray(g), a, y, patches)))
    for here, there in zip(*found, strict=True):
        np.testing.assert_array_equal(there.get(), here)


def test_what_has_no_kernel(stand_in):  # noqa: F811
    """16 bits, and arrays without entries."""
    for y in (stand_in.full((4, 3), -2, np.float16), stand_in.empty((0, 3))):
        with recorded() as ledger:
            nn_ops_for(y).add_bias(y, stand_in.ones(3, y.dtype), True)
            masked, sums = nn_ops_for(y).bias_gradient(y, y)
        assert not ledger.launches
        assert not y.get().any()
        assert masked.shape == y.shape
        assert not sums.get().any()


def test_no_pooled_convolution(cupy):  # noqa: F811
    x, w = cupy.ones((32, 1, 12, 12), np.float32), cupy.ones((4, 1, 5, 5), np.float32)
    assert not nn_ops_for(x, w).pools(x, w, (2, 2), (2, 2))


def test_launches_of_a_step(stand_in):  # noqa: F811
    """As the page on training counts them: of the library's kernels and of cuBLAS."""
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    net.to("cuda")
    x, labels = stand_in.ones((10, 6), np.float32), stand_in.zeros(10, np.int64)
    with recorded() as ledger:
        nn.cross_entropy(net(x), labels, validate=False).backward()
    assert dict(ledger.launches) == {
        "add_bias<float, true>": 2, "add_bias<float, false>": 1, "cross_entropy<float>": 1,
        "mask_columns<float, true>": 2, "mask_columns<float, false>": 1,
    }  # fmt: skip
    assert dict(ledger.calls) == {"sgemm": 8}
