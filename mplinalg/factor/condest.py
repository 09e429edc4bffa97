"""Estimate of ||A^-1||_1 from solves, without forming the inverse.

References
----------
Higham, ACM Trans. Math. Softw. 14 (1988) 381, algorithm 2 (LAPACK's xLACN2).
Higham and Tisseur, SIAM J. Matrix Anal. Appl. 21 (2000) 1185.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ops.protocol import Array, Ops

_MAX_STEPS = 5


def inverse_norm1(
    ops: Ops,
    n: int,
    dtype: object,
    solve: Callable[[Array], Array],
    solve_h: Callable[[Array], Array],
) -> float:
    """A lower bound, rarely below a third, of ||A^-1||_1.

    Parameters
    ----------
    ops : Ops
    n : int
    dtype : dtype
        Of the vectors given to the solves.
    solve, solve_h : callable
        ``x -> A^-1 x`` and ``x -> A^-H x`` for `x` of shape (n, 1).

    Returns
    -------
    float
        The estimate; infinity if a solve overflows or gives NaN.
    """
    xp = ops.xp
    if n == 0:
        return 0.0

    def norm(x: Array) -> float:
        value = float(abs(x).sum())
        return value if value == value else float("inf")

    x = xp.full((n, 1), 1.0 / n, dtype=dtype, order="F")
    y = solve(x)
    estimate = norm(y)
    last = -1
    for _ in range(_MAX_STEPS):
        if not estimate < float("inf"):
            return float("inf")
        size = abs(y)
        normal = size >= xp.finfo(size.dtype).tiny  # y / |y| overflows for subnormal complex y
        sign = xp.where(normal, y / xp.where(normal, size, 1), 1).astype(dtype)
        z = solve_h(xp.asfortranarray(sign))
        j = int(abs(z).argmax())
        if j == last:
            break
        last = j
        x = xp.zeros((n, 1), dtype=dtype, order="F")
        x[j] = 1
        y = solve(x)
        new = norm(y)
        if not new > estimate:
            break
        estimate = new
    # a vector of alternating signs catches matrices for which the above cancels
    ramp = (1 + xp.arange(n) / max(n - 1, 1)) * xp.where(xp.arange(n) % 2, -1.0, 1.0)
    alternating = xp.asfortranarray(ramp.astype(dtype).reshape(n, 1))
    return max(estimate, 2.0 * norm(solve(alternating)) / (3.0 * n))
