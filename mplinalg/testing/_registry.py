"""The register of matrix families: one decorated function each, with what is known of it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

Matrix = NDArray[Any]
Builder = Callable[..., Matrix]

REAL = ("float32", "float64")
COMPLEX = ("complex64", "complex128")


@dataclass(frozen=True)
class Facts:
    """What is known of a family of matrices, for its default parameters and n >= 2.

    The properties are those of the formula in exact arithmetic. Rounding the entries to the
    dtype preserves symmetry, but can destroy singularity or definiteness once the smallest
    singular value is below the unit roundoff times the largest (Hilbert, n > 12 in float64).

    Attributes
    ----------
    name : str
        The name that `matrix` takes.
    description : str
        One line: the formula, or how the matrix is drawn.
    source : str
        Author and year of the family.
    hermitian : bool
        Equal to its conjugate transpose (symmetric, in a real dtype).
    positive_definite : bool
        Hermitian with positive eigenvalues.
    singular : bool
        Rank below n.
    finite : bool
        Free of NaN and Inf.
    kappa : callable or None
        ``kappa(n)``, n >= 1, is the 2-norm condition number, where it is known to within 5 %.
    dtypes : tuple of str
        The dtypes in which the family exists.
    parameters : mapping
        Names and defaults of the keyword parameters. Random families have ``rng``.
    """

    name: str
    description: str
    source: str
    hermitian: bool = False
    positive_definite: bool = False
    singular: bool = False
    finite: bool = True
    kappa: Callable[[int], float] | None = None
    dtypes: tuple[str, ...] = REAL + COMPLEX
    parameters: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def random(self) -> bool:
        """Whether the matrix is drawn, and so depends on ``rng``."""
        return "rng" in self.parameters


@dataclass(frozen=True)
class Family:
    """A builder and the facts of what it builds."""

    facts: Facts
    build: Builder


_families: dict[str, Family] = {}


def family(source: str, **known: Any) -> Callable[[Builder], Builder]:
    """Register the decorated builder under its own name.

    A builder is called as ``build(n, **parameters)``, or, when its first argument is named
    ``draw``, as ``build(draw, n, **parameters)`` with a `Draw`: then it is a random family and
    `rng` is a parameter of it. It returns a real or complex (n, n) array in any precision; a
    real result is turned into a complex one by `with_phases` when a complex dtype is wanted.
    The first line of its docstring is the description.

    Parameters
    ----------
    source : str
        Author and year.
    **known
        Other fields of `Facts`.
    """

    def register(build: Builder) -> Builder:
        arguments = inspect.signature(build).parameters
        parameters = {
            key: argument.default
            for key, argument in arguments.items()
            if argument.kind is argument.KEYWORD_ONLY
        }
        if "draw" in arguments:
            parameters["rng"] = 0
        facts = Facts(
            name=build.__name__,
            description=(build.__doc__ or "").partition("\n")[0],
            source=source,
            parameters=MappingProxyType(parameters),
            **known,
        )
        _families[facts.name] = Family(facts, build)
        return build

    return register


def registered_names() -> tuple[str, ...]:
    """All names, sorted."""
    return tuple(sorted(_families))


def lookup(name: str) -> Family:
    """Return the family called `name`; the error for any other lists close matches."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a matrix is a string, got {name!r}")
    if name not in _families:
        close = difflib.get_close_matches(name.lower(), _families, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "see gallery.names()"
        raise ValueError(f"unknown matrix {name!r}; {hint}")
    return _families[name]
