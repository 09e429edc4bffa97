"""solve: SciPy's shapes, dtypes, exceptions and warnings, and the promise on every matrix."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import scipy
import scipy.linalg

import mplinalg
from mplinalg import LinAlgError, LinAlgWarning, solve
from mplinalg.testing import backward_error, forward_error, gallery

FINITE = [name for name in gallery.names() if gallery.facts(name).finite]
DTYPES = ["float32", "float64", "complex64", "complex128"]
PRECISIONS = ["auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"]
METHODS = ["auto", "classical", "gmres"]
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
like_scipy = pytest.mark.skipif(SCIPY < (1, 17), reason="the oracle is SciPy 1.17 or later")


def roundoff(dtype):
    return np.finfo(dtype).eps / 2


def meets_the_test(a, x, b):
    """The normwise backward error of each column is within sqrt(n) u."""
    n, u = max(a.shape[-1], 4), roundoff(x.dtype)
    return bool(np.all(backward_error(a, x, b) <= np.sqrt(n) * u))


def outcome(function, *args, **keywords):
    """("ok" | "warns" | the exception, x); any warning but LinAlgWarning is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", scipy.linalg.LinAlgWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # SciPy's, for exotic dtypes
        try:
            x = function(*args, **keywords)
        except scipy.linalg.LinAlgError:
            return "LinAlgError", None
        except Exception as error:
            return type(error).__name__, None
    return ("warns" if caught else "ok"), x


def normal(rng, shape, dtype=float):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def built(name, n, dtype):
    try:
        return gallery.matrix(name, n, dtype)
    except ValueError:
        pytest.skip(f"{name} does not exist for {n=}, {dtype}")


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


# -- against SciPy -------------------------------------------------------------------------------


# SciPy gives NaN (with a warning): Gaussian elimination grows past the range of single precision.
# QR does not, and the answer meets the test.
BETTER = {("gfpp", 260, "float32"), ("gfpp", 260, "complex64")}
# Singular for every practical purpose: whether rounding leaves a pivot of zero, and so an error, or
# one of 1e-20, and so a warning, depends on whether A or its transpose is factored.
ZERO_BY_ROUNDING = {("frank", 260, "float32")}


@like_scipy
@pytest.mark.parametrize("name", FINITE)
@pytest.mark.parametrize("n", [30, 260])
def test_the_outcome_is_scipys(name, n):
    """Where SciPy warns or raises we do, and nowhere else; where neither does, x is as accurate."""
    b = np.random.default_rng(1).standard_normal(n)
    for dtype in gallery.facts(name).dtypes:
        try:
            a = gallery.matrix(name, n, dtype)
        except ValueError:
            continue  # it overflows
        right = b.astype(a.real.dtype)
        with np.errstate(all="ignore"):
            want, x_scipy = outcome(scipy.linalg.solve, a, right)
        got, x = outcome(solve, a, right)
        if (name, n, dtype) in BETTER:
            assert want == "warns"
            assert not np.isfinite(x_scipy).all()
            want = "ok"
        if (name, n, dtype) in ZERO_BY_ROUNDING:
            assert want == "warns"
            assert got in ("warns", "LinAlgError")
            continue
        assert got == want, dtype
        if got == "ok":
            assert meets_the_test(a, x, right)


@like_scipy
@pytest.mark.parametrize("name", FINITE)
def test_the_forward_error_is_not_ten_times_scipys(name):
    """In single precision, where a double-precision answer is the truth."""
    n = 120
    for dtype, wide in [("float32", "float64"), ("complex64", "complex128")]:
        if dtype not in gallery.facts(name).dtypes:
            continue
        try:
            a = gallery.matrix(name, n, dtype)
        except ValueError:
            continue
        b = np.ones(n, dtype)
        with np.errstate(all="ignore"):
            want, x_scipy = outcome(scipy.linalg.solve, a, b)
        got, x = outcome(solve, a, b)
        if want == got == "ok":
            truth = solve(a.astype(wide), b.astype(wide))
            allowed = 10 * forward_error(x_scipy, truth) + np.sqrt(n) * roundoff(dtype)
            assert forward_error(x, truth) <= allowed, dtype


def graded(n):
    return np.logspace(0, -20, n)[:, None] * np.random.default_rng(0).standard_normal((n, n))


def nearly_singular(n):
    a = np.random.default_rng(0).standard_normal((n, n))
    a[-1] = a[0] + 2.0**-50 * a[1]
    return a


@pytest.mark.parametrize("n", [14, 40, 250])
@pytest.mark.parametrize(
    "make",
    [lambda n: gallery.matrix("hilbert", n), graded, lambda n: graded(n).T.copy(), nearly_singular],
    ids=["hilbert", "graded rows", "graded columns", "nearly singular"],
)
def test_ill_conditioned_warns(n, make):
    with pytest.warns(scipy.linalg.LinAlgWarning, match="ill-conditioned") as caught:
        x = solve(make(n), np.ones(n))
    assert len(caught) == 1
    assert isinstance(caught[0].message, LinAlgWarning)
    assert caught[0].filename == __file__
    assert np.isfinite(x).all()


