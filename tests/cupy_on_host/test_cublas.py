"""cuBLAS from addresses: the numbers of BLAS, and nothing beside the operands touched."""

import numpy as np
import pytest
import scipy.linalg

from ..ops.helpers import allowed, draw, is_small, op, same_bits, wide
from . import formats
from .install import Misuse, recorded
from .matrices import KINDS, On, at

FLAGS = "NTC"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture
def blas(cupy):
    from cupy_backends.cuda.libs import cublas

    return cublas


@pytest.fixture
def handle(cupy):
    return cupy.cuda.Device().cublas_handle


def close(found, wanted, size, k, dtype):
    return is_small(abs(wide(found) - wanted), allowed(k, dtype) * size)


@pytest.mark.parametrize("transa", range(3))
@pytest.mark.parametrize("transb", range(3))
def test_gemm(cupy, blas, handle, rng, kind, transa, transb):
    dtype, (m, n, k) = KINDS[kind], (5, 4, 7)
    x, y, z = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype), draw(rng, (m, n), dtype)
    back = {0: "N", 1: "T", 2: "C"}
    a, b = On(cupy, op(x, back[transa])), On(cupy, op(y, back[transb]))
    for alpha, beta in ((1.0, 0.0), (-1.0, 1.0), (0.5, 2.0), (0.0, 1.0)):
        c = On(cupy, z)
        (pa, _a), (pb, _b) = at(alpha, dtype), at(beta, dtype)
        getattr(blas, f"{kind}gemm")(
            handle, transa, transb, m, n, k, pa, a.ptr, a.ld, b.ptr, b.ld, pb, c.ptr, c.ld
        )
        wanted = alpha * (wide(x) @ wide(y)) + beta * wide(z)
        size = abs(alpha) * (abs(wide(x)) @ abs(wide(y))) + abs(beta) * abs(wide(z))
        assert close(c.get(), wanted, size, k, dtype)
        assert c.rest_is_untouched()
        del _a, _b


def test_without_beta_the_result_is_not_read(cupy, blas, handle, rng):
    x = draw(rng, (3, 3), "float32")
    a, c = On(cupy, x), On(cupy, np.full((3, 3), np.nan, "float32"))
    (one, _a), (zero, _b) = at(1, "float32"), at(0, "float32")
    blas.sgemm(handle, 0, 0, 3, 3, 3, one, a.ptr, a.ld, a.ptr, a.ld, zero, c.ptr, c.ld)
    assert np.isfinite(c.get()).all()


def test_pointer_modes(cupy, blas, handle, rng):
    x = draw(rng, (3, 3), "float32")
    a, c = On(cupy, x), On(cupy, x)
    scales = cupy.asarray(np.array([2, 0], "float32"))
    two, zero = scales.data.ptr, scales.data.ptr + 4

    def multiply(alpha, beta):
        blas.sgemm(handle, 0, 0, 3, 3, 3, alpha, a.ptr, a.ld, a.ptr, a.ld, beta, c.ptr, c.ld)

    with pytest.raises(Misuse, match="alpha is to be in memory of the host"):
        multiply(two, zero)
    blas.setPointerMode(handle, blas.CUBLAS_POINTER_MODE_DEVICE)
    with recorded() as ledger:
        multiply(two, zero)
    assert ledger.to_host == ledger.syncs == []
    assert close(c.get(), 2 * (wide(x) @ wide(x)), 2 * (abs(x) @ abs(x)), 3, "float32")
    (host, _held) = at(1, "float32")
    with pytest.raises(Misuse, match="no address of live device memory"):
        multiply(host, zero)
    assert blas.getPointerMode(handle) == 1
    blas.setPointerMode(handle, blas.CUBLAS_POINTER_MODE_HOST)


