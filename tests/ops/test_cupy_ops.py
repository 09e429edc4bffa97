"""The CUDA backend: the conformance suite, and what only this backend promises.

Where there is no GPU it all runs on the stand-in for CuPy, kernels included. What only the stand-in
can tell (what crosses to the host, which stream has to wait for which) is asked of it alone.
"""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg

from mplinalg.errors import LinAlgWarning
from mplinalg.factor.cholesky import cholesky
from mplinalg.factor.lu import lu
from mplinalg.ops import Counters
from mplinalg.ops.numpy_ops import NumpyOps
from mplinalg.precision import BF16, FP16, FP16X2, FP32, TF32, get_format

from ..cupy_on_host.install import Misuse, forbidden_transfers, recorded, settings
from ..device import KINDS, is_stand_in, library
from .conformance import OpsConformance
from .helpers import (
    DTYPES,
    LAYOUTS,
    SINGLE,
    Placed,
    Suite,
    allowed,
    cabs1,
    draw,
    exact_residual,
    is_small,
    norm,
    omegas,
    op,
    real,
    reflector_product,
    same_bits,
    swapped,
    wide,
)
from .suite_butterfly import ButterflySuite
from .suite_factorizations import FactorizationSuite
from .suite_level3 import Level3Suite
from .suite_movement import MovementSuite
from .suite_residual import ResidualSuite, cancelling, sizes_of

SMALL = 256
"""Bytes of the largest transfer that a factorization or a solve may make."""


@pytest.fixture(scope="module", params=KINDS)
def cupy(request):
    """Installed once; the stand-in checks at the end that nothing went wrong."""
    with library(request.param) as module:
        yield module


@pytest.fixture
def stand_in(cupy):
    """What may be chosen of the stand-in; skips on a GPU."""
    from mplinalg.kernels.cuda import loader

    if not is_stand_in(cupy):
        pytest.skip("asks what only the stand-in for CuPy can tell")
    yield settings
    settings.reset()
    loader._multiprocessors.cache_clear()


@pytest.fixture
def ops(cupy):
    from mplinalg.ops.cupy_ops import CupyOps

    return CupyOps()


@pytest.fixture
def kernels(cupy):
    """Modules below the backend."""
    from mplinalg.kernels.cuda import low, panels, residual

    return {"low": low, "panels": panels, "residual": residual}


@pytest.fixture
def put(cupy):
    """put(x, "C-view"): `x` on the device in that layout."""
    return lambda x, layout="F": Placed(OnDevice(cupy), x, layout)


class OnDevice:
    """There and back."""

    def __init__(self, cupy):
        self.cupy = cupy

    def to_device(self, x):
        return self.cupy.array(x, order="K")

    @staticmethod
    def to_host(x):
        return x.get()


class TestCupyOps(OnDevice, OpsConformance):
    __init__ = object.__init__

    @pytest.fixture(autouse=True)
    def _backend(self, cupy, ops):
        self.cupy, self.ops = cupy, ops

    @pytest.mark.parametrize("trans", ["N", "T", "C"])
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_extended_residual_survives_cancellation(self, rng, dtype, layout, trans):
        """In single precision the plain one does too: all sums are in double precision."""
        if np.dtype(dtype).char in "dD":
            super().test_extended_residual_survives_cancellation(rng, dtype, layout, trans)
            return
        a, x, b = cancelling(rng, dtype)
        r = wide(exact_residual(a, x, b))
        bound = 30 * (2.0**-24 * cabs1(r) + 7 * 2.0**-48 * sizes_of(a, x, b))
        for extended in (False, True):
            found, _ = self.residual(op(a, trans), x, b, layout, trans=trans, extended=extended)
            assert is_small(cabs1(wide(found) - r), bound)


# -- kernels that cannot be had ------------------------------------------------------------------


@pytest.fixture
def without_kernels(cupy, monkeypatch):
    """As on a device for which no kernel of the library compiles."""
    from mplinalg.kernels.cuda import fallbacks, loader

    def launch(name, grid, *arguments):
        raise loader.KernelUnavailable(f"{name} was taken away")

    fallbacks.forget()
    monkeypatch.setattr(loader, "launch", launch)
    yield
    fallbacks.forget()


