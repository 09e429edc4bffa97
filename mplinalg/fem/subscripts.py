"""Einstein's notation, read: which index stands where, and how long it runs."""

from __future__ import annotations

import string
from collections import Counter
from dataclasses import dataclass
from typing import Any, NoReturn

Shape = tuple[int, ...]

_LETTERS = string.ascii_lowercase + string.ascii_uppercase


@dataclass(frozen=True)
class Terms:
    """The indices of each operand and of the result, one character an index.

    Dimensions under an ellipsis have digits for indices. `sizes` has what an index runs to; an
    operand whose dimension is 1 there is broadcast.
    """

    inputs: tuple[str, ...]
    output: str
    sizes: dict[str, int]

    @property
    def shape(self) -> Shape:
        """Of the result."""
        return tuple(self.sizes[index] for index in self.output)


def parse(subscripts: str, shapes: tuple[Shape, ...]) -> Terms:
    """What `subscripts` say of operands with `shapes`, as numpy.einsum understands them.

    Raises
    ------
    ValueError
        They are malformed, or do not fit the shapes.
    """
    return _Parser(subscripts, shapes).terms()


def from_lists(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """Subscripts and operands of ``operand, list, operand, list, ..., [list of the result]``.

    >>> from_lists(("A", [0, 7], "B", [7, ...], [...,  0]))
    ('ab,b...->...a', ('A', 'B'))
    """
    pairs = len(arguments) // 2
    operands = arguments[0 : 2 * pairs : 2]
    lists = [*arguments[1 : 2 * pairs : 2], *arguments[2 * pairs :]]
    for entries in lists:
        if not isinstance(entries, list | tuple):
            raise TypeError(
                "contract takes a string and operands, or operands each followed by a list of "
                f"indices; got {type(entries).__name__} in place of such a list"
            )
        for entry in entries:
            if entry is not Ellipsis and (
                isinstance(entry, bool) or not hasattr(entry, "__index__")
            ):
                raise TypeError(f"an index in a list is an integer or an ellipsis, got {entry!r}")
    known = sorted({int(entry) for entries in lists for entry in entries if entry is not Ellipsis})
    # ascending, as the order of the indices of an implicit result is that of the integers
    letters = sorted(_LETTERS) if len(known) > 26 else list(_LETTERS)
    letters += [chr(0x4E00 + i) for i in range(len(known) - len(letters))]
    name = dict(zip(known, letters, strict=False))
    texts = [
        "".join("..." if entry is Ellipsis else name[int(entry)] for entry in entries)
        for entries in lists
    ]
    result = "->" + texts[pairs] if len(texts) > pairs else ""
    return ",".join(texts[:pairs]) + result, operands


class _Parser:
    def __init__(self, subscripts: str, shapes: tuple[Shape, ...]) -> None:
        self.subscripts, self.shapes = subscripts, shapes
        self.given, self.arrow, self.result = "".join(subscripts.split()).partition("->")

    def terms(self) -> Terms:
        parts = self.given.split(",")
        if len(parts) != len(self.shapes):
            self.fail(f"subscripts of {len(parts)} operands, for {len(self.shapes)}")
        wide = 0  # dimensions under an ellipsis
        for k, (part, shape) in enumerate(zip(parts, self.shapes, strict=True)):
            letters = self.letters(part, f"operand {k}")
            dots = len(shape) - len(letters)
            if dots < 0 or (dots > 0 and letters == part):
                self.fail(
                    f"operand {k} has {len(shape)} dimensions, but its subscripts {part!r} "
                    f"{'are' if letters == part else 'have at least'} {len(letters)}"
                )
            wide = max(wide, dots)
        # Broadcast from the right: the last dimension under any ellipsis has the same index.
        under = [str(i) if i < 10 else chr(0x2460 + i) for i in range(wide)]
        inputs = tuple(
            part.replace("...", "".join(under[wide - len(shape) + len(part) - 3 :]))
            if "..." in part
            else part
            for part, shape in zip(parts, self.shapes, strict=True)
        )
        return Terms(inputs, self.output(inputs, "".join(under)), self.sizes(inputs))

    def letters(self, part: str, where: str) -> str:
        letters = part.replace("...", "", 1)
        for character in letters:
            if not character.isalpha():
                self.fail(f"{character!r} in the subscripts of {where} is not a letter")
        return letters

    def output(self, inputs: tuple[str, ...], under: str) -> str:
        if not self.arrow:
            counts = Counter("".join(inputs))
            return under + "".join(sorted(i for i in counts if counts[i] == 1 and i not in under))
        letters = self.letters(self.result, "the result")
        for index, count in Counter(letters).items():
            if not any(index in term for term in inputs):
                self.fail(f"index {index!r} of the result is in no operand")
            if count > 1:
                self.fail(f"index {index!r} is {count} times in the result")
        if under and letters == self.result:
            self.fail("the operands have dimensions under an ellipsis, the result has no ellipsis")
        return self.result.replace("...", under)

    def sizes(self, inputs: tuple[str, ...]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        source: dict[str, int] = {}
        for k, (term, shape) in enumerate(zip(inputs, self.shapes, strict=True)):
            own: dict[str, int] = {}
            for index, size in zip(term, shape, strict=True):
                name = "an ellipsis" if not index.isalpha() else f"index {index!r}"
                if own.setdefault(index, size) != size:
                    self.fail(f"{name} is {own[index]} and {size} in operand {k}")
                known = sizes.setdefault(index, 1)
                if size == 1:
                    continue
                if known not in (1, size):
                    self.fail(
                        f"{name} is {known} in operand {source[index]} and {size} in operand {k}"
                    )
                sizes[index], source[index] = size, k
        return sizes

    def fail(self, what: str) -> NoReturn:
        shapes = ", ".join(map(str, self.shapes)) or "none"
        raise ValueError(f"{what}: {self.subscripts!r} with operands of shapes {shapes}")
