"""An operator that is a sum over elements, applied without a matrix."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..arguments import choice
from ..ops import fem_ops_on, is_on_device, ops_for
from ..ops.fem import Discretization
from ..precision import Format
from . import rules
from .basis import TensorBasis
from .geometry import Coefficient, Geometry
from .mesh import StructuredMesh
from .product import as_array, require_real

Array = Any
Coefficients = float | NDArray[np.float64] | Callable[..., Any]

__all__ = ["Coefficients", "ElementOperator"]

_CHUNK = 2**16
"""Quadrature points, times elements, of which a diagonal is summed at once."""


class ElementOperator:
    """What mass and diffusion operators have in common: a sum over elements, never assembled."""

    __array_ufunc__ = None  # a number of NumPy leaves products with an operator to the operator

    _kind: str
    _tensors: bool

    def __init__(
        self,
        mesh: StructuredMesh,
        basis: TensorBasis,
        coefficient: Coefficients = 1.0,
        *,
        components: int = 1,
        dirichlet: Any = None,
        dtype: DTypeLike = np.float64,
        device: str = "cpu",
    ) -> None:
        choice("device", device, ("cpu", "cuda"))
        self.device, self._ops = device, fem_ops_on(device)
        if not isinstance(components, int | np.integer) or components < 1:
            raise ValueError(f"components must be a positive integer, got {components!r}")
        for argument, kind in ((mesh, StructuredMesh), (basis, TensorBasis)):
            if not isinstance(argument, kind):
                raise TypeError(f"expected a {kind.__name__}, got {argument!r}")
        self.mesh, self.basis, self.components = mesh, basis, int(components)
        self.ndof = mesh.ndof(basis)
        if basis.q <= basis.p:
            raise ValueError(
                f"{basis.q} quadrature points in a dimension are too few for degree {basis.p}: the "
                "matrix would be singular; q must be at least p + 1"
            )
        for name, places in (("nodes", basis.nodes), ("points", basis.points)):
            if not np.array_equal(places, -places[::-1]):  # `lines.halves` counts on it
                raise ValueError(f"the {name} of the basis must be symmetric to 0, got {places}")
        self.fixed = _fixed_nodes(mesh, basis, dirichlet)
        self._places = None if self.fixed is None else self._ops.xp.asarray(self.fixed)
        known = Coefficient(coefficient, mesh.nelem, basis, tensors=self._tensors)
        mapped = mesh.mapped(basis)

        def factors(elements: NDArray[np.int64]) -> NDArray[np.float64]:
            geometry = mapped.at(elements)
            values = self._factors(geometry, known.at(elements, geometry.points))
            return values.reshape(len(elements), basis.q**mesh.dim, -1)

        is_uniform = mesh.mapping is None and known.is_constant
        interp = None if basis.is_collocated else basis.B
        problem = Discretization(
            self._kind, mesh.cells, self.components, interp, _slope(basis), factors, is_uniform
        )
        self._prepare(problem, dtype)

    def _prepare(self, problem: Discretization, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("=")
        if self.dtype.char not in "fd":
            raise TypeError(f"dtype must be float32 or float64, got {self.dtype}")
        self._zero = self._ops.xp.zeros((), self.dtype)  # a number would be sent to a device
        tops: list[float] = []

        def watched(elements: NDArray[np.int64]) -> NDArray[np.float64]:
            with np.errstate(over="ignore", invalid="ignore"):  # is found below
                factors = problem.factors(elements)
            tops.append(float(abs(factors).max()))
            return factors

        whole = replace(problem, factors=watched)
        self._prepared = self._ops.prepare(whole, self.dtype)
        top, limits = np.max(tops), np.finfo(self.dtype)
        if top != 0 and not limits.tiny <= top <= limits.max:
            raise ValueError(
                f"the largest of the operator's factors, {top:.3g}, is out of the range of "
                f"{self.dtype}: scale the coefficient or the mesh"
            )
        # from here on, factors are taken from where they are kept
        self._problem = replace(problem, factors=self._prepared.factors)

    @staticmethod
    def _factors(geometry: Geometry, coefficient: Array) -> Array:
        """Factors at the points, shape (m, q, ..., q) or with their count as a last axis."""
        raise NotImplementedError

    def __repr__(self) -> str:
        more = f", components={self.components}" if self.components > 1 else ""
        more += "" if self.fixed is None else f", {self.fixed.size} nodes fixed"
        degree = f"p={self.basis.p}, q={self.basis.q}"
        more += "" if self.device == "cpu" else f", device={self.device!r}"
        return f"{type(self).__name__}({self.mesh!r}, {degree}, {self.dtype}{more})"

    # -- products --------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """``components * ndof``, twice."""
        return (self.components * self.ndof,) * 2

    def apply(self, u: Array, out: Array | None = None) -> Array:
        """A u.

        Parameters
        ----------
        u : array_like, shape (components, ndof), or flat; (ndof,) of one component
            Nodal values, converted to the dtype of the operator; of CuPy if its device is "cuda".
        out : ndarray, optional
            Where to put the result: contiguous, of u's shape and the operator's dtype, and not
            overlapping u.

        Returns
        -------
        ndarray
            Of the shape of u, in the dtype of the operator.

        Raises
        ------
        ValueError
            u or out has a wrong shape or layout, or they overlap.
        TypeError
            u is complex, or not where the operator is; or out has another dtype.
        """
        u = self._values(u, "u")
        flat = u.reshape(self.components, self.ndof)
        result = self._result(u, out)
        target = result.reshape(flat.shape)
        if self.fixed is None:
            self._prepared.apply(flat, target)
            return result
        # rows and columns of fixed nodes are those of the identity
        free = flat.copy()
        free[:, self._places] = self._zero
        self._prepared.apply(free, target)
        target[:, self._places] = flat[:, self._places]
        return result

    def _apply_free(self, u: Array, out: Array) -> None:
        """out <- A u for a flat u that is 0 at fixed nodes."""
        shape = (self.components, self.ndof)
        self._prepared.apply(u.reshape(shape), target := out.reshape(shape))
        if self.fixed is not None:
            target[:, self._places] = self._zero

    def __matmul__(self, u: Array) -> Array:
        return self.apply(u)

    def apply_local(self, u: Array, out: Array | None = None) -> Array:
        """The products of the matrices of all elements with the values at their own nodes.

        No values are shared and no nodes fixed: `apply`, without either, is
        ``mesh.scatter(apply_local(mesh.gather(u, basis)), basis)``.

        Parameters
        ----------
        u : array_like, shape (nelem, components, p + 1, ..., p + 1)
        out : ndarray, optional
            As in `apply`.

        Returns
        -------
        ndarray
            Of the shape of u, in the dtype of the operator.

        Raises
        ------
        ValueError, TypeError
            As `apply`.
        """
        shape = (self.mesh.nelem, self.components, *(self.basis.p + 1,) * self.mesh.dim)
        u = self._converted(u, "u")
        if u.shape != shape:
            raise ValueError(f"Expected u of shape {shape}, got {u.shape}")
        result = self._result(u, out)
        self._prepared.apply_local(u, result)
        return result

    def diagonal(self) -> Array:
        """The diagonal of A, shape (ndof,), or (components, ndof) of several; 1 at fixed nodes."""
        shape = (self.components, self.ndof)
        diagonal = self._ops.xp.broadcast_to(self._element_diagonal(), shape).astype(self.dtype)
        if self.fixed is not None:
            diagonal[:, self._places] = self._ops.xp.ones((), self.dtype)
        return diagonal[0] if self.components == 1 else diagonal

    @property
    def nbytes(self) -> int:
        """Bytes of the factors."""
        return self._prepared.nbytes

    def as_linear_operator(self) -> Any:
        """A, symmetric, as a `scipy.sparse.linalg.LinearOperator` on flat vectors.

        On "cuda" one of `cupyx.scipy.sparse.linalg`.
        """

        def product(u: Array) -> Array:  # some versions of SciPy pass a matrix of one column
            return self.apply(u.reshape(-1))

        return self._ops.linear_operator(self.shape, product, self.dtype)

    def astype(self, dtype: DTypeLike) -> Any:
        """The same operator in another dtype, its factors rounded.

        Raises
        ------
        TypeError
            Neither float32 nor float64.
        ValueError
            The largest of its factors is out of the range of that dtype.
        """
        other = copy.copy(self)
        other._prepare(self._problem, dtype)
        return other

    def _lowered(self, fmt: Format, scale: float) -> Any:
        """`scale` times the operator in single precision, its 1-D operators rounded to a format.

        What is between the steps of sum factorization stays in single precision.
        """
        problem, factors = self._problem, self._prepared.factors

        def rounded(matrix: Any) -> Any:
            return None if matrix is None else fmt.round(matrix).astype(np.float64)

        other = copy.copy(self)
        other._prepare(
            replace(
                problem,
                interp=rounded(problem.interp),
                slope=rounded(problem.slope),
                factors=lambda elements: factors(elements) * scale,
            ),
            np.float32,
        )
        return other

    def right_hand_side(self, b: Array, values: Any = 0.0) -> Array:
        """What A u is to be, so that u has given values at the fixed nodes.

        Parameters
        ----------
        b : array_like
            The load, of a shape that `apply` takes.
        values : float or array_like of the shape of b
            Nodal values, of which only those at fixed nodes count.

        Returns
        -------
        ndarray
            Of the shape of b: values at fixed nodes; at others b - A0 g, A0 being the operator
            without fixed nodes, and g the values, 0 elsewhere.
        """
        b = self._values(b, "b")
        if self.fixed is None:
            return b.copy()
        xp, shape = self._ops.xp, (self.components, self.ndof)
        given = require_real(as_array(values, "values"), "values")
        if given.ndim:
            given = self._values(given, "values").reshape(shape)
        given = xp.asarray(given)
        lifted = xp.zeros(shape, self.dtype)
        lifted[:, self._places] = xp.broadcast_to(given, shape)[:, self._places]
        self._prepared.apply(lifted, moved := xp.empty_like(lifted))
        result = b.reshape(shape) - moved
        result[:, self._places] = lifted[:, self._places]
        return result.reshape(b.shape)

    # -- parts -----------------------------------------------------------------------------------

    def _converted(self, u: Array, name: str, dtype: DTypeLike | None = None) -> Array:
        """A contiguous array of where the operator computes, in its dtype or another one."""
        u = as_array(u, name)
        if is_on_device(u) != (self.device == "cuda"):
            kind = f"{type(u).__module__}.{type(u).__qualname__}"
            raise TypeError(
                f"{name} is of type {kind}, but the operator computes on {self.device!r}: nothing "
                "is moved to or from a device unasked"
            )
        ops_for(u)  # on the device that is current
        return self._ops.xp.ascontiguousarray(require_real(u, name), dtype or self.dtype)

    def _values(self, u: Array, name: str) -> Array:
        """Nodal values of a shape that `apply` takes, contiguous, in the operator's dtype."""
        u = self._converted(u, name)
        self._require_shape(u, name)
        return u

    def _require_shape(self, u: Array, name: str) -> None:
        if u.shape not in ((self.components, self.ndof), (self.components * self.ndof,)):
            raise ValueError(
                f"Expected {name} of shape {(self.components, self.ndof)} or "
                f"{(self.components * self.ndof,)}, got {u.shape}"
            )

    def _result(self, u: Array, out: Array | None) -> Array:
        xp = self._ops.xp
        if out is None:
            return xp.empty_like(u)
        if type(out) is not xp.ndarray or out.dtype != self.dtype:
            kind = f"{type(out).__name__} {getattr(out, 'dtype', '')}".rstrip()
            raise TypeError(f"out must be an ndarray of {self.dtype}, got {kind}")
        is_usable = out.flags.c_contiguous if self.device == "cuda" else out.flags.carray
        if out.shape != u.shape or not is_usable:
            raise ValueError(
                f"out must be contiguous, writeable and of shape {u.shape}; got {out.shape}, "
                f"strides {out.strides}"
            )
        if xp.may_share_memory(u, out):
            raise ValueError("out must not overlap u")
        return out

    def _element_diagonal(self) -> Array:
        """The diagonal for one component, no nodes fixed."""
        mesh, basis = self.mesh, self.basis
        nodes, points = (basis.p + 1,) * mesh.dim, (basis.q,) * mesh.dim
        local = self._ops.xp.empty((mesh.nelem, 1, *nodes))
        step = max(1, _CHUNK // basis.q**mesh.dim)
        for start in range(0, mesh.nelem, step):
            elements = np.arange(start, min(start + step, mesh.nelem))
            factors = self._prepared.factors(elements).astype(np.float64)
            factors = factors.reshape(len(elements), *points, -1)
            local[start : start + step, 0] = self._squares(factors)
        return mesh.scatter(local, basis)

    def _squares(self, factors: Array) -> Array:
        """Diagonals of the matrices of some elements, of their factors (m, q, ..., q, count)."""
        raise NotImplementedError


def _slope(basis: TensorBasis) -> NDArray[np.float64]:
    """Differentiation, shape (q, q), of the polynomial that interpolates at quadrature points."""
    if basis.is_collocated:
        return basis.D
    points = tuple(map(Decimal, basis.points.tolist()))
    return rules.to_floats(rules.lagrange(points, points)[1])


def _fixed_nodes(mesh: StructuredMesh, basis: TensorBasis, given: Any) -> Any:
    """Numbers of the nodes with given values, or None."""
    if given is None:
        return None
    if isinstance(given, str):
        if given != "boundary":
            raise ValueError(f"dirichlet must be 'boundary' or numbers of nodes, got {given!r}")
        return mesh.boundary(basis)
    nodes = np.asarray(given)
    if nodes.dtype == bool and nodes.shape == (mesh.ndof(basis),):
        nodes = np.flatnonzero(nodes)
    if nodes.ndim != 1 or (nodes.size and nodes.dtype.kind not in "iu"):
        raise ValueError(f"dirichlet must be a list of numbers of nodes, got {nodes!r}")
    nodes = np.unique(nodes).astype(np.intp)
    ndof = mesh.ndof(basis)
    if nodes.size and not (nodes[0] >= 0 and nodes[-1] < ndof):
        raise ValueError(f"dirichlet: nodes are numbered 0 to {ndof - 1}, got {nodes[[0, -1]]}")
    return nodes
