"""`qr` on arrays of CuPy, or of what plays its part on the host.

SciPy is the oracle, and what the function makes of the same arrays on the host.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgWarning, Status, qr

from ..cupy_on_host import ledger
from ..device import cupy, stand_in
from .tall import DTYPES, LOSS, LOW, draw, norm, roundoff, with_cond

__all__ = ["cupy", "stand_in"]  # fixtures


def check(cupy, a, q, r, cond):
    """Device arrays with Q^H Q = I, Q R = A, and the R of SciPy."""
    assert isinstance(q, cupy.ndarray)
    assert isinstance(r, cupy.ndarray)
    q, r = cupy.asnumpy(q), cupy.asnumpy(r)
    _, expected = scipy.linalg.qr(a, mode="economic" if len(r) <= r.shape[1] else "full")
    bound = LOSS * max(a.shape) * roundoff(a.dtype)
    scale = np.abs(a).max(initial=0) or 1.0
    assert q.dtype == r.dtype == a.dtype
    assert q.shape == (a.shape[0], len(r))
    assert r.shape == expected.shape
    assert norm(q.conj().T @ q - np.eye(q.shape[1])) <= bound
    assert norm(a / scale - q @ (r / scale)) <= bound * norm(a / scale)
    assert not np.tril(r, -1).any()
    assert norm((r - expected) / scale) <= bound * cond * norm(a / scale)


# -- qr -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cond", [1.0, 30.0])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (9, 4), (70, 70), (150, 65), (300, 1), (2, 2)])
def test_economic(cupy, rng, shape, dtype, order, cond):
    a = with_cond(rng, *shape, cond, dtype)
    given = cupy.asarray(a, order=order)
    q, r, report = qr(given, mode="economic", full_output=True)
    check(cupy, a, q, r, cond)
    assert np.array_equal(cupy.asnumpy(given), a), "a was changed"
    assert report.status is Status.CONVERGED
    assert report.rungs[0].method == "gram + CholeskyQR"
    assert 0 <= report.forward_error_bound <= LOSS * shape[1] ** 0.5 * roundoff(dtype)
    assert 0 <= report.backward_error <= LOSS * max(shape) * roundoff(dtype)
    assert isinstance(report.rcond, float)


@pytest.mark.parametrize("cond", [1e4, 1e6, 1e10, 1e14])
@pytest.mark.parametrize("square", [False, True])
def test_householder_takes_over_where_a_gram_matrix_cannot(cupy, rng, cond, square):
    a = with_cond(rng, 80 if square else 200, 80, cond)
    q, r, report = qr(cupy.asarray(a), mode="economic", full_output=True)
    check(cupy, a, q, r, cond)
    assert (report.status is Status.CONVERGED) == (cond < 1e8)
    if cond > 1e8:
        assert [rung.method for rung in report.rungs] == ["gram", "geqrf"]


@pytest.mark.parametrize("mode", ["full", "qr", "r", "raw", "economic"])
@pytest.mark.parametrize("shape", [(60, 25), (25, 60), (40, 40), (3, 0), (0, 3), (1, 5)])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_modes(cupy, rng, mode, shape, dtype):
    a = draw(rng, shape, dtype)
    ours, theirs = qr(cupy.asarray(a), mode=mode), scipy.linalg.qr(a, mode=mode)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    assert len(ours) == len(theirs)
    q, r = theirs[0], cupy.asnumpy(ours[-1])
    cond = np.linalg.cond(a) if a.size else 1.0
    bound = LOSS * max(shape) * roundoff(dtype)
    assert r.shape == theirs[-1].shape
    assert norm(r - theirs[-1]) <= bound * cond * norm(a)
    if mode == "raw":
        (factors, tau), (their_factors, their_tau) = ours[0], q
        k = min(shape)
        assert factors.shape == their_factors.shape
        assert tau.shape == their_tau.shape
        full = np.eye(shape[0], dtype=dtype)
        for i in reversed(range(k)):  # Q = H_1 H_2 ...
            v = np.concatenate([np.zeros(i), [1], cupy.asnumpy(factors)[i + 1 :, i]])
            full -= cupy.asnumpy(tau)[i] * np.outer(v, v.conj() @ full)
        assert norm(full[:, :k] @ r - a) <= bound * norm(a)
        assert np.array_equal(np.triu(cupy.asnumpy(factors)[:k]), r)
    elif mode != "r":
        ours_q = cupy.asnumpy(ours[0])
        assert ours_q.shape == q.shape
        assert norm(ours_q @ r - a) <= bound * norm(a)
        assert norm(ours_q.conj().T @ ours_q - np.eye(ours_q.shape[1])) <= bound


@pytest.mark.parametrize("pinned", LOW)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pinned(cupy, rng, pinned, dtype):
    if pinned == "fp32" and np.dtype(dtype).char in "fF":
        pytest.skip("is the working precision")
    a = with_cond(rng, 160, 70, 5.0, dtype)
    q, r, report = qr(cupy.asarray(a), mode="economic", precision=pinned, full_output=True)
    check(cupy, a, q, r, 5.0)
    assert report.precision == pinned
    assert report.status is Status.CONVERGED
    assert report.rungs[0].method == "qr + CholeskyQR"


def test_pinned_formats_that_cannot_deliver(cupy, rng):
    a = with_cond(rng, 120, 60, 1e9)
    with pytest.warns(LinAlgWarning, match="precision=fp16 could not deliver"):
        q, r = qr(cupy.asarray(a), mode="economic", precision="fp16")
    check(cupy, a, q, r, 1e9)
    with pytest.warns(LinAlgWarning, match="applies to mode"):
        qr(cupy.asarray(a), mode="r", precision="fp32")


MATRICES = {
    "zero": np.zeros((12, 4)),
    "identity": np.eye(12, 4),
    "square identity": np.eye(7),
    "triangle": np.triu(np.arange(1.0, 50.0).reshape(7, 7)),
    "rank one": np.ones((12, 4)),
    "zero column": np.arange(48.0).reshape(12, 4) * [1, 0, 1, 1],
    "huge": np.random.default_rng(1).standard_normal((40, 9)) * 1e300,
    "tiny": np.random.default_rng(1).standard_normal((40, 9)) * 1e-300,
    "graded": np.random.default_rng(1).standard_normal((40, 9)) * np.geomspace(1, 1e-12, 9),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_special_matrices(cupy, name, dtype):
    a = MATRICES[name].astype(dtype)
    q, r = qr(cupy.asarray(a), mode="economic")
    check(cupy, a, q, r, 1e3)


@pytest.mark.parametrize("name", ["huge", "tiny"])
@pytest.mark.parametrize("mode", ["full", "r", "raw"])
def test_householder_of_extreme_entries(cupy, name, mode):
    a = MATRICES[name]
    out = qr(cupy.asarray(a), mode=mode)
    r, expected = cupy.asnumpy(out[-1]), scipy.linalg.qr(a, mode=mode)[-1]
    if mode == "r":
        expected = scipy.linalg.qr(a, mode=mode)[0]
    scale = abs(a).max()
    assert norm((r - expected) / scale) <= LOSS * 40 * roundoff("float64") * norm(a / scale)
    if mode == "raw":
        assert np.array_equal(np.triu(cupy.asnumpy(out[0][0])[:9]), r)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("n", [1, 2, 64, 65, 130])
def test_signs_of_square_matrices(cupy, rng, n, real):
    """The last column has nothing below its diagonal, and LAPACK leaves a real one as it is."""
    for dtype in ("float64", "complex128"):
        a = draw(rng, (n, n), "float64" if real else dtype).astype(dtype)
        _, r, report = qr(cupy.asarray(a), full_output=True)
        expected = scipy.linalg.qr(a)[1]
        assert report.status is Status.CONVERGED, report
        signs = np.sign(np.diag(cupy.asnumpy(r)).real)
        assert np.array_equal(signs, np.sign(np.diag(expected).real))


def test_signs_where_lapack_would_interchange_rows(cupy):
    """|re| + |im| is larger below the diagonal, |.| is not."""
    a = np.array([[0.1, 1.0], [0.7 + 0.7j, 0.2]])
    q, r, report = qr(cupy.asarray(a), full_output=True)
    check(cupy, a, q, r, np.linalg.cond(a))
    assert report.status is Status.CONVERGED


@pytest.mark.parametrize("batch", [(2,), (2, 2), (0,)])
@pytest.mark.parametrize("mode", ["full", "economic", "r", "raw"])
def test_a_batch_of_qr_is_a_loop(cupy, rng, batch, mode):
    a = draw(rng, (*batch, 30, 12))
    out = qr(cupy.asarray(a), mode=mode, full_output=True)
    r = cupy.asnumpy(out[-2])
    assert r.shape == (*batch, 12 if mode in ("economic", "raw") else 30, 12)
    assert len(out[-1].members) == a.size // 360
    for i in np.ndindex(batch):
        assert np.array_equal(r[i], cupy.asnumpy(qr(cupy.asarray(a[i]), mode=mode)[-1]))


def test_pivoting_is_refused(cupy):
    with pytest.raises(NotImplementedError, match=r"qr\(cupy.asnumpy\(a\), pivoting=True\)"):
        qr(cupy.eye(3), pivoting=True)


def test_unchecked_nan_gives_nan(cupy):
    a = np.ones((40, 4))
    a[3, 2] = np.nan
    _, r, report = qr(cupy.asarray(a), mode="economic", check_finite=False, full_output=True)
    assert np.isnan(cupy.asnumpy(r)).any()
    assert report.status is not Status.CONVERGED
    with pytest.raises(ValueError, match="infs or NaNs"):
        qr(cupy.asarray(a), mode="economic")


def test_qr_keeps_its_arrays_on_the_device(stand_in, cupy, rng):
    """Blocks of 64 columns and 4 random columns cross, and nothing that grows faster."""
    m, n = 400, 192
    a = cupy.asarray(draw(rng, (m, n)))
    qr(a, mode="economic")
    with ledger.recorded() as seen, ledger.forbidden_transfers(8 * 64 * 64):
        qr(a, mode="economic")
    assert max(seen.to_host) == 8 * 64 * 64
    assert sum(size >= 8 * n for size in seen.to_host) == n // 64
    with ledger.recorded() as seen, ledger.forbidden_transfers(8):
        qr(a, mode="full", check_finite=False)
    assert len(seen.syncs) <= 2
