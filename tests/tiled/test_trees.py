"""The trees of TSQR: the same Q and R whatever the tree, and what each of them costs."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import tiled
from mplinalg.testing import gallery
from mplinalg.tiled import orthogonal
from mplinalg.tiled.grid import Grid
from mplinalg.tiled.plan import make_plan
from mplinalg.tiled.qr import Tree, fewest_domains, q_program, qr_program
from mplinalg.tiled.tasks import nbytes

DTYPES = ["float32", "float64", "complex64", "complex128"]
FACTOR = 30
KIND = np.dtype("f8")


@pytest.fixture
def domains(request, monkeypatch):
    monkeypatch.setattr(orthogonal, "fewest_domains", lambda grid, dtype, threads: request.param)
    return request.param


def several(*counts):
    return pytest.mark.parametrize("domains", counts, indirect=True)


def normal(rng, shape, dtype="float64"):
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else a).astype(dtype)


def check(a, q, r):
    """By LAPACK's constant: Q^H Q = I, Q R = A, R upper triangular."""
    (m, n), size = a.shape, min(a.shape)
    assert (q.shape, r.shape, q.dtype, r.dtype) == ((m, size), (size, n), a.dtype, a.dtype)
    assert np.array_equal(r, np.triu(r))
    bound = FACTOR * max(m, n) * np.finfo(a.dtype).eps / 2
    scale = float(abs(a).max()) if a.size and abs(a).max() else 1.0
    assert np.linalg.norm(q @ (r / scale) - a / scale) <= bound * np.linalg.norm(a / scale)
    assert np.linalg.norm(q.conj().T @ q - np.eye(size)) <= bound


SHAPES = [
    (1, 1, 1), (5, 3, 2), (3, 5, 2), (40, 40, 8), (41, 17, 8), (17, 41, 8), (100, 7, 8),
    (64, 8, 8), (65, 8, 8), (7, 1, 3), (5, 3, 16), (300, 140, 70), (700, 130, None),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@several(1, 2, 3, 7, 100)
def test_any_tree(rng, dtype, shape, domains):
    m, n, tile = shape
    a = normal(rng, (m, n), dtype)
    q, r = tiled.qr(a, tile=tile, memory_limit="3 MB")
    check(a, q.to_array(), r.to_array())


@several(1, 3)
@pytest.mark.parametrize("shape", [(0, 0), (4, 0), (0, 4)])
def test_nothing(shape, domains):
    q, r = tiled.qr(np.zeros(shape), tile=2)
    assert (q.shape, r.shape) == ((shape[0], 0), (0, shape[1]))
    assert tiled.qr(np.zeros(shape)).Q.to_array().shape == (shape[0], 0)


@several(1, 2, 5)
@pytest.mark.parametrize(
    "name", ["hilbert", "singular_svd", "large_scaled", "kahan", "zero_column"]
)
def test_hard_matrices(name, domains):
    """Square, and its columns over each other: many rows, the same rank."""
    square = gallery.matrix(name, 40)
    for a in (square, np.concatenate([square, square[::-1], square[:5]])):
        q, r = (x.to_array() for x in tiled.qr(a, tile=16, memory_limit="100 kB"))
        check(a, q, r)


@several(1, 2, 5)
@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_far_from_one(rng, size, domains):
    a = size * normal(rng, (70, 9))
    check(a, *(x.to_array() for x in tiled.qr(a, tile=9)))


@several(1, 2, 5)
def test_zeros_and_one_column(domains):
    for a in (np.zeros((50, 6)), np.ones((50, 1)), np.outer(np.arange(50.0), np.ones(6))):
        check(a, *(x.to_array() for x in tiled.qr(a, tile=8)))


@several(1, 4)
def test_what_is_not_finite_is_told(rng, domains):
    for bad in (np.nan, np.inf):
        a = normal(rng, (90, 8))
        a[77, 3] = bad
        with pytest.raises(ValueError, match="infs or NaNs"):
            tiled.qr(a, tile=8)


# -- what trees cost -----------------------------------------------------------------------------


def programs(shape, tile, domains):
    grid = Grid(shape, tile)
    first = qr_program(grid, KIND, domains)
    return first, q_program(grid, KIND, first, domains)


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 13])
@pytest.mark.parametrize("domains", [1, 2, 3, 8, 20])
def test_each_tile_is_reduced_once(rows, domains):
    for k in range(rows):
        tree = Tree(k, rows, domains)
        below = [i for head in tree.heads for i in tree.chain(head)]
        beaten = [b for _, b in tree.matches]
        assert sorted([k, *below, *beaten]) == list(range(k, rows))
        for number, (a, b) in enumerate(tree.matches):  # who has lost plays no more
            assert not {a, b} & set(beaten[:number])
        heads, rounds = len(tree.heads), {}
        for a, b in tree.matches:
            rounds[a] = rounds[b] = 1 + max(rounds.get(a, 0), rounds.get(b, 0))
        assert rounds.get(k, 0) == (heads - 1).bit_length()


