"""Functions of one element: CuPy's ufuncs, carried out by NumPy's, and the operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from .array import fresh, lowered, ndarray, require_current, touch
from .capture import repeatable
from .dtypes import dtype_of, is_scalar
from .subnormals import KEEPING, flushed

NAMES = (
    "abs", "absolute", "add", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2",
    "arctanh", "bitwise_and", "bitwise_or", "bitwise_xor", "cbrt", "ceil", "conj", "conjugate",
    "copysign", "cos", "cosh", "deg2rad", "degrees", "divide", "divmod", "equal", "exp", "exp2",
    "expm1", "fabs", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "frexp",
    "gcd", "greater", "greater_equal", "heaviside", "hypot", "invert", "isfinite", "isinf",
    "isnan", "lcm", "ldexp", "left_shift", "less", "less_equal", "log", "log10", "log1p",
    "log2", "logaddexp", "logaddexp2", "logical_and", "logical_not", "logical_or",
    "logical_xor", "maximum", "minimum", "mod", "modf", "multiply", "negative", "nextafter",
    "not_equal", "positive", "power", "rad2deg", "radians", "reciprocal", "remainder",
    "right_shift", "rint", "sign", "signbit", "sin", "sinh", "sqrt", "square", "subtract",
    "tan", "tanh", "true_divide", "trunc",
)  # fmt: skip

_COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}


class ufunc:
    """`cupy.ufunc`: operands are device arrays and numbers, results new arrays by rows."""

    __module__ = "cupy._core._kernel"

    def __init__(self, name: str) -> None:
        self._numpy = getattr(np, name)
        self.name = self.__name__ = f"cupy_{name}"
        self.nin, self.nout, self.nargs = self._numpy.nin, self._numpy.nout, self._numpy.nargs

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    @repeatable
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        dtype = kwargs.pop("dtype", None)
        casting = kwargs.pop("casting", "same_kind")
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(
                f"Wrong number of arguments for {self.name!r}. It must be either {self.nin} or "
                f"{self.nargs} (with outputs), but given {len(args)}."
            )
        outs = args[self.nin :] or (out if isinstance(out, tuple) else (out,))
        outs = tuple(outs) + (None,) * (self.nout - len(outs))
        reads: list[ndarray] = []
        inputs = [lowered(self._number(x), reads) for x in args[: self.nin]]
        if self._numpy.__name__ not in KEEPING:
            inputs = [flushed(x) for x in inputs]
        writes = []
        for given in outs:
            if given is None:
                continue
            if not isinstance(given, ndarray):
                raise TypeError("Output arguments type must be cupy.ndarray")
            require_current(given)
            if given.shape != np.broadcast_shapes(*(np.shape(x) for x in inputs)):
                raise ValueError("Out shape is mismatched")
            writes.append(given)
        options = {} if dtype is None else {"dtype": dtype_of(dtype)}
        with np.errstate(all="ignore"):
            results = self._numpy(
                *inputs, order="C", casting=casting,
                out=tuple(None if given is None else given._host for given in outs), **options,
            )  # fmt: skip
        if writes:
            touch(self.name, reads, writes)
        results = results if self.nout > 1 else (results,)
        for result in results:
            done = flushed(np.asarray(result))
            if done is not result and isinstance(result, np.ndarray):
                result[...] = done
        made = tuple(
            fresh(self.name, np.asarray(result), reads) if given is None else given
            for given, result in zip(outs, results, strict=True)
        )
        return made if self.nout > 1 else made[0]

    def _number(self, x: Any) -> Any:
        """NumPy's numbers in no dimensions may be compared with."""
        is_number = isinstance(x, np.ndarray) and x.ndim == 0
        return x.item() if is_number and self._numpy.__name__ in _COMPARISONS else x

    def outer(self, a: Any, b: Any, **kwargs: Any) -> Any:
        return self(a[(...,) + (None,) * b.ndim], b, **kwargs)

    def reduce(
        self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None,
        keepdims: bool = False,
    ) -> Any:  # fmt: skip
        if self._numpy.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        reads: list[ndarray] = []
        host = lowered(array, reads)
        done = np.asarray(self._numpy.reduce(host, axis, dtype, keepdims=keepdims))
        return fresh(f"{self.name}.reduce", done, reads)


UFUNCS: dict[str, ufunc] = {name: ufunc(name) for name in NAMES}
for _alias, _name in {
    "abs": "absolute", "conj": "conjugate", "divide": "true_divide", "mod": "remainder",
}.items():  # fmt: skip
    UFUNCS[_alias] = UFUNCS[_name]
UFUNCS["bitwise_not"] = UFUNCS["invert"]


# -- operators -----------------------------------------------------------------------------------

_BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
    "floordiv": "floor_divide", "mod": "remainder", "pow": "power", "divmod": "divmod",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "left_shift",
    "rshift": "right_shift",
}  # fmt: skip
_COMPARING = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
    "ne": "not_equal",
}  # fmt: skip
_UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def _defers(x: ndarray, other: Any) -> bool:
    """Whether the other operand is to be asked, as it has a higher priority."""
    if isinstance(other, ndarray) or is_scalar(other) or hasattr(other, "__array_ufunc__"):
        return False
    return x.__array_priority__ < getattr(other, "__array_priority__", 0)


def _attach(name: str, function: ufunc, *, reflected: bool, in_place: bool) -> None:
    def forward(self: ndarray, other: Any) -> Any:
        return NotImplemented if _defers(self, other) else function(self, other)

    def backward(self: ndarray, other: Any) -> Any:
        return NotImplemented if _defers(self, other) else function(other, self)

    def inside(self: ndarray, other: Any) -> Any:
        return function(self, other, out=self)

    setattr(ndarray, f"__{name}__", forward)
    if reflected:
        setattr(ndarray, f"__r{name}__", backward)
    if in_place:
        setattr(ndarray, f"__i{name}__", inside)


for _name, _wanted in _BINARY.items():
    _attach(_name, UFUNCS[_wanted], reflected=True, in_place=_name != "divmod")
for _name, _wanted in _COMPARING.items():
    _attach(_name, UFUNCS[_wanted], reflected=False, in_place=False)
for _name, _wanted in _UNARY.items():
    setattr(ndarray, f"__{_name}__", lambda self, _function=UFUNCS[_wanted]: _function(self))
