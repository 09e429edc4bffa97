"""The way from operands to the result: each by itself first, then two at a time."""

from __future__ import annotations

import string
from collections import Counter
from dataclasses import dataclass
from typing import Any

from .lowering import Product, Sizes, Tensor, lower
from .subscripts import Shape, Terms

Array = Any
Strides = tuple[float, ...]
"""In numbers."""


@dataclass(frozen=True)
class Preparation:
    """What is done to an operand by itself: views, but for sums."""

    shape: Shape | None
    """Without the dimensions that are 1."""
    diagonal: str
    """Subscripts of the view where an index is repeated."""
    axes: tuple[int, ...]
    """Those that are summed: no other operand has their indices, nor has the result."""

    def __call__(self, xp: Any, a: Array) -> Array:
        if self.shape is not None:
            a = a.reshape(self.shape)
        if self.diagonal:
            a = xp.einsum(self.diagonal, a)
        return a.sum(axis=self.axes) if self.axes else a


@dataclass(frozen=True)
class Step:
    """A product of two tensors; `left` and `right` count operands first, then steps."""

    left: int
    right: int
    product: Product
    shape: Shape
    """Of the result, a dimension an index."""


class Arrangement:
    """Preparations, steps, and the indices of what remains in the end.

    Indices of which all dimensions are 1 are left out.
    """

    def __init__(
        self, terms: Terms, shapes: tuple[Shape, ...], strides: tuple[Strides, ...],
        optimize: Any, is_complex: bool, low: bool,
    ) -> None:  # fmt: skip
        self.sizes: Sizes = {i: size for i, size in terms.sizes.items() if size != 1}
        self.output = "".join(i for i in terms.output if i in self.sizes)
        self.is_complex, self.low = is_complex, low
        self.preparations: list[Preparation | None] = []
        self.tensors: list[Tensor] = []
        """Of operands, then of steps."""
        self.steps: list[Step] = []
        wide = [
            "".join(i for i, size in zip(term, shape, strict=True) if size != 1)
            for term, shape in zip(terms.inputs, shapes, strict=True)
        ]
        for k in range(len(wide)):
            elsewhere = {*self.output, *"".join(wide[:k] + wide[k + 1 :])}
            self.prepare(wide[k], shapes[k], strides[k], elsewhere)
        self.remaining = list(range(len(wide)))
        for positions in self.path(optimize):
            self.combine(positions)
        self.combine(tuple(range(len(self.remaining))))

    @property
    def result(self) -> Tensor:
        return self.tensors[self.remaining[0]]

    def prepare(self, labels: str, shape: Shape, strides: Strides, elsewhere: set[str]) -> None:
        own = zip(strides, shape, strict=True)
        t = Tensor(labels, tuple(stride for stride, size in own if size != 1))
        diagonal, counts = "", Counter(labels)
        if len(counts) < len(labels):
            name = dict(zip(counts, string.ascii_letters, strict=False))
            diagonal = f"{_renamed(labels, name)}->{_renamed(''.join(counts), name)}"
            along = dict.fromkeys(counts, 0.0)
            for label, stride in zip(labels, t.strides, strict=True):
                along[label] += stride
            t = Tensor("".join(counts), tuple(along.values()))
        summed = tuple(axis for axis, label in enumerate(t.labels) if label not in elsewhere)
        if summed:
            rest = "".join(label for label in t.labels if label in elsewhere)
            dense = Tensor.contiguous(t.by_stride(rest), self.sizes)  # as NumPy allocates it
            t = Tensor(rest, tuple(map(dense.stride, rest)))
        self.tensors.append(t)
        squeezed = None if len(labels) == len(shape) else tuple(size for size in shape if size != 1)
        is_needed = squeezed is not None or diagonal or summed
        self.preparations.append(Preparation(squeezed, diagonal, summed) if is_needed else None)

    def path(self, optimize: Any) -> list[tuple[int, ...]]:
        """Positions among what remains, of what is multiplied next."""
        if isinstance(optimize, tuple):
            return _checked(optimize, len(self.tensors))
        if len(self.tensors) <= 2 or optimize is False:
            return [(0, 1)] * (len(self.tensors) - 1)
        import opt_einsum  # not at the top: 30 ms, which two operands need not wait for

        terms = [t.labels for t in self.tensors]
        name = {label: opt_einsum.get_symbol(i) for i, label in enumerate(self.sizes)}
        try:
            path, _ = opt_einsum.contract_path(
                f"{','.join(_renamed(t, name) for t in terms)}->{_renamed(self.output, name)}",
                *(tuple(self.sizes[label] for label in term) for term in terms),
                shapes=True,
                optimize="auto" if optimize is True else optimize,
            )
        except KeyError as error:
            raise ValueError(f"{optimize=}: {error.args[0]}") from None
        return path

    def combine(self, positions: tuple[int, ...]) -> None:
        """Multiply what is at `positions`, from left to right, and put the result at the end."""
        chosen = [self.remaining[position] for position in positions]
        self.remaining = [k for k in self.remaining if k not in chosen]
        while len(chosen) > 1:
            left, right, *chosen = chosen
            chosen.insert(0, self.add(left, right, [*chosen, *self.remaining]))
        self.remaining += chosen

    def add(self, left: int, right: int, others: list[int]) -> int:
        a, b = self.tensors[left], self.tensors[right]
        needed = {*self.output, *"".join(self.tensors[k].labels for k in others)}
        kept = self.in_order(a, b, needed, others)
        product = lower(a, b, kept, self.sizes, is_complex=self.is_complex, low=self.low)
        self.tensors.append(product.result)
        shape = tuple(self.sizes[label] for label in product.result.labels)
        self.steps.append(Step(left, right, product, shape))
        return len(self.tensors) - 1

    def in_order(self, a: Tensor, b: Tensor, needed: set[str], others: list[int]) -> str:
        """What is needed of a and b, in the order of the result.

        What the result does not have follows what it follows in memory, but in the order of
        another operand that has it, with which it will be summed.
        """
        order = [i for i in self.output if i in a.labels or i in b.labels]
        for t in (a, b):
            place = 0
            for label in t.by_stride(t.labels):
                if label in order:
                    place = order.index(label) + 1
                elif label in needed:
                    order.insert(place, label)
                    place += 1
        for t in (self.tensors[k] for k in others):
            places = [i for i, label in enumerate(order) if label in t.labels]
            places = [i for i in places if order[i] not in self.output]
            labels = t.by_stride("".join(order[i] for i in places))
            for place, label in zip(places, labels, strict=True):
                order[place] = label
        return "".join(order)