@pytest.mark.parametrize("shape", [(3200, 100), (1600, 400), (800, 800)])
def test_all_trees_take_the_same_flops(shape):
    """2 n^2 (m - n / 3), of R and of Q."""
    m, n = shape
    expected = 2 * n**2 * (m - n / 3)
    for domains in (1, 2, 7, 100):
        r, q = programs(shape, (100, 100), domains)
        assert np.isclose(r.flops, expected, rtol=1e-12)
        assert np.isclose(q.flops, expected, rtol=1e-12)


def test_a_tree_shortens_the_chain_of_a_tall_matrix_and_not_of_a_square_one():
    flat, _ = programs((6400, 100), (100, 100), 1)
    assert np.isclose(flat.longest_chain(), flat.flops)  # nothing runs beside anything
    for domains in (2, 4, 8):
        tree, _ = programs((6400, 100), (100, 100), domains)
        assert tree.longest_chain() <= flat.flops / domains * 1.1
    flat, tree = (programs((1600, 1600), (100, 100), domains)[0] for domains in (1, 4))
    assert flat.longest_chain() < tree.longest_chain()


@pytest.mark.parametrize(("shape", "least"), [((6400, 100), 0.06), ((1600, 400), 0.25)])
def test_a_flat_tree_moves_the_fewest_bytes(shape, least):
    bytes_of_a = shape[0] * shape[1] * 8
    for share in (least, 0.3, 1.0):
        moved = []
        for domains in (1, 2, 4, 16):
            r, q = programs(shape, (100, 100), domains)
            limit = int(share * bytes_of_a) + 12 * 100**2 * 8
            plans = make_plan(r, limit), make_plan(q, limit, r.results)
            moved.append(sum(plan.traffic.moved for plan in plans))
        assert moved == sorted(moved)
        assert moved[0] < moved[-1]


def test_of_other_domains_only_triangles_are_needed():
    """What is as large as a block of rows stays where it is."""
    r, q = programs((8000, 50), (500, 50), 4)
    made_at = {}
    for task in (*r.tasks, *q.tasks):
        for key in task.needs:
            if made_at.get(key, task.home) != task.home:
                assert nbytes({**r.tiles, **q.tiles}, [key]) <= 64 * 50 * 8
        made_at.update(dict.fromkeys(task.makes, task.home))
    assert set(made_at.values()) == {0, 1, 2, 3}


def test_which_tree_is_taken():
    tall, square = Grid((6400, 100), (100, 100)), Grid((1600, 1600), (100, 100))
    for threads in (1, 2, 3, 8):
        assert fewest_domains(tall, KIND, threads) == threads
        assert fewest_domains(square, KIND, threads) == 1
    assert fewest_domains(Grid((100, 100), (100, 100)), KIND, 8) == 1
    assert fewest_domains(Grid((0, 0), (1, 1)), KIND, 8) == 1
    assert tiled.LocalExecutor("1 MB").threads == 1


# -- few columns, in bounded memory --------------------------------------------------------------


def test_few_columns_are_read_once_and_written_once(rng):
    """Also where no block column of square tiles would fit."""
    a = normal(rng, (6000, 30))
    limit = a.nbytes // 8
    q, r, traffic = tiled.qr(a, memory_limit=limit, full_output=True)
    check(a, q.to_array(), r.to_array())
    assert traffic.peak <= limit
    blocks = -(-6000 // q.tile[0])
    assert blocks <= 60
    assert traffic.loaded == a.nbytes
    assert traffic.spilled == 0
    small = 8 * 30 * (30 + blocks * 30)  # R, and T of each pair
    assert traffic.reloaded <= a.nbytes + small
    assert traffic.saved <= 2 * a.nbytes + small


def test_block_columns_that_do_not_fit_pass_through_memory(rng):
    a = normal(rng, (4000, 60))
    limit = a.nbytes // 24
    q, r, traffic = tiled.qr(a, memory_limit=limit, full_output=True)
    check(a, q.to_array(), r.to_array())
    assert traffic.peak <= limit
    width = r.tile[0]
    assert 4000 * width * 8 > limit / 2, "narrower ones would fit, and move more"
    assert traffic.moved <= 2 * 3 * 4000 * 60**2 / (2 * width) * 8 + 8 * a.nbytes
