"""Lanes: straight vector code computes what NumPy does, for each member by itself."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import scipy.linalg
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from mplinalg.kernels.cpu.batched import straight
from mplinalg.kernels.cpu.batched.lane_tiles import integer, reals_of
from mplinalg.kernels.cpu.batched.packed import read_packed, write_packed
from mplinalg.kernels.cpu.lanes import ComplexLanes, where, width_of

REALS = ["float32", "float64"]
DTYPES = [*REALS, "complex64", "complex128"]


def width(dtype):
    return 64 // np.dtype(dtype).type(0).real.itemsize


def apply(function, count, outputs):
    """Compile ``function(numbers) -> numbers`` for one register's width of members.

    Members are rows of arrays of `count` numbers, and of `outputs` in what is written.
    """

    @intrinsic
    def operation(typingctx, x, y):
        def codegen(context, builder, signature, values):
            is_complex = isinstance(signature.args[0].dtype, types.Complex)
            source, target = (
                reals_of(context, builder, kind, value)
                for kind, value in zip(signature.args, values, strict=True)
            )
            write_packed(builder, target, function(read_packed(builder, source, count, is_complex)))
            return context.get_dummy_value()

        return types.void(x, y), codegen

    @numba.njit
    def run(x, y):
        operation(x, y)

    def call(x, dtype=None):
        y = np.zeros((len(x), outputs), x.dtype if dtype is None else dtype)
        run(x.reshape(-1), y.reshape(-1))
        return y

    return call


def normal(rng, shape, dtype):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return a.astype(dtype)


# -- arithmetic ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", REALS)
def test_real_arithmetic(rng, dtype):
    def function(numbers):
        x, y = numbers
        return [
            x + y, x - y, x * y, x / y, x + 2, 2 - x, 3 * x, 1 / x, -x, abs(x), abs(x).sqrt(),
            x.real, x.conj(), x.magnitude(), x.squared(), x.inverse(), x.constant(0.1),
        ]  # fmt: skip

    x = normal(rng, (width(dtype), 2), dtype)
    a, b = x.T
    one, tenth = np.dtype(dtype).type(1), np.dtype(dtype).type(0.1)
    want = [
        a + b, a - b, a * b, a / b, a + 2, 2 - a, 3 * a, one / a, -a, abs(a), np.sqrt(abs(a)),
        a, a, abs(a), a * a, one / a, np.full_like(a, tenth),
    ]  # fmt: skip
    assert np.array_equal(apply(function, 2, len(want))(x), np.stack(want, axis=1))


@pytest.mark.parametrize("dtype", DTYPES[2:])
def test_complex_arithmetic(rng, dtype):
    def function(numbers):
        x, y = numbers
        return [x + y, x - y, x * y, x * y.real, x * 3, -x, x.conj(), x.inverse(), x.constant(2j)]

    x = normal(rng, (width(dtype), 2), dtype)
    a, b = x.T
    want = np.stack(
        [a + b, a - b, a * b, a * b.real, a * 3, -a, a.conj(), 1 / a, np.full_like(a, 2j)], axis=1
    )
    found = apply(function, 2, 9)(x)
    u = np.finfo(dtype).eps / 2
    assert np.all(abs(found - want) <= 4 * u * abs(want))

    sizes = apply(lambda n: [n[0].magnitude(), n[0].squared()], 2, 2)(x, a.real.dtype)
    assert np.all(abs(sizes[:, 0] - (abs(a.real) + abs(a.imag))) <= 2 * u * sizes[:, 0])
    assert np.all(abs(sizes[:, 1] - abs(a) ** 2) <= 8 * u * sizes[:, 1])


@pytest.mark.parametrize("dtype", DTYPES[2:])
def test_an_inverse_does_not_overflow(dtype):
    """Smith's formula: squares of these numbers are out of range."""
    largest = float(np.finfo(dtype).max)
    x = np.zeros((width(dtype), 1), dtype)
    x[:4, 0] = [largest / 2 + 1e-3j, 1e-3 + largest / 2 * 1j, largest / 4 * (1 + 1j), 4 / largest]
    x[4:] = 1
    found = apply(lambda n: [n[0].inverse()], 1, 1)(x)
    with np.errstate(under="ignore"):
        want = 1 / x.astype("clongdouble")
    assert np.all(abs(found - want) <= 8 * np.finfo(dtype).eps * abs(want))


def test_comparisons_are_masks_and_nan_is_never_larger():
    rows = [[1, 2], [2, 1], [1, 1], [np.nan, 1], [1, np.nan], [np.inf, 1], [-0.0, 0.0], [-1, 1]]
    x = np.array(rows)

    def function(numbers):
        a, b = numbers
        one, zero = a.constant(1), a.constant(0)
        masks = [
            a > b, a < b, a >= b, a <= b, a.equals(b), (a > b) | (a < b), (a >= b) & (a <= b),
            ~(a > b), a > 1,
        ]  # fmt: skip
        return [where(mask, one, zero) for mask in masks]

    a, b = x.T
    want = [a > b, a < b, a >= b, a <= b, a == b, (a > b) | (a < b), a == b, ~(a > b), a > 1]
    assert np.array_equal(apply(function, 2, 9)(x), np.stack(want, axis=1))


