r"""Dense matrices from physics: sound-soft scattering in the plane by boundary integrals.

An obstacle with a smooth boundary :math:`\Gamma` reflects the plane wave
:math:`u^i(x) = e^{i k x \cdot d}`; the total field vanishes on :math:`\Gamma`.  With the
fundamental solution :math:`\Phi(x, y) = \frac{i}{4} H^{(1)}_0(k |x - y|)`, the scattered wave is
sought as a combined double- and single-layer potential (Brakhage and Werner),

.. math:: u^s(x) = \int_\Gamma \Bigl\{ \frac{\partial \Phi(x, y)}{\partial \nu(y)}
          - i \eta\, \Phi(x, y) \Bigr\} \varphi(y)\, ds(y),

so that the density solves :math:`\varphi + K \varphi - i \eta S \varphi = -2 u^i` on
:math:`\Gamma`, uniquely for every :math:`k > 0`.  Kress's Nystrom method takes ``n`` equidistant
values of the parameter, splits off the logarithm of the kernels and integrates it exactly for
trigonometric polynomials: on an analytic curve the error falls exponentially with ``n``.

For the circle the answer is also a series (`cylinder_series`), which shares nothing with the
integral equation but the physics.  Everything here is NumPy and SciPy's special functions in
double precision: it judges the solvers of this library and uses none of them.

References
----------
.. [1] H. Brakhage and P. Werner, "Uber das Dirichletsche Aussenraumproblem fur die Helmholtzsche
   Schwingungsgleichung", Archiv der Mathematik 16 (1965), 325-329.
.. [2] R. Kress, "Boundary integral equations in time-harmonic acoustic scattering",
   Mathematical and Computer Modelling 15 (1991), 229-243.
.. [3] D. Colton and R. Kress, "Inverse Acoustic and Electromagnetic Scattering Theory", Springer;
   the section on numerical methods in two dimensions of the chapter on direct obstacle scattering.
.. [4] R. Kress, "Linear Integral Equations", Springer; on the logarithmic kernel of potential
   theory and on the quadrature of section 12.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import j0, j1, y0, y1

from mplinalg.testing.cylinder import (
    CylinderSeries,
    _check_points,
    _positive,
    cylinder_series,
    plane_wave,
)

__all__ = [
    "Curve",
    "CylinderSeries",
    "circle",
    "combined_field_matrix",
    "cylinder_series",
    "default_coupling",
    "ellipse",
    "far_field",
    "helmholtz_matrix",
    "kite",
    "laplace_matrix",
    "plane_wave",
    "plane_wave_rhs",
    "scattered_field",
]

_ROWS = 32  # rows assembled at once: the temporaries are a few arrays of _ROWS by n

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Curve:
    """A smooth closed curve x(t), counter-clockwise, sampled at t_j = 2 pi j / n.

    Attributes
    ----------
    points, velocity, acceleration : (n, 2) ndarray
        x(t_j), x'(t_j) and x''(t_j).
    """

    points: Real
    velocity: Real
    acceleration: Real

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.points)

    @property
    def speed(self) -> Real:
        """|x'(t_j)|, shape (n,): arc length per unit of the parameter."""
        return np.hypot(self.velocity[:, 0], self.velocity[:, 1])

    @property
    def scaled_normal(self) -> Real:
        """|x'| times the outward unit normal, shape (n, 2)."""
        return np.stack([self.velocity[:, 1], -self.velocity[:, 0]], axis=1)


def ellipse(n: int, semi_axes: tuple[float, float] = (2.0, 1.0)) -> Curve:
    """The ellipse (p cos t, q sin t) with ``semi_axes = (p, q)`` at ``n`` nodes."""
    t = _nodes(n)
    p, q = semi_axes
    if not (p > 0 and q > 0):
        raise ValueError(f"Expected positive lengths, got {semi_axes=}")
    c, s = np.cos(t), np.sin(t)
    x = np.stack([p * c, q * s], axis=1)
    return Curve(x, np.stack([-p * s, q * c], axis=1), -x)


