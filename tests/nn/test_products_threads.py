"""Products of layers on two threads: which are divided, and that nobody sees it but by the time."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.kernels.cpu import partner, strips
from mplinalg.kernels.cpu.batched.blocks import LEAST_ROWS
from mplinalg.nn import product
from mplinalg.ops import numpy_nn_products as products

SIZES = [(100, 784, 528), (528, 100, 784), (1000, 784, 64), (64, 300, 900), (900, 128, 150)]
FLAGS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.fixture
def divided(monkeypatch):
    """Sizes of the products that were divided."""
    sizes, multiply = [], partner.multiply

    def noted(a, b, c, *args, **options):
        sizes.append((*a.shape, b.shape[1]))
        multiply(a, b, c, *args, **options)

    monkeypatch.setattr(partner, "multiply", noted)
    return sizes


@pytest.fixture
def two(monkeypatch):
    """Two threads, as far as products know, which follow each other."""
    monkeypatch.setattr("mplinalg.kernels.cpu.batched.threads.blas_threads", lambda: 2)
    with products.in_a_row():
        yield


@pytest.fixture
def small(monkeypatch):
    """No product is too small for its number of multiplications."""
    monkeypatch.setattr(products, "WORTHWHILE_FROM", 0)
    products.cut.cache_clear()
    yield
    products.cut.cache_clear()


def test_only_on_two_threads(rng, threads, divided):
    a, b = rng.random((100, 784), np.float32), rng.random((784, 528), np.float32)
    with products.in_a_row():
        assert np.allclose(product(a, b), np.matmul(a, b), rtol=1e-5)
    assert divided == ([(100, 784, 528)] if threads == 2 else [])


def test_only_in_training(rng, monkeypatch, divided):
    """Not what is computed now and then, nor by another thread."""
    monkeypatch.setattr("mplinalg.kernels.cpu.batched.threads.blas_threads", lambda: 2)
    x, y = rng.random((100, 784), np.float32), rng.integers(0, 528, 100)
    net = nn.Linear(784, 528, rng=1)
    model = nn.Model(net).compile(nn.optim.SGD(net.parameters(), lr=0.1), "cross_entropy")
    weights = net.weight.data.T
    assert np.array_equal(product(x, weights), x @ weights)
    model.predict(x)
    model.evaluate(x, y)
    assert divided == []
    model.fit(x, y, epochs=1, batch_size=100)
    assert sorted(divided) == [(100, 784, 528), (528, 100, 784)]
    model.predict(x)
    assert len(divided) == 2
    with products.in_a_row():
        with products.in_a_row():
            pass
        side = threading.Thread(target=product, args=(x, weights))
        side.start()
        side.join()
        assert len(divided) == 2
        product(x, weights)
    product(x, weights)
    assert len(divided) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("transa", "transb"), FLAGS)
def test_as_accurate_as_blas(rng, two, divided, transa, transb, dtype):
    for m, k, n in SIZES:
        a = rng.standard_normal((k, m) if transa else (m, k)).astype(dtype)
        b = rng.standard_normal((n, k) if transb else (k, n)).astype(dtype)
        c = product(a, b, transa=transa, transb=transb)
        wide_a, wide_b = (x.astype(np.longdouble) for x in (a, b))
        wide_a, wide_b = wide_a.T if transa else wide_a, wide_b.T if transb else wide_b
        some = rng.integers(0, m, 5)  # rows; all of them would take long
        error = abs(c[some] - wide_a[some] @ wide_b)
        bound = 2 * k * np.finfo(dtype).eps * (abs(wide_a[some]) @ abs(wide_b))
        assert c.dtype == dtype
        assert c.flags.c_contiguous
        assert (error <= bound).all()
        want = (a.T if transa else a) @ (b.T if transb else b)
        assert abs(c - want).max() <= 8 * np.finfo(dtype).eps * k
    assert divided == [size for size in SIZES if products.cut(*size, c.itemsize)[0]]
    assert len(divided) >= 2


def test_what_is_left_to_blas(rng, two, divided):
    for m, k, n in ((1, 5000, 5000), (10, 100, 528), (100, 400, 120), (600, 600, 600), (3, 0, 4)):
        a, b = rng.random((m, k), np.float32), rng.random((k, n), np.float32)
        assert np.array_equal(product(a, b), a @ b)
    a, b = rng.random((2, 100, 784), np.float32), rng.random((2, 784, 528), np.float32)
    assert np.array_equal(product(a, b), a @ b)
    assert divided == []


def test_other_arrays_are_numpys(rng, two, divided):
    a, b = rng.random((100, 784), np.float32), rng.random((784, 528), np.float32)
    want = a @ b
    assert np.array_equal(products.matmul(a.astype(">f4"), b.astype(">f4")), want)
    assert type(products.matmul(a.view(np.matrix), b)) is np.matrix
    ints = products.matmul(a.astype(np.int32), b.astype(np.int32))
    assert ints.dtype == np.int32
    mixed = products.matmul(a, b.astype(float))
    assert mixed.dtype == float
    assert divided == []


def test_any_strides(rng, two, divided):
    a, b = rng.random((100, 784), np.float32), rng.random((784, 528), np.float32)
    want = product(a, b)
    wide = np.zeros((784, 3 * 528), np.float32)
    wide[::-1, ::3] = b
    packed = np.zeros((100, 784), np.dtype([("x", "u1"), ("y", "f4")]))
    packed["y"] = a
    for x in (a, np.asfortranarray(a), a[::-1].copy()[::-1], packed["y"]):
        for y in (b, np.asfortranarray(b), wide[::-1, ::3]):
            x.flags.writeable = y.flags.writeable = False
            assert np.array_equal(product(x, y), want)
    row = np.broadcast_to(a[:1], a.shape)
    assert np.array_equal(product(row, b)[7], want[0])
    assert len(divided) == 1 + 3 * 4 + 1


@pytest.mark.parametrize(("m", "k", "n"), [(100, 784, 528), (1000, 784, 64)])
def test_nan_and_infinity_stay_where_numpy_has_them(rng, two, divided, m, k, n):
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    a[3, 5], a[-1, -1], a[7] = np.nan, np.inf, 0
    b[:, 2], b[0, -1], b[9, 9] = -np.inf, np.nan, 0
    b[5, 40] = np.inf
    with np.errstate(invalid="ignore"):
        for dtype in (np.float32, float):
            x, y = a.astype(dtype), b.astype(dtype)
            found, want = product(x, y), x @ y
            assert np.array_equal(np.isnan(found), np.isnan(want))
            is_infinite = np.isinf(want)
            assert np.array_equal(np.isinf(found), is_infinite)
            assert np.array_equal(found[is_infinite], want[is_infinite])
    assert len(divided) >= 1


def test_the_same_bits_while_others_multiply(rng, two, divided):
    a, b = rng.random((100, 784), np.float32), rng.random((784, 528), np.float32)
    want, ended, wrong = product(a, b), threading.Event(), []

    def others():
        with products.in_a_row():
            while not ended.is_set():
                wrong.append(not np.array_equal(product(a, b), want))

    side = threading.Thread(target=others)
    side.start()
    try:
        assert all(np.array_equal(product(a, b), want) for _ in range(100))
    finally:
        ended.set()
        side.join()
    assert wrong
    assert not any(wrong)
    assert len(divided) == 101 + len(wrong)


def test_strips_are_large_enough(small):
    """Of all sizes that are divided, and each strip's part of B fits."""
    grain = strips.GRAIN
    for itemsize in (4, 8):
        for m in (64, 65, 100, 700, 5000):
            for n in (64, 67, 95, 96, 383, 384, 385, 785, 5000):
                for k in (64, 100, 784, 3000):
                    parts, by_columns = products.cut(m, k, n, itemsize)
                    if not parts:
                        continue
                    size = n if by_columns else m
                    grains = -(-size // grain)
                    ends = [min(grains * i // parts * grain, size) for i in range(parts + 1)]
                    widths = np.diff(ends)
                    assert ends[-1] == size
                    assert widths.min() > (64 // itemsize if by_columns else LEAST_ROWS - 1)
                    assert partner.fits(k, int(widths.max()) if by_columns else n, itemsize)
    assert products.cut(64, 64, 64, 4) == (1, True)
    assert products.cut(100, 528, 528, 4) == (8, True)
    assert products.cut(63, 64, 64, 4) == (0, False)


def test_training_has_the_same_bits_twice(rng, two, divided):
    """Interrupted as well: whether a product is divided does not depend on how many there were."""
    x, y = rng.random((300, 784), np.float32), rng.integers(0, 10, 300)

    def trained():
        net = nn.Sequential(nn.Linear(784, 300, rng=1), nn.ReLU(), nn.Linear(300, 10, rng=2))
        model = nn.Model(net).compile(nn.optim.SGD(net.parameters(), lr=0.1), "cross_entropy")
        model.fit(x, y, epochs=2, batch_size=100, shuffle=False)
        return net.state_dict()

    first, second = trained(), trained()
    assert divided
    assert all(np.array_equal(first[name], second[name]) for name in first)
