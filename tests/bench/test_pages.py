"""benchmarks/pages.py on made-up records: what it writes, and what it calls out of date."""

import importlib.util
import json
from pathlib import Path

import pytest

from mplinalg.bench import catalogue
from mplinalg.bench.records import append

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pages.py"
FRAME = {
    "schema": 1, "kind": "timed", "status": "ok", "message": None, "device": "cpu", "pairs": 7,
    "error_measure": "normwise backward error", "load_average": 0.25, "dtype": "float64",
    "commit": {"describe": "abcdef123456", "dirty": False},
    "machine": {
        "processor": "A Processor", "cores": 4, "vector_flags": ["avx2", "avx512f"],
        "memory_bytes": 2**34, "platform": "Linux",
        "versions": {"python": "3.12", "mplinalg": "0.1.0", "numpy": "2.1", "scipy": "1.16",
                     "numba": "0.61"},
    },
    "ceilings": {"gemm_gflops": {"double": 50.0, "single": 100.0}, "copy_gbytes_per_second": 20.0},
    "report": {"status": "converged", "precision": "fp32", "method": "LU + classical",
               "iterations": 3, "inner_iterations": 0},
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "README.md").write_text(
        "before\n<!-- table: begin -->\nold\n<!-- table: end -->\nafter\n"
    )
    return tmp_path


@pytest.fixture
def pages(root, capsys):
    """Run the script with some arguments: its exit status, and what it said."""
    spec = importlib.util.spec_from_file_location("pages", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*words):
        status = module.main(list(words), root)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def record(root, suite="dense_solve", run="r1", day=1, threads=1, ratio=2.0, **changes):
    """Append a record of a run to the results."""
    parameters = changes.pop("parameters", {"n": 1024})
    words = changes.pop("words", f"--{run}")
    peer = {
        "status": "ok", "call": "c", "gflops": 20.0,
        "ratio": {"median": ratio, "q1": ratio - 0.1, "q3": ratio + 0.1},
    }  # fmt: skip
    ours = {
        "gflops": 40.0, "percent_of_double_gemm": 80.0, "percent_of_single_gemm": 40.0,
        "joules_per_call": None, "error": 1e-17, "seconds": {"median": 0.0123456},
    }  # fmt: skip
    row = FRAME | {
        "suite": suite, "title": catalogue.load(suite).title, "run": run,
        "time": f"2026-01-{day:02}T12:00:00+00:00", "command": f"mplinalg bench {suite} {words}",
        "parameters": parameters, "threads": {"count": threads, "asked": str(threads), "pools": []},
        "ours": ours, "peers": {"scipy": peer},
    }  # fmt: skip
    append(root / "benchmarks" / "results" / "x.jsonl", row | changes)


def survey(root, family, cond, run="r1", day=1, **changes):
    """Append a record of the suite accuracy."""
    outcomes = [
        {"method": method, "format": name, "systems": 15, "stable": 15, "success": 12,
         "delivered": 3, "rungs": {"fp16 LU + GMRES": 3, "fp64 LU + GMRES": 12},
         "iterations": {"median": 4, "max": 9}, "steps": {"median": 3, "max": 4},
         "inner_steps": {"median": 7.5, "max": 9}, "largest_backward_error": 1e-16}
        for method in ("auto", "classical", "gmres")
        for name in ("fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64")
    ]  # fmt: skip
    findings = {"conds": [2e5, 2e5] if cond is None else None, "outcomes": outcomes}
    parameters = {"n": 256, "family": family, "cond": cond}
    record(root, "accuracy", run, day, kind="survey", parameters=parameters, ceilings=None,
           **{"findings": findings} | changes)  # fmt: skip


def text(root, *names):
    return root.joinpath(*names).read_text()


def test_no_results(root, pages):
    assert pages()[0] == 0
    assert "No results are recorded yet." in text(root, "docs", "performance.md")
    assert "No results are recorded yet." in text(root, "docs/algorithms/measured-accuracy.md")
    assert "No results are recorded yet." in text(root, "README.md")
    assert pages("--check") == (0, "")


