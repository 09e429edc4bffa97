"""`qr`, `QR` and `lstsq` on arrays of CuPy, or of what plays its part on the host.

SciPy is the oracle, and what the functions make of the same arrays on the host.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.linalg

from mplinalg import QR, LinAlgError, LinAlgWarning, Status, lstsq, qr
from mplinalg.dense import least_squares
from mplinalg.dense.singular_values import singular_values
from mplinalg.factor.band import upper_band
from mplinalg.factor.qr import qr as factor
from mplinalg.factor.triangle import Triangle
from mplinalg.factor.tsqr import tsqr
from mplinalg.ops import ops_for
from mplinalg.precision import FP64, get_format, working_format

from ..cupy_on_host import ledger
from ..cupy_on_host.settings import settings
from ..device import cupy, stand_in

__all__ = ["cupy", "stand_in"]

DTYPES = ["float32", "float64", "complex64", "complex128"]
LOW = ["fp16", "bf16", "tf32", "fp16x2", "fp32"]
LOSS = 30.0


def draw(rng, shape, dtype="float64"):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return np.asarray(x, dtype)


def with_cond(rng, m, n, cond, dtype="float64"):
    """A with geometric singular values from 1 to 1 / cond."""
    wide = "complex128" if np.dtype(dtype).kind == "c" else "float64"
    u, _ = np.linalg.qr(draw(rng, (m, min(m, n)), wide))
    v, _ = np.linalg.qr(draw(rng, (n, min(m, n)), wide))
    return np.asarray((u * np.geomspace(1, 1 / cond, min(m, n))) @ v.conj().T, dtype)


def roundoff(dtype):
    return working_format(dtype).unit_roundoff


def norm(x):
    return float(np.linalg.norm(x))


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


# -- lstsq ----------------------------------------------------------------------------------------


def same_as_scipy(cupy, a, b, kappa, **keywords):
    """x, residues, rank and s, on the device, agree with SciPy's."""
    given, rhs = cupy.asarray(a), cupy.asarray(b)
    ours = lstsq(given, rhs, full_output=True, **keywords)
    x, squares, rank, s = scipy.linalg.lstsq(a, b, keywords.get("cond"))
    u = roundoff(x.dtype)
    for found in (ours.x, ours.residues, ours.s):
        assert isinstance(found, cupy.ndarray)
    found = cupy.asnumpy(ours.x)
    assert found.dtype == x.dtype
    assert found.shape == x.shape
    assert isinstance(ours.rank, np.int64)
    assert ours.rank == rank
    size = norm(x) + norm(b) / s[0]
    assert norm(found - x) <= LOSS * max(a.shape) * u * kappa**2 * size
    assert np.array_equal(cupy.asnumpy(given), a), "a was changed"
    assert np.array_equal(cupy.asnumpy(rhs), b), "b was changed"
    if rank == a.shape[1] < a.shape[0]:
        assert ours.residues.shape == np.shape(squares)
        assert np.allclose(
            cupy.asnumpy(ours.residues), squares, rtol=1e-3 if u > 1e-10 else 1e-9,
            atol=LOSS * u * norm(b) ** 2,
        )  # fmt: skip
    assert ours.s.shape == s.shape
    assert np.allclose(cupy.asnumpy(ours.s), s, rtol=0, atol=LOSS * max(a.shape) * u * s[0])
    return ours


@pytest.mark.parametrize("nrhs", [None, 1, 5])
@pytest.mark.parametrize("cond", [1.0, 50.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 1), (40, 40), (130, 40), (300, 70)])
def test_lstsq(cupy, rng, shape, dtype, cond, nrhs):
    a = with_cond(rng, *shape, cond, dtype)
    b = draw(rng, shape[0] if nrhs is None else (shape[0], nrhs), dtype)
    ours = same_as_scipy(cupy, a, b, cond)
    assert ours.report.status is Status.CONVERGED
    assert ours.report.rungs[-1].method.startswith("gram")
    errors = ours.report.backward_error
    assert isinstance(errors, float if nrhs is None else np.ndarray), "the report is on the host"
    assert np.all(errors <= 2 * max(shape[0], 4) ** 0.5 * roundoff(dtype))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("pinned", [*LOW, "fp64"])
