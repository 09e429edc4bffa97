"""batched_qr.cu: Householder QR of many small matrices, a lane to a column."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue import BY_NAME
from mplinalg.kernels.cuda.catalogue_batched import QR_ORDERS

from .batched_systems import BATCHES, DTYPES, blank, draw, reals, strides, u, wide
from .module import LaunchError
from .mutation import barriers

FILE = "batched_qr.cu"
SHAPES = [(1, 1), (3, 2), (2, 3), (8, 8), (9, 4), (17, 17), (31, 32), (32, 5), (32, 31)]


def qr(module, a, *, mode="reduced", order=None, **options):
    """Q (None with mode "r"), R, info"""
    batch, m, n = a.shape
    dtype = a.dtype.char
    kind, parts = {"f": "float", "d": "double"}[dtype.lower()], 2 if dtype in "FD" else 1
    order = order or min(o for o in QR_ORDERS[dtype] if o >= max(m, n))
    kernel = BY_NAME[f"batched_qr<{kind}, {parts}, {order}>"]
    rank = min(m, n)
    columns, rows = {"reduced": (rank, rank), "complete": (m, m), "r": (0, rank)}[mode]
    q = None if mode == "r" else blank((batch, m, columns), dtype)
    r, info = blank((batch, rows, n), dtype), blank(batch, np.int32)
    if batch:
        module[kernel.name](
            -(-batch // (4 * (32 // order))), kernel.threads,
            [batch, m, n, reals(a), *strides(a), columns, reals(q), rows, reals(r), info],
            shared=kernel.dynamic, uninitialised=[8, 10, 11], **options,
        )  # fmt: skip
    return q, r, info


def fits(dtype, shape):
    return max(shape) <= QR_ORDERS[dtype][-1]


def assert_factors(a, q, r):
    """Within the bounds of min(m, n) reflections, column by column; R as LAPACK's."""
    m, n = a.shape[1:]
    a, q, r, unit = wide(a), wide(q), wide(r), u(a.dtype)
    size = np.linalg.norm(a, axis=1)
    assert (np.linalg.norm(a - q @ r, axis=1) <= 30 * max(m, n) * unit * size).all()
    identity = q.conj().swapaxes(1, 2) @ q - np.eye(q.shape[2])
    assert (abs(identity) <= 30 * max(m, n) * unit).all()
    assert not np.tril(r, -1).any()
    diagonal = r.diagonal(axis1=1, axis2=2)
    assert not diagonal.imag.any()
    if m > 1:  # a reflection of one real number is the identity
        expected = np.linalg.qr(a)[1].diagonal(axis1=1, axis2=2)
        np.testing.assert_array_equal(np.sign(diagonal.real), np.sign(expected.real))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_factors(compiled, rng, dtype, shape):
    if not fits(dtype, shape):
        shape = tuple(min(length, 16) for length in shape)
    a = draw(rng, dtype, 5, *shape)
    q, r, info = qr(compiled(FILE), a)
    assert not info.any()
    assert_factors(a, q, r)
    whole, taller, _ = qr(compiled(FILE), a, mode="complete")
    assert_factors(a, whole, taller)
    rank = min(shape)
    np.testing.assert_array_equal(whole[..., :rank], q)
    np.testing.assert_array_equal(taller[:, :rank], r)
    assert not taller[:, rank:].any()
    np.testing.assert_array_equal(qr(compiled(FILE), a, mode="r")[1], r)


@pytest.mark.parametrize("dtype", DTYPES)
def test_checked(compiled, rng, schedule, dtype):
    module = compiled(FILE, checked=True)
    for batch, shape in [(17, (7, 5)), (9, (5, 13)), (5, (20, 19))]:
        if not fits(dtype, shape):
            continue
        a = draw(rng, dtype, batch, *shape)
        q, r, info = qr(module, a, mode="complete", schedule=schedule)
        assert not info.any()
        assert_factors(a, q, r)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scales(compiled, rng, dtype):
    """Columns near either end of the range have as good a factor as others."""
    power = 100 if dtype in "fF" else 900
    a = draw(rng, dtype, 4, 7, 5)
    scales = np.ldexp(np.ones((), a.real.dtype), [power, 0, -power, power // 2, -power // 2])
    q, r, info = qr(compiled(FILE), a)
    for factor in (scales, np.full(5, scales[0]), np.full(5, scales[2])):
        again, scaled, info = qr(compiled(FILE), a * factor)
        assert not info.any()
        # reflections do not depend on the scales of columns, but for powers of two
        np.testing.assert_array_equal(again, q)
        np.testing.assert_array_equal(scaled, r * factor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros(compiled, rng, dtype):
    """Zero columns, a zero member, members of low rank: Q is orthonormal all the same."""
    a = draw(rng, dtype, 4, 9, 6)
    a[0, :, 2] = 0
    a[1] = 0
    a[2, :, 3] = a[2, :, 1]
    a[3, 1:, 0] = 0
    for mode in ("reduced", "complete"):
        q, r, info = qr(compiled(FILE), a, mode=mode)
        assert not info.any()
        identity = wide(q).conj().swapaxes(1, 2) @ wide(q) - np.eye(q.shape[2])
        assert (abs(identity) <= 270 * u(dtype)).all()
        assert (abs(wide(q) @ wide(r) - wide(a)) <= 270 * u(dtype) * (abs(wide(a)).max() + 1)).all()


@pytest.mark.parametrize("dtype", ["d", "F"])
def test_layouts(compiled, rng, dtype):
    """And larger instances: the same, to the last bit."""
    a = draw(rng, dtype, 5, 7, 6)
    expected = qr(compiled(FILE), a)
    turned = np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2)
    spread = blank((10, 8, 9), dtype)[::2, 1:, 2:-1]
    spread[...] = a
    for given in (a, turned, spread):
        for order in QR_ORDERS[dtype]:
            found = qr(compiled(FILE, checked=True), given, order=order)
            for one, two in zip(expected, found, strict=True):
                np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("batch", BATCHES)
def test_batches(compiled, rng, batch):
    a = draw(rng, "d", batch, 5, 7)
    found = qr(compiled(FILE), a)
    for member in range(batch):
        alone = qr(compiled(FILE), a[member : member + 1])
        for one, two in zip(found, alone, strict=True):
            np.testing.assert_array_equal(one[member], two[0])


@pytest.mark.parametrize("mode", ["reduced", "complete", "r"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_failing_members(compiled, rng, dtype, mode):
    """What is not finite, and what overflows, is told; neighbours do not notice."""
    a = draw(rng, dtype, 7, 6, 4)
    good = qr(compiled(FILE), a, mode=mode)
    a[1, 5, 3], a[2, 0, 0], a[5] = np.nan, np.inf, np.finfo(dtype).max
    q, r, info = qr(compiled(FILE), a, mode=mode)
    assert info.tolist() == [0, 1, 1, 0, 0, 1, 0]
    for one, two in zip(good[:2], (q, r), strict=True):
        if one is not None:
            np.testing.assert_array_equal(one[info == 0], two[info == 0])


@pytest.mark.parametrize("edit", barriers(FILE))
def test_every_barrier_is_needed(broken, rng, edit):
    """Those of batched_rows.cuh: test_batched_lu.py."""
    module = broken(FILE, edit, "batched_qr<double, 1, 16>")
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        qr(module, draw(rng, "d", 2, 13, 11))
