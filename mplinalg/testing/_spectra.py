"""Families given by their singular values or eigenvalues."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mplinalg.testing._draw import Draw
from mplinalg.testing._registry import Matrix, family

MODES = ("one_large", "one_small", "geometric", "arithmetic", "log_uniform")
DEFAULT_COND = 1e3


def singular_values(
    n: int, cond: float, mode: str | int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return n values in decreasing order, from 1 to 1/cond, spread as `mode` says."""
    cond = checked_cond(cond)
    mode = checked_mode(mode)
    if n < 2:
        return np.ones(n)
    smallest = 1 / cond
    position = np.arange(n) / (n - 1)
    if mode == "one_large":
        values = np.where(position == 0, 1.0, smallest)
    elif mode == "one_small":
        values = np.where(position == 1, smallest, 1.0)
    elif mode == "geometric":
        values = cond**-position
    elif mode == "arithmetic":
        values = 1 - (1 - smallest) * position
    else:
        values = np.sort(cond ** -rng.random(n))[::-1]
    values[0], values[-1] = 1.0, smallest
    return values


def checked_cond(cond: float) -> float:
    """Return `cond` as a float, at least 1 and finite."""
    value = float(cond)
    if not 1 <= value < math.inf:
        raise ValueError(f"cond must be finite and at least 1, got {cond!r}")
    return value


def checked_mode(mode: str | int) -> str:
    """Return the name of a mode given by its name or its number from 1 to 5."""
    if isinstance(mode, str) and mode in MODES:
        return mode
    if isinstance(mode, int | np.integer) and 1 <= mode <= len(MODES):
        return MODES[mode - 1]
    raise ValueError(f"mode must be one of {', '.join(MODES)} or 1..{len(MODES)}, got {mode!r}")


def with_eigenvalues(draw: Draw, eigenvalues: NDArray[np.float64]) -> Matrix:
    """Return Q diag(eigenvalues) Q^H with Q Haar distributed, exactly Hermitian."""
    q = draw.haar(len(eigenvalues))
    a = (q * eigenvalues) @ q.conj().T
    return (a + a.conj().T) / 2


def _default_kappa(n: int) -> float:
    return DEFAULT_COND if n > 1 else 1.0


@family(
    "Demmel and McKenney (1989), A test matrix generation suite; Higham (2002), section 28.3",
    kappa=_default_kappa,
)
def randsvd(
    draw: Draw, n: int, *, cond: float = DEFAULT_COND, mode: str | int = "geometric"
) -> Matrix:
    """U diag(s) V^H: singular values s from 1 down to 1/cond, Haar singular vectors."""
    s = singular_values(n, cond, mode, draw.rng)
    return (draw.haar(n) * s) @ draw.haar(n)


@family("Stewart (1980), SIAM J. Numer. Anal. 17; Mezzadri (2007)", kappa=lambda n: 1.0)
def orthogonal(draw: Draw, n: int) -> Matrix:
    """Orthogonal (complex: unitary), from the Haar distribution."""
    return draw.haar(n)


@family(
    "Demmel and McKenney (1989), A test matrix generation suite",
    hermitian=True,
    positive_definite=True,
    kappa=_default_kappa,
)
def spd_geometric(draw: Draw, n: int, *, cond: float = DEFAULT_COND) -> Matrix:
    """Q diag(e) Q^H: eigenvalues e in geometric progression from 1 down to 1/cond."""
    return with_eigenvalues(draw, singular_values(n, cond, "geometric", draw.rng))


@family(
    "this gallery; after Demmel and McKenney (1989)",
    hermitian=True,
    positive_definite=True,
    kappa=_default_kappa,
)
def spd_clustered(
    draw: Draw, n: int, *, cond: float = DEFAULT_COND, clusters: int = 3, width: float = 0.01
) -> Matrix:
    """Q diag(e) Q^H: eigenvalues e in tight clusters, in geometric progression from 1 to 1/cond."""
    if clusters < 2:
        raise ValueError(f"clusters must be at least 2, got {clusters!r}")
    if not 0 <= width < 1:
        raise ValueError(f"width must lie in [0, 1), got {width!r}")
    smallest = 1 / checked_cond(cond)
    centres = smallest ** (np.arange(clusters) / (clusters - 1))
    members = centres[np.arange(n) * clusters // max(n, 1)]
    members = np.clip(members * (1 + width * draw.rng.uniform(-1, 1, n)), smallest, 1.0)
    members[-1:], members[:1] = smallest, 1.0
    return with_eigenvalues(draw, members)


@family(
    "Demmel and McKenney (1989), A test matrix generation suite",
    hermitian=True,
    kappa=_default_kappa,
)
def hermitian_indefinite(
    draw: Draw, n: int, *, cond: float = DEFAULT_COND, mode: str | int = "geometric"
) -> Matrix:
    """Q diag(e) Q^H: eigenvalues e of alternating sign, their sizes from 1 down to 1/cond."""
    eigenvalues = singular_values(n, cond, mode, draw.rng)
    eigenvalues[1::2] *= -1
    return with_eigenvalues(draw, eigenvalues)


@family("this gallery", singular=True)
def singular_svd(
    draw: Draw, n: int, *, cond: float = DEFAULT_COND, mode: str | int = "geometric"
) -> Matrix:
    """randsvd with its smallest singular value set to 0: rank n - 1 up to rounding errors."""
    s = singular_values(n, cond, mode, draw.rng)
    s[-1:] = 0
    return (draw.haar(n) * s) @ draw.haar(n)