@pytest.mark.filterwarnings("ignore:device 0. a kernel is replaced:scipy.linalg.LinAlgWarning")
class TestWithoutKernels(OnDevice, Suite):
    """What functions of cuBLAS, cuSOLVER and CuPy give instead."""

    __init__ = object.__init__

    @pytest.fixture(autouse=True)
    def _backend(self, cupy, ops, without_kernels):
        self.cupy, self.ops = cupy, ops

    test_convert_casts_and_sums_rows = MovementSuite.test_convert_casts_and_sums_rows
    test_convert_counts = MovementSuite.test_convert_counts_what_single_precision_loses
    test_convert_scales_extremes = (
        MovementSuite.test_convert_scales_extremes_without_leaving_the_range_on_the_way
    )
    test_round = MovementSuite.test_round
    test_round_at_the_ends_of_the_range = MovementSuite.test_round_at_the_ends_of_the_range
    test_amax = MovementSuite.test_amax
    test_amax_sees_nan_and_infinity = MovementSuite.test_amax_sees_nan_and_infinity
    test_lange = MovementSuite.test_lange
    test_extents = MovementSuite.test_extents
    test_laswp = MovementSuite.test_laswp
    test_gemm_knows_no_scale = Level3Suite.test_gemm_in_half_precision_knows_no_scale
    test_gemm_counts_what_conversion_lost = Level3Suite.test_gemm_counts_what_conversion_lost
    test_syrk = Level3Suite.test_syrk
    test_getrf = FactorizationSuite.test_getrf
    test_trsm_inverted = ButterflySuite.test_trsm_inverted
    test_geqrf_panel = FactorizationSuite.test_geqrf_panel_gives_the_block_reflector
    test_residual_of_a_rectangular_matrix = ResidualSuite.test_residual_of_a_rectangular_matrix
    test_residual_is_not_finite = ResidualSuite.test_residual_is_not_finite_where_its_terms_are_not
    test_extended_residual = ResidualSuite.test_extended_residual_survives_cancellation
    test_extended_residual_from_one_triangle = (
        ResidualSuite.test_extended_residual_from_one_triangle
    )
    residual = ResidualSuite.residual

    @pytest.mark.parametrize("dtype", SINGLE)
    @pytest.mark.parametrize("name", ["fp16", "bf16", "tf32", "fp16x2"])
    def test_gemm_in_a_low_format(self, rng, name, dtype):
        Level3Suite.test_gemm_in_a_low_format(self, rng, name, dtype, ("C", "T"))

    @pytest.mark.parametrize("dtype", ["float64", "complex64"])
    def test_extended_residual_in_blocks_of_rows(self, rng, dtype, monkeypatch, kernels):
        monkeypatch.setattr(kernels["residual"], "_EXTENDED_ROWS", 2)
        self.test_extended_residual(rng, dtype, "F", "C")


def test_one_warning_for_all_that_is_replaced(without_kernels, ops, put, rng):
    a = put(draw(rng, (40, 40), "float32")).array
    assert ops.notes == ()
    with pytest.warns(LinAlgWarning, match="device 0.*amax<float, 1> was taken away"):
        ops.amax(a)
    ops.amax(a)  # warnings are errors
    ops.getrf_panel(a)
    replaced = [line.split(" was")[0] for line in ops.notes]
    assert replaced[:3] == ["amax<float, 1>", "panel_lu<32, 128, float>", "tournament<32>"]
    assert len(set(replaced)) == len(replaced)


