"""Pages of the documentation that are made of results: ``python benchmarks/pages.py [--check]``.

From ``benchmarks/results/*.jsonl`` it writes

- ``docs/performance.md``: a run of every timed suite and number of threads, with figures in
  ``docs/figures``,
- ``docs/algorithms/measured-accuracy.md``: a run of the suite ``accuracy``,
- the table of ``README.md`` between the markers ``<!-- table: begin -->`` and
  ``<!-- table: end -->``.

Of the newest `CANDIDATES` runs of a suite and number of threads the one is shown that has the most
rows, the newest of several: a short run with ``--sizes`` or ``--only`` does not replace a full one.
Rows count that the suite plans today for the arguments of the run.

With ``--check`` nothing is written; the exit status is 1 if a page or figure is out of date.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mplinalg.bench import catalogue, plot
from mplinalg.bench.headline import Run, headline, load_of, when
from mplinalg.bench.output import replacing
from mplinalg.bench.records import Record, read
from mplinalg.bench.row import OK
from mplinalg.bench.sizes import parse_sizes
from mplinalg.bench.suite import Parameters, Survey
from mplinalg.bench.table import (
    ceilings,
    counted,
    findings_table,
    markdown,
    of_rows,
    parameter_names,
    ratio_text,
    threads_text,
)

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
CANDIDATES = 3
KIND = ("function", "structure", "dtype", "order")
"""Parameters that a line of the summary of `never_slower` is about."""
MOST_SLOWER = 40
DIGEST = "mplinalg-records"

INTRODUCTION = """\
# Performance

How fast mplinalg is beside SciPy and LAPACK, and what share of the machine it uses. Every answer
was checked before the clock was started, and all methods ran in turns in one process:
[](guide/benchmarks.md) says how. Rates are by the classical count of operations, whatever a method
really did; percentages are of the rate of a matrix product measured in the same run. A ratio is the
time of a peer over the time of mplinalg, the median of the rounds with its quartiles: above 1,
mplinalg was faster. Made by `python benchmarks/pages.py` from `benchmarks/results/`.

Of the newest three runs of a suite and number of threads, the one with the most rows is shown, the
newest of several; the records hold all of them. The load average is that of the last minute before
a row, over the rows. On a busy machine ratios may be far lower: with two threads on two cores and a
load of 3.3 to 3.6, `dense_solve` gave 0.33 to 1.68 (SciPy over mplinalg, the medians of four
orders) in the run 20261121T111831Z of `benchmarks/results/dense_solve.jsonl`; five minutes later,
at a load of 2.5 to 2.7, the run 20261121T112319Z gave 2.01 to 2.45.
"""
ACCURACY = """\
# Measured accuracy

Systems $A x = b$ of `mplinalg.testing.gallery`, solved with `precision` and `refine` pinned and the
fallback on: `randsvd` with five spectra and a few draws over the condition number of $A$, and then
the other families at the condition numbers they have (a number above $10^{16}$ says only that it is
that large). All formats and methods solve the same systems. Solved means that the report says
converged or direct and that the backward error is at most $\\sqrt{n} u$: a system reported as
ill-conditioned does not count, and if its backward error is that small all the same, a second
percentage in parentheses counts it. Delivered by the format means that no higher rung of the ladder
was needed; the rung named is the one at which most systems of a line ended, with their share. The
theory is in [](refinement.md). Made by `python benchmarks/pages.py` from `benchmarks/results/`.
"""
NOTHING = "\nNo results are recorded yet.\n"


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the pages that are made of results.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    check = parser.parse_args(argv).check
    root = Path(__file__).resolve().parents[1] if root is None else root
    try:
        texts, figures = pages(root)
        stale = [path for path, text in texts.items() if not is_current(path, text)]
        stale += [path for path, run in figures.items() if not shows(path, run)]
        if not check:
            for path in stale:
                write(path, texts[path].encode() if path in texts else drawn(figures[path]))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in stale:
        print(f"{path.relative_to(root)}: {'out of date' if check else 'written'}")
    return 1 if check and stale else 0


def pages(root: Path) -> tuple[dict[Path, str], dict[Path, Run]]:
    """Texts by path, and the run that each figure shows."""
    runs = shown_runs(root / "benchmarks" / "results")
    timed = {key: run for key, run in runs.items() if run[0]["kind"] == "timed"}
    surveys = [run for (name, _), run in runs.items() if name == "accuracy" and is_shown(run)]
    docs, readme = root / "docs", root / "README.md"
    figures = {
        docs / "figures" / f"{name}-{threads}.png": run
        for (name, threads), run in timed.items()
        if any(r["status"] == OK for r in run)
    }
    texts = {docs / "performance.md": performance(timed)}
    texts[docs / "algorithms" / "measured-accuracy.md"] = accuracy(surveys)
    if surveys:
        figures[docs / "figures" / "accuracy.png"] = max(surveys, key=when)
    texts[readme] = with_table(readme, timed)
    return texts, figures


def shown_runs(folder: Path) -> dict[tuple[str, int], Run]:
    """Of every suite and number of threads the newest run that is complete enough, sorted."""
    runs: dict[str, Run] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for record in read(path):
            if record["device"] == "cpu":
                runs.setdefault(record["run"], []).append(record)
    found: dict[tuple[str, int], list[Run]] = {}
    for run in sorted(runs.values(), key=when, reverse=True):
        found.setdefault((run[0]["suite"], run[0]["threads"]["count"]), []).append(run)
    return {key: max(found[key][:CANDIDATES], key=rows_reached) for key in sorted(found)}


def planned(run: Run) -> list[Parameters]:
    """The rows that the suite, as it is now, has for the arguments of a run."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--sizes")
    parser.add_argument("--only", action="append", default=[])
    args, _ = parser.parse_known_args(shlex.split(run[0]["command"]))
    suite = catalogue.load(run[0]["suite"])
    only = dict(pair.split("=", 1) for pair in args.only)
    return [
        row
        for row in suite.cases(parse_sizes(args.sizes or suite.sizes))
        if all(str(row.get(key)) == value for key, value in only.items())
    ]


