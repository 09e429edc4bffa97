"""Device arrays compute as NumPy's, and cross to the host only when asked to."""

import copy
import operator

import numpy as np
import pytest

from ..ops.helpers import DTYPES, draw, same_bits
from .install import Misuse, forbidden_transfers, recorded

OPERATORS = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.lt,
    operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
]  # fmt: skip
IN_PLACE = [operator.iadd, operator.isub, operator.imul, operator.itruediv]
REDUCTIONS = ["sum", "prod", "mean", "max", "min", "argmax", "argmin", "any", "all", "std", "var"]


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((5, 4))


# -- to the host and back ------------------------------------------------------------------------


def test_no_array_of_the_host_is_taken_unasked(cupy, x):
    a = cupy.asarray(x)
    calls = {
        "operator": lambda: a + x,
        "reflected": lambda: x + a,
        "in place": lambda: a.__iadd__(x),
        "function of CuPy": lambda: cupy.maximum(a, x),
        "function of NumPy": lambda: np.maximum(a, x),
        "where": lambda: cupy.where(a > 0, a, x),
        "concatenate": lambda: cupy.concatenate([a, x]),
        "clip": lambda: cupy.clip(a, x, x),
        "power": lambda: a**x,
        "list": lambda: cupy.isin(a, [x]),
    }
    with forbidden_transfers():
        for call in calls.values():
            with pytest.raises(
                TypeError, match=r"Unsupported type <class '(numpy\.ndarray|list)'>"
            ):
                call()
        with pytest.raises(ValueError, match=r"non-scalar numpy\.ndarray"):
            a[...] = x


def test_no_array_of_the_device_becomes_one_of_the_host_unasked(cupy, x):
    a = cupy.asarray(x)
    target = np.empty_like(x)
    for call in (
        lambda: np.asarray(a), lambda: np.array(a), lambda: np.array([a, a]),
        lambda: operator.setitem(target, ..., a),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="Implicit conversion to a NumPy array"):
            call()
    with pytest.raises(TypeError):  # CuPy has no __index__
        range(cupy.asarray(3))
    with pytest.raises((BufferError, RuntimeError)):
        np.from_dlpack(a)
    with pytest.raises(BufferError, match="CPU arrays"):
        cupy.from_dlpack(x)


def test_what_crosses_is_counted(cupy, x):
    with recorded() as ledger:
        a = cupy.asarray(x)
        assert ledger.to_device == [x.nbytes]
        b = (2 * a + 1).sum(axis=0)
        assert (ledger.to_host, ledger.syncs) == ([], [])
        assert float(b[0]) == (2 * x + 1).sum(axis=0)[0]
        assert (ledger.to_host, ledger.syncs) == ([8], ["float"])
        assert bool(b[0] < 1e9)
        assert same_bits(b.get(), (2 * x + 1).sum(axis=0))
        assert ledger.bytes_to_host == 8 + 1 + 32
        cupy.array(1.5)  # an argument of a kernel
        assert ledger.bytes_to_device == x.nbytes
        cupy.array([1.5])
        assert ledger.bytes_to_device == x.nbytes + 8
        assert ledger.operations["sum"] == 1
    b.get()
    assert ledger.bytes_to_host == 8 + 1 + 32, "it is closed"


def test_large_transfers_can_be_forbidden(cupy, x):
    a = cupy.asarray(x)
    with forbidden_transfers(8):
        float(a[0, 0])
        with pytest.raises(Misuse, match=f"{x.nbytes} bytes to the host"):
            a.get()
        with pytest.raises(Misuse, match=f"{x.nbytes} bytes to the device"):
            cupy.asarray(x)
    a.get()


@pytest.mark.parametrize("name", ["nonzero", "flatnonzero", "argwhere", "unique"])
def test_a_result_of_unknown_size_waits(cupy, x, name):
    with recorded() as ledger:
        getattr(cupy, name)(cupy.asarray(x))
    assert ledger.syncs == [name]


def test_a_mask_waits(cupy, x):
    """CuPy counts what it selects, also to assign one number; copyto and where do not."""
    a, mask = cupy.asarray(x), cupy.asarray(x > 0)
    with recorded() as ledger:
        a[mask] = 0.0
    assert ledger.syncs == ["assignment by a mask"]
    assert (ledger.to_host, ledger.to_device) == ([4], [8])
    assert same_bits(a.get(), np.where(x > 0, 0.0, x))
    with recorded() as ledger:
        a[mask]
    assert (ledger.syncs, ledger.to_host) == (["index by a mask"], [4])
    with forbidden_transfers(), recorded() as ledger:
        cupy.copyto(a, 7.0, where=mask)
        a = cupy.where(mask, a, 8.0)
    assert ledger.syncs == []
    assert same_bits(a.get(), np.where(x > 0, 7.0, 8.0))


