"""What holds inside a `with` statement, for the thread that entered it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ..precision import get_format

Observer = Callable[[Any, Any], Any]

__all__ = ["current_precision", "no_grad", "observed", "precision_scope", "require_graph", "state"]


class _State(threading.local):
    records = True
    in_use = False  # layers are used, whatever `Module.training` was set to
    precision: str | None = None
    observer: Observer | None = None


state = _State()


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """What is computed in this context keeps no graph.

    Yields
    ------
    None

    Examples
    --------
    >>> from mplinalg.nn import Tensor, no_grad
    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (2 * x).requires_grad
    False
    """
    before, state.records = state.records, False
    try:
        yield
    finally:
        state.records = before


def require_graph() -> None:
    """Refuse to go on within `no_grad`.

    Raises
    ------
    RuntimeError
    """
    if not state.records:
        raise RuntimeError("within no_grad there are no gradients to train with")


@contextlib.contextmanager
def precision_scope(precision: str | None) -> Iterator[None]:
    """Compute products in this context, and those of their gradients, in `precision`.

    Parameters
    ----------
    precision : str or None
        As `mplinalg.nn.products.product`; "fp16" and "bf16" are those for training. Sums,
        reductions and losses stay in the dtype of their arrays.

    Yields
    ------
    None

    Raises
    ------
    ValueError
        An unknown format; the message lists them.

    Examples
    --------
    >>> from mplinalg.nn import Tensor, precision_scope
    >>> x = Tensor([[1.0 + 2.0**-12]])
    >>> with precision_scope("fp16"):
    ...     (x @ x).item()
    1.0
    """
    if precision is not None:
        get_format(precision)
    before, state.precision = state.precision, precision
    try:
        yield
    finally:
        state.precision = before


def current_precision() -> str | None:
    """The precision of products here: that of the innermost `precision_scope`."""
    return state.precision


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Hand modules that are called in this context to `observer`, with their input.

    Sequences of layers then compute one layer at a time, those that would have been fused too.

    Parameters
    ----------
    observer : callable
        ``observer(module, x)`` returns what the module is to return: ``module.forward(x)``, as a
        rule.

    Yields
    ------
    None

    Examples
    --------
    >>> from mplinalg import nn
    >>> def told(module, x):
    ...     print(module)
    ...     return module.forward(x)
    >>> with nn.observed(told):
    ...     y = nn.Sequential(nn.ReLU(), nn.Tanh())([1.0])
    Sequential(ReLU(), Tanh())
    ReLU()
    Tanh()
    """
    before, state.observer = state.observer, observer
    try:
        yield
    finally:
        state.observer = before
