"""The suite `never_slower`: the rows that it has, and how it sums them up."""

import json

import numpy as np

from mplinalg.bench import catalogue

from .tiny import quick, suite

__all__ = ["quick", "suite"]  # fixtures


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
