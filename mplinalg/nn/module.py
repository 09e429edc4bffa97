"""What layers are: modules with parameters, and sequences of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from ..ops import is_on_host
from ..ops.dispatch import ops_on
from .autograd import Array, Tensor
from .scopes import state

__all__ = ["Module", "Parameter", "Sequential", "generators", "parameter_dtype"]


class Parameter(Tensor):
    """A tensor that is trained.

    Parameters
    ----------
    data : array_like
        float32 or float64; float32 if it is neither.
    name : str, optional

    Attributes
    ----------
    name : str

    Examples
    --------
    >>> from mplinalg.nn import Parameter
    >>> Parameter([[1, 2]], "weight")
    Parameter('weight', (1, 2), float32)
    """

    __slots__ = ("name",)

    def __init__(self, data: Any, name: str = "") -> None:
        super().__init__(data)
        dtype = self.data.dtype
        if dtype.kind == "c":
            raise TypeError(f"parameters are real; got {dtype}, shape {self.shape}")
        if dtype.char not in "fd" or not dtype.isnative:
            self.data = self.data.astype(dtype.char if dtype.char in "fd" else np.float32)
        self.requires_grad = True
        self.name = name

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.shape}, {self.dtype})"


_NO_MODULES = frozenset({Parameter, type(None), bool, int, float, str})
"""Types of most of what layers have: every pass over a network's parts looks at all of it."""


class Module:
    """A layer, or several: parameters, and `forward` from a tensor to a tensor.

    A subclass keeps parameters and modules as attributes, or modules in lists, and defines
    `forward`. It is called with a tensor or an array. Generators that are attributes are kept in
    checkpoints, so that a run that is resumed draws the same numbers.

    Attributes
    ----------
    training : bool
        Whether layers that tell training from use (Dropout, BatchNorm2d) are to train. False in
        the thread that predicts or evaluates, for so long; not in threads that `forward` starts.
    buffers : tuple of str
        Attributes of this class that are saved, but not trained.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import nn
    >>> class Residual(nn.Module):
    ...     def __init__(self, features):
    ...         self.inner = nn.Linear(features, features)
    ...
    ...     def forward(self, x):
    ...         return x + self.inner(x).relu()
    >>> layer = Residual(3)
    >>> [name for name, _ in layer.named_parameters()]
    ['inner.weight', 'inner.bias']
    >>> layer(np.ones((5, 3), np.float32)).shape
    (5, 3)
    """

    _trains = True
    draws_alike = False  # True: ranks that train together draw the same; there is a `draw`
    buffers: tuple[str, ...] = ()
    _place = ""

    def __init_subclass__(cls) -> None:
        given = vars(cls).get("training")
        if isinstance(given, bool):  # what its modules start with
            cls._trains = given
            del cls.training

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            value._place = name
        object.__setattr__(self, name, value)

    @property
    def training(self) -> bool:
        """Set by `train` and `eval`."""
        return self._trains and not state.in_use

    @training.setter
    def training(self, mode: bool) -> None:
        self._trains = mode

    def forward(self, x: Tensor) -> Tensor:
        """The result."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, x: Any) -> Tensor:
        if not isinstance(x, Tensor):
            x = Tensor(x)
            if x.dtype.kind == "c":
                raise TypeError(f"{self.label()}: input of shape {x.shape} is {x.dtype}")
        if state.observer is None:
            return self.forward(x)
        return state.observer(self, x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings()})"

    def flops(self, shape: tuple[int, ...]) -> int | None:
        """Additions, multiplications and functions of `forward` of an input of `shape`.

        A number for layers; None where it is not known.
        """
        return None

    def settings(self) -> str:
        """What is between the parentheses of its repr."""
        return ""

    def label(self) -> str:
        """For messages: where it is in what holds it, and what it is."""
        return f"layer {self._place}, {self!r}" if self._place else repr(self)

    # -- what it holds ---------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules that it holds, with the names of where.

        Yields
        ------
        name, module : str, Module
        """
        for name, value in vars(self).items():
            if type(value) in _NO_MODULES:
                continue
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                for k, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{name}.{k}", item

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Itself, with the name "", and all modules within, each name with all that lead to it.

        Yields
        ------
        name, module : str, Module
        """
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters, named as in PyTorch's state dicts; shared ones once.

        Yields
        ------
        name, parameter : str, Parameter
        """
        seen: set[int] = set()
        for name, value in self._entries():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> list[Parameter]:
        """All parameters, shared ones once."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, tuple[Module, str]]]:
        """Where buffers are, with their names.

        Yields
        ------
        name, (module, attribute) : str, tuple
        """
        for name, value in self._entries():
            if not isinstance(value, Parameter):
                yield name, value

    def _entries(self) -> Iterator[tuple[str, Any]]:
        """Parameters, and (module, attribute) of buffers."""
        for place, module in self.named_modules():
            dot = f"{place}." if place else ""
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield dot + name, value
            for name in module.buffers:
                if getattr(module, name) is not None:
                    yield dot + name, (module, name)

    # -- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """All parameters and buffers, copied, on their devices, with PyTorch's names.

        Returns
        -------
        dict of str to array
        """
        return {
            name: (value.data if isinstance(value, Parameter) else getattr(*value)).copy()
            for name, value in self._entries()
        }

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take parameters and buffers from a state dict, this library's or PyTorch's.

        Parameters
        ----------
        values : mapping of str to array_like
            Of the same names and shapes; they are copied in the dtypes that are here.

        Raises
        ------
        ValueError
            Names that are missing or too many, other shapes, or what cannot become the dtype that
            is here, such as complex numbers. Nothing is changed then.
        """
        entries = dict(self._entries())
        missing, foreign = sorted(entries.keys() - values), sorted(values.keys() - entries)
        if missing or foreign:
            raise ValueError(f"state dict does not fit: without {missing}, with unknown {foreign}")
        new = {}
        for name, value in entries.items():
            old = value.data if isinstance(value, Parameter) else getattr(*value)
            given = values[name]
            if isinstance(given, np.ma.MaskedArray):
                raise ValueError(f"{name} is a masked array in the state dict")
            array = given if type(given) is type(old) else np.asarray(given)
            if array.shape != old.shape:
                raise ValueError(
                    f"{name} has shape {array.shape} in the state dict, {old.shape} here"
                )
            if not np.can_cast(array.dtype, old.dtype, "same_kind"):
                raise ValueError(f"{name} is {array.dtype} in the state dict, {old.dtype} here")
            new[name] = old, array
        for name, (old, array) in new.items():
            if isinstance(entries[name], Parameter):
                entries[name].version += 1
            if is_on_host(old) or not is_on_host(array):
                old[...] = array
            else:
                old.set(array.astype(old.dtype))

    def to(self, device: str | None = None, dtype: DTypeLike | None = None) -> Self:
        """Move parameters and buffers to "cpu" or "cuda"; change the dtype of parameters.

        Gradients are dropped. Returns the module.

        Raises
        ------
        ImportError
            "cuda" without CuPy.
        TypeError
            A dtype other than float32 and float64.
        """
        dtype = None if dtype is None else parameter_dtype(dtype)
        if device not in (None, "cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda; got {device!r}")

        def moved(a: Array) -> Array:
            if dtype is not None and a.dtype.kind == "f":
                a = a.astype(dtype)
            if device == "cpu":
                return a if is_on_host(a) else a.get()
            return a if device is None else ops_on(device).xp.asarray(a)

        for _, value in list(self._entries()):
            if isinstance(value, Parameter):
                value.data, value.grad = moved(value.data), None
            else:
                module, name = value
                setattr(module, name, moved(getattr(module, name)))
        return self

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Self:
        """Have all modules train, or with False be used. Returns the module."""
        for _, module in self.named_modules():
            if module._trains is not mode:
                module.training = mode
        return self

    def eval(self) -> Self:
        """Have all modules be used. Returns the module."""
        return self.train(False)


