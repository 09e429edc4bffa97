"""Threads, machine, commit, ceilings: what a measurement was made under."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import threadpoolctl

import mplinalg
from mplinalg.bench import catalogue, ceilings, machine, threads
from mplinalg.ops import rates


@pytest.fixture(autouse=True)
def _fresh():
    machine.checkout.cache_clear()
    yield
    machine.checkout.cache_clear()


def blas():
    return {
        pool["owner"] or "other": pool["num_threads"]
        for pool in threads.pools()
        if pool["user_api"] == "blas"
    }


def test_threads_are_pinned_and_given_back():
    before = blas()
    with threadpoolctl.threadpool_limits(1, "blas"):
        with threads.pinned(2, numpy_too=True):
            assert set(blas().values()) == {2}
        assert set(blas().values()) == {1}
        with threads.pinned(2, numpy_too=False):
            found = blas()
            assert found.pop("numpy", 1) == 1  # the wheel's; elsewhere there is one BLAS for both
            assert set(found.values()) <= {2}
    assert blas() == before


def test_numba_is_pinned_too():
    numba = pytest.importorskip("numba")
    before = numba.get_num_threads()
    with threads.pinned(1, numpy_too=False):
        assert numba.get_num_threads() == 1
        assert {
            "user_api": "numba",
            "version": numba.__version__,
            "num_threads": 1,
        } in threads.pools()
    assert numba.get_num_threads() == before


def test_every_pool_is_pinned_from_a_bare_import(tmp_path):
    """Also those that the first solve loads, of a process that could use more threads."""
    code = (
        "import json, mplinalg, numpy\n"
        "from mplinalg.bench import threads\n"
        "with threads.pinned(1, numpy_too=True):\n"
        "    a = numpy.eye(60) + numpy.ones((60, 60))\n"
        "    mplinalg.solve(a, a[0], precision='fp32')\n"
        "    print(json.dumps(threads.pools()))\n"
    )
    path = os.pathsep.join([str(Path(mplinalg.__file__).parents[1]), *filter(None, sys.path)])
    env = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    env |= {"PYTHONPATH": path, "NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    pools = json.loads(done.stdout)
    assert {pool["user_api"] for pool in pools} >= {"blas", "numba"}
    assert [pool for pool in pools if pool["num_threads"] != 1] == []


def test_how_many_threads():
    assert threads.parse_threads("all") == len(os.sched_getaffinity(0))
    assert threads.parse_threads("1") == 1
    for text in ("0", "-1", "two", "1.5", "", "100000"):
        with pytest.raises(ValueError, match="threads must be 'all' or a number from 1 to"):
            threads.parse_threads(text)


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    return subprocess.run(
        ["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout with one commit that mplinalg seems to be imported from."""
    for name in ("mplinalg/__init__.py", "benchmarks/s.py", "pyproject.toml", "docs.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("SUITE = None\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr(mplinalg, "__file__", str(tmp_path / "mplinalg" / "__init__.py"))
    return tmp_path


def test_the_commit(repository):
    head = git(repository, "rev-parse", "--short=12", "HEAD")
    assert machine.commit() == {"describe": head, "dirty": False}
    (repository / "docs.md").write_text("a result that was added")
    assert machine.commit() == {"describe": head, "dirty": False}
    (repository / "mplinalg" / "__init__.py").write_text("changed")
    assert machine.commit() == {"describe": head, "dirty": True}


def test_a_suite_that_is_new_is_a_change(repository):
    (repository / "benchmarks" / "new.py").write_text("SUITE = None\n")
    assert machine.commit()["dirty"]
    assert catalogue.names() == ["new", "s"]


def test_a_folder_inside_somebody_elses_repository_has_no_commit(repository, monkeypatch):
    inner = repository / "site-packages"
    (inner / "mplinalg").mkdir(parents=True)
    monkeypatch.setattr(mplinalg, "__file__", str(inner / "mplinalg" / "__init__.py"))
    assert machine.commit() is None  # installed
    machine.checkout.cache_clear()
    (inner / "pyproject.toml").touch()
    (inner / "benchmarks").mkdir()
    assert machine.checkout() == inner  # unpacked
    assert machine.commit() is None


def test_installed_suites_are_in_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(mplinalg, "__file__", str(tmp_path / "mplinalg" / "__init__.py"))
    assert catalogue.folder() == Path(catalogue.__file__).parent / "suites"


def test_the_machine():
    found = machine.machine()
    assert found["processor"]
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 2**28
    assert found["versions"]["mplinalg"] == mplinalg.__version__
    assert all(found["versions"].values())
    assert machine.load_average() >= 0


def test_whether_the_rates_of_the_ladder_were_measured(monkeypatch):
    gemm = dict.fromkeys(rates.DEFAULTS["numpy"].gemm, 2e9)
    for is_measured, word in ((True, "measured"), (False, "assumed")):
        known = rates.Rates(gemm, 3e9, is_measured)
        monkeypatch.setattr(rates, "known", lambda ops, known=known: known)
        assert machine.machine()["cost_model"] == {
            "rates": word,
            "gemm_gflops": dict.fromkeys(gemm, 2.0),
            "copy_gbytes_per_second": 3.0,
        }


def test_ceilings_are_measured_again_when_old(monkeypatch):
    rates = iter([1e9, 2e9, 3e9])
    now = [0.0]
    monkeypatch.setattr(ceilings, "_gemm_rate", lambda name: next(rates))
    found = ceilings.Ceilings(clock=lambda: now[0])
    assert found.gemm("d") == 1e9
    now[0] = ceilings.MAX_AGE
    assert found.gemm("float64") == 1e9
    now[0] = ceilings.MAX_AGE + 1
    assert found.gemm("d") == 2e9
    assert found.gemm("f") == 3e9


def test_ceilings_of_complex_data_are_complex(monkeypatch):
    asked = []
    monkeypatch.setattr(ceilings, "_gemm_rate", lambda name: asked.append(name) or 1.0)
    ceilings.Ceilings().of("complex64")
    ceilings.Ceilings().of("float32")
    assert asked == ["complex128", "complex64", "float64", "float32"]


def test_ceilings_on_a_clock_of_half_seconds(monkeypatch):
    """Every run takes half a second, but for the third, which takes a quarter of one."""
    ticks = []

    def clock():
        ticks.append(0.25 if len(ticks) % 8 == 5 else 0.5)
        return sum(ticks)

    monkeypatch.setattr(ceilings, "time", SimpleNamespace(perf_counter=clock, monotonic=None))
    monkeypatch.setattr(ceilings, "ORDER", 10)
    monkeypatch.setattr(ceilings, "COPIED", 1000)
    found = ceilings.Ceilings(clock=lambda: 0.0)
    assert found.of("float64") == (2000 / 0.25, 2000 / 0.25)
    assert found.of("complex64") == (8000 / 0.25, 8000 / 0.25)
    assert found.copy() == 2 * 8000 / 0.25


def test_ceilings_are_plausible(monkeypatch):
    monkeypatch.setattr(ceilings, "ORDER", 200)
    monkeypatch.setattr(ceilings, "COPIED", 100_000)
    found = ceilings.Ceilings()
    for dtype in "fdFD":
        assert 1e8 < found.gemm(dtype) < 1e14
    assert 1e8 < found.copy() < 1e13
