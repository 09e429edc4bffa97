"""StructuredMesh: a box of cells, mapped, and the nodes that its elements share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ops import ops_for
from ..ops.array_fem import from_elements, node_windows, to_elements
from .basis import TensorBasis
from .geometry import Geometry, Mapped
from .product import as_array, real_array

Array = Any

__all__ = ["Side", "StructuredMesh"]


class Side(NamedTuple):
    """A side of a box.

    Attributes
    ----------
    axis : int
        What it is normal to: 0 for x.
    place : tuple
        Of its nodes in a grid, x last.
    """

    axis: int
    place: tuple[Any, ...]


class StructuredMesh:
    """A box of cells in one to three dimensions, and its image under a mapping.

    Parameters
    ----------
    dim : {1, 2, 3}
        Dimensions.
    cells : int or sequence of int
        Cells along x, y, z; one number for all.
    lengths : float or sequence of float
        Edges of the box, which has a corner at the origin; one number for all.
    mapping : callable, optional
        ``mapping(x, y, z)``, in `dim` dimensions with `dim` arguments: given the coordinates of
        many points in the box, arrays of one shape, a sequence of the `dim` coordinates of their
        images. It is called with all nodes at once. Without, the box is the domain.

    Attributes
    ----------
    dim, mapping
        As given.
    cells, lengths : tuple
        One number for each dimension, x first.
    nelem : int
        Elements in all. Element ``ex + nx * (ey + ny * ez)`` is the one in cell (ex, ey, ez).

    Raises
    ------
    ValueError, TypeError
        Numbers out of range, sequences of another length than dim.

    Notes
    -----
    The nodes of continuous elements of degree p (``nodes="gll"``) lie on faces too, and elements
    share them: there are n p + 1 along a dimension of n cells, numbered with x fastest. Vectors of
    nodal values have the shape ``(ndof,)`` or ``(ncomp, ndof)``.

    Elements are isoparametric: the mapping is taken at the nodes of the basis, and interpolated
    by the basis between them.

    Examples
    --------
    >>> from mplinalg.fem import StructuredMesh, TensorBasis
    >>> mesh = StructuredMesh(2, (3, 2), mapping=lambda x, y: (x + y**2, y))
    >>> basis = TensorBasis.lagrange(dim=2, p=2, q=3)
    >>> mesh.nelem, mesh.ndof(basis), mesh.node_shape(basis)
    (6, 35, (5, 7))

    The right upper corner of the box is the last node:

    >>> mesh.coordinates(basis)[:, -1].tolist()
    [2.0, 1.0]
    """

    def __init__(
        self,
        dim: int,
        cells: int | Sequence[int],
        lengths: float | Sequence[float] = 1.0,
        mapping: Callable[..., Sequence[Array]] | None = None,
    ) -> None:
        if dim not in (1, 2, 3):
            raise ValueError(f"dim must be 1, 2 or 3, got {dim!r}")
        self.dim = int(dim)
        self.cells = tuple(map(int, _one_each("cells", cells, self.dim, numbers.Integral, 1)))
        self.lengths = tuple(map(float, _one_each("lengths", lengths, self.dim, numbers.Real, 0)))
        if mapping is not None and not callable(mapping):
            raise TypeError(f"mapping must be callable or None, got {type(mapping).__name__}")
        self.mapping = mapping
        self.nelem = math.prod(self.cells)

    def __repr__(self) -> str:
        mapped = "" if self.mapping is None else ", mapped"
        return f"StructuredMesh({self.dim}, {self.cells}, lengths={self.lengths}{mapped})"

    def node_shape(self, basis: TensorBasis) -> tuple[int, ...]:
        """The nodes along the dimensions, x last: the shape of nodal values as a grid.

        Raises
        ------
        ValueError
            The basis has another dimension, or no nodes on the faces of its cell.
        """
        if basis.dim != self.dim:
            raise ValueError(
                f"a mesh of {self.dim} dimensions needs a basis of as many, got {basis.dim=}"
            )
        if basis.p < 1 or basis.nodes[0] != -1 or basis.nodes[-1] != 1:
            raise ValueError(
                "continuous elements need nodes at the ends of the cell: TensorBasis.lagrange(..., "
                f"nodes='gll'); got {basis.nodes=}"
            )
        return tuple(n * basis.p + 1 for n in reversed(self.cells))

    def ndof(self, basis: TensorBasis) -> int:
        """How many nodes there are."""
        return math.prod(self.node_shape(basis))

    def coordinates(self, basis: TensorBasis) -> NDArray[np.float64]:
        """Where the nodes are, after mapping.

        Returns
        -------
        ndarray of float64, shape (dim, ndof)

        Raises
        ------
        ValueError
            The mapping returns something else than `dim` arrays of finite numbers.
        TypeError
            It returns no arrays, or complex ones.
        """
        shape = self.node_shape(basis)
        lines = [
            length / n * np.append((np.arange(n)[:, None] + (basis.nodes[:-1] + 1) / 2).ravel(), n)
            for n, length in zip(self.cells, self.lengths, strict=True)
        ]
        box = np.stack(np.meshgrid(*reversed(lines), indexing="ij")[::-1]).reshape(self.dim, -1)
        if self.mapping is None:
            return box
        images_given = self.mapping(*box.copy())
        if not isinstance(images_given, Iterable):
            kind = type(images_given).__name__
            raise TypeError(f"mapping must return {self.dim} coordinates, got {kind}")
        given = tuple(images_given)
        if len(given) != self.dim:
            raise ValueError(f"mapping must return {self.dim} coordinates, got {len(given)}")
        images = np.empty_like(box)
        for k, values in enumerate(given):
            values = real_array(values, f"coordinate {k} of the mapping")
            if values.shape not in ((), box[k].shape):
                raise ValueError(
                    f"mapping must return arrays of the shape of its arguments, {box[k].shape}; "
                    f"got {values.shape} for coordinate {k}"
                )
            images[k] = values
        bad = np.flatnonzero(~np.isfinite(images).all(axis=0))
        if bad.size:
            raise ValueError(
                f"mapping returns {images[:, bad[0]]} at {box[:, bad[0]]}, node {bad[0]} of "
                f"{math.prod(shape)}"
            )
        return images

    def boundary(self, basis: TensorBasis, sides: Sequence[str] | None = None) -> NDArray[np.intp]:
        """The numbers of the nodes on the boundary of the box, or on some of its sides, ascending.

        Parameters
        ----------
        basis : TensorBasis
        sides : sequence of str, optional
            "-x" is the side of the box where x is 0, "+x" the one opposite, and so on; by default
            all of them.

        Raises
        ------
        ValueError
            A side that there is not.
        """
        on_it = np.zeros(self.node_shape(basis), bool)
        for side in self.sides(sides):
            on_it[side.place] = True
        return np.flatnonzero(on_it)

    def sides(self, names: Sequence[str] | None = None) -> list[Side]:
        """Those of the names, or all; each once."""
        there = {
            f"{sign}{letter}": Side(axis, (..., end, *(slice(None),) * axis))
            for axis, letter in enumerate("xyz"[: self.dim])
            for sign, end in (("-", 0), ("+", -1))
        }
        names = [*there] if names is None else [names] if isinstance(names, str) else [*names]
        for name in names:
            if name not in there:
                raise ValueError(f"sides must be among {', '.join(there)}; got {name!r}")
        return [there[name] for name in dict.fromkeys(names)]

    def gather(self, u: Array, basis: TensorBasis) -> Array:
        """Nodal values element by element.

        Parameters
        ----------
        u : array, shape (ndof,) or (ncomp, ndof)
            Values at the nodes.
        basis : TensorBasis

        Returns
        -------
        array, shape (nelem, ncomp, p + 1, ..., p + 1)
            In the dtype of u, contiguous.

        Raises
        ------
        ValueError
            u has another shape.
        """
        u, shape, n = as_array(u, "u"), self.node_shape(basis), basis.p + 1
        if u.ndim not in (1, 2) or u.shape[-1] != math.prod(shape):
            ndof = math.prod(shape)
            raise ValueError(f"Expected u of shape ({ndof},) or (ncomp, {ndof}), got {u.shape}")
        return to_elements(ops_for(u).xp, u, self.cells, n)

    def scatter(self, v: Array, basis: TensorBasis) -> Array:
        """Sum over elements: the transpose of `gather`.

        Parameters
        ----------
        v : array, shape (nelem, ncomp, p + 1, ..., p + 1)
            Values at the nodes of each element.
        basis : TensorBasis

        Returns
        -------
        array, shape (ncomp, ndof), or (ndof,) of one component
            ``sum(gather(u) * v) == sum(u * scatter(v))``. In the dtype of v; integers for
            booleans. Sums are taken in the order of the elements: the same bits every time.

        Raises
        ------
        ValueError
            v has another shape.
        """
        v, tail = as_array(v, "v"), (basis.p + 1,) * self.dim
        self.node_shape(basis)  # is there one?
        if v.ndim != 2 + self.dim or (v.shape[0], *v.shape[2:]) != (self.nelem, *tail):
            sizes = ", ".join(map(str, tail))
            raise ValueError(f"Expected v of shape ({self.nelem}, ncomp, {sizes}), got {v.shape}")
        v = v.astype(np.intp) if v.dtype.kind == "b" else v
        sums = from_elements(ops_for(v).xp, v, self.cells)
        return sums[0] if len(sums) == 1 else sums

    def geometry(self, basis: TensorBasis, elements: Any = None) -> Geometry:
        """Quadrature points, weights and inverse Jacobians on the mapped elements.

        Parameters
        ----------
        basis : TensorBasis
        elements : sequence of int, optional
            Numbers of elements, 0 to nelem - 1; by default all.

        Returns
        -------
        Geometry

        Raises
        ------
        ValueError
            The Jacobian determinant of an element is not positive at a quadrature point, or
            nothing but rounding errors; the message names the element. Numbers that no element
            has.
        """
        if elements is None:
            elements = np.arange(self.nelem)
        else:
            elements = np.asarray(elements)
            elements = elements if elements.size else elements.astype(np.intp)
        if elements.ndim != 1 or elements.dtype.kind not in "iu":
            raise ValueError(f"elements must be a list of numbers of elements, got {elements!r}")
        if elements.size and not 0 <= elements.min() <= elements.max() < self.nelem:
            raise ValueError(
                f"elements are numbered 0 to {self.nelem - 1}, got {elements.min()} to "
                f"{elements.max()}"
            )
        return self.mapped(basis).at(elements)

    def mapped(self, basis: TensorBasis) -> Mapped:
        """The elements, of which geometry may be computed a part at a time."""
        nodes = node_windows(np, self.coordinates(basis), self.cells, basis.p + 1)
        return Mapped(nodes, basis)


def _one_each(name: str, given: Any, dim: int, kind: Any, least: int) -> Sequence[Any]:
    """A number for each dimension, all greater than 0 and at least `least`."""
    values = [given] * dim if isinstance(given, numbers.Real) else given
    values = list(values) if isinstance(values, Iterable) else []
    if len(values) != dim:
        raise ValueError(f"{name} must be one number or {dim} of them, got {given!r}")
    for value in values:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name} must be of type {kind.__name__}, got {given!r}")
        if not (least <= value < math.inf and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {given!r}")
    return values