def circle(n: int, radius: float = 1.0) -> Curve:
    """The circle about the origin with the given ``radius`` at ``n`` nodes."""
    return ellipse(n, (radius, radius))


def kite(n: int) -> Curve:
    """The kite (cos t + 0.65 cos 2t - 0.65, 1.5 sin t) of [3]_ at ``n`` nodes: not convex."""
    t = _nodes(n)
    c, s, c2, s2 = np.cos(t), np.sin(t), np.cos(2 * t), np.sin(2 * t)
    x = np.stack([c + 0.65 * c2 - 0.65, 1.5 * s], axis=1)
    v = np.stack([-s - 1.3 * s2, 1.5 * c], axis=1)
    return Curve(x, v, np.stack([-c - 2.6 * c2, -1.5 * s], axis=1))


def helmholtz_matrix(n: int, wavenumber: float | None = None) -> Complex:
    """Matrix of the combined-field equation (I + K - i eta S) phi = f on the unit circle.

    Parameters
    ----------
    n : int
        Number of nodes, at least 1, even or odd.
    wavenumber : float, optional
        k > 0; n / 10 by default, that is, ten nodes to a wavelength.

    Returns
    -------
    (n, n) ndarray of complex128
        Neither Hermitian nor symmetric in general; its condition number grows slowly with k.

    See Also
    --------
    combined_field_matrix : the same for any smooth curve.

    Examples
    --------
    >>> a = helmholtz_matrix(64, wavenumber=3.0)
    >>> a.shape, a.dtype
    ((64, 64), dtype('complex128'))
    """
    return combined_field_matrix(circle(n), n / 10 if wavenumber is None else wavenumber)


def combined_field_matrix(
    curve: Curve, wavenumber: float, coupling: float | None = None
) -> Complex:
    r"""Nystrom matrix of :math:`\varphi + K \varphi - i \eta S \varphi` on a smooth curve.

    Parameters
    ----------
    curve : Curve
        Boundary with n nodes.
    wavenumber : float
        k > 0.
    coupling : float, optional
        eta, nonzero; `default_coupling` by default.

    Returns
    -------
    (n, n) ndarray of complex128
        Row i belongs to the node x(t_i), column j to the value of the density at x(t_j).

    Notes
    -----
    With h = 2 pi / n and the weights R of `_log_weights`, the entry (i, j) is
    ``delta_ij - (R - h log(4 sin^2((t_i - t_j) / 2))) A1 - h A``, where A is the kernel and A1 the
    factor of its logarithm, whose diagonal limits are taken from [2]_.  Work: 4 n^2 Bessel
    functions.  Memory: the matrix, and some arrays of 32 rows.

    For even n the highest frequency, n / 2, is the cosine only, as in [2]_; an odd n has no
    such frequency and needs no special rule.
    """
    k, eta = _check_wave(wavenumber, coupling)
    n, h = curve.n, 2 * np.pi / curve.n
    speed, normal = curve.speed, curve.scaled_normal
    weights = _log_weights(n)
    smooth = weights - h * _log_sine(n)  # entry 0 is not used
    x, y = curve.points.T
    a = np.empty((n, n), dtype=np.complex128)
    for rows in _blocks(n):
        dx = x[rows, None] - x
        dy = y[rows, None] - y
        r = np.hypot(dx, dy)
        i = np.arange(rows.start, rows.stop)
        r[i - rows.start, i] = 1.0  # the diagonal is set below
        w = smooth[np.abs(i[:, None] - np.arange(n))]
        double = (0.5 * k) * (normal[:, 0] * dx + normal[:, 1] * dy) / r
        single = (0.5 * eta) * speed
        r *= k
        p, q = double * j1(r), single * j0(r)
        a[rows].real = h * (q - double * y1(r)) - w * p / np.pi
        a[rows].imag = h * (p + single * y0(r)) + w * q / np.pi
    # Limits on the diagonal: A1 = -i eta |x'| / (2 pi), and A = curvature + i eta M2.
    velocity, acceleration = curve.velocity, curve.acceleration
    turning = velocity[:, 0] * acceleration[:, 1] - velocity[:, 1] * acceleration[:, 0]
    m2 = (0.5j - (np.euler_gamma + np.log(0.5 * k * speed)) / np.pi) * speed
    diagonal = turning / (2 * np.pi * speed**2) + 1j * eta * m2
    np.fill_diagonal(a, 1 + weights[0] * 1j * eta * speed / (2 * np.pi) - h * diagonal)
    return a


