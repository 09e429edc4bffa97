"""The ladder of least-squares problems: R on one rung after another, until one delivers.

A rung is a format and how R is found in it: from a Gram matrix, which costs half of Householder QR
and squares the condition number, or by Householder QR.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..factor.gram import foreseen_condition, gram, trusted_rcond
from ..factor.qr import QRFactors, qr
from ..factor.triangle import Triangle
from ..ops.protocol import Array, Counters, Ops
from ..precision import working_format
from ..report import RungOutcome
from .ladder import Rung
from .least_squares import State, refine

__all__ = ["Factored", "Solution", "factor", "walk"]

_RANK_SAFETY = 10.0


@dataclass(frozen=True, eq=False)
class Factored:
    """R of one rung; `outcome` says why it is of no use, and is empty where it is."""

    rung: Rung
    triangle: Triangle
    factors: QRFactors | None
    counters: Counters
    workspace_bytes: int
    outcome: str = ""


def factor(ops: Ops, a: Array, rung: Rung) -> Factored:
    """R on a rung: method "gram" or "qr".

    R is not trusted, and says why, where its smallest singular value does not stand clear of
    the rounding errors made on the way. What scaling the columns of A can mend does not count.
    """
    limit = trusted_rcond(rung.format, rung.method)
    factors: QRFactors | None = None
    outcome = ""
    if rung.method == "gram":
        made = gram(ops, a, rung.format)
        r, counters, workspace = made.r, made.counters, made.workspace_bytes
        outcome = f"minor {made.info} not positive" if made.info else ""
    else:
        # working precision has the range of A, and the columns of R its scale
        working = working_format(a.dtype) == rung.format
        factors = qr(ops, a, rung.format, scale=False if working else None)
        r, counters, workspace = factors.r(a.dtype), factors.counters, factors.workspace_bytes
    wide = r.astype(a.dtype, copy=False)
    workspace += wide.nbytes
    triangle = Triangle(ops, wide, 0.0, 0.0) if outcome else Triangle.of(ops, wide)
    if not outcome and not triangle.rcond >= limit and not triangle.equilibrated() >= limit:
        outcome = f"rcond {triangle.rcond:.1e} is too small to trust"
    return Factored(rung, triangle, factors, counters, workspace, outcome)


@dataclass(frozen=True, eq=False)
class Solution:
    """What `walk` found: `state` and `factored` of the rung that delivered, None if none did."""

    rungs: tuple[RungOutcome, ...]
    state: State | None
    factored: Factored | None
    last: Factored | None
    seconds: dict[str, float]
    workspace_bytes: int


def walk(
    ops: Ops, a: Array, b: Array, rungs: Sequence[Rung], unit_roundoff: float, *,
    cond: float = 0.0, method: str | None = "auto", tol: float | None = None,
    foresee: bool = True, most_squared: float = math.inf,
    cache: dict[Rung, Factored] | None = None,
) -> Solution:  # fmt: skip
    """min ||b - A x|| on the first rung that delivers.

    A rung delivers if its R is trusted, the rank is n beyond doubt (rcond(R) at least 10 `cond`),
    and refinement meets its test. A trusted R that leaves the rank in doubt ends the walk: a
    higher rung would see the same. What a rung found is the start of the next. Factors are taken
    from `cache`, and kept there. With `foresee`, rungs whose R will hardly be trusted for what a
    quarter of the columns shows are passed over, and Gram matrices where the condition number
    seems to be above `most_squared`.
    """
    walked = []
    x: Array | None = None
    factored: Factored | None = None
    seconds = {"factor": 0.0, "solve": 0.0}
    peak = 0
    cache = {} if cache is None else cache
    foreseen = math.nan
    for i, rung in enumerate(rungs):
        start = time.perf_counter()
        name = rung.format.name
        if foresee and i + 1 < len(rungs) and rung not in cache:
            foreseen = foreseen_condition(ops, a) if math.isnan(foreseen) else foreseen
            most = 1 / trusted_rcond(rung.format, rung.method)
            if foreseen > (min(most, most_squared) if rung.method == "gram" else most):
                outcome = f"condition {foreseen:.1e} foreseen"
                walked.append(RungOutcome(name, rung.method, outcome))
                seconds["factor"] += time.perf_counter() - start
                continue
        factored = cache.get(rung) or cache.setdefault(rung, factor(ops, a, rung))
        seconds["factor"] += time.perf_counter() - start
        peak = max(peak, factored.workspace_bytes + 3 * b.nbytes)
        if factored.outcome:
            walked.append(RungOutcome(name, rung.method, factored.outcome))
            continue
        if not factored.triangle.rcond >= _RANK_SAFETY * cond:
            walked.append(RungOutcome(name, rung.method, "rank in doubt"))
            break
        start = time.perf_counter()
        is_stable = factored.factors is not None and rung.format.unit_roundoff <= unit_roundoff
        if factored.factors is not None and (is_stable or method is None):
            x = ops.xp.asfortranarray(factored.factors.apply_q(b, "C")[: a.shape[1]])
            factored.triangle.solve(x)
        state, outcome = refine(
            ops, a, b, factored.triangle, unit_roundoff, method=method, tol=tol, x=x,
            is_stable=is_stable and method == "auto",
        )  # fmt: skip
        seconds["solve"] += time.perf_counter() - start
        label = f"{rung.method} + {'lsqr' if state.inner else 'classical'}"
        walked.append(RungOutcome(name, label, outcome or "converged"))
        if not outcome:
            return Solution(tuple(walked), state, factored, factored, seconds, peak)
        x = state.x if bool(ops.xp.isfinite(state.x).all()) else None
    return Solution(tuple(walked), None, None, factored, seconds, peak)
