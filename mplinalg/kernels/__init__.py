"""Compute kernels: `cpu` (Numba, and LAPACK through SciPy)."""
