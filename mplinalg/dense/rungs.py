"""Which formats a system is factored in, and in what order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..factor.butterfly import suits
from ..ops import rates
from ..ops.protocol import Ops
from ..precision import FP32, Format, working_format
from ..refine.ladder import Rung
from ..refine.system import Factors
from .matrix import BUTTERFLY, CHOLESKY, QR, Matrix
from .structure import GENERAL, MAYBE_POSITIVE_DEFINITE, POSITIVE_DEFINITE

LOW_PRECISION_FROM = 256
"""Order a right-hand side below which single precision and refinement cost what LU in double does.

Refinement costs O(n^2) a right-hand side, and the factors save O(n^3). Of Cholesky they save half:
`_DEFINITE_FROM`. From `_TOGETHER` right-hand sides on they are refined together, by gemm, and
`_PER_COLUMN` is their share.
"""
_DEFINITE_FROM = 400
_TOGETHER = 4
_PER_COLUMN = 80
_STEPS = {"fp16": 8, "bf16": 20, "tf32": 8, "fp16x2": 3, "fp32": 3}
"""Corrections that refinement is expected to take."""
_PIVOTED_COLUMN, _UNPIVOTED_COLUMN = 1.5e-6, 0.3e-6
"""Seconds that a column of a panel takes whatever its length, where butterflies are preferred:
predicted, docs/algorithms/gpu-lu.md."""
_UNPIVOTED_STEPS = 3
"""More corrections after a butterfly."""


def pays_low_precision(n: int, nrhs: int, dtype: np.dtype[Any], structure: str = GENERAL) -> bool:
    """Whether single-precision factors and refinement cost less than factors in double."""
    return dtype.char in "dD" and _is_large(n, nrhs, structure)


def _is_large(n: int, nrhs: int, structure: str) -> bool:
    definite = structure in (POSITIVE_DEFINITE, MAYBE_POSITIVE_DEFINITE)
    order = _DEFINITE_FROM if definite else LOW_PRECISION_FROM
    share = 2 * _PER_COLUMN if definite else _PER_COLUMN
    return n >= order * min(nrhs, _TOGETHER) and n >= share * nrhs


def cheapest_format(
    ops: Ops, n: int, nrhs: int, dtype: np.dtype[Any], structure: str = GENERAL
) -> Format:
    """The format of factors that with their refinement cost least, of a matrix that is kind."""
    working = working_format(dtype)
    lower = [f for f in ops.fast_formats if f.unit_roundoff > working.unit_roundoff]
    if not lower or n < ops.refines_from or not _is_large(n, nrhs, structure):
        return working
    known = rates.known(ops)
    flops = (1 if dtype.kind == "f" else 4) * 2 * n**3 / 3
    pass_over_a = dtype.itemsize * n * n / known.copy
    definite = structure in (POSITIVE_DEFINITE, MAYBE_POSITIVE_DEFINITE)
    may_transform = dtype.kind == "f" and not definite

    def seconds(fmt: Format) -> float:
        steps, columns = _STEPS.get(fmt.name, 0), 0.0
        if may_transform and ops.prefers_butterfly:
            is_unpivoted = fmt is not working and suits(n, fmt)
            steps += _UNPIVOTED_STEPS if is_unpivoted else 0
            columns = n * (_UNPIVOTED_COLUMN if is_unpivoted else _PIVOTED_COLUMN)
        return flops / known.gemm[fmt.name] + 2 * steps * nrhs * pass_over_a + columns

    return min([*lower, working], key=seconds) if len(lower) > 1 else lower[0]


@dataclass(frozen=True)
class Options:
    """How to solve: the keywords of `solve` that concern precision."""

    precision: Format | None = None
    refine: str | None = "auto"
    residual: str = "working"
    tol: float | None = None
    max_iter: int | None = None
    fallback: bool = True

    def first_format(
        self, ops: Ops, n: int, nrhs: int, dtype: np.dtype[Any], structure: str
    ) -> Format:
        """The format that the first factorization is made in."""
        if self.precision is not None:
            return self.precision
        if self.refine is not None:
            return cheapest_format(ops, n, nrhs, dtype, structure)
        return working_format(dtype)


def rungs_from(matrix: Matrix, first: Format) -> list[Rung]:
    """The ladder that starts at `first`: what the backend is fast in above it, then QR."""
    working, method = working_format(matrix.a.dtype), matrix.method()
    formats = [first]
    for fmt in (*matrix.fast_formats, FP32, working):
        if working.unit_roundoff <= fmt.unit_roundoff < formats[-1].unit_roundoff:
            formats.append(fmt)
    rungs = [Rung(fmt, method) for fmt in formats]
    # Householder QR is backward stable however large the pivots of LU grow
    return [*rungs, Rung(working, QR)] if matrix.has_qr and method != CHOLESKY else rungs


def rungs_of(
    matrix: Matrix, first: Format, options: Options, factors: Factors | None
) -> list[Rung]:
    """The ladder of a matrix, of which the `factors` of the first rung may be there already.

    The first format that butterflies suit is tried with them. What then fails is mostly too
    ill-conditioned, so that pivots are for the next format; unless that is the working precision,
    or this one was asked for.
    """
    working = working_format(matrix.a.dtype)
    rungs = rungs_from(matrix, first)
    if factors is not None and factors.method == BUTTERFLY:
        place = 0
    elif not options.fallback or options.refine is None:  # there will be no other x: a sure one
        return rungs
    else:
        known = int(factors is not None)
        suited = (i for i, r in enumerate(rungs[known:], known) if matrix.tries_butterfly(r.format))
        place = next(suited, len(rungs))
    if place == len(rungs):
        return rungs
    fmt = rungs[place].format
    keeps = rungs[place + 1].format is working or fmt is options.precision
    return [*rungs[:place], Rung(fmt, BUTTERFLY), *rungs[place if keeps else place + 1 :]]
