"""Convolution: the layers of VGG-16 and of LeNet-5, forward and both gradients, by each algorithm.

Single precision, random normal. The first size is that of the images that VGG-16 is given, 224 in
the paper; its blocks of layers have images of that, half of it, a quarter and so on, one image at a
time. LeNet-5's layers have images of their own sizes, a hundred of them; and there are layers with
large kernels. An answer is compared with double precision. Rows of "auto" come first: what a user
gets.

- torch: PyTorch's convolution and its gradients with respect to one operand, on the threads that
  SciPy's BLAS may use. It takes part where it is installed.
"""

import importlib.util
import math

import numpy as np

from mplinalg.bench.suite import Problem, Suite
from mplinalg.kernels.cpu.batched.threads import blas_threads
from mplinalg.nn import convolution
from mplinalg.nn.geometry import Geometry

VGG = {  # channels, filters, times that images have been halved
    "vgg 1-1": (3, 64, 0),
    "vgg 1-2": (64, 64, 0),
    "vgg 2-1": (64, 128, 1),
    "vgg 2-2": (128, 128, 1),
    "vgg 3-1": (128, 256, 2),
    "vgg 3-2": (256, 256, 2),
    "vgg 4-1": (256, 512, 3),
    "vgg 4-2": (512, 512, 3),
    "vgg 5": (512, 512, 4),
}
OTHERS = {  # images, channels, filters, size of images, kernel, padding
    "lenet 1": (100, 1, 6, 28, 5, 0),
    "lenet 1, 32": (100, 1, 6, 32, 5, 0),
    "lenet 2": (100, 6, 16, 12, 5, 0),
    "lenet 2, 14": (100, 6, 16, 14, 5, 0),
    "kernel 7": (8, 16, 16, 64, 7, 3),
    "kernel 15": (8, 16, 16, 64, 15, 7),
    "kernel 21": (8, 16, 16, 64, 21, 10),
}
WHAT = ("y", "dx", "dw")
GROWTH = 81.0
"""Of errors by the transforms of "winograd"; the other algorithms stay far below it."""
PEERS = {"torch": "PyTorch: torch.nn.functional and torch.nn.grad"}
INSTALLED = PEERS if importlib.util.find_spec("torch") is not None else {}


def cases(sizes):
    rows = []
    for algorithm in ("auto", "direct", "gemm", "winograd", "fft"):
        for layer, (_, _, _, n, _, _) in OTHERS.items():
            if algorithm != "winograd":
                rows += [{"layer": layer, "n": n, "what": what} for what in WHAT]
        for layer, (_, _, halved) in VGG.items():
            edges = sorted({max(1, n >> halved) for n in sizes})
            rows += [{"layer": layer, "n": n, "what": what} for n in edges for what in WHAT]
        for row in rows:
            row.setdefault("algorithm", algorithm)
    return rows


def build(rng, layer, n, what, algorithm):
    if layer in VGG:
        images, (channels, filters, _), k, padding = 1, VGG[layer], 3, 1
    else:
        images, channels, filters, _, k, padding = OTHERS[layer]
    x = rng.standard_normal((images, channels, n, n)).astype(np.float32)
    w = rng.standard_normal((filters, channels, k, k)).astype(np.float32)
    g = Geometry.of(x.shape, w.shape, 1, padding)
    grad = rng.standard_normal(g.y_shape).astype(np.float32)
    exact = by_method(what, *(a.astype(float) for a in (x, w, grad)), padding, "gemm")
    size = float(np.max(np.abs(exact)))
    terms = {"y": g.taps, "dx": filters * k * k, "dw": images * g.positions}[what]
    peers = {}
    if INSTALLED:
        peers["torch"] = by_torch(what, x, w, grad, padding)
    return Problem(
        ours=lambda: by_method(what, x, w, grad, padding, algorithm),
        peers=peers,
        report=None,
        error=lambda found: float(np.max(np.abs(found - exact))) / size,
        bound=GROWTH * math.sqrt(max(terms, 4)) * 2.0**-24,
        dtype="float32",
        flops=float(g.flops),
        traffic=lambda _: float(x.nbytes + w.nbytes + grad.nbytes),
    )


def by_method(what, x, w, grad, padding, algorithm):
    options = {"padding": padding, "algorithm": algorithm}
    if what == "y":
        return convolution.conv2d(x, w, **options)
    if what == "dx":
        return convolution.conv2d_input_gradient(grad, w, x.shape, **options)
    return convolution.conv2d_weight_gradient(grad, x, w.shape, **options)


def by_torch(what, x, w, grad, padding):
    import torch

    torch.set_num_threads(blas_threads())
    x, w, grad = map(torch.from_numpy, (x, w, grad))
    calls = {
        "y": lambda: torch.nn.functional.conv2d(x, w, padding=padding),
        "dx": lambda: torch.nn.grad.conv2d_input(x.shape, w, grad, padding=padding),
        "dw": lambda: torch.nn.grad.conv2d_weight(x, w.shape, grad, padding=padding),
    }
    return lambda: calls[what]().numpy()


SUITE = Suite(
    title="convolution, the layers of VGG-16 and LeNet-5, large kernels",
    sizes="224",
    cases=cases,
    peers=INSTALLED,
    default_peers=tuple(INSTALLED),
    error_measure="largest error over the largest entry",
    build=build,
    numpy_too=True,  # products of layers are NumPy's
)
