"""A 1-D operator applied to a line of numbers, in half the multiplications.

With nodes and quadrature points that lie symmetrically, the m-by-n matrix of interpolation is the
same read backwards, M[m-1-a, n-1-i] = s M[a, i] with s = 1, and that of differentiation its
negative, s = -1. So one half of the outputs gives the other. With e_i = v_i + v_(n-1-i),
d_i = v_i - v_(n-1-i) and half as long sums,

    S_a = sum_i (M[a, i] + M[a, n-1-i]) / 2  e_i,    T_a = sum_i (M[a, i] - M[a, n-1-i]) / 2  d_i,
    out_a = S_a + T_a,    out_(m-1-a) = s (S_a - T_a).

References
----------
Solomonoff, J. Comput. Phys. 98 (1992) 174 (even and odd parts for differentiation).
Kronbichler and Kormann, ACM Trans. Math. Softw. 45 (2019) 29, section 3 (in sum factorization).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from ..lanes import Lanes

_INDEX = ir.IntType(64)
_PLACE = ir.IntType(32)


def halves(matrix: NDArray[np.float64], sign: int) -> NDArray[np.float64]:
    """The coefficients of S and T for the rows of the upper half, shape (ceil(m/2), n).

    The first ceil(n/2) of a row belong to S. ::

    >>> halves(np.array([[3.0, 1.0], [1.0, 3.0]]), 1).tolist()
    [[2.0, 1.0]]
    """
    m, n = matrix.shape
    top = ((matrix + sign * matrix[::-1, ::-1]) / 2)[: (m + 1) // 2]
    back = top[:, ::-1]
    even, odd = (top + back) / 2, (top - back) / 2
    return np.concatenate([even[:, : (n + 1) // 2], odd[:, : n // 2]], axis=1)


def apply_line(builder: Any, table: Any, v: Sequence[Lanes], m: int, sign: int) -> list[Lanes]:
    """The m outputs of a matrix of which `table` points to the `halves`, for the line v."""
    n = len(v)
    half, middle = n // 2, (n + 1) // 2
    even = [v[i] + v[n - 1 - i] for i in range(half)] + list(v[half:middle])
    odd = [v[i] - v[n - 1 - i] for i in range(half)]
    out: list[Any] = [None] * m
    for a in range((m + 1) // 2):
        is_middle = a == m - 1 - a  # of S and T one is zero there
        s = None if is_middle and sign < 0 else _sum(builder, table, a * n, even)
        t = None if is_middle and sign > 0 else _sum(builder, table, a * n + middle, odd)
        if s is None or t is None:
            out[a] = s or t or v[0].constant(0.0)
        else:
            out[a] = s + t
            out[m - 1 - a] = s - t if sign > 0 else t - s
    return out


def _sum(builder: Any, table: Any, start: int, v: Sequence[Lanes]) -> Lanes | None:
    """``sum_i table[start + i] v[i]``; None for an empty one."""
    total = None
    for i, number in enumerate(v):
        product = _everywhere(builder, table, start + i, number) * number
        total = product if total is None else total + product
    return total


def _everywhere(builder: Any, table: Any, k: int, like: Lanes) -> Lanes:
    """The k-th number of a table, in all lanes."""
    number = builder.load(builder.gep(table, [ir.Constant(_INDEX, k)]))
    kind = like.value.type
    nothing = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(_PLACE, 0))
    same = ir.Constant(ir.VectorType(_PLACE, kind.count), [0] * kind.count)
    return Lanes(builder, builder.shuffle_vector(one, nothing, same))
