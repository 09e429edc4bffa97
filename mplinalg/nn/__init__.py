"""A small set of layers that trains on products in mixed precision."""

from . import checkpoint, data, init, optim, prune, schedules
from .autograd import Operation, Tensor, concatenate
from .data import check_labels
from .faults import first_not_finite
from .history import Evaluation, History
from .layers import Dropout, Flatten, Linear, ReLU, Sigmoid, Softmax, Tanh
from .losses import cross_entropy, mse_loss
from .model import Model
from .module import Module, Parameter, Sequential
from .pooling import AvgPool2d, MaxPool2d
from .products import product
from .profiling import Cost, Profile
from .scaling import LossScaler, clip_norm, clip_value
from .scopes import current_precision, no_grad, observed, precision_scope
from .spatial import BatchNorm2d, Conv2d

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Cost",
    "Dropout",
    "Evaluation",
    "Flatten",
    "History",
    "Linear",
    "LossScaler",
    "MaxPool2d",
    "Model",
    "Module",
    "Operation",
    "Parameter",
    "Profile",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Tensor",
    "check_labels",
    "checkpoint",
    "clip_norm",
    "clip_value",
    "concatenate",
    "cross_entropy",
    "current_precision",
    "data",
    "first_not_finite",
    "init",
    "mse_loss",
    "no_grad",
    "observed",
    "optim",
    "precision_scope",
    "product",
    "prune",
    "schedules",
]
