"""Work on several streams has to be ordered; nothing here runs at the same time, though."""

import threading

import numpy as np
import pytest

from .install import Misuse, installed, recorded

N = 6


@pytest.fixture
def other(cupy):
    return cupy.cuda.Stream(non_blocking=True)


def test_unordered_work_is_found(cupy, other):
    a = cupy.zeros((N, N))
    with other, pytest.raises(Misuse, match=r"cupy_multiply reads on stream .* nothing orders"):
        2 * a
    with other:
        b = cupy.zeros((N, N))
    with pytest.raises(Misuse, match="zeros writes on stream"):
        b + 1


def test_an_event_orders(cupy, other):
    a = cupy.zeros((N, N))
    other.wait_event(cupy.cuda.get_current_stream().record())
    with other:
        a += 1
    cupy.cuda.get_current_stream().wait_event(other.record())
    assert (a.get() == 1).all()


def test_an_event_orders_what_came_before_it_only(cupy, other):
    a = cupy.zeros((N, N))
    event = cupy.cuda.get_current_stream().record()
    a += 1
    other.wait_event(event)
    with other, pytest.raises(Misuse):
        2 * a


@pytest.mark.parametrize("what", ["stream", "device", "event", "get", "float"])
def test_the_host_orders_by_waiting(cupy, other, what):
    a = cupy.zeros((N, N))
    {
        "stream": lambda: cupy.cuda.get_current_stream().synchronize(),
        "device": lambda: cupy.cuda.Device().synchronize(),
        "event": lambda: cupy.cuda.get_current_stream().record().synchronize(),
        "get": lambda: a.get(),
        "float": lambda: float(a[0, 0]),
    }[what]()
    with other:
        a += 1
        other.synchronize()
    assert (a.get() == 1).all()


def test_a_blocking_stream_waits_for_the_null_stream_and_the_other_way(cupy):
    a = cupy.zeros((N, N))
    with cupy.cuda.Stream():
        a += 1
    assert (a.get() == 1).all()


def test_disjoint_parts_need_no_order(cupy, other):
    a = cupy.zeros((N, N))
    other.wait_event(cupy.cuda.get_current_stream().record())
    with other:
        a[:, :2] += 1
        a[:, 4] *= 2
    a[:, 2:4] += 2
    a[0, 5] = 3.0
    with pytest.raises(Misuse):
        a[1, 1:3] += 1
    cupy.cuda.Device().synchronize()


def test_reads_need_no_order(cupy, other):
    a = cupy.zeros((N, N))
    other.wait_event(cupy.cuda.get_current_stream().record())
    with other:
        b = a + 1
    c = a + 2
    cupy.cuda.Device().synchronize()
    assert float(b[0, 0] + c[0, 0]) == 3


def test_what_the_host_brings_waits_for_its_stream_only(cupy, other):
    with other:
        a = cupy.zeros(N)
    with pytest.raises(Misuse, match="get reads"):
        a.get()
    other.synchronize()
    a.get()


def test_memory_given_back_under_a_stream_is_found():
    def use(cupy, wait):
        other = cupy.cuda.Stream(non_blocking=True)
        a = cupy.zeros(N)
        other.wait_event(cupy.cuda.get_current_stream().record())
        with other:
            b = a + 1
        if wait:
            cupy.cuda.get_current_stream().wait_event(other.record())
        del a
        other.synchronize()
        del b

    with installed() as cupy:
        use(cupy, True)
    with pytest.raises(Misuse, match="given back while cupy_add"), installed() as cupy:
        use(cupy, False)


def test_many_operations_are_kept_short(cupy, other):
    a = cupy.zeros((40, 40))
    other.wait_event(cupy.cuda.get_current_stream().record())
    for i in range(40):
        for j in range(20):
            a[i, j] = 1.0
    assert len(a._buffer.accesses) <= 257
    with other, pytest.raises(Misuse):
        a += 1


def test_current_streams(cupy, other):
    stream = cupy.cuda.Stream(priority=-1)
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null
    with stream:
        assert cupy.cuda.get_current_stream() is stream
        with other:
            assert cupy.cuda.get_current_stream() is other
        assert cupy.cuda.get_current_stream() is stream
        seen = []
        thread = threading.Thread(target=lambda: seen.append(cupy.cuda.get_current_stream().ptr))
        thread.start()
        thread.join()
        assert seen == [0], "a thread begins with the null stream"
        with cupy.cuda.Device(1):
            assert cupy.cuda.get_current_stream().ptr == 0
            with pytest.raises(Misuse, match="device 1"):
                stream.use()
    assert cupy.cuda.get_current_stream().ptr == 0


def test_waits_are_counted(cupy, other):
    with recorded() as ledger:
        other.synchronize()
        other.record().synchronize()
        cupy.cuda.runtime.deviceSynchronize()
    assert ledger.syncs == ["Stream.synchronize", "Event.synchronize", "Device.synchronize"]


def test_elapsed_time(cupy):
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    np.ones(1000).sum()
    end.record()
    assert cupy.cuda.get_elapsed_time(start, end) >= 0
    with pytest.raises(Misuse, match="not recorded"):
        cupy.cuda.get_elapsed_time(start, cupy.cuda.Event())
