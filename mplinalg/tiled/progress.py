"""How far a program is: a bar with the rate and the time that is left, or nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

__all__ = ["Advance", "Progress", "bar", "quiet"]

Advance = Callable[[float], None]
Progress = Callable[[str, float], AbstractContextManager[Advance | None]]


def quiet(title: str, flops: float) -> AbstractContextManager[None]:
    """Nothing is shown."""
    return contextlib.nullcontext()


@contextlib.contextmanager
def bar(title: str, flops: float) -> Iterator[Advance]:
    """A bar on stderr, by tqdm.

    Raises
    ------
    ImportError
        tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ImportError(
            "progress=True needs tqdm: pip install 'mplinalg[bench]', or 'pip install tqdm'"
        ) from error
    with tqdm(total=flops, desc=title, unit="flop", unit_scale=True, file=sys.stderr) as shown:
        yield shown.update
