"""The precision ladder: factor cheaply, refine, and climb when the numbers say so.

A rung is a format and a factorization. On each rung the factors are tried by classical
refinement; where that contracts too slowly, by GMRES-IR if the condition estimate gives it a
chance and it costs less than the next rung; otherwise the next rung is taken. What was tried, and
why it ended, is recorded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..ops import rates
from ..ops.protocol import Array, Counters, Ops
from ..precision import Format
from ..report import RungOutcome
from .classical import Refinement, State
from .criterion import Criterion, Verdict
from .gmres import Gmres

MAX_ITER = 30
GMRES_MAX_ITER = 10
_GMRES_REACH = 1e4
"""GMRES-IR is tried while kappa * u_f is below this."""
_UPCAST_FROM = 10.0
"""Above this kappa * u_f the preconditioner is applied in working precision."""
_CONTRACTS = 0.5
"""Corrections of a random right-hand side that contract by this show that A is regular."""
_PROBE_STEPS = 8
"""Corrections within which it must: singular matrices never get there, slow ones do."""
_PROBE_CORRECTIONS = 3
_EXPECTED_INNER = 40
"""Inner iterations that the cost model charges GMRES-IR with."""


class Factors(Protocol):
    """What the ladder needs of a factorization."""

    @property
    def method(self) -> str: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def is_usable(self) -> bool: ...
    @property
    def workspace_bytes(self) -> int: ...
    def solve(self, b: Array, trans: str = "N", *, upcast: bool = False) -> Array: ...
    def rcond(self, norm1: float, dtype: Any) -> float: ...
    def growth(self, amax: float) -> float: ...


@dataclass(frozen=True)
class Rung:
    """A format and a factorization: one step of the ladder."""

    format: Format
    method: str


@dataclass
class LinearSystem:
    """op(A) x = b as refinement sees it; b is F-ordered, (n, nrhs), in working precision."""

    ops: Ops
    a: Array
    b: Array
    norm_a: float
    unit_roundoff: float
    trans: str = "N"
    triangle: str | None = None
    extended: bool = False
    tol: float | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"solve": 0.0, "residual": 0.0})

    @property
    def n(self) -> int:
        return int(self.a.shape[0])

    @property
    def criterion(self) -> Criterion:
        is_complex = self.a.dtype.kind == "c"
        return Criterion(self.ops, self.n, self.norm_a, self.unit_roundoff, is_complex, self.tol)

    def residual(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array | None]:
        """r of the given columns, and d if it comes with r at no cost."""
        began = time.perf_counter()
        r, d = self.ops.residual(
            self.a, x, self._rhs(columns), trans=self.trans, triangle=self.triangle,
            extended=self.extended, magnitude=columns.size <= self.ops.fused_columns,
        )  # fmt: skip
        self.seconds["residual"] += time.perf_counter() - began
        return r, d

    def magnitude(self, x: Array, columns: NDArray[np.intp]) -> Array:
        """d = |op(A)||x| + |b| of the given columns."""
        began = time.perf_counter()
        d = self.ops.magnitude(
            self.a, x, self._rhs(columns), trans=self.trans, triangle=self.triangle
        )
        self.seconds["residual"] += time.perf_counter() - began
        return d

    def _rhs(self, columns: NDArray[np.intp]) -> Array:
        if columns.size == self.b.shape[1]:
            return self.b
        return self.ops.xp.asfortranarray(self.b[:, columns])

    def product(self, z: Array) -> Array:
        """op(A) z."""
        began = time.perf_counter()
        zero = self.ops.xp.zeros(z.shape, dtype=z.dtype, order="F")
        r, _ = self.ops.residual(
            self.a, z, zero, trans=self.trans, triangle=self.triangle, magnitude=False
        )
        self.seconds["residual"] += time.perf_counter() - began
        return -r

    def timed_solve(self, factors: Factors, r: Array, *, upcast: bool = False) -> Array:
        """M^-1 r."""
        began = time.perf_counter()
        d = self.ops.xp.asfortranarray(factors.solve(r, self.trans, upcast=upcast))
        self.seconds["solve"] += time.perf_counter() - began
        return d

    def norm1(self) -> float:
        """||A||_1, for condition estimates."""
        if self.triangle is not None:
            return self.norm_a
        return self.ops.lange("1", self.a)


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
        rungs = list(self.rungs if self.fallback else self.rungs[:1])
        for i, rung in enumerate(rungs):
            factors = None  # the memory of the rung before is free for the next
            factors = self.factorize(rung)
            following = rungs[i + 1] if i + 1 < len(rungs) else None
            if not factors.is_usable:
                self._note(rung, factors.method, "broke down")
                if following is not None or best is not None or not self.fallback:
                    continue  # else x of NaN is all there is, and is said to be
            state = self._refine_on(rung, factors, following)
            if self._lacks_proof(rung, state) and not self._shows_regular(rung, factors):
                state.verdict[:] = Verdict.UNPROVEN
                self._note(rung, "random right-hand side", "unproven")
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

    def _refine_on(self, rung: Rung, factors: Factors, following: Rung | None) -> State:
        system = self.system
        classical = self._loop(
            lambda r: system.timed_solve(factors, r), following is None, MAX_ITER
        )
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

    def _lacks_proof(self, rung: Rung, state: State) -> bool:
        """Whether x may have converged although A is singular.

        In working precision the condition estimate tells. Below, the factors of a singular A look
        like those of one with a condition number near 1 / u_f, and corrections contract for every
        b in the range of A.
        """
        proven = self.is_proven and rung == self.rungs[0]
        return state.converged and self._is_low(rung) and self.refine is not None and not proven

    def _shows_regular(self, rung: Rung, factors: Factors) -> bool:
        """Whether the corrections of a random right-hand side contract too.

        z has a component outside the range of a singular A, which M^-1 blows up along the null
        vector and no correction reduces. By the method that delivered x: two solves and a product
        for classical refinement; a GMRES for GMRES-IR, whose factors say less about A: neither
        that it is positive definite, nor, by the size of its corrections, how accurate x is.
        """
        system, ops = self.system, self.system.ops
        # the seed follows the data: the same call repeats itself, and no matrix fits all of them
        total = np.float64(abs(complex(system.b.sum())))
        seed = (system.n, int(total.view(np.uint64)))
        noise = np.random.default_rng(seed).standard_normal((system.n, 1))
        z = ops.xp.asfortranarray(ops.xp.asarray(noise).astype(system.b.dtype))
        y = system.timed_solve(factors, z)
        r = z - system.product(y)
        size, last = ops.amax(y), math.inf
        for _ in range(_PROBE_STEPS):
            d = system.timed_solve(factors, r)
            moved = ops.amax(d)
            if moved <= _CONTRACTS * size:
                return True
            if not moved < last:
                break
            last = moved
            y = ops.xp.asfortranarray(y + d)
            r = z - system.product(y)
        by_gmres = self._walked[-1].method.endswith("GMRES")
        if not by_gmres or factors.method == "Cholesky" or system.extended:
            return False
        inner = Gmres(ops, system.product, lambda v: system.timed_solve(factors, v, upcast=True))
        for _ in range(_PROBE_CORRECTIONS):
            y = ops.xp.asfortranarray(y + inner(r))
            r = z - system.product(y)
            if not max(inner.reductions) <= inner.tol or ops.amax(r) <= _CONTRACTS * ops.amax(z):
                break
        self._inner += inner.iterations
        kappa = system.norm_a * ops.amax(y) / ops.amax(z)  # at least so large
        return bool(
            ops.amax(r) <= _CONTRACTS * ops.amax(z)
            and kappa * system.unit_roundoff * math.sqrt(system.n) <= _CONTRACTS
        )

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
