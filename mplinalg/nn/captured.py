"""Epochs on a device whose steps are one CUDA graph: the host only says that it be launched.

The samples of a step, its forward and backward pass, the verdict on its gradients and the update
read and write memory that stays where it is. Learning rate, loss scale and counts are numbers of
the device, written when an epoch begins and read when it ends. The first step is done as it is,
which loads all kernels, then captured; the last batch of an epoch, if smaller, is done as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import LinAlgError
from ..ops import ops_for
from ..ops.dispatch import step_ops_for
from ..ops.nn_steps import STATE
from .autograd import Array
from .data import DataLoader
from .module import Module
from .optim import Adam, AdamW
from .recipe import Recipe
from .scopes import precision_scope
from .training import bad_loss, check_parameters

__all__ = ["CapturedTraining", "NoGradient", "key_of"]


class NoGradient(Exception):
    """A parameter has none."""


class CapturedTraining:
    """A step as a graph, launched for every full batch.

    Attributes
    ----------
    key : tuple
        What it depends on.
    note : str
        Why the step is no graph, if it was tried and could not be.
    """

    def __init__(
        self, net: Module, recipe: Recipe, loader: DataLoader, max_norm: float | None,
        max_value: float | None,
    ) -> None:  # fmt: skip
        self.net, self.recipe, self.optimizer = net, recipe, recipe.optimizer
        self.ops, self.xp = step_ops_for(loader.x), ops_for(loader.x).xp
        assert self.ops is not None
        self.max_norm, self.max_value = max_norm or 0.0, max_value or 0.0
        self.recording = self.ops.recording()
        self.is_recorded = False
        self.note = ""
        self._remember()
        self.key = key_of(net, recipe, loader, max_norm, max_value)
        # what the graph reads and writes stays as long as it does
        self.kept = _lasting(net, recipe)
        self.x, self.given_y, self.y = loader.x, loader.y, self._fixed(loader.y)
        self.source_x = self.xp.ascontiguousarray(loader.x)
        size = loader.batch_size
        self.batch = self.xp.empty((size, *self.x.shape[1:]), self.x.dtype)
        self.labels = self.xp.empty((size, *self.y.shape[1:]), self.y.dtype)
        self.order = self.xp.empty(len(self.x), np.int64) if loader.shuffle else None
        self.state = self.ops.state([0.0] * len(STATE))
        self.seed = self.xp.ones((), self.optimizer.parameters[0].data.dtype)
        self.is_judged = bool(self.max_norm) or recipe.scaler is not None
        self.is_judged |= isinstance(self.optimizer, Adam)

    def _fixed(self, y: Array) -> Array:
        kind = np.int64 if self.recipe.has_labels else y.dtype
        return self.xp.ascontiguousarray(y.astype(kind, copy=False))

    def _remember(self) -> None:
        """Arrays of zeros, as at the first update."""
        names: tuple[str, ...] = ()
        if isinstance(self.optimizer, Adam):
            names = "means", "squares"
        elif getattr(self.optimizer, "momentum", 0.0):
            names = ("velocity",)
        for p, arrays in zip(self.optimizer.parameters, self.optimizer.memory()[0], strict=True):
            for name in names:
                if name not in arrays:
                    arrays[name] = self.xp.zeros(p.data.shape, p.data.dtype)

    # -- a step ---------------------------------------------------------------------------------

    def _step(self, x: Array, y: Array) -> None:
        """All of it, of a batch; nothing of it comes to the host."""
        recipe, optimizer, scaler = self.recipe, self.optimizer, self.recipe.scaler
        assert self.ops is not None
        optimizer.zero_grad()
        with precision_scope(recipe.precision):
            prediction = self.net(x)
            loss = recipe.loss(prediction, y)
            loss.backward(self.seed)
        labels = y if recipe.has_labels else None
        gradients = [p.grad for p in optimizer.parameters]
        if any(g is None for g in gradients):
            raise NoGradient("a parameter has no gradient")
        given = loss.data.astype(prediction.dtype, copy=False)
        self.ops.account(prediction.data, labels, given, self.state)
        gradients = [self.xp.ascontiguousarray(g) for g in gradients]
        betas = optimizer.betas if isinstance(optimizer, Adam) else (0.0, 0.0)
        if self.is_judged:
            rules = (1.0, 1.0, 0.0)
            if scaler is not None:
                rules = scaler.growth, scaler.backoff, float(scaler.interval)
            self.ops.verdict(
                gradients, self.state, self.seed, is_scaled=scaler is not None, rules=rules,
                max_norm=self.max_norm, betas=betas,
            )  # fmt: skip
        remembered = optimizer.memory()[0]
        tensors = [gradients, [p.data for p in optimizer.parameters]]
        tensors += [[arrays[name] for arrays in remembered] for name in remembered[0]]
        options = optimizer.options()
        decay = options["weight_decay"]
        if isinstance(optimizer, Adam):
            pair = (0.0, decay) if isinstance(optimizer, AdamW) else (decay, 0.0)
            numbers = [*pair, optimizer.eps, *betas, self.max_value]
            self.ops.update("adam", tensors, self.state, numbers)
        else:
            numbers = [decay, options.get("momentum", 0.0), int(options.get("nesterov", False))]
            self.ops.update("descend", tensors, self.state, [*numbers, self.max_value])

    def _next(self) -> None:
        """The step of the next full batch."""
        assert self.ops is not None
        self.ops.take_rows(self.source_x, self.order, self.state, self.batch)
        self.ops.take_rows(self.y, self.order, self.state, self.labels)
        self._step(self.batch, self.labels)

    # -- an epoch -------------------------------------------------------------------------------

    def epoch(
        self, loader: DataLoader, epoch: int, advance: Callable[[int], Any]
    ) -> dict[str, Any]:
        """Train once with every batch of the loader; the row of the history.

        What interrupts it leaves the state of the steps that were done.

        Raises
        ------
        LinAlgError
            As of `train_epoch`; parameters are as they were when it happened.
        """
        recipe, before = self.recipe, loader.rng.bit_generator.state
        count = self.optimizer.memory()[1][0]
        self.net.train()
        with self.recording.inside():
            self._begin(loader)
            try:
                samples = self._batches(loader, advance)
            finally:
                self.optimizer.zero_grad()
                found = dict(zip(STATE, self.state.tolist(), strict=True))
                self._finish(found)
        if found["first_bad"] or found["stopped"]:
            raise self._fault(found, loader, before, epoch, count)
        check_parameters(self.net, epoch)
        row = {"loss": found["loss"] / samples, "captured": self.is_recorded}
        if recipe.has_labels:
            row["accuracy"] = int(found["right"]) / samples
        if recipe.scaler is not None:
            row |= {"skipped": int(found["skipped"]), "scale": recipe.scaler.scale}
        return row

    def _batches(self, loader: DataLoader, advance: Callable[[int], Any]) -> int:
        """All steps; how many samples they had."""
        n, size = len(self.x), len(self.batch)
        for _ in range(n // size):
            self._full_step()
            advance(1)
        rest = 0 if loader.drop_last else n % size
        if rest:
            chosen: Any = slice(n - rest, n)
            if self.order is None:
                self._step(self.x[chosen], self.y[chosen])
            else:
                chosen = self.order[chosen]
                self._step(self.x.take(chosen, axis=0), self.y.take(chosen, axis=0))
            advance(1)
        return n - n % size + rest

    def _begin(self, loader: DataLoader) -> None:
        """What the host has to say of an epoch; the order is drawn as by the loader."""
        scaler = self.recipe.scaler
        scale = 1.0 if scaler is None else scaler.scale
        known = {
            "lr": self.optimizer.lr, "scale": scale, "factor": 1.0, "goes": 1.0,
            "clean": 0.0 if scaler is None else scaler.clean,
            "count": self.optimizer.memory()[1][0],
        }  # fmt: skip
        assert self.ops is not None
        self.state[...] = self.ops.state([known.get(name, 0.0) for name in STATE])
        self.seed.fill(scale)
        for given, own in ((self.x, self.source_x), (self.given_y, self.y)):
            if own is not given:  # it may have been written since
                own[...] = given
        if self.order is not None:
            self.order[...] = self.xp.asarray(loader.rng.permutation(len(self.x)))

    def _full_step(self) -> None:
        if self.is_recorded:
            self.recording.launch()
            return
        self._next()
        if self.note:
            return
        try:
            self.recording.record(self._next)
        except (RuntimeError, MemoryError) as error:  # those of CUDA, and NotImplementedError
            if self.recipe.capture is True:
                raise
            self.note = f"the step could not be captured: {type(error).__name__}: {error}"
        else:
            self.is_recorded = True

    def _finish(self, found: dict[str, float]) -> None:
        """What the device has found out, where the host has it."""
        scaler, steps = self.recipe.scaler, self.optimizer.memory()[1]
        done = found["count"]
        if not self.is_judged:
            done = steps[0] + (found["first_bad"] - 1 if found["first_bad"] else found["steps"])
        steps[:] = [int(done)] * len(steps)
        for p in self.optimizer.parameters:
            p.version += 1
        if scaler is not None:
            scaler.scale, scaler.clean = found["scale"], int(found["clean"])
            scaler.skipped += int(found["skipped"])

    def _fault(
        self, found: dict[str, float], loader: DataLoader, before: Any, epoch: int, count: int
    ) -> LinAlgError:
        """The error of the first step that went wrong; `count` updates were done before."""
        recipe = self.recipe
        if not found["first_bad"]:
            if recipe.scaler is not None:
                return LinAlgError(
                    f"gradients are not finite at a loss scale of {found['scale']:.3g} either, "
                    f"after {recipe.scaler.skipped} steps left out: the loss or the parameters "
                    "have diverged"
                )
            step = int(found["count"]) - count + 1
            what = "gradients cannot be clipped to a norm: one" if self.max_norm else "a gradient"
            return LinAlgError(f"{what} is not finite in step {step} of epoch {epoch + 1}")
        step = int(found["first_bad"]) - 1
        now, loader.rng.bit_generator.state = loader.rng.bit_generator.state, before
        x, y = next(itertools.islice(iter(loader), step, None))
        loader.rng.bit_generator.state = now
        with precision_scope(recipe.precision):
            value = float(recipe.loss(self.net(x), y).data)
            return bad_loss(self.net, value, step, epoch, x, y)


def key_of(
    net: Module, recipe: Recipe, loader: DataLoader, max_norm: float | None,
    max_value: float | None,
) -> tuple[Any, ...]:  # fmt: skip
    """What a graph depends on: numbers and words by value, arrays and objects by identity."""
    optimizer, scaler = recipe.optimizer, recipe.scaler
    rules = None if scaler is None else (scaler.growth, scaler.backoff, scaler.interval)
    return (
        loader.batch_size, loader.shuffle, max_norm, max_value, rules,
        *optimizer.options().items(),
        *(_settings(module) for _, module in net.named_modules()),
        *map(id, (recipe, loader.x, loader.y, *_lasting(net, recipe))),
    )  # fmt: skip


def _settings(module: Module) -> tuple[Any, ...]:
    """What a layer has of numbers and words, alone and in tuples."""
    plain = (int, float, str, type(None))
    return tuple(
        (name, value)
        for name, value in vars(module).items()
        if name != "training"
        and all(isinstance(part, plain) for part in (value if type(value) is tuple else (value,)))
    )


def _lasting(net: Module, recipe: Recipe) -> list[Any]:
    """Arrays and layers that steps work with."""
    optimizer = recipe.optimizer
    arrays = [p.data for p in optimizer.parameters]
    arrays += [a for named in optimizer.memory()[0] for a in named.values()]
    return [*arrays, *(module for _, module in net.named_modules())]
