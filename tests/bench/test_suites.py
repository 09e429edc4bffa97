"""The suites of benchmarks/: what they judge, what they call, what they cover."""

import ast
import tempfile

import dask.array.linalg
import numpy as np
import opt_einsum
import pytest
import scipy.linalg
import sklearn.utils.extmath

import mplinalg
from mplinalg.batched import Ragged
from mplinalg.bench import catalogue, checks, clusters, resident, stacks
from mplinalg.bench.suite import Suite
from mplinalg.testing import gallery

SUITES = {
    name: suite
    for name in catalogue.names()
    if isinstance(suite := catalogue.load(name), Suite)
}  # fmt: skip
N = 40
SIZES = {"fem_bp": 3, "out_of_core": 120, "cluster_solve": 2, "conv": 16, "prune": 3}
"""Where N is no order of a matrix, makes rows that are alike, or takes too long."""
STEPS = {"conv": 7}
"""Of suites with hundreds of rows one in so many is looked at; no period of theirs divides it."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(stacks, "SCALE", 1e-3)
    monkeypatch.setattr(clusters, "PROCESSES", False)


def problems(name):
    for parameters in SUITES[name].cases([SIZES.get(name, N)])[:: STEPS.get(name, 1)]:
        problem = SUITES[name].build(np.random.default_rng(0), **parameters)
        try:
            yield parameters, problem
        finally:
            if problem.close is not None:
                problem.close()


@pytest.mark.parametrize("name", STEPS)
def test_what_is_looked_at_has_every_value_of_every_parameter(name):
    rows = SUITES[name].cases([SIZES.get(name, N)])
    for key in {key for row in rows for key in row} - {"n"}:
        values = {str(row[key]) for row in rows if key in row}
        assert values == {str(row[key]) for row in rows[:: STEPS[name]] if key in row}, key


def may_lose_digits(name, parameters, peer):
    """Rows that show what a peer loses."""
    return name == "cluster_solve" and peer == "dask" and parameters["matrix"] != "shifted"


def first_of(answer):
    """The answer, or the first of several."""
    return answer if isinstance(answer, np.ndarray | np.generic) else next(iter(answer))


def off(answer, by):
    """The answer, the first of several, or all of a container, times 1 + `by`."""
    if isinstance(answer, Ragged):
        return Ragged.from_list([off(a, by) for a in answer.to_list()])
    if isinstance(answer, np.ndarray | np.generic):
        return (answer * (1 + by)).astype(answer.dtype)
    first, *rest = answer
    return (off(first, by), *rest)


@pytest.mark.parametrize("name", SUITES)
def test_a_right_answer_passes_and_one_slightly_wrong_does_not(name):
    for parameters, problem in problems(name):
        by = 1e-6 if problem.dtype in ("float64", "complex128") else 1e-2
        for peer, method in {None: problem.ours, **problem.peers}.items():
            if may_lose_digits(name, parameters, peer):
                continue
            answer = method()
            assert problem.error(answer) <= problem.bound, (parameters, peer)
            assert not problem.error(off(answer, by)) <= problem.bound, parameters


@pytest.mark.parametrize("name", SUITES)
def test_the_dtype_is_that_of_the_answer(name):
    for parameters, problem in problems(name):
        assert first_of(problem.ours()).dtype.name == problem.dtype, parameters


# -- peers ---------------------------------------------------------------------------------------


def stated(text):
    """The calls in the text of a peer: function, and options, of which some are left open (...).

    None of a text in words.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        (
            ast.unparse(call.func).rpartition(".")[2],
            {k.arg: ... if is_open(k) else ast.literal_eval(k.value) for k in call.keywords},
        )
        for call in calls
    ]


def is_open(keyword):
    """The output that a call is given, or an option whose value is not told."""
    return keyword.arg == "out" or (
        isinstance(keyword.value, ast.Constant) and (keyword.value.value is ...)
    )


def spy(monkeypatch, modules, seen):
    """Append the name and the options of each call of a function of `modules` to `seen`.

    Not those that other such functions make.
    """
    running = []

    def spied(name, function):
        def call(*args, **options):
            if not running:
                seen.append((name, options))
            running.append(name)
            try:
                return function(*args, **options)
            finally:
                running.pop()

        return call

    for module, names in modules.items():
        for name in names or list(vars(module)):
            function = getattr(module, name)
            if not name.startswith("_") and callable(function) and not isinstance(function, type):
                monkeypatch.setattr(module, name, spied(name, function))


CALLED = {
    scipy.linalg: (), np.linalg: (), scipy.linalg.lapack: (),
    np: ("matmul", "einsum"), opt_einsum: ("contract",), mplinalg: ("solve",), dask: ("compute",),
    dask.array.linalg: ("solve", "svd_compressed"), sklearn.utils.extmath: ("randomized_svd",),
}  # fmt: skip
"""Modules, and which of their functions peers call; all of them where none is named."""
STATED = [
    name for name, suite in SUITES.items()
    if name != "never_slower" and any(map(stated, suite.peers.values()))
]  # fmt: skip


