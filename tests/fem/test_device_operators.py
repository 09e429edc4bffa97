"""Operators on a device are those of the CPU; its part is played on the host."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from mplinalg import LinAlgError
from mplinalg.errors import LinAlgWarning
from mplinalg.fem import (
    DiffusionOperator,
    MassOperator,
    StructuredMesh,
    TensorBasis,
    bake_off,
    load_vector,
    solve,
)
from mplinalg.fem.iteration import Level
from mplinalg.kernels.cuda.catalogue_fem import POINTS
from mplinalg.ops import array_fem
from mplinalg.precision import FORMATS

from ..cupy_on_host.install import forbidden_transfers, recorded
from ..device import cupy, stand_in
from .assembled import bent

__all__ = ["cupy", "stand_in"]


U = {"f": 2.0**-24, "d": 2.0**-53}
BOTH = [MassOperator, DiffusionOperator]
# cells, p, q: as many points as an instance has, and fewer; more than any has; one dimension
CASES = [
    ((3, 2), 1, 2, "gauss"), ((2, 3), 3, 4, "gll"), ((9, 2), 3, 5, "gauss"),
    ((1, 1), 8, 9, "gll"), ((2, 1), 12, 16, "gauss"), ((2, 1), 14, 17, "gauss"),
    ((5,), 3, 4, "gll"), ((4,), 2, 4, "gauss"),
    ((3, 4, 6), 1, 2, "gll"), ((5, 1, 2), 1, 3, "gauss"), ((2, 3, 2), 2, 3, "gauss"),
    ((2, 1, 3), 2, 4, "gauss"), ((3, 1, 2), 3, 4, "gll"), ((1, 2, 2), 4, 5, "gll"),
    ((2, 1, 1), 4, 6, "gauss"), ((1, 2, 1), 5, 7, "gauss"), ((1, 1, 2), 7, 8, "gll"),
    ((1, 2, 1), 7, 9, "gauss"), ((2, 1, 1), 8, 10, "gauss"), ((1, 1, 2), 9, 11, "gauss"),
]  # fmt: skip


def made(operator_class, cells, p, q, quadrature, **options):
    """The operator on the CPU and on the device."""
    mesh = StructuredMesh(len(cells), cells, mapping=bent)
    basis = TensorBasis.lagrange(len(cells), p, q, quadrature=quadrature)
    return [operator_class(mesh, basis, **options, device=d) for d in ("cpu", "cuda")]


def is_near(found, expected, p, dtype="d"):
    """Sums of some hundred products, of numbers that cancel in derivatives: p^2 of a slope."""
    size = abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=20 * p**2 * U[dtype] * size)


@pytest.mark.parametrize("operator_class", BOTH)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_products(cupy, rng, operator_class, case):
    """Of all the nodes, of single elements, with fixed nodes; nothing leaves the device."""
    here, there = made(operator_class, *case, components=2, dirichlet="boundary")
    u, p = rng.standard_normal((2, here.ndof)), case[1]
    local = here.mesh.gather(u, here.basis)
    given, given_local = cupy.asarray(u), cupy.asarray(local)
    out = cupy.full_like(given, np.nan)
    with forbidden_transfers(0):
        found, found_local = there @ given, there.apply_local(given_local)
        assert there.apply(given, out=out) is out
    with forbidden_transfers(8 * case[2] * (case[1] + 1)):  # a 1-D operator
        diagonal = there.diagonal()
    assert isinstance(found, cupy.ndarray)
    assert there.nbytes == 8 * here.mesh.nelem * case[2] ** len(case[0]) * (
        1 if operator_class is MassOperator else len(case[0]) * (len(case[0]) + 1) // 2
    )
    is_near(found.get(), here @ u, p)
    is_near(found_local.get(), here.apply_local(local), p)
    np.testing.assert_array_equal(out.get(), found.get())
    is_near(diagonal.get(), here.diagonal(), p)


@pytest.mark.parametrize("operator_class", BOTH)
@pytest.mark.parametrize("case", [((4, 3), 2, 4, "gauss"), ((2, 2, 2), 3, 4, "gll")], ids=str)
def test_single_precision(cupy, rng, operator_class, case):
    here, there = made(operator_class, *case, dtype=np.float32)
    u = rng.standard_normal(here.ndof).astype("f")
    found = there @ cupy.asarray(u)
    assert found.dtype == np.float32
    is_near(found.get(), here @ u, case[1], "f")
    double = made(operator_class, *case)[1].astype(np.float32)
    np.testing.assert_array_equal((double @ cupy.asarray(u)).get(), found.get())


@pytest.mark.parametrize("coefficient", [2.5, "array", "tensor"])
def test_coefficients_and_plain_boxes(cupy, rng, coefficient):
    """Without a mapping all elements have the factors of one, which are kept once."""
    mesh, basis = StructuredMesh(3, (2, 3, 1)), TensorBasis.lagrange(3, 2, 4)
    given = {
        2.5: 2.5, "array": 1 + rng.random((6, 4, 4, 4)),
        "tensor": np.array([[2.0, 0.1, 0.3], [0.1, 3.0, 0.2], [0.3, 0.2, 4.0]]),
    }[coefficient]  # fmt: skip
    here, there = (DiffusionOperator(mesh, basis, given, device=d) for d in ("cpu", "cuda"))
    u = rng.standard_normal(here.ndof)
    is_near((there @ cupy.asarray(u)).get(), here @ u, 2)
    assert there.nbytes == 8 * 6 * 64 * (6 if coefficient == "array" else 1)
    is_near(there.diagonal().get(), here.diagonal(), 2)


def test_elements_do_not_touch_others(cupy, rng):
    """NaN in an element stays there, and all else has the bits that it has without."""
    there = made(DiffusionOperator, (4, 3, 2), 2, 4, "gauss")[1]
    u = rng.standard_normal((24, 1, 3, 3, 3))
    plain = there.apply_local(cupy.asarray(u)).get()
    u[7, 0, 1, 2, 0], u[11] = np.nan, np.inf
    found = there.apply_local(cupy.asarray(u)).get()
    others = np.setdiff1d(np.arange(24), [7, 11])
    np.testing.assert_array_equal(found[others], plain[others])
    assert np.isnan(found[[7, 11]]).any(axis=(1, 2, 3, 4)).all()


def test_the_same_bits_every_time(cupy, rng):
    there = made(MassOperator, (5, 4, 3), 3, 5, "gauss")[1]
    u = cupy.asarray(rng.standard_normal(there.ndof))
    first = (there @ u).get()
    assert all(np.array_equal((there @ u).get(), first) for _ in range(3))


def test_one_launch_for_elements_and_one_for_sums(stand_in, rng):
    there = made(DiffusionOperator, (2, 2, 2), 3, 5, "gauss", components=3)[1]
    u = stand_in.asarray(rng.standard_normal((3, there.ndof)))
    there @ u
    with recorded() as ledger:
        there @ u
    assert dict(ledger.launches) == {"fem_diffusion<double, 3, 5>": 1, "fem_join<double, 3>": 1}
    assert not ledger.syncs


@pytest.mark.parametrize("operator_class", BOTH)
@pytest.mark.parametrize("missing", ["fem_", "fem_join", "fem_dot", "fem_descend", "fem_turn"])
def test_without_kernels(stand_in, rng, operator_class, monkeypatch, missing):
    """One or all of them: by functions of the array library, with a note of it."""
    from mplinalg.kernels.cuda import fallbacks, loader

    load, launch = loader.load, loader.launch

    def refused(name, *arguments):
        if name.startswith(missing):
            raise loader.KernelUnavailable(f"{name} is not to be had")
        return (launch if arguments else load)(name, *arguments)

    monkeypatch.setattr(loader, "load", refused)
    monkeypatch.setattr(loader, "launch", refused)
    fallbacks.forget()
    here, there = made(operator_class, (2, 3, 2), 3, 5, "gauss", dirichlet="boundary")
    u = rng.standard_normal(here.ndof)
    local = rng.standard_normal((12, 1, 4, 4, 4))

    def products_and_solution():
        found = there @ stand_in.asarray(u)
        return found, there.apply_local(stand_in.asarray(local)), solve(there, found)

    with pytest.warns(LinAlgWarning, match="fem_"):
        found, found_local, v = products_and_solution()
    is_near(found.get(), here @ u, 3)
    is_near(found_local.get(), here.apply_local(local), 3)
    np.testing.assert_allclose(v.get(), u, rtol=0, atol=1e-7)
    assert there._prepared.scratch_bytes > 0
    fallbacks.forget()


def test_sums_of_the_fallback_are_in_double_precision(stand_in, monkeypatch):
    from mplinalg.kernels.cuda import elements
    from mplinalg.ops.cupy_fem import CupyFem

    monkeypatch.setattr(elements, "has_vectors", lambda dtype: False)
    x = stand_in.full(4097, 1.0, "f")
    x[0] = 2.0**25
    assert CupyFem().dot(x, stand_in.ones(4097, "f")) == 2.0**25 + 4096


@pytest.mark.parametrize("operator_class", BOTH)
def test_tables_by_columns(cupy, rng, operator_class):
    """Arrays keep their order on the way to a device, and kernels want rows."""
    basis = TensorBasis.lagrange(3, 2, 4)
    by_columns = TensorBasis(
        3, basis.nodes, basis.points, basis.weights, np.asfortranarray(basis.B),
        np.asfortranarray(basis.D),
    )  # fmt: skip
    mesh = StructuredMesh(3, 2, mapping=bent)
    u = rng.standard_normal(mesh.ndof(basis))
    found = operator_class(mesh, by_columns, device="cuda") @ cupy.asarray(u)
    is_near(found.get(), operator_class(mesh, basis) @ u, 2)


def test_on_another_stream(cupy, rng):
    """Than that on which the operator was made, of which the user knows nothing."""
    here, there = made(DiffusionOperator, (3, 2), 2, 4, "gauss", dirichlet="boundary")
    single = there.astype(np.float32)
    u = rng.standard_normal(here.ndof)
    with cupy.cuda.Stream(non_blocking=True):
        found, rounded = (there @ cupy.asarray(u)).get(), (single @ cupy.asarray(u)).get()
    is_near(found, here @ u, 2)
    is_near(rounded, here @ u, 2, "f")


def test_on_another_device(stand_in, rng):
    there = made(MassOperator, (3, 2), 2, 4, "gauss")[1]
    with stand_in.cuda.Device(1):
        u = stand_in.ones(there.ndof)
        with pytest.raises(ValueError, match="different devices"):
            there @ u
        with pytest.raises(ValueError, match="different devices"):
            there.apply_local(stand_in.ones((6, 1, 3, 3)))


def test_many_factors(stand_in, rng, monkeypatch):
    """Are computed some elements at a time, and found again."""
    case = (4, 3), 2, 4, "gauss"
    here, whole = made(DiffusionOperator, *case)
    monkeypatch.setattr(array_fem, "_CHUNK", 100)
    parts = made(DiffusionOperator, *case)[1]
    some = np.array([7, 2, 11])
    for numbers in (np.arange(12), some, np.arange(3, 9)):
        factors = parts._prepared.factors(numbers)
        np.testing.assert_array_equal(factors.get(), whole._prepared.factors(numbers).get())
        np.testing.assert_array_equal(factors.get(), here._prepared.factors(numbers))


def test_where_results_may_go(cupy):
    there = made(MassOperator, (3, 2), 2, 4, "gauss")[1]
    u = cupy.ones(2 * there.ndof)
    n = there.ndof
    for out in (u[: 2 * n : 2], u[1 : n + 1]):
        with pytest.raises(ValueError, match=r"contiguous|overlap"):
            there.apply(u[:n], out=out)


def test_vectors_of_fp16x2(cupy, rng):
    """Are rounded before they are multiplied, as on the CPU."""
    for operator, xp in zip(made(MassOperator, (2, 2), 2, 4, "gauss"), (np, cupy), strict=True):
        single = operator.astype(np.float32)
        p = (1e-3 * rng.standard_normal(operator.ndof)).astype("f")
        fmt, size = FORMATS["fp16x2"], 2.0**-7
        level = Level(fmt, single, None, 1.0)
        level.product(xp.asarray(p), out := xp.empty(p.shape, "f"))
        rounded = fmt.round(p / np.float32(size)) * np.float32(size)
        assert not np.array_equal(rounded, p)
        expected = single @ xp.asarray(rounded)
        assert (out == expected).all()
        assert not (out == single @ xp.asarray(p)).all()


@pytest.mark.parametrize("precision", ["auto", "fp64", "fp32", "fp16x2"])
@pytest.mark.parametrize("components", [1, 2])
def test_conjugate_gradients(cupy, rng, precision, components):
    """As many iterations as on the CPU, or nearly, and a residual that meets the same test."""
    here, there = made(
        DiffusionOperator, (4, 3), 3, 5, "gauss", dirichlet="boundary", components=components
    )
    shape = (components, here.ndof)
    b, values = rng.standard_normal(shape), rng.standard_normal(shape)
    b_here = here.right_hand_side(b, values)
    b_there = there.right_hand_side(cupy.asarray(b), cupy.asarray(values))
    is_near(b_there.get(), b_here, 3)
    u, expected = solve(here, b_here, precision=precision, full_output=True)
    v, report = solve(there, b_there, precision=precision, full_output=True)
    assert isinstance(v, cupy.ndarray)
    assert v.dtype == np.float64
    assert report.status.value == "converged"
    assert report.rungs == expected.rungs
    shared = components * 12 * 12 * 8  # what elements have for the nodes on their surface
    assert (
        report.workspace_bytes
        == expected.workspace_bytes
        + shared
        + (
            there.nbytes - here.nbytes
            if precision.startswith("fp32") or precision == "fp16x2"
            else 0
        )
        // 2
    )
    assert abs(report.inner_iterations - expected.inner_iterations) <= 2
    residual = np.linalg.norm(here @ v.get() - b_here) / np.linalg.norm(b_here)
    assert residual <= 1.1e-10
    np.testing.assert_allclose(v.get(), u, rtol=0, atol=1e-7 * abs(u).max())


def test_a_start_and_a_scale(cupy, rng):
    here, there = made(MassOperator, (3, 3), 2, 4, "gauss")
    u = rng.standard_normal(here.ndof)
    b = cupy.asarray(here @ u) * 1e-290
    x0 = cupy.asarray(u * (1 + 1e-6)) * 1e-290
    v, report = solve(there, b, x0=x0, full_output=True)
    _, longer = solve(there, b, full_output=True)
    assert 0 < report.inner_iterations < longer.inner_iterations
    np.testing.assert_allclose(v.get() * 1e290, u, rtol=1e-7)


def test_few_synchronizations(stand_in, rng):
    """Two an iteration: the curvature, and the norm of the residual."""
    there = made(DiffusionOperator, (4, 4), 3, 5, "gauss", dirichlet="boundary")[1]
    b = there.right_hand_side(stand_in.asarray(rng.standard_normal(there.ndof)))
    solve(there, b)
    with recorded() as ledger:
        _, report = solve(there, b, full_output=True)
    most = 2 * report.inner_iterations + 12 * (report.iterations + 2)
    assert report.inner_iterations > 20
    assert len(ledger.syncs) <= most, (len(ledger.syncs), most)


def test_it_is_not_definite(cupy):
    there = made(DiffusionOperator, (3, 3), 2, 4, "gauss", coefficient=-1.0)[1]
    with pytest.raises(LinAlgError, match="entry 0 of its diagonal is -"):
        solve(there, cupy.ones(there.ndof))


def test_a_linear_operator(cupy, rng):
    here, there = made(MassOperator, (3, 2), 2, 4, "gauss")
    u = rng.standard_normal(here.ndof)
    operator = there.as_linear_operator()
    assert operator.shape == here.shape
    for product in (operator.matvec, operator.rmatvec):
        is_near(product(cupy.asarray(u)).get(), here @ u, 2)


def test_copies(cupy, rng):
    there = bake_off(6, StructuredMesh(3, (2, 1, 1)), 2, device="cuda")
    u = cupy.asarray(rng.standard_normal(there.shape[0]))
    expected = (there @ u).get()
    np.testing.assert_array_equal((copy.copy(there) @ u).get(), expected)
    assert "device='cuda'" in repr(there)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_arrays_from_elsewhere_are_refused(cupy, device):
    """Nothing is moved unasked: not u, b or out, nor what geometry is computed of."""
    mesh, basis = StructuredMesh(2, 3), TensorBasis.lagrange(2, 2, 3)
    operator = DiffusionOperator(mesh, basis, dirichlet="boundary", device=device)
    right, wrong = (cupy, np) if device == "cuda" else (np, cupy)
    n = operator.ndof
    for wrongly in (
        lambda: operator @ wrong.ones(n),
        lambda: solve(operator, wrong.ones(n)),
        lambda: solve(operator, right.ones(n), x0=wrong.ones(n)),
        lambda: operator.right_hand_side(wrong.ones(n)),
        lambda: operator.right_hand_side(right.ones(n), wrong.ones(n)),
        lambda: operator.apply(right.ones(n), out=wrong.ones(n)),
    ):
        with pytest.raises(TypeError, match=r"unasked|ndarray"):
            wrongly()
    with pytest.raises(TypeError, match=r"coefficient\.get\(\)"):
        MassOperator(mesh, basis, cupy.ones((9, 3, 3)), device=device)
    with pytest.raises(TypeError, match=r"\.get\(\)"):
        load_vector(mesh, basis, lambda x, y: cupy.asarray(x))
    with pytest.raises(TypeError, match="real"):
        operator @ (1j * right.ones(n))


def test_there_is_no_such_device():
    mesh, basis = StructuredMesh(2, 3), TensorBasis.lagrange(2, 2, 3)
    with pytest.raises(ValueError, match="device must be one of"):
        MassOperator(mesh, basis, device="gpu")


def test_cases_reach_every_instance():
    """Of the double-precision kernels."""
    for dim, sizes in POINTS.items():
        used = {
            min((s for s in sizes if s >= q), default=0) for c, _, q, _ in CASES if len(c) == dim
        }
        assert used >= {*sizes, 0}, dim


def test_it_can_be_sent_away(cupy, rng):
    """Factors and tables come back from `pickle` as arrays of the device."""
    mesh, basis = StructuredMesh(2, (3, 2)), TensorBasis.lagrange(2, 2, 4)
    there = MassOperator(mesh, basis, device="cuda")
    prepared = pickle.loads(pickle.dumps(there._prepared))
    u = cupy.asarray(rng.standard_normal((1, there.ndof)))
    prepared.apply(u, out := cupy.empty_like(u))
    np.testing.assert_array_equal(out.get(), (there @ u[0]).get()[None])
