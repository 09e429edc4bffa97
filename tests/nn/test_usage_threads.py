"""A network that several threads use at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np

from mplinalg import nn


def test_threads_that_predict_with_one_network(rng):
    """The first one that ends does not have the layers of the other train."""
    entered, leave = [Event(), Event()], [Event(), Event()]

    class Gate(nn.Module):
        def forward(self, x):
            if len(x) < 2:
                return x
            k = len(x) - 2
            entered[k].set()
            assert leave[k].wait(10)
            return x

    net = nn.Sequential(Gate(), nn.BatchNorm2d(1), nn.Dropout(0.5, rng=0))
    model = nn.Model(net)
    x = rng.standard_normal((3, 1, 3, 3))
    expected, before = np.concatenate([model.predict(one[None]) for one in x]), net.state_dict()
    with ThreadPoolExecutor() as pool:
        runs = []
        for k in range(2):
            runs.append(pool.submit(model.predict, x[: k + 2]))
            assert entered[k].wait(10)
        for k, run in enumerate(runs):
            leave[k].set()
            assert np.array_equal(run.result(), expected[: k + 2])
    assert all(np.array_equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for _, module in net.named_modules())
