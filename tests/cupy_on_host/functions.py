"""CuPy's functions of arrays, by NumPy's of the same name, but with CuPy's signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import streams
from .array import ndarray, of_result, require_array, require_current, touch
from .capture import refuse_cublas, repeatable
from .creation import array as make_array
from .dtypes import is_scalar
from .subnormals import BY_LIBRARIES, COPYING, flushed

_REDUCTION = "a, axis=None, dtype=None, out=None, keepdims=False"
_EXTREME = "a, axis=None, out=None, keepdims=False"
_SPREAD = "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False"
_JOINING = "tup, axis=0, out=None, *, dtype=None, casting='same_kind'"
_LINES = "tup, *, dtype=None, casting='same_kind'"
_CLOSE = "a, b, rtol=1e-05, atol=1e-08, equal_nan=False"

SIGNATURES = {
    "all": _EXTREME, "amax": _EXTREME, "amin": _EXTREME, "any": _EXTREME, "max": _EXTREME,
    "min": _EXTREME, "nanmax": _EXTREME, "nanmin": _EXTREME, "ptp": _EXTREME,
    "sum": _REDUCTION, "prod": _REDUCTION, "mean": _REDUCTION, "nansum": _REDUCTION,
    "std": _SPREAD, "var": _SPREAD,
    "cumsum": "a, axis=None, dtype=None, out=None",
    "cumprod": "a, axis=None, dtype=None, out=None",
    "count_nonzero": "a, axis=None",
    "clip": "a, a_min, a_max, out=None",
    "round": "a, decimals=0, out=None", "around": "a, decimals=0, out=None",
    "nan_to_num": "x, copy=True, nan=0.0, posinf=None, neginf=None",
    "isin": "element, test_elements, assume_unique=False, invert=False",
    "isclose": _CLOSE, "allclose": _CLOSE,
    "angle": "z, deg=False",
    "concatenate": _JOINING, "stack": _JOINING, "hstack": _LINES, "vstack": _LINES,
    "triu": "m, k=0", "tril": "m, k=0", "diag": "v, k=0", "diagflat": "v, k=0",
    "tile": "A, reps", "roll": "a, shift, axis=None", "flip": "a, axis=None",
    "repeat": "a, repeats, axis=None",
    "dot": "a, b, out=None", "vdot": "a, b", "outer": "a, b, out=None", "inner": "a, b",
    "kron": "a, b", "tensordot": "a, b, axes=2",
    "trace": "a, offset=0, axis1=0, axis2=1, dtype=None, out=None",
    "take": "a, indices, axis=None, out=None",
    "sort": "a, axis=-1, kind=None", "argsort": "a, axis=-1, kind=None",
    "searchsorted": "a, v, side='left', sorter=None",
    "append": "arr, values, axis=None",
    "reshape": "a, newshape, order='C', *, copy=None", "ravel": "a, order='C'",
    "transpose": "a, axes=None", "squeeze": "a, axis=None",
    "swapaxes": "a, axis1, axis2", "moveaxis": "a, source, destination",
    "expand_dims": "a, axis", "broadcast_to": "array, shape",
}  # fmt: skip
"""As in CuPy 14; what is not listed is not passed on to NumPy unless given."""

SYNCHRONISING = {
    "nonzero": "a", "flatnonzero": "a", "argwhere": "a",
    "bincount": "x, weights=None, minlength=None",
    "tril_indices": "n, k=0, m=None", "triu_indices": "n, k=0, m=None",
    "unique": (
        "ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, "
        "equal_nan=True"
    ),
}  # fmt: skip
"""Those whose result has a size that only the device knows."""


def _signature(text: str) -> inspect.Signature:
    return inspect.signature(eval(f"lambda {text}: None"))


def _made(name: str, text: str, synchronises: bool, function: Callable[..., Any]) -> Any:
    signature = _signature(text)

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        return run(name, function, bound.args, bound.kwargs, synchronises=synchronises)

    call.__name__ = call.__qualname__ = name
    call.__module__ = "cupy"
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


@repeatable
def run(
    name: str, function: Callable[..., Any], args: Any, kwargs: dict[str, Any], *,
    synchronises: bool = False,
) -> Any:  # fmt: skip
    """A function of NumPy on what the arrays of `args` hold; a view, or a new array by rows."""
    reads: list[ndarray] = []
    out = kwargs.pop("out", None)
    lowered = [_operand(x, reads) for x in args]
    options = {key: _operand(x, reads) for key, x in kwargs.items()}
    if synchronises:
        streams.fetch_size(name)
    if out is not None:
        require_current(require_array(out))
        options["out"] = out._host
    calculates = name not in COPYING and name not in BY_LIBRARIES
    if calculates:
        lowered = [flushed(x) for x in lowered]
    with np.errstate(all="ignore"):
        result = function(*lowered, **options)
    if name in BY_LIBRARIES and np.size(result) > 1:  # an inner product is a sum of CuPy's own
        refuse_cublas()
    if calculates and isinstance(result, np.ndarray | np.generic):
        result = flushed(result if isinstance(result, np.ndarray) else np.asarray(result))
    if out is not None:
        out._host[...] = result
        touch(name, reads, [out])
        return out
    return _raised(name, result, reads)


def _operand(x: Any, reads: list[ndarray]) -> Any:
    if isinstance(x, ndarray):
        require_current(x)
        reads.append(x)
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, list) and not any(isinstance(part, ndarray) for part in x):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, list | tuple):
        return type(x)(_operand(part, reads) for part in x)
    return x


def _raised(name: str, result: Any, reads: list[ndarray]) -> Any:
    if isinstance(result, list):
        return [_raised(name, part, reads) for part in result]
    if isinstance(result, tuple):  # without the names that NumPy has for its parts
        return tuple(_raised(name, part, reads) for part in result)
    if isinstance(result, np.ndarray | np.generic | bool | int | float | complex):
        return of_result(name, np.asarray(result), reads)
    return result


FUNCTIONS: dict[str, Any] = {
    **{name: _made(name, text, False, getattr(np, name)) for name, text in SIGNATURES.items()},
    **{name: _made(name, text, True, getattr(np, name)) for name, text in SYNCHRONISING.items()},
}


def _own(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that NumPy's of the same name does not serve."""
    function.__module__ = "cupy"
    FUNCTIONS[function.__name__.rstrip("_")] = function
    return function


