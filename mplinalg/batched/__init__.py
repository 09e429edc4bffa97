"""Many small problems at once: systems, factors and products of thousands of small matrices."""

from .cholesky import Cholesky, cho_factor, cho_solve
from .gemm import gemm
from .inverse import inv
from .lstsq import LeastSquaresReport, lstsq
from .lu import LU, lu_factor, lu_solve
from .qr import qr
from .ragged import Ragged
from .report import BatchReport
from .solve import solve
from .trsm import trsm

__all__ = [
    "LU",
    "BatchReport",
    "Cholesky",
    "LeastSquaresReport",
    "Ragged",
    "cho_factor",
    "cho_solve",
    "gemm",
    "inv",
    "lstsq",
    "lu_factor",
    "lu_solve",
    "qr",
    "solve",
    "trsm",
]
