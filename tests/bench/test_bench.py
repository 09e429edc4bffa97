"""The command `mplinalg bench`, from its arguments to its records, on tiny problems."""

import functools
import json
import os
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from mplinalg.bench import catalogue, ceilings, progress, row, runner, stacks, timing
from mplinalg.bench.cli import main
from mplinalg.bench.records import read
from mplinalg.bench.timing import interleave

SUITE = """
import numpy as np
from mplinalg import SolveReport, Status
from mplinalg.bench.suite import Problem, Suite

def build(rng, n):
    value = float(rng.standard_normal())
    def ours():
        {ours}
        return value
    def bad():
        return value + 1
    def fails():
        raise ValueError("no {{}}")
    def big():
        raise MemoryError
    def same():
        return value
    return Problem(
        ours=ours, peers=dict(same=same, bad=bad, fails=fails, big=big),
        report=lambda: SolveReport(Status.CONVERGED, iterations=n),
        error=lambda x: abs(x - value), bound=1e-9, dtype="float64", flops=float(n),
    )

SUITE = Suite(
    title="a test", sizes="1,2,3", default_peers=("same",), error_measure="difference",
    peers=dict.fromkeys(("same", "bad", "fails", "big"), "a call"), build=build,
)
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    """Short samples, small ceilings, and a folder to work in."""
    monkeypatch.setattr(row, "interleave", functools.partial(interleave, min_sample=1e-6))
    monkeypatch.setattr(timing, "METERED_SAMPLE", 1e-6)
    monkeypatch.setattr(ceilings, "ORDER", 16)
    monkeypatch.setattr(ceilings, "COPIED", 1000)
    monkeypatch.setattr(stacks, "SCALE", 1e-3)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def suite(tmp_path):
    """Write a suite of sizes 1, 2, 3 to s.py; the statement `ours` runs before it answers."""

    def write(ours="pass"):
        (tmp_path / "s.py").write_text(SUITE.format(ours=ours))
        return "s.py"

    return write


def bench(*words):
    return main(["bench", *map(str, words)])


# -- every suite ---------------------------------------------------------------------------------

TINY = {
    "accuracy": ["--sizes", 5, "--only", "cond=1000.0"],
    "never_slower": ["--sizes", "1,6"],
    "qr": ["--sizes", "1,8"],
    "least_squares": ["--sizes", "1,8"],
    "fem_bp": ["--sizes", "2"],
    "contraction": ["--sizes", "3"],
    "batched_solve": ["--sizes", "2,9"],
}


def test_suites_are_found():
    assert set(catalogue.names()) >= {
        "dense_solve", "spd_solve", "least_squares", "complex_solve", "many_rhs", "qr",
        "never_slower", "accuracy", "batched_gemm", "batched_solve", "ragged", "contraction",
        "fem_bp",
    }  # fmt: skip


@pytest.mark.parametrize("name", catalogue.names())
def test_a_suite_runs(name, capsys):
    suite = catalogue.load(name)
    options = TINY.get(name, ["--sizes", "1,8"])
    peers = getattr(suite, "peers", None)
    if peers:
        options = [*options, "--peers", ",".join(peers)]
    assert bench(name, *options, "--json", "r.jsonl", "--plot", "r.png") == 0
    records = read("r.jsonl")
    assert records
    for record in records:
        assert record["status"] == "ok", record["message"]
        for peer, result in record.get("peers", {}).items():
            assert result["status"] == "ok", (record["parameters"], peer, result["message"])
    assert capsys.readouterr().out.startswith(f"{name}: {suite.title}\n")
    with open("r.png", "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("name", catalogue.names())
def test_a_suite_says_what_it_measures(name):
    text = (catalogue.folder() / f"{name}.py").read_text()
    assert text.startswith('"""')
    assert len(text.split('"""')[1]) > 200


def test_listing(capsys):
    assert bench("--list") == 0
    out = capsys.readouterr().out
    for name in catalogue.names():
        assert f"{name} " in out
        assert catalogue.load(name).title in out


# -- records -------------------------------------------------------------------------------------


