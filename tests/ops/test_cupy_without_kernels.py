"""The CUDA backend on a device for which kernels cannot be had."""

import numpy as np
import pytest

from mplinalg.errors import LinAlgWarning
from mplinalg.ops.numpy_ops import NumpyOps

from .cupy_backend import (
    OnDevice,
    assert_is_lu,
    cupy,
    kernels,
    ops,
    put,
    take_away,
    without_kernels,
)
from .helpers import DTYPES, SINGLE, Suite, allowed, draw, norm, real, swapped, wide
from .suite_butterfly import ButterflySuite
from .suite_factorizations import FactorizationSuite
from .suite_level3 import Level3Suite
from .suite_movement import MovementSuite
from .suite_residual import ResidualSuite

__all__ = ["cupy", "kernels", "ops", "put", "without_kernels"]  # fixtures


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
    test_sizes = MovementSuite.test_sizes
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
    from mplinalg.kernels.cuda import fallbacks

    take_away(monkeypatch, "panel_lu<")
    a = put(draw(rng, (300, 40), "float32"), "C")
    fallbacks.forget()
    with pytest.warns(LinAlgWarning, match="panel_lu<32, 128, float>"):
        assert_is_lu(a, ops.getrf_panel(a.array), tournament=True)
    fallbacks.forget()


# -- devices, streams and threads ----------------------------------------------------------------


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