def test_every_format(cupy, rng, pinned, dtype, order):
    a, b = with_cond(rng, 200, 70, 8.0, dtype), draw(rng, (200, 2), dtype)
    a = np.asarray(a, order=order)
    ours = same_as_scipy(cupy, a, b, 8.0, precision=pinned)
    assert ours.report.precision == pinned
    assert ours.report.status is Status.CONVERGED


@pytest.mark.parametrize("refine", ["classical", "lsqr", "gmres", None])
def test_refinements(cupy, rng, refine):
    a, b = with_cond(rng, 200, 60, 20.0), draw(rng, (200, 3))
    ours = lstsq(
        cupy.asarray(a), cupy.asarray(b), precision="fp32", refine=refine, full_output=True
    )
    x = scipy.linalg.lstsq(a, b)[0]
    error = norm(cupy.asnumpy(ours.x) - x) / norm(x)
    assert error <= (1e-3 if refine is None else 1e-12)
    assert bool(ours.report.inner_iterations) == (refine in ("lsqr", "gmres"))


@pytest.mark.parametrize(
    ("cond", "last"), [(1e3, "gram"), (1e5, "gram"), (1e9, "qr"), (1e12, "qr")]
)
def test_climbs_as_far_as_needed(cupy, rng, cond, last):
    a = with_cond(rng, 160, 40, cond)
    b = a @ draw(rng, (40, 2))
    ours = lstsq(cupy.asarray(a), cupy.asarray(b), full_output=True)
    x = scipy.linalg.lstsq(a, b)[0]
    assert ours.report.rungs[-1].method.startswith(last)
    assert ours.rank == 40
    assert norm(cupy.asnumpy(ours.x) - x) <= LOSS * 160 * cond * roundoff(float) * norm(x)


def test_columns_freeze_one_by_one(cupy, rng):
    """Some converge at once, and corrections are of the others alone."""
    a = with_cond(rng, 150, 30, 1e3)
    b = np.stack([np.zeros(150), draw(rng, 150), a @ np.ones(30), draw(rng, 150)], axis=1)
    ours = same_as_scipy(cupy, a, b, 1e3, precision="fp32")
    assert ours.report.iterations > 0
    assert not cupy.asnumpy(ours.x[:, 0]).any()


@pytest.mark.parametrize("driver", [None, "gelsd", "gelsy", "gelss"])
@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (30, 30)])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_rank_deficient_and_wide(cupy, rng, shape, dtype, driver):
    """The solution of least norm, whichever driver is named: the SVD finds it."""
    a = draw(rng, (shape[0], 7), dtype) @ draw(rng, (7, shape[1]), dtype)
    b = draw(rng, (shape[0], 2), dtype)
    cond = 1e-3 if dtype == "float32" else 1e-10
    ours = lstsq(cupy.asarray(a), cupy.asarray(b), cond, lapack_driver=driver, full_output=True)
    x, _, rank, s = scipy.linalg.lstsq(a, b, cond)
    assert ours.rank == rank == 7
    bound = LOSS * max(shape) * roundoff(dtype) * (s[0] / s[6]) ** 2
    assert norm(cupy.asnumpy(ours.x) - x) <= bound * norm(x)
    assert ours.report.rungs[-1] == (working_format(dtype).name, "gesvd", "rank 7")
    if driver == "gelsy":
        assert ours.s is None
        assert ours.residues.shape == (0,)
        return
    assert ours.s.shape == s.shape
    assert np.allclose(cupy.asnumpy(ours.s), s, rtol=0, atol=LOSS * 60 * roundoff(dtype) * s[0])
    if shape[0] > shape[1]:
        assert np.isnan(cupy.asnumpy(ours.residues)).all()
    else:
        assert ours.residues.shape == (0,)


@pytest.mark.parametrize("driver", ["gelsd", "gelss"])
def test_drivers_have_residues(cupy, rng, driver):
    a, b = draw(rng, (50, 12)), draw(rng, (50, 3))
    ours = same_as_scipy(cupy, a, b, np.linalg.cond(a), lapack_driver=driver)
    assert ours.report.status is Status.DIRECT
    assert [rung.method for rung in ours.report.rungs] == ["gesvd"]