def test_where_chooses_complex_numbers(rng):
    x = normal(rng, (8, 2), "complex128")
    found = apply(lambda n: [where(n[0].real > n[1].real, n[0], n[1])], 2, 1)(x)
    assert np.array_equal(found[:, 0], np.where(x[:, 0].real > x[:, 1].real, x[:, 0], x[:, 1]))


def test_a_member_has_no_influence_on_others(rng):
    x = normal(rng, (8, 3), "float64")
    run = apply(lambda n: [n[0] / n[1] + n[2], (n[0] * n[1]).sqrt()], 3, 2)
    want = run(x)
    for k, bad in enumerate((np.nan, np.inf, -np.inf, 0.0, 1e308)):
        spoilt = x.copy()
        spoilt[k] = bad
        assert np.array_equal(np.delete(run(spoilt), k, 0), np.delete(want, k, 0), equal_nan=True)


# -- between memory and registers ----------------------------------------------------------------


COUNTS = {
    "float32": [1, 4, 6, 7, 9, 16, 17],
    "float64": [1, 2, 3, 4, 5, 7, 8, 13],
    "complex64": [1, 3, 9],
    "complex128": [1, 2, 5],
}


@pytest.mark.parametrize(
    ("dtype", "count"), [(dtype, count) for dtype in DTYPES for count in COUNTS[dtype]]
)
def test_numbers_find_their_lanes_and_back(dtype, count):
    """Each number, in its lane, is moved on by one place: all others would show."""
    members = width(dtype)
    x = np.arange(1, members * count + 1).reshape(members, count).astype(dtype)
    if np.dtype(dtype).kind == "c":
        x = x - 1j * x
    run = apply(lambda numbers: [*numbers[1:], numbers[0]], count, count)
    assert np.array_equal(run(x), np.roll(x, -1, axis=1))


@pytest.mark.parametrize(
    ("dtype", "count"), [("float32", 6), ("float32", 11), ("float64", 3), ("float64", 5)]
)
def test_nothing_is_read_or_written_beyond_the_members(dtype, count):
    """The tile lies between numbers that would show, and must be kept."""
    members = width(dtype)
    room = np.full(members * (count + 2 * 16), np.nan, dtype)
    inside = room[16 * members : 16 * members + members * count]
    inside[:] = np.arange(inside.size)
    out = np.full_like(room, -7)

    @intrinsic
    def operation(typingctx, x, y):
        def codegen(context, builder, signature, values):
            start = integer(16 * members)
            source, target = (
                builder.gep(reals_of(context, builder, kind, value), [start])
                for kind, value in zip(signature.args, values, strict=True)
            )
            write_packed(builder, target, read_packed(builder, source, count, False))
            return context.get_dummy_value()

        return types.void(x, y), codegen

    numba.njit(lambda x, y: operation(x, y))(room, out)
    written = slice(16 * members, 16 * members + inside.size)
    assert np.array_equal(out[written], inside)
    assert np.all(np.delete(out, written) == -7)


def test_widths():
    assert width_of(ir.DoubleType()) == 8
    assert width_of(ir.FloatType()) == 16


# -- elimination in registers --------------------------------------------------------------------


def square(numbers, n):
    return [numbers[i * n : (i + 1) * n] for i in range(n)]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_lu_keeps_its_rows_in_order(rng, dtype):
    """L, U and the rows exchanged are LAPACK's; of equal candidates the first is the pivot."""
    n = 4
    x = normal(rng, (8, n * n), dtype)
    x[0] = np.tile([1.0, -1.0, 1.0, 1.0], n)  # ties, and then singular
    x[1] = np.eye(n).ravel()

    def function(numbers):
        a = square(list(numbers), n)
        _, rows = straight.lu(a, [], [], keep=True)
        flat = [number for row in a for number in row]
        if isinstance(flat[0], ComplexLanes):
            rows = [ComplexLanes(row, row.constant(0)) for row in rows]
        return flat + rows

    found = apply(function, n * n, n * n + n)(x)
    for k in range(8):
        (getrf,) = scipy.linalg.get_lapack_funcs(["getrf"], [x])
        lu, piv, _ = getrf(x[k].reshape(n, n))
        assert np.array_equal(found[k, n * n :].real, piv)
        assert np.allclose(found[k, : n * n].reshape(n, n), lu, rtol=0, atol=1e-13)


def test_random_right_hand_sides():
    first, second = straight.probes(2000, is_single=True)
    assert straight.probes(2000, is_single=False) == [first]
    numbers = np.array([first, second])
    assert np.all((abs(numbers) >= 0.5) & (abs(numbers) <= 1.0))
    assert len(set(numbers.ravel())) == numbers.size
    # of both signs, uniform in size, and independent, within five standard deviations
    assert np.all(abs(np.sign(numbers).mean(axis=1)) < 5 / np.sqrt(2000))
    assert np.all(abs(abs(numbers).mean(axis=1) - 0.75) < 5 * 0.5 / np.sqrt(12 * 2000))
    assert abs(np.corrcoef(numbers)[0, 1]) < 5 / np.sqrt(2000)