def as_order(optimize: Any) -> Any:
    """How the order is found, hashable; orders themselves as tuples of tuples.

    >>> as_order(["einsum_path", (0, 2), [0, 1]])
    ((0, 2), (0, 1))
    """
    if isinstance(optimize, str | bool) or callable(optimize):
        return optimize
    if isinstance(optimize, list | tuple):
        steps = optimize[1 if optimize and optimize[0] == "einsum_path" else 0 :]
        if all(
            isinstance(step, list | tuple) and all(hasattr(k, "__index__") for k in step)
            for step in steps
        ):
            return tuple(tuple(map(int, step)) for step in steps)
    raise TypeError(
        f"optimize must be a name, True, False, or a list of tuples of positions, got {optimize!r}"
    )


def _checked(order: tuple[tuple[int, ...], ...], count: int) -> list[tuple[int, ...]]:
    """An order that makes one of `count` operands."""
    left = count
    for step in order:
        if not step or len(set(step)) < len(step) or not 0 <= min(step) <= max(step) < left:
            raise ValueError(f"optimize={list(order)}: {step} are not positions among {left}")
        left -= len(step) - 1
    if left > 1:
        raise ValueError(f"optimize={list(order)} leaves {left} of {count} operands")
    return list(order)


def _renamed(term: str, name: dict[str, str]) -> str:
    return "".join(name[label] for label in term)
