"""Training of LeNet-5 with ReLU and max-pooling, batches of 100, plain SGD.

Images of 28 by 28, padded by 2 as in the paper ("padded": 32 by 32), or not ("plain": as in
most tutorials); and images of 8 by 8, as scikit-learn's digits ("digits": kernels of 3 by 3).
Images are synthetic. A size is the number of images of an epoch; one epoch. Calls,
checks and peers are those of nn_mlp.

References
----------
LeCun, Bottou, Bengio and Haffner, Proc. IEEE 86 (1998) 2278.
"""

from mplinalg import nn
from mplinalg.bench import training
from mplinalg.bench.suite import Suite

NETS = {  # edge of images, kernel, padding of the first and the second convolution
    "padded": (28, 5, 2, 0),
    "plain": (28, 5, 0, 0),
    "digits": (8, 3, 1, 1),
}


def cases(sizes):
    rows = [row | {"net": name} for name in NETS for row in training.cases(sizes)]
    return sorted(rows, key=lambda row: row["precision"] != "fp32")


def build(rng, n, precision, net):
    edge, kernel, *padding = NETS[net]
    x, y = training.images(rng, n, edge)
    first = edge + 2 * padding[0] - kernel + 1
    second = first // 2 + 2 * padding[1] - kernel + 1
    features = 16 * (second // 2) ** 2
    flops = (
        training.convolution_flops(1, 6, kernel, first, first=True)
        + training.convolution_flops(6, 16, kernel, second, first=False)
        + training.dense_flops(features, 120, 84, 10)
        + 2 * features * 120
    )
    setting = training.Setting(
        lambda: ours(kernel, padding, features), lambda: by_torch(kernel, padding, features),
        flops, lr=0.05, weight_decay=0.001,
    )  # fmt: skip
    return training.problem(setting, x[:, None], y, 1, precision)


def ours(kernel, padding, features):
    return nn.Sequential(
        nn.Conv2d(1, 6, kernel, padding=padding[0], rng=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel, padding=padding[1], rng=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(features, 120, rng=3), nn.ReLU(), nn.Linear(120, 84, rng=4),
        nn.ReLU(), nn.Linear(84, 10, rng=5),
    )  # fmt: skip


def by_torch(kernel, padding, features):
    from torch import nn as tnn

    return tnn.Sequential(
        tnn.Conv2d(1, 6, kernel, padding=padding[0]), tnn.ReLU(), tnn.MaxPool2d(2),
        tnn.Conv2d(6, 16, kernel, padding=padding[1]), tnn.ReLU(), tnn.MaxPool2d(2),
        tnn.Flatten(), tnn.Linear(features, 120), tnn.ReLU(), tnn.Linear(120, 84), tnn.ReLU(),
        tnn.Linear(84, 10),
    )  # fmt: skip


SUITE = Suite(
    title="training of LeNet-5, batches of 100",
    sizes="10000",
    cases=cases,
    peers=training.INSTALLED,
    default_peers=tuple(training.INSTALLED),
    error_measure="distance of weights after ten steps, over the way gone",
    build=build,
    numpy_too=True,  # products of layers are NumPy's
)
