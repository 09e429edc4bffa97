"""CUDA C++ kernels: `*.cu`, and the table of them, `catalogue`."""
