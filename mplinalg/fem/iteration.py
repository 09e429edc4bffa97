"""Conjugate gradients whose residual is replaced by the true one, in working precision.

The vectors of the iteration, and the operator in it, may be of a lower precision, where a step
takes half the memory traffic. Whenever the residual that the recurrence carries along has fallen by
two digits, what was gained is added to u in working precision, and the true residual takes the
place of that of the recurrence. Search directions go on from there, so that hardly a step is lost.

References
----------
Hestenes and Stiefel, J. Res. Nat. Bur. Standards 49 (1952) 409.
Sleijpen and van der Vorst, Computing 56 (1996) 141 (residuals replaced as the iteration goes on).
van der Vorst and Ye, SIAM J. Sci. Comput. 22 (2000) 835.
Clark et al., Comput. Phys. Commun. 181 (2010) 1517 (in mixed precision, "reliable updates").
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import LinAlgError
from ..ops import ops_for
from ..ops.fem import FemOps
from ..precision import Format, working_format
from ..report import RungOutcome
from .element_operator import ElementOperator

Array = Any

__all__ = ["Iteration"]

_REPLACED = 0.01
"""What is left of a residual when the true one takes its place."""
_ALIKE = 0.1
"""By how much it may differ from that of the recurrence, relatively, without a new start."""
_LOOKED_AT = 100
"""Iterations in a low precision after which the true residual is looked at."""
_METHOD = "conjugate gradients"


@dataclass(frozen=True)
class Level:
    """A precision that the iteration computes in.

    Attributes
    ----------
    fmt : Format
    operator : ElementOperator
        `scale` times A, a power of two.
    weights : ndarray
        The inverse of the preconditioner of that.
    scale : float
    """

    fmt: Format
    operator: ElementOperator
    weights: Array
    scale: float

    def product(self, p: Array, out: Array) -> None:
        """out <- scale A p."""
        if not self.fmt.is_native:
            size = p.dtype.type(_power_of_two(p))
            p = p / size
            ops_for(p).round(p[None], self.fmt)
            p *= size
        self.operator._apply_free(p, out)


class Iteration:
    """Corrections to u until the residual meets its test.

    Fixed nodes are left out of u and b (there A is the identity). b, and with it u, is divided by a
    power of two, so that norms neither overflow nor underflow.
    """

    def __init__(
        self, operator: ElementOperator, b: Any, x0: Any, tol: float, limit: int, jacobi: bool
    ) -> None:
        self.operator, self.limit, self.jacobi = operator, limit, jacobi
        self.working = working_format(operator.dtype)
        self.ops: FemOps = operator._ops
        xp = self.ops.xp
        self.given = self._finite(b, "b")
        first = xp.zeros_like(self.given) if x0 is None else self._finite(x0, "x0")
        with np.errstate(over="ignore"):
            self.prescribed = self._at_fixed(self.given).astype(operator.dtype)
        if not xp.isfinite(self.prescribed).all():
            raise ValueError(f"b must be within the range of {operator.dtype} at fixed nodes")
        b, u = self._free(self.given), self._free(first)
        self.scale = _power_of_two(b)
        with np.errstate(over="ignore"):  # of x0: then its residual is not finite
            self.b = (b / self.scale).astype(operator.dtype)
            self.u = (u / self.scale).astype(operator.dtype)
        size = math.sqrt(self.ops.dot(self.b, self.b))
        if size == 0:
            self.u[...] = 0
        self.size, self.goal = size or 1.0, tol * size
        self.seconds = dict.fromkeys(("convert", "solve", "residual"), 0.0)
        self.outcomes: list[RungOutcome] = []
        self.updates = self.iterations = 0
        # b as given and scaled, u, r and the diagonal; of an update: x, and the new u and r
        self.workspace = 8 * self.b.nbytes + operator._prepared.scratch_bytes
        self.r, self.left = self._residual(self.u)

    def run(self, fmt: Format) -> bool:
        """Iterate in a format; whether the residual meets its test."""
        if not self.left < math.inf:
            self.outcomes.append(RungOutcome(fmt.name, _METHOD, "not finite"))
            return False
        with self._timed("convert"):
            level = self._level(fmt)
            descent = Descent(self.ops, level, self.r)
        outcome = ""
        while not outcome and not self.is_met:
            with self._timed("solve"):
                outcome = descent.step()
            if outcome == "not positive definite" and fmt is self.working:
                raise LinAlgError(
                    "The operator is not positive definite: p' A p <= 0 for the direction p of "
                    f"iteration {self.iterations + 1}."
                )
            self.iterations += not outcome
            if not outcome and fmt is not self.working and self.iterations % _LOOKED_AT == 0:
                outcome = self._drifted(descent, level.scale)
            if not outcome and self.iterations >= self.limit:
                outcome = "not converged"
            if outcome or descent.size <= max(_REPLACED * self.left, 0.7 * self.goal):
                before = self.left
                self._add(descent.x.astype(self.u.dtype, copy=False) * level.scale)
                if not outcome and not self.is_met and self.left > 0.5 * before:
                    outcome = "stagnated"
                descent.replace(self.r, self.left)
            with self._timed("solve"):
                descent.turn()
        outcome = "converged" if self.is_met else outcome
        self.outcomes.append(RungOutcome(fmt.name, _METHOD, outcome))
        return self.is_met

    @property
    def is_met(self) -> bool:
        """Whether the residual meets its test; NaN does not."""
        return self.left <= self.goal

    def _drifted(self, descent: Descent, scale: float) -> str:
        """ "stagnated" if the recurrence goes down, or will, and the true residual does not."""
        x = descent.x.astype(self.u.dtype, copy=False) * scale
        _, left = self._residual(self.u + x)
        return "" if left <= 2 * descent.size or left <= 0.5 * self.left else "stagnated"

    def _add(self, x: Array) -> None:
        """u + x is the new u, if its residual is smaller."""
        self.updates += 1
        u = self.u + x
        r, left = self._residual(u)
        if left < self.left:  # false for NaN
            self.u, self.r, self.left = u, r, left

    def _level(self, fmt: Format) -> Level:
        operator, scale = self.operator, 1.0
        if fmt is not self.working:
            scale = 1 / _power_of_two(self.diagonal)
            operator = operator._lowered(fmt, scale)
            self.workspace += operator.nbytes
        self.workspace += 5 * self.b.size * operator.dtype.itemsize  # weights and `Descent`
        weights = self.diagonal * scale
        if not self.jacobi:  # not 1: then p' A p would underflow in some units of A
            weights[...] = _power_of_two(weights)
        with np.errstate(over="ignore", divide="ignore"):  # then sums are not finite, which is seen
            weights = (1 / weights).astype(operator.dtype, copy=False)
        return Level(fmt, operator, weights, scale)

    @functools.cached_property
    def diagonal(self) -> Array:
        """The diagonal of A, flat; at fixed nodes, which do not matter, its largest entry."""
        diagonal: Array = self.operator.diagonal().reshape(self.operator.components, -1)
        fixed = self.operator._places
        if fixed is not None:
            diagonal[:, fixed] = 0
            diagonal[:, fixed] = float(diagonal.max()) or 1.0
        diagonal = diagonal.reshape(-1)
        xp = self.ops.xp
        if not xp.isfinite(diagonal).all():  # of factors that are, but not their sums
            raise LinAlgError("The diagonal of the operator overflows: scale the coefficient.")
        bad = xp.flatnonzero(diagonal <= 0)[:1]
        if bad.size:
            raise LinAlgError(
                f"The operator is not positive definite: entry {int(bad[0])} of its diagonal is "
                f"{float(diagonal[bad[0]]):.3g}."
            )
        return diagonal

    def _residual(self, u: Array) -> tuple[Array, float]:
        """b - A u and its norm."""
        with self._timed("residual"):
            self.operator._apply_free(u, r := self.ops.xp.empty_like(u))
            self.ops.xp.subtract(self.b, r, out=r)
            return r, math.sqrt(self.ops.dot(r, r))

    def _free(self, vector: Array) -> Array:
        """A flat copy with zeros at fixed nodes."""
        vector = vector.reshape(self.operator.components, -1).copy()
        if self.operator._places is not None:
            vector[:, self.operator._places] = 0
        return vector.ravel()

    def _at_fixed(self, vector: Array) -> Array:
        """The values at fixed nodes, shape (components, nodes)."""
        fixed = self.operator._places
        fixed = slice(0) if fixed is None else fixed
        return vector.reshape(self.operator.components, -1)[:, fixed]

    def _finite(self, vector: Any, name: str) -> Array:
        """Nodal values in double precision: what single precision cannot hold, its scale can."""
        vector = self.operator._converted(vector, name, np.float64)
        self.operator._require_shape(vector, name)
        if not self.ops.xp.isfinite(vector).all():
            raise ValueError(f"{name} must be finite; it holds NaN or infinity")
        return vector

    def answer(self) -> Array:
        """u in the shape of b, with the values at fixed nodes.

        Where it is out of the range of its dtype, the residual becomes that of what is left.
        """
        dtype = self.operator.dtype
        with np.errstate(over="ignore", under="ignore"):
            u = (self.u.astype(np.float64) * self.scale).astype(dtype)
            kept = (u / np.float64(self.scale)).astype(dtype)
        if self.is_met and not (kept == self.u).all():
            self.r, self.left = self._residual(kept)
            if not self.is_met:
                self.outcomes[-1] = self.outcomes[-1]._replace(outcome="out of range")
        u = u.reshape(self.operator.components, -1)
        if self.operator._places is not None:
            u[:, self.operator._places] = self.prescribed
        return u.reshape(self.given.shape)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - started


class Descent:
    """Conjugate gradients for scale A x = r from x = 0, one step at a time.

    Attributes
    ----------
    x : ndarray
        The approximation.
    size : float
        The 2-norm of the residual that the recurrence holds.
    """

    def __init__(self, ops: FemOps, level: Level, r: Array) -> None:
        self.ops, self.level = ops, level
        self.r = r.astype(level.operator.dtype)
        xp = ops.xp
        self.x, self._product = xp.zeros_like(self.r), xp.empty_like(self.r)
        self._p = level.weights * self.r
        self._rz = self._next = ops.dot(self.r, self._p)
        self.size = math.inf

    def step(self) -> str:
        """x <- x + alpha p; says what is wrong, if anything."""
        self.level.product(self._p, self._product)
        curvature = self.ops.dot(self._p, self._product)
        if not math.isfinite(curvature):
            return "not finite"
        if curvature <= 0:
            return "not positive definite"
        alpha, weights = self._rz / curvature, self.level.weights
        square, self._next = self.ops.descend(
            alpha, self._p, self._product, self.x, self.r, weights
        )
        self.size = math.sqrt(square)
        return "" if math.isfinite(square) else "not finite"

    def replace(self, r: Array, size: float) -> None:
        """Go on from the residual r, of that size; x is taken."""
        self.r[...] = r
        self.x[...] = 0
        self._next = self.ops.dot(self.r, self.level.weights * self.r)
        # directions that belong to quite another residual are of no use
        if not abs(size - self.size) <= _ALIKE * self.size:
            self._rz = math.inf

    def turn(self) -> None:
        """p <- the preconditioned residual, made conjugate."""
        self.ops.turn(self._next / self._rz, self.r, self.level.weights, self._p)
        self._rz = self._next


def _power_of_two(vector: Array) -> float:
    """The power of two above the largest entry, within a safe range; 1 for zeros."""
    top = float(abs(vector).max()) if vector.size else 0.0
    if not 0 < top < math.inf:
        return 1.0
    largest = np.finfo(vector.dtype).maxexp - 3
    return 2.0 ** min(max(math.frexp(top)[1], -largest), largest)