# -- the promise ---------------------------------------------------------------------------------


def check_promise(a, b, precision, refine):
    n = len(a)
    got, answer = outcome(solve, a, b, precision=precision, refine=refine, full_output=True)
    assert got in ("ok", "warns", "LinAlgError"), (precision, refine)
    if got == "ok":
        x, report = answer
        assert meets_the_test(a, x, b), (precision, refine)
        assert report.status.is_success
        assert precision in ("auto", report.precision)
    elif got == "warns":
        # a warning is no excuse for a finite x that solves nothing like the system
        x, report = answer
        assert not report.status.is_success or report.precision != precision
    if got == "LinAlgError" or n < 2:
        assert not is_well_conditioned(a), (precision, refine)


def is_well_conditioned(a):
    with np.errstate(all="ignore"):
        return np.linalg.cond(a.astype(np.complex128)) < 1e3 and 1e-3 < np.abs(a).max() < 1e3


def usable(precision, dtype):
    return precision != "fp64" or roundoff(dtype) < 1e-10


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("name", FINITE)
def test_never_a_silent_failure(name, dtype):
    n = 30
    a = built(name, n, dtype)
    b = normal(np.random.default_rng(1), (n, 1), dtype)
    for precision, refine in [*itertools.product(PRECISIONS, METHODS[:2]), ("fp16", "gmres")]:
        if usable(precision, dtype):
            check_promise(a, b, precision, refine)


@pytest.mark.slow
@pytest.mark.parametrize("n", [40, 200])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FINITE)
def test_never_a_silent_failure_anywhere(name, dtype, n):
    a = built(name, n, dtype)
    b = normal(np.random.default_rng(2), (n, 2), dtype)
    for precision, refine in itertools.product(PRECISIONS, METHODS):
        if usable(precision, dtype):
            check_promise(a, b, precision, refine)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["randsvd", "hilbert", "spd_geometric", "minij", "gfpp"])
def test_without_fallback_nothing_climbs(name, precision):
    n = 60
    a, b = gallery.matrix(name, n), np.ones(n)
    for refine in METHODS:
        keywords = {"precision": precision, "refine": refine, "fallback": False}
        got, answer = outcome(solve, a, b, **keywords, full_output=True)
        if got == "LinAlgError":
            continue
        x, report = answer
        assert {rung.format for rung in report.rungs} == {report.precision}
        assert report.precision == precision or precision == "auto"
        assert meets_the_test(a, x, b) or got == "warns"


def test_without_fallback_failure_is_an_error():
    a = gallery.randsvd(60, 1e10)
    with pytest.raises(LinAlgError, match="fallback=False"):
        solve(a, np.ones(60), precision="fp16", fallback=False)


def test_a_pinned_precision_that_is_left_warns():
    a = gallery.randsvd(60, 1e10)
    with pytest.warns(LinAlgWarning, match="precision='fp16' could not deliver"):
        x, report = solve(a, np.ones(60), precision="fp16", full_output=True)
    assert report.precision != "fp16"
    assert report.rungs[0].format == "fp16"
    assert meets_the_test(a, x, np.ones(60))


@pytest.mark.parametrize("n", [40, 250])
def test_extended_residuals_give_a_forward_error_near_u(n):
    a = gallery.randsvd(n, 1e8, rng=3)
    x_true = np.random.default_rng(0).integers(-9, 10, n).astype(float)
    exact = np.round(a * 2.0**40) / 2.0**40  # so that b below is exact
    wide = exact.astype(np.longdouble)
    b = wide @ x_true.astype(np.longdouble)
    if not np.array_equal(b.astype(float).astype(np.longdouble), b):
        b = np.array([int(v * 2**40) for v in b], dtype=object) / 2**40
    b = b.astype(float)
    x = solve(exact, b, residual="extended")
    assert forward_error(x, x_true) <= 4 * roundoff(float)
    assert forward_error(solve(exact, b), x_true) <= 1e8 * n * roundoff(float)


def test_tol_stops_early():
    a, b = gallery.randsvd(60, 1e4), np.ones(60)
    loose = solve(a, b, precision="fp32", tol=1e-6, full_output=True)[1]
    tight = solve(a, b, precision="fp32", full_output=True)[1]
    assert loose.backward_error <= 1e-6
    assert loose.iterations < tight.iterations


def test_the_leading_parameters_are_scipys():
    import inspect

    ours = list(inspect.signature(solve).parameters.values())
    theirs = list(inspect.signature(scipy.linalg.solve).parameters.values())
    assert [p.name for p in ours[: len(theirs)]] == [p.name for p in theirs]
    assert [p.default for p in ours[: len(theirs)]][:6] == [p.default for p in theirs][:6]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


def test_errors_and_warnings_are_scipys():
    assert issubclass(mplinalg.LinAlgError, scipy.linalg.LinAlgError)
    assert issubclass(mplinalg.LinAlgWarning, scipy.linalg.LinAlgWarning)