@pytest.mark.parametrize("cond", [0.3, 1e-3, 1e-9])
def test_the_cut_off_is_that_of_gelsd(cupy, rng, cond):
    a, b = with_cond(rng, 60, 12, 1e6), draw(rng, (60, 2))
    same_as_scipy(cupy, a, b, 1e6, cond=cond)


@pytest.mark.parametrize("scale", [1e300, 1e-300])
@pytest.mark.parametrize("driver", [None, "gelsd"])
def test_extreme_entries(cupy, rng, scale, driver):
    a, x = with_cond(rng, 50, 12, 10.0), draw(rng, (12, 2))
    b = a @ x
    ours = lstsq(cupy.asarray(a * scale), cupy.asarray(b * scale), lapack_driver=driver)
    assert norm(cupy.asnumpy(ours.x) - x) <= LOSS * 50 * 100 * roundoff(float) * norm(x)
    s = scipy.linalg.svdvals(a) * scale
    assert np.allclose(cupy.asnumpy(ours.s), s, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("shape", "b_shape"),
    [((0, 3), (0, 2)), ((3, 0), (3, 2)), ((3, 0), (3,)), ((0, 0), (0,)), ((5, 3), (5, 0)),
     ((3, 5), (3, 0))],
)  # fmt: skip
def test_empty(cupy, shape, b_shape):
    a, b = np.ones(shape) + np.eye(*shape), np.ones(b_shape)
    on_host, ours = lstsq(a, b), lstsq(cupy.asarray(a), cupy.asarray(b))
    assert isinstance(ours.x, cupy.ndarray)
    assert ours.rank == on_host.rank
    for name in ("x", "residues", "s"):
        found, expected = getattr(ours, name), getattr(on_host, name)
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        assert np.allclose(cupy.asnumpy(found), expected, equal_nan=True)


def test_a_batch_of_lstsq_is_a_loop(cupy, rng):
    a, b = draw(rng, (2, 3, 30, 8)), draw(rng, (3, 30, 2))
    ours = lstsq(cupy.asarray(a), cupy.asarray(b), full_output=True)
    assert ours.x.shape == (2, 3, 8, 2)
    assert ours.rank.tolist() == [[8] * 3] * 2
    assert len(ours.report.members) == 6
    assert ours.report.backward_error.shape == (2, 3, 2)
    for i in np.ndindex(2, 3):
        one = lstsq(cupy.asarray(a[i]), cupy.asarray(b[i[1]]))
        for name in ("x", "residues", "s"):
            assert np.array_equal(
                cupy.asnumpy(getattr(ours, name)[i]), cupy.asnumpy(getattr(one, name))
            )


def test_results(cupy, rng):
    """Equality, unpacking and pickling of what lies on a device."""
    a, b = cupy.asarray(draw(rng, (30, 8))), cupy.asarray(draw(rng, 30))
    one, two = lstsq(a, b), lstsq(a, b)
    assert one == two
    assert one != lstsq(a, 2 * b)
    assert one != lstsq(cupy.asnumpy(a), cupy.asnumpy(b))
    x, residues, rank, s = one
    assert x.shape == s.shape == (8,)
    assert residues.shape == ()
    assert rank == 8
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_may_change_before_s_is_read(cupy, rng):
    a, b = draw(rng, (120, 30)), draw(rng, 120)
    for precision in ("auto", "fp32"):
        given = cupy.asarray(a)
        ours = lstsq(given, cupy.asarray(b), precision=precision)
        given[...] = 0
        assert np.allclose(cupy.asnumpy(ours.s), scipy.linalg.svdvals(a), rtol=1e-12)


def test_bad_data(cupy, rng):
    a, b = draw(rng, (30, 8)), np.ones(30)
    a[2, 3] = np.nan
    with pytest.raises(ValueError, match="infs or NaNs"):
        lstsq(cupy.asarray(a), cupy.asarray(b))
    with pytest.warns(LinAlgWarning, match="NaN or infinity"):
        ours = lstsq(cupy.asarray(a), cupy.asarray(b), check_finite=False)
    assert isinstance(ours.x, cupy.ndarray)
    assert np.isnan(cupy.asnumpy(ours.x)).all()
    assert np.isnan(cupy.asnumpy(ours.s)).all()
    with pytest.raises(ValueError, match="number of rows"):
        lstsq(cupy.ones((3, 2)), cupy.ones(4))
    with pytest.raises(ValueError, match="LAPACK driver"):
        lstsq(cupy.ones((3, 2)), cupy.ones(3), lapack_driver="gels")


