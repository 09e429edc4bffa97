"""Convolution and its gradients against their definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mplinalg.nn import convolution, im2col, winograd
from mplinalg.nn.convolution import (
    ALGORITHMS,
    conv2d,
    conv2d_input_gradient,
    conv2d_weight_gradient,
)  # fmt: skip
from mplinalg.nn.geometry import Geometry
from mplinalg.ops.array_nn import ArrayNn
from mplinalg.ops.numpy_nn import NumpyNn
from mplinalg.precision import get_format

from .images import all_three, check_all, convolved, gradients, norm

METHODS = [name for name in ALGORITHMS if name != "auto"]


def takes(algorithm, kernel, stride):
    if algorithm == "winograd":
        return kernel == (3, 3) and stride == (1, 1)
    return algorithm != "direct" or stride == (1, 1)


def drawn(rng, n, c, size, o, kernel, dtype=np.float64):
    x, w = rng.standard_normal((n, c, *size)), rng.standard_normal((o, c, *kernel))
    return x.astype(dtype), w.astype(dtype)


CASES = [
    ((k, k), (s, s), (p, p))
    for k, s, p in itertools.product((1, 2, 3, 5, 7), (1, 2, 3), (0, 1, 2))
] + [((3, 2), (2, 1), (0, 2)), ((1, 5), (1, 3), (2, 0)), ((2, 1), (1, 1), (3, 3))]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_definition(algorithm, dtype, rng):
    """Odd sizes, one image and several, one channel and several, more filters than a tile has."""
    for kernel, stride, padding in CASES:
        if not takes(algorithm, kernel, stride):
            continue
        for n, c, size, o in ((1, 1, (7, 9), 1), (3, 5, (11, 8), 9)):
            x, w = drawn(rng, n, c, size, o, kernel, dtype)
            found = check_all(algorithm, x, w, stride, padding)
            assert all(array.dtype == dtype and array.flags.c_contiguous for array in found)


@pytest.mark.parametrize("algorithm", METHODS)
def test_sizes_beyond_one_block(algorithm, rng, monkeypatch):
    """Several blocks of images, strips of rows, channels and rows of tiles."""
    from mplinalg.nn import fft_convolution
    from mplinalg.ops import numpy_nn

    monkeypatch.setattr(fft_convolution, "_WORKSPACE", 2**14)
    monkeypatch.setattr(numpy_nn, "_STRIP", 2**11)
    monkeypatch.setattr(numpy_nn, "_TAPS", 2)
    monkeypatch.setattr(numpy_nn.NumpyNn, "column_bytes", 2**15)
    monkeypatch.setattr(numpy_nn.NumpyNn, "tile_bytes", 2**12)
    x, w = drawn(rng, 5, 5, (19, 23), 10, (3, 3))
    check_all(algorithm, x, w, (1, 1), (1, 1))


@pytest.mark.parametrize("algorithm", METHODS)
def test_results_do_not_depend_on_the_number_of_threads(algorithm, rng):
    import threadpoolctl

    x, w = drawn(rng, 9, 8, (40, 40), 16, (3, 3), np.float32)
    grad = rng.standard_normal((9, 16, 38, 38)).astype(np.float32)
    some = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            some.append(all_three(grad, x, w, algorithm=algorithm))
    for one, other, size in zip(*some, (norm(x), norm(grad), norm(grad)), strict=True):
        if algorithm == "direct":
            np.testing.assert_array_equal(one, other)
        else:  # BLAS sums on its own threads in another order
            assert np.abs(one - other).max() <= 1e-5 * size * norm(w)


def test_finite_differences(rng):
    """The sum is linear in x and in w: central differences have no error but rounding."""
    x, w = drawn(rng, 2, 2, (5, 6), 3, (3, 3))
    options = {"stride": (2, 1), "padding": (1, 2)}
    grad = rng.standard_normal(conv2d(x, w, **options).shape)

    def total(x, w):
        return float(np.sum(grad * conv2d(x, w, **options)))

    found = (
        conv2d_input_gradient(grad, w, x.shape, **options),
        conv2d_weight_gradient(grad, x, w.shape, **options),
    )
    for k, array in enumerate((x, w)):
        for place in np.ndindex(array.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = [x.copy(), w.copy()]
                moved[k][place] += sign
                ends.append(total(*moved))
            assert (ends[0] - ends[1]) / 2 == pytest.approx(found[k][place], abs=1e-11)


# -- operands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", METHODS)
def test_layouts(algorithm, rng):
    """Fortran order, strides, negative ones, and read-only operands, which stay as they are."""
    x, w = drawn(rng, 2, 4, (8, 9), 3, (3, 3))
    grad = rng.standard_normal((2, 3, 6, 7))
    expected = all_three(grad, x, w, algorithm=algorithm)

    def strided(a):
        big = np.zeros([2 * n for n in a.shape])
        big[::2, ::2, ::2, ::2] = a
        return big[::2, ::2, ::2, ::2]

    def reversed_(a):
        return a[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1]

    for change in (np.asfortranarray, strided, reversed_):
        operands = [change(a) for a in (grad, x, w)]
        for a in operands:
            a.setflags(write=False)
        for one, other in zip(all_three(*operands, algorithm=algorithm), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_dtypes(rng):
    x, w = drawn(rng, 1, 2, (5, 5), 2, (3, 3), np.float32)
    assert conv2d(x, w.astype(np.float64)).dtype == np.float64
    assert conv2d(x.astype(np.float16), w).dtype == np.float32
    integers = conv2d(np.ones((1, 1, 3, 3), int), [[[[1, 2], [3, 4]]]])
    np.testing.assert_array_equal(integers, np.full((1, 1, 2, 2), 10.0))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("n", "c", "o"), [(0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_nothing_to_sum(algorithm, n, c, o):
    x, w = np.ones((n, c, 5, 6)), np.ones((o, c, 3, 3))
    y, dx, dw = all_three(np.ones((n, o, 3, 4)), x, w, algorithm=algorithm)
    assert (y.shape, dx.shape, dw.shape) == ((n, o, 3, 4), x.shape, w.shape)
    assert not y.any()
    assert not dx.any()
    assert not dw.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("precision", [None, "fp16"])
@pytest.mark.parametrize("algorithm", METHODS)
def test_what_is_not_finite_stays_in_its_image(algorithm, precision, bad, rng):
    x, w = drawn(rng, 4, 3, (9, 10), 5, (3, 3), np.float32)
    options = {"padding": 1, "algorithm": algorithm, "precision": precision}
    clean, clean_dx = conv2d(x, w, **options), conv2d_input_gradient(x, w[:3], x.shape, **options)
    x[1, 2, 4, 4] = bad
    y, dx = conv2d(x, w, **options), conv2d_input_gradient(x, w[:3], x.shape, **options)
    for found, expected in ((y, clean), (dx, clean_dx)):
        assert not np.isfinite(found[1, :, 3:6, 3:6]).any()
        np.testing.assert_array_equal(found[[0, 2, 3]], expected[[0, 2, 3]])
    dw = conv2d_weight_gradient(clean, x, w.shape, **options)
    assert not np.isfinite(dw[:, 2]).any()
    if algorithm in ("gemm", "direct") and precision is None:
        assert np.isfinite(dw[:, :2]).all()
        np.testing.assert_array_equal(
            np.isfinite(y[1]), ~np.isnan(convolved(x, w, (1, 1), (1, 1))[1]) & np.isfinite(y[1])
        )
        assert np.isfinite(y[1, :, 7:]).all()


# -- low precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("algorithm", ["gemm", "direct", "auto"])
def test_operands_are_rounded(algorithm, precision, rng):
    """Of operands that the format holds the products are exact: only fp32 sums are rounded."""
    fmt = get_format(precision)
    x, w = (fmt.round(a) for a in drawn(rng, 3, 4, (9, 8), 6, (3, 3), np.float32))
    grad = fmt.round(rng.standard_normal((3, 6, 7, 6)).astype(np.float32))
    found = all_three(grad, x, w, algorithm=algorithm, precision=precision)
    expected = (convolved(x, w, (1, 1), (0, 0)), *gradients(grad, x, w, (1, 1), (0, 0)))
    for one, other, size in zip(
        found, expected, (norm(x) * norm(w), norm(grad) * norm(w), norm(grad) * norm(x)),
        strict=True,
    ):  # fmt: skip
        assert one.dtype == np.float32
        assert np.abs(one - other).max() <= 200 * 2.0**-24 * size


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("algorithm", METHODS)
def test_errors_are_of_the_format(algorithm, precision, rng):
    """Within its unit roundoff of the definition, and not as if nothing had been rounded."""
    x, w = drawn(rng, 2, 16, (12, 12), 8, (3, 3), np.float32)
    u = get_format(precision).unit_roundoff
    y, _, _ = check_all(algorithm, x, w, (1, 1), (1, 1), u=u, precision=precision)
    assert np.abs(y - convolved(x, w, (1, 1), (1, 1))).max() > u / 10


@pytest.mark.parametrize("algorithm", METHODS)
def test_the_range_of_fp16_is_no_limit(algorithm, rng):
    """Operands are scaled by powers of two: those times 2^40 and 2^-40 give the same digits."""
    x, w = drawn(rng, 2, 3, (6, 6), 4, (3, 3), np.float32)
    grad = rng.standard_normal((2, 4, 4, 4)).astype(np.float32)
    options = {"algorithm": algorithm, "precision": "fp16"}
    plain = all_three(grad, x, w, **options)
    big, small = np.float32(2.0**40), np.float32(2.0**-40)
    scaled = all_three(grad * big, x * big, w * small, **options)
    for one, other, factor in zip(scaled, plain, (1.0, 1.0, 2.0**80), strict=True):
        np.testing.assert_array_equal(one, other * np.float32(factor))


# -- mistakes ------------------------------------------------------------------------------------


def test_mistakes_are_told():
    x, w = np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3))
    for call, text in [
        (lambda: conv2d(x, np.ones((4, 2, 3, 3))), r"3 and 2 channels.*\(2, 3, 8, 8\).*\(4, 2, 3"),
        (lambda: conv2d(x[0], w), r"\(N, C, H, W\).*\(3, 8, 8\)"),
        (lambda: conv2d(x, np.ones((4, 3, 9, 3))), r"kernel \(9, 3\) larger.*\(8, 8\)"),
        (lambda: conv2d(x, np.ones((4, 3, 0, 3))), "empty kernel"),
        (lambda: conv2d(x, w, stride=0), "stride must be"),
        (lambda: conv2d(x, w, stride=(1, 2, 3)), "stride must be"),
        (lambda: conv2d(x, w, padding=-1), "padding must be"),
        (lambda: conv2d(x, w, padding=0.5), "padding must be"),
        (lambda: conv2d(x, w, algorithm="fast"), "auto, gemm, direct, fft, winograd"),
        (lambda: conv2d(x, w, algorithm="winograd", stride=2), "3 by 3 kernels with stride 1"),
        (lambda: conv2d(x, np.ones((4, 3, 5, 5)), algorithm="winograd"), "3 by 3 kernels"),
        (lambda: conv2d(x, w, algorithm="direct", stride=2), "stride 1"),
        (lambda: conv2d(x, w, precision="fp8"), "fp16, bf16"),
        (lambda: conv2d(x * 1j, w), "real numbers"),
        (lambda: conv2d_input_gradient(x, w, x.shape), r"\(2, 3, 8, 8\).*\(2, 4, 6, 6\)"),
        (lambda: conv2d_weight_gradient(x, x, w.shape), r"\(2, 3, 8, 8\).*\(2, 4, 6, 6\)"),
    ]:
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(TypeError):
        conv2d(x, "w")


def test_a_kernel_as_large_as_the_padded_input(rng):
    for algorithm in ("gemm", "direct", "fft"):
        x, w = drawn(rng, 2, 2, (3, 3), 4, (5, 5))
        check_all(algorithm, x, w, (1, 1), (1, 1))
        with pytest.raises(ValueError, match="larger than the padded"):
            conv2d(x, w, padding=(1, 0), algorithm=algorithm)


# -- what "auto" takes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "w", "options", "forward", "weights"),
    [
        ((100, 1, 28, 28), (6, 1, 5, 5), {}, "direct", "direct"),
        ((100, 6, 12, 12), (16, 6, 5, 5), {}, "direct", "direct"),
        ((1, 64, 224, 224), (64, 64, 3, 3), {"padding": 1}, "direct", "direct"),
        ((1, 64, 112, 112), (128, 64, 3, 3), {"padding": 1}, "direct", "winograd"),
        ((1, 256, 56, 56), (256, 256, 3, 3), {"padding": 1}, "winograd", "winograd"),
        ((1, 512, 14, 14), (512, 512, 3, 3), {"padding": 1}, "gemm", "gemm"),
        ((1, 256, 56, 56), (256, 256, 3, 3), {"stride": 2}, "gemm", "gemm"),
        ((8, 16, 64, 64), (16, 16, 21, 21), {"padding": 10}, "fft", "fft"),
        ((8, 16, 21, 21), (16, 16, 21, 21), {}, "direct", "direct"),
    ],
)
def test_auto(x, w, options, forward, weights):
    g = Geometry.of(x, w, options.get("stride", 1), options.get("padding", 0))
    like = np.empty(0, np.float32)
    for what, expected in (
        ("forward", forward), ("input_gradient", forward), ("weight_gradient", weights)
    ):  # fmt: skip
        assert convolution._fastest(what, g, like, None) == expected
        low = convolution._fastest(what, g, like, get_format("fp16"))
        assert low not in ("winograd", "fft")


# -- verbs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [(3, 3), (5, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (2, 1), (4, 4)])
def test_compiled_columns_are_those_of_slices(kernel, stride, padding, rng):
    x = rng.standard_normal((3, 4, 9, 8))
    patches = Geometry.of(x.shape, (1, 4, *kernel), stride, padding).patches
    shape = 3, 4 * kernel[0] * kernel[1], patches.out[0] * patches.out[1]
    found = []
    for ops in (NumpyNn(), ArrayNn(np)):
        cols, back = np.full(shape, np.nan), np.full(x.shape, np.nan)
        ops.im2col(x, cols, patches)
        ops.col2im(cols, back, patches)
        found.append((cols, back))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-14)


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (3, 4)])
@pytest.mark.parametrize("padding", [(0, 0), (2, 1)])
def test_compiled_tiles_are_those_of_slices(size, padding, rng):
    x = rng.standard_normal((3, 4, *size))
    patches = Geometry.of(x.shape, (1, 4, 3, 3), 1, padding).patches
    down, across = (-(-n // 2) for n in patches.out)
    y = rng.standard_normal((3, 4, *patches.out))
    for begin, end in ((0, 3 * down), (1, 2 * down), (down, 2 * down)):
        tiles = rng.standard_normal((16, 4, (end - begin) * across))
        found = []
        for ops in (NumpyNn(), ArrayNn(np)):
            v, m, out = np.full_like(tiles, np.nan), np.full_like(tiles, np.nan), np.zeros_like(y)
            ops.image_tiles(x, v, patches, begin, end)
            ops.output_tiles(y, m, begin, end)
            ops.output_from_tiles(tiles, out, begin, end)
            found.append((v, m, out))
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-14)


@pytest.mark.parametrize("algorithm", ["auto", "gemm", "winograd", "fft"])
def test_without_compiled_kernels(algorithm, rng, monkeypatch):
    """The road of devices, on NumPy arrays."""
    for module in (convolution, im2col, winograd):
        monkeypatch.setattr(module, "nn_ops_for", lambda *_: ArrayNn(np))
    for stride in ((1, 1), (2, 1)):
        if takes(algorithm, (3, 3), stride):
            x, w = drawn(rng, 3, 4, (9, 8), 5, (3, 3))
            check_all(algorithm, x, w, stride, (1, 1))
    with pytest.raises(ValueError, match="on the CPU"):
        conv2d(x, w, algorithm="direct")
