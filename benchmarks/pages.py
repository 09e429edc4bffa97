"""Pages of the documentation that are made of results: ``python benchmarks/pages.py [--check]``.

From ``benchmarks/results/*.jsonl`` it writes

- ``docs/performance.md``: of every timed suite and number of threads the newest run, with figures
  in ``docs/figures``,
- ``docs/algorithms/measured-accuracy.md``: the newest run of the suite ``accuracy``,
- the table of ``README.md`` between the markers ``<!-- table: begin -->`` and
  ``<!-- table: end -->``.

With ``--check`` nothing is written; the exit status is 1 if a page or figure is out of date.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mplinalg.bench import catalogue, plot
from mplinalg.bench.output import replacing
from mplinalg.bench.records import Record, read
from mplinalg.bench.row import OK
from mplinalg.bench.suite import Survey
from mplinalg.bench.table import (
    ceilings,
    counted,
    markdown,
    of_rows,
    parameter_names,
    ratio_text,
)

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
README_SUITES = (
    "dense_solve", "spd_solve", "complex_solve", "many_rhs", "least_squares", "qr",
)  # fmt: skip
README_FROM = 512
"""The README shows the first order from this on, and the largest one."""
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
"""
ACCURACY = """\
# Measured accuracy

Systems $A x = b$ of `gallery.randsvd` with five spectra and a few seeds, solved with `precision`
and `refine` pinned and the fallback on, over the condition number of $A$. Solved means that the
report says so and that the backward error is at most $\\sqrt{n} u$; delivered by the format, that
no higher rung of the ladder was needed. The theory is in [](refinement.md). Made by
`python benchmarks/pages.py` from `benchmarks/results/`.
"""
NOTHING = "\nNo results are recorded yet.\n"

Run = list[Record]


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
    runs = newest_runs(root / "benchmarks" / "results")
    timed = {key: run for key, run in runs.items() if run[0]["kind"] == "timed"}
    surveys = [run for key, run in runs.items() if key[0] == "accuracy"]
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


def newest_runs(folder: Path) -> dict[tuple[str, int], Run]:
    """The newest run of every suite and number of threads, sorted."""
    runs: dict[str, Run] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for record in read(path):
            runs.setdefault(record["run"], []).append(record)
    newest: dict[tuple[str, int], Run] = {}
    for run in sorted(runs.values(), key=when):
        newest[run[0]["suite"], run[0]["threads"]["count"]] = run
    return dict(sorted(newest.items()))


