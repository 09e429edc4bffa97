"""Families drawn entry by entry, and two that come from applications."""

from __future__ import annotations

import numpy as np

from mplinalg.testing._draw import Draw
from mplinalg.testing._registry import COMPLEX, Matrix, family


@family("Edelman (1988), SIAM J. Matrix Anal. Appl. 9")
def random_normal(draw: Draw, n: int) -> Matrix:
    """Independent standard normal entries: condition number of the order of n."""
    return draw.normal(n, n)


@family("Higham (2002), section 28.2")
def random_uniform(draw: Draw, n: int, *, low: float = -1.0, high: float = 1.0) -> Matrix:
    """Independent entries uniform on [low, high); complex: on the square [low, high)^2."""
    if not low < high:
        raise ValueError(f"low must be below high, got {low=}, {high=}")
    return draw.uniform(low, high, n, n)


@family("Davis (1979), Circulant Matrices")
def circulant(draw: Draw, n: int) -> Matrix:
    """c[(i - j) mod n] with a normal first column c: eigenvalues are its Fourier transform."""
    k = np.arange(n)
    column = draw.normal(n)
    wrapped: Matrix = column[np.subtract.outer(k, k) % n] if n else np.zeros((0, 0))
    return wrapped


@family("elementary", kappa=lambda n: 1.0)
def permutation(draw: Draw, n: int) -> Matrix:
    """The rows of the identity in random order."""
    identity: Matrix = np.eye(n)
    return identity[draw.rng.permutation(n)]


@family("Varah (1975), Linear Algebra Appl. 11")
def diagonally_dominant(draw: Draw, n: int, *, margin: float = 1.0) -> Matrix:
    """Uniform on [-1, 1); a_ii = margin + sum of |a_ij|: inf-norm of the inverse <= 1 / margin."""
    if not margin > 0:
        raise ValueError(f"margin must be positive, got {margin!r}")
    a = draw.uniform(-1, 1, n, n)
    np.fill_diagonal(a, 0)
    np.fill_diagonal(a, margin + np.abs(a).sum(axis=1))
    return a


@family(
    "Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, section 4.2",
    hermitian=True,
    positive_definite=True,
)
def gaussian_kernel(
    draw: Draw,
    n: int,
    *,
    dimension: int = 2,
    length_scale: float = 0.1,
    nugget: float = 1e-4,
) -> Matrix:
    """exp(-|p_i - p_j|^2 / (2 length_scale^2)) + nugget I; points p random in the unit cube."""
    if not length_scale > 0:
        raise ValueError(f"length_scale must be positive, got {length_scale!r}")
    if not nugget >= 0:
        raise ValueError(f"nugget must not be negative, got {nugget!r}")
    points = draw.rng.random((n, dimension))
    squares = np.zeros((n, n))
    for coordinate in points.T:
        squares += np.subtract.outer(coordinate, coordinate) ** 2
    a: Matrix = np.exp(-squares / (2 * length_scale**2))
    a[np.diag_indices(n)] += nugget
    return a


@family("Colton and Kress (2013), Inverse Acoustic and Electromagnetic Scattering", dtypes=COMPLEX)
def helmholtz_bem(n: int, *, wavenumber: float | None = None) -> Matrix:
    """Boundary elements for a wave scattered by a disc, 10 nodes a wavelength; complex only."""
    from mplinalg.testing.boundary_elements import helmholtz_matrix

    return helmholtz_matrix(n, wavenumber) if n else np.zeros((0, 0), complex)


@family("Kress (2014), Linear Integral Equations", hermitian=True, positive_definite=True)
def laplace_bem(n: int) -> Matrix:
    """Boundary elements for the Laplace equation on an ellipse: condition number about n."""
    from mplinalg.testing.boundary_elements import laplace_matrix

    return laplace_matrix(n) if n else np.zeros((0, 0))
