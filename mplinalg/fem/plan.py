"""What `contract` does with operands of given shapes and strides: planned once, used often."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..precision import Format
from .lowering import COPY, View
from .path import Arrangement, Step, Strides
from .product import Engine
from .subscripts import Shape, parse

Array = Any


class Plan:
    """How a contraction is carried out. Printed, it is a table of the products.

    Attributes
    ----------
    subscripts : str
        As they were given.
    shape : tuple of int
        Of the result.
    steps : tuple
        Products of two tensors each, none for one operand. A step has the positions of its
        operands, `left` and `right`, results of steps counted after the operands, and a
        `product`, with its `kind`, `subscripts`, `m`, `n`, `k`, `batch` and `layouts`.
    flops : int
        Multiplications and additions in all steps.
    copied : int
        Numbers that are copied because their strides allow no product.
    """

    def __init__(
        self, subscripts: str, shapes: tuple[Shape, ...], strides: tuple[Strides, ...],
        optimize: Any, is_complex: bool, low: bool,
    ) -> None:  # fmt: skip
        terms = parse(subscripts, shapes)
        self.subscripts, self.shape = subscripts, terms.shape
        self.steps: tuple[Step, ...] = ()
        self.is_zero = 0 in terms.sizes.values()
        if self.is_zero:
            return
        arranged = Arrangement(terms, shapes, strides, optimize, is_complex, low)
        self._preparations = arranged.preparations
        self.steps = tuple(arranged.steps)
        axes = tuple(map(arranged.result.labels.index, arranged.output))
        self._axes = None if axes == tuple(range(len(axes))) else axes

    @property
    def flops(self) -> int:
        return sum(step.product.flops for step in self.steps)

    @property
    def copied(self) -> int:
        return sum(step.product.copied for step in self.steps)

    def run(
        self, engine: Engine, operands: list[Array], compute: Format | None = None,
        out: Array | None = None, write_early: bool = False,
    ) -> Array:  # fmt: skip
        """The contraction of `operands`, which have one dtype.

        With `write_early`, `out` has that dtype and shares no memory with them.
        """
        xp = engine.xp
        if self.is_zero:
            if out is None:
                return xp.zeros(self.shape, operands[0].dtype)
            out[...] = 0
            return out
        tensors: list[Any] = [
            a if prepare is None else prepare(xp, a)
            for a, prepare in zip(operands, self._preparations, strict=True)
        ]
        result = tensors[-1]
        for step in self.steps:
            target = self._target(out) if write_early and step is self.steps[-1] else None
            a, b, product = tensors[step.left], tensors[step.right], step.product
            tensors[step.left] = tensors[step.right] = None  # let go what is not needed any more
            if product.kind == "einsum":
                result = xp.einsum(product.subscripts, a, b)
            else:
                if product.swapped:
                    a, b = b, a
                a, b = _view(xp, a, product.left), _view(xp, b, product.right)
                if product.kind == "gemm":
                    result = engine.gemm(a, b, out=target, compute=compute)
                else:
                    result = xp.multiply(a, b, out=target)
            if result.shape != step.shape:
                result = result.reshape(step.shape)
            tensors.append(result)
            if target is not None:
                return out
        if self._axes is not None:
            result = result.transpose(self._axes)
        if result.shape != self.shape:
            result = result.reshape(self.shape)
        if out is None:
            return result
        out[...] = result
        return out

    def _target(self, out: Array) -> Array | None:
        """`out` as the stack that the last step computes, if it is one."""
        product = self.steps[-1].product
        if product.kind == "einsum":
            return None
        if self._axes is not None:
            if out.ndim != len(self._axes):  # dimensions that are 1 stand between
                return None
            out = out.transpose([self._axes.index(axis) for axis in range(out.ndim)])
        return out.reshape(product.shape) if out.flags.c_contiguous else None

    def __str__(self) -> str:
        lines = [f"{self.subscripts!r}, result of shape {self.shape}"]
        if self.is_zero:
            lines.append("a dimension is 0: no products")
        elif not self.steps:
            lines.append("one operand: no products")
        else:
            lines.append(_HEADER)
            lines += [_line(number, step) for number, step in enumerate(self.steps, 1)]
            lines.append(f"{self.flops:,} flops, {self.copied:,} numbers copied")
        return "\n".join(lines)

    __repr__ = __str__


@functools.lru_cache(maxsize=1024)
def plan(
    subscripts: str, layouts: tuple[tuple[Shape, Shape], ...], dtype: str, optimize: Any,
    low: bool,
) -> Plan:  # fmt: skip
    """The plan for operands of these shapes and strides (in bytes).

    `dtype` is the character of theirs; `low`: sums are of a lower precision.
    """
    itemsize = np.dtype(dtype).itemsize
    strides = tuple(tuple(s / itemsize for s in own) for _, own in layouts)
    shapes = tuple(shape for shape, _ in layouts)
    return Plan(subscripts, shapes, strides, optimize, dtype in "FD", low)


def _view(xp: Any, a: Array, view: View) -> Array:
    if view.axes is not None:
        a = a.transpose(view.axes)
    if view.layout == COPY:
        a = xp.ascontiguousarray(a)
    return a if a.shape == view.shape else a.reshape(view.shape)


_HEADER = (
    f"{'':>2}  {'product':<24}{'as':<10}{'m':>7}{'n':>7}{'k':>7}{'batch':>9}  {'left':<12}right"
)


def _line(number: int, step: Step) -> str:
    p = step.product
    left, right = p.layouts
    return (
        f"{number:>2}  {p.subscripts:<24}{p.kind:<10}{p.m:>7}{p.n:>7}{p.k:>7}{p.batch:>9}"
        f"  {left:<12}{right}"
    )
