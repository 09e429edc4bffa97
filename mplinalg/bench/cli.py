"""The command ``mplinalg``.

Exit status: 0 solved to working precision; 1 solved with a warning: the answer may be poor, or the
precision asked for was not enough (or a demonstration or a benchmark found a wrong answer); 2 bad
input or usage; 3 numerically impossible; 130 interrupted; 141 output closed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from mplinalg.bench import command
from mplinalg.bench.records import json_ready

__all__ = ["main"]

SOLVED, WARNED, BAD_INPUT, IMPOSSIBLE, INTERRUPTED, CLOSED = 0, 1, 2, 3, 130, 141

_EPILOG = """\
exit status:
  0  solved to working precision
  1  solved with a warning: the answer may be poor, or the precision asked for was not enough
  2  bad input or usage
  3  numerically impossible: singular, or not positive definite as asserted

Results appear complete or not at all; an existing file is kept unless --force.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` and return its exit status."""
    _open_streams()
    try:
        args = _parser().parse_args(argv)
        status: int = args.command(args)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # argparse has spoken: 0 after --help, 2 after a wrong option
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader went away (| head). What is still buffered has nowhere to go, at exit too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except np.linalg.LinAlgError as error:
        return _fail(error, IMPOSSIBLE)
    except MemoryError:
        return _fail("not enough memory", BAD_INPUT)
    except (ValueError, TypeError, OSError) as error:
        return _fail(error, BAD_INPUT)


def _open_streams() -> None:
    """Streams that were closed before Python started (``>&-``) lead nowhere, and are no error."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _solve(args: argparse.Namespace) -> int:
    from scipy.linalg import LinAlgWarning  # ours is a subclass

    from mplinalg import solve
    from mplinalg.bench.files import check_target, read_array, write_array
    from mplinalg.precision import backward_bound

    if args.output is None and not args.json:
        raise ValueError("solve: give -o FILE for the answer, or --json for the report alone")
    if args.output is not None:
        check_target(args.output, args.force)
    a, b = read_array(args.a), read_array(args.b)
    _check_system(args, a, b)
    if args.output is not None:
        check_target(args.output, args.force, max(b.ndim, a.ndim - 1))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category=LinAlgWarning)
        try:
            x, report = solve(
                a,
                b,
                assume_a=args.assume,
                precision=args.precision,
                refine=None if args.refine == "none" else args.refine,
                residual=args.residual,
                tol=args.tol,
                max_iter=args.max_iter,
                fallback=args.fallback,
                full_output=True,
            )
        finally:
            lines = [_one_line(w.message) for w in caught]
            for line in lines:
                print(f"warning: {line}", file=sys.stderr)

    unit = float(np.finfo(x.dtype).eps) / 2
    errors = np.asarray(report.backward_error)
    # --refine none and --tol may ask for less than working precision
    poor = not report.status.is_success or not np.all(errors <= backward_bound(a.shape[-1], unit))
    if poor and not lines:
        lines = [report.status.advice]
        if report.status.is_success:
            lines = [
                f"the backward error is {np.max(errors):.1e}: less was asked for than is usual"
            ]
        print(f"warning: {lines[0]}", file=sys.stderr)
    warned = poor or any(issubclass(w.category, LinAlgWarning) for w in caught)
    status = WARNED if warned else SOLVED
    if args.output is not None:
        write_array(args.output, x, args.force)
    if args.json:
        extra = {"output": args.output, "warnings": lines, "exit_status": status}
        _print_json(report.to_dict() | extra)
    else:
        print(report)
    return status


def _demo(args: argparse.Namespace) -> int:
    from mplinalg.bench import demo

    echo = (lambda line: print(line, file=sys.stderr)) if args.json else print
    result = demo.run(
        args.n, args.wavenumber, args.output, args.force, plot=not args.no_plot, echo=echo
    )
    if args.json:
        _print_json(result.to_dict())
    return SOLVED if result.passed else WARNED


def _info(args: argparse.Namespace) -> int:
    import mplinalg

    if args.json:
        _print_json(mplinalg.show_config(mode="dicts"))
    else:
        mplinalg.show_config()
    return SOLVED


def _check_system(args: argparse.Namespace, a: np.ndarray, b: np.ndarray) -> None:
    """Say which file is wrong; `solve` itself only sees arrays."""
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"{args.a}: expected a square matrix, found the shape {a.shape}")
    rows = b.shape[0] if b.ndim == 1 else b.shape[-2]
    if rows != a.shape[-1]:
        raise ValueError(
            f"{args.b}: expected {a.shape[-1]} rows to go with {args.a}, found the shape {b.shape}"
        )
    for name, x in ((args.a, a), (args.b, b)):
        wrong = x.size - np.count_nonzero(np.isfinite(x))
        if wrong:
            raise ValueError(f"{name}: {wrong} of {x.size} numbers are NaN or infinite")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mplinalg",
        description="Dense linear algebra: low-precision factorizations, double-precision answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_solve(commands)
    _add_info(commands)
    command.add_arguments(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="a real problem, solved, checked against its exact answer, compared with SciPy, drawn",
        description="Scatter a plane wave off a cylinder: assemble the boundary integral equation, "
        "solve it, check the wave against its series, compare with SciPy, and draw it.",
        allow_abbrev=False,
    )
    demo.add_argument("--n", type=int, default=2400, help="unknowns (default %(default)s)")
    demo.add_argument("--wavenumber", type=float, help="times the radius (default n / 24)")
    demo.add_argument(
        "-o", "--output", default="mplinalg-demo.png", help="picture (default %(default)s)"
    )
    demo.add_argument("--no-plot", action="store_true", help="draw nothing")
    _add_common(demo, "print the result as JSON, and the rest on stderr")
    demo.set_defaults(command=_demo)


def _add_solve(commands: Any) -> None:
    solve = commands.add_parser(
        "solve",
        help="solve A x = b between files",
        description="Solve A x = b and print the report. Files are .npy, .npz (FILE.npz:KEY if it\n"
        "holds several arrays), .mtx or .csv.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    solve.add_argument("a", metavar="A", help="square matrix")
    solve.add_argument("b", metavar="B", help="right-hand side, a vector or a matrix of columns")
    solve.add_argument("-o", "--output", metavar="X", help="answer; may be left out with --json")
    solve.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"],
        help="of the factorization (default %(default)s)",
    )
    solve.add_argument(
        "--refine",
        default="auto",
        choices=["auto", "classical", "gmres", "none"],
        help="how the answer is refined (default %(default)s)",
    )
    solve.add_argument(
        "--residual",
        default="working",
        choices=["working", "extended"],
        help="precision of residuals (default %(default)s)",
    )
    solve.add_argument(
        "--assume", metavar="KIND", help="structure of A as in SciPy: gen, sym, her, pos, ..."
    )
    solve.add_argument("--tol", type=float, help="backward error to reach")
    solve.add_argument("--max-iter", type=int, metavar="N", help="most refinement steps")
    solve.add_argument(
        "--no-fallback",
        dest="fallback",
        action="store_false",
        help="fail instead of climbing to a higher precision",
    )
    _add_common(solve, "print the report as JSON")
    solve.set_defaults(command=_solve)


def _add_info(commands: Any) -> None:
    info = commands.add_parser("info", help="versions, BLAS, threads, devices", allow_abbrev=False)
    info.add_argument("--json", action="store_true", help="print it as JSON")
    info.set_defaults(command=_info)


def _add_common(parser: argparse.ArgumentParser, json_help: str) -> None:
    parser.add_argument("--json", action="store_true", help=json_help)
    parser.add_argument("--force", action="store_true", help="replace an existing output")


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from mplinalg import __version__

        print(f"mplinalg {__version__}")
        parser.exit()


def _fail(message: object, status: int) -> int:
    print(f"error: {_one_line(message)}", file=sys.stderr)
    return status


def _one_line(message: object) -> str:
    return " ".join(str(message).split()) or type(message).__name__


def _print_json(data: Any) -> None:
    print(json.dumps(json_ready(data), indent=2, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
