"""What numbers among the options of training may be."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

__all__ = ["count", "number"]


def number(
    name: str, value: Any, low: float = 0.0, high: float = math.inf, *, open_ends: str = ""
) -> float:
    """`value` as a finite float in [low, high]; `open_ends` names the ends left out: "(", ")".

    Raises
    ------
    TypeError
        It is no real number.
    ValueError
        It is not finite, or not in the interval.

    >>> number("lr", 1)
    1.0
    >>> number("rho", 1.5, 0, 1)
    Traceback (most recent call last):
        ...
    ValueError: rho must be a finite number in [0, 1]; got 1.5
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number; got {value!r}")
    x = float(value)
    above = x > low if "(" in open_ends else x >= low
    below = x < high if ")" in open_ends else x <= high
    if not (math.isfinite(x) and above and below):
        ends = "(" if "(" in open_ends else "[", ")" if ")" in open_ends else "]"
        what = f"in {ends[0]}{low:g}, {high:g}{ends[1]}"
        if high == math.inf:
            what = f"greater than {low:g}" if "(" in open_ends else f"of at least {low:g}"
        raise ValueError(f"{name} must be a finite number {what}; got {value!r}")
    return x


def count(name: str, value: Any, low: int = 1) -> int:
    """`value` as an int of at least `low`.

    Raises
    ------
    TypeError
        It is no integer.
    ValueError
        It is smaller.
    """
    try:
        n = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}") from None
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    if n < low:
        raise ValueError(f"{name} must be at least {low}; got {n}")
    return n
