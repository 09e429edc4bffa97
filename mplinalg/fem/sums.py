"""Sums of operators, as implicit time steps and reactions have them: ``mass + 0.1 * stiffness``."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..ops.fem import FemOps, Prepared
from ..precision import Format
from .element_operator import ElementOperator

Array = Any

__all__ = ["OperatorSum", "Summand"]


class Summand(ElementOperator):
    """An operator that others, and multiples of them, may be added to."""

    def __add__(self, other: Any) -> OperatorSum:
        if not isinstance(other, Summand):
            return NotImplemented
        return OperatorSum((*_terms(self), *_terms(other)))

    def __sub__(self, other: Any) -> OperatorSum:
        if not isinstance(other, Summand):
            return NotImplemented
        return self + -1.0 * other

    def __mul__(self, factor: Any) -> OperatorSum:
        if isinstance(factor, bool) or not isinstance(factor, numbers.Real):
            return NotImplemented
        if not math.isfinite(factor):
            raise ValueError(f"the factor of an operator must be finite, got {factor!r}")
        terms = [(float(factor) * c, part) for c, part in _terms(self)]
        lost = (c and not d for (c, _), (d, _) in zip(_terms(self), terms, strict=True))
        if factor and any(lost):
            raise ValueError(f"the factor {factor!r} leaves nothing of {self!r}: it underflows")
        return OperatorSum(terms)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> OperatorSum:
        if isinstance(divisor, bool) or not isinstance(divisor, numbers.Real):
            return NotImplemented
        return self * (1.0 / float(divisor))

    def __neg__(self) -> OperatorSum:
        return -1.0 * self


def _terms(operator: Summand) -> Sequence[tuple[float, Summand]]:
    return operator.terms if isinstance(operator, OperatorSum) else [(1.0, operator)]


class OperatorSum(Summand):
    """c1 A1 + c2 A2 + ..., applied without a matrix; ``mass + 0.1 * stiffness`` makes it.

    It has what `MassOperator` has, and `solve` takes it, if it is positive definite. At fixed nodes
    its rows and columns are those of the identity, whatever the factors.

    Parameters
    ----------
    terms : sequence of (float, operator)
        Operators on one mesh, with the same nodes, components, fixed nodes, dtype and device; their
        quadratures may differ.

    Attributes
    ----------
    terms : tuple of (float, operator)
        As given.
    mesh, basis, components, dtype, device, shape, ndof, fixed, nbytes
        As of `MassOperator`; the basis is that of the first operator.

    Raises
    ------
    ValueError
        There are no terms; operators differ in what they have to share; or a factor is out of the
        range of the dtype.
    TypeError
        `terms` are no such pairs.

    Notes
    -----
    A product is one for each operator, and for each of them up to five vectors more are read or
    written.

    Examples
    --------
    A step of the heat equation u' = Δu by the implicit Euler method:

    >>> import numpy as np
    >>> from mplinalg.fem import DiffusionOperator, MassOperator, StructuredMesh, TensorBasis, solve
    >>> mesh, basis = StructuredMesh(1, 8), TensorBasis.lagrange(dim=1, p=3, q=4)
    >>> mass = MassOperator(mesh, basis, dirichlet="boundary")
    >>> stiffness = DiffusionOperator(mesh, basis, dirichlet="boundary")
    >>> u = np.sin(np.pi * mesh.coordinates(basis)[0])
    >>> u[mass.fixed] = 0
    >>> step = solve(mass + 0.01 * stiffness, mass @ u)
    >>> bool(np.allclose(step, u / (1 + 0.01 * np.pi**2), atol=1e-6))
    True
    """

    def __init__(self, terms: Sequence[tuple[float, Summand]]) -> None:
        self.terms = tuple(terms)
        if not self.terms:
            raise ValueError("a sum of operators needs one at least")
        for term in self.terms:
            if not (isinstance(term, tuple) and len(term) == 2 and isinstance(term[1], Summand)):
                raise TypeError(f"terms must be pairs of a number and an operator, got {term!r}")
            if not isinstance(term[0], numbers.Real):
                raise TypeError(f"the factor of an operator must be a number, got {term[0]!r}")
        first = self.terms[0][1]
        for _, part in self.terms[1:]:
            _require_alike(first, part)
        self.device, self._ops = first.device, first._ops
        self.mesh, self.basis, self.components = first.mesh, first.basis, first.components
        self.ndof, self.fixed, self._places = first.ndof, first.fixed, first._places
        self.dtype, self._zero = first.dtype, first._zero
        self._prepared = _PreparedSum(
            self._ops,
            [(self._factor(c), part._prepared) for c, part in self.terms],
            self.shape[0] * self.dtype.itemsize,
        )

    def _factor(self, c: float) -> Any:
        with np.errstate(over="ignore", under="ignore"):
            factor: Any = np.float64(c).astype(self.dtype)
        if not np.isfinite(factor) or (c != 0 and abs(factor) < np.finfo(self.dtype).tiny):
            raise ValueError(f"the factor {c:.3g} is out of the range of {self.dtype}")
        return factor

    def __repr__(self) -> str:
        return "(" + " + ".join(f"{c:g} * {part!r}" for c, part in self.terms) + ")"

    def astype(self, dtype: DTypeLike) -> OperatorSum:
        """The same sum in another dtype, the factors of its operators rounded.

        Raises
        ------
        TypeError
            Neither float32 nor float64.
        ValueError
            A factor is out of the range of that dtype.
        """
        return OperatorSum([(c, part.astype(dtype)) for c, part in self.terms])

    def _lowered(self, fmt: Format, scale: float) -> Any:
        parts = []
        for c, part in self.terms:
            mantissa, exponent = math.frexp(c)
            try:
                parts.append((mantissa, part._lowered(fmt, math.ldexp(scale, exponent))))
            except ValueError:
                # beside the others it is nothing, or all: the residual in working precision tells
                continue
        return OperatorSum(parts)

    def _element_diagonal(self) -> Array:
        total: Any = 0.0
        with np.errstate(over="ignore", invalid="ignore"):  # who divides by it looks
            for c, part in self.terms:
                total = total + c * part._element_diagonal()
        return total


class _PreparedSum:
    """Operators ready to be applied, one after the other."""

    def __init__(
        self, ops: FemOps, parts: Sequence[tuple[Any, Prepared]], vector_bytes: int
    ) -> None:
        self.ops, self.parts, self.vector_bytes = ops, parts, vector_bytes

    def apply(self, u: Array, out: Array) -> None:
        self._add_up(lambda part, target: part.apply(u, target), out)

    def apply_local(self, u: Array, out: Array) -> None:
        self._add_up(lambda part, target: part.apply_local(u, target), out)

    def _add_up(self, product: Callable[[Prepared, Array], None], out: Array) -> None:
        term = out
        for number, (factor, part) in enumerate(self.parts):
            if number == 1:
                term = self.ops.xp.empty_like(out)
            product(part, term)
            with np.errstate(all="ignore"):  # as kernels do
                if factor != 1:
                    term *= factor
                if number:
                    out += term

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for _, part in self.parts)

    @property
    def scratch_bytes(self) -> int:
        return self.vector_bytes + max(part.scratch_bytes for _, part in self.parts)

    def factors(self, elements: Any) -> Any:
        raise NotImplementedError("a sum has those of its operators")


def _require_alike(one: ElementOperator, other: ElementOperator) -> None:
    for name in ("components", "dtype", "device"):
        mine, its = getattr(one, name), getattr(other, name)
        if mine != its:
            raise ValueError(f"operators of a sum must have the same {name}, got {mine} and {its}")
    if one.mesh is not other.mesh:
        raise ValueError(f"operators of a sum must share one mesh, got {one.mesh} and {other.mesh}")
    if not np.array_equal(one.basis.nodes, other.basis.nodes):
        raise ValueError(
            f"operators of a sum must have the same nodes, got those of degrees {one.basis.p} and "
            f"{other.basis.p}"
        )
    mine, its = (np.empty(0) if part.fixed is None else part.fixed for part in (one, other))
    if not np.array_equal(mine, its):
        raise ValueError(
            f"operators of a sum must have the same nodes fixed, got {mine.size} and {its.size} of "
            "them: give `dirichlet` to each"
        )
