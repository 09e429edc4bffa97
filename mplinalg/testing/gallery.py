"""Matrices with known properties, by name.

>>> from mplinalg.testing import gallery
>>> gallery.matrix("minij", 3)
array([[1., 1., 1.],
       [1., 2., 2.],
       [1., 2., 3.]])
>>> gallery.facts("minij").positive_definite
True

`names` lists the families, `facts` tells what is known of one, `matrix` builds it.

Every family comes in float32, float64, complex64 and complex128, unless its facts say otherwise.
Entries are computed in double precision and rounded once. In a complex dtype random families draw
complex entries; a family that is real by nature becomes D A D^H with D = diag(1, i, -1, -i, 1,
...). That multiplies entries by powers of i, so nothing is rounded: the singular values, the
eigenvalues, the definiteness, an exact singularity and the growth of an elimination are those of
the real matrix.

Random families take ``rng``, an int seed (default 0) or a `numpy.random.Generator`: the same seed
gives the same matrix, as far as NumPy keeps its streams from one version to the next. A generator
is advanced, so that a second call gives another matrix.

Adding a family is writing one short function::

    @family("Author (year)", hermitian=True)
    def name(n: int, *, parameter: float = 1.0) -> Matrix:
        \"\"\"What it is, in one line.\"\"\"

in one of the modules imported below: `_formulas` for entries by formula, `_spectra` for given
singular values, `_random` for drawn entries, `_extremes` for what solvers may fail on.

References
----------
N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM, 2002, chapter 28.
J. Demmel and A. McKenney, A test matrix generation suite, LAPACK Working Note 9, 1989.
F. Mezzadri, How to generate random matrices from the classical compact groups, Notices of the
AMS 54, 2007, 592-604.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mplinalg.testing import _extremes, _formulas, _random, _spectra  # noqa: F401 (they register)
from mplinalg.testing._draw import Draw
from mplinalg.testing._registry import Facts, Matrix, lookup, registered_names

__all__ = ["Facts", "facts", "matrix", "names", "randsvd"]


def names() -> tuple[str, ...]:
    """Return the names that `matrix` and `facts` take, sorted.

    Examples
    --------
    >>> "hilbert" in names()
    True
    """
    return registered_names()


def facts(name: str) -> Facts:
    """Return what is known of a family: its source, and which properties it has.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    Facts
        A frozen dataclass.

    Raises
    ------
    ValueError
        If no family has that name; the message lists close matches.

    Examples
    --------
    >>> known = facts("pei")
    >>> known.source, known.hermitian, dict(known.parameters)
    ('Pei (1962), Comm. ACM 5', True, {'alpha': 1.0})
    >>> known.kappa(9)
    10.0
    """
    return lookup(name).facts


def matrix(name: str, n: int, dtype: DTypeLike = float, **parameters: Any) -> Matrix:
    """Return the n by n matrix of a family.

    Parameters
    ----------
    name : str
        One of `names`.
    n : int
        Order of the matrix, 0 or more.
    dtype : dtype, optional
        float32, float64 (default), complex64 or complex128.
    **parameters
        Those that ``facts(name).parameters`` lists with their defaults.

    Returns
    -------
    ndarray, shape (n, n)
        A new C-contiguous array of the dtype.

    Raises
    ------
    ValueError
        If the name is unknown, n is negative, the dtype is not one in which the family exists, an
        entry overflows it, or a parameter is out of range.
    TypeError
        If n is not an integer or the family has no parameter of that name.

    Examples
    --------
    >>> matrix("kms", 3, rho=0.25)
    array([[1.    , 0.25  , 0.0625],
           [0.25  , 1.    , 0.25  ],
           [0.0625, 0.25  , 1.    ]])
    >>> matrix("minij", 2, complex)
    array([[1.+0.j, 0.-1.j],
           [0.+1.j, 2.+0.j]])
    """
    known, build = (family := lookup(name)).facts, family.build
    order = _checked_order(n)
    wanted = _checked_dtype(known, dtype)
    _reject_unknown(known, parameters)
    if known.random:
        draw = Draw(parameters.pop("rng", 0), wanted)
        built = build(draw, order, **parameters)
    else:
        built = build(order, **parameters)
    if wanted.kind == "c" and built.dtype.kind != "c":
        built = with_phases(built)
    with np.errstate(over="ignore"):
        a: Matrix = np.ascontiguousarray(built, dtype=wanted)
    if known.finite and not np.isfinite(a).all():
        raise ValueError(f"{name} overflows {wanted} for {n=}")
    return a


def randsvd(
    n: int,
    cond: float = 1e3,
    mode: str | int = "geometric",
    dtype: DTypeLike = float,
    rng: int | np.random.Generator = 0,
) -> Matrix:
    """Return U diag(s) V^H with given singular values and Haar singular vectors.

    The same as ``matrix("randsvd", n, dtype, cond=cond, mode=mode, rng=rng)``.

    Parameters
    ----------
    n : int
        Order of the matrix, 0 or more.
    cond : float, optional
        The 2-norm condition number s[0] / s[-1], at least 1. Rounding the entries to the dtype
        moves singular values by about its unit roundoff u, so that cond is not attained once it
        is near 1 / u.
    mode : str or int, optional
        How the singular values are spread from 1 down to 1 / cond, by name or by the number that
        MATLAB's gallery('randsvd') uses:

        =============== = ==========================================================
        "one_large"     1 one is 1, all others are 1 / cond
        "one_small"     2 one is 1 / cond, all others are 1
        "geometric"     3 s[k] = cond^(-k / (n - 1))
        "arithmetic"    4 s[k] = 1 - (1 - 1 / cond) k / (n - 1)
        "log_uniform"   5 random with uniform logarithm; the extremes 1 and 1 / cond
                          are set, so that cond is attained
        =============== = ==========================================================
    dtype : dtype, optional
        float32, float64 (default), complex64 or complex128.
    rng : int or numpy.random.Generator, optional
        Seed, or generator to advance.

    Returns
    -------
    ndarray, shape (n, n)

    Raises
    ------
    ValueError
        If cond is below 1 or not finite, or the mode is none of these.

    Notes
    -----
    About 5 n^3 flops, in double precision.

    References
    ----------
    J. Demmel and A. McKenney, A test matrix generation suite, LAPACK Working Note 9, 1989.

    Examples
    --------
    >>> a = randsvd(20, cond=1e8, mode="one_small", rng=7)
    >>> print(f"{np.linalg.cond(a):.3g}")
    1e+08
    """
    return matrix("randsvd", n, dtype, cond=cond, mode=mode, rng=rng)


def with_phases(a: Matrix) -> Matrix:
    """Return D A D^H, complex128, with D = diag(1, i, -1, -i, 1, ...); exact, also for NaN and Inf.

    Parameters
    ----------
    a : ndarray, shape (n, n)
        Real.
    """
    out = np.zeros(a.shape, dtype=np.complex128)
    for p in range(4):
        for q in range(4):
            turns = (p - q) % 4
            part = out.imag if turns % 2 else out.real
            part[p::4, q::4] = a[p::4, q::4] if turns < 2 else -a[p::4, q::4]
    return out


def _checked_order(n: int) -> int:
    try:
        order = operator.index(n)
    except TypeError:
        raise TypeError(f"n must be an integer, got {n!r}") from None
    if order < 0:
        raise ValueError(f"n must not be negative, got {n!r}")
    return order


def _checked_dtype(known: Facts, dtype: DTypeLike) -> np.dtype[Any]:
    wanted = np.dtype(dtype)
    if wanted.name not in known.dtypes or not wanted.isnative:
        raise ValueError(
            f"{known.name} does not exist in dtype {wanted}; choose {', '.join(known.dtypes)}"
        )
    return wanted


def _reject_unknown(known: Facts, parameters: dict[str, Any]) -> None:
    for key in parameters:
        if key not in known.parameters:
            allowed = ", ".join(known.parameters) or "none"
            raise TypeError(f"{known.name} has no parameter {key!r}; it has: {allowed}")