@pytest.mark.parametrize("side", range(2))
@pytest.mark.parametrize("uplo", range(2))
@pytest.mark.parametrize("trans", range(3))
@pytest.mark.parametrize("diag", range(2))
def test_trsm(cupy, blas, handle, rng, kind, side, uplo, trans, diag):
    dtype, (m, n) = KINDS[kind], (6, 5)
    order = n if side else m
    full = draw(rng, (order, order), dtype) / order + 2 * np.eye(order, dtype=dtype)
    t = np.tril(full) if uplo == 0 else np.triu(full)
    if diag:
        t[np.diag_indices(order)] = 1
    given = np.where(t != 0, full, np.nan)  # the other triangle is not read
    if diag:
        np.fill_diagonal(given, np.nan)
    b = draw(rng, (m, n), dtype)
    a, x = On(cupy, given, dtype=dtype), On(cupy, b)
    (alpha, _held) = at(2.0, dtype)
    with recorded() as ledger:
        getattr(blas, f"{kind}trsm")(
            handle, side, uplo, trans, diag, m, n, alpha, a.ptr, a.ld, x.ptr, x.ld
        )
    found, factor = wide(x.get()), op(wide(t), FLAGS[trans])
    product = found @ factor if side else factor @ found
    size = abs(found) @ abs(factor) if side else abs(factor) @ abs(found)
    assert is_small(abs(product - 2 * wide(b)), allowed(order, dtype) * (size + 2 * abs(wide(b))))
    assert x.rest_is_untouched()
    assert ledger.flops[f"{kind}trsm"] == m * n * order * (4 if kind in "cz" else 1)


@pytest.mark.parametrize("uplo", range(2))
@pytest.mark.parametrize("trans", range(2))
def test_syrk(cupy, blas, handle, rng, kind, uplo, trans):
    dtype, (n, k) = KINDS[kind], (5, 7)
    x, z = draw(rng, (n, k), dtype), draw(rng, (n, n), dtype)
    a, c = On(cupy, x.T if trans else x), On(cupy, z)
    (alpha, _a), (beta, _b) = at(-1, dtype), at(1, dtype)
    getattr(blas, f"{kind}syrk")(
        handle, uplo, trans, n, k, alpha, a.ptr, a.ld, beta, c.ptr, c.ld
    )  # fmt: skip
    found, inside = c.get(), np.tri(n, dtype=bool) if uplo == 0 else np.tri(n, dtype=bool).T
    wanted = wide(z) - wide(x) @ wide(x).T
    size = abs(wide(z)) + abs(wide(x)) @ abs(wide(x)).T
    assert close(found[inside], wanted[inside], size[inside], k, dtype)
    assert same_bits(found[~inside], z[~inside])
    if kind in "cz":  # symmetric, never Hermitian
        with pytest.raises(blas.CUBLASError, match="INVALID_VALUE"):
            getattr(blas, f"{kind}syrk")(
                handle, uplo, 2, n, k, alpha, a.ptr, a.ld, beta, c.ptr, c.ld
            )  # fmt: skip


def test_matrix_and_vector(cupy, blas, handle, rng, kind):
    dtype, (m, n) = KINDS[kind], (5, 4)
    x, v, w = draw(rng, (m, n), dtype), draw(rng, n, dtype), draw(rng, m, dtype)
    a, given, taken = On(cupy, x), cupy.asarray(np.repeat(v, 2)), cupy.asarray(w)
    (alpha, _a), (beta, _b) = at(2, dtype), at(-1, dtype)
    getattr(blas, f"{kind}gemv")(
        handle, 0, m, n, alpha, a.ptr, a.ld, given.data.ptr, 2, beta, taken.data.ptr, 1
    )  # fmt: skip
    size = 2 * abs(x) @ abs(v) + abs(w)
    assert close(taken.get(), 2 * wide(x) @ wide(v) - wide(w), size, n, dtype)
    c = On(cupy, x)
    getattr(blas, f"{kind}dgmm")(
        handle, 1, m, n, a.ptr, a.ld, given.data.ptr, 2, c.ptr, c.ld
    )  # fmt: skip
    assert close(c.get(), wide(x) * wide(v), abs(x) * abs(v), 1, dtype)


