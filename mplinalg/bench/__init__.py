"""Measuring: the command ``mplinalg``, its demonstration, and files of matrices."""
