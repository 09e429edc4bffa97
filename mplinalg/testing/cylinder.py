"""Exact scattering of a plane wave by a sound-soft circular cylinder, as a series.

The answer to which a numerical solution of the scattering problem in `boundary_elements` is held.
It shares nothing with the integral equation but the physics and the normalisation: a time factor
exp(-i omega t), so that outgoing waves are Hankel functions of the first kind, written H_m here.

References
----------
.. [1] D. Colton and R. Kress, "Inverse Acoustic and Electromagnetic Scattering Theory", Springer;
   the expansions of plane and radiating waves in two dimensions.
.. [2] M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions", 9.1 and 9.3, for the
   recurrences and the growth of Bessel functions with their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import j0, j1, jv, y0, y1

__all__ = ["CylinderSeries", "cylinder_series", "plane_wave"]

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]
_POWERS_OF_I = (1, 1j, -1, -1j)


def plane_wave(points: ArrayLike, wavenumber: float, direction: float = 0.0) -> Complex:
    """Incident wave exp(i k x . d), d = (cos direction, sin direction), at points (..., 2)."""
    x = _check_points(points)
    phase = x[..., 0] * np.cos(direction) + x[..., 1] * np.sin(direction)
    return np.asarray(np.exp(1j * wavenumber * phase))


@dataclass(frozen=True, eq=False)
class CylinderSeries:
    """Scattering by a sound-soft circular cylinder as a series; made by `cylinder_series`.

    Attributes
    ----------
    wavenumber, radius, direction : float
        k, a, and the angle of travel of the incident wave.
    coefficients : (terms,) ndarray of complex128
        J_m(k a) / H_m(k a), m = 0, 1, ...
    """

    wavenumber: float
    radius: float
    direction: float
    coefficients: Complex

    def far_field(self, angles: ArrayLike) -> Complex:
        """Far-field pattern at ``angles`` (...), normalised as by `boundary_elements.far_field`."""
        theta = np.asarray(angles, dtype=np.float64) - self.direction
        total = np.full(theta.shape, self.coefficients[0])
        for m, c in enumerate(self.coefficients[1:], start=1):
            total += 2 * c * np.cos(m * theta)
        scale = -np.sqrt(2 / (np.pi * self.wavenumber)) * np.exp(-0.25j * np.pi)
        return np.asarray(scale * total)

    def scattered_field(self, points: ArrayLike) -> Complex:
        """u^s = -sum over m of i^m J_m(k a) H_m(k r) / H_m(k a) e^{i m theta} at points (..., 2).

        Raises
        ------
        ValueError
            If a point lies inside the cylinder.
        """
        x = _check_points(points)
        r = np.hypot(x[..., 0], x[..., 1])
        if np.any(r < self.radius * (1 - 1e-12)):
            raise ValueError(f"Expected points outside the cylinder, got radius {r.min():.6g}")
        theta = np.arctan2(x[..., 1], x[..., 0]) - self.direction
        total = np.zeros(r.shape, dtype=np.complex128)
        jm = jv(np.arange(len(self.coefficients)), self.wavenumber * self.radius)
        near = _hankel_ratios(self.wavenumber * np.asarray(self.radius))
        quotients = _hankel_ratios(self.wavenumber * r)
        # c H_m(k r) with c = J_m / H_m at k a, carried as J_m times the bounded H_m(k r) / H_m(k a)
        h = next(quotients) / next(near)
        for m, j in enumerate(jm):
            total -= (1 if m == 0 else 2) * _POWERS_OF_I[m % 4] * j * h * np.cos(m * theta)
            h = h * (next(quotients) / next(near))
        return total


def cylinder_series(
    wavenumber: float, radius: float = 1.0, direction: float = 0.0
) -> CylinderSeries:
    """Exact scattering of a plane wave by a sound-soft circular cylinder.

    Parameters
    ----------
    wavenumber : float
        k > 0.
    radius : float
        a > 0.
    direction : float
        Angle of travel of the incident wave, in radians.

    Returns
    -------
    CylinderSeries
        With methods ``far_field(angles)`` and ``scattered_field(points)``.

    Notes
    -----
    J_m(ka) falls faster than exponentially once m exceeds ka by a few multiples of (ka)^(1/3);
    the sum ends where it is below roundoff.  H_m overflows there, so that only
    quotients of Hankel functions are formed, by the recurrence of `_hankel_ratios`.

    Examples
    --------
    The field cancels the incident wave on the cylinder.

    >>> series = cylinder_series(5.0)
    >>> theta = np.arange(7.0)
    >>> x = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    >>> bool(np.abs(series.scattered_field(x) + plane_wave(x, 5.0)).max() < 1e-13)
    True
    """
    k, a = _positive("wavenumber", wavenumber), _positive("radius", radius)
    ka = k * a
    terms = int(np.ceil(ka + 10 * np.cbrt(ka))) + 12
    h = np.empty(terms, dtype=np.complex128)  # H_m(ka), overflow replaced by infinity
    ratios = _hankel_ratios(np.asarray(ka))
    product = np.asarray(1.0 + 0j)
    with np.errstate(over="ignore", invalid="ignore"):
        for m in range(terms):
            product = product * next(ratios)
            h[m] = product if np.isfinite(product) else np.inf
    return CylinderSeries(k, a, float(direction), jv(np.arange(terms), ka) / h)


def _hankel_ratios(z: Real) -> Iterator[Complex]:
    """H_0(z), then H_1/H_0, H_2/H_1, ... at z > 0: stable upwards, and never out of range."""
    h0 = np.asarray(j0(z) + 1j * y0(z))
    yield h0
    ratio = np.asarray((j1(z) + 1j * y1(z)) / h0)
    m = 1
    while True:
        yield ratio
        ratio = np.asarray(2 * m / z - 1 / ratio)  # H_{m+1} = (2 m / z) H_m - H_{m-1}
        m += 1


def _check_points(points: ArrayLike) -> Real:
    x = np.asarray(points, dtype=np.float64)
    if x.ndim == 0 or x.shape[-1] != 2:
        raise ValueError(f"Expected points of shape (..., 2), got {x.shape=}")
    return x


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"Expected a positive {name}, got {value!r}")
    return float(value)
