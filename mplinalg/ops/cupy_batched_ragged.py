"""Lists of matrices of different sizes on the device: members of one shape go as a stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cupy
import numpy as np

from ..precision import Format
from .protocol import Array
from .ragged import Listed


class BatchedRagged:
    """`mplinalg.ops.RaggedOps` on CuPy arrays."""

    def listed(self, arrays: Sequence[Array]) -> Listed | None:
        like = arrays[0]
        if not 1 <= like.ndim <= 2:
            return None
        if any(a.dtype != like.dtype or a.ndim != like.ndim for a in arrays):
            return None
        members = [a[:, None] if a.ndim == 1 else a for a in arrays]
        shapes = np.array([a.shape for a in members], np.int64)
        return Listed(like.dtype, like.ndim, shapes, _Apart(members), arrays)

    def listed_flat(self, data: Array, offsets: Array, shapes: Array) -> Listed:
        return Listed(data.dtype, 2, shapes, _Flat(data, offsets), data)

    def copy_listed(self, source: Listed, target: Listed) -> None:
        for chosen in _groups(target.shapes):
            shape = tuple(target.shapes[chosen[0]].tolist())
            target.handle.put(chosen, source.handle.stack(chosen, shape))

    def are_apart(self, out: Listed, others: Sequence[Listed]) -> bool:
        if not isinstance(out.handle, _Flat):
            return False  # arrays of their own, in any places
        return not any(
            cupy.may_share_memory(out.handle.data, array)
            for x in others
            for array in ([x.keep] if isinstance(x.handle, _Flat) else x.keep)
        )

    def gather(self, data: Array, offsets: Array, size: int) -> Array:
        return data[_places(offsets, size)]

    def scatter(self, stack: Array, data: Array, offsets: Array) -> None:
        data[_places(offsets, stack.shape[1])] = stack

    def gemm_listed(
        self, alpha: complex, a: Listed, b: Listed, beta: complex, c: Listed, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
    ) -> None:  # fmt: skip
        sizes = np.concatenate([_spread(x, c) for x in (a, b, c)], axis=1)
        for chosen in _groups(sizes):
            one, two, result = (_stack(x, chosen) for x in (a, b, c))
            self.gemm_batched(  # type: ignore[attr-defined]
                alpha, one, two, beta, result, transa=transa, transb=transb, compute=compute
            )
            c.handle.put(chosen, result)

    def trsm_listed(
        self, a: Listed, x: Listed, *, lower: bool, unit: bool = False, trans: str = "N"
    ) -> Array:
        info = np.zeros(len(x.shapes), np.int32)
        for chosen in _groups(np.concatenate([_spread(a, x), x.shapes], axis=1)):
            found, judged = self.trsm_batched(  # type: ignore[attr-defined]
                _stack(a, chosen), _stack(x, chosen), lower=lower, unit=unit, trans=trans
            )
            x.handle.put(chosen, found)
            info[chosen[judged.members]] = judged.info
        return info


class _Apart:
    """Arrays of their own."""

    def __init__(self, members: list[Array]) -> None:
        self.members = members

    def stack(self, chosen: Array, shape: tuple[int, int]) -> Array:
        """Some members, of this shape, as a copy."""
        return cupy.stack([self.members[k] for k in chosen])

    def put(self, chosen: Array, stack: Array) -> None:
        """Write some members."""
        for k, member in zip(chosen, stack, strict=True):
            self.members[k][...] = member


class _Flat:
    """Contiguous matrices in one buffer."""

    def __init__(self, data: Array, offsets: Array) -> None:
        self.data, self.offsets = data, offsets

    def stack(self, chosen: Array, shape: tuple[int, int]) -> Array:
        """Some members, of this shape, as a copy."""
        rows = self.data[_places(self.offsets[chosen], shape[0] * shape[1])]
        return rows.reshape(len(chosen), *shape)

    def put(self, chosen: Array, stack: Array) -> None:
        """Write some members."""
        rows = stack.reshape(len(chosen), -1)
        self.data[_places(self.offsets[chosen], rows.shape[1])] = rows


def _places(offsets: Array, size: int) -> Array:
    """Indices of the `size` numbers from each of the offsets on."""
    return cupy.asarray(np.asarray(offsets))[:, None] + cupy.arange(size)


def _spread(x: Listed, like: Listed) -> Array:
    """Shapes, those of the one matrix that stands for all as often as there are members."""
    return np.broadcast_to(x.shapes, like.shapes.shape)


def _stack(x: Listed, chosen: Array) -> Array:
    """Some members; or the one that stands for all, so often."""
    if len(x.shapes) > 1:
        return x.handle.stack(chosen, tuple(x.shapes[chosen[0]].tolist()))
    one = x.handle.stack(np.zeros(1, np.int64), tuple(x.shapes[0].tolist()))
    return cupy.broadcast_to(one, (len(chosen), *one.shape[1:]))


def _groups(shapes: Array) -> Iterator[Array]:
    """Members with equal rows of `shapes`, those that come first first."""
    if not len(shapes):
        return
    _, inverse = np.unique(shapes, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    order = np.argsort(inverse, kind="stable")
    bounds = np.flatnonzero(np.diff(inverse[order])) + 1
    yield from sorted(np.split(order, bounds), key=lambda chosen: int(chosen[0]))
