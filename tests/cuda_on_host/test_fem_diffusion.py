"""fem_diffusion.cu: elements, by element and by node."""

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue_fem import POINTS

from .elements import Elements, is_caught, places, reached, surface
from .mutation import barriers

FILE = "fem_diffusion.cu"
# cells, n, q, points are nodes: as many points as an instance has, fewer, several blocks
CASES = [
    ((1, 1), 2, 3, False), ((5, 7), 4, 4, True), ((3, 2), 5, 6, False), ((2, 1), 13, 16, False),
    ((9, 8, 1), 2, 2, True), ((3, 5, 2), 2, 3, False), ((1, 1, 1), 4, 4, True),
    ((3, 2, 2), 3, 5, False), ((2, 2, 2), 6, 6, True), ((1, 2, 3), 5, 7, False),
    ((2, 1, 3), 8, 8, True), ((1, 2, 1), 7, 9, False), ((1, 1, 2), 8, 10, False),
]  # fmt: skip


@pytest.mark.parametrize("kind", "fd")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_elements(compiled, rng, schedule, checked, kind, case):
    cells, n, q, collocated = case
    elements = Elements(rng, "diffusion", cells, n, q, kind, collocated=collocated)
    u = elements.local(rng)
    out = np.full_like(u, np.nan)
    elements.launch(compiled(FILE, checked=checked), u, out, schedule=schedule)
    assert elements.is_near(out, u)


@pytest.mark.parametrize("uniform", [False, True])
def test_nodes(compiled, rng, schedule, checked, uniform):
    for cells, n, q, collocated in [((3, 2), 4, 5, False), ((2, 2, 2), 4, 4, True)]:
        elements = Elements(
            rng, "diffusion", cells, n, q, "d", uniform=uniform, collocated=collocated,
            components=1,
        )  # fmt: skip
        where, on_it = places(elements), surface(n, len(cells))
        u = rng.standard_normal((1, np.prod(elements.nodes)))
        local = u[0, where].reshape(len(where), 1, *on_it.shape)
        expected = np.empty(local.shape)
        elements.reference.apply_local(local, expected)
        shares, out = np.full((len(where), 1, on_it.sum()), np.nan), np.full_like(u, np.nan)
        module = compiled(FILE, checked=checked)
        elements.launch_shared(module, u, out, shares, schedule=schedule)
        inner = where[:, ~on_it.ravel()]
        np.testing.assert_allclose(out[0][inner], expected[:, 0][:, ~on_it], atol=1e-9)
        assert np.isnan(np.delete(out[0], inner.ravel())).all()
        np.testing.assert_allclose(
            np.sort(shares, axis=2), np.sort(expected[:, :, on_it], axis=2), atol=1e-9
        )


def test_not_finite(compiled, rng, checked):
    """NaN stays in its element, also where the points end within the instance's."""
    elements = Elements(rng, "diffusion", (3, 2, 2), 4, 7, "d", components=1)
    u = elements.local(rng)
    plain, out = np.empty_like(u), np.empty_like(u)
    module = compiled(FILE, checked=checked)
    elements.launch(module, u, plain)
    u[4, 0, 1, 2, 3] = np.nan
    elements.launch(module, u, out)
    others = np.delete(np.arange(12), 4)
    np.testing.assert_array_equal(out[others], plain[others])
    assert np.isnan(out[4]).all()


def test_far(emulated, rng, tmp_path):
    elements = Elements(rng, "diffusion", (2, 1, 1), 3, 4, "f", components=2)
    assert elements.is_the_same_far(emulated(FILE), rng, tmp_path)


def test_cases_reach_every_instance():
    assert reached(CASES) == {(dim, size) for dim, sizes in POINTS.items() for size in sizes}


@pytest.mark.parametrize("edit", barriers(FILE), ids=lambda edit: edit.__name__)
def test_every_barrier_is_needed(broken, rng, edit):
    elements = Elements(rng, "diffusion", (2, 2, 1), 3, 4, "d")
    assert is_caught(elements, broken(FILE, edit, elements.name), rng)