@_own
def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return FUNCTIONS["nonzero"](condition)
    for given in (condition, x, y):
        if not isinstance(given, ndarray) and not is_scalar(given):
            raise TypeError(f"Unsupported type {type(given)}")
    return run("where", np.where, (condition, x, y), {})


@_own
def copyto(dst: ndarray, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    require_current(require_array(dst))
    reads: list[ndarray] = []
    source = _operand(src, reads)
    mask = True if where is None else _operand(where, reads)
    touch("copyto", reads, [dst])
    np.copyto(dst._host, source, casting=casting, where=mask)


def _position(name: str) -> Callable[..., Any]:
    def position(
        a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        found = run(name, getattr(np, name), (a, axis), {"keepdims": keepdims, "out": out})
        return found if dtype is None else found.astype(dtype)

    position.__name__ = name
    return _own(position)


_position("argmax")
_position("argmin")


@_own
def diagonal(a: ndarray, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
    return require_array(a).diagonal(offset, axis1, axis2)


def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    """Of `cupy.lib.stride_tricks`."""
    x = require_array(x)
    return ndarray(
        x.shape if shape is None else shape, x.dtype, x.data,
        x.strides if strides is None else strides,
    )  # fmt: skip


@_own
def fill_diagonal(a: ndarray, val: Any, wrap: bool = False) -> None:
    reads: list[ndarray] = []
    value = _operand(val, reads)
    touch("fill_diagonal", reads, [require_array(a)])
    np.fill_diagonal(a._host, value, wrap)


@_own
def array_equal(a1: ndarray, a2: ndarray, equal_nan: bool = False) -> ndarray:
    require_array(a1), require_array(a2)
    if a1.shape != a2.shape:
        return make_array(False)
    if equal_nan:
        streams.wait_for_current("array_equal")
    return run("array_equal", np.array_equal, (a1, a2, equal_nan), {})


@_own
def matmul(a: Any, b: Any, /, out: Any = None, **kwargs: Any) -> Any:
    if kwargs.keys() - {"axes", "axis", "keepdims", "casting", "dtype", "order"}:
        raise TypeError(f"Wrong arguments {kwargs}")
    return run("matmul", np.matmul, (require_array(a), require_array(b)), {"out": out, **kwargs})


@_own
def einsum(*operands: Any, **kwargs: Any) -> Any:
    return run("einsum", np.einsum, operands, kwargs)


@_own
def atleast_1d(*arys: ndarray) -> Any:
    return run("atleast_1d", np.atleast_1d, arys, {})


@_own
def atleast_2d(*arys: ndarray) -> Any:
    return run("atleast_2d", np.atleast_2d, arys, {})


@_own
def broadcast_arrays(*args: ndarray) -> Any:
    return run("broadcast_arrays", np.broadcast_arrays, args, {})


@_own
def real(val: Any) -> Any:
    return val.real if isinstance(val, ndarray) else make_array(val).real


@_own
def imag(val: Any) -> Any:
    return val.imag if isinstance(val, ndarray) else make_array(val).imag


@_own
def size(a: ndarray, axis: int | None = None) -> int:
    return require_array(a).size if axis is None else a.shape[axis]


@_own
def ndim(a: Any) -> int:
    return a.ndim if isinstance(a, ndarray) else np.ndim(a)


@_own
def shape(a: Any) -> tuple[int, ...]:
    return a.shape if isinstance(a, ndarray) else np.shape(a)


@_own
def iscomplexobj(x: Any) -> bool:
    return x.dtype.kind == "c" if isinstance(x, ndarray) else np.iscomplexobj(x)


@_own
def isrealobj(x: Any) -> bool:
    return not iscomplexobj(x)


@_own
def isscalar(element: Any) -> bool:
    return not isinstance(element, ndarray) and np.isscalar(element)


@_own
def result_type(*arrays_and_dtypes: Any) -> Any:
    return np.result_type(*(x._host if isinstance(x, ndarray) else x for x in arrays_and_dtypes))


@_own
def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    return np.can_cast(from_.dtype if isinstance(from_, ndarray) else from_, to, casting)


@_own
def shares_memory(a: ndarray, b: ndarray, max_work: Any = None) -> bool:
    return np.shares_memory(a._host, b._host)


@_own
def may_share_memory(a: ndarray, b: ndarray, max_work: Any = None) -> bool:
    return np.may_share_memory(a._host, b._host)


# -- methods ---------------------------------------------------------------------------------------

METHODS = (
    "sum", "prod", "mean", "max", "min", "argmax", "argmin", "any", "all", "cumsum", "cumprod",
    "std", "var", "trace", "dot", "take", "repeat", "nonzero", "argsort", "searchsorted",
    "round",
)  # fmt: skip


def _attach(name: str) -> None:
    function = FUNCTIONS[name]

    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__name__ = name
    setattr(ndarray, name, method)


for _name in METHODS:
    _attach(_name)


def _clip(self: ndarray, min: Any = None, max: Any = None, out: Any = None) -> Any:
    return FUNCTIONS["clip"](self, min, max, out)


def _sort(self: ndarray, axis: int = -1, kind: Any = None) -> None:
    touch("sort", [self], [self])
    self._host.sort(axis)


def _product(self: ndarray, other: Any) -> Any:
    return matmul(self, other) if isinstance(other, ndarray) else NotImplemented


ndarray.clip = _clip  # type: ignore[attr-defined]
ndarray.sort = _sort  # type: ignore[attr-defined]
ndarray.__matmul__ = _product  # type: ignore[attr-defined]
ndarray.mT = property(lambda self: self.swapaxes(-1, -2))  # type: ignore[attr-defined]
