"""The command ``mplinalg bench``: measure a suite, record it, print a table, draw a figure."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mplinalg.bench.records import Record
from mplinalg.bench.row import OK
from mplinalg.bench.suite import Parameters, Suite, Survey
from mplinalg.bench.timing import DEFAULT_ROUNDS

if TYPE_CHECKING:
    from mplinalg.bench.runner import Run

__all__ = ["add_arguments", "bench"]

_OK, _BAD_ANSWER, _INTERRUPTED = 0, 1, 130
_GPU = "gpu"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}

_EPILOG = """\
exit status:
  0  measured; a slower result is a result
  1  mplinalg gave a wrong answer or none in some row; the others were measured
  2  bad input or usage

Rows are appended to the file of --json one by one, so that a run cut short keeps them.

"mplinalg bench gpu" spends the time of --budget (25m unless given) on a GPU: ceilings, tests, and
the suites called gpu_..., the most important first. Its file is benchmarks/results/gpu.jsonl
unless --json names another.
"""


def add_arguments(commands: Any) -> None:
    """Add the command to the subparsers of `mplinalg`."""
    parser = commands.add_parser(
        "bench",
        help="measure a suite of problems against SciPy, NumPy and LAPACK",
        description="Measure a suite: answers are checked, then all methods are timed in turns.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "suite", metavar="SUITE", nargs="?",
        help="a name from --list, the path of a .py file, or gpu",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list the suites and exit")
    parser.add_argument(
        "--sizes", metavar="N", help="512, or 512,1000, or 512:8192:x2, or 100:1000:+100"
    )
    parser.add_argument("--peers", metavar="NAMES", help="whom to compare with: scipy,lapack")
    parser.add_argument(
        "--only", metavar="KEY=VALUE", action="append", default=[],
        help="leave out rows with another value; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--threads", metavar="N", default="all", help="1, N or all (default %(default)s)"
    )
    parser.add_argument(
        "--pairs", metavar="N", type=int, default=DEFAULT_ROUNDS,
        help="rounds of timing (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the data (default %(default)s)")
    parser.add_argument(
        "--budget", metavar="TIME", type=_seconds, help="begin no row after this time: 90, 25m, 1h"
    )
    parser.add_argument(
        "--device", metavar="DEVICE", type=_device,
        help="cuda:1 or 1, of suites for a GPU; cpu is that of all others",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="append a record a row to this file")
    parser.add_argument("--plot", metavar="FILE", help="draw the run to this PNG file")
    parser.add_argument("--force", action="store_true", help="replace an existing picture")
    parser.set_defaults(command=bench)


def bench(args: argparse.Namespace) -> int:
    """Run the command with parsed arguments; return its exit status."""
    from mplinalg.bench.catalogue import load
    from mplinalg.bench.runner import Options, run

    if args.list:
        print(_listed())
        return _OK
    if args.suite is None:
        raise ValueError("bench: name a suite; --list lists them")
    if args.suite == _GPU:
        return _bench_gpu(args)
    suite = load(args.suite)
    _check_files(suite, args)
    options = Options(
        sizes=args.sizes, peers=args.peers, threads=args.threads, pairs=args.pairs,
        device=args.device, json=args.json, budget=args.budget, seed=args.seed,
        only=tuple(_pair(text) for text in args.only), command=_command(args),
    )  # fmt: skip
    result = run(suite, options)
    if result.records:
        print(_table(suite, result.records))
    if result.not_reached:
        print("\n" + _not_reached(result.not_reached))
    if args.plot is not None and result.records:
        _draw(suite, result.records, args)
    if result.interrupted:
        print("error: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return _BAD_ANSWER if result.failed else _OK


def _bench_gpu(args: argparse.Namespace) -> int:
    """All that is measured on a GPU, within the budget; see `gpu`."""
    from mplinalg.bench import gpu
    from mplinalg.bench.runner import Options, new_run

    for name, value in (("peers", args.peers), ("only", args.only), ("plot", args.plot)):
        if value:
            raise ValueError(f"--{name}: is for single suites, not for bench gpu")
    path = gpu.default_file() if args.json is None else args.json
    _check_rounds(args.pairs)
    run = os.environ.get(gpu.RUN) or new_run()
    budget = gpu.BUDGET if args.budget is None else args.budget
    options = Options(
        sizes=args.sizes, threads=args.threads, pairs=args.pairs, device=args.device, json=path,
        budget=budget, seed=args.seed, command=_command(args), run=run,
    )  # fmt: skip
    is_good, began = True, time.monotonic()
    for suite, result in gpu.stages(options):
        _print_stage(suite, result)
        if result.interrupted:
            print("error: interrupted", file=sys.stderr)
            return _INTERRUPTED
        is_good = is_good and all(map(gpu.is_good, result.records))
        left = budget - (time.monotonic() - began)
        if result.lost and left > 0:
            print("the device is lost to this process: going on in a new one\n", flush=True)
            again = argparse.Namespace(**vars(args) | {"budget": left})
            gpu.resumed([*shlex.split(_command(again))[1:], "--json", path], run)
            return _BAD_ANSWER
    print(f"records: {path}")
    return _OK if is_good else _BAD_ANSWER


def _print_stage(suite: Suite | Survey, result: Run) -> None:
    if result.records and "machine" in result.records[0]:
        print(_table(suite, result.records))
    elif result.records:
        print(f"{suite.name}: {_failure(result.records[0])}")
    else:
        print(f"{suite.name}: no rows")
    if result.not_reached:
        print("\n" + _not_reached(result.not_reached))
    print(flush=True)


def _check_rounds(pairs: int) -> None:
    if 1 <= pairs < DEFAULT_ROUNDS:
        raise ValueError(
            f"--json: records hold at least {DEFAULT_ROUNDS} rounds, --pairs asks for {pairs}"
        )


def _check_files(suite: Suite | Survey, args: argparse.Namespace) -> None:
    """Refuse what would spoil a file of records, and a figure that cannot be drawn."""
    from mplinalg.bench import plot
    from mplinalg.bench.output import check_output

    if args.json is not None:
        _check_rounds(args.pairs)
    if args.plot is None:
        return
    target = os.path.realpath(args.plot)
    if not target.lower().endswith(".png"):
        raise ValueError(f"--plot {args.plot}: figures are PNG files, give a name in .png")
    if args.json and os.path.realpath(args.json) == target:
        raise ValueError(f"--plot {args.plot}: this is the file of --json")
    plot.check_available(suite)
    check_output(args.plot, args.force)


def _listed() -> str:
    from mplinalg.bench import catalogue

    names = [*catalogue.names(), *catalogue.names("cuda")]
    found = {name: catalogue.load(name) for name in names}
    width = max(map(len, found), default=0)
    lines = []
    for name, suite in found.items():
        peers = ", ".join(suite.peers) if isinstance(suite, Suite) else "no peers"
        lines.append(f"{name:<{width}}  {suite.title}")
        lines.append(f"{'':<{width}}    sizes {suite.sizes}; {peers}")
    lines.append(f"{_GPU:<{width}}  all of gpu_..., the tests that need a GPU, and ceilings")
    return "\n".join(lines)


def _table(suite: Suite | Survey, records: Sequence[Record]) -> str:
    from mplinalg.bench import table

    parts = [table.heading(records)]
    if isinstance(suite, Survey):
        good = [r for r in records if r["status"] == OK]
        found = suite.tables(good) if good else []
        parts += [f"{title}\n{table.aligned(heads, rows)}" for title, heads, rows in found]
        parts += ["\n".join(_failure(r) for r in records if r["status"] != OK)]
        return "\n\n".join(part for part in parts if part)
    parts.append(table.timed_table(records))
    findings = table.findings_table(records)
    if findings is not None:
        parts.append(table.aligned(*findings))
    rounds = table.counted(records[0]["pairs"], "round")
    parts.append(
        f"Times are medians of {rounds} in turns; where a ratio is above 1, mplinalg was faster.\n"
        f"error: {suite.error_measure}."
    )
    if suite.summary is not None:
        parts.append(suite.summary(records))
    return "\n\n".join(part for part in parts if part)


def _draw(suite: Suite | Survey, records: Sequence[Record], args: argparse.Namespace) -> None:
    """The figure; a run that has none to show has been reported all the same."""
    from mplinalg.bench import plot
    from mplinalg.bench.output import replacing

    drawing = io.BytesIO()
    try:
        plot.draw(suite, records, drawing)
    except ValueError as error:
        print(f"warning: {error}", file=sys.stderr)
        return
    with replacing(args.plot, args.force) as file:
        file.write(drawing.getvalue())


def _not_reached(rows: Sequence[Parameters]) -> str:
    from mplinalg.bench.table import counted

    head = f"not reached: {counted(len(rows), 'row')}"
    return "\n".join([head, *(f"  {_described(row)}" for row in rows)])


def _failure(record: Record) -> str:
    return f"{_described(record['parameters'])}: {record['status'].upper()}: {record['message']}"


def _described(row: Parameters) -> str:
    return " ".join(f"{key}={value}" for key, value in row.items())


def _seconds(text: str) -> float:
    """``90``, ``90s``, ``25m``, ``1h``."""
    unit = _SECONDS.get(text[-1:])
    try:
        return float(text) if unit is None else unit * float(text[:-1])
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write 90, 90s, 25m or 1h") from None


def _device(text: str) -> str:
    """``cpu``, ``cuda`` or ``cuda:1`` as they are; a number is that of a GPU."""
    if text.isdecimal():
        return f"cuda:{int(text)}"
    kind, colon, number = text.partition(":")
    if (kind in ("cpu", "cuda") and not colon) or (kind == "cuda" and number.isdecimal()):
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: write cpu, cuda, cuda:1, or the number of a GPU")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(f"--only {text}: write KEY=VALUE, as in --only nrhs=64")
    return key, value


def _command(args: argparse.Namespace) -> str:
    """The command that repeats a run: what decides what is measured, and where it goes not."""
    words = ["mplinalg", "bench", args.suite]
    for name, default in (
        ("sizes", None), ("peers", None), ("threads", None), ("pairs", DEFAULT_ROUNDS),
        ("seed", 0), ("budget", None), ("device", None),
    ):  # fmt: skip
        value = getattr(args, name)
        if value != default:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    words += [word for pair in args.only for word in ("--only", pair)]
    return shlex.join(words)
