"""The precision ladder: factor cheaply, refine, and climb when the numbers say so.

A rung is a format and a factorization. On each rung the factors are tried by classical
refinement; where that contracts too slowly, by GMRES-IR if the condition estimate gives it a
chance and it costs less than the next rung; otherwise the next rung is taken. What was tried, and
why it ended, is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ops import rates
from ..ops.protocol import Array
from ..precision import Format
from ..report import RungOutcome
from .classical import Refinement, State
from .criterion import Verdict
from .gmres import Gmres
from .probe import Probe
from .system import Factors, LinearSystem

MAX_ITER = 30
GMRES_MAX_ITER = 10
_GMRES_REACH = 1e4
"""GMRES-IR is tried while kappa * u_f is below this."""
_UPCAST_FROM = 10.0
"""Above this kappa * u_f the preconditioner is applied in working precision."""
_EXPECTED_INNER = 40
"""Inner iterations that the cost model charges GMRES-IR with."""


@dataclass(frozen=True)
class Rung:
    """A format and a factorization: one step of the ladder."""

    format: Format
    method: str


@dataclass
class Ascent:
    """Where the ladder ended."""

    x: Array
    state: State
    factors: Factors
    """Of the last rung that was tried."""
    rung: Rung
    """Where x is from."""
    walked: tuple[RungOutcome, ...]
    iterations: int
    inner_iterations: int
    rcond: float | None
    """Condition estimate of A, where one was needed."""

    @property
    def converged(self) -> bool:
        return self.state.converged


@dataclass
class Ladder:
    """The climb.

    Attributes
    ----------
    system : LinearSystem
    rungs : sequence of Rung
        In order of cost; the last is the best that can be done.
    factorize : callable
        ``rung -> Factors``; may raise LinAlgError in working precision.
    refine : {"auto", "classical", "gmres", None}
    max_iter : int, optional
        Most refinement steps on a rung.
    fallback : bool
        Climb when a rung fails. Otherwise the first rung is the last.
    climb_cost : callable, optional
        ``rung -> seconds`` that factoring on it is predicted to take.
    is_proven : bool
        The factors of the first rung have shown before that A is regular.
    """

    system: LinearSystem
    rungs: Sequence[Rung]
    factorize: Callable[[Rung], Factors]
    refine: str | None = "auto"
    max_iter: int | None = None
    fallback: bool = True
    climb_cost: Callable[[Rung], float] | None = None
    is_proven: bool = False
    _walked: list[RungOutcome] = field(default_factory=list)
    _iterations: int = 0
    _inner: int = 0
    _rcond: float | None = None

    def climb(self) -> Ascent | None:
        """Walk the ladder until a rung delivers, or to its end.

        None if no rung gave usable factors.
        """
        best: tuple[State, Rung] | None = None
        factors: Factors | None = None
        probe: Probe | None = None
        rungs = list(self.rungs if self.fallback else self.rungs[:1])
        for i, rung in enumerate(rungs):
            factors = probe = None  # the memory of the rung before is free for the next
            self._rcond = None  # its estimate is worth no more than its factors
            factors = self.factorize(rung)
            following = rungs[i + 1] if i + 1 < len(rungs) else None
            if not factors.is_usable:
                self._note(rung, factors.method, "broke down")
                if following is not None or best is not None or not self.fallback:
                    continue  # else x of NaN is all there is, and is said to be
            probe = Probe(self.system, factors)
            state = self._refine_on(rung, probe, following)
            if state.converged and self._lacks_proof(rung):
                by_gmres = self._walked[-1].method.endswith("GMRES")
                if not probe.shows_regular(by_gmres=by_gmres):
                    state.verdict[:] = Verdict.UNPROVEN
                    self._note(rung, "random right-hand side", "unproven")
                self._inner += probe.inner_iterations
            if best is None or _is_better(state, best[0]):
                best = (state, rung)
            if state.converged:
                break
        if best is None:
            return None
        state, rung = best
        assert factors is not None
        return Ascent(
            state.x, state, factors, rung, tuple(self._walked), self._iterations, self._inner,
            self._rcond,
        )  # fmt: skip

    def _refine_on(self, rung: Rung, probe: Probe, following: Rung | None) -> State:
        system, factors = self.system, probe.factors
        classical = self._loop(
            lambda r: system.timed_solve(factors, r), following is None, MAX_ITER
        )
        if system.streams and self.refine in ("auto", "classical") and self._lacks_proof(rung):
            classical.residual, classical.correct = probe.residual, probe.correct
            x = probe.first_solve()
        else:
            x = system.timed_solve(factors, system.b)
        if self.refine is None:
            state = classical.init(x, system.b)
            classical.complete(state, np.arange(system.b.shape[1]))
            enough = math.sqrt(max(system.n, 1)) * max(
                rung.format.unit_roundoff, system.unit_roundoff
            )
            good = state.errors.is_finite & (state.errors.omega <= enough)
            state.verdict[:] = np.where(good, Verdict.CONVERGED, Verdict.STAGNATED)
            self._note(rung, factors.method, _outcome(state))
            return state
        if self.refine == "gmres":
            return self._gmres(rung, factors, x, following, self._estimate(factors))
        state = classical.run(x, system.b)
        self._iterations += state.iterations
        self._note(rung, f"{factors.method} + classical", _outcome(state))
        if state.converged or self.refine == "classical" or self.max_iter == 0:
            return state
        if following is not None or self._is_low(rung):
            rcond = self._estimate(factors)
            if self._gmres_is_worth_it(rung, rcond, following):
                start = state.x if _usable(state) else x
                other = self._gmres(rung, factors, start, following, rcond)
                return other if _is_better(other, state) else state
        return state

    def _gmres(
        self, rung: Rung, factors: Factors, x: Array, following: Rung | None, rcond: float
    ) -> State:
        system = self.system
        upcast = self._is_low(rung) and not rcond > rung.format.unit_roundoff / _UPCAST_FROM
        gmres = Gmres(
            system.ops, system.product, lambda z: system.timed_solve(factors, z, upcast=upcast)
        )
        loop = self._loop(gmres, following is None, GMRES_MAX_ITER)
        # GMRES that runs out of restarts costs more than the next rung, whatever it gains
        loop.foretold = lambda: [1.0 if rho > gmres.tol else rho for rho in gmres.reductions]
        state = loop.run(system.ops.xp.array(x, order="F", copy=True), system.b)
        self._iterations += state.iterations
        self._inner += gmres.iterations
        self._note(rung, f"{factors.method} + GMRES", _outcome(state))
        return state

    def _lacks_proof(self, rung: Rung) -> bool:
        """Whether x may converge although A is singular.

        In working precision the condition estimate tells. Below, the factors of a singular A look
        like those of one with a condition number near 1 / u_f, and corrections contract for every
        b in the range of A.
        """
        proven = self.is_proven and rung == self.rungs[0]
        return self._is_low(rung) and self.refine is not None and not proven

    def _loop(self, correct: Callable[[Array], Array], is_last: bool, limit: int) -> Refinement:
        system = self.system
        return Refinement(
            system.ops,
            system.residual,
            correct,
            system.criterion,
            max_iter=limit if self.max_iter is None else self.max_iter,
            is_last=is_last,
            extended=system.extended,
            magnitude=system.magnitude,
        )

    def _estimate(self, factors: Factors) -> float:
        rcond = factors.rcond(self.system.norm1(), self.system.b.dtype)
        self._rcond = rcond
        return rcond

    def _is_low(self, rung: Rung) -> bool:
        return rung.format.unit_roundoff > self.system.unit_roundoff

    def _gmres_is_worth_it(self, rung: Rung, rcond: float, following: Rung | None) -> bool:
        if not self._is_low(rung) or rcond * _GMRES_REACH < rung.format.unit_roundoff:
            return False
        if following is None or self.climb_cost is None:
            return True
        return gmres_seconds(self.system) < self.climb_cost(following)

    def _note(self, rung: Rung, method: str, outcome: str) -> None:
        self._walked.append(RungOutcome(rung.format.name, method, outcome))


def gmres_seconds(system: LinearSystem) -> float:
    """Predicted cost of GMRES-IR: each inner iteration reads A and its factors once a column."""
    n, nrhs = system.n, system.b.shape[1]
    bytes_read = 1.5 * system.a.dtype.itemsize * n * n
    return _EXPECTED_INNER * nrhs * bytes_read / rates.known(system.ops).copy


def _outcome(state: State) -> str:
    """One word for a set of columns: the worst verdict."""
    worst = Verdict(int(state.verdict.max())) if state.verdict.size else Verdict.CONVERGED
    return worst.name.lower()


def _usable(state: State) -> bool:
    """x is finite and better than nothing."""
    return bool(np.all(state.errors.is_finite & (state.errors.omega < 0.1)))


def _is_better(new: State, old: State) -> bool:
    """`new` has more converged columns, or a smaller worst backward error."""

    def key(s: State) -> tuple[int, float]:
        omega = np.where(s.errors.is_finite, s.errors.omega, np.inf)
        return int(np.sum(s.verdict != Verdict.CONVERGED)), float(omega.max(initial=0.0))

    return key(new) <= key(old)
