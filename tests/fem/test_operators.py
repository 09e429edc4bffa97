"""Operators equal assembled matrices, on bent meshes of every dimension."""

import math

import numpy as np
import pytest

from mplinalg.fem import DiffusionOperator, MassOperator, StructuredMesh, TensorBasis

from .assembled import Assembled, bent, error

U = {np.float64: 2.0**-53, np.float32: 2.0**-24}
# elements fewer than a register has lanes (1, 3), as many, one more, and others
CASES = [((1,), 1), ((9,), 2), ((4, 5), 3), ((7, 1, 1), 1), ((2, 2, 3), 2), ((3, 1, 3), 2)]
SLOW = [
    ((1, 3, 3), 4), ((3, 1), 4), ((7,), 3), ((20,), 4), ((8,), 1), ((3, 3), 1), ((2, 5), 4),
    ((2, 4), 2), ((13, 14), 1), ((2, 3, 2), 3), ((2, 7, 3), 1), ((1, 9, 1), 2), ((2, 2, 2), 3),
    ((17, 1, 2), 2), ((2, 1, 1), 6), ((9,), 5), ((3, 3), 7), ((17,), 8), ((9,), 10), ((8,), 12),
]  # fmt: skip
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW]
BOTH = [(MassOperator, "gauss"), (DiffusionOperator, "gauss"), (DiffusionOperator, "gll")]


def bound(cells, p, dtype=np.float64):
    """30 n u: coordinates of order 1 are subtracted to find gaps of about 1/n between nodes."""
    return 30 * max(cells) * p**2 * U[dtype]


def made(cells, p, quadrature="gauss", mapping=bent):
    """Mesh, basis and the assembled counterpart, with the quadrature of CEED's problems."""
    q = p + 2 if quadrature == "gauss" else p + 1
    mesh = StructuredMesh(len(cells), cells, mapping=mapping)
    basis = TensorBasis.lagrange(len(cells), p, q, quadrature=quadrature)
    return mesh, basis, Assembled(cells, p, q, quadrature, mapping)


def matrix_of(operator_class, assembled, *arguments):
    method = assembled.mass if operator_class is MassOperator else assembled.diffusion
    return method(*arguments)


def coefficient(*x):
    return 1.5 + np.sin(sum((k + 1) * xk for k, xk in enumerate(x)))


def tensor(*x):
    """Symmetric positive definite, (dim, dim) + the shape of the coordinates."""
    dim = len(x)
    off = [[0.3 * np.cos(x[a] + x[b]) for a in range(dim)] for b in range(dim)]
    for a in range(dim):
        off[a][a] = 2.0 + a + x[a]
    return np.array(off)


@pytest.mark.parametrize(("cells", "p"), CASES)
@pytest.mark.parametrize(("operator_class", "quadrature"), BOTH)
class TestAgainstAssembled:
    def test_products(self, operator_class, quadrature, cells, p, rng):
        mesh, basis, assembled = made(cells, p, quadrature)
        operator = operator_class(mesh, basis)
        matrix = matrix_of(operator_class, assembled)
        u = rng.standard_normal(assembled.ndof)
        assert error(operator @ u, matrix, u) <= bound(cells, p)

    def test_vectors(self, operator_class, quadrature, cells, p, rng):
        """Bake-off problems 2, 4 and 6: each component on its own."""
        mesh, basis, assembled = made(cells, p, quadrature)
        operator = operator_class(mesh, basis, components=mesh.dim)
        matrix = matrix_of(operator_class, assembled)
        u = rng.standard_normal((mesh.dim, assembled.ndof))
        computed = operator.apply(u)
        assert computed.shape == u.shape
        assert error(computed, matrix, u) <= bound(cells, p)
        assert np.array_equal(operator @ u.ravel(), computed.ravel())

    def test_the_diagonal(self, operator_class, quadrature, cells, p):
        mesh, basis, assembled = made(cells, p, quadrature)
        expected = np.diag(matrix_of(operator_class, assembled))
        diagonal = operator_class(mesh, basis).diagonal()
        assert (abs(diagonal - expected) <= bound(cells, p) * expected).all()


