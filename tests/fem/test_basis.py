"""TensorBasis: nodes to the last digit, exact for polynomials, transposes, all dimensions."""

from __future__ import annotations

import pickle

import mpmath
import numpy as np
import pytest

from mplinalg.fem import TensorBasis

from ..device import cupy  # noqa: F401  (a fixture)
from .einsum import normal

U = 2.0**-53
RULES = ["gauss", "gll"]
BOTH = [(nodes, quadrature) for nodes in RULES for quadrature in RULES]


def magnitudes(basis):
    """With |B| and |D|: what errors are measured by."""
    arrays = (basis.nodes, basis.points, basis.weights, np.abs(basis.B), np.abs(basis.D))
    absolute = TensorBasis(basis.dim, *arrays)
    absolute.is_collocated = False
    return absolute


# -- one dimension, against multiple precision ---------------------------------------------------


@pytest.fixture
def digits():
    with mpmath.workdps(60):
        yield


def exact_rule(n, name):
    """Points and weights by mpmath, from NumPy's approximations."""
    if name == "gauss":
        guesses = np.polynomial.legendre.leggauss(n)[0]

        def vanishing(x):
            return mpmath.legendre(n, x)

        def weight(x):
            slope = n * (mpmath.legendre(n - 1, x) - x * mpmath.legendre(n, x)) / (1 - x * x)
            return 2 / ((1 - x * x) * slope**2)

        points = [mpmath.findroot(vanishing, mpmath.mpf(x)) for x in guesses]
    else:
        inner = np.polynomial.legendre.Legendre.basis(n - 1).deriv().roots().real

        def vanishing(x):  # (1 - x^2) P'
            return mpmath.legendre(n - 2, x) - x * mpmath.legendre(n - 1, x)

        def weight(x):
            return 2 / (n * (n - 1) * mpmath.legendre(n - 1, x) ** 2)

        points = [mpmath.findroot(vanishing, mpmath.mpf(x)) for x in sorted(inner)]
        points = [mpmath.mpf(-1), *points, mpmath.mpf(1)]
    return points, [weight(x) for x in points]


def to_floats(numbers):
    """Zero is computed as a number far below the last digit of those beside it."""
    return np.array([float(x) if abs(x) > 1e-40 else 0.0 for x in numbers])


@pytest.mark.parametrize(
    ("name", "n"),
    [("gauss", 1), *((name, n) for name in RULES for n in (*range(2, 16), 20, 29, 30))],
)
def test_points_and_weights_are_the_nearest_floats(digits, name, n):
    basis = TensorBasis.lagrange(1, max(n - 1, 1), n, quadrature=name)
    points, weights = exact_rule(n, name)
    assert np.array_equal(basis.points, to_floats(points))
    assert np.array_equal(basis.weights, to_floats(weights))
    if n > 1:
        nodes = TensorBasis.lagrange(1, n - 1, 2, nodes=name).nodes
        assert np.array_equal(nodes, basis.points)


@pytest.mark.parametrize(("nodes", "quadrature"), BOTH)
@pytest.mark.parametrize(("p", "q"), [(1, 2), (2, 2), (4, 5), (7, 9), (12, 13)])
def test_interpolation_is_the_nearest_floats(digits, nodes, quadrature, p, q):
    basis = TensorBasis.lagrange(1, p, q, nodes, quadrature)
    x, t = exact_rule(p + 1, nodes)[0], exact_rule(q, quadrature)[0]
    polynomials = [
        lambda s, j=j: mpmath.fprod((s - x[k]) / (x[j] - x[k]) for k in range(p + 1) if k != j)
        for j in range(p + 1)
    ]
    values = [[polynomial(s) for polynomial in polynomials] for s in t]
    slopes = [
        [
            mpmath.fsum(
                mpmath.fprod((s - x[k]) for k in range(p + 1) if k not in (j, m))
                / mpmath.fprod((x[j] - x[k]) for k in range(p + 1) if k != j)
                for m in range(p + 1)
                if m != j
            )
            for j in range(p + 1)
        ]
        for s in t
    ]
    assert np.array_equal(basis.B, [to_floats(row) for row in values])
    assert np.array_equal(basis.D, [to_floats(row) for row in slopes])