def test_a_record_is_complete(suite):
    assert bench(suite(), "--json", "r.jsonl", "--threads", 1, "--seed", 5) == 0
    records = read("r.jsonl")
    assert [r["parameters"] for r in records] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert len({r["run"] for r in records}) == 1
    assert len({r["seed"] for r in records}) == 3
    record = records[1]
    assert record["schema"] == 1
    assert record["suite"] == "s"
    assert record["pairs"] == 7
    assert record["command"] == "mplinalg bench s.py --threads 1 --seed 5"
    assert record["threads"]["count"] == 1
    blas = [pool for pool in record["threads"]["pools"] if pool["user_api"] == "blas"]
    assert blas
    assert {pool["num_threads"] for pool in blas} == {1}
    assert record["machine"]["versions"]["numpy"]
    assert record["load_average"] is not None
    assert "commit" in record
    assert record["report"]["iterations"] == 2
    ours, peer = record["ours"], record["peers"]["same"]
    assert len(ours["seconds"]["samples"]) == 7
    assert ours["gflops"] == pytest.approx(2 / ours["seconds"]["median"] / 1e9)
    double = record["ceilings"]["gemm_gflops"]["double"]
    assert ours["percent_of_double_gemm"] == pytest.approx(100 * ours["gflops"] / double)
    pairs = zip(peer["seconds"]["samples"], ours["seconds"]["samples"], strict=True)
    assert peer["ratio"]["samples"] == pytest.approx([p / q for p, q in pairs])
    assert ours["joules_per_call"] is None or ours["joules_per_call"] > 0


def test_rows_are_appended_to_what_is_there(suite):
    for _ in range(2):
        assert bench(suite(), "--json", "r.jsonl", "--sizes", 1) == 0
    first, second = read("r.jsonl")
    assert first["run"] != second["run"]
    assert first["seed"] == second["seed"]


def test_a_row_is_the_same_alone_as_among_others(suite):
    assert bench(suite(), "--json", "a.jsonl") == 0
    assert bench(suite(), "--json", "b.jsonl", "--only", "n=3") == 0
    assert bench(suite(), "--json", "c.jsonl", "--only", "n=3", "--seed", 1) == 0
    (alone,), (other,) = read("b.jsonl"), read("c.jsonl")
    assert alone["seed"] == read("a.jsonl")[2]["seed"]
    assert alone["seed"] != other["seed"]


def test_a_foreign_file_is_refused_before_anything_is_measured(suite, tmp_path, capsys):
    (tmp_path / "r.jsonl").write_text("mine\n")
    assert bench(suite("raise AssertionError"), "--json", "r.jsonl") == 2
    assert "not JSON" in capsys.readouterr().err
    assert (tmp_path / "r.jsonl").read_text() == "mine\n"


# -- wrong answers -------------------------------------------------------------------------------


def test_a_wrong_answer_stops_its_row_only(suite, capsys):
    wrong = "return value + (n == 2)"
    assert bench(suite(wrong), "--json", "r.jsonl") == 1
    first, second, third = read("r.jsonl")
    assert second["status"] == "wrong answer"
    assert "seconds" not in second["ours"]
    assert "peers" not in second
    assert first["status"] == third["status"] == "ok"
    assert "WRONG ANSWER: error 1.00e+00 is above 1.00e-09" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ours", "status"),
    [
        ("return float('nan')", "wrong answer"),
        ("raise ValueError('broken')", "failed"),
        ("raise np.linalg.LinAlgError('singular')", "failed"),
        ("raise MemoryError", "out of memory"),
    ],
)
def test_no_answer_is_recorded(suite, ours, status):
    assert bench(suite(ours), "--json", "r.jsonl", "--sizes", 1) == 1
    (record,) = read("r.jsonl")
    assert record["status"] == status
    assert record["message"]


def test_memory_that_runs_out_while_timing(suite):
    count = "build.calls = getattr(build, 'calls', 0) + 1"
    later = "if build.calls == 4: raise MemoryError"
    assert bench(suite(f"{count}\n        {later}"), "--json", "r.jsonl") == 1
    statuses = [r["status"] for r in read("r.jsonl")]
    assert statuses == ["out of memory", "ok", "ok"]
    assert read("r.jsonl")[0]["ours"]["status"] == "ok"  # its answer was good


SURVEY = """
from mplinalg.bench.suite import Survey

def measure(seed, n):
    if n == 2:
        raise {error}
    return dict(found=10 * n)

def tables(records):
    return [("findings", ["n"], [[str(r["findings"]["found"])] for r in records])]

def draw(figure, records):
    figure.subplots().plot([r["findings"]["found"] for r in records])

SUITE = Survey(title="t", sizes="1,2,3", measure=measure, tables=tables, draw=draw)
"""


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ("ValueError('broken')", "failed", "broken"),
        ("MemoryError", "out of memory", "does not fit in memory"),
    ],
)
def test_a_row_of_a_survey_that_fails_stops_itself_only(tmp_path, capsys, error, status, message):
    (tmp_path / "s.py").write_text(SURVEY.format(error=error))
    assert bench("s.py", "--json", "r.jsonl", "--plot", "r.png") == 1
    first, second, third = read("r.jsonl")
    assert (first["findings"], third["findings"]) == ({"found": 10}, {"found": 30})
    assert (second["status"], second["message"]) == (status, message)
    assert "findings" not in second
    out = capsys.readouterr().out
    assert out.endswith(f"10\n30\n\nn=2: {status.upper()}: {message}\n")
    assert os.path.exists("r.png")


