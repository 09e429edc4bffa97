"""cuBLAS on views: in every layout, in place, without waiting for the device."""

import itertools
import re
import threading

import numpy as np
import pytest

from ...cupy_on_host.install import recorded
from ...ops.helpers import (
    DTYPES,
    LAYOUTS,
    Placed,
    allowed,
    cabs1,
    draw,
    flags,
    is_complex,
    is_small,
    layouts,
    op,
    same_bits,
    wide,
)

SIZES = [(0, 0, 0), (0, 3, 2), (3, 0, 2), (1, 1, 1), (1, 5, 7), (5, 1, 7), (7, 5, 1), (13, 37, 31)]
"""m, n, k; those with k = 0 are tested apart."""
TRIANGULAR_SIZES = [(0, 3), (3, 0), (1, 1), (7, 1), (1, 5), (13, 5), (5, 31), (37, 2)]
SCALARS = [(1.0, 0.0), (-1.0, 1.0), (2.5, -0.5)]


def shape(*numbers):
    return re.escape(str(numbers))


def triangle(x, lower):
    return np.tril(x) if lower else np.triu(x)


@pytest.fixture
def put(on_device):
    """put(x, "C-view"): `x` on the device in that layout."""
    return lambda x, layout="F": Placed(on_device, x, layout)


@pytest.fixture
def blas(cupy):
    from mplinalg.kernels.cuda import blas

    return blas


@pytest.fixture
def layout(cupy):
    from mplinalg.kernels.cuda import layout

    return layout


# -- layouts -------------------------------------------------------------------------------------


def test_f_like_and_c_like(cupy, layout):
    a = cupy.zeros((6, 8), order="F")
    for view in (a, a[1:4], a[:, 2:5], a[2:3], a[:, 3:4], a[:0], a[:, :0], a[:, ::2]):
        assert layout.is_f_like(view), view.strides
        assert layout.is_c_like(view.T), view.strides
    for view in (a[::2], a[::-1], a[:, ::-1], a.T, a[::2, ::2]):
        assert not layout.is_f_like(view), view.strides
        assert not layout.is_c_like(view.T), view.strides
    one, row, column = a[3:4, 4:5], cupy.zeros((1, 5)), cupy.zeros((5, 1))
    for view in (one, row, column):
        assert layout.is_f_like(view)
        assert layout.is_c_like(view)
    for view in (cupy.broadcast_to(row, (4, 5)), cupy.broadcast_to(column, (5, 4))):
        assert not layout.is_f_like(view)
        assert not layout.is_c_like(view)
    for view in (cupy.broadcast_to(one, (1, 5)), cupy.broadcast_to(one, (5, 1))):
        assert not layout.is_f_like(view)
        assert not layout.is_c_like(view)


def test_leading_dimensions_are_what_blas_accepts(cupy, layout):
    a = cupy.zeros((6, 8), order="F")
    for view, expected in [
        (a, 6), (a[1:4], 6), (a[:, ::2], 12), (a[2:3], 6), (a[2:3, 1:2], 1), (a[1:4, 5:6], 3),
        (a[:0, :1], 1), (a[:, :0], 6), (cupy.zeros((1, 5)), 1), (cupy.zeros((5, 1)), 5),
    ]:  # fmt: skip
        assert layout.leading_dimension(view) == expected, view.strides
        assert layout.leading_dimension(view.T, turned=True) == expected, view.strides


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("trans", ["N", "T", "C"])
def test_operands_are_copied_only_where_blas_has_no_flag(cupy, layout, rng, trans, dtype):
    x = draw(rng, (6, 8), dtype)
    f, c, steps = cupy.asarray(np.asfortranarray(x)), cupy.asarray(x), cupy.asarray(x)[::2, ::2]
    for a, turned in itertools.product((f, c, steps), (False, True)):
        found = layout.operand(a, trans, turned=turned)
        meant, like, other = (a.T, c, f) if turned else (a, f, c)
        copied = a is steps or (a is other and trans == "C" and is_complex(dtype))
        assert (found.pointer != a.data.ptr) == copied
        uncopied = meant if a is like else meant.T
        seen = found.array if copied else uncopied
        assert layout.is_f_like(seen)
        assert found.leading == layout.leading_dimension(seen)
        assert np.array_equal(op(seen.get(), found.trans), op(meant.get(), trans))


