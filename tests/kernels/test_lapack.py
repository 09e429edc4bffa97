"""The wrappers of BLAS and LAPACK: in place, without copies, and only what fits.

What the routines compute is tested through the backend, in tests/ops.
"""

import re

import numpy as np
import pytest

from mplinalg.kernels.cpu import blas, lapack, routines

DTYPES = ["float32", "float64", "complex64", "complex128"]
MIXED = [("float32", "float64"), ("float64", "complex128"), ("complex64", "float32")]


def draw(*shape, dtype="float64"):
    rng = np.random.default_rng(shape)
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return np.asarray(x, dtype, order="F")


def window(x):
    """`x` as a view into a larger F-ordered array."""
    around = np.full((x.shape[0] + 3, x.shape[1] + 2), -7, x.dtype, order="F")
    view = around[1 : 1 + x.shape[0], 2:]
    view[...] = x
    return view


def shape(*numbers):
    return re.escape(str(numbers))


# -- layouts -------------------------------------------------------------------------------------


def test_f_like_and_c_like():
    a = np.zeros((6, 8), order="F")
    for view in (a, a[1:4], a[:, 2:5], a[2:3], a[:, 3:4], a[:0], a[:, :0], a[:, ::2]):
        assert routines.is_f_like(view), view.strides
        assert routines.is_c_like(view.T), view.strides
    for view in (a[::2], a[::-1], a[:, ::-1], a.T, a[::2, ::2]):
        assert not routines.is_f_like(view), view.strides
        assert not routines.is_c_like(view.T), view.strides
    one = a[3:4, 4:5]
    assert routines.is_f_like(one)
    assert routines.is_c_like(one)


def test_columns_that_overlap_are_not_f_like():
    x = np.zeros(10)
    for strides in [(8, 8), (8, 16), (8, 0), (8, 28)]:
        hankel = np.lib.stride_tricks.as_strided(x, (3, 3), strides)
        assert not routines.is_f_like(hankel), strides
    apart = np.lib.stride_tricks.as_strided(x, (3, 3), (8, 24))
    assert routines.is_f_like(apart)


# -- what is refused -----------------------------------------------------------------------------


def calls(a, b):
    """Every routine of two matrices, on `a` of order 3 and `b` of shape (3, 2)."""
    piv = np.arange(3, dtype=np.int32)
    return {
        "gemm": lambda: blas.gemm(1.0, a, b, 0.0, b),
        "symm": lambda: blas.symm(1.0, a, b, 0.0, b, lower=True),
        "trsm": lambda: blas.trsm("L", a, b, lower=True),
        "syrk": lambda: blas.syrk(1.0, b, 0.0, a, lower=True),
        "getrs": lambda: lapack.getrs(a, piv, b),
        "potrs": lambda: lapack.potrs(a, b, lower=True),
        "ormqr": lambda: lapack.ormqr("L", "N", a, a[:, 0], b),
    }


def single_calls(a):
    """Every routine of one matrix."""
    return {
        "getrf": lambda: lapack.getrf(a),
        "potrf": lambda: lapack.potrf(a, lower=True),
        "geqrf": lambda: lapack.geqrf(a),
        "gecon": lambda: lapack.gecon(a, 1.0),
        "trcon": lambda: lapack.trcon(a, lower=True),
        "orgqr": lambda: lapack.orgqr(a, a[0]),
        "larft": lambda: lapack.larft(a, a[0]),
    }


@pytest.mark.parametrize("dtypes", MIXED, ids="-".join)
def test_mixed_dtypes_are_refused(dtypes):
    a, b = draw(3, 3, dtype=dtypes[0]), draw(3, 2, dtype=dtypes[1])
    before = a.copy(), b.copy()
    for name, call in calls(a, b).items():
        with pytest.raises(TypeError, match=f"{name}.*{dtypes[0]}|{name}.*{dtypes[1]}"):
            call()
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])


@pytest.mark.parametrize("dtype", ["int64", "float16", ">f8", ">c8", "longdouble", "bool"])
def test_dtypes_that_lapack_does_not_know_are_refused(dtype):
    a = np.ones((3, 3), dtype, order="F")
    for name, call in {**calls(a, a[:, :2]), **single_calls(a)}.items():
        with pytest.raises(TypeError, match=f"{name} takes arrays of one LAPACK dtype"):
            call()
    with pytest.raises(TypeError, match="laswp"):
        lapack.laswp(a, np.zeros(1, np.int32))


