"""The command `mplinalg bench`, from its arguments to its records, on tiny problems."""

import pytest

from mplinalg.bench import catalogue
from mplinalg.bench.records import read

from .tiny import bench, quick, suite

__all__ = ["quick", "suite"]  # fixtures


# -- every suite ---------------------------------------------------------------------------------


TINY = {
    "accuracy": ["--sizes", 5, "--only", "cond=1000.0"],
    "never_slower": ["--sizes", "1,6"],
    "qr": ["--sizes", "1,8"],
    "least_squares": ["--sizes", "1,8"],
    "fem_bp": ["--sizes", "2"],
    "contraction": ["--sizes", "3"],
    "batched_solve": ["--sizes", "2,9"],
    "conv": ["--sizes", "8", "--only", "layer=vgg 1-1"],
    "nn_mlp": ["--sizes", "100"],
    "nn_lenet": ["--sizes", "100"],
    "out_of_core": ["--sizes", "9", "--only", "part=1/4"],
    "cluster_solve": ["--sizes", "1", "--only", "matrix=shifted", "--only", "workers=2"],
}


def test_suites_are_found():
    assert set(catalogue.names()) >= {
        "dense_solve", "spd_solve", "least_squares", "complex_solve", "many_rhs", "qr",
        "never_slower", "accuracy", "batched_gemm", "batched_solve", "ragged", "contraction",
        "fem_bp", "out_of_core", "cluster_solve", "rsvd",
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