def test_geam(cupy, blas, handle, rng, kind):
    """Also what it is used for: a transposition, whose second operand is not there."""
    dtype, (m, n) = KINDS[kind], (5, 4)
    x, y = draw(rng, (n, m), dtype), draw(rng, (m, n), dtype)
    a, b, c = On(cupy, x), On(cupy, y), On(cupy, np.zeros((m, n), dtype))
    (one, _a), (zero, _b) = at(1, dtype), at(0, dtype)
    geam = getattr(blas, f"{kind}geam")
    geam(handle, 2, 0, m, n, one, a.ptr, a.ld, one, b.ptr, b.ld, c.ptr, c.ld)
    assert same_bits(c.get(), x.conj().T + y)
    geam(handle, 1, 0, m, n, one, a.ptr, a.ld, zero, 0, m, c.ptr, c.ld)
    assert same_bits(c.get(), x.T)
    geam(handle, 0, 0, m, n, one, c.ptr, c.ld, one, b.ptr, b.ld, c.ptr, c.ld)
    assert same_bits(c.get(), x.T + y)
    assert c.rest_is_untouched()
    with pytest.raises(Misuse, match="overlaps"):
        geam(handle, 1, 0, 3, 3, one, c.ptr, c.ld, zero, 0, 3, c.ptr, c.ld)


def test_level_1(cupy, blas, handle, rng, kind):
    dtype = KINDS[kind]
    real = np.zeros(0, dtype).real.dtype
    x = draw(rng, 9, dtype)
    a = cupy.asarray(x)
    letter = {"c": "sc", "z": "dz"}.get(kind, kind)
    size = np.abs(x.real) + (np.abs(x.imag) if kind in "cz" else 0)
    for name, dtype_, wanted in (
        (f"i{kind}amax", "int32", np.argmax(size) + 1),
        (f"i{kind}amin", "int32", np.argmin(size) + 1),
        (f"{letter}asum", real, size.sum()),
        (f"{letter}nrm2", real, np.linalg.norm(x)),
    ):
        result = np.zeros(1, dtype_)
        with recorded() as ledger:
            getattr(blas, name)(handle, 9, a.data.ptr, 1, result.ctypes.data)
        assert ledger.syncs == [name], "a result on the host is waited for"
        assert is_small(abs(result[0] - wanted), allowed(9, real) * size.sum())
        target = cupy.zeros(1, dtype_)
        blas.setPointerMode(handle, 1)
        with recorded() as ledger:
            getattr(blas, name)(handle, 9, a.data.ptr, 1, target.data.ptr)
        blas.setPointerMode(handle, 0)
        assert ledger.syncs == []
        assert target.get()[0] == result[0]
    (two, _held) = at(2, dtype)
    b = cupy.asarray(x)
    getattr(blas, f"{kind}axpy")(handle, 9, two, a.data.ptr, 1, b.data.ptr, 1)
    assert is_small(abs(b.get() - 3 * x), allowed(1, dtype) * 3 * abs(x))
    getattr(blas, f"{kind}scal")(handle, 3, two, a.data.ptr, 3)
    x[::3] *= 2
    assert same_bits(a.get(), x)


# -- what must not be ------------------------------------------------------------------------------


def test_what_cublas_refuses(cupy, blas, handle, rng):
    a = On(cupy, draw(rng, (4, 4), "float64"))
    (one, _held) = at(1, "float64")

    def multiply(transa=0, transb=0, m=4, n=4, k=4, lda=7, ldc=7, b=None):
        c = cupy.zeros((7, 9), order="F")
        blas.dgemm(
            handle, transa, transb, m, n, k, one, a.ptr, lda, b or a.ptr, 7, one, c.data.ptr, ldc
        )

    multiply()
    for wrong in ({"transa": 3}, {"transb": -1}, {"m": -1}, {"lda": 3}, {"ldc": 3}):
        with pytest.raises(blas.CUBLASError, match="CUBLAS_STATUS_INVALID_VALUE"):
            multiply(**wrong)
    for wrong in ({"lda": 13}, {"n": 7}, {"b": a.ptr + 7 * 6 * 8}, {"b": 4096}):
        with pytest.raises(Misuse):
            multiply(**wrong)
    with pytest.raises(Misuse, match="not aligned"):
        multiply(b=a.ptr + 4)
    for wrong in ({"m": 4.0}, {"transa": "N"}):
        with pytest.raises(TypeError):
            multiply(**wrong)
    with pytest.raises(OverflowError):
        multiply(lda=2**31)
    with pytest.raises(OverflowError):
        multiply(b=-8)
    with pytest.raises(Misuse, match="overlaps"):
        blas.dgemm(handle, 0, 0, 4, 4, 4, one, a.ptr, 7, a.ptr, 7, one, a.ptr, 7)
    with pytest.raises(Misuse, match="no handle"):
        blas.dgemm(handle + 1, 0, 0, 4, 4, 4, one, a.ptr, 7, a.ptr, 7, one, a.ptr, 7)