def test_a_survey_of_nothing_but_failures(tmp_path, capsys):
    (tmp_path / "s.py").write_text(SURVEY.format(error="ValueError('broken')"))
    assert bench("s.py", "--sizes", 2, "--plot", "r.png") == 1
    captured = capsys.readouterr()
    assert captured.out.endswith("\n\nn=2: FAILED: broken\n")
    assert captured.err == "warning: s: nothing to draw\n"


def test_a_problem_that_cannot_be_drawn(tmp_path, capsys):
    text = SUITE.format(ours="pass").replace("    value =", "    raise MemoryError\n    value =")
    (tmp_path / "s.py").write_text(text)
    assert bench("s.py", "--json", "r.jsonl", "--sizes", 1, "--plot", "r.png") == 1
    assert read("r.jsonl")[0]["status"] == "out of memory"
    assert not os.path.exists("r.png")
    assert capsys.readouterr().err == "warning: s: nothing to draw\n"


def test_a_peer_that_fails_is_named_and_not_compared(suite, capsys):
    assert bench(suite(), "--peers", "bad,fails,big,same", "--json", "r.jsonl", "--sizes", 1) == 0
    peers = read("r.jsonl")[0]["peers"]
    assert {name: result["status"] for name, result in peers.items()} == {
        "bad": "wrong answer", "fails": "failed", "big": "out of memory", "same": "ok",
    }  # fmt: skip
    assert [name for name, result in peers.items() if "ratio" in result] == ["same"]
    assert peers["fails"]["message"] == "no {}"
    assert "wrong answer" in capsys.readouterr().out


# -- the end of a run ----------------------------------------------------------------------------


def test_an_interrupted_run_keeps_its_rows(suite, capsys):
    stop = "if n == 3: raise KeyboardInterrupt"
    assert bench(suite(stop), "--json", "r.jsonl", "--plot", "r.png") == 130
    assert [r["parameters"]["n"] for r in read("r.jsonl")] == [1, 2]
    captured = capsys.readouterr()
    assert captured.err == "error: interrupted\n"
    assert "GFLOP/s" in captured.out
    assert "not reached: 1 row\n  n=3" in captured.out
    assert os.path.exists("r.png")


def test_an_interrupted_first_row(suite, capsys):
    assert bench(suite("raise KeyboardInterrupt"), "--json", "r.jsonl", "--plot", "r.png") == 130
    assert not os.path.exists("r.jsonl")
    assert not os.path.exists("r.png")
    assert capsys.readouterr().err == "error: interrupted\n"


def test_the_budget_ends_a_run_between_rows(suite, monkeypatch, capsys):
    seconds = iter([0.0, 1.0, 4.9, 5.0])  # when the run begins, and before each row
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    assert bench(suite(), "--budget", 5, "--json", "r.jsonl") == 0
    assert len(read("r.jsonl")) == 2
    assert "not reached: 1 row\n  n=3" in capsys.readouterr().out


def test_never_slower_lists_the_slower_rows(capsys):
    module = catalogue._imported(catalogue.folder() / "never_slower.py")

    def record(n, median, q3):
        ratio = {"median": median, "q1": median, "q3": q3}
        peers = {"scipy": {"status": "ok", "ratio": ratio}}
        return {"status": "ok", "parameters": {"n": n}, "peers": peers}

    rows = [record(1, 0.9, 1.1), record(2, 0.9, 0.99), record(3, 0.5, 0.6), record(4, 2.0, 2.0)]
    rows.append({"status": "wrong answer", "parameters": {"n": 5}})
    text = module.summary(rows)
    by = "by the upper quartile of the ratios"
    assert text.startswith(f"slower than SciPy: 2 of 4 rows {by}, 3 by the median")
    assert text.index("3  0.50") < text.index("2  0.90")
    nothing = f"slower than SciPy: 0 of 1 rows {by}, 0 by the median"
    assert module.summary(rows[-2:]) == nothing


