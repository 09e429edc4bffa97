"""x <- x + correct(b - A x), column by column frozen as it finishes.

`correct` may be a solve with low-precision factors (classical refinement) or a preconditioned
GMRES (GMRES-IR): the loop is the same. An iteration is `init`, `step`, `done`.

References
----------
Moler, J. ACM 14 (1967) 316. Higham, Accuracy and Stability, 2nd ed., chapter 12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ops.protocol import Array, Ops
from .criterion import Columns, Criterion, Errors, Verdict, column_max

Residual = Callable[[Array, NDArray[np.intp]], tuple[Array, Array | None]]
"""(columns of x, their numbers) -> (r, d) of those columns; d may be left out."""
Magnitude = Callable[[Array, NDArray[np.intp]], Array]
"""(columns of x, their numbers) -> d of those columns."""
Correct = Callable[[Array], Array]
"""r -> approximation of A^-1 r."""

_HALF = 0.5


@dataclass
class State:
    """Where a refinement stands. Per-column quantities are host arrays."""

    x: Array
    r: Array
    errors: Errors
    verdict: NDArray[np.int64]
    b_size: Columns
    step_size: Columns
    """||last correction||; before the first, ||x||."""
    contraction: Columns
    """||correction k|| / ||correction k-1||, NaN before it is known."""
    stalls: NDArray[np.int64]
    iterations: int = 0
    history: list[Columns] = field(default_factory=list)

    @property
    def active(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.verdict == Verdict.ACTIVE)

    @property
    def converged(self) -> bool:
        return bool(np.all(self.verdict == Verdict.CONVERGED))


@dataclass
class Refinement:
    """The loop.

    Attributes
    ----------
    ops : Ops
    residual, correct : callable
    criterion : Criterion
    max_iter : int
        Most corrections.
    is_last : bool
        Nothing better follows: accept what meets omega's bound, and never give up early because
        progress is slow.
    extended : bool
        Residuals carry twice the working precision: stop by the size of the corrections, which
        then tell the forward error (Demmel et al. 2006).
    foretold : callable, optional
        What `correct` knows of its last call: the factor by which each column's error contracts.
        Of the first correction of a poor x, ||d|| / ||x|| tells that only if x is from the same
        solves as d.
    magnitude : callable, optional
        For a `residual` that leaves d out: it is then computed of the columns that are near their
        end, for which alone it matters.
    """

    ops: Ops
    residual: Residual
    correct: Correct
    criterion: Criterion
    max_iter: int = 30
    is_last: bool = False
    extended: bool = False
    foretold: Callable[[], list[float]] | None = None
    magnitude: Magnitude | None = None

    @property
    def _last_step(self) -> float:
        """Relative size of a last correction with extended residuals that x is believed after."""
        return (1e3 if self.is_last else 8.0) * self.criterion.unit_roundoff

    def init(self, x: Array, b: Array) -> State:
        """Residual and errors of the first x; finished columns are frozen at once."""
        k = x.shape[1]
        columns = np.arange(k)
        r, d = self.residual(x, columns)
        b_size = column_max(self.ops, b)
        errors = self._measure(x, r, d, columns, b_size)
        verdict = np.full(k, int(Verdict.ACTIVE))
        verdict[~errors.is_finite] = Verdict.DIVERGED
        if not self.extended:
            verdict[self.criterion.is_best(errors)] = Verdict.CONVERGED
        verdict[(errors.x_size == 0) & (errors.omega == 0)] = Verdict.CONVERGED
        unknown = np.full(k, np.nan)
        return State(
            x, r, errors, verdict, b_size, errors.x_size.copy(), unknown,
            np.zeros(k, np.int64), 0, [errors.omega.copy()],
        )  # fmt: skip

    def step(self, state: State) -> None:
        """One correction of the active columns."""
        columns = state.active
        correction = self.correct(_take(self.ops, state.r, columns))
        step_size = column_max(self.ops, correction)
        x = _take(self.ops, state.x, columns) + correction
        r, d = self.residual(x, columns)
        errors = self._measure(x, r, d, columns, state.b_size[columns])
        state.iterations += 1
        with np.errstate(divide="ignore", invalid="ignore"):
            contraction = np.where(step_size == 0, 0.0, step_size / state.step_size[columns])
        old = Errors(
            state.errors.omega[columns], state.errors.berr[columns], state.errors.x_size[columns]
        )
        if self.foretold is not None and state.iterations == 1:
            contraction = np.asarray(self.foretold())
        verdict, keep = self._judge(state, columns, old, errors, step_size, contraction)
        state.contraction[columns] = contraction
        state.step_size[columns] = step_size
        state.verdict[columns] = verdict
        moved = columns[keep]
        if moved.size:
            state.x[:, moved] = x[:, keep]
            state.r[:, moved] = r[:, keep]
            for target, value in (
                (state.errors.omega, errors.omega),
                (state.errors.berr, errors.berr),
                (state.errors.x_size, errors.x_size),
            ):
                target[moved] = value[keep]
        state.history.append(state.errors.omega.copy())

    def done(self, state: State) -> bool:
        """True when no column is active, or the steps are used up."""
        if state.active.size == 0:
            return True
        if state.iterations >= self.max_iter:
            met = self.criterion.is_met(state.errors)
            if self.extended:  # the corrections tell what is left of the error
                met &= state.step_size <= self._last_step * state.errors.x_size
            elif not self.is_last:
                met &= state.errors.berr <= self.criterion.limiting_accuracy
            active = state.active
            state.verdict[active] = np.where(met[active], Verdict.CONVERGED, Verdict.STAGNATED)
            return True
        return False

    def run(self, x: Array, b: Array) -> State:
        """Refine until done."""
        state = self.init(x, b)
        while not self.done(state):
            self.step(state)
        self.complete(state, np.flatnonzero(state.verdict != Verdict.CONVERGED))
        return state

    def complete(self, state: State, columns: NDArray[np.intp]) -> None:
        """Compute the componentwise errors of columns of which they were left out."""
        if self.magnitude is None or not columns.size:
            return
        x, r = _take(self.ops, state.x, columns), _take(self.ops, state.r, columns)
        seen = self.criterion.measure(x, r, self.magnitude(x, columns), state.b_size[columns])
        state.errors.berr[columns] = seen.berr

    def _measure(
        self, x: Array, r: Array, d: Array | None, columns: NDArray[np.intp], b_size: Columns
    ) -> Errors:
        """Errors of some columns; without d, berr is 1 for those whose omega is not met."""
        if d is not None:
            return self.criterion.measure(x, r, d, b_size)
        assert self.magnitude is not None
        errors = self.criterion.measure(x, r, None, b_size)
        near = np.flatnonzero(self.criterion.is_met(errors))
        if near.size:
            x, r = _take(self.ops, x, near), _take(self.ops, r, near)
            exact = self.criterion.measure(x, r, self.magnitude(x, columns[near]), b_size[near])
            errors.omega[near], errors.berr[near] = exact.omega, exact.berr
        return errors

    def _judge(
        self, state: State, columns: NDArray[np.intp], old: Errors, new: Errors,
        step_size: Columns, contraction: Columns,
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:  # fmt: skip
        """Verdicts of the stepped columns, and which of them take the new x."""
        u = self.criterion.unit_roundoff
        finite = new.is_finite & np.isfinite(step_size)
        met = self.criterion.is_met(new)
        was_met = self.criterion.is_met(old)
        if self.extended:
            small = step_size <= 2 * u * new.x_size
            halves = contraction <= _HALF
            settled = small | ~halves
            # the last step that contracted bounds what is left of the error
            good = met & (small | (step_size <= self._last_step * new.x_size))
            better = finite & (halves | small)
        else:
            small = self.criterion.is_best(new)
            halves = new.berr <= _HALF * old.berr
            settled = small | ~halves
            good = met if self.is_last else met & (new.berr <= self.criterion.limiting_accuracy)
            # a poor x may have the smaller residual: corrections that contract are right anyway
            onward = (new.omega <= 2.0 * old.omega) | (contraction <= _HALF)
            better = finite & np.where(met | was_met, new.berr <= old.berr, onward)
        verdict = np.full(columns.size, int(Verdict.ACTIVE))
        # not there yet, and not getting there: omega fails to halve twice, or the correction
        # equation does not contract
        stalled = ~met & ~(new.omega <= _HALF * old.omega)
        state.stalls[columns] = np.where(stalled, state.stalls[columns] + 1, 0)
        verdict[state.stalls[columns] >= 2] = Verdict.STAGNATED
        if not self.is_last:
            verdict[~met & self._too_slow(state, new, contraction)] = Verdict.SLOW
        verdict[settled & met] = Verdict.STAGNATED
        verdict[settled & good] = Verdict.CONVERGED
        kept_was_good = (
            ~better & was_met & (self.is_last | (old.berr <= self.criterion.limiting_accuracy))
        )
        if not self.extended:
            verdict[kept_was_good] = Verdict.CONVERGED
        verdict[~finite & ~was_met] = Verdict.DIVERGED
        return verdict, better

    def _too_slow(self, state: State, new: Errors, contraction: Columns) -> NDArray[np.bool_]:
        """Columns that, at the present contraction, would not finish within max_iter."""
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.log(new.omega / self.criterion.omega_bound)
            steps = np.where(contraction < 1, wanted / -np.log(contraction), np.inf)
        return ~(steps <= self.max_iter - state.iterations)


def _take(ops: Ops, x: Array, columns: NDArray[np.intp]) -> Array:
    if columns.size == x.shape[1]:
        return x
    return ops.xp.asfortranarray(x[:, columns])