def assert_column_errors(ops, put, rng, dtype):
    """Those of the CPU, with zeros, infinity and NaN in some of the columns."""
    x, r = (draw(rng, (301, 6), dtype) for _ in range(2))
    d = abs(draw(rng, (301, 6), real(dtype)))
    r[2, 1] = d[2, 1] = 0.0
    d[3, 2] = 0.0
    r[4, 3] = d[4, 3] = np.inf
    x[5, 4] = np.nan
    d[:, 5] = np.nan
    found = ops.column_errors(*(put(v).array for v in (x, r, d)))
    expected = NumpyOps().column_errors(*(np.asfortranarray(v) for v in (x, r, d)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=allowed(1, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_column_errors(ops, put, rng, dtype):
    assert_column_errors(ops, put, rng, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_column_errors_without_kernels(without_kernels, ops, put, rng, dtype):
    with pytest.warns(LinAlgWarning, match="column_errors"):
        assert_column_errors(ops, put, rng, dtype)


def test_the_tournament_stands_in_for_the_persistent_kernel(cupy, ops, put, rng, monkeypatch):
    """Where cooperative launches cannot be had."""
    from mplinalg.kernels.cuda import fallbacks, loader

    launch = loader.launch

    def without(name, grid, *arguments):
        if name.startswith("panel_lu<"):
            raise loader.KernelUnavailable(f"{name} was taken away")
        launch(name, grid, *arguments)

    monkeypatch.setattr(loader, "launch", without)
    a = put(draw(rng, (300, 40), "float32"), "C")
    fallbacks.forget()
    with pytest.warns(LinAlgWarning, match="panel_lu<32, 128, float>"):
        assert_is_lu(a, ops.getrf_panel(a.array), tournament=True)
    fallbacks.forget()


# -- LU panels -----------------------------------------------------------------------------------


def assert_is_lu(a, found, *, tournament=False):
    """P A = L U of a `Placed` matrix; by partial pivoting, as LAPACK's sgetrf chooses."""
    piv, info = found
    before, lu, piv = wide(a._before[a.window]), wide(a.host()), piv.get()
    m, n = before.shape
    k = min(m, n)
    assert int(info[0]) == 0
    lower = np.tril(lu[:, :k], -1) + np.eye(m, k)
    error = norm(swapped(before, piv) - lower @ np.triu(lu[:k]))
    assert error <= allowed(max(m, n), np.float32) * norm(before)
    if not tournament:
        _, expected, _ = scipy.linalg.lapack.sgetrf(before.astype(np.float32))
        assert np.array_equal(piv, expected)
    a.assert_rest_untouched()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(300, 97), (513, 16), (40, 70), (33, 33), (1, 1), (65, 64)])
def test_panels_pivot_as_lapack_does(ops, put, rng, shape, layout):
    """Leaves, halves and what is left over; in place, as views."""
    a = put(draw(rng, shape, "float32"), layout)
    assert_is_lu(a, ops.getrf_panel(a.array))


@pytest.mark.parametrize(("rows", "kernel"), [
    (512, "panel_lu<32, 128, float>"), (513, "panel_lu<32, 384, float>"),
    (1536, "panel_lu<32, 384, float>"), (1537, "tournament<32>"),
])  # fmt: skip
def test_tall_panels_take_what_the_multiprocessors_hold(stand_in, ops, put, rng, rows, kernel):
    """Two of them, of one block each; beyond that a tournament."""
    from mplinalg.kernels.cuda import loader

    stand_in.multiprocessors = 2
    loader._multiprocessors.cache_clear()
    a = put(draw(rng, (rows, 32), "float32"), "C")
    with recorded() as ledger:
        found = ops.getrf_panel(a.array)
    assert kernel in ledger.launches
    assert_is_lu(a, found, tournament=kernel.startswith("tournament"))


def test_zero_pivots_of_a_panel_are_counted_from_its_first_column(ops, put, rng):
    x = draw(rng, (200, 90), "float32")
    x[:, 70] = 0
    _, info = ops.getrf_panel(put(x, "C").array)
    assert int(info[0]) == 71
    x[:, 40] = x[:, 39]
    _, info = ops.getrf_panel(put(np.round(4 * x), "C").array)
    assert int(info[0]) in (41, 71)  # cancellation need not be exact


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["C", "C-view"])
@pytest.mark.parametrize("shape", [(70, 70), (90, 50), (50, 90), (0, 3)])
def test_getrf_by_rows(ops, put, rng, shape, layout, dtype, monkeypatch):
    """A C-like matrix is factored in place, a panel at a time."""
    monkeypatch.setattr("mplinalg.ops.cupy_ops._WORKING_PANEL", 33)
    x = draw(rng, shape, dtype)
    a = put(x, layout)
    piv, info = ops.getrf(a.array)
    lu, k = wide(a.host()), min(shape)
    assert info == 0
    lower = np.tril(lu[:, :k], -1) + np.eye(shape[0], k)
    error = norm(swapped(wide(x), piv.get()) - lower @ np.triu(lu[:k]))
    assert error <= allowed(max(shape), dtype) * norm(wide(x))
    a.assert_rest_untouched()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
def test_cholesky_by_rows(ops, put, rng, lower, dtype):
    n = 37
    x = wide(draw(rng, (n, n), dtype))
    x = np.asarray(np.eye(n) + x @ x.conj().T / n, dtype)
    c = put(x, "C")
    assert ops.potrf(c.array, lower=lower) == 0
    factor = np.tril(wide(c.host())) if lower else np.triu(wide(c.host()))
    product = factor @ factor.conj().T if lower else factor.conj().T @ factor
    assert norm(product - x) <= allowed(n, dtype) * norm(wide(x))
    y = draw(rng, (n, 3), dtype)
    b = put(y)
    ops.potrs(c.array, b.array, lower=lower)
    assert is_small(omegas(x, b.host(), y), allowed(n, dtype))


# -- triangles and reflectors --------------------------------------------------------------------


@pytest.mark.parametrize("trans", ["N", "T"])
@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize(("layout", "lower", "unit"), [
    ("C", True, True), ("C-view", False, False), ("F", True, False), ("F-view", False, True),
])  # fmt: skip
def test_triangles_with_inverted_diagonal_blocks(
    stand_in, ops, put, rng, layout, lower, unit, side, trans
):
    """As good as substitution; what is on the other side of the diagonal is not needed."""
    n, columns = 150, 260
    x = draw(rng, (n, n), "float32") / np.float32(n)
    np.fill_diagonal(x, 1.5)
    triangle = np.tril(wide(x)) if lower else np.triu(wide(x))
    if unit:
        np.fill_diagonal(triangle, 1.0)
    a = put(x, layout)
    y = draw(rng, (n, columns) if side == "L" else (columns, n), "float32")
    b = put(y, "F-view")
    with recorded() as ledger:
        ops.trsm(side, a.array, b.array, lower=lower, trans=trans, unit=unit, fast=True)
    assert dict(ledger.launches) == {"triangle_inverse<128>": 1}
    t, got = op(triangle, trans), wide(b.host())
    product, sizes = (t @ got, abs(t) @ abs(got)) if side == "L" else (got @ t, abs(got) @ abs(t))
    assert is_small(abs(product - wide(y)), allowed(n, np.float32) * sizes)
    a.assert_untouched()
    b.assert_rest_untouched()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(600, 70), (257, 32), (64, 64)])
