"""Matrix Market files (.mtx) to and from dense arrays, without trust in what they announce.

References
----------
.. [1] R. F. Boisvert, R. Pozo and K. A. Remington, "The Matrix Market Exchange Formats: Initial
   Design", NISTIR 5935, National Institute of Standards and Technology, 1996.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["read", "write"]

Array = NDArray[Any]
DENSE_LIMIT = 2**32  # bytes: the largest sparse matrix that is written out in full

_LAYOUTS = ("array", "coordinate")
_FIELDS = {"real": 1, "double": 1, "integer": 1, "complex": 2, "pattern": 0}  # numbers an entry
_SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")


def read(file: str) -> Array:
    """Read a dense or sparse matrix as a dense array.

    Parameters
    ----------
    file : str

    Returns
    -------
    (m, n) ndarray of float64 or complex128

    Raises
    ------
    ValueError
        If the file breaks the format, is truncated, has a diagonal that its symmetry rules out, or
        is sparse and too large to be made dense.
    """
    size = os.path.getsize(file)
    with open(file, encoding="utf-8") as stream:
        layout, field, symmetry = _parse_banner(stream.readline())
        m, n, entries = _parse_sizes(stream, layout, symmetry)
        if m < 1 or n < 1:
            raise ValueError(f"holds no numbers (shape {(m, n)})")
        if symmetry != "general" and m != n:
            raise ValueError(f"{symmetry}, yet not square (shape {(m, n)})")
        if 2 * entries > size:  # a digit and a separator each
            raise ValueError(f"truncated: {entries} entries announced in {size} bytes")
        dtype = np.dtype(np.complex128 if field == "complex" else np.float64)
        dense = m * n * dtype.itemsize
        if layout == "coordinate" and dense > DENSE_LIMIT:
            raise ValueError(
                f"a sparse matrix of {m} x {n} with {entries} entries would take "
                f"{dense / 2**30:.1f} GiB as a dense one, more than the limit of "
                f"{DENSE_LIMIT / 2**30:.0f} GiB; use a sparse solver"
            )
        numbers = _FIELDS[field] + (2 if layout == "coordinate" else 0)
        table = _parse_numbers(stream, entries, numbers)
    x: Array = np.zeros((m, n), dtype)
    values = table if layout == "array" else np.ascontiguousarray(table[:, 2:])
    values = values.view(np.complex128) if field == "complex" else values
    if layout == "array":
        x[_array_positions(m, n, symmetry)] = values[:, 0]
    else:  # repeated entries add up
        i, j = _positions(table[:, 0], m, "row"), _positions(table[:, 1], n, "column")
        np.add.at(x, (i, j), 1.0 if field == "pattern" else values[:, 0])
    _check_diagonal(x, symmetry)
    if symmetry != "general":
        mirrored = np.tril(x, -1).T + np.triu(x, 1).T
        sign = -1 if symmetry == "skew-symmetric" else 1
        x += sign * (mirrored.conj() if symmetry == "hermitian" else mirrored)
    return x


def write(stream: BinaryIO, x: Array) -> None:
    """Write the matrix `x`, (m, n), as a dense general one, such that reading gives it back."""
    field = {"c": "complex", "f": "real"}.get(x.dtype.kind, "integer")
    stream.write(f"%%MatrixMarket matrix array {field} general\n{len(x)} {x.shape[1]}\n".encode())
    for column in x.T:
        values = column.tolist()
        if field == "complex":
            lines = [f"{v.real!r} {v.imag!r}" for v in values]
        else:
            lines = [repr(v) for v in values]
        stream.write(("\n".join(lines) + "\n").encode())


def _parse_banner(line: str) -> tuple[str, str, str]:
    words = line.lower().split()
    if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
        raise ValueError(f"the first line is not that of a Matrix Market file: {line[:60]!r}")
    layout, field, symmetry = words[2:]
    known = layout in _LAYOUTS and field in _FIELDS and symmetry in _SYMMETRIES
    if not known or (layout == "array" and field == "pattern"):
        raise ValueError(f"the kind of matrix is not known: {layout} {field} {symmetry}")
    return layout, field, symmetry


def _parse_sizes(stream: TextIO, layout: str, symmetry: str) -> tuple[int, int, int]:
    """Rows, columns, and the number of entries in the file."""
    line = next(_content(iter(stream.readline, "")), "")
    expected = 2 if layout == "array" else 3
    words = line.split()
    if len(words) != expected or not all(word.isdecimal() for word in words):
        raise ValueError(f"expected a line of {expected} sizes, found {line.strip()[:60]!r}")
    m, n, *rest = (int(word) for word in words)
    if rest:
        return m, n, rest[0]
    lower = {"general": m * n, "skew-symmetric": n * (n - 1) // 2}
    return m, n, lower.get(symmetry, n * (n + 1) // 2)


def _parse_numbers(stream: TextIO, entries: int, numbers: int) -> NDArray[np.float64]:
    """The rest of the file as (entries, numbers)."""
    flat = np.empty(entries * numbers)
    filled = 0
    while lines := stream.readlines(2**22):
        words = " ".join(_content(iter(lines))).split()
        if filled + len(words) > flat.size:
            raise ValueError(f"more than the {entries} entries announced")
        flat[filled : filled + len(words)] = [float(word) for word in words]
        filled += len(words)
    if filled < flat.size:
        raise ValueError(f"truncated: {filled // numbers} of {entries} entries are there")
    return flat.reshape(entries, numbers)


def _content(lines: Iterator[str]) -> Iterator[str]:
    """Lines that are neither blank nor comments."""
    return (line for line in lines if line.strip() and not line.lstrip().startswith("%"))


def _check_diagonal(x: Array, symmetry: str) -> None:
    """The diagonal of a Hermitian matrix is real, that of a skew-symmetric one is 0."""
    diagonal = np.diagonal(x)
    wrong = {"hermitian": diagonal.imag, "skew-symmetric": diagonal}.get(symmetry, np.zeros(0))
    for k in np.flatnonzero(wrong)[:1]:
        wanted = "real" if symmetry == "hermitian" else "0"
        raise ValueError(f"{symmetry}, yet entry ({k + 1}, {k + 1}) is {x[k, k]}, not {wanted}")


def _array_positions(m: int, n: int, symmetry: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the entries in the order of the file, by columns."""
    if symmetry == "general":
        j, i = np.divmod(np.arange(m * n), m)
    else:  # the lower triangle, by columns, is the upper one by rows
        j, i = np.triu_indices(n, 1 if symmetry == "skew-symmetric" else 0)
    return i, j


def _positions(numbers: NDArray[np.float64], length: int, name: str) -> NDArray[np.intp]:
    """1-based indices as 0-based ones."""
    wrong = ~((numbers >= 1) & (numbers <= length) & (numbers == np.floor(numbers)))
    if wrong.any():
        raise ValueError(f"{name} {numbers[wrong][0]:g} is not within 1 to {length}")
    return numbers.astype(np.intp) - 1