def reached(run: Run) -> list[Parameters]:
    """Those of the rows planned that the run has."""
    measured = {row_key(record["parameters"]) for record in run}
    return [row for row in planned(run) if row_key(row) in measured]


def rows_reached(run: Run) -> int:
    return len(reached(run))


def is_shown(run: Run) -> bool:
    """Whether it has a row that the suite, as it is now, plans and can make a table of."""
    good = [r for r in run if r["status"] == OK]
    return bool(good) and rows_reached(good) > 0


def row_key(parameters: Parameters) -> str:
    return json.dumps(parameters, sort_keys=True)


# -- the page of the timed suites ------------------------------------------------------------------


def performance(runs: dict[tuple[str, int], Run]) -> str:
    parts, last = [INTRODUCTION], None
    for (name, threads), run in runs.items():
        if name != last:
            parts.append(f"## `{name}`: {run[0]['title']}\n")
            last = name
        parts.append(f"### {name}, {counted(threads, 'thread')}\n")
        parts.append(origin(run))
        parts.append(sweep(run) if name == "never_slower" else plain_table(run))
        if any(r["status"] == OK for r in run):
            parts.append(f"![{name}, rates and ratios](figures/{name}-{threads}.png)\n")
    return "\n".join(parts) if runs else INTRODUCTION + NOTHING


def origin(run: Run) -> str:
    """What a run was made on, when, and how to repeat it."""
    machine, commit, versions = run[0]["machine"], run[0]["commit"], run[0]["machine"]["versions"]
    state = "outside a checkout" if commit is None else f"commit {commit['describe']}"
    state += " with changes" if commit and commit["dirty"] else ""
    load = load_of([run])
    memory = machine["memory_bytes"]
    size = f", {memory / 2**30:.0f} GiB" if memory else ""
    avx = " (AVX-512)" if "avx512f" in machine["vector_flags"] else ""
    lines = [
        f"{when(run)[:10]}, {state}; {machine['processor']}{avx}, {threads_text(run[0])}{size}, "
        f"{machine['platform']}; {load + '; ' if load else ''}NumPy {versions['numpy']}, "
        f"SciPy {versions['scipy']}, Numba {versions['numba']}, Python {versions['python']}."
    ]
    rates = ceilings(run)
    if rates:
        lines.append(
            f"Ceilings: fp64 GEMM {rates['double']:.0f} and fp32 GEMM {rates['single']:.0f} "
            f"GFLOP/s, copy {rates['copy']:.0f} GB/s. {counted(run[0]['pairs'], 'round')}."
        )
    return "\n".join(lines) + f"\n\n```console\n$ {run[0]['command']}\n```\n"


def plain_table(run: Run) -> str:
    heads, rows = of_rows(run, seconds=False)
    parts = [markdown(heads, rows), f"Error: {run[0]['error_measure']}."]
    findings = findings_table(run)
    if findings is not None:
        parts.append(markdown(*findings))
    return "\n\n".join(parts) + "\n"


