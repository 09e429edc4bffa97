"""The measures agree with exact arithmetic, for numbers of any size, and never trust a NaN."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.testing import backward_error, componentwise_backward_error, forward_error, gallery

from .drawn import drawn, dtype

__all__ = ["dtype"]  # a fixture

mpmath = pytest.importorskip("mpmath")
BACKWARD = [backward_error, componentwise_backward_error]
# Bits that hold every sum of products of float64 numbers exactly.
EXACT = 5000


def exactly(array):
    convert = mpmath.mpc if np.iscomplexobj(array) else mpmath.mpf
    return np.vectorize(lambda entry: convert(entry), otypes=[object])(array)


def exact_parts(a, x, b):
    """|r|, |A|, |x| and |b| in exact arithmetic."""
    a, x, b = exactly(a), exactly(x), exactly(b)
    return [np.vectorize(abs, otypes=[object])(z) for z in (b - a @ x, a, x, b)]


def exact_backward_error(a, x, b):
    with mpmath.workprec(EXACT):
        r, a, x, b = exact_parts(a, x, b)
        return float(max(r) / (max(a.sum(axis=1)) * max(x) + max(b)))


def exact_componentwise_backward_error(a, x, b):
    with mpmath.workprec(EXACT):
        r, a, x, b = exact_parts(a, x, b)
        return float(max(ri / di for ri, di in zip(r, a @ x + b, strict=True) if di))


ORACLES = {
    backward_error: exact_backward_error,
    componentwise_backward_error: exact_componentwise_backward_error,
}


# -- backward errors -----------------------------------------------------------------------------


@pytest.mark.parametrize("measure", BACKWARD)
@pytest.mark.parametrize("n", [1, 2, 3, 8, 37])
def test_backward_errors_agree_with_exact_arithmetic(measure, n, dtype):
    a, b = drawn(n, n, n, dtype=dtype), drawn(n + 1, n, dtype=dtype)
    x = np.linalg.solve(a, b)
    got = measure(a, x, b)
    assert isinstance(got, float)
    assert got == pytest.approx(ORACLES[measure](a, x, b), rel=1e-12, abs=0)


@pytest.mark.parametrize("measure", BACKWARD)
def test_an_error_far_below_the_unit_roundoff_is_measured(measure, dtype):
    # In integers A x = b exactly; one more unknown of 2^-80 in the first equation is the error.
    a = gallery.matrix("singular_integer", 9, dtype)
    a[:, 8] = 0
    x = np.arange(1.0, 10)
    b = a[:, :8] @ x[:8]
    a[0, 8], x[8] = 1.0, 2.0**-80
    assert measure(a, x, b) == pytest.approx(ORACLES[measure](a, x, b), rel=1e-12, abs=0)
    assert 0 < measure(a, x, b) < 1e-22


@pytest.mark.parametrize("measure", BACKWARD)
def test_the_best_float64_solution_is_told_from_its_neighbours(measure):
    a = gallery.randsvd(12, 1e10, "geometric")
    b = drawn(1, 12)
    with mpmath.workdps(60):
        x = np.array([float(xi) for xi in mpmath.lu_solve(mpmath.matrix(a), mpmath.matrix(b))])
    for candidate in (x, np.nextafter(x, np.inf), x * (1 + 2**-40)):
        expected = ORACLES[measure](a, candidate, b)
        assert measure(a, candidate, b) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("measure", BACKWARD)
@pytest.mark.parametrize(
    ("scale_a", "scale_x", "scale_b"),
    [
        (1e300, 1e300, 1e300),
        (1e-300, 1e-300, 1e-300),
        (1e-300, 1e-300, 0.0),
        (1e300, 1e-300, 1.0),
        (1e-300, 1e300, 1.0),
        (1.0, 1e-310, 1e-310),
        (1.7e308, 1.0, 1.7e308),
    ],
)
def test_backward_errors_of_huge_and_tiny_numbers(measure, scale_a, scale_x, scale_b, dtype):
    rng = np.random.default_rng(4)
    turn = (
        np.exp(1j * rng.uniform(0, 6, (3, 5, 5))) if dtype == "complex128" else np.ones((3, 5, 5))
    )
    a = scale_a * rng.uniform(-0.7, 0.7, (5, 5)) * turn[0]
    x = scale_x * rng.uniform(-0.7, 0.7, 5) * turn[1, 0]
    b = scale_b * rng.uniform(-0.7, 0.7, 5) * turn[2, 0]
    expected = ORACLES[measure](a, x, b)
    assert measure(a, x, b) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("measure", BACKWARD)
@pytest.mark.parametrize("seed", range(5))
def test_backward_errors_when_every_entry_has_its_own_size(measure, seed, dtype):
    a = gallery.matrix("badly_scaled", 6, dtype, rng=seed)
    rng = np.random.default_rng(seed)
    x = drawn(seed, 6) * 10.0 ** rng.uniform(-300, 300, 6)
    b = drawn(seed + 1, 6) * 10.0 ** rng.uniform(-300, 300, 6)
    expected = ORACLES[measure](a, x, b)
    assert measure(a, x, b) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("measure", BACKWARD)
def test_scaling_the_system_changes_nothing(measure, dtype):
    a, b = drawn(0, 6, 6, dtype=dtype), drawn(1, 6, dtype=dtype)
    x = np.linalg.solve(a, b)
    for k in (-1000, -300, 300, 1000):
        c = 2.0**k
        assert measure(c * a, x, c * b) == measure(a, x, b)
        assert measure(a, c * x, c * b) == measure(a, x, b)


@pytest.mark.parametrize("turn", range(6))
def test_row_and_column_scaling_leave_the_componentwise_error(turn):
    a, b = drawn(0, 6, 6), drawn(1, 6)
    x = np.linalg.solve(a, b)
    rows = 2.0 ** np.roll([-900, 900, 0, 100, -50, 7], turn)
    columns = 2.0 ** np.array([9, 60, -70, 0, 1, 2])
    scaled = componentwise_backward_error(rows[:, None] * a * columns, x / columns, rows * b)
    assert scaled == componentwise_backward_error(a, x, b)


@pytest.mark.parametrize("measure", BACKWARD)
def test_zeros(measure):
    zero = np.zeros(3)
    assert measure(np.eye(3), zero, zero) == 0
    assert measure(np.zeros((3, 3)), zero, zero) == 0
    assert measure(np.zeros((3, 3)), np.ones(3), zero) == 0
    assert measure(np.eye(3), zero, np.ones(3)) == 1
    assert measure(np.zeros((3, 3)), np.ones(3), np.ones(3)) == 1
    assert measure(np.eye(3), np.ones(3), np.ones(3)) == 0
    assert measure(np.zeros((0, 0)), np.zeros(0), np.zeros(0)) == 0
    assert measure(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((0, 2))).tolist() == [0, 0]
    assert measure(np.eye(3), np.zeros((3, 0)), np.zeros((3, 0))).shape == (0,)


@pytest.mark.parametrize("measure", BACKWARD)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, complex(0, np.nan)])
def test_what_is_not_finite_is_never_a_good_answer(measure, bad):
    dtype = type(bad)
    clean = np.eye(3, dtype=dtype), np.ones((3, 2), dtype=dtype), np.ones((3, 2), dtype=dtype)
    for argument in (1, 2):
        a, x, b = (z.copy() for z in clean)
        (a, x, b)[argument][1, 0] = bad
        error = measure(a, x, b)
        assert np.isnan(error[0])
        assert error[1] == 0
    a, x, b = clean
    a[0, 2] = bad
    assert np.isnan(measure(a, x, b)).all()
    assert np.isnan(measure(a, x[:, 0], b[:, 0]))


@pytest.mark.parametrize("measure", BACKWARD)
@pytest.mark.parametrize(
    ("a_batch", "x_batch", "b_batch"),
    [
        ((), (), ()),
        ((4,), (4,), (4,)),
        ((4,), (), ()),
        ((), (4,), ()),
        ((2, 1), (1, 3), (3,)),
        ((0,), (), ()),
    ],
)
def test_a_batch_is_a_loop(measure, a_batch, x_batch, b_batch, dtype):
    a = drawn(0, *a_batch, 5, 5, dtype=dtype)
    x, b = drawn(1, *x_batch, 5, 3, dtype=dtype), drawn(2, *b_batch, 5, 3, dtype=dtype)
    got = measure(a, x, b)
    batch = np.broadcast_shapes(a_batch, x_batch, b_batch)
    assert got.shape == (*batch, 3)
    a, x, b = (np.broadcast_to(z, batch + z.shape[-2:]) for z in (a, x, b))
    for member in np.ndindex(batch):
        for column in range(3):
            single = measure(a[member], x[member][:, column], b[member][:, column])
            assert got[(*member, column)] == single


@pytest.mark.parametrize("measure", BACKWARD)
def test_one_vector_for_a_batch_of_matrices(measure):
    a, b = drawn(0, 4, 5, 5), drawn(1, 5)
    x = np.stack([np.linalg.solve(member, b) for member in a])
    got = measure(a, x, b)
    assert got.tolist() == [measure(a[k], x[k], b) for k in range(4)]


@pytest.mark.parametrize("measure", BACKWARD)
def test_layout_and_dtype_of_the_arguments_do_not_matter(measure):
    a, x, b = drawn(0, 6, 6).astype("f4"), drawn(1, 6).astype("f2"), np.arange(6)
    expected = measure(a.astype(float), x.astype(float), b.astype(float))
    for z in (a, x, b):
        z.flags.writeable = False
    assert measure(np.asfortranarray(a), x, b) == expected
    assert measure(a[::-1, ::-1], x[::-1], b[::-1]) == expected
    assert measure(a.tolist(), x.tolist(), b.tolist()) == expected
    assert measure(a.astype(complex), x, b) == expected


@pytest.mark.parametrize("measure", BACKWARD)
def test_blocks_of_rows_do_not_matter(measure, dtype, monkeypatch):
    a, x, b = (drawn(k, *shape, dtype=dtype) for k, shape in enumerate([(7, 5), (5,), (7,)]))
    expected = measure(a, x, b)
    for entries in (1, 10, 34):
        monkeypatch.setattr("mplinalg.testing._residual.BLOCK_ENTRIES", entries)
        assert measure(a, x, b) == expected


@pytest.mark.parametrize("measure", BACKWARD)
def test_rectangular_systems(measure):
    a, x = drawn(0, 7, 3), drawn(1, 3)
    b = a @ x
    assert measure(a, x, b) == pytest.approx(ORACLES[measure](a, x, b), rel=1e-12, abs=0)


@pytest.mark.parametrize("measure", BACKWARD)
@pytest.mark.parametrize(
    ("a", "x", "b"),
    [
        ((3, 3), (4,), (3,)),
        ((3, 3), (3,), (4,)),
        ((3, 3), (3, 1), (3,)),
        ((3, 3), (3,), (3, 1)),
        ((3, 3), (3, 3), (3,)),
        ((3, 3), (3, 2), (3, 1)),
        ((3,), (3,), (3,)),
        ((3, 3), (), ()),
    ],
)
def test_shapes_that_do_not_fit_are_shown(measure, a, x, b):
    with pytest.raises(ValueError) as caught:
        measure(np.ones(a), np.ones(x), np.ones(b))
    for label, shape in (("a", a), ("x", x), ("b", b)):
        assert f"{label}.shape={shape}" in str(caught.value)


@pytest.mark.parametrize("measure", BACKWARD)
def test_batches_that_do_not_broadcast_are_shown(measure):
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\)"):
        measure(np.ones((2, 3, 3)), np.ones((3, 3, 1)), np.ones((3, 1)))


@pytest.mark.parametrize("wide", [np.ones(3, dtype=object), ["a", "b", "c"]])
def test_dtypes_that_float64_does_not_hold_are_refused(wide):
    with pytest.raises(TypeError, match="x has dtype"):
        backward_error(np.eye(3), wide, np.ones(3))


@pytest.mark.skipif(np.finfo(np.longdouble).eps == np.finfo(float).eps, reason="not wider here")
def test_long_double_is_not_rounded_silently():
    with pytest.raises(TypeError, match="x has dtype"):
        backward_error(np.eye(3), np.ones(3, dtype=np.longdouble), np.ones(3))


# -- forward error -------------------------------------------------------------------------------


def test_forward_error_of_vectors_and_columns(dtype):
    x_true = drawn(0, 5, 3, dtype=dtype)
    x = x_true.copy()
    x[2, 1] += 0.5
    expected = 0.5 / np.abs(x_true[:, 1]).max()
    np.testing.assert_allclose(forward_error(x, x_true), [0, expected, 0])
    assert forward_error(x[:, 1], x_true[:, 1]) == pytest.approx(expected)
    assert forward_error(np.stack([x, x_true]), x_true).shape == (2, 3)


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e300, 1e308])
def test_forward_error_neither_overflows_nor_underflows(scale):
    x_true = np.array([scale, 0.0])
    assert forward_error(-x_true, x_true) == 2.0
    assert forward_error(x_true * 1.5, x_true) == pytest.approx(0.5, rel=1e-3)
    assert forward_error(x_true * (1 + 1j) / 2, x_true) == pytest.approx(np.sqrt(0.5), rel=1e-3)


def test_forward_error_of_very_different_sizes():
    assert forward_error([1e300], [1e-8]) == pytest.approx(1e308)
    assert forward_error([1e300], [1e-300]) == np.inf
    assert forward_error([1e-300], [1e300]) == 1


def test_forward_error_of_zeros_and_not_finite():
    assert forward_error([0.0], [0.0]) == 0
    assert forward_error([1.0], [0.0]) == np.inf
    assert forward_error([], []) == 0
    for bad in (np.nan, np.inf):
        assert np.isnan(forward_error([bad, 1.0], [1.0, 1.0]))
        assert np.isnan(forward_error([1.0, 1.0], [bad, 1.0]))


@pytest.mark.parametrize(
    ("x", "x_true"), [((3,), (4,)), ((3,), (3, 1)), ((3, 2), (3, 1)), ((), ())]
)
def test_forward_error_shows_shapes_that_do_not_fit(x, x_true):
    with pytest.raises(ValueError) as caught:
        forward_error(np.ones(x), np.ones(x_true))
    assert str(x) in str(caught.value)
    assert str(x_true) in str(caught.value)
