"""Records as tables: aligned text for a terminal, Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from mplinalg.bench.records import Record
from mplinalg.bench.row import OK

__all__ = [
    "aligned", "ceilings", "counted", "findings_table", "heading", "markdown", "of_rows",
    "parameter_names", "peer_names", "ratio_text", "steps_text", "threads_text", "timed_table",
]  # fmt: skip

_BYTES = "_bytes"


def aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the right; a head may have several lines.

    A row shorter than the heads ends with a remark, which is as long as it likes.
    """
    parts = [head.split("\n") for head in heads]
    height = max(map(len, parts))
    padded = [[""] * (height - len(part)) + part for part in parts]
    widths = [max(map(len, part)) for part in padded]
    for row in rows:
        cells = row[: len(row) - (len(row) < len(heads))]
        for place, cell in enumerate(cells):
            widths[place] = max(widths[place], len(cell))
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_line(line, widths) for line in zip(*padded, strict=True)]
    return "\n".join([*lines, rule, *(_line(row, widths) for row in rows)])


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; numbers to the right. Lines of a head are joined."""
    titles = [head.replace("\n", " ") for head in heads]
    whole = [[*row, *[""] * (len(heads) - len(row))] for row in rows]
    is_text = [any(row[k][:1].isalpha() for row in whole) for k in range(len(heads))]
    lines = [titles, ["---" if text else "---:" for text in is_text], *whole]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def counted(count: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    last = len(cells) - 1
    has_remark = len(cells) < len(widths)
    return "  ".join(
        cell if has_remark and place == last else cell.rjust(widths[place])
        for place, cell in enumerate(cells)
    ).rstrip()


@dataclass(frozen=True)
class _Column:
    head: str
    text: Callable[[Record], str]


def timed_table(records: Sequence[Record]) -> str:
    """The table of a run of a timed suite, for a terminal."""
    heads, rows = of_rows(records)
    return aligned(heads, rows)


def of_rows(
    records: Sequence[Record], *, seconds: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table of timed records; `seconds`: with a column of them."""
    names = parameter_names(records)
    columns = [
        _Column("time\nms", lambda r: _number(1e3 * r["ours"]["seconds"]["median"])),
        _Column("rate\nGFLOP/s", lambda r: _number(r["ours"]["gflops"])),
        _Column("rate\nGDoF/s", lambda r: _number(r["ours"].get("gdofs_per_second"))),
        _Column("of fp64\nGEMM, %", lambda r: _whole(r["ours"]["percent_of_double_gemm"])),
        _Column("of fp32\nGEMM, %", lambda r: _whole(r["ours"]["percent_of_single_gemm"])),
        _Column("of fp16\nGEMM, %", lambda r: _whole(r["ours"].get("percent_of_half_gemm"))),
        _Column("of copy\n%", lambda r: _whole(r["ours"]["modelled_percent_of_copy"])),
        _Column("energy\nJ", lambda r: _number(r["ours"]["joules_per_call"])),
        _Column("error", lambda r: f"{r['ours']['error']:.1e}"),
        _Column("steps", lambda r: steps_text(r["report"])),
        _Column("rung", lambda r: _rung(r["report"])),
    ]
    good = [r for r in records if r["status"] == OK]
    if good and all(r["report"] is None for r in good):
        columns = [c for c in columns if c.head not in ("steps", "rung")]
    if not any(r["report"] is None or "batch" in r["parameters"] for r in good):
        columns = [c for c in columns if not c.head.startswith("of copy")]
    if not any("gdofs_per_second" in r["ours"] for r in good):
        columns = [c for c in columns if "GDoF" not in c.head]
    if not any(r["ours"]["joules_per_call"] is not None for r in good):
        columns = [c for c in columns if not c.head.startswith("energy")]
    if not any("percent_of_half_gemm" in r["ours"] for r in good):
        columns = [c for c in columns if not c.head.startswith("of fp16")]
    if not seconds:
        columns = columns[1:]
    peers = peer_names(good)
    heads = [*names, *(c.head for c in columns)]
    heads += [f"{name} / ours\nmedian [q1, q3]" for name in peers]
    rows = []
    for record in records:
        cells = [_parameter(record, name) for name in names]
        if record["status"] == OK:
            cells += [column.text(record) for column in columns]
            cells += [ratio_text(record["peers"].get(name)) for name in peers]
        else:
            cells.append(f"{record['status'].upper()}: {record['message']}")
        rows.append(cells)
    return heads, rows


