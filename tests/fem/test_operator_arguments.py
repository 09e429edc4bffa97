"""Operators: what they take, what they refuse, and copies of them."""

import copy
import pickle

import numpy as np
import pytest

from mplinalg.fem import DiffusionOperator, MassOperator, StructuredMesh, TensorBasis, bake_off

from .assembled import bent


def made(cells=(4, 5), p=3):
    mesh = StructuredMesh(len(cells), cells, mapping=bent)
    return mesh, TensorBasis.lagrange(len(cells), p, p + 2)


class TestArguments:
    @pytest.fixture
    def operator(self):
        mesh, basis = made()
        return MassOperator(mesh, basis, components=2)

    def test_given_values_are_plain_numbers(self, rng):
        """Nothing that is masked or sparse, of whatever shape."""
        mesh, basis = made()
        operator = MassOperator(mesh, basis, dirichlet="boundary")
        b = rng.standard_normal(operator.ndof)
        expected = operator.right_hand_side(b, np.full(operator.ndof, 3.0))
        for given in (3, 3.0, np.float32(3), np.array(3), np.full(operator.ndof, 3, "f"),
                      [3] * operator.ndof):  # fmt: skip
            assert np.allclose(operator.right_hand_side(b, given), expected, rtol=1e-14)
        for given in (np.ma.masked, np.ma.array(3.0, mask=True), np.ma.ones(operator.ndof)):
            with pytest.raises(ValueError, match="masked arrays are not supported"):
                operator.right_hand_side(b, given)
        for given in (1j, "3", np.full(operator.ndof, 1j)):
            with pytest.raises(TypeError, match="real numbers"):
                operator.right_hand_side(b, given)
        with pytest.raises(ValueError, match="Expected values of shape"):
            operator.right_hand_side(b, [1.0, 2.0])

    def test_dtypes_and_layouts(self, operator, rng):
        u = rng.integers(-5, 5, (2, operator.ndof))
        expected = operator @ u.astype(float)
        backwards = np.asfortranarray(u.astype(float))
        reverse = u.astype(float)[:, ::-1].copy()[:, ::-1]
        single = u.astype(np.float32)
        for given in (u, u.tolist(), backwards, reverse, single, u.astype(">f8"), u.astype(">i4")):
            assert np.array_equal(operator @ given, expected)
        read_only = u.astype(float)
        read_only.flags.writeable = False
        assert np.array_equal(operator @ read_only, expected)
        assert np.array_equal(read_only, u)

    def test_out(self, operator, rng):
        u = rng.standard_normal((2, operator.ndof))
        out = np.full_like(u, np.nan)
        assert operator.apply(u, out) is out
        assert np.array_equal(out, operator @ u)
        local = operator.mesh.gather(u, operator.basis)
        target = np.full_like(local, np.nan)
        assert operator.apply_local(local, target) is target
        assert np.array_equal(target, operator.apply_local(local))

    def test_bad_out(self, operator):
        u = np.zeros((2, operator.ndof))
        matrix = np.zeros((2, operator.ndof)).view(np.matrix)
        with pytest.raises(
            TypeError, match="out must be an ndarray of float64, got matrix float64"
        ):
            operator.apply(u, matrix)
        with pytest.raises(
            TypeError, match="out must be an ndarray of float64, got ndarray float32"
        ):
            operator.apply(u, u.astype(np.float32))
        with pytest.raises(ValueError, match="out must be contiguous"):
            operator.apply(u, np.zeros((2, operator.ndof + 1)))
        with pytest.raises(ValueError, match="out must be contiguous"):
            operator.apply(u, np.zeros((operator.ndof, 2)).T)
        with pytest.raises(ValueError, match="out must not overlap u"):
            operator.apply(u, u)

    @pytest.mark.parametrize("shape", [(208,), (1, 208), (2, 207), (415,), (2, 1, 208), ()])
    def test_bad_shapes(self, operator, shape):
        with pytest.raises(ValueError, match=r"Expected u of shape \(2, 208\) or \(416,\), got"):
            operator.apply(np.zeros(shape))
        with pytest.raises(ValueError, match=r"Expected u of shape \(20, 2, 4, 4\), got"):
            operator.apply_local(np.zeros(shape))

    def test_complex_values(self, operator):
        with pytest.raises(TypeError, match="u must hold real numbers, got complex128"):
            operator.apply(np.zeros((2, operator.ndof), complex))

    def test_as_linear_operator(self, operator, rng):
        linear = operator.as_linear_operator()
        u = rng.standard_normal(2 * operator.ndof)
        assert linear.shape == operator.shape == (416, 416)
        assert linear.dtype == np.float64
        assert np.array_equal(linear @ u, operator @ u)
        assert np.array_equal(linear.T @ u, operator @ u)
        both = linear @ np.stack([u, 2 * u], axis=1)
        assert np.array_equal(both[:, 1], operator @ (2 * u))

    @pytest.mark.parametrize("components", [0, -1, 1.5, np.nan, "2", None])
    def test_components(self, components):
        mesh, basis = made()
        with pytest.raises(ValueError, match="components"):
            MassOperator(mesh, basis, components=components)

    @pytest.mark.parametrize("dtype", [np.float16, complex, int])
    def test_dtypes(self, dtype):
        mesh, basis = made()
        with pytest.raises(TypeError, match="dtype must be float32 or float64"):
            MassOperator(mesh, basis, dtype=dtype)

    @pytest.mark.parametrize(
        ("p", "q", "quadrature"), [(1, 1, "gauss"), (3, 3, "gauss"), (2, 2, "gll")]
    )
    def test_too_few_points(self, p, q, quadrature):
        """q = p Gauss points see (q)^dim of (p + 1)^dim functions: singular element by element."""
        basis = TensorBasis.lagrange(2, p, q, quadrature=quadrature)
        for operator_class in (MassOperator, DiffusionOperator):
            with pytest.raises(ValueError, match="q must be at least p \\+ 1"):
                operator_class(StructuredMesh(2, 2), basis)

    def test_a_fold(self):
        mesh = StructuredMesh(2, (3, 2), mapping=lambda x, y: (np.where(x > 0.7, 4 / 3 - x, x), y))
        with pytest.raises(ValueError, match=r"folds element 2, cell \(2, 0\)"):
            DiffusionOperator(mesh, TensorBasis.lagrange(2, 1, 2))

    def test_coefficients(self):
        mesh, basis = made()
        with pytest.raises(ValueError, match=r"coefficient must be .* got \(20, 5\)"):
            MassOperator(mesh, basis, np.ones((20, 5)))
        with pytest.raises(ValueError, match=r"coefficient must be .* got \(2, 2\)"):
            MassOperator(mesh, basis, np.eye(2))
        with pytest.raises(ValueError, match=r"coefficient must return shape .* got \(3,\)"):
            DiffusionOperator(mesh, basis, lambda x, y: np.zeros(3))
        with pytest.raises(ValueError, match="must be finite"):
            MassOperator(mesh, basis, lambda x, y: np.where(x > 0.5, np.nan, 1))
        with pytest.raises(ValueError, match=r"masked .*\(coefficient\)"):
            MassOperator(mesh, basis, np.ma.masked)
        with pytest.raises(ValueError, match="must be symmetric; K - K' is 1"):
            DiffusionOperator(mesh, basis, np.array([[2.0, 1.0], [0.0, 2.0]]))

    @pytest.mark.parametrize(
        "bad",
        [1j, np.array(1j), None, "a", lambda x, y: x + 0j],
        ids=["1j", "0-d", "None", "a", "x"],
    )
    def test_what_is_not_real(self, bad):
        """Nothing imaginary is discarded, and None is not NaN."""
        mesh, basis = made()
        operator = MassOperator(mesh, basis, dirichlet="boundary")
        for operator_class in (MassOperator, DiffusionOperator):
            with pytest.raises(TypeError, match="coefficient must hold real numbers"):
                operator_class(mesh, basis, bad)
        if not callable(bad):
            with pytest.raises(TypeError, match="values must hold real numbers"):
                operator.right_hand_side(np.zeros(operator.ndof), bad)

    @pytest.mark.parametrize("operator_class", [MassOperator, DiffusionOperator])
    @pytest.mark.parametrize(("coefficient", "dtype"), [(1e308, float), (1e40, np.float32),
                                                        (1e-60, np.float32)])  # fmt: skip
    def test_factors_out_of_range(self, operator_class, coefficient, dtype):
        """Infinite ones would give NaN, and zeros a zero operator."""
        mesh = StructuredMesh(2, 3, lengths=3e3 if operator_class is MassOperator else 1.0,
                              mapping=lambda x, y: (x, 10 * y))  # fmt: skip
        basis = TensorBasis.lagrange(2, 3, 5)
        with pytest.raises(ValueError, match="out of the range of"):
            operator_class(mesh, basis, coefficient, dtype=dtype)
        if dtype is np.float32:
            with pytest.raises(ValueError, match="out of the range of float32"):
                operator_class(mesh, basis, coefficient).astype(dtype)
            assert not (operator_class(mesh, basis, 0.0, dtype=dtype) @ np.ones(100)).any()

    def test_byte_order_of_a_dtype(self, rng):
        mesh, basis = made()
        u = rng.standard_normal(mesh.ndof(basis))
        swapped = MassOperator(mesh, basis, dtype=np.dtype(float).newbyteorder())
        assert swapped.dtype == np.float64
        assert np.array_equal(swapped @ u, MassOperator(mesh, basis) @ u)

    def test_a_basis_without_symmetry(self):
        """Its operators are applied in halves, which takes symmetric nodes and points."""
        mesh, basis = made()
        for name in ("nodes", "points"):
            parts = {key: getattr(basis, key) for key in ("nodes", "points", "weights", "B", "D")}
            parts[name] = np.where(parts[name] == parts[name][1], 0.9 * parts[name], parts[name])
            with pytest.raises(ValueError, match=f"the {name} of the basis must be symmetric"):
                MassOperator(mesh, TensorBasis(2, **parts))

    def test_other_dimensions(self):
        mesh, _ = made()
        with pytest.raises(ValueError, match=r"a mesh of 2 dimensions .* got basis\.dim=3"):
            MassOperator(mesh, TensorBasis.lagrange(3, 2, 3))

    @pytest.mark.parametrize("number", [0, 7, "1", None])
    def test_bake_off_problems(self, number):
        with pytest.raises(ValueError, match="numbered 1 to 6"):
            bake_off(number, StructuredMesh(2, 2), 2)


@pytest.mark.parametrize("number", range(1, 7))
def test_bake_off_problems_are_those_of_ceed(number):
    operator = bake_off(number, StructuredMesh(3, 2), 3)
    assert type(operator) is (MassOperator if number <= 2 else DiffusionOperator)
    assert operator.components == (3 if number % 2 == 0 else 1)
    assert (operator.basis.q, operator.basis.is_collocated) == ((5, False), (4, True))[number > 4]


def pickled(operator):
    return pickle.loads(pickle.dumps(operator))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_copies(copied, dtype, rng):
    """Factors are read in whole aligned registers, and NumPy aligns copies to less."""
    mesh, basis = made()
    operator = DiffusionOperator(mesh, basis, dirichlet="boundary", dtype=dtype)
    u = rng.standard_normal(operator.ndof).astype(dtype)
    twins = [copied(operator) for _ in range(8)]
    assert all(twin._prepared._factors.ctypes.data % 64 == 0 for twin in twins)
    for twin in twins:
        assert np.array_equal(twin @ u, operator @ u)
        assert np.array_equal(twin.diagonal(), operator.diagonal())
