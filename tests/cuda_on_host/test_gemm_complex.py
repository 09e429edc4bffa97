"""gemm_complex.cu: complex products on tensor cores, of real and imaginary parts apart."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.precision import get_format

from .test_gemm import (
    SHAPES,
    TYPES,
    U,
    blocks,
    number,
    numbers,
    padded,
    run,
    stride,
    words,
)

NAMES = ("half", "__nv_bfloat16")
INSTANCES = [(name, height) for name in NAMES for height in (64, 128)]
IDS = [f"{name.strip('_')}-{height}" for name, height in INSTANCES]


def launch(module, name, height, a, b, c, alpha=-1.0, **options):
    """`a` and `b` are pairs of real and imaginary parts; c is complex64."""
    (m, k), n = a[0].shape, b[0].shape[1]
    run(
        module, f"gemm_complex<{name}, {height}, 64, 32>", blocks(m, n, height, 64),
        [m, n, k, number(alpha), *a, stride(a[0]), *b, stride(b[0]), c.view(np.float32),
         stride(c)],
        **options,
    )  # fmt: skip
    return c


def parts(rng, name, shape):
    fmt = get_format(TYPES[name][0])
    return tuple(
        words(fmt.round(rng.standard_normal(shape).astype(np.float32)), name) for _ in range(2)
    )


def operands(rng, name, m, n, k):
    c = rng.standard_normal((m, n)) + 1j * rng.standard_normal((m, n))
    return parts(rng, name, (m, k)), parts(rng, name, (k, n)), c.astype(np.complex64)


def whole(pair):
    return numbers(pair[0]) + 1j * numbers(pair[1])


def is_product(c, a, b, before, alpha=-1.0):
    """Either part within the error of a real sum of 2 k terms, as in test_gemm.py."""
    k = a[0].shape[1]
    (a_re, a_im), (b_re, b_im) = ([abs(numbers(x)) for x in pair] for pair in (a, b))
    expected = alpha * (whole(a) @ whole(b)) + before.astype(complex)
    of_re = abs(alpha) * (a_re @ b_re + a_im @ b_im) + abs(before.real)
    of_im = abs(alpha) * (a_re @ b_im + a_im @ b_re) + abs(before.imag)
    return bool(
        (abs(c.real - expected.real) <= (4 * k + 2) * U * of_re).all()
        and (abs(c.imag - expected.imag) <= (4 * k + 2) * U * of_im).all()
    )


@pytest.mark.parametrize(("name", "height"), INSTANCES, ids=IDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_instance(compiled, rng, schedule, name, height, shape):
    a, b, c = operands(rng, name, *shape)
    before = c.copy()
    launch(compiled("gemm_complex.cu"), name, height, a, b, c, schedule=schedule)
    assert is_product(c, a, b, before)


@pytest.mark.parametrize(("name", "height"), INSTANCES, ids=IDS)
def test_checked(compiled, rng, schedule, name, height):
    """Edges in each direction, three and a half steps."""
    a, b, c = operands(rng, name, height + 1, 9, 101)
    before = c.copy()
    module = compiled("gemm_complex.cu", checked=True)
    launch(module, name, height, a, b, c, schedule=schedule)
    assert is_product(c, a, b, before)


@pytest.mark.parametrize(("name", "height"), INSTANCES, ids=IDS)
@pytest.mark.parametrize("alpha", [-1.0, 0.5])
def test_integers_are_exact(compiled, rng, name, height, alpha):
    a, b = (
        [rng.integers(-8, 9, s).astype(np.float32) for _ in range(2)]
        for s in [(70, 100), (100, 66)]
    )
    c = np.full((70, 66), 3 - 5j, np.complex64)
    expected = c + alpha * ((a[0] + 1j * a[1]) @ (b[0] + 1j * b[1]))
    a, b = ([words(x, name) for x in pair] for pair in (a, b))
    launch(compiled("gemm_complex.cu"), name, height, a, b, c, alpha)
    np.testing.assert_array_equal(c, expected)


@pytest.mark.parametrize("name", NAMES)
def test_each_of_the_four_products(compiled, name):
    """1, i and -i, times each other: which part goes where, and with which sign."""
    values = np.array([1, 1j, -1, -1j])
    a, b = values[:, None], values[None, :]
    c = np.zeros((4, 4), np.complex64)
    pairs = [[words(np.ascontiguousarray(p), name) for p in (x.real, x.imag)] for x in (a, b)]
    launch(compiled("gemm_complex.cu"), name, 64, *pairs, c, alpha=1.0)
    np.testing.assert_array_equal(c, a * b)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("strides", "first"),
    [((48, 80, 72), (0, 0, 0)), ((47, 80, 72), (0, 0, 0)), ((48, 79, 72), (0, 0, 0)),
     ((48, 80, 71), (0, 0, 0)), ((48, 80, 72), (1, 3, 1))],
    ids=["aligned", "odd lda", "odd ldb", "odd ldc", "odd addresses"],
)  # fmt: skip
def test_padding_is_left_alone(compiled, rng, name, strides, first):
    """C whose rows, or whose first entry, stand at 8 bytes, and not at 16, too."""
    a, b, c = operands(rng, name, 30, 67, 29)
    a, b = (
        [padded(x, s, first=f) for x in pair]
        for pair, s, f in zip((a, b), strides, first, strict=False)
    )
    view = padded(c, strides[2], first=first[2], fill=7)
    (m, n), k = c.shape, 29
    run(
        compiled("gemm_complex.cu", checked=True), f"gemm_complex<{name}, 64, 64, 32>", 2,
        [m, n, k, number(-1.0), *a, strides[0], *b, strides[1],
         view.base.view(np.float32)[:, 2 * first[2] :], strides[2]],
    )  # fmt: skip
    assert is_product(view, a, b, c)
    outside = np.ones(view.base.shape, bool)
    outside[:, first[2] : first[2] + n] = False
    assert (view.base[outside] == 7).all()


def test_c_at_four_bytes(compiled, rng):
    """An address that is no multiple of the size of an entry: one number at a time."""
    a, b, c = operands(rng, "half", 5, 66, 20)
    numbers_of_c = np.zeros(2 * c.size + 1, np.float32)
    numbers_of_c[1:] = c.view(np.float32).ravel()
    m, n, k = 5, 66, 20
    run(
        compiled("gemm_complex.cu", checked=True), "gemm_complex<half, 64, 64, 32>", 2,
        [m, n, k, number(-1.0), *a, k, *b, n, numbers_of_c[1:], n],
    )  # fmt: skip
    assert is_product(numbers_of_c[1:].view(np.complex64).reshape(c.shape), a, b, c)
    assert numbers_of_c[0] == 0


def test_what_is_not_finite(compiled, rng):
    """Of an infinite or NaN entry the row or column is not finite, and nothing else."""
    a, b, c = operands(rng, "half", 20, 18, 40)
    before = c.copy()
    a[0][1, 3], a[1][5, 39], b[1][7, 2] = np.inf, np.nan, -np.inf
    launch(compiled("gemm_complex.cu"), "half", 64, a, b, c)
    rows, columns = np.isin(np.arange(20), [1, 5]), np.arange(18) == 2
    lost = rows[:, None] | columns
    assert (np.isfinite(c.real) == ~lost).all()
    assert (np.isfinite(c.imag) == ~lost).all()
    assert np.isnan(c[5]).all()
    for x in (*a, *b):
        x[~np.isfinite(x)] = 0.0
    c[lost] = (before - whole(a) @ whole(b))[lost]
    assert is_product(c, a, b, before)


@pytest.mark.parametrize(("name", "height"), INSTANCES, ids=IDS)
def test_operations(emulated, rng, name, height):
    """Four mma and, of either operand, two fragments for them; one barrier a step of 32 terms."""
    module = emulated("gemm_complex.cu")
    launch(module, name, height, *operands(rng, name, height + 1, 64, 96))
    warps, products, left, right = height // 16, 6, 2, 2
    assert module.counts.barriers == 2 * 3
    per_product = 4 * left * 2 * right + 2 * (left + right)
    assert module.counts.collectives == 2 * warps * 32 * (products * per_product + 1)
