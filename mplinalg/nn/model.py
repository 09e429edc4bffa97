"""Model: a network with an optimiser and a loss, trained, judged, used and kept."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any, Self

from . import checkpoint, keeping
from .autograd import Array
from .checks import count, number
from .graphs import Graphs
from .history import Evaluation, History
from .module import Module
from .optim import Optimizer
from .parallel import Alone, ranks_of
from .profiling import Profile, profiled
from .progress import progress_bar
from .recipe import Loss, Recipe, recipe_for
from .samples import as_inputs, pair, tried_loader
from .scaling import LossScaler
from .schedules import Schedule
from .scopes import require_graph
from .stopping import Best
from .summary import layer_table
from .usage import judged, predicted

__all__ = ["Model"]


class Model:
    """A network that is trained by `fit`.

    Parameters
    ----------
    net : Module

    Attributes
    ----------
    net : Module
    optimizer : Optimizer
    scaler : LossScaler or None
        Of the loss, for fp16.
    history : History
        Of all epochs so far, those before a `load` too.
    epoch : int
        Epochs that are done.
    capture_note : str
        Why the steps of the last epoch were no CUDA graph; "" if they were.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import nn
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> net = nn.Sequential(nn.Linear(1, 1))
    >>> model = nn.Model(net).compile(nn.optim.SGD(net.parameters(), lr=0.5), "mse")
    >>> history = model.fit(x, 3 * x + 1, epochs=20, batch_size=16)
    >>> bool(history["loss"][-1] < 1e-6)
    True
    """

    def __init__(self, net: Module) -> None:
        if not isinstance(net, Module):
            raise TypeError(f"net must be a Module, got {type(net).__name__}")
        self.net = net
        self.history = History()
        self.epoch = 0
        self._since = 0  # epochs that were done at `compile`
        self._compiled: Recipe | None = None
        self._seed = 0
        self._best: Best | None = None
        self._graphs = Graphs()

    @property
    def optimizer(self) -> Optimizer:
        """Set by `compile`."""
        return self._recipe.optimizer

    @property
    def scaler(self) -> LossScaler | None:
        """Set by `compile`."""
        return None if self._compiled is None else self._compiled.scaler

    @property
    def capture_note(self) -> str:
        """Set by `fit`."""
        return self._graphs.note

    @property
    def _recipe(self) -> Recipe:
        if self._compiled is None:
            raise RuntimeError("the model has no optimiser: call compile first")
        return self._compiled

    @property
    def _precision(self) -> str | None:
        return None if self._compiled is None else self._compiled.precision

    def compile(
        self, optimizer: Optimizer, loss: str | Loss, *, precision: str = "fp32",
        schedule: Schedule | None = None, scaler: LossScaler | None = None,
        capture: bool | str = "auto",
    ) -> Self:  # fmt: skip
        """Say how it is trained.

        Parameters
        ----------
        optimizer : Optimizer
            Of the parameters of `net`.
        loss : {"cross_entropy", "mse"} or callable
            ``loss(prediction, y)`` of a tensor and an array gives a tensor of shape (), the mean
            of a batch. "cross_entropy": y are labels.
        precision : {"fp32", "fp64", "fp16-mixed", "bf16-mixed"}
            Mixed: products of operands rounded to 16 bits, summed in single precision; parameters,
            losses and reductions in single precision; in fp16 the loss is scaled.
        schedule : Schedule, optional
            Applied by the epoch; the first one after `compile` is its epoch 0.
        scaler : LossScaler, optional
            For "fp16-mixed"; by default one with its defaults.
        capture : {"auto", True, False}
            On a device, a step is captured as a CUDA graph, which is launched for each full batch:
            where that can be and all layers are this library's; or else ValueError by `fit`; never.

        Returns
        -------
        Model
            Itself.

        Raises
        ------
        ValueError, TypeError
            Options that make no sense, an optimiser of other parameters, or parameters of another
            dtype than `precision` says.
        """
        self._compiled = recipe_for(self.net, optimizer, loss, precision, schedule, scaler, capture)
        self._since, self._best, self._graphs = self.epoch, None, Graphs()
        return self

    # -- training --------------------------------------------------------------------------------

    def fit(
        self, x: Array, y: Array, epochs: int = 1, batch_size: int | None = None, *,
        validation_data: tuple[Array, Array] | None = None, shuffle: bool = True,
        drop_last: bool = False, seed: int | None = None, max_norm: float | None = None,
        max_value: float | None = None, patience: int | None = None,
        save_to: str | os.PathLike[str] | None = None, progress: bool = False, comm: Any = None,
    ) -> History:  # fmt: skip
        """Train for some more epochs.

        Parameters
        ----------
        x : array_like, shape (n, ...)
            NumPy, or CuPy where the network is; converted to the dtype of the parameters.
        y : array_like, shape (n, ...)
            Converted likewise; labels, and for a loss that was given all whole numbers, stay.
        epochs : int
        batch_size : int, optional
            By default 32, or all of fewer samples. The last batch of an epoch may be smaller.
        validation_data : (x, y), optional
            Judged after each epoch.
        shuffle : bool
        drop_last : bool
            Leave out the last batch of an epoch if it is smaller.
        seed : int, optional
            It and the number of the epoch decide the order of the samples. By default that of the
            last call, at first 0.
        max_norm, max_value : float, optional
            Gradients are clipped: `clip_norm` of all together, `clip_value` of each entry.
        patience : int, optional
            Stop after so many epochs in which the validation loss (without validation data, the
            loss) was not below the least so far, and take the parameters of that epoch again; also
            when all epochs are done.
        save_to : path-like, optional
            A checkpoint to go on from, written after each epoch.
        progress : bool
            Show a bar on stderr, by tqdm.
        comm : communicator, optional
            This process is one of several that train together, each with the whole data set and
            the same options: a communicator of mpi4py or, for CuPy arrays, a
            ``cupyx.distributed.NCCLBackend``. See `mplinalg.nn.parallel`. Rank 0 alone shows a bar
            and writes `save_to`.

        Returns
        -------
        History
            Of all epochs so far.

        Raises
        ------
        LinAlgError
            A loss is not finite; the message names the step, and the first layer whose result is
            not. On the host the network is as it was before this step. Or, after the last step of
            an epoch, a parameter is not finite.
        ValueError, TypeError
            Data that do not fit; labels out of range; a batch larger than the data; a file that
            cannot be written; a network that was changed after `compile`. Nothing is changed then.
        RuntimeError
            There was no `compile`, or this is within `no_grad`. Or another rank failed; the message
            says which, and why. What is wrong on all ranks alike is raised as it is.

        Notes
        -----
        Whatever interrupts it, Ctrl-C too, the model can be used and trained on: with the
        parameters of the last step, and in the history the epochs that were completed. To have the
        same bits as if it had not been interrupted, `load` the checkpoint and call `fit` with the
        same data and options for the epochs that are missing.

        On a device, losses are looked at every 50 steps, and what is said of the layers when one is
        not finite is of then; of captured steps, at the end of an epoch, and there as on the host.
        """
        ranks = ranks_of(comm, self.net)
        with ranks.together():
            recipe = self._recipe
            recipe.check(self.net)
            require_graph()
            ranks.begin(self.net, self.save, self.load)
            epochs = count("epochs", epochs, 0)
            patience = None if patience is None else count("patience", patience)
            for name, limit in (("max_norm", max_norm), ("max_value", max_value)):
                if limit is not None:
                    number(name, limit, open_ends="(")
            seed = self._seed if seed is None else count("seed", seed, 0)
            loader = tried_loader(
                self.net, recipe, x, y, batch_size, shuffle=shuffle, drop_last=drop_last,
                ranks=ranks.size,
            )  # fmt: skip
            held_out = None if validation_data is None else tried_loader(
                self.net, recipe, *pair(validation_data), batch_size, whole=True
            )  # fmt: skip
            if save_to is not None and ranks.is_first:
                checkpoint.check_path(save_to)
            ranks.check_alike({
                "x": loader.x, "y": loader.y, "epochs": epochs, "batch_size": batch_size,
                "validation_data": held_out and (held_out.x, held_out.y), "shuffle": shuffle,
                "drop_last": drop_last, "seed": seed, "max_norm": max_norm, "patience": patience,
                "max_value": max_value, **recipe.described(self.epoch - self._since),
            })  # fmt: skip
            self._seed = seed
            self._best = None if patience is None else self._best or Best()
            try:
                with progress_bar(epochs * len(loader), progress and ranks.is_first) as advance:
                    for _ in range(epochs):
                        if self._best is not None and self._best.is_over(patience):
                            break
                        recipe.begin(loader, seed, self.epoch, self._since)
                        row = self._graphs.epoch(
                            self.net, recipe, loader, self.epoch, max_norm, max_value, ranks,
                            advance,
                        )  # fmt: skip
                        if held_out is not None:
                            found = judged(self.net, recipe, held_out, ranks)
                            row |= {f"val_{name}": value for name, value in found.named()}
                        self._close_epoch(ranks.same(row))
                        if save_to is not None and ranks.is_first:
                            self.save(save_to)
                if self._best is not None:
                    self._best.restore(self.net)
            finally:  # what was interrupted goes on from its checkpoint, with its best epoch
                self._best = None
        return self.history

    def _close_epoch(self, row: dict[str, float]) -> None:
        """Take note of an epoch."""
        self.epoch += 1
        self.history.append(row)
        loss = row.get("val_loss", row["loss"])
        self._recipe.schedule.observe(loss)
        if self._best is not None:
            self._best.observe(loss, self.net)

    # -- use -------------------------------------------------------------------------------------

    def predict(self, x: Array, batch_size: int = 256) -> Array:
        """What the network gives, in batches.

        Parameters
        ----------
        x : array_like, shape (n, ...)
        batch_size : int

        Returns
        -------
        array, shape (n, ...)

        Raises
        ------
        ValueError, TypeError
            Data that do not fit.
        """
        size = count("batch_size", batch_size)
        return predicted(self.net, as_inputs(x, self.net), size, self._precision)

    def evaluate(self, x: Array, y: Array, batch_size: int = 256) -> Evaluation:
        """Loss, and the share of labels that are right.

        Parameters
        ----------
        x, y : array_like
            As for `fit`.
        batch_size : int

        Returns
        -------
        Evaluation

        Raises
        ------
        LinAlgError
            The loss is not finite; the message says of which samples.
        ValueError, TypeError
            No samples; labels out of range; data that do not fit.
        """
        recipe = self._recipe
        loader = tried_loader(self.net, recipe, x, y, batch_size, whole=True)
        return judged(self.net, recipe, loader, Alone())

    def summary(self, shape: int | tuple[int, ...] | None = None) -> str:
        """A table of the layers.

        Parameters
        ----------
        shape : int or tuple of int, optional
            Of one sample; results of layers are then shown, too.
        """
        return layer_table(self.net, (shape,) if isinstance(shape, int | Integral) else shape)

    def profile(
        self, x: Array, y: Array | None = None, batch_size: int = 32, *, repeats: int = 10
    ) -> Profile:
        """Time, flops, bytes and energy of the layers in training.

        Parameters
        ----------
        x : array_like, shape (n, ...)
            The first `batch_size` samples are used, in the precision of `compile`.
        y : array_like, shape (n, ...), optional
            With it, the loss is measured, too.
        batch_size, repeats : int
            Times are medians of so many; joules are a mean over 0.2 s or more.

        Returns
        -------
        Profile
            A table, if printed. Joules are those of Linux' powercap counters, which often only
            root may read, or of the GPU by NVML; None where there are none.

        Raises
        ------
        ValueError, TypeError
            No samples; data that do not fit.

        Notes
        -----
        Nothing is changed: parameters, gradients, random numbers, modes of layers. Layers are
        measured one by one and once more all together, on a device up to the end of the work.
        """
        size, repeats = count("batch_size", batch_size), count("repeats", repeats)
        require_graph()
        if y is None:
            x = as_inputs(x, self.net)[:size]
            return profiled(self.net, x, None, None, self._precision, repeats)
        recipe = self._recipe
        x, y = next(iter(tried_loader(self.net, recipe, x, y, size, whole=True)))
        return profiled(self.net, x, y, recipe.loss, recipe.precision, repeats)

    # -- kept ------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that training goes on from; whatever goes wrong, an older file is kept.

        Raises
        ------
        ValueError, OSError
            It cannot be written there.
        ImportError
            safetensors is not installed.
        """
        standing = keeping.Standing(self.epoch, self._since, self.history, self._seed, self._best)
        keeping.save(path, self.net, self._compiled, standing)

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Go on from what `save` wrote, with the same bits as if it had not been interrupted.

        Of a model that is not compiled, only the network, the history and the epoch.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        Model
            Itself, in the state that was saved; compile it the same way before.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no such file; it is damaged, foreign, of another network, or of training in
            another precision. Nothing is changed then.
        """
        standing = keeping.restored(path, self.net, self._compiled)
        self.epoch, self._since, self.history, self._seed, self._best = standing
        return self
