"""A progress bar on stderr, where a person looks at it and tqdm is installed; else nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["progress"]


def progress(rows: Sequence[dict[str, Any]], title: str) -> AbstractContextManager[Iterator[Any]]:
    """A context whose value iterates over `rows`, showing which one is being measured."""
    return contextlib.contextmanager(_shown)(rows, title)


def _shown(rows: Sequence[dict[str, Any]], title: str) -> Iterator[Iterator[Any]]:
    bar_class = _tqdm() if sys.stderr.isatty() else None
    if bar_class is None:
        yield iter(rows)
        return
    with bar_class(total=len(rows), desc=title, unit="row", file=sys.stderr, leave=False) as bar:
        yield _stepping(bar, rows)


def _stepping(bar: Any, rows: Sequence[dict[str, Any]]) -> Iterator[Any]:
    for row in rows:
        bar.set_postfix_str(" ".join(f"{key}={value}" for key, value in row.items()))
        yield row
        bar.update()


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    return tqdm
