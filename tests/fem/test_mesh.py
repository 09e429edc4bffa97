"""StructuredMesh: numbering, gather and scatter, geometry, and what it refuses."""

import math

import numpy as np
import pytest

from mplinalg.fem import StructuredMesh, TensorBasis

from .assembled import Assembled, bent

U = 2.0**-53
CELLS = [(1,), (4,), (3, 2), (1, 5), (2, 1, 3), (3, 2, 2)]


def of(cells, p, mapping=None, q=None, quadrature="gauss"):
    dim = len(cells)
    mesh = StructuredMesh(dim, cells, mapping=mapping)
    return mesh, TensorBasis.lagrange(dim, p, q or p + 2, quadrature=quadrature)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("cells", CELLS)
class TestNumbering:
    def test_nodes_are_where_they_belong(self, cells, p):
        mesh, basis = of(cells, p, bent)
        reference = Assembled(cells, p, p + 2, "gauss", bent)
        assert mesh.ndof(basis) == reference.ndof == math.prod(mesh.node_shape(basis))
        assert abs(mesh.coordinates(basis) - reference.x).max() <= 4 * U

    def test_gather_is_by_element(self, cells, p, rng):
        mesh, basis = of(cells, p)
        u = rng.standard_normal((2, mesh.ndof(basis)))
        elements = np.array(Assembled(cells, p, p + 2, "gauss").elements)
        expected = np.moveaxis(u[:, elements], 0, 1)
        gathered = mesh.gather(u, basis)
        assert np.array_equal(gathered.reshape(expected.shape), expected)
        assert np.array_equal(mesh.gather(u[0], basis), gathered[:, :1])

    def test_scatter_is_the_transpose(self, cells, p, rng):
        mesh, basis = of(cells, p)
        v = rng.standard_normal((mesh.nelem, 2, *(p + 1,) * mesh.dim))
        elements = Assembled(cells, p, p + 2, "gauss").elements
        expected, sizes = np.zeros((2, 2, mesh.ndof(basis)))
        for e, nodes in enumerate(elements):
            for c in range(2):
                expected[c, nodes] += v[e, c].ravel()
                sizes[c, nodes] += abs(v[e, c]).ravel()
        scattered = mesh.scatter(v, basis)
        assert (abs(scattered - expected) <= 8 * U * sizes).all()
        assert np.array_equal(mesh.scatter(v[:, :1], basis), scattered[0])

    def test_the_boundary(self, cells, p):
        mesh, basis = of(cells, p)
        x = mesh.coordinates(basis)
        on_it = ((x == 0) | (x == 1)).any(axis=0)
        assert np.array_equal(mesh.boundary(basis), np.flatnonzero(on_it))


def test_lengths_scale_the_box():
    mesh = StructuredMesh(3, (1, 2, 3), lengths=(2, 3.5, 7))
    basis = TensorBasis.lagrange(3, 2, 3)
    assert mesh.coordinates(basis)[:, -1].tolist() == [2, 3.5, 7]
    assert mesh.coordinates(basis)[:, 0].tolist() == [0, 0, 0]
    assert mesh.cells == (1, 2, 3)
    assert StructuredMesh(2, 4, lengths=3).cells == (4, 4)


@pytest.mark.parametrize(("cells", "p"), [((3,), 3), ((3, 2), 2), ((2, 1, 2), 2)])
def test_geometry_is_that_of_the_assembled(cells, p):
    mesh, basis = of(cells, p, bent)
    geometry = mesh.geometry(basis)
    reference = Assembled(cells, p, p + 2, "gauss", bent)
    basis_gradients = basis.grad(np.eye((p + 1) ** mesh.dim).reshape(-1, 1, *(p + 1,) * mesh.dim))
    for e in range(mesh.nelem):
        points, weights, gradients = reference.at_points(e)
        assert abs(geometry.points[e].reshape(mesh.dim, -1).T - points).max() <= 30 * U
        assert (abs(geometry.weights[e].ravel() - weights) <= 100 * U * weights).all()
        one = mesh.geometry(basis, [e])
        repeated = type(one)(
            *(np.repeat(part, len(basis_gradients), 0) for part in vars(one).values())
        )
        in_space = repeated.gradient(basis_gradients)[:, 0]  # nodes, dim, q, ..., q
        in_space = in_space.reshape(*in_space.shape[:2], -1).transpose(2, 1, 0)
        assert abs(in_space - gradients).max() <= 100 * U * abs(gradients).max()