@pytest.mark.parametrize(
    "view", [np.s_[::2, ::2], np.s_[2::-1, :3], np.s_[:3, 2::-1]], ids=["steps", "rows", "columns"]
)
def test_strides_that_are_not_blas_strides_are_refused(view):
    a = draw(6, 6)[view]
    assert a.shape == (3, 3)
    for name, call in single_calls(a).items():
        with pytest.raises(ValueError, match=f"{name}.*{shape(3, 3)}"):
            call()
    b = draw(3, 3)
    with pytest.raises(ValueError, match=r"gemm.*strides"):
        blas.gemm(1.0, b, b, 0.0, a)
    with pytest.raises(ValueError, match=r"trsm.*strides"):
        blas.trsm("L", b, a, lower=True)


def test_c_ordered_matrices_are_refused_where_lapack_wants_columns():
    a = np.ascontiguousarray(draw(3, 3))
    for name, call in single_calls(a).items():
        with pytest.raises(ValueError, match=f"{name}.*{shape(3, 3)}"):
            call()


def test_shapes_that_do_not_fit_are_refused_and_named():
    a, b, c = draw(3, 3), draw(4, 2), draw(3, 2)
    piv = np.arange(3, dtype=np.int32)
    wide, tall = draw(2, 5), draw(5, 2)
    s = shape
    refused = [
        (lambda: blas.gemm(1.0, a, b, 0.0, c), [s(3, 3), s(4, 2), s(3, 2)]),
        (lambda: blas.gemm(1.0, a, c, 0.0, b), [s(3, 3), s(3, 2), s(4, 2)]),
        (lambda: blas.gemm(1.0, b, b, 0.0, c, transb="T"), [s(4, 2), s(3, 2)]),
        (lambda: blas.symm(1.0, a, b, 0.0, c, lower=True), [s(3, 3), s(4, 2)]),
        (lambda: blas.symm(1.0, wide, c, 0.0, c, lower=True), [s(2, 5)]),
        (lambda: blas.trsm("L", a, b, lower=True), [s(3, 3), s(4, 2)]),
        (lambda: blas.trsm("R", a, b, lower=True), [s(3, 3), s(4, 2)]),
        (lambda: blas.syrk(1.0, b, 0.0, a, lower=True), [s(4, 2), s(3, 3)]),
        (lambda: blas.syrk(1.0, c, 0.0, a, lower=True, trans="C"), [s(3, 2), s(3, 3)]),
        (lambda: lapack.getrs(a, piv, b), [s(3, 3), s(4, 2)]),
        (lambda: lapack.getrs(a, piv[:2], c), [s(3, 3), s(2), s(3, 2)]),
        (lambda: lapack.getrs(wide, piv, c), [s(2, 5)]),
        (lambda: lapack.laswp(c, np.zeros(4, np.int32)), [s(3, 2), s(4)]),
        (lambda: lapack.gecon(wide, 1.0), [s(2, 5)]),
        (lambda: lapack.trcon(tall, lower=True), [s(5, 2)]),
        (lambda: lapack.potrf(tall, lower=True), [s(5, 2)]),
        (lambda: lapack.potrs(a, b, lower=True), [s(3, 3), s(4, 2)]),
        (lambda: lapack.ormqr("L", "N", a, a[:, 0].copy(), b), [s(3, 3), s(4, 2)]),
        (lambda: lapack.ormqr("R", "N", a, a[:, 0].copy(), b), [s(3, 3), s(4, 2)]),
        (lambda: lapack.ormqr("L", "N", tall, draw(3), draw(5, 1)), [s(5, 2), s(3)]),
        (lambda: lapack.orgqr(wide, draw(2)), [s(2, 5)]),
        (lambda: lapack.larft(wide, draw(5)), [s(2, 5), s(5)]),
    ]
    for call, shapes in refused:
        with pytest.raises(ValueError, match=".*".join(shapes)):
            call()


