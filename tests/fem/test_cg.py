"""fem.solve: conjugate gradients in every precision; nothing unsolved passes for solved."""

import tracemalloc
import warnings

import numpy as np
import pytest

from mplinalg import LinAlgError, LinAlgWarning
from mplinalg.fem import (
    DiffusionOperator,
    MassOperator,
    StructuredMesh,
    TensorBasis,
    cg,
    load,
    load_vector,
    solve,
)
from mplinalg.report import Status

from .assembled import bent

U = 2.0**-53
PRECISIONS = ["auto", "fp64", "fp32", "fp16x2"]


def poisson(cells=(2, 2, 3), p=2, mapping=bent, **options):
    mesh = StructuredMesh(len(cells), cells, mapping=mapping)
    basis = TensorBasis.lagrange(len(cells), p, p + 2)
    return DiffusionOperator(mesh, basis, dirichlet="boundary", **options)


def relative_residual(operator, u, b):
    """Over the free nodes."""
    free = np.ones(operator.ndof, bool)
    free[operator.fixed] = False
    r, b = (v.reshape(operator.components, -1)[:, free] for v in (b - operator @ u, b))
    return np.linalg.norm(r) / np.linalg.norm(b)


@pytest.mark.parametrize("precision", PRECISIONS)
class TestPrecisions:
    @pytest.mark.parametrize("preconditioner", ["jacobi", None])
    def test_the_residual_meets_its_test(self, precision, preconditioner, rng):
        operator = poisson((9, 9, 9))
        given = rng.standard_normal(operator.ndof)
        b = operator.right_hand_side(rng.standard_normal(operator.ndof), given)
        for tol in (1e-3, 1e-9, 1e-13):
            u, report = solve(
                operator, b, tol=tol, precision=precision, preconditioner=preconditioner,
                full_output=True,
            )  # fmt: skip
            assert report.status is Status.CONVERGED
            assert report.precision == {"auto": "fp64"}.get(precision, precision)
            assert [rung.outcome for rung in report.rungs] == ["converged"]
            assert report.backward_error <= tol
            # the report's residual was computed with b divided by a power of two
            assert abs(relative_residual(operator, u, b) - report.backward_error) <= 1e-2 * tol
            assert np.array_equal(u[operator.fixed], given[operator.fixed])

    def test_it_is_the_solution(self, precision, rng):
        operator = poisson()
        matrix = operator.as_linear_operator() @ np.eye(operator.ndof)
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        u = solve(operator, b, precision=precision, tol=1e-14)
        expected = np.linalg.solve(matrix, b)
        assert np.linalg.norm(u - expected) <= 1e-14 * np.linalg.cond(matrix) * np.linalg.norm(
            expected
        )

    def test_low_precision_costs_few_iterations(self, precision, rng):
        operator = poisson((9, 9, 9))
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        counts = [
            solve(operator, b, tol=1e-12, precision=name, full_output=True)[1].inner_iterations
            for name in ("fp64", precision)
        ]
        assert counts[1] <= 1.25 * counts[0]

    def test_vectors(self, precision, rng):
        operator = poisson(components=3)
        b = operator.right_hand_side(rng.standard_normal((3, operator.ndof)))
        u = solve(operator, b, precision=precision)
        assert u.shape == b.shape
        assert relative_residual(operator, u, b) <= 1.01e-10
        flat = solve(operator, b.ravel(), precision=precision)
        assert np.array_equal(flat, u.ravel())

    @pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-500, 2.0**500, 2.0**900])
    def test_scales_of_b_change_nothing(self, precision, scale, rng):
        operator = poisson()
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        expected = solve(operator, b, precision=precision)
        assert np.array_equal(solve(operator, scale * b, precision=precision), scale * expected)

    @pytest.mark.parametrize("coefficient", [1e-306, 1e300])
    def test_units_of_the_operator_without_preconditioner(self, precision, coefficient, rng):
        """p' A p of a small A underflows if p is the residual, and 0 is not positive."""
        operator = poisson(coefficient=coefficient)
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        u = solve(operator, b, precision=precision, preconditioner=None)
        assert relative_residual(operator, u, b) <= 1.01e-10

    def test_zero(self, precision):
        operator = poisson()
        zero = np.zeros(operator.ndof)
        u, report = solve(operator, zero, precision=precision, full_output=True)
        assert not u.any()
        assert report.status is Status.CONVERGED
        assert report.inner_iterations == 0
        assert report.backward_error == 0
        assert not solve(operator, zero, x0=zero + 1, precision=precision).any()

    @pytest.mark.parametrize("coefficient", [2.0**-400, 2.0**-130, 2.0**400])
    def test_scales_of_the_operator_change_nothing(self, precision, coefficient, rng):
        """Single precision could not hold it."""
        b = poisson().right_hand_side(rng.standard_normal(poisson().ndof))
        expected = solve(poisson(), b, precision=precision)
        u = solve(poisson(coefficient=coefficient), b, precision=precision)
        fixed = poisson().fixed
        u[fixed] /= coefficient
        assert np.array_equal(u * coefficient, expected)


