"""Memory limits as people write them."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable

__all__ = ["UNLIMITED", "Limit", "as_bytes"]

Limit = int | str | float
UNLIMITED = 2**62
"""Bytes: memory that is looked after elsewhere."""
_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{letter}": base**power
    for power, prefix in enumerate("kmgt", 1)
    for letter, base in (("b", 1000), ("ib", 1024))
}
_DEFAULT = 0.5


def as_bytes(limit: Limit | None, free: Callable[[], int]) -> int:
    """A limit in bytes; `free` tells how many a fraction is one of.

    >>> [as_bytes(limit, lambda: 1000) for limit in (4096, "8GiB", "1.5 kB", 0.25)]
    [4096, 8589934592, 1500, 250]

    Raises
    ------
    ValueError
        It is not positive, or cannot be understood.
    """
    if limit is None:
        limit = _DEFAULT
    if isinstance(limit, bool):
        raise ValueError(f"memory_limit must be bytes, text or a fraction; got {limit!r}")
    if isinstance(limit, str):
        found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)\s*", limit.lower())
        if found is None or found[2] not in _UNITS:
            raise ValueError(
                f"memory_limit={limit!r} is not understood; write bytes, or text as '8GiB'"
            )
        try:
            count = float(found[1]) * _UNITS[found[2]]
        except ValueError:
            raise ValueError(f"memory_limit={limit!r} is not a number of bytes") from None
    elif not isinstance(limit, numbers.Real):
        raise ValueError(f"memory_limit must be bytes, text or a fraction; got {limit!r}")
    else:
        count = float(limit)
        if 0 < count < 1:
            count *= free()
    if not 1 <= count < float("inf"):
        raise ValueError(f"memory_limit must be at least one byte; got {limit!r}")
    return int(count)
