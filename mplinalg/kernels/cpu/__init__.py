"""CPU kernels. Numba is imported by the modules that compile, never by this package."""
