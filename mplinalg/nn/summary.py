"""The layers of a network, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .autograd import Tensor
from .module import Module
from .scopes import observed
from .usage import in_use

__all__ = ["aligned", "layer_table"]


def layer_table(net: Module, shape: tuple[int, ...] | None) -> str:
    """A line for each layer: what it is, what it gives for one sample, how much it learns."""
    results = {} if shape is None else _results(net, shape)
    rows = [("layer", "result", "parameters")]
    for name, module in net.named_modules():
        if any(True for _ in module.children()):
            continue
        own = sum(p.data.size for p in module.parameters())
        result = "x".join(map(str, results.get(id(module), ()))) or "-"
        rows.append((f"{name} {module!r}".strip(), result, f"{own:,}"))
    rows.append(("all", "", f"{sum(p.data.size for p in net.parameters()):,}"))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns, the first one flush left and the others flush right."""
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = (
        "  ".join(
            [f"{row[0]:<{first}}", *(f"{x:>{w}}" for x, w in zip(row[1:], widths, strict=True))]
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _results(net: Module, shape: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """Shapes of what the modules give for one sample, by their ids."""
    found: dict[int, tuple[int, ...]] = {}

    def note(module: Module, x: Tensor) -> Any:
        y = module.forward(x)
        found[id(module)] = y.shape[1:]
        return y

    parameters = net.parameters()
    dtype = parameters[0].dtype if parameters else np.dtype(np.float32)
    with in_use(), observed(note):
        net(np.zeros((1, *shape), dtype))
    return found
