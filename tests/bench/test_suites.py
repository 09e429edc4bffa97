"""The suites of benchmarks/: what they judge, what they call, what they cover."""

import ast

import numpy as np
import opt_einsum
import pytest
import scipy.linalg

from mplinalg.batched import Ragged
from mplinalg.bench import catalogue, stacks
from mplinalg.bench.suite import Suite

SUITES = {
    name: suite
    for name in catalogue.names()
    if isinstance(suite := catalogue.load(name), Suite)
}  # fmt: skip
N = 40
SIZES = {"fem_bp": 3}
"""Of suites whose sizes are not orders of matrices."""


@pytest.fixture(autouse=True)
def few_members(monkeypatch):
    monkeypatch.setattr(stacks, "SCALE", 1e-3)


def problems(name):
    for parameters in SUITES[name].cases([SIZES.get(name, N)]):
        yield parameters, SUITES[name].build(np.random.default_rng(0), **parameters)


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
        for method in (problem.ours, *problem.peers.values()):
            answer = method()
            assert problem.error(answer) <= problem.bound, parameters
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
            {k.arg: ... if k.arg == "out" else ast.literal_eval(k.value) for k in call.keywords},
        )
        for call in calls
    ]


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
    np: ("matmul", "einsum"), opt_einsum: ("contract",),
}  # fmt: skip
"""Modules, and which of their functions peers call; all of them where none is named."""
STATED = [
    name for name, suite in SUITES.items()
    if name != "never_slower" and any(map(stated, suite.peers.values()))
]  # fmt: skip


@pytest.mark.parametrize("name", STATED)
def test_peers_call_what_they_say(name, monkeypatch):
    seen = []
    _, problem = next(problems(name))
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
