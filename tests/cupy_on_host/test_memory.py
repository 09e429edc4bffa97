"""Memory has an end, a peak, and guards."""

import numpy as np
import pytest

from . import memory
from .install import Misuse, installed, limit_memory


def test_memory_has_an_end(cupy):
    before = memory.held()
    with limit_memory(before + 4096):
        a = cupy.zeros(256)
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="Out of memory allocating"):
            cupy.zeros(512)
        with pytest.raises(MemoryError):
            a[:, None] * a
        assert cupy.cuda.Device().mem_info == (2048, before + 4096)
        del a
        cupy.zeros(512)
    cupy.zeros(2048)


def test_the_limit_of_the_pool(cupy):
    pool = cupy.get_default_memory_pool()
    pool.set_limit(size=memory.held() + 1024)
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="limit set to"):
        cupy.empty(1024)
    pool.set_limit(size=0)
    cupy.empty(1024)


def test_held_and_peak(cupy):
    pool = cupy.get_default_memory_pool()
    memory.reset_peak()
    before = memory.held()
    a = cupy.empty((100, 10), np.float32)
    assert memory.held() - before == 4096, "a multiple of 512 bytes"
    view = a[50:]
    del a
    assert memory.held() - before == 4096, "a view holds it"
    b = cupy.empty(512, np.uint8)
    del view
    assert memory.held() - before == 512
    assert memory.peak() - before == 4096 + 512
    assert pool.used_bytes() == memory.held()
    with cupy.cuda.Device(1):
        assert pool.used_bytes() == memory.held(1)
    del b


def test_memory_is_aligned(cupy):
    arrays = [cupy.empty(n, np.uint8) for n in range(1, 20)]
    assert all(a.data.ptr % 512 == 0 for a in arrays)
    assert cupy.empty(0).data.ptr == 0


@pytest.mark.parametrize(("place", "side"), [(-1, "before"), (24, "behind")])
@pytest.mark.parametrize("alive", [False, True])
def test_a_write_beside_an_array_is_found(place, side, alive):
    def write():
        with installed() as cupy:
            a = cupy.zeros(3)
            a._buffer._whole[a._buffer._begin + place] = 1
            if not alive:
                del a

    with pytest.raises(Misuse, match=f"something was written {side} an array of 24 bytes"):
        write()


def test_a_pointer_stays_in_its_allocation(cupy):
    a = cupy.zeros(4)
    (a.data + 8).memset(0xFF, 8)
    assert np.isnan(a.get()).tolist() == [False, True, False, False]
    with pytest.raises(Misuse, match="16 bytes from byte 24"):
        (a.data + 24).memset(0, 16)