@pytest.fixture
def broken(monkeypatch):
    """Operators of lower precision have the wrong sign."""
    right = DiffusionOperator._lowered
    monkeypatch.setattr(
        DiffusionOperator, "_lowered", lambda self, fmt, scale: right(self, fmt, -scale)
    )


class TestLadder:
    def test_auto_takes_single_precision_for_many_unknowns(self, monkeypatch, rng):
        operator = poisson((9, 9, 9))
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        assert solve(operator, b, full_output=True)[1].precision == "fp64"
        monkeypatch.setattr(cg, "_PAYS_FROM", operator.ndof)
        _, report = solve(operator, b, full_output=True)
        assert [tuple(rung) for rung in report.rungs] == [
            ("fp32", "conjugate gradients", "converged")
        ]

    def test_auto_goes_on_in_double_precision(self, broken, monkeypatch, rng):
        monkeypatch.setattr(cg, "_PAYS_FROM", 0)
        operator = poisson()
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        u, report = solve(operator, b, full_output=True)
        assert relative_residual(operator, u, b) <= 1.01e-10
        assert [(rung.format, rung.outcome) for rung in report.rungs] == [
            ("fp32", "not positive definite"),
            ("fp64", "converged"),
        ]
        assert report.precision == "fp64"
        assert "fp32: not positive definite -> fp64: converged" in str(report)

    def test_iterations_are_counted_in_all(self, monkeypatch, rng):
        monkeypatch.setattr(cg, "_PAYS_FROM", 0)
        operator = poisson((9, 9, 9))
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        with pytest.warns(LinAlgWarning, match="after 5 iterations"):
            _, report = solve(operator, b, maxiter=5, full_output=True)
        assert [(rung.format, rung.outcome) for rung in report.rungs] == [("fp32", "not converged")]
        assert report.inner_iterations == 5

    def test_a_precision_that_is_pinned_is_not_left(self, broken, rng):
        operator = poisson()
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        with pytest.warns(LinAlgWarning, match=r"0 iterations \(not positive definite\)"):
            u, report = solve(operator, b, precision="fp32", full_output=True)
        assert not u.any()
        assert report.status is Status.STAGNATED
        assert report.backward_error == 1

    def test_an_operator_of_single_precision(self, rng):
        operator = poisson(dtype=np.float32)
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        u, report = solve(operator, b, full_output=True)
        assert u.dtype == np.float32
        assert (report.precision, report.status) == ("fp32", Status.CONVERGED)
        assert report.backward_error <= 1e-5
        with pytest.raises(ValueError, match="needs an operator of float64"):
            solve(operator, b, precision="fp64")


@pytest.mark.parametrize("precision", ["auto", "fp16x2"])
class TestOperatorsOfSinglePrecision:
    """What single precision cannot hold is told; b itself is scaled before it is rounded."""

    @pytest.fixture
    def system(self, rng):
        operator = poisson(dtype=np.float32, coefficient=2.0**10)
        b = rng.uniform(0.5, 1, operator.ndof)
        b[operator.fixed] = 0
        return operator, b

    @pytest.mark.parametrize("scale", [2.0**-100, 2.0**127, 2.0**130])
    def test_the_solution_is_within_the_range(self, precision, scale, system):
        operator, b = system
        expected = solve(operator, b, precision=precision)
        u = solve(operator, scale * b, precision=precision)
        assert np.array_equal(u.astype(float), scale * expected.astype(float))

    @pytest.mark.parametrize("scale", [2.0**-600, 2.0**-140, 2.0**600])
    def test_the_solution_is_out_of_it(self, precision, scale, system):
        operator, b = system
        with pytest.warns(LinAlgWarning, match="out of range"):
            _, report = solve(operator, scale * b, precision=precision, full_output=True)
        assert report.status is Status.STAGNATED
        assert not report.backward_error <= 1e-5


