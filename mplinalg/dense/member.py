"""One square matrix and its low-precision factors: a member of `LU` or `Cholesky`."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LinAlgError
from ..ops import is_on_host, ops_for
from ..precision import FP32, FP64, Format, working_format
from ..refine.system import Factors
from ..report import SolveReport
from . import messages
from .kept import LOW_PRECISION_FROM, Kept, keep
from .matrix import Matrix
from .refined import Outcome, solve_on_ladder, true_rcond
from .rungs import Options, cheapest_format, pays_low_precision

Array = NDArray[Any]

_PROBE_SEED = 20020101
_FEW = 4
"""Up to so many right-hand sides are solved with what factors there are."""


class Climbed:
    """One square matrix, factored on the rung that solves a probe system to working precision.

    The probe is b = A w with w of random numbers. It decides the rung once, so that every later
    solve takes the same path whatever came before it; and as A w is known, so is whether A has
    been changed since.
    """

    def __init__(
        self, a: Array, structure: str, triangle: str | None, precision: Format | None,
        check_finite: bool,
    ) -> None:  # fmt: skip
        ops = ops_for(a)
        working = working_format(a.dtype)
        self.first = precision or _kept_format(a, structure)
        self.precision = precision
        self.matrix = Matrix(ops, a, structure, triangle, self.first, check_finite=check_finite)
        self._given = None if self.matrix.a is a else (a, structure, triangle)
        self._probe, self._size = self._fingerprint()
        probe = self._probe
        if self.matrix.outer is not None:
            probe = probe / self.matrix.outer.rows[:, None]
        outcome = solve_on_ladder(
            self.matrix, probe, Options(precision=precision), first=self.first, detailed=False
        )
        self.factors: Factors = outcome.ascent.factors
        self.first = outcome.ascent.rung.format if outcome.ascent.converged else working
        self.outcome = outcome

    def _fingerprint(self) -> tuple[Array, Array]:
        """A w and |A||w|."""
        matrix = self.matrix
        n = matrix.a.shape[0]
        noise = np.random.default_rng(_PROBE_SEED).standard_normal((n, 1))
        w = matrix.ops.xp.asarray(noise.astype(matrix.a.dtype), order="F")
        minus, size = matrix.ops.residual(matrix.a, w, 0 * w, triangle=matrix.triangle)
        assert size is not None
        return -minus, size

    def check_unchanged(self) -> None:
        """Raise LinAlgError if the matrix is not the one that was factored."""
        if not self._is_unchanged():
            raise LinAlgError(messages.MODIFIED)

    def _is_unchanged(self) -> bool:
        xp = self.matrix.ops.xp
        if self._given is None:
            now, _ = self._fingerprint()
            u = xp.finfo(self.matrix.a.dtype).eps / 2
            same = (abs(now - self._probe) <= u * self._size) | (
                xp.isnan(now) & xp.isnan(self._probe)
            )
            return bool(same.all())
        # solved from a scaled copy: scale again
        again = Matrix(self.matrix.ops, *self._given, working_format(self.matrix.a.dtype),
                       check_finite=False)  # fmt: skip
        if again.outer is None or self.matrix.outer is None:
            return False
        return bool(
            xp.array_equal(again.a, self.matrix.a)
            and xp.array_equal(again.outer.rows, self.matrix.outer.rows)
            and xp.array_equal(again.outer.cols, self.matrix.outer.cols)
        )

    @functools.cached_property
    def rcond(self) -> float:
        """Estimated reciprocal 1-norm condition number of the matrix as it was given."""
        matrix = self.matrix
        # of a Hermitian matrix both norms are the same, and one triangle may hold anything
        norm1 = matrix.norm if matrix.triangle else matrix.ops.lange("1", matrix.a)
        return true_rcond(matrix, self.factors, norm1)

    @property
    def report(self) -> SolveReport:
        """That of the probe, with the condition number."""
        return replace(self.outcome.report, rcond=self.rcond)

    def solve(
        self, b: Array, trans: str, refine: str | None, tol: float | None, detailed: bool
    ) -> Outcome:
        """x and its report, starting from the factors there are."""
        self.check_unchanged()
        options = Options(precision=self.precision and self.first, refine=refine, tol=tol)
        matrix = copy.copy(self.matrix)  # a climb changes it, and others may be solving too
        matrix.seconds = dict.fromkeys(matrix.seconds, 0.0)
        return solve_on_ladder(
            matrix, b, options, first=self.first, trans=trans, factors=self.factors,
            detailed=detailed,
        )  # fmt: skip


class Member:
    """One square matrix with the factors that suit it.

    On the host, where nothing is gained by a low precision they are in working precision (`Kept`);
    so they are, from the first time that it happens on, where many right-hand sides are solved.
    What these cannot do, and all that is on a device, is left to the ladder.
    """

    def __init__(
        self, a: Array, structure: str, triangle: str | None, precision: Format | None,
        check_finite: bool,
    ) -> None:  # fmt: skip
        self._given = (a, structure, triangle, precision, check_finite)
        self._kept: Kept | None = None
        self._climbed: Climbed | None = None
        if precision is None and is_on_host(a) and not _keeps_low(a):
            self._kept = self._keep()
        if self._kept is None:
            self._climbed = Climbed(*self._given)

    def _keep(self) -> Kept | None:
        a, _, triangle, _, check_finite = self._given
        return keep(a, None if triangle is None else triangle == "L", check_finite)

    @property
    def climbed(self) -> Climbed:
        """The factors that the ladder found."""
        if self._climbed is None:
            self.check_unchanged()
            self._climbed = Climbed(*self._given)
        return self._climbed

    @property
    def dtype(self) -> np.dtype[Any]:
        """Working precision."""
        return self._given[0].dtype

    @property
    def first(self) -> Format:
        """The format of the factors."""
        return working_format(self.dtype) if self._climbed is None else self._climbed.first

    def check_unchanged(self) -> None:
        """Raise LinAlgError if the matrix is not the one that was factored."""
        if self._climbed is not None:
            self._climbed.check_unchanged()
        elif self._kept is not None:
            self._kept.check_unchanged()

    def solve_plainly(self, b: Array, trans: str) -> Array | None:
        """x, (n, nrhs), by factors in working precision; None if these are not the way."""
        if self._kept is None:
            a, structure, _, precision, _ = self._given
            if not is_on_host(a):
                return None
            n, nrhs = b.shape
            pays = pays_low_precision(n, nrhs, a.dtype, structure)
            if precision is not None or pays or nrhs <= _FEW or self.climbed.first is not FP32:
                return None
            self.climbed.check_unchanged()
            self._kept = self._keep()
        return None if self._kept is None else self._kept.solve(b, trans)

    def as_scipy(self) -> tuple[Array, Any] | None:
        """SciPy's tuple, if the factors in working precision are here."""
        return None if self._kept is None else self._kept.as_scipy()


def _kept_format(a: Array, structure: str) -> Format:
    if is_on_host(a):
        return FP32 if _keeps_low(a) else working_format(a.dtype)
    return cheapest_format(ops_for(a), len(a), 1, a.dtype, structure)


def _keeps_low(a: Array) -> bool:
    return len(a) >= LOW_PRECISION_FROM and working_format(a.dtype) is FP64
