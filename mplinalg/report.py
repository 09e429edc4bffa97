"""What happened during a solve, as data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np

__all__ = ["RungOutcome", "SolveReport", "Status"]


class Status(enum.Enum):
    """How a solve ended."""

    CONVERGED = "converged"
    DIRECT = "direct"
    ILL_CONDITIONED = "ill conditioned"
    STAGNATED = "stagnated"
    SINGULAR = "singular"
    NOT_POSITIVE_DEFINITE = "not positive definite"
    NOT_FINITE = "not finite"

    @property
    def advice(self) -> str:
        """One sentence for the person who reads the report."""
        return _ADVICE[self]

    @property
    def is_success(self) -> bool:
        """True when x meets its test and the matrix is not singular to working precision.

        A pinned precision that was left gives a warning all the same: compare
        `SolveReport.precision` with what was asked.
        """
        return self in (Status.CONVERGED, Status.DIRECT)


_ADVICE = {
    Status.CONVERGED: "Refined until its backward error met the test.",
    Status.DIRECT: "Computed directly, without refinement from a lower precision.",
    Status.ILL_CONDITIONED: (
        "The matrix is singular to working precision: the backward error is small, but the "
        "digits of x may not mean anything. Rescale the problem, or regularise it."
    ),
    Status.STAGNATED: (
        "Refinement stopped before the test was met; x is the best iterate. Try a higher "
        "precision, refine='gmres', or residual='extended'."
    ),
    Status.SINGULAR: (
        "A pivot is exactly zero, and there is no unique answer. Look for equations that repeat "
        "or contradict each other, or solve in the least-squares sense."
    ),
    Status.NOT_POSITIVE_DEFINITE: (
        "A leading minor is not positive, so there is no Cholesky factorization. Check the signs "
        "and the symmetry, or solve with assume_a='gen'."
    ),
    Status.NOT_FINITE: "The input holds NaN or infinity. Look where it came from.",
}
_SEVERITY = [
    Status.CONVERGED, Status.DIRECT, Status.ILL_CONDITIONED, Status.STAGNATED, Status.SINGULAR,
    Status.NOT_POSITIVE_DEFINITE, Status.NOT_FINITE,
]  # fmt: skip


class RungOutcome(NamedTuple):
    """One step of the precision ladder: the format, the method, and what came of it.

    Attributes
    ----------
    format : str
        Of the factors.
    method : str
        Factorization and refinement, as "LU + classical" or "Cholesky + GMRES"; "random right-hand
        side" for the test that the matrix is regular; the driver where SciPy solved the problem.
    outcome : str
        Of a system: "converged"; "slow" (corrections shrink too slowly to go on), "stagnated",
        "diverged"; "broke down" (the factors are of no use); "unproven" (the test is met, but for
        all that the factors tell the matrix may be singular); "exact" (1-by-1).
        Of least squares: "converged", "3 of 8 columns stagnated", "rank in doubt", and from SciPy's
        driver "rank 5". Of `qr`: "direct" (Householder QR), "2 passes" (CholeskyQR), "orthogonality
        1e-10 after 3 passes", "signs of R are not determined". Of both, of rungs that were not
        used: "condition 1e+09 foreseen", "minor 7 not positive", "rcond 1e-09 is too small to
        trust".
    """

    format: str
    method: str
    outcome: str


def _number(value: Any) -> str:
    if value is None:
        return "-"
    array = np.asarray(value)
    if array.size == 0:
        return "-"
    if array.dtype.kind in "iu":
        return str(array.max()) if array.size > 1 else str(array.item())
    worst = f"{np.max(array):.2e}"
    return worst if array.size == 1 else f"{worst} (worst of {array.size})"


@dataclass(frozen=True)
class SolveReport:
    """How an answer was found and how good it is.

    What was not tested or estimated is None: the errors and `rcond` for a bare tuple given to
    `lu_solve` or `cho_solve` (the status is DIRECT, and `rungs` is empty) and for Householder QR;
    the errors where SciPy's driver solved a least-squares problem; the componentwise error of
    every least-squares problem and QR factorization.

    Attributes
    ----------
    status : Status
        The outcome; the worst one, for a batch.
    rungs : tuple of RungOutcome
        The precision ladder as it was walked: (format, method, outcome) in order. Empty where
        nothing was factored.
    precision : str
        Format of the factors behind the answer.
    iterations, inner_iterations : int
        Refinement steps (corrections added to x), and GMRES iterations within them (the most
        that any right-hand side took).
    backward_error, componentwise_error, forward_error_bound : float or ndarray or None
        Per right-hand side: a float for a vector `b`, shape ``(nrhs,)`` for a matrix, with the
        batch dimensions in front. The normwise backward error is
        ``||b - A x|| / (||A|| ||x|| + ||b||)`` in the infinity norm; the componentwise one is
        ``max_i |b - A x|_i / (|A||x| + |b|)_i``; the bound is an estimate of
        ``||x - x_true|| / ||x||``. `lstsq` and `qr` say what theirs are.
    rcond : float or None
        Estimated reciprocal condition number (None where it was not needed or asked for).
    growth : float or None
        Growth factor ``max |U| / max |A|`` of the factorization (None where it was not computed).
    overflows, underflows : int
        Entries that overflowed, or became zero or subnormal, on conversion to the format.
    seconds : mapping of str to float
        Wall-clock seconds, of ``convert factor solve residual total`` those that were taken. In the
        first call of its kind the compilation of its kernels is among them.
    workspace_bytes : int
        Most memory in bytes held at once beyond the inputs and the answer.
    notes : tuple of str
        What the backend had to replace: kernels that could not be compiled for a GPU, and why.
    members : tuple of SolveReport
        Reports of the members of a batch, in C order of the batch dimensions; empty otherwise.
    """

    status: Status
    rungs: tuple[RungOutcome, ...] = ()
    precision: str = "fp64"
    iterations: int = 0
    inner_iterations: int = 0
    backward_error: Any = 0.0
    componentwise_error: Any = 0.0
    forward_error_bound: Any = None
    rcond: Any = None
    growth: Any = None
    overflows: int = 0
    underflows: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    workspace_bytes: int = 0
    notes: tuple[str, ...] = ()
    members: tuple[SolveReport, ...] = ()

    def __str__(self) -> str:
        walked = " -> ".join(f"{r.format} {r.method}: {r.outcome}" for r in self.rungs)
        steps = f"{self.iterations}"
        if self.inner_iterations:
            steps += f" (GMRES {self.inner_iterations})"
        seconds = "  ".join(f"{name} {value:.3g}" for name, value in self.seconds.items())
        rows = [
            ("status", f"{self.status.value}. {self.status.advice}"),
            ("precision", self.precision),
            ("ladder", walked or "-"),
            ("iterations", steps),
            ("backward error", _number(self.backward_error)),
            ("componentwise", _number(self.componentwise_error)),
            ("forward bound", _number(self.forward_error_bound)),
            ("rcond", _number(None if self.rcond is None else np.min(self.rcond))),
            ("growth", _number(self.growth)),
            ("over/underflows", f"{self.overflows} / {self.underflows}"),
            ("seconds", seconds or "-"),
            ("workspace", f"{self.workspace_bytes / 2**20:.1f} MiB"),
        ]
        rows += [("note", note) for note in self.notes]
        if self.members:
            rows.insert(1, ("members", str(len(self.members))))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data, ready for `json.dumps`.

        Returns
        -------
        dict
            Keys are the attributes; arrays become lists, statuses their values.
        """
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def of_vector(self) -> SolveReport:
        """The report for a 1-D b: a float (an array over the batch) for each error per column."""

        def first(value: Any) -> Any:
            if value is None or np.ndim(value) == 0:
                return value
            value = np.asarray(value)[..., 0]
            return float(value) if value.ndim == 0 else value

        return replace(
            self,
            backward_error=first(self.backward_error),
            componentwise_error=first(self.componentwise_error),
            forward_error_bound=first(self.forward_error_bound),
            members=tuple(member.of_vector() for member in self.members),
        )

    @staticmethod
    def combine(members: list[SolveReport], shape: tuple[int, ...]) -> SolveReport:
        """One report for a batch of shape `shape` out of the reports of its members."""

        def stacked(name: str) -> Any:
            values = [getattr(m, name) for m in members]
            if any(v is None for v in values):
                return None
            return np.reshape(
                np.stack([np.asarray(v) for v in values]), (*shape, *np.shape(values[0]))
            )

        worst = max(members, key=lambda m: _SEVERITY.index(m.status))
        names = dict.fromkeys(name for m in members for name in m.seconds)
        phases = {name: sum(m.seconds.get(name, 0.0) for m in members) for name in names}
        return SolveReport(
            status=worst.status,
            rungs=worst.rungs,
            precision=worst.precision,
            iterations=max(m.iterations for m in members),
            inner_iterations=max(m.inner_iterations for m in members),
            backward_error=stacked("backward_error"),
            componentwise_error=stacked("componentwise_error"),
            forward_error_bound=stacked("forward_error_bound"),
            rcond=stacked("rcond"),
            growth=stacked("growth"),
            overflows=sum(m.overflows for m in members),
            underflows=sum(m.underflows for m in members),
            seconds=phases,
            workspace_bytes=max(m.workspace_bytes for m in members),
            notes=tuple(dict.fromkeys(note for m in members for note in m.notes)),
            members=tuple(members),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, SolveReport):
        return value.to_dict()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
