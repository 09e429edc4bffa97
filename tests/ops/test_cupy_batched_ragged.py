"""The CUDA backend on lists of matrices of different sizes."""

import numpy as np

from .test_cupy_batched import cupy, ops, put  # noqa: F401  (fixtures)


def test_lists(ops, cupy, put, rng):  # noqa: F811
    """Members of one shape go together, in any order; one matrix may stand for all."""
    shapes = [(2, 3), (4, 1), (2, 3), (5, 5), (4, 1)]
    a = [rng.standard_normal(shape) for shape in shapes]
    b = [rng.standard_normal((shape[1], 2)) for shape in shapes]
    c = [cupy.full((shape[0], 2), np.nan) for shape in shapes]
    listed = [ops.listed(list(map(put, x))) for x in (a, b)]
    ops.gemm_listed(1.0, *listed, 0.0, ops.listed(c))
    for left, right, found in zip(a, b, c, strict=True):
        np.testing.assert_allclose(found.get(), left @ right, rtol=1e-13, atol=1e-13)
    one = ops.listed([put(np.eye(3))])
    rows = [rng.standard_normal((k, 3)) for k in (1, 4, 1)]
    found = [cupy.empty(x.shape) for x in rows]
    ops.gemm_listed(2.0, ops.listed(list(map(put, rows))), one, 0.0, ops.listed(found))
    for x, y in zip(rows, found, strict=True):
        np.testing.assert_array_equal(y.get(), 2 * x)
    assert ops.listed([put(np.ones(3)), put(np.ones((3, 3)))]) is None
    assert ops.listed([put(np.ones(3)), put(np.ones(3, "f"))]) is None


def test_flat_lists(ops, cupy, put, rng):  # noqa: F811
    """Matrices in one buffer: copied, gathered and solved in place."""
    orders = [3, 1, 3, 4]
    members = [rng.standard_normal((n, n)) + 4 * np.eye(n) for n in orders]
    right = [rng.standard_normal((n, 2)) for n in orders]

    def flat(matrices):
        sizes = [x.size for x in matrices]
        offsets = np.concatenate([[0], np.cumsum(sizes[:-1])])
        return ops.listed_flat(
            cupy.full(sum(sizes), np.nan), offsets, np.array([x.shape for x in matrices])
        )

    a, x = flat(members), flat(right)
    ops.copy_listed(ops.listed(list(map(put, members))), a)
    ops.copy_listed(ops.listed(list(map(put, right))), x)
    np.testing.assert_array_equal(a.keep.get(), np.concatenate([m.ravel() for m in members]))
    offsets = np.array([0, 10])
    rows = ops.gather(a.keep, offsets, 9)
    np.testing.assert_array_equal(rows.get(), [members[0].ravel(), members[2].ravel()])
    info = ops.trsm_listed(a, x, lower=False)
    assert not info.any()
    place = 0
    for n, u, b in zip(orders, members, right, strict=True):
        found = x.keep[place : place + 2 * n].reshape(n, 2).get()
        np.testing.assert_allclose(np.triu(u) @ found, b, rtol=1e-13, atol=1e-13)
        place += 2 * n
    ops.scatter(0 * rows, a.keep, offsets)
    assert not a.keep[:9].get().any()
    info = ops.trsm_listed(a, x, lower=False)
    assert info.tolist() == [1, 0, 1, 0]
