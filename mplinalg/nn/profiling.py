"""Where the time of a training step goes, layer by layer."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops import ops_for
from ..ops.energy import meter_at
from .autograd import Array, Tensor
from .module import Module, generators
from .recipe import Loss
from .scopes import observed, precision_scope
from .summary import aligned

__all__ = ["Cost", "Profile", "profiled"]

_METERED = 0.2
"""Seconds for which energy is counted: its counters are updated every tens of milliseconds."""


@dataclass(frozen=True)
class Cost:
    """What a layer takes, for one batch.

    Attributes
    ----------
    name : str
    forward_seconds, backward_seconds : float
        Medians.
    forward_flops, backward_flops : int or None
        By definition, whatever the algorithm takes; None where the layer does not tell.
    forward_bytes, backward_bytes : int
        Operands read and results written, each once.
    joules : float or None
        Of both; None where the machine does not tell.
    """

    name: str
    forward_seconds: float
    backward_seconds: float
    forward_flops: int | None
    backward_flops: int | None
    forward_bytes: int
    backward_bytes: int
    joules: float | None

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.forward_seconds + self.backward_seconds

    @property
    def flops(self) -> int | None:
        """Of both."""
        return _sum([self.forward_flops, self.backward_flops])

    @property
    def bytes(self) -> int:
        """Of both."""
        return self.forward_bytes + self.backward_bytes

    @property
    def rate(self) -> float | None:
        """Flops a second."""
        return self.flops / self.seconds if self.flops is not None and self.seconds else None


@dataclass(frozen=True)
class Profile:
    """What a training step takes, without the update of the parameters; prints as a table.

    Attributes
    ----------
    layers : tuple of Cost
        In the order of their calls, each layer by itself; the loss comes last, if it was asked for.
    whole : Cost
        The network, and the loss, in one go: without the observer, and with layers that are one
        operation together. Flops and bytes are those of `total`.
    batch : int
        Samples.
    precision : str
        Of products.
    """

    layers: tuple[Cost, ...]
    whole: Cost
    batch: int
    precision: str

    @property
    def total(self) -> Cost:
        """The sum of the layers; those of unknown flops count as 0, joules are of all or None."""
        return _total("all", self.layers)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("layer", "forward ms", "backward ms", "Mflop", "MB", "Gflop/s", "J")
        ]
        for cost in (*self.layers, self.total, self.whole):
            times = (f"{1e3 * s:.3f}" for s in (cost.forward_seconds, cost.backward_seconds))
            scaled = (
                _text(cost.flops, 1e-6), _text(cost.bytes, 1e-6), _text(cost.rate, 1e-9),
                _text(cost.joules, 1.0),
            )  # fmt: skip
            rows.append((cost.name, *times, *scaled))
        return f"{self.batch} samples, products in {self.precision}\n{aligned(rows)}"


def profiled(
    net: Module, x: Array, y: Array | None, loss: Loss | None, precision: str | None, repeats: int
) -> Profile:
    """Measure the layers of `net` in training; see `Model.profile`."""
    if not len(x):
        raise ValueError(f"no samples to profile: x has shape {x.shape}")
    measured = _Measured(x, repeats)
    layers = []
    with _unchanged(net), np.errstate(all="ignore"), precision_scope(precision):
        net.train()
        names = {id(module): name for name, module in net.named_modules()}
        calls, prediction = _calls(net, x)
        for module, given, needs in calls:
            forward = functools.partial(_forward, module, given, needs)
            name = f"{names.get(id(module), '')} {module!r}".strip()
            flops = module.flops(given.shape)
            layers.append(measured(name, forward, given, needs, module.parameters(), flops))
        if loss is not None:
            judge = functools.partial(_judge, loss, prediction, y)
            layers.append(measured("loss", judge, prediction, True, [], None))

        def step() -> Tensor:
            found = net(x)
            return found if loss is None else loss(found, y)

        whole = measured("in one go", step, x, False, net.parameters(), None)
    total = _total("", layers)
    whole = dataclasses.replace(
        whole,
        forward_flops=total.forward_flops,
        backward_flops=total.backward_flops,
        forward_bytes=total.forward_bytes,
        backward_bytes=total.backward_bytes,
    )
    return Profile(tuple(layers), whole, len(x), precision or str(x.dtype))


@contextlib.contextmanager
def _unchanged(net: Module) -> Iterator[None]:
    """Afterwards parameters, buffers, gradients, modes and random numbers are as they were."""
    values = net.state_dict()
    grads = [(p, p.grad) for p in net.parameters()]
    modes = [(module, module.training) for _, module in net.named_modules()]
    drawn = [(rng.bit_generator, rng.bit_generator.state) for rng in generators(net).values()]
    try:
        yield
    finally:
        for module, mode in modes:
            if module.training is not mode:
                module.training = mode
        net.load_state_dict(values)
        for parameter, grad in grads:
            parameter.grad = grad
        for generator, state in drawn:
            generator.state = state


def _calls(net: Module, x: Array) -> tuple[list[tuple[Module, Array, bool]], Array]:
    """Layers without layers inside, as they are called, with their inputs; and the result.

    With an input comes whether it needs a gradient.
    """
    calls = []

    def note(module: Module, x: Tensor) -> Tensor:
        if not any(True for _ in module.children()):
            calls.append((module, x.data, x.requires_grad))
        return module.forward(x)

    with observed(note):
        prediction = net(x)
    return calls, prediction.data


def _forward(module: Module, x: Array, needs: bool) -> Tensor:
    return module.forward(Tensor(x, needs))


def _judge(loss: Loss, prediction: Array, y: Array) -> Tensor:
    return loss(Tensor(prediction, True), y)


class _Measured:
    """Costs of what is computed where `x` is."""

    def __init__(self, x: Array, repeats: int) -> None:
        self._ops, self._repeats = ops_for(x), repeats
        self._meter: Any = meter_at(x)

    def __call__(
        self, name: str, forward: Callable[[], Tensor], x: Array, needs: bool,
        parameters: list[Any], flops: int | None,
    ) -> Cost:  # fmt: skip
        """Of `forward` from x, and of the backward of its result; x may need a gradient."""
        y = forward().data
        work = functools.partial(self._timed, forward, parameters)
        work()  # whatever is compiled or allocated the first time
        seconds = [work() for _ in range(self._repeats)]
        trained = sum(p.data.nbytes for p in parameters)
        # for the input and for the parameters as many flops as forwards
        gradients = needs + bool(parameters)
        forwards = backwards = 0
        if _owner(x) is not _owner(y):  # else it is a view
            forwards = x.nbytes + trained + y.nbytes
            backwards = forwards + needs * x.nbytes + trained if gradients else 0
        return Cost(
            name,
            statistics.median(pair[0] for pair in seconds),
            statistics.median(pair[1] for pair in seconds),
            flops,
            None if flops is None else gradients * flops,
            forwards,
            backwards,
            self._joules(work),
        )

    def _timed(self, forward: Callable[[], Tensor], parameters: list[Any]) -> tuple[float, float]:
        """Seconds forwards and backwards."""
        for parameter in parameters:
            parameter.grad = None
        began = self._clock()
        y = forward()
        forwards = self._clock() - began
        if y.operation is None:
            return forwards, 0.0
        grad = self._ops.xp.ones_like(y.data)
        began = self._clock()
        y.backward(grad)
        return forwards, self._clock() - began

    def _clock(self) -> float:
        """What was asked for before is done."""
        self._ops.synchronize()
        return time.perf_counter()

    def _joules(self, work: Callable[[], Any]) -> float | None:
        """Of one call; None if the counters cannot be read."""
        before = self._meter.read()
        if before is None:
            return None
        calls, began = 0, time.perf_counter()
        while time.perf_counter() - began < _METERED:
            work()
            calls += 1
        used = self._meter.since(before)
        return None if used is None else used / calls


def _owner(a: Array) -> Array:
    """The array whose memory it is."""
    return a if a.base is None else a.base


def _total(name: str, costs: Any) -> Cost:
    joules = [cost.joules for cost in costs]
    return Cost(
        name,
        math.fsum(cost.forward_seconds for cost in costs),
        math.fsum(cost.backward_seconds for cost in costs),
        _sum([cost.forward_flops for cost in costs]),
        _sum([cost.backward_flops for cost in costs]),
        sum(cost.forward_bytes for cost in costs),
        sum(cost.backward_bytes for cost in costs),
        math.fsum(joules) if joules and None not in joules else None,
    )


def _sum(numbers: list[int | None]) -> int | None:
    """Of those that are known."""
    known = [n for n in numbers if n is not None]
    return sum(known) if known else None


def _text(value: float | None, factor: float) -> str:
    return "-" if value is None else f"{value * factor:.3g}"
