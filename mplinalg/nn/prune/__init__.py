"""Pruning: networks with fewer weights.

- `magnitude`, `structured`, `pattern` choose what stays, as `Masks`; `Masks.apply` prunes.
- `Masked`, `ADMM`: optimisers that hold masks while training goes on, or train towards them.
- `nested`: models of several sparsities in one set of weights.
- `compact`: a smaller network, without the units that do nothing; a faster one.
"""

from .admm import ADMM
from .compact import compact
from .masks import Masks, nonzero, sparsity
from .methods import magnitude, structured
from .nesting import Nested, nested
from .optimizers import Masked
from .patterns import natural_patterns, pattern

__all__ = [
    "ADMM", "Masked", "Masks", "Nested", "compact", "magnitude", "natural_patterns", "nested",
    "nonzero", "pattern", "sparsity", "structured",
]  # fmt: skip
