"""Gauss and Gauss-Lobatto rules on [-1, 1], and Lagrange polynomials, to the last digit.

Everything is computed in decimal arithmetic of 50 digits and rounded once, so that every number
that comes out of here as a float is the nearest one. That costs a few milliseconds, once a rule.

References
----------
Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 25.4.29 (Gauss), 25.4.32 (Lobatto).
Berrut and Trefethen, SIAM Review 46 (2004) 501 (barycentric formulas and their derivatives).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from decimal import Context, Decimal, localcontext
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = tuple[Decimal, ...]

_DIGITS = 50
_NOISE = Decimal("1e-40")


class Rule(NamedTuple):
    """Points in ascending order, and weights that sum to 2."""

    points: Numbers
    weights: Numbers


@functools.lru_cache(maxsize=256)
def gauss(n: int) -> Rule:
    """The Gauss-Legendre rule of `n` points: exact for polynomials of degree 2 n - 1."""

    def newton(x: Decimal) -> Decimal:
        before, p = _legendre(n, x)
        return p * (1 - x * x) / (n * (before - x * p))  # P_n / P_n'

    def weight(x: Decimal) -> Decimal:  # 2 / ((1 - x^2) P_n'(x)^2), where P_n(x) = 0
        before, _ = _legendre(n, x)
        return 2 * (1 - x * x) / (n * before) ** 2

    with localcontext(Context(prec=_DIGITS)):
        guesses = [math.cos(math.pi * (4 * i + 3) / (4 * n + 2)) for i in range(n // 2)]
        return _symmetric(guesses, n % 2 == 1, newton, weight)


@functools.lru_cache(maxsize=256)
def gauss_lobatto(n: int) -> Rule:
    """The Gauss-Lobatto-Legendre rule of `n` >= 2 points, both ends among them.

    Exact for polynomials of degree 2 n - 3.
    """
    order = n - 1

    def newton(x: Decimal) -> Decimal:
        before, p = _legendre(order, x)
        slope = order * (before - x * p)  # (1 - x^2) P'
        # (1 - x^2) P'' = 2 x P' - N (N + 1) P
        return slope / (2 * x * slope / (1 - x * x) - order * (order + 1) * p)

    def weight(x: Decimal) -> Decimal:
        return Decimal(2) / (order * n * _legendre(order, x)[1] ** 2)

    with localcontext(Context(prec=_DIGITS)):
        # between the roots of P_N, of which `gauss` knows good guesses
        guesses = [math.cos(math.pi * (4 * i + 1) / (4 * order + 2)) for i in range(1, n // 2)]
        inner = _symmetric(guesses, n % 2 == 1, newton, weight)
        end = weight(Decimal(1))
        one = Decimal(1)
        return Rule((-one, *inner.points, one), (end, *inner.weights, end))


def lagrange(nodes: Numbers, points: Numbers) -> tuple[list[Numbers], list[Numbers]]:
    """Values and derivatives of the Lagrange polynomials of `nodes` at `points`.

    ``values[i][j]`` is that of the polynomial of node j at point i.
    """
    with localcontext(Context(prec=_DIGITS)):
        # w_j = 1 / prod_k (x_j - x_k)
        w = [1 / _product(x - y for y in nodes if y != x) for x in nodes]
        values, slopes = [], []
        for t in points:
            at = _at_node if t in nodes else _between
            value, slope = at(nodes, w, t)
            values.append(value)
            slopes.append(tuple(map(_without_noise, slope)))
    return values, slopes


def to_floats(numbers: Sequence[object]) -> NDArray[np.float64]:
    """The nearest floats, in an array that is not writeable."""
    array = np.array(numbers, dtype=np.float64)
    array.flags.writeable = False
    return array


def _legendre(n: int, x: Decimal) -> tuple[Decimal, Decimal]:
    """P_{n-1}(x) and P_n(x), n >= 1: (k + 1) P_{k+1} = (2 k + 1) x P_k - k P_{k-1}."""
    before, p = Decimal(1), x
    for k in range(1, n):
        before, p = p, ((2 * k + 1) * x * p - k * before) / (k + 1)
    return before, p


def _symmetric(
    guesses: list[float], has_middle: bool, newton: Callable[[Decimal], Decimal],
    weight: Callable[[Decimal], Decimal],
) -> Rule:  # fmt: skip
    """A rule from its positive points, of which there are guesses, largest first."""
    positive = [_root(Decimal(x), newton) for x in guesses]
    middle = [Decimal(0)] if has_middle else []
    points = (*(-x for x in positive), *middle, *reversed(positive))
    halves = [weight(x) for x in positive]
    return Rule(points, (*halves, *map(weight, middle), *reversed(halves)))


def _root(x: Decimal, newton: Callable[[Decimal], Decimal]) -> Decimal:
    """Newton's iteration: after a step below half of the digits all of them are right."""
    small = Decimal(10) ** (-_DIGITS // 2)
    step = Decimal(1)
    while abs(step) > small:
        step = newton(x)
        x -= step
    return x


def _product(factors: Iterable[Decimal]) -> Decimal:
    return functools.reduce(operator.mul, factors, Decimal(1))


def _without_noise(x: Decimal) -> Decimal:
    """Zero where a sum has cancelled: no derivative is as small as rounding errors are."""
    return x if abs(x) > _NOISE else Decimal(0)


def _between(nodes: Numbers, w: list[Decimal], t: Decimal) -> tuple[Numbers, Numbers]:
    inverse = [1 / (t - x) for x in nodes]
    size, total = _product(t - x for x in nodes), sum(inverse, Decimal(0))
    value = tuple(size * wj * s for wj, s in zip(w, inverse, strict=True))
    # l_j' = l_j sum_{k != j} 1 / (t - x_k)
    return value, tuple(v * (total - s) for v, s in zip(value, inverse, strict=True))


def _at_node(nodes: Numbers, w: list[Decimal], t: Decimal) -> tuple[Numbers, Numbers]:
    i = nodes.index(t)
    value = tuple(Decimal(int(j == i)) for j in range(len(nodes)))
    slope = [Decimal(0) if j == i else w[j] / w[i] / (t - nodes[j]) for j in range(len(nodes))]
    slope[i] = -sum(slope, Decimal(0))
    return value, tuple(slope)
