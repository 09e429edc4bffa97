"""The CUDA backend on stacks, against NumPy and SciPy.

Where there is no GPU it all runs on the stand-in for CuPy, kernels included.
"""

import numpy as np
import pytest

from mplinalg.errors import LinAlgWarning
from mplinalg.ops.batched import NOT_FINITE
from mplinalg.precision import FP16

from ..cupy_on_host.install import forbidden_transfers, recorded
from ..device import KINDS, is_stand_in, library
from .cupy_backend import without_kernels
from .suite_batched import (
    assert_solves,
    check_cholesky,
    check_failing_members,
    check_gemm,
    check_gesv,
    check_inv,
    check_low_precision,
    check_lstsq,
    check_lu,
    check_posv,
    check_qr,
    check_trsm,
    definite,
    draw,
    unit,
    wide,
)

__all__ = ["without_kernels"]  # a fixture

DTYPES = ("f", "d", "F", "D")
SIZES = (1, 3, 8, 17, 33)
MORE = (2, 4, 5, 7, 9, 16, 20, 24, 31, 32, 40, 63, 64, 65, 100, 127, 128, 129)


@pytest.fixture(scope="module", params=KINDS)
def cupy(request):
    with library(request.param) as module:
        yield module


@pytest.fixture
def ops(cupy):
    from mplinalg.ops.cupy_batched import CupyBatchedOps

    return CupyBatchedOps()


@pytest.fixture
def put(cupy):
    """put(x): on the device, with the strides that it has."""

    def copied(x):
        if x.size == 0 or 0 not in x.strides:
            return cupy.array(x, order="K")
        one = tuple(slice(0, 1) if step == 0 else slice(None) for step in x.strides)
        return cupy.broadcast_to(cupy.array(x[one]), x.shape)

    return copied


def each_size(function):
    """Some sizes, and many in the slow tests."""
    sizes = [*SIZES, *(pytest.param(n, marks=pytest.mark.slow) for n in MORE)]
    return pytest.mark.parametrize("n", sizes)(function)


# -- square systems --------------------------------------------------------------------------------


@each_size
@pytest.mark.parametrize("dtype", DTYPES)
def test_gesv(ops, put, rng, dtype, n):
    check_gesv(ops, put, rng, dtype, n)


@each_size
@pytest.mark.parametrize("dtype", DTYPES)
def test_posv(ops, put, rng, dtype, n):
    """The upper triangle is read."""
    check_posv(ops, put, rng, dtype, n)


@each_size
@pytest.mark.parametrize("dtype", DTYPES)
def test_lu(ops, put, rng, dtype, n):
    check_lu(ops, put, rng, dtype, n)


@each_size
@pytest.mark.parametrize("dtype", DTYPES)
def test_cholesky(ops, put, rng, dtype, n):
    check_cholesky(ops, put, rng, dtype, n)


@pytest.mark.parametrize("n", [1, 3, 17, 40, 129])
@pytest.mark.parametrize("dtype", DTYPES)
def test_trsm(ops, put, rng, dtype, n):
    check_trsm(ops, put, rng, dtype, n)


@pytest.mark.parametrize("n", [1, 2, 9, 33, 130])
@pytest.mark.parametrize("dtype", DTYPES)
def test_inv(ops, put, rng, dtype, n):
    check_inv(ops, put, rng, dtype, n)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_batches(ops, put, rng, count):
    """Of any size; each member as if it were alone."""
    a, b = definite(rng, "d", count, 6), draw(rng, "d", count, 6, 2)

    def verbs(a, b):
        lu, piv, _ = ops.getrf_batched(a)
        c = ops.potrf_batched(a).factors
        yield from (ops.gesv_batched(a, b).x, ops.posv_batched(a, b).x, lu, piv, c)
        yield from (ops.getrs_batched(lu, piv, b), ops.potrs_batched(c, b))
        yield from (ops.trsm_batched(a, b, lower=True).x, ops.inv_batched(a).x)
        yield from ops.qr_batched(a)[:2]
        yield ops.lstsq_batched(a, b)[0].x

    found = list(verbs(put(a), put(b)))
    assert all(len(x) == count for x in found)
    for member in range(count):
        one = slice(member, member + 1)
        for whole, alone in zip(found, verbs(put(a[one]), put(b[one])), strict=True):
            np.testing.assert_array_equal(whole[member].get(), alone[0].get())


