"""batched.qr, lstsq and inv of arrays of CuPy, and lists of them, on the host in its place."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, LinAlgWarning
from mplinalg.batched import (
    Ragged,
    cho_factor,
    cho_solve,
    inv,
    lstsq,
    lu_factor,
    lu_solve,
    qr,
    solve,
)

from ..cupy_on_host.install import forbidden_transfers, recorded
from ..device import cupy, stand_in

__all__ = ["cupy", "stand_in"]

FACTOR = 30  # LAPACK's, for errors in units of n u
DTYPES = ("float64", "complex64")


def draw(rng, shape, dtype="float64"):
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype[0] == "c" else x).astype(dtype)


def wide(x):
    return np.asarray(x, np.result_type(x, np.float64))


def bound_of(a):
    return FACTOR * max(a.shape[-2:]) * np.finfo(a.dtype).eps / 2


def are_factors(a, q, r):
    """a = q r, columns of q orthonormal, r upper triangular."""
    q, r, bound = wide(q), wide(r), bound_of(a)
    a = wide(a)
    error, gram = np.linalg.norm(q @ r - a, axis=(-2, -1)), q.conj().swapaxes(-1, -2) @ q
    assert (error <= bound * np.linalg.norm(a, axis=(-2, -1))).all()
    assert (abs(gram - np.eye(gram.shape[-1])) <= bound).all()
    assert not np.tril(r, -1).any()
    return True


def is_inverse(a, x):
    x, a, bound = wide(x), wide(a), bound_of(a)
    size = abs(a).sum(-1).max(-1) * abs(x).max((-2, -1)) + 1
    assert (abs(a @ x - np.eye(a.shape[-1])).max((-2, -1)) <= bound * size).all()
    return True


def is_least(a, x, b):
    """x is orthogonal to the residual: the gradient, to the errors of a few products."""
    a, x, b, bound = wide(a), wide(x), wide(b), bound_of(a)
    r = b - a @ x
    top = np.linalg.norm(a, axis=(-2, -1))[..., None]
    size = top * (top * np.linalg.norm(x, axis=-2) + np.linalg.norm(b, axis=-2))
    gradient = np.linalg.norm(a.conj().swapaxes(-1, -2) @ r, axis=-2)
    assert (gradient <= bound * size).all()
    return True


# -- qr --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (6, 4), (4, 6), (40, 35)], ids=str)
def test_qr(cupy, rng, dtype, shape):
    """By the kernel, and by cuSOLVER above 32."""
    a = draw(rng, (2, 2, *shape), dtype)
    there, k = cupy.asarray(a), min(shape)
    q, r, report = qr(there, full_output=True)
    assert isinstance(q, cupy.ndarray)
    assert isinstance(r, cupy.ndarray)
    assert (q.shape, r.shape) == ((2, 2, shape[0], k), (2, 2, k, shape[1]))
    assert are_factors(a, q.get(), r.get())
    assert not report.failed.size
    q, r = qr(there, mode="complete")
    assert q.shape[-1] == shape[0]
    assert are_factors(a, q.get(), r.get())
    alone = qr(there, mode="r").get()
    np.testing.assert_allclose(alone, r.get()[..., :k, :], atol=bound_of(a) * abs(alone).max())
    np.testing.assert_array_equal(there.get(), a)


def test_qr_of_members_that_fail(cupy, rng):
    a = draw(rng, (5, 6, 4))
    want = [x.get() for x in qr(cupy.asarray(a))]
    a[3, 1, 1] = np.inf
    with pytest.raises(LinAlgError, match=r"NaN or infinity in the input: 1 of 5 members, \[3\]"):
        qr(cupy.asarray(a))
    q, r, report = qr(cupy.asarray(a), raise_on_failure=False, full_output=True)
    assert report.failed.tolist() == [3]
    for found, before in zip((q.get(), r.get()), want, strict=True):
        assert np.isnan(found[3]).all()
        np.testing.assert_array_equal(np.delete(found, 3, 0), np.delete(before, 3, 0))


# -- lstsq -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 3), (4, 4), (3, 5), (40, 35)], ids=str)
def test_lstsq(cupy, rng, dtype, shape):
    a, b = draw(rng, (4, *shape), dtype), draw(rng, (shape[0], 2), dtype)
    x, report = lstsq(cupy.asarray(a), cupy.asarray(b), full_output=True)
    assert isinstance(x, cupy.ndarray)
    assert isinstance(report.residues, cupy.ndarray)
    assert is_least(a, x.get(), b)
    assert (report.rank == min(shape)).all()
    rest = (abs(wide(b) - wide(a) @ wide(x.get())) ** 2).sum(axis=1)
    size = (abs(wide(b)).sum() + (abs(wide(a)).sum((1, 2)) * abs(x.get()).max((1, 2))).max()) ** 2
    assert (abs(report.residues.get() - rest) <= bound_of(a) * size).all()


def test_lstsq_of_doubtful_rank(cupy, rng):
    """Ranks, and the answers of least norm, are those of SciPy; one vector goes with all."""
    a, b = draw(rng, (6, 8, 4)), draw(rng, 8)
    a[2, :, 3] = a[2, :, 0] - a[2, :, 1]
    a[4] = 0
    x, report = lstsq(cupy.asarray(a), cupy.asarray(b), full_output=True)
    assert report.rank.tolist() == [4, 4, 3, 4, 0, 4]
    for member in range(6):
        want = scipy.linalg.lstsq(a[member], b)[0]
        np.testing.assert_allclose(x[member].get(), want, rtol=1e-10, atol=1e-12)


def test_lstsq_of_members_that_fail(cupy, rng):
    a, b = draw(rng, (5, 6, 3)), draw(rng, (5, 6, 1))
    want = lstsq(cupy.asarray(a), cupy.asarray(b)).get()
    a[1, 0, 0], b[3, 2, 0] = np.nan, np.inf
    with pytest.raises(LinAlgError, match=r"NaN or infinity.*2 of 5 members, \[1, 3\]"):
        lstsq(cupy.asarray(a), cupy.asarray(b))
    x, report = lstsq(cupy.asarray(a), cupy.asarray(b), raise_on_failure=False, full_output=True)
    assert report.failed.tolist() == [1, 3]
    assert report.rank.tolist() == [3, 0, 3, 0, 3]
    assert np.isnan(x.get()[[1, 3]]).all()
    assert np.isnan(report.residues.get()[[1, 3]]).all()
    np.testing.assert_array_equal(x.get()[[0, 2, 4]], want[[0, 2, 4]])


# -- inv -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 40])
def test_inv(cupy, rng, dtype, n):
    a = draw(rng, (2, 3, n, n), dtype)
    x, report = inv(cupy.asarray(a), full_output=True)
    assert isinstance(x, cupy.ndarray)
    assert is_inverse(a, x.get())
    assert report.backward_error.shape == (2, 3)
    assert (report.backward_error <= bound_of(a)).all()


def test_inv_of_members_that_fail(cupy, rng):
    a = draw(rng, (4, 5, 5))
    want = inv(cupy.asarray(a)).get()
    a[0] = 1.0
    a[2, 1] = a[2, 0] * (1 + 2.0**-51)
    with pytest.raises(LinAlgError, match=r"Singular: 1 of 4 members, \[0\]; pivot 2 of 5"):
        inv(cupy.asarray(a))
    with pytest.warns(LinAlgWarning, match=r"Singular to working precision: 1 of 4 .*\[2\]"):
        x = inv(cupy.asarray(a), raise_on_failure=False).get()
    assert np.isnan(x[0]).all()
    np.testing.assert_array_equal(x[[1, 3]], want[[1, 3]])


# -- lists -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, Ragged.from_list])
def test_lists(cupy, rng, form):
    """What comes back is in the form of what was given, members on the device."""
    shapes = [(6, 3), (2, 2), (6, 3), (3, 5)]
    a = [draw(rng, shape) for shape in shapes]
    b = [draw(rng, shape[0]) for shape in shapes]
    first, second = (form([cupy.asarray(x) for x in xs]) for xs in (a, b))
    q, r = qr(first)
    x, report = lstsq(first, second, full_output=True)
    assert type(q) is type(x) is type(first)
    for k in range(4):
        assert isinstance(x[k], cupy.ndarray)
        assert are_factors(a[k], q[k].get(), r[k].get())
        assert is_least(a[k], x[k].get()[:, None], b[k][:, None])
    assert report.rank.tolist() == [3, 2, 3, 3]
    square = [draw(rng, (n, n)) + 3 * np.eye(n) for n in (2, 4, 2)]
    right = [draw(rng, (n, 2)) for n in (2, 4, 2)]
    first, second = (form([cupy.asarray(x) for x in xs]) for xs in (square, right))
    for found, m in zip(inv(first), square, strict=True):
        assert is_inverse(m, found.get())
    for found, m, c in zip(solve(first, second), square, right, strict=True):
        np.testing.assert_allclose(found.get(), np.linalg.solve(m, c), rtol=1e-12)


@pytest.mark.parametrize("form", [list, Ragged.from_list])
def test_factors_of_lists(cupy, rng, form):
    a = [draw(rng, (n, n)) + 3 * np.eye(n) for n in (2, 4, 2)]
    b = [draw(rng, (len(m), 2)) for m in a]
    right = form([cupy.asarray(c) for c in b])
    for factor, with_factors, matrices in (
        (lu_factor, lu_solve, a),
        (cho_factor, cho_solve, [m @ m.T for m in a]),
    ):
        x = with_factors(factor(form([cupy.asarray(m) for m in matrices])), right)
        assert type(x) is type(right)
        for found, m, c in zip(x, matrices, b, strict=True):
            assert isinstance(found, cupy.ndarray)
            np.testing.assert_allclose(found.get(), np.linalg.solve(m, c), rtol=1e-11)


def test_members_of_lists_that_fail(cupy, rng):
    a = [cupy.asarray(draw(rng, (n, n)) + 3 * np.eye(n)) for n in (2, 4, 2, 3)]
    b = [cupy.asarray(draw(rng, len(m))) for m in a]
    a[2] *= 0
    for function, rest in ((inv, ()), (solve, (b,))):
        with pytest.raises(LinAlgError, match=r"Singular: 1 of 4 members, \[2\]"):
            function(a, *rest)
        found = function(a, *rest, raise_on_failure=False)
        assert [bool(np.isnan(x.get()).any()) for x in found] == [False, False, True, False]


# -- what crosses ----------------------------------------------------------------------------------


def test_only_members_in_doubt_cross_to_the_host(stand_in, rng):
    """Of the others no more than how many are to be judged, and what reports are made of."""
    count, n = 64, 6
    a, b = draw(rng, (count, n, n)) + 4 * np.eye(n), draw(rng, (count, n, 1))
    whole, one = a.nbytes, a[0].nbytes
    there, right = stand_in.asarray(a), stand_in.asarray(b)
    calls = [lambda: qr(there), lambda: inv(there), lambda: lstsq(there[..., :4], right)]
    for call in calls:
        call()  # kernels are compiled
        with forbidden_transfers(2 * one), recorded() as ledger:
            call()
        assert ledger.bytes_to_host <= 64
    with forbidden_transfers(8 * count):
        inv(there, full_output=True)
        lstsq(there[..., :4], right, full_output=True)
    a[5] = a[9] = 0
    there = stand_in.asarray(a)
    assert 4 * 2 * one < whole
    with forbidden_transfers(2 * one), recorded() as ledger:
        inv(there, raise_on_failure=False)
        lstsq(there, right)
    assert ledger.bytes_to_host < 6 * one
