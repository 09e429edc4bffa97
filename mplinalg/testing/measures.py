"""How good an answer is: backward errors, forward errors, and errors of factorizations.

All are computed in float64 with NumPy alone. A result that holds a NaN or an Inf has the error
NaN, which no test of the form ``error <= bound`` accepts.

Backward errors rest on a residual in twice the working precision, scaled by powers of two: they
can be trusted below the unit roundoff, and for entries of any size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mplinalg.testing._registry import Matrix
from mplinalg.testing._residual import scaled_residual
from mplinalg.testing._scaled import (
    Scaled,
    ScaledArray,
    difference_norm,
    inf_norm,
    largest_exponent,
    max_norm,
    product,
    ratio,
    shifted,
    total,
)

Measure = float | NDArray[np.float64]


def backward_error(a: ArrayLike, x: ArrayLike, b: ArrayLike) -> Measure:
    r"""Return the normwise backward error of x as a solution of A x = b.

    :math:`\omega = \|b - A x\|_\infty / (\|A\|_\infty \|x\|_\infty + \|b\|_\infty)` is the size of
    the smallest relative change of A and b for which x is an exact solution.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
        Of any real or complex dtype that float64 or complex128 holds.
    x : array_like, shape (..., n) if `b` is one-dimensional, else (..., n, nrhs)
    b : array_like, shape (m,) or (..., m, nrhs)
        Batch dimensions of the three arguments broadcast.

    Returns
    -------
    float or ndarray, shape (...) or (..., nrhs)
        One error for each right-hand side. It is NaN where `a`, x or b holds NaN or Inf, and 0
        for 0 / 0.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If a dtype does not fit into float64 or complex128.

    Notes
    -----
    The error of the residual is about n u^2 (||A|| ||x|| + ||b||), u = 2^-53, so an omega down to
    1e-30 is meaningful. About 60 n^2 flops for each right-hand side.

    References
    ----------
    J. L. Rigal and J. Gaches, On the compatibility of a given solution with the data of a linear
    system, J. ACM 14, 1967. N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd
    ed., 2002, theorem 7.1.

    Examples
    --------
    >>> a = [[2.0, 0.0], [0.0, 4.0]]
    >>> backward_error(a, [0.5, 0.25], [1.0, 1.0])
    0.0
    >>> backward_error(a, [[0.5, 1.0], [0.25, 1.0]], [[1.0, 1.0], [1.0, 1.0]])
    array([0. , 0.6])
    """
    return _per_right_hand_side("backward_error", _normwise, a, x, b)


def componentwise_backward_error(a: ArrayLike, x: ArrayLike, b: ArrayLike) -> Measure:
    r"""Return the componentwise backward error of x as a solution of A x = b.

    :math:`\max_i |b - A x|_i / (|A| |x| + |b|)_i` is the smallest relative change of every single
    entry of A and b for which x is an exact solution. 0 / 0 counts as 0.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
        Of any real or complex dtype that float64 or complex128 holds.
    x : array_like, shape (..., n) if `b` is one-dimensional, else (..., n, nrhs)
    b : array_like, shape (m,) or (..., m, nrhs)
        Batch dimensions of the three arguments broadcast.

    Returns
    -------
    float or ndarray, shape (...) or (..., nrhs)
        One error for each right-hand side, between 0 and 1; NaN where `a`, x or b holds NaN or
        Inf.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If a dtype does not fit into float64 or complex128.

    Notes
    -----
    A residual that is not 0 in a row where :math:`|A| |x| + |b|` is 0 cannot occur: each row of
    the denominator is an upper bound of the residual.

    References
    ----------
    W. Oettli and W. Prager, Compatibility of approximate solution of linear equations with given
    error bounds, Numer. Math. 6, 1964.

    Examples
    --------
    >>> componentwise_backward_error([[1.0, 0.0], [0.0, 2.0**-80]], [1.0, 3.0], [1.0, 2.0**-80])
    0.5
    """
    return _per_right_hand_side("componentwise_backward_error", _componentwise, a, x, b)


def forward_error(x: ArrayLike, x_true: ArrayLike) -> Measure:
    r"""Return the relative error :math:`\|x - x_{true}\|_\infty / \|x_{true}\|_\infty`.

    Parameters
    ----------
    x, x_true : array_like, shape (n,) or (..., n, nrhs)
        Batch dimensions broadcast.

    Returns
    -------
    float or ndarray, shape (..., nrhs)
        One error for each column. It is NaN where a column holds NaN or Inf; 0 where both are 0;
        Inf where only x_true is 0.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If a dtype does not fit into float64 or complex128.

    Examples
    --------
    >>> forward_error([1.0, 2.5], [1.0, 2.0])
    0.25
    """
    got, want = _as_double("x", x), _as_double("x_true", x_true)
    if got.ndim == 0 or got.shape[-2:] != want.shape[-2:]:
        raise ValueError(
            f"forward_error: shapes do not fit, x.shape={got.shape}, x_true.shape={want.shape}"
        )
    vector = got.ndim == 1
    if vector:
        got, want = got[:, None], want[:, None]
    batch = _broadcast("forward_error", got.shape[:-2], want.shape[:-2])
    got = np.broadcast_to(got, batch + got.shape[-2:])
    want = np.broadcast_to(want, batch + want.shape[-2:])
    errors = np.empty(batch + got.shape[-1:])
    for *member, column in np.ndindex(errors.shape):
        at = (*member, slice(None), column)
        errors[(*member, column)] = _relative_difference(got[at], want[at])
    return _unwrapped(errors[..., 0] if vector else errors)


def factorization_error(
    a: ArrayLike, *factors: ArrayLike, perm: ArrayLike | None = None
) -> Measure:
    r"""Return :math:`\|P A - F_1 F_2 \cdots\|_\infty / (n \|A\|_\infty)`, n the columns of A.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    *factors : array_like, shapes (..., m, k1), (..., k1, k2), ..., (..., k, n)
        For instance L, U; or L, L^H; or Q, R.
    perm : array_like of int, shape (..., m), optional
        P A is ``a[perm]``: row perm[i] of A has become row i. (This is a permutation, not the list
        of interchanges that LAPACK's getrf returns.)

    Returns
    -------
    float or ndarray, shape (...)
        It is NaN where an argument holds NaN or Inf; 0 where A and the product are both 0; Inf
        where only A is 0.

    Raises
    ------
    ValueError
        If there is no factor, the shapes do not fit, or `perm` is no permutation.
    TypeError
        If a dtype does not fit into float64 or complex128.

    Notes
    -----
    The product is formed in float64, whose own rounding contributes at most about the unit roundoff
    2^-53 times the ratio of the norms of abs(F1) abs(F2) and of A. Every array is scaled by a power
    of two, so that no norm or product overflows. 2 m n k flops.

    References
    ----------
    The ratio of LAPACK's test programs (xGET01), in the inf-norm and without the division by u.

    Examples
    --------
    >>> a, lower, upper = [[0.0, 2.0], [1.0, 1.0]], [[1, 0], [0, 1]], [[1, 1], [0, 2]]
    >>> factorization_error(a, lower, upper, perm=[1, 0])
    0.0
    """
    matrices = [_as_double("a", a), *(_as_double("factor", f) for f in factors)]
    shapes = [matrix.shape for matrix in matrices]
    if not factors:
        raise ValueError("factorization_error needs at least one factor")
    if any(len(shape) < 2 for shape in shapes) or not _chains(shapes[0], shapes[1:]):
        raise ValueError(
            f"factorization_error: shapes do not fit, a.shape={shapes[0]}, factors {shapes[1:]}"
        )
    m, n = shapes[0][-2:]
    rows = np.arange(m) if perm is None else _as_permutation(perm, m)
    batch = _broadcast("factorization_error", rows.shape[:-1], *(shape[:-2] for shape in shapes))
    rows = np.broadcast_to(rows, (*batch, m))
    stacks = [np.broadcast_to(z, batch + z.shape[-2:]) for z in matrices]
    errors = np.empty(batch)
    for member in np.ndindex(batch):
        target, *members = (stack[member] for stack in stacks)
        errors[member] = _product_error(target[rows[member]], members) / max(n, 1)
    return _unwrapped(errors)


def orthogonality_error(q: ArrayLike) -> Measure:
    r"""Return :math:`\|I - Q^H Q\|_\infty`, the departure of the columns of Q from orthonormality.

    Parameters
    ----------
    q : array_like, shape (..., m, n)

    Returns
    -------
    float or ndarray, shape (...)
        Not divided by n: a backward stable QR factorization in a format of unit roundoff u leaves
        at most a modest multiple of n u. NaN where `q` holds NaN or Inf; Inf on overflow.

    Raises
    ------
    ValueError
        If `q` has fewer than two dimensions.
    TypeError
        If its dtype does not fit into float64 or complex128.

    Examples
    --------
    >>> orthogonality_error([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    0.0
    >>> orthogonality_error([[1.0, 0.5], [0.0, 1.0]])
    0.75
    """
    z = _as_double("q", q)
    if z.ndim < 2:
        raise ValueError(f"orthogonality_error: expected q.ndim >= 2, got q.shape={z.shape}")
    errors = np.empty(z.shape[:-2])
    for member in np.ndindex(errors.shape):
        errors[member] = _gram_error(z[member])
    return _unwrapped(errors)


def _normwise(a: Matrix, x: Matrix, b: Matrix) -> float:
    r = scaled_residual(a, x, b)
    size, exponent = total(product(inf_norm(a), max_norm(x)), max_norm(b))
    if size == 0:
        return 0.0
    return float(np.max(np.ldexp(np.abs(r.value) / size, r.exponent - exponent), initial=0.0))


def _componentwise(a: Matrix, x: Matrix, b: Matrix) -> float:
    r = scaled_residual(a, x, b)
    size = np.abs(r.value)
    over_zero = np.where(size > 0, np.inf, 0.0)
    ratios = np.divide(size, r.magnitude, out=over_zero, where=r.magnitude > 0)
    return float(np.max(ratios, initial=0.0))


def _per_right_hand_side(
    label: str,
    measure: Callable[[Matrix, Matrix, Matrix], float],
    a_like: ArrayLike,
    x_like: ArrayLike,
    b_like: ArrayLike,
) -> Measure:
    a, x, b = _as_double("a", a_like), _as_double("x", x_like), _as_double("b", b_like)
    problem = f"{label}: shapes do not fit, {a.shape=}, {x.shape=}, {b.shape=}"
    vector = b.ndim == 1
    if a.ndim < 2 or b.ndim == 0 or x.ndim < (1 if vector else 2):
        raise ValueError(problem)
    if vector:
        if x.ndim > 1 and x.ndim != a.ndim - 1:
            raise ValueError(problem)
        x, b = x[..., None], b[:, None]
    (m, n), (x_rows, nrhs) = a.shape[-2:], x.shape[-2:]
    if x_rows != n or b.shape[-2:] != (m, nrhs):
        raise ValueError(problem)
    batch = _broadcast(label, a.shape[:-2], x.shape[:-2], b.shape[:-2])
    a, x, b = (np.broadcast_to(z, batch + z.shape[-2:]) for z in (a, x, b))
    errors = np.empty((*batch, nrhs))
    for member in np.ndindex(batch):
        matrix = a[member]
        finite = bool(np.isfinite(matrix).all())
        for column in range(nrhs):
            xj, bj = x[member][:, column], b[member][:, column]
            trusted = finite and np.isfinite(xj).all() and np.isfinite(bj).all()
            errors[(*member, column)] = measure(matrix, xj, bj) if trusted else np.nan
    return _unwrapped(errors[..., 0] if vector else errors)


def _relative_difference(x: Matrix, x_true: Matrix) -> float:
    if not (np.isfinite(x).all() and np.isfinite(x_true).all()):
        return np.nan
    difference = difference_norm(max_norm, ScaledArray(x, 0), ScaledArray(x_true, 0))
    return ratio(difference, max_norm(x_true))


def _product_error(target: Matrix, factors: list[Matrix]) -> float:
    if not all(np.isfinite(z).all() for z in (target, *factors)):
        return np.nan
    rebuilt = _near_one(factors[0])
    for factor in factors[1:]:
        right = _near_one(factor)
        values, exponent = _near_one(rebuilt.values @ right.values)
        rebuilt = ScaledArray(values, exponent + rebuilt.exponent + right.exponent)
    return ratio(difference_norm(inf_norm, ScaledArray(target, 0), rebuilt), inf_norm(target))


def _gram_error(q: Matrix) -> float:
    if not np.isfinite(q).all():
        return np.nan
    unit, exponent = _near_one(q)
    gram = ScaledArray(unit.conj().T @ unit, 2 * exponent)
    identity = ScaledArray(np.eye(q.shape[1]), 0)
    return ratio(difference_norm(inf_norm, identity, gram), Scaled(1.0, 0))


def _near_one(z: Matrix) -> ScaledArray:
    exponent = largest_exponent(z)
    return ScaledArray(shifted(z, -exponent), exponent)


def _as_double(label: str, value: ArrayLike) -> Matrix:
    z: Matrix = np.asarray(value)
    if z.dtype.kind in "bui":
        return z.astype(np.float64)
    for wide in (np.float64, np.complex128):
        if np.can_cast(z.dtype, wide, "safe"):
            return z.astype(wide, copy=False)
    raise TypeError(f"{label} has dtype {z.dtype}, which float64 and complex128 do not hold")


def _as_permutation(perm: ArrayLike, m: int) -> NDArray[Any]:
    rows: NDArray[Any] = np.asarray(perm)
    if rows.dtype.kind not in "ui" or rows.shape[-1:] != (m,):
        raise ValueError(f"perm must hold {m} integers, got {rows.shape=}, {rows.dtype=}")
    if np.any(np.sort(rows, axis=-1) != np.arange(m)):
        raise ValueError(f"perm must hold each of 0..{m - 1} once, got {rows}")
    return rows


def _chains(whole: tuple[int, ...], factors: list[tuple[int, ...]]) -> bool:
    inner = all(left[-1] == right[-2] for left, right in itertools.pairwise(factors))
    return inner and whole[-2:] == (factors[0][-2], factors[-1][-1])


def _broadcast(label: str, *batches: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*batches)
    except ValueError:
        raise ValueError(f"{label}: batch dimensions do not broadcast, got {batches}") from None


def _unwrapped(errors: NDArray[np.float64]) -> Measure:
    return float(errors) if errors.ndim == 0 else errors
