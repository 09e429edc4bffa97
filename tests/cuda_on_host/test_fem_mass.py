"""fem_mass.cu: elements, by element and by node; also what it shares with fem_diffusion.cu."""

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue_fem import POINTS

from .elements import Elements, is_caught, places, reached, surface
from .mutation import barriers, barriers_of_header

FILE = "fem_mass.cu"
# cells, n, q, points are nodes: as many points as an instance has, fewer, several blocks
CASES = [
    ((1, 1), 2, 4, False), ((5, 7), 3, 3, False), ((3, 2), 8, 8, True), ((2, 1), 7, 9, False),
    ((9, 8, 1), 2, 2, False), ((3, 5, 2), 3, 3, True), ((1, 1, 1), 2, 4, False),
    ((3, 2, 2), 5, 5, False), ((2, 2, 2), 4, 6, False), ((1, 2, 3), 7, 7, True),
    ((2, 1, 3), 6, 8, False), ((1, 2, 1), 8, 9, False), ((1, 1, 3), 10, 10, True),
]  # fmt: skip


@pytest.mark.parametrize("kind", "fd")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_elements(compiled, rng, schedule, checked, kind, case):
    cells, n, q, collocated = case
    elements = Elements(rng, "mass", cells, n, q, kind, collocated=collocated)
    u = elements.local(rng)
    out = np.full_like(u, np.nan)
    elements.launch(compiled(FILE, checked=checked), u, out, schedule=schedule)
    assert elements.is_near(out, u)


@pytest.mark.parametrize("uniform", [False, True])
def test_nodes(compiled, rng, schedule, checked, uniform):
    """Inner nodes have their sums; those on surfaces are left, and what they get is put aside."""
    for cells, n, q in [((3, 2), 4, 5), ((2, 3, 2), 4, 5), ((2, 2, 3), 3, 4)]:
        elements = Elements(rng, "mass", cells, n, q, "d", uniform=uniform)
        local = elements.local(rng)
        u = np.zeros((2, np.prod(elements.nodes)))
        # neighbours have the same value at a node: any of them
        where = places(elements)
        for c in range(2):
            u[c, where] = local[:, c].reshape(len(where), -1)
            local[:, c] = u[c, where].reshape(local[:, c].shape)
        expected = np.empty(local.shape)
        elements.reference.apply_local(local, expected)
        on_it = surface(n, len(cells))
        shares = np.full((len(where), 2, on_it.sum()), np.nan)
        out = np.full_like(u, np.nan)
        module = compiled(FILE, checked=checked)
        elements.launch_shared(module, u, out, shares, schedule=schedule)
        inner = where[:, ~on_it.ravel()]
        for c in range(2):
            found = out[c]
            np.testing.assert_allclose(found[inner], expected[:, c][:, ~on_it], atol=1e-9)
            assert np.isnan(np.delete(found, inner.ravel())).all()
        # each once, in an order that test_fem_join.py knows
        np.testing.assert_allclose(
            np.sort(shares, axis=2), np.sort(expected[:, :, on_it], axis=2), atol=1e-9
        )


def test_not_finite(compiled, rng, checked):
    """NaN and infinity stay in their element, also where the table ends within the instance's."""
    elements = Elements(rng, "mass", (3, 2, 2), 4, 7, "d", components=1)
    u = elements.local(rng)
    plain, out = np.empty_like(u), np.empty_like(u)
    module = compiled(FILE, checked=checked)
    elements.launch(module, u, plain)
    u[4, 0, 1, 2, 3], u[9] = np.nan, np.inf
    elements.launch(module, u, out)
    others = np.setdiff1d(np.arange(12), [4, 9])
    np.testing.assert_array_equal(out[others], plain[others])
    assert np.isnan(out[4]).all()
    assert not np.isfinite(out[9]).any()


def test_far(emulated, rng, tmp_path):
    elements = Elements(rng, "mass", (2, 1, 1), 3, 4, "f", components=2)
    assert elements.is_the_same_far(emulated(FILE), rng, tmp_path)


def test_cases_reach_every_instance():
    assert reached(CASES) == {(dim, size) for dim, sizes in POINTS.items() for size in sizes}


@pytest.mark.parametrize("edit", barriers_of_header("fem.cuh"), ids=lambda edit: edit.__name__)
def test_every_barrier_of_the_header_is_needed(broken, rng, edit):
    elements = Elements(rng, "mass", (2, 2, 1), 4, 4, "d")
    module = broken(FILE, edit, elements.name)
    assert is_caught(elements, module, rng)


def test_the_barrier_behind_the_table_is_needed(broken, rng):
    elements = Elements(rng, "mass", (2, 2, 1), 4, 4, "d")
    (edit,) = barriers(FILE)
    assert is_caught(elements, broken(FILE, edit, elements.name), rng)
