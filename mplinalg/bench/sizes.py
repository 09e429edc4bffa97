"""The grammar of ``--sizes``: ``512``, ``512,1000,2048``, ``512:8192:x2``, ``100:1000:+100``."""

from __future__ import annotations

import re

__all__ = ["parse_sizes"]

LARGEST = 2**31 - 1
"""The largest order that LAPACK's 32-bit integers hold."""
_RANGE = re.compile(r"(\d+):(\d+)(?::([x+])(\d+(?:\.\d+)?))?")


def parse_sizes(text: str) -> tuple[int, ...]:
    """The sizes that `text` lists, in its order, each once.

    Parameters
    ----------
    text : str
        Items separated by commas: a number; ``first:last`` or ``first:last:xF`` for first,
        first F, first F^2, ... up to last (F is 2 if not given); ``first:last:+S`` for first,
        first + S, ... up to last.

    Raises
    ------
    ValueError
        If `text` does not follow the grammar, or a size is 0 or above 2^31 - 1, or a range is empty
        or stands still.

    Examples
    --------
    >>> parse_sizes("100,512:4096")
    (100, 512, 1024, 2048, 4096)
    >>> parse_sizes("100:400:+150")
    (100, 250, 400)
    """
    sizes: dict[int, None] = {}
    for item in text.split(","):
        sizes.update(dict.fromkeys(_item(item.strip(), text)))
    return tuple(sizes)


def _item(item: str, text: str) -> list[int]:
    if item.isdecimal():
        first = last = _size(item)
        kind, step = "+", 1.0
    elif match := _RANGE.fullmatch(item):
        first, last = _size(match[1]), _size(match[2])
        kind, step = match[3] or "x", float(match[4] or 2)
    else:
        raise ValueError(
            f"sizes {text!r}: {item!r} is not a size; "
            "write 512, 512,1000,2048, 512:8192:x2 or 100:1000:+100"
        )
    if first < 1:
        raise ValueError(f"sizes {text!r}: sizes are at least 1, got {first}")
    if max(first, last) > LARGEST:
        raise ValueError(f"sizes {_short(text)!r}: sizes are at most {LARGEST}")
    if last < first:
        raise ValueError(f"sizes {text!r}: {item!r} is empty, {last} is less than {first}")
    if step <= (1 if kind == "x" else 0) or (kind == "+" and not step.is_integer()):
        raise ValueError(
            f"sizes {text!r}: {item!r} needs a factor above 1 (x2) or a whole step (+100)"
        )
    sizes, value = [], float(first)
    while value < last + 1 and round(value) <= last:  # a factor may lead to infinity
        sizes.append(round(value))
        value = value * step if kind == "x" else value + step
    return sizes


def _size(digits: str) -> int:
    """The number; above `LARGEST` it is as good as any other one."""
    return int(digits) if len(digits) <= 20 else LARGEST + 1


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
