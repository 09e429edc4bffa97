"""Optimisers: what a step does to the parameters, given their gradients.

- `base`: the parameters, their state, checks; `Optimizer`.
- `descent`: `GD`, `SGD` with momentum, also Nesterov's.
- `adagrad`: `Adagrad`, `AdagradNorm`.
- `averages`: `RMSprop`, `Adadelta`, by running means of squares.
- `adam`: `Adam`, `AdamW`.
"""

from .adagrad import Adagrad, AdagradNorm
from .adam import Adam, AdamW
from .averages import Adadelta, RMSprop
from .base import Optimizer
from .descent import GD, SGD

__all__ = [
    "GD", "SGD", "Adadelta", "Adagrad", "AdagradNorm", "Adam", "AdamW", "Optimizer", "RMSprop",
]  # fmt: skip
