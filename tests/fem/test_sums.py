"""Sums of operators: against matrices, in solves, and what cannot be summed up."""

import copy
import pickle

import numpy as np
import pytest

from mplinalg import LinAlgError
from mplinalg.fem import (
    DiffusionOperator,
    MassOperator,
    OperatorSum,
    StructuredMesh,
    TensorBasis,
    load_vector,
    solve,
)
from mplinalg.report import Status

from ..cupy_on_host.install import forbidden_transfers
from ..device import cupy, stand_in  # noqa: F401  (fixtures)
from .assembled import bent

U = 2.0**-53


def pair(dim=2, cells=3, p=2, **options):
    """Mass with Gauss points, diffusion at the nodes."""
    mesh = StructuredMesh(dim, cells, mapping=bent)
    gauss, gll = (
        TensorBasis.lagrange(dim, p, p + 2),
        TensorBasis.lagrange(dim, p, p + 1, quadrature="gll"),
    )
    return MassOperator(mesh, gauss, **options), DiffusionOperator(mesh, gll, **options)


def matrix(operator):
    return operator.as_linear_operator() @ np.eye(operator.shape[0])


def made_of(mass, stiffness, make):
    """The same of matrices, but at fixed nodes, where rows are those of the identity."""
    expected = make(matrix(mass), matrix(stiffness))
    if mass.fixed is not None:
        fixed = (mass.fixed + mass.ndof * np.arange(mass.components)[:, None]).ravel()
        expected[fixed], expected[:, fixed] = 0, 0
        expected[fixed, fixed] = 1
    return expected


FORMS = {
    "M + K": lambda m, k: m + k,
    "M + 0.1 K": lambda m, k: m + 0.1 * k,
    "2 M - K / 4": lambda m, k: 2 * m - k * 0.25,
    "-(M - K) + M": lambda m, k: -(m - k) + m,
    "M / 4 + K": lambda m, k: m / 4 + k,
    "3 K": lambda m, k: np.float64(3) * k,
    "2 (M + K) * 3": lambda m, k: 2 * (m + k) * 3,
    "0 M + K": lambda m, k: 0 * m + k,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"dirichlet": "boundary"}, {"components": 2, "dirichlet": [0, 4]}]
)
def test_it_is_the_sum_of_the_matrices(form, dim, options, rng):
    mass, stiffness = pair(dim, 2, **options)
    total, expected = FORMS[form](mass, stiffness), made_of(mass, stiffness, FORMS[form])
    assert isinstance(total, OperatorSum)
    size = abs(matrix(mass)).sum(axis=1).max() + abs(matrix(stiffness)).sum(axis=1).max()
    near = {"rtol": 0, "atol": 100 * U * size}
    np.testing.assert_allclose(matrix(total), expected, **near)
    np.testing.assert_allclose(total.diagonal().ravel(), np.diag(expected), **near)
    u = rng.standard_normal((total.components, total.ndof))
    out = np.full_like(u, np.nan)
    assert total.apply(u, out=out) is out
    np.testing.assert_array_equal(out, total @ u)
    b, g = rng.standard_normal((2, *u.shape))
    free = FORMS[form](*pair(dim, 2, components=total.components))
    if total.fixed is None:
        np.testing.assert_array_equal(total.right_hand_side(b, g), b)
    else:
        lifted = np.zeros_like(g)
        lifted[:, total.fixed] = g[:, total.fixed]
        wanted = b - (free @ lifted)
        wanted[:, total.fixed] = g[:, total.fixed]
        np.testing.assert_allclose(total.right_hand_side(b, g), wanted, **near)


def test_of_single_elements(rng):
    mass, stiffness = pair(3, 2)
    u = mass.mesh.gather(rng.standard_normal(mass.ndof), mass.basis)
    found = (mass + 0.5 * stiffness).apply_local(u)
    expected = mass.apply_local(u) + 0.5 * stiffness.apply_local(u)
    np.testing.assert_allclose(found, expected, rtol=0, atol=10 * U * abs(expected).max())


def test_single_precision_and_copies(rng):
    mass, stiffness = pair(2, 4)
    total = mass + 0.1 * stiffness
    u = rng.standard_normal(total.ndof)
    low = total.astype(np.float32)
    assert (low @ u).dtype == np.float32
    np.testing.assert_allclose(low @ u, total @ u, rtol=0, atol=1e-6 * abs(total @ u).max())
    mass32, stiffness32 = pair(2, 4, dtype=np.float32)
    np.testing.assert_array_equal((mass32 + 0.1 * stiffness32) @ u, low @ u)
    assert total.nbytes == mass.nbytes + stiffness.nbytes == 2 * low.nbytes
    for other in (copy.deepcopy(total), pickle.loads(pickle.dumps(total))):
        np.testing.assert_array_equal(other @ u, total @ u)