def test_the_volume_of_a_ring():
    def ring(r, phi):
        return (1 + r) * np.cos(phi), (1 + r) * np.sin(phi)

    mesh = StructuredMesh(2, (2, 8), lengths=(1, 2), mapping=ring)
    weights = mesh.geometry(TensorBasis.lagrange(2, 8, 9)).weights
    assert abs(weights.sum() - 3) <= 1e3 * U  # the interpolated ring errs by less than that


def test_thin_and_distant_elements_are_not_flat():
    """Aspect ratios and offsets as boundary layers and maps have them."""
    basis = TensorBasis.lagrange(2, 4, 6)
    for thin, offset in [(1e-10, 0.0), (1.0, 1e7), (1e-3, 1e5)]:

        def turned(x, y, thin=thin, offset=offset):
            return 0.6 * x - 0.8 * thin * y + offset, 0.8 * x + 0.6 * thin * y - offset

        volume = StructuredMesh(2, 3, mapping=turned).geometry(basis).weights.sum()
        error = 30 * basis.p**2 * U * (1 + offset) / thin
        assert abs(volume - thin) <= error * thin
    weights = StructuredMesh(2, (3, 3), lengths=(1, 1e-200)).geometry(basis).weights
    assert abs(weights.sum() - 1e-200) <= 30 * basis.p**2 * U * 1e-200
    # an edge that is a point, with quadrature points inside
    weights = StructuredMesh(2, 3, mapping=lambda x, y: (x * (1 - y), y)).geometry(basis).weights
    assert abs(weights.sum() - 0.5) <= 30 * basis.p**2 * U


def test_no_elements_and_any_sequence_of_coordinates():
    basis = TensorBasis.lagrange(2, 1, 2)
    for none in ([], np.zeros(0, int)):
        assert StructuredMesh(2, 3).geometry(basis, none).weights.shape == (0, 2, 2)
    bent_mesh, same = (
        StructuredMesh(2, 3, mapping=mapping)
        for mapping in (bent, lambda *x: (image for image in bent(*x)))
    )
    assert np.array_equal(same.coordinates(basis), bent_mesh.coordinates(basis))


def test_scatter_counts():
    """Of booleans, how many elements a node has."""
    mesh, basis = of((2, 2), 1)
    ones = np.ones(9, bool)
    assert mesh.scatter(mesh.gather(ones, basis), basis).tolist() == [1, 2, 1, 2, 4, 2, 1, 2, 1]