# -- arithmetic ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("function", OPERATORS)
def test_operators(cupy, x, dtype, function):
    x = np.abs(4 * x + 1).astype(dtype) + np.dtype(dtype).type(1)
    a = cupy.asarray(x)
    for left, right in ((x, x[0]), (x, 2), (x, np.dtype(dtype).type(2)), (2.5, x), (x, x[:, :1])):
        given = [cupy.asarray(v) if isinstance(v, np.ndarray) else v for v in (left, right)]
        with np.errstate(all="ignore"):
            assert same_bits(function(*given).get(), function(left, right))
    assert type(function(a, a)) is cupy.ndarray


@pytest.mark.parametrize("function", IN_PLACE)
def test_operators_in_place(cupy, x, function):
    a = cupy.asarray(x)
    view = a[1:3].T
    view = function(view, 3.0)
    x[1:3] = function(x[1:3], 3.0)
    assert view.base is a
    assert same_bits(a.get(), x)
    with pytest.raises(TypeError, match="cast"):
        function(cupy.arange(3), 0.5)


def test_results_are_by_rows_whatever_the_operands_are(cupy, x):
    """CuPy's functions do not keep the layout; copies and what is made like an array do."""
    a = cupy.asarray(np.asfortranarray(x))
    assert a.flags.f_contiguous
    for made in (
        a + a,
        abs(a),
        cupy.where(a > 0, a, 0),
        cupy.triu(a),
        a.copy(),
        cupy.clip(a, 0, 1),
    ):
        assert made.flags.c_contiguous
        assert not made.flags.f_contiguous
    for made in (
        a.astype("float32"), cupy.empty_like(a), a.copy("K"), cupy.asarray(a), cupy.array(a),
    ):  # fmt: skip
        assert made.flags.f_contiguous


def test_reductions_stay_on_the_device(cupy, x):
    a = cupy.asarray(x)
    with recorded() as ledger:
        made = [(getattr(a, name)(), getattr(a, name)(axis=0)) for name in REDUCTIONS]
    assert ledger.to_host == ledger.syncs == []
    for name, (whole, columns) in zip(REDUCTIONS, made, strict=True):
        assert type(whole) is cupy.ndarray
        assert whole.shape == ()
        assert same_bits(whole.get(), np.asarray(getattr(x, name)()))
        assert same_bits(columns.get(), getattr(x, name)(axis=0))


def test_functions_of_numpy_are_those_of_cupy(cupy, x):
    a = cupy.asarray(x)
    with forbidden_transfers():
        made = [np.abs(a), np.sum(a, axis=1), np.linalg.norm(a), np.concatenate([a, a])]
    wanted = [np.abs(x), np.sum(x, axis=1), np.asarray(np.linalg.norm(x)), np.concatenate([x, x])]
    for found, w in zip(made, wanted, strict=True):
        assert type(found) is cupy.ndarray
        assert same_bits(found.get(), w)


def test_signatures_are_those_of_cupy(cupy, x):
    """What NumPy takes and CuPy does not is refused."""
    a = cupy.asarray(x)
    for call in (
        lambda: cupy.conj(a, order="F"), lambda: cupy.add(a, a, where=a > 0),
        lambda: cupy.max(a, initial=0.0), lambda: a.sum(where=a > 0), lambda: cupy.abs(a, a, a),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            call()
    assert not hasattr(cupy, "errstate")


@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_of_complex_numbers(cupy, dtype):
    x = draw(np.random.default_rng(1), (3, 2), dtype)
    a = cupy.asarray(x)
    assert same_bits(a.conj().get(), x.conj())
    assert (a.conj() is a) == (x.dtype.kind != "c")
    assert same_bits(a.imag.get(), np.ascontiguousarray(x.imag))
    a.real = 7.0
    assert (a.get().real == 7.0).all()
    if x.dtype.kind == "c":
        a.imag[0] = 0.0
        assert (a.get().imag[0] == 0.0).all()
        assert a.real.data.ptr == a.data.ptr


def test_small_numbers_of_single_precision_are_zero(cupy):
    from .install import settings

    x = np.array([1e-39, -1e-39, 1e-30], np.float32)
    a = cupy.asarray(x)
    assert same_bits(a.get(), x), "a copy is no arithmetic"
    assert same_bits((a * 1).get(), np.array([0.0, -0.0, 1e-30], np.float32))
    assert (a.astype("float64").get() == [0, 0, x[2]]).all()
    assert (cupy.asarray(x.astype("float64")).astype("float32").get() == [0, 0, x[2]]).all()
    assert float(a.sum()) == x[2]
    assert bool(cupy.all(cupy.asarray(x.astype("float64") * 1) != 0))
    settings.flush = False
    assert same_bits((a * 1).get(), x)


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "CF")
def test_new_memory_is_garbage(cupy, order):
    for dtype in ("float16", *DTYPES):
        assert np.isnan(cupy.empty((3, 4), dtype, order).get()).all()
    assert (np.abs(cupy.empty(5, "int32").get()) > 2**30).all()
    assert np.isnan(cupy.empty_like(cupy.zeros((2, 3)))[0].get()).all()


