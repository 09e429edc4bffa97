"""nn_loss.cu: cross-entropy with its gradient, and what an epoch adds up."""

import numpy as np
import pytest

from .module import LaunchError
from .mutation import barriers

FILE = "nn_loss.cu"
KINDS = {"f": "float", "d": "double"}
SHAPES = [(1, 1), (1, 10), (13, 10), (9, 33), (21, 70)]


def drawn(rng, kind, shape, size=3.0):
    z = (size * rng.standard_normal(shape)).astype(kind)
    return z, rng.integers(0, shape[1], shape[0])


def expected(z, labels):
    """In double precision: losses of rows, gradient."""
    z = z.astype(float)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    rows = np.arange(len(z))
    losses = np.log(e.sum(axis=1)) + z.max(axis=1) - z[rows, labels]
    p = e / e.sum(axis=1, keepdims=True)
    p[rows, labels] -= 1
    return losses, p / len(z)


def launch(module, z, labels, grid=1, **options):
    p, losses, loss = np.full_like(z, np.nan), np.full(len(z), np.nan, z.dtype), z[:1, 0] * np.nan
    kind = KINDS[z.dtype.char]
    module[f"cross_entropy<{kind}>"](grid, 256, [*z.shape, z, labels, p, losses, loss], **options)
    if grid > 1:
        assert np.isnan(loss).all()
        module[f"mean_loss<{kind}>"](1, 256, [len(z), losses, loss], **options)
    return losses, p, loss[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("grid", [1, 3])
def test_cross_entropy(compiled, rng, schedule, checked, kind, shape, grid):
    z, labels = drawn(rng, kind, shape)
    losses, p, loss = launch(
        compiled(FILE, checked=checked), z, labels, grid=grid, schedule=schedule
    )
    exact, gradient = expected(z, labels)
    eps = float(np.finfo(kind).eps)
    size = shape[1] + 2 + abs(z).max() * 2  # of the sum, and of what is taken off
    np.testing.assert_allclose(losses, exact, rtol=0, atol=4 * eps * size)
    np.testing.assert_allclose(p, gradient, rtol=0, atol=4 * eps * size / len(z))
    assert loss == pytest.approx(losses.mean(dtype=float), rel=eps)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_any_size(compiled, rng, kind):
    """Nothing overflows."""
    z, labels = drawn(rng, kind, (20, 10), size=1e4)
    losses, p, _ = launch(compiled(FILE), z, labels)
    np.testing.assert_allclose(losses, expected(z, labels)[0], rtol=8 * np.finfo(kind).eps, atol=1)
    assert np.isfinite(p).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite(compiled, rng, value):
    z, labels = drawn(rng, "f", (20, 40))
    z[3, 35] = value
    losses, p, loss = launch(compiled(FILE), z, labels)
    assert np.isnan(losses).tolist() == [k == 3 for k in range(20)]
    assert np.isnan(loss)
    assert np.isnan(p[3]).all()
    assert np.isfinite(np.delete(p, 3, axis=0)).all()


def account(module, z, labels, loss, totals, **options):
    module[f"account<{KINDS[z.dtype.char]}>"](
        1, 256, [*z.shape, z, labels, np.array([loss], z.dtype), totals], **options
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_account(compiled, rng, schedule, checked, kind, shape):
    """Steps are added up; of equal entries the first one is the largest, as of argmax."""
    totals, right = np.zeros(4), 0
    for loss in (0.5, 0.25):
        z, labels = drawn(rng, kind, shape)
        z = np.round(z)  # with equal ones
        labels[::2] = z.argmax(axis=1)[::2]
        right += (z.argmax(axis=1) == labels).sum()
        account(compiled(FILE, checked=checked), z, labels, loss, totals, schedule=schedule)
    assert totals.tolist() == [0.75 * shape[0], right, 2, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_bad_step(compiled, rng, bad):
    z, _ = drawn(rng, "f", (9, 3))
    totals = np.zeros(4)
    for loss in (1, 2, bad, 1, bad):
        account(compiled(FILE), z, None, loss, totals)
    assert totals[1:].tolist() == [0, 5, 3]


@pytest.mark.parametrize("edit", barriers(FILE), ids=lambda edit: edit.__name__)
def test_every_barrier_is_needed(broken, rng, edit):
    module = broken(FILE, edit, "cross_entropy<float>", "account<float>")
    z, labels = drawn(rng, "f", (30, 9))
    caught = 0
    for schedule in ("forward", "reverse", 1):
        try:
            launch(module, z, labels, schedule=schedule)
            account(module, z, labels, 1.0, np.zeros(4), schedule=schedule)
        except LaunchError:
            caught += 1
    assert caught
