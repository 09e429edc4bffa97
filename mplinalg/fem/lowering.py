"""How one product of two tensors becomes a product of matrices.

The indices of a pair of tensors are of four kinds:

    batch   in both and in the result        k   in both, summed
    m       in the left one alone            n   in the right one alone

and the pair is a stack of matrix products, ``C[batch] = A[batch] B[batch]`` with A m-by-k and B
k-by-n. Indices of a kind are one index of a matrix if their strides allow, and a matrix is
handed on as it is, or as its transpose, if one of its strides is 1; in a stack it may have any
strides. So that nothing is copied, indices of m (or of n) that are not one become batch indices,
over which the other operand is broadcast; where a copy is cheaper than so many small products, it
is made. Of all ways the one that is expected to be fastest is taken.

References
----------
Di Napoli, Fabregat-Traver, Quintana-Ortí and Bientinesi, Appl. Math. Comput. 235 (2014) 454 (which
contractions are matrix products).
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .product import LARGE

Sizes = dict[str, int]

# Seconds, roughly those of one core; they only choose between ways that are equally accurate.
_CALL, _VECTOR_CALL = 30e-9, 80e-9
"""Of one product of a stack, besides its arithmetic."""
_FLOP = 1 / 30e9
_MOVE = 1e-9
"""To read a number that is used once."""
_COPY = 3e-9
"""To copy a number to another place in the order."""
_LOOP = 13e-9
"""To enter the inner loop of einsum."""
_COMPLEX = 4
"""Times as long as real arithmetic."""
_SMALL = 12
"""Dimensions of matrices that are read once, in registers: any strides cost little."""


@dataclass(frozen=True)
class Tensor:
    """Where the numbers of an operand are: an index a dimension, and strides in numbers."""

    labels: str
    strides: tuple[float, ...]

    @staticmethod
    def contiguous(labels: str, sizes: Sizes) -> Tensor:
        """In C order."""
        strides, step = [], 1
        for label in reversed(labels):
            strides.append(step)
            step *= sizes[label]
        return Tensor(labels, tuple(reversed(strides)))

    def stride(self, label: str) -> float:
        return self.strides[self.labels.index(label)]

    def by_stride(self, labels: str) -> str:
        """`labels` as they are in memory, the fastest last."""
        return "".join(sorted(labels, key=lambda label: -abs(self.stride(label))))

    def runs(self, labels: str, sizes: Sizes) -> list[str]:
        """`labels`, in this order, in groups that are one index each."""
        runs: list[str] = []
        for label in labels:
            if runs and self.stride(runs[-1][-1]) == self.stride(label) * sizes[label]:
                runs[-1] += label
            else:
                runs.append(label)
        return runs


AS_IS, TRANSPOSED, STRIDED, COPY = "as it is", "transposed", "strided", "copied"


@dataclass(frozen=True)
class View:
    """An operand as a stack: its axes permuted and fused; copied first, if it has to be."""

    axes: tuple[int, ...] | None
    """None: as they are."""
    shape: tuple[int, ...]
    layout: str
    """Of its matrices, one of the four above."""


@dataclass(frozen=True)
class Product:
    """One step: what is done, and where the numbers of its result are."""

    kind: str
    """"gemm"; "multiply", number by number; or "einsum"."""
    subscripts: str
    left: View
    right: View
    swapped: bool
    """The second operand is on the left."""
    shape: tuple[int, ...]
    """Of the result as it is computed: a stack of m-by-n matrices, if kind is "gemm"."""
    result: Tensor
    m: int
    n: int
    k: int
    batch: int
    copied: int = 0
    """Numbers."""
    seconds: float = 0.0
    """Estimated."""

    @property
    def flops(self) -> int:
        """Additions and multiplications."""
        return (2 * self.k - (self.k == 1)) * self.m * self.n * self.batch

    @property
    def layouts(self) -> tuple[str, str]:
        """Of the left and the right operand."""
        return self.left.layout, self.right.layout


def lower(
    a: Tensor, b: Tensor, kept: str, sizes: Sizes, *, is_complex: bool = False, low: bool = False
) -> Product:
    """The product of `a` and `b`, summed over what both have and is not `kept`.

    `kept` is in the order that the result should have. `low`: sums are to be of a lower precision,
    so that they have to be matrix products.
    """
    if all(label in kept for label in a.labels if label in b.labels):
        is_outer = bool(a.labels and b.labels) and not set(a.labels) & set(b.labels)
        if is_outer and not is_complex:  # faster than a ufunc
            return _einsum(a, b, kept, sizes)
        return _multiply(a, b, kept, sizes)
    ways = list(_Ways(a, b, kept, sizes, _COMPLEX if is_complex else 1).all())
    used_once = all(label in b.labels for label in a.labels) or all(
        label in a.labels for label in b.labels
    )
    if used_once and not low:
        ways.append(_einsum(a, b, kept, sizes, _COMPLEX if is_complex else 1))
    return min(ways, key=lambda way: way.seconds)


class _Ways:
    """The ways to make a pair of tensors a stack of matrix products."""

    def __init__(self, a: Tensor, b: Tensor, kept: str, sizes: Sizes, flop: float) -> None:
        self.a, self.b, self.kept, self.sizes = a, b, kept, sizes
        self.flop = flop * _FLOP
        self.summed = "".join(i for i in a.labels if i in b.labels and i not in kept)
        self.rows = "".join(i for i in kept if i in a.labels and i not in b.labels)
        self.columns = "".join(i for i in kept if i in b.labels and i not in a.labels)

    def all(self) -> Iterator[Product]:
        for copied in ((False, False), (False, True), (True, False), (True, True)):
            k = next(
                (t for t, is_copied in zip((self.a, self.b), copied, strict=True) if not is_copied),
                self.a,
            ).by_stride(self.summed)
            for m, n in itertools.product(
                self.runs(self.a, self.rows, copied[0]), self.runs(self.b, self.columns, copied[1])
            ):
                way = self.way(m, n, k, copied)
                if way is not None:
                    yield way

    def runs(self, t: Tensor, labels: str, is_copied: bool) -> list[str]:
        """What may be the index of a matrix."""
        if is_copied or not labels:
            return [labels]
        return t.runs(t.by_stride(labels), self.sizes)

    def layout(self, t: Tensor, free: str, k: str, is_copied: bool) -> str:
        """Of the matrix with rows `free` and columns `k`; nothing if k is no index of it."""
        if is_copied:
            return COPY
        if len(t.runs(k, self.sizes)) > 1:
            return ""
        if not free:  # a vector
            return AS_IS
        across, down = t.stride(k[-1]), t.stride(free[-1])
        if across == 1 and down >= _size(k, self.sizes):
            return AS_IS
        return TRANSPOSED if down == 1 and across >= _size(free, self.sizes) else STRIDED

    def way(self, m: str, n: str, k: str, copied: tuple[bool, bool]) -> Product | None:
        stack = self.stack(m, n, copied)
        rows, columns, depth = (_size(labels, self.sizes) for labels in (m, n, k))
        batch = math.prod(_size(labels, self.sizes) for labels in stack)
        seconds, moved, layouts = batch * self.one(rows, columns, depth), 0, []
        for t, free, is_copied in ((self.a, m, copied[0]), (self.b, n, copied[1])):
            layout = self.layout(t, free, k, is_copied)
            if not layout:
                return None
            if layout == STRIDED and (batch == 1 or rows * columns * depth > LARGE):
                return None
            size = _size(t.labels, self.sizes)
            if is_copied:
                moved += size
                seconds += size * _COPY
            elif layout == STRIDED:  # larger matrices are copied one by one
                seconds += size * (_MOVE if max(rows, columns, depth) <= _SMALL else _COPY)
            layouts.append(layout)
        # The result is in C order: what comes last in `kept` is to have the columns.
        swapped = bool(m and n) and self.kept.index(m[-1]) > self.kept.index(n[-1])
        if swapped:  # C^T = B^T A^T
            left = self.view(self.b, stack, n, k, layouts[1])
            right = self.view(self.a, stack, k, m, layouts[0])
            m, n, rows, columns = n, m, columns, rows
        else:
            left = self.view(self.a, stack, m, k, layouts[0])
            right = self.view(self.b, stack, k, n, layouts[1])
        result = "".join(stack) + m + n
        return Product(
            "gemm", f"{self.a.labels},{self.b.labels}->{result}", left, right, swapped,
            (*(_size(labels, self.sizes) for labels in stack), rows, columns),
            Tensor.contiguous(result, self.sizes), rows, columns, depth, batch, moved, seconds,
        )  # fmt: skip

    def one(self, m: int, n: int, k: int) -> float:
        """Seconds of one product of a stack: matrices of few rows take as long as those of four."""
        if m == n == 1:
            return _CALL + k * _MOVE
        if m == 1 or n == 1:
            return _VECTOR_CALL + m * n * k * _MOVE
        return _CALL + 2 * (-(-m // 4) * 4) * (-(-n // 4) * 4) * k * self.flop

    def stack(self, m: str, n: str, copied: tuple[bool, bool]) -> list[str]:
        """The batch indices, and those of m and n that are not in the matrices; fused."""
        stack: list[str] = []
        for label in self.kept:
            if label in m or label in n:
                continue
            if stack and all(
                self.fuses(t, stack[-1][-1], label, is_copied)
                for t, is_copied in zip((self.a, self.b), copied, strict=True)
            ):
                stack[-1] += label
            else:
                stack.append(label)
        return stack

    def fuses(self, t: Tensor, slow: str, fast: str, is_copied: bool) -> bool:
        if slow not in t.labels or fast not in t.labels:
            return slow not in t.labels and fast not in t.labels
        return is_copied or t.stride(slow) == t.stride(fast) * self.sizes[fast]

    def view(self, t: Tensor, stack: Sequence[str], rows: str, columns: str, layout: str) -> View:
        """The stack of matrices with these rows and columns, one of which is k."""
        groups = [labels if labels[0] in t.labels else "" for labels in stack]
        shape = tuple(_size(labels, self.sizes) for labels in (*groups, rows, columns))
        if rows and columns and layout in (AS_IS, TRANSPOSED):
            layout = AS_IS if t.stride(columns[-1]) == 1 else TRANSPOSED
        return View(_axes(t, "".join((*groups, rows, columns))), shape, layout)


def _multiply(a: Tensor, b: Tensor, kept: str, sizes: Sizes) -> Product:
    """Nothing is summed: numbers are multiplied, with broadcasting."""

    def view(t: Tensor) -> View:
        axes = _axes(t, "".join(label for label in kept if label in t.labels))
        return View(axes, tuple(sizes[i] if i in t.labels else 1 for i in kept), AS_IS)

    return Product(
        "multiply", f"{a.labels},{b.labels}->{kept}", view(a), view(b), False,
        tuple(sizes[label] for label in kept), Tensor.contiguous(kept, sizes), 1, 1, 1,
        _size(kept, sizes),
    )  # fmt: skip


def _einsum(a: Tensor, b: Tensor, kept: str, sizes: Sizes, factor: float = 1) -> Product:
    """Numbers that are used once, in any order: dot products, matrices times vectors."""
    summed = "".join(label for label in a.labels if label not in kept)
    name = {label: label for label in kept + summed}
    if not all(label in string.ascii_letters for label in name):
        name = dict(zip(name, string.ascii_letters, strict=False))
    left, right, result = ("".join(name[i] for i in term) for term in (a.labels, b.labels, kept))
    larger = max(a, b, key=lambda t: _size(t.labels, sizes))
    inner = sizes[larger.by_stride(larger.labels)[-1]]
    as_is = View(None, (), AS_IS)
    return Product(
        "einsum", f"{left},{right}->{result}", as_is, as_is, False,
        tuple(sizes[label] for label in kept), Tensor.contiguous(kept, sizes), 1, 1,
        _size(summed, sizes), _size(kept, sizes),
        seconds=_size(kept + summed, sizes) * (_MOVE + _LOOP / inner) * factor,
    )  # fmt: skip


def _axes(t: Tensor, labels: str) -> tuple[int, ...] | None:
    """The axes of `labels`; None if that is their order already."""
    return None if labels == t.labels else tuple(map(t.labels.index, labels))


def _size(labels: str, sizes: Sizes) -> int:
    return math.prod(sizes[label] for label in labels)