@pytest.mark.parametrize("name", RULES)
def test_rules_of_many_points(name):
    basis = TensorBasis.lagrange(1, 100, 101, quadrature=name)
    assert np.all(np.diff(basis.points) > 0)
    assert np.all(np.diff(basis.nodes) > 0)
    assert np.array_equal(basis.points, -basis.points[::-1])
    assert abs(basis.weights.sum() - 2) <= 101 * 2 * U
    assert np.all(basis.weights > 0)


@pytest.mark.parametrize(("nodes", "quadrature"), BOTH)
@pytest.mark.parametrize("p", range(1, 11))
def test_partition_of_unity(p, nodes, quadrature):
    basis = TensorBasis.lagrange(1, p, p + 2, nodes, quadrature)
    for matrix, total in ((basis.B, 1.0), (basis.D, 0.0)):
        bound = (p + 2) * U * np.abs(matrix).sum(1)
        assert np.all(np.abs(matrix.sum(1) - total) <= bound)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("p", range(1, 11))
def test_collocated_interpolation_is_the_identity(rng, p, name):
    basis = TensorBasis.lagrange(2, p, p + 1, nodes=name, quadrature=name)
    assert basis.is_collocated
    assert np.array_equal(basis.B, np.eye(p + 1))
    u = normal(rng, (3, 2, p + 1, p + 1))
    for function in (basis.interp, basis.interp_t):
        assert np.array_equal(function(u), u)
        assert not np.shares_memory(function(u), u)
    assert not TensorBasis.lagrange(2, p, p + 2, nodes=name, quadrature=name).is_collocated


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("q", range(2, 13))
def test_quadrature_is_exact_for_its_degree_and_no_more(q, name):
    basis = TensorBasis.lagrange(1, 1, q, quadrature=name)
    degree = 2 * q - 1 if name == "gauss" else 2 * q - 3
    legendre = np.polynomial.legendre.legvander(basis.points, degree + 1)
    integrals = basis.weights @ legendre
    assert abs(integrals[0] - 2) <= 2 * q * U
    assert np.all(np.abs(integrals[1 : degree + 1]) <= 30 * q * U)
    assert abs(integrals[degree + 1]) > 0.1 / q


# -- tensor products -----------------------------------------------------------------------------


def polynomial(rng, dim, p):
    """Coefficients of Legendre polynomials, an axis a dimension, x the last."""
    return rng.standard_normal((p + 1,) * dim)


def evaluated(coefficients, x, derivative=None):
    """At the points x in each dimension, x the last axis; d/dx for derivative 0, and so on."""
    dim, p = coefficients.ndim, len(coefficients) - 1
    values = np.polynomial.legendre.legvander(x, p)
    slopes = np.array([np.polynomial.legendre.Legendre.basis(k).deriv()(x) for k in range(p + 1)]).T
    result = coefficients
    for axis in range(dim):
        matrix = slopes if derivative == dim - 1 - axis else values
        result = np.moveaxis(np.tensordot(matrix, result, (1, axis)), 0, axis)
    return result


CASES = (
    [(1, p) for p in range(1, 11)] + [(2, p) for p in range(1, 11)] + [(3, p) for p in range(1, 8)]
)