@pytest.mark.parametrize("shape", [(3, 0), (0, 0), (3, 4)])
def test_nothing_to_solve(ops, put, shape):
    """No rows, no members, no right-hand sides."""
    count, n = shape
    a = np.broadcast_to(np.eye(n), (count, n, n)).copy()
    b = np.ones((count, n, 0 if n else 2))
    for x, judged in (ops.gesv_batched(put(a), put(b)), ops.posv_batched(put(a), put(b))):
        assert x.shape == b.shape
        assert not judged.members.size
    assert ops.getrf_batched(put(a)).piv.shape == (count, n)
    assert ops.qr_batched(put(a))[1].shape == (count, n, n)
    assert ops.inv_batched(put(a)).x.shape == a.shape


@pytest.mark.parametrize("dtype", ["d", "F"])
@pytest.mark.parametrize("n", [5, 40])
def test_strides(ops, cupy, put, rng, dtype, n):
    """Any layout: the same answers, to the last bit; and nothing is changed."""
    a, b = draw(rng, dtype, 4, n, n), draw(rng, dtype, 4, n, 3)
    expected = ops.gesv_batched(put(a), put(b)).x.get()
    whole = cupy.full((8, n + 2, n + 3), np.nan, dtype)
    spread = whole[::2, 1:-1, 2:-1]
    spread[...] = put(a)
    turned = cupy.ascontiguousarray(put(a).swapaxes(1, 2)).swapaxes(1, 2)
    backwards = cupy.ascontiguousarray(put(a)[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    columns = cupy.ascontiguousarray(put(b).swapaxes(1, 2)).swapaxes(1, 2)
    for given, right in ((spread, put(b)), (turned, columns), (backwards, columns)):
        found = ops.gesv_batched(given, right).x
        np.testing.assert_array_equal(found.get(), expected)
        np.testing.assert_array_equal(given.get(), a)
        np.testing.assert_array_equal(right.get(), b)
    one = np.broadcast_to(a[:1], a.shape)
    found = ops.gesv_batched(put(one), put(b)).x
    np.testing.assert_array_equal(
        found.get(), ops.gesv_batched(put(np.ascontiguousarray(one)), put(b)).x.get()
    )


# -- members that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "n"),
    [
        *((dtype, 4) for dtype in DTYPES),
        *(pytest.param(t, n, marks=pytest.mark.slow) for t in DTYPES for n in (20, 40, 130)),
    ],
)
def test_failing_members(ops, put, rng, dtype, n):
    """Said of them is what the backend for NumPy says; others do not notice, to the last bit."""
    check_failing_members(ops, put, rng, dtype, n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nearly_singular_members(ops, put, rng, dtype):
    """They are judged, and have an estimate of their condition; well conditioned ones are not."""
    n = 12
    a = draw(rng, dtype, 40, n, n)
    q = np.linalg.qr(wide(a))[0]
    a = (q * np.geomspace(1, 0.1, n) @ q.conj().swapaxes(1, 2)).astype(dtype)
    poor = np.array([3, 17, 30])
    tiny = np.geomspace(1, unit(dtype) / 100, n)
    a[poor] = (q[poor] * tiny @ q[poor].conj().swapaxes(1, 2)).astype(dtype)
    b = draw(rng, dtype, 40, n, 1)
    for x, judged in (ops.gesv_batched(put(a), put(b)), ops.inv_batched(put(a))):
        np.testing.assert_array_equal(judged.members, poor)
        assert (judged.rcond < 20 * unit(dtype)).all()
        assert np.isfinite(x.get()).all()
    np.testing.assert_array_equal(ops.getrf_batched(put(a)).judged.members, poor)


def test_numbers_that_leave_the_range(ops, put):
    """Where SciPy has an answer, so has this."""
    a = np.array([[[1e200, 1e200], [1e200, -1e200]], [[2.0, 0.0], [0.0, 4.0]]])
    b = np.array([[[1e308], [0.0]], [[2.0], [4.0]]])
    a[0, 0, 0] = 1.7e308
    a[0, 1] = [-1.7e308, 1.7e308]
    a[0, 0, 1] = 1.7e308
    x, judged = ops.gesv_batched(put(a), put(b))
    np.testing.assert_array_equal(x[1].get(), [[1], [1]])
    with np.errstate(all="ignore"):
        expected = np.linalg.solve(a[0] / 1e300, b[0] / 1e300)
    np.testing.assert_allclose(x[0].get(), expected, rtol=1e-14)
    assert not judged.info.any()


def test_zeros_on_a_diagonal(ops, put, rng):
    for n in (7, 40, 130):
        a, b = (
            np.tril(rng.standard_normal((5, n, n)) / n) + np.eye(n),
            rng.standard_normal((5, n, 2)),
        )
        a[2, 3, 3] = a[2, 5, 5] = 0
        x, judged = ops.trsm_batched(put(a), put(b), lower=True)
        assert judged.members.tolist() == [2]
        assert judged.info.tolist() == [4]
        healthy = [0, 1, 3, 4]
        assert_solves(a[healthy], x.get()[healthy], b[healthy], "d")


# -- products --------------------------------------------------------------------------------------


@pytest.mark.parametrize("transb", "NTC")
@pytest.mark.parametrize("transa", "NTC")
@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm(ops, put, rng, dtype, transa, transb):
    """Small members by kernels, larger ones by cuBLAS, in any layout of C."""
    check_gemm(ops, put, rng, dtype, transa, transb)


def test_gemm_of_other_stacks(ops, cupy, put, rng):
    """More dimensions, parts of arrays, one matrix for all; no terms, no alpha."""
    a, b = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((4, 5)).T
    c = cupy.full((2, 3, 6, 6), np.nan)
    part = c[:, :, 1:5, ::2][..., :2, :]
    shape = (2, 3, 5, 3)
    right = put(np.broadcast_to(b[:, :3], shape))
    target = c[:, :, 1:5, ::2]
    ops.gemm_batched(1.0, put(a), right, 0.0, target)
    np.testing.assert_allclose(target.get(), a @ b[:, :3], rtol=1e-14, atol=1e-14)
    assert np.isnan(c.get()[:, :, [0, 5]]).all()
    assert np.isnan(c.get()[..., 1::2]).all()
    assert part.base is not None
    ops.gemm_batched(0.0, put(np.full_like(a, np.nan)), right, 2.0, target)
    np.testing.assert_allclose(target.get(), 2 * a @ b[:, :3], rtol=1e-14, atol=1e-14)
    ops.gemm_batched(1.0, put(a[..., :0]), right[..., :0, :], 0.0, target)
    assert not target.get().any()


@pytest.mark.parametrize("name", ["fp16", "bf16", "tf32", "fp16x2", "fp32"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_low_precision(ops, put, rng, dtype, name):
    """As the backend for NumPy rounds operands, but for the order of sums."""
    check_low_precision(ops, put, rng, dtype, name)


# -- orthogonal factors ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (17, 9), (32, 32), (40, 33)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_qr(ops, put, rng, dtype, shape):
    check_qr(ops, put, rng, dtype, shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_qr_of_members_that_fail(ops, put, rng, dtype):
    """What is not finite is told; what overflows on the way is computed again."""
    a = draw(rng, dtype, 5, 6, 4)
    good = ops.qr_batched(put(a))
    bad = a.copy()
    bad[1, 2, 2] = np.nan
    most = np.finfo(dtype).max
    bad[3] = most / 4 * np.sign(a[3].real)
    q, r, judged = ops.qr_batched(put(bad))
    assert judged.members.tolist() == [1]
    assert judged.info.tolist() == [NOT_FINITE]
    for one, two in zip(good[:2], (q, r), strict=True):
        np.testing.assert_array_equal(one[[0, 2, 4]].get(), two[[0, 2, 4]].get())
    q, r = (wide(x[3].get()) / scale for x, scale in ((q, 1), (r, most)))
    error = q @ r - wide(bad[3]) / most
    assert (abs(error) <= 180 * unit(dtype)).all()


@pytest.mark.parametrize("shape", [(9, 4), (6, 6), (3, 8), (40, 12)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_lstsq(ops, put, rng, dtype, shape):
    """Of full rank, and of less: with the least norm, and ranks, as SciPy has them."""
    check_lstsq(ops, put, rng, dtype, shape)


def test_lstsq_that_cannot_be(ops, put, rng):
    a, b = rng.standard_normal((4, 6, 3)), rng.standard_normal((4, 6, 2))
    good = ops.lstsq_batched(put(a), put(b))[0].x
    a[1, 0, 0], b[2, 3, 1] = np.nan, np.inf
    (x, judged), _, _ = ops.lstsq_batched(put(a), put(b))
    assert judged.members.tolist() == [1, 2]
    assert (judged.info == NOT_FINITE).all()
    np.testing.assert_array_equal(x[[0, 3]].get(), good[[0, 3]].get())


# -- what only this backend promises ---------------------------------------------------------------


def test_what_crosses_to_the_host(ops, cupy, put, rng):
    """Of a batch in which all is well nothing but how many members are to be judged."""
    if not is_stand_in(cupy):
        pytest.skip("asks what only the stand-in for CuPy can tell")
    a, b = put(definite(rng, "d", 50, 6)), put(draw(rng, "d", 50, 6, 2))
    c, calls = cupy.empty((50, 6, 2)), []
    calls += [lambda: ops.gesv_batched(a, b), lambda: ops.posv_batched(a, b)]
    calls += [lambda: ops.getrf_batched(a), lambda: ops.potrf_batched(a)]
    calls += [lambda: ops.inv_batched(a), lambda: ops.qr_batched(a)]
    for call in calls:
        with forbidden_transfers(16), recorded() as ledger:
            call()
        assert len(ledger.syncs) <= 1
    lu, piv, _ = ops.getrf_batched(a)
    for call in (
        lambda: ops.gemm_batched(1.0, a, b, 0.0, c),
        lambda: ops.gemm_batched(1.0, a, b, 0.0, c, compute=FP16),
        lambda: ops.getrs_batched(lu, piv, b),
        lambda: ops.potrs_batched(lu, b),
    ):
        with forbidden_transfers(0), recorded() as ledger:
            call()
        assert not ledger.syncs


@pytest.mark.filterwarnings("ignore:device 0. a kernel is replaced:scipy.linalg.LinAlgWarning")
@pytest.mark.usefixtures("without_kernels")
class TestWithoutKernels:
    """What cuBLAS, cuSOLVER and CuPy give instead."""

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_systems(self, ops, put, rng, dtype):
        for n in (1, 5, 40):
            for function in (check_gesv, check_posv, check_lu, check_cholesky):
                function(ops, put, rng, dtype, n)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_others(self, ops, put, rng, dtype):
        check_trsm(ops, put, rng, dtype, 7)
        check_inv(ops, put, rng, dtype, 7)
        check_gemm(ops, put, rng, dtype, "T", "C")
        check_qr(ops, put, rng, dtype, (7, 4))
        check_lstsq(ops, put, rng, dtype, (9, 4))

    @pytest.mark.parametrize("name", ["fp16", "bf16", "fp16x2"])
    def test_low_precision(self, ops, put, rng, name):
        for dtype in DTYPES:
            check_low_precision(ops, put, rng, dtype, name)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_failing_members(self, ops, put, rng, dtype):
        check_failing_members(ops, put, rng, dtype, 6)


def test_a_kernel_that_is_replaced_is_told(ops, put, without_kernels):
    with pytest.warns(LinAlgWarning, match="a kernel is replaced"):
        ops.gesv_batched(put(np.eye(3)[None]), put(np.ones((1, 3, 1))))


def test_bad_shapes(ops, put):
    square, b = put(np.ones((2, 3, 3))), put(np.ones((2, 4, 1)))
    with pytest.raises(ValueError, match=r"\(2, 3, 3\) and \(2, 4, 1\)"):
        ops.gesv_batched(square, b)
    with pytest.raises(ValueError, match="do not fit"):
        ops.gemm_batched(1.0, square, b, 0.0, put(np.ones((2, 3, 1))))
