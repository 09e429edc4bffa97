"""Threads, machine, commit, ceilings: what a measurement was made under."""

import os
import subprocess
from pathlib import Path

import pytest
import threadpoolctl

import mplinalg
from mplinalg.bench import catalogue, ceilings, machine, threads


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


def test_ceilings_are_plausible(monkeypatch):
    monkeypatch.setattr(ceilings, "ORDER", 200)
    monkeypatch.setattr(ceilings, "COPIED", 100_000)
    found = ceilings.Ceilings()
    for dtype in "fdFD":
        assert 1e8 < found.gemm(dtype) < 1e14
    assert 1e8 < found.copy() < 1e13
