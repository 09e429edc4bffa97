"""The scattering matrices against point sources, physical laws, and the series."""

import tracemalloc

import numpy as np
import pytest
from scipy.special import hankel1

from mplinalg.testing import boundary_elements as be

ANGLES = np.linspace(0, 2 * np.pi, 181)
OUTSIDE = np.array([[4.0, 1.0], [-3.0, 2.0], [0.0, -5.0]])
CURVES = {"circle": be.circle, "ellipse": be.ellipse, "kite": be.kite}


def relative(x, exact):
    return np.abs(x - exact).max() / np.abs(exact).max()


def scatter(curve, wavenumber, direction=0.0, coupling=None):
    """Density for a plane wave."""
    a = be.combined_field_matrix(curve, wavenumber, coupling)
    return np.linalg.solve(a, be.plane_wave_rhs(curve, wavenumber, direction))


def point_source_error(curve, wavenumber):
    """A source inside the curve radiates the field that its own boundary values determine."""

    def field(x):
        return hankel1(0, wavenumber * np.hypot(x[:, 0] - 0.1, x[:, 1] - 0.2))

    density = np.linalg.solve(be.combined_field_matrix(curve, wavenumber), 2 * field(curve.points))
    return relative(be.scattered_field(density, curve, wavenumber, OUTSIDE), field(OUTSIDE))


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("n", [96, 97])
def test_field_of_a_point_source_is_recovered(name, n):
    assert point_source_error(CURVES[name](n), 2.0) < 1e-12


@pytest.mark.parametrize("parity", [0, 1])
def test_convergence_is_exponential(parity):
    coarse, medium, fine = (point_source_error(be.kite(n + parity), 2.0) for n in (32, 48, 64))
    assert 1e-7 < coarse < 1e-4
    assert medium < 1e-2 * coarse
    assert fine < 1e-2 * medium


@pytest.mark.parametrize("wavenumber", [0.3, 5.0, 30.0])
@pytest.mark.parametrize("parity", [0, 1])
def test_circle_agrees_with_the_series(wavenumber, parity):
    curve = be.circle(int(8 * wavenumber) + 80 + parity)
    density = scatter(curve, wavenumber)
    series = be.cylinder_series(wavenumber)
    ring = be.circle(50, radius=1.7).points
    far = be.far_field(density, curve, wavenumber, ANGLES)
    near = be.scattered_field(density, curve, wavenumber, ring)
    assert relative(far, series.far_field(ANGLES)) < 1e-13
    assert relative(near, series.scattered_field(ring)) < 1e-13


def test_radius_direction_and_coupling():
    radius, direction, wavenumber, coupling = 2.5, 0.7, 3.0, -1.0
    curve = be.circle(160, radius)
    density = scatter(curve, wavenumber, direction, coupling)
    series = be.cylinder_series(wavenumber, radius, direction)
    x = OUTSIDE.reshape(3, 1, 2)
    near = be.scattered_field(density, curve, wavenumber, x, coupling)
    assert near.shape == (3, 1)
    assert relative(near, series.scattered_field(x)) < 1e-13
    far = be.far_field(density, curve, wavenumber, ANGLES, coupling)
    assert relative(far, series.far_field(ANGLES)) < 1e-13


@pytest.mark.parametrize("name", CURVES)
def test_optical_theorem(name):
    # All power taken out of the incident wave is missing straight ahead.
    k, curve = 4.0, CURVES[name](160)
    density = scatter(curve, k)
    theta = 2 * np.pi * np.arange(200) / 200
    radiated = np.sum(np.abs(be.far_field(density, curve, k, theta)) ** 2) * np.pi / 100
    ahead = be.far_field(density, curve, k, 0.0)
    missing = -(4 / k) * np.sqrt(np.pi * k / 2) * (np.exp(0.25j * np.pi) * ahead).real
    np.testing.assert_allclose(radiated, missing, rtol=1e-12)


def test_reciprocity():
    # Source and observer may change places.
    k, curve, one, other = 3.0, be.kite(160), 0.4, 2.1
    there = be.far_field(scatter(curve, k, one), curve, k, other)
    back = be.far_field(scatter(curve, k, other + np.pi), curve, k, one + np.pi)
    np.testing.assert_allclose(there, back, rtol=1e-11)


