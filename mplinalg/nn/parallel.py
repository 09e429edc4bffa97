"""Training on several ranks together: shares of batches, averaged gradients, one error for all.

Every rank calls `Model.fit` with its own model, the whole data set and the same options. Weights,
the state of the optimiser and whatever else a checkpoint holds are taken from rank 0 when it
begins, as a checkpoint, so that only rank 0 needs to have loaded a file. Each batch is cut into
shares; a rank differentiates the loss of its share, a mean over n_r samples, and the gradient of
the batch is

    g = sum_r (n_r / n) g_r,    n = sum_r n_r,

also where the n_r differ or are 0. Loss scaling, clipping and the step follow on every rank, from
the same bits to the same bits; what is judged and recorded is summed over the ranks or taken from
rank 0. So n ranks have the weights of one rank to rounding; that of fp16 or bf16 with products in
these, since gradients are divided by n_r before they are rounded. Two layers differ:

- BatchNorm2d normalises with the mean and variance of the share, not of the batch. Its running
  statistics are averaged over the ranks, weighted by samples, when an epoch ends. (A variance with
  n_r - 1 has the expectation of the variance with n - 1, so theirs are estimates of the same.)
- Dropout draws other numbers on every rank. They follow from its generator when the epoch begins,
  and from the rank: a run that is resumed on as many ranks draws them again.

Ranks that fail tell the others. Whatever ranks have to say is one kind of array,

    [ body | c_1 ... c_p | row of rank 0 | row of rank 1 | ... ],

of one length and dtype, summed over the ranks in place: the body holds gradients, c_k counts the
ranks that have one of parameter k, and a rank fills only its own row, which begins with whether it
failed. A rank in which something is raised sends that in answer to whatever the others wait for;
then it is raised on all of them. The launcher has to end the job if a rank is killed, as mpiexec
does, or ends outside of `fit`: ``mpiexec -n 2 python -m mpi4py script.py``.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LinAlgError
from ..ops import is_on_host
from .communicators import Link, linked
from .module import Module, Parameter

Array = Any

__all__ = ["Alone", "Ranks", "ranks_of"]

_SLOTS = 16
"""Numbers in the row of a rank."""
_ROW = 1 + 4 * _SLOTS
"""Its entries: whether it failed, and a quarter of a float64 each, exact in any dtype."""
_BODY = 2048
"""Entries of a body at least."""
_TEXT = 1000
"""Bytes of the message of an error."""


class Alone:
    """One rank by itself: it agrees with all."""

    rank, size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this rank shows progress and writes files."""
        return self.rank == 0

    def together(self) -> contextlib.AbstractContextManager[None]:
        """What is raised in this context on one rank is raised on all."""
        return contextlib.nullcontext()

    def begin(self, net: Module, save: Callable[[str], Any], load: Callable[[str], Any]) -> None:
        """Have the state of rank 0 everywhere: ``save(path)`` there, ``load(path)`` elsewhere.

        Each rank has a temporary file of its own.
        """

    def check_alike(self, settings: Mapping[str, Any]) -> None:
        """Refuse to go on if something differs between ranks: arrays by a sample, others by repr.

        Raises
        ------
        ValueError
            On all ranks; it names what differs.
        """

    def drawing(self, generators: Iterable[Any]) -> contextlib.AbstractContextManager[None]:
        """The generators draw other numbers on every rank in this context.

        Afterwards they are in one state on all, whatever was drawn.
        """
        return contextlib.nullcontext()

    def share(self, *batch: Array) -> tuple[Array, ...]:
        """What of the arrays of a batch is this rank's, by the first axis; shares follow each
        other and differ by one sample at most. May be none."""
        return batch

    def average(self, weight: float) -> None:
        """Gradients of all ranks, times their weights, are summed up in ``grad`` on all.

        None counts as 0, and stays if no rank has that gradient.
        """

    def total(self, *values: float) -> Sequence[float]:
        """Sums over the ranks, in double precision."""
        return values

    def unite(self, net: Module, weight: float) -> None:
        """Buffers become what all ranks have: the weighted mean, of integers those of rank 0."""

    def same(self, row: dict[str, Any]) -> dict[str, Any]:
        """The numbers of rank 0."""
        return row