FEW = [((9,), 2), ((4, 5), 3), ((2, 2, 3), 2)]


@pytest.mark.parametrize(("cells", "p"), FEW)
class TestCoefficients:
    @pytest.mark.parametrize("operator_class", [MassOperator, DiffusionOperator])
    def test_scalars(self, operator_class, cells, p, rng):
        mesh, basis, assembled = made(cells, p)
        u = rng.standard_normal(assembled.ndof)
        if operator_class is MassOperator:
            matrix = assembled.mass(coefficient)
        else:
            matrix = assembled.diffusion(lambda *x: coefficient(*x) * np.eye(mesh.dim))
        values = coefficient(*np.moveaxis(mesh.geometry(basis).points, 1, 0))
        for given in (coefficient, values):
            assert error(operator_class(mesh, basis, given) @ u, matrix, u) <= bound(cells, p)
        doubled = operator_class(mesh, basis, 2.0 * values) @ u
        assert np.array_equal(doubled, 2 * (operator_class(mesh, basis, values) @ u))

    def test_tensors(self, cells, p, rng):
        mesh, basis, assembled = made(cells, p)
        u = rng.standard_normal(assembled.ndof)
        matrix = assembled.diffusion(tensor)
        values = np.moveaxis(tensor(*np.moveaxis(mesh.geometry(basis).points, 1, 0)), 2, 0)
        for given in (tensor, values):
            operator = DiffusionOperator(mesh, basis, given)
            assert error(operator @ u, matrix, u) <= bound(cells, p)
        constant = tensor(*np.zeros(mesh.dim))
        matrix = assembled.diffusion(lambda *x: constant)
        assert error(DiffusionOperator(mesh, basis, constant) @ u, matrix, u) <= bound(cells, p)

    def test_a_box_has_the_same_factors_everywhere(self, cells, p, rng):
        mesh, basis, assembled = made(cells, p, mapping=None)
        u = rng.standard_normal((2, assembled.ndof))
        for operator_class in (MassOperator, DiffusionOperator):
            operator = operator_class(mesh, basis, 3.0, components=2)
            matrix = 3 * matrix_of(operator_class, assembled)
            assert error(operator @ u, matrix, u) <= bound(cells, p)
            diagonal = np.diag(matrix)
            assert (abs(operator.diagonal() - diagonal) <= bound(cells, p) * diagonal).all()


@pytest.mark.parametrize(("cells", "p"), [FEW[0], FEW[2]])
@pytest.mark.parametrize("operator_class", [MassOperator, DiffusionOperator])
class TestSinglePrecision:
    def test_products(self, operator_class, cells, p, rng):
        mesh, basis, assembled = made(cells, p)
        operator = operator_class(mesh, basis, dtype=np.float32)
        u = rng.standard_normal(assembled.ndof).astype(np.float32)
        computed = operator @ u
        assert computed.dtype == operator.dtype == np.float32
        matrix = matrix_of(operator_class, assembled)
        assert error(computed, matrix, u.astype(float)) <= bound(cells, p, np.float32)

    def test_conversion_rounds_the_factors(self, operator_class, cells, p, rng):
        mesh, basis, _ = made(cells, p)
        operator = operator_class(mesh, basis, dirichlet=[0, 3])
        u = rng.standard_normal(operator.ndof)
        single = operator_class(mesh, basis, dirichlet=[0, 3], dtype=np.float32)
        assert np.array_equal(operator.astype(np.float32) @ u, single @ u)
        assert operator.dtype == np.float64
        assert np.array_equal(operator.astype(float) @ u, operator @ u)


LARGE = [((9, 9, 9), 2), ((2, 2, 40), 2), ((150, 8), 3), ((600,), 2)]