def test_wide_panels_have_one_block_reflector(ops, put, rng, shape, dtype):
    """Several leaves, trees of two levels, the last leaf narrower."""
    m, n = shape
    x = draw(rng, shape, dtype)
    a = put(x, "F-view")
    tau, t = ops.geqrf_panel(a.array)
    qr, tau, t = wide(a.host()), tau.get(), t.get()
    v = np.tril(qr, -1) + np.eye(m, n)
    q = np.eye(m) - v @ wide(t) @ v.conj().T
    assert norm(q.conj().T @ q - np.eye(m)) <= allowed(m, dtype)
    assert norm(q[:, :n] @ np.triu(qr[:n]) - wide(x)) <= allowed(m, dtype) * norm(wide(x))
    assert norm(reflector_product(qr, tau) - q) <= allowed(m, dtype)
    assert np.all(np.tril(t, -1) == 0)
    a.assert_rest_untouched()


# -- products in low formats ---------------------------------------------------------------------


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("fmt", [FP16, BF16, TF32], ids=str)
def test_syrk_takes_half_of_the_flops(stand_in, ops, put, rng, fmt, lower):
    n, k = 1024, 4
    a, c = put(draw(rng, (n, k), "float32")), put(np.zeros((n, n), np.float32))
    with recorded() as ledger:
        ops.syrk(1.0, a.array, 0.0, c.array, lower=lower, compute=fmt)
    assert 0.5 < sum(ledger.flops.values()) / (2 * n * n * k) < 0.65