def test_memory_given_back_is_no_operand(cupy, blas, handle):
    a = cupy.zeros((4, 4))
    address = a.data.ptr
    del a
    (one, _held) = at(1, "float64")
    c = cupy.zeros(16)
    with pytest.raises(Misuse, match=r"no address of live device memory|overlaps"):
        blas.dgemm(handle, 0, 0, 4, 4, 4, one, address, 4, address, 4, one, c.data.ptr, 4)


def test_a_handle_is_of_one_device(cupy, blas, handle):
    with cupy.cuda.Device(1):
        assert cupy.cuda.Device().cublas_handle != handle
        with pytest.raises(Misuse, match="a handle of device 0"):
            blas.setMathMode(handle, 0)


# -- gemmEx ----------------------------------------------------------------------------------------


def as_bf16(x):
    return formats.narrowed(np.asarray(x, np.float32), formats.R_16BF)


def from_bf16(bits):
    return formats.widened(bits, formats.R_16BF, formats.COMPUTE_32F)


@pytest.fixture
def multiply_ex(cupy, blas, handle):
    def multiply(a, kind_a, b, c, kind_c, compute, transa=0, transb=0, algo=-1):
        m, n = c.get().shape
        k = a.get().shape[0 if transa else 1]
        scale = formats.scale_type(compute, kind_c)
        (one, _a), (zero, _b) = at(1, scale), at(0, scale)
        blas.gemmEx(
            handle, transa, transb, m, n, k, one, a.ptr, kind_a, a.ld, b.ptr, kind_a, b.ld, zero,
            c.ptr, kind_c, c.ld, compute, algo,
        )  # fmt: skip
        return c.get()

    return multiply


@pytest.mark.parametrize("low", ["fp16", "bf16", "tf32"])
@pytest.mark.parametrize("transa", range(2))
@pytest.mark.parametrize("transb", range(2))
def test_low_precision(cupy, blas, multiply_ex, rng, low, transa, transb):
    """Products of the rounded operands are exact, and summed in single precision."""
    m, n, k = 6, 5, 40
    x, y = (draw(rng, s, "float32") for s in ((m, k), (k, n)))
    if low == "fp16":
        given, kind, compute = [v.astype("float16") for v in (x, y)], 2, blas.CUBLAS_COMPUTE_32F
        used = [v.astype("float64") for v in given]
    elif low == "bf16":
        given, kind, compute = [as_bf16(v) for v in (x, y)], 14, blas.CUBLAS_COMPUTE_32F
        used = [from_bf16(v).astype("float64") for v in given]
    else:
        given, kind, compute = [x, y], 0, blas.CUBLAS_COMPUTE_32F_FAST_TF32
        used = [formats.rounded(v, 13).astype("float64") for v in given]
        assert not np.array_equal(used[0], x)
    a, b = (On(cupy, v.T if t else v) for v, t in zip(given, (transa, transb), strict=True))
    c = On(cupy, np.zeros((m, n), "float32"))
    found = multiply_ex(a, kind, b, c, 0, compute, transa, transb)
    size = abs(used[0]) @ abs(used[1])
    assert close(found, used[0] @ used[1], size, k, "float32")
    assert c.rest_is_untouched()


def test_sums_are_not_of_the_format_of_the_operands(cupy, blas, multiply_ex):
    x = np.full((1, 4096), 1.0, "float16")
    a, b = On(cupy, x), On(cupy, x.T)
    c = On(cupy, np.zeros((1, 1), "float32"))
    assert multiply_ex(a, 2, b, c, 0, blas.CUBLAS_COMPUTE_32F) == 4096
    big = On(cupy, np.full((1, 4096), 1000.0, "float16"))
    assert multiply_ex(big, 2, b, c, 0, blas.CUBLAS_COMPUTE_32F) == 4096000
    narrow = On(cupy, np.zeros((1, 1), "float16"))
    assert multiply_ex(big, 2, b, narrow, 2, blas.CUBLAS_COMPUTE_32F) == np.inf