@pytest.mark.parametrize(("cells", "p"), LARGE)
class TestTheorems:
    """On meshes of several slabs, which are not assembled."""

    def test_symmetry(self, cells, p, rng):
        mesh, basis, _ = made(cells, p, mapping=bent)
        for operator_class in (MassOperator, DiffusionOperator):
            operator = operator_class(mesh, basis, coefficient)
            u, v = rng.standard_normal((2, operator.ndof))
            left, right = u @ (operator @ v), v @ (operator @ u)
            size = np.sqrt((u @ (operator @ u)) * (v @ (operator @ v)))
            assert abs(left - right) <= 30 * U[np.float64] * size

    def test_ones(self, cells, p):
        mesh, basis, _ = made(cells, p, mapping=bent)
        ones = np.ones(mesh.ndof(basis))
        volume = float(mesh.geometry(basis).weights.sum())
        mass = MassOperator(mesh, basis) @ ones
        assert abs(mass.sum() - volume) <= 30 * U[np.float64] * volume
        diffusion = DiffusionOperator(mesh, basis)
        assert abs(diffusion @ ones).max() <= 30 * U[np.float64] * diffusion.diagonal().max()

    def test_gradients_of_linear_functions(self, cells, p):
        """∫ ∇(a·x)·∇(b·x) = a·b times the volume: isoparametric elements hold x, y and z."""
        mesh, basis, _ = made(cells, p, mapping=bent)
        x = mesh.coordinates(basis)
        energies = x @ np.array([DiffusionOperator(mesh, basis) @ xk for xk in x]).T
        volume = mesh.geometry(basis).weights.sum()
        assert abs(energies / volume - np.eye(mesh.dim)).max() <= 1e3 * U[np.float64]


@pytest.mark.parametrize(("cells", "p"), LARGE[:2])
class TestSums:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_it_is_the_sum_over_elements(self, cells, p, dtype, rng):
        mesh, basis, _ = made(cells, p)
        operator = DiffusionOperator(mesh, basis, components=2, dtype=dtype)
        u = rng.standard_normal((2, operator.ndof)).astype(dtype)
        local = operator.apply_local(mesh.gather(u, basis))
        sizes = mesh.scatter(abs(local), basis)
        difference = abs(operator @ u - mesh.scatter(local, basis))
        assert (difference <= 8 * U[dtype] * sizes).all()

    def test_the_same_bits_on_any_number_of_threads(self, cells, p, rng, monkeypatch):
        from mplinalg.kernels.cpu.batched import threads

        mesh, basis, _ = made(cells, p)
        operator = MassOperator(mesh, basis, components=2)
        u = rng.standard_normal((2, operator.ndof))
        local = mesh.gather(u, basis)
        monkeypatch.setattr(threads, "_WORTHWHILE", 0.0 + 1e-12)
        results = []
        for count in (1, 2, 5):
            monkeypatch.setattr(threads, "blas_threads", lambda count=count: count)
            results.append((operator @ u, operator.apply_local(local)))
        for several in results[1:]:
            assert all(map(np.array_equal, several, results[0]))


