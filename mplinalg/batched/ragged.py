"""Ragged: matrices or vectors of different sizes in one flat buffer."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..arguments import as_array
from ..ops.dispatch import batched_ops_for

Array = NDArray[Any]

__all__ = ["Group", "Ragged", "group_by_shape", "is_ragged"]

_FEW = 4
"""Members from which on a stack is faster to take apart than a buffer."""
_PIECE = 2**17
"""Bytes of memory that members of a new list may share; products are no faster with more."""


class Group(NamedTuple):
    """Members of one shape."""

    shape: tuple[int, ...]
    members: Array
    """(G,) int64, ascending."""


def group_by_shape(shapes: ArrayLike) -> list[Group]:
    """Members of a list, grouped by shape.

    Parameters
    ----------
    shapes : array_like of int, shape (N, ndim)

    Returns
    -------
    list of Group
        In ascending order of shapes; the members of each in the order of the list.

    Examples
    --------
    >>> from mplinalg.batched.ragged import group_by_shape
    >>> for group in group_by_shape([(2, 2), (3, 1), (2, 2)]):
    ...     print(group.shape, group.members)
    (2, 2) [0 2]
    (3, 1) [1]
    """
    sizes = np.asarray(shapes, np.int64)
    if not len(sizes):
        return []
    key = sizes[:, 0]
    for column in sizes.T[1:]:
        largest = int(column.max()) + 1
        if int(key.max()) > np.iinfo(np.int64).max // largest - 1:  # shapes of empty members
            _, key = np.unique(sizes, axis=0, return_inverse=True)
            break
        key = key * largest + column
    if int(key.max()) < 2**16:  # sorted by counting
        key = key.astype(np.uint16)
    order = np.argsort(key, kind="stable")
    places = key[order]
    starts = (np.flatnonzero(places[1:] != places[:-1]) + 1).tolist()
    return [
        Group(tuple(sizes[order[first]].tolist()), order[first:last])
        for first, last in itertools.pairwise([0, *starts, len(order)])
    ]


def arrays_of(shapes: Array, dtype: np.dtype[Any]) -> list[Array]:
    """Arrays of `shapes`, (N, 2), not initialised.

    Small ones of one shape are parts of one piece of memory, of `_PIECE` bytes at most: they are
    made in a third to a half of the time, and who keeps one of them keeps little more.
    """
    groups = group_by_shape(shapes)
    found: list[Array] = []
    for shape, members in groups:
        each = max(1, _PIECE // max(1, math.prod(shape) * dtype.itemsize))
        for first in range(0, len(members), each):
            found.extend(np.empty((min(each, len(members) - first), *shape), dtype))
    return _in_order(groups, found)


def _in_order(groups: list[Group], found: list[Array]) -> list[Array]:
    """What was found group by group, in the order of the list."""
    if len(groups) < 2:
        return found
    order = np.concatenate([group.members for group in groups])
    places = np.empty(order.size, np.int64)
    places[order] = np.arange(order.size)
    return list(map(found.__getitem__, places.tolist()))


class Ragged:
    """Matrices, or vectors, of different sizes in one flat buffer.

    Members are contiguous in C order, and may come in any order, with gaps. `from_list` puts those
    of one shape side by side, where they are one stack.

    Parameters
    ----------
    data : Array, shape (size,)
        The buffer; contiguous. It is not copied.
    offsets : array_like of int, shape (N,)
        Where in `data` each member begins, counted in numbers.
    shapes : array_like of int, shape (N, 1) or (N, 2)
        Lengths of vectors, or rows and columns of matrices; 0 is allowed.

    Raises
    ------
    ValueError
        If a member does not lie within the buffer, or members overlap in one that can be written.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.batched import Ragged
    >>> r = Ragged.from_list([np.eye(2), np.ones((1, 3)), np.zeros((2, 2))])
    >>> len(r), r.dtype, r[1].shape
    (3, dtype('float64'), (1, 3))
    >>> r[0][0, 0] = 5.0  # members are views of the buffer
    >>> r.data.tolist()
    [1.0, 1.0, 1.0, 5.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    __slots__ = ("_data", "_offsets", "_shapes")

    def __init__(self, data: Array, offsets: ArrayLike, shapes: ArrayLike) -> None:
        data = as_array(data, "data")
        places, sizes = _integers(offsets, "offsets"), _integers(shapes, "shapes")
        if data.ndim != 1 or not data.flags.c_contiguous:
            raise ValueError(
                f"data must be a contiguous vector, got {data.shape=}, {data.strides=}"
            )
        if places.ndim != 1 or sizes.ndim != 2 or not 1 <= sizes.shape[1] <= 2:
            raise ValueError(
                "offsets must be of shape (N,) and shapes of shape (N, 1) or (N, 2), got "
                f"{places.shape} and {sizes.shape}"
            )
        if len(places) != len(sizes):
            raise ValueError(f"{len(places)} offsets and {len(sizes)} shapes")
        _check_places(data, places, sizes)
        self._set(data, places, sizes)

    def _set(self, data: Array, offsets: Array, shapes: Array) -> None:
        self._data, self._offsets, self._shapes = data, offsets, shapes
        for array in (offsets, shapes):
            array.flags.writeable = False

    @classmethod
    def _of(cls, data: Array, offsets: Array, shapes: Array) -> Ragged:
        """Without checks, and without copies."""
        made = cls.__new__(cls)
        made._set(data, offsets, shapes)
        return made

    @classmethod
    def empty(cls, shapes: ArrayLike, dtype: DTypeLike = np.float64, *, xp: Any = np) -> Ragged:
        """Members of given shapes, not initialised, those of one shape side by side.

        Parameters
        ----------
        shapes : array_like of int, shape (N, 1) or (N, 2)
        dtype : dtype
        xp : module
            The array namespace: numpy or cupy.
        """
        sizes, dtype = _integers(shapes, "shapes"), _of_numbers(dtype)
        if sizes.ndim != 2 or not 1 <= sizes.shape[1] <= 2 or (sizes < 0).any():
            raise ValueError(f"shapes must be of shape (N, 1) or (N, 2), not negative: {sizes}")
        counts = np.prod(sizes, axis=1)
        offsets = np.empty(len(sizes), np.int64)
        end = 0
        for group in group_by_shape(sizes):
            count = int(counts[group.members[0]])
            offsets[group.members] = end + count * np.arange(len(group.members))
            end += count * len(group.members)
        return cls._of(xp.empty(end, dtype), offsets, sizes)

    @classmethod
    def from_list(cls, arrays: Sequence[Any], dtype: DTypeLike | None = None) -> Ragged:
        """A copy of arrays of one or of two dimensions.

        Parameters
        ----------
        arrays : sequence of array_like
            All of the same number of dimensions, 1 or 2; they may be empty. Of no arrays the result
            is that of no matrices.
        dtype : dtype, optional
            By default one that holds the numbers of all arrays.

        Returns
        -------
        Ragged
            In the order of the list.

        Raises
        ------
        ValueError
            If they differ in their number of dimensions, or it is neither 1 nor 2.
        """
        members, dtype = list(arrays), None if dtype is None else _of_numbers(dtype)
        if not members:
            return cls._of(np.empty(0, dtype), np.empty(0, np.int64), np.empty((0, 2), np.int64))
        members, seen = uniform(members, "arrays", dtype)
        shapes = seen.shapes[:, : seen.ndim].copy()
        ops = batched_ops_for(members[0])
        made = cls.empty(shapes, seen.dtype, xp=ops.xp)
        ops.copy_listed(seen, made._listed())
        return made

    def to_list(self) -> list[Array]:
        """The members: views of the buffer, each of which keeps all of it alive."""
        groups = self.groups()
        found: list[Array] = []
        for group in groups:
            stack = self._view(group) if len(group.members) >= _FEW else None
            found.extend(map(self.__getitem__, group.members) if stack is None else stack)
        return _in_order(groups, found)

    # -- what it is -----------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The flat buffer."""
        return self._data

    @property
    def offsets(self) -> Array:
        """Where members begin in `data`, (N,) int64, read-only."""
        return self._offsets

    @property
    def shapes(self) -> Array:
        """Shapes of the members, (N, ndim) int64, read-only."""
        return self._shapes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """Dimensions of each member: 1 for vectors, 2 for matrices."""
        return int(self._shapes.shape[1])

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: Any) -> Any:
        """One member as a view of the buffer, or a Ragged of the members of a slice."""
        if isinstance(index, slice):
            return Ragged._of(self._data, self._offsets[index].copy(), self._shapes[index].copy())
        k = operator.index(index)
        if not -len(self) <= k < len(self):
            raise IndexError(f"member {k} of {len(self)}")
        shape = tuple(self._shapes[k].tolist())
        start = int(self._offsets[k])
        return self._data[start : start + int(np.prod(shape))].reshape(shape)

    def __iter__(self) -> Iterator[Array]:
        return map(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        noun = "vectors" if self.ndim == 1 else "matrices"
        if not len(self):
            return f"Ragged(0 {noun}, {self.dtype})"
        low, high = (tuple(f(self._shapes, axis=0).tolist()) for f in (np.min, np.max))
        return f"Ragged({len(self)} {noun}, {self.dtype}, shapes {low} to {high})"

    def same_structure(self, other: Ragged) -> bool:
        """Whether another has members of the same shapes in the same order, of the same dtype."""
        return self.dtype == other.dtype and np.array_equal(self._shapes, other._shapes)

    def __reduce__(self) -> tuple[Any, ...]:
        writeable = bool(getattr(self._data.flags, "writeable", True))
        return _restored, (self._data, self._offsets, self._shapes, writeable)

    # -- members of one shape -------------------------------------------------------------------

    def groups(self) -> list[Group]:
        """The members by shape, as `group_by_shape`."""
        return group_by_shape(self._shapes)

    def stack(self, group: Group) -> Array:
        """The members of a group as one array, shape ``(G, *shape)``.

        A view of the buffer if they lie side by side, a copy if not.
        """
        view = self._view(group)
        if view is not None:
            return view
        size = int(np.prod(group.shape))
        rows = batched_ops_for(self._data).gather(self._data, self._offsets[group.members], size)
        return rows.reshape(len(group.members), *group.shape)

    def put(self, group: Group, stack: Array) -> None:
        """Write the members of a group, in place, from an array of shape ``(G, *shape)``."""
        if stack.shape != (len(group.members), *group.shape):
            raise ValueError(f"{len(group.members)} members {group.shape} from {stack.shape=}")
        view = self._view(group)
        if view is not None:
            view[...] = stack
            return
        rows = stack.astype(self.dtype, copy=False).reshape(len(stack), -1)
        batched_ops_for(self._data).scatter(rows, self._data, self._offsets[group.members])

    def _view(self, group: Group) -> Array | None:
        """The members as a view, if they lie side by side."""
        size = int(np.prod(group.shape))
        places = self._offsets[group.members]
        start = int(places[0])
        count = len(places)
        if (
            int(places[-1]) != start + (count - 1) * size
            or (places[1:] - places[:-1] != size).any()
        ):
            return None
        return self._data[start : start + count * size].reshape(count, *group.shape)

    def _listed(self) -> Any:
        """The members as the backend sees them (`mplinalg.ops.ragged.Listed`)."""
        shapes = self._shapes
        if self.ndim == 1:
            shapes = np.stack([shapes[:, 0], np.ones(len(self), np.int64)], axis=1)
        ops = batched_ops_for(self._data)
        return ops.listed_flat(self._data, self._offsets, shapes)._replace(ndim=self.ndim)


def _restored(data: Array, offsets: Array, shapes: Array, writeable: bool) -> Ragged:
    """What was pickled. Members may overlap in a buffer that cannot be written."""
    if not writeable:
        data.flags.writeable = False
    return Ragged._of(data, offsets, shapes)


def is_ragged(x: Any) -> bool:
    """Whether x is a variable-size batch: a `Ragged`, or a list or tuple of arrays (or of none)."""
    if isinstance(x, Ragged):
        return True
    if not isinstance(x, list | tuple):
        return False
    return not x or isinstance(x[0], np.ndarray) or hasattr(x[0], "__dlpack_device__")


def uniform(
    arrays: Sequence[Any], name: str, dtype: DTypeLike | None = None
) -> tuple[list[Array], Any]:
    """Arrays of one dtype and number of dimensions, at least one, and as the backend sees them.

    Raises
    ------
    ValueError
        If they differ in their number of dimensions, or it is neither 1 nor 2.
    """
    members = list(arrays)
    wanted = None if dtype is None else np.dtype(dtype)
    if type(members[0]) is np.ndarray and members[0].dtype.kind in "biufc":
        seen = batched_ops_for(members[0]).listed(members) if members[0].ndim in (1, 2) else None
        if seen is not None and (wanted is None or seen.dtype == wanted) and seen.dtype.isnative:
            return members, seen
    members = [as_array(x, f"{name}[{k}]") for k, x in enumerate(members)]
    if wanted is None:
        wanted = np.result_type(*{x.dtype for x in members}).newbyteorder("=")
    for k, x in enumerate(members):
        if x.ndim not in (1, 2) or x.ndim != members[0].ndim:
            raise ValueError(
                f"{name} must be all vectors or all matrices: {name}[0].shape="
                f"{members[0].shape}, {name}[{k}].shape={x.shape}"
            )
    members = [x.astype(wanted, copy=False) for x in members]
    members = [x if getattr(x.flags, "aligned", True) else x.copy() for x in members]
    return members, batched_ops_for(*members).listed(members)


def _of_numbers(dtype: DTypeLike) -> np.dtype[Any]:
    """Bytes are copied as they are: those of an object would be a reference that nobody counts."""
    found = np.dtype(dtype)
    if found.kind not in "biufc":
        raise TypeError(f"dtype must be one of numbers, got {found}")
    return found


def _integers(x: ArrayLike, name: str) -> Array:
    """A copy as int64."""
    array = np.asarray(x)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    return array.astype(np.int64)


def _check_places(data: Array, offsets: Array, shapes: Array) -> None:
    """Raise ValueError unless members lie within the buffer, and apart if it can be written."""
    sizes = np.prod(shapes, axis=1)
    room = data.size - offsets
    outside = np.prod(shapes, axis=1, dtype=np.float64) > room  # no overflow
    wrong = np.flatnonzero((shapes < 0).any(axis=1) | (offsets < 0) | outside)
    if wrong.size:
        k = int(wrong[0])
        raise ValueError(
            f"member {k}, of shape {tuple(shapes[k].tolist())} at {offsets[k]}, does not lie "
            f"within a buffer of {data.size} numbers"
        )
    if not getattr(data.flags, "writeable", True):
        return
    filled = np.flatnonzero(sizes)
    order = filled[np.argsort(offsets[filled], kind="stable")]
    ends = offsets[order] + sizes[order]
    clash = np.flatnonzero(ends[:-1] > offsets[order[1:]])
    if clash.size:
        first, second = order[clash[0]], order[clash[0] + 1]
        raise ValueError(f"members {first} and {second} overlap in a buffer that can be written")
