"""Elimination of small matrices in registers: straight code, a lane for each member.

A matrix is a list of rows of Lanes or ComplexLanes, a set of right-hand sides a list of columns;
both are changed in place. Rows are exchanged by selects, so all members take the same road. A pivot
of zero makes that member's answer infinite or NaN, which is how it is found.

Of every system one or two more right-hand sides are solved, of random numbers: their solutions are
lower bounds on the norm of the inverse, as in `kernels.cpu.gesv`. What is random may keep the order
of its rows.

Flops: those of LAPACK's routines of the same names; the comparisons and selects, 2/3 n^3 and more,
are what takes the time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..lanes import Lanes, Mask, where

__all__ = [
    "cholesky",
    "is_doubtful",
    "is_fine",
    "largest_size",
    "limit",
    "lu",
    "magnitudes",
    "probes",
    "solve_definite",
    "solve_upper",
    "store_flags",
]

Matrix = list[list[Any]]
Columns = list[list[Any]]


def probes(n: int, is_single: bool) -> list[list[float]]:
    """Random right-hand sides: one in double precision, two in single.

    Sizes are uniform between 1/2 and 1, signs are by chance; by the finalizer of splitmix64
    (Steele, Lea and Flood, OOPSLA 2014).
    """
    return [[_random(start + i) for i in range(n)] for start in ((0, 2**32) if is_single else (0,))]


def _random(number: int) -> float:
    word = (number + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    word = (word ^ word >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    word ^= word >> 31
    size = 0.5 + (word >> 12) * 2.0**-53
    return size if word & 1 else -size


def limit(n: int, is_single: bool) -> float:
    """For the norm of A times what its inverse makes of a random vector: beyond it, kappa may be
    1 / eps or more.

    A random vector falls short of the norm of the inverse by a factor t with a probability of
    sqrt(n) / t (Dixon, SIAM J. Numer. Anal. 20 (1983) 812); two of them with the square of that.
    """
    margin, inverse_eps = (10.0, 2.0**23) if is_single else (1e4, 2.0**52)
    return inverse_eps / (margin * n**0.5)


def lu(a: Matrix, columns: Columns, unmoved: Columns, *, keep: bool = False) -> tuple[Any, Any]:
    """A <- U, above and on the diagonal; L^-1 P is applied to `columns`, L^-1 to the `unmoved`.

    With `keep` A receives L as well, with its rows in order, as LAPACK leaves them.

    Returns
    -------
    inverses : list
        1 / U_kk, not finite where U_kk is zero; multipliers are zero there.
    rows : list of Lanes
        With `keep`, the row that was exchanged with row k.
    """
    n = len(a)
    inverses, rows = [], []
    for k in range(n):
        best = a[k][k].magnitude()
        row = best.constant(k)
        larger = []
        for i in range(k + 1, n):
            size = a[i][k].magnitude()
            is_larger = size > best
            best = where(is_larger, size, best)
            larger.append(is_larger)
            if keep:
                row = where(is_larger, row.constant(i), row)
        rows.append(row)
        for i, exchange in zip(range(k + 1, n), _last_of(larger), strict=True):
            for j in range(0 if keep else k, n):
                a[k][j], a[i][j] = _exchanged(exchange, a[k][j], a[i][j])
            for column in columns:
                column[k], column[i] = _exchanged(exchange, column[k], column[i])
        inverse = a[k][k].inverse()
        inverses.append(inverse)
        if keep:
            inverse = where(best.equals(0.0), inverse.constant(0.0), inverse)
        for i in range(k + 1, n):
            factor = a[i][k] * inverse
            a[i][k] = factor
            for j in range(k + 1, n):
                a[i][j] = a[i][j] - factor * a[k][j]
            for column in (*columns, *unmoved):
                column[i] = column[i] - factor * column[k]
    return inverses, rows


def _last_of(masks: list[Mask]) -> list[Mask]:
    """Of each member, the last of the masks that are true for it."""
    found: list[Mask] = []
    later: Mask | None = None
    for mask in reversed(masks):
        found.append(mask if later is None else mask & ~later)
        later = mask if later is None else later | mask
    return found[::-1]


def _exchanged(mask: Mask, first: Any, second: Any) -> tuple[Any, Any]:
    return where(mask, second, first), where(mask, first, second)


def solve_upper(a: Matrix, inverses: list[Any], columns: Columns) -> None:
    """x <- U^-1 x, with what `lu` leaves."""
    for k in reversed(range(len(a))):
        for x in columns:
            x[k] = x[k] * inverses[k]
            for i in range(k):
                x[i] = x[i] - a[i][k] * x[k]


def cholesky(a: Matrix) -> list[Any]:
    """A <- L in the lower triangle, the only one that is read; returns 1 / L_kk, real.

    NaN or infinite where there is no L.
    """
    n = len(a)
    inverses = []
    for k in range(n):
        root = a[k][k].real.sqrt()
        inverses.append(1.0 / root)
        a[k][k] = root
        for i in range(k + 1, n):
            a[i][k] = a[i][k] * inverses[k]
        for j in range(k + 1, n):
            across = a[j][k].conj()
            for i in range(j, n):
                a[i][j] = a[i][j] - a[i][k] * across
    return inverses


def solve_definite(a: Matrix, inverses: list[Any], columns: Columns) -> None:
    """x <- L^-H L^-1 x, with what `cholesky` leaves."""
    n = len(a)
    for x in columns:
        for k in range(n):
            x[k] = x[k] * inverses[k]
            for i in range(k + 1, n):
                x[i] = x[i] - a[i][k] * x[k]
        for k in reversed(range(n)):
            for i in range(k + 1, n):
                x[k] = x[k] - a[i][k].conj() * x[i]
            x[k] = x[k] * inverses[k]


# -- what is to be looked at ---------------------------------------------------------------------


def magnitudes(numbers: list[Any]) -> Lanes:
    """The sum of magnitudes: between a norm of a matrix and n times that."""
    sums = [number.magnitude() for number in numbers[:4]]
    for k, number in enumerate(numbers[4:]):
        sums[k % 4] = sums[k % 4] + number.magnitude()
    return _sum(sums)


def _sum(sums: list[Any]) -> Any:
    while len(sums) > 1:
        pairs = [a + b for a, b in zip(sums[::2], sums[1::2], strict=False)]
        sums = pairs + sums[len(sums) & ~1 :]
    return sums[0]


def is_fine(size: Lanes, stretch: Lanes, zero: Lanes, limit: Lanes | float) -> Mask:
    """Members that need not be looked at one by one.

    The size of their matrix is far from the ends of the range; times `stretch`, that of its
    inverse, it is below `limit`; and `zero`, a sum of numbers times 0, has none that is not finite.
    """
    most = largest_size(isinstance(size.value.type.element, ir.FloatType))
    return (size * stretch < limit) & (size > 1.0 / most) & (size < most) & zero.equals(0.0)


def largest_size(is_single: bool) -> float:
    """Beyond it, and below its inverse, numbers and their inverses are not what they should be."""
    return 1e30 if is_single else 1e290


def is_doubtful(size: Lanes, probes: Columns, columns: Columns, limit: float) -> Mask:
    """Members that must be looked at one by one.

    `probes` are solutions of random right-hand sides, `columns` all other results; see `is_fine`.
    """
    stretches = [magnitudes(column) for column in probes]
    stretch = stretches[0]
    for other in stretches[1:]:
        stretch = where(other > stretch, other, stretch)
    zeros = [other * 0.0 for other in stretches]
    zeros += [number.magnitude() * 0.0 for column in columns for number in column]
    return ~is_fine(size, stretch, _sum(zeros), limit)


def store_flags(builder: Any, flags: Mask, pointer: Any, first: Any) -> None:
    """One byte for each member, 1 where its flag is true, behind place `first` of an array."""
    kind = ir.VectorType(ir.IntType(8), flags.value.type.count)
    target = builder.bitcast(builder.gep(pointer, [first]), kind.as_pointer())
    builder.store(builder.zext(flags.value, kind), target, align=1)