class Ranks(Alone):
    """One rank of several.

    Parameters
    ----------
    link : Link
    """

    def __init__(self, link: Link) -> None:
        self.rank, self.size = link.rank, link.size
        self._link, self._xp = link, link.xp
        self._is_over = False
        self._parameters: list[Parameter] = []
        self._views: list[Array] = []
        self._body = 0
        self._message = self._xp.zeros(self.size * _ROW, np.float64)

    # -- what is sent ----------------------------------------------------------------------------

    def _exchange(
        self, values: Sequence[float] = (), *, counts: Any = 0, error: BaseException | None = None
    ) -> tuple[Array, Array]:
        """Sum the messages of all ranks. The counts, and the values of each rank, (size, _SLOTS).

        Raises
        ------
        LinAlgError, RuntimeError
            A rank has failed.
        """
        own = np.zeros(_SLOTS)
        own[: len(values)] = values
        tail = np.zeros(len(self._parameters) + self.size * _ROW, self._message.dtype)
        tail[: len(self._parameters)] = counts
        row = tail[len(self._parameters) :].reshape(self.size, _ROW)[self.rank]
        row[0] = 0 if error is None else 2 if isinstance(error, LinAlgError) else 1
        row[1:] = own.view(np.uint16)
        self._message[self._body :] = self._xp.asarray(tail)
        self._is_over = True  # if this goes wrong, nothing can be said any more
        self._link.sum(self._message)
        tail = _on_host(self._message[self._body :])
        rows = tail[len(self._parameters) :].reshape(self.size, _ROW)
        if rows[:, 0].any():
            self._fail(rows[:, 0], error)
        self._is_over = False
        return tail[: len(self._parameters)], rows[:, 1:].astype(np.uint16).view(np.float64)

    def _fail(self, kinds: Array, error: BaseException | None) -> None:
        """Raise what ranks have raised, on all of them."""
        texts = np.zeros((self.size, _TEXT), np.uint8)
        if error is not None:
            text = str(error) if isinstance(error, LinAlgError) else _described(error)
            data = text.encode(errors="replace")[:_TEXT]
            texts[self.rank, : len(data)] = np.frombuffer(data, np.uint8)
        sent = self._xp.asarray(texts)
        self._link.sum(sent)
        said = [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in _on_host(sent)]
        if error is not None:
            # the same mistake on all ranks is that of the caller
            is_common = kinds.all() and len(set(said)) == 1
            if is_common or not isinstance(error, Exception):
                raise error
        listed = [f"rank {r} of {self.size}: {said[r]}" for r in np.flatnonzero(kinds)]
        kind = LinAlgError if (kinds == 2).any() else RuntimeError
        raise kind("; ".join(listed)) from error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
            self._exchange()  # others may have failed after all
        except BaseException as error:
            if not self._is_over:
                self._exchange(error=error)
            raise

    def _from_first(self, data: bytes) -> bytes:
        """What rank 0 gives, on all; two bytes to an entry of the body."""
        length = int(self._exchange([len(data)])[1][0, 0])
        step = 2 * self._body
        data = data.ljust(-(-length // step) * step, b"\0")
        found = []
        for start in range(0, length, step):
            if self.rank == 0:
                part = np.frombuffer(data, np.uint16, self._body, start)
                self._message[: self._body] = self._xp.asarray(part)
            else:
                self._message[: self._body] = 0
            self._exchange()
            found.append(_on_host(self._message[: self._body]).astype(np.uint16).tobytes())
        return b"".join(found)[:length]

    # -- the beginning ---------------------------------------------------------------------------

    def begin(self, net: Module, save: Callable[[str], Any], load: Callable[[str], Any]) -> None:
        named, buffers = list(net.named_parameters()), _buffers(net)
        self.check_alike({
            "parameters": [(name, p.shape, p.dtype.str, p.requires_grad) for name, p in named],
            "buffers": [(name, a.shape, a.dtype.str) for name, a in buffers.items()],
        })  # fmt: skip
        parameters = [parameter for _, parameter in named]
        ends = np.cumsum([0, *(p.size for p in parameters)])
        body = max(int(ends[-1]), sum(a.size for a in _averaged(buffers).values()), _BODY)
        size = body + len(parameters) + self.size * _ROW
        message = self._xp.zeros(size, parameters[0].dtype)
        self._parameters, self._body, self._message = parameters, body, message
        self._views = [
            message[start : start + p.size].reshape(p.shape)
            for start, p in zip(ends, parameters, strict=False)
        ]
        with tempfile.TemporaryDirectory(prefix="mplinalg-rank-") as folder:
            file = Path(folder) / "state.safetensors"
            if self.is_first:
                save(str(file))
            state = self._from_first(file.read_bytes() if self.is_first else b"")
            if not self.is_first:
                file.write_bytes(state)
                load(str(file))

    def check_alike(self, settings: Mapping[str, Any]) -> None:
        _, found = self._exchange([_fingerprint(value) for value in settings.values()])
        for r in range(1, self.size):
            wrong = [name for k, name in enumerate(settings) if found[r, k] != found[0, k]]
            if wrong:
                raise ValueError(
                    f"rank {r} of {self.size} differs from rank 0 in {', '.join(wrong)}: all "
                    "ranks take the same network, the whole data set and the same options"
                )

    # -- training --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def drawing(self, generators: Iterable[Any]) -> Iterator[None]:
        before = []
        for generator in {id(g): g for g in generators}.values():
            seed = np.random.SeedSequence([self.rank, *generator.integers(2**32, size=8)])
            before.append((generator.bit_generator, generator.bit_generator.state))
            generator.bit_generator.state = type(generator.bit_generator)(seed).state
        try:
            yield
        finally:
            for bits, state in before:
                bits.state = state

    def share(self, *batch: Array) -> tuple[Array, ...]:
        least, more = divmod(len(batch[0]), self.size)
        start = self.rank * least + min(self.rank, more)
        return tuple(a[start : start + least + (self.rank < more)] for a in batch)

    def average(self, weight: float) -> None:
        has = [p.grad is not None for p in self._parameters]
        for p, view in zip(self._parameters, self._views, strict=True):
            if p.grad is None:
                view[...] = 0
            else:
                self._xp.multiply(p.grad, weight, out=view)
        counts, _ = self._exchange(counts=has)
        for p, view, count in zip(self._parameters, self._views, counts, strict=True):
            p.grad = view.copy() if count else None

    def total(self, *values: float) -> Sequence[float]:
        _, found = self._exchange(values)
        return [float(x) for x in found[:, : len(values)].sum(axis=0)]

    def unite(self, net: Module, weight: float) -> None:
        buffers = _buffers(net)
        if not buffers:
            return
        # those of rank 0, plus the mean difference from these: what is equal keeps its bits
        own = [a.copy() for a in _averaged(buffers).values()]
        data = self._from_first(b"".join(_on_host(a).tobytes() for a in buffers.values()))
        start = 0
        for a in buffers.values():
            first = np.frombuffer(data, a.dtype, a.size, start).reshape(a.shape)
            a[...] = self._xp.asarray(first)
            start += a.nbytes
        united = list(_averaged(buffers).values())
        ends = np.cumsum([0, *(a.size for a in own)])
        parts = [
            self._message[start : start + a.size].reshape(a.shape)
            for start, a in zip(ends, own, strict=False)
        ]
        for part, mine, a in zip(parts, own, united, strict=True):
            part[...] = weight * (mine - a)
        self._exchange()
        for part, a in zip(parts, united, strict=True):
            a += part

    def same(self, row: dict[str, Any]) -> dict[str, Any]:
        _, found = self._exchange(list(row.values()))
        return {name: type(row[name])(x) for name, x in zip(row, found[0], strict=False)}


def ranks_of(comm: Any, net: Module) -> Alone:
    """What `comm` is to training.

    Parameters
    ----------
    comm : communicator or None
        Of mpi4py, or a ``cupyx.distributed.NCCLBackend`` for parameters on a device.
    net : Module

    Raises
    ------
    TypeError
        It is neither, or for arrays elsewhere.
    """
    if comm is None:
        return Alone()
    link = linked(comm, next((p.data for p in net.parameters()), np.empty(0)))
    return Ranks(link) if link.size > 1 else Alone()


def _buffers(net: Module) -> dict[str, Array]:
    """Those of a network by name, shared ones once."""
    found = [(name, getattr(*place)) for name, place in net.named_buffers()]
    return dict({id(a): (name, a) for name, a in found}.values())


def _averaged(buffers: Mapping[str, Array]) -> dict[str, Array]:
    return {name: a for name, a in buffers.items() if a.dtype.kind == "f"}


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _on_host(a: Array) -> Any:
    return a if is_on_host(a) else a.get()


def _fingerprint(value: Any, most: int = 16) -> int:
    """32 bits that tell things apart; of arrays, evenly spaced rows are looked at."""
    if isinstance(value, tuple | list):
        return zlib.crc32(repr([_fingerprint(item) for item in value]).encode())
    if hasattr(value, "dtype") and value.ndim:
        rows = _on_host(value[:: math.ceil(len(value) / most) or 1])
        start = zlib.crc32(repr((value.shape, value.dtype.str)).encode())
        return zlib.crc32(rows.tobytes(), start)
    return zlib.crc32(repr(value).encode())