@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16x2"])
@pytest.mark.parametrize("step", [1e-60, 1e-6, 1.0, 1e6, 1e60])
def test_it_is_solved(precision, step, rng):
    """Also where one of the operators is nothing beside the other."""
    mass, stiffness = pair(2, 4, 3, dirichlet="boundary")
    total = mass + step * stiffness
    b = total.right_hand_side(rng.standard_normal(total.ndof), 1.0)
    u, report = solve(total, b, precision=precision, full_output=True)
    assert report.status is Status.CONVERGED
    exact = np.linalg.solve(matrix(total), b)
    np.testing.assert_allclose(u, exact, rtol=0, atol=1e-7 * abs(exact).max())
    assert (u[total.fixed] == 1).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_sums_that_overflow_are_told_by_solve():
    total = 1e308 * pair(2, 3, dirichlet="boundary")[1]
    with pytest.raises(LinAlgError, match="overflows"):
        solve(total, np.ones(total.ndof))


def test_a_difference_that_is_not_definite():
    mass, stiffness = pair(2, 4, dirichlet="boundary")
    with pytest.raises(LinAlgError, match="not positive definite"):
        solve(mass - stiffness, np.ones(mass.ndof))


@pytest.mark.parametrize("p", [2, 4])
def test_reaction_and_diffusion_converge(p):
    """-Δu + 9 u = f on the square, u = sin(πx) sin(πy): the order is p + 1."""
    errors = []
    for cells in (2, 4, 8):
        mesh, basis = StructuredMesh(2, cells), TensorBasis.lagrange(2, p, p + 2)
        mass = MassOperator(mesh, basis, coefficient=9.0, dirichlet="boundary")
        total = mass + DiffusionOperator(mesh, basis, dirichlet="boundary")
        x, y = mesh.coordinates(basis)
        exact = np.sin(np.pi * x) * np.sin(np.pi * y)
        f = load_vector(
            mesh, basis,
            lambda x, y: (2 * np.pi**2 + 9) * np.sin(np.pi * x) * np.sin(np.pi * y),
        )  # fmt: skip
        u = solve(total, total.right_hand_side(f), tol=1e-12)
        errors.append(abs(u - exact).max())
    assert np.log2(errors[1] / errors[2]) > p + 0.7


def test_on_a_device(cupy, rng):  # noqa: F811
    here, there = pair(dirichlet="boundary"), pair(dirichlet="boundary", device="cuda")
    totals = [mass + 0.1 * stiffness for mass, stiffness in (here, there)]
    u = rng.standard_normal(totals[0].ndof)
    given = cupy.asarray(u)
    with forbidden_transfers(0):
        found = totals[1] @ given
    np.testing.assert_allclose(found.get(), totals[0] @ u, rtol=0, atol=1e-14)
    solved = solve(totals[1], cupy.asarray(totals[0] @ u), precision="fp32")
    np.testing.assert_allclose(solved.get(), u, rtol=0, atol=1e-8)


def test_what_cannot_be_summed_up():
    mass, stiffness = pair(2, 3)
    for other, message in (
        (pair(2, 3)[1], "share one mesh"),
        (
            DiffusionOperator(mass.mesh, stiffness.basis, components=2),
            "same components, got 1 and 2",
        ),
        (DiffusionOperator(mass.mesh, stiffness.basis, dtype="f"), "same dtype, got float64 and f"),
        (DiffusionOperator(mass.mesh, TensorBasis.lagrange(2, 1, 2)), "same nodes, .* 2 and 1"),
        (DiffusionOperator(mass.mesh, stiffness.basis, dirichlet=[3]), "fixed, got 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            mass + other
    for factor in (np.inf, np.nan):
        with pytest.raises(ValueError, match="must be finite"):
            factor * mass
    for wrong in ("2", 1j, None, np.ones(3), [1], True):
        with pytest.raises(TypeError):
            wrong * mass
        with pytest.raises(TypeError):
            mass + wrong
    with pytest.raises(ValueError, match="1e-60 is out of the range of float32"):
        1e-60 * pair(2, 3, dtype="f")[0]
    with pytest.raises(ValueError, match=r"3\.3e-45 is out of the range of float32"):
        3.3e-45 * pair(2, 3, dtype="f")[0]
    with pytest.raises(ValueError, match="the factor 1e-200 leaves nothing"):
        1e-200 * (1e-200 * mass)
    with pytest.raises(ZeroDivisionError):
        mass / 0
    with pytest.raises(ValueError, match="one at least"):
        OperatorSum([])
    for terms in ([mass, stiffness], [(2.0, "x")], [(2.0, mass, 3)]):
        with pytest.raises(TypeError, match="pairs of a number and an operator"):
            OperatorSum(terms)
    with pytest.raises(TypeError, match="must be a number, got '2'"):
        OperatorSum([("2", mass)])


def test_arguments_that_are_no_mesh_or_basis():
    mesh, basis = StructuredMesh(2, 2), TensorBasis.lagrange(2, 1, 2)
    with pytest.raises(TypeError, match="expected a TensorBasis, got 3"):
        MassOperator(mesh, 3)
    with pytest.raises(TypeError, match="expected a StructuredMesh, got TensorBasis"):
        MassOperator(basis, basis)
    with pytest.raises(TypeError, match="unsupported operand"):
        np.ones(9) @ MassOperator(mesh, basis)


def test_the_workspace_of_a_sum_has_room_for_a_term():
    parts = pair(2, 12, 3, dirichlet="boundary")
    b = np.ones(parts[0].ndof)
    alone, both = (
        solve(a, b, precision="fp64", full_output=True)[1].workspace_bytes
        for a in (parts[1], parts[0] + parts[1])
    )
    assert both >= alone + b.nbytes
