"""residual.cu: b - op(A) x and |op(A)||x| + |b|, several columns in one pass."""

from __future__ import annotations

import numpy as np
import pytest

from .module import LaunchError
from .mutation import barriers

KINDS = {"f": ("float", 1), "d": ("double", 1), "F": ("float", 2), "D": ("double", 2)}
SHAPES = [(1, 1), (9, 31), (40, 33), (17, 100), (70, 3)]


def flag(extended):
    return "true" if extended else "false"


def data(rng, kind, lines, length, along, columns):
    """A's lines with NaN between them, b and x as lines, and op(A)."""

    def draw(*shape):
        z = rng.standard_normal((*shape, 2)) @ [1, 1j]
        return (z if kind in "FD" else z.real).astype(kind)

    rows, cols = (lines, length) if along else (length, lines)
    whole = np.full((lines, length + 3), np.nan, kind)
    whole[:, :length] = draw(lines, length)
    op = whole[:, :length] if along else whole[:, :length].T
    b, x = draw(columns, rows + 2), draw(columns, cols + 1)
    b[:, rows:] = np.nan
    x[:, cols:] = np.nan
    return whole, op, b, x


def launch(module, whole, length, b, x, along, rows, *, conjugated=False, extended=False,
           parts=3, **options):  # fmt: skip
    kind = whole.dtype.char
    name, pair = KINDS[kind]
    real = {"f": "f", "d": "d", "F": "f", "D": "d"}[kind]
    columns = len(b)
    k = 1 if columns == 1 else 4
    r, d = np.full((columns, rows), np.nan, kind), np.full((columns, rows), np.nan)
    lines = len(whole)
    matrix = [lines, length, whole.view(real), whole.shape[1] * pair, int(conjugated), columns,
              x.view(real), x.shape[1] * pair]  # fmt: skip
    answers = [b.view(real), b.shape[1] * pair, r.view(real), rows * pair, d, rows]
    ending = f"<{name}, {pair}, {k}, {flag(extended)}>"
    if along:
        module["residual_along" + ending](
            -(-lines // 8), 256, [*matrix, *answers], uninitialised=[10, 12], **options
        )
        return r, d
    shares = np.full(parts * columns * pair * length * (2 if extended else 1), np.nan)
    sizes = np.full(parts * columns * length, np.nan)
    module["residual_across" + ending](
        (-(-length // 32), parts), 256, [*matrix, shares, sizes], uninitialised=[8, 9], **options
    )
    module[f"residual_of_shares<{name}, {pair}, {flag(extended)}>"](
        (-(-length // 256), columns), 256, [length, parts, columns, shares, sizes, *answers],
        uninitialised=[7, 9], **options,
    )  # fmt: skip
    return r, d


def size(z):
    return abs(z.real) + abs(z.imag)


@pytest.mark.parametrize("columns", [1, 2, 4])
@pytest.mark.parametrize("along", [True, False])
@pytest.mark.parametrize("kind", "fdFD")
@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind(compiled, rng, schedule, kind, along, columns, shape):
    lines, length = shape
    whole, op, b, x = data(rng, kind, lines, length, along, columns)
    rows, cols = op.shape
    r, d = launch(compiled("residual.cu"), whole, length, b, x, along, rows, schedule=schedule)
    exact, given = op.astype("G"), b[:, :rows]
    expected = given - x[:, :cols].astype("G") @ exact.T
    sizes = size(given.astype("G")) + size(x[:, :cols].astype("G")) @ size(exact).T
    u, storage = np.finfo("d").eps / 2, np.finfo(kind).eps / 2
    allowed = 2 * (cols + 2) * u * sizes + 2 * storage * size(expected)
    assert (size(r - expected) <= allowed).all()
    np.testing.assert_allclose(d, sizes.astype("d"), rtol=2 * (cols + 2) * u)


@pytest.mark.parametrize("along", [True, False])
@pytest.mark.parametrize("kind", "dD")
@pytest.mark.parametrize("extended", [False, True])
def test_the_checker_finds_nothing(compiled, rng, schedule, kind, along, extended):
    whole, op, b, x = data(rng, kind, 21, 45, along, 3)
    r, d = launch(
        compiled("residual.cu", checked=True), whole, 45, b, x, along, len(op), schedule=schedule,
        extended=extended,
    )  # fmt: skip
    assert np.isfinite(r).all()
    assert np.isfinite(d).all()


@pytest.mark.parametrize("along", [True, False])
@pytest.mark.parametrize("kind", "dD")
def test_extended_residuals(compiled, rng, kind, along):
    """Of an x that is good to the last digit, where plain sums hold no digit of r."""
    mpmath = pytest.importorskip("mpmath")
    n = 50
    whole, op, b, x = data(rng, kind, n, n, along, 1)
    b[0, :n] = op @ x[0, :n]
    r, _ = launch(compiled("residual.cu"), whole, n, b, x, along, n, extended=True)
    with mpmath.workdps(50):
        product = mpmath.matrix(op.tolist()) * mpmath.matrix(x[0, :n].tolist())
        exact = [complex(mpmath.mpmathify(complex(b[0, i])) - product[i]) for i in range(n)]
    plain, _ = launch(compiled("residual.cu"), whole, n, b, x, along, n)
    scale = abs(np.array(exact)).max()
    assert abs(r[0] - exact).max() <= 1e-12 * scale
    assert abs(plain[0] - exact).max() > 1e-3 * scale


@pytest.mark.parametrize("along", [True, False])
@pytest.mark.parametrize("kind", "FD")
def test_conjugates(compiled, rng, kind, along):
    whole, op, b, x = data(rng, kind, 12, 35, along, 2)
    rows = len(op)
    found = launch(compiled("residual.cu"), whole, 35, b, x, along, rows, conjugated=True)
    other = whole.copy()
    other[:, :35] = other[:, :35].conj()
    expected = launch(compiled("residual.cu"), other, 35, b, x, along, rows)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("along", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_seen(compiled, rng, along, value, extended):
    """In the column that has it, and in no other."""
    whole, op, b, x = data(rng, "d", 20, 40, along, 2)
    rows, cols = op.shape
    x[1, cols // 2] = value
    r, d = launch(compiled("residual.cu"), whole, 40, b, x, along, rows, extended=extended)
    assert np.isfinite(r[0]).all()
    assert np.isfinite(d[0]).all()
    assert not np.isfinite(r[1]).any()
    assert not np.isfinite(d[1]).any()


def test_the_same_in_every_run(compiled, rng):
    whole, op, b, x = data(rng, "d", 70, 65, False, 4)
    found = [
        launch(compiled("residual.cu"), whole, 65, b, x, False, len(op), schedule=s)[0]
        for s in ("forward", "reverse", 5)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("edit", barriers("residual.cu"), ids=lambda edit: edit.__name__)
def test_every_barrier_is_needed(broken, rng, edit):
    """Taken out, the access checker notices."""
    names = ["residual_across<double, 2, 4, true>", "residual_of_shares<double, 2, true>"]
    module = broken("residual.cu", edit, *names)
    whole, op, b, x = data(rng, "D", 40, 40, False, 2)
    caught = []
    for schedule in ("forward", "reverse", 1):
        try:
            launch(module, whole, 40, b, x, False, len(op), schedule=schedule, extended=True)
        except LaunchError as error:
            caught.append(str(error))
    assert caught
    assert all("race" in text or "nobody wrote" in text for text in caught)