# -- gemm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transb", ["N", "T", "C"])
@pytest.mark.parametrize("transa", ["N", "T", "C"])
def test_gemm(blas, put, rng, transa, transb, dtype):
    for m, n, k in SIZES:
        x = draw(rng, (m, k) if transa == "N" else (k, m), dtype)
        y = draw(rng, (k, n) if transb == "N" else (n, k), dtype)
        z = draw(rng, (m, n), dtype)
        xw, yw = op(wide(x), transa), op(wide(y), transb)
        for number, (la, lb, lc) in enumerate(layouts(3)):
            alpha, beta = SCALARS[number % 3]
            if is_complex(dtype):
                alpha, beta = alpha * (1 - 2j), beta * (0.5 + 1j)
            # what beta = 0 overwrites may be anything
            a, b, c = put(x, la), put(y, lb), put(np.full_like(z, np.nan) if beta == 0 else z, lc)
            blas.gemm(alpha, a.array, b.array, beta, c.array, transa, transb)
            error = cabs1(c.host() - (alpha * (xw @ yw) + beta * wide(z)))
            scale = cabs1(alpha) * (cabs1(xw) @ cabs1(yw)) + cabs1(beta) * cabs1(wide(z))
            assert is_small(error, allowed(k, dtype) * scale), (m, n, k, la, lb, lc)
            c.assert_rest_untouched()
            a.assert_untouched()
            b.assert_untouched()