def test_never_slower_covers_what_it_says():
    module = catalogue._imported(catalogue.folder() / "never_slower.py")
    rows = module.cases([1, 100, 1000])
    assert len({json.dumps(r, sort_keys=True) for r in rows}) == len(rows)
    assert rows[0] == module.PLAIN | {"n": 1}
    for key, values in {
        "function": {"solve", *module.OTHERS},
        "structure": {*module.ASSUMED, "tall"},
        "dtype": set(module.DTYPES),
        "nrhs": {1, 2, 8, 64, 100, 512, 1000},
        "order": {"C", "F"},
        "assumed": {"yes", "no"},
    }.items():
        assert {r[key] for r in rows} == values
    for name in module.OTHERS:
        assert {r["dtype"] for r in rows if r["function"] == name} == set(module.DTYPES)


def test_never_slower_thins_out_with_n():
    module = catalogue._imported(catalogue.folder() / "never_slower.py")
    rows = module.cases([16384, 8192, 4096, 2048, 100])
    assert [r["n"] for r in rows] == sorted(r["n"] for r in rows)
    of = {n: [r for r in rows if r["n"] == n] for n in (2048, 4096, 8192, 16384)}
    assert of[16384] == [module.PLAIN | {"n": 16384}]
    assert [r["structure"] for r in of[8192]] == ["general", "positive definite"]
    assert {r["dtype"] for r in of[4096]} == set(module.DTYPES)
    assert {r["nrhs"] for r in of[4096]} == {1, 8, 64}
    assert {r["nrhs"] for r in of[2048]} == {1, 8, 64, 512, 2048}
    for n in (2048, 4096):
        assert {r["function"] for r in of[n]} == {"solve", "lu", "cho"}
        assert len({r["structure"] for r in of[n]}) == len(module.ASSUMED) - 1


def test_a_budget_of_never_slower_costs_large_orders_not_kinds():
    module = catalogue._imported(catalogue.folder() / "never_slower.py")
    rows = module.cases([1000, 1, 300])
    small = [r["n"] <= 300 for r in rows]
    assert small == sorted(small, reverse=True)
    kinds = [{tuple(r.values())[:4] for r in rows if r["n"] == n} for n in (300, 1000)]
    assert kinds[0] == kinds[1]


def test_never_slower_models_its_traffic():
    suite = catalogue.load("never_slower")
    unmodelled = set()
    for parameters in suite.cases([40]):
        problem = suite.build(np.random.default_rng(0), **parameters)
        if problem.traffic(problem.report()) is None:
            unmodelled.add(parameters["function"])
    assert unmodelled <= {"lstsq"}  # gelsd's


# -- usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "0"], "sizes are at least 1"),
        (["--sizes", "8:4"], "is empty"),
        (["--sizes", "many"], "is not a size"),
        (["--peers", "same,mkl"], "has no peer 'mkl'; it has same, bad, fails, big"),
        (["--peers", ""], "has no peer ''"),
        (["--threads", "0"], "threads must be"),
        (["--threads", "many"], "threads must be"),
        (["--pairs", "0"], "pairs must be at least 1"),
        (["--budget", "0"], "budget must be a positive"),
        (["--budget", "nan"], "budget must be a positive"),
        (["--device", "cuda"], "the suite s computes on cpu"),
        (["--only", "n"], "write KEY=VALUE"),
        (["--only", "n=7"], "has no row with n=7: n is 1 or 2 or 3"),
        (["--only", "nrhs=1"], "rows have no nrhs"),
        (["--json", "missing/r.jsonl"], "does not exist"),
        (["--plot", "missing/r.png"], "does not exist"),
        (["--json", ""], "is empty"),
        (["--plot", ""], "figures are PNG files"),
        (["--plot", "r.pdf"], "figures are PNG files"),
        (["--pairs", "6", "--json", "r.jsonl"], "at least 7 rounds, --pairs asks for 6"),
        (["--sizes", 401 * "9"], "sizes are at most 2147483647"),
    ],
)
def test_bad_usage(suite, words, message, capsys):
    assert bench(suite("raise AssertionError"), *words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("words", [["--pairs", "x"], ["--device", "tpu"], ["--nonsense"]])
def test_options_that_do_not_parse(suite, words, capsys):
    assert bench(suite(), *words) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dense", "unknown suite 'dense'; choose from accuracy, "),
        ("pages", "unknown suite"),
        ("missing.py", "no such file"),
        ("empty.py", "it defines no SUITE"),
        ("number.py", "SUITE is a int"),
        ("declared.py", "it defines no SUITE"),
        ("latin.py", "error: latin.py: not a file of Python: "),
        ("broken.py", "error: broken.py: not a file of Python: "),
    ],
)
def test_no_such_suite(name, message, tmp_path, capsys):
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "number.py").write_text("SUITE = 3\n")
    (tmp_path / "declared.py").write_text("SUITE: int\nOTHER = 3\n")
    (tmp_path / "latin.py").write_bytes(b"NAME = 'caf\xe9'\nSUITE = 3\n")
    (tmp_path / "broken.py").write_text("SUITE = (\n")
    assert bench(name) == 2
    assert message in capsys.readouterr().err


