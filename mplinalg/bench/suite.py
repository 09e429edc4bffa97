"""What a suite of measurements is: problems, and the methods that solve each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mplinalg.bench.records import Record
from mplinalg.report import SolveReport

__all__ = ["Method", "Problem", "Suite", "Survey", "by_size"]

Method = Callable[[], Any]
Parameters = dict[str, Any]
Table = tuple[str, list[str], list[list[str]]]


@dataclass(frozen=True)
class Problem:
    """One problem, drawn, and how it is solved: one row of a suite.

    Attributes
    ----------
    ours : callable
        Solves it by mplinalg as a user would, and returns the answer.
    peers : mapping of str to callable
        The same for each peer of the suite.
    report : callable or None
        Solves it by mplinalg once more, and returns what `full_output` gives; None where nothing
        reports.
    error : callable
        How wrong an answer is; see `checks`.
    bound : float
        The largest error of a good answer.
    dtype : str
        Of the data.
    flops : float or None
        Classical count; None where there is none.
    traffic : callable or None
        Bytes that ours must move, from its report; see `traffic`.
    unknowns : int or None
        Degrees of freedom of a finite-element operator; None of anything else.
    findings : callable or None
        What else is known of ours once it has answered, as plain data by name; not timed. Keys
        that end in ``_bytes`` are shown in MB.
    close : callable or None
        Gives back what the problem holds, files and processes; called when the row is done.
    """

    ours: Method
    peers: Mapping[str, Method]
    report: Callable[[], SolveReport] | None
    error: Callable[[Any], float]
    bound: float
    dtype: str
    flops: float | None
    traffic: Callable[[Any], float | None] | None = None
    unknowns: int | None = None
    findings: Callable[[], dict[str, Any]] | None = None
    close: Callable[[], None] | None = None


def by_size(sizes: Sequence[int]) -> list[Parameters]:
    """One row a size: {"n": n}."""
    return [{"n": n} for n in sizes]


@dataclass(frozen=True)
class Suite:
    """Problems that are solved by mplinalg and by peers, checked, and timed in turns.

    Attributes
    ----------
    title : str
        What is solved, for the head of a table.
    sizes : str
        Default of ``--sizes``.
    peers : mapping of str to str
        Names of the peers, and what each calls.
    default_peers : tuple of str
        Those that take part unless ``--peers`` says otherwise.
    error_measure : str
        What `Problem.error` is.
    build : callable
        ``build(rng, **parameters)`` draws the `Problem` of a row.
    cases : callable
        Parameters of all rows for given sizes, the most important ones first.
    summary : callable, optional
        A text to print after the table, from the records of a run.
    device : {"cpu", "cuda"}
        Where the problems are drawn and solved.
    numpy_too : bool
        Its peers compute with NumPy's BLAS, which then gets as many threads as SciPy's.
    name : str
        Of its file.
    """

    title: str
    sizes: str
    peers: Mapping[str, str]
    default_peers: tuple[str, ...]
    error_measure: str
    build: Callable[..., Problem]
    cases: Callable[[Sequence[int]], Iterable[Parameters]] = by_size
    summary: Callable[[Sequence[Record]], str] | None = None
    device: str = "cpu"
    numpy_too: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.default_peers) - set(self.peers)
        if unknown:
            raise ValueError(f"default peers {sorted(unknown)} are not among {list(self.peers)}")

    def named(self, name: str) -> Suite:
        """The same suite, called `name`."""
        return dataclasses.replace(self, name=name)


@dataclass(frozen=True)
class Survey:
    """Something counted, judged, or measured by itself, without peers: one record a row.

    Attributes
    ----------
    title, sizes, cases, device, name
        As of `Suite`.
    measure : callable
        ``measure(seed, **parameters)`` returns the findings of a row as plain data.
    tables : callable
        The findings of a run as tables: titles, heads and rows of text.
    draw : callable, optional
        ``draw(figure, records)`` draws them.
    """

    title: str
    sizes: str
    measure: Callable[..., dict[str, Any]]
    tables: Callable[[Sequence[Record]], Sequence[Table]]
    cases: Callable[[Sequence[int]], Iterable[Parameters]] = by_size
    draw: Callable[[Any, Sequence[Record]], None] | None = None
    device: str = "cpu"
    name: str = ""

    def named(self, name: str) -> Survey:
        """The same survey, called `name`."""
        return dataclasses.replace(self, name=name)
