"""Launching kernels: arguments checked by the catalogue, modules compiled once, refusals named."""

import re
import threading
import time

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue import BY_NAME, FOLDER, KERNELS

from ...ops.helpers import allowed, is_small, swapped, wide
from .nvrtc import Nvrtc, is_available

CONVERT = "convert<float, half>"
"""Of a template."""
QUOTIENT = "quotient"
"""Of none."""
PANEL = "panel_lu<32, 128, float>"
"""Cooperative."""
GEMM = "gemm_split<128, 128, 32>"
"""With more shared memory than a block has unasked."""


@pytest.fixture
def loader(cupy, monkeypatch):
    """As in a new process."""
    from mplinalg.kernels.cuda import loader

    monkeypatch.setattr(loader, "_loaded", {})
    monkeypatch.setattr(loader, "_locks", {})
    return loader


@pytest.fixture
def made(cupy, monkeypatch):
    """The arguments of each RawModule that is made."""
    found, real = [], cupy.RawModule

    def noted(**arguments):
        found.append(arguments)
        return real(**arguments)

    monkeypatch.setattr(cupy, "RawModule", noted)
    return found


def arguments(cupy, lines=3, length=5):
    """Of CONVERT: what it takes, and where it writes."""
    source = cupy.asarray(np.linspace(-1, 1, lines * length, dtype=np.float32))
    target = cupy.zeros(lines * length, "float16")
    lost = cupy.zeros(2, "uint64")
    return [
        lines, length, source, length, target, length, None, None, 1, 65504.0, 2.0**-14, None, lost,
    ]  # fmt: skip


def panel_arguments(cupy, panel, blocks):
    """Of PANEL: the factors replace the panel, the pivots are argument 6, info is argument 7."""
    (m, n), nb = panel.shape, 32
    slots, keys = cupy.empty(2 * blocks * nb, "float32"), cupy.empty(8 * blocks, "uint32")
    pivots, info = cupy.empty(n, "int32"), cupy.zeros(1, "int32")
    return [m, n, panel, n, slots, keys, pivots, info, 0, None, 0, 1.0, False]


# -- a launch ------------------------------------------------------------------------------------


def test_a_kernel_does_what_its_arguments_say(loader, cupy):
    given = arguments(cupy)
    given[11] = sums = cupy.zeros(3)
    loader.launch(CONVERT, 2, *given)
    source = given[2].get()
    assert np.array_equal(given[4].get(), source.astype(np.float16))
    assert np.array_equal(sums.get(), abs(source.astype(np.float64)).reshape(3, 5).sum(1))
    assert given[12].get().tolist() == [0, 0]


def test_views_are_seen_from_their_first_entry(loader, cupy):
    given = arguments(cupy, lines=2, length=3)
    wide = cupy.zeros((4, 6), "float16")
    given[4], given[5] = wide[1:3, 2:5], 6
    loader.launch(CONVERT, 1, *given)
    expected = np.zeros((4, 6), np.float16)
    expected[1:3, 2:5] = given[2].get().reshape(2, 3)
    assert np.array_equal(wide.get(), expected)


@pytest.mark.parametrize("grid", [2, np.int64(2), (2,), (2, 1), (2, 1, 1)], ids=repr)
def test_a_grid_has_up_to_three_dimensions(loader, cupy, grid):
    given = arguments(cupy)
    loader.launch(CONVERT, grid, *given)
    assert np.array_equal(given[4].get(), given[2].get().astype(np.float16))


@pytest.mark.parametrize("grid", [0, (0,), (3, 0), (0, 3, 1)])
def test_a_grid_of_no_blocks_launches_nothing(loader, cupy, grid):
    given = arguments(cupy)
    given[4][...] = 7
    loader.launch(CONVERT, grid, *given)
    assert np.all(given[4].get() == 7)


def test_a_negative_grid_is_refused(loader, cupy):
    with pytest.raises(ValueError, match=re.escape(f"{CONVERT}: grid=(3, -1)")):
        loader.launch(CONVERT, (3, -1), *arguments(cupy))


def test_a_launch_is_not_waited_for(loader, cupy, nothing_crosses):
    given = arguments(cupy)
    loader.launch(CONVERT, 1, *given)
    with nothing_crosses():
        loader.launch(CONVERT, 1, *given)


def test_a_cooperative_kernel(loader, cupy):
    """The blocks of a panel meet in a barrier of the grid."""
    rng = np.random.default_rng(1)
    m, n = 300, 32
    x = rng.standard_normal((m, n)).astype(np.float32)
    panel = cupy.asarray(x)
    given = panel_arguments(cupy, panel, 2)
    loader.launch(PANEL, 2, *given)
    lu = wide(panel.get())
    l, u = np.tril(lu, -1) + np.eye(m, n), np.triu(lu[:n])
    error = abs(l @ u - swapped(wide(x), given[6].get()))
    assert is_small(error, allowed(n, "float32") * (abs(l) @ abs(u)))
    assert given[7].get() == 0