def when(run: Run) -> str:
    """The time of its first record, which sorts as text: ISO 8601, UTC."""
    return run[0]["time"]


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
    loads = [r["load_average"] for r in run if r["load_average"] is not None]
    load = f"load average {min(loads):.1f} to {max(loads):.1f}; " if loads else ""
    memory = machine["memory_bytes"]
    size = f", {memory / 2**30:.0f} GiB" if memory else ""
    avx = " (AVX-512)" if "avx512f" in machine["vector_flags"] else ""
    count = f"{run[0]['threads']['count']} of {counted(machine['cores'], 'thread')}"
    lines = [
        f"{when(run)[:10]}, {state}; {machine['processor']}{avx}, {count}{size}, "
        f"{machine['platform']}; {load}NumPy {versions['numpy']}, SciPy {versions['scipy']}, "
        f"Numba {versions['numba']}, Python {versions['python']}."
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
    return markdown(heads, rows) + "\n\n" + f"Error: {run[0]['error_measure']}.\n"


def sweep(run: Run) -> str:
    """A long run: a line for each kind of row, and the slower rows one by one, worst first."""
    found = [r for r in run if r["status"] == OK and "ratio" in r["peers"].get("scipy", {})]
    kinds: dict[tuple[str, ...], Run] = {}
    keys = ("function", "structure", "dtype", "order")
    for record in found:
        kinds.setdefault(tuple(str(record["parameters"][k]) for k in keys), []).append(record)
    rows = []
    for kind, members in kinds.items():
        ordered = sorted(members, key=ratio)
        slower = sum(is_slower(r) for r in members)
        worst = f"{ratio(ordered[0]):.2f} (n = {ordered[0]['parameters']['n']})"
        middle = f"{ratio(ordered[len(ordered) // 2]):.2f}"
        best = f"{ratio(ordered[-1]):.2f} (n = {ordered[-1]['parameters']['n']})"
        rows.append([*kind, str(len(members)), str(slower), worst, middle, best])
    heads = [*keys, "rows", "slower", "least ratio", "median", "largest"]
    slower_rows = sorted(filter(is_slower, found), key=ratio)
    parts = [markdown(heads, rows), ""]
    failed = [r for r in run if r["status"] != OK]
    if failed:
        parts.append(f"{counted(len(failed), 'row')} without a good answer of mplinalg.\n")
    parts.append(
        f"{len(slower_rows)} of {counted(len(found), 'row')}: slower than SciPy, that is, with the "
        "upper quartile of the ratios below 1."
    )
    if slower_rows:
        shown = slower_rows[:MOST_SLOWER]
        names = parameter_names(shown)
        table = [
            [*(str(r["parameters"][k]) for k in names), ratio_text(r["peers"]["scipy"])]
            for r in shown
        ]
        parts[-1] += f" The worst {len(shown)}:" if len(shown) < len(slower_rows) else " These are:"
        parts += ["", markdown([*names, "scipy / ours [q1, q3]"], table)]
    return "\n".join(parts) + "\n"


def ratio(record: Record) -> float:
    value: float = record["peers"]["scipy"]["ratio"]["median"]
    return value


def is_slower(record: Record) -> bool:
    return bool(record["peers"]["scipy"]["ratio"]["q3"] < 1)


# -- the page of the survey ------------------------------------------------------------------------


def accuracy(runs: list[Run]) -> str:
    if not runs:
        return ACCURACY + NOTHING
    run = max(runs, key=when)
    suite = catalogue.load("accuracy")
    assert isinstance(suite, Survey)
    parts = [ACCURACY, origin(run)]
    for title, heads, rows in suite.tables(run):
        parts.append(f"## {title[:1].upper()}{title[1:]}\n\n{markdown(heads, rows)}\n")
    parts.append("![delivered by each format](../figures/accuracy.png)\n")
    return "\n".join(parts)


# -- the table of the README -----------------------------------------------------------------------


def with_table(readme: Path, runs: dict[tuple[str, int], Run]) -> str:
    """The text of the README with the table between its markers replaced."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{readme.name}: expected one {BEGIN} and after it one {END}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{headline(runs)}{END}{rest.split(END)[1]}"


def headline(runs: dict[tuple[str, int], Run]) -> str:
    """Ratios to SciPy: a line for each problem and order, a column for each number of threads."""
    shown = {key: run for key, run in runs.items() if key[0] in README_SUITES}
    if not shown:
        return "No results are recorded yet.\n"
    threads = sorted({count for _, count in shown})
    cells: dict[tuple[str, str, int], dict[int, str]] = {}
    for name in README_SUITES:
        for (suite, count), run in shown.items():
            for label, record in chosen(run) if suite == name else ():
                line = cells.setdefault((name, label, record["parameters"]["n"]), {})
                line[count] = ratio_text(record["peers"]["scipy"])
    rows = [
        [label, str(n), *(line.get(count, "") for count in threads)]
        for (_, label, n), line in cells.items()
    ]
    heads = ["problem", "n", *(counted(count, "thread") for count in threads)]
    first, last = (f(when(run)[:10] for run in shown.values()) for f in (min, max))
    machines = sorted({run[0]["machine"]["processor"] for run in shown.values()})
    dates = first if first == last else f"{first} to {last}"
    return (
        f"{markdown(heads, rows)}\n\nTime of SciPy over the time of mplinalg, median [quartiles]; "
        f"{', '.join(machines)}, {dates}.\n"
    )


def chosen(run: Run) -> list[tuple[str, Record]]:
    """Of each kind of problem the first order from `README_FROM` on and the largest, labelled."""
    good = [r for r in run if r["status"] == OK and "ratio" in r["peers"].get("scipy", {})]
    varied = [
        key for key in parameter_names(good)
        if key != "n" and len({str(r["parameters"].get(key)) for r in good}) > 1
    ]  # fmt: skip
    kinds: dict[str, Run] = {}
    for record in good:
        values = [record["parameters"][key] for key in varied]
        text = ", ".join(f"{k} {v:g}" for k, v in zip(varied, values, strict=True))
        kinds.setdefault(f"{record['title']}{'; ' + text if text else ''}", []).append(record)
    found = []
    for label, rows in kinds.items():
        rows.sort(key=lambda r: r["parameters"]["n"])
        first = next((r for r in rows if r["parameters"]["n"] >= README_FROM), rows[-1])
        found += [(label, r) for r in ([first] if first is rows[-1] else [first, rows[-1]])]
    return found


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
