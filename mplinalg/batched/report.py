"""How the members of a batch fared, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.batched import NOT_FINITE, Judged
from ..report import Status

__all__ = ["FAILURES", "BatchReport", "statuses"]

FAILURES = (Status.SINGULAR, Status.NOT_POSITIVE_DEFINITE, Status.NOT_FINITE)
"""Of members that have no answer."""
_SHOWN = 10


@dataclass(frozen=True)
class BatchReport:
    """How each member of a batch was solved, and how good its answer is.

    Arrays have the batch dimensions of the answer, shape () for a single system.

    Attributes
    ----------
    status : ndarray of Status
        Of each member: DIRECT (computed in working precision), CONVERGED (refined from a lower
        one), ILL_CONDITIONED (singular to working precision, or beyond the range of the dtype:
        the answer may be poor); SINGULAR, NOT_POSITIVE_DEFINITE, NOT_FINITE (there is no answer,
        and its place holds NaN).
    info : ndarray of int32
        0; i > 0 where pivot i is zero or the leading minor of order i is not positive; -1 for NaN
        or infinity in the input.
    backward_error : ndarray or None
        The largest of a member's right-hand sides, ``||b - A x|| / (||A|| ||x|| + ||b||)`` in the
        infinity norm; NaN for members that failed. None where nothing was solved, or there is no
        matrix to tell.
    precision : str
        Format that the factors were asked for; members whose status is not CONVERGED have
        factors in working precision.
    iterations : ndarray of int
        Corrections added to x by refinement.
    seconds : mapping of str to float
        Wall-clock seconds: of ``factor solve refine check total`` those that were taken. In the
        first call of its kind the compilation of its kernels is among them.
    """

    status: NDArray[Any]
    info: NDArray[np.int32]
    backward_error: NDArray[Any] | None
    precision: str
    iterations: NDArray[Any]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> NDArray[np.int64]:
        """Indices of the members without an answer; rows of indices, unless the batch is 1-D."""
        found = np.argwhere(np.isin(self._names(), [status.name for status in FAILURES]))
        return found[:, 0] if self.status.ndim == 1 else found

    def _names(self) -> NDArray[Any]:
        names = [status.name for status in self.status.ravel()]
        return np.array(names, dtype="U32").reshape(self.status.shape)

    def __str__(self) -> str:
        counts = [
            f"{count} {status.value}"
            for status in Status
            if (count := int(np.count_nonzero(self._names() == status.name)))
        ]
        failed = self.failed
        places = [place(index) if self.status.ndim else "it" for index in failed[:_SHOWN]]
        more = f" and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        steps = self.iterations
        worst = "-"
        if self.backward_error is not None and np.isfinite(self.backward_error).any():
            worst = f"{np.nanmax(self.backward_error):.2e} (worst)"
        seconds = "  ".join(f"{name} {value:.3g}" for name, value in self.seconds.items())
        rows = [
            ("members", str(self.status.size)),
            ("status", ", ".join(counts) or "-"),
            ("failed", ", ".join(map(str, places)) + more if len(failed) else "-"),
            ("precision", self.precision),
            ("iterations", f"{steps.max()} (most)" if steps.size else "-"),
            ("backward error", worst),
            ("seconds", seconds or "-"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def place(index: Any) -> Any:
    """An index as one writes it: an integer, or a tuple of them."""
    numbers = tuple(int(i) for i in np.atleast_1d(index))
    return numbers[0] if len(numbers) == 1 else numbers


def statuses(judged: Judged, eps: float, breakdown: Status) -> list[Status]:
    """Of the members that were judged; `breakdown` is what info > 0 means."""
    found = []
    for info, rcond in zip(judged.info.tolist(), judged.rcond.tolist(), strict=True):
        if info == NOT_FINITE:
            found.append(Status.NOT_FINITE)
        elif info:
            found.append(breakdown)
        else:
            found.append(Status.DIRECT if rcond >= eps else Status.ILL_CONDITIONED)
    return found