@pytest.mark.parametrize("name", ["fp16x2", "fp16"])
def test_complex_products_by_planes_take_bounded_memory(ops, put, rng, name, kernels, monkeypatch):
    """The same bits in blocks of rows as at once."""
    low = kernels["low"]
    x, y, z = (draw(rng, (23, 23), "complex64") for _ in range(3))
    found = []
    for size in (low._PLANES, 23 * 8 * 5):
        monkeypatch.setattr(low, "_PLANES", size)
        monkeypatch.setattr(low, "_launch_product", _unavailable)
        monkeypatch.setattr(low.fallbacks, "note", lambda reason: None)
        c = put(z, "C")
        ops.gemm(-1.0, put(x).array, put(y).array, 1.0, c.array, compute=get_format(name))
        found.append(c.host())
    assert same_bits(*found)


def _unavailable(*arguments):
    from mplinalg.kernels.cuda.loader import KernelUnavailable

    raise KernelUnavailable("taken away")


def test_counters_are_not_waited_for(stand_in, ops, put, rng):
    """A product, its scales and its counts stay on the device until they are read."""
    a, b, c = (put(draw(rng, (40, 40), "float32")).array for _ in range(3))
    counters = Counters()
    for fmt in (FP16, BF16, TF32, FP16X2):
        with recorded() as ledger:
            ops.gemm(-1.0, a, b, 1.0, c, compute=fmt, counters=counters)
        assert ledger.syncs == [], fmt
        assert ledger.to_host == []
    with recorded() as ledger:
        assert counters.overflows == 0
    assert ledger.to_host


# -- bounded buffers -----------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [3, 6])
@pytest.mark.parametrize("triangle", [None, "L", "U"])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_residuals_in_blocks(ops, put, rng, dtype, triangle, columns, kernels, monkeypatch):
    """A buffer of 8 rows gives what one of all rows gives."""
    a, x, b = (draw(rng, s, dtype) for s in [(37, 37), (37, columns), (37, columns)])
    found = []
    for size in (2**28, 1):
        monkeypatch.setattr(kernels["residual"], "_BUFFER", size)
        for layout in ("F", "C"):
            arrays = [put(a, layout).array, put(x).array, put(b).array]
            r, d = ops.residual(*arrays, trans="T", triangle=triangle)
            found.append((wide(r.get()), wide(d.get())))
            d = ops.magnitude(*arrays, trans="T", triangle=triangle)
            assert is_small(abs(d.get() - found[-1][1]), allowed(37, dtype) * found[-1][1])
    r, d = found[0]
    for other, size in found[1:]:
        assert is_small(cabs1(other - r), allowed(37, dtype) * d)
        assert is_small(abs(size - d), allowed(37, dtype) * d)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_interchanges_in_blocks_of_columns(ops, put, rng, dtype, layout, kernels, monkeypatch):
    monkeypatch.setattr(kernels["panels"], "_BUFFER", 300)
    x = draw(rng, (31, 23), dtype)
    piv = np.array([rng.integers(i, 31) for i in range(9)], np.int32)
    a = put(x, layout)
    ops.laswp(a.array, ops.xp.asarray(piv))
    assert same_bits(a.host(), swapped(x, piv))
    a.assert_rest_untouched()


# -- transfers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("fmt", [FP16, BF16, FP16X2, FP32], ids=str)
@pytest.mark.parametrize("dtype", SINGLE)
def test_lu_and_a_solve_stay_on_the_device(stand_in, cupy, ops, rng, dtype, fmt, order):
    """Nothing as large as a column crosses, and the host waits once for the factorization."""
    n = 200
    x, y = draw(rng, (n, n), dtype), draw(rng, (n, 2), dtype)
    w, b = cupy.array(np.array(x, order=order), order="K"), cupy.array(y, order="F")
    with forbidden_transfers(SMALL), recorded() as ledger:
        factors = lu(ops, w, fmt, block=64)
        assert factors.info == 0
        waits = len(ledger.to_host)
        got = factors.solve(b)
        assert len(ledger.to_host) == waits
        assert 0 < factors.rcond(norm(wide(x).T), dtype) < 1
    assert waits == 1
    residual = omegas(wide(x), got.get(), y)
    assert is_small(residual, 30 * n * max(fmt.unit_roundoff, 2.0**-24))