@pytest.mark.parametrize(("nodes", "quadrature"), BOTH)
@pytest.mark.parametrize(("dim", "p"), CASES)
def test_polynomials_are_exact(rng, dim, p, nodes, quadrature):
    """Values and derivatives of all polynomials of degree p in each dimension."""
    basis = TensorBasis.lagrange(dim, p, p + 1 + p % 3, nodes, quadrature)
    polynomials = [[polynomial(rng, dim, p) for _ in range(2)] for _ in range(3)]
    u = np.array([[evaluated(c, basis.nodes) for c in row] for row in polynomials])
    # errors of u, and those of its Legendre series beside it
    size = magnitudes(basis).interp(np.abs(u)) + np.abs(u).max() * p
    want = np.array([[evaluated(c, basis.points) for c in row] for row in polynomials])
    got = basis.interp(u)
    assert got.shape == (3, 2, *(basis.q,) * dim)
    assert np.all(np.abs(got - want) <= 30 * dim * p * U * size)
    size = magnitudes(basis).grad(np.abs(u)) + np.abs(u).max() * p**2
    got = basis.grad(u)
    assert got.shape == (3, 2, dim, *(basis.q,) * dim)
    for d in range(dim):
        want = np.array([[evaluated(c, basis.points, d) for c in row] for row in polynomials])
        assert np.all(np.abs(got[:, :, d] - want) <= 30 * dim * p * U * size[:, :, d])


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_equal_to_the_definition(rng, engine, dim, dtype):
    """One Kronecker product a component; u[e, c, k, j, i] has x along i, and grad d/dx first."""
    basis = TensorBasis.lagrange(dim, 3, 5)
    u, v = normal(rng, (4, 2, *(4,) * dim), dtype), normal(rng, (4, 2, *(5,) * dim), dtype)
    w = normal(rng, (4, 2, dim, *(5,) * dim), dtype)

    def kronecker(derivative=None):
        matrix = np.ones((1, 1))
        for axis in reversed(range(dim)):  # x is the last factor
            matrix = np.kron(matrix, basis.D if axis == derivative else basis.B)
        return matrix

    unit = np.finfo(dtype).eps / 2
    flat = u.reshape(4, 2, -1)
    cases = [(basis.interp(u), flat @ kronecker().T, np.abs(flat) @ np.abs(kronecker()).T)]
    cases.append((basis.interp_t(v), v.reshape(4, 2, -1) @ kronecker(),
                  np.abs(v).reshape(4, 2, -1) @ np.abs(kronecker())))  # fmt: skip
    slopes = [kronecker(d) for d in range(dim)]
    cases.append((basis.grad(u), np.stack([flat @ m.T for m in slopes], 2),
                  np.stack([np.abs(flat) @ np.abs(m).T for m in slopes], 2)))  # fmt: skip
    parts = w.reshape(4, 2, dim, -1)
    cases.append((basis.grad_t(w), sum(parts[:, :, d] @ slopes[d] for d in range(dim)),
                  sum(np.abs(parts[:, :, d]) @ np.abs(slopes[d]) for d in range(dim))))  # fmt: skip
    for got, want, size in cases:
        assert got.dtype == dtype
        error = np.abs(got - want.reshape(got.shape))
        assert np.all(error <= 8 * (5 * dim) * unit * size.reshape(got.shape))


@pytest.mark.parametrize("collocated", [False, True])
@pytest.mark.parametrize(("dim", "p"), CASES)
def test_transposes(rng, dim, p, collocated):
    rule = {"q": p + 1, "quadrature": "gll"} if collocated else {"q": p + 2}
    basis = TensorBasis.lagrange(dim, p, **rule)
    absolute, q = magnitudes(basis), basis.q
    u = normal(rng, (3, 2, *(p + 1,) * dim))
    for forward, backward, size, shape in [
        (basis.interp, basis.interp_t, absolute.interp, (3, 2, *(q,) * dim)),
        (basis.grad, basis.grad_t, absolute.grad, (3, 2, dim, *(q,) * dim)),
    ]:
        v = normal(rng, shape)
        difference = np.sum(forward(u) * v) - np.sum(u * backward(v))
        bound = 4 * (dim * q + 20) * U * np.sum(size(np.abs(u)) * np.abs(v))
        assert abs(difference) <= bound


@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (1, 1), (5, 3)])
def test_any_number_of_cells(rng, shape):
    for dim in (1, 2, 3):
        basis = TensorBasis.lagrange(dim, 2, 4)
        u = normal(rng, (*shape, *(3,) * dim))
        one = [
            [basis.grad(u[e : e + 1, c : c + 1]) for c in range(shape[1])] for e in range(shape[0])
        ]
        got = basis.grad(u)
        assert got.shape == (*shape, dim, *(4,) * dim)
        for e, c in np.ndindex(shape):
            assert np.allclose(got[e, c], one[e][c][0, 0], rtol=1e-13, atol=1e-13)
        assert basis.grad_t(got).shape == u.shape
        assert basis.interp_t(basis.interp(u)).shape == u.shape


