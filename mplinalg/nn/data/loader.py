"""Batches of samples."""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...interrupts import Bell, Task
from ...ops import is_on_host, ops_for
from ..checks import count
from .labels import check_labels

Array = Any
Batch = tuple[Array, Array]

__all__ = ["DataLoader"]


class DataLoader:
    """Batches of samples, in order or shuffled anew in every round.

    Parameters
    ----------
    x : array, shape (n, ...)
        NumPy or CuPy; batches are of the same kind.
    y : array, shape (n, ...), or None
        None: batches are (x, None).
    batch_size : int, optional
        At most n.
    shuffle : bool, optional
    rng : Generator or int, optional
        Of NumPy, or a seed. One permutation is drawn from it when a round begins, which is all
        that the order depends on.
    drop_last : bool, optional
        Leave out the last batch if it is smaller than the others.
    prefetch : int, optional
        Batches that a thread prepares in advance; 0: there is none, as for x on a device, where
        nothing waits for the copy.
    transform : callable, optional
        ``transform(x, y)`` gives what takes the place of a batch, such as copies on a device. It
        is called in the thread.
    classes : int, optional
        y are labels, 0 to classes - 1.

    Attributes
    ----------
    rng : Generator

    Raises
    ------
    ValueError
        There are no samples, x and y are not equally long, the batch is larger than the data, or a
        label is out of range.
    TypeError
        x or y is no array, or an option is of another type.

    Notes
    -----
    Batches that are not shuffled are views of x and y.

    Examples
    --------
    >>> loader = DataLoader(np.arange(5.0), np.arange(5), batch_size=2)
    >>> [y.tolist() for x, y in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        x: Array,
        y: Array | None = None,
        batch_size: int = 32,
        shuffle: bool = False,
        rng: np.random.Generator | int | None = None,
        *,
        drop_last: bool = False,
        prefetch: int = 0,
        transform: Callable[[Array, Array], Batch] | None = None,
        classes: int | None = None,
    ) -> None:
        ops_for(x) if y is None else ops_for(x, y)
        if x.ndim == 0 or len(x) == 0:
            raise ValueError(f"the data set is empty: x has shape {x.shape}")
        if y is not None and (y.ndim == 0 or len(y) != len(x)):
            raise ValueError(f"x and y are not equally long: shapes {x.shape} and {y.shape}")
        self.batch_size = count("batch_size", batch_size)
        if self.batch_size > len(x):
            raise ValueError(
                f"batch_size {self.batch_size} is larger than the data, {len(x)} samples"
            )
        if classes is not None:
            if y is None:
                raise ValueError("classes are of labels, and y is None")
            check_labels(y, classes)
        self.x, self.y = x, y
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        self.rng = np.random.default_rng(rng)
        self.prefetch = count("prefetch", prefetch, 0)
        self.transform = transform

    def __len__(self) -> int:
        """Batches of a round."""
        n = len(self.x)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = None
        if self.shuffle:
            order = self.rng.permutation(len(self.x))
            if not is_on_host(self.x):
                order = ops_for(self.x).xp.asarray(order)
        batches = (self._batch(k * self.batch_size, order) for k in range(len(self)))
        if self.prefetch and is_on_host(self.x):
            return _in_advance(batches, self.prefetch)
        return batches

    def _batch(self, start: int, order: Array | None) -> Batch:
        chosen = slice(start, start + self.batch_size)
        if order is None:
            x, y = self.x[chosen], None if self.y is None else self.y[chosen]
        else:  # `take` lets other threads run, indexing does not
            x = self.x.take(order[chosen], axis=0)
            y = None if self.y is None else self.y.take(order[chosen], axis=0)
        return (x, y) if self.transform is None else self.transform(x, y)


def _in_advance(batches: Iterator[Batch], most: int) -> Iterator[Batch]:
    """The same, up to `most` of them computed by a thread before they are asked for.

    The thread starts with the first one asked for and ends when this iterator does.
    """
    done: deque[tuple[Any, BaseException | None]] = deque()
    end = object()  # no batch, whatever a transform makes of them
    is_stopped = False
    filled, emptied = Bell(), Bell()  # a queue may stay locked after an interrupt

    def put(item: tuple[Any, BaseException | None]) -> None:
        while len(done) >= most and not is_stopped:
            emptied.wait()
        done.append(item)
        filled.ring()

    def work() -> None:
        try:
            for batch in batches:
                put((batch, None))
                if is_stopped:
                    return
            put((end, None))
        except BaseException as error:
            put((None, error))

    task = Task(work)
    try:
        _thread.start_new_thread(task.run, ())
        while True:
            while not done:
                filled.wait()
            batch, error = done.popleft()
            emptied.ring()
            if error is not None:
                raise error
            if batch is end:
                return
            yield batch
    finally:
        is_stopped = True
        interrupt: BaseException | None = None
        while True:
            try:
                emptied.ring()
                task.settle()
                break
            except BaseException as error:
                is_further, interrupt = interrupt is not None, error
                if is_further:  # it does not wait for a transform that may never return
                    break
        if interrupt is not None:
            raise interrupt
