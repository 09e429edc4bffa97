"""mplinalg: dense linear algebra with low-precision factors and double-precision answers."""

from . import batched, fem, tiled
from .config import show_config
from .dense.cholesky import Cholesky, cho_factor, cho_solve
from .dense.lstsq import LstsqResult, lstsq
from .dense.lu import LU, lu_factor, lu_solve
from .dense.qr import QR, qr
from .dense.solve import solve
from .errors import LinAlgError, LinAlgWarning
from .report import RungOutcome, SolveReport, Status

__version__ = "0.1.0"

__all__ = [
    "LU",
    "QR",
    "Cholesky",
    "LinAlgError",
    "LinAlgWarning",
    "LstsqResult",
    "RungOutcome",
    "SolveReport",
    "Status",
    "batched",
    "cho_factor",
    "cho_solve",
    "fem",
    "lstsq",
    "lu_factor",
    "lu_solve",
    "qr",
    "show_config",
    "solve",
    "tiled",
]
