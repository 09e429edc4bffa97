"""Householder reflections of many members at once, in registers and in tiles.

A reflection H = I - tau v v^H with v[0] = 1 makes H^H x = beta e_0, beta real. As in LAPACK's
larfg, beta has the sign opposite to that of re x[0], and H = I where x is such a vector already.
Columns are scaled by powers of two before they are squared, those of each member by its own, so
that norms neither overflow nor underflow.

References
----------
Golub and Van Loan, Matrix Computations, 4th ed., 2013, sections 5.1 and 5.2.
Anderson et al., LAPACK Users' Guide, 3rd ed., 1999 (larfg, geqr2, org2r).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from numba.core import types as numba_types
from numba.extending import intrinsic

from ..jit import kernel
from ..lanes import ComplexLanes, Lanes, Mask, where
from .lane_tiles import Register, Tile, copysign, integer, loop, powers_of_two, tile_of

__all__ = [
    "TOGETHER", "factor_columns", "factored", "form_columns", "reflect_columns", "unit_column",
]  # fmt: skip

types: Any = numba_types

TOGETHER = 4
"""Columns of a tile that are reflected together: each number of v is loaded once for them."""


def _larfg(alpha: Any, rest: Lanes, squares: Lanes) -> tuple[Lanes, Any, Any, Mask]:
    """What x[0], sum |x_i| and sum |x_i|^2, i > 0, say: beta, tau, the factor of v, where H = I.

    v[i] = factor x[i]; beta has no meaning where H = I.
    """
    zero = squares.constant(0.0)
    beta = -copysign((alpha.squared() + squares).sqrt(), alpha.real)
    is_flat = rest.equals(0.0)
    tau: Any
    factor: Any
    if isinstance(alpha, Lanes):
        tau, factor = (beta - alpha) / beta, 1.0 / (alpha - beta)
        return beta, where(is_flat, zero, tau), where(is_flat, zero, factor), is_flat
    is_flat = is_flat & alpha.imag.equals(0.0)
    nothing = ComplexLanes(zero, zero)
    inverse = 1.0 / beta
    tau = ComplexLanes((beta - alpha.real) * inverse, -alpha.imag * inverse)
    # 1 / (alpha - beta), both of the size of 1
    distance = ComplexLanes(alpha.real - beta, alpha.imag)
    inverse = 1.0 / distance.squared()
    factor = distance.conj() * inverse
    return beta, where(is_flat, nothing, tau), where(is_flat, nothing, factor), is_flat


def _diagonal(alpha: Any, beta: Lanes, is_flat: Mask) -> Any:
    """beta; x[0] itself where H = I."""
    number = where(is_flat, alpha.real, beta)
    return ComplexLanes(number, beta.constant(0.0)) if isinstance(alpha, ComplexLanes) else number


# -- in registers ---------------------------------------------------------------------------------


def _reflector(x: Sequence[Any]) -> tuple[Any, list[Any], Any]:
    """beta, v[1:] and tau of a vector of lanes."""
    alpha = x[0]
    rest = squares = alpha.real.constant(0.0)
    for number in x[1:]:
        rest = rest + number.magnitude()
    down, up = powers_of_two(rest + alpha.magnitude())
    scaled = [number * down for number in x]
    for number in scaled[1:]:
        squares = squares + number.squared()
    beta, tau, factor, is_flat = _larfg(scaled[0], rest, squares)
    return _diagonal(alpha, beta * up, is_flat), [z * factor for z in scaled[1:]], tau


def _reflect(a: list[list[Any]], k: int, columns: Iterable[int], v: list[Any], tau: Any) -> None:
    """A[k:, columns] <- (I - tau v v^H) A[k:, columns]."""
    for j in columns:
        total = a[k][j]
        for i, number in enumerate(v, k + 1):
            total = total + number.conj() * a[i][j]
        total = total * tau
        a[k][j] = a[k][j] - total
        for i, number in enumerate(v, k + 1):
            a[i][j] = a[i][j] - number * total


def factored(a: list[list[Any]], columns: int) -> tuple[list[list[Any]], list[list[Any]]]:
    """Q, of so many columns, and the rows of R that are not zero, of A = Q R; lists of rows.

    `a` is overwritten.
    """
    m, n = len(a), len(a[0])
    reflectors = []
    for k in range(min(m, n)):
        beta, v, tau = _reflector([a[i][k] for i in range(k, m)])
        _reflect(a, k, range(k + 1, n), v, tau.conj())
        a[k][k] = beta
        reflectors.append((v, tau))
    zero, one = a[0][0].constant(0.0), a[0][0].constant(1.0)
    r = [[a[i][j] if i <= j else zero for j in range(n)] for i in range(min(m, n))]
    q = [[one if i == j else zero for j in range(columns)] for i in range(m)]
    if columns:
        for k, (v, tau) in reversed(list(enumerate(reflectors))):
            _reflect(q, k, range(k + 1, columns), v, tau)
            q[k][k] = one - tau
            for i, number in enumerate(v, k + 1):
                q[i][k] = -(number * tau)
    return q, r


# -- in tiles -------------------------------------------------------------------------------------


@intrinsic
def reflector(typingctx, t, x, count, tau):  # type: ignore[no-untyped-def]
    """The `count` numbers at place x of a tile <- beta, v[1:]; number `tau` <- tau."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, x, count, tau = values
        tile = tile_of(context, builder, signature.args[0], t)
        column = tile.from_place(x)
        alpha = column[0]
        rest = Register(builder, alpha.real.constant(0.0))
        with loop(builder, 1, count) as i:
            rest.value = rest.value + column[i].magnitude()
        down, up = powers_of_two(rest.value + alpha.magnitude())
        squares = Register(builder, alpha.real.constant(0.0))
        with loop(builder, 1, count) as i:
            squares.value = squares.value + (column[i] * down).squared()
        beta, scale, factor, is_flat = _larfg(alpha * down, rest.value, squares.value)
        with loop(builder, 1, count) as i:
            column[i] = column[i] * down * factor
        column[0] = _diagonal(alpha, beta * up, is_flat)
        tile[tau] = scale
        return context.get_dummy_value()

    size = types.intp
    return types.void(t, size, size, size), codegen


