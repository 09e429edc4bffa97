"""cuBLAS on views: dtypes, strides and shapes that are refused."""

import numpy as np
import pytest

from .operands import blas, shape

__all__ = ["blas"]  # a fixture


def calls(blas, a, b):
    """Every routine, on `a` of order 3 and `b` of shape (3, 2)."""
    return {
        "gemm": lambda: blas.gemm(1.0, a, b, 0.0, b),
        "trsm": lambda: blas.trsm("L", a, b, True),
        "syrk": lambda: blas.syrk(1.0, b, 0.0, a, True),
    }


@pytest.mark.parametrize(
    "dtypes",
    [("float32", "float64"), ("complex64", "float32"), ("float16", "float16")],
    ids="-".join,
)
def test_mixed_and_unknown_dtypes_are_refused(blas, cupy, dtypes):
    a, b = cupy.ones((3, 3), dtypes[0]), cupy.ones((3, 2), dtypes[1])
    for name, call in calls(blas, a, b).items():
        with pytest.raises(
            TypeError, match=f"{name} takes arrays of one LAPACK dtype.*{dtypes[0]}"
        ):
            call()
    assert np.all(a.get() == 1)
    assert np.all(b.get() == 1)


def test_arrays_of_the_host_are_refused(blas, cupy):
    a, b = np.ones((3, 3)), cupy.ones((3, 2))
    for name, call in calls(blas, a, b).items():
        with pytest.raises(TypeError, match=f"{name} takes CuPy arrays; got ndarray"):
            call()
    with pytest.raises(TypeError, match="gemm_low takes CuPy arrays"):
        blas.gemm_low(1.0, a, b, 0.0, b)


def test_low_dtypes_that_do_not_belong_together_are_refused(blas, cupy):
    def square(dtype):
        return cupy.zeros((3, 3), dtype)

    for a, b, c, tf32 in [
        ("float16", "uint16", "float32", False), ("float16", "float16", "float16", False),
        ("float32", "float32", "float32", False), ("float16", "float16", "float32", True),
        ("complex64", "complex64", "float32", True), ("float32", "float32", "complex64", True),
        ("complex64", "float32", "complex64", True),
    ]:  # fmt: skip
        with pytest.raises(TypeError, match=f"gemm_low takes.*{a}.*{b}.*{c}.*tf32={tf32}"):
            blas.gemm_low(1.0, square(a), square(b), 0.0, square(c), tf32=tf32)
    a, c = square("float16"), square("float32")
    for alpha in (cupy.zeros(2, "float32"), cupy.zeros(1, "float64")):
        with pytest.raises(TypeError, match="float32 arrays of one element"):
            blas.gemm_low(alpha, a, a, 0.0, c)


@pytest.mark.parametrize(
    "view", [np.s_[::2, ::2], np.s_[2::-1, :3], np.s_[:3, 2::-1]], ids=["steps", "rows", "columns"]
)
def test_results_of_strides_that_are_not_blas_strides_are_refused(blas, cupy, view):
    a, b = cupy.ones((6, 6), order="F")[view], cupy.ones((3, 3))
    with pytest.raises(ValueError, match=r"gemm.*strides"):
        blas.gemm(1.0, b, b, 0.0, a)
    with pytest.raises(ValueError, match=r"trsm.*strides"):
        blas.trsm("L", b, a, True)
    for c, x in ((a, b), (b, a)):
        with pytest.raises(ValueError, match=r"syrk.*strides"):
            blas.syrk(1.0, x, 0.0, c, True)


def test_shapes_that_do_not_fit_are_refused_and_named(blas, cupy):
    a, b, c = cupy.ones((3, 3)), cupy.ones((4, 2)), cupy.ones((3, 2))
    s = shape
    refused = [
        (lambda: blas.gemm(1.0, a, b, 0.0, c), [s(3, 3), s(4, 2), s(3, 2)]),
        (lambda: blas.gemm(1.0, a, c, 0.0, b), [s(3, 3), s(3, 2), s(4, 2)]),
        (lambda: blas.gemm(1.0, b, b, 0.0, c, transb="T"), [s(4, 2), s(3, 2)]),
        (lambda: blas.gemm(1.0, a, c[:, 0], 0.0, c), [s(3, 3), s(3)]),
        (lambda: blas.trsm("L", a, b, True), [s(3, 3), s(4, 2)]),
        (lambda: blas.trsm("R", a, b, True), [s(3, 3), s(4, 2)]),
        (lambda: blas.syrk(1.0, b, 0.0, a, True), [s(4, 2), s(3, 3)]),
        (lambda: blas.syrk(1.0, c, 0.0, a, True, trans="C"), [s(3, 2), s(3, 3)]),
    ]
    for call, shapes in refused:
        with pytest.raises(ValueError, match=".*".join(shapes)):
            call()
