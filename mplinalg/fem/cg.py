"""solve: A u = b by conjugate gradients in a low precision, to the accuracy of the working one."""

from __future__ import annotations

import numbers
import time
import warnings
from dataclasses import dataclass
from typing import Any

from ..errors import LinAlgWarning
from ..precision import FORMATS, Format, working_format
from ..report import SolveReport, Status
from .element_operator import ElementOperator
from .iteration import Iteration

__all__ = ["IterationReport", "solve"]

_PAYS_FROM = 100_000
"""Unknowns from which "auto" goes to single precision."""
_TOL = {"fp64": 1e-10, "fp32": 1e-5}
_MOST = 20_000
"""Iterations, by default."""


@dataclass(frozen=True)
class IterationReport(SolveReport):
    """A `SolveReport` of conjugate gradients.

    `iterations` counts the updates of u and its residual in working precision, `inner_iterations`
    those of conjugate gradients. `backward_error` is the relative residual ``||b - A u|| / ||b||``
    in the 2-norm over the nodes that are not fixed.

    `status` is CONVERGED or STAGNATED. Why an iteration ended says the outcome of each of the
    `rungs`: "converged"; "not converged" in `maxiter` iterations; "stagnated" (its format cannot do
    more); "not finite" (numbers beyond its range); "not positive definite" (A is not as it is
    rounded to the format); "out of range" (u is beyond the range of its dtype).
    """

    def __str__(self) -> str:
        walked = " -> ".join(f"{rung.format}: {rung.outcome}" for rung in self.rungs)
        seconds = "  ".join(f"{name} {value:.3g}" for name, value in self.seconds.items())
        rows = {
            "status": self.status.value,
            "precision": walked or "-",
            "iterations": f"{self.inner_iterations}, {self.iterations} residuals",
            "residual": f"{self.backward_error:.2e} of the right-hand side",
            "seconds": seconds,
            "workspace": f"{self.workspace_bytes / 2**20:.1f} MiB",
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def solve(
    operator: ElementOperator,
    b: Any,
    *,
    x0: Any = None,
    tol: float | None = None,
    precision: str | Format = "auto",
    preconditioner: str | None = "jacobi",
    maxiter: int | None = None,
    full_output: bool = False,
) -> Any:
    """Solve ``operator @ u = b`` for u by conjugate gradients.

    Parameters
    ----------
    operator : MassOperator, DiffusionOperator or OperatorSum
        Positive definite: a diffusion operator has to have fixed nodes.
    b : array_like, shape (components, ndof), or flat
        Right-hand side, as `operator.right_hand_side` makes it for given values at fixed nodes.
    x0 : array_like of the shape of b, optional
        First approximation; zero by default.
    tol : float, optional
        Relative residual at which to stop, ``||b - A u|| / ||b||`` in the 2-norm over the nodes
        that are not fixed, measured in the dtype of the operator. By default 1e-10, and 1e-5 for
        operators of single precision.
    precision : {"auto", "fp64", "fp32", "fp16x2"}
        Format that the iteration computes in. "auto" takes fp32 from 100,000 unknowns on, and
        goes on in fp64 if that does not deliver. fp16x2, pairs of half-precision numbers for
        tensor cores, is emulated: 1-D operators and the vectors that A is applied to are rounded to
        it, and the rest is in single precision.
    preconditioner : {"jacobi", None}
        The diagonal of A, or nothing.
    maxiter : int, optional
        Iterations in all, at least 1; by default 10 times the unknowns, 20,000 at most.
    full_output : bool
        Append a report.

    Returns
    -------
    u : ndarray
        Of the shape of b and the dtype of the operator.
    report : IterationReport
        If `full_output`.

    Raises
    ------
    ValueError
        b or x0 has a wrong shape or is not finite; options that are not known or out of range.
    TypeError
        b or x0 is complex.
    LinAlgError
        A is not positive definite. One that is semidefinite may as well end in the warning.

    Warns
    -----
    LinAlgWarning
        The residual does not meet `tol`; u is the best approximation found. With kappa the
        condition number of A, it cannot fall below about ``kappa * u`` for every b. Also where u is
        out of the range of its dtype.

    Notes
    -----
    In an iteration A is applied once, and 12 vectors are read or written beside. Memory is taken
    for 8 vectors in working precision and 5 in that of the iteration, and, if that is lower, for
    the factors of A once more; these are counted in the report. The diagonal takes, before, that of
    a few vectors element by element. Sums are taken in an order that does not depend on the number
    of threads.

    When the residual of the recurrence has fallen to a hundredth, x is added to u, and b - A u
    takes its place [1]_. What counts is the true residual.

    References
    ----------
    .. [1] van der Vorst and Ye, SIAM J. Sci. Comput. 22 (2000) 835.

    Examples
    --------
    -Δu = 2 (y (1 - y) + x (1 - x)) on the unit square, u = 0 on its boundary:

    >>> import numpy as np
    >>> from mplinalg.fem import DiffusionOperator, StructuredMesh, TensorBasis, load_vector, solve
    >>> mesh, basis = StructuredMesh(2, 4), TensorBasis.lagrange(dim=2, p=2, q=3)
    >>> A = DiffusionOperator(mesh, basis, dirichlet="boundary")
    >>> b = load_vector(mesh, basis, lambda x, y: 2 * (y * (1 - y) + x * (1 - x)))
    >>> u, report = solve(A, A.right_hand_side(b), full_output=True)
    >>> x, y = mesh.coordinates(basis)
    >>> bool(np.allclose(u, x * (1 - x) * y * (1 - y)))
    True
    >>> report.status.value, report.precision, report.backward_error <= 1e-10
    ('converged', 'fp64', True)
    """
    if not isinstance(operator, ElementOperator):
        raise TypeError(f"operator must be one of mplinalg.fem, got {type(operator).__name__}")
    working = working_format(operator.dtype)
    rungs = _rungs(precision, working, operator.shape[0])
    tol = _TOL[working.name] if tol is None else tol
    if not 0 < tol < 1:
        raise ValueError(f"tol must be between 0 and 1, got {tol!r}")
    if preconditioner not in ("jacobi", None):
        raise ValueError(f"preconditioner must be 'jacobi' or None, got {preconditioner!r}")
    limit = min(10 * operator.shape[0], _MOST) if maxiter is None else maxiter
    if not isinstance(limit, numbers.Integral) or limit < 1:
        raise ValueError(f"maxiter must be a positive integer, got {maxiter!r}")
    started = time.perf_counter()
    iteration = Iteration(operator, b, x0, tol, limit, preconditioner == "jacobi")
    for rung in rungs:
        if iteration.run(rung) or iteration.iterations >= limit:
            break
    u = iteration.answer()
    report = IterationReport(
        status=Status.CONVERGED if iteration.is_met else Status.STAGNATED,
        rungs=tuple(iteration.outcomes),
        precision=iteration.outcomes[-1].format,
        iterations=iteration.updates,
        inner_iterations=iteration.iterations,
        backward_error=iteration.left / iteration.size,
        componentwise_error=None,
        seconds={**iteration.seconds, "total": time.perf_counter() - started},
        workspace_bytes=iteration.workspace,
    )
    if not iteration.is_met:
        outcome = report.rungs[-1].outcome
        warnings.warn(
            f"Conjugate gradients ended at a relative residual of {report.backward_error:.1e} "
            f"after {report.inner_iterations} iterations ({outcome}); {tol=:.1e}.",
            LinAlgWarning,
            stacklevel=2,
        )
    return (u, report) if full_output else u


def _rungs(precision: str | Format, working: Format, unknowns: int) -> list[Format]:
    if precision == "auto":
        low = [FORMATS["fp32"]] if unknowns >= _PAYS_FROM and working.name == "fp64" else []
        return [*low, working]
    name = getattr(precision, "name", precision)
    if name not in ("fp64", "fp32", "fp16x2"):
        raise ValueError(f"precision must be 'auto', 'fp64', 'fp32' or 'fp16x2', got {precision!r}")
    if name == "fp64" and working.name != "fp64":
        raise ValueError(f"{precision=} needs an operator of float64, got one of float32")
    return [FORMATS[name]]
