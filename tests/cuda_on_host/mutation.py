"""Kernels broken on purpose: a barrier taken out has to be noticed."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from mplinalg.kernels.cuda.catalogue import FOLDER

_BARRIER = re.compile(r"(?:__syncthreads|__syncwarp|grid_sync|copy_async_wait<\d+>)\(\);")


def barriers(file: str) -> list[Callable[[str], str]]:
    """Of each barrier of a file an edit that takes it out; its name is ``line_N`` for pytest."""
    text = (FOLDER / file).read_text()
    return [_named(place, text) for place in range(len(_BARRIER.findall(text)))]


def barriers_of_header(header: str) -> list[Callable[[str], str]]:
    """Of each barrier of a header an edit of a file that includes it."""
    return [_inlined(header, edit) for edit in barriers(header)]


def _inlined(header: str, edit: Callable[[str], str]) -> Callable[[str], str]:
    changed = edit((FOLDER / header).read_text())

    def inlined(text: str) -> str:
        return text.replace(f'#include "{header}"', changed)

    inlined.__name__ = edit.__name__
    return inlined


def _named(place: int, text: str) -> Callable[[str], str]:
    edit = partial(_without, place)
    start = list(_BARRIER.finditer(text))[place].start()
    edit.__name__ = f"line_{text.count(chr(10), 0, start) + 1}"  # type: ignore[attr-defined]
    return edit


def _without(place: int, text: str) -> str:
    found = list(_BARRIER.finditer(text))[place]
    return text[: found.start()] + ";" + text[found.end() :]