def test_dynamic_shared_memory_comes_from_the_catalogue(loader, cupy):
    assert BY_NAME[GEMM].dynamic > 48 * 1024
    rng = np.random.default_rng(2)
    m, n, k = 70, 66, 40
    a, b = (rng.standard_normal(s).astype(np.float16) for s in ((m, k), (k, n)))
    a_low, b_low, c = (cupy.zeros(s, d) for s, d in ((a.shape, "e"), (b.shape, "e"), ((m, n), "f")))
    one = cupy.ones(1, "float32")
    loader.launch(
        GEMM, 1, m, n, k, one, cupy.asarray(a), a_low, k, cupy.asarray(b), b_low, n, c, n
    )  # fmt: skip
    scale = abs(wide(a)) @ abs(wide(b))
    assert is_small(abs(c.get() - wide(a) @ wide(b)), allowed(k, "float32") * scale)


# -- what is refused -----------------------------------------------------------------------------


def test_an_unknown_kernel_is_named(loader):
    with pytest.raises(ValueError, match="no kernel 'convert<int, int>'"):
        loader.launch("convert<int, int>", 1)


def test_the_number_of_arguments_is_checked(loader, cupy):
    with pytest.raises(TypeError, match=re.escape(f"{CONVERT} takes 13 arguments, got 12")):
        loader.launch(CONVERT, 1, *arguments(cupy)[:-1])


def test_arguments_are_checked_against_the_catalogue(loader, cupy, made):
    whole, half = "a CuPy array of float32", "a CuPy array of float16"
    for place, wrong, wanted, given in [
        (2, cupy.zeros(15), whole, "one of float64"),
        (2, np.zeros(15, np.float32), whole, "ndarray"),
        (2, 0, whole, "int"),
        (4, cupy.zeros(15, "uint16"), half, "one of uint16"),
        (0, None, "a number of type int32", "None of type NoneType"),
        (0, 3.0, "a number of type int32", "3.0 of type float"),
        (0, 2**31, "a number of type int32", "2147483648, which does not fit"),
        (0, -(2**31) - 1, "a number of type int32", "-2147483649, which does not fit"),
        (3, 2**63, "a number of type int64", "9223372036854775808, which does not fit"),
        (9, 1j, "a number of type float64", "1j of type complex"),
        (9, "1", "a number of type float64", "'1' of type str"),
        (9, cupy.zeros(()), "a number of type float64", "of type ndarray"),
    ]:
        values = arguments(cupy)
        values[place] = wrong
        pattern = f"{CONVERT}: argument {place} has to be {wanted}, got "
        with pytest.raises(TypeError, match=re.escape(pattern) + ".*" + re.escape(given)):
            loader.launch(CONVERT, 1, *values)
        with pytest.raises(TypeError):
            loader.launch(CONVERT, 0, *values)
    assert not made


def test_numbers_of_other_types_are_converted(loader, cupy):
    values = arguments(cupy)
    values[0], values[3], values[9] = np.int64(3), np.int32(5), np.float32(65504)
    values[8], values[10] = True, 0
    loader.launch(CONVERT, 1, *values)
    assert np.array_equal(values[4].get(), values[2].get().astype(np.float16))


def test_more_blocks_than_the_device_holds_are_refused(loader, cupy):
    panel = cupy.zeros((300, 32), "float32")
    most = loader.resident_blocks(PANEL)
    assert most >= loader.multiprocessors()
    with pytest.raises(ValueError, match=f"grid={most + 1} is more than the {most} blocks"):
        loader.launch(PANEL, most + 1, *panel_arguments(cupy, panel, 1))


def test_only_cooperative_kernels_have_a_largest_grid(loader):
    with pytest.raises(ValueError, match="not cooperative"):
        loader.resident_blocks(CONVERT)


# -- modules -------------------------------------------------------------------------------------


def test_an_instance_is_compiled_alone_and_once(loader, cupy, made):
    for _ in range(3):
        loader.launch(CONVERT, 1, *arguments(cupy))
    (module,) = made
    assert module["name_expressions"] == (CONVERT,)
    assert module["options"][:2] == ("-std=c++17", f"-I{FOLDER}")
    assert module["code"] == (FOLDER / "convert.cu").read_text()


