"""The CPU backend on stacks: Numba kernels that take a register's width of members at a time."""

from __future__ import annotations

import numpy as np

from .numpy_batched_gemm import BatchedGemm
from .numpy_batched_qr import BatchedQR
from .numpy_batched_solve import BatchedSolve


class NumpyBatchedOps(BatchedSolve, BatchedGemm, BatchedQR):
    """`mplinalg.ops.BatchedOps` on NumPy arrays."""

    name = "numpy"
    xp = np
    takes_large = False
