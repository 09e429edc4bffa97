"""Kernels for many small problems at once: one idea a file, a lane or a loop step per member."""
