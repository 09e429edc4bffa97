"""A bar that shows how far training is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(steps: int, shown: bool) -> Iterator[Callable[[int], Any]]:
    """On stderr; what it yields is told of every step.

    Raises
    ------
    ImportError
        tqdm is not installed.
    """
    if not shown:
        yield lambda _: None
        return
    try:
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ImportError("progress=True needs tqdm: pip install 'mplinalg[nn]'") from error
    with tqdm(total=steps, unit="step", file=sys.stderr) as bar:
        yield bar.update
