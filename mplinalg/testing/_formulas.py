"""Families given by a formula for their entries.

Indices i and j in the descriptions run from 1 to n, as they do in the literature.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mplinalg.testing._registry import Matrix, family

FloatMatrix = NDArray[np.float64]


def _indices(n: int) -> tuple[FloatMatrix, FloatMatrix]:
    """Return i as a column and j as a row, both from 1 to n."""
    k = np.arange(1.0, n + 1)
    return k[:, None], k[None, :]


def _points(label: str, values: ArrayLike | None, default: FloatMatrix) -> FloatMatrix:
    if values is None:
        return default
    points = np.asarray(values, dtype=np.float64)
    if points.shape != default.shape:
        raise ValueError(f"{label} must have shape {default.shape}, got {points.shape}")
    return points


def _hilbert_kappa(n: int) -> float:
    # The largest singular value of either factor is accurate, the smallest of H is not.
    return float(np.linalg.norm(hilbert(n), 2) * np.linalg.norm(inverse_hilbert(n), 2))


@family("elementary", hermitian=True, positive_definite=True, kappa=lambda n: 1.0)
def identity(n: int) -> Matrix:
    """The identity."""
    return np.eye(n)


@family(
    "Hilbert (1894), Acta Math. 18; Higham (2002), section 28.1",
    hermitian=True,
    positive_definite=True,
    kappa=_hilbert_kappa,
)
def hilbert(n: int) -> Matrix:
    """1 / (i + j - 1): condition number about exp(3.5 n)."""
    i, j = _indices(n)
    return 1 / (i + j - 1)


@family(
    "Savage and Lukacs (1954), Nat. Bur. Standards AMS 39; Choi (1983), Amer. Math. Monthly 90",
    hermitian=True,
    positive_definite=True,
    kappa=_hilbert_kappa,
)
def inverse_hilbert(n: int) -> Matrix:
    """The inverse of the Hilbert matrix: integers, rounded correctly; n <= 203 in float64."""
    # With p[i] = (n+i-1)! / ((i-1)!^2 (n-i)!), entry (i, j) is (-1)^(i+j) p[i] p[j] / (i+j-1).
    p = [(-1) ** i * n * math.comb(n + i - 1, n) * math.comb(n - 1, i - 1) for i in range(1, n + 1)]
    a = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            try:
                a[i, j] = a[j, i] = p[i] * p[j] // (i + j + 1)
            except OverflowError:
                raise ValueError(f"inverse_hilbert overflows float64 for n={n}") from None
    return a


@family("Frank (1958), J. SIAM 6")
def frank(n: int) -> Matrix:
    """n + 1 - max(i, j) on and above the subdiagonal, else 0: Hessenberg, determinant 1."""
    i, j = _indices(n)
    return np.triu(n + 1 - np.maximum(i, j), -1)


@family(
    "Nash (1979), Compact Numerical Methods for Computers, appendix 1",
    hermitian=True,
    positive_definite=True,
)
def moler(n: int, *, alpha: float = -1.0) -> Matrix:
    """U^T U, U unit upper triangular with alpha above the diagonal: one tiny eigenvalue."""
    i, j = _indices(n)
    a = alpha + alpha**2 * (np.minimum(i, j) - 1)
    np.fill_diagonal(a, 1 + alpha**2 * np.arange(n))
    return a


@family("Kahan (1966), Canadian Math. Bull. 9")
def kahan(n: int, *, theta: float = 1.2) -> Matrix:
    """diag(s^(i-1)) (I - c N): N is 1 strictly above the diagonal, s = sin theta, c = cos theta."""
    if not 0 < theta < math.pi:
        raise ValueError(f"theta must lie in (0, pi), got {theta!r}")
    upper = np.triu(np.full((n, n), -math.cos(theta)), 1) + np.eye(n)
    return math.sin(theta) ** np.arange(n)[:, None] * upper


@family("Lotkin (1955), Math. Tables Aids Comput. 9")
def lotkin(n: int) -> Matrix:
    """The Hilbert matrix with its first row set to 1: nonsymmetric and as ill conditioned."""
    a = hilbert(n)
    a[:1] = 1
    return a


@family(
    "Lehmer (1946), Amer. Math. Monthly 53; Newman and Todd (1958), J. SIAM 6",
    hermitian=True,
    positive_definite=True,
)
def lehmer(n: int) -> Matrix:
    """min(i, j) / max(i, j): condition number between n and 4 n^2."""
    i, j = _indices(n)
    return np.minimum(i, j) / np.maximum(i, j)


@family(
    "Todd (1977), Basic Numerical Mathematics, vol. 2",
    hermitian=True,
    positive_definite=True,
    # Its inverse is the second difference with a free end: eigenvalues 4 sin^2(..).
    kappa=lambda n: (math.sin((2 * n - 1) * _quarter(n)) / math.sin(_quarter(n))) ** 2,
)
def minij(n: int) -> Matrix:
    """min(i, j)."""
    i, j = _indices(n)
    return np.minimum(i, j)


def _quarter(n: int) -> float:
    return math.pi / (4 * n + 2)


@family(
    "Pei (1962), Comm. ACM 5",
    hermitian=True,
    positive_definite=True,
    kappa=lambda n: n + 1.0 if n > 1 else 1.0,
)
def pei(n: int, *, alpha: float = 1.0) -> Matrix:
    """alpha I + ones: eigenvalues alpha (n - 1 times) and alpha + n."""
    return alpha * np.eye(n) + 1


def _kms_kappa(n: int, rho: float = 0.5) -> float:
    # (1 - rho^2) times the inverse is tridiagonal.
    inverse = np.diag(np.full(n, 1 + rho**2)) - rho * (np.eye(n, k=1) + np.eye(n, k=-1))
    inverse[0, 0] = inverse[-1, -1] = 1 if n > 1 else 1 - rho**2
    return float(np.linalg.cond(inverse))


@family(
    "Kac, Murdock and Szego (1953), J. Rational Mech. Anal. 2; Trench (1989)",
    hermitian=True,
    positive_definite=True,
    kappa=_kms_kappa,
)
def kms(n: int, *, rho: float = 0.5) -> Matrix:
    """rho^|i - j|: Toeplitz, definite for |rho| < 1."""
    if not -1 < rho < 1:
        raise ValueError(f"rho must lie in (-1, 1), got {rho!r}")
    i, j = _indices(n)
    return float(rho) ** np.abs(i - j)


@family("Trefethen and Trummer (1987), SIAM J. Numer. Anal. 24; Trefethen (2000), chapter 6")
def chebyshev_differentiation(n: int, *, boundary_condition: bool = True) -> Matrix:
    """d/dx at Chebyshev points, with u(1) = 0; without that condition nilpotent, so singular."""
    if n == 0:
        return np.zeros((0, 0))
    degree = n if boundary_condition else n - 1
    d = _chebyshev_derivative(degree)
    return d[1:, 1:] if boundary_condition else d


def _chebyshev_derivative(degree: int) -> FloatMatrix:
    """Return the derivative matrix at cos(k pi / degree), k = 0..degree.

    Differences of points and 1 - x^2 are written as products of sines, which do not cancel, and
    arguments near pi are folded to arguments near 0, which are accurate relative to themselves.
    """
    if degree == 0:
        return np.zeros((1, 1))
    k = np.arange(degree + 1.0)

    def sine(halves: FloatMatrix) -> FloatMatrix:
        folded: FloatMatrix = np.sin(np.minimum(halves, 2 * degree - halves) * half_step)
        return folded

    half_step = math.pi / (2 * degree)
    column, row = k[:, None], k[None, :]
    gaps = 2 * sine(column + row) * sine(row - column)
    np.fill_diagonal(gaps, 1.0)
    weight = np.where(k % 2 == 0, 1.0, -1.0)
    weight[[0, -1]] *= 2
    d: FloatMatrix = (weight[:, None] / weight) / gaps
    x, one_minus_x_squared = sine(degree - 2 * k), sine(2 * k) ** 2
    corner = (2 * degree**2 + 1) / 6
    np.fill_diagonal(d, [corner, *(-x[1:-1] / (2 * one_minus_x_squared[1:-1])), -corner])
    return d


@family("Cauchy (1841); Higham (2002), section 28.1", hermitian=True, positive_definite=True)
def cauchy(n: int, *, x: ArrayLike | None = None, y: ArrayLike | None = None) -> Matrix:
    """1 / (x_i + y_j); x and y are 1..n unless given."""
    default = np.arange(1.0, n + 1)
    sums = np.add.outer(_points("x", x, default), _points("y", y, default))
    if np.any(sums == 0):
        raise ValueError("cauchy needs x_i + y_j != 0 for every i and j")
    return 1 / sums


@family("Gautschi (1975), Numer. Math. 23; Higham (2002), chapter 22")
def vandermonde(n: int, *, points: ArrayLike | None = None) -> Matrix:
    """points_i^(j - 1); points are equally spaced on [-1, 1] unless given."""
    return np.vander(_points("points", points, np.linspace(-1, 1, n)), n, increasing=True)


@family(
    "Varah (1993), Linear Algebra Appl. 187",
    hermitian=True,
    positive_definite=True,
)
def prolate(n: int, *, w: float = 0.25) -> Matrix:
    """sin(2 pi w k) / (pi k), k = i - j: Toeplitz, eigenvalues crowd at 0 and 1 for 0 < w < 1/2."""
    if not 0 < w < 0.5:
        raise ValueError(f"w must lie in (0, 0.5), got {w!r}")
    i, j = _indices(n)
    return 2 * w * np.sinc(2 * w * (i - j))


@family(
    "Wilkinson (1961), J. ACM 8; Higham and Higham (1989), SIAM J. Matrix Anal. Appl. 10",
)
def gfpp(n: int, *, multiplier: float = 1.0) -> Matrix:
    """Unit diagonal, -multiplier below, last column 1: growth (1 + multiplier)^(n - 1)."""
    if not 0 <= multiplier <= 1:
        raise ValueError(f"multiplier must lie in [0, 1], got {multiplier!r}")
    a = np.eye(n) - np.tril(np.full((n, n), float(multiplier)), -1)
    a[:, -1:] = 1
    return a
