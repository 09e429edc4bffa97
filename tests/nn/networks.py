"""Networks for tests: with values in all they hold, and of layers drawn at random."""

from __future__ import annotations

import numpy as np

from mplinalg import nn


def filled(net, rng):
    """Parameters and buffers anything but trivial, in double precision; in use."""
    net.to(dtype=np.float64)
    for p in net.parameters():
        p.data[...] = rng.standard_normal(p.shape)
    for _, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean[:] = rng.standard_normal(module.running_mean.shape)
            module.running_var[:] = rng.uniform(0.5, 2, module.running_var.shape)
    return net.eval()


def drawn(rng):
    """A network of layers drawn at random, and the shape of what it takes."""
    layers = []
    channels, size = int(rng.integers(1, 4)), 12
    shape = (2, channels, size, size)
    for _ in range(rng.integers(1, 4)):
        filters, kernel, stride, padding = map(int, rng.integers([1, 1, 1, 0], [7, 4, 3, 2]))
        if size + 2 * padding < kernel:
            break
        options = {"stride": stride, "padding": padding, "bias": bool(rng.integers(2))}
        layers.append(nn.Conv2d(channels, filters, kernel, **options))
        channels, size = filters, (size + 2 * padding - kernel) // stride + 1
        for kind in rng.integers(0, 7, rng.integers(0, 4)):
            if kind < 5:
                simple = [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Dropout]
                layers.append(nn.BatchNorm2d(channels) if kind == 4 else simple[kind]())
                continue
            kernel, stride = map(int, rng.integers([1, 1], [4, 3]))
            padding = int(rng.integers(0, kernel // 2 + 1))
            if size + 2 * padding >= kernel:
                pool = nn.MaxPool2d if kind == 5 else nn.AvgPool2d
                layers.append(pool(kernel, stride, padding))
                size = (size + 2 * padding - kernel) // stride + 1
    layers.append(nn.Flatten())
    features = channels * size * size
    for _ in range(rng.integers(1, 4)):
        layers.append(nn.Linear(features, int(rng.integers(1, 9)), bool(rng.integers(2))))
        features = layers[-1].weight.shape[0]
        layers += [[], [nn.ReLU()], [nn.Sigmoid()], [nn.Tanh(), nn.Flatten()]][rng.integers(4)]
    return nn.Sequential(*layers, *[nn.Softmax()] * int(rng.integers(2))), shape
