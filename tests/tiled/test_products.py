"""gemm, qr and svd of tiled matrices."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import tiled
from mplinalg.testing import gallery

DTYPES = ["float32", "float64", "complex64", "complex128"]
FACTOR = 30


def normal(rng, shape, dtype="float64"):
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else a).astype(dtype)


def unit(dtype):
    return np.finfo(dtype).eps / 2


# -- gemm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (30, 1, 20), (1, 40, 1), (33, 64, 17)])
@pytest.mark.parametrize("tile", [1, 8, 100])
def test_products(rng, dtype, shape, tile):
    m, k, n = shape
    a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
    c = tiled.gemm(a, b, alpha=-2.0, tile=tile, memory_limit="1 MB")
    assert c.shape == (m, n)
    assert c.dtype == dtype
    bound = FACTOR * (k + 2) * unit(dtype) * (abs(a) @ abs(b))
    assert np.all(abs(c.to_array() + 2 * (a @ b)) <= 2 * bound)


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2), (3, 2, 0)])
def test_empty_products(shape):
    m, k, n = shape
    assert np.array_equal(tiled.gemm(np.ones((m, k)), np.ones((k, n))).to_array(), np.zeros((m, n)))


def test_memory_changes_no_bit_of_a_product(rng):
    a, b = normal(rng, (100, 90)), normal(rng, (90, 80))
    found = [tiled.gemm(a, b, tile=10, memory_limit=k).to_array() for k in (8000, 30_000, 10**7)]
    assert all(np.array_equal(c, found[0]) for c in found)


def test_more_memory_means_less_traffic_for_a_product(rng):
    a, b = normal(rng, (120, 120)), normal(rng, (120, 120))
    moved = []
    for limit in (8000, 30_000, 80_000, 10**7):
        _, traffic = tiled.gemm(a, b, tile=10, memory_limit=limit, full_output=True)
        assert traffic.peak <= limit
        moved.append(traffic.loaded)
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] == a.nbytes + b.nbytes
    # g^2 tiles of C at a time: 2 m n k / (g w) numbers, and no more than a third besides
    g = int(np.sqrt(30_000 / 800 + 4)) - 2
    assert moved[1] <= 4 / 3 * 2 * 120**3 / (g * 10) * 8


def test_a_product_is_kept_in_a_directory(rng, tmp_path):
    a, b = normal(rng, (20, 30)), normal(rng, (30, 10))
    c = tiled.gemm(a, b, tile=7, workdir=tmp_path)
    assert np.array_equal(tiled.TiledMatrix.open(tmp_path).to_array(), c.to_array())
    with pytest.raises(FileExistsError):
        tiled.gemm(a, b, tile=7, workdir=tmp_path)


def test_bad_products():
    with pytest.raises(ValueError, match=r"a of shape \(2, 3\) and b of shape \(2, 3\) do not fit"):
        tiled.gemm(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(TypeError, match="complex"):
        tiled.gemm(np.eye(2), np.eye(2), alpha=1j)
    with pytest.raises(TypeError, match="complex"):
        tiled.gemm(np.eye(2), np.eye(2), alpha=np.complex64(1j))
    with pytest.raises(TypeError, match="alpha must be a number"):
        tiled.gemm(np.eye(2), np.eye(2), alpha="2")
    assert np.array_equal(tiled.gemm(np.eye(2), np.eye(2), alpha=2 + 0j).to_array(), 2 * np.eye(2))
    with pytest.raises(tiled.LimitTooSmall):
        tiled.gemm(np.eye(40), np.eye(40), tile=20, memory_limit=2000)


# -- qr ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (40, 40), (41, 17), (17, 41), (100, 7)])
@pytest.mark.parametrize("tile", [1, 8, 16, 100])
def test_qr(rng, dtype, shape, tile):
    m, n = shape
    if tile == 1 and m * n > 100:
        pytest.skip("so many tiles take long and show nothing new")
    a = normal(rng, shape, dtype)
    q, r = (x.to_array() for x in tiled.qr(a, tile=tile, memory_limit="1 MB"))
    size = min(m, n)
    assert q.shape == (m, size)
    assert r.shape == (size, n)
    assert q.dtype == r.dtype == dtype
    assert np.array_equal(r, np.triu(r))
    bound = FACTOR * max(m, n) * unit(dtype)
    assert np.linalg.norm(q @ r - a) <= bound * np.linalg.norm(a)
    assert np.linalg.norm(q.conj().T @ q - np.eye(size)) <= bound


@pytest.mark.parametrize("width", [70, 130])
def test_qr_of_wide_tiles(rng, width):
    """Several block reflectors in a tile."""
    a = normal(rng, (3 * width + 5, 2 * width + 3), "complex128")
    q, r = (x.to_array() for x in tiled.qr(a, tile=width))
    assert np.linalg.norm(q @ r - a) <= FACTOR * len(a) * 2.0**-53 * np.linalg.norm(a)
    assert np.linalg.norm(q.conj().T @ q - np.eye(len(r))) <= FACTOR * len(a) * 2.0**-53


@pytest.mark.parametrize(
    "name", ["hilbert", "singular_svd", "large_scaled", "kahan", "zero_column"]
)
def test_qr_of_hard_matrices(name):
    a = gallery.matrix(name, 50)
    q, r = (x.to_array() for x in tiled.qr(a, tile=16, memory_limit="100 kB"))
    scale = abs(a).max()
    assert np.linalg.norm(q.T @ q - np.eye(50)) <= FACTOR * 50 * 2.0**-53
    assert np.linalg.norm(q @ (r / scale) - a / scale) <= FACTOR * 50 * 2.0**-53 * 50


def test_qr_keeps_its_limit_and_its_files(rng, tmp_path):
    a = normal(rng, (200, 60))
    q, r, traffic = tiled.qr(a, tile=20, memory_limit=60_000, workdir=tmp_path, full_output=True)
    assert traffic.peak <= 60_000
    assert np.array_equal(tiled.TiledMatrix.open(tmp_path / "Q").to_array(), q.to_array())
    assert np.array_equal(tiled.TiledMatrix.open(tmp_path / "R").to_array(), r.to_array())
    only = tiled.qr(a, mode="r", tile=20)
    assert only.Q is None
    assert np.array_equal(only.R.to_array(), r.to_array())


def test_bad_qr():
    with pytest.raises(ValueError, match="mode must be"):
        tiled.qr(np.eye(2), mode="full")
    a = np.eye(30)
    a[25, 3] = np.nan
    with pytest.raises(ValueError, match="infs or NaNs"):
        tiled.qr(a, tile=8)


# -- svd -----------------------------------------------------------------------------------------


def decaying(rng, m, n, dtype, ratio=0.7):
    u, _ = np.linalg.qr(normal(rng, (m, min(m, n)), dtype))
    v, _ = np.linalg.qr(normal(rng, (n, min(m, n)), dtype))
    s = ratio ** np.arange(min(m, n))
    return ((u * s) @ v.conj().T).astype(dtype), s


def halko(k, p, q, rank):
    """Of the expected error, over the (k + 1)-th singular value; corollary 10.10."""
    e = np.e
    return (1 + np.sqrt(k / (p - 1)) + e * np.sqrt(k + p) * np.sqrt(rank - k) / p) ** (
        1 / (2 * q + 1)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(90, 60), (60, 90)])
@pytest.mark.parametrize("power", [0, 1, 2])
def test_svd(rng, dtype, shape, power):
    a, s = decaying(rng, *shape, dtype)
    k, p = 6, 10
    u, found, vh = tiled.svd(a, k, oversample=p, power=power, memory_limit="1 MB")
    assert u.dtype == vh.dtype == dtype
    assert (u.shape, found.shape, vh.shape) == ((shape[0], k), (k,), (k, shape[1]))
    rounding = FACTOR * max(shape) * unit(dtype)
    assert np.all(np.diff(found) <= 0)
    assert np.all(found <= s[:k] + rounding)
    error = np.linalg.norm(a - (u * found) @ vh, 2)
    # the expectation is of the range finder; what k of its k + p vectors lose comes besides
    assert error <= (1 + halko(k, p, power, min(shape))) * s[k] + rounding
    for v in (u.conj().T @ u, vh @ vh.conj().T):
        assert np.linalg.norm(v - np.eye(k)) <= rounding


@pytest.mark.parametrize("power", [0, 1, 3])
def test_passes(rng, power):
    a = normal(rng, (64, 50))
    _, _, _, traffic = tiled.svd(a, 5, power=power, memory_limit="1 MB", full_output=True)
    vectors = 64 * 8 * 15 + 50 * 8 * 15  # read and written once a pass, at most
    passes = 2 + 2 * power
    assert passes * a.nbytes <= traffic.loaded <= passes * (a.nbytes + vectors)


def test_power_iterations_help(rng):
    a, s = decaying(rng, 200, 150, "float64", 0.95)
    errors = []
    for power in (0, 1, 4):
        u, found, vh = tiled.svd(a, 10, power=power, oversample=5)
        errors.append(np.linalg.norm(a - (u * found) @ vh, 2) / s[10])
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1.05


def test_svd_of_low_rank_is_exact(rng):
    a = normal(rng, (80, 3)) @ normal(rng, (3, 70))
    u, s, vh = tiled.svd(a, 3)
    assert np.linalg.norm((u * s) @ vh - a) <= FACTOR * 80 * 2.0**-53 * np.linalg.norm(a)


def test_a_call_repeats_itself(rng):
    a = normal(rng, (40, 30))
    first, again = tiled.svd(a, 4), tiled.svd(a, 4)
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    other = tiled.svd(a, 4, oversample=0, power=0, rng=7)
    assert not np.array_equal(other[1], tiled.svd(a, 4, oversample=0, power=0, rng=8)[1])


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"k": 31}, {"k": 2.0}, {"k": 2, "oversample": -1}, {"k": 2, "power": -1}]
)
def test_bad_svd(options):
    with pytest.raises(ValueError, match=r"k must lie between 1 and 30|must be a non-negative"):
        tiled.svd(np.ones((40, 30)), **options)


def test_svd_of_what_is_not_finite():
    a = np.ones((20, 20))
    a[3, 4] = np.inf
    with pytest.raises(ValueError, match="infs or NaNs"):
        tiled.svd(a, 2)
    with pytest.raises(ValueError, match="overflow in products"):  # of A^H Q, A X being finite
        tiled.svd(np.full((4000, 10), 5e306), 1, power=0)


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
@pytest.mark.parametrize("k", [1, 40])
def test_the_figure_of_a_limit_that_is_too_small_for_an_svd_is_enough(rng, shape, k):
    a = normal(rng, shape)
    with pytest.raises(tiled.LimitTooSmall) as caught:
        tiled.svd(a, k, memory_limit=1000)
    _, s, _, traffic = tiled.svd(a, k, memory_limit=caught.value.needed, full_output=True)
    assert traffic.peak <= caught.value.needed
    assert s[0] > 0


# -- memory --------------------------------------------------------------------------------------


def test_results_in_memory_count_against_the_limit(rng, tmp_path, monkeypatch):
    """What is kept, and the tiles of other matrices beside it: both together are within it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "there is no such directory"))
    a = normal(rng, (200, 100))
    assert tiled.qr(a, tile=20, memory_limit=3 * a.nbytes).Q.shape == a.shape
    with pytest.raises(FileNotFoundError):  # the factors alone would fit
        tiled.qr(a, tile=20, memory_limit=int(1.5 * a.nbytes))
    c = 200 * 200 * 8
    _, traffic = tiled.gemm(a, a.T, tile=20, memory_limit=3 * c, full_output=True)
    assert traffic.peak <= 2 * c
    with pytest.raises(FileNotFoundError):
        tiled.gemm(a, a.T, tile=20, memory_limit=int(1.5 * c))


@pytest.mark.parametrize("n", [40, 100])
def test_a_limit_far_too_small_names_one_that_is_not_far_too_large(n):
    """The list of the narrow tiles that it leads to is not what is needed."""
    a = np.ones((n, n))
    with pytest.raises(tiled.LimitTooSmall) as caught:
        tiled.gemm(a, a, memory_limit=10)
    assert caught.value.needed < 2000
    np.testing.assert_array_equal(tiled.gemm(a, a, memory_limit=caught.value.needed).to_array(), n)
