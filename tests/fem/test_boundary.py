"""Loads on sides, and nodes of sides."""

import math

import numpy as np
import pytest

from mplinalg.fem import DiffusionOperator, StructuredMesh, TensorBasis, boundary_load, load_vector
from mplinalg.fem import solve as cg

from .assembled import bent


@pytest.mark.parametrize("quadrature", ["gauss", "gll"])
@pytest.mark.parametrize("p", [2, 3])
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("sign", "-+")
def test_integration_by_parts(dim, p, quadrature, sign):
    """A u is the load of -Δu and of the slope along the normal, exactly for u = x_k^2."""
    lengths = (1.5, 0.7, 2.0)[:dim]
    mesh = StructuredMesh(dim, (2, 3, 2)[:dim], lengths=lengths)
    basis = TensorBasis.lagrange(dim, p, p + 2, quadrature=quadrature)
    for axis, letter in enumerate("xyz"[:dim]):
        # (x - c)^2 with c on the one side has its slope on the other alone
        middle = lengths[axis] if sign == "-" else 0.0
        u = (mesh.coordinates(basis)[axis] - middle) ** 2
        found = load_vector(mesh, basis, -2.0)
        found += boundary_load(mesh, basis, 2 * lengths[axis], [sign + letter])
        np.testing.assert_allclose(found, DiffusionOperator(mesh, basis) @ u, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_sides_add_up(dim):
    mesh = StructuredMesh(dim, 3, mapping=bent)
    basis = TensorBasis.lagrange(dim, 3, 6)
    total = sum(boundary_load(mesh, basis, 1.0, [side]) for side in sides(dim))
    np.testing.assert_allclose(boundary_load(mesh, basis, 1.0), total, rtol=1e-13)


def sides(dim):
    return [sign + letter for letter in "xyz"[:dim] for sign in "-+"]


def test_areas_of_a_cylinder():
    def cylinder(r, phi, z):
        return (1 + r) * np.cos(phi), (1 + r) * np.sin(phi), z

    mesh = StructuredMesh(3, (2, 4, 1), lengths=(1, np.pi / 2, 3), mapping=cylinder)
    basis = TensorBasis.lagrange(3, 6, 8)
    areas = [boundary_load(mesh, basis, 1.0, [side]).sum() for side in sides(3)]
    quarter = np.pi / 2
    exact = [3 * quarter, 6 * quarter, 3.0, 3.0, 1.5 * quarter, 1.5 * quarter]
    np.testing.assert_allclose(areas, exact, rtol=1e-8)
    moment = boundary_load(mesh, basis, lambda x, y, z: x * z, ["+x"])
    assert math.isclose(moment.sum(), 2 * 2 * 4.5, rel_tol=1e-8)  # 2 cos(phi) z, 2 dphi dz


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_vectors_and_functions(dim):
    mesh, basis = StructuredMesh(dim, 2, mapping=bent), TensorBasis.lagrange(dim, 2, 4)
    one = boundary_load(mesh, basis, 1.0, ["+x"])
    assert one.shape == (mesh.ndof(basis),)
    np.testing.assert_array_equal(np.flatnonzero(one), mesh.boundary(basis, ["+x"]))
    for g in ([0, -9.81], lambda *x: np.stack([0 * x[0], 0 * x[0] - 9.81])):
        found = boundary_load(mesh, basis, g, ["+x"])
        np.testing.assert_allclose(found, [0 * one, -9.81 * one], rtol=1e-14)
    np.testing.assert_allclose(boundary_load(mesh, basis, lambda *x: 2, "+x"), 2 * one, rtol=1e-15)
    np.testing.assert_array_equal(boundary_load(mesh, basis, 1.0, ["+x", "+x"]), one)


@pytest.mark.parametrize("p", [1, 2, 4])
def test_a_problem_with_both_conditions_converges(p):
    """u = cosh(x) sin(y) on a bent square: given on -x and -y, its slope on the other sides."""
    errors, tilt = [], math.hypot(1, 0.2)
    for cells in (2, 4, 8):
        mesh = StructuredMesh(2, cells, mapping=lambda x, y: (x + 0.2 * y, y))
        basis = TensorBasis.lagrange(2, p, p + 2)
        fixed = mesh.boundary(basis, ["-x", "-y"])
        a = DiffusionOperator(mesh, basis, dirichlet=fixed)
        x, y = mesh.coordinates(basis)
        exact = np.cosh(x) * np.sin(y)
        # the normal of +x is (1, -0.2) / |.|, that of +y is (0, 1); Δu = 0
        b = boundary_load(
            mesh, basis,
            lambda x, y: (np.sinh(x) * np.sin(y) - 0.2 * np.cosh(x) * np.cos(y)) / tilt, ["+x"],
        )  # fmt: skip
        b += boundary_load(mesh, basis, lambda x, y: np.cosh(x) * np.cos(y), ["+y"])
        u = cg(a, a.right_hand_side(b, exact), tol=1e-12)
        errors.append(abs(u - exact).max())
    assert np.log2(errors[1] / errors[2]) > p + 0.6


def test_nodes_of_sides():
    mesh, basis = StructuredMesh(2, (2, 1)), TensorBasis.lagrange(2, 1, 2)
    assert mesh.boundary(basis, ["-x"]).tolist() == [0, 3]
    assert mesh.boundary(basis, ["+x", "+y"]).tolist() == [2, 3, 4, 5]
    assert mesh.boundary(basis, "-y").tolist() == [0, 1, 2]
    assert mesh.boundary(basis, []).size == 0
    assert mesh.boundary(basis).tolist() == [*range(6)]
    a = DiffusionOperator(mesh, basis, dirichlet=np.isin(np.arange(6), [0, 3]))
    assert a.fixed.tolist() == [0, 3]


def test_bad_input():
    mesh, basis = StructuredMesh(2, 2), TensorBasis.lagrange(2, 1, 2)
    for names in (["x"], ["+z"], "boundary", [0]):
        with pytest.raises(ValueError, match=r"sides must be among -x, \+x, -y, \+y; got"):
            boundary_load(mesh, basis, 1.0, names)
        with pytest.raises(ValueError, match="sides must be among"):
            mesh.boundary(basis, names)
    with pytest.raises(ValueError, match="one at least"):
        boundary_load(mesh, basis, 1.0, [])
    for wrong in (np.ones((2, 2)), []):
        with pytest.raises(ValueError, match="g must be a number, one for each component"):
            boundary_load(mesh, basis, wrong)
    with pytest.raises(ValueError, match=r"g must return shape \(2, 2\) or"):
        boundary_load(mesh, basis, lambda x, y: np.ones(3))
    with pytest.raises(TypeError, match="complex"):
        boundary_load(mesh, basis, 1j)
    with pytest.raises(ValueError, match="2 components on one side and 1 on another"):
        boundary_load(mesh, basis, lambda x, y: [x, y] if x.max() == 0 else x)
