"""`lstsq`, and `QR` as a solver, on arrays of CuPy, or of what plays its part on the host.

SciPy is the oracle, and what the functions make of the same arrays on the host.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.linalg

from mplinalg import QR, LinAlgError, LinAlgWarning, Status, lstsq, qr
from mplinalg.dense import least_squares
from mplinalg.ops import ops_for
from mplinalg.precision import working_format

from ..cupy_on_host import ledger
from ..device import cupy, stand_in
from .tall import DTYPES, LOSS, LOW, draw, norm, roundoff, same_as_scipy, with_cond

__all__ = ["cupy", "stand_in"]  # fixtures

# -- lstsq ----------------------------------------------------------------------------------------


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