def test_views(cupy, x):
    a = cupy.asarray(x)
    for cut in (
        (slice(1, 4), slice(None, None, -1)), (2,), (slice(None), 1), (..., None), (1, 2),
        (slice(None, None, 2), 3),
    ):  # fmt: skip
        view, wanted = a[cut], x[cut]
        assert view.base is a
        assert view.shape == np.shape(wanted)
        assert same_bits(view.get(), np.asarray(wanted).copy())
        first = np.asarray(wanted).ctypes.data if np.ndim(wanted) else None
        if first is not None:
            assert view.data.ptr - a.data.ptr == first - x.ctypes.data
            assert view.strides == wanted.strides
    for view in (a.T, a.reshape(4, 5), a.ravel(), a.diagonal(), a.view("int64"), a.real, a.mT):
        assert cupy.shares_memory(view, a)
    a.diagonal()[...] = 0
    np.fill_diagonal(x, 0)
    assert same_bits(a.get(), x)
    assert not cupy.shares_memory(a.T.ravel(), a)
    assert cupy.asfortranarray(a).flags.fnc


def test_index_arrays(cupy, x):
    a, rows = cupy.asarray(x), np.array([3, 0, 3])
    with recorded() as ledger:
        assert same_bits(a[rows].get(), x[rows])
        assert ledger.to_device == [rows.nbytes]
        index = cupy.asarray(rows)
    with recorded() as ledger:
        found = a[index, 1]
    assert ledger.to_device == []
    assert same_bits(found.get(), x[rows, 1])
    assert found.base is None
    with recorded() as ledger:
        a[index[:2]] = cupy.ones((2, 4))
        assert ledger.to_device == []
        a[index[:2]] = np.ones((2, 4))
        assert ledger.to_device == [64]
    x[rows[:2]] = 1
    assert same_bits(a.get(), x)
    with pytest.raises(Misuse, match="twice"):
        a[index] = cupy.ones((3, 4))
    with pytest.raises(IndexError):
        a[cupy.asarray([5])]


def test_arrays_of_another_device_are_refused(cupy, x):
    with cupy.cuda.Device(1):
        b = cupy.asarray(x)
    assert (b.device.id, cupy.cuda.get_device_id()) == (1, 0)
    a = cupy.asarray(x)
    for call in (lambda: a + b, lambda: b.sum(), lambda: cupy.where(b > 0, a, a)):
        with pytest.raises(ValueError, match="different from the current device"):
            call()
    assert same_bits(cupy.asarray(b).get(), x)
    assert cupy.asarray(b).device.id == 0
    with b.device:
        assert same_bits((b + b).get(), x + x)
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        cupy.cuda.Device(2).use()


def test_what_an_array_says_of_itself(cupy, x):
    a = cupy.asarray(x)[1:]
    assert (a.dtype, a.size, a.ndim, a.nbytes, len(a)) == (x.dtype, 16, 2, 128, 4)
    assert a.__cuda_array_interface__["data"] == (a.data.ptr, False)
    assert a.__dlpack_device__() == (2, 0)
    assert type(a).__module__ == "cupy"
    assert cupy.get_array_module(x, a) is cupy
    assert cupy.get_array_module(x) is np
    assert same_bits(copy.deepcopy(a).get(), x[1:])
    assert repr(a) == repr(x[1:])
    with pytest.raises(TypeError, match="Unsupported dtype"):
        cupy.zeros(3, "longdouble")


class Foreign:
    """An array of another library."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, *, stream=None):
        return self._array.__dlpack__(stream=stream)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8", "float16", *DTYPES])
@pytest.mark.parametrize("wrapped", [Foreign, lambda a: a])
def test_dlpack(cupy, x, dtype, wrapped):
    a = cupy.asarray(np.abs(x).astype(dtype))
    for view in (a, a[1:, ::2], a.T, a[::-1], a[0, 0]):
        found = cupy.from_dlpack(wrapped(view))
        assert (found.dtype, found.strides) == (view.dtype, view.strides)
        assert found.data.ptr == view.data.ptr
        assert same_bits(found.get(), view.get())
    assert cupy.from_dlpack(wrapped(a[:, :0])).shape == (5, 0)
    copied = cupy.from_dlpack(wrapped(a), copy=True)
    assert not cupy.shares_memory(copied, a)
    del a, view
    assert found.get() == np.abs(x).astype(dtype)[0, 0], "the memory is kept"


def test_set(cupy, x):
    a = cupy.empty((5, 4), order="F")
    a.set(x)
    assert same_bits(a.get(), x)
    assert a.get(order="A").flags.f_contiguous
    for wrong in (x.astype("float32"), x.tolist()):
        with pytest.raises(TypeError):
            a.set(wrong)
    with pytest.raises(ValueError, match="Shape mismatch"):
        a.set(x.T)
    with pytest.raises(RuntimeError, match="non-contiguous"):
        a[::2].set(x[::2])