class TestRefusals:
    @pytest.mark.parametrize("dim", [0, 4, -1, "3", None])
    def test_dimensions(self, dim):
        with pytest.raises((ValueError, TypeError), match="dim must be"):
            StructuredMesh(dim, 2)

    @pytest.mark.parametrize(
        ("cells", "error"),
        [((2, 3), ValueError), (0, ValueError), ((1, 2, -1), ValueError), (1.5, TypeError),
         ((1, 2, 2.0), TypeError), (True, TypeError), (None, ValueError)],
    )  # fmt: skip
    def test_cells(self, cells, error):
        with pytest.raises(error, match="cells must be"):
            StructuredMesh(3, cells)

    @pytest.mark.parametrize("lengths", [0.0, -1, np.inf, np.nan, (1, 2)])
    def test_lengths(self, lengths):
        with pytest.raises(ValueError, match="lengths must be"):
            StructuredMesh(3, 2, lengths=lengths)

    def test_mapping(self):
        basis = TensorBasis.lagrange(2, 1, 2)
        with pytest.raises(TypeError, match="mapping must be callable"):
            StructuredMesh(2, 2, mapping=3)
        with pytest.raises(ValueError, match="must return 2 coordinates, got 1"):
            StructuredMesh(2, 2, mapping=lambda x, y: (x,)).coordinates(basis)
        with pytest.raises(ValueError, match=r"shape of its arguments, \(9,\); got \(3,\)"):
            StructuredMesh(2, 2, mapping=lambda x, y: (x, y[:3])).coordinates(basis)
        with pytest.raises(TypeError, match="must return 2 coordinates, got NoneType"):
            StructuredMesh(2, 2, mapping=lambda x, y: None).coordinates(basis)
        with pytest.raises(TypeError, match="coordinate 1 of the mapping must hold real numbers"):
            StructuredMesh(2, 2, mapping=lambda x, y: (x, y + 1j)).coordinates(basis)
        with (
            np.errstate(divide="ignore"),
            pytest.raises(ValueError, match=r"mapping returns .*inf"),
        ):
            StructuredMesh(2, 2, mapping=lambda x, y: (1 / x, y)).coordinates(basis)

    def test_bases(self):
        mesh = StructuredMesh(2, 2)
        with pytest.raises(ValueError, match=r"got basis\.dim=3"):
            mesh.ndof(TensorBasis.lagrange(3, 2, 3))
        with pytest.raises(ValueError, match="nodes at the ends"):
            mesh.ndof(TensorBasis.lagrange(2, 2, 3, nodes="gauss"))

    @pytest.mark.parametrize("shape", [(24,), (1, 26), (25, 1), (1, 1, 25), ()])
    def test_gather(self, shape):
        mesh, basis = of((2, 2), 2)
        with pytest.raises(ValueError, match=r"Expected u of shape \(25,\)"):
            mesh.gather(np.zeros(shape), basis)

    @pytest.mark.parametrize("shape", [(4, 3, 3), (5, 1, 3, 3), (4, 1, 3, 4), (25,)])
    def test_scatter(self, shape):
        mesh, basis = of((2, 2), 2)
        with pytest.raises(ValueError, match=r"Expected v of shape \(4, ncomp, 3, 3\)"):
            mesh.scatter(np.zeros(shape), basis)

    def test_a_fold_names_its_element(self):
        def folded(x, y):  # between x = 2/3 and 1 it turns back
            return np.where(x > 0.7, 4 / 3 - x, x), y

        mesh = StructuredMesh(2, (3, 2), mapping=folded)
        with pytest.raises(ValueError, match=r"folds element 2, cell \(2, 0\)"):
            mesh.geometry(TensorBasis.lagrange(2, 1, 2))
        with pytest.raises(ValueError, match=r"folds element 5, cell \(2, 1\)"):
            mesh.geometry(TensorBasis.lagrange(2, 1, 2), [3, 5])

    @pytest.mark.parametrize("flat", [lambda x, y: (x, 0 * y), lambda x, y: (y, x)])
    def test_flat_and_mirrored_elements(self, flat):
        mesh = StructuredMesh(2, 2, mapping=flat)
        with pytest.raises(ValueError, match=r"folds element 0, cell \(0, 0\)"):
            mesh.geometry(TensorBasis.lagrange(2, 1, 2))

    @pytest.mark.parametrize("dim", [2, 3])
    def test_elements_that_are_flat_but_for_rounding(self, dim, rng):
        """Of a matrix of lower rank: the sign of its determinant is that of rounding errors."""
        basis = TensorBasis.lagrange(dim, 1, 2)
        for _ in range(50):
            matrix = rng.uniform(-1, 1, (dim, dim - 1)) @ rng.uniform(-1, 1, (dim - 1, dim))
            flat = StructuredMesh(dim, 1, mapping=lambda *x, matrix=matrix: matrix @ np.array(x))
            with pytest.raises(ValueError, match=r"(flattens|folds) element 0"):
                flat.geometry(basis)

    @pytest.mark.parametrize("size", [1e-170, 1e-158, 1e170])
    def test_determinants_out_of_range(self, size):
        mesh = StructuredMesh(2, 2, lengths=size)
        with (
            np.errstate(over="ignore", invalid="ignore"),
            pytest.raises(ValueError, match=r"(flattens|folds|overflows in) element 0"),
        ):
            mesh.geometry(TensorBasis.lagrange(2, 1, 2))

    @pytest.mark.parametrize("elements", [5, [-1], [9], [0.5], np.arange(9) > 3, [[0, 1]], "a"])
    def test_elements(self, elements):
        """A mask is not a list of numbers 0 and 1."""
        with pytest.raises(ValueError, match=r"elements (must be|are numbered)"):
            StructuredMesh(2, 3).geometry(TensorBasis.lagrange(2, 1, 2), elements)


@pytest.mark.parametrize("cells", [(3,), (1,), (1, 1), (1, 3), (2, 2), (1, 1, 1)])
def test_gathered_values_are_in_memory_of_their_own(cells):
    mesh, basis = StructuredMesh(len(cells), cells), TensorBasis.lagrange(len(cells), 2, 3)
    u = np.arange(float(mesh.ndof(basis)))
    local = mesh.gather(u, basis)
    assert local.flags.c_contiguous
    assert not np.may_share_memory(local, u)
    local[...] = -1
    np.testing.assert_array_equal(u, np.arange(u.size))