# -- in place ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_view_is_factored_where_it_lies(dtype):
    """Same bits as for the matrix alone; nothing around it changes."""
    x = draw(5, 5, dtype=dtype)
    definite = np.asarray(x @ x.conj().T + 5 * np.eye(5), dtype, order="F")
    for start, factor in [
        (x, lapack.getrf),
        (x, lapack.geqrf),
        (definite, lambda a: lapack.potrf(a, lower=True)),
        (definite, lambda a: blas.trsm("L", a, a, lower=True)),
    ]:
        alone, view = start.copy(order="F"), window(start)
        factor(alone)
        factor(view)
        assert not np.array_equal(view, start)
        assert view.tobytes() == alone.tobytes()
        view[...] = -7
        assert np.all(view.base == -7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_orgqr_makes_the_columns_of_q(dtype):
    x = draw(7, 4, dtype=dtype)
    qr = window(x)
    tau = lapack.geqrf(qr)
    r = np.triu(qr[:4])
    lapack.orgqr(qr, tau)
    u = np.finfo(dtype).eps / 2
    assert np.max(abs(qr.conj().T @ qr - np.eye(4))) <= 30 * 7 * u
    assert np.linalg.norm(qr @ r - x) <= 30 * 7 * u * np.linalg.norm(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nrhs", [1, 3])
@pytest.mark.parametrize("lower", [True, False])
def test_symm_reads_one_triangle(dtype, nrhs, lower):
    full = draw(5, 5, dtype=dtype)
    full = full + full.conj().T
    stored = np.tril(full) if lower else np.triu(full)
    stored[np.triu_indices(5, 1) if lower else np.tril_indices(5, -1)] = np.nan
    b, c = draw(5, nrhs, dtype=dtype), draw(5, nrhs, dtype=dtype)
    expected = 2 * full @ b - c
    sizes = 2 * abs(full) @ abs(b) + abs(c)
    blas.symm(2.0, window(stored), window(b), -1.0, c, lower)
    assert np.all(abs(c - expected) <= 30 * 5 * np.finfo(dtype).eps * sizes)


@pytest.mark.parametrize("order", ["FF", "FC", "CF", "CC"])
@pytest.mark.parametrize("trans", ["N", "T", "C"])
def test_trsm_multiplies_by_a_complex_alpha(trans, order):
    a, b = np.tril(draw(4, 4, dtype="complex128")) + 3 * np.eye(4), draw(4, 2, dtype="complex128")
    op = {"N": a, "T": a.T, "C": a.conj().T}[trans]
    x = np.array(b, order=order[1])
    blas.trsm("L", np.array(a, order=order[0]), x, lower=True, trans=trans, alpha=2 - 1j)
    sizes = abs(op) @ abs(x) + abs((2 - 1j) * b)
    assert np.all(abs(op @ x - (2 - 1j) * b) <= 30 * 4 * np.finfo(float).eps * sizes)


def test_pivots_may_be_of_any_integer_type():
    a, b = draw(5, 5), draw(5, 2)
    lu = a.copy(order="F")
    piv, _ = lapack.getrf(lu)
    x, moved = b.copy(order="F"), a.copy(order="F")
    lapack.getrs(lu, piv, x)
    lapack.laswp(moved, piv)
    for dtype in [np.int64, np.uint8, np.intp]:
        again = b.copy(order="F")
        lapack.getrs(lu, piv.astype(dtype), again)
        assert np.array_equal(again, x)
        swapped = a.copy(order="F")
        lapack.laswp(swapped, piv.astype(dtype))
        assert np.array_equal(swapped, moved)
    strided = np.repeat(piv, 2)[::2]
    again = b.copy(order="F")
    lapack.getrs(lu, strided, again)
    assert np.array_equal(again, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_in_nothing_out(dtype):
    empty, no_columns = np.zeros((0, 0), dtype, order="F"), np.zeros((3, 0), dtype, order="F")
    square = np.eye(3, dtype=dtype, order="F")
    assert lapack.getrf(empty)[0].shape == (0,)
    assert lapack.getrf(no_columns)[1] == 0
    assert lapack.potrf(empty, lower=True) == 0
    assert lapack.geqrf(no_columns).shape == (0,)
    assert lapack.larft(no_columns, np.zeros(0, dtype)).shape == (0, 0)
    assert lapack.gecon(empty, 0.0) == 1.0
    assert lapack.trcon(empty, lower=True) == 1.0
    lapack.orgqr(no_columns, np.zeros(0, dtype))
    lapack.getrs(square, np.arange(3, dtype=np.int32), no_columns)
    lapack.potrs(square, no_columns, lower=True)
    blas.trsm("L", square, no_columns, lower=True)
    blas.trsm("R", empty, no_columns, lower=True)
    blas.symm(1.0, square, no_columns, 0.0, no_columns, lower=True)
    blas.syrk(1.0, no_columns.T.copy(order="F"), 0.0, empty, lower=True)
    lapack.ormqr("L", "N", no_columns, np.zeros(0, dtype), square)
    lapack.laswp(square, np.zeros(0, np.int32))
    assert np.array_equal(square, np.eye(3))