class TestHonesty:
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_too_few_iterations(self, precision, rng):
        operator = poisson((9, 9, 9))
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        with pytest.warns(LinAlgWarning, match=r"after 5 iterations \(not converged\)"):
            u, report = solve(operator, b, precision=precision, maxiter=5, full_output=True)
        assert report.status is Status.STAGNATED
        assert report.inner_iterations == 5
        assert 1e-10 < report.backward_error < 1
        assert abs(relative_residual(operator, u, b) - report.backward_error) <= 1e-12

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_a_tolerance_below_rounding(self, precision, rng):
        operator = poisson((9, 9, 9), coefficient=lambda x, y, z: np.where(x > 0.5, 1e4, 1.0))
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        with pytest.warns(LinAlgWarning, match=r"\(stagnated\); tol=1.0e-18"):
            _, report = solve(operator, b, precision=precision, tol=1e-18, full_output=True)
        assert report.status is Status.STAGNATED
        assert 1e-18 < report.backward_error <= 1e-9

    def test_nodes_are_not_fixed(self, rng):
        """Constants are in the null space, and b is not orthogonal to them."""
        mesh, basis = StructuredMesh(3, (2, 2, 3)), TensorBasis.lagrange(3, 2, 4)
        operator = DiffusionOperator(mesh, basis)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                _, report = solve(operator, np.ones(operator.ndof), maxiter=500, full_output=True)
            except LinAlgError as error:
                assert "not positive definite" in str(error)  # noqa: PT017
                return
        assert report.status is Status.STAGNATED
        assert [item.category for item in caught] == [LinAlgWarning]

    def test_an_indefinite_operator(self, rng):
        operator = poisson(coefficient=lambda x, y, z: np.where(x > 0.5, -1.0, 1.0))
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        for preconditioner in ("jacobi", None):
            with pytest.raises(LinAlgError, match="not positive definite"):
                solve(operator, b, preconditioner=preconditioner)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_not_finite(self, bad, rng):
        operator = poisson()
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        b[7] = bad
        with pytest.raises(ValueError, match="b must be finite"):
            solve(operator, b)
        with pytest.raises(ValueError, match="x0 must be finite"):
            solve(operator, np.zeros_like(b), x0=b)

    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("coefficient", [2.0**-600, 2.0**600])
    def test_a_solution_out_of_range(self, precision, coefficient, rng):
        """It is infinite, or zero: neither solves the system."""
        operator = poisson(coefficient=coefficient)
        b = rng.standard_normal(operator.ndof) / coefficient
        b[operator.fixed] = 0
        with pytest.warns(LinAlgWarning, match="out of range"):
            u, report = solve(operator, b, precision=precision, full_output=True)
        assert report.status is Status.STAGNATED
        assert [rung.outcome for rung in report.rungs] == ["out of range"]
        assert not report.backward_error < 1
        assert not np.isfinite(u).all() or not u.any()

    def test_a_solution_that_is_rounded_to_subnormal_numbers(self, rng):
        operator = poisson()
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        with pytest.warns(LinAlgWarning, match="out of range"):
            _, report = solve(operator, 2.0**-1060 * b, full_output=True)
        assert 1e-10 < report.backward_error < 1e-2

    def test_given_values_out_of_range(self):
        operator = poisson(dtype=np.float32)
        with pytest.raises(ValueError, match="b must be within the range of float32 at fixed"):
            solve(operator, np.full(operator.ndof, 1e39))

    def test_overflow_is_not_convergence(self, rng):
        operator = poisson(coefficient=1e200)
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        with pytest.warns(LinAlgWarning, match="not finite"):
            _, report = solve(operator, b, x0=b, full_output=True)
        assert report.status is Status.STAGNATED


