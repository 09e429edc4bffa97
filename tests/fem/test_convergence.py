"""Solutions converge as theory says: errors in the energy norm like h^p, in L2 like h^(p+1)."""

import numpy as np
import pytest

from mplinalg.fem import DiffusionOperator, StructuredMesh, TensorBasis, load_vector, solve

from .assembled import bent


def exact(*x):
    return np.prod([np.sin(1.5 * xk + 0.3) for xk in x], axis=0)


def gradient(*x):
    values = [np.sin(1.5 * xk + 0.3) for xk in x]
    slopes = [1.5 * np.cos(1.5 * xk + 0.3) for xk in x]
    return np.stack([
        np.prod([slopes[k] if k == d else values[k] for k in range(len(x))], axis=0)
        for d in range(len(x))
    ])  # fmt: skip


def errors(dim, cells, p, quadrature, precision):
    """Energy norm and L2 norm of the error of -Δu = f on a bent mesh, u given on the boundary."""
    mesh = StructuredMesh(dim, cells, mapping=bent)
    q = p + 2 if quadrature == "gauss" else p + 1
    basis = TensorBasis.lagrange(dim, p, q, quadrature=quadrature)
    operator = DiffusionOperator(mesh, basis, dirichlet="boundary")
    load = load_vector(mesh, basis, lambda *x: dim * 1.5**2 * exact(*x))
    b = operator.right_hand_side(load, exact(*mesh.coordinates(basis)))
    u = solve(operator, b, tol=1e-12, precision=precision)
    # the same nodes, so the same elements, and more points
    finer = TensorBasis.lagrange(dim, p, p + 4)
    geometry = mesh.geometry(finer)
    local = mesh.gather(u, finer)
    points = np.moveaxis(geometry.points, 1, 0)
    difference = finer.interp(local)[:, 0] - exact(*points)
    slopes = np.moveaxis(geometry.gradient(finer.grad(local))[:, 0], 1, 0) - gradient(*points)
    squares = (slopes**2).sum(axis=0), difference**2
    return np.sqrt([(geometry.weights * square).sum() for square in squares])


@pytest.mark.parametrize(
    ("dim", "p", "quadrature", "precision"),
    [
        (1, 2, "gauss", "fp64"), (2, 3, "gauss", "fp64"), (3, 2, "gauss", "fp32"),
        (3, 2, "gll", "fp64"),
        pytest.param(2, 1, "gauss", "fp64", marks=pytest.mark.slow),
        pytest.param(2, 2, "gll", "fp16x2", marks=pytest.mark.slow),
        pytest.param(2, 5, "gauss", "fp64", marks=pytest.mark.slow),
        pytest.param(3, 1, "gauss", "fp32", marks=pytest.mark.slow),
        pytest.param(3, 4, "gauss", "auto", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_rates(dim, p, quadrature, precision):
    coarse, fine = (errors(dim, cells, p, quadrature, precision) for cells in (4, 8))
    energy, l2 = np.log2(coarse / fine)
    assert abs(energy - p) <= 0.15
    assert abs(l2 - (p + 1)) <= 0.15
