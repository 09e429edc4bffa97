"""Arithmetic on many small problems at once: registers hold one number of each of `width` members.

Code for small matrices of a fixed size is written as Python that computes with `Lanes`: it runs
once, while Numba compiles the kernel that calls it, and what it does is written down as straight
vector code. Loops over rows and columns are Python's and vanish; a matrix is a list of lists, and
stays in registers as long as there are enough. A comparison gives a mask, not a bool: pivoting is
`where`, and all members take the same road.

    def solve_2_by_2(a, b):                     # a[i][j], b[i]: Lanes
        d = a[0][0] * a[1][1] - a[0][1] * a[1][0]
        return [(a[1][1] * b[0] - a[0][1] * b[1]) / d, (a[0][0] * b[1] - a[1][0] * b[0]) / d]

An intrinsic reads members (`batched.packed.read_packed`), calls such a function, and writes what
it returns. It takes the sizes as literals (``prefer_literal=True``), so that kernels made by a
function of the size (closures over integers) are cached on disk like any others.

NaN and infinity keep their meaning; sums may be contracted to fused multiply-adds. Nothing one
member holds has an influence on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = [
    "REGISTER_BYTES", "ComplexLanes", "Lanes", "Mask", "ask_for", "real_bytes", "shuffled",
    "transposed", "where", "width_of",
]  # fmt: skip

REGISTER_BYTES = 64
"""Of a group of members: one AVX-512 register; two AVX2's, four NEON's."""

_CONTRACT = ("contract", "nsz")
_PLACE = ir.IntType(32)


def width_of(real: Any) -> int:
    """Members in a register, for numbers of an LLVM type, float or double."""
    return REGISTER_BYTES // real_bytes(real)


def real_bytes(real: Any) -> int:
    """Bytes of a number of an LLVM type, float or double."""
    return 8 if isinstance(real, ir.DoubleType) else 4


@dataclass(frozen=True)
class Mask:
    """True or false for each member."""

    builder: Any
    value: Any

    def __and__(self, other: Mask) -> Mask:
        return Mask(self.builder, self.builder.and_(self.value, other.value))

    def __or__(self, other: Mask) -> Mask:
        return Mask(self.builder, self.builder.or_(self.value, other.value))

    def __invert__(self) -> Mask:
        return Mask(self.builder, self.builder.not_(self.value))


@dataclass(frozen=True)
class Lanes:
    """A real number of each member. Operands may be Python numbers, the same for all."""

    builder: Any
    value: Any

    def constant(self, number: float) -> Lanes:
        """The same number for every member."""
        kind = self.value.type
        return Lanes(self.builder, ir.Constant(kind, [float(number)] * kind.count))

    def _lanes(self, other: Lanes | float) -> Any:
        return other.value if isinstance(other, Lanes) else self.constant(other).value

    def _arithmetic(self, name: str, first: Any, second: Any) -> Lanes:
        return Lanes(self.builder, getattr(self.builder, name)(first, second, flags=_CONTRACT))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._arithmetic("fadd", self.value, self._lanes(other))

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._arithmetic("fsub", self.value, self._lanes(other))

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._arithmetic("fmul", self.value, self._lanes(other))

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._arithmetic("fdiv", self.value, self._lanes(other))

    def __rtruediv__(self, other: float) -> Lanes:
        return self._arithmetic("fdiv", self._lanes(other), self.value)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: float) -> Lanes:
        return self._arithmetic("fsub", self._lanes(other), self.value)

    def __neg__(self) -> Lanes:
        return Lanes(self.builder, self.builder.fneg(self.value))

    def _compare(self, sign: str, other: Lanes | float) -> Mask:
        """False where one of the two is NaN."""
        compared = self.builder.fcmp_ordered(sign, self.value, self._lanes(other))
        return Mask(self.builder, compared)

    def __gt__(self, other: Lanes | float) -> Mask:
        return self._compare(">", other)

    def __lt__(self, other: Lanes | float) -> Mask:
        return self._compare("<", other)

    def __ge__(self, other: Lanes | float) -> Mask:
        return self._compare(">=", other)

    def __le__(self, other: Lanes | float) -> Mask:
        return self._compare("<=", other)

    def equals(self, other: Lanes | float) -> Mask:
        """Where the two are equal; false where one is NaN."""
        return self._compare("==", other)

    def _call(self, name: str) -> Lanes:
        kind = self.value.type
        suffix = f"v{kind.count}f{8 * real_bytes(kind.element)}"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(kind, [kind]), f"llvm.{name}.{suffix}"
        )
        return Lanes(self.builder, self.builder.call(function, [self.value]))

    def __abs__(self) -> Lanes:
        return self._call("fabs")

    def sqrt(self) -> Lanes:
        """Rounded correctly; NaN for negative numbers."""
        return self._call("sqrt")

    @property
    def real(self) -> Lanes:
        """Itself."""
        return self

    def conj(self) -> Lanes:
        """Itself."""
        return self

    def magnitude(self) -> Lanes:
        """The absolute value; of complex numbers |re| + |im|, which pivots are chosen by."""
        return abs(self)

    def squared(self) -> Lanes:
        """The square of the absolute value."""
        return self * self

    def inverse(self) -> Lanes:
        """One over this."""
        return 1.0 / self


@dataclass(frozen=True)
class ComplexLanes:
    """A complex number of each member."""

    real: Lanes
    imag: Lanes

    def constant(self, number: complex) -> ComplexLanes:
        """The same number for every member."""
        number = complex(number)
        return ComplexLanes(self.real.constant(number.real), self.imag.constant(number.imag))

    def __add__(self, other: ComplexLanes) -> ComplexLanes:
        return ComplexLanes(self.real + other.real, self.imag + other.imag)

    def __sub__(self, other: ComplexLanes) -> ComplexLanes:
        return ComplexLanes(self.real - other.real, self.imag - other.imag)

    def __mul__(self, other: ComplexLanes | Lanes | float) -> ComplexLanes:
        if not isinstance(other, ComplexLanes):
            return ComplexLanes(self.real * other, self.imag * other)
        return ComplexLanes(
            self.real * other.real - self.imag * other.imag,
            self.real * other.imag + self.imag * other.real,
        )

    __rmul__ = __mul__

    def __neg__(self) -> ComplexLanes:
        return ComplexLanes(-self.real, -self.imag)

    def conj(self) -> ComplexLanes:
        """The conjugate."""
        return ComplexLanes(self.real, -self.imag)

    def magnitude(self) -> Lanes:
        """|re| + |im|, between the absolute value and 1.41 times that."""
        return abs(self.real) + abs(self.imag)

    def squared(self) -> Lanes:
        """The square of the absolute value; overflows and underflows as squares do."""
        return self.real * self.real + self.imag * self.imag

    def inverse(self) -> ComplexLanes:
        """One over this, without squares that overflow (Smith 1962)."""
        larger = abs(self.real) >= abs(self.imag)
        top, bottom = where(larger, self.real, self.imag), where(larger, self.imag, self.real)
        ratio = bottom / top
        scale = 1.0 / (top + bottom * ratio)
        across = ratio * scale
        return ComplexLanes(where(larger, scale, across), -where(larger, across, scale))


def where(mask: Mask, first: Any, second: Any) -> Any:
    """`first` for the members of which `mask` is true, `second` for the others."""
    if isinstance(first, ComplexLanes):
        return ComplexLanes(
            where(mask, first.real, second.real), where(mask, first.imag, second.imag)
        )
    return Lanes(first.builder, first.builder.select(mask.value, first.value, second.value))


def ask_for(builder: Any, pointer: Any, *, to_write: bool = False) -> None:
    """Bring the line of memory at a pointer, which may lead anywhere, into all caches."""
    byte = ir.IntType(8).as_pointer()
    shape = ir.FunctionType(ir.VoidType(), [byte, _PLACE, _PLACE, _PLACE])
    function = cgutils.get_or_insert_function(builder.module, shape, "llvm.prefetch.p0")
    hints = [ir.Constant(_PLACE, hint) for hint in (int(to_write), 3, 1)]
    builder.call(function, [builder.bitcast(pointer, byte), *hints])


# -- between registers ---------------------------------------------------------------------------


def transposed(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Registers whose l-th is made of the l-th numbers of all given, in log2 rounds of swaps.

    Fewer registers than a register holds numbers, 2^k of them, are taken as square blocks side by
    side, each transposed.
    """
    rows = list(rows)
    width, step = rows[0].type.count, 1
    while step < len(rows):
        low = [k if not k & step else width + (k ^ step) for k in range(width)]
        high = [k | step if not k & step else width + k for k in range(width)]
        for i in range(len(rows)):
            if not i & step:
                first, second = rows[i], rows[i | step]
                rows[i] = shuffled(builder, first, second, low)
                rows[i | step] = shuffled(builder, first, second, high)
        step *= 2
    return rows


def shuffled(builder: Any, first: Any, second: Any, places: Sequence[int]) -> Any:
    """The numbers at `places` of two registers, those of the second counted on after the first."""
    indices = ir.Constant(ir.VectorType(_PLACE, len(places)), list(places))
    return builder.shuffle_vector(first, second, indices)
