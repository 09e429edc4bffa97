"""A program run with a bar, its traffic counted, its store given up."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .progress import Progress
from .store import Store
from .tasks import Key, Program
from .traffic import Traffic

__all__ = ["run", "run_rest"]


def run(
    executor: Any, program: Program, inputs: Any, store: Store, traffic: Traffic,
    progress: Progress, title: str, *, stored: Collection[Key] = (),
) -> None:  # fmt: skip
    """Run a program on an executor, and count in `traffic` what is moved."""
    with progress(title, program.flops) as advance:
        traffic.add(executor.run(program, inputs, store, stored=stored, progress=advance))


def run_rest(
    executor: Any, program: Program, inputs: Any, store: Store, traffic: Traffic,
    progress: Progress, title: str, *, stored: Collection[Key] = (),
) -> None:  # fmt: skip
    """`run` what is left of a program where the store has some of its results already.

    The store is released: also if the run fails, so that it can be resumed.
    """
    try:
        left = program.without(getattr(store, "results", ()))
        have = program.results - left.results
        run(executor, left, inputs, store, traffic, progress, title, stored=have.union(stored))
    finally:
        store.release()