class TestArguments:
    def test_a_good_start_saves_iterations(self, rng):
        operator = poisson((9, 9, 9))
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        u, report = solve(operator, b, full_output=True)
        near = u * (1 + 1e-6 * rng.standard_normal(u.shape))
        kept = near.copy()
        again, second = solve(operator, b, x0=near, full_output=True)
        assert second.inner_iterations < 0.6 * report.inner_iterations
        assert relative_residual(operator, again, b) <= 1.01e-10
        assert np.array_equal(near, kept)
        done = solve(operator, b, x0=u, tol=2e-10, full_output=True)[1]
        assert done.inner_iterations == 0

    def test_b_is_left_alone_and_wanted_whole(self, rng):
        operator = poisson()
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        kept = b.copy()
        solve(operator, b)
        assert np.array_equal(b, kept)
        with pytest.raises(ValueError, match="Expected b of shape"):
            solve(operator, b[1:])
        with pytest.raises(TypeError, match="b must hold real numbers"):
            solve(operator, b + 0j)
        with pytest.raises(TypeError, match="operator must be one of"):
            solve(np.eye(3), np.ones(3))

    @pytest.mark.parametrize("tol", [0, 1, -1e-3, np.nan])
    def test_tol(self, tol):
        operator = poisson()
        with pytest.raises(ValueError, match="tol must be between 0 and 1"):
            solve(operator, np.zeros(operator.ndof), tol=tol)

    def test_options(self):
        operator = poisson()
        b = np.zeros(operator.ndof)
        with pytest.raises(ValueError, match="precision must be"):
            solve(operator, b, precision="fp16")
        with pytest.raises(ValueError, match="preconditioner must be"):
            solve(operator, b, preconditioner="ilu")
        for maxiter in (0, -1, 1.5, "9"):
            with pytest.raises(ValueError, match="maxiter must be a positive integer"):
                solve(operator, b, maxiter=maxiter)

    def test_a_mass_matrix(self, rng):
        mesh, basis = StructuredMesh(3, (9, 9, 9), mapping=bent), TensorBasis.lagrange(3, 2, 4)
        mass = MassOperator(mesh, basis)
        u = rng.standard_normal(mass.ndof)
        # kappa of a mass matrix with its diagonal taken out is some tens at this degree
        assert np.linalg.norm(solve(mass, mass @ u, tol=1e-14) - u) <= 1e-11 * np.linalg.norm(u)

    def test_the_same_bits_on_any_number_of_threads(self, rng, monkeypatch):
        from mplinalg.kernels.cpu.batched import threads

        operator = poisson((9, 9, 9))
        b = operator.right_hand_side(rng.standard_normal(operator.ndof))
        monkeypatch.setattr(threads, "_WORTHWHILE", 1e-12)
        results = []
        for count in (1, 3):
            monkeypatch.setattr(threads, "blas_threads", lambda count=count: count)
            results.append(solve(operator, b, precision="fp32"))
        assert np.array_equal(*results)


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_the_workspace_is_what_is_taken(precision, rng):
    operator = poisson((128, 128), p=4)
    b = operator.right_hand_side(rng.standard_normal(operator.ndof))
    solve(operator, b, precision=precision, tol=0.9)  # compiles
    tracemalloc.start()
    _, report = solve(operator, b, precision=precision, tol=0.9, full_output=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.7 * peak <= report.workspace_bytes <= 1.3 * peak


def test_the_load_vector(rng, monkeypatch):
    for cells in ((5,), (2, 3), (2, 1, 2)):
        mesh = StructuredMesh(len(cells), cells, mapping=bent)
        basis = TensorBasis.lagrange(len(cells), 2, 4)
        # a polynomial of the nodes' degree is interpolated exactly, so that its load is M u
        nodal = rng.standard_normal(mesh.ndof(basis))
        mass = MassOperator(mesh, basis)
        values = basis.interp(mesh.gather(nodal, basis))[:, 0]
        b = load_vector(mesh, basis, lambda *x, values=values: values)
        assert abs(b - mass @ nodal).max() <= 30 * U * abs(nodal).max() * abs(mass.diagonal()).max()
        both = load_vector(mesh, basis, lambda *x, values=values: np.stack([values, 2 * values]))
        assert np.array_equal(both, np.stack([b, 2 * b]))
    with pytest.raises(ValueError, match="f must return shape"):
        load_vector(mesh, basis, lambda *x: np.zeros(3))
    with pytest.raises(ValueError, match="f must be of shape"):
        load_vector(mesh, basis, np.zeros((3, 3)))
    monkeypatch.setattr(load, "_CHUNK", 200)  # a few elements at a time
    assert np.allclose(load_vector(mesh, basis, values), b, rtol=1e-14)
    one = load_vector(mesh, basis, 1.0)
    assert np.allclose(load_vector(mesh, basis, [0, -9.81]), [0 * one, -9.81 * one], rtol=1e-14)
    assert np.allclose(load_vector(mesh, basis, np.stack([values, 2 * values])), both, rtol=1e-14)
    for bad in (None, 1j, lambda *x: x[0] + 0j):
        with pytest.raises(TypeError, match="f must hold real numbers"):
            load_vector(mesh, basis, bad)


def test_a_low_precision_in_vain_leaves_iterations_for_the_working_one():
    """Its recurrence wanders: for 20,000 iterations nothing told that the residual stayed."""
    mesh, basis = StructuredMesh(2, 32), TensorBasis.lagrange(2, 3, 5)
    operator = DiffusionOperator(
        mesh, basis, lambda x, y: np.where((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1, 1e8, 1.0),
        dirichlet="boundary",
    )  # fmt: skip
    b = operator.right_hand_side(load_vector(mesh, basis, 1.0))
    with pytest.warns(LinAlgWarning, match="stagnated"):
        _, report = solve(operator, b, precision="fp32", full_output=True)
    assert report.inner_iterations < 10_000


def test_a_low_precision_that_goes_down_slowly_is_not_given_up(rng):
    """The residual grows at first, and the recurrence follows it."""
    mesh = StructuredMesh(1, 200)
    operator = DiffusionOperator(mesh, TensorBasis.lagrange(1, 3, 4), dirichlet="boundary")
    b = rng.standard_normal(operator.ndof)
    _, report = solve(operator, b, precision="fp32", full_output=True)
    assert report.status is Status.CONVERGED