def test_no_suite_at_all(capsys):
    assert bench() == 2
    assert "--list" in capsys.readouterr().err


def test_a_suite_whose_type_is_stated(suite, tmp_path):
    text = (tmp_path / suite()).read_text().replace("SUITE = Suite(", "SUITE: Suite = Suite(")
    (tmp_path / "s.py").write_text(text)
    assert bench("s.py", "--sizes", 1) == 0


def test_few_rounds_are_for_the_terminal_only(suite, capsys):
    assert bench(suite(), "--sizes", 1, "--pairs", 1) == 0
    assert "medians of 1 round in turns" in capsys.readouterr().out


def test_a_survey_has_no_peers(capsys):
    assert bench("accuracy", "--peers", "scipy") == 2
    assert "has no peers" in capsys.readouterr().err


# -- figures and progress ------------------------------------------------------------------------


def test_a_figure_is_kept_unless_forced(suite, tmp_path):
    (tmp_path / "r.png").write_bytes(b"mine")
    assert bench(suite("raise AssertionError"), "--plot", "r.png") == 2
    assert (tmp_path / "r.png").read_bytes() == b"mine"
    assert bench(suite(), "--plot", "r.png", "--force") == 0
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("link", [False, True])
def test_a_figure_does_not_replace_the_records(suite, tmp_path, capsys, link):
    assert bench(suite(), "--json", "r.png") == 0
    before = (tmp_path / "r.png").read_bytes()
    if link:
        (tmp_path / "alias.png").symlink_to("r.png")
    name = "alias.png" if link else "./r.png"
    ours = suite("raise AssertionError")
    assert bench(ours, "--json", "r.png", "--plot", name, "--force") == 2
    assert capsys.readouterr().err == f"error: --plot {name}: this is the file of --json\n"
    assert (tmp_path / "r.png").read_bytes() == before


def test_a_figure_does_not_replace_records_behind_a_link(suite, tmp_path, capsys):
    (tmp_path / "r.jsonl").touch()
    (tmp_path / "r.png").symlink_to("r.jsonl")
    assert bench(suite("raise AssertionError"), "--plot", "r.png", "--force") == 2
    assert "figures are PNG files" in capsys.readouterr().err


def test_a_survey_without_a_figure(tmp_path, capsys):
    survey = "Survey(title='t', sizes='1', measure=None, tables=None)"
    text = f"from mplinalg.bench.suite import Survey\nSUITE = {survey}\n"
    (tmp_path / "s.py").write_text(text)
    assert bench("s.py", "--plot", "r.png") == 2
    assert capsys.readouterr().err == "error: s has no figure\n"


def test_a_figure_without_matplotlib(suite, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.backends.backend_agg", raising=False)
    assert bench(suite("raise AssertionError"), "--plot", "r.png") == 2
    assert "pip install 'mplinalg[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("error", ["AttributeError('_ARRAY_API not found')", "ImportError('ABI')"])
def test_a_figure_with_a_broken_matplotlib(suite, monkeypatch, tmp_path, capsys, error):
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text(f"raise {error}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    assert bench(suite("raise AssertionError"), "--plot", "r.png") == 2
    assert "figures need matplotlib: it is installed and cannot" in capsys.readouterr().err


class Bar:
    """What tqdm is asked to do."""

    seen: ClassVar = []

    def __init__(self, **options):
        self.seen.append(("total", options["total"]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.seen.append("closed")

    def set_postfix_str(self, text):
        self.seen.append(text)

    def update(self):
        self.seen.append("update")


def test_progress_on_a_terminal(monkeypatch):
    monkeypatch.setattr(Bar, "seen", [])
    monkeypatch.setattr(progress, "_tqdm", lambda: Bar)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.progress([{"n": 1}, {"n": 2, "m": 3}], "title") as rows:
        assert list(rows) == [{"n": 1}, {"n": 2, "m": 3}]
    assert Bar.seen == [("total", 2), "n=1", "update", "n=2 m=3", "update", "closed"]


def test_no_progress_elsewhere(suite, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_tqdm", lambda: None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert bench(suite(), "--sizes", 1) == 0
    assert capsys.readouterr().err == ""