class TestDirichlet:
    @pytest.mark.parametrize(("cells", "p"), FEW)
    def test_rows_and_columns_of_the_identity(self, cells, p, rng):
        mesh, basis, assembled = made(cells, p)
        fixed = np.isin(np.arange(assembled.ndof), mesh.boundary(basis))
        matrix = np.where(fixed[:, None] | fixed, np.eye(assembled.ndof), assembled.diffusion())
        operator = DiffusionOperator(mesh, basis, dirichlet="boundary", components=2)
        u = rng.standard_normal((2, assembled.ndof))
        assert error(operator @ u, matrix, u) <= bound(cells, p)
        assert np.array_equal((operator @ u)[:, fixed], u[:, fixed])
        expected = np.diag(matrix)
        assert (abs(operator.diagonal() - expected) <= bound(cells, p) * expected).all()

    @pytest.mark.parametrize(("cells", "p"), FEW)
    def test_a_solution_with_given_values(self, cells, p, rng):
        mesh, basis, assembled = made(cells, p)
        some = rng.permutation(assembled.ndof)[:5]
        operator = DiffusionOperator(mesh, basis, dirichlet=some)
        full = assembled.diffusion()
        u = rng.standard_normal(assembled.ndof)
        constrained = operator.as_linear_operator() @ np.eye(assembled.ndof)
        x = np.linalg.solve(constrained, operator.right_hand_side(full @ u, u))
        assert np.array_equal(operator.right_hand_side(full @ u, u)[some], u[some])
        # given the load of u and its values at some nodes, u it is
        kappa = np.linalg.cond(constrained)
        assert abs(x - u).max() <= 30 * kappa * U[np.float64] * abs(u).max()

    def test_numbers_are_for_all_nodes(self):
        mesh, basis, _ = made((4, 5), 3)
        operator = MassOperator(mesh, basis, dirichlet=[7, 2, 2])
        b = operator.right_hand_side(np.zeros(operator.ndof), 3.0)
        assert b[[2, 7]].tolist() == [3, 3]
        assert (operator.apply(np.eye(operator.ndof)[2])).tolist() == np.eye(operator.ndof)[
            2
        ].tolist()

    def test_none_and_no_nodes(self, rng):
        mesh, basis, _ = made((4, 5), 3)
        u = rng.standard_normal(mesh.ndof(basis))
        plain = MassOperator(mesh, basis)
        assert np.array_equal(MassOperator(mesh, basis, dirichlet=[]) @ u, plain @ u)
        assert np.array_equal(plain.right_hand_side(u, 4.0), u)
        assert plain.right_hand_side(u) is not u

    @pytest.mark.parametrize("nodes", ["edges", [-1], [208], [0.5], [[1]], 3])
    def test_refusals(self, nodes):
        mesh, basis, _ = made((4, 5), 3)
        with pytest.raises(ValueError, match="dirichlet"):
            MassOperator(mesh, basis, dirichlet=nodes)


@pytest.mark.parametrize(("cells", "p"), [((7, 1, 1), 1), ((9, 9, 9), 2)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_what_is_not_finite_stays_in_its_elements(cells, p, bad, dtype, rng):
    mesh, basis, _ = made(cells, p)
    operator = MassOperator(mesh, basis, dtype=dtype)
    u = rng.standard_normal(operator.ndof).astype(dtype)
    clean, clean_local = operator @ u, operator.apply_local(mesh.gather(u, basis))
    node = math.prod(cells) * p**mesh.dim // 2
    u[node] = bad
    one = np.zeros(operator.ndof)
    one[node] = 1
    reached = (mesh.gather(one, basis) != 0).any(axis=tuple(range(1, 2 + mesh.dim)))
    touched = mesh.scatter(np.broadcast_to(
        reached.reshape(-1, *(1,) * (1 + mesh.dim)), mesh.gather(one, basis).shape
    ).astype(float), basis) > 0  # fmt: skip
    spoiled = operator @ u
    assert np.array_equal(spoiled[~touched], clean[~touched])
    assert not np.isfinite(spoiled[node])
    local = operator.apply_local(mesh.gather(u, basis))
    assert np.array_equal(local[~reached], clean_local[~reached])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("cells", "p"), [((9,), 2), ((9, 9, 9), 2)])
def test_nothing_outside_is_touched(cells, p, dtype, rng):
    mesh, basis, _ = made(cells, p)
    operator = DiffusionOperator(mesh, basis, dtype=dtype)
    guard, n = 40, operator.ndof
    u, out = np.full((2, n + 2 * guard), np.nan, dtype)
    u[guard : guard + n] = rng.standard_normal(n)
    inside = slice(guard, guard + n)
    operator.apply(u[inside], out[inside])
    assert np.isfinite(out[inside]).all()
    assert np.isnan(out[:guard]).all()
    assert np.isnan(out[guard + n :]).all()
    assert np.array_equal(out[inside], operator @ u[inside].copy())