def test_what_is_no_template_is_asked_for_by_its_name(loader, cupy, made):
    result = cupy.zeros(1, "float32")
    loader.launch(QUOTIENT, 1, 3.0, cupy.full(1, 2.0, "float32"), None, result)
    assert made[0]["name_expressions"] is None
    assert result.get() == 1.5


def test_a_cooperative_module_is_told_so(loader, cupy, made):
    loader.resident_blocks(PANEL)
    (module,) = made
    assert "-DMPLINALG_GRID_SYNC" in module["options"]
    # with it, CuPy before 14.2 links a library that is not needed and may be missing
    assert not module.get("enable_cooperative_groups")


def test_the_options_tell_when_a_header_changes(loader, monkeypatch, tmp_path):
    """CuPy finds what it compiled earlier by them; it does not open what a source includes."""
    for path in FOLDER.glob("*.cuh"):
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def options():
        loader._headers.cache_clear()
        return loader._options(BY_NAME[CONVERT])

    with monkeypatch.context() as patch:
        patch.setattr(loader, "FOLDER", tmp_path)
        before = options()
        assert options() == before
        (tmp_path / "reduce.cuh").write_text("// another\n")
        assert options() != before
    loader._headers.cache_clear()


def test_threads_compile_a_kernel_once(loader, cupy, monkeypatch):
    barrier, errors, made, real = threading.Barrier(4), [], [], cupy.RawModule

    def slow(**arguments):
        made.append(arguments)
        time.sleep(0.3)  # the others ask meanwhile
        return real(**arguments)

    monkeypatch.setattr(cupy, "RawModule", slow)

    def work():
        try:
            given = arguments(cupy)
            barrier.wait(60)
            loader.launch(CONVERT, 1, *given)
            assert np.array_equal(given[4].get(), given[2].get().astype(np.float16))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(made) == 1


@pytest.mark.parametrize("kind", ["compiler", "driver", "library"])
def test_a_kernel_that_is_not_to_be_had_is_refused_with_the_reason(loader, cupy, monkeypatch, kind):
    """Each time; but it is tried once."""
    error = {
        "compiler": lambda: cupy.cuda.compiler.CompileException("no such type", "", "k.cu", ()),
        "driver": lambda: RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU: no such type"),
        "library": lambda: ImportError("libnvrtc: no such type"),
    }[kind]
    tried = []

    def fails(**arguments):
        tried.append(arguments["name_expressions"])
        raise error()

    with monkeypatch.context() as patch:
        patch.setattr(cupy, "RawModule", fails)
        for _ in range(2):
            with pytest.raises(loader.KernelUnavailable) as raised:
                loader.launch(CONVERT, 1, *arguments(cupy))
            text = str(raised.value)
            for part in (CONVERT, "convert.cu", f"{loader.architecture() / 10}", "no such type"):
                assert part in text
    assert tried == [(CONVERT,)]
    with pytest.raises(loader.KernelUnavailable):  # that is remembered
        loader.launch(CONVERT, 1, *arguments(cupy))
    loader.launch(QUOTIENT, 1, 3.0, None, None, cupy.zeros(1, "float32"))


def test_a_refusal_holds_for_its_device(loader, cupy, monkeypatch):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices")
    real = cupy.RawModule

    def fails_on_one(**arguments):
        if cupy.cuda.Device().id == 1:
            raise RuntimeError("not here")
        return real(**arguments)

    monkeypatch.setattr(cupy, "RawModule", fails_on_one)
    with cupy.cuda.Device(1), pytest.raises(loader.KernelUnavailable):
        loader.launch(CONVERT, 1, *arguments(cupy))
    given = arguments(cupy)
    loader.launch(CONVERT, 1, *given)
    assert np.array_equal(given[4].get(), given[2].get().astype(np.float16))


def test_the_device_is_described(loader, cupy):
    device = cupy.cuda.Device()
    assert loader.architecture() == int(device.compute_capability)
    assert loader.multiprocessors() == device.attributes["MultiProcessorCount"]


# -- what CuPy gives the compiler ----------------------------------------------------------------


FILES = sorted({kernel.file for kernel in KERNELS})


@pytest.mark.skipif(not is_available(), reason="needs nvidia-cuda-nvrtc and nvidia-cuda-runtime")
@pytest.mark.parametrize("file", FILES)
def test_sources_compile_with_the_options_that_cupy_adds(loader, tmp_path, file):
    kernel = min((k for k in KERNELS if k.file == file), key=lambda k: k.registers)  # the quickest
    source = tmp_path / file
    source.write_bytes((FOLDER / file).read_bytes())
    names = [kernel.name] if kernel.is_template else []
    options = [*loader._options(kernel), "-ftz=true", "--device-as-default-execution-space"]
    assert kernel.name in Nvrtc().compile(source, names, 90, options).usage
