"""Training on a device: the weights of the CPU, and next to nothing that crosses within a step."""

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import optim

from ..cupy_on_host.install import recorded
from ..device import cupy, stand_in  # noqa: F401

N, CLASSES = 40, 4
UNITS = {"fp64": 2.0**-53, "fp32": 2.0**-24, "fp16-mixed": 2.0**-11, "bf16-mixed": 2.0**-8}


def mlp(dtype):
    rng = np.random.default_rng(1)
    return nn.Sequential(
        nn.Linear(12, 17, rng=rng, dtype=dtype), nn.ReLU(), nn.Linear(17, 9, rng=rng, dtype=dtype),
        nn.ReLU(), nn.Linear(9, CLASSES, rng=rng, dtype=dtype),
    )  # fmt: skip


def lenet(dtype):
    rng = np.random.default_rng(2)
    return nn.Sequential(
        nn.Conv2d(1, 3, 5, padding=2, rng=rng, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, rng=rng, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16, 7, rng=rng, dtype=dtype), nn.ReLU(),
        nn.Linear(7, CLASSES, rng=rng, dtype=dtype),
    )  # fmt: skip


NETS = {"mlp": (mlp, (12,)), "lenet": (lenet, (1, 12, 12))}
OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
}


def prepared(name, precision, xp=None, optimizer="SGD"):
    """A model and its data, on a device if a namespace is given."""
    build, shape = NETS[name]
    dtype = np.float64 if precision == "fp64" else np.float32
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((N, *shape)).astype(dtype), rng.integers(0, CLASSES, N)
    net = build(dtype)
    if xp is not None:
        net.to("cuda")
        x, y = xp.asarray(x), xp.asarray(y)
    optimizer = OPTIMIZERS[optimizer](net.parameters())
    model = nn.Model(net)
    model.compile(optimizer, "cross_entropy", precision=precision, capture=False)
    return model, x, y


def trained(*args, **options):
    """8 steps, two of them of a smaller batch."""
    model, x, y = prepared(*args)
    return model, model.fit(x, y, epochs=2, batch_size=12, **options)


def assert_same_weights(model, other, precision, steps=8):
    """Each step rounds a weight a few times, here in another order of sums than there.

    An entry of 16 bits that falls on the other side of a tie moves a gradient by a unit of its
    format, of which lr is taken.
    """
    here, there = model.net.state_dict(), other.net.state_dict()
    for name, a in here.items():
        b = there[name].get()
        bound = 64 * steps * np.finfo(a.dtype).eps + 0.05 * 4 * UNITS[precision]
        assert abs(a - b).max() <= bound * abs(a).max(), name


@pytest.mark.parametrize("precision", list(UNITS))
@pytest.mark.parametrize("name", list(NETS))
def test_weights_of_the_cpu(cupy, name, precision):  # noqa: F811
    options = {"max_norm": 1.0} if precision != "bf16-mixed" else {"max_value": 0.1}
    model, on_cpu = trained(name, precision, **options)
    other, on_device = trained(name, precision, cupy, **options)
    assert all(isinstance(a, cupy.ndarray) for a in other.net.state_dict().values())
    assert_same_weights(model, other, precision)
    for a, b in zip(on_cpu.rows, on_device.rows, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=16 * UNITS[precision] + 1e-6)
        assert a["accuracy"] == b["accuracy"]


def test_adam(cupy):  # noqa: F811
    pair = [trained("mlp", "fp64", xp, "Adam")[0] for xp in (None, cupy)]
    here, there = (one.net.state_dict() for one in pair)
    for name, a in here.items():
        # a gradient that is all rounding gives a step of its sign: eps takes care of it
        assert abs(a - there[name].get()).max() <= 1e-7, name


@pytest.mark.parametrize("precision", ["fp32", "fp16-mixed"])
@pytest.mark.parametrize("name", list(NETS))
def test_what_crosses(stand_in, name, precision):  # noqa: F811
    """Of an epoch the order of its samples; else numbers: of one look at losses, and of scalers.

    In the end a byte for each parameter says whether it is finite.
    """
    model, x, y = prepared(name, precision, stand_in)
    model.fit(x, y, batch_size=10)
    syncs = []
    for size in (20, 5):
        with recorded() as ledger:
            model.fit(x, y, batch_size=size)
        steps = N // size
        assert sorted(ledger.to_device)[-1] == 8 * N
        assert sum(b > 8 for b in ledger.to_device) == 1
        assert max(ledger.to_host) <= max(8, 4 * steps, len(model.net.parameters()))
        syncs.append(len(ledger.syncs) - (steps if precision == "fp16-mixed" else 0))
    assert syncs[0] == syncs[1]


def test_evaluation(cupy):  # noqa: F811
    (model, x, y), (other, there_x, there_y) = (
        prepared("lenet", "fp64", xp) for xp in (None, cupy)
    )
    assert other.evaluate(there_x, there_y).loss == pytest.approx(model.evaluate(x, y).loss, 1e-13)
    np.testing.assert_allclose(other.predict(there_x).get(), model.predict(x), atol=1e-14)