def test_what_is_pinned_and_cannot_deliver(cupy, rng):
    a, b = cupy.asarray(with_cond(rng, 120, 60, 1e9)), cupy.ones(120)
    with pytest.warns(LinAlgWarning, match="precision=fp16, refine=auto could not deliver"):
        lstsq(a, b, precision="fp16")
    with pytest.raises(LinAlgError, match="could not deliver"):
        lstsq(a, b, precision="fp16", fallback=False)
    with pytest.raises(LinAlgError, match="m < n"):
        lstsq(a.T, cupy.ones(60), precision="fp16", fallback=False)


def test_an_svd_that_does_not_converge_is_an_error(cupy, rng, monkeypatch):
    def svd(*args, **kwargs):
        raise np.linalg.LinAlgError("Error reported by dgesvd in cuSOLVER")

    monkeypatch.setattr(cupy.linalg, "svd", svd)
    with pytest.raises(LinAlgError, match="dgesvd"):
        lstsq(cupy.asarray(draw(rng, (4, 9))), cupy.ones(4))


def test_single_precision_first_where_it_is_faster(cupy, rng, monkeypatch):
    a, b = draw(rng, (150, 40)), draw(rng, 150)
    ops = ops_for(cupy.asarray(a))
    monkeypatch.setattr(type(ops), "refines_from", 8)
    rates = {"fp32": 1.0, "fp64": 1.0}
    monkeypatch.setattr(
        least_squares.rates, "known", lambda ops: least_squares.rates.Rates(rates, 1.0)
    )
    for fp32, first in ((1.0, "fp64"), (30.0, "fp32")):
        rates["fp32"] = fp32
        ours = same_as_scipy(cupy, a, b, np.linalg.cond(a))
        assert ours.report.rungs[0][:2] == (first, "gram + classical")


def test_arrays_stay_where_they_are(stand_in, cupy, rng):
    a, b = draw(rng, (20, 6)), draw(rng, 20)
    for pair in ((cupy.asarray(a), b), (a, cupy.asarray(b))):
        with pytest.raises(TypeError, match=r"cupy\.asarray or cupy\.asnumpy"):
            lstsq(*pair)
        with pytest.raises(TypeError, match=r"cupy\.asarray or cupy\.asnumpy"):
            QR(pair[0]).solve(pair[1])
    with cupy.cuda.Device(1):
        ours = lstsq(cupy.asarray(a), cupy.asarray(b))
        q, _ = qr(cupy.asarray(a), mode="economic")
    assert ours.x.device.id == q.device.id == 1


def test_lstsq_keeps_its_arrays_on_the_device(stand_in, cupy, rng):
    """Random columns come, sizes of columns go; and the device is seldom waited for."""
    m, n = 300, 100
    a, b = cupy.asarray(draw(rng, (m, n))), cupy.asarray(draw(rng, (m, 2)))
    lstsq(a, b)
    with ledger.recorded() as seen, ledger.forbidden_transfers(8 * 4 * n):
        ours = lstsq(a, b, full_output=True)
    assert max(seen.to_host) <= 100
    assert sum(size > 100 for size in seen.to_device) == 1
    steps = ours.report.iterations
    assert len(seen.syncs) <= 14 + 2 * steps
    with ledger.recorded() as seen:
        lstsq(a, b, lapack_driver="gelsd", check_finite=False)
    assert max(seen.to_host) <= 100


# -- kept factors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(7, 3), (150, 60), (60, 60)])
def test_factors_solve(cupy, rng, shape, dtype, precision):
    a, b = with_cond(rng, *shape, 8.0, dtype), draw(rng, (shape[0], 3), dtype)
    factors = QR(cupy.asarray(a), precision)
    expected = scipy.linalg.lstsq(a, b)[0]
    x, report = factors.solve(cupy.asarray(b), full_output=True)
    assert isinstance(x, cupy.ndarray)
    bound = LOSS * shape[0] * roundoff(dtype) * 8**2
    assert norm(cupy.asnumpy(x) - expected) <= bound * norm(expected)
    assert report.status is Status.CONVERGED
    assert factors.solve(cupy.asarray(b[:, 0])).shape == (shape[1],)
    if precision == "auto":
        assert factors.solve(cupy.zeros((shape[0], 0), dtype)).shape == (shape[1], 0)
    assert 1 / 24 < factors.rcond() < 0.5
    if precision != "auto":
        assert factors.precision == precision