def test_the_page_says_what_was_measured(root, pages):
    record(root)
    assert pages()[0] == 0
    page = text(root, "docs", "performance.md")
    for words in (
        "2026-01-01, commit abcdef123456; A Processor (AVX-512), 1 thread on 4 cores, 16 GiB",
        "load average 0.2 to 0.2; NumPy 2.1, SciPy 1.16",
        "fp64 GEMM 50 and fp32 GEMM 100 GFLOP/s, copy 20 GB/s. 7 rounds.",
        "$ mplinalg bench dense_solve --r1",
        "| 1024 | 40.0 | 80 | 40 | 1.0e-17 | 3 | fp32 LU + classical | 2.00 [1.90, 2.10] |",
        "![dense_solve, rates and ratios](figures/dense_solve-1.png)",
    ):
        assert words in page
    assert "0.0123" not in page  # seconds of a shared machine say little
    assert (root / "docs/figures/dense_solve-1.png").read_bytes().startswith(b"\x89PNG")


def test_the_newest_run_of_each_number_of_threads(root, pages):
    record(root, run="new", day=9, ratio=3.0)
    record(root, run="old", day=2, ratio=4.0)
    record(root, run="two", day=1, ratio=5.0, threads=2)
    pages()
    page = text(root, "docs", "performance.md")
    assert "3.00 [" in page
    assert "4.00 [" not in page
    assert "5.00 [" in page
    assert page.index("### dense_solve, 1 thread\n") < page.index("### dense_solve, 2 threads\n")
    assert page.count("## `dense_solve`") == 1
    assert "| 1024 | 3.00 [2.90, 3.10] | 5.00 [4.90, 5.10] |" in text(root, "README.md")


def test_the_table_of_the_readme(root, pages):
    for n, ratio in ((256, 1.1), (512, 1.2), (2048, 1.3), (8192, 1.4)):
        record(root, parameters={"n": n}, ratio=ratio)
    for nrhs in (64, 512, 8):
        record(root, "many_rhs", "m", day=3, parameters={"n": 256, "nrhs": nrhs}, ratio=0.8)
    sweep = {"function": "solve", "structure": "general", "dtype": "float64", "order": "C"}
    record(root, "never_slower", "s", parameters={**sweep, "n": 8}, ratio=7.0)
    pages()
    table = text(root, "README.md")
    assert table.startswith("before\n<!-- table: begin -->\n| problem | n | 1 thread |\n")
    assert table.endswith("<!-- table: end -->\nafter\n")
    assert "old" not in table
    rows = [line for line in table.splitlines() if line.startswith("| A")]
    assert [row.split(" | ")[1:3] for row in rows] == [
        ["512", "1.20 [1.10, 1.30] |"],
        ["8192", "1.40 [1.30, 1.50] |"],
        ["256", "0.80 [0.70, 0.90] |"],
        ["256", "0.80 [0.70, 0.90] |"],
        ["256", "0.80 [0.70, 0.90] |"],
    ]
    ends = ["; nrhs 8 |", "; nrhs 64 |", "; nrhs 512 |"]
    assert all(end in row for end, row in zip(ends, rows[2:], strict=True))
    assert (
        "Time of SciPy 1.16 over the time of mplinalg, median [quartiles] of 7 rounds; "
        "A Processor, 4 cores, 2026-01-01 to 2026-01-03; load average 0.2 to 0.2. Made by:\n\n"
        "```console\n$ mplinalg bench dense_solve --r1\n$ mplinalg bench many_rhs --m\n```\n"
    ) in table


@pytest.mark.parametrize(
    "readme",
    ["nothing", "<!-- table: begin -->", "<!-- table: end --><!-- table: begin -->",
     "<!-- table: begin --><!-- table: begin --><!-- table: end -->"],
)  # fmt: skip
def test_a_readme_without_its_markers_is_an_error(root, pages, readme):
    (root / "README.md").write_text(readme)
    status, said = pages()
    assert status == 2
    assert "<!-- table: begin -->" in said
    assert not (root / "docs").exists()
    assert text(root, "README.md") == readme


def test_check_writes_nothing(root, pages):
    record(root)
    status, said = pages("--check")
    assert status == 1
    assert "docs/performance.md: out of date" in said
    assert "README.md: out of date" in said
    assert not (root / "docs").exists()
    assert "old" in text(root, "README.md")


