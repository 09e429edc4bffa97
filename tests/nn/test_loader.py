"""Batches: their order, the thread that prepares them, bad input."""

from __future__ import annotations

import _thread
import gc
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mplinalg.nn import data

from ..device import KINDS, library


def pairs(n=10):
    return np.arange(n, dtype=np.float32)[:, None] * [1, 10], np.arange(n)


def seen(loader):
    return [y.tolist() for _, y in loader]


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_batches(prefetch):
    x, y = pairs()
    loader = data.DataLoader(x, y, 4, prefetch=prefetch)
    assert len(loader) == 3
    assert seen(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert seen(loader) == seen(loader)
    loader = data.DataLoader(x, y, 4, drop_last=True, prefetch=prefetch)
    assert len(loader) == 2
    assert seen(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert seen(data.DataLoader(x, y, 10, prefetch=prefetch)) == [list(range(10))]
    assert [y for _, y in data.DataLoader(x, None, 5, prefetch=prefetch)] == [None, None]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_shuffling(prefetch):
    x, y = pairs(101)
    loader = data.DataLoader(x, y, 10, True, np.random.default_rng(3), prefetch=prefetch)
    rounds = []
    for _ in range(2):
        batches = list(loader)
        assert [len(b) for _, b in batches] == [10] * 10 + [1]
        for some, labels in batches:
            np.testing.assert_array_equal(some, x[labels])
        rounds.append(np.concatenate([labels for _, labels in batches]))
        np.testing.assert_array_equal(np.sort(rounds[-1]), y)
    assert not np.array_equal(*rounds)
    # all that is drawn is one permutation a round, whether there is a thread or not
    rng = np.random.default_rng(3)
    for order in rounds:
        np.testing.assert_array_equal(order, rng.permutation(101))
    assert rng.bit_generator.state == loader.rng.bit_generator.state
    np.testing.assert_array_equal(
        np.concatenate(seen(data.DataLoader(x, y, 7, True, 3))), rounds[0]
    )


def threads_more_than(before, wanted):
    """Whether there are so many more; a thread that has done its work may be about to end."""
    stop = time.monotonic() + 60
    while _thread._count() != before + wanted and time.monotonic() < stop:
        time.sleep(1e-3)
    return _thread._count() == before + wanted


def test_a_round_that_is_broken_off_leaves_no_thread():
    before = _thread._count()
    x, y = pairs(1000)
    for _, labels in data.DataLoader(x, y, 1, prefetch=2):
        if labels[0] == 3:
            break
    del labels
    gc.collect()
    assert threads_more_than(before, 0)
    iterator = iter(data.DataLoader(x, y, 1, prefetch=2))
    next(iterator)
    assert threads_more_than(before, 1)
    iterator.close()
    assert threads_more_than(before, 0)
    iter(data.DataLoader(x, y, 1, prefetch=2))  # begun by nobody
    assert threads_more_than(before, 0)


def test_batches_are_prepared_in_advance():
    made, two, before = [], threading.Event(), _thread._count()

    def note(x, y):
        made.append((int(y[0]), threading.get_ident()))
        if len(made) == 3:
            two.set()
        return x + 1, y

    iterator = iter(data.DataLoader(*pairs(), 1, prefetch=2, transform=note))
    x, _ = next(iterator)
    assert x[0, 0] == 1
    assert two.wait(10)  # two more than were asked for
    (thread,) = {thread for _, thread in made}
    assert thread != threading.get_ident()
    assert [y.tolist() for _, y in iterator] == [[k] for k in range(1, 10)]
    assert [k for k, _ in made] == list(range(10))
    assert threads_more_than(before, 0)


@pytest.mark.parametrize("prefetch", [0, 1])
def test_errors_come_where_the_batch_would(prefetch):
    def fail(x, y):
        if y[0] == 4:
            raise KeyError("broken")
        return x, y

    got, before = [], _thread._count()
    loader = data.DataLoader(*pairs(), 2, prefetch=prefetch, transform=fail)

    def take():
        for _, y in loader:
            got.append(y.tolist())

    with pytest.raises(KeyError, match="broken"):
        take()
    assert got == [[0, 1], [2, 3]]
    assert threads_more_than(before, 0)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_transform_that_returns_nothing_ends_no_round(prefetch):
    loader = data.DataLoader(*pairs(), 2, prefetch=prefetch, transform=lambda x, y: None)
    assert list(loader) == [None] * 5


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros((0, 3)),), {}, r"the data set is empty: x has shape \(0, 3\)"),
        ((np.array(1.0),), {}, "the data set is empty"),
        ((np.zeros((4, 3)), np.zeros(3, int)), {}, r"not equally long: shapes \(4, 3\) and \(3,\)"),
        (pairs(), {"batch_size": 11}, "batch_size 11 is larger than the data, 10 samples"),
        (pairs(), {"batch_size": 0}, "batch_size must be at least 1"),
        (pairs(), {"batch_size": 2, "prefetch": -1}, "prefetch must be at least 0"),
        (pairs(), {"batch_size": 2, "classes": 9}, "label 9 of sample 9 is not one of 0, ..., 8"),
        ((pairs()[0],), {"batch_size": 2, "classes": 9}, "y is None"),
    ],
)
def test_no_such_batches(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        data.DataLoader(*arguments, **options)


def test_what_is_no_array():
    with pytest.raises(TypeError, match=r"no backend for arrays of type builtins.list"):
        data.DataLoader([1, 2, 3], batch_size=1)
    with pytest.raises(TypeError, match=r"batch_size must be an integer; got 2.5"):
        data.DataLoader(*pairs(), 2.5)
    with pytest.raises(TypeError, match="labels must be integers; got float64"):
        data.check_labels(np.zeros(3), 2)
    with pytest.raises(ValueError, match=r"labels must be a vector; got shape \(3, 1\)"):
        data.check_labels(np.zeros((3, 1), int), 2)
    with pytest.raises(ValueError, match="label -1 of sample 1 is not one of"):
        data.check_labels(np.array([0, -1, -2]), 2)
    data.check_labels(np.array([255, 0], np.uint8), 256)


@pytest.mark.parametrize("place", KINDS)
def test_on_a_device(place):
    x, y = pairs()
    host = list(data.DataLoader(x, y, 4, True, 5))
    with library(place) as cupy:
        there = data.DataLoader(
            cupy.asarray(x), cupy.asarray(y), 4, True, 5, prefetch=2, classes=10
        )
        for (a, b), (c, d) in zip(host, there, strict=True):
            np.testing.assert_array_equal(a, c.get())
            np.testing.assert_array_equal(b, d.get())
        with pytest.raises(TypeError, match="NumPy and CuPy arrays in one call"):
            data.DataLoader(cupy.asarray(x), y, 4)


LEFT = """
import numpy as np
from mplinalg.nn.data import DataLoader
batches = iter(DataLoader(np.zeros((100, 3)), None, batch_size=10, prefetch=2))
next(batches)
"""


def test_a_round_that_is_left_does_not_hold_up_the_end_of_python():
    subprocess.run([sys.executable, "-c", LEFT], check=True, timeout=30,
                   cwd=Path(__file__).parents[2])  # fmt: skip


STUCK = """
import threading
import numpy as np
from mplinalg.nn.data import DataLoader

def transform(x, y):
    print("stuck", flush=True)
    threading.Event().wait(120)

for batch in DataLoader(np.zeros((100, 3)), None, batch_size=10, prefetch=2, transform=transform):
    pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_transform_that_does_not_return_holds_up_no_third_interrupt():
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2], preexec_fn=taken_interrupts,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"stuck\n"
        stop = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < stop:
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.poll() is not None
        process.kill()
        assert b"KeyboardInterrupt" in process.stderr.read()


def taken_interrupts():
    """Where the tests run as a job in the background they are ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
