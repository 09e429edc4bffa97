"""Matrices larger than memory: the dense solvers, tile by tile."""

from .dask import DaskExecutor
from .factored import Factored, cho_factor, lu_factor
from .gemm import gemm
from .local import LocalExecutor
from .matrix import TiledMatrix
from .orthogonal import qr
from .plan import LimitTooSmall
from .report import TiledReport
from .solve import solve
from .svd import svd
from .traffic import Traffic

__all__ = [
    "DaskExecutor", "Factored", "LimitTooSmall", "LocalExecutor", "TiledMatrix", "TiledReport",
    "Traffic", "cho_factor", "gemm", "lu_factor", "qr", "solve", "svd",
]  # fmt: skip
