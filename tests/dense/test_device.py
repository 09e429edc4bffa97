"""The dense functions on arrays of CuPy, whose part is played on the host: `tests.cupy_on_host`."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest

import mplinalg
from mplinalg import LinAlgError, LinAlgWarning, Status

from ..cupy_on_host import ledger
from ..cupy_on_host.settings import settings
from ..device import cupy, stand_in

__all__ = ["cupy", "stand_in"]

DTYPES = ["float32", "float64", "complex64", "complex128"]
FORMATS = ["fp16", "bf16", "tf32", "fp16x2", "fp32"]


def draw(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def definite(rng, n, dtype):
    x = draw(rng, (n, n), dtype)
    return (x @ x.conj().T / n + np.eye(n)).astype(dtype)


def backward_error(a, x, b):
    """The worst of the columns, in the infinity norm."""
    a, x, b = (np.asarray(v, np.complex128) for v in (a, x, b))
    x, b = x.reshape(len(x), -1), b.reshape(len(b), -1)
    size = abs(a).sum(axis=1).max() * abs(x).max(axis=0) + abs(b).max(axis=0)
    return float((abs(b - a @ x).max(axis=0) / size).max())


def bound(n, dtype):
    return max(n, 4) ** 0.5 * np.finfo(dtype).eps / 2


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 45, 130])
def test_solve(cupy, rng, n, dtype, order):
    a, b = draw(rng, (n, n), dtype), draw(rng, (n, 3), dtype)
    given, rhs = cupy.asarray(a, order=order), cupy.asarray(b)
    x, report = mplinalg.solve(given, rhs, full_output=True)
    assert isinstance(x, cupy.ndarray)
    assert x.dtype == dtype
    assert x.shape == b.shape
    assert report.status.is_success
    assert backward_error(a, cupy.asnumpy(x), b) <= 2 * bound(n, dtype)
    assert np.array_equal(cupy.asnumpy(given), a), "a was changed"
    assert np.array_equal(cupy.asnumpy(rhs), b), "b was changed"
    assert isinstance(report.backward_error, np.ndarray), "the report is on the host"


@pytest.fixture
def narrow_panels(cupy, monkeypatch):
    """Panels of 48 columns: of small matrices, too, there are several."""
    from mplinalg.ops.cupy_ops import CupyOps

    monkeypatch.setattr(CupyOps, "panel_width", lambda self, n, *, definite=False: 48)


PRODUCTS = {
    "fp16": "narrow<half", "bf16": "narrow<__nv_bfloat16", "fp16x2": "gemm_split<",
}  # fmt: skip
"""What a product in a format launches."""


@pytest.mark.parametrize("precision", PRODUCTS)
def test_products_are_in_the_format(stand_in, cupy, rng, precision, narrow_panels):
    a = cupy.asarray(rng.standard_normal((200, 200)) + 30 * np.eye(200))
    for assume, matrix in (("gen", a), ("pos", a @ a.T)):
        with ledger.recorded() as seen:
            mplinalg.solve(matrix, cupy.ones(200), precision=precision, assume_a=assume)
        assert any(name.startswith(PRODUCTS[precision]) for name in seen.launches), assume


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("precision", FORMATS)
def test_every_format(cupy, rng, precision, dtype, narrow_panels):
    """Diagonally dominant: every format delivers."""
    n = 150
    a = draw(rng, (n, n), dtype) + 30 * np.eye(n)
    b = draw(rng, n, dtype)
    x, report = mplinalg.solve(
        cupy.asarray(a), cupy.asarray(b), precision=precision, full_output=True
    )
    assert report.precision == precision
    assert report.status is Status.CONVERGED
    assert backward_error(a, cupy.asnumpy(x), b) <= 2 * bound(n, dtype)


@pytest.mark.parametrize("assume", ["pos", None])
@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_positive_definite(cupy, rng, dtype, precision, assume, narrow_panels):
    n = 140
    a, b = definite(rng, n, dtype), draw(rng, (n, 2), dtype)
    x, report = mplinalg.solve(
        cupy.asarray(a), cupy.asarray(b), assume_a=assume, precision=precision, full_output=True
    )
    assert report.rungs[0].method.startswith("Cholesky")
    assert backward_error(a, cupy.asnumpy(x), b) <= 2 * bound(n, dtype)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("assume", ["sym", "her", "pos", "upper triangular", "tridiagonal"])
def test_what_is_not_read_may_be_anything(cupy, rng, assume, lower):
    n, dtype = 50, np.complex128
    a = definite(rng, n, dtype)
    if assume == "sym":
        a = a + a.T
    junk = np.tril(np.full((n, n), 1e30), -1)
    given = {"upper triangular": np.triu(a) + junk}.get(assume)
    if assume == "tridiagonal":
        a = np.triu(np.tril(a, 1), -1)
        given = a + np.triu(junk.T, 2)
    elif assume == "upper triangular":
        a = np.triu(a)
    else:
        given = np.tril(a) + junk.T if lower else np.triu(a) + junk
    b = draw(rng, n, dtype)
    x = mplinalg.solve(cupy.asarray(given), cupy.asarray(b), assume_a=assume, lower=lower)
    assert backward_error(a, cupy.asnumpy(x), b) <= 2 * bound(n, dtype)


def test_small_and_empty(cupy, rng):
    assert mplinalg.solve(cupy.zeros((0, 0)), cupy.zeros((0, 2))).shape == (0, 2)
    assert mplinalg.solve(cupy.eye(3), cupy.zeros((3, 0))).shape == (3, 0)
    x = mplinalg.solve(cupy.asarray([[4.0]]), cupy.asarray([2.0]))
    assert isinstance(x, cupy.ndarray)
    assert x.tolist() == [0.5]
    assert mplinalg.solve(cupy.eye(5), cupy.zeros(5)).tolist() == [0.0] * 5
    with pytest.raises(LinAlgError, match="pivot 1 of 1"):
        mplinalg.solve(cupy.zeros((1, 1)), cupy.ones(1))


def test_batch(cupy, rng):
    a, b = rng.standard_normal((2, 3, 20, 20)), rng.standard_normal((3, 20, 2))
    x = cupy.asnumpy(mplinalg.solve(cupy.asarray(a), cupy.asarray(b)))
    assert x.shape == (2, 3, 20, 2)
    for i, j in np.ndindex(2, 3):
        assert backward_error(a[i, j], x[i, j], b[j]) <= bound(20, float)


def test_singular(cupy, rng):
    a = rng.standard_normal((60, 60))
    a[:, 17] = 0
    with pytest.raises(LinAlgError, match="singular"):
        mplinalg.solve(cupy.asarray(a), cupy.ones(60))
    a = rng.standard_normal((60, 60))
    a[:, 17] = a[:, 3]
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        mplinalg.solve(cupy.asarray(a), cupy.ones(60))
    with pytest.raises(LinAlgError, match="not positive definite"):
        mplinalg.solve(cupy.asarray(-np.eye(60)), cupy.ones(60), assume_a="pos")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(cupy, rng, bad):
    a, b = rng.standard_normal((30, 30)), np.ones(30)
    a[4, 5] = bad
    with pytest.raises(ValueError, match="infs or NaNs"):
        mplinalg.solve(cupy.asarray(a), cupy.asarray(b))
    with pytest.raises(ValueError, match="infs or NaNs"):
        mplinalg.solve(cupy.asarray(np.eye(30)), cupy.asarray(b * bad))


def test_extreme_entries(cupy, rng):
    """Rows of size 1e300 and 1e-300, and right-hand sides that fit them."""
    n = 40
    rows = np.where(np.arange(n) % 2, 1e300, 1e-300)
    a = rng.standard_normal((n, n)) * rows[:, None]
    x_true = rng.standard_normal(n)
    b = rows * ((a / rows[:, None]) @ x_true)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # as given it is ill conditioned
        x = cupy.asnumpy(mplinalg.solve(cupy.asarray(a), cupy.asarray(b)))
    assert abs(x - x_true).max() <= 1e-10 * abs(x_true).max()


def test_arrays_stay_where_they_are(stand_in, cupy, rng):
    a, b = rng.standard_normal((10, 10)), rng.standard_normal(10)
    with pytest.raises(TypeError, match=r"cupy\.asarray or cupy\.asnumpy"):
        mplinalg.solve(cupy.asarray(a), b)
    with pytest.raises(TypeError, match=r"cupy\.asarray or cupy\.asnumpy"):
        mplinalg.solve(a, cupy.asarray(b))
    with cupy.cuda.Device(1):
        other = cupy.asarray(b)
    with pytest.raises(ValueError, match="device"):
        mplinalg.solve(cupy.asarray(a), other)
    with cupy.cuda.Device(1):
        x = mplinalg.solve(cupy.asarray(a), other)
    assert x.device.id == 1


def test_nothing_of_size_crosses(stand_in, cupy, rng):
    """Sizes and errors of columns go to the host; to the device, what is random."""
    n = 160
    a, b = cupy.asarray(rng.standard_normal((n, n))), cupy.asarray(rng.standard_normal((n, 2)))
    mplinalg.solve(a, b)
    with ledger.recorded() as seen, ledger.forbidden_transfers(16 * n):
        mplinalg.solve(a, b, precision="fp32")
    # the butterflies, and the right-hand side by which a singular matrix is known
    assert sum(size > 100 for size in seen.to_device) <= 2
    assert max(seen.to_host) <= 100


def test_factors(cupy, rng):
    n = 80
    a, b = rng.standard_normal((n, n)), rng.standard_normal((n, 2))
    given = cupy.asarray(a)
    factors = mplinalg.lu_factor(given)
    for trans, matrix in [(0, a), (1, a.T), (2, a.T)]:
        x = mplinalg.lu_solve(factors, cupy.asarray(b), trans)
        assert backward_error(matrix, cupy.asnumpy(x), b) <= bound(n, float)
    lu, piv = factors
    assert isinstance(lu, cupy.ndarray)
    x = mplinalg.lu_solve((lu, piv), cupy.asarray(b))
    assert backward_error(a, cupy.asnumpy(x), b) <= 30 * bound(n, float)
    assert 0 < factors.rcond() < 1
    given[3, 4] += 1.0
    with pytest.raises(LinAlgError, match="modified"):
        factors.solve(cupy.asarray(b))
    spd = definite(rng, n, float)
    kept = mplinalg.cho_factor(cupy.asarray(spd), precision="fp32")
    x = mplinalg.cho_solve(kept, cupy.asarray(b))
    assert backward_error(spd, cupy.asnumpy(x), b) <= bound(n, float)
    c, lower = kept
    assert abs(np.triu(cupy.asnumpy(c)).T @ np.triu(cupy.asnumpy(c)) - spd).max() <= 1e-12
    x = mplinalg.cho_solve((c, lower), cupy.asarray(b))
    assert backward_error(spd, cupy.asnumpy(x), b) <= 30 * bound(n, float)


def test_memory_that_does_not_suffice(stand_in, cupy, rng):
    n = 200
    a, b = cupy.asarray(rng.standard_normal((n, n))), cupy.ones(n)
    before = cupy.get_default_memory_pool().used_bytes()
    settings.total_memory = before + n * n
    with pytest.raises(MemoryError, match=r"320,000 bytes.*at least 169,600 bytes more"):
        mplinalg.solve(a, b, precision="fp32")
    assert cupy.get_default_memory_pool().used_bytes() == before


def test_memory_that_ends_while_a_panel_is_factored(stand_in, cupy, rng, narrow_panels):
    """What the second stream uses is not given back before it has finished: the stand-in looks."""
    n = 260
    a, b = cupy.asarray(rng.standard_normal((n, n)) + 1j), cupy.ones(n)
    mplinalg.solve(a, b, precision="fp16")
    before = cupy.get_default_memory_pool().used_bytes()
    failed = 0
    for more in range(0, 2**18, 2**15):
        settings.total_memory = before + 8 * n * n + more
        try:
            mplinalg.solve(a, b, precision="fp16")
        except MemoryError:
            failed += 1
        assert cupy.get_default_memory_pool().used_bytes() == before
    assert failed > 2


def test_subnormal_numbers(cupy, rng):
    """To the device they are zeros: nothing of that may be silent."""
    n = 33
    z = rng.standard_normal((n, n))
    for a, b in [
        (1e37 * z, rng.standard_normal(n)),
        (1e-37 * z, 1e-37 * rng.standard_normal(n)),
        (2 * np.eye(n), np.full(n, 1e-40)),
        (np.full((1, 1), 2.0), np.full(1, 1e-40)),
    ]:
        given = cupy.asarray(a.astype(np.float32)), cupy.asarray(b.astype(np.float32))
        with pytest.warns(LinAlgWarning, match="accurate"):
            mplinalg.solve(*given)
    with pytest.warns(LinAlgWarning, match="subnormal"):
        mplinalg.solve(cupy.asarray((1e-40 * z).astype(np.float32)), cupy.ones(n, np.float32))
    x = mplinalg.solve(cupy.asarray(1e-300 * z), cupy.asarray(1e-300 * z.sum(axis=1)))
    assert abs(cupy.asnumpy(x) - 1).max() < 1e-10


@pytest.mark.parametrize("precision", ["auto", "fp16", "bf16", "fp16x2"])
@pytest.mark.parametrize("seed", range(4))
def test_singular_in_single_precision(cupy, precision, seed):
    """Low-precision factors are hardly less accurate than the rounding of A."""
    n, rng = 48, np.random.default_rng(seed)
    left, right = rng.standard_normal((n, n - 1)), rng.standard_normal((n - 1, n))
    a = (left @ right).astype(np.float32)
    b = (a.astype(float) @ np.ones(n)).astype(np.float32)
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        mplinalg.solve(cupy.asarray(a), cupy.asarray(b), precision=precision)


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_copies_of_factors(cupy, rng, again):
    n = 300
    a, b = rng.standard_normal((n, n)), rng.standard_normal(n)
    for make, matrix in ((mplinalg.lu_factor, a), (mplinalg.cho_factor, a @ a.T)):
        factors = make(cupy.asarray(matrix), precision="fp32")
        factors.solve(cupy.asarray(b))
        x = again(factors).solve(cupy.asarray(b))
        assert backward_error(matrix, cupy.asnumpy(x), b) <= bound(n, float)


def test_kernels_that_cannot_be_had(cupy, rng, monkeypatch):
    from mplinalg.kernels.cuda import fallbacks, loader

    def launch(name, grid, *arguments):
        raise loader.KernelUnavailable(f"{name} was taken away")

    n = 60
    a, b = rng.standard_normal((n, n)), rng.standard_normal(n)
    fallbacks.forget()
    monkeypatch.setattr(loader, "launch", launch)
    with pytest.warns(LinAlgWarning, match="kernel is replaced"):
        x, report = mplinalg.solve(cupy.asarray(a), cupy.asarray(b), full_output=True)
    assert backward_error(a, cupy.asnumpy(x), b) <= bound(n, float)
    assert any("was taken away" in note for note in report.notes)
    assert "was taken away" in str(report)
    fallbacks.forget()


class Foreign:
    """An array of another library that shares its memory by DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def test_arrays_of_other_libraries(cupy, rng):
    a, b = rng.standard_normal((50, 50)), rng.standard_normal(50)
    x = mplinalg.solve(Foreign(cupy.asarray(a)), Foreign(cupy.asarray(b)))
    assert isinstance(x, cupy.ndarray)
    assert backward_error(a, cupy.asnumpy(x), b) <= bound(50, float)