def laplace_matrix(n: int) -> Real:
    r"""Matrix of the logarithmic potential on an ellipse: real, symmetric positive definite.

    .. math:: (S \psi)(t) = -\frac{1}{2 \pi}
              \int_0^{2 \pi} \log|x(t) - x(\tau)|\, \psi(\tau)\, d\tau,
              \qquad x(t) = (\tfrac12 \cos t, \tfrac14 \sin t)

    Parameters
    ----------
    n : int
        Number of nodes, at least 1, even or odd.

    Returns
    -------
    (n, n) ndarray of float64

    Notes
    -----
    An integral equation of the first kind.  An ellipse with semi-axes p and q has the capacity
    (p + q) / 2, here 3/8; below 1, S is positive definite.  Its eigenvalues are
    :math:`-\log\frac{p + q}{2}` and :math:`\frac{1}{2m} (1 \pm \rho^m)`, m = 1, 2, ..., with
    :math:`\rho = (p - q) / (p + q)`, so that the condition number is close to n.

    Examples
    --------
    >>> largest = np.linalg.eigvalsh(laplace_matrix(32))[-1]
    >>> bool(abs(largest + np.log(3 / 8)) < 1e-13)
    True
    """
    t = _nodes(n)
    p, q = 0.5, 0.25
    weights = _log_weights(n)
    a = np.empty((n, n))
    for rows in _blocks(n):
        # |x(t) - x(tau)|^2 = 4 sin^2((t - tau) / 2) (p^2 sin^2 + q^2 cos^2)((t + tau) / 2)
        half = 0.5 * (t[rows, None] + t)
        rest = np.log((p * np.sin(half)) ** 2 + (q * np.cos(half)) ** 2)
        i = np.arange(rows.start, rows.stop)
        distance = np.abs(i[:, None] - np.arange(n))
        a[rows] = (weights[distance] + (2 * np.pi / n) * rest) / (-4 * np.pi)
    return a


def plane_wave_rhs(curve: Curve, wavenumber: float, direction: float = 0.0) -> Complex:
    """Right-hand side -2 u^i at the nodes, shape (n,), for `combined_field_matrix`."""
    return -2 * plane_wave(curve.points, wavenumber, direction)


def scattered_field(
    density: ArrayLike,
    curve: Curve,
    wavenumber: float,
    points: ArrayLike,
    coupling: float | None = None,
) -> Complex:
    """Scattered wave u^s outside the curve, from the density.

    Parameters
    ----------
    density : (n,) array_like
        Solution of the combined-field equation at the nodes.
    curve : Curve
    wavenumber : float
    points : (..., 2) array_like
        Where to evaluate, outside the curve.
    coupling : float, optional
        eta as given to `combined_field_matrix`.

    Returns
    -------
    (...) ndarray of complex128

    Notes
    -----
    Trapezoidal rule.  Its error at the distance d from the curve is of the order exp(-n d / L),
    with L near 1 for the unit circle: nearer to the boundary than a few node spacings it is poor.
    """
    k, eta = _check_wave(wavenumber, coupling)
    phi = _check_density(density, curve)
    x = _check_points(points)
    flat = x.reshape(-1, 2)
    weight = (0.5j * np.pi / curve.n) * phi  # (i / 4) (2 pi / n) phi
    normal, speed = curve.scaled_normal, curve.speed
    u = np.empty(len(flat), dtype=np.complex128)
    for rows in _blocks(len(flat)):
        d = flat[rows, None, :] - curve.points
        r = np.hypot(d[..., 0], d[..., 1])
        double = k * (normal[:, 0] * d[..., 0] + normal[:, 1] * d[..., 1]) / r
        r *= k
        kernel = double * (j1(r) + 1j * y1(r)) - 1j * eta * speed * (j0(r) + 1j * y0(r))
        u[rows] = kernel @ weight
    return u.reshape(x.shape[:-1])


