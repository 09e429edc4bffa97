"""The table of the page on measured refinement is what is measured."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mplinalg.factor.lu import lu
from mplinalg.ops import ops_for
from mplinalg.precision import FORMATS
from mplinalg.refine.classical import Refinement
from mplinalg.refine.criterion import Criterion
from mplinalg.refine.gmres import Gmres
from mplinalg.testing import gallery

from .oracle import U

TABLE = Path(__file__).parents[1] / "docs" / "algorithms" / "measured-refinement.md"
TARGET = 4e-16
"""Backward error that counts as solved in the table."""


def table_matrix(name, cond, n):
    return gallery.matrix("random_normal", n) if cond is None else gallery.randsvd(n, cond, name)


def steps(a, b, fmt, method):
    """Steps to omega <= 4e-16: an int, (outer, inner) for GMRES, or None."""
    ops = ops_for(a)
    n = len(a)
    factors = lu(ops, np.array(a, dtype=fmt.dtype(float), order="F"), fmt, block=64)
    norm = float(np.abs(a).sum(axis=1).max())
    upcast = not factors.rcond(ops.lange("1", a), a.dtype) > fmt.unit_roundoff / 10

    def residual(x, columns):
        return ops.residual(a, x, b)

    def product(z):
        return np.asfortranarray(a @ z)

    gmres = Gmres(ops, product, lambda z: factors.solve(z, upcast=upcast))
    loop = Refinement(
        ops,
        residual,
        gmres if method == "gmres" else factors.solve,
        Criterion(ops, n, norm, U, tol=TARGET),
        max_iter=10 if method == "gmres" else 30,
    )
    if method == "gmres":
        loop.foretold = lambda: gmres.reductions
    state = loop.run(factors.solve(b), b)
    if not state.converged:
        return None
    return (state.iterations, gmres.iterations) if method == "gmres" else state.iterations


def table_row(name, cond, n=500):
    a = np.asfortranarray(table_matrix(name, cond, n))
    b = np.asfortranarray(np.random.default_rng(0).standard_normal((n, 1)))
    return [
        (steps(a, b, FORMATS[fmt], "classical"), steps(a, b, FORMATS[fmt], "gmres"))
        for fmt in ("fp16", "bf16", "fp16x2", "fp32")
    ]


def table_cell(text):
    """(classical, gmres) of a cell such as "9 / (3, 12)" or "x / x"."""
    classical, gmres = text.split("/")
    pair = re.findall(r"\d+", gmres)
    return (
        None if "x" in classical else int(classical),
        (int(pair[0]), int(pair[1])) if pair else None,
    )


def table_rows():
    """The rows of the page: (spectrum, kappa, cells)."""
    for line in TABLE.read_text().splitlines() if TABLE.exists() else ():
        match = re.match(r"\| (geometric|one small|arithmetic|random normal)(?: (1e\d+))? \|", line)
        if match:
            cond = float(match[2]) if match[2] else None
            cells = [table_cell(cell) for cell in line.split("|")[2:-1]]
            yield match[1].replace(" ", "_"), cond, cells


@pytest.mark.parametrize(("name", "cond", "cells"), list(table_rows()))
def test_the_table_of_the_page_is_what_is_measured(name, cond, cells):
    """Solved or not, and in as many steps, but for what another BLAS makes of the rounding."""
    for (classical, gmres), (now, now_gmres) in zip(cells, table_row(name, cond), strict=True):
        assert (classical is None) == (now is None)
        assert (gmres is None) == (now_gmres is None)
        if classical is not None:
            assert abs(classical - now) <= 1 + classical // 3
        if gmres is not None:
            assert abs(gmres[0] - now_gmres[0]) <= 2
            assert abs(gmres[1] - now_gmres[1]) <= 4 + gmres[1] // 2


def test_the_page_has_its_table():
    assert len(list(table_rows())) >= 9
