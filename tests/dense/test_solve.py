"""solve: SciPy's shapes and dtypes, any layout, size and scale."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import scipy
import scipy.linalg

from mplinalg import LinAlgError, solve
from mplinalg.testing import backward_error

from .systems import DTYPES, SCIPY, meets_the_test, normal, outcome, roundoff

# -- dtypes and shapes ---------------------------------------------------------------------------


KINDS = "?bhilqBHILQefdgFDG"


def expected_dtype(*dtypes):
    """LAPACK's dtype of the common one: integers are double, half is single."""
    common = np.result_type(*dtypes)
    if common.kind not in "fc":
        return np.dtype("float64")
    is_single = np.finfo(common).bits <= 32
    return np.dtype(("c8" if is_single else "c16") if common.kind == "c" else
                    ("f4" if is_single else "f8"))  # fmt: skip


@pytest.mark.parametrize("kind_a", KINDS)
def test_dtypes_mix_as_in_scipy(kind_a):
    for kind_b in KINDS:
        a = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]]).astype(kind_a)
        b = np.array([1, 0, 1]).astype(kind_b)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            x = solve(a, b)
        assert x.dtype == expected_dtype(a.dtype, b.dtype), kind_b
        assert np.array_equal(x, [1, 0, 1])
        if SCIPY >= (1, 17):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                assert scipy.linalg.solve(a, b).dtype == x.dtype, kind_b


