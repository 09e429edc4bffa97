"""What came of training and of judging."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Evaluation", "History"]


@dataclass(frozen=True)
class Evaluation:
    """Of a network, on some data.

    Attributes
    ----------
    loss : float
        The mean of all samples.
    accuracy : float or None
        The share of labels that are right; None without labels.
    """

    loss: float
    accuracy: float | None = None

    def named(self) -> Iterator[tuple[str, float]]:
        """What there is, with its names.

        Yields
        ------
        name, value : str, float
        """
        yield "loss", self.loss
        if self.accuracy is not None:
            yield "accuracy", self.accuracy


class History:
    """What came of training, a row for each epoch.

    There are ``loss``, ``lr`` and ``seconds``; with labels ``accuracy``; with validation data
    ``val_loss`` and ``val_accuracy``; in fp16 steps ``skipped`` and the loss ``scale`` at the end;
    ``captured``, True, where steps were a CUDA graph, False where that was tried in vain.
    ``history["loss"]`` is a list of one of them, None where an epoch has none.

    Parameters
    ----------
    rows : iterable of dict, optional

    Attributes
    ----------
    rows : list of dict

    Raises
    ------
    KeyError
        By ``history[name]``: no epoch has it; the message lists what there is.

    Examples
    --------
    >>> from mplinalg.nn import History
    >>> history = History([{"loss": 2.0}, {"loss": 1.0, "val_loss": 1.5}])
    >>> history["val_loss"]
    [None, 1.5]
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = ()) -> None:
        self.rows = [dict(row) for row in rows]

    def append(self, row: dict[str, Any]) -> None:
        """Another epoch."""
        self.rows.append(dict(row))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> list[Any]:
        if not any(name in row for row in self.rows):
            known = sorted({key for row in self.rows for key in row})
            raise KeyError(f"{name!r} is not in the history; there are {known}")
        return [row.get(name) for row in self.rows]

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v:.4g}" for k, v in self.rows[-1].items()) if self.rows else ""
        return f"History({len(self)} epochs{': ' if last else ''}{last})"