def test_check_finds_what_is_out_of_date(root, pages):
    record(root)
    pages()
    assert pages("--check") == (0, "")
    figure, page = root / "docs/figures/dense_solve-1.png", root / "docs/performance.md"
    page.write_text(page.read_text() + "edited by hand\n")
    assert pages("--check") == (1, "docs/performance.md: out of date\n")
    pages()
    figure.unlink()
    assert pages("--check") == (1, "docs/figures/dense_solve-1.png: out of date\n")
    pages()
    assert pages("--check") == (0, "")
    record(root, run="r2", day=2, ratio=2.0)  # the same numbers, of another run
    assert "dense_solve-1.png: out of date" in pages("--check")[1]


def lines_of(root):
    """The rows of the table of the README."""
    return [line for line in text(root, "README.md").splitlines() if "1.90" in line]


def test_orders_of_the_readme_are_those_that_all_numbers_of_threads_have(root, pages):
    for threads, orders in ((1, (512, 1024, 2048, 4096)), (2, (1024, 2048))):
        for n in orders:
            record(root, run=f"t{threads}", parameters={"n": n}, threads=threads)
    record(root, "qr", "q1", parameters={"n": 512, "aspect": 1})  # no order in common
    record(root, "qr", "q2", parameters={"n": 600, "aspect": 1}, threads=2)
    pages()
    ratio = "2.00 [1.90, 2.10]"
    assert [line.split(" | ", 1)[1] for line in lines_of(root)] == [
        f"1024 | {ratio} | {ratio} |", f"2048 | {ratio} | {ratio} |",
        f"512 | {ratio} |  |", f"600 |  | {ratio} |",
    ]  # fmt: skip


def test_shapes_in_the_readme_are_numbers(root, pages):
    for aspect in (4, 1):
        record(root, "qr", "q", parameters={"n": 512, "aspect": aspect})
    for cond in (1e6, 10.0):
        record(root, "least_squares", "l", parameters={"n": 512, "cond": cond, "aspect": 4})
    pages()
    labels = [line.split(" | 512")[0].replace(r"\|", "|") for line in lines_of(root)]
    assert labels == [
        "| min ||b - A x||, A is 4n x n; cond 10", "| min ||b - A x||, A is 4n x n; cond 1e+06",
        "| A = Q R, economic, A is n x n", "| A = Q R, economic, A is 4n x n",
    ]  # fmt: skip


def test_threads_bound_to_one_core(root, pages):
    record(root, machine=FRAME["machine"] | {"cores": 1})
    pages()
    assert "A Processor (AVX-512), 1 thread on 1 core, 16 GiB" in text(
        root, "docs", "performance.md"
    )
    assert ", 1 core, 2026" in text(root, "README.md")


def test_no_load_average(root, pages):
    record(root, load_average=None)
    pages()
    assert "Linux; NumPy" in text(root, "docs", "performance.md")
    assert ", 2026-01-01. Made by:" in text(root, "README.md")


@pytest.mark.parametrize("words", ["--sizes 1024", "--only n=1024"])
def test_a_short_run_does_not_replace_a_full_one(root, pages, words):
    for n in (1024, 2048):
        record(root, run="full", parameters={"n": n}, ratio=3.0, words="--threads 1")
    record(root, run="short", day=2, ratio=4.0, words=words)
    pages()
    assert text(root, "docs", "performance.md").count("3.00 [") == 2
    for n in (1024, 2048):
        record(root, run="again", day=3, parameters={"n": n}, ratio=5.0, words="--threads 1")
    pages()
    assert text(root, "docs", "performance.md").count("5.00 [") == 2


def test_a_full_run_is_replaced_once_it_is_not_among_the_newest_three(root, pages):
    for n in (1024, 2048):
        record(root, run="full", parameters={"n": n}, ratio=3.0)
    for day in (2, 3, 4):
        record(root, run=f"short{day}", day=day, ratio=3.0 + day, words="--sizes 1024")
    pages()
    page = text(root, "docs", "performance.md")
    assert "7.00 [" in page
    assert "3.00 [" not in page


def test_rows_that_the_suite_no_longer_plans_do_not_count(root, pages):
    for n in (1001, 1003):
        record(root, run="older", parameters={"n": n}, ratio=3.0)
    record(root, run="newer", day=2, ratio=4.0)
    pages()
    assert "4.00 [" in text(root, "docs", "performance.md")


