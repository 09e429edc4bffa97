"""fem_join.cu: sums over elements at the nodes that they may share."""

import itertools

import numpy as np
import pytest

from mplinalg.ops.array_fem import from_elements

from .elements import KINDS, surface

FILE = "fem_join.cu"
CASES = [
    ((1, 1), 1), ((3, 2), 2), ((5, 4), 3), ((40, 1), 1), ((1, 3), 35),
    ((1, 1, 1), 1), ((3, 2, 4), 1), ((2, 3, 2), 2), ((3, 1, 2), 4), ((17, 2, 2), 3),
]  # fmt: skip


def order(n, dim):
    """Where the nodes of an element, by rising number, stand among those on its surface; or -1."""
    found = np.full((n,) * dim, -1)
    rings = itertools.count()
    planes = [()] if dim == 2 else [(0,), (n - 1,), *((k,) for k in range(1, n - 1))]
    for plane in planes:
        if plane in ((0,), (n - 1,)):
            for j, i in itertools.product(range(n), repeat=2):
                found[(*plane, j, i)] = next(rings)
            continue
        for j in (0, n - 1):
            for i in range(n):
                found[(*plane, j, i)] = next(rings)
        for j in range(1, n - 1):
            for i in (0, n - 1):
                found[(*plane, j, i)] = next(rings)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("cells", "p"), CASES, ids=str)
@pytest.mark.parametrize("grid", [1, 3])
def test_sums(compiled, rng, schedule, checked, kind, cells, p, grid):
    """Of whole numbers, which are exact; what is inside elements stays as it is."""
    dim, n, components = len(cells), p + 1, 2
    v = rng.integers(-99, 99, (np.prod(cells), components, *(n,) * dim)).astype(kind)
    on_it, place = surface(n, dim), order(n, dim)
    assert (on_it == (place >= 0)).all()
    shares = np.full((len(v), components, on_it.sum()), np.nan, kind)
    shares[:, :, place[on_it]] = v[:, :, on_it]
    v[:, :, ~on_it] = 1000  # marks
    expected = from_elements(np, v, cells)
    out = np.full(expected.shape, 1000, kind)
    module = compiled(FILE, checked=checked)
    module[f"fem_join<{KINDS[kind]}, {dim}>"](
        grid, 256, [components, p, *(*cells, 1)[:3], shares, out], schedule=schedule
    )
    np.testing.assert_array_equal(out, expected)


def test_elements_are_added_by_rising_number(compiled, rng):
    """In that order, not in another: (1 + 2^-60) - 1 is 0, and 1 - 1 + 2^-60 is not."""
    cells, place = (2, 2), order(2, 2)
    shares = np.zeros((4, 1, 4))
    for element, corner, value in [(0, 3, 1.0), (1, 2, 2.0**-60), (2, 1, -1.0), (3, 0, 2.0**-70)]:
        shares[element, 0, place.ravel()[corner]] = value
    out = np.empty((1, 9))
    compiled(FILE)["fem_join<double, 2>"](1, 256, [1, 1, *cells, 1, shares, out])
    assert out[0, 4] == 2.0**-70