def findings_table(records: Sequence[Record]) -> tuple[list[str], list[list[str]]] | None:
    """Heads and rows of what is known besides of timed rows; None where nothing is."""
    found = [r for r in records if r.get("findings")]
    if not found:
        return None
    names = parameter_names(found)
    keys = list(dict.fromkeys(key for r in found for key in r["findings"]))
    heads = [f"{key[: -len(_BYTES)]}\nMB" if key.endswith(_BYTES) else key for key in keys]
    rows = [
        [*(_parameter(r, name) for name in names),
         *(_finding(key, r["findings"].get(key)) for key in keys)]
        for r in found
    ]  # fmt: skip
    return [*names, *(head.replace("_", " ") for head in heads)], rows


def _finding(key: str, value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    if key.endswith(_BYTES):
        return _number(value / 1e6)
    return str(value) if isinstance(value, int) else f"{value:.5g}"


def parameter_names(records: Iterable[Record]) -> list[str]:
    """The parameters of all records, in the order in which they are met."""
    return list(dict.fromkeys(name for r in records for name in r["parameters"]))


def peer_names(records: Iterable[Record]) -> list[str]:
    """The peers of all records, in the order in which they are met."""
    return list(dict.fromkeys(name for r in records for name in r.get("peers", ())))


def ratio_text(peer: Record | None) -> str:
    """``median [q1, q3]`` of a peer's time over ours, or why there is none."""
    if peer is None:
        return "-"
    if peer["status"] != OK:
        return str(peer["status"])
    ratio = peer["ratio"]
    return f"{ratio['median']:.2f} [{ratio['q1']:.2f}, {ratio['q3']:.2f}]"


def _rung(report: Record | None) -> str:
    return "-" if report is None else f"{report['precision']} {report['method'] or ''}".rstrip()


def steps_text(report: Record | None) -> str:
    """Steps of refinement, with GMRES' inner iterations: ``2``, ``3 (11)``."""
    if report is None:
        return "-"
    inner = report["inner_iterations"]
    return f"{report['iterations']} ({inner})" if inner else f"{report['iterations']}"


def ceilings(records: Iterable[Record]) -> dict[str, float] | None:
    """Medians over the rows: "double", "single" GFLOP/s of GEMM, "copy" GB/s.

    And "half", of GPUs.
    """
    known = [r["ceilings"] for r in records if r.get("ceilings")]
    if not known:
        return None
    formats = known[0]["gemm_gflops"]
    rates = {key: median(c["gemm_gflops"][key] for c in known) for key in formats}
    return rates | {"copy": median(c["copy_gbytes_per_second"] for c in known)}


def heading(records: Sequence[Record]) -> str:
    """What a run was: suite, machine, versions, commit, ceilings, in lines for a terminal."""
    record = records[0]
    machine, versions = record["machine"], record["machine"]["versions"]
    commit = record["commit"]
    vectors = machine["vector_flags"]
    avx = "AVX-512" if "avx512f" in vectors else "AVX2" if "avx2" in vectors else ""
    state = "no commit" if commit is None else commit["describe"]
    state += " with changes" if commit and commit["dirty"] else ""
    load = record["load_average"]
    lines = [
        f"{record['suite']}: {record['title']}",
        f"{machine['processor']}{', ' + avx if avx else ''}; "
        f"{threads_text(record)}; "
        f"load {'unknown' if load is None else f'{load:.2f}'} before the first row",
        f"mplinalg {versions['mplinalg']} ({state}), NumPy {versions['numpy']}, "
        f"SciPy {versions['scipy']}, Numba {versions['numba']}, Python {versions['python']}",
    ]
    gpu = record.get("gpu")
    if gpu is not None:
        lines.append(
            f"{gpu['name']}, {gpu['multiprocessors']} multiprocessors, driver {gpu['driver']}, "
            f"CUDA {gpu['cuda']}, CuPy {gpu['cupy']}"
        )
    rates = ceilings(records)
    if rates is not None:
        half = f"fp16 GEMM {rates['half']:.1f}, " if "half" in rates else ""
        lines.append(
            f"ceilings: {half}fp64 GEMM {rates['double']:.1f} and fp32 GEMM "
            f"{rates['single']:.1f} GFLOP/s, copy {rates['copy']:.1f} GB/s"
        )
    return "\n".join(lines)


def threads_text(record: Record) -> str:
    """``2 threads on 4 cores``: of cores, those that the process may use."""
    threads, cores = record["threads"]["count"], record["machine"]["cores"]
    return f"{counted(threads, 'thread')} on {counted(cores, 'core')}"


def _parameter(record: Record, name: str) -> str:
    value = record["parameters"].get(name)
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 999.5:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".")


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
