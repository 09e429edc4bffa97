"""The file of a model: a checkpoint with history, seed and early stopping."""

from __future__ import annotations

import os
from typing import NamedTuple

from . import checkpoint
from .checks import count
from .history import History
from .module import Module, generators
from .recipe import Recipe
from .stopping import Best

__all__ = ["Standing", "restored", "save"]


class Standing(NamedTuple):
    """How far training has come.

    Attributes
    ----------
    epoch : int
        Epochs that are done.
    since : int
        Those that were at `compile`, from where schedules count.
    history : History
    seed : int
        Of the order of the samples.
    best : Best or None
        Of early stopping that has not ended.
    """

    epoch: int
    since: int
    history: History
    seed: int
    best: Best | None


def save(
    path: str | os.PathLike[str], net: Module, recipe: Recipe | None, standing: Standing
) -> None:
    """Write a checkpoint; errors as of `checkpoint.save`."""
    best = standing.best
    checkpoint.save(
        path,
        net,
        optimizer=None if recipe is None else recipe.optimizer,
        scaler=None if recipe is None else recipe.scaler,
        schedule=None if recipe is None else recipe.schedule,
        rng=generators(net),
        epoch=standing.epoch,
        extra={
            "history": standing.history.rows,
            "since": standing.since,
            "seed": standing.seed,
            "best": None if best is None else best.state_dict(),
            "precision": None if recipe is None else recipe.name,
        },
        arrays=None if best is None else best.values,
    )


def restored(path: str | os.PathLike[str], net: Module, recipe: Recipe | None) -> Standing:
    """Bring `net`, and what `recipe` holds, into the state that was saved.

    Raises
    ------
    FileNotFoundError, ValueError
        As of `checkpoint.load`, or it does not fit. Nothing is changed then.
    """
    found = checkpoint.load(path)
    try:
        history = History(found.extra.get("history", []))
        seed = count("seed", found.extra.get("seed", 0), 0)
        since = count("since", found.extra.get("since", 0), 0)
        state = found.extra.get("best")
        best = None if state is None else Best.from_state(state, found.arrays)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: not written by Model.save: {error}") from error
    began = found.extra.get("precision")  # None: not compiled, or of a file without it
    if recipe is not None and began not in (None, recipe.name):
        raise ValueError(
            f"{os.fspath(path)}: saved in training with precision={began!r}, the model is compiled "
            f"for {recipe.name!r}: to take the network alone, load before compile"
        )
    if recipe is not None and found.optimizer is None:
        raise ValueError(
            f"{os.fspath(path)}: saved of a model that was not compiled: to take the network, load "
            "before compile"
        )
    if recipe is None:
        found.restore(net)
    else:
        found.restore(
            net, optimizer=recipe.optimizer, scaler=recipe.scaler, schedule=recipe.schedule,
            rng=generators(net),
        )  # fmt: skip
    return Standing(found.epoch, since, history, seed, best)