def sweep(run: Run) -> str:
    """A long run: how far it got, a line for each kind of row, and the slower rows, worst first."""
    found = [r for r in run if r["status"] == OK and "ratio" in r["peers"].get("scipy", {})]
    failed = [r for r in run if r["status"] != OK]
    parts = [coverage(run), kinds_table(found), ""]
    if failed:
        parts.append(f"{counted(len(failed), 'row')} without a good answer of mplinalg.\n")
    slower_rows = sorted(filter(is_slower, found), key=ratio)
    parts.append(
        f"Slower than SciPy: {len(slower_rows)} of {counted(len(found), 'row')} by the upper "
        f"quartile of the ratios (below 1), {sum(map(is_slower_by_median, found))} by their median."
    )
    if slower_rows:
        shown = slower_rows[:MOST_SLOWER]
        names = parameter_names(shown)
        table = [
            [*(str(r["parameters"][k]) for k in names), ratio_text(r["peers"]["scipy"])]
            for r in shown
        ]
        which = f"The worst {len(shown)}" if len(shown) < len(slower_rows) else "Those"
        parts[-1] += f" {which} by the quartile:"
        parts += ["", markdown([*names, "scipy / ours [q1, q3]"], table)]
    return "\n".join(parts) + "\n"


def coverage(run: Run) -> str:
    """How many of the rows planned were reached, and which were not, by kind and n."""
    plan, done = planned(run), {row_key(row) for row in reached(run)}
    text = f"{len(done)} of {counted(len(plan), 'planned row')} reached"
    if len(run) > len(done):
        text += f", and {len(run) - len(done)} that are no longer planned"
    missing: dict[tuple[str, ...], list[int]] = {}
    for row in plan:
        if row_key(row) not in done:
            missing.setdefault(tuple(str(row[k]) for k in KIND), []).append(row["n"])
    if not missing:
        return text + ".\n"
    heads = [*KIND, "rows", "n"]
    rows = [
        [*kind, str(len(orders)), ", ".join(map(str, sorted(set(orders))))]
        for kind, orders in missing.items()
    ]
    return f"{text}. Not reached:\n\n{markdown(heads, rows)}\n\nReached:\n"


def kinds_table(found: Run) -> str:
    """A line for each kind of row: how many, how many slower, and the range of the ratios."""
    kinds: dict[tuple[str, ...], Run] = {}
    for record in found:
        kinds.setdefault(tuple(str(record["parameters"][k]) for k in KIND), []).append(record)
    rows = []
    for kind, members in kinds.items():
        ordered = sorted(members, key=ratio)
        slower = [sum(map(test, members)) for test in (is_slower, is_slower_by_median)]
        worst, best = (f"{ratio(r):.2f} (n = {r['parameters']['n']})"
                       for r in (ordered[0], ordered[-1]))  # fmt: skip
        middle = f"{ratio(ordered[len(ordered) // 2]):.2f}"
        rows.append([*kind, str(len(members)), *map(str, slower), worst, middle, best])
    heads = ["rows", "slower by q3", "by median", "least ratio", "median", "largest"]
    return markdown([*KIND, *heads], rows)


def ratio(record: Record) -> float:
    value: float = record["peers"]["scipy"]["ratio"]["median"]
    return value


def is_slower(record: Record) -> bool:
    return bool(record["peers"]["scipy"]["ratio"]["q3"] < 1)


def is_slower_by_median(record: Record) -> bool:
    return ratio(record) < 1


# -- the page of the survey ------------------------------------------------------------------------


def accuracy(runs: list[Run]) -> str:
    if not runs:
        return ACCURACY + NOTHING
    run = max(runs, key=when)
    suite = catalogue.load("accuracy")
    assert isinstance(suite, Survey)
    parts = [ACCURACY, origin(run)]
    for title, heads, rows in suite.tables([r for r in run if r["status"] == OK]):
        parts.append(f"## {title[:1].upper()}{title[1:]}\n\n{markdown(heads, rows)}\n")
    parts.append("![delivered by each format](../figures/accuracy.png)\n")
    return "\n".join(parts)


def with_table(readme: Path, runs: dict[tuple[str, int], Run]) -> str:
    """The text of the README with the table between its markers replaced."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{readme.name}: expected one {BEGIN} and after it one {END}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{headline(runs)}{END}{rest.split(END)[1]}"


# -- files -----------------------------------------------------------------------------------------


def digest(run: Run) -> str:
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()


def drawn(run: Run) -> bytes:
    file = io.BytesIO()
    plot.draw(catalogue.load(run[0]["suite"]), run, file, {DIGEST: digest(run)})
    return file.getvalue()


def shows(path: Path, run: Run) -> bool:
    """Whether the figure was drawn from exactly these records."""
    return path.is_file() and digest(run).encode() in path.read_bytes()


def is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, force=True) as file:
        file.write(content)


if __name__ == "__main__":
    sys.exit(main())