SHAPES = [
    ((3, 3), (3,)), ((3, 3), (3, 2)), ((3, 3), (3, 0)), ((3, 3), (3, 1)), ((0, 0), (0,)),
    ((0, 0), (0, 2)), ((0, 0), (0, 0)), ((1, 1), (1,)), ((1, 1), (3,)), ((1, 1), (3, 2)),
    ((1, 1), (0,)), ((1, 1), (3, 0)), ((), (3,)), ((), ()), ((1,), (1,)), ((1,), ()),
    ((1, 1, 1), (3,)), ((2, 1, 1), (1,)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape_a", "shape_b"), SHAPES, ids=str)
def test_shapes_of_one_system(rng, shape_a, shape_b, dtype):
    a, b = normal(rng, shape_a, dtype) + 3, normal(rng, shape_b, dtype)
    if len(shape_a) > 1 and shape_a[-1] > 1:
        a = a + 3 * np.eye(3, dtype=dtype)
    x = solve(a, b)
    assert x.dtype == dtype
    if SCIPY >= (1, 17):
        assert x.shape == scipy.linalg.solve(a, b).shape
    if len(shape_a) == 2 and shape_a[0] == shape_b[0]:
        assert x.shape == b.shape
        assert np.all(backward_error(a, x, b) <= np.sqrt(3) * roundoff(dtype))
    elif a.size == 1:
        assert np.array_equal(x.ravel(), b.ravel() / a.ravel()[0])


BAD_SHAPES = [
    ((3, 3), ()), ((3,), (3,)), ((3, 2), (3,)), ((2, 3), (3,)), ((3, 3), (2,)), ((3, 3), (2, 3)),
    ((0, 0), (3,)), ((2, 2, 3), (3,)), ((2, 3, 3), (3, 3, 1)), ((2, 3, 3), (2, 2, 1)),
    ((2, 3, 3), (2, 3)), ((2, 1, 1), (3,)),
]  # fmt: skip


@pytest.mark.parametrize(("shape_a", "shape_b"), BAD_SHAPES, ids=str)
def test_shapes_that_do_not_fit(rng, shape_a, shape_b):
    with pytest.raises(ValueError) as error:
        solve(normal(rng, shape_a), normal(rng, shape_b))
    assert not isinstance(error.value, LinAlgError)
    assert any(str(n) in str(error.value) for n in (*shape_a, *shape_b, "ndim"))
    if SCIPY >= (1, 17):
        assert outcome(scipy.linalg.solve, np.ones(shape_a), np.ones(shape_b))[0] == "ValueError"


def layouts(a):
    """The same matrix in every way that NumPy can hold it."""
    n = len(a)
    padded = np.zeros((2 * n, 3 * n), a.dtype)
    strided = padded[::2, ::3]
    strided[...] = a
    backwards = a[::-1, ::-1].copy()[::-1, ::-1]
    window = np.zeros((n + 2, n + 3), a.dtype)[1:-1, 2:-1]
    window[...] = a
    frozen = a.copy()
    frozen.flags.writeable = False
    unaligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    unaligned[...] = a
    return {
        "C": a.copy("C"), "F": a.copy("F"), "strided": strided, "backwards": backwards,
        "window": window, "read-only": frozen,
        "unaligned": unaligned, "big-endian": a.astype(a.dtype.newbyteorder(">")),
        "list": a.tolist(),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [5, 40, 200])
def test_layouts_do_not_matter(rng, n, dtype):
    a, b = normal(rng, (n, n), dtype), normal(rng, (n, 2), dtype)
    for name, given in layouts(a).items():
        x = solve(given, b)
        # a list of floats is float64
        assert name == "list" or x.dtype == dtype
        assert np.all(backward_error(a, x, b) <= np.sqrt(n) * roundoff(dtype)), name
    right = {
        "F": b.copy("F"), "backwards": b[::-1].copy()[::-1], "list": b.tolist(),
        "strided": np.repeat(b, 3, axis=1)[:, ::3], "big-endian": b.astype(b.dtype.newbyteorder()),
    }  # fmt: skip
    for name, given in right.items():
        x = solve(a, given)
        assert x.shape == b.shape
        assert np.all(backward_error(a, x, b) <= np.sqrt(n) * roundoff(dtype)), name


# structure is looked for from 32; blocks are 128 or 256 wide; low precision pays from some 256
SIZES = [1, 2, 3, 31, 32, 33, 127, 128, 129, 191, 192, 193, 255, 256, 257]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_sizes_around_the_crossovers(rng, n, order):
    for dtype in DTYPES:
        a, b = normal(rng, (n, n), dtype), normal(rng, n, dtype)
        a = np.asarray(a, order=order)
        assert meets_the_test(a, solve(a, b), b), dtype
        assert meets_the_test(a.T, solve(a.T, b), b), dtype
        hermitian = np.asarray(a @ a.conj().T + n * np.eye(n, dtype=dtype), order=order)
        assert meets_the_test(hermitian, solve(hermitian, b), b), dtype


@pytest.mark.parametrize("n", [60, 260])
def test_numbers_of_right_hand_sides_around_the_crossover(rng, n):
    a = normal(rng, (n, n))
    for nrhs in (4, 5, n // 20, n // 20 + 1):
        b = normal(rng, (n, nrhs))
        assert meets_the_test(a, solve(a, b), b), nrhs


@pytest.mark.parametrize("n", [20, 250])
def test_transposed(rng, n):
    a, b = normal(rng, (n, n)), normal(rng, (n, 3))
    for order, right in itertools.product("CF", (b, b[:, 0], b + 1j * b[::-1])):
        if np.iscomplexobj(right):
            with pytest.raises(NotImplementedError):
                solve(a.copy(order), right, transposed=True)
        else:
            x = solve(a.copy(order), right, transposed=True)
            assert meets_the_test(a.T, x, right)
    with pytest.raises(NotImplementedError):
        solve(a + 0j, b, transposed=True)


# -- scale ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [5, 40, 200])
def test_a_power_of_two_changes_nothing_but_the_scale(rng, n, dtype):
    a, b = normal(rng, (n, n), dtype), normal(rng, (n, 2), dtype)
    x = solve(a, b)
    for i, j in itertools.product((-20, 0, 20), repeat=2):
        scaled = solve(a * a.dtype.type(2.0**i), b * b.dtype.type(2.0**j))
        assert np.array_equal(scaled, x * x.dtype.type(2.0 ** (j - i)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [5, 40, 200])
@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_extreme_sizes(rng, n, dtype, precision):
    """Entries and right-hand sides near both ends of the range, where x fits into it."""
    big = 1e300 if roundoff(dtype) < 1e-10 else 1e34
    g, h = normal(rng, (n, n), dtype), normal(rng, (n, 2), dtype)
    for size_a, size_b in [(big, big), (1 / big, 1 / big), (1, big), (1, 1 / big), (1 / big, 1)]:
        a, b = g * a_type(dtype, size_a), h * a_type(dtype, size_b)
        x = solve(a, b, precision=precision)
        assert meets_the_test(a, x, b), (size_a, size_b)


def a_type(dtype, value):
    return np.dtype(dtype).type(value)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("n", [5, 40, 200])
def test_columns_of_every_size(rng, n, dtype):
    """A tiny right-hand side beside a huge one is solved as well as alone."""
    a, b = normal(rng, (n, n), dtype), normal(rng, (n, 5), dtype)
    b *= np.array([1e300, 1e-300, 1.0, 0.0, 1e-10])
    x = solve(a, b)
    assert meets_the_test(a, x, b)
    assert not x[:, 3].any()