@intrinsic(prefer_literal=True)
def reflect_columns(typingctx, adjoint, t, v, count, tau, first, columns, ld):  # type: ignore[no-untyped-def]
    """C <- H C, or H^H C if `adjoint`, H of the `count` numbers of v and the number at `tau`.

    C is the `columns` columns that begin at place `first`, `ld` places from one to the next.
    """
    flip = bool(adjoint.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, t, v, count, tau, first, columns, ld = values
        tile = tile_of(context, builder, signature.args[1], t)
        vector, scale = tile.from_place(v), tile[tau]
        scale = scale.conj() if flip else scale

        def reflect(target: Tile, together: int) -> None:
            starts = [builder.mul(ld, integer(q)) for q in range(together)]
            # w <- tau (v^H C)
            sums = [Register(builder, target[start]) for start in starts]
            with loop(builder, 1, count) as i:
                number = vector[i].conj()
                for total, start in zip(sums, starts, strict=True):
                    total.value = total.value + number * target[builder.add(i, start)]
            w = [total.value * scale for total in sums]
            # C <- C - v w
            for start, factor in zip(starts, w, strict=True):
                target[start] = target[start] - factor
            with loop(builder, 1, count) as i:
                number = vector[i]
                for start, factor in zip(starts, w, strict=True):
                    place = builder.add(i, start)
                    target[place] = target[place] - number * factor

        blocks = builder.sdiv(columns, integer(TOGETHER))
        done = builder.mul(blocks, integer(TOGETHER))
        with loop(builder, 0, blocks) as block:
            j = builder.mul(block, integer(TOGETHER))
            reflect(tile.from_place(builder.add(first, builder.mul(j, ld))), TOGETHER)
        with loop(builder, done, columns) as j:
            reflect(tile.from_place(builder.add(first, builder.mul(j, ld))), 1)
        return context.get_dummy_value()

    size = types.intp
    return types.void(adjoint, t, size, size, size, size, size, size), codegen


@intrinsic
def form_column(typingctx, t, x, above, count, tau):  # type: ignore[no-untyped-def]
    """The column of H e_0: v at place x becomes e_0 - tau v, the `above` numbers before it zero."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, x, above, count, tau = values
        tile = tile_of(context, builder, signature.args[0], t)
        column, factor, zero = tile.from_place(x), -tile[tau], tile.zero()
        with loop(builder, 1, count) as i:
            column[i] = column[i] * factor
        column[0] = zero.constant(1.0) + factor
        top = tile.from_place(builder.sub(x, above))
        with loop(builder, 0, above) as i:
            top[i] = zero
        return context.get_dummy_value()

    size = types.intp
    return types.void(t, size, size, size, size), codegen


@intrinsic
def unit_column(typingctx, t, x, count, one):  # type: ignore[no-untyped-def]
    """The `count` numbers at place x <- 0, but 1 for number `one` of them."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, x, count, one = values
        tile = tile_of(context, builder, signature.args[0], t)
        column, zero = tile.from_place(x), tile.zero()
        with loop(builder, 0, count) as i:
            column[i] = zero
        column[one] = zero.constant(1.0)
        return context.get_dummy_value()

    size = types.intp
    return types.void(t, size, size, size), codegen


@kernel
def factor_columns(t, m, n, ld, tau):  # type: ignore[no-untyped-def]
    """A = Q R of the m-by-n matrix at place 0 of a tile: R, and v below the diagonal; tau at `tau`.

    A few columns at a time take all reflections that are known, and stay in the nearest cache.
    """
    rank = min(m, n)
    for first in range(0, n, TOGETHER):
        last = min(first + TOGETHER, n)
        for k in range(min(first, rank)):
            # A[k:, J] <- H_k^H A[k:, J]
            place = k * ld + k
            reflect_columns(1, t, place, m - k, tau + k, first * ld + k, last - first, ld)
        for k in range(first, min(last, rank)):
            # A[k:, k] = H_k (beta, 0, ...)
            place = k * ld + k
            reflector(t, place, m - k, tau + k)
            reflect_columns(1, t, place, m - k, tau + k, place + ld, last - k - 1, ld)


@kernel
def form_columns(t, m, n, rank, ld, tau):  # type: ignore[no-untyped-def]
    """The first n columns of Q = H_0 H_1 ..., n >= rank, in place of what `factor_columns` left."""
    for j in range(rank, n):
        unit_column(t, j * ld, m, j)
    for first in range((n - 1) // TOGETHER * TOGETHER, -1, -TOGETHER):
        last = min(first + TOGETHER, n)
        for k in range(min(last, rank) - 1, -1, -1):
            # Q[k:, J] <- H_k (e_0, Q[k:, J])
            place = k * ld + k
            start = max(first, k + 1)
            reflect_columns(0, t, place, m - k, tau + k, start * ld + k, last - start, ld)
            if k >= first:
                form_column(t, place, k, m - k, tau + k)