class Sequential(Module):
    """Layers one after another.

    A ReLU after a layer that can do it in one go (Linear, Conv2d) is done by that layer, and so is
    a MaxPool2d after that. The results have the same bits, but for gradients of biases that are
    pooled at once: their sums are rounded in another order.

    Parameters
    ----------
    *layers : Module

    Examples
    --------
    >>> from mplinalg.nn import Linear, ReLU, Sequential
    >>> net = Sequential(Linear(4, 3), ReLU(), Linear(3, 2))
    >>> [name for name, _ in net.named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    >>> net[0], len(net)
    (Linear(4, 3), 3)
    """

    def __init__(self, *layers: Module) -> None:
        for k, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"layer {k} is no module but {type(layer).__name__}")
            layer._place = str(k)
        self.layers = list(layers)

    def children(self) -> Iterator[tuple[str, Module]]:
        return ((str(k), layer) for k, layer in enumerate(self.layers))

    def forward(self, x: Tensor) -> Tensor:
        if state.observer is not None:
            for layer in self.layers:
                x = layer(x)
            return x
        layers = self.layers
        k = 0
        while k < len(layers):
            layer = layers[k]
            k += 1
            # of the class itself: a subclass may compute something else
            if k < len(layers) and "is_relu" in vars(type(layers[k])) and _is_plain(layers[k]):
                here = vars(type(layer)) if _is_plain(layer) else {}
                if (
                    "forward_relu_pool" in here and k + 1 < len(layers)
                    and "is_max_pool" in vars(type(layers[k + 1])) and _is_plain(layers[k + 1])
                ):  # fmt: skip
                    x = here["forward_relu_pool"](layer, x, layers[k + 1])
                    k += 2
                    continue
                if "forward_relu" in here:
                    x = here["forward_relu"](layer, x)
                    k += 1
                    continue
            x = layer.forward(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, k: int) -> Module:
        return self.layers[k]

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def settings(self) -> str:
        return ", ".join(map(repr, self.layers))


def _is_plain(layer: Module) -> bool:
    """Whether it has no `forward` but that of its class."""
    return "forward" not in vars(layer)


def parameter_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64, which parameters may be.

    Raises
    ------
    TypeError
        It is another.
    """
    found = np.dtype(dtype)
    if found.char not in "fd" or not found.isnative:
        raise TypeError(f"parameters are float32 or float64; got {found}")
    return found


def generators(net: Module, *, apart: bool = False) -> dict[str, np.random.Generator]:
    """Those of layers that draw random numbers, by name; `apart`: other ones on every rank."""
    found = {}
    for name, module in net.named_modules():
        if not (apart and module.draws_alike):
            for attribute, rng in own_generators(module):
                found[f"layer {name}" + ("" if attribute == "rng" else f".{attribute}")] = rng
    return found


def own_generators(module: Module) -> list[tuple[str, np.random.Generator]]:
    """Those of a module alone, with the names of the attributes."""
    return [
        (name, rng) for name, rng in vars(module).items() if isinstance(rng, np.random.Generator)
    ]
