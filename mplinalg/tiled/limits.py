"""Memory limits as people write them."""

from __future__ import annotations

import os
import re

__all__ = ["Limit", "as_bytes", "free_bytes"]

Limit = int | str | float
_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{letter}": base**power
    for power, prefix in enumerate("kmgt", 1)
    for letter, base in (("b", 1000), ("ib", 1024))
}
_DEFAULT = 0.5


def as_bytes(limit: Limit | None) -> int:
    """A limit in bytes.

    >>> as_bytes(4096), as_bytes("8GiB"), as_bytes("1.5 kB")
    (4096, 8589934592, 1500)

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
    elif isinstance(limit, float) and 0 < limit < 1:
        count = limit * free_bytes()
    else:
        count = float(limit)
    if not 1 <= count < float("inf"):
        raise ValueError(f"memory_limit must be at least one byte; got {limit!r}")
    return int(count)


def free_bytes() -> int:
    """Memory that new allocations may take without swapping; half of all where unknown."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
