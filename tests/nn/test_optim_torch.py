"""Optimisers, schedules and clipping against PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.nn import optim, scaling, schedules

from .parameters import Weight, slope, train, weights

torch = pytest.importorskip("torch")

STEPS = 60
CASES = [
    ("GD", "SGD", {"lr": 0.05}),
    ("GD", "SGD", {"lr": 0.05, "weight_decay": 0.1}),
    ("SGD", "SGD", {"lr": 0.05}),
    ("SGD", "SGD", {"lr": 0.02, "momentum": 0.9}),
    ("SGD", "SGD", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.05}),
    ("SGD", "SGD", {"lr": 0.02, "momentum": 0.8, "nesterov": True}),
    ("SGD", "SGD", {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    ("Adagrad", "Adagrad", {}),
    ("Adagrad", "Adagrad", {"lr": 0.3, "lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-3}),
    ("RMSprop", "RMSprop", {}),
    ("RMSprop", "RMSprop", {"lr": 0.02, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1}),
    ("RMSprop", "RMSprop", {"lr": 0.01, "momentum": 0.7, "weight_decay": 0.1}),
    ("RMSprop", "RMSprop", {"lr": 0.01, "centered": True}),
    ("RMSprop", "RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5}),
    ("Adadelta", "Adadelta", {}),
    ("Adadelta", "Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1}),
    ("Adam", "Adam", {}),
    ("Adam", "Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-5, "weight_decay": 0.1}),
    ("Adam", "Adam", {"lr": 0.05, "betas": (0.0, 0.0)}),
    ("AdamW", "AdamW", {}),
    ("AdamW", "AdamW", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-5, "weight_decay": 0.2}),
]


@pytest.mark.parametrize(("ours", "theirs", "options"), CASES)
def test_weights_after_60_steps(ours, theirs, options, rng):
    mine = weights(rng)
    start = [w.data.copy() for w in mine]
    others = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in start]
    train(getattr(optim, ours)(mine, **options), range(STEPS))
    torch_optimizer = getattr(torch.optim, theirs)(others, **options)
    for step in range(STEPS):
        for k, t in enumerate(others):
            g = slope(t.detach().numpy(), k, step)
            t.grad = None if k == 1 and step % 2 else torch.as_tensor(np.asarray(g))
        torch_optimizer.step()
    for x, w, t in zip(start, mine, others, strict=True):
        assert np.abs(w.data - x).max() > 1e-3  # they moved
        assert np.abs(w.data - t.detach().numpy()).max() <= 1e-12


def test_defaults_are_the_same():
    for name in ("Adadelta", "Adagrad", "Adam", "AdamW", "RMSprop", "SGD"):
        ours = getattr(optim, name)([Weight(np.zeros(1))]).state_dict()["options"]
        theirs = getattr(torch.optim, name)([torch.zeros(1)]).defaults
        assert ours == {key: theirs[key] for key in ours}


RATES = [
    (schedules.Constant(), lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
    (schedules.Step(3, 0.5), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5)),
    (
        schedules.Cosine(12, 0.01),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12, 0.01),
    ),
    (schedules.Exponential(0.9), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
    (
        schedules.WarmUp(4, 0.25),
        lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.25, total_iters=4),
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), RATES, ids=lambda x: type(x).__name__)
def test_schedules(ours, theirs):
    reference = torch.optim.SGD([torch.zeros(1)], lr=0.7)
    scheduler = theirs(reference)
    optimizer = optim.GD([Weight(np.zeros(1))], lr=0.7)
    for epoch in range(13):
        ours.apply(optimizer, epoch)
        assert optimizer.lr == pytest.approx(reference.param_groups[0]["lr"], rel=1e-13)
        reference.step()
        scheduler.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("relative", [True, False])
def test_reduce_on_plateau(mode, relative, rng):
    reference = torch.optim.SGD([torch.zeros(1)], lr=0.7)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        reference, mode, 0.5, 1, 0.01, "rel" if relative else "abs", cooldown=2, min_lr=0.02, eps=0
    )
    ours = schedules.ReduceOnPlateau(
        mode=mode,
        factor=0.5,
        patience=1,
        threshold=0.01,
        relative=relative,
        cooldown=2,
        lowest=0.02,
    )  # fmt: skip
    optimizer = optim.GD([Weight(np.zeros(1))], lr=0.7)
    rates = set()
    for epoch, value in enumerate(1 + 0.1 * rng.standard_normal(60)):
        ours.apply(optimizer, epoch)
        assert optimizer.lr == pytest.approx(reference.param_groups[0]["lr"], rel=1e-13)
        rates.add(optimizer.lr)
        ours.observe(value)
        scheduler.step(value)
    assert len(rates) > 4


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping(limit, rng):
    mine = weights(rng)
    for w in mine:
        w.grad = rng.standard_normal(w.data.shape)
    others = [torch.tensor(w.data) for w in mine]
    for w, t in zip(mine, others, strict=True):
        t.grad = torch.tensor(w.grad)
    norm = scaling.clip_norm(mine, limit)
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(others, limit)), rel=1e-14)
    for w, t in zip(mine, others, strict=True):
        np.testing.assert_allclose(w.grad, t.grad.numpy(), rtol=1e-14)
    scaling.clip_value(mine, 0.1)
    torch.nn.utils.clip_grad_value_(others, 0.1)
    for w, t in zip(mine, others, strict=True):
        np.testing.assert_allclose(w.grad, t.grad.numpy(), rtol=1e-14)