@pytest.mark.parametrize("fmt", [FP16, FP32], ids=str)
@pytest.mark.parametrize("triangle", ["L", "U"])
def test_cholesky_stays_on_the_device(stand_in, cupy, ops, rng, triangle, fmt):
    n = 200
    x = wide(draw(rng, (n, n), "float32"))
    x = np.asarray(4 * np.eye(n) + x @ x.T / n, np.float32)
    y = draw(rng, (n, 2), "float32")
    w, b = cupy.array(x, order="F"), cupy.array(y, order="F")
    with forbidden_transfers(SMALL), recorded() as ledger:
        factors = cholesky(ops, w.copy, fmt, triangle=triangle, block=64)
        got = factors.solve(b)
    assert len(ledger.to_host) == 1
    assert is_small(omegas(x, got.get(), y), 30 * n * max(fmt.unit_roundoff, 2.0**-24))


def test_refinement_transfers_numbers_alone(stand_in, ops, put, rng):
    a, x, b = (put(draw(rng, s, "float64")).array for s in [(90, 90), (90, 3), (90, 3)])
    with forbidden_transfers(SMALL), recorded() as ledger:
        r, d = ops.residual(a, x, b)
        assert ledger.to_host == []
        ops.column_errors(x, r, d)
        assert len(ledger.to_host) == 1
        ops.trcon(a, lower=True)
        ops.gecon(a, 1.0)
        assert len(ledger.to_host) == 3
    assert ledger.to_device == []


def test_infos_are_read_together(stand_in, cupy, ops):
    def info(value):
        return cupy.full(1, value, np.int32)

    with recorded() as ledger:
        assert ops.first_info([(0, info(0)), (10, 0), (20, info(3)), (30, info(1))]) == 23
    assert len(ledger.to_host) == 1
    assert ops.first_info([]) == 0
    assert ops.first_info([(0, info(0))]) == 0
    assert ops.first_info([(7, 2), (1, info(1))]) == 9
    with pytest.raises(RuntimeError, match="argument 4"):
        ops.first_info([(0, info(-4))])


# -- devices, streams and threads ----------------------------------------------------------------


def test_arrays_of_different_devices_are_refused(stand_in, cupy, ops):
    here = cupy.ones((3, 3), order="F")
    with cupy.cuda.Device(1):
        there, pivots = cupy.ones((3, 3), order="F"), cupy.arange(3, dtype=np.int32)
    for call in (
        lambda: ops.gemm(1.0, here, there, 0.0, here),
        lambda: ops.residual(there, here, here),
        lambda: ops.getrs(here, pivots, here),
        lambda: ops.convert(here, there),
    ):
        with pytest.raises(ValueError, match="different devices, 0, 1"):
            call()
    for call in (lambda: ops.amax(there), lambda: ops.getrf(there)):
        with pytest.raises(ValueError, match="on device 1, but the current device is 0"):
            call()
    with cupy.cuda.Device(1):
        assert ops.amax(there) == 1.0


def solve_everything(ops, cupy, x, y):
    """Bits of a factorization, a solve and a residual."""
    w, a = cupy.array(x.astype(np.float32), order="C"), cupy.array(x, order="C")
    b = cupy.array(y, order="F")
    counters = Counters()
    z = lu(ops, w, FP16, block=48).solve(b)
    r, d = ops.residual(a, z, b)
    ops.syrk(1.0, w.T, 0.0, cupy.empty_like(w.T), lower=True, compute=FP16X2, counters=counters)
    errors = ops.column_errors(z, r, d)
    return b"".join(v.tobytes() for v in (z.get(), r.get(), d.get(), *errors))


def test_on_another_stream(cupy, ops, rng):
    """Every kernel and every call goes where the current stream says."""
    x, y = draw(rng, (130, 130), "float64"), draw(rng, (130, 2), "float64")
    alone = solve_everything(ops, cupy, x, y)
    with cupy.cuda.Stream(non_blocking=True):
        assert solve_everything(ops, cupy, x, y) == alone


def test_from_two_threads(cupy, ops, rng):
    x, y = draw(rng, (130, 130), "float64"), draw(rng, (130, 2), "float64")
    alone = solve_everything(ops, cupy, x, y)

    def run(_):
        with cupy.cuda.Stream(non_blocking=True):
            return solve_everything(ops, cupy, x, y)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, range(2))) == [alone, alone]


