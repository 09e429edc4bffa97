"""The table of the README: times of SciPy over those of mplinalg, from recorded runs."""

from __future__ import annotations

from collections.abc import Sequence

from .records import Record
from .row import OK
from .table import counted, markdown, parameter_names, ratio_text

__all__ = ["Run", "headline", "load_of", "when"]

Run = list[Record]

SUITES = (
    "dense_solve", "spd_solve", "complex_solve", "many_rhs", "least_squares", "qr",
)  # fmt: skip
FROM = 512
"""The README shows the first order from this on, and the largest one."""


def headline(runs: dict[tuple[str, int], Run]) -> str:
    """Ratios to SciPy: a line for each problem and order, a column for each number of threads."""
    shown = {(n, count): runs[n, count] for n in SUITES for m, count in runs if m == n}
    if not shown:
        return "No results are recorded yet.\n"
    threads = sorted({count for _, count in shown})
    rows = []
    for name in SUITES:
        of_suite = {count: run for (suite, count), run in shown.items() if suite == name}
        for label, by_count in problems(of_suite):
            for n in orders(by_count):
                found = (by_count.get(count, {}).get(n) for count in threads)
                cells = [ratio_text(r["peers"]["scipy"]) if r else "" for r in found]
                rows.append([label, str(n), *cells])
    heads = ["problem", "n", *(counted(count, "thread") for count in threads)]
    commands = "\n".join(f"$ {run[0]['command']}" for run in shown.values())
    table = markdown(heads, rows)
    return f"{table}\n\n{caption(list(shown.values()))}\n\n```console\n{commands}\n```\n"


def caption(runs: list[Run]) -> str:
    """What was measured, and where and when."""
    heads = [run[0] for run in runs]
    machines = [head["machine"] for head in heads]
    scipy = ", ".join(sorted({machine["versions"]["scipy"] for machine in machines}))
    rounds = " or ".join(map(str, sorted({head["pairs"] for head in heads})))
    processors = ", ".join(sorted({machine["processor"] for machine in machines}))
    cores = sorted({machine["cores"] for machine in machines})
    first, last = (f(when(run)[:10] for run in runs) for f in (min, max))
    dates = first if first == last else f"{first} to {last}"
    load = load_of(runs)
    return (
        f"Time of SciPy {scipy} over the time of mplinalg, median [quartiles] of {rounds} rounds; "
        f"{processors}, {' or '.join(map(str, cores))} core{'s' if cores != [1] else ''}, "
        f"{dates}{'; ' + load if load else ''}. Made by:"
    )


Kind = dict[int, dict[int, Record]]
"""Of one kind of problem, the records by number of threads and by order."""


def problems(runs: dict[int, Run]) -> list[tuple[str, Kind]]:
    """The kinds of problem of a suite, labelled, in the order of their parameters."""
    good = [
        (count, r)
        for count, run in runs.items()
        for r in run
        if r["status"] == OK and "ratio" in r["peers"].get("scipy", {})
    ]
    names = [key for key in parameter_names(r for _, r in good) if key != "n"]
    values = {key: {str(r["parameters"].get(key)) for _, r in good} for key in names}
    varied = [key for key in names if key != "aspect" and len(values[key]) > 1]
    kinds: dict[tuple[float, ...], tuple[str, Kind]] = {}
    for count, record in good:
        key = tuple(float(record["parameters"][k]) for k in names)
        _, kind = kinds.setdefault(key, (label(record, varied), {}))
        kind.setdefault(count, {})[record["parameters"]["n"]] = record
    return [kinds[key] for key in sorted(kinds)]


def label(record: Record, varied: Sequence[str]) -> str:
    """The title, with the shape of A in numbers, and the parameters that vary."""
    parameters = record["parameters"]
    shape = f"A is {parameters.get('aspect', 1):d}n x n".replace("is 1n", "is n")
    title = record["title"].replace("A (m, n), m = aspect n", shape)
    text = ", ".join(f"{key} {parameters[key]:g}" for key in varied)
    return f"{title}{'; ' + text if text else ''}"


def orders(kind: Kind) -> list[int]:
    """Of those that all numbers of threads have, the first from `FROM` on, and the last."""
    of_each = [set(records) for records in kind.values()]
    common = sorted(set.intersection(*of_each) or set.union(*of_each))
    first = next((n for n in common if n >= FROM), common[-1])
    return [first] if first == common[-1] else [first, common[-1]]


def when(run: Run) -> str:
    """The time of its first record, which sorts as text: ISO 8601, UTC."""
    return run[0]["time"]


def load_of(runs: Sequence[Run]) -> str:
    """``load average 0.5 to 1.2``; nothing where it was not recorded."""
    loads = [r["load_average"] for run in runs for r in run if r["load_average"] is not None]
    return f"load average {min(loads):.1f} to {max(loads):.1f}" if loads else ""