def test_gemm_of_all_sizes_and_dtypes_in_turn(blas, put, rng):
    for size, dtype in itertools.product(range(1, 38), DTYPES):
        m, n, k = size, 38 - size, 1 + 7 * size % 37
        x, y = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype)
        c = put(np.zeros((m, n), dtype), LAYOUTS[size % 4])
        blas.gemm(1.0, put(x, LAYOUTS[size // 4 % 4]).array, put(y, "F").array, 0.0, c.array)
        error, scale = cabs1(c.host() - wide(x) @ wide(y)), cabs1(x) @ cabs1(y)
        assert is_small(error, allowed(k, dtype) * scale), (size, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", LAYOUTS)
def test_gemm_of_nothing_scales_c(blas, cupy, put, rng, where, dtype):
    z = draw(rng, (5, 3), dtype)
    a, b = cupy.zeros((5, 0), dtype), cupy.zeros((0, 3), dtype)
    for beta, start, expected in [
        (0.0, np.full_like(z, np.nan), np.zeros_like(z)), (1.0, z, z), (2.0, z, 2 * z),
    ]:  # fmt: skip
        c = put(start, where)
        with recorded() as ledger:
            blas.gemm(1.0, a, b, beta, c.array)
        assert not ledger.calls  # what cuBLAS makes of k = 0 is not said
        assert np.array_equal(c.host(), expected)
        c.assert_rest_untouched()


def test_gemm_takes_operands_of_any_strides(blas, cupy, rng):
    x, y = draw(rng, (10, 14), "float64"), draw(rng, (14, 6), "float64")
    c = cupy.zeros((5, 3))
    row = cupy.broadcast_to(cupy.asarray(y[0, ::2]), (7, 3))
    for a, b in [
        (cupy.asarray(x)[::2, ::-2], cupy.asarray(y)[::-2, ::2]), (cupy.asarray(x[::2, ::2]), row),
    ]:  # fmt: skip
        blas.gemm(1.0, a, b, 0.0, c)
        a, b = a.get(), b.get()
        assert is_small(abs(c.get() - a @ b), allowed(7, "float64") * (abs(a) @ abs(b)))


def test_products_do_not_wait(blas, put, rng, nothing_crosses):
    for dtype, where in itertools.product(DTYPES, ["F", "C-view"]):
        x, y = draw(rng, (7, 7), dtype), draw(rng, (7, 7), dtype)
        a, b, c = put(x, where), put(y, "F"), put(y, "C")
        with nothing_crosses():
            blas.gemm(1.0, a.array, b.array, -1.0, c.array, "C", "T")
            blas.syrk(1.0, a.array, -1.0, c.array, True)
            blas.trsm("L", a.array, c.array, True, "C")


# -- trsm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("side", ["L", "R"])
def test_trsm(blas, put, rng, side, lower, dtype):
    """The other triangle, and a unit diagonal, are not read."""
    for (m, n), trans, unit in itertools.product(TRIANGULAR_SIZES, flags(dtype), [False, True]):
        order = m if side == "L" else n
        x = draw(rng, (order, order), dtype) / max(order, 1)
        x[np.arange(order), np.arange(order)] = 1 + rng.random(order)
        full = wide(triangle(x, lower))
        x[triangle(np.ones((order, order)), lower) == 0] = np.nan
        if unit:
            np.fill_diagonal(full, 1)
            np.fill_diagonal(x, np.nan)
        full = op(full, trans)
        y = draw(rng, (m, n), dtype)
        for number, (la, lb) in enumerate(layouts(2)):
            alpha = [1.0, -0.5][number % 2] * ((1 + 2j) if is_complex(dtype) else 1)
            a, b = put(x, la), put(y, lb)
            blas.trsm(side, a.array, b.array, lower, trans, unit, alpha)
            z = wide(b.host())
            residual = (full @ z if side == "L" else z @ full) - alpha * wide(y)
            size = (cabs1(full), cabs1(z)) if side == "L" else (cabs1(z), cabs1(full))
            scale = np.matmul(*size) + cabs1(alpha) * cabs1(y)
            assert is_small(cabs1(residual), allowed(order, dtype) * scale), (m, n, trans, la, lb)
            b.assert_rest_untouched()
            a.assert_untouched()


@pytest.mark.parametrize("order", ["C", "F"])
def test_trsm_takes_a_triangle_of_any_strides(blas, cupy, rng, order):
    x, y = draw(rng, (10, 10), "complex64"), draw(rng, (5, 3), "complex64")
    x += 10 * np.eye(10, dtype=x.dtype)
    a, b = cupy.asarray(x)[::2, ::2], cupy.array(y, order=order)
    blas.trsm("L", a, b, False, "C")
    full, z = wide(np.triu(x[::2, ::2]).conj().T), b.get()
    bound = allowed(5, "complex64") * (cabs1(full) @ cabs1(z) + cabs1(y))
    assert is_small(cabs1(full @ z - y), bound)


# -- syrk ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("trans", ["N", "C"])
def test_syrk(blas, put, rng, monkeypatch, trans, lower, dtype):
    monkeypatch.setattr(blas, "_HERK_ROWS", 8)  # the last block is never whole
    for n, k in [(0, 3), (1, 1), (1, 5), (5, 1), (7, 31), (37, 5)]:
        x = draw(rng, (n, k) if trans == "N" else (k, n), dtype)
        z = draw(rng, (n, n), dtype)
        z = z + z.conj().T
        xw = wide(x) if trans == "N" else wide(x).conj().T
        for number, (la, lc) in enumerate(layouts(2)):
            alpha, beta = SCALARS[number % 3]
            start = np.full_like(z, np.nan) if beta == 0 else z.copy()
            if is_complex(dtype):  # what is left on the diagonal by other roundings is not meant
                start.imag[np.arange(n), np.arange(n)] = 1
            a, c = put(x, la), put(start, lc)
            blas.syrk(alpha, a.array, beta, c.array, lower, trans)
            error = cabs1(c.host() - (alpha * (xw @ xw.conj().T) + beta * wide(z)))
            scale = abs(alpha) * (cabs1(xw) @ cabs1(xw).T) + abs(beta) * cabs1(z)
            meant = triangle(np.ones((n, n), bool), lower)
            bound = allowed(k, dtype) * scale
            assert is_small(error[meant], bound[meant]), (n, k, la, lc)
            assert np.all(np.diagonal(c.host()).imag == 0)
            c.assert_rest_untouched()
            a.assert_untouched()


@pytest.mark.parametrize("dtype", DTYPES)
def test_syrk_of_nothing_scales_c(blas, cupy, put, rng, dtype):
    z = draw(rng, (5, 5), dtype)
    for lower, beta in itertools.product([True, False], [0.0, 2.0]):
        c = put(np.full_like(z, np.nan) if beta == 0 else z, "F-view")
        blas.syrk(1.0, cupy.zeros((5, 0), dtype), beta, c.array, lower)
        expected = np.zeros_like(z) if beta == 0 else beta * z
        assert np.array_equal(triangle(c.host(), lower), triangle(expected, lower))
        c.assert_rest_untouched()


# -- low precision -------------------------------------------------------------------------------


def low(rng, shape, kind):
    """Numbers of a format in float64 (complex128), and as they are passed."""
    if kind == "fp16":
        x = rng.standard_normal(shape).astype(np.float16)
        return x.astype(np.float64), x
    x = draw(rng, shape, "complex64" if kind == "tf32 complex" else "float32")
    keep = np.uint32(0xFFFF0000 if kind == "bf16" else 0xFFFFE000)
    bits = x.view(np.uint32)
    bits &= keep
    return wide(x), (bits >> 16).astype(np.uint16) if kind == "bf16" else x


LOW = ["fp16", "bf16", "tf32", "tf32 complex"]


def among_nan(cupy, x, layout):
    """`x` on the device in that layout, in a larger array of NaN if it is a view."""
    nan = 0x7FC0 if x.dtype == np.uint16 else np.nan
    m, n = x.shape
    window = np.s_[2 : 2 + m, 1 : 1 + n] if layout.endswith("view") else np.s_[:, :]
    shape = (m + 5, n + 3) if layout.endswith("view") else (m, n)
    around = cupy.array(np.full(shape, nan, x.dtype), order=layout[0])
    around[window] = cupy.asarray(x)
    return around[window]


@pytest.mark.parametrize("kind", LOW)
@pytest.mark.parametrize(("transa", "transb"), ["NN", "NT", "TN", "TT", "CC"])
def test_gemm_low(blas, cupy, put, rng, transa, transb, kind):
    """Sums of exact products in fp32, whichever way alpha and beta are given."""
    dtype = "complex64" if kind == "tf32 complex" else "float32"
    for m, n, k in SIZES:
        xw, x = low(rng, (m, k) if transa == "N" else (k, m), kind)
        yw, y = low(rng, (k, n) if transb == "N" else (n, k), kind)
        xw, yw = op(xw, transa), op(yw, transb)
        z = draw(rng, (m, n), dtype)
        for number, (la, lb, lc) in enumerate(layouts(3)):
            alpha, beta = SCALARS[number % 3]
            a, b = among_nan(cupy, x, la), among_nan(cupy, y, lb)
            c = put(np.full_like(z, np.nan) if beta == 0 else z, lc)
            given = [alpha, beta]
            for place in (0, 1):
                if number // 3 >> place & 1:
                    given[place] = cupy.asarray(given[place : place + 1], "float32")
            tf32 = kind.startswith("tf32")
            blas.gemm_low(given[0], a, b, given[1], c.array, transa, transb, tf32=tf32)
            error = cabs1(c.host() - (alpha * (xw @ yw) + beta * wide(z)))
            scale = abs(alpha) * (cabs1(xw) @ cabs1(yw)) + abs(beta) * cabs1(wide(z))
            assert is_small(error, allowed(k, dtype) * scale), (m, n, k, la, lb, lc)
            c.assert_rest_untouched()
            assert same_bits(a.get(), x)
            assert same_bits(b.get(), y)


def test_tf32_sees_the_leading_bits(blas, cupy, rng):
    """Eleven of them: an error between those of fp32 and of bf16."""
    x, y = draw(rng, (31, 31), "float32"), draw(rng, (31, 31), "float32")
    c = cupy.zeros((31, 31), "float32")
    blas.gemm_low(1.0, cupy.asarray(x), cupy.asarray(y), 0.0, c, tf32=True)
    error = abs(c.get() - wide(x) @ wide(y)) / (abs(wide(x)) @ abs(wide(y)))
    assert allowed(31, "float32") < np.max(error) <= 2 * 2.0**-10


def test_gemm_low_of_nothing_scales_c(blas, cupy, put, rng):
    z = draw(rng, (5, 3), "float32")
    a, b = cupy.zeros((5, 0), "float16"), cupy.zeros((0, 3), "float16")
    for beta in (0.0, 2.0):
        for given in (beta, cupy.asarray([beta], "float32")):
            c = put(z if beta else np.full_like(z, np.nan), "C-view")
            blas.gemm_low(1.0, a, b, given, c.array)
            assert np.array_equal(c.host(), beta * z)
            c.assert_rest_untouched()


def test_scalars_on_the_device_are_not_waited_for(blas, cupy, rng, nothing_crosses):
    _, x = low(rng, (7, 7), "fp16")
    a, c = cupy.asarray(x), cupy.zeros((7, 7), "float32")
    alpha = cupy.asarray([0.5], "float32")
    blas.gemm_low(alpha, a, a, 1.0, c)  # makes the constant, once
    with nothing_crosses():
        blas.gemm_low(alpha, a, a, 1.0, c)
        blas.gemm_low(alpha, a, a, 0.25, c)
    expected = 2 * 0.5 * (wide(x) @ wide(x))
    expected = 0.25 * expected + 0.5 * (wide(x) @ wide(x))
    assert is_small(abs(c.get() - expected), allowed(7, "float32") * (abs(wide(x)) @ abs(wide(x))))


def test_constants_serve_all_streams(blas, cupy, rng):
    """What one stream made is there for another, which does not wait for the first."""
    _, x = low(rng, (7, 7), "fp16")
    a, alpha = cupy.asarray(x), cupy.asarray([0.5], "float32")
    results = [cupy.empty((7, 7), "float32") for _ in range(2)]
    cupy.cuda.Device().synchronize()
    for c in results:
        with cupy.cuda.Stream(non_blocking=True):
            blas.gemm_low(alpha, a, a, 0.0, c)
    cupy.cuda.Device().synchronize()
    assert np.array_equal(*(c.get() for c in results))


# -- the pointer mode ----------------------------------------------------------------------------


@pytest.fixture
def pointer_mode(cupy):
    """Of this thread's handle; set to another with an argument."""
    from cupy.cuda import device
    from cupy_backends.cuda.libs import cublas

    def get(mode=None):
        handle = device.get_cublas_handle()
        if mode is not None:
            cublas.setPointerMode(handle, mode)
        return cublas.getPointerMode(handle)

    yield get
    get(cublas.CUBLAS_POINTER_MODE_HOST)


def test_the_pointer_mode_is_put_back(blas, cupy, rng, monkeypatch, pointer_mode):
    _, x = low(rng, (3, 3), "fp16")
    a, c = cupy.asarray(x), cupy.zeros((3, 3), "float32")
    alpha = cupy.asarray([1.0], "float32")
    for mode in (0, 1):
        pointer_mode(mode)
        blas.gemm_low(alpha, a, a, 0.0, c)
        assert pointer_mode() == mode
        blas.gemm(2.0, c, c, 0.0, c.copy())
        assert pointer_mode() == mode

        def fails(*_):
            raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")

        with monkeypatch.context() as patch:
            for name in ("gemmEx", "sgemm"):
                patch.setattr(blas.cublas, name, fails)
            for call in (
                lambda: blas.gemm_low(alpha, a, a, 0.0, c), lambda: blas.gemm(1.0, c, c, 0.0, c),
            ):  # fmt: skip
                with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
                    call()
                assert pointer_mode() == mode


def test_whatever_mode_was_left_scalars_are_read_where_they_are(blas, cupy, rng, pointer_mode):
    x = draw(rng, (3, 3), "float64")
    a, c = cupy.asarray(x), cupy.zeros((3, 3))
    pointer_mode(1)
    blas.gemm(2.0, a, a, 0.0, c)
    assert is_small(abs(c.get() - 2 * x @ x), allowed(3, "float64") * 2 * (abs(x) @ abs(x)))


def test_threads_have_pointer_modes_of_their_own(blas, cupy, rng, monkeypatch):
    """A product with scalars on the host, while another thread is inside one on the device."""
    _, x = low(rng, (5, 5), "fp16")
    inside, done = threading.Event(), threading.Event()
    real = blas.cublas.gemmEx

    def waits(*arguments):
        inside.set()
        assert done.wait(60)
        real(*arguments)

    monkeypatch.setattr(blas.cublas, "gemmEx", waits)
    found = []

    def with_device_scalars():
        a, c = cupy.asarray(x), cupy.zeros((5, 5), "float32")
        blas.gemm_low(cupy.asarray([2.0], "float32"), a, a, 0.0, c)
        found.append(c.get())

    thread = threading.Thread(target=with_device_scalars)
    thread.start()
    try:
        assert inside.wait(60)
        a, c = cupy.asarray(wide(x)), cupy.zeros((5, 5))
        blas.gemm(3.0, a, a, 0.0, c)
    finally:
        done.set()
        thread.join()
    product, scale = wide(x) @ wide(x), abs(wide(x)) @ abs(wide(x))
    assert is_small(abs(c.get() - 3 * product), 3 * allowed(5, "float64") * scale)
    assert is_small(abs(found[0] - 2 * product), 2 * allowed(5, "float32") * scale)


# -- what is refused -----------------------------------------------------------------------------


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