@pytest.mark.parametrize(
    ("kind_a", "kind_c", "compute"),
    [
        (2, 0, 77),
        (2, 1, 68),
        (1, 1, 68),
        (0, 2, 68),
        (14, 2, 68),
        (0, 0, 70),
        (2, 0, 64),
        (0, 0, 9),
    ],
)
def test_types_that_cublas_does_not_multiply(cupy, blas, multiply_ex, kind_a, kind_c, compute):
    stored = formats.STORED
    a = On(cupy, np.ones((2, 2), stored[kind_a]))
    c = On(cupy, np.ones((2, 2), stored[kind_c]))
    with pytest.raises(blas.CUBLASError, match="NOT_SUPPORTED"):
        multiply_ex(a, kind_a, a, c, kind_c, compute)


def test_batches(cupy, blas, handle, rng):
    x, y = draw(rng, (3, 4, 5), "float32"), draw(rng, (3, 5, 2), "float32")
    a, b = (cupy.asarray(v.transpose(0, 2, 1).copy()) for v in (x, y))  # each by columns
    c = cupy.zeros((3, 2, 4), "float32")
    (one, _a), (zero, _b) = at(1, "float32"), at(0, "float32")
    with recorded() as ledger:
        blas.gemmStridedBatchedEx(
            handle, 0, 0, 4, 2, 5, one, a.data.ptr, 0, 4, 20, b.data.ptr, 0, 5, 10, zero,
            c.data.ptr, 0, 4, 8, 3, 68, -1,
        )  # fmt: skip
    found = c.get().transpose(0, 2, 1)
    assert close(found, wide(x) @ wide(y), abs(x) @ abs(y), 5, "float32")
    assert ledger.flops["gemmStridedBatchedEx"] == 3 * 2 * 4 * 2 * 5
    c[...] = 0
    blas.sgemmStridedBatched(
        handle, 0, 0, 4, 2, 5, one, a.data.ptr, 4, 20, b.data.ptr, 5, 10, zero, c.data.ptr, 4, 8, 3
    )  # fmt: skip
    assert np.array_equal(c.get().transpose(0, 2, 1), found)


def test_tf32_by_the_math_mode(cupy, blas, handle, rng):
    x = draw(rng, (3, 3), "float32")
    a, c, exact = On(cupy, x), On(cupy, x), On(cupy, x)
    (one, _a), (zero, _b) = at(1, "float32"), at(0, "float32")
    blas.sgemm(handle, 0, 0, 3, 3, 3, one, a.ptr, a.ld, a.ptr, a.ld, zero, exact.ptr, exact.ld)
    blas.setMathMode(handle, 3)
    blas.sgemm(handle, 0, 0, 3, 3, 3, one, a.ptr, a.ld, a.ptr, a.ld, zero, c.ptr, c.ld)
    blas.setMathMode(handle, 0)
    used = formats.rounded(x, 13).astype("float64")
    assert close(c.get(), used @ used, abs(used) @ abs(used), 3, "float32")
    assert not np.array_equal(c.get(), exact.get())


def test_rounding_to_tf32():
    x = np.array([1 + 2**-11, 1 + 2**-10, -1 - 2**-11, np.inf, np.nan, 0], np.float32)
    wanted = np.array([1 + 2**-10, 1 + 2**-10, -1 - 2**-10, np.inf, np.nan, 0], np.float32)
    assert np.array_equal(formats.rounded(x, 13), wanted, equal_nan=True)


def test_scipy_solves_the_same(cupy, blas, handle, rng):
    """The oracle of this file is not what the stand-in computes with."""
    t = np.tril(draw(rng, (4, 4), "float64")) + 3 * np.eye(4)
    b = draw(rng, (4, 2), "float64")
    a, x = On(cupy, t), On(cupy, b)
    (one, _held) = at(1, "float64")
    blas.dtrsm(handle, 0, 0, 0, 0, 4, 2, one, a.ptr, a.ld, x.ptr, x.ld)
    assert np.allclose(x.get(), scipy.linalg.solve_triangular(t, b, lower=True), rtol=1e-12)
