"""What is no graph, and why: steps are then done one by one, or capture=True is refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import optim, prune

from ..device import cupy, stand_in  # noqa: F401
from .test_captured import assert_same, prepared


class Doubled(nn.Module):
    def forward(self, x):
        return x + x


REASONS = {
    "Dropout": lambda: nn.Dropout(0.5, rng=0),
    "renews its buffers": lambda: nn.BatchNorm2d(3),
    "transforms by plans": lambda: nn.Conv2d(3, 3, 3, padding=1, algorithm="fft", rng=0),
    "not one of this library's": Doubled,
}


@pytest.mark.parametrize("reason", list(REASONS))
def test_what_is_not_captured(cupy, reason):  # noqa: F811
    rng = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, rng=rng), REASONS[reason](), nn.Flatten(), nn.Linear(48, 2, rng=rng)
    ).to("cuda")
    x = cupy.asarray(rng.standard_normal((20, 1, 6, 6)), np.float32)
    y = cupy.asarray(rng.integers(0, 2, 20))
    model = nn.Model(net).compile(optim.SGD(net.parameters(), 0.1), "cross_entropy")
    model.fit(x, y, batch_size=5)
    assert reason in model.capture_note
    assert "captured" not in model.history.rows[0]
    model.compile(model.optimizer, "cross_entropy", capture=True)
    if reason == "not one of this library's":
        model.fit(x, y, batch_size=5)
        assert model.history["captured"][-1]
    else:
        with pytest.raises(ValueError, match=reason):
            model.fit(x, y, batch_size=5)


WRAPPED = {
    "RMSprop": lambda p, masks: optim.RMSprop(p, 0.01),
    "Masked": lambda p, masks: prune.Masked(optim.SGD(p, 0.05), masks),
    "ADMM": lambda p, masks: prune.ADMM(optim.SGD(p, 0.05), lambda: masks),
}


@pytest.mark.parametrize("kind", list(WRAPPED))
def test_optimisers_that_are_not(cupy, kind):  # noqa: F811
    model, x, y = prepared(cupy, "auto")
    masks = prune.magnitude(model.net, 0.5)
    masks.apply()
    optimizer = WRAPPED[kind](model.net.parameters(), masks)
    for capture in ("auto", False):
        model.compile(optimizer, "cross_entropy", precision="fp64", capture=capture)
        model.fit(x, y, batch_size=5)
        assert "captured" not in model.history.rows[-1]
        assert (f"updates of {kind}" if capture else "capture=False") in model.capture_note
    if kind == "Masked":
        assert prune.sparsity(model.net) == pytest.approx(0.5, abs=0.1)
    model.compile(optimizer, "cross_entropy", precision="fp64", capture=True)
    with pytest.raises(ValueError, match=f"updates of {kind}"):
        model.fit(x, y, batch_size=5)


class Half(nn.Sequential):
    """Its last layer is not used."""

    def forward(self, x):
        return self.layers[0](x)


def test_a_parameter_that_is_not_used(cupy, monkeypatch):  # noqa: F811
    """Known after the first backward pass; the order of the samples is drawn only once."""
    monkeypatch.setattr(Half, "__module__", nn.Sequential.__module__)
    found = []
    for capture in (False, "auto", True):
        rng = np.random.default_rng(0)
        net = Half(*(nn.Linear(k, 3, rng=rng, dtype=np.float64) for k in (6, 3))).to("cuda")
        x, y = cupy.asarray(rng.standard_normal((20, 6))), cupy.asarray(rng.integers(0, 3, 20))
        model = nn.Model(net)
        model.compile(
            optim.Adam(net.parameters()), "cross_entropy", precision="fp64", capture=capture
        )
        if capture is True:
            with pytest.raises(ValueError, match="no gradient"):
                model.fit(x, y, batch_size=5)
            break
        model.fit(x, y, batch_size=5)
        found.append(model)
    assert "no gradient" in found[1].capture_note
    for a, b in zip(*(m.net.parameters() for m in found), strict=True):
        np.testing.assert_array_equal(a.data.get(), b.data.get())


def test_a_step_that_cannot_be_captured(stand_in, monkeypatch):  # noqa: F811
    """The steps are then done as they are, without waits."""
    from mplinalg.kernels.cuda import blas_direct

    def refused(name):
        raise NotImplementedError(f"no {name} here")

    monkeypatch.setattr(blas_direct, "_direct", refused)
    one, *data = prepared(stand_in, False)
    one.fit(*data, epochs=2, batch_size=12)
    other, *data = prepared(stand_in, "auto")
    other.fit(*data, epochs=2, batch_size=12)
    assert "no dgemm here" in other.capture_note
    assert other.history["captured"] == [False, False]
    for row in other.history.rows:
        del row["captured"]
    assert_same(one, other, 1e-11)
    model, *data = prepared(stand_in, True)
    with pytest.raises(NotImplementedError, match="no dgemm here"):
        model.fit(*data, batch_size=12)


def test_a_library_without_a_symbol(stand_in, monkeypatch):  # noqa: F811
    """One that does not say what it is linked to, as on Windows."""
    from mplinalg.kernels.cuda import blas_direct

    monkeypatch.setattr(blas_direct, "_library", object)
    model, *data = prepared(stand_in, "auto")
    model.fit(*data, epochs=1, batch_size=12)
    assert "cublasSetWorkspace_v2 is not found" in model.capture_note
    assert model.history["captured"] == [False]


def test_steps_of_others(cupy):  # noqa: F811
    """Who has put something else in the place of the optimiser's step, or a mask, is heard."""
    model, x, y = prepared(cupy, "auto")
    model.optimizer.step = lambda: None
    before = model.net.state_dict()
    model.fit(x, y, batch_size=10)
    assert "the optimiser's step" in model.capture_note
    for a, b in zip(before.values(), model.net.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.get(), b.get())


def test_sizes_that_indices_do_not_reach(stand_in):  # noqa: F811
    """A thread looks one step of all threads beyond its last entry: on an H100 2^18.04."""
    from mplinalg.kernels.cuda import training

    step = 8 * 132 * 256
    for size, is_taken in ((2**30, True), (2**31 - step, False), (2**31 - 1, False)):
        array = SimpleNamespace(dtype=np.dtype(np.float32), size=size)
        assert training.is_taken(array) == is_taken


def test_capture_is_an_option(cupy):  # noqa: F811
    with pytest.raises(ValueError, match="capture must be one of"):
        prepared(cupy, "sometimes")