@pytest.mark.parametrize("ka", [1e-8, 0.1, 1.0, 10.0, 100.0])
def test_series_to_the_last_digits(ka):
    mp = pytest.importorskip("mpmath")
    series = be.cylinder_series(ka)
    r, theta = 1.3, 1.0
    with mp.workdps(40):
        far = near = mp.mpc(0)
        for m in range(len(series.coefficients) + 10):
            c = mp.besselj(m, ka) / mp.hankel1(m, ka) * (1 if m == 0 else 2) * mp.cos(m * theta)
            far -= mp.sqrt(2 / (mp.pi * ka)) * mp.exp(-mp.pi * mp.mpc(0, 0.25)) * c
            near -= mp.mpc(0, 1) ** m * c * mp.hankel1(m, mp.mpf(ka) * mp.mpf(r))
    x = r * np.array([np.cos(theta), np.sin(theta)])
    largest = np.abs(series.far_field(ANGLES)).max()
    assert abs(series.far_field(theta) - complex(far)) < 1e-14 * (1 + ka / 10) * largest
    assert abs(series.scattered_field(x) - complex(near)) < 1e-14 * (1 + ka / 10)


@pytest.mark.parametrize("ka", [1e-12, 0.01, 7.0, 300.0])
def test_series_cancels_the_incident_wave_on_the_cylinder(ka):
    x = be.circle(33).points
    total = be.cylinder_series(ka).scattered_field(x) + be.plane_wave(x, ka)
    assert np.abs(total).max() < 1e-15 * (100 + 10 * ka)


@pytest.mark.parametrize("n", [1, 2, 3, 31, 32, 33, 65])
def test_shapes_and_dtypes_for_every_size(n):
    a, b = be.helmholtz_matrix(n), be.laplace_matrix(n)
    assert (a.shape, a.dtype) == ((n, n), np.complex128)
    assert (b.shape, b.dtype) == ((n, n), np.float64)
    assert np.isfinite(a).all()
    assert np.isfinite(b).all()


def test_default_wavenumber_is_ten_nodes_to_a_wavelength():
    np.testing.assert_array_equal(be.helmholtz_matrix(40), be.helmholtz_matrix(40, 4.0))


@pytest.mark.parametrize("n", [1, 2, 5, 8, 64, 129])
def test_laplace_is_symmetric_positive_definite(n):
    a = be.laplace_matrix(n)
    np.testing.assert_array_equal(a, a.T)
    np.linalg.cholesky(a)


def test_laplace_has_the_eigenvalues_of_the_ellipse():
    m, rho = np.arange(1, 65), 1 / 3
    pairs = np.concatenate([(1 + rho**m) / (2 * m), (1 - rho**m) / (2 * m)])
    exact = np.sort(np.append(pairs, -np.log(3 / 8)))
    np.testing.assert_allclose(np.linalg.eigvalsh(be.laplace_matrix(129)), exact, rtol=1e-12)


def test_assembly_takes_little_memory_beyond_the_matrix():
    curve = be.circle(1200)
    tracemalloc.start()
    try:
        a = be.combined_field_matrix(curve, 20.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.4 * a.nbytes


@pytest.mark.parametrize("n", [0, -3, 2.5])
def test_sizes_that_make_no_sense(n):
    with pytest.raises(ValueError, match="at least one node"):
        be.helmholtz_matrix(n)
    with pytest.raises(ValueError, match="at least one node"):
        be.laplace_matrix(n)


@pytest.mark.parametrize("wavenumber", [0.0, -1.0, np.nan, np.inf])
def test_wavenumbers_that_make_no_sense(wavenumber):
    with pytest.raises(ValueError, match="positive wavenumber"):
        be.helmholtz_matrix(8, wavenumber)
    with pytest.raises(ValueError, match="positive wavenumber"):
        be.cylinder_series(wavenumber)


def test_other_arguments_that_make_no_sense():
    curve = be.circle(8)
    with pytest.raises(ValueError, match="nonzero coupling"):
        be.combined_field_matrix(curve, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"shape \(8,\)"):
        be.far_field(np.ones(7), curve, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 2\)"):
        be.plane_wave([1.0, 2.0, 3.0], 1.0)
    with pytest.raises(ValueError, match="outside the cylinder"):
        be.cylinder_series(1.0).scattered_field([0.5, 0.0])
    with pytest.raises(ValueError, match="positive radius"):
        be.cylinder_series(1.0, radius=-1.0)
    with pytest.raises(ValueError, match="positive lengths"):
        be.ellipse(8, (1.0, 0.0))
