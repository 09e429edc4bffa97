"""Members that have no answer, or a poor one: what is raised, and what is said."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LinAlgError, LinAlgWarning
from ..ops.batched import Judged
from ..report import Status
from .report import FAILURES, place, statuses

__all__ = ["Findings", "names_of"]

_SHOWN = 10


def names_of(members: Any, batch: tuple[int, ...]) -> str:
    """Batch indices of members given by their numbers in C order, the first ten of them.

    >>> names_of([0, 5], (2, 3))
    '2 of 6 members, [(0, 0), (1, 2)]'
    """
    numbers = np.asarray(members)
    if not batch:
        return "the matrix"
    shown = [place(np.unravel_index(k, batch)) for k in numbers[:_SHOWN].tolist()]
    more = ", ..." if len(numbers) > _SHOWN else ""
    text = ", ".join(map(str, shown))
    return f"{len(numbers)} of {math.prod(batch)} members, [{text}{more}]"


class Findings:
    """What is known of the members of a batch that were looked at one by one.

    Parameters
    ----------
    judged : Judged
        Members by number, C order of the batch.
    batch : tuple of int
        Shape of the batch.
    eps : float
        Distance from 1 to the next number; a smaller rcond is that of a singular matrix.
    n : int or None
        Order of the matrices, if they have one.
    breakdown : Status
        What info > 0 means: SINGULAR or NOT_POSITIVE_DEFINITE.
    """

    def __init__(
        self, judged: Judged, batch: tuple[int, ...], eps: float, n: int | None, breakdown: Status
    ) -> None:
        self.judged, self.batch, self.n = judged, batch, n
        self.statuses = statuses(judged, eps, breakdown)

    def members(self, *wanted: Status) -> NDArray[Any]:
        """Numbers of the members with one of these statuses."""
        chosen = [status in wanted for status in self.statuses]
        return np.asarray(self.judged.members)[np.array(chosen, dtype=bool)]

    def failure(self, *wanted: Status) -> str | None:
        """What a LinAlgError says; None if every member has an answer.

        With some statuses `wanted`, of these alone, and only that.
        """
        sentences = []
        for status in wanted or FAILURES:
            members = self.members(status)
            if members.size:
                sentences.append(self._sentence(status, members))
        if not sentences:
            return None
        text = " ".join(sentences)
        if self.batch and not wanted:
            text += " With raise_on_failure=False their answers are NaN and all others are kept."
        return text

    def _sentence(self, status: Status, members: NDArray[Any]) -> str:
        names = names_of(members, self.batch)
        info = int(self.judged.info[np.searchsorted(self.judged.members, members[0])])
        first = "" if members.size == 1 else "of the first, "
        if status is Status.SINGULAR:
            among = "" if self.n is None else f" of {self.n}"
            return f"Singular: {names}; {first}pivot {info}{among} is exactly zero."
        if status is Status.NOT_POSITIVE_DEFINITE:
            return (
                f"Not positive definite: {names}; {first}the leading minor of order {info} is not "
                "positive."
            )
        return f"NaN or infinity in the input: {names}."

    def doubt(self) -> str | None:
        """What a LinAlgWarning says of answers that may be poor; None if there are none."""
        members = self.members(Status.ILL_CONDITIONED)
        if not members.size:
            return None
        rcond = self.judged.rcond[np.searchsorted(self.judged.members, members)]
        over = np.isnan(rcond)
        sentences = []
        if not over.all():
            names, first = names_of(members[~over], self.batch), rcond[~over]
            among = "" if len(first) == 1 else " of the first"
            sentences.append(
                f"Singular to working precision: {names}; rcond = {first[0]:.1e}{among}. The "
                "answers may not be accurate."
            )
        if over.any():
            names = names_of(members[over], self.batch)
            sentences.append(f"Answers that exceed the range of their dtype: {names}.")
        return " ".join(sentences)

    def conclude(self, raise_on_failure: bool, stacklevel: int = 2) -> None:
        """Raise LinAlgError or issue a LinAlgWarning where that is due.

        `stacklevel` counts from the caller, 1, on.
        """
        if not self.statuses:
            return
        failure = self.failure()
        if failure is not None and raise_on_failure:
            raise LinAlgError(failure)
        doubt = self.doubt()
        if doubt is not None:
            warnings.warn(doubt, LinAlgWarning, stacklevel=stacklevel + 1)

    def spread(self, others: Status = Status.DIRECT) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Statuses and infos as arrays of the shape of the batch."""
        count = math.prod(self.batch)
        status = np.full(count, others, dtype=object)
        info = np.zeros(count, np.int32)
        status[self.judged.members] = np.array(self.statuses, dtype=object)
        info[self.judged.members] = self.judged.info
        return status.reshape(self.batch), info.reshape(self.batch)