def test_a_sweep_is_summed_up(root, pages):
    suite = catalogue.load("never_slower")
    rows = [r for r in suite.cases([1, 2, 3, 4, 5]) if (r["function"], r["nrhs"]) == ("lu", 1)]
    rows = [r for r in rows if r["dtype"] == "float64"]
    words = "--sizes 1,2,3,4,5,6 --only function=lu --only dtype=float64"
    for row, ratio in zip(rows, (0.5, 0.8, 0.95, 1.5, 1.6), strict=True):
        record(root, "never_slower", parameters=row, ratio=ratio, words=words)
    wrong = {"status": "wrong answer", "message": "error 1 is above 0", "ours": None, "peers": None}
    record(root, "never_slower", parameters=rows[0] | {"n": 6}, **wrong)
    assert pages()[0] == 0
    page = text(root, "docs", "performance.md")
    assert "| lu | general | float64 | C | 5 | 2 | 3 | 0.50 (n = 1) | 0.95 | 1.60 (n = 5) |" in page
    assert "6 of 6 planned rows reached.\n" in page
    assert (
        "Slower than SciPy: 2 of 5 rows by the upper quartile of the ratios (below 1), 3 by" in page
    )
    assert "1 row without a good answer" in page
    slower = page[page.index("Those by the quartile:") :]
    assert slower.index("| 1 | 0.50 [") < slower.index("| 2 | 0.80 [")
    assert "0.95 [" not in slower


def test_what_a_sweep_did_not_reach(root, pages):
    suite = catalogue.load("never_slower")
    words = "--sizes 8,300,1024 --only function=qr --budget 5"
    rows = [r for r in suite.cases([8, 300, 1024]) if r["function"] == "qr"]
    for row in rows[:9]:  # all of n = 8 and 300, one of n = 1024
        record(root, "never_slower", parameters=row, words=words)
    record(root, "never_slower", parameters=rows[0] | {"n": 9}, words=words)
    pages()
    page = text(root, "docs", "performance.md")
    assert "9 of 12 planned rows reached, and 1 that are no longer planned. Not reached:" in page
    for dtype in ("float32", "complex64", "complex128"):
        assert f"| qr | tall | {dtype} | C | 1 | 1024 |" in page


def test_a_run_without_a_good_row_has_no_figure(root, pages):
    wrong = {"status": "wrong answer", "message": "error 1 is above 0", "ours": None, "peers": None}
    record(root, **wrong)
    assert pages()[0] == 0
    assert "WRONG ANSWER: error 1 is above 0" in text(root, "docs", "performance.md")
    assert not (root / "docs" / "figures").exists()


def test_accuracy(root, pages):
    for exponent in (0, 8):
        survey(root, "randsvd", 10.0**exponent)
    survey(root, "minij", None)
    survey(root, "pei", None, status="failed", message="no", findings=None)
    assert pages()[0] == 0
    page = text(root, "docs/algorithms/measured-accuracy.md")
    assert "| n | refine | format | 1e0 | 1e8 | rung |" in page
    for cells in ("20 | 20", "80 | 80", "3/7.5 | 3/7.5"):
        assert f"| 256 | gmres | fp16 | {cells} | fp64 LU + GMRES (80 %) |" in page
    assert "## Families at their own condition numbers, refine gmres: percent solved" in page
    assert f"| minij | 256 | 2e+05 |{' 80 (100), 4, fp64 GMRES |' * 6}\n" in page
    assert "| pei |" not in page
    assert (root / "docs/figures/accuracy.png").exists()
    assert pages("--check") == (0, "")


def test_a_survey_of_an_older_form_is_not_shown(root, pages):
    old = {"parameters": {"n": 256, "format": "fp16", "method": "gmres", "cond": 10.0}}
    record(root, "accuracy", kind="survey", findings={"systems": 15}, ceilings=None, **old)
    assert pages()[0] == 0
    assert "No results are recorded yet." in text(root, "docs/algorithms/measured-accuracy.md")
    survey(root, "randsvd", 10.0, "r0", 1)
    assert pages()[0] == 0
    assert "| 256 | gmres | fp16 | 20 |" in text(root, "docs/algorithms/measured-accuracy.md")


def test_a_file_that_is_no_record_is_an_error(root, pages):
    (root / "benchmarks/results/x.jsonl").write_text(json.dumps({"a": 1}) + "\n")
    status, said = pages()
    assert status == 2
    assert "not a record" in said