def test_strides_do_not_matter(rng):
    basis = TensorBasis.lagrange(3, 2, 3)
    u = normal(rng, (4, 2, 3, 3, 3))
    for same in (np.asfortranarray(u), u[::-1].copy()[::-1], np.stack([u, u], -1)[..., 0]):
        before = same.copy()
        assert np.allclose(basis.interp(same), basis.interp(u), rtol=1e-13, atol=1e-13)
        assert np.allclose(basis.grad(same), basis.grad(u), rtol=1e-13, atol=1e-13)
        assert np.array_equal(same, before)


def test_dtypes(rng):
    basis = TensorBasis.lagrange(1, 1, 2)
    for given, computed in [("int32", "float64"), ("bool", "float64"), ("float16", "float32"),
                            (np.longdouble, "float64"), (">f4", "float32")]:  # fmt: skip
        assert basis.interp(np.ones((1, 1, 2), given)).dtype == computed
    assert basis.interp([[[1, 3]]]).shape == (1, 1, 2)
    with pytest.raises(TypeError, match="u must be numeric"):
        basis.interp(np.full((1, 1, 2), "a"))


def test_it_does_not_change(rng):
    basis = TensorBasis.lagrange(2, 3, 4)
    for array in (basis.B, basis.D, basis.nodes, basis.points, basis.weights):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    basis.interp(normal(rng, (1, 1, 4, 4)))
    twin = pickle.loads(pickle.dumps(basis))
    assert repr(twin) == repr(basis) == "TensorBasis(dim=2, p=3, q=4)"
    assert np.array_equal(twin.B, basis.B)


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1, 2), ValueError, "dim must be 1 to 3, got 0"),
        ((4, 1, 2), ValueError, "dim must be 1 to 3, got 4"),
        ((2, 0, 2), ValueError, "p must be at least 1 with nodes='gll', got 0"),
        ((2, 1, 0), ValueError, "q must be at least 1 with quadrature='gauss'"),
        ((2, 1, 1, "gll", "gll"), ValueError, "q must be at least 2 with quadrature='gll'"),
        ((2, 1.0, 2), TypeError, "p must be an integer"),
        ((2, 1, 2, "equispaced"), ValueError, "nodes must be one of 'gauss', 'gll'"),
        ((2, 1, 2, ["gll"]), ValueError, "nodes must be one of 'gauss', 'gll'"),
        ((2, 1, 2, "gll", "gaus"), ValueError, "quadrature must be one of 'gauss', 'gll'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        TensorBasis.lagrange(*arguments)


def test_bad_shapes():
    basis = TensorBasis.lagrange(2, 2, 4)
    cases = [
        (basis.interp, (3, 1, 3), r"Expected u of shape \(nelem, ncomp, 3, 3\), got \(3, 1, 3\)"),
        (basis.interp, (3, 1, 4, 4), r"got \(3, 1, 4, 4\)"),
        (basis.grad, (3, 1, 3, 3, 3), r"got \(3, 1, 3, 3, 3\)"),
        (basis.interp_t, (3, 1, 3, 3), r"Expected v of shape \(nelem, ncomp, 4, 4\)"),
        (basis.grad_t, (3, 1, 4, 4), r"Expected v of shape \(nelem, ncomp, dim, 4, 4\)"),
        (basis.grad_t, (3, 1, 3, 4, 4), r"got \(3, 1, 3, 4, 4\)"),
    ]
    for function, shape, message in cases:
        with pytest.raises(ValueError, match=message):
            function(np.ones(shape))


# -- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_arrays_of_a_device(cupy, rng, dtype):  # noqa: F811
    basis = TensorBasis.lagrange(3, 2, 4)
    u, w = normal(rng, (3, 2, 3, 3, 3), dtype), normal(rng, (3, 2, 3, 4, 4, 4), dtype)
    v = w[:, :, 0].copy()
    for function, array in ((basis.interp, u), (basis.grad, u), (basis.interp_t, v),
                            (basis.grad_t, w)):  # fmt: skip
        got = function(cupy.asarray(array))
        assert isinstance(got, cupy.ndarray)
        want = function(array)
        assert got.dtype == dtype
        assert np.allclose(cupy.asnumpy(got), want, rtol=1e-4, atol=1e-4)
