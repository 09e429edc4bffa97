"""Where NaN and infinity come from."""

from __future__ import annotations

from typing import Any

import numpy as np

from .autograd import Tensor
from .module import Module
from .scopes import no_grad, observed

__all__ = ["first_not_finite"]


def first_not_finite(module: Module, x: Any) -> str | None:
    """The first layer of `module` whose result holds NaN or infinity, to say in a message.

    Parameters
    ----------
    module : Module
        Run once on `x`, in the mode that it is in; its buffers are afterwards what they were.
    x : array or Tensor

    Returns
    -------
    str or None
        As "layer 2, Linear(528, 10)"; "the input" if `x` is not finite; None if all is finite.
    """
    names = {id(found): name for name, found in module.named_modules()}
    first: list[str] = []

    def look(layer: Module, x: Tensor) -> Tensor:
        y = layer.forward(x)
        if not first and not _is_finite(y):
            name = names.get(id(layer), "")
            first.append(f"layer {name}, {layer!r}" if name else repr(layer))
        return y

    if not isinstance(x, Tensor):
        x = Tensor(x)
    if not _is_finite(x):
        return "the input"
    before = [(*place, getattr(*place).copy()) for _, place in module.named_buffers()]
    try:
        with no_grad(), observed(look), np.errstate(all="ignore"):
            module(x)
    finally:
        for holder, attribute, value in before:
            setattr(holder, attribute, value)
    return first[0] if first else None


def _is_finite(x: Tensor) -> bool:
    return bool(x.xp.isfinite(x.data).all())