def far_field(
    density: ArrayLike,
    curve: Curve,
    wavenumber: float,
    angles: ArrayLike,
    coupling: float | None = None,
) -> Complex:
    """Far-field pattern F, u^s(x) = e^{ikr} r^{-1/2} (F(angle) + O(1/r)), from the density.

    Parameters
    ----------
    density, curve, wavenumber, coupling
        As for `scattered_field`.
    angles : (...) array_like
        Directions of observation in radians.

    Returns
    -------
    (...) ndarray of complex128
    """
    k, eta = _check_wave(wavenumber, coupling)
    phi = _check_density(density, curve)
    theta = np.asarray(angles, dtype=np.float64)
    weight = (np.exp(-0.25j * np.pi) / np.sqrt(8 * np.pi * k)) * (2 * np.pi / curve.n) * phi
    normal, speed = curve.scaled_normal, curve.speed
    u = np.empty(theta.size, dtype=np.complex128)
    for rows in _blocks(theta.size):
        t = theta.reshape(-1)[rows]
        towards = np.stack([np.cos(t), np.sin(t)])
        kernel = np.exp(-1j * k * (curve.points @ towards)) * (
            k * (normal @ towards) + eta * speed[:, None]
        )
        u[rows] = weight @ kernel
    return u.reshape(theta.shape)


def default_coupling(wavenumber: float) -> float:
    """eta = max(k, 1/2), close to the choice of least condition number for a circle [2]_."""
    return max(wavenumber, 0.5)


def _nodes(n: int) -> Real:
    if n != int(n) or n < 1:
        raise ValueError(f"Expected at least one node, got {n=}")
    return 2 * np.pi * np.arange(int(n)) / n


def _log_weights(n: int) -> Real:
    """R_j: integral of log(4 sin^2(t / 2)) f(t) dt = sum of R_j f(t_j), for trigonometric f.

    The logarithm multiplies e^{imt} by -2 pi / |m|, and by 0 for m = 0.
    """
    m = np.abs(np.fft.fftfreq(n, 1 / n))
    weights = np.fft.ifft(np.divide(-2 * np.pi, m, out=np.zeros(n), where=m > 0)).real
    return np.asarray(weights)


def _log_sine(n: int) -> Real:
    """log(4 sin^2(t_j / 2)), and 0 in place of the pole at j = 0."""
    s = 2 * np.sin(0.5 * _nodes(n))
    s[0] = 1.0
    return np.asarray(2 * np.log(s))


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _ROWS):
        yield slice(start, min(start + _ROWS, n))


def _check_wave(wavenumber: float, coupling: float | None) -> tuple[float, float]:
    k = _positive("wavenumber", wavenumber)
    eta = default_coupling(k) if coupling is None else float(coupling)
    if not (np.isfinite(eta) and eta != 0):
        raise ValueError(f"Expected a nonzero coupling, got {coupling=}")
    return k, eta


def _check_density(density: ArrayLike, curve: Curve) -> Complex:
    phi = np.asarray(density, dtype=np.complex128)
    if phi.shape != (curve.n,):
        raise ValueError(f"Expected a density of shape ({curve.n},), got {phi.shape=}")
    return phi
