"""Training of a multilayer perceptron: 784-528-528-10, ReLU, batches of 100, plain SGD.

The setting that MagmaDNN's authors published (Nichols et al., PEARC 2019): learning rate 0.2,
weight decay 0.001, 5 epochs of 60,000 images of 28 by 28; here the images are synthetic. A size is
the number of images: a smaller one is a quicker run of fewer steps. A call makes the network
anew and trains it by `Model.fit`; first ten batches in order, after which weights are compared with
those in double precision.

- torch: PyTorch's eager mode, the usual loop over batches taken by indices, on the threads that
  SciPy's BLAS may use; with mixed precision, its autocast on the CPU. It takes part where it is
  installed. It keeps no sums of losses and right labels, which `fit` does.
"""

from mplinalg import nn
from mplinalg.bench import training
from mplinalg.bench.suite import Suite

SIZES = (784, 528, 528, 10)
EPOCHS = 5


def cases(sizes):
    return training.cases(sizes)


def build(rng, n, precision):
    x, y = training.images(rng, n, 28)
    setting = training.Setting(
        net, torch_net, training.dense_flops(*SIZES), lr=0.2, weight_decay=0.001
    )
    return training.problem(setting, x.reshape(n, -1), y, EPOCHS, precision)


def net():
    a, b, c, d = SIZES
    return nn.Sequential(
        nn.Linear(a, b, rng=1), nn.ReLU(), nn.Linear(b, c, rng=2), nn.ReLU(),
        nn.Linear(c, d, rng=3),
    )  # fmt: skip


def torch_net():
    from torch import nn as tnn

    a, b, c, d = SIZES
    return tnn.Sequential(
        tnn.Linear(a, b), tnn.ReLU(), tnn.Linear(b, c), tnn.ReLU(), tnn.Linear(c, d)
    )


SUITE = Suite(
    title="training of an MLP 784-528-528-10, batches of 100",
    sizes="60000",
    cases=cases,
    peers=training.INSTALLED,
    default_peers=tuple(training.INSTALLED),
    error_measure="distance of weights after ten steps, over the way gone",
    build=build,
    numpy_too=True,  # products of layers are NumPy's
)
