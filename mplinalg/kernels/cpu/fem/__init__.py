"""Compiled kernels of finite elements: operators applied element by element, a lane for each."""
