"""Training towards a pruned network by the alternating direction method of multipliers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...ops import ops_for
from ..checks import count, number
from ..module import Parameter
from ..optim import Optimizer
from .masks import Masks
from .optimizers import Masked, Wrapper

Array = Any

__all__ = ["ADMM"]


class ADMM(Wrapper):
    """An optimiser that draws weights W towards Z, the nearest ones that satisfy a constraint.

    To minimise f(W) with W = Z and Z pruned, it alternates between

        W:  steps on f(W) + rho/2 ||W - Z + U||^2,
        Z:  the projection of W + U on the weights that satisfy the constraint,
        U:  U + W - Z.

    At first Z is the projection of W, and U = 0. Once W is near Z, `hard` prunes.

    Parameters
    ----------
    optimizer : Optimizer
        That takes the steps; any.
    constraint : callable
        ``constraint()`` gives the `Masks` for the weights as they are, such as
        ``lambda: magnitude(net, 0.9)``: W + U take the place of the weights while it is called.
        All methods of this package keep what is largest in the L2 norm, which is the Euclidean
        projection: `pattern` for a given set of patterns, `structured` of the weights, which choose
        the rows that biases go with.
    rho : float
        Greater than 0. Larger ones bring W to Z in fewer steps, smaller ones leave f more say.
    every : int
        Steps between updates of Z and U; an epoch or more.

    Attributes
    ----------
    inner : Optimizer
    rho : float
    every, steps : int
        `steps` that were taken.

    Raises
    ------
    ValueError, TypeError
        Options out of range; a constraint on parameters that the optimiser does not have.

    Notes
    -----
    Loss scaling and clipping are over when a step begins, and so do not see the added gradient.
    `state_dict` holds Z and U. A deep copy still calls the constraint, and so looks at the network
    that this was made with.

    References
    ----------
    Zhang, Ye, Zhang, Tang, Wen, Fardad and Wang, A systematic DNN weight pruning framework using
    alternating direction method of multipliers, ECCV (2018), arXiv:1804.03294, section 3. Boyd,
    Parikh, Chu, Peleato and Eckstein, Found. Trends Mach. Learn. 3 (2011) 1, sections 3.1.1, 9.1.

    Examples
    --------
    >>> from mplinalg import nn
    >>> net = nn.Sequential(nn.Linear(6, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=1))
    >>> adam = nn.optim.Adam(net.parameters())
    >>> admm = nn.prune.ADMM(adam, lambda: nn.prune.magnitude(net, 0.75), every=50)
    >>> model = nn.Model(net).compile(admm, "mse")  # fit, and then
    >>> model = model.compile(admm.hard(), "mse")  # fit once more
    """

    def __init__(
        self, optimizer: Optimizer, constraint: Callable[[], Masks], *, rho: float = 0.1,
        every: int = 100,
    ) -> None:  # fmt: skip
        super().__init__(optimizer)
        self.rho = number("rho", rho, open_ends="(")
        self.every = count("every", every)
        self.steps = 0
        self.constraint = constraint
        self._weights: dict[str, Parameter] = {}
        masks = self._masks()
        known = {id(p) for p in self.parameters}
        self._weights = masks.parameters
        if foreign := [name for name, p in self._weights.items() if id(p) not in known]:
            raise ValueError(
                f"the constraint is on {', '.join(foreign)}, which the optimiser does not have"
            )
        self._z = {name: self._cut(p.data, masks[name]) for name, p in self._weights.items()}
        self._u = {name: p.data * 0 for name, p in self._weights.items()}

    def step(self) -> None:
        """Take a step on the augmented Lagrangian; each `every` times, update Z and U."""
        for name, p in self._weights.items():
            if p.grad is not None:
                # d/dW rho/2 ||W - Z + U||^2
                p.grad = p.grad + self.rho * (p.data - self._z[name] + self._u[name])
        self.inner.step()
        self.steps += 1
        if self.steps % self.every == 0:
            self.update()

    def update(self) -> None:
        """Update Z and U."""
        trained = {name: p.data for name, p in self._weights.items()}
        try:
            for name, p in self._weights.items():
                p.data = p.data + self._u[name]
            masks = self._masks()
            new = {name: self._cut(p.data, masks[name]) for name, p in self._weights.items()}
        finally:
            for name, p in self._weights.items():
                p.data = trained[name]
        for name, p in self._weights.items():
            self._z[name][...] = new[name]
            self._u[name] += p.data - new[name]

    def distance(self) -> float:
        """||W - Z|| / ||W||, of all weights together."""
        apart = sum(_square(p.data - self._z[name]) for name, p in self._weights.items())
        whole = sum(_square(p.data) for p in self._weights.values())
        return math.sqrt(apart / whole) if whole else 0.0

    def hard(self) -> Masked:
        """Prune the weights by the constraint; the optimiser that goes on with them."""
        return Masked(self.inner, self._masks())

    def _masks(self) -> Masks:
        masks = self.constraint()
        if not isinstance(masks, Masks):
            raise TypeError(f"constraint() must give Masks, got {type(masks).__name__}")
        if self._weights and masks.keys() != self._weights.keys():
            raise ValueError(
                f"the constraint was on {', '.join(self._weights)}, and is on {', '.join(masks)}"
            )
        return masks

    def _cut(self, a: Array, keep: Array) -> Array:
        """The nearest array without entries that are not kept."""
        return ops_for(a).xp.where(keep, a, a.dtype.type(0))

    def _kept(self) -> dict[str, Array]:
        z = {f"z.{name}": a for name, a in self._z.items()}
        return z | {f"u.{name}": a for name, a in self._u.items()}

    def _numbers(self) -> dict[str, Any]:
        return {"rho": self.rho, "every": self.every, "steps": self.steps}


def _square(a: Array) -> float:
    return float((a.astype("f8") ** 2).sum())
