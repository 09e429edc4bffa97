"""Kernels are launched with what CuPy would pass, and nothing else."""

import threading
import warnings

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue import FOLDER, KERNELS

from . import kernels
from .install import Misuse, recorded, settings

OPTIONS = ("-std=c++17", f"-I{FOLDER}")
CONVERT = "convert<double, float>"
NULL = np.intp(0)
ADD = """
extern "C" __global__ void add(int n, const double* a, double* sum, float factor) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sum[i] = a[i] + factor;
}
template <class T> __global__ void twice(T* a) { a[threadIdx.x] *= T(2); }
"""


def module(cupy, file, **options):
    names = [k.name for k in KERNELS if k.file == file and k.is_template]
    code = (FOLDER / file).read_text()
    return cupy.RawModule(code=code, options=OPTIONS, name_expressions=names, **options)


def own(cupy, names=()):
    return cupy.RawModule(code=ADD, options=("-std=c++17",), name_expressions=names)


@pytest.fixture
def convert(cupy):
    return module(cupy, "convert.cu").get_function(CONVERT)


@pytest.fixture
def given(cupy):
    """Arguments of `convert`: 4 by 9."""
    source = cupy.asarray(np.random.default_rng(0).standard_normal((4, 9)))
    target = cupy.empty((4, 9), np.float32)
    i4, i8, f8 = np.int32, np.int64, np.float64
    return [
        i4(4), i4(9), source, i8(9), target, i8(9), NULL, NULL, i4(1), f8(3e38), f8(1e-38),
        cupy.zeros(4), cupy.zeros(2, np.uint64),
    ]  # fmt: skip


@pytest.mark.parametrize("schedule", ["forward", "reverse", 7])
@pytest.mark.parametrize("checked", [False, True])
def test_a_kernel_of_the_library(convert, given, schedule, checked):
    settings.schedule, settings.checked = schedule, checked
    with recorded() as ledger:
        convert((3,), (256,), given)
    assert ledger.launches == {CONVERT: 1}
    assert (ledger.to_host, ledger.to_device, ledger.syncs) == ([], [], [])
    assert np.array_equal(given[4].get(), given[2].get().astype(np.float32))
    assert np.allclose(given[11].get(), np.abs(given[2].get()).sum(axis=1), rtol=1e-15)


def test_a_text_of_its_own(cupy):
    a = cupy.asarray(np.arange(5.0))
    total = cupy.empty(5)
    add = own(cupy).get_function("add")
    add((1,), (8,), (np.int32(5), a, total, np.float32(0.5)))
    assert total.get().tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    twice = own(cupy, ("twice<double>",)).get_function("twice<double>")
    twice((1,), (2,), (a[2:4],))
    assert a.get().tolist() == [0, 1, 4, 6, 4]
    add((1,), (8,), (np.int32(2), a.data + 16, total.data.ptr, np.float32(0)))
    assert total.get().tolist()[:2] == [4, 6]


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        (0, 4, Misuse),  # passed as int64
        (0, np.int64(4), Misuse),
        (0, 4.0, Misuse),
        (0, True, TypeError),
        (9, np.float32(3e38), Misuse),
        (9, np.int64(3), Misuse),
        (6, None, Misuse),  # no null pointer in CuPy 13
        (6, 12345, Misuse),
        (2, np.zeros((4, 9)), TypeError),
        (2, 1.5, TypeError),
    ],
)
def test_what_cupy_would_pass_wrongly(convert, given, place, value, error):
    given[place] = value
    with pytest.raises(error):
        convert((3,), (256,), given)


def test_numbers_of_python_are_64_bits(convert, given):
    given[3], given[5], given[9] = 9, 9, 3e38
    convert((3,), (256,), given)
    assert np.array_equal(given[4].get(), given[2].get().astype(np.float32))


def test_arrays_of_another_type_or_device(cupy, convert, given):
    source = given[2]
    given[2] = source.astype("float32")
    with pytest.raises(TypeError, match="float32"):
        convert((3,), (256,), given)
    with cupy.cuda.Device(1):
        given[2] = cupy.zeros((4, 9))
    with pytest.raises(Misuse, match="device 1"):
        convert((3,), (256,), given)
    given[2] = source
    with cupy.cuda.Device(1), pytest.raises(Misuse, match="device 0"):
        convert((3,), (256,), given)
    with pytest.raises(TypeError, match="13 arguments"):
        convert((3,), (256,), given[:-1])


def test_what_a_launch_may_be(cupy, convert, given):
    for grid, block in ((3, (256,)), ([3], (256,)), ((3,), 256)):
        with pytest.raises(TypeError, match="expected tuple"):
            convert(grid, block, given)
    with pytest.raises(Misuse, match="256 threads"):
        convert((3,), (128,), given)
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
        convert((3, 65536), (256,), given)
    with pytest.raises(Misuse, match="bytes of shared memory"):
        convert((3,), (256,), given, shared_mem=64)
    convert.kernel((3,), (256,), given)


