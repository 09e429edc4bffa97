"""butterfly.cu: the recursive random butterfly transformation of depth 2."""

from __future__ import annotations

import numpy as np
import pytest

TYPES = {"double": np.float64, "float": np.float32}
MATRIX = ["double, double", "double, float", "float, float"]
TRANSPOSED, FORWARD = MATRIX, ["double, double", "float, double", "float, float"]


def diagonals(rng, n):
    """Groups of eight: of the outer butterfly and of the inner ones at i, i + n/4, ..."""
    return np.exp(rng.uniform(-0.05, 0.05, (n // 4, 2, 4))).astype(np.float32)


def dense(groups):
    """U, by the definition."""
    outer, inner = groups.astype(float).transpose(1, 2, 0).reshape(2, -1)
    half = len(outer) // 2

    def butterfly(d):
        first, second = np.diag(d[: len(d) // 2]), np.diag(d[len(d) // 2 :])
        return np.block([[first, second], [first, -second]]) / np.sqrt(2)

    zero = np.zeros((half, half))
    both = np.block([[butterfly(inner[:half]), zero], [zero, butterfly(inner[half:])]])
    return both @ butterfly(outer)


def unit(*dtypes):
    """Roundoff of the sums, in the widest type."""
    return min(np.finfo(dtype).eps for dtype in dtypes) / 2


def split(types):
    return [TYPES[name] for name in types.split(", ")]


def transform(module, types, source, target, u, v, *, padding=1.0, grid=(1, 2), **options):
    module[f"butterfly<{types}>"](
        grid, 256,
        [len(target) // 4, len(source), source, source.strides[0] // source.itemsize,
         target, target.strides[0] // target.itemsize, u, v, padding],
        **options,
    )  # fmt: skip


def apply(module, name, types, source, target, groups, *, blocks=2, **options):
    strides = [[stride // array.itemsize for stride in array.strides] for array in (source, target)]
    n = 4 * len(groups)
    module[f"{name}<{types}>"](
        blocks, 256,
        [n // 4, len(source if n == len(target) else target), source.shape[1],
         source, *strides[0], target, *strides[1], groups],
        **options,
    )  # fmt: skip


def assert_close(found, expected, size, *dtypes):
    """Eight operations an entry (four levels, two each), and one rounding of the result.

    `size` is the sum with magnitudes in place of the entries.
    """
    bound = 8 * unit(*dtypes) * size + np.finfo(found.dtype).eps / 2 * abs(expected)
    # the oracle's own sums, in double, of four terms that are not zero, twice
    assert (abs(found - expected) <= bound + 16 * 2.0**-53 * size).all()


@pytest.mark.parametrize("types", MATRIX)
@pytest.mark.parametrize(("n", "order"), [(4, 4), (4, 1), (20, 18), (52, 49), (148, 148)])
def test_matrix(compiled, rng, schedule, checked, types, n, order):
    """U^T diag(A, padding I) V, with NaN beside the source."""
    dtypes = split(types)
    whole = np.full((order, order + 3), np.nan, dtypes[0])
    whole[:, :order] = rng.standard_normal((order, order))
    u, v = diagonals(rng, n), diagonals(rng, n)
    target = np.full((n, n + 1), 7, dtypes[1])
    module = compiled("butterfly.cu", checked=checked)
    transform(module, types, whole[:, :order], target[:, :n], u, v, padding=2.5, schedule=schedule)
    a = 2.5 * np.eye(n)
    a[:order, :order] = whole[:, :order]
    left, right = dense(u), dense(v)
    size = abs(left).T @ abs(a) @ abs(right)
    assert_close(target[:, :n], left.T @ a @ right, size, *dtypes)
    assert (target[:, n:] == 7).all()


@pytest.mark.parametrize("types", ["double, double", "float, float"])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (3, 400)])
def test_in_place_by_any_grid(compiled, rng, types, grid):
    """More than a block's threads in a row of the quarter, and fewer rows than blocks."""
    n, dtype = 1028, split(types)[0]
    a = rng.standard_normal((n, n)).astype(dtype)
    u, v = diagonals(rng, n), diagonals(rng, n)
    left, right = dense(u), dense(v)
    expected, size = left.T @ a @ right, abs(left).T @ abs(a) @ abs(right)
    transform(compiled("butterfly.cu"), types, a, a, u, v, grid=grid)
    assert_close(a, expected, size, dtype)


@pytest.mark.parametrize("types", MATRIX)
def test_one_pass(emulated, rng, types):
    """One read and one write of the matrix: the rest is the diagonals, and the emulator's own."""
    n, dtypes = 52, split(types)
    a, target = rng.standard_normal((n, n)).astype(dtypes[0]), np.empty((n, n), dtypes[1])
    u, v = diagonals(rng, n), diagonals(rng, n)
    module = emulated("butterfly.cu", checked=True)
    transform(module, types, a, target, u, v, grid=(1, 1))
    assert 2 * n * n <= module.counts.accesses < 2.8 * n * n


@pytest.mark.parametrize("types", TRANSPOSED)
@pytest.mark.parametrize("layout", "CF")
@pytest.mark.parametrize(("n", "order", "columns"), [(4, 2, 1), (20, 20, 7), (524, 521, 3)])
def test_right_hand_sides(compiled, rng, schedule, types, layout, n, order, columns):
    """U^T b, b continued by zeros."""
    dtypes, u = split(types), diagonals(rng, n)
    b = np.asarray(rng.standard_normal((order, columns)), dtypes[0], order=layout)
    y = np.full((n, columns), np.nan, dtypes[1], order=layout)
    module = compiled("butterfly.cu", checked=n < 100)
    apply(module, "butterfly_transposed", types, b, y, u, schedule=schedule)
    matrix = dense(u).T[:, :order]
    assert_close(y, matrix @ b.astype(float), abs(matrix) @ abs(b.astype(float)), *dtypes)


@pytest.mark.parametrize("types", FORWARD)
@pytest.mark.parametrize("layout", "CF")
@pytest.mark.parametrize(("n", "order", "columns"), [(4, 2, 1), (20, 20, 7), (524, 521, 3)])
def test_solutions(compiled, rng, schedule, types, layout, n, order, columns):
    """x = V y, of which `order` entries are written."""
    dtypes, v = split(types), diagonals(rng, n)
    y = np.asarray(rng.standard_normal((n, columns)), dtypes[0], order=layout)
    whole = np.full((order + 3, columns), 7, dtypes[1], order=layout)
    module = compiled("butterfly.cu", checked=n < 100)
    apply(module, "butterfly_forward", types, y, whole[:order], v, schedule=schedule)
    matrix = dense(v)[:order]
    assert_close(
        whole[:order], matrix @ y.astype(float), abs(matrix) @ abs(y.astype(float)), *dtypes
    )
    assert (whole[order:] == 7).all()


@pytest.mark.parametrize("name", ["butterfly_transposed", "butterfly_forward"])
def test_vectors_in_place(compiled, rng, name):
    """To the last bit as with two arrays."""
    x, u = rng.standard_normal((44, 2)), diagonals(rng, 44)
    expected = np.empty_like(x)
    module = compiled("butterfly.cu", checked=True)
    apply(module, name, "double, double", x, expected, u)
    apply(module, name, "double, double", x, x, u)
    np.testing.assert_array_equal(x, expected)


def test_a_system_is_solved(compiled, rng):
    """A whose leading minors vanish: after the transformation LU without pivoting does it."""
    order, n = 50, 52
    a = rng.standard_normal((order, order))
    a[0, 0] = 0
    a[:25, :25] = 0
    x = rng.standard_normal((order, 1))
    b, u, v = a @ x, diagonals(rng, n), diagonals(rng, n)
    module = compiled("butterfly.cu")
    lu, y, found = np.empty((n, n)), np.empty((n, 1)), np.empty((order, 1))
    transform(module, "double, double", a, lu, u, v)
    apply(module, "butterfly_transposed", "double, double", b, y, u)
    for j in range(n):
        lu[j + 1 :, j] /= lu[j, j]
        lu[j + 1 :, j + 1 :] -= np.outer(lu[j + 1 :, j], lu[j, j + 1 :])
    y = np.linalg.solve(np.triu(lu), np.linalg.solve(np.tril(lu, -1) + np.eye(n), y))
    apply(module, "butterfly_forward", "double, double", y, found, v)
    residual = abs(a @ found - b).max() / (abs(a).sum(axis=1).max() * abs(found).max())
    growth = abs(np.triu(lu)).max() / abs(a).max()
    assert residual <= 4 * n * 2.0**-53 * growth


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("types", MATRIX)
def test_what_is_not_finite_stays_so(compiled, rng, types, value):
    """In the sixteen entries that it has a part in, and no others."""
    n, dtypes = 20, split(types)
    a, target = np.ones((n, n), dtypes[0]), np.empty((n, n), dtypes[1])
    a[7, 13] = value
    transform(compiled("butterfly.cu"), types, a, target, diagonals(rng, n), diagonals(rng, n))
    expected = np.zeros((n, n), bool)
    expected[np.ix_(range(2, 20, 5), range(3, 20, 5))] = True
    np.testing.assert_array_equal(~np.isfinite(target), expected)


def test_sums_do_not_overflow(compiled):
    """Sixteen entries of 1e38 in fp32: their sum is above the range, a quarter of it is not."""
    n = 4
    ones = np.ones((1, 2, 4), np.float32)
    a, target = np.full((n, n), 8e37, np.float32), np.empty((n, n), np.float32)
    transform(compiled("butterfly.cu"), "float, float", a, target, ones, ones)
    assert target[0, 0] == 4 * a[0, 0]
    assert not target[1:].any()
