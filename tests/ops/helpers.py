"""What the suites share: matrices in every layout, exact oracles, one error constant."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np

DTYPES = ["float32", "float64", "complex64", "complex128"]
SINGLE = ["float32", "complex64"]
LAYOUTS = ["F", "C", "F-view", "C-view"]
F_LIKE = ["F", "F-view"]
SQUARE = [0, 1, 2, 7, 37]
SHAPES = [(0, 0), (0, 3), (3, 0), (1, 1), (1, 5), (5, 1), (7, 7), (37, 5), (5, 37), (31, 31)]
NRHS = [0, 1, 2, 3, 5]
"""Both sides of every place where a backend may take another road."""


def unit_roundoff(dtype):
    return float(np.finfo(dtype).eps) / 2


def allowed(n, dtype):
    """30 n u: what a backward error, relative to the sizes of the operands, may amount to."""
    return 30 * max(n, 1) * unit_roundoff(dtype)


def is_complex(dtype):
    return np.dtype(dtype).kind == "c"


def real(dtype):
    return np.dtype(np.dtype(dtype).char.lower())


def draw(rng, shape, dtype):
    """Standard normal numbers."""
    x = rng.standard_normal(shape)
    if is_complex(dtype):
        x = x + 1j * rng.standard_normal(shape)
    return np.asarray(x, dtype)


def wide(x):
    """`x` in float64 or complex128."""
    return np.asarray(x).astype(np.complex128 if is_complex(np.asarray(x).dtype) else np.float64)


def cabs1(x):
    """|re| + |im| in float64."""
    x = wide(x)
    return np.abs(x.real) + np.abs(x.imag)


def op(a, trans):
    """op(A) of the flags N, T, C."""
    return {"N": a, "T": a.T, "C": a.conj().T}[trans]


def flags(dtype):
    return ["N", "T", "C"] if is_complex(dtype) else ["N", "T"]


def same_bits(x, y):
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def is_small(error, bound):
    """error <= bound everywhere (False for NaN)."""
    return bool(np.all(np.asarray(error) <= np.asarray(bound)))


def layouts(count):
    """Combinations of layouts for `count` operands, each layout at each place."""
    plain = itertools.product(["F", "C"], repeat=count)
    views = itertools.product(["F-view", "C-view"], repeat=count)
    return [*plain, *views]


class Placed:
    """A matrix on the device, alone or as a view into a larger array of huge numbers.

    A verb that reads outside its view is wrong by 1e30; one that writes there is found out by
    `assert_rest_untouched`.
    """

    def __init__(self, suite, x, layout="F"):
        order = layout[0]
        if layout.endswith("view"):
            m, n = x.shape
            self.window = (slice(2, 2 + m), slice(1, 1 + n))
            around = np.empty((m + 5, n + 3), x.dtype, order=order)
            around[...] = 1e30 * np.linspace(1, 2, around.size).reshape(around.shape)
            around[self.window] = x
        else:
            self.window = (slice(None), slice(None))
            around = np.array(x, order=order)
        self._suite = suite
        self._before = around.copy()
        self._all = suite.to_device(around)
        self.array = self._all[self.window]

    def host(self):
        """What is in the matrix now."""
        return self._suite.to_host(self._all)[self.window].copy()

    def assert_rest_untouched(self):
        after = self._suite.to_host(self._all).copy()
        after[self.window] = self._before[self.window]
        assert same_bits(after, self._before), "written outside the view"

    def assert_untouched(self):
        assert same_bits(self._suite.to_host(self._all).copy(), self._before), "input modified"


class Suite:
    """What a backend's tests supply.

    A subclass sets `ops`, and the two functions that carry NumPy arrays there and back. The first
    makes a new array of the same shape, dtype and strides.
    """

    ops = None

    @staticmethod
    def to_device(x):
        raise NotImplementedError

    @staticmethod
    def to_host(x):
        raise NotImplementedError

    def put(self, x, layout="F"):
        return Placed(self, x, layout)


def norm(x):
    """The infinity norm."""
    return float(np.max(np.abs(x).sum(axis=1), initial=0.0))


def omegas(a, x, b):
    """Normwise backward errors of the columns of x."""
    a, x, b = wide(a), wide(x), wide(b)
    size = norm(a) * np.abs(x).max(axis=0) + np.abs(b).max(axis=0)
    return np.abs(b - a @ x).max(axis=0) / np.where(size > 0, size, 1.0)


# -- exact arithmetic ----------------------------------------------------------------------------


def exact(x):
    """The entries of `x` as (re, im) pairs of Fractions, in nested lists."""
    x = np.asarray(x)
    if x.ndim:
        return [exact(row) for row in x]
    return Fraction(float(x.real)), Fraction(float(x.imag))


def exact_residual(a, x, b):
    """b - A x without a rounding error, then rounded to float64."""
    m, k = b.shape
    r = np.zeros((m, k), np.complex128)
    a_, x_, b_ = exact(a), exact(x), exact(b)
    for i, j in np.ndindex(m, k):
        re, im = b_[i][j]
        for l in range(a.shape[1]):
            (ar, ai), (xr, xi) = a_[i][l], x_[l][j]
            re -= ar * xr - ai * xi
            im -= ar * xi + ai * xr
        r[i, j] = complex(float(re), float(im))
    return r if is_complex(b.dtype) else r.real


def swapped(a, piv, forward=True):
    """`a` after the row interchanges of LAPACK's laswp."""
    a = a.copy()
    for i in range(len(piv)) if forward else reversed(range(len(piv))):
        a[[i, piv[i]]] = a[[piv[i], i]]
    return a


def reflector_product(qr, tau):
    """Q = H_1 H_2 ... (m, m), H_i = I - tau_i v_i v_i^H, from the output of geqrf."""
    m = qr.shape[0]
    q = np.eye(m, dtype=wide(qr).dtype)
    for i, t in enumerate(wide(tau)):
        v = wide(qr[:, i])
        v[:i], v[i] = 0, 1
        q = q - t * np.outer(q @ v, v.conj())
    return q