def test_shared_memory_beyond_48_kib_is_asked_for(cupy):
    add = own(cupy).get_function("add")
    given = (np.int32(0), NULL, NULL, np.float32(0))
    add((1,), (1,), given, shared_mem=48 * 1024)
    with pytest.raises(cupy.cuda.driver.CUDADriverError):
        add((1,), (1,), given, shared_mem=48 * 1024 + 1)
    add.max_dynamic_shared_size_bytes = 100_000
    add((1,), (1,), given, shared_mem=100_000)
    with pytest.raises(cupy.cuda.driver.CUDADriverError):
        add.max_dynamic_shared_size_bytes = 228 * 1024
    assert own(cupy).get_function("add").max_dynamic_shared_size_bytes == 48 * 1024


def test_what_does_not_compile(cupy):
    exception = cupy.cuda.compiler.CompileException
    broken = cupy.RawModule(code=ADD.replace("double*", "doubles*"))
    with pytest.raises(exception, match="doubles"):
        broken.get_function("add")
    lost = cupy.RawModule(code=(FOLDER / "convert.cu").read_text())
    with pytest.raises(exception, match="could not open source file"):
        lost.compile()
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="NOT_FOUND"):
        own(cupy).get_function("subtract")
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="NOT_FOUND"):
        own(cupy, ("twice<float>",)).get_function("twice<double>")
    for wrong in ({}, {"code": ADD, "path": "a.cubin"}, {"code": ADD, "options": ["-I."]}):
        with pytest.raises(TypeError):
            cupy.RawModule(**wrong)


PANEL = next(k for k in KERNELS if k.cooperative)


def test_a_cooperative_kernel_is_launched_so(cupy):
    """And no more blocks than the device holds: CuPy warns, and launches fewer."""
    options = (*OPTIONS, "-DMPLINALG_GRID_SYNC")
    code = (FOLDER / PANEL.file).read_text()
    with pytest.raises(cupy.cuda.compiler.CompileException, match="grid_sync"):
        cupy.RawModule(code=code, options=OPTIONS, name_expressions=[PANEL.name]).compile()
    raw = cupy.RawModule(code=code, options=options, name_expressions=[PANEL.name])
    panel = raw.get_function(PANEL.name)
    with pytest.raises(Misuse, match="cooperatively"):
        panel((1,), (PANEL.threads,), ())
    a_multiprocessor = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
        panel.kernel.ptr, PANEL.threads, 0
    )
    most = settings.multiprocessors * a_multiprocessor
    assert 1 <= a_multiprocessor <= 65536 // (PANEL.threads * PANEL.registers)
    with pytest.warns(UserWarning, match=f"reduced from {most + 1} to {most}"):
        checked = panel.kernel._checked((most + 1, 1, 1), PANEL.threads, 0, True)
    assert checked == (most, 1, 1)
    with warnings.catch_warnings(action="error"):
        assert panel.kernel._checked((most, 1, 1), PANEL.threads, 0, True) == (most, 1, 1)


def test_kernels_take_small_numbers_for_zero(cupy):
    scale = """
    extern "C" __global__ void scale(float* a, float factor) { a[threadIdx.x] *= factor; }
    """
    function = cupy.RawModule(code=scale).get_function("scale")
    for flush, wanted in ((True, 0.0), (False, np.float32(5e-39))):
        settings.flush = flush
        a = cupy.asarray(np.array([1e-38], np.float32))
        function((1,), (1,), (a, np.float32(0.5)))
        assert a.get()[0] == pytest.approx(wanted, rel=1e-6)


def test_streams_of_kernels_are_watched(cupy):
    add = own(cupy).get_function("add")
    a, total = cupy.zeros(5), cupy.zeros(5)
    other = cupy.cuda.Stream(non_blocking=True)
    with other, pytest.raises(Misuse, match="add reads on stream"):
        add((1,), (8,), (np.int32(5), a, total, np.float32(0)))
    other.wait_event(cupy.cuda.get_current_stream().record())
    with other:
        add((1,), (8,), (np.int32(5), a, total, np.float32(0)))
    assert float(a[0]) == 0, "it is only read"
    with pytest.raises(Misuse, match="add writes on stream"):
        total.get()
    other.synchronize()


def test_threads_launch_one_after_the_other(cupy):
    add = own(cupy).get_function("add")
    wrong = []

    def work(value):
        a, total = cupy.full(400, value), cupy.empty(400)
        for _ in range(20):
            add((4,), (100,), (np.int32(400), a, total, np.float32(1)))
            if not np.all(total.get() == value + 1):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_files_of_the_library_are_known():
    for path in FOLDER.glob("*.cu"):
        assert kernels.file_of(path.read_text()) == path.name
    assert kernels.file_of(ADD) is None