def test_factors_are_made_once(cupy, rng, monkeypatch):
    a, b = draw(rng, (150, 50)), draw(rng, 150)
    factors, x = QR(cupy.asarray(a)), scipy.linalg.lstsq(a, b)[0]
    monkeypatch.setattr("mplinalg.refine.least_squares_ladder.factor", None)
    assert np.allclose(cupy.asnumpy(factors.solve(cupy.asarray(b))), x)


def test_factors_of_a_rank_deficient_or_wide_matrix(cupy, rng):
    for a in (np.ones((9, 4)), draw(rng, (4, 9))):
        b = draw(rng, (a.shape[0], 2))
        factors = QR(cupy.asarray(a))
        x = cupy.asnumpy(factors.solve(cupy.asarray(b)))
        assert np.allclose(x, scipy.linalg.lstsq(a, b)[0])
        assert factors.report.status is Status.DIRECT


def test_factors_of_single_precision_solve_in_double(cupy, rng):
    a, b = draw(rng, (40, 9), "float32"), draw(rng, 40)
    x = QR(cupy.asarray(a)).solve(cupy.asarray(b))
    assert x.dtype == np.float64
    assert np.allclose(cupy.asnumpy(x), scipy.linalg.lstsq(a.astype(float), b)[0], rtol=1e-12)


# -- parts ----------------------------------------------------------------------------------------


def test_triangles_are_waited_for_once(stand_in, cupy, rng):
    r = np.triu(draw(rng, (40, 40))) + 9 * np.eye(40)
    given = cupy.asarray(r, order="F")
    with ledger.recorded() as seen:
        made = Triangle.of(ops_for(given), given)
    assert len(seen.syncs) == 1
    on_host = Triangle.of(ops_for(r), np.asfortranarray(r))
    assert made.rcond == pytest.approx(on_host.rcond, rel=1e-12)
    given[3, 3] = cupy.nan
    assert Triangle.of(ops_for(given), given).rcond == 0.0


def test_singular_values(cupy, rng):
    r = np.triu(draw(rng, (20, 20)))
    s = singular_values(cupy.asarray(r))
    assert np.allclose(cupy.asnumpy(s), scipy.linalg.svdvals(r), rtol=1e-12)


@pytest.mark.parametrize("schedule", ["reverse", 7])
def test_other_schedules(stand_in, cupy, rng, schedule):
    settings.schedule = schedule
    a, b = with_cond(rng, 150, 60, 5.0), draw(rng, (150, 2))
    same_as_scipy(cupy, a, b, 5.0, precision="fp16")


def test_low_formats_do_round(cupy, rng):
    """What is computed in a format has its errors, on a device as on the host."""
    a = draw(rng, (128, 128))
    given = cupy.asarray(a)
    for name in ("fp16", "bf16"):
        made = factor(ops_for(given), given, get_format(name), block=32)
        back = cupy.asnumpy(made.apply_q(made.r("d")))
        error = norm(back - a) / norm(a)
        u = get_format(name).unit_roundoff
        assert 0.05 * u < error < LOSS * u


def test_reduction_trees(cupy, rng):
    a = draw(rng, (150, 20))
    given = cupy.asarray(a)
    made = tsqr(ops_for(given), given, FP64, 40)
    assert norm(cupy.asnumpy(made.apply_q(made.r)) - a) <= LOSS * 150 * roundoff(float) * norm(a)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_bands(cupy, rng, dtype):
    a = draw(rng, (70, 70), dtype)
    given = cupy.asarray(a, order="F")
    rows = cupy.asnumpy(upper_band(ops_for(given), given, 8))
    band = sum(np.diag(rows[8 - i, i:], i) for i in range(9))
    s = scipy.linalg.svdvals(a)
    assert np.allclose(scipy.linalg.svdvals(band), s, rtol=0, atol=LOSS * roundoff(float) * s[0])