@pytest.mark.parametrize("name", STATED)
def test_peers_call_what_they_say(name, monkeypatch):
    seen, rows = [], problems(name)  # which closes a problem when it is forgotten
    _, problem = next(rows)
    spy(monkeypatch, CALLED, seen)
    for peer, method in problem.peers.items():
        seen.clear()
        method()
        expected = stated(SUITES[name].peers[peer])
        left_open = {key for _, options in expected for key in options if options[key] is ...}
        assert expected == [
            (function, {key: ... if key in left_open else options[key] for key in options})
            for function, options in seen
        ], peer


def test_peers_are_spared_no_work(monkeypatch):
    """The sweep calls SciPy with the arguments of mplinalg, none of them a shortcut."""
    seen = []
    rows = list(problems("never_slower"))
    spy(monkeypatch, {scipy.linalg: ()}, seen)
    for parameters, problem in rows:
        seen.clear()
        problem.peers["scipy"]()
        assert seen, parameters
        for _, options in seen:
            assert set(options) <= {"assume_a", "mode"}, parameters


# -- rows ----------------------------------------------------------------------------------------


def values(name, key):
    return [row[key] for row in SUITES[name].cases([N])]


def test_what_suites_cover():
    assert sorted(values("many_rhs", "nrhs")) == [8, 64, 512]
    assert values("least_squares", "cond") == [10, 1e6]
    assert set(values("least_squares", "aspect")) == {4}
    assert values("qr", "aspect") == [4, 1]


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("dense_solve", 2 / 3 * N**3 + 2 * N**2),
        ("spd_solve", 1 / 3 * N**3 + 2 * N**2),
        ("complex_solve", 4 * (2 / 3 * N**3 + 2 * N**2)),
    ],
)
def test_classical_counts_of_suites(name, flops):
    ((_, problem),) = problems(name)
    assert problem.flops == pytest.approx(flops)


def test_the_matrices_are_what_the_suites_say():
    for parameters, problem in problems("least_squares"):
        report = problem.report()
        assert report.rcond is None or report.rcond < 10 / parameters["cond"]


def test_what_is_known_of_a_solve_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(resident, "growth", lambda *given: given[2])  # starts a process
    limits = []
    for parameters, problem in problems("out_of_core"):
        problem.ours()
        found = problem.findings()
        limits.append(found["limit_bytes"])
        assert found["resident_growth_bytes"] == found["limit_bytes"]
        assert found["planned_peak_bytes"] <= found["limit_bytes"], parameters
        assert found["moved_bytes"] >= 8 * 120**2, parameters  # A is read, more than once
        assert 0.9 <= found["moved / foretold"] <= 1, parameters
        assert 1 <= found["tile"] <= 120
    assert sorted(limits) == [80_000] * 4 + [115_200]


def test_the_passes_of_a_randomised_svd_are_counted():
    for _, problem in problems("rsvd"):
        assert problem.findings()["passes"] == 2 + 2 * 2


def test_the_peer_of_a_cluster_loses_digits(rng):
    """In the row that is there for it, at its default order: one at least."""
    row = next(r for r in SUITES["cluster_solve"].cases([2000]) if r["matrix"] == "orthogonal")
    a, b = gallery.matrix("orthogonal", row["n"]), rng.standard_normal(row["n"])
    blocks, rhs = (dask.array.from_array(x, chunks=row["chunk"]) for x in (a, b))
    theirs = dask.array.linalg.solve(blocks, rhs).compute(scheduler="synchronous")
    error = checks.solve_error(a, b)
    assert error(theirs) > 10 * error(mplinalg.solve(a, b))


@pytest.mark.parametrize("name", ["out_of_core", "cluster_solve", "rsvd"])
def test_what_a_problem_holds_is_given_back(name, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    suite = SUITES[name]
    (parameters, *_) = suite.cases([2])
    problem = suite.build(np.random.default_rng(0), **parameters)
    assert any(tmp_path.glob("mplinalg-*"))
    problem.close()
    assert not any(tmp_path.glob("mplinalg-*"))  # Dask keeps an empty folder of its own


def test_resident_memory_grows_by_what_is_read(tmp_path):
    """A limit of all of A, 18 MB: at least the factors in single precision, and one block of A."""
    n = 1500
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.standard_normal((n, n)))
    np.save(tmp_path / "b.npy", rng.standard_normal(n))
    files = [str(tmp_path / name) for name in ("a.npy", "b.npy")]
    resident.growth(*files, 8 * n**2, 1)  # what compiles takes memory
    found = resident.growth(*files, 8 * n**2, 1)
    assert found is None or 4 * n**2 <= found <= 2 * 8 * n**2