def test_work_beside_has_to_be_joined(stand_in, cupy, ops, rng):
    x = draw(rng, (70, 70), "float32")
    a = cupy.array(x, order="F")
    b, c = cupy.empty_like(a), cupy.empty_like(a)
    ops.gemm(1.0, a, a, 0.0, b)
    with ops.beside():
        ops.gemm(1.0, a, b, 0.0, c)  # begins when what came before is done
    ops.join()
    assert is_small(abs(c.get() - wide(x) @ wide(x) @ wide(x)), 1e-2)
    with ops.beside():
        ops.gemm(1.0, a, a, 0.0, c)
    with pytest.raises(Misuse, match="nothing orders the two"):
        ops.gemm(1.0, a, c, 0.0, b)
    ops.join()
    ops.gemm(1.0, a, c, 0.0, b)
    ops.join()  # again: nothing to wait for


def test_work_beside_is_joined_after_an_error(stand_in, cupy, ops):
    a = cupy.ones((5, 5), np.float32, order="F")

    def fails():
        with ops.beside():
            ops.gemm(1.0, a, a, 0.0, a.copy(order="F"))
            ops.gemm(1.0, a, a[:3], 0.0, a)

    with pytest.raises(ValueError, match="shapes"):
        fails()
    ops.join()
    a += 1


def test_what_the_device_is_called(ops):
    assert re.fullmatch("[A-Za-z0-9-]+", ops.device)
    assert FP32 in ops.fast_formats
    ops.synchronize()


@pytest.mark.parametrize("nrhs", [1, 5, 17])
@pytest.mark.parametrize("order", ["C", "F"])
def test_solves_that_were_prepared(cupy, ops, rng, order, nrhs):
    n = 300
    x = draw(rng, (n, n), "float32")
    spd = np.asarray(wide(x) @ wide(x).T / n + np.eye(n), "float32")
    y = draw(rng, (n, nrhs), "float32")
    a = cupy.array(x, order=order)
    view = ops.getrf_view(a, FP16)
    v = view.get()
    piv, _ = ops.getrf(view)
    plan = ops.getrs_plan(view, piv)
    assert plan is not None
    for trans in ("N", "T"):
        b = cupy.array(y, order="F")
        ops.getrs(view, piv, b, trans=trans, plan=plan)
        assert is_small(omegas(op(v, trans), b.get(), y), allowed(n, "float32"))
    for lower in (True, False):
        c, b = cupy.array(spd, order="F"), cupy.array(y, order="F")
        ops.potrf(c, lower=lower)
        plan = ops.potrs_plan(c, lower=lower)
        assert plan is not None
        ops.potrs(c, b, lower=lower, plan=plan)
        assert is_small(omegas(spd, b.get(), y), allowed(n, "float32"))
    assert ops.getrs_plan(cupy.eye(n), cupy.arange(n, dtype=np.int32)) is None


def test_leaves_whose_kernels_cannot_be_had(cupy, ops, put, rng, monkeypatch):
    """Of the last 16 columns, when the others have been factored in place."""
    from mplinalg.kernels.cuda import fallbacks, loader

    load = loader._get

    def get(kernel):
        if kernel.name.startswith(("panel_lu<16", "tournament<16", "panel_rows<16")):
            raise loader.KernelUnavailable(f"{kernel.name} was taken away")
        return load(kernel)

    monkeypatch.setattr(loader, "_get", get)
    for shape in [(100, 40), (40, 40), (700, 72)]:
        x = draw(rng, shape, "float32")
        x[:, 35] = x[:, 3] * 0
        a = put(x, "C")
        fallbacks.forget()
        with pytest.warns(LinAlgWarning):
            piv, info = ops.getrf_panel(a.array)
        lu = wide(a.host())
        k = min(shape)
        l, u = np.tril(lu, -1)[:, :k] + np.eye(*shape)[:, :k], np.triu(lu[:k])
        error = norm(swapped(wide(x), piv.get()) - l @ u)
        assert error <= allowed(shape[0], "float32") * norm(np.abs(l) @ np.abs(u))
        assert info.tolist() == [36]
    fallbacks.forget()
