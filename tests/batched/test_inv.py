"""batched.inv: the inverses of a loop of SciPy's; which matrices have none, or hardly one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, LinAlgWarning, Status
from mplinalg.batched import Ragged, inv
from mplinalg.kernels.cpu.batched import inverse as kernels
from mplinalg.kernels.cpu.batched import qr_stacks, threads
from mplinalg.precision import working_format
from mplinalg.testing import gallery

# kernels are compiled for each dtype
DTYPES = ["d", "F", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in "fD")]
LOSS = 30.0


def normal(rng, shape, dtype="d"):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return a.astype(dtype)


def norms(a):
    return np.sqrt((np.abs(a) ** 2).sum(axis=(-2, -1)))


def check(a, x):
    """Both residuals are small, and X is that of SciPy to the accuracy that cond(A) allows."""
    assert x.shape == a.shape
    assert x.dtype == a.dtype
    assert x.flags.c_contiguous
    n = a.shape[-1]
    wide = np.result_type(a, "d")
    p, q = a.astype(wide), x.astype(wide)
    bound = LOSS * n * working_format(a.dtype).unit_roundoff
    assert np.all(norms(p @ q - np.eye(n)) <= bound * norms(p) * norms(q))
    expected = np.empty_like(p)
    for index in np.ndindex(a.shape[:-2]):
        expected[index] = scipy.linalg.inv(p[index])
    assert np.all(norms(q - expected) <= bound * np.linalg.cond(p) * norms(expected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 9, 16, 17])
def test_dtypes_and_orders(rng, n, dtype):
    a = normal(rng, (19, n, n), dtype)
    kept = a.copy()
    check(a, inv(a))
    assert np.array_equal(a, kept)


@pytest.mark.parametrize("n", [5, 6, 7, *range(10, 25), 33, 64, 65])
def test_orders(rng, n):
    a = normal(rng, (11 if n < 30 else 1 + n % 4, n, n))
    check(a, inv(a))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lapack_takes_what_no_cache_holds(rng, dtype, monkeypatch):
    monkeypatch.setattr(qr_stacks, "_LARGEST_TILE", 0)
    for n in (1, 3, 20, 70):
        a = normal(rng, (4, n, n), dtype)
        check(a, inv(a))


def test_the_border_of_straight_code(rng, monkeypatch):
    a = normal(rng, (30, 3, 3))
    straight = inv(a)
    monkeypatch.setattr(kernels, "STRAIGHT", 0)
    tiles = inv(a)
    check(a, tiles)
    bound = LOSS * 3 * working_format("d").unit_roundoff * np.linalg.cond(a)
    assert np.all(norms(straight - tiles) <= bound * norms(tiles))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [3, 12])
@pytest.mark.parametrize("largest", [0, None])
def test_the_condition_number_is_computed(rng, n, dtype, largest, monkeypatch):
    if largest is not None:
        monkeypatch.setattr(qr_stacks, "_LARGEST_TILE", largest)
    a = normal(rng, (20, n, n), dtype)
    x, rcond = np.empty_like(a), np.empty(20, a.real.dtype)
    kernels.inverse_stack(a, x, rcond)
    exact = 1 / np.linalg.cond(a.astype(np.result_type(a, "d")), 1)
    slack = LOSS * n * working_format(dtype).unit_roundoff / exact
    assert np.all(rcond <= exact * (1 + slack))
    # |re| + |im| is up to sqrt(2) |z|, in both norms
    assert np.all(rcond * (1 if a.dtype.kind == "f" else 2) >= exact * (1 - slack))


@pytest.mark.parametrize("name", ["gfpp", "frank", "minij", "kms", "orthogonal", "kahan", "moler"])
@pytest.mark.parametrize("n", [4, 8, 13])
def test_gallery(name, n):
    a = np.stack([gallery.matrix(name, n)] * 3)
    check(a, inv(a))


@pytest.mark.parametrize("n", [3, 5, 8, 20])
def test_triangular_matrices_keep_small_residuals(rng, n):
    """By elimination of both triangles at once (Gauss-Jordan) they would not."""
    theta = 1.2
    kahan = np.sin(theta) ** np.arange(n)[:, None] * (
        np.eye(n) - np.cos(theta) * np.triu(np.ones((n, n)), 1)
    )
    a = np.stack([kahan, kahan.T, np.tril(normal(rng, (n, n))), np.triu(normal(rng, (n, n)))])
    check(a, inv(a))


# -- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 17, 67])
@pytest.mark.parametrize("n", [3, 10])
def test_batches(rng, count, n):
    a = normal(rng, (67, n, n))
    assert np.array_equal(inv(a[:count]), inv(a)[:count])


@pytest.mark.parametrize("n", [2, 4])
def test_a_hundred_thousand(rng, n):
    a = normal(rng, (100_000, n, n))
    x = inv(a)
    bound = LOSS * n * working_format("d").unit_roundoff
    assert np.all(norms(a @ x - np.eye(n)) <= bound * norms(a) * norms(x))


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 3, 3), (0, 3, 3), (2, 0, 0), (2, 0, 3, 3)])
def test_batch_dimensions_and_empty_matrices(rng, shape):
    a = normal(rng, shape)
    x, report = inv(a, full_output=True)
    assert x.shape == shape
    assert report.status.shape == report.backward_error.shape == shape[:-2]
    if a.size:
        check(a, x)


@pytest.mark.parametrize("dtype", ["d", "F"])
@pytest.mark.parametrize("n", [3, 9])
def test_layouts(rng, dtype, n):
    a = normal(rng, (80, n, n), dtype)
    expected = inv(a)
    views = [np.asfortranarray(a), np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2),
             a[::-1, ::-1].copy()[::-1, ::-1], np.repeat(a, 2, axis=2)[:, :, ::2]]  # fmt: skip
    a.flags.writeable = False
    for view in (*views, a):
        assert np.array_equal(inv(view), expected)
    assert np.array_equal(inv(np.broadcast_to(a[3], a.shape))[40], expected[3])
    assert np.array_equal(inv(a.reshape(2, 40, n, n)).reshape(a.shape), expected)


@pytest.mark.parametrize(("given", "dtype"), [("i8", "d"), ("?", "d"), ("e", "f"), ("g", "d")])
def test_given_dtypes(given, dtype):
    a = np.array([[[1, 1], [0, 1]]]).astype(given)
    x = inv(a)
    assert x.dtype == np.dtype(dtype)
    assert np.array_equal(x, [[[1, -1], [0, 1]]])


# -- members that have no inverse, or hardly one --------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 4, 9, 40])
def test_bad_members_are_named_and_spoil_no_other(rng, n, dtype):
    a = normal(rng, (40, n, n), dtype)
    expected = inv(a)
    a[3] = 0
    a[11, -1] = np.nan
    a[12, 0, -1] = np.inf
    a[38, :, -1] = 0
    with pytest.raises(LinAlgError) as caught:
        inv(a)
    message = str(caught.value)
    assert "Singular: 2 of 40 members, [3, 38]" in message
    assert f"pivot 1 of {n} is exactly zero" in message
    assert "NaN or infinity in the input: 2 of 40 members, [11, 12]" in message
    x, report = inv(a, raise_on_failure=False, full_output=True)
    assert report.failed.tolist() == [3, 11, 12, 38]
    assert np.isnan(x[report.failed]).all()
    assert np.isnan(report.backward_error[report.failed]).all()
    assert report.info[[3, 11, 12, 38]].tolist() == [1, -1, -1, n]
    others = np.setdiff1d(np.arange(40), report.failed)
    assert np.array_equal(x[others], expected[others])
    bound = LOSS * n * working_format(dtype).unit_roundoff
    assert np.all(report.backward_error[others] <= bound)
    assert all(report.status[k] is Status.DIRECT for k in others)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [3, 12])
def test_singular_to_working_precision(rng, n, dtype):
    """A warning, and what LAPACK makes of it; none where the matrix is only ill conditioned."""
    a = normal(rng, (20, n, n), dtype)
    u = working_format(dtype).unit_roundoff
    left, _, right = np.linalg.svd(a[[4, 7]])
    values = np.ones((2, n))
    values[:, -1] = u / 1e3, 1e3 * u  # condition numbers 1e3 / u and 1e-3 / u
    a[[4, 7]] = (left * values[:, None] @ right).astype(dtype)
    with pytest.warns(LinAlgWarning, match="Singular to working precision.* 1 of 20.*4"):
        x = inv(a)
    assert np.isfinite(x).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        _, report = inv(a, full_output=True)
    assert report.status[4] is Status.ILL_CONDITIONED
    assert report.status[7] is Status.DIRECT
    assert report.failed.size == 0
    others = np.setdiff1d(np.arange(20), [4, 7])
    check(a[others], x[others])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 7, 20])
def test_numbers_far_from_one(rng, n, dtype):
    huge = 1e30 if dtype in "fF" else 1e300
    a = normal(rng, (3, n, n), dtype)
    expected = inv(a)
    factor = a.real.dtype.type(2.0 ** np.round(np.log2(huge)))
    scaled = np.concatenate([a * factor, a / factor])
    x = inv(scaled)  # without a warning
    bound = LOSS * n * working_format(dtype).unit_roundoff * np.linalg.cond(a)
    assert np.all(norms(x[:3] * factor - expected) <= bound * norms(expected))
    assert np.all(norms(x[3:] / factor - expected) <= bound * norms(expected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [8, 12])
def test_norms_out_of_range(rng, n, dtype):
    """Sums of a column exceed the range; the condition number does not, and nothing is wrong."""
    a = np.stack([np.linalg.qr(normal(rng, (n, n), dtype))[0] for _ in range(3)])
    assert np.all(np.abs(a).sum(axis=1).max(axis=1) > 2)
    power = np.finfo(a.real.dtype).maxexp - 1  # half of the largest number
    one, other = (a.real.dtype.type(2.0**part) for part in (power // 2, power - power // 2))
    x, report = inv(a * one * other, full_output=True)
    assert all(status is Status.DIRECT for status in report.status)
    error = norms(x * one * other - a.conj().swapaxes(1, 2))
    # the inverse has subnormal numbers
    assert np.all(error <= LOSS * n * working_format(dtype).unit_roundoff * np.sqrt(n))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [4, 8, 12])
def test_factors_out_of_range(n, dtype):
    """Wilkinson's matrix, of which the last pivot is 2^(n - 1) times as large as its entries."""
    a = np.eye(n) - np.tril(np.ones((n, n)), -1)
    a[:, -1] = 1
    power = np.finfo(dtype).maxexp - n.bit_length()
    half = np.dtype(dtype).type(2.0 ** (power // 2)), np.dtype(dtype).type(2.0 ** -(-power // 2))
    x, report = inv(np.stack([a, a]).astype(dtype) * half[0] * half[1], full_output=True)
    assert all(status is Status.DIRECT for status in report.status)
    found = x * half[0] * half[1]
    bound = LOSS * n * working_format(dtype).unit_roundoff * np.linalg.cond(a)
    assert np.all(norms(found - np.linalg.inv(a)) <= bound)


def test_an_inverse_out_of_range():
    a = np.stack([np.eye(3), 1e-310 * np.eye(3)])
    with pytest.warns(LinAlgWarning, match="exceed the range"):
        x = inv(a)
    assert np.array_equal(x[0], np.eye(3))
    assert not np.isfinite(x[1].diagonal()).any()


# -- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["d", "F"])
def test_threads(rng, dtype, monkeypatch):
    stacks = [normal(rng, (1000, n, n), dtype) for n in (2, 10)]
    alone = [inv(a) for a in stacks]
    monkeypatch.setattr(threads, "blas_threads", lambda: 3)
    monkeypatch.setattr(threads, "_WORTHWHILE", 1e-9)
    for a, expected in zip(stacks, alone, strict=True):
        assert np.array_equal(inv(a), expected)


def test_lists(rng):
    members = [normal(rng, (n, n)) for n in (2, 5, 2, 0, 9, 5)]
    x, report = inv(members, full_output=True)
    ragged = inv(Ragged.from_list(members))
    assert isinstance(ragged, Ragged)
    for k, a in enumerate(members):
        assert np.array_equal(x[k], inv(a))
        assert np.array_equal(ragged[k], x[k])
        assert report.backward_error[k] == inv(a, full_output=True)[1].backward_error
    members[1][:, 2] = 0
    with pytest.raises(LinAlgError, match=r"1 of 6 members, \[1\]; pivot 3 of 5"):
        inv(members)
    assert np.isnan(inv(members, raise_on_failure=False)[1]).all()
    assert inv([]) == []


@pytest.mark.parametrize(
    ("a", "match"),
    [(np.ones(3), "ndim"), (np.ones((2, 3)), "square"), ([np.ones((2, 3))], "square"),
     (np.ones((2, 2), object), "object")],
)  # fmt: skip
def test_bad_input(a, match):
    with pytest.raises(ValueError, match=match):
        inv(a)
